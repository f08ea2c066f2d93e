"""Parts that an upstream sends at the same time, put one behind the other. Pure.

The oldest part is passed on as it grows; the others wait until it has ended.

>>> parts = OrderedParts()
>>> parts.add(0, "a"); parts.add(1, "x"); parts.add(0, "b"); parts.flush()
['a', 'b']
>>> parts.end(0); parts.flush()
['x']
"""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


class OrderedParts(Generic[Key, Item]):
    """Parts by key, in the order in which they began."""

    def __init__(self) -> None:
        self._parts: dict[Key, list[Item]] = {}
        self._ended: set[Key] = set()

    def add(self, key: Key, *items: Item) -> None:
        """More of one part."""
        self._parts.setdefault(key, []).extend(items)

    def end(self, key: Key) -> None:
        """Nothing more comes for this part."""
        if key in self._parts:
            self._ended.add(key)

    def flush(self) -> list[Item]:
        """What may be passed on now."""
        out: list[Item] = []
        while self._parts:
            key, items = next(iter(self._parts.items()))
            out += items
            if key not in self._ended:
                self._parts[key] = []
                break
            del self._parts[key]
            self._ended.discard(key)
        return out
