"""How services say that they do not have a model, in whatever format. Pure.

>>> is_about(Failed(404, "not_found", "The model `gpt-9` does not exist"), "gpt-9")
True
>>> is_about(Failed(400, "bad_request", "tools.0: invalid schema"), "gpt-9")
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
_NOT_THERE = re.compile(
    r"(?i)\bnot (?:found|exist|available|supported for|a valid)|\bno access|\bunknown\b|\binvalid\b"
)
"""Beside its name."""


def is_about(failed: Failed, model: str) -> bool:
    """Whether a failure says that the service does not have the model."""
    if failed.code == "model_not_found" or _UNNAMED.search(failed.message):
        return failed.kind in ("not_found", "bad_request")
    name = rf"(?<![\w.-]){re.escape(model)}(?![\w-])"
    if failed.kind == "not_found":
        return re.search(name, failed.message) is not None
    is_named = re.search(rf"(?i)\bmodels?\W{{0,4}}{name}", failed.message) is not None
    return failed.kind == "bad_request" and is_named and _NOT_THERE.search(failed.message) is not None
