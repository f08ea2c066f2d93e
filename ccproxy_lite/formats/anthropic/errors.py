"""Anthropic Messages: errors, read and written. Source: the API's error reference and the SDK's ``types.shared``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import Kind, kind_of
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.neutral.error_details import refine
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
_KINDS: dict[str, tuple[Kind, int]] = {
    "invalid_request_error": ("bad_request", 400),
    "authentication_error": ("auth", 401),
    "billing_error": ("billing", 402),
    "permission_error": ("permission", 403),
    "not_found_error": ("not_found", 404),
    "request_too_large": ("too_large", 413),
    "rate_limit_error": ("rate_limit", 429),
    "overloaded_error": ("overloaded", 529),
    "timeout_error": ("timeout", 504),
    "api_error": ("server", 500),
}


def failed_of(body: Any, status: int, *, is_http: bool = False) -> Failed:
    """An error object, in an error answer or in an ``error`` event; ``status`` where its type says none."""
    error = failures.said(body)
    name = fields.lenient(error, "type")
    kind, implied = _KINDS.get(name, (kind_of(status), status))
    message = fields.lenient(error, "message") or name or f"the upstream returned {status}"
    return refine(
        Failed(status if status not in (200, 500) else implied, kind, message, code=name),
        error,
        status if is_http else None,
    )


def read_error(status: int, body: Any) -> Failed:
    """The failure in an HTTP error answer; ``body`` is its JSON, or whatever text it held."""
    return failed_of(body, status, is_http=True)


_TOO_LONG = "prompt is too long"
_OWN_OVERFLOWS = (_TOO_LONG, "input length and `max_tokens` exceed context limit")


def is_own_error(status: int, body: Any) -> bool:
    """Whether an error answer is in the format's shape, and a prompt that is too long in Anthropic's words."""
    error = body.get("error") if isinstance(body, dict) and body.get("type") == "error" else None
    message = fields.lenient(error, "message")
    if not message or not fields.lenient(error, "type") or failures.is_nested(message):
        return False
    return read_error(status, body).overflow is None or (status == 400 and message.startswith(_OWN_OVERFLOWS))


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
