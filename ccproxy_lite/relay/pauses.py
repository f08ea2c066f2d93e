"""Answers that pause: a service that searches for long says so, and wants to be asked to go on.

Clients of other formats know no such state, so the request is repeated with what has been said so far, at most
``MAX_ROUNDS`` times, and the client gets one answer: one beginning, one end, and the usage of all rounds together. A
search that has begun in one round and found something in the next is one search for it, which is open in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ccproxy_lite.formats.neutral import search
from ccproxy_lite.formats.neutral.events import Begin, End, Event, Lost, PartEnd, PartStart, Search, Usage

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Request

MAX_ROUNDS = 5


class _Searches:
    """The searches that are not over: those that a round has begun and that have found nothing yet."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[PartStart, Search | None]] = {}
        self._id: str | None = None

    def feed(self, event: Event) -> list[Event]:
        """The events that the client is told for one of the service's: of several open searches, of the first alone."""
        if isinstance(event, PartStart) and event.kind == "search":
            self._id = event.id
            if event.id in self._open:
                return []
            self._open[event.id] = event, None
            return [event] if len(self._open) == 1 else []
        if isinstance(event, PartEnd) and self._id is not None:
            start, begun = self._open[self._id]
            found = event.search or Search()
            self._open[self._id], self._id = (start, search.merged(begun, found) if begun else found), None
            return self._end(all_of_them=False)
        return [event] if isinstance(event, Lost) else [*self._end(all_of_them=True), event]

    def _end(self, all_of_them: bool) -> list[Event]:
        """End the first ones that have found something, or all."""
        told: list[Event] = []
        for key, (_, found) in list(self._open.items()):
            if not all_of_them and not (found is not None and (found.pages or found.error)):
                break
            del self._open[key]
            told += [PartEnd(search=found), *[start for start, _ in self._open.values()][:1]]
        return told


@dataclass
class Pauses:
    """One answer over all its rounds.

    :ivar is_paused: the last round has ended in a pause, and another one may follow
    """

    is_paused: bool = False
    rounds: int = 0
    _said: list[Event] = field(default_factory=list)
    _searches: _Searches = field(default_factory=_Searches)
    _usage: Usage | None = None

    def joined(self, events: Iterable[Event]) -> list[Event]:
        """The events of a round as part of the whole answer: without a second beginning, and without a pause."""
        told: list[Event] = []
        for event in events:
            if isinstance(event, Begin) and self.rounds:
                continue
            if isinstance(event, End):
                self._usage = _sum(self._usage, event.usage)
                self.is_paused = event.reason == "pause" and self.rounds < MAX_ROUNDS
                if self.is_paused:
                    continue
                event = replace(event, usage=self._usage)
            if not isinstance(event, Lost):
                self._said.append(event)
            told += self._searches.feed(event)
        return told

    def next_request(self, request: Request) -> Request:
        """The request that asks to go on: the same, with what was said so far."""
        from ccproxy_lite.formats.neutral.history import as_turn  # only who continues needs it

        self.rounds, self.is_paused = self.rounds + 1, False
        return replace(request, messages=(*request.messages, as_turn(self._said)))


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return other or one
    is_told = one.reasoning is not None or other.reasoning is not None
    return Usage(
        one.input + other.input,
        one.output + other.output,
        one.cache_read + other.cache_read,
        one.cache_write + other.cache_write,
        (one.reasoning or 0) + (other.reasoning or 0) if is_told else None,
    )
