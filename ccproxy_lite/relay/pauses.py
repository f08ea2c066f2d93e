"""Answers that pause: a service that searches for long says so, and wants to be asked to go on.

Clients of other formats know no such state, so the request is repeated with what has been said so far, at most
``MAX_ROUNDS`` times, and the client gets one answer: one beginning, one end, and the usage of all rounds together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ccproxy_lite.formats.neutral.events import Begin, End, Event, Lost, Usage

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Request

MAX_ROUNDS = 5


@dataclass
class Pauses:
    """One answer over all its rounds.

    :ivar is_paused: the last round has ended in a pause, and another one may follow
    """

    is_paused: bool = False
    rounds: int = 0
    _said: list[Event] = field(default_factory=list)
    _usage: Usage | None = None

    def joined(self, events: Iterable[Event]) -> list[Event]:
        """The events of a round as part of the whole answer: without a second beginning, and without a pause."""
        kept: list[Event] = []
        for event in events:
            if isinstance(event, Begin) and self.rounds:
                continue
            if isinstance(event, End):
                self._usage = _sum(self._usage, event.usage)
                self.is_paused = event.reason == "pause" and self.rounds < MAX_ROUNDS
                if self.is_paused:
                    continue
                event = replace(event, usage=self._usage)
            kept.append(event)
        self._said += [event for event in kept if not isinstance(event, Lost)]
        return kept

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
