"""What clouds answer beside answers: broken frames, exceptions in a stream, filters, errors of every shape."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clouds import KEY, Plain, Refused, Request, Sky, bedrock_runtime, clouds, frame, framed
from tests.support import Answer, ask, eventually, proxy

pytest.importorskip("trustme", reason="trustme is not installed")
pytest.importorskip("botocore", reason="botocore is not installed: it judges signatures")

CLIENTS = {"anthropic": "/v1/messages", "openai-chat": "/v1/chat/completions"}


@pytest.fixture(scope="module")
def sky() -> Iterator[Sky]:
    with clouds() as made:
        yield made


def entry(sky: Sky, kind: str = "anthropic", **more: Any) -> dict[str, Any]:
    found = {"format": kind, "keys": [KEY], **sky.reach, "provider": "bedrock", "region": "us-east-1"}
    return {"upstreams": {"up": {**found, **more}}, "retries": 0}


def asked(port: int, client: str = "anthropic", stream: bool = True, text: str = "hello over there") -> Answer:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": text}]}
    return ask(port, CLIENTS[client], body if client == "openai-chat" else {**body, "max_tokens": 99})


def in_frames(change: Callable[[bytes], bytes]) -> Callable[[Request], Plain]:
    """The service's answer with other frames."""

    def script(request: Request) -> Plain:
        plain = bedrock_runtime(request)
        plain.frame = lambda stream: (framed(stream)[0], change(framed(stream)[1]))
        return plain

    return script


def exception(name: str, message: str) -> bytes:
    headers = {":message-type": "exception", ":exception-type": name, ":content-type": "application/json"}
    return frame(headers, json.dumps({"message": message}).encode())


def frames(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at : at + length])
        at += length
    return found


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: flipped(data, len(data) - 60), "the checksum of a frame is wrong"),
        (lambda data: b"".join([*frames(data)[:4], b"HTTP/1.1 500 Internal Server Error\r\n"]), "the checksum of a frame's beginning is wrong"),
        (lambda data: data[:-20], "ended early"),
        (lambda data: b"".join(frames(data)[:4]), "ended early"),
        (lambda data: b"".join([*frames(data)[:4], exception("modelStreamErrorException", "the model broke off")]), "the model broke off"),
    ],
    ids=["checksum", "no frame", "half a frame", "no end", "exception"],
)  # fmt: skip
def test_a_stream_that_breaks_is_told_as_broken(client: str, change: Any, words: str, sky: Sky) -> None:
    with proxy(entry(sky)) as served:
        sky.scripts[:] = [in_frames(change)]
        answer = asked(served.port, client)
    text = answer.body.decode()
    assert answer.status in (200, 500, 502) and words in text, text  # 500: all of it came at once
    assert "error" in text and "message_stop" not in text and "[DONE]" not in text.partition(words)[0]


@pytest.mark.parametrize("client", CLIENTS)
def test_bytes_behind_the_end_are_a_line_in_the_log(client: str, sky: Sky, caplog: pytest.LogCaptureFixture) -> None:
    with proxy(entry(sky)) as served, caplog.at_level(logging.WARNING, logger="ccproxy_lite"):
        sky.scripts[:] = [in_frames(lambda data: data + b"what is this?" * 3)]
        answer = asked(served.port, client)
        assert b"error" not in answer.body and (b"message_stop" in answer.body or b"[DONE]" in answer.body)
        eventually(lambda: any("ignored bytes behind the end" in one.getMessage() for one in caplog.records))
        caplog.clear()
        asked(served.port, client)
        assert not any("ignored bytes" in one.getMessage() for one in caplog.records)


def test_an_exception_before_content_is_a_real_status(sky: Sky) -> None:
    with proxy(entry(sky)) as served:
        sky.scripts[:] = [in_frames(lambda data: exception("throttlingException", "Too many requests"))]
        answer = asked(served.port)
    assert (answer.status, answer.json["error"]["type"]) == (429, "rate_limit_error")


def test_a_whole_answer_in_place_of_a_stream(sky: Sky) -> None:
    """A gateway that does not stream."""

    def script(request: Request) -> Plain:
        plain = bedrock_runtime(request)
        plain.frame, plain.body = None, json.dumps({**json.loads(plain.body), "stream": False}).encode()
        return plain

    with proxy(entry(sky)) as served:
        sky.scripts[:] = [script]
        answer = asked(served.port)
    assert answer.status == 200 and b"message_stop" in answer.body


def refusing(status: int, body: Any, **headers: str) -> Callable[[Request], Plain]:
    def script(request: Request) -> Plain:
        raise Refused(status, body, **headers)

    return script


