"""Counting tokens: by the upstream where it can, else by an estimate; always with an answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import (
    ask,
    behind,
    http,
    proxy,
    upstream,
)

COUNT = {"model": "m", "messages": [{"role": "user", "content": "hello there"}]}


def test_counting_by_the_upstream() -> None:
    with upstream([http(200, {"input_tokens": 41})]) as up, proxy(behind(up, "anthropic")) as served:
        body = {**COUNT, "max_tokens": 5, "stream": True, "metadata": {"user_id": "x"}}
        answer = ask(
            served.port, "/v1/messages/count_tokens?beta=true", body, anthropic_beta="token-counting-2024-11-01"
        )
    assert answer.json == {"input_tokens": 41}
    assert "x-ccproxy-estimate" not in answer.headers
    assert up.seen[0].head.startswith("POST /v1/messages/count_tokens")
    assert up.seen[0].json == COUNT
    assert up.seen[0].header("anthropic-beta") == "token-counting-2024-11-01"


@pytest.mark.parametrize("fault", [http(404, {}), http(500, {}), http(200, b"nope"), b"nonsense\r\n\r\n", "reset"])
def test_counting_always_answers(fault: Any) -> None:
    with upstream([fault]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/messages/count_tokens", COUNT)
    assert (answer.status, answer.headers["x-ccproxy-estimate"]) == (200, "1")
    assert 2 <= answer.json["input_tokens"] <= 12


def test_counting_for_an_upstream_that_cannot() -> None:
    with upstream([http(500, {})]) as up, proxy(behind(up, "openai-chat")) as served:
        small = ask(served.port, "/v1/messages/count_tokens", COUNT).json["input_tokens"]
        tool = {
            "name": "look_up",
            "description": "Looks up a word in the dictionary.",
            "input_schema": {"type": "object"},
        }
        call = {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "look_up", "input": {"word": "x" * 50}}],
        }
        result = {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": "a long result " * 20}],
        }
        image = {
            "role": "user",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}],
        }
        grown = small
        for more in (
            {"system": "Be brief. " * 10},
            {"tools": [tool]},
            {"messages": [*COUNT["messages"], call]},
            {"messages": [*COUNT["messages"], call, result]},
            {"messages": [image]},
        ):
            count = ask(served.port, "/v1/messages/count_tokens", {**COUNT, **more}).json["input_tokens"]
            assert count > small + 5, more
            grown = max(grown, count)
    assert up.seen == []


@pytest.mark.parametrize("what", ["strict", "audio"])
def test_what_a_message_would_be_rejected_for_is_counted(what: str) -> None:
    """Also where the message itself would be rejected."""
    sound = {"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}
    text = {"text": "hi"}
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [sound if what == "audio" else text]}]}
    if what == "strict":
        body = {"generateContentRequest": {**body, "model": "models/m", "generationConfig": {"seed": 5}}}
    with upstream([http(200, {"input_tokens": 7})]) as up:
        with proxy({**behind(up, "anthropic"), "strict": True}) as served:
            answer = ask(served.port, "/v1beta/models/m:countTokens", body)
    assert answer.status == 200 and answer.json["totalTokens"] > 0
    assert ("x-ccproxy-estimate" in answer.headers) == (what == "audio")


def test_counting_with_the_clients_own_key() -> None:
    with upstream([http(200, {"input_tokens": 41})]) as up:
        with proxy(behind(up, "anthropic", keys="from-client")) as served:
            answer = ask(served.port, "/v1/messages/count_tokens", COUNT, x_api_key="the-clients-key")
    assert answer.json == {"input_tokens": 41}
    assert up.seen[0].header("x-api-key") == "the-clients-key"
