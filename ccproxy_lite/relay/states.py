"""Responses that are kept in memory, so that clients may continue them where the service keeps none.

An entry is one turn: what was asked, what was answered, and the response before it. A conversation is the chain of its
turns, so each is kept once. Entries belong to the client key with which they were made, and to no other.

    kept by ``keep`` -> used by ``chain``, which makes a whole chain new again -> forgotten: ``ttl_s`` after its last
    use, the oldest first where all together exceed ``max_mb``, by ``delete``, and at a restart

Nothing is written to disk. Of a conversation that has lost any turn nothing can be continued: a part of a history would
be a silent loss, so its client is told (``unknown``), and sends all of it. Sizes are those of the JSON texts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from ccproxy_lite.config.model import StoreSettings
from ccproxy_lite.formats.format import Turn
from ccproxy_lite.jsontext import dumps, loads

_MB = 1_048_576
_MAX_TURNS = 10_000
"""Of one conversation."""

Place = tuple[str, str]
"""The owner, and the id of the response."""


class _Entry(NamedTuple):
    turn: bytes
    response: bytes
    previous: str
    used_at: float

    @property
    def size(self) -> int:
        return len(self.turn) + len(self.response)


class States:
    """The responses that are kept, the least recently used first."""

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self._entries: OrderedDict[Place, _Entry] = OrderedDict()
        self._bytes = 0

    @property
    def is_on(self) -> bool:
        return self.settings.max_mb > 0

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, owner: str, turn: Turn, response: Mapping[str, Any], previous: str, now: float) -> None:
        """Keep a response of a client, and forget others for it."""
        entry = _Entry(
            dumps([turn.asked, turn.answered]).encode("utf-8", "surrogatepass"),
            dumps(response).encode("utf-8", "surrogatepass"),
            previous,
            now,
        )
        if entry.size > self.settings.max_mb * _MB:
            return
        self._entries[owner_of(owner), turn.id] = entry
        self._bytes += entry.size
        self._forget(now)

    def chain(self, owner: str, response_id: str, now: float) -> list[Turn] | None:
        """The turns up to a response, the first one first; None if any of them is not kept."""
        self._forget(now)
        places: list[Place] = []
        turns: list[Turn] = []
        while response_id:
            place = owner_of(owner), response_id
            entry = self._entries.get(place)
            if entry is None or len(turns) >= _MAX_TURNS:
                return None
            asked, answered = loads(entry.turn)
            turns.append(Turn(response_id, asked, answered))
            places.append(place)
            response_id = entry.previous
        for place in reversed(places):  # the whole chain is as fresh as its last turn
            self._entries[place] = self._entries[place]._replace(used_at=now)
            self._entries.move_to_end(place)
        return turns[::-1]

    def get(self, owner: str, response_id: str, now: float) -> tuple[Turn, dict[str, Any]] | None:
        """A response and its turn."""
        self._forget(now)
        entry = self._entries.get((owner_of(owner), response_id))
        if entry is None:
            return None
        asked, answered = loads(entry.turn)
        return Turn(response_id, asked, answered), loads(entry.response)

    def delete(self, owner: str, response_id: str) -> None:
        """Forget a response."""
        entry = self._entries.pop((owner_of(owner), response_id), None)
        self._bytes -= entry.size if entry is not None else 0

    def _forget(self, now: float) -> None:
        while self._entries:
            place, oldest = next(iter(self._entries.items()))
            if now - oldest.used_at <= self.settings.ttl_s and self._bytes <= self.settings.max_mb * _MB:
                return
            del self._entries[place]
            self._bytes -= oldest.size


def owner_of(client_key: str) -> str:
    """Who has made a response: a client key, which need not be kept for that."""
    return sha256(client_key.encode("utf-8", "surrogatepass")).hexdigest()
