"""One request through real sockets: same format untouched, other formats converted, failures mended or told."""

from __future__ import annotations

import gzip
import json
import threading
import time
from typing import Any

import pytest

from tests.support import (
    ANTHROPIC_ASK,
    ANTHROPIC_BODY,
    ANTHROPIC_END,
    ANTHROPIC_START,
    ANTHROPIC_STREAM,
    ANTHROPIC_TEXT,
    CHAT_ASK,
    CHAT_BODY,
    CHAT_END,
    CHAT_STREAM,
    CLOSE,
    LAST,
    RESET,
    STREAM_HEAD,
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

ERROR = {"error": {"message": "busy", "type": "server_error", "code": None, "param": None}}
ONCE = {"retries": 0}


def stream_text(body: bytes) -> str:
    """The text that a Chat or Anthropic client takes from a stream."""
    text = ""
    for line in body.decode().split("\n"):
        if line.startswith("data: {"):
            data = json.loads(line[6:])
            for choice in data.get("choices", ()):
                text += choice["delta"].get("content") or ""
            if data.get("type") == "content_block_delta":
                text += data["delta"].get("text", "")
    return text


# ---------------------------------------------------------------- the same format on both sides


def test_a_request_of_the_same_format_goes_through_byte_for_byte() -> None:
    raw = (
        b'{ "zeta" : [1, 2.50, 1e3], "model":"m",\n "messages":[{"role":"user","content":"h\\u00fc\\ud83c\\udf89"}],'
        b' "max_tokens":5, "brand_new_beta": {"a":null} }'
    )
    with upstream([http(200, ANTHROPIC_BODY)]) as up, proxy(behind(up, "anthropic")) as served:
        ask(served.port, "/v1/messages?beta=true&key=secret", raw, anthropic_beta="a,b", anthropic_version="2026-10-21")
    seen = up.seen[0]
    assert seen.body == raw
    assert seen.head.startswith("POST /v1/messages?beta=true HTTP/1.1\r\n")
    assert seen.header("anthropic-beta") == "a,b"
    assert seen.header("anthropic-version") == "2026-10-21"
    assert seen.header("x-api-key") == "upstream-key-one"
    assert seen.header("accept-encoding") == "identity"


def test_only_the_value_of_model_is_exchanged() -> None:
    raw = b'{"messages": [{"role":"user","content":"\\"model\\": \\"alias\\""}],  "model" : "alias" , "x":1.0}'
    with upstream([http(200, CHAT_BODY)]) as up:
        config = {**behind(up, "openai-chat"), "models": {"alias": "up/real model"}}
        with proxy(config) as served:
            answer = ask(served.port, "/v1/chat/completions", raw)
    assert up.seen[0].body == raw.replace(b'"alias" ,', b'"real model" ,')
    assert answer.headers["x-ccproxy-upstream"] == "up/real model"


def test_an_answer_of_the_same_format_comes_back_byte_for_byte() -> None:
    raw = json.dumps({**ANTHROPIC_BODY, "new_field": [1.50]}, indent=3).encode()
    with upstream([http(200, raw, request_id="req_1", x_odd="yes")]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert answer.body == raw
    assert (answer.headers["request-id"], answer.headers["x-odd"]) == ("req_1", "yes")


def test_a_stream_of_the_same_format_comes_back_byte_for_byte() -> None:
    odd = (
        b": a comment\r\n\r\n"
        b"event: message_start\r\ndata: " + json.dumps({"type": "message_start", "message": ANTHROPIC_BODY}).encode() + b"\r\n\r\n"
        b"event: brand_new\ndata: {\"type\":\"brand_new\"}\n\n"
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )  # fmt: skip
    pieces: list[Any] = [STREAM_HEAD, *(chunk(odd[i : i + 7]) for i in range(0, len(odd), 7)), LAST]
    with upstream(pieces) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
    # But for the blank line behind the comment, at which some decoders dispatch an event without data.
    assert answer.body == odd.replace(b"comment\r\n\r\n", b"comment\r\n")


def test_of_two_hints_only_ours_is_passed_on() -> None:
    """SDKs believe the milliseconds first, and they may be another key's."""
    with upstream([http(429, ERROR, retry_after_ms="60500", retry_after="61", x_request="1")]) as up:
        with proxy({**behind(up, "openai-chat"), **ONCE}) as served:
            answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert (answer.status, answer.headers["retry-after"], answer.headers["x-request"]) == (429, "61", "1")
    assert "retry-after-ms" not in answer.headers


def test_an_error_of_the_same_format_comes_back_as_it_is() -> None:
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": "no", "details": {"a": 1}}}
    with upstream([http(400, body, x_request="1")]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert (answer.status, answer.json) == (400, body)
    assert len(up.seen) == 1


def test_headers_that_must_not_travel() -> None:
    with upstream([http(200, CHAT_BODY, set_cookie="a=b", connection="x-private", x_private="1")]) as up:
        with proxy(behind(up, "openai-chat")) as served:
            answer = ask(
                served.port, "/v1/chat/completions", CHAT_ASK,
                authorization="Bearer of-the-client", cookie="a=b", x_forwarded_for="1.2.3.4", connection="x-hop",
                x_hop="1", user_agent="a client", x_custom="kept",
            )  # fmt: skip
    seen = up.seen[0]
    assert seen.header("authorization") == "Bearer upstream-key-one"
    for name in ("cookie", "x-forwarded-for", "x-hop", "x-ccproxy-strict"):
        assert seen.header(name) is None
    assert (seen.header("user-agent"), seen.header("x-custom")) == ("a client", "kept")
    assert not {"set-cookie", "x-private"} & answer.headers.keys()


def test_configured_headers() -> None:
    with upstream([http(200, CHAT_BODY)]) as up:
        config = behind(
            up,
            "openai-chat",
            headers={"X-Team": "blue", "X-Trace": "$header:X-Request-Trace", "X-None": "$header:X-No"},
        )
        with proxy(config) as served:
            ask(served.port, "/v1/chat/completions", CHAT_ASK, x_request_trace="t1")
    assert [up.seen[0].header(name) for name in ("x-team", "x-trace", "x-none")] == ["blue", "t1", None]


def test_thoughts_of_another_provider_never_reach_anthropic() -> None:
    foreign = {"type": "thinking", "thinking": "hm", "signature": "ccp1.openai-chat."}
    own = {"type": "thinking", "thinking": "hm", "signature": "real"}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [foreign, own, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
    ]
    with upstream([http(200, ANTHROPIC_BODY)]) as up, proxy(behind(up, "anthropic")) as served:
        ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "messages": turns})
    assert up.seen[0].json["messages"][1]["content"] == [own, {"type": "text", "text": "b"}]


# ---------------------------------------------------------------- across formats


def test_the_way_there_and_back() -> None:
    with upstream([http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "top_k": 3}, x_api_key="of-the-client")
    seen = up.seen[0]
    assert seen.head.startswith("POST /v1/chat/completions HTTP/1.1")
    assert seen.header("authorization") == "Bearer upstream-key-one"
    assert seen.header("x-api-key") is None
    assert (seen.header("user-agent") or "").startswith("ccproxy-lite/")
    assert answer.json["content"] == [{"type": "text", "text": "hello"}]
    assert answer.headers["x-ccproxy-dropped"] == "top_k"
    assert answer.headers["x-ccproxy-upstream"] == "up/m"


@pytest.mark.parametrize("how", ["header", "file"])
def test_strict(how: str) -> None:
    with upstream([http(200, CHAT_BODY)]) as up:
        with proxy({**behind(up, "openai-chat"), "strict": how == "file"}) as served:
            headers = {"x_ccproxy_strict": "1"} if how == "header" else {}
            answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "top_k": 3}, **headers)
    assert answer.status == 400
    assert answer.json["error"]["message"].startswith("top_k is not supported")
    assert up.seen == []


