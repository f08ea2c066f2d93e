"""All sixteen pairs of client and upstream format through real sockets, and the endpoints of the formats."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS, failures
from ccproxy_lite.formats.neutral.events import End, Event, fold
from ccproxy_lite.formats.sse import Parser
from tests.support import (
    CLOSE,
    GEMINI_ASK,
    LAST,
    RESPONSES_ASK,
    STREAM_HEAD,
    WIRES,
    Answer,
    ask,
    behind,
    chunk,
    connect,
    gemini_chunk,
    http,
    proxy,
    read_answer,
    request_bytes,
    sse,
    upstream,
)

PAIRS = [(client, up) for client in WIRES for up in WIRES]
KEY_HEADER = {
    "anthropic": ("x-api-key", "upstream-key-one"),
    "openai-responses": ("authorization", "Bearer upstream-key-one"),
    "openai-chat": ("authorization", "Bearer upstream-key-one"),
    "gemini": ("x-goog-api-key", "upstream-key-one"),
}


def events_of(form: str, answer: Answer, stream: bool) -> list[Event]:
    if not stream:
        return FORMATS[form].read_body(answer.json, "")
    reader = FORMATS[form].reader("")
    return [event for part in Parser().feed(answer.body) for event in reader.feed(part)] + reader.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_a_pair(client: str, up_format: str, stream: bool) -> None:
    """Path, key and body are those of the upstream's format; the answer is one of the client's."""
    wire, above = WIRES[client], WIRES[up_format]
    path, body = wire.asked(stream)
    script = above.stream if stream else [http(200, above.body)]
    with upstream(script) as up, proxy(behind(up, up_format)) as served:
        answer = ask(served.port, path, body, authorization="Bearer client-key")
    assert answer.status == 200 and answer.headers["x-ccproxy-upstream"] == "up/m"
    parts, end = fold(events_of(client, answer, stream))
    assert "".join(part.text for part in parts) == "hello"
    assert isinstance(end, End) and end.reason == "end" and end.usage is not None
    assert (end.usage.input, end.usage.output) == (3, 1)
    assert answer.headers["content-type"].startswith("text/event-stream" if stream else "application/json")
    seen = up.seen[0]
    assert seen.head.split(" ")[1] == above.asked(stream)[0]
    name, value = KEY_HEADER[up_format]
    assert seen.header(name) == value
    assert "client-key" not in seen.head


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("form", WIRES)
def test_the_same_format_is_not_touched(form: str, stream: bool) -> None:
    """Unknown fields, key order, spacing and unknown events survive byte for byte."""
    path, body = WIRES[form].asked(stream)
    raw = json.dumps({"zeta": 1, **body, "brand_new": {"b": [1.0, 1e3], "a": "\u2028"}}, indent=3).encode()
    if stream:
        events = [step for step in WIRES[form].stream[1:] if isinstance(step, bytes)]
        middle = chunk(b": a comment\n\nevent: brand_new\ndata: {}\n\n")
        script: list[Any] = [STREAM_HEAD, events[0], middle, *events[1:]]
    else:
        script = [http(200, json.dumps({**WIRES[form].body, "brand_new": 1}, indent=3).encode())]
    with upstream(script) as up, proxy(behind(up, form)) as served:
        answer = ask(served.port, path, raw)
    assert up.seen[0].body == raw
    if stream:
        assert b": a comment\nevent: brand_new\ndata: {}\n\n" in answer.body
    else:
        assert answer.body == script[0].partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(("client", "up_format"), PAIRS)
def test_a_late_failure_is_told_in_the_clients_way(client: str, up_format: str) -> None:
    """An in-band error; Gemini's clients also hear it by the connection's end."""
    path, body = WIRES[client].asked(True)
    with upstream([*WIRES[up_format].begun, CLOSE]) as up, proxy({**behind(up, up_format), "retries": 0}) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes(path, body))
            raw = b""
            while data := sock.recv(65536):
                raw += data
                if raw.endswith(LAST):
                    break
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert b"closed the connection before the response was complete" in raw
    assert raw.endswith(LAST) is (client != "gemini")


@pytest.mark.parametrize("up_format", WIRES)
@pytest.mark.parametrize("stream", ["a stream", "one body"])
def test_gemini_streams_as_an_array_unless_asked_otherwise(up_format: str, stream: str) -> None:
    """``streamGenerateContent`` without ``alt=sse``, also from a service that does not stream."""
    script = WIRES[up_format].stream if stream == "a stream" else [http(200, WIRES[up_format].body)]
    with upstream(script) as up, proxy(behind(up, up_format)) as served:
        answer = ask(served.port, "/v1beta/models/m:streamGenerateContent?key=k", GEMINI_ASK)
    assert answer.headers["content-type"].startswith("application/json")
    texts = [part["text"] for chunk in answer.json for part in chunk["candidates"][0]["content"]["parts"]]
    assert "".join(texts) == "hello"
    if up_format == "gemini":
        assert up.seen[0].head.split(" ")[1] == "/v1beta/models/m:streamGenerateContent?alt=sse"


def test_an_array_of_chunks_is_read_where_events_were_asked_for() -> None:
    """As a Gemini service answers that does not know ``alt=sse``."""
    chunks = [gemini_chunk({"text": "hel"}), WIRES["gemini"].body]
    with upstream([http(200, chunks)]) as up, proxy(behind(up, "gemini")) as served:
        path, body = WIRES["anthropic"].asked(True)
        parts, _ = fold(events_of("anthropic", ask(served.port, path, body), True))
    assert parts[0].text == "helhello"


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/m:generateContent", "m"),
        ("/v1beta/models/models/m:generateContent", "m"),
        ("/v1beta/models/google/gemini-3:generateContent", "google/gemini-3"),
        ("/v1beta/models/google%2Fgemini-3:generateContent", "google/gemini-3"),
        ("/v1beta/models/llama3:8b:generateContent", "llama3:8b"),
        ("/v1beta/models/llama3%3A8b%3AgenerateContent", "llama3:8b"),
        ("/api/provider/up/v1beta/models/m:generateContent", "m"),
    ],
)
def test_a_gemini_path_holds_the_model(path: str, model: str) -> None:
    with upstream([http(200, WIRES["openai-chat"].body)]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, path, GEMINI_ASK)
    assert answer.status == 200, answer.body
    assert up.seen[0].json["model"] == model


def test_a_gemini_model_is_mapped_in_the_path_and_the_version_is_kept() -> None:
    with upstream([http(200, WIRES["gemini"].body)]) as up:
        config = {**behind(up, "gemini"), "models": {"fast": "up/gemini-3.5-flash"}}
        with proxy(config) as served:
            assert ask(served.port, "/v1/models/fast:generateContent?x=1&key=k", GEMINI_ASK).status == 200
    assert up.seen[0].head.split(" ")[1] == "/v1/models/gemini-3.5-flash:generateContent?x=1"


def test_a_model_does_not_climb_out_of_its_path() -> None:
    with upstream([http(200, WIRES["gemini"].body)]) as up, proxy(behind(up, "gemini")) as served:
        path, body = WIRES["openai-chat"].asked(False)
        ask(served.port, path, {**body, "model": "../../v1/files?x"})
    assert up.seen[0].head.split(" ")[1] == "/v1beta/models/..%2F..%2Fv1%2Ffiles%3Fx:generateContent"


# ---------------------------------------------------------------- other endpoints


def test_a_websocket_is_answered_with_426() -> None:
    with proxy({"upstreams": {"echo": {"format": "echo"}}}) as served:
        asked = {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec_websocket_key": "eA==",
            "sec_websocket_version": "13",
        }
        answer = ask(served.port, "/v1/responses", None, "GET", **asked)
        plain = ask(served.port, "/v1/responses", None, "GET")
    assert (answer.status, answer.headers["upgrade"]) == (426, "HTTP/1.1")
    assert plain.status == 405


def test_models_in_three_dialects() -> None:
    models = {"upstreams": {"up": {"format": "echo", "models": ["a/b", "c"]}}, "models": {"fast": "up/c"}}
    with proxy(models) as served:

        def listed(path: str, **headers: str) -> Any:
            return ask(served.port, path, None, "GET", **headers).json

        assert [model["id"] for model in listed("/v1/models")["data"]] == ["fast", "a/b", "c"]
        assert listed("/v1/models", anthropic_version="2023-06-01")["first_id"] == "fast"
        names = ["models/fast", "models/a/b", "models/c"]
        for path, headers in (
            ("/v1/models", {"x_goog_api_key": "k"}),
            ("/v1/models?key=k", {}),
            ("/v1beta/models", {}),
        ):
            assert [model["name"] for model in listed(path, **headers)["models"]] == names
        assert [model["id"] for model in listed("/api/provider/up/v1/models")["data"]] == ["a/b", "c"]
        assert listed("/v1/models/a/b")["id"] == "a/b"
        assert listed("/v1/models/a%2Fb")["id"] == "a/b"
        assert listed("/v1beta/models/fast")["name"] == "models/fast"
        assert listed("/v1/models/fast", x_goog_api_key="k")["name"] == "models/fast"
        assert listed("/v1/models/fast", anthropic_version="2023-06-01")["type"] == "model"
        assert listed("/v1beta/models/nope")["error"]["status"] == "NOT_FOUND"
        assert listed("/v1/models/nope")["error"]["code"] == "model_not_found"


COUNTS = {
    "anthropic": ("/v1/messages/count_tokens", WIRES["anthropic"].ask, "input_tokens"),
    "openai-responses": ("/v1/responses/input_tokens", RESPONSES_ASK, "input_tokens"),
    "gemini": ("/v1beta/models/m:countTokens", GEMINI_ASK, "totalTokens"),
}
COUNTED = {
    "anthropic": ("/v1/messages/count_tokens", {"input_tokens": 42}),
    "openai-responses": ("/v1/responses/input_tokens", {"object": "response.input_tokens", "input_tokens": 42}),
    "gemini": ("/v1beta/models/m:countTokens", {"totalTokens": 42}),
}


@pytest.mark.parametrize("up_format", WIRES)
@pytest.mark.parametrize("client", COUNTS)
def test_counting(client: str, up_format: str) -> None:
    """By the upstream where it can, else an estimate that says so."""
    path, body, field = COUNTS[client]
    counted, answer = COUNTED.get(up_format, ("", {}))
    with upstream([http(200, answer)]) as up, proxy(behind(up, up_format)) as served:
        told = ask(served.port, path, body)
    if counted:
        assert (told.json[field], up.seen[0].head.split(" ")[1]) == (42, counted)
        assert "x-ccproxy-estimate" not in told.headers
    else:
        assert 0 < told.json[field] < 42 and told.headers["x-ccproxy-estimate"] == "1"
        assert up.seen == []
    if client == up_format:
        assert up.seen[0].json == {key: value for key, value in body.items() if key != "max_tokens"}


def test_a_whole_gemini_request_is_counted_with_its_tools() -> None:
    inner = {**GEMINI_ASK, "model": "models/alias", "tools": [{"functionDeclarations": [{"name": "f"}]}]}
    with upstream([http(200, {"totalTokens": 42})]) as up:
        with proxy({**behind(up, "gemini"), "models": {"alias": "up/real"}}) as served:
            body = {"generateContentRequest": inner}
            assert ask(served.port, "/v1beta/models/alias:countTokens", body).json == {"totalTokens": 42}
    assert up.seen[0].json["generateContentRequest"] == {**inner, "model": "models/real"}


@pytest.mark.parametrize("form", WIRES)
@pytest.mark.parametrize(
    ("status", "kind"), [(400, "bad_request"), (404, "not_found"), (429, "rate_limit"), (503, "overloaded")]
)
def test_errors_keep_their_meaning(form: str, status: int, kind: str) -> None:
    """From a Gemini upstream, which has its own words for everything, into each dialect."""
    body = {"error": {"code": status, "message": "the words", "status": "X", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}]}}  # fmt: skip
    path, asked = WIRES[form].asked(False)
    with upstream([http(status, body)]) as up, proxy({**behind(up, "gemini"), "retries": 0}) as served:
        answer = ask(served.port, path, asked)
    failed = failures.read_error(answer.status, answer.json)
    assert (failed.kind, failed.message) == (kind, "the words")
    assert answer.headers["retry-after"] == "2"


def test_an_invalid_google_key_is_the_proxys_trouble_and_not_the_clients() -> None:
    body = {"error": {"code": 400, "message": "API key not valid", "status": "INVALID_ARGUMENT", "details": [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}  # fmt: skip
    path, asked = WIRES["anthropic"].asked(False)
    with upstream([http(400, body)]) as up, proxy({**behind(up, "gemini"), "retries": 0}) as served:
        answer = ask(served.port, path, asked)
    assert answer.status == 502 and "rejected the API key" in answer.json["error"]["message"]


def test_a_conversation_that_changes_its_service_stays_valid() -> None:
    """A thought that Anthropic sealed, in a Gemini client's history, is for Anthropic alone."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    body = {**WIRES["anthropic"].body, "content": [thought, call], "stop_reason": "tool_use"}
    tools = [{"functionDeclarations": [{"name": "f"}]}]
    with upstream([http(200, body)]) as first, proxy(behind(first, "anthropic")) as served:
        path = "/v1beta/models/gemini-3-pro:generateContent"
        turn = ask(served.port, path, {**GEMINI_ASK, "tools": tools}).json["candidates"][0]["content"]
        result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "1"}}}]}
        history = {"contents": [*GEMINI_ASK["contents"], turn, result], "tools": tools}
        ask(served.port, path, history)
    assert first.seen[1].json["messages"][1]["content"] == [thought, call]
    seen: dict[str, Any] = {}
    for form, wire in WIRES.items():
        with upstream([http(200, wire.body)]) as other, proxy(behind(other, form)) as served:
            assert ask(served.port, path, history).status == 200
            seen[form] = other.seen[0].json
    assert "c2lnbmVk" not in json.dumps({**seen, "anthropic": None})
    assert seen["gemini"]["contents"][1]["parts"] == [
        {
            "functionCall": {"id": "toolu_1", "name": "f", "args": {}},
            "thoughtSignature": "skip_thought_signature_validator",
        }
    ]


