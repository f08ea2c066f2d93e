"""Reasoning: one canonical setting, the table between efforts and budgets, and who may see a signature again. Pure.

>>> effort_of(Reasoning(budget=31999))
'xhigh'
>>> tag("anthropic", "c2ln"), untag("ccp1.anthropic.c2ln")
('ccp1.anthropic.c2ln', ('anthropic', 'c2ln'))
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ccproxy_lite.formats.format import Target

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


def seal(signature: str, redacted: str, origin: str, own: str) -> str:
    """What stands in the one opaque slot of the format ``own`` for a thought's signature or hidden text."""
    if redacted:
        return tag(origin + _REDACTED, redacted)
    return signature if origin == own or not signature else tag(origin, signature)


def unseal(value: str, own: str) -> tuple[str, str, str]:
    """Signature, hidden text and origin of what stands in the one opaque slot of the format ``own``."""
    origin, inner = untag(value) or (own, value)
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


_OFFICIAL_REASONING = re.compile(r"(?:.*/)?(?:o[1-9](?:-|\Z)|gpt-(?:[5-9]|[1-9]\d)(?!.*-chat)|codex)")
_OFFICIAL_OTHERS = re.compile(r"(?:.*/)?(?:gpt-[34](?!\d)|chatgpt-|gpt-.*-chat)")
_KNOWS_NONE = re.compile(r"(?:.*/)?gpt-(?:5\.[1-9]|[6-9]|[1-9]\d)")
_KNOWS_XHIGH = re.compile(r"(?:.*/)?gpt-(?:5\.1-codex-max|5\.[2-9]|[6-9]|[1-9]\d)")


def is_openai_reasoning(model: str) -> bool:
    """Whether the name is that of an OpenAI reasoning model, which rejects sampling parameters."""
    return _OFFICIAL_REASONING.match(model) is not None


def takes_no_effort(target: Target) -> bool:
    """Whether an OpenAI-format upstream would refuse an effort: its quirk or OpenAI's own name for it says so."""
    return "no_reasoning_effort" in target.quirks or _OFFICIAL_OTHERS.match(target.model) is not None


def openai_effort(reasoning: Reasoning, model: str) -> str | None:
    """``reasoning_effort`` for a model, or None where nothing should be sent.

    A model of unknown make gets the three levels that everybody knows, and silence for "do not think".
    """
    effort = effort_of(reasoning)
    if effort == "auto":
        return None
    if not is_openai_reasoning(model):
        return {"none": None, "minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort)
    if effort == "none" and not _KNOWS_NONE.match(model):
        return "minimal" if model.rpartition("/")[2].startswith("gpt-5") else "low"
    if effort == "minimal" and not re.match(r"(?:.*/)?gpt-5(?:-|\Z)", model):  # later ones know it no more
        return "low"
    if effort in ("xhigh", "max"):
        return "xhigh" if _KNOWS_XHIGH.match(model) else "high"
    return effort


def claude_version(model: str) -> tuple[int, int] | None:
    """Major and minor version in a Claude model's name; None for any other model, (99, 0) where it has none.

    >>> claude_version("claude-opus-4-8"), claude_version("claude-3-5-haiku-20241022"), claude_version("kimi-k2")
    ((4, 8), (3, 5), None)
    """
    name = model.rpartition("/")[2]
    if not name.startswith("claude"):
        return None
    found = re.match(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2})(?!\d))?(?!\d)", name)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


def claude_thinking(model: str, quirks: frozenset[str]) -> str:
    """How a model behind an Anthropic upstream is told to think: ``adaptive``, ``manual`` or ``none``."""
    for quirk in ("adaptive_thinking", "manual_thinking", "no_thinking"):
        if quirk in quirks:
            return quirk.removesuffix("_thinking").replace("no", "none")
    version = claude_version(model)
    if version is None:
        return "manual"
    if version < (3, 7):
        return "none"
    return "manual" if version < (4, 6) else "adaptive"


def claude_most_tokens(model: str) -> int:
    """The most output tokens that a Claude model accepts, where asking for more is refused."""
    version = claude_version(model)
    if version is None:
        return 1 << 31
    if version < (3, 5):
        return 4096
    if version < (3, 7):
        return 8192
    if version < (4, 6):
        return 32_000 if version < (4, 2) and "opus" in model else 64_000
    return 128_000


def claude_takes_sampling(model: str, quirks: frozenset[str]) -> bool:
    """Whether ``temperature``, ``top_p`` and ``top_k`` are accepted: by Claude before 4.7, and by other makes."""
    if "no_sampling" in quirks:
        return False
    version = claude_version(model)
    return version is None or version < (4, 7) or "sampling" in quirks


_GEMINI_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_LEVELS: dict[Effort, str] = {
    "none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH",
    "max": "HIGH",
}  # fmt: skip
GEMINI_EFFORTS: dict[str, Effort] = {
    "MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high", "XHIGH": "xhigh",
}  # fmt: skip
SENTINEL = "skip_thought_signature_validator"
"""Stands for the signature of a call that Gemini did not make. Source: ai.google.dev, thought signatures."""


def gemini_version(model: str) -> tuple[int, int] | None:
    """Major and minor version in a Gemini model's name; None for any other model, (99, 0) where it has none.

    >>> gemini_version("gemini-2.5-pro"), gemini_version("gemini-flash-latest"), gemini_version("gemma-3")
    ((2, 5), (99, 0), None)
    """
    name = model.rpartition("/")[2]
    if not name.startswith("gemini"):
        return None
    found = _GEMINI_VERSION.match(name)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


def wants_sentinel(model: str, quirks: frozenset[str]) -> bool:
    """Whether a model refuses calls without a signature: Gemini from version 3 on."""
    return (gemini_version(model) or (0, 0)) >= (3, 0) and "no_thinking" not in quirks


def gemini_config(reasoning: Reasoning, target: Target, max_tokens: int | None) -> dict[str, Any] | None:
    """``thinkingConfig`` for a setting; None where the model cannot think. 2.5 takes budgets, later ones levels.

    A budget leaves at least a quarter of ``max_tokens`` to the answer, for thoughts count as output.
    """
    version = gemini_version(target.model) or (99, 0)
    if target.model.rpartition("/")[2].startswith("gemma"):
        return None
    if version < (2, 5) or "no_thinking" in target.quirks:
        return None
    effort = effort_of(reasoning)
    visible = effort != "none" if reasoning.visible is None else reasoning.visible
    config: dict[str, Any] = {"includeThoughts": visible}
    if version >= (3, 0) and "thinking_budget" not in target.quirks:
        if effort != "auto":
            least = "pro" in target.model and effort in ("none", "minimal")  # which Pro does not know
            config["thinkingLevel"] = "LOW" if least else _LEVELS[effort]
        return config
    budget = -1 if effort == "auto" and reasoning.budget is None else budget_of(reasoning, target.budgets)
    pro = "pro" in target.model  # which cannot do without thinking
    most = 32_768 if pro else 24_576
    if max_tokens is not None:
        most = min(most, max_tokens * 3 // 4)
    if budget != -1:
        budget = max(min(budget, most), 128 if pro else 0)
        if 0 < budget < 512 and "lite" in target.model:  # takes none or at least so many
            budget = 512 if most >= 512 else 0
    config["thinkingBudget"] = budget
    return config
