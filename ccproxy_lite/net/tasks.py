"""The tasks in which the requests of one connection are served: one for all of them, not one for each.

Starting a task, its name, its scope and its place in a group cost more than everything else that a small request does
in anyio. So a task that has served a request waits for the next one, and takes it over. Only a request that comes
while the one before is not quite over (it is logged, or the upstream's last chunk is awaited) gets another task; of two
that are idle then, one ends. A task is cancelled together with the request that it serves: every cause for that ends
the connection as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

Work = Callable[[anyio.CancelScope], Coroutine[Any, Any, None]]
"""Serves one request; cancelling the scope interrupts it."""

Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]


class Tasks:
    """The tasks of one connection.

    :param spawn: starts a task in the group of the listener
    """

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._idle: asyncio.Future[Work | None] | None = None
        self._closed = False

    def run(self, work: Work) -> None:
        """Do it in the idle task, or in a new one."""
        if not self._wake(work):
            self._spawn(lambda: self._serve(work))

    def close(self) -> None:
        """The connection is over: the idle task ends, and others do when they would be idle."""
        self._closed = True
        self._wake(None)

    def _wake(self, work: Work | None) -> bool:
        idle, self._idle = self._idle, None
        if idle is None or idle.done():  # cancelled: the listener closes
            return False
        idle.set_result(work)
        return True

    async def _serve(self, work: Work | None) -> None:
        with anyio.CancelScope() as scope:
            while work is not None:
                await work(scope)
                if self._closed or self._idle is not None:
                    return
                self._idle = self._loop.create_future()
                work = await self._idle