def test_nothing_of_one_answer_is_kept_for_the_next() -> None:
    """Two requests on one connection, in two formats, through one upstream."""
    with upstream([http(200, WIRES["gemini"].body)]) as up, proxy(behind(up, "gemini")) as served:
        with connect(served.port) as sock:
            for form in WIRES:
                path, body = WIRES[form].asked(False)
                sock.sendall(request_bytes(path, body))
                parts, _ = fold(events_of(form, read_answer(sock), False))
                assert [part.text for part in parts] == ["hello"]


def test_a_list_that_cannot_be_had_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with upstream([http(500, {"error": {"message": "no list today"}})]) as up, proxy(behind(up, "gemini")) as served:
        assert ask(served.port, "/v1beta/models", None, "GET").json == {"models": []}
    assert "could not list models of up" in caplog.text


@pytest.mark.parametrize("form", WIRES)
def test_the_echo_makes_what_a_schema_asks_for(form: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    more: dict[str, Any] = {
        "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
        "openai-responses": {"text": {"format": {"type": "json_schema", "name": "a", "schema": schema}}},
        "openai-chat": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}},
        "gemini": {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}},
    }[form]
    with proxy({"upstreams": {"echo": {"format": "echo"}}}) as served:
        path, body = WIRES[form].asked(False)
        parts, _ = fold(events_of(form, ask(served.port, path, {**body, **more}), False))
    assert json.loads(parts[0].text) == {"n": 1}


