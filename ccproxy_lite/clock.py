"""The three uses of time; tests pass a clock that they control."""

from __future__ import annotations

import time

import anyio


class Clock:
    """The machine's clock."""

    def now(self) -> float:
        """Monotonic seconds: the time of all waits and cooldowns."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970, only to read what others say about dates."""
        return time.time()

    async def wait(self, seconds: float, sooner: anyio.Event | None = None) -> None:
        """Wait so long, or until the event is set."""
        with anyio.move_on_after(seconds):
            await (sooner.wait() if sooner else anyio.sleep_forever())


def duration(seconds: float) -> str:
    """A time for users.

    >>> duration(2.5), duration(90), duration(1800), duration(7300)
    ('2.5 s', '1 min 30 s', '30 min', '2 h 1 min')
    """
    if seconds < 60:
        return f"{round(seconds, 1):g} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s" if left else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
