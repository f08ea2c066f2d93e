"""Finish reasons of Chat Completions by their meaning: services pass on other makers' words, in their spelling. Pure.

>>> meaning("MAX_TOKENS"), meaning("content_filter: PROHIBITED_CONTENT"), meaning("network_error"), meaning("bored")
('max_tokens', 'refusal', 'fault', None)
"""

from __future__ import annotations

from typing import Literal

from ccproxy_lite.formats.neutral import overflow
from ccproxy_lite.formats.neutral.events import StopReason

Meaning = StopReason | Literal["fault", "overflow"]
"""Beside the neutral reasons: the service has failed, or the context window is full."""

_MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys("stop eos eos_token end_turn stop_sequence completed complete".split(), "end"),
    **dict.fromkeys("length max_tokens max_output_tokens max_length".split(), "max_tokens"),
    **dict.fromkeys("tool_calls tool_call tool_use function_call".split(), "tool_use"),
    **dict.fromkeys(
        "content_filter sensitive safety refusal prohibited_content recitation blocklist spii image_safety".split(),
        "refusal",
    ),
    # GLM, SGLang, DeepSeek, and Google's endpoint for a call that the model has got wrong.
    **dict.fromkeys(
        (
            "error network_error abort aborted cancelled timeout insufficient_system_resource engine_overloaded "
            "overloaded malformed_function_call unexpected_tool_call function_call_filter"
        ).split(),
        "fault",
    ),
    **dict.fromkeys(overflow.REASONS, "overflow"),
}


def meaning(reason: str) -> Meaning | None:
    """What a reason means; None for one that nobody knows. Behind a colon stands the more exact word."""
    words = [word.strip() for word in reason.lower().replace("-", "_").split(":")]
    return next((_MEANINGS[word] for word in reversed(words) if word in _MEANINGS), None)
