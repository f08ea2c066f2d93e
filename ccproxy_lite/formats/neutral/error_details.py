"""What services say inside an error, each in its own way: how long to wait, whether waiting helps, if the key is wrong.

>>> seconds_in("Rate limit reached. Please try again in 6m0.5s."), seconds_in("Slow down!")
(360.5, None)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import Kind, kind_of
from ccproxy_lite.formats.neutral import overflow
from ccproxy_lite.formats.neutral.events import Failed

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT = r"(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
_NUMBER = r"\d{1,12}(?:\.\d{1,12})?"
_PIECE = rf"(?i)({_NUMBER})\s?({_UNIT})"
_DURATION = rf"(?:{_NUMBER}\s?{_UNIT}[\s,]{{0,2}}(?:and\s)?)+"
_SENTENCE = (
    r"(?i)\b(?:(?:again|retry|resets?|available)\b[^.!?\d]{0,20}\b(?:in|after)|after|wait)\b"
    rf"[^.!?\d]{{0,12}}({_DURATION})"
)
_USED_UP = (
    r"(?i)insufficient (?:account )?(?:balance|credit|funds|quota)|(?:out of|not enough|no) credits|payment required"
    r"|exceeded your current quota|billing hard limit|spending (?:limit|cap)"
)
_USED_UP_400 = (
    r"(?i)your credit balance is too low|you have reached your specified api usage limits"
    r"|billing hard limit has been reached"
)
_BAD_KEY_400 = r"(?i)api key (?:not valid|expired)|incorrect api key provided"
"""A mistake of the client is a 400 too, and may be quoted in the message: these must stand at its beginning."""
RATE_LIMIT_HEADERS = ("anthropic-ratelimit-", "x-ratelimit-")
"""How the headers begin that say how much of a limit is left, and when it is reset."""
_MAX_DURATION_CHARS = 100
_MAX_READ_CHARS = 2000


def seconds_of(duration: str) -> float | None:
    """The seconds of a duration such as ``1m2.5s``, ``12ms`` or ``20 seconds``; None if it is none."""
    if len(duration) > _MAX_DURATION_CHARS or not re.fullmatch(_DURATION, duration.strip(), re.IGNORECASE):
        return None
    return sum(float(number) * _seconds_per_unit(unit.lower()) for number, unit in re.findall(_PIECE, duration))


def _seconds_per_unit(unit: str) -> float:
    return 0.001 if unit.startswith(("ms", "milli")) else _SECONDS[unit[0]]


def seconds_in(message: str) -> float | None:
    """How long a sentence asks to wait."""
    match = re.search(_SENTENCE, message[:_MAX_READ_CHARS])
    return seconds_of(match[1]) if match else None


def refine(failed: Failed, error: Mapping[str, Any], status: int | None = None) -> Failed:
    """A failure with what its error object says: how long to wait, ``billing`` where that does not help, a wrong key.

    :param status: of an HTTP error: its body may say more than the status, but not something else

    Sources: ``google.rpc.RetryInfo`` and ``QuotaFailure``; ``resets_at`` and ``resets_in_seconds`` of OpenAI's usage
    limits; the sentences that services write.

    >>> refine(Failed(413, "rate_limit", "Request too large"), {}, 413).kind
    'too_large'
    """
    if status is not None and not (status == 403 and failed.code == "model_not_found"):  # a key that may not use it
        failed.kind = _plausible_kind(failed.kind, status)
    failed.status = failed.status if status is None else status
    # Google's form; others have texts there.
    details = error.get("details")
    details = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    failed.retry_after_s = _read_seconds(error.get("resets_in_seconds"))
    failed.resets_at = _read_seconds(error.get("resets_at"))
    for detail in details:
        if str(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            failed.retry_after_s = seconds_of(str(detail.get("retryDelay")))
    # The sentence is the last resort: fields and headers are more exact.
    if failed.kind in ("rate_limit", "overloaded") and failed.retry_after_s is None:
        failed.retry_after_s = seconds_in(failed.message)
    # A quota that comes back is a rate limit.
    if failed.retry_after_s is None and failed.resets_at is None and _is_used_up(failed, details):
        failed.kind = "billing"
    invalid = any(detail.get("reason") == "API_KEY_INVALID" for detail in details)
    if failed.kind == "bad_request" and (invalid or re.match(_BAD_KEY_400, failed.message)):
        failed.kind, failed.code = "auth", "API_KEY_INVALID"
    # Whatever the status: a shorter prompt helps, and nothing else.
    if failed.kind in ("bad_request", "too_large", "server"):
        failed.overflow = overflow.measure(failed.message, failed.code, error)
    if failed.overflow is not None:
        failed.status, failed.kind, failed.code = 400, "bad_request", overflow.CODE
    return failed


def _is_used_up(failed: Failed, details: list[dict[str, Any]]) -> bool:
    """Google says "you exceeded your current quota" of every limit; which one it was stands in the details."""
    # A daily quota; any other of Google's limits is over within a minute.
    if failed.code in ("RESOURCE_EXHAUSTED", "usage_limit_reached"):
        return failed.code == "usage_limit_reached" or any(
            "PerDay" in str(detail)[:_MAX_READ_CHARS] for detail in details
        )
    if failed.kind == "bad_request":
        return re.match(_USED_UP_400, failed.message) is not None
    if failed.kind not in ("permission", "rate_limit") or failed.code == "rate_limit_exceeded":
        return False
    return re.search(_USED_UP, failed.message[:_MAX_READ_CHARS]) is not None


_MAY_MEAN: Mapping[int, tuple[Kind, ...]] = {
    400: ("bad_request", "auth", "billing", "not_found", "too_large"),
    401: ("auth", "billing"),
    403: ("permission", "auth", "billing", "rate_limit"),
    429: ("rate_limit", "billing"),
}


def _plausible_kind(named: Kind, status: int) -> Kind:
    # A status of the 5xx range may be described more exactly by its body, but it stays the server's fault.
    fault: tuple[Kind, ...] = ("overloaded", "timeout") if status >= 500 else ()
    return named if named in _MAY_MEAN.get(status, fault) else kind_of(status)


def _read_seconds(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e12 else None
