"""Reasoning: one canonical setting, the table between efforts and budgets, and who may see a signature again. Pure.

>>> from ccproxy_lite.formats.neutral.request import Reasoning
>>> effort_of(Reasoning(budget=31999))
'xhigh'
>>> tag("anthropic", "c2ln"), untag("ccp1.anthropic.c2ln")
('ccp1.anthropic.c2ln', ('anthropic', 'c2ln'))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Effort, Reasoning

BUDGETS: dict[str, int] = {
    "minimal": 512,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 64_000,
    "auto": 8192,
}
"""Effort to tokens, for upstreams that want a budget; the configuration's ``thinking_budgets`` overrides it."""

_THRESHOLDS: tuple[tuple[int, Effort], ...] = ((0, "none"), (512, "minimal"), (1024, "low"), (8192, "medium"))

_MARK = "ccp1."
_REDACTED = ":redacted"


def tag(origin: str, value: str) -> str:
    """An opaque value as another format's client may carry it: marked with the one format that may read it."""
    return f"{_MARK}{origin}.{value}"


def untag(value: str) -> tuple[str, str] | None:
    """Origin and value of a marked opaque value, or None."""
    if not value.startswith(_MARK):
        return None
    origin, _, inner = value[len(_MARK) :].partition(".")
    return origin, inner


def seal(signature: str, redacted: str, origin: str, form: str) -> str:
    """What stands in the one opaque slot of the format ``form`` for reasoning's signature or redacted text."""
    if redacted:
        return tag(origin + _REDACTED, redacted)
    return signature if origin == form or not signature else tag(origin, signature)


def unseal(value: str, form: str) -> tuple[str, str, str]:
    """Signature, redacted text and origin of what stands in the one opaque slot of the format ``form``."""
    origin, inner = untag(value) or (form, value)
    if origin.endswith(_REDACTED):
        return "", inner, origin.removesuffix(_REDACTED)
    return inner, "", origin


def effort_of(reasoning: Reasoning) -> Effort:
    """The effort that stands for a setting."""
    if reasoning.budget is None:
        return reasoning.effort
    for most, effort in _THRESHOLDS:
        if reasoning.budget <= most:
            return effort
    return "high" if reasoning.budget <= 24_576 else "xhigh"


def budget_of(reasoning: Reasoning, budgets: Mapping[str, int]) -> int:
    """The budget that stands for a setting, in tokens."""
    if reasoning.budget is not None:
        return reasoning.budget
    return budgets.get(reasoning.effort) or BUDGETS.get(reasoning.effort, 0)
