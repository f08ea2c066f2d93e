"""Responses that are kept in memory, so that clients may continue them where the service keeps none. Pure.

An entry is one turn: what was asked, the response, what of it is sealed, and which response was before it. A
conversation is the chain of its turns, so each is kept once. Entries belong to the client key with which they were
made, and to no other.

    kept by ``keep`` -> used by ``chain``, which makes a whole chain new again -> forgotten: ``ttl_s`` after its last
    use, the oldest first where all together exceed ``max_mb``, by ``delete``, and at a restart

Nothing is written to disk. Of a conversation that has lost any turn nothing can be continued: a part of a history would
be a silent loss, so its client is told (``unknown``), and sends all of it; what is left can still be read. Sizes are
those of the JSON texts.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from ccproxy_lite.config.model import StoreSettings
from ccproxy_lite.formats.format import Turn
from ccproxy_lite.jsontext import dumps_text, loads

_MB = 1_048_576
_MAX_TURNS = 10_000
"""Of one conversation."""

Place = tuple[str, str]
"""The owner, and the id of the response."""


class _Entry(NamedTuple):
    asked: bytes
    response: bytes
    sealed: bytes
    previous: str
    used_at: float
    key: str

    @property
    def size(self) -> int:
        return len(self.asked) + len(self.response) + len(self.sealed)


class Chain(NamedTuple):
    """The turns up to a response, the first one first, the size of their texts, and the key that made the first."""

    turns: list[Turn]
    size: int
    key: str = ""


class States:
    """The responses that are kept, the least recently used first.

    :param before: what was kept before a reload
    """

    def __init__(self, settings: StoreSettings, before: States | None = None) -> None:
        self.settings = settings
        self._entries: OrderedDict[Place, _Entry] = before._entries if before else OrderedDict()
        self.bytes: int = before.bytes if before else 0

    @property
    def is_on(self) -> bool:
        return self.settings.max_mb > 0

    @property
    def max_bytes(self) -> int:
        return self.settings.max_mb * _MB

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, owner: str, turn: Turn, now: float, key: str = "") -> None:
        """Keep a response of a client, and forget others for it. Raises ValueError or RecursionError.

        :param key: the reference of the upstream's key that it was made with
        """
        asked, response, sealed = map(_packed, (turn.asked, turn.response, dict(turn.sealed)))
        entry = _Entry(asked, response, sealed, turn.previous, now, key)
        if entry.size <= self.max_bytes:
            self._entries[owner_of(owner), turn.id] = entry
            self.bytes += entry.size
            self.forget(now)

    def has(self, owner: str, response_id: str) -> bool:
        """Whether a response is kept."""
        return (owner_of(owner), response_id) in self._entries

    def chain(self, owner: str, response_id: str, now: float) -> Chain | None:
        """The turns up to a response; None if any of them is not kept."""
        self.forget(now)
        places: list[Place] = []
        owner = owner_of(owner)
        while response_id:
            place = owner, response_id
            entry = self._entries.get(place)
            if entry is None or len(places) >= _MAX_TURNS:
                return None
            places.append(place)
            response_id = entry.previous
        turns, size = [], 0
        for place in reversed(places):  # the whole chain is as fresh as its last turn
            entry = self._entries[place] = self._entries[place]._replace(used_at=now)
            self._entries.move_to_end(place)
            turns.append(_turn(place, entry))
            size += entry.size
        return Chain(turns, size, self._entries[places[-1]].key)

    def get(self, owner: str, response_id: str, now: float) -> Turn | None:
        """A response, in its turn."""
        self.forget(now)
        place = owner_of(owner), response_id
        entry = self._entries.get(place)
        return None if entry is None else _turn(place, entry)

    def delete(self, owner: str, response_id: str) -> None:
        """Forget a response."""
        self._drop((owner_of(owner), response_id))

    def forget(self, now: float) -> None:
        """Forget what has not been used for too long, and what exceeds the memory."""
        while self._entries:
            place, oldest = next(iter(self._entries.items()))
            if now - oldest.used_at <= self.settings.ttl_s and self.bytes <= self.max_bytes:
                return
            self._drop(place)

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place, None)
        self.bytes -= entry.size if entry is not None else 0


def _packed(value: Any) -> bytes:
    return dumps_text(value).encode("utf-8", "surrogatepass")


def _turn(place: Place, entry: _Entry) -> Turn:
    return Turn(place[1], loads(entry.asked), loads(entry.response), entry.previous, loads(entry.sealed))


def owner_of(client_key: str) -> str:
    """Who has made a response: a client key, which need not be kept for that."""
    from hashlib import sha256  # which brings OpenSSL, and is needed for such clients only

    return sha256(client_key.encode("utf-8", "surrogatepass")).hexdigest()
