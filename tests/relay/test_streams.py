"""One streamed answer, without a socket: relayed untouched or converted, one write for all events of one read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import ReplyInfo
from ccproxy_lite.formats.neutral.answer_losses import AnswerLosses
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.formats.neutral.names import Restorer
from ccproxy_lite.formats.neutral.request import Request
from ccproxy_lite.formats.sse import Event, Parser, Usual
from ccproxy_lite.relay.streams import ArrayFraming, Converted, Reframed, Relayed

REPLY = ReplyInfo(Request("m"), "id", 1)
LIMIT = 1_000_000


def line(data: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + f"data: {json.dumps(data)}\n\n".encode()


def chat(finish: str | None = None, **delta: object) -> bytes:
    return line({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def anthropic(kind: str, **more: object) -> bytes:
    return line({"type": kind, **more}, kind)


def responses(kind: str, **more: object) -> bytes:
    return line({"type": kind, **more}, kind)


def gemini(text: str, **more: object) -> bytes:
    return line({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}]})


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
    "openai-responses": [
        responses("response.created", response={"id": "resp_1", "status": "in_progress", "output": []}),
        responses("response.output_item.added", output_index=0, item={"type": "function_call", "name": "f", "id": "x"}),
        responses("response.function_call_arguments.delta", output_index=0, delta="{}"),
        responses("response.output_item.done", output_index=0, item={"type": "function_call", "name": "f", "id": "x"}),
        responses("response.completed", response={"id": "resp_1", "usage": {"input_tokens": 5, "output_tokens": 2}}),
    ],
    "gemini": [
        line({"candidates": [{"content": {}, "index": 0}]}),
        gemini("hi"),
        gemini(" there"),
        gemini("", finishReason="STOP"),
        line({"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}}),
    ],
}


def converted(upstream: str, client: str) -> Converted:
    restorer = Restorer({}, frozenset())
    reader, writer = FORMATS[upstream].reader(REPLY.id), FORMATS[client].writer(REPLY)
    return Converted(Parser(LIMIT), reader, restorer, writer, AnswerLosses(client))


def relayed(name: str) -> Relayed:
    return Relayed(Parser(LIMIT), FORMATS[name])


@pytest.mark.parametrize("name", STREAMS)
def test_relayed_bytes_are_untouched_whatever_the_cut(name: str) -> None:
    raw = b"".join(STREAMS[name])
    for size in (1, 7, len(raw)):
        stream = relayed(name)
        out = b"".join(stream.feed(raw[i : i + size]) for i in range(0, len(raw), size)) + stream.close()
        assert out == raw
        assert stream.progress.content and stream.progress.over and stream.progress.failed is None
        assert stream.progress.usage is not None and (stream.progress.usage.input, stream.progress.usage.output) == (
            5,
            2,
        )


_BESIDE = [
    b": idle\n\n", b"\n", b"event: ping\ndata: {}\n\n", b"data: {}\n\n", b"id: 7\n",
    b'data: {"error": {"message": "busy", "type": "overloaded_error"}, "type": "error"}\n\n',
    b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "no"}}\n\n',
]  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_events_that_are_passed_on_unseen_make_no_difference(name: str, data: st.DataObject) -> None:
    """Whatever comes, however it is cut: the same bytes and the same progress as where every event is looked at."""
    usual = STREAMS[name][1:3]
    event = st.one_of(st.sampled_from(usual), st.sampled_from(usual * 3), st.sampled_from(STREAMS[name] + _BESIDE))
    drawn = data.draw(st.lists(event, min_size=1, max_size=30))
    failures = [number for number, one in enumerate(drawn) if one in _BESIDE[-2:]]
    raw = b"".join(drawn[: failures[0] + 1] if failures else drawn)  # what follows a failure is not told
    raw = raw.replace(b"\n", b"\r\n") if data.draw(st.booleans()) else raw
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    stream, reference = relayed(name), Relayed(Parser(LIMIT), FORMATS[name]._replace(usual=Usual()))
    results = []
    for one in (stream, reference):
        out = b""
        for piece in pieces:
            out += one.feed(piece)
            if one.progress.failed is not None or one.progress.over:
                break
        else:
            out += one.close()
        progress = one.progress
        told = Parser(LIMIT).feed(out) if progress.is_foreign else out  # then what stood before is written anew
        has_content = progress.content or progress.failed is not None
        results.append((told, progress.failed, progress.over, has_content, progress.usage))
    assert results[0] == results[1]


@pytest.mark.parametrize("rest", [b"", b"da", STREAMS["openai-chat"][1]])
def test_a_failure_in_other_words_is_told_once_and_last(rest: bytes) -> None:
    stream = relayed("openai-chat")
    out = stream.feed(STREAMS["openai-chat"][1] + _BESIDE[-2] + rest)
    assert out.count(b"busy") == 1 and out.startswith(STREAMS["openai-chat"][1])
    assert Parser(LIMIT).feed(out)[-1].data.count("busy") == 1


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 1000])
def test_blank_lines_that_end_no_event_are_left_out_whatever_the_cut(size: int, line_end: bytes) -> None:
    events = STREAMS["openai-chat"]
    idle = b"\n: one\n\n\n: two\n: three\n\nretry: 5\n\nevent: idle\n\n\n\n"
    raw = (idle + events[0] + idle.join(events[1:])).replace(b"\n", line_end)
    stream = relayed("openai-chat")
    out = b"".join(stream.feed(raw[at : at + size]) for at in range(0, len(raw), size)) + stream.close()
    kept = b": one\n: two\n: three\nretry: 5\n"
    assert out == (kept + events[0] + kept.join(events[1:])).replace(b"\n", line_end)


@pytest.mark.parametrize("name", STREAMS)
def test_content_is_seen_with_its_first_event_and_not_before(name: str) -> None:
    other = next(form for form in STREAMS if form != name)
    for stream in (relayed(name), converted(name, other)):
        stream.feed(STREAMS[name][0])
        assert not stream.progress.content
        stream.feed(STREAMS[name][1])
        assert stream.progress.content


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("events", [0, 1, 2])
def test_an_early_end_is_a_failure(name: str, events: int) -> None:
    for stream in (relayed(name), converted(name, name)):
        stream.feed(b"".join(STREAMS[name][:events]))
        out = stream.close()
        assert stream.progress.failed is not None and not stream.progress.over
        assert b"ended early" in out


@pytest.mark.parametrize("name", STREAMS)
def test_all_events_of_one_read_are_one_write(name: str) -> None:
    other = next(form for form in STREAMS if form != name)
    stream = converted(name, other)
    out = stream.feed(b"".join(STREAMS[name])) + stream.close()
    assert stream.progress.over
    assert len(Parser().feed(out)) >= 4
    assert stream.close() == b""


def test_every_read_brings_its_events_at_once() -> None:
    stream = converted("openai-chat", "anthropic")
    for number in range(50):
        assert f"word{number}".encode() in stream.feed(chat(content=f"word{number} "))


@pytest.mark.parametrize("name", STREAMS)
def test_half_an_event_is_not_passed_on_before_an_error(name: str) -> None:
    stream = relayed(name)
    raw = b"".join(STREAMS[name][:2]) + STREAMS[name][2][:10]
    out = stream.feed(raw) + stream.fail(Failed(502, "server", "cut"))
    whole = b"".join(STREAMS[name][:2])
    assert out.startswith(whole) and STREAMS[name][2][:10] not in out[len(whole) :].partition(b"cut")[2]
    assert b"cut" in out and all(json.loads(event.data) for event in Parser().feed(out))
    if name in NAMED:
        assert [event.name for event in Parser().feed(out)][-1] == NAMED[name]


NAMED = {"anthropic": "error", "openai-responses": "response.failed"}


def test_the_error_of_a_relayed_response_keeps_its_identity() -> None:
    stream = relayed("openai-responses")
    stream.feed(b"".join(STREAMS["openai-responses"][:2]))
    stream.feed(responses("response.function_call_arguments.delta", output_index=0, delta="{}", sequence_number=7))
    failed = json.loads(Parser().feed(stream.fail(Failed(529, "overloaded", "busy")))[0].data)
    assert (failed["sequence_number"], failed["response"]["id"]) == (8, "resp_1")
    assert failed["response"]["error"] == {"code": "server_is_overloaded", "message": "busy"}


@pytest.mark.parametrize("upstream", STREAMS)
def test_a_stream_as_an_array(upstream: str) -> None:
    """As Gemini streams where nobody asks for server-sent events: valid JSON, whatever the cut."""
    stream = relayed("gemini") if upstream == "gemini" else converted(upstream, "gemini")
    array, raw = ArrayFraming(), b"".join(STREAMS[upstream])
    out = b"".join(array.feed(stream.feed(raw[i : i + 11])) for i in range(0, len(raw), 11))
    out += array.feed(stream.close())
    with pytest.raises(ValueError):  # one that breaks off is no JSON
        json.loads(out)
    chunks = json.loads(out + array.close())
    assert chunks[-1].get("usageMetadata") or chunks[-2]["candidates"][0]["finishReason"] == "STOP"
    if upstream == "gemini":
        whole = ArrayFraming()
        assert json.loads(whole.feed(raw) + whole.close()) == chunks


def test_an_array_of_nothing() -> None:
    assert ArrayFraming().close() == b"[]"


class Frames:
    """Another framing: a length of four digits before the data of each event."""

    def __init__(self) -> None:
        self.rest = b""
        self.stray = ""

    def feed(self, chunk: bytes) -> list[Event]:
        self.rest += chunk
        events = []
        while len(self.rest) >= 4 and len(self.rest) >= 4 + int(self.rest[:4]):
            data, self.rest = self.rest[4 : 4 + int(self.rest[:4])], self.rest[4 + int(self.rest[:4]) :]
            events.append(Event(json.loads(data).get("type", ""), data.decode()))
        return events

    def unfinished(self) -> bool:
        return bool(self.rest)

    def check(self) -> None:
        """It is never broken."""

    def close(self) -> None:
        """Nor cut off."""


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_is_framed_otherwise_is_framed_anew(size: int) -> None:
    events = Parser().feed(b"".join(STREAMS["anthropic"]))
    raw = b"".join(b"%04d%b" % (len(event.data.encode()), event.data.encode()) for event in events)
    stream = Reframed(Frames(), FORMATS["anthropic"])
    out = b"".join(stream.feed(raw[at : at + size]) for at in range(0, len(raw), size)) + stream.close()
    assert Parser().feed(out) == events
    assert stream.progress.over and stream.progress.failed is None and stream.progress.usage is not None


@pytest.mark.parametrize("name", STREAMS)
def test_an_error_in_the_stream_is_noticed(name: str) -> None:
    error = line(
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
        "error" if name in NAMED else "",
    )
    if name == "gemini":
        error = line({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}})
    for early in (True, False):
        stream = relayed(name)
        stream.feed(b"".join(STREAMS[name][: 1 if early else 3]))
        stream.feed(error)
        assert stream.progress.failed is not None and stream.progress.failed.message == "busy"
        assert stream.progress.content is not early
