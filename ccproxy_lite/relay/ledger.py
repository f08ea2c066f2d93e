"""What each key has been used for: attempts, failures and tokens by model, and the outcome of its last use.

Only shown to users, never a basis of decisions. It lasts as long as the key is configured, across reloads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ccproxy_lite.config.model import Key
from ccproxy_lite.formats.neutral.events import Usage
from ccproxy_lite.routing.keys import Outcome

_MAX_MODELS = 100


@dataclass(slots=True)
class ModelTotals:
    """What a key has done with one model."""

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class KeyTotals:
    """What a key has done."""

    models: dict[str, ModelTotals] = field(default_factory=dict)
    last_outcome: Outcome | None = None
    last_at: float = 0.0

    def add(self, model: str, outcome: Outcome, now: float, usage: Usage | None) -> None:
        """An attempt with that outcome; ``usage`` is what its answer has cost."""
        totals = self._totals_of(model)
        totals.requests += 1
        totals.failures += outcome not in ("ok", "client_error")
        self.last_outcome, self.last_at = outcome, now
        if usage is not None:
            totals.input_tokens += usage.total_input
            totals.output_tokens += usage.output

    def _totals_of(self, model: str) -> ModelTotals:
        """Clients name models, so the number of them is bounded."""
        if model not in self.models and len(self.models) >= _MAX_MODELS:
            model = "(other)"
        return self.models.setdefault(model, ModelTotals())


class Ledger:
    """The totals of every key, by upstream and secret.

    :param keys: (upstream, key) of everything that is configured
    :param before: the ledger of an earlier configuration, whose totals are kept and shared
    """

    def __init__(self, keys: Iterable[tuple[str, Key]], before: Ledger | None = None) -> None:
        totals_before: dict[tuple[str, str], KeyTotals] = before._totals if before else {}
        places = [(upstream, key.reference) for upstream, key in keys]
        self._totals: dict[tuple[str, str], KeyTotals] = {
            place: totals_before.get(place) or KeyTotals() for place in places
        }

    def of(self, upstream: str, key: Key) -> KeyTotals:
        """What a key has done; of one that a reload has removed, nothing that anybody sees."""
        return self._totals.get((upstream, key.reference)) or KeyTotals()
