"""How services behave that speak a format with an accent: errors of any shape, prompts that are too long in any words,
wrong labels, compressed requests, and what answers lose; through real sockets, relayed and converted."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS, failures
from ccproxy_lite.formats.neutral.events import Failed, fold
from ccproxy_lite.formats.sse import Parser
from ccproxy_lite.net.framing import Decoder
from ccproxy_lite.relay.record import Record
from tests.relay.test_pairs import PAIRS, events_of
from tests.support import (
    ANTHROPIC_START,
    ANTHROPIC_TEXT,
    LAST,
    PATIENCE_S,
    STREAM_HEAD,
    WIRES,
    Answer,
    anthropic_event,
    ask,
    behind,
    chat_delta,
    chunk,
    connect,
    http,
    proxy,
    read_answer,
    request_bytes,
    sse,
    upstream,
)

ONCE = {"retries": 0}
BLOCK_END = anthropic_event("content_block_stop", index=0)
WORDS = "The queue is full."
FOREIGN: dict[str, Any] = {
    "detail": {"detail": WORDS},
    "a list": [{"error": {"message": WORDS}}],
    "a string": WORDS,
    "message": {"message": WORDS},
    "Message": {"Message": WORDS},
    "nested": {"error": {"message": json.dumps({"error": {"message": WORDS}})}},
    "validation": {"detail": [{"loc": ["body", "n"], "msg": WORDS}]},
    "an error object": {"object": "error", "message": WORDS, "code": 400},
    "an event": f"data: {json.dumps({'error': {'message': WORDS}})}\n\n",
}


def cut_in_two(client: str, up_format: str, before: list[Any], behind_it: list[Any]) -> Answer:
    """The client's answer where the rest of the upstream's is sent once the client has the first text."""
    begun = threading.Event()
    script = [*before, lambda _: begun.wait(PATIENCE_S), *behind_it]
    with upstream(script) as up, proxy({**behind(up, up_format), **ONCE}) as served, connect(served.port) as sock:
        sock.sendall(request_bytes(*WIRES[client].asked(True)))
        buffered = b""
        while b"hel" not in buffered:
            buffered += sock.recv(65536)
        begun.set()
        return read_answer(sock, buffered)


def told(form: str, status: int, body: Any) -> Failed:
    """The failure in an error answer, which must be in that format's shape and words."""
    assert FORMATS[form].is_own_error(status, body), body
    return failures.read_error(status, body)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("shape", FOREIGN)
@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_an_error_of_any_shape_is_said_in_the_clients(client: str, up_format: str, shape: str, stream: bool) -> None:
    body, (path, asked) = FOREIGN[shape], WIRES[client].asked(stream)
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    with upstream([http(400, raw)]) as up, proxy({**behind(up, up_format), **ONCE}) as served:
        answer = ask(served.port, path, asked)
    failed = told(client, answer.status, answer.json)
    assert answer.status == 400 and failed.message.endswith(WORDS) and "upstream returned" not in failed.message[:20]


@pytest.mark.parametrize("form", WIRES)
def test_an_error_of_the_formats_own_shape_is_passed_on_as_it_came(form: str) -> None:
    _, own = FORMATS[form].write_error(Failed(400, "bad_request", WORDS))
    raw = json.dumps({**own, "brand_new": 1}, indent=3).encode()
    with upstream([http(400, raw)]) as up, proxy({**behind(up, form), **ONCE}) as served:
        assert ask(served.port, WIRES[form].path, WIRES[form].ask).body == raw


IN_STREAM = {
    "an error object": sse({"object": "error", "message": WORDS}),
    "detail": sse({"detail": WORDS}),
    "a line of its own": chunk(b'error: {"message": "The queue is full."}\n\n'),
    "plain words": sse(WORDS),
    "an event": sse({"message": WORDS}, "error"),
}


@pytest.mark.parametrize("shape", IN_STREAM)
@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_an_error_in_a_stream_before_its_content(client: str, up_format: str, shape: str) -> None:
    path, asked = WIRES[client].asked(True)
    with upstream([STREAM_HEAD, IN_STREAM[shape], LAST]) as up:
        with proxy({**behind(up, up_format), **ONCE}) as served:
            answer = ask(served.port, path, asked)
    assert answer.status >= 500 and told(client, answer.status, answer.json).message == WORDS


