"""What services say inside an error, each in its own way: how long to wait, whether waiting helps, if the key is wrong.

>>> seconds_in("Rate limit reached. Please try again in 6m0.5s."), seconds_in("Slow down!")
(360.5, None)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ccproxy_lite.formats.neutral import Failed

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT = r"(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
_NUMBER = r"\d{1,12}(?:\.\d{1,12})?"
_PIECE = re.compile(rf"({_NUMBER})\s?({_UNIT})", re.IGNORECASE)
_DURATION = rf"(?:{_NUMBER}\s?{_UNIT}[\s,]{{0,2}}(?:and\s)?)+"
_SENTENCE = re.compile(rf"\b(?:again|retry|wait|resets?|after|available)\b[^.!?\d]{{0,30}}({_DURATION})", re.IGNORECASE)
_USED_UP = re.compile(
    r"credit balance is too low|insufficient (?:account )?(?:balance|credit|funds|quota)"
    r"|(?:out of|not enough|no) credits|exceeded your current quota|billing hard limit|spending (?:limit|cap)|"
    r"payment required|usage limits?\b",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"(?:incorrect|invalid) api[ -]?key|api[ -]?key (?:is )?(?:not valid|invalid|expired)", re.IGNORECASE
)
_LONGEST_READ = 2000


def seconds_of(duration: str) -> float | None:
    """The seconds of a duration such as ``1m2.5s``, ``12ms`` or ``20 seconds``; None if it is none."""
    if not re.fullmatch(_DURATION, duration.strip(), re.IGNORECASE):
        return None
    return sum(float(number) * _scale(unit.lower()) for number, unit in _PIECE.findall(duration))


def _scale(unit: str) -> float:
    return 0.001 if unit.startswith(("ms", "milli")) else _SECONDS[unit[0]]


def seconds_in(message: str) -> float | None:
    """How long a sentence asks to wait."""
    match = _SENTENCE.search(message[:_LONGEST_READ])
    return seconds_of(match[1]) if match else None


def refine(failed: Failed, error: Mapping[str, Any]) -> Failed:
    """A failure with what its error object says: how long to wait, ``billing`` where that does not help, a wrong key.

    Sources: ``google.rpc.RetryInfo`` and ``QuotaFailure``; ``resets_at`` and ``resets_in_seconds`` of OpenAI's usage
    limits; the sentences that services write.
    """
    details = error.get("details")
    details = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    failed.retry_after_s = _number(error.get("resets_in_seconds"))
    failed.resets_at_s = _number(error.get("resets_at"))
    for detail in details:
        if str(detail.get("@type")).endswith("google.rpc.RetryInfo"):
            failed.retry_after_s = seconds_of(str(detail.get("retryDelay")))
    if failed.kind in ("rate_limit", "overloaded") and failed.retry_after_s is None:
        failed.retry_after_s = seconds_in(failed.message)
    if failed.retry_after_s is None and failed.resets_at_s is None and _is_used_up(failed, details):
        failed.kind = "billing"
    invalid = any(detail.get("reason") == "API_KEY_INVALID" for detail in details)
    if failed.kind == "bad_request" and (invalid or _BAD_KEY.search(failed.message[:_LONGEST_READ])):
        failed.kind, failed.code = "auth", "API_KEY_INVALID"
    return failed


def _is_used_up(failed: Failed, details: list[dict[str, Any]]) -> bool:
    """Google says "you exceeded your current quota" of every limit; which one it was stands in the details."""
    if failed.code in ("RESOURCE_EXHAUSTED", "usage_limit_reached"):
        ids = [str(violation) for detail in details for violation in detail.get("violations") or ()]
        return failed.code == "usage_limit_reached" or any("PerDay" in text for text in ids)
    if failed.kind not in ("bad_request", "permission", "rate_limit") or failed.code == "rate_limit_exceeded":
        return False
    return _USED_UP.search(failed.message[:_LONGEST_READ]) is not None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e12 else None
