"""Failing over in the middle of a conversation, as the official SDKs hear it; and a thousand requests with bad keys."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.sdks import anthropic_client, genai_client, openai_client
from tests.services import service, slowly
from tests.support import LAST, STREAM_HEAD, Proxy, Step, ask, behind, gemini_chunk, proxy, sse

SIGNATURE = base64.b64encode(b"a seal of Google's own").decode()
THOUGHTFUL: list[Step] = [
    STREAM_HEAD,
    sse(gemini_chunk({"text": "let me see", "thought": True})),
    sse(gemini_chunk({"text": "The first answer.", "thoughtSignature": SIGNATURE})),
    sse({
        **gemini_chunk({"text": ""}, finishReason="STOP"),
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 2, "totalTokenCount": 9},
    }) + LAST,
]  # fmt: skip
FAULTS = ["500", "429 RetryInfo=30s", "error-event 503", "begins-and-breaks", "empty", "reset", "401", "html"]


@contextlib.contextmanager
def two_services(fault: str) -> Iterator[tuple[Proxy, Any, Any]]:
    """A Gemini service that answers once and then fails, and an Anthropic service behind it."""
    with service("gemini") as (google, up), service("anthropic") as (_, other):
        google.say("", "", ["ok", fault])
        choose = google.choose

        def chosen(seen: Any) -> list[Step]:
            steps = choose(seen)
            return THOUGHTFUL if len(google.calls) == 1 else steps

        up.choose = chosen
        config = {
            "upstreams": {
                "google": {"format": "gemini", "base_url": f"http://127.0.0.1:{up.port}", "keys": ["key-g"]},
                "claude": {"format": "anthropic", "base_url": f"http://127.0.0.1:{other.port}", "keys": ["key-c"]},
            },
            "models": {"some-model": ["google/gemini-3.1-pro", "claude/claude-sonnet-4-5"]},
            "client_keys": ["client-key"],
        }
        with proxy(config) as served:
            yield served, google, other


def check(google: Any, other: Any, fault: str) -> None:
    """Each service was asked as it should be, and nothing of Google's seal reached the other."""
    assert len(google.calls) == (3 if fault == "reset" else 2), (
        "a kept connection that was deleted is opened anew, once"
    )
    assert len(other.seen) == 1
    body = other.seen[0].json
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert SIGNATURE not in json.dumps(body)
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text"]
    assert body["messages"][1]["content"][0]["text"] == "The first answer."


@pytest.mark.parametrize("fault", FAULTS)
def test_the_anthropic_sdk_notices_nothing(fault: str) -> None:
    with two_services(fault) as (served, google, other):
        client = anthropic_client(served)
        turns: list[Any] = [{"role": "user", "content": "first"}]
        thinking = {"type": "enabled", "budget_tokens": 1024}
        texts = []
        for number in range(2):
            asked = {"model": "some-model", "max_tokens": 4096, "messages": turns, "thinking": thinking}
            with client.messages.stream(**asked) as stream:
                message = stream.get_final_message()
            texts.append([block.text for block in message.content if block.type == "text"])
            if number == 0:
                assert message.content[0].type == "thinking" and message.content[0].signature
            turns += [{"role": "assistant", "content": [block.model_dump() for block in message.content]}]
            turns += [{"role": "user", "content": "second"}]
        check(google, other, fault)
    assert texts == [["The first answer."], ["hello"]]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_openai_sdk_notices_nothing(fault: str) -> None:
    with two_services(fault) as (served, google, other):
        client = openai_client(served)
        items: list[Any] = [{"role": "user", "content": "first"}]
        texts = []
        for _ in range(2):
            asked = {"model": "some-model", "input": items, "reasoning": {"effort": "low", "summary": "auto"}}
            with client.responses.stream(**asked, include=["reasoning.encrypted_content"]) as stream:
                for _event in stream:
                    pass
                response = stream.get_final_response()
            texts.append(response.output_text)
            items += [item.model_dump(exclude_none=True) for item in response.output]
            items.append({"role": "user", "content": "second"})
        check(google, other, fault)
    assert texts == ["The first answer.", "hello"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_google_sdk_notices_nothing(fault: str) -> None:
    types = pytest.importorskip("google.genai.types", reason="the google-genai SDK is not installed")
    with two_services(fault) as (served, google, other):
        models = genai_client(served).models
        turns = [types.Content(role="user", parts=[types.Part(text="first")])]
        config = types.GenerateContentConfig(thinking_config={"include_thoughts": True})
        texts = []
        for _ in range(2):
            chunks = list(models.generate_content_stream(model="some-model", contents=turns, config=config))
            parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
            texts.append("".join(part.text for part in parts if part.text and not part.thought))
            turns += [chunk.candidates[0].content for chunk in chunks]
            turns.append(types.Content(role="user", parts=[types.Part(text="second")]))
        check(google, other, fault)
    assert texts == ["The first answer.", "hello"]


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_the_sdks_take_keep_alives_before_and_in_a_stream(kind: str) -> None:
    """A slow service: the head goes out early, and the SDK waits on."""
    with service("openai-chat") as (scripted, up):
        slowly(scripted, up, 0.7)
        with proxy({**behind(up, "openai-chat"), "client_keys": ["client-key"], "keepalive_s": 0.05}) as served:
            if kind == "anthropic":
                asked = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
                with anthropic_client(served).messages.stream(**asked) as stream:
                    assert stream.get_final_text() == "hello"
            else:
                with openai_client(served).responses.stream(model="m", input="hi") as responses:
                    assert responses.get_final_response().output_text == "hello"
                chunks = openai_client(served).chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "hi"}], stream=True
                )
                assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello"


def test_the_google_sdk_takes_keep_alives() -> None:
    pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")
    with service("anthropic") as (scripted, up):
        slowly(scripted, up, 0.7)
        with proxy({**behind(up, "anthropic"), "client_keys": ["client-key"], "keepalive_s": 0.05}) as served:
            chunks = list(genai_client(served).models.generate_content_stream(model="m", contents="hi"))
    assert "".join(part.text for chunk in chunks for part in chunk.candidates[0].content.parts if part.text) == "hello"


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_thousand_requests_with_two_bad_keys(stream: bool) -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("r", "", ["401"])
        scripted.say("s", "", ["402"])
        keys = ["key-r", "key-s", "key-t"]
        body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        statuses: Counter[int] = Counter()
        with proxy({**behind(up, "anthropic", keys=keys)}) as served:

            def some() -> None:
                for _ in range(125):
                    answer = ask(served.port, "/v1/messages", body)
                    statuses[answer.status] += b"hello" in answer.body

            threads = [threading.Thread(target=some) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            shown = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
    assert statuses == {200: 1000}
    calls = Counter(scripted.calls)
    assert calls["t"] == 1000 and calls["r"] <= 8 and calls["s"] <= 8
    assert [[cooldown["reason"] for cooldown in key["cooldowns"]] for key in shown] == [
        ["invalid_key"],
        ["quota_exceeded"],
        [],
    ]
