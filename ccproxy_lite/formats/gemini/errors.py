"""Gemini generateContent: errors, read and written. Source: the API's error reference (``google.rpc.Status``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import STATUS, Kind, kind_of
from ccproxy_lite.formats import shape
from ccproxy_lite.formats.neutral import Failed

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
_KINDS: dict[str, Kind] = {
    "INVALID_ARGUMENT": "bad_request",
    "FAILED_PRECONDITION": "bad_request",
    "OUT_OF_RANGE": "bad_request",
    "UNAUTHENTICATED": "auth",
    "PERMISSION_DENIED": "permission",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limit",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "timeout",
}


def failed_of(body: Any, status: int) -> Failed:
    """An error object, in an error answer or in a chunk; ``status`` where it says none itself."""
    if isinstance(body, list):  # a stream without server-sent events wraps it
        body = body[0] if body else {}
    error = shape.error_object(body)
    name = shape.lenient(error, "status")
    said = shape.count(error, "code")
    if not 400 <= said < 600:
        said = STATUS[_KINDS[name]] if status == 500 and name in _KINDS else status
    kind = kind_of(said) if said != 500 else _KINDS.get(name, "server")
    message = shape.lenient(error, "message") or name or f"the upstream answered {status}"
    failed = Failed(said, kind, message, code=name)
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        if detail.get("reason") == "API_KEY_INVALID":  # which comes as a 400
            failed.kind, failed.code = "auth", "API_KEY_INVALID"
        if str(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            failed.retry_after_s = _seconds(shape.lenient(detail, "retryDelay"))
    if failed.kind == "bad_request" and "maximum number of tokens" in message:
        failed.code = "context_length_exceeded"
    return failed


def _seconds(delay: str) -> float | None:
    try:
        seconds = float(delay.removesuffix("s"))
    except ValueError:
        return None
    return max(seconds, 0.0) if seconds < 1e9 else None  # which a NaN is not


def read_error(status: int, body: Any) -> Failed:
    """The failure in an HTTP error answer; ``body`` is its JSON, or whatever text it held."""
    failed = failed_of(body if isinstance(body, dict | list) else {}, status)
    failed.status = status
    if not isinstance(body, dict | list) and body:
        failed.message = str(body)
    if failed.kind == "server" or (failed.kind == "bad_request" and status != 400):
        failed.kind = kind_of(status)
    return failed


def write_error(failed: Failed) -> tuple[int, Mapping[str, Any]]:
    """HTTP status and body of a failure. ``error`` comes first and ``code`` is a number, or the SDK does not see it."""
    status = {529: 503, 402: 429, 413: 400}.get(failed.status, failed.status)
    error: dict[str, Any] = {"code": status, "message": failed.message, "status": _STATUSES[failed.kind]}
    if failed.retry_after_s is not None:
        delay = f"{max(failed.retry_after_s, 0):g}s"
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]
    return status, {"error": error}
