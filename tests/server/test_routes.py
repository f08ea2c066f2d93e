"""Every row of ``ccproxy-lite help routes``, asked for on a real socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ccproxy_lite.server.paths import routes
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    ECHO,
    GEMINI_ASK,
    RESPONSES_ASK,
    RESPONSES_BODY,
    Answer,
    ask,
    http,
    proxy,
    upstream,
)

Check = Callable[[int], None]


def posted(path: str, body: Any, member: str, **headers: str) -> Check:
    """A POST is answered with JSON that has a member."""

    def check(port: int) -> None:
        answer = ask(port, path, body, **headers)
        assert answer.status == 200 and member in answer.json, answer

    return check


def streamed(path: str, body: Any) -> Check:
    def check(port: int) -> None:
        events = ask(port, f"{path}?alt=sse", body)
        array = ask(port, path, body)
        assert events.headers["content-type"].startswith("text/event-stream") and b"data: {" in events.body
        assert isinstance(array.json, list) and array.json

    return check


def got(path: str, good: Callable[[Answer], bool], method: str = "GET", **headers: str) -> Check:
    def check(port: int) -> None:
        answer = ask(port, path, None, method, **headers)
        assert good(answer), answer

    return check


def both(*checks: Check) -> Check:
    def check(port: int) -> None:
        for one in checks:
            one(port)

    return check


def mounted(port: int) -> None:
    assert ask(port, "/own/service", b"x", "PUT").json["service"] is True


def untouched(port: int) -> None:
    for path in ("/v1/embeddings", "/v1beta/cachedContents", "/v1alpha/anything", "/upload/v1beta/files"):
        answer = ask(port, path, {})
        assert (answer.status, answer.json["service"]) == (200, True), answer


def is_list(answer: Answer) -> bool:
    return answer.status == 200 and answer.json["object"] == "list"


def is_ok(answer: Answer) -> bool:
    return answer.status == 200


GEMINI = "/v1beta/models/m"
CHECKS: dict[str, Check] = {
    "POST /v1/messages": posted("/v1/messages", ANTHROPIC_ASK, "stop_reason"),
    "POST /v1/messages/count_tokens": posted("/v1/messages/count_tokens", ANTHROPIC_ASK, "input_tokens"),
    "POST /v1/responses": posted("/v1/responses", RESPONSES_ASK, "output"),
    "POST /v1/responses/input_tokens": posted("/v1/responses/input_tokens", RESPONSES_ASK, "input_tokens"),
    "POST /v1/responses/compact": lambda port: _compact(port),
    "GET|DELETE /v1/responses/{id}": both(
        got("/api/provider/service/v1/responses/resp_1", lambda answer: answer.json["service"] is True),
        got("/api/provider/service/v1/responses/resp_1", lambda answer: answer.json["service"] is True, "DELETE"),
    ),
    "GET /v1/responses/{id}/input_items": got(
        "/api/provider/service/v1/responses/resp_1/input_items", lambda answer: answer.json["service"] is True
    ),
    "GET /v1/responses (WebSocket)": got("/v1/responses", lambda answer: answer.status == 426, upgrade="websocket"),
    "POST /v1/chat/completions": posted("/v1/chat/completions", CHAT_ASK, "choices"),
    "POST /v1beta/models/{model}:generateContent": both(
        posted(f"{GEMINI}:generateContent", GEMINI_ASK, "candidates"),
        posted("/v1/models/m:generateContent", GEMINI_ASK, "candidates"),
    ),
    "POST /v1beta/models/{model}:streamGenerateContent": streamed(f"{GEMINI}:streamGenerateContent", GEMINI_ASK),
    "POST /v1beta/models/{model}:countTokens": posted(f"{GEMINI}:countTokens", GEMINI_ASK, "totalTokens"),
    "POST /v1beta1/publishers/google/models/{model}:...": both(
        posted("/v1beta1/publishers/google/models/m:generateContent", GEMINI_ASK, "candidates"),
        posted("/v1beta1/projects/p/locations/l/publishers/google/models/m:countTokens", GEMINI_ASK, "totalTokens"),
    ),
    "POST /v1/completions": posted("/v1/completions", {"model": "m", "prompt": "hi"}, "choices"),
    "GET /v1/models": both(
        got("/v1/models", is_list),
        got("/v1/models", lambda answer: "has_more" in answer.json, anthropic_version="2023-06-01"),
        got("/v1/models", lambda answer: "models" in answer.json, x_goog_api_client="genai"),
    ),
    "GET /v1/models/{id}": got("/v1/models/echo", lambda answer: answer.json["id"] == "echo"),
    "GET /v1beta/models": both(
        got("/v1beta/models", lambda answer: "models" in answer.json),
        got("/v1beta/models/echo", lambda answer: answer.json["name"] == "models/echo"),
    ),
    "GET|HEAD /": both(
        got("/", is_ok), got("/", is_ok, "HEAD"), got("/", lambda answer: b"<html" in answer.body, accept="text/html")
    ),
    "GET|HEAD /healthz": both(got("/healthz", is_ok), got("/healthz", is_ok, "HEAD")),
    "GET|HEAD|POST /status": both(
        got("/status", lambda answer: "upstreams" in answer.json),
        got("/status", is_ok, "HEAD"),
        posted("/status", {"reset": "all"}, "cleared"),
    ),
    "GET|HEAD /metrics": both(
        got("/metrics", lambda answer: b"ccproxy_info" in answer.body), got("/metrics", is_ok, "HEAD")
    ),
    "GET|HEAD /api/hello": both(got("/api/hello", is_ok), got("/api/hello", is_ok, "HEAD")),
    "/api/provider/{upstream}/...": both(
        posted("/api/provider/echo/v1/messages", ANTHROPIC_ASK, "stop_reason"),
        posted("/api/provider/openai/chat/completions", CHAT_ASK, "choices"),
        got("/api/provider/google/models", lambda answer: "models" in answer.json),
    ),
    "/{session}/v1/...": posted("/my-session/v1/messages", ANTHROPIC_ASK, "stop_reason"),
    "mounts of the configuration": mounted,
    "anything else below /v1/, /v1beta/, /v1alpha/, /upload/v1beta/": untouched,
}


def _compact(port: int) -> None:
    assert ask(port, "/v1/responses/compact", RESPONSES_ASK).status == 404  # the echo has none
    assert ask(port, "/api/provider/service/v1/responses/compact", RESPONSES_ASK).json["service"] is True


def test_every_row_is_checked() -> None:
    assert [path for path, _ in routes()] == list(CHECKS)
    assert all(about for _, about in routes())


@pytest.mark.parametrize("path", CHECKS)
def test_a_row(path: str) -> None:
    """An echo for the formats, and a service that only has what they do not know."""
    with upstream([http(200, {**RESPONSES_BODY, "service": True})]) as up:
        service = {
            "format": "openai-responses",
            "base_url": f"http://127.0.0.1:{up.port}/v1",
            "keys": ["upstream-key-one"],
        }
        google = {"format": "gemini", "base_url": f"http://127.0.0.1:{up.port}", "keys": ["upstream-key-one"]}
        upstreams = {
            **ECHO["upstreams"],
            "service": {**service, "models": ["x"]},
            "google": {**google, "models": ["y"]},
        }
        mounts = {"/own/": {"to": f"http://127.0.0.1:{up.port}"}}
        if path.startswith("anything else"):
            upstreams = dict(reversed(upstreams.items()))
        with proxy({"upstreams": upstreams, "mounts": mounts}) as served:
            CHECKS[path](served.port)