# ---------------------------------------------------------------- what adversaries found


@pytest.mark.parametrize("form", WIRES)
def test_half_an_event_waits_so_that_no_secret_stands_in_its_middle(form: str) -> None:
    """An error event that comes in two reads, and quotes the upstream's key."""
    error = {"type": "error", "error": {"message": "bad upstream-key-one", "code": 503, "type": "api_error"}}
    line = (b"event: error\n" if form == "anthropic" else b"") + b"data: " + json.dumps(error).encode() + b"\n\n"
    middle = line.index(b"key-one")
    half = threading.Event()
    script = [*WIRES[form].begun, chunk(line[:middle]), lambda _: half.wait(10), chunk(line[middle:]) + LAST]
    path, body = WIRES[form].asked(True)
    with upstream(script) as up, proxy({**behind(up, form), "retries": 0}) as served, connect(served.port) as sock:
        sock.sendall(request_bytes(path, body))
        raw = sock.recv(65536)
        half.set()
        while data := sock.recv(65536):
            raw += data
            if raw.endswith(LAST):
                break
    assert b"upstream-key-one" not in raw and b"bad [redacted]" in raw


@pytest.mark.parametrize("form", WIRES)
def test_a_break_in_the_middle_of_an_event_leaves_whole_events_only(form: str) -> None:
    path, body = WIRES[form].asked(True)
    script = [*WIRES[form].begun, chunk(b'data: {"a":"b'), CLOSE]
    with upstream(script) as up, proxy({**behind(up, form), "retries": 0}) as served, connect(served.port) as sock:
        sock.sendall(request_bytes(path, body))
        raw = b""
        while data := sock.recv(65536):
            raw += data
            if raw.endswith(LAST):
                break
    assert b'{"a"' not in raw and b"closed the connection before the response was complete" in raw


