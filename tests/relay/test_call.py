"""What a client's request says of its session, in the order that counts; and the paths that name one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services import service
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    GEMINI_ASK,
    RESPONSES_ASK,
    ask,
    behind,
    connect,
    proxy,
    read_answer,
    request_bytes,
)

HEADERS = ["x-claude-code-session-id", "session-id", "x-session-id", "x-session-affinity"]


def test_a_header_with_an_underscore() -> None:
    """As some versions of Codex write it."""
    with service("openai-chat") as (scripted, up):
        with proxy(behind(up, "openai-chat", keys=["key-a", "key-b"])) as served, connect(served.port) as sock:
            for _ in range(3):
                sock.sendall(
                    request_bytes("/v1/chat/completions", CHAT_ASK).replace(b"Host:", b"session_id: s\r\nHost:")
                )
                assert read_answer(sock).status == 200
    assert scripted.calls == ["a", "a", "a"]


@pytest.mark.parametrize("place", [*HEADERS, "path", "prompt_cache_key", "conversation", "user", "metadata"])
def test_every_place_keeps_a_session_on_its_key(place: str) -> None:
    """Two sessions take turns; each finds its own key again."""
    with service("openai-chat") as (scripted, up):
        keys = ["key-a", "key-b", "key-c"]
        with proxy(behind(up, "openai-chat", keys=keys)) as served:
            for session in ("one", "two", "one", "one", "two"):
                headers = {place.replace("-", "_"): session} if place in HEADERS else {}
                path = f"/{session}/v1/chat/completions" if place == "path" else "/v1/chat/completions"
                named: Any = {"session_id": session} if place == "metadata" else session
                body = {**CHAT_ASK, **({place: named} if place not in (*HEADERS, "path") else {})}
                assert ask(served.port, path, body, **headers).status == 200
    assert scripted.calls == ["a", "b", "a", "a", "b"]


def test_the_first_place_counts() -> None:
    order = ["path", *HEADERS, "prompt_cache_key"]
    with service("openai-chat") as (scripted, up):
        with proxy(behind(up, "openai-chat", keys=["key-a", "key-b"])) as served:
            assert ask(served.port, "/the-one/v1/chat/completions", CHAT_ASK).status == 200
            for first in range(len(order)):
                places = order[first:]
                headers = {name.replace("-", "_"): f"s{number}" for number, name in enumerate(order)
                           if name in places and name in HEADERS}  # fmt: skip
                headers = {name: "the-one" if number == 0 and first > 0 else value
                           for number, (name, value) in enumerate(headers.items())}  # fmt: skip
                body = {**CHAT_ASK, "prompt_cache_key": "the-one" if places == ["prompt_cache_key"] else "other"}
                path = "/the-one/v1/chat/completions" if first == 0 else "/v1/chat/completions"
                assert ask(served.port, path, body, **headers).status == 200
    assert set(scripted.calls) == {"a"}


PATHS = [
    ("/s-1/v1/messages", ANTHROPIC_ASK),
    ("/s-1/v1/messages/count_tokens", {"model": "m", "messages": ANTHROPIC_ASK["messages"]}),
    ("/s-1/v1/chat/completions", CHAT_ASK),
    ("/s-1/v1/responses", RESPONSES_ASK),
    ("/s-1/v1beta/models/m:generateContent", GEMINI_ASK),
    ("/s-1/v1/models/m:generateContent", GEMINI_ASK),
    ("/api/provider/up/s-1/v1/messages", ANTHROPIC_ASK),
    ("/user@host:1/v1/messages", ANTHROPIC_ASK),
]


@pytest.mark.parametrize(("path", "body"), PATHS, ids=[path for path, _ in PATHS])
def test_every_client_endpoint_takes_a_session(path: str, body: Any) -> None:
    with service("openai-chat") as (_, up), proxy(behind(up, "openai-chat")) as served:
        assert ask(served.port, path, body).status == 200
        sessions = ask(served.port, "/status", method="GET").json["sessions"]
    assert sessions == (0 if "count" in path else 1)


def test_models_below_a_session() -> None:
    with service("openai-chat") as (_, up), proxy(behind(up, "openai-chat", models=["m"])) as served:
        assert ask(served.port, "/s-1/v1/models", method="GET").json["data"][0]["id"] == "m"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/v1/messages", "/../v1/messages", "/./v1/messages", "/a/b/v1/messages", "/a%2Fb/v1/messages", "/../v1/messages/x",
        "/s/v2/messages", "/api/v1/messages", "/" + "s" * 257 + "/v1/messages", "/a b/v1/messages".replace(" ", "%20"),
    ],
)  # fmt: skip
def test_paths_that_name_no_session(path: str) -> None:
    with service("openai-chat") as (_, up), proxy(behind(up, "openai-chat")) as served:
        assert ask(served.port, path, ANTHROPIC_ASK).status == 404
