"""How long an upstream asks to be left alone: every way of saying it, and what is too odd to be believed."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS, failures
from ccproxy_lite.formats.neutral.error_details import seconds_in, seconds_of
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.routing import retry_after

NOW = 1_795_004_800.0  # 2026-11-18T12:26:40Z


def final_stop_reason(headers: dict[str, str], failed: Failed | None = None) -> float | None:
    failed = failed or Failed(429, "rate_limit", "no")
    best = retry_after.best(failed, [(name.encode(), value.encode("latin-1")) for name, value in headers.items()], NOW)
    return None if best is None else round(best, 3)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2", 2), ("2.5", 2.5), (" 7 ", 7), ("Wed, 18 Nov 2026 12:28:10 GMT", 90), ("Wed, 18 Nov 2026 12:00:00 GMT", None),
        ("0", None), ("-5", None), ("1e99", None), ("99999999999", None), ("nan", None), ("inf", None), ("soon", None),
        ("", None), ("30s", 30), ("1m30s", 90), ("2026-11-18T12:26:50Z", 10), ("Mon, 01 Jan 2186 00:00:00 GMT", None),
        ("2592000", 2592000), ("2, 3", None), ("\xb2", None),
    ],
)  # fmt: skip
def test_retry_after(value: str, expected: float | None) -> None:
    assert final_stop_reason({"retry-after": value}) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1),
        ({"retry-after-ms": "x", "retry-after": "3"}, 3),
        ({"date": "Wed, 18 Nov 2026 12:00:00 GMT", "retry-after": "Wed, 18 Nov 2026 12:00:05 GMT"}, 5),
        ({"anthropic-ratelimit-requests-reset": "2026-11-18T12:27:00Z"}, None),
        (
            {
                "anthropic-ratelimit-requests-reset": "2026-11-18T12:27:00Z",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-11-18T13:00:00Z",
                "anthropic-ratelimit-tokens-remaining": "900",
            },
            20,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-reset": "2026-11-18T12:27:40+00:00",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-18T12:27:10Z",
                "anthropic-ratelimit-output-tokens-remaining": "0",
            },
            60,
        ),
        ({"anthropic-ratelimit-unified-reset": "1795004900", "anthropic-ratelimit-unified-status": "rejected"}, 100),
        ({"anthropic-ratelimit-unified-reset": "1795004900", "anthropic-ratelimit-unified-status": "allowed"}, None),
        ({"x-ratelimit-reset-requests": "12ms", "x-ratelimit-reset-tokens": "6m0s"}, 0.012),
        (
            {
                "x-ratelimit-reset-requests": "12ms",
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
            },
            360,
        ),
        ({"x-ratelimit-reset-tokens": "1s", "x-ratelimit-remaining-tokens": "7"}, None),
        ({"x-ratelimit-reset": "1795004830000", "x-ratelimit-remaining": "0"}, 30),
        ({"x-ratelimit-reset": "1795004830"}, 30),
        ({"x-ratelimit-reset": "45"}, 45),
        ({"x-ratelimit-reset-tokens": "-1s"}, None),
        ({"x-ratelimit-reset-tokens": "later"}, None),
        ({"retry-after": "4", "x-ratelimit-reset-tokens": "9s"}, 4),
        ({"retry-after": "0", "x-ratelimit-reset-tokens": "9s"}, 9),
    ],
)
def test_headers(headers: dict[str, str], expected: float | None) -> None:
    assert final_stop_reason(headers) == expected


def test_a_hint_of_more_than_a_month_is_none() -> None:
    assert final_stop_reason({"retry-after": str(32 * 86400)}) == 32 * 86400
    assert final_stop_reason({"retry-after": str(32 * 86400 + 1)}) is None


def test_buckets_of_an_overload() -> None:
    assert final_stop_reason({"x-ratelimit-reset-tokens": "9s"}, Failed(529, "overloaded", "busy")) == 9


def test_buckets_speak_of_limits_only() -> None:
    assert final_stop_reason({"x-ratelimit-reset-tokens": "9s"}, Failed(500, "server", "boom")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5s", 1.5), ("30s", 30), ("12ms", 0.012), ("6m0s", 360), ("1h2m3s", 3723), ("1m2.5s", 62.5), ("20 seconds", 20),
        ("1 hour and 20 minutes", 4800), ("2 days", 172800), ("5", None), ("", None), ("s", None), ("1x", None), ("5 months", None),
        ("1 second, 500 milliseconds", 1.5), ("-1s", None), ("1s" * 100_000 + "x", None), ("1s" * 100_000, None),
    ],
)  # fmt: skip
def test_durations(text: str, expected: float | None) -> None:
    assert seconds_of(text) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Rate limit reached for gpt-5 in organization org-1 on tokens per min (TPM): Limit 10000, Used 9500, Requested 800. "
         "Please try again in 1.8s. Visit https://example.com to learn more.", 1.8),
        ("Please retry in 33.546789s.", 33.546789), ("Your quota will reset after 1h2m3s.", 3723),
        ("Try again in 20 seconds", 20), ("You can retry after 60 seconds", 60), ("Wait 15 minutes before you go on.", 900),
        ("try again in 12ms", 0.012), ("The model will be available in about 30 seconds", 30), ("Resets in 2 hours", 7200),
        ("Limit of 5 requests per 60 seconds; retry later", None), ("try again", None), ("retry in a while", None),
        ("retry in 5 months", None), ("after 3 attempts", None), ("Try again later. 30s is our limit", None),
        ("try again in " + "9" * 4000 + "s", None), ("Support is available 24 h a day", None), ("It resets 5 m south", None),
        ("Retry after: 30s", 30), ("Available again in 2 min", 120), ("wait for about 30 seconds", 30),
    ],
)  # fmt: skip
def test_sentences(sentence: str, expected: float | None) -> None:
    assert seconds_in(sentence) == expected


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}


def quota(name: str) -> dict[str, Any]:
    violation = {"quotaMetric": "generativelanguage.googleapis.com/requests", "quotaId": name}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def google(message: str = "You exceeded your current quota.", *details: Any, code: int = 429) -> dict[str, Any]:
    status = {429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 400: "INVALID_ARGUMENT"}[code]
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


PER_DAY, PER_MINUTE = quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), quota("RequestsPerMinutePerProject")
INVALID = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}


def error(**members: Any) -> dict[str, Any]:
    return {"error": {"message": "no", **members}}


@pytest.mark.parametrize(
    ("form", "status", "body", "kind", "seconds"),
    [
        ("gemini", 429, google("no", RETRY_INFO), "rate_limit", 34.5),
        ("gemini", 429, google("no", PER_DAY, RETRY_INFO), "rate_limit", 34.5),
        ("gemini", 429, google("no", PER_DAY), "billing", None),
        ("gemini", 429, google("You exceeded your current quota.", PER_MINUTE), "rate_limit", None),
        ("gemini", 429, google("Please retry in 3.5s."), "rate_limit", 3.5),
        ("gemini", 429, [google("no", RETRY_INFO)], "rate_limit", 34.5),
        ("gemini", 402, {"error": {"code": 402, "message": "no", "status": "RESOURCE_EXHAUSTED"}}, "billing", None),
        ("gemini", 503, google("overloaded, try again in 5s", code=503), "overloaded", 5),
        ("gemini", 400, google("API key not valid. Please pass a valid API key.", INVALID, code=400), "auth", None),
        ("gemini", 400, google("API key expired. Please renew the API key.", code=400), "auth", None),
        ("gemini", 400, google("contents: at least one is needed", code=400), "bad_request", None),
        ("openai-chat", 400, [google("API key not valid.", INVALID, code=400)], "auth", None),
        ("openai-chat", 429, [google("You exceeded your current quota.", RETRY_INFO)], "rate_limit", 34.5),
        ("openai-chat", 429, error(code="insufficient_quota", type="insufficient_quota"), "billing", None),
        ("openai-chat", 429, error(code="credit_balance_exhausted"), "billing", None),
        ("openai-chat", 429, error(code="rate_limit_exceeded"), "rate_limit", None),
        ("openai-chat", 429, error(message="Please try again in 6m0s.", code="rate_limit_exceeded"), "rate_limit", 360),
        ("openai-chat", 429, error(message="You exceeded your current quota, please check your plan"), "billing", None),
        ("openai-chat", 402, error(message="Insufficient Balance"), "billing", None),
        ("openai-chat", 403, error(message="Insufficient credits, add more"), "billing", None),
        ("openai-chat", 403, error(message="Country not supported"), "permission", None),
        ("openai-chat", 400, {"code": "invalid", "error": "Incorrect API key provided: sk-x"}, "auth", None),
        ("openai-chat", 429, "Too many requests, try again in 7 seconds", "rate_limit", 7),
        ("openai-responses", 429, error(type="usage_limit_reached", resets_in_seconds=120), "rate_limit", 120),
        ("openai-responses", 429, error(type="usage_limit_reached", resets_at=NOW + 60), "rate_limit", 60),
        ("openai-responses", 429, error(type="usage_limit_reached", resets_at="soon"), "billing", None),
        ("openai-responses", 429, error(type="usage_limit_reached", resets_in_seconds=True), "billing", None),
        ("openai-responses", 429, error(resets_at=NOW - 60), "rate_limit", None),
        ("openai-responses", 503, error(code="server_is_overloaded"), "overloaded", None),
        ("openai-chat", 503, error(type="server_error", message="try again in 3s"), "overloaded", 3),
        ("anthropic", 529, error(type="api_error", message="try again in 3s"), "overloaded", 3),
        ("anthropic", 429, error(type="invalid_request_error", message="try again in 3s"), "rate_limit", 3),
        ("anthropic", 429, error(type="invalid_request_error", message="insufficient credits"), "billing", None),
        ("gemini", 429, {"error": {"message": "Please retry in 3s."}}, "rate_limit", 3),
        ("gemini", 404, google("no", code=503), "not_found", None),
        ("openai-chat", 500, error(type="overloaded_error"), "overloaded", None),
        ("openai-chat", 504, error(code="server_error"), "timeout", None),
        ("anthropic", 429, error(type="rate_limit_error"), "rate_limit", None),
        ("anthropic", 529, error(type="overloaded_error"), "overloaded", None),
        ("anthropic", 400, error(type="invalid_request_error", message="Your credit balance is too low to access"),
         "billing", None),
        ("anthropic", 400, error(type="invalid_request_error",
                                 message="You have reached your specified API usage limits."), "billing", None),
        ("anthropic", 400, error(type="invalid_request_error", message="max_tokens: retry after 5 seconds"),
         "bad_request", None),
        ("anthropic", 402, error(type="billing_error"), "billing", None),
        ("openai-chat", 400, error(message="Billing hard limit has been reached"), "billing", None),
        ("anthropic", 401, error(type="authentication_error", message="invalid x-api-key"), "auth", None),
        ("anthropic", 403, error(type="permission_error"), "permission", None),
    ],
)  # fmt: skip
def test_error_bodies(form: str, status: int, body: Any, kind: str, seconds: float | None) -> None:
    failed = failures.read_error(status, body)
    assert failed.kind == kind
    assert final_stop_reason({}, failed) == seconds


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "body", [None, "", [], [[]], {}, {"error": None}, {"error": []}, {"error": {"details": "x"}}, {"error": {"details": [5]}},
             {"error": {"details": [{"@type": 5, "violations": 7, "retryDelay": {}}], "resets_at": "x"}},
             {"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"violations": 7}, {"violations": [[]]}, {}]}}]
)  # fmt: skip
def test_no_error_body_is_too_odd(form: str, body: Any) -> None:
    assert failures.read_error(429, body).kind in ("rate_limit", "billing")
