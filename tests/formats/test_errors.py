"""Failures in every dialect: status, type and words, and back again."""

from __future__ import annotations

import pytest

from ccproxy_lite.errors import STATUS, Kind
from ccproxy_lite.formats import FORMATS, failures
from ccproxy_lite.formats.neutral.events import Failed

SAID: dict[Kind, dict[str, tuple[int, str]]] = {
    "bad_request": {"anthropic": (400, "invalid_request_error"), "openai": (400, "invalid_request_error"), "gemini": (400, "INVALID_ARGUMENT")},
    "auth": {"anthropic": (401, "authentication_error"), "openai": (401, "invalid_api_key"), "gemini": (401, "UNAUTHENTICATED")},
    "billing": {"anthropic": (402, "billing_error"), "openai": (429, "insufficient_quota"), "gemini": (429, "RESOURCE_EXHAUSTED")},
    "permission": {"anthropic": (403, "permission_error"), "openai": (403, "invalid_request_error"), "gemini": (403, "PERMISSION_DENIED")},
    "not_found": {"anthropic": (404, "not_found_error"), "openai": (404, "model_not_found"), "gemini": (404, "NOT_FOUND")},
    "too_large": {"anthropic": (413, "request_too_large"), "openai": (413, "invalid_request_error"), "gemini": (400, "INVALID_ARGUMENT")},
    "rate_limit": {"anthropic": (429, "rate_limit_error"), "openai": (429, "rate_limit_exceeded"), "gemini": (429, "RESOURCE_EXHAUSTED")},
    "overloaded": {"anthropic": (529, "overloaded_error"), "openai": (503, "server_is_overloaded"), "gemini": (503, "UNAVAILABLE")},
    "timeout": {"anthropic": (504, "timeout_error"), "openai": (504, "server_error"), "gemini": (504, "DEADLINE_EXCEEDED")},
    "server": {"anthropic": (500, "api_error"), "openai": (500, "server_error"), "gemini": (500, "INTERNAL")},
}  # fmt: skip
"""By kind and dialect: the status, and the word that clients look at."""
READ_AS: dict[tuple[str, Kind], Kind] = {("gemini", "billing"): "rate_limit", ("gemini", "too_large"): "bad_request"}
"""Google has one word for two things."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", SAID)
def test_a_failure_keeps_its_meaning(form: str, kind: Kind) -> None:
    status, word = SAID[kind][form.partition("-")[0]]
    told, body = FORMATS[form].write_error(Failed(STATUS[kind], kind, "the model's words"))
    error = body["error"]
    assert (told, error["message"]) == (status, "the model's words")
    assert word in (error.get("type"), error.get("code"), error.get("status"))
    back = failures.read_error(told, body)
    assert (back.kind, back.message) == (READ_AS.get((form, kind), kind), "the model's words")


@pytest.mark.parametrize("form", FORMATS)
def test_a_prompt_that_is_too_long_is_said_in_the_words_that_clients_look_for(form: str) -> None:
    said = {
        "anthropic": ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"}}),
        "openai": ("openai-chat", 400, {"error": {"code": "context_length_exceeded", "message": "too many"}}),
        "gemini": ("gemini", 400, {"error": {"code": 400, "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).", "status": "INVALID_ARGUMENT"}}),
    }  # fmt: skip
    for upstream, status, body in said.values():
        _, told = FORMATS[form].write_error(failures.read_error(status, body))
        if form == "anthropic":
            assert told["error"]["message"].startswith("prompt is too long")
        elif form.startswith("openai"):
            assert told["error"]["code"] == "context_length_exceeded"
        else:
            assert "maximum number of tokens allowed" in told["error"]["message"]
        assert FORMATS[form].is_own_error(400, told)
        assert FORMATS[form].is_own_error(400, body) == (upstream.partition("-")[0] == form.partition("-")[0])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "body", ["", "<html>busy</html>", None, [], {}, {"error": None}, {"error": "busy"}, {"message": "busy"}]
)
def test_any_body_is_an_error(form: str, body: object) -> None:
    failed = failures.read_error(503, body)
    assert (failed.status, failed.kind) == (503, "overloaded")
    assert failed.message
