"""What Claude models take, by their names: how they think, how long they answer, whether they can be sampled. Pure.

Source: the model overview and the migration guides at platform.claude.com. Quirks say what
no name does.
"""

from __future__ import annotations

import re

from ccproxy_lite.formats.neutral.catalog import bare_name

_ALIASES = ("opus", "sonnet", "haiku", "default", "best", "opusplan")
"""What Claude Code calls the current model of each family."""


def claude_version(model: str) -> tuple[int, int] | None:
    """Major and minor version in a Claude model's name; None for any other model, (99, 0) where it has none.

    >>> claude_version("claude-opus-4-8"), claude_version("claude-3-5-haiku-20241022"), claude_version("sonnet")
    ((4, 8), (3, 5), (99, 0))
    >>> claude_version("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), claude_version("claude-opus-4-1@20250805")
    ((4, 5), (4, 1))
    >>> claude_version("kimi-k2")
    """
    name = bare_name(model)
    if name in _ALIASES:
        return (99, 0)
    if not name.startswith("claude"):
        return None
    # The family stands in front of the version ("claude-opus-4-8") or behind it ("claude-3-5-haiku-20241022").
    matched = re.match(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2})(?!\d))?(?!\d)", name)
    return (int(matched[1]), int(matched[2] or 0)) if matched else (99, 0)


def claude_thinking(model: str, quirks: frozenset[str]) -> str:
    """How thinking is switched on for a model behind an Anthropic upstream: ``adaptive``, ``manual`` or ``none``."""
    for quirk in ("adaptive_thinking", "manual_thinking", "no_thinking"):
        if quirk in quirks:
            return quirk.removesuffix("_thinking").replace("no", "none")
    version = claude_version(model)
    # Models of other vendors behind an Anthropic endpoint (Kimi, GLM, MiniMax) know the older form.
    if version is None:
        return "manual"
    if version < (3, 7):
        return "none"
    return "manual" if version < (4, 6) else "adaptive"


def claude_max_tokens(model: str) -> int:
    """The most output tokens that a Claude model accepts, where asking for more is rejected."""
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
    """Whether ``temperature``, ``top_p`` and ``top_k`` are accepted: before Claude 4.7, and by others' models."""
    if "no_sampling" in quirks:
        return False
    version = claude_version(model)
    return version is None or version < (4, 7) or "sampling" in quirks