SHAPES = {
    "anthropic": ({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}, {}),
    "openai": ({"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}, {}),
    "google": ({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}, {}),
    "google in a list": ([{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}], {}),
    "aws": ({"message": "slow down"}, {"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/"}),
    "aws in the body": ({"__type": "com.amazon.coral.service#ThrottlingException", "message": "slow down"}, {}),
    "detail": ({"detail": "slow down"}, {}),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("anthropic", {}),
        ("anthropic", {"provider": "vertex", "project": "p-1", "region": None, "keys": ["cmd:echo ya29.token-0123456789"]}),
        ("openai-chat", {"provider": "azure", "base_url": "https://contoso.openai.azure.com", "region": None}),
        ("gemini", {"provider": "vertex", "project": "p-1", "region": None, "keys": ["cmd:echo ya29.token-0123456789"]}),
    ],
    ids=["bedrock", "vertex claude", "azure", "vertex gemini"],
)  # fmt: skip
def test_an_error_of_any_shape_keeps_its_meaning(
    client: str, shape: str, kind: str, more: dict[str, Any], sky: Sky
) -> None:
    body, headers = SHAPES[shape]
    found = entry(sky, kind, **more)
    found["upstreams"]["up"] = {name: value for name, value in found["upstreams"]["up"].items() if value is not None}
    with proxy({**found, "max_wait_s": 0}) as served:
        sky.scripts[:] = [refusing(429, body, **headers)]
        answer = asked(served.port, client, stream=False)
    sky.scripts.clear()
    assert answer.status == 429 and answer.json["error"]["message"] == "slow down"
    word = answer.json["error"].get("code") or answer.json["error"]["type"]
    assert word in ("rate_limit_error", "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("status", "name", "message", "kind"),
    [
        (403, "AccessDeniedException", "You don't have access to the model with the specified model ID.", "not_found_error"),
        (403, "AccessDeniedException", "User is not authorized to perform bedrock:InvokeModel", "permission_error"),
        (404, "ResourceNotFoundException", "model not found", "not_found_error"),
        (400, "ValidationException", "messages: Field required", "invalid_request_error"),
        (400, "ValidationException", "Input is too long for requested model.", "invalid_request_error"),
        (503, "ServiceUnavailableException", "busy", "overloaded_error"),
        (408, "ModelTimeoutException", "late", "timeout_error"),
        (424, "ModelErrorException", "the model failed", "api_error"),
    ],
)  # fmt: skip
def test_the_errors_of_aws(status: int, name: str, message: str, kind: str, sky: Sky) -> None:
    with proxy(entry(sky)) as served:
        sky.scripts[:] = [refusing(status, {"message": message}, **{"x-amzn-errortype": f"{name}:http://x/"})]
        answer = asked(served.port, stream=False)
    assert answer.json["error"]["type"] == kind and message.rstrip(".") in answer.json["error"]["message"], answer.body
    if "too long" in message:
        assert answer.json["error"]["message"].startswith("prompt is too long")


# ---------------------------------------------------------------- Azure


def azure(sky: Sky, **more: Any) -> dict[str, Any]:
    found = {"format": "openai-chat", "base_url": "https://contoso.openai.azure.com", "keys": [KEY], **sky.reach}
    return {"upstreams": {"up": {**found, **more}}}


@pytest.mark.parametrize("more", [{}, {"api_version": "2024-10-21"}], ids=["v1", "deployments"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_prompt_that_the_filter_refuses(client: str, more: dict[str, Any], sky: Sky) -> None:
    with proxy(azure(sky, **more)) as served:
        answer = asked(served.port, client, text="something wicked")
    assert answer.status == 400 and "The response was filtered" in answer.json["error"]["message"]
    if client == "openai-chat":  # as it came
        assert answer.json["error"]["innererror"]["code"] == "ResponsibleAIPolicyViolation"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_first_chunk_that_only_tells_of_the_filter(client: str, sky: Sky) -> None:
    with proxy(azure(sky)) as served:
        answer = asked(served.port, client)
    assert answer.status == 200 and (b"prompt_filter_results" in answer.body) == (client == "openai-chat")
    assert b'"stop_reason":"end_turn"' in answer.body or b"[DONE]" in answer.body


def test_an_answer_that_the_filter_cuts_off(sky: Sky) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    pieces = [
        {**chunk, "choices": [], "prompt_filter_results": []},
        {**chunk, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "I"}, "content_filter_results": {}}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter", "content_filter_results": {"hate": {"filtered": True}}}]},
    ]  # fmt: skip
    stream = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in pieces) + b"data: [DONE]\n\n"

    def script(request: Request) -> Plain:
        return Plain("/v1/models", b"", method="GET", frame=lambda _: ("text/event-stream", stream))

    with proxy(azure(sky)) as served:
        sky.scripts[:] = [script]
        answer = asked(served.port)
    assert b'"stop_reason":"refusal"' in answer.body


# ---------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ({"provider": "bedrock", "region": "us-east-1"}, 43),
        ({"provider": "vertex", "project": "p-1", "keys": ["cmd:echo ya29.a-token-of-google-0123456789"]}, 41),
        ({"base_url": "bedrock-mantle", "region": "us-east-1"}, 44),
        ({"base_url": "https://contoso.services.ai.azure.com"}, 45),
        ({"format": "gemini", "provider": "vertex", "project": "p-1", "keys": ["cmd:echo ya29.a-token-of-google-0123456789"]}, 42),
    ],
    ids=["bedrock", "vertex", "mantle", "foundry", "gemini"],
)  # fmt: skip
def test_tokens_are_counted_by_the_host(more: dict[str, Any], count: int, sky: Sky) -> None:
    body = {"model": "us.anthropic.claude-sonnet-5", "messages": [{"role": "user", "content": "hi"}]}
    if more.get("provider") == "vertex":
        body["model"] = "claude-sonnet-5"
    with proxy({"upstreams": {"up": {"format": "anthropic", "keys": [KEY], **sky.reach, **more}}}) as served:
        betas = "claude-code-20250219,interleaved-thinking-2025-05-14"
        answer = ask(served.port, "/v1/messages/count_tokens", body, anthropic_beta=betas)
    assert answer.json == {"input_tokens": count} and "x-ccproxy-estimate" not in answer.headers


def test_a_frame_of_the_tests_is_read_by_botocore() -> None:
    from botocore.eventstream import EventStreamBuffer

    buffer = EventStreamBuffer()
    payload = base64.b64encode(b"x")
    buffer.add_data(frame({":message-type": "event"}, payload))
    assert next(iter(buffer)).payload == payload