@pytest.mark.parametrize("client", WIRES)
@pytest.mark.parametrize("model", ["m ", " ", ""])
def test_a_model_of_blanks(client: str, model: str) -> None:
    path, body = WIRES[client].asked(False)
    if client == "gemini":
        path = path.replace("/m:", f"/{model.replace(' ', '%20')}:")
    with upstream([http(200, WIRES["openai-chat"].body)]) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, path, {**body, "model": model})
    assert answer.status == (200 if model.strip() else 404 if client == "gemini" and not model else 400)


@pytest.mark.parametrize("delay", ["infs", "nans", "1e400s", "1e308s", "soon", "-3s"])
def test_an_absurd_hint_is_no_hint(delay: str) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    body = {"error": {"code": 429, "message": "slow down", "details": [info, 5, {"@type": 3}]}}
    path, asked = WIRES["openai-chat"].asked(False)
    with upstream([http(429, body)]) as up, proxy({**behind(up, "gemini"), "retries": 0}) as served:
        answer = ask(served.port, path, asked)
    assert (answer.status, answer.json["error"]["message"]) == (429, "slow down")
    assert answer.headers["retry-after"] == "1", "the proxy's own guess"


EMPTY = {
    "openai-chat": sse("[DONE]"),
    "openai-responses": sse({"type": "response.completed"}, "response.completed"),
    "gemini": sse({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "index": 0}]}),
}


