"""What clients write into a request for prompt caches: Anthropic's markers, which clients of Chat services use as well,
and OpenAI's breakpoints. They ride in the ``extra`` slot of the part, message or tool on which they stand. Pure."""

from __future__ import annotations

from typing import Any

from ccproxy_lite.formats.neutral.events import Extra
from ccproxy_lite.formats.neutral.request import Request

MARKER = "cache_control"
BREAKPOINT = "prompt_cache_breakpoint"
OPTIONS = "prompt_cache_options"


def marker_of(extra: Extra) -> dict[str, Any] | None:
    """Anthropic's marker, if there is one."""
    return _object(extra, MARKER)


def breakpoint_of(extra: Extra) -> dict[str, Any] | None:
    """OpenAI's breakpoint, if there is one."""
    return _object(extra, BREAKPOINT)


def is_explicit(request: Request) -> bool:
    """Whether the client wants nothing to be cached but what it marks."""
    return (_object(request.extra, OPTIONS) or {}).get("mode") == "explicit"


def _object(extra: Extra, name: str) -> dict[str, Any] | None:
    value = extra.get(name)
    return value if isinstance(value, dict) else None
