"""One streamed answer, without a socket: relayed untouched or converted, one write for all events of one read."""

from __future__ import annotations

import json

import pytest

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.names import Restorer
from ccproxy_lite.formats.neutral import Failed, Reply, Request
from ccproxy_lite.sse import Parser
from ccproxy_lite.streams import Converted, Relayed

REPLY = Reply(Request("m"), "id", 1)
LIMIT = 1_000_000


def line(data: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + f"data: {json.dumps(data)}\n\n".encode()


def chat(finish: str | None = None, **delta: object) -> bytes:
    return line({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def anthropic(kind: str, **more: object) -> bytes:
    return line({"type": kind, **more}, kind)


STREAMS = {
    "openai-chat": [
        chat(role="assistant", content=""),
        chat(content="hi"),
        chat("stop"),
        line({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
        b"data: [DONE]\n\n",
    ],
    "anthropic": [
        anthropic("message_start", message={"usage": {"input_tokens": 5, "output_tokens": 1}}),
        anthropic("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        anthropic("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}),
        anthropic("content_block_stop", index=0),
        anthropic("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}),
        anthropic("message_stop"),
    ],
}


def converted(upstream: str, client: str) -> Converted:
    return Converted(FORMATS[upstream], FORMATS[client], REPLY, Restorer({}, frozenset()), LIMIT)


@pytest.mark.parametrize("name", STREAMS)
def test_relayed_bytes_are_untouched_whatever_the_cut(name: str) -> None:
    raw = b"".join(STREAMS[name])
    for size in (1, 7, len(raw)):
        stream = Relayed(FORMATS[name], REPLY, LIMIT)
        out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size)) + stream.close()
        assert out == raw
        assert stream.content and stream.over and stream.failed is None
        assert stream.usage is not None and (stream.usage.input, stream.usage.output) == (5, 2)


@pytest.mark.parametrize("name", STREAMS)
def test_content_is_seen_with_its_first_event_and_not_before(name: str) -> None:
    other = next(form for form in STREAMS if form != name)
    for stream in (Relayed(FORMATS[name], REPLY, LIMIT), converted(name, other)):
        stream.feed(STREAMS[name][0])
        assert not stream.content
        stream.feed(STREAMS[name][1])
        assert stream.content


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("events", [0, 1, 2])
def test_an_early_end_is_a_failure(name: str, events: int) -> None:
    for stream in (Relayed(FORMATS[name], REPLY, LIMIT), converted(name, name)):
        stream.feed(b"".join(STREAMS[name][:events]))
        out = stream.close()
        assert stream.failed is not None and not stream.over
        assert b"ended early" in out


@pytest.mark.parametrize("name", STREAMS)
def test_all_events_of_one_read_are_one_write(name: str) -> None:
    other = next(form for form in STREAMS if form != name)
    stream = converted(name, other)
    out = stream.feed(b"".join(STREAMS[name]))
    assert stream.over
    assert len(Parser().feed(out)) >= 4
    assert stream.close() == b""


def test_every_read_brings_its_events_at_once() -> None:
    stream = converted("openai-chat", "anthropic")
    for number in range(50):
        assert f"word{number}".encode() in stream.feed(chat(content=f"word{number} "))


@pytest.mark.parametrize("name", STREAMS)
def test_an_error_after_half_an_event_stands_apart(name: str) -> None:
    stream = Relayed(FORMATS[name], REPLY, LIMIT)
    raw = b"".join(STREAMS[name][:2]) + STREAMS[name][2][:10]
    out = stream.feed(raw) + stream.fail(Failed(502, "server", "cut"))
    assert out.startswith(raw + b"\n\n")
    assert b"cut" in out
    if name == "anthropic":
        assert [event.name for event in Parser().feed(out)][-1] == "error"


@pytest.mark.parametrize("name", STREAMS)
def test_an_error_in_the_stream_is_noticed(name: str) -> None:
    error = line(
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
        "error" if name == "anthropic" else "",
    )
    for early in (True, False):
        stream = Relayed(FORMATS[name], REPLY, LIMIT)
        stream.feed(b"".join(STREAMS[name][: 1 if early else 3]))
        stream.feed(error)
        assert stream.failed is not None and stream.failed.message == "busy"
        assert stream.content is not early
