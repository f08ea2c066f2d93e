"""Parts that a service sends at the same time, put one behind the other. Pure.

Each part has a lane of its own. The oldest lane is let through as it fills; the others wait until it has ended.

>>> lanes = Lanes()
>>> lanes.add(0, "a"); lanes.add(1, "x"); lanes.add(0, "b"); lanes.flush()
['a', 'b']
>>> lanes.end(0); lanes.flush()
['x']
"""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


class Lanes(Generic[Key, Item]):
    """Lanes by key, in the order in which they were first used."""

    def __init__(self) -> None:
        self._lanes: dict[Key, list[Item]] = {}
        self._ended: set[Key] = set()

    def add(self, key: Key, *items: Item) -> None:
        """More of one part."""
        self._lanes.setdefault(key, []).extend(items)

    def end(self, key: Key) -> None:
        """Nothing more comes for this part."""
        if key in self._lanes:
            self._ended.add(key)

    def flush(self) -> list[Item]:
        """What may be let through now."""
        out: list[Item] = []
        while self._lanes:
            key, items = next(iter(self._lanes.items()))
            out += items
            if key not in self._ended:
                self._lanes[key] = []
                break
            del self._lanes[key]
            self._ended.discard(key)
        return out
