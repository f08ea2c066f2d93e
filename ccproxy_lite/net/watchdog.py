"""One timer for all deadlines: connections carry a timestamp, and nothing else is set or cancelled per read.

A timeout object around a read costs 7 microseconds, a timestamp 0.1; a stream has thousands of reads. So each watched
thing has a plain attribute ``deadline``, which it moves as often as it likes, and a single timer looks at all of them,
every half second or at the soonest deadline that it has seen. A deadline is therefore noticed up to half a second late,
which no timeout here (the shortest is seconds) minds. While nothing is watched, no timer runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from ccproxy_lite.log import bug

NEVER = float("inf")
_MIN_PERIOD_S = 0.02
_MAX_PERIOD_S = 0.5


class Watched(Protocol):
    """Something with a deadline, in seconds of the event loop's monotonic clock; ``NEVER`` for none."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed. Called once for each deadline that is set."""


class Watchdog:
    """Calls ``expire`` on everything whose deadline has passed, at most half a second late."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> Collection[Watched]:
        """Everything that has a deadline."""
        return self._watched

    def watch(self, thing: Watched) -> None:
        self._watched.add(thing)
        if self._timer is None or thing.deadline < self._timer.when():
            loop = asyncio.get_running_loop()
            if self._timer is not None:
                self._timer.cancel()
            self._start_timer(min(max(thing.deadline - loop.time(), _MIN_PERIOD_S), _MAX_PERIOD_S))

    def forget(self, thing: Watched) -> None:
        self._watched.discard(thing)

    def stop(self) -> None:
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._check_deadlines)

    def _check_deadlines(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        soonest = now + _MAX_PERIOD_S
        for thing in list(self._watched):
            if thing.deadline <= now:
                thing.deadline = NEVER  # ``expire`` may set a new one
                try:
                    thing.expire()
                except Exception as error:  # one faulty connection must not stop the timer of all others
                    bug(error)
            elif thing.deadline < soonest:
                soonest = thing.deadline
        if self._watched:
            self._start_timer(max(soonest - now, _MIN_PERIOD_S))
