"""Gemini generateContent: errors as clients are told. Source: the API's error reference (``google.rpc.Status``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import Kind
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.neutral.events import Failed

_STATUSES: dict[Kind, str] = {
    "bad_request": "INVALID_ARGUMENT",
    "auth": "UNAUTHENTICATED",
    "billing": "RESOURCE_EXHAUSTED",
    "permission": "PERMISSION_DENIED",
    "not_found": "NOT_FOUND",
    "too_large": "INVALID_ARGUMENT",
    "rate_limit": "RESOURCE_EXHAUSTED",
    "overloaded": "UNAVAILABLE",
    "timeout": "DEADLINE_EXCEEDED",
    "server": "INTERNAL",
}
_TOO_LONG = "maximum number of tokens allowed"


def is_own_error(status: int, body: Any) -> bool:
    """Whether an error answer is in the format's shape, and a prompt that is too long in Google's words."""
    error = body.get("error") if isinstance(body, dict) else None
    message = fields.lenient(error, "message")
    if not message or not fields.count(error, "code") or failures.is_nested(message):
        return False
    return failures.read_error(status, body).overflow is None or (status == 400 and _TOO_LONG in message)


def write_error(failed: Failed) -> tuple[int, Mapping[str, Any]]:
    """HTTP status and body of a failure. ``error`` comes first and ``code`` is a number, or the SDK does not see it."""
    status = {529: 503, 402: 429, 413: 400}.get(failed.status, failed.status)
    message = failed.message
    if failed.overflow is not None and _TOO_LONG not in message:
        status, (sent, limit) = 400, failed.overflow
        if limit:
            message = f"The input token count ({sent}) exceeds the {_TOO_LONG} ({limit})."
        else:
            message = f"The input token count exceeds the {_TOO_LONG}: {message}"
    error: dict[str, Any] = {"code": status, "message": message, "status": _STATUSES[failed.kind]}
    if failed.retry_after_s is not None:
        delay = f"{max(failed.retry_after_s, 0):g}s"
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    return status, {"error": error}
