"""One timer for all deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ccproxy_lite.net.watchdog import NEVER, Watchdog


class Thing:
    def __init__(self, deadline: float, then: Callable[[], None] = lambda: None) -> None:
        self.deadline = deadline
        self.expired = asyncio.Event()
        self._then = then

    def expire(self) -> None:
        self.expired.set()
        self._then()


def test_deadlines_in_their_order_and_once() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time()
        watchdog = Watchdog()
        never, late, soon = Thing(NEVER), Thing(now + 30), Thing(now + 0.05)
        for thing in (never, late, soon):
            watchdog.watch(thing)
        await asyncio.wait_for(soon.expired.wait(), 2)
        assert not never.expired.is_set() and not late.expired.is_set()
        assert soon.deadline == NEVER
        late.deadline = now  # a deadline that moves is seen
        await asyncio.wait_for(late.expired.wait(), 2)
        watchdog.stop()

    asyncio.run(main())


def test_one_that_fails_harms_no_other_and_nothing_ticks_for_nobody() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        now = asyncio.get_running_loop().time()
        watchdog = Watchdog()
        things = [Thing(now, fail), Thing(now), Thing(now, fail)]
        for thing in things:
            watchdog.watch(thing)
        for thing in things:
            await asyncio.wait_for(thing.expired.wait(), 2)
            watchdog.forget(thing)
        for _ in range(100):
            if watchdog._timer is None:
                break
            await asyncio.sleep(0.02)
        assert watchdog._timer is None

    asyncio.run(main())
