"""The keys of one upstream: which one is next, and what became of it. Pure; time is an argument.

>>> ring = KeyRing((Key("a", "a", 2), Key("b", "b")))
>>> [ring.pick(0.0).label for _ in range(6)]
['a', 'b', 'a', 'a', 'b', 'a']
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ccproxy_lite.config import Key

Outcome = Literal["ok", "rate_limit", "billing", "refused", "missing_model", "transient", "client"]
"""What a key's use came to: see ``exchange.outcome_of``."""


@dataclass(slots=True)
class KeyState:
    """A key, and what it has been through."""

    key: Key
    current: int = 0
    used: int = 0
    failed: int = 0
    last: Outcome | None = None
    last_s: float = 0.0


class KeyRing:
    """Smooth weighted round robin, or always the first (``fill-first``)."""

    def __init__(self, keys: tuple[Key, ...], strategy: str = "round-robin") -> None:
        self.states = [KeyState(key) for key in keys]
        self._fill_first = strategy == "fill-first"

    def pick(self, now: float, exclude: Collection[Key] = ()) -> Key | None:
        """The key to use now, or None if none is left. Each key's turn comes in proportion to its weight."""
        ready = [state for state in self.states if state.key not in exclude]
        if not ready:
            return None
        if self._fill_first:
            return ready[0].key
        for state in ready:
            state.current += state.key.weight
        best = max(ready, key=lambda state: state.current)
        best.current -= sum(state.key.weight for state in ready)
        return best.key

    def report(self, key: Key, outcome: Outcome, now: float) -> None:
        """What became of a request that used the key."""
        for state in self.states:
            if state.key == key:
                state.used += 1
                state.failed += outcome not in ("ok", "client")
                state.last, state.last_s = outcome, now