STREAMS = {
    "openai-chat": ("/v1/messages", {**ANTHROPIC_ASK, "stream": True}, CHAT_STREAM),
    "anthropic": ("/v1/chat/completions", {**CHAT_ASK, "stream": True}, ANTHROPIC_STREAM),
}


@pytest.mark.parametrize("form", STREAMS)
def test_streams(form: str) -> None:
    path, body, script = STREAMS[form]
    with upstream(script) as up, proxy(behind(up, form)) as served:
        answer = ask(served.port, path, body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert stream_text(answer.body) == "hello"


@pytest.mark.parametrize("form", STREAMS)
def test_events_are_not_held_back(form: str) -> None:
    """What one read of the upstream brings reaches the client before the upstream says anything more."""
    path, body, script = STREAMS[form]
    go_on = threading.Event()
    first = script[1] + (chat_delta(content="lo ") if form == "openai-chat" else ANTHROPIC_TEXT)  # type: ignore[operator]
    steps: list[Any] = [
        STREAM_HEAD,
        first,
        lambda _: go_on.wait(10),
        *([CHAT_END] if form == "openai-chat" else [ANTHROPIC_END]),
        LAST,
    ]
    with upstream(steps) as up, proxy(behind(up, form)) as served, connect(served.port) as sock:
        sock.sendall(request_bytes(path, body))
        got = b""
        while b"lo" not in got:
            data = sock.recv(65536)
            assert data
            got += data
        go_on.set()
        assert b"stop" in read_answer(sock, got).body


def test_an_upstream_that_answers_a_stream_with_json() -> None:
    for form, path, body, answer_body in (
        ("openai-chat", "/v1/messages", ANTHROPIC_ASK, CHAT_BODY),
        ("openai-chat", "/v1/chat/completions", CHAT_ASK, CHAT_BODY),
        ("anthropic", "/v1/chat/completions", CHAT_ASK, ANTHROPIC_BODY),
    ):
        for kind in ("application/json", "text/plain"):
            with upstream([http(200, answer_body, kind)]) as up, proxy(behind(up, form)) as served:
                answer = ask(served.port, path, {**body, "stream": True})
            assert stream_text(answer.body) == "hello"


def test_an_upstream_that_only_streams() -> None:
    for form, path, body, script in (
        ("openai-chat", "/v1/messages", ANTHROPIC_ASK, CHAT_STREAM),
        ("openai-chat", "/v1/chat/completions", CHAT_ASK, CHAT_STREAM),
        ("anthropic", "/v1/messages", ANTHROPIC_ASK, ANTHROPIC_STREAM),
    ):
        with upstream(script) as up, proxy(behind(up, form)) as served:
            answer = ask(served.port, path, body)
        said = (
            answer.json["content"][0]["text"]
            if "content" in answer.json
            else answer.json["choices"][0]["message"]["content"]
        )
        assert said == "hello"


def test_json_behind_white_space_in_place_of_a_stream() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    steps: list[Any] = [head + chunk(b"\n"), lambda _: time.sleep(0.1), chunk(json.dumps(CHAT_BODY).encode()) + LAST]
    with upstream(steps) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
    assert (answer.status, stream_text(answer.body)) == (200, "hello")


def test_a_stream_without_its_type_is_still_a_stream() -> None:
    head = STREAM_HEAD.replace(b"text/event-stream", b"text/plain")
    with upstream([head, *CHAT_STREAM[1:]]) as up, proxy(behind(up, "openai-chat")) as served:
        assert stream_text(ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True}).body) == "hello"


