"""The three things that time is asked for; tests bring a clock of their own."""

from __future__ import annotations

import time

import anyio


class Clock:
    """The machine's clock."""

    def now(self) -> float:
        """Monotonic seconds: what everything waits and rests by."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970, only to read what others say about dates."""
        return time.time()

    async def wait(self, seconds: float, sooner: anyio.Event | None = None) -> None:
        """Wait so long, or until the event is set."""
        with anyio.move_on_after(seconds):
            await (sooner.wait() if sooner else anyio.sleep_forever())
