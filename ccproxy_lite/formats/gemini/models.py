"""What Gemini models take, by their names: how they think, and whether a call needs a signature. Pure.

Source: ai.google.dev, thinking and thought signatures. Quirks say what no name does.
"""

from __future__ import annotations

import re
from typing import Any

from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral.request import Effort, Reasoning
from ccproxy_lite.formats.neutral.thinking import budget_of, effort_of

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
    matched = _GEMINI_VERSION.match(name)
    return (int(matched[1]), int(matched[2] or 0)) if matched else (99, 0)


def wants_sentinel(model: str, quirks: frozenset[str]) -> bool:
    """Whether a model rejects calls without a signature: Gemini from version 3 on."""
    return (gemini_version(model) or (0, 0)) >= (3, 0) and "no_thinking" not in quirks


def gemini_config(reasoning: Reasoning, target: Target, max_tokens: int | None) -> dict[str, Any] | None:
    """``thinkingConfig`` for a setting; None where the model does not reason. 2.5 takes budgets, later ones levels.

    A budget leaves at least a quarter of ``max_tokens`` to the answer, because reasoning counts as output.
    """
    version = gemini_version(target.model) or (99, 0)
    if target.model.rpartition("/")[2].startswith("gemma"):
        return None
    if version < (2, 5) or "no_thinking" in target.quirks:
        return None
    effort = effort_of(reasoning)
    visible = effort != "none" if reasoning.visible is None else reasoning.visible
    config: dict[str, Any] = {"includeThoughts": visible}
    # Levels since version 3.
    if version >= (3, 0) and "thinking_budget" not in target.quirks:
        if effort != "auto":
            least = "pro" in target.model and effort in ("none", "minimal")  # which Pro does not know
            config["thinkingLevel"] = "LOW" if least else _LEVELS[effort]
        return config
    # -1: the model decides.
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
