"""How long to wait before using an upstream again, from all its hints: headers, the error, exhausted buckets. Pure.

Sources: RFC 9110 section 10.2.3; Anthropic's and OpenAI's rate limit headers. Bodies are read in ``error_details``.
"""

from __future__ import annotations

from ccproxy_lite.formats.neutral.error_details import RATE_LIMIT_HEADERS, seconds_of
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.framing import Headers, header

_MAX_S = 32 * 86400.0
"""A month of quota and a day; anything longer is a mistake of the upstream, and ignored."""
_MIN_EPOCH_S = 1e9


def best(failed: Failed, headers: Headers, wall_s: float) -> float | None:
    """The best hint of a response, in seconds from now, or None. ``wall_s`` is the time of the wall clock.

    Times that are past, or more than a month ahead, are ignored.
    """
    date = header(headers, b"date")
    wall_s = (
        _parse_date(date.decode("latin-1")) if date else None
    ) or wall_s  # the upstream's clock may differ from ours
    at = failed.resets_at
    # From the most to the least precise.
    hints = (
        _multiplied(_parse_number(header(headers, b"retry-after-ms")), 0.001),
        _seconds_until(_header_text(headers, b"retry-after"), wall_s, epoch=False),
        failed.retry_after_s,
        None if at is None else at - wall_s,
        _exhausted_buckets(headers, wall_s) if failed.kind in ("rate_limit", "overloaded") else None,
    )
    return next((hint for hint in hints if hint is not None and 0 < hint <= _MAX_S), None)


def _exhausted_buckets(headers: Headers, wall_s: float) -> float | None:
    """The latest reset of the buckets that are exhausted; where no bucket says what is left, the soonest reset."""
    exhausted, unknown = [], []
    for raw, _ in headers:
        name = raw.decode("latin-1")
        family = next((word for word in RATE_LIMIT_HEADERS if name.startswith(word)), None)
        if family is None or "reset" not in name:
            continue
        seconds = _seconds_until(_header_text(headers, raw), wall_s, epoch=True)
        left = _parse_number(header(headers, name.replace("reset", "remaining").encode("latin-1")))
        # Anthropic's unified limits say "rejected" instead of a remaining number.
        rejected = header(headers, name.replace("reset", "status").encode("latin-1")) == b"rejected"
        if seconds is not None and (left == 0 or rejected):
            exhausted.append(seconds)
        elif seconds is not None and left is None and family == "x-ratelimit-":
            unknown.append(seconds)
    return max(exhausted) if exhausted else min(unknown, default=None)


def _seconds_until(text: str, wall_s: float, *, epoch: bool) -> float | None:
    """Seconds from now until what a header says: seconds, a duration, a date, or (``epoch``) a time since 1970."""
    number = _parse_number(text.encode())
    if number is not None:
        # A time since 1970, in seconds or milliseconds.
        if epoch and number >= _MIN_EPOCH_S:
            return (number / 1000 if number >= _MIN_EPOCH_S * 100 else number) - wall_s
        return number
    seconds = seconds_of(text)
    if seconds is not None:
        return seconds
    date = _parse_date(text)
    return None if date is None else date - wall_s


def _parse_date(text: str) -> float | None:
    """A time since 1970 from an HTTP date or an RFC 3339 time."""
    if not text:
        return None
    from datetime import datetime, timezone  # 1 MB together, and hardly ever needed
    from email.utils import parsedate_to_datetime

    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text[:-1] + "+00:00" if parse != parsedate_to_datetime and text[-1] in "Zz" else text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _header_text(headers: Headers, name: bytes) -> str:
    return (header(headers, name) or b"").decode("latin-1").strip()


def _parse_number(raw: bytes | None) -> float | None:
    """A number, but neither NaN nor infinity."""
    try:
        value = float(raw or b"")
    except ValueError:
        return None
    return value if -1e15 < value < 1e15 else None


def _multiplied(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
