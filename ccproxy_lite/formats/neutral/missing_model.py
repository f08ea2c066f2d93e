"""How services say that they do not have a model, in whatever format. Pure.

>>> is_about(Failed(404, "not_found", "The model `gpt-9` does not exist"), "gpt-9")
True
>>> is_about(Failed(400, "bad_request", "tools are not supported for model gpt-9"), "gpt-9")
False
"""

from __future__ import annotations

import re

from ccproxy_lite.formats.neutral.events import Failed

_UNNAMED = re.compile(
    r"(?i)\bmodel(?: was)? not (?:found|exist)|\bno such model\b|\bnot a valid model\b|\bunknown model\b"
    r"|\binvalid model(?: name| id)?\b(?! \w)|\bmodel(?: identifier| name| id)? is (?:invalid|unknown)\b"
)
"""Without its name."""
_BEFORE = (
    r"(?:\bunknown|\bunsupported|\binvalid|\bno such|\bno access to|\bnot have access to|\bnot f(?:ou|i)nd)(?: the)?"
)
_BEHIND = (
    r"(?:(?:currently|is|was|does|has been) )*(?:un(?:known|available)|invalid|not (?:found|exist|available|a valid)"
    r"|not supported(?! (?:for (?!this (?:account|key|organi|project))|with|in|by|on|when)))"
)
"""What is said of a model right before its name, or right behind it; anything farther away is about something else."""


def is_about(failed: Failed, model: str) -> bool:
    """Whether a failure says that the service does not have the model."""
    if failed.code == "model_not_found" or _UNNAMED.search(failed.message):
        return failed.kind in ("not_found", "bad_request")
    name = rf"(?<![\w.-]){re.escape(model)}(?![\w-])"
    if failed.kind == "not_found":
        return re.search(name, failed.message) is not None
    named = rf"models?\W{{0,4}}{name}"
    said = rf"(?i){_BEFORE} (?:requested )?{named}|\b{named}\W{{0,3}} {_BEHIND}"
    return failed.kind == "bad_request" and re.search(said, failed.message) is not None