@pytest.mark.parametrize("client", WIRES)
@pytest.mark.parametrize("form", EMPTY)
def test_an_answer_of_nothing_is_tried_elsewhere(form: str, client: str) -> None:
    path, body = WIRES[client].asked(True)
    with upstream([STREAM_HEAD, EMPTY[form] + LAST], WIRES[form].stream) as up, proxy(behind(up, form)) as served:
        parts, _ = fold(events_of(client, ask(served.port, path, body), True))
    assert ["".join(part.text for part in parts), len(up.seen)] == ["hello", 2]


@pytest.mark.parametrize("path", ["m:embedContent", "m:generatecontent", "m:", ":generateContent", "m"])
def test_an_unknown_method_of_google_is_not_there(path: str) -> None:
    with proxy({"upstreams": {"echo": {"format": "echo"}}}) as served:
        answer = ask(served.port, f"/v1beta/models/{path}", GEMINI_ASK)
    assert (answer.status, answer.json["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("query", ["?alt=sse", ""])
def test_an_old_client_of_gemini_hears_the_break_too(query: str) -> None:
    """HTTP/1.0 has no chunks, so only a reset says that an answer is not complete."""
    with (
        upstream([*WIRES["openai-chat"].begun, CLOSE]) as up,
        proxy({**behind(up, "openai-chat"), "retries": 0}) as served,
    ):
        with connect(served.port) as sock, pytest.raises(ConnectionResetError):
            raw = json.dumps(GEMINI_ASK).encode()
            head = f"POST /v1beta/models/m:streamGenerateContent{query} HTTP/1.0\r\nHost: localhost\r\n"
            sock.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
            while sock.recv(65536):
                pass
