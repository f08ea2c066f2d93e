"""OpenAI Chat Completions: errors, read and written. Source: the API's error reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import STATUS, Kind, kind_of
from ccproxy_lite.formats import shape
from ccproxy_lite.formats.neutral import Failed

_TYPES: dict[Kind, tuple[str, str | None]] = {
    "bad_request": ("invalid_request_error", None),
    "auth": ("invalid_request_error", "invalid_api_key"),
    "billing": ("insufficient_quota", "insufficient_quota"),
    "permission": ("invalid_request_error", None),
    "not_found": ("invalid_request_error", "model_not_found"),
    "too_large": ("invalid_request_error", None),
    "rate_limit": ("rate_limit_error", "rate_limit_exceeded"),
    "overloaded": ("server_error", "server_is_overloaded"),
    "timeout": ("server_error", None),
    "server": ("server_error", None),
}
_CODES: dict[str, Kind] = {
    "invalid_api_key": "auth",
    "authentication_error": "auth",
    "insufficient_quota": "billing",
    "credit_balance_exhausted": "billing",
    "rate_limit_exceeded": "rate_limit",
    "rate_limit_error": "rate_limit",
    "slow_down": "rate_limit",
    "model_not_found": "not_found",
    "context_length_exceeded": "bad_request",
    "invalid_request_error": "bad_request",
    "server_is_overloaded": "overloaded",
    "overloaded_error": "overloaded",
    "server_error": "server",
}


def failed_of(body: Any, status: int) -> Failed:
    """An error object, in an error answer or in a chunk; ``status`` where it says none itself."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = body if isinstance(body, dict) else {}
    raw = error.get("code")
    code = str(raw) if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
    name = shape.lenient(error, "type")
    said = next(
        (int(text) for text in (code, str(error.get("status"))) if text.isdigit() and 400 <= int(text) < 600), 0
    )
    kind = _CODES.get(code) or (kind_of(said) if said else _CODES.get(name)) or kind_of(status)
    message = shape.lenient(error, "message") or code or name or f"the upstream answered {status}"
    return Failed(
        said or (STATUS[kind] if status == 500 else status), kind, message, code, shape.lenient(error, "param")
    )


def read_error(status: int, body: Any) -> Failed:
    """The failure in an HTTP error answer; ``body`` is its JSON, or whatever text it held."""
    failed = failed_of(body if isinstance(body, dict) else {}, status)
    failed.status = status
    if not isinstance(body, dict) and body:
        failed.message = str(body)
    if failed.kind in ("server", "bad_request"):
        failed.kind = kind_of(status)
    if failed.kind == "bad_request" and "context length" in failed.message:
        failed.code = "context_length_exceeded"
    return failed


def write_error(failed: Failed) -> tuple[int, Mapping[str, Any]]:
    """HTTP status and body of a failure; a prompt that is too long gets the code that clients look for."""
    status = 503 if failed.status == 529 else failed.status
    if failed.kind == "billing":
        status = 429
    name, code = _TYPES[failed.kind]
    if failed.message.startswith("prompt is too long") or failed.code == "context_length_exceeded":
        code = "context_length_exceeded"
    error = {"message": failed.message, "type": name, "param": failed.param or None, "code": code}
    return status, {"error": error}
