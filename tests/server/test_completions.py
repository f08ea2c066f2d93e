"""Legacy text completions: through the neutral model to every upstream, untouched to one that has the endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import (
    CHAT_BODY,
    CHAT_STREAM,
    ECHO,
    LAST,
    RESET,
    STREAM_HEAD,
    WIRES,
    Answer,
    ask,
    behind,
    http,
    proxy,
    sse,
    upstream,
)

ASK = {"model": "m", "prompt": "hi"}
COMPLETION = {
    "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m",
    "choices": [{"text": " there", "index": 0, "logprobs": None, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip


def chunk(text: str, finish: str | None = None) -> bytes:
    return sse(
        {
            **COMPLETION,
            "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}],
            "usage": None,
        }
    )


def chunks_of(answer: Answer) -> list[Any]:
    assert answer.headers["content-type"].startswith("text/event-stream"), answer
    lines = [line[6:] for line in answer.body.decode().split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/completions", "/api/provider/up/v1/completions", "/s1/v1/completions"]
)
@pytest.mark.parametrize("form", WIRES)
def test_an_answer_of_any_upstream(form: str, path: str) -> None:
    with upstream([http(200, WIRES[form].body)]) as up, proxy(behind(up, form)) as served:
        answer = ask(served.port, path, {**ASK, "max_tokens": 50})
    assert answer.status == 200, answer
    choice = {"text": "hello", "index": 0, "logprobs": None, "finish_reason": "stop"}
    assert (answer.json["object"], answer.json["choices"], answer.json["id"][:5]) == (
        "text_completion",
        [choice],
        "cmpl-",
    )
    assert (answer.json["usage"]["prompt_tokens"], answer.json["usage"]["completion_tokens"]) == (3, 1)
    assert "hi" in up.seen[0].body.decode()


@pytest.mark.parametrize("form", WIRES)
def test_a_stream_of_any_upstream(form: str) -> None:
    with upstream(WIRES[form].stream) as up, proxy(behind(up, form)) as served:
        answer = ask(served.port, "/v1/completions", {**ASK, "stream": True, "stream_options": {"include_usage": True}})
    chunks = chunks_of(answer)
    assert "".join(choice["text"] for one in chunks for choice in one["choices"]) == "hello"
    assert [one["choices"][0]["finish_reason"] for one in chunks if one["choices"]][-1] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 1)
    assert {one["object"] for one in chunks} == {"text_completion"}


def test_without_being_asked_for_usage_a_stream_has_none() -> None:
    with upstream(CHAT_STREAM) as up, proxy(behind(up, "openai-chat")) as served:
        assert all(
            "usage" not in one for one in chunks_of(ask(served.port, "/v1/completions", {**ASK, "stream": True}))
        )


def test_a_chat_service_gets_its_own_parameters() -> None:
    asked = {
        "prompt": ["hi"],
        "temperature": 0.5,
        "stop": ["\n"],
        "max_tokens": 7,
        "seed": 1,
        "logit_bias": {"1": 2},
        "min_p": 0.1,
        "user": "u",
        "n": 1,
        "best_of": 1,
    }
    with upstream([http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, "/v1/completions", {"model": "m", **asked}, x_ccproxy_strict="1")
    assert (answer.status, "x-ccproxy-dropped" in answer.headers) == (200, False), answer
    assert up.seen[0].json == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "stop": ["\n"], "max_tokens": 7, "seed": 1,
        "logit_bias": {"1": 2}, "min_p": 0.1, "user": "u", "n": 1,
    }  # fmt: skip


def test_what_another_format_has_no_place_for_is_named() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/completions", {**ASK, "seed": 1, "min_p": 0.1})
    assert answer.headers["x-ccproxy-dropped"] == "min_p, seed"


@pytest.mark.parametrize("stream", [False, True])
def test_echo(stream: bool) -> None:
    with upstream(CHAT_STREAM if stream else [http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, "/v1/completions", {**ASK, "echo": True, "stream": stream})
    texts = [one["choices"][0]["text"] for one in (chunks_of(answer) if stream else [answer.json])]
    assert "".join(texts) == "hihello"
    assert "echo" not in up.seen[0].json


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"suffix": "}"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"n": 2}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 5}, "logprobs"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"echo": "yes"}, "echo"),
        ({"suffix": 1}, "suffix"),
    ],
)
def test_what_is_rejected_by_name(asked: dict[str, Any], param: str) -> None:
    with upstream([http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, "/v1/completions", {**ASK, **asked})
    assert (answer.status, answer.json["error"]["param"], up.seen) == (400, param, [])


def test_a_failing_upstream_is_an_error_of_the_clients_format() -> None:
    failed = {"type": "error", "error": {"type": "invalid_request_error", "message": "too odd"}}
    with upstream([http(400, failed)]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/completions", ASK)
    assert (answer.status, answer.json["error"]["message"]) == (400, "too odd")


def test_a_stream_that_breaks_off_is_an_error() -> None:
    with upstream([STREAM_HEAD, *CHAT_STREAM[1:2], RESET]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, "/v1/completions", {**ASK, "stream": True})
    events = [line[6:] for line in answer.body.decode().split("\n") if line.startswith("data: ")]
    assert "error" in json.loads(events[-1]) and "[DONE]" not in events


def test_the_echo_answers() -> None:
    with proxy(ECHO) as served:
        assert ask(served.port, "/v1/completions", ASK).json["choices"][0]["text"] == "hi"


# ---------------------------------------------------------------- an upstream that has the endpoint


def test_it_goes_untouched_where_the_upstream_has_it() -> None:
    body = b'{"model":"fim","prompt":[1,2], "suffix":"}","n":2,"logprobs":0 }'
    with upstream([http(200, {**COMPLETION, "extra": 1.0})]) as up:
        config = {**behind(up, "openai-chat", quirks=["completions"]), "models": {"fim": "up/codestral"}}
        with proxy(config) as served:
            answer = ask(served.port, "/v1/completions", body)
    (seen,) = up.seen
    assert (answer.status, answer.json) == (200, {**COMPLETION, "extra": 1.0})
    assert (seen.body, seen.head.split(" ")[1]) == (body.replace(b'"fim"', b'"codestral"'), "/v1/completions")


def test_a_stream_of_it_is_relayed_event_by_event() -> None:
    events = [chunk(" the"), chunk("re"), chunk("", "stop") + sse("[DONE]") + LAST]
    with upstream([STREAM_HEAD, *events]) as up, proxy(behind(up, "openai-chat", quirks=["completions"])) as served:
        answer = ask(served.port, "/v1/completions", {**ASK, "stream": True})
        status = ask(served.port, "/status", method="GET").json
    assert [one["choices"][0]["text"] for one in chunks_of(answer)] == [" the", "re", ""]
    assert status["upstreams"]["up"]["keys"][0]["last"] == "ok"


def test_its_content_is_not_waited_for_to_the_end() -> None:
    """A stream that was begun can no longer fail over, and its failure is told inside it."""
    with (
        upstream([STREAM_HEAD, chunk(" the"), RESET]) as up,
        proxy(behind(up, "openai-chat", quirks=["completions"])) as served,
    ):
        answer = ask(served.port, "/v1/completions", {**ASK, "stream": True})
    assert (answer.status, len(up.seen), b'" the"' in answer.body, b'"error"' in answer.body) == (200, 1, True, True)


def test_a_whole_answer_to_a_stream_becomes_one() -> None:
    with upstream([http(200, COMPLETION)]) as up, proxy(behind(up, "openai-chat", quirks=["completions"])) as served:
        answer = ask(served.port, "/v1/completions", {**ASK, "stream": True})
    chunks = chunks_of(answer)
    assert "".join(one["choices"][0]["text"] for one in chunks) == " there"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_stream_to_whom_asked_for_a_whole_answer() -> None:
    events = [chunk(" the"), chunk("re"), chunk("", "length") + sse("[DONE]") + LAST]
    with upstream([STREAM_HEAD, *events]) as up, proxy(behind(up, "openai-chat", quirks=["completions"])) as served:
        answer = ask(served.port, "/v1/completions", ASK)
    assert answer.json["choices"] == [{"text": " there", "index": 0, "logprobs": None, "finish_reason": "length"}]
