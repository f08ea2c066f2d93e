"""Upstreams that could not be reached: for a while they stand behind the other targets of a request. Pure.

A name that does not resolve, a refused connection and above all one that runs into its time-out would otherwise delay
every request before its next target answers. An outage lasts 5 s, twice as long each time, 60 s at most. Then one
request tries the upstream first again; until it knows, the others go on without. An upstream that answers, whatever it
says, is no longer out.

    reachable -> out (until) -> probed -> reachable, or out for twice as long

The upstream is never left out: a request without another target tries it all the same. What was sent before the last
news says nothing new: a stream that began long ago may end in the middle of an outage, and a connection that was
opened in one may fail after it.

>>> outages = Outages()
>>> outages.report("a", reached=False, began=0.0, now=0.0), outages.is_out("a", 4.9), outages.is_out("a", 5.0)
(5.0, True, False)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_FIRST_S = 5.0
_MAX_S = 60.0
_PROBE_S = 30.0
"""How long others wait for the request that tries, should it never be heard of again."""


@dataclass(slots=True)
class Outage:
    """One upstream that cannot be reached.

    :ivar first: when it could not be reached for the first time
    :ivar since: when others were put before it, the last time, for ``length_s``
    :ivar until: when a request may try it first again
    """

    first: float
    since: float
    until: float
    length_s: float


class Outages:
    """All outages, by upstream. Only ``begin``, ``release`` and ``report`` change them."""

    def __init__(self) -> None:
        self._outages: dict[str, Outage] = {}
        self._reached_at: dict[str, float] = {}

    def is_out(self, upstream: str, now: float) -> bool:
        """Whether other targets are tried before this one."""
        outage = self._outages.get(upstream)
        return outage is not None and now < outage.until

    def of(self, upstream: str) -> Outage | None:
        """The outage of an upstream, until it has been reached again."""
        return self._outages.get(upstream)

    def begin(self, upstream: str, now: float) -> None:
        """A request is about to be sent; if the outage is over, it is the one that tries."""
        outage = self._outages.get(upstream)
        if outage is not None and now >= outage.until:
            outage.until = now + _PROBE_S

    def release(self, upstream: str) -> None:
        """Nothing was sent, or nobody waits for it any more: the next request may try."""
        outage = self._outages.get(upstream)
        if outage is not None:
            outage.until = outage.since + outage.length_s

    def report(self, upstream: str, *, reached: bool, began: float, now: float) -> float | None:
        """What became of a request that began then; returns the length of an outage that begins now, in seconds."""
        outage = self._outages.get(upstream)
        if reached:
            if outage is None or began >= outage.since:
                self._outages.pop(upstream, None)
                self._reached_at[upstream] = now
            return None
        if began < self._reached_at.get(upstream, began):
            return None
        if outage is None:
            self._outages[upstream] = Outage(now, now, now + _FIRST_S, _FIRST_S)
            return _FIRST_S
        # Many requests may fail at the same time; only one that came after the outage lengthens it.
        if now >= outage.since + outage.length_s:
            length_s = min(2 * outage.length_s, _MAX_S)
            self._outages[upstream] = Outage(outage.first, now, now + length_s, length_s)
        return None

    def forget(self, upstreams: Iterable[str]) -> None:
        """The configuration has changed where these are."""
        for upstream in upstreams:
            self._outages.pop(upstream, None)
            self._reached_at.pop(upstream, None)
