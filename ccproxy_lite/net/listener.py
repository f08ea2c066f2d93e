"""Accepting connections: TCP, IPv6 and unix sockets, a cap on their number, and draining.

Shutting down has three steps. *Draining*: no connection is accepted, idle ones are closed, and responses in flight may
finish. After ``drain_s``, or at a second signal, *cutting*: the task of each response is cancelled, and ends it with an
error in the client's format. What is still open then is *aborted*. A listener that is only used for a while (tests,
``run``) goes through the last two steps when its block ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence

import anyio
import anyio.lowlevel

from ccproxy_lite.errors import CcproxyError
from ccproxy_lite.net.address import Address
from ccproxy_lite.net.application import Limits
from ccproxy_lite.net.connection import Application, Connection, Shared
from ccproxy_lite.net.watchdog import Watchdog


class Listener:
    """A running server. ``port`` is the one that was bound; ``drain`` ends it."""

    def __init__(self, shared: Shared) -> None:
        self.port = 0
        self._shared = shared
        self._servers: list[asyncio.Server] = []
        self._bound: list[tuple[str, int]] = []
        self._empty = anyio.Event()
        shared.on_empty = self._on_empty

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._shared.connections)

    @property
    def draining(self) -> bool:
        return self._shared.draining

    async def listen(self, address: Address) -> None:
        """Bind. Raises CcproxyError with a remedy."""
        loop = asyncio.get_running_loop()
        shared = self._shared
        try:
            if address.path:
                _free_unix_path(address.path)
                mask = os.umask(0o177)  # the file must never be open to others, not even for a moment
                try:
                    server = await loop.create_unix_server(lambda: Connection(shared), address.path)
                finally:
                    os.umask(mask)
                self._bound.append((address.path, os.stat(address.path).st_ino))
            else:
                server = await loop.create_server(
                    lambda: Connection(shared), address.host, address.port, reuse_address=True, backlog=128
                )
                self.port = server.sockets[0].getsockname()[1]
        except OSError as error:
            raise CcproxyError(_bind_problem(address, error)) from None
        self._servers.append(server)

    async def adopt(self, sock: socket.socket) -> None:
        """Serve on a socket that already listens; its opener owns the address, and removes a socket file."""
        shared = self._shared
        server = await asyncio.get_running_loop().create_server(lambda: Connection(shared), sock=sock)
        name = sock.getsockname()
        self.port = name[1] if isinstance(name, tuple) else self.port
        self._servers.append(server)

    def use(self, app: Application, limits: Limits) -> None:
        """Serve with another application from the next request on; requests in flight are not affected."""
        self._shared.app, self._shared.limits = app, limits

    async def drain(self) -> None:
        """Stop accepting, let requests in flight finish within ``drain_s``, cut those that do not."""
        shared = self._shared
        shared.draining = True
        await self._stop_accepting()
        for connection in list(shared.connections):
            connection.close_when_idle()
        with anyio.move_on_after(shared.limits.drain_s):
            await self._wait_empty()
        for connection in list(shared.connections):
            connection.cancel()
        with anyio.move_on_after(1):  # time for the last errors to be written
            await self._wait_empty()

    async def _wait_empty(self) -> None:
        while self._shared.connections:
            self._empty = anyio.Event()
            await self._empty.wait()

    def _on_empty(self) -> None:
        self._empty.set()

    def abort(self) -> None:
        """Close what is left, unsent bytes or not."""
        for connection in list(self._shared.connections):
            connection.abort(discard_unsent=True)

    async def _stop_accepting(self) -> None:
        """asyncio loses a connection that it has just accepted when its server closes: first it must accept no more."""
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for sock in server.sockets:
                loop.remove_reader(sock)
        await _let_callbacks_run()
        for server in self._servers:
            server.close()
        for path, inode in self._bound:  # another process may have bound the path since
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self._bound.clear()

    async def close(self) -> None:
        await self._stop_accepting()
        for connection in list(self._shared.connections):
            connection.cancel()


@contextlib.asynccontextmanager
async def serve(
    app: Application, limits: Limits, addresses: list[Address], sockets: Sequence[socket.socket] = ()
) -> AsyncIterator[Listener]:
    """Listen until the block ends, on all addresses or on sockets that do so already; what still runs then is cut."""
    watchdog = Watchdog()
    async with anyio.create_task_group() as tasks:
        listener = Listener(Shared(app, limits, watchdog, tasks.start_soon))
        try:
            for sock in sockets:
                await listener.adopt(sock)
            for address in () if sockets else addresses:
                await listener.listen(address)
            yield listener
        finally:
            await listener.close()
            watchdog.stop()
            tasks.cancel_scope.cancel()
    listener.abort()
    await _let_callbacks_run()


async def _let_callbacks_run() -> None:
    """Let callbacks that are already scheduled run: three turns of the loop are as deep as asyncio nests them."""
    with anyio.CancelScope(shield=True):
        for _ in range(3):
            await anyio.lowlevel.checkpoint()


def _free_unix_path(path: str) -> None:
    """Remove the socket file of a server that is gone; leave everything else alone."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(f"{path} is in use")


def _bind_problem(address: Address, error: OSError) -> str:
    where = address.path or f"{address.host}:{address.port}"
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {where}: cannot resolve the host"
    if error.errno == 98 or "in use" in str(error):
        return f"cannot listen on {where}: address already in use (try --listen {address.host or '127.0.0.1'}:0)"
    return f"cannot listen on {where}: {os.strerror(error.errno) if error.errno else error}"