def test_targets_of_different_formats() -> None:
    """The request is converted afresh for each target of a list."""
    with upstream([http(500, ERROR)]) as first, upstream([http(200, ANTHROPIC_BODY)]) as second:
        config = {
            "upstreams": {
                "one": {"format": "openai-chat", "base_url": f"http://127.0.0.1:{first.port}/v1"},
                "two": {"format": "anthropic", "base_url": f"http://127.0.0.1:{second.port}"},
            },
            "models": {"m": ["one/a", "two/b"]},
        }
        with proxy(config) as served:
            answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert answer.json["choices"][0]["message"]["content"] == "hello"
    assert answer.headers["x-ccproxy-upstream"] == "two/b"
    assert (first.seen[0].json["model"], second.seen[0].json["model"]) == ("a", "b")
    assert second.seen[0].json["max_tokens"] == 8192


# ---------------------------------------------------------------- failures before the first content

MENDED = {
    "a server error": [http(500, ERROR)],
    "an overload": [http(529, ERROR)],
    "a rate limit": [http(429, ERROR)],
    "an invalid key": [http(401, ERROR)],
    "an HTML page": [http(200, b"<html>captive portal</html>", "text/html")],
    "an empty answer": [http(200, b"", "application/json")],
    "a redirect": [b"HTTP/1.1 302 Found\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n"],
    "a reset before the head": [RESET],
    "a close before the head": [CLOSE],
    "a truncated body": [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", CLOSE],
    "an error inside a 200": [http(200, ERROR)],
    "a broken head": [b"nonsense\r\n\r\n"],
    "an unasked upgrade": [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
    "an unknown compression": [http(200, b"x", content_encoding="br")],
}
MENDED_STREAMS = {
    "a stream without events": [STREAM_HEAD + LAST],
    "a stream that ends before content": [STREAM_HEAD, chat_delta(role="assistant", content="") + LAST],
    "a stream that breaks before content": [STREAM_HEAD, chat_delta(role="assistant"), RESET],
    "an error before content": [STREAM_HEAD, sse(ERROR) + LAST],
    "an event that is no JSON": [STREAM_HEAD, sse("{nope") + LAST],
    "broken chunks": [STREAM_HEAD + b"zz\r\n"],
}


@pytest.mark.parametrize("client", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("fault", MENDED)
def test_another_key_mends_it(fault: str, client: str) -> None:
    body = ANTHROPIC_ASK if "messages" in client else CHAT_ASK
    with upstream(MENDED[fault], [http(200, CHAT_BODY)]) as up:  # type: ignore[arg-type]
        with proxy(behind(up, "openai-chat", keys=["first-key", "second-key"])) as served:
            answer = ask(served.port, client, body)
    assert answer.status == 200, answer.body
    assert [seen.header("authorization") for seen in up.seen] == ["Bearer first-key", "Bearer second-key"]


@pytest.mark.parametrize("client", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("fault", MENDED_STREAMS | MENDED)
def test_another_key_mends_a_stream(fault: str, client: str) -> None:
    body = {**(ANTHROPIC_ASK if "messages" in client else CHAT_ASK), "stream": True}
    script = {**MENDED, **MENDED_STREAMS}[fault]
    with upstream(script, CHAT_STREAM) as up:  # type: ignore[arg-type]
        with proxy(behind(up, "openai-chat", keys=["first-key", "second-key"])) as served:
            answer = ask(served.port, client, body)
    assert (answer.status, stream_text(answer.body)) == (200, "hello")
    assert len(up.seen) == 2


TOLD = [
    ("a bad request", http(400, ERROR), 400, "invalid_request_error", "busy", 1),
    ("a body that is too large", http(413, ERROR), 413, "request_too_large", "busy", 1),
    ("a model that does not exist", http(404, ERROR), 404, "not_found_error", "busy", 1),
    ("a server error", http(500, ERROR), 500, "api_error", "busy", 1),
    ("an overload", http(503, ERROR), 529, "overloaded_error", "busy", 1),
    ("a rate limit", http(429, ERROR, retry_after="7"), 429, "rate_limit_error", "busy", 1),
    ("an invalid key", http(401, ERROR), 502, "api_error", "upstream up rejected the API key (work): busy", 1),
    ("an HTML page", http(502, b"<html><style>x</style><b>Bad</b> gateway</html>", "text/html"), 502, "api_error",
     "the upstream returned text/html: Bad gateway", 1),
    ("a redirect", b"HTTP/1.1 302 Found\r\nlocation: https://evil.example/x\r\ncontent-length: 0\r\n\r\n", 502,
     "api_error", "upstream redirected to evil.example; not followed, to protect the API key", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "script", "status", "kind", "message", "calls"), TOLD, ids=[row[0] for row in TOLD])
def test_what_the_client_hears(name: str, script: bytes, status: int, kind: str, message: str, calls: int) -> None:
    with upstream([script]) as up:
        config = {**behind(up, "openai-chat", keys=[{"key": "upstream-key-one", "label": "work"}]), **ONCE}
        with proxy(config) as served:
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert answer.status == status
    assert answer.json == {"type": "error", "error": {"type": kind, "message": message}}
    assert len(up.seen) == calls
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    assert answer.headers.get("x-should-retry") == ("false" if "rejected" in message else None)


def test_one_key_and_one_failure_is_one_answer() -> None:
    with upstream([http(500, ERROR)], [http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    assert len(up.seen) == 2


def test_nothing_listens_there() -> None:
    config = {"upstreams": {"up": {"format": "openai-chat", "base_url": "http://127.0.0.1:1/v1"}}, **ONCE}
    with proxy(config) as served:
        answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert (answer.status, answer.json["error"]["message"]) == (502, "127.0.0.1:1 refused the connection")


def test_a_name_that_does_not_resolve() -> None:
    config = {
        "upstreams": {
            "up": {"format": "openai-chat", "base_url": "https://nonexistent.invalid", "keys": ["a-good-key"]}
        },
        **ONCE,
    }
    with proxy(config) as served:
        answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert (answer.status, answer.json["error"]["message"]) == (502, "cannot resolve host nonexistent.invalid")


def test_an_upstream_that_never_answers() -> None:
    with upstream(["stall"]) as up:
        with proxy({**behind(up, "openai-chat"), **ONCE, "timeouts": {"first_byte_s": 0.2}}) as served:
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            assert up.gone.wait(5)
    assert (answer.status, answer.json["error"]["type"]) == (504, "timeout_error")


# ---------------------------------------------------------------- failures after the first content

LATE = {
    "a reset": [RESET],
    "an end without an ending": [LAST],
    "a close in the middle of a chunk": [b"fff\r\ndata: {", CLOSE],
    "broken chunks": [b"zz\r\n"],
    "an error event": [sse({"error": {"message": "broke", "type": "server_error"}}) + LAST],
    "an event that is no JSON": [sse("{nope") + LAST],
    "silence": ["stall"],
}


def ask_and_break(fault: str, path: str, body: dict[str, Any]) -> tuple[Any, int]:
    """The answer to a stream that fails once the client has seen its first content; and the number of upstream calls."""
    seen = threading.Event()
    start = chat_delta(role="assistant", content="hel")
    script: list[Any] = [STREAM_HEAD, start, lambda _: seen.wait(10), *LATE[fault]]
    with upstream(script, CHAT_STREAM) as up:
        config = {**behind(up, "openai-chat", keys=["one-key", "two-key"]), "timeouts": {"idle_s": 0.3}}
        with proxy(config) as served, connect(served.port) as sock:
            sock.sendall(request_bytes(path, {**body, "stream": True}))
            got = b""
            while b"hel" not in got:
                got += sock.recv(65536)
            seen.set()
            return read_answer(sock, got), len(up.seen)


@pytest.mark.parametrize("fault", LATE)
def test_a_late_failure_is_an_error_in_the_clients_format(fault: str) -> None:
    answer, calls = ask_and_break(fault, "/v1/messages", ANTHROPIC_ASK)
    assert answer.status == 200
    assert b"event: error\ndata: " in answer.body
    assert b"message_stop" not in answer.body
    assert calls == 1


@pytest.mark.parametrize("fault", [name for name in LATE if "JSON" not in name])
def test_a_late_failure_in_a_relayed_stream(fault: str) -> None:
    answer, calls = ask_and_break(fault, "/v1/chat/completions", CHAT_ASK)
    assert b'data: {"error"' in answer.body
    assert b"[DONE]" not in answer.body
    assert calls == 1


def test_a_late_failure_in_a_relayed_anthropic_stream() -> None:
    script: list[Any] = [STREAM_HEAD, ANTHROPIC_START + ANTHROPIC_TEXT, b"20\r\nevent: content_block_de", CLOSE]
    with upstream(script) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
    assert answer.body.count(b"\n\nevent: error\ndata: ") == 1


# ---------------------------------------------------------------- connections


def test_connections_are_kept_and_reused() -> None:
    with upstream([http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        for _ in range(5):
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    assert (len(up.seen), up.connections) == (5, 1)


def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """The upstream closes as soon as it has answered, without saying so; no request fails."""
    with upstream([http(200, CHAT_BODY), CLOSE]) as up, proxy({**behind(up, "openai-chat"), **ONCE}) as served:
        for _ in range(50):
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    assert len(up.seen) == 50


def test_a_request_is_repeated_once_only_where_nothing_was_answered() -> None:
    with upstream([http(200, CHAT_BODY)], [CLOSE], [http(200, CHAT_BODY)]) as up:
        with proxy({**behind(up, "openai-chat"), **ONCE}) as served:
            assert [ask(served.port, "/v1/chat/completions", CHAT_ASK).status for _ in range(2)] == [200, 200]
    assert (len(up.seen), up.connections) == (3, 2)


def test_answers_with_extra_bytes_poison_no_connection() -> None:
    extra = http(200, CHAT_BODY) + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"
    with upstream([extra]) as up, proxy(behind(up, "openai-chat")) as served:
        for _ in range(3):
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).json == CHAT_BODY
    assert up.connections == 3


def test_interim_answers_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3
    with upstream([early + http(200, CHAT_BODY)]) as up, proxy({**behind(up, "openai-chat"), **ONCE}) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    with upstream([early * 4 + http(200, CHAT_BODY)]) as up, proxy({**behind(up, "openai-chat"), **ONCE}) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 502


@pytest.mark.parametrize("how", ["gzip", "x-gzip", "deflate", "raw deflate", "gzip unsaid"])
def test_compressed_answers_are_decoded_all_the_same(how: str) -> None:
    import gzip
    import zlib

    raw = json.dumps(CHAT_BODY).encode()
    packed = gzip.compress(raw) if "gzip" in how else zlib.compress(raw)
    if how == "raw deflate":
        packed = zlib.compress(raw)[2:-4]
    headers = {} if "unsaid" in how else {"content_encoding": how.split()[-1]}
    with upstream([http(200, packed, **headers)]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
        assert answer.json == CHAT_BODY
        assert "content-encoding" not in answer.headers
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).json["content"][0]["text"] == "hello"


def test_a_compressed_stream() -> None:
    import gzip

    events = b"".join(b"data: " + json.dumps(c).encode() + b"\n\n" for c in (
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hello"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ))  # fmt: skip
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    with upstream([head, chunk(gzip.compress(events)) + LAST]) as up, proxy(behind(up, "openai-chat")) as served:
        assert stream_text(ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True}).body) == "hello"


def test_a_compressed_bomb_is_refused() -> None:
    import gzip

    bomb = gzip.compress(b" " * 300_000_000, 9)
    with (
        upstream([http(200, bomb, content_encoding="gzip")]) as up,
        proxy({**behind(up, "openai-chat"), **ONCE}) as served,
    ):
        answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert answer.status == 502
    assert "decompressed data too large" in answer.json["error"]["message"]


def test_an_early_answer_while_the_body_is_still_being_sent() -> None:
    big = {**CHAT_ASK, "padding": "x" * 8_000_000}

    with upstream([http(413, ERROR)]) as up, proxy({**behind(up, "openai-chat"), **ONCE}) as served:
        assert ask(served.port, "/v1/chat/completions", big).status == 413


def test_secrets_in_an_upstreams_error_are_blotted_out() -> None:
    leak = {"error": {"message": "bad key upstream-key-one", "type": "invalid_request_error"}}
    with upstream([http(400, leak)]) as up, proxy(behind(up, "openai-chat")) as served:
        for path, body in (("/v1/chat/completions", CHAT_ASK), ("/v1/messages", ANTHROPIC_ASK)):
            answer = ask(served.port, path, body)
            assert b"upstream-key-one" not in answer.body
            assert b"[redacted]" in answer.body


def test_the_clients_own_key() -> None:
    with upstream(
        [http(200, ANTHROPIC_BODY)],
        [http(401, {"type": "error", "error": {"type": "authentication_error", "message": "no"}})],
    ) as up:
        with proxy(behind(up, "anthropic", keys="from-client")) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK, authorization="Bearer mine").status == 200
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_api_key="mine-too").status == 401
    assert [seen.header("x-api-key") for seen in up.seen] == ["mine", "mine-too"]


def test_an_unterminated_tool_call_is_not_a_success() -> None:
    start = anthropic_event(
        "content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}}
    )
    with upstream([STREAM_HEAD, ANTHROPIC_START + start + LAST]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/chat/completions", {**CHAT_ASK, "stream": True})
    assert b"ended early" in answer.body and b"[DONE]" not in answer.body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_many_requests_at_once_over_a_few_connections(path: str, stream: bool) -> None:
    """Connections change hands in the callback that ends an answer, before the task that waited for it goes on."""
    import asyncio

    from tests.bench.load import drive

    body = {**(CHAT_ASK if "chat" in path else ANTHROPIC_ASK), "stream": stream}
    with upstream(CHAT_STREAM if stream else [http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        asyncio.run(asyncio.wait_for(drive(served.port, request_bytes(path, body), 320, 8), 20))
    assert len(up.seen) == 320
    assert up.connections <= 16


# ---------------------------------------------------------------- upstreams that are odder than that

ODD = {
    "a redirect to nowhere": [b"HTTP/1.1 301 Moved\r\nlocation: http://[::1\r\ncontent-length: 0\r\n\r\n"],
    "violations of another type": [
        http(500, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"violations": 7}]}})
    ],
    "three thousand compressed nothings": [http(200, gzip.compress(b"") * 3000, content_encoding="gzip")],
    "an error of two megabytes": [http(500, b"x" * 2_000_000, "text/plain")],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", ODD)
def test_another_target_answers(what: str, stream: bool) -> None:
    with upstream(ODD[what]) as odd, upstream(CHAT_STREAM if stream else [http(200, CHAT_BODY)]) as good:
        config = {
            "upstreams": {
                "odd": {"format": "gemini", "base_url": f"http://127.0.0.1:{odd.port}", "keys": ["one-key"]},
                "good": {"format": "openai-chat", "base_url": f"http://127.0.0.1:{good.port}/v1", "keys": ["two-key"]},
            },
            "models": {"m": ["odd/m", "good/m"]},
        }
        with proxy(config) as served:
            answer = ask(served.port, "/v1beta/models/m:" + ("streamGenerateContent?alt=sse" if stream else "generateContent"),
                         {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})  # fmt: skip
    assert (answer.status, b"hel" in answer.body) == (200, True)


def test_a_reason_of_another_type_is_relayed_as_it_is() -> None:
    with upstream([STREAM_HEAD, sse({"candidates": [{"finishReason": [[]]}]}) + LAST]) as up:
        with proxy(behind(up, "gemini")) as served:
            answer = ask(served.port, "/v1beta/models/m:streamGenerateContent?alt=sse", {"contents": []})
    assert answer.status == 200 and b'"finishReason": [[]]' in answer.body


def test_a_host_that_cannot_be_a_name() -> None:
    config = {"upstreams": {"up": {"format": "openai-chat", "base_url": "https://a..b.example/v1", "keys": ["a-key"]}}}
    with proxy({**config, **ONCE}) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        assert (answer.status, "cannot resolve host" in answer.json["error"]["message"]) == (502, True)
        assert ask(served.port, "/v1/models", method="GET").status == 200


def test_a_model_of_two_megabytes() -> None:
    with upstream([http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        assert ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "model": "m" * 2_000_000}).status == 400
        assert ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "model": "m" * 1000}).status == 200
    assert len(up.seen) == 1


def test_an_old_client_hears_the_end_of_a_stream() -> None:
    """Without chunks the end of the connection is the end of the answer."""
    with upstream(CHAT_STREAM) as up, proxy(behind(up, "openai-chat")) as served, connect(served.port) as sock:
        raw = request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}, connection="keep-alive")
        sock.sendall(raw.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        got = b""
        while data := sock.recv(65536):
            got += data
    assert b"message_stop" in got and b"onnection: keep-alive" not in got


def test_a_request_that_one_target_cannot_express_goes_to_the_next() -> None:
    """And a failure elsewhere is told rather than the refusal."""
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    body = {**CHAT_ASK, "messages": [{"role": "user", "content": [sound]}]}
    with upstream([http(200, CHAT_BODY)], [http(500, ERROR)]) as good, upstream([http(200, ANTHROPIC_BODY)]) as deaf:
        config = {
            "upstreams": {
                "deaf": {"format": "anthropic", "base_url": f"http://127.0.0.1:{deaf.port}", "keys": ["one-key"]},
                "good": {"format": "openai-chat", "base_url": f"http://127.0.0.1:{good.port}/v1", "keys": ["two-key"]},
            },
            "models": {"m": ["deaf/m", "good/m"], "n": "deaf/n"},
            **ONCE,
        }
        with proxy(config) as served:
            assert ask(served.port, "/v1/chat/completions", body).headers["x-ccproxy-upstream"] == "good/m"
            assert ask(served.port, "/v1/chat/completions", body).status == 500
            refused = ask(served.port, "/v1/chat/completions", {**body, "model": "n"})
            assert refused.status == 400 and "messages[0].content[0]" in refused.json["error"]["message"]
    assert deaf.seen == []