@pytest.mark.parametrize("shape", IN_STREAM)
@pytest.mark.parametrize("client", [name for name in WIRES if name != "gemini"])
@pytest.mark.parametrize("up_format", WIRES)
def test_an_error_in_a_stream_after_its_content(client: str, up_format: str, shape: str) -> None:
    answer = cut_in_two(client, up_format, WIRES[up_format].begun, [IN_STREAM[shape], LAST])
    _, end = fold(events_of(client, answer, True))
    assert answer.status == 200 and isinstance(end, Failed) and end.message == WORDS
    last = Parser().feed(answer.body)[-1]
    if client == "openai-responses":
        assert last.name == "response.failed"
    else:
        assert FORMATS[client].is_own_error(400, json.loads(last.data))
    if client == up_format:  # what came before it did come
        assert b"hel" in answer.body


@pytest.mark.parametrize("reason", ["network_error", "abort", "insufficient_system_resource"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", [name for name in WIRES if name != "openai-chat"])
def test_an_empty_answer_that_a_fault_has_ended_is_tried_again(client: str, stream: bool, reason: str) -> None:
    wire = WIRES["openai-chat"]
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": reason}
    whole: list[Any] = [http(200, {**wire.body, "choices": [choice]})]
    end = sse({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    streamed = [STREAM_HEAD, chat_delta(role="assistant", content=""), end, sse("[DONE]"), LAST]
    good = wire.stream if stream else [http(200, wire.body)]
    with upstream(streamed if stream else whole, good) as up:
        with proxy(behind(up, "openai-chat", keys=["key-one-123", "key-two-123"])) as served:
            answer = ask(served.port, *WIRES[client].asked(stream))
    assert len(up.seen) == 2
    assert_hello(client, answer, stream)


# ---------------------------------------------------------------- prompts that are too long

TOO_LONG = {
    "llama.cpp": (500, {"error": {"code": 500, "message": "the request exceeds the available context size", "type": "exceed_context_size_error", "n_prompt_tokens": 210000, "n_ctx": 200000}}),
    "in anthropic's words": (413, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
    "in openai's words": (400, {"error": {"message": "This model's maximum context length is 200000 tokens. However, your messages resulted in 210000 tokens.", "type": "invalid_request_error", "code": "context_length_exceeded"}}),
    "in google's words": (400, {"error": {"code": 400, "message": "The input token count (210000) exceeds the maximum number of tokens allowed (200000).", "status": "INVALID_ARGUMENT"}}),
    "vLLM": (400, {"object": "error", "message": "This model's maximum context length is 200000 tokens. However, you requested 210000 tokens (209000 in the messages, 1000 in the completion).", "code": 400}),
}  # fmt: skip


def assert_too_long(client: str, body: Any) -> None:
    error = body["error"]
    if client == "anthropic":
        assert error["message"] == "prompt is too long: 210000 tokens > 200000 maximum"
    elif client == "gemini":
        assert "maximum number of tokens allowed" in error["message"] and error["status"] == "INVALID_ARGUMENT"
    else:
        assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("words", TOO_LONG)
@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_a_prompt_that_is_too_long(client: str, up_format: str, words: str, stream: bool) -> None:
    status, body = TOO_LONG[words]
    path, asked = WIRES[client].asked(stream)
    with upstream([http(status, body)]) as up, proxy(behind(up, up_format)) as served:
        answer = ask(served.port, path, asked)
    assert answer.status == 400 and len(up.seen) == 1
    assert_too_long(client, answer.json)


@pytest.mark.parametrize("up_format", WIRES)
def test_in_a_stream_of_responses_it_is_the_response_that_failed(up_format: str) -> None:
    error = sse({"type": "error", "error": TOO_LONG["in openai's words"][1]["error"]}, "error")
    answer = cut_in_two("openai-responses", up_format, WIRES[up_format].begun, [error, LAST])
    last = Parser().feed(answer.body)[-1]
    assert last.name == "response.failed"
    assert json.loads(last.data)["response"]["error"]["code"] == "context_length_exceeded"


def full_window(form: str, text: str) -> tuple[dict[str, Any], list[Any]]:
    """An answer that has filled the context window, whole and streamed."""
    if form == "anthropic":
        reason = "model_context_window_exceeded"
        content = [{"type": "text", "text": text}] if text else []
        end = anthropic_event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 1})
        body = {**WIRES[form].body, "content": content, "stop_reason": reason}
        begun = ANTHROPIC_START + (ANTHROPIC_TEXT + BLOCK_END if text else b"")
        return body, [STREAM_HEAD, begun, end, anthropic_event("message_stop"), LAST]
    reason = "model_length"
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    end = sse({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    start = chat_delta(role="assistant", content=text)
    return {**WIRES[form].body, "choices": [choice]}, [STREAM_HEAD, start, end, sse("[DONE]"), LAST]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", WIRES)
@pytest.mark.parametrize("up_format", ["anthropic", "openai-chat"])
def test_a_full_window_is_an_error_or_the_length_limit(client: str, up_format: str, stream: bool) -> None:
    path, asked = WIRES[client].asked(stream)
    for text in ("", "hel"):
        body, streamed = full_window(up_format, text)
        with upstream(streamed if stream else [http(200, body)]) as up, proxy(behind(up, up_format)) as served:
            answer = ask(served.port, path, asked)
        if not text:
            assert answer.status == 400 and told(client, 400, answer.json).overflow is not None
            continue
        _, end = fold(events_of(client, answer, stream))
        assert not isinstance(end, Failed) and end.reason == "max_tokens"
        assert b"model_context_window_exceeded" not in answer.body and b"model_length" not in answer.body


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("label", ["text/plain", "application/json", ""])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_a_stream_with_a_wrong_label(client: str, up_format: str, stream: bool, label: str) -> None:
    path, asked = WIRES[client].asked(stream)
    head = STREAM_HEAD.replace(b"text/event-stream", label.encode())
    with upstream([head, *WIRES[up_format].stream[1:]]) as up, proxy({**behind(up, up_format), **ONCE}) as served:
        answer = ask(served.port, path, asked)
    assert_hello(client, answer, stream)


@pytest.mark.parametrize("label", ["text/event-stream", "text/plain"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_a_whole_answer_with_a_wrong_label(client: str, up_format: str, stream: bool, label: str) -> None:
    path, asked = WIRES[client].asked(stream)
    with upstream([http(200, WIRES[up_format].body, kind=label)]) as up:
        with proxy({**behind(up, up_format), **ONCE}) as served:
            answer = ask(served.port, path, asked)
    assert_hello(client, answer, stream)


def assert_hello(client: str, answer: Answer, stream: bool) -> None:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    parts, _ = fold(events_of(client, answer, stream))
    assert "".join(part.text for part in parts) == "hello"


def test_no_event_without_data_reaches_a_client() -> None:
    """Comments and the blank lines behind them, in whatever pieces they come."""
    delta, end = chat_delta(role="assistant", content="hello"), WIRES["openai-chat"].stream[-1]
    comments = b": one\n\n", b": two", b"\n", b"\n", b"\n\n", b": three\r\n\r\n"
    fields = b"retry: 3000\n\n", b"id: 5\n\n", b"event: idle\n\n", b'data: {"choices":[]}\n\n\n\n', b"\r\n\r\n"
    with (
        upstream([STREAM_HEAD, delta, *map(chunk, (*comments, *fields)), end]) as up,
        proxy(behind(up, "openai-chat")) as served,
    ):
        answer = ask(served.port, *WIRES["openai-chat"].asked(True))
    blocks = answer.body.replace(b"\r\n", b"\n").split(b"\n\n")
    assert all(b"data: " in block for block in blocks[:-1]) and blocks[-1] == b""
    assert answer.body.count(b": one\n") == answer.body.count(b": two\n") == answer.body.count(b": three\r\n") == 1
    assert b"retry: 3000\n" in answer.body and b"id: 5\n" in answer.body and b"event: idle" not in answer.body


@pytest.mark.parametrize("form", WIRES)
def test_new_events_with_something_to_say_are_passed_on(form: str) -> None:
    notice = sse({"type": "notice", "message": "Another model was used."}, "notice")
    first, *rest = [step for step in WIRES[form].stream[1:] if isinstance(step, bytes)]
    with upstream([STREAM_HEAD, first, notice, *rest]) as up, proxy(behind(up, form)) as served:
        answer = ask(served.port, *WIRES[form].asked(True))
    assert answer.status == 200 and answer.body.count(b"Another model was used.") == 1
    assert b'event: notice\ndata: {"type": "notice"' in answer.body


BLANKS = b"\n" * 200
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("before", [BLANKS, BOM, BOM + BLANKS], ids=["blank lines", "mark", "both"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", ["anthropic", "openai-chat"])
def test_what_stands_before_a_body_does_not_hide_what_it_is(client: str, stream: bool, before: bytes) -> None:
    wire, decoder = WIRES["openai-chat"], Decoder("chunked")
    events = b"".join(decoder.feed(step) for step in wire.stream[1:] if isinstance(step, bytes))
    for body, label in ((json.dumps(wire.body).encode(), "text/event-stream"), (events, "application/json")):
        with upstream([http(200, before + body, kind=label)]) as up:
            with proxy({**behind(up, "openai-chat"), **ONCE}) as served:
                answer = ask(served.port, *WIRES[client].asked(stream))
        assert answer.status == 200 and b"hel" in answer.body, (label, answer)


ERROR = json.dumps({"error": {"message": WORDS}})
IN_PLACE = {
    "words": WORDS,
    "words with a colon": f": PROCESSING\n\nError: {WORDS}",
    "text": json.dumps(WORDS),
    "an object": f": PROCESSING\n\n{ERROR}\n",
    "an object without a line end": f": PROCESSING\n\n{ERROR}",
    "an event without a blank line": f"data: {ERROR}\n",
    "an event without a line end": f"event: error\ndata: {ERROR}",
}
"""The end of a stream ends its last line."""


@pytest.mark.parametrize("words", IN_PLACE.values(), ids=IN_PLACE)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_words_in_place_of_a_stream(client: str, up_format: str, stream: bool, words: str) -> None:
    with upstream([http(200, words.encode(), kind="text/event-stream")]) as up:
        with proxy({**behind(up, up_format), **ONCE}) as served:
            answer = ask(served.port, *WIRES[client].asked(stream))
    assert answer.status >= 500 and WORDS in told(client, answer.status, answer.json).message


@pytest.mark.parametrize("broken", ['data: {"id": 1, "cho', ': hi\n\n{"error":{"mess', ": hi\n\nda", "event: mess"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", ["openai-chat", "anthropic"])
def test_half_a_line_is_not_taken_for_words(client: str, stream: bool, broken: str) -> None:
    with upstream([http(200, broken.encode(), kind="text/event-stream")]) as up:
        with proxy({**behind(up, "openai-chat"), **ONCE}) as served:
            answer = ask(served.port, *WIRES[client].asked(stream))
    assert told(client, answer.status, answer.json).message == "the upstream's stream ended early"


def test_a_prompt_that_is_too_long_in_words_in_place_of_a_stream() -> None:
    words = f": PROCESSING\n\n{json.dumps({'error': {'message': 'prompt is too long: 9000 tokens > 8192 maximum'}})}"
    with upstream([http(200, words.encode(), kind="text/event-stream")]) as up:
        with proxy({**behind(up, "openai-chat"), **ONCE}) as served:
            answer = ask(served.port, *WIRES["openai-chat"].asked(True))
    assert answer.status == 400 and told("openai-chat", 400, answer.json).overflow == (9000, 8192)


@pytest.mark.parametrize("client", ["openai-chat", "anthropic"])
def test_the_last_words_behind_content_are_said(client: str) -> None:
    start = [STREAM_HEAD, chunk(chat_delta(content="hel"))]
    answer = cut_in_two(client, "openai-chat", start, [chunk(ERROR.encode()), LAST])
    assert WORDS in answer.body.decode() and "ended early" not in answer.body.decode()


def behind_a_keep_alive(rest: list[Any], before: tuple[Any, ...] = ()) -> Answer:
    """The answer for a Chat client of an Anthropic service that sends the rest once the client has a keep-alive."""
    go_on = threading.Event()
    with upstream([*before, lambda _: go_on.wait(PATIENCE_S), *rest]) as up:
        with proxy({**behind(up, "anthropic"), "keepalive_s": 0.05}) as served, connect(served.port) as sock:
            sock.sendall(request_bytes(*WIRES["openai-chat"].asked(True)))
            buffered = b""
            while b": keep-alive\n" not in buffered:
                buffered += sock.recv(65536)
            go_on.set()
            return read_answer(sock, buffered)


def test_the_losses_of_a_whole_answer_behind_a_keep_alive_are_in_a_comment() -> None:
    answer = behind_a_keep_alive([http(200, {**WIRES["anthropic"].body, "content": [{"type": "hologram"}]})])
    assert b": ccproxy dropped answer.hologram\ndata: " in answer.body


# ---------------------------------------------------------------- compressed requests


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("client", WIRES)
@pytest.mark.parametrize("up_format", ["openai-chat", "anthropic"])
def test_a_compressed_request_is_inflated(client: str, up_format: str, coding: str) -> None:
    plain = json.dumps({**WIRES[client].ask, "padding": "x" * 100_000}).encode()
    raw = zlib.compressobj(wbits=-15)
    packed = {
        "deflate": zlib.compress(plain),
        "raw deflate": raw.compress(plain) + raw.flush(),
    }.get(coding, gzip.compress(plain))
    with upstream([http(200, WIRES[up_format].body)]) as up, proxy(behind(up, up_format)) as served:
        answer = ask(served.port, WIRES[client].path, packed, content_encoding=coding.split()[-1])
    assert answer.status == 200
    assert up.seen[0].header("content-encoding") is None
    if client == up_format:
        assert up.seen[0].body == plain


def test_compressed_requests_are_bounded_and_must_be_whole() -> None:
    limit = 100_000
    exact = json.dumps({**WIRES["openai-chat"].ask, "padding": ""}).encode()
    exact = exact.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (limit - len(exact))))
    cases = [
        (gzip.compress(exact), 200, ""),
        (gzip.compress(exact[:5000]) + gzip.compress(exact[5000:]), 200, ""),
        (gzip.compress(exact + b" "), 413, "larger than 100000 bytes"),
        (gzip.compress(b" " * 300_000_000, 9), 413, "larger than 100000 bytes"),
        (gzip.compress(exact)[:-9], 400, "ends early"),
        (b"not gzip at all", 400, "invalid compressed data"),
    ]
    with upstream([http(200, WIRES["openai-chat"].body)]) as up:
        with proxy({**behind(up, "openai-chat"), "limits": {"max_body_bytes": limit}}) as served:
            for packed, status, words in cases:
                answer = ask(served.port, "/v1/chat/completions", packed, content_encoding="gzip")
                assert answer.status == status, answer.body
                assert words in answer.body.decode()
    assert len(up.seen) == 2


def test_zstd_is_refused_with_the_setting_that_turns_it_off() -> None:
    with upstream([]) as up, proxy(behind(up, "openai-responses")) as served:
        answer = ask(served.port, "/v1/responses", b"\x28\xb5\x2f\xfd", content_encoding="zstd")
    assert answer.status == 415
    assert "features.enable_request_compression = false" in answer.json["error"]["message"]


# ---------------------------------------------------------------- what answers lose


def lossy_stream() -> list[Any]:
    """A stream of Anthropic's with a server tool's block behind its text."""
    block = {"type": "code_execution_tool_result", "tool_use_id": "s1", "content": []}
    events = [anthropic_event("content_block_start", index=1, content_block=block)]
    events.append(anthropic_event("content_block_stop", index=1))
    end = [anthropic_event("message_delta", delta={"stop_reason": "end_turn"}), anthropic_event("message_stop"), LAST]
    return [STREAM_HEAD, ANTHROPIC_START + ANTHROPIC_TEXT + BLOCK_END, *events, *end]


def entries(caplog: pytest.LogCaptureFixture) -> list[Record]:
    return [record.__dict__["entry"] for record in caplog.records if "entry" in record.__dict__]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_an_answer_loses_is_in_its_head_and_in_the_log(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ccproxy_lite")
    body = {**WIRES["anthropic"].body}
    body["content"] = [*body["content"], {"type": "hologram"}]
    with upstream([http(200, body)]) as up, proxy({**behind(up, "anthropic"), "strict": True}) as served:
        answer = ask(served.port, *WIRES["openai-chat"].asked(stream))
    assert answer.status == 200  # strict mode never refuses an answer
    assert answer.headers["x-ccproxy-dropped"] == "answer.hologram"
    assert [entry.dropped for entry in entries(caplog)] == [("answer.hologram",)]


@pytest.mark.parametrize("client", WIRES)
def test_what_an_answer_loses_later_is_in_the_log_and_in_a_comment(
    client: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ccproxy_lite")
    head, begun, *rest = lossy_stream()
    answer = cut_in_two(client, "anthropic", [head, begun], rest)
    lost = "answer.code_execution_tool_result"
    comment = f": ccproxy dropped {lost}\n".encode()
    is_told = client in ("openai-chat", "openai-responses")  # the other one is Anthropic itself, and untouched
    assert "x-ccproxy-dropped" not in answer.headers
    assert (comment in answer.body) is is_told
    if is_told:
        before, _, end = answer.body.partition(comment)
        assert before.endswith(b"\n\n") and end.startswith((b"data: ", b"event: "))
        assert len(Parser().feed(end)) <= 4
    assert [entry.dropped for entry in entries(caplog)] == [() if client == "anthropic" else (lost,)]


def test_what_is_lost_behind_a_keep_alive_is_in_a_comment_too() -> None:
    """The head is out before anything is known of the answer."""
    head, *steps = lossy_stream()
    answer = behind_a_keep_alive(steps, before=(head,))
    assert b": ccproxy dropped answer.code_execution_tool_result\n" in answer.body
    assert "x-ccproxy-dropped" not in answer.headers
