"""Anthropic Messages: errors as clients are told. Source: the API's error reference and the SDK's ``types.shared``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import Kind
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.neutral.events import Failed

_TYPES: dict[Kind, str] = {
    "bad_request": "invalid_request_error",
    "auth": "authentication_error",
    "billing": "billing_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "server": "api_error",
}
_TOO_LONG = "prompt is too long"
_OWN_OVERFLOWS = (_TOO_LONG, "input length and `max_tokens` exceed context limit")


def is_own_error(status: int, body: Any) -> bool:
    """Whether an error answer is in the format's shape, and a prompt that is too long in Anthropic's words."""
    error = body.get("error") if isinstance(body, dict) and body.get("type") == "error" else None
    message = fields.lenient(error, "message")
    if not message or not fields.lenient(error, "type") or failures.is_nested(message):
        return False
    return failures.read_error(status, body).overflow is None or (status == 400 and message.startswith(_OWN_OVERFLOWS))


def write_error(failed: Failed) -> tuple[int, Mapping[str, Any]]:
    """HTTP status and body of a failure; for a prompt that is too long, in the words that clients look for."""
    status = {"overloaded": 529, "billing": 402}.get(failed.kind, failed.status)
    message = failed.message
    if failed.overflow is not None:
        status = 400
        sent, limit = failed.overflow
        if limit and not message.startswith(_TOO_LONG):
            message = f"{_TOO_LONG}: {sent} tokens > {limit} maximum"
        elif not message.startswith(_TOO_LONG):
            message = f"{_TOO_LONG}: {message}"
    return status, {"type": "error", "error": {"type": _TYPES[failed.kind], "message": message}}
