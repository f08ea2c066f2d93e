"""Silence on a stream: the client of each format gets what it ignores, and failing over goes on behind it."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from tests.services import service, steps_of
from tests.support import (
    ANTHROPIC_END,
    CHAT_STREAM,
    LAST,
    PATIENCE_S,
    STALL,
    STREAM_HEAD,
    WIRES,
    Answer,
    ask,
    behind,
    chat_delta,
    chunk,
    connect,
    eventually,
    http,
    process,
    proxy,
    read_answer,
    request_bytes,
    settings_of,
    upstream,
)

KEEP = {name: form.keep_alive for name, form in FORMATS.items()}
SOON = {"keepalive_s": 0.05}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog looks more often, or all of this takes a minute."""
    monkeypatch.setattr("ccproxy_lite.net.watchdog._MAX_PERIOD_S", 0.05)


class Client:
    """A raw client that hears a stream piece by piece."""

    def __init__(self, port: int, form: str, path: str = "", **headers: str) -> None:
        self.sock = connect(port)
        asked, body = WIRES[form].asked(True)
        self.got = b""
        self.sock.sendall(request_bytes(path or asked, body, **headers))

    def until(self, wanted: bytes, count: int = 1) -> None:
        while self.got.count(wanted) < count:
            data = self.sock.recv(65536)
            assert data, self.got
            self.got += data

    def rest(self) -> Answer:
        answer = read_answer(self.sock, self.got)
        self.sock.close()
        return answer


def chunked(keep_alive: bytes) -> bytes:
    """A keep-alive as it stands on the wire."""
    return b"%x\r\n%b\r\n" % (len(keep_alive), keep_alive)


@pytest.mark.parametrize("form", WIRES)
@pytest.mark.parametrize("client", WIRES)
def test_before_the_first_event_and_between_events(client: str, form: str) -> None:
    begin, go_on = threading.Event(), threading.Event()
    content = WIRES[form].begun
    wait: list[Any] = [lambda _: begin.wait(PATIENCE_S), *content, lambda _: go_on.wait(PATIENCE_S)]
    with upstream([*wait, *steps_of(form, "ok", True, b"")[len(content) :]]) as up:
        with proxy({**behind(up, form), **SOON}) as served:
            talk = Client(served.port, client)
            talk.until(chunked(KEEP[client]), 2)
            assert talk.got.startswith(b"HTTP/1.1 200 ")
            assert b"hel" not in talk.got
            begin.set()
            talk.until(b"hel")
            before = talk.got.count(chunked(KEEP[client]))
            talk.until(chunked(KEEP[client]), before + 2)
            go_on.set()
            answer = talk.rest()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-ccproxy-upstream"] == "up/m"
    assert not re.search(rb"error", answer.body.replace(b'"error":null', b"").replace(b'"error": null', b""))
    if client == "gemini":
        assert not re.search(rb"^:", answer.body, re.MULTILINE), "comments break Gemini's clients"


def test_an_early_head_says_what_is_known() -> None:
    go_on = threading.Event()
    with upstream([lambda _: go_on.wait(PATIENCE_S), *CHAT_STREAM]) as up:
        with proxy({**behind(up, "openai-chat"), **SOON}) as served, connect(served.port) as sock:
            path, body = WIRES["anthropic"].asked(True)
            sock.sendall(request_bytes(path, {**body, "top_k": 3}))
            got = sock.recv(65536)
            go_on.set()
            answer = read_answer(sock, got)
    assert answer.headers["x-ccproxy-dropped"] == "top_k" and answer.headers["x-ccproxy-upstream"] == "up/m"


def test_a_client_that_does_not_read_gets_none() -> None:
    """It is not waiting for anything."""
    flood = chat_delta(content="x" * 60_000)
    go_on = threading.Event()
    with upstream([STREAM_HEAD, *[flood] * 400, lambda _: go_on.wait(PATIENCE_S), *CHAT_STREAM[1:]]) as up:
        with proxy({**behind(up, "openai-chat"), **SOON}) as served, connect(served.port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sock.sendall(request_bytes(*WIRES["openai-chat"].asked(True)))
            assert eventually(lambda: served.call(lambda: any(c.blocked for c in served.connections())))
            time.sleep(0.5)  # ten times the silence after which a reader would get one
            go_on.set()
            got = read_answer(sock).body
    before = got[: got.rindex(b"x" * 60_000)]
    assert before.count(b"keep-alive") <= 2


def test_whole_answers_get_none() -> None:
    """It would have to say 200 before anybody knows."""
    go_on = threading.Event()
    with upstream([lambda _: go_on.wait(PATIENCE_S), http(500, {})]) as up:
        with proxy({**behind(up, "openai-chat"), "retries": 0, **SOON}) as served, connect(served.port) as sock:
            sock.sendall(request_bytes(*WIRES["openai-chat"].asked(False)))
            sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                sock.recv(1)
            sock.settimeout(PATIENCE_S)
            go_on.set()
            assert read_answer(sock).status == 500


def test_they_can_be_turned_off() -> None:
    go_on = threading.Event()
    with upstream([lambda _: go_on.wait(PATIENCE_S), *CHAT_STREAM]) as up:
        with proxy({**behind(up, "openai-chat"), "keepalive_s": 0}) as served:
            talk = Client(served.port, "openai-chat")
            talk.sock.settimeout(0.7)
            with pytest.raises(TimeoutError):
                talk.sock.recv(1)
            talk.sock.settimeout(PATIENCE_S)
            go_on.set()
            assert talk.rest().body.count(b": keep-alive") == 0


def test_a_stream_that_flows_gets_none() -> None:
    pieces: list[Any] = [chat_delta(content="x")] * 3
    slow = [step for piece in pieces for step in (piece, lambda _: time.sleep(0.1))]
    with upstream([STREAM_HEAD, *slow, *CHAT_STREAM[1:]]) as up:
        with proxy({**behind(up, "openai-chat"), "keepalive_s": 2}) as served:
            assert b"keep-alive" not in Client(served.port, "openai-chat").rest().body


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_never_inside_an_event(cut: int) -> None:
    """However the upstream's bytes are cut, and wherever it falls silent."""
    go_on = threading.Event()
    event = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
    head = STREAM_HEAD + b"".join(step for step in WIRES["anthropic"].begun[1:] if isinstance(step, bytes))
    steps: list[Any] = [
        head + chunk(event[:cut]) if cut else head,
        lambda _: go_on.wait(PATIENCE_S),
        chunk(event[cut:]),
        *WIRES["anthropic"].stream[3:],
        ANTHROPIC_END + LAST,
    ]
    with upstream(steps) as up, proxy({**behind(up, "anthropic"), **SOON}) as served:
        talk = Client(served.port, "anthropic")
        talk.until(chunked(KEEP["anthropic"]))
        go_on.set()
        body = talk.rest().body
    assert event in body, "in one piece"


def test_in_a_growing_array_they_are_white_space() -> None:
    begin, go_on = threading.Event(), threading.Event()
    wire = WIRES["gemini"]
    steps: list[Any] = [
        lambda _: begin.wait(PATIENCE_S),
        *wire.begun,
        lambda _: go_on.wait(PATIENCE_S),
        wire.stream[-1],
    ]
    with upstream(steps) as up, proxy({**behind(up, "gemini"), **SOON}) as served:
        talk = Client(served.port, "gemini", "/v1beta/models/m:streamGenerateContent")
        talk.until(chunked(b"\n"), 2)
        begin.set()
        talk.until(b"hel")
        talk.until(chunked(b"\n"), 5)
        go_on.set()
        answer = talk.rest()
    assert answer.headers["content-type"] == "application/json"
    assert [part["candidates"][0]["content"]["parts"][0]["text"] for part in answer.json] == ["hel", "lo"]


# ---------------------------------------------------------------- failing over behind them


@pytest.mark.parametrize("fault", ["500", "429", "begins-and-breaks", "error-event", "empty", "reset", "401", "html"])
@pytest.mark.parametrize("client", WIRES)
def test_another_upstream_answers_after_keep_alives(client: str, fault: str) -> None:
    go_on = threading.Event()
    with service("openai-chat") as (first, up), service("anthropic") as (_, other):
        choose = first.choose
        first.say("", "", [fault])
        up.choose = lambda seen: [lambda _: go_on.wait(PATIENCE_S), *choose(seen)]
        config = {
            "upstreams": {
                "up": {"format": "openai-chat", "base_url": f"http://127.0.0.1:{up.port}/v1", "keys": ["key-a"]},
                "other": {"format": "anthropic", "base_url": f"http://127.0.0.1:{other.port}", "keys": ["key-b"]},
            },
            "models": {"m": ["up/m", "other/n"]},
            **SOON,
        }
        with proxy(config) as served:
            talk = Client(served.port, client)
            talk.until(chunked(KEEP[client]), 2)
            go_on.set()
            answer = talk.rest()
    assert answer.status == 200
    assert b"hel" in answer.body
    assert b'"message":"' not in answer.body, "no error"
    assert "x-ccproxy-upstream" not in answer.headers, "nobody knew yet who would answer"


ERRORS = {
    "anthropic": [b"event: error\n", b'"type":"overloaded_error"'],
    "openai-chat": [b'data: {"error":', b'"code":"server_is_overloaded"'],
    "openai-responses": [b"event: response.created\n", b"event: response.failed\n", b'"code":"server_is_overloaded"'],
}


@pytest.mark.parametrize("form", ["openai-chat", "anthropic"])
@pytest.mark.parametrize("client", ERRORS)
def test_when_all_is_lost_after_keep_alives_the_error_is_in_the_stream(client: str, form: str) -> None:
    go_on = threading.Event()
    error = {"error": {"message": "too busy for upstream-key-one", "type": "overloaded_error", "code": None}}
    with upstream([lambda _: go_on.wait(PATIENCE_S), http(503, error)]) as up:
        with proxy({**behind(up, form), "retries": 1, **SOON}) as served:
            talk = Client(served.port, client)
            talk.until(chunked(KEEP[client]), 2)
            go_on.set()
            answer = talk.rest()
    assert answer.status == 200
    at = [answer.body.index(words) for words in ERRORS[client]]
    assert at == sorted(at)
    assert b"too busy for [redacted]" in answer.body
    assert answer.body.rindex(KEEP[client]) < at[0]
    assert len(up.seen) == 2


@pytest.mark.parametrize("path", ["?alt=sse", ""])
def test_gemini_hears_it_and_the_connection_breaks(path: str) -> None:
    go_on = threading.Event()
    with upstream([lambda _: go_on.wait(PATIENCE_S), http(500, {"error": {"message": "boom"}})]) as up:
        with proxy({**behind(up, "openai-chat"), "retries": 0, **SOON}) as served:
            talk = Client(served.port, "gemini", f"/v1beta/models/m:streamGenerateContent{path}")
            talk.until(chunked(b"\n"), 2)
            go_on.set()
            while data := talk.sock.recv(65536):
                talk.got += data
            talk.sock.close()
    assert b'"message":"boom"' in talk.got
    assert not talk.got.endswith(LAST), "the connection was cut"


def test_a_service_that_fell_silent_is_given_up_behind_keep_alives() -> None:
    """They never hide that an upstream is dead."""
    with upstream([STALL]) as up:
        config = {**behind(up, "anthropic"), "timeouts": {"first_byte_s": 0.6}, "retries": 0, "keepalive_s": 0.1}
        with proxy(config) as served:
            answer = Client(served.port, "anthropic").rest()
    assert answer.body.count(KEEP["anthropic"]) >= 2
    assert b"no response from" in answer.body


def test_a_service_that_fell_silent_after_its_first_words() -> None:
    with upstream([*WIRES["anthropic"].begun, STALL]) as up:
        config = {**behind(up, "anthropic"), "timeouts": {"idle_s": 0.6}, "keepalive_s": 0.1}
        with proxy(config) as served:
            answer = Client(served.port, "anthropic").rest()
    assert KEEP["anthropic"] in answer.body
    assert b"no data from" in answer.body and b"message_stop" not in answer.body


def test_a_request_that_nobody_understands_is_told_before_anything_else() -> None:
    with upstream([STALL]) as up, proxy({**behind(up, "openai-chat"), **SOON}) as served:
        answer = ask(served.port, "/v1/messages", {"model": "m", "messages": 5, "stream": True})
    assert answer.status == 400


def test_a_client_that_goes_away_while_a_key_cools_down_ends_the_waiting() -> None:
    with service("anthropic") as (served_by, up):
        served_by.say("", "", ["429 retry-after=10", "ok"])
        with proxy({**behind(up, "anthropic"), **SOON}) as served:
            talk = Client(served.port, "anthropic")
            talk.until(chunked(KEEP["anthropic"]), 2)
            talk.sock.close()
            assert eventually(lambda: served.call(lambda: served.parts.listener.connections) == 0)
            assert served.call(lambda: len(served.parts.parts.pool.watchdog._watched)) <= 1  # the idle upstream
        assert served_by.calls == ["upstream"]


def test_a_shutdown_while_a_key_cools_down_is_told_in_the_stream() -> None:
    with service("anthropic") as (served_by, up):
        served_by.say("", "", ["429 retry-after=15"])
        config = {**behind(up, "anthropic"), "keepalive_s": 0.05, "timeouts": {"drain_s": 0.2}}
        with process(config) as served:
            talk = Client(served.port, "anthropic")
            talk.until(chunked(KEEP["anthropic"]), 2)
            served.process.terminate()
            answer = talk.rest()
            assert served.process.wait(PATIENCE_S) == 0
    assert b"the proxy is shutting down" in answer.body


# ---------------------------------------------------------------- on the real clock


def test_a_hint_of_two_seconds_is_waited_out_with_keep_alives() -> None:
    with service("anthropic") as (served_by, up):
        served_by.say("", "", ["429 retry-after=2", "ok"])
        with proxy({**behind(up, "anthropic"), "keepalive_s": 0.5}) as served:
            began = time.monotonic()
            answer = Client(served.port, "anthropic").rest()
            took = time.monotonic() - began
    assert answer.status == 200 and b"hello" in answer.body
    assert 2 <= took < 3.5
    assert answer.body.count(KEEP["anthropic"]) >= 2
    assert len(served_by.calls) == 2


@pytest.mark.parametrize(
    ("form", "client", "streams", "first", "least_s"),
    [
        ("openai-chat", "anthropic", False, "429 retry-after-ms=600", 0.6),
        ("gemini", "openai-responses", True, "500", 0.35),
    ],
    ids=["a hint, before a whole answer", "a fault"],
)
def test_one_failure_on_the_real_clock(form: str, client: str, streams: bool, first: str, least_s: float) -> None:
    with service(form) as (served_by, up):
        served_by.say("", "", [first, "ok"])
        with proxy(behind(up, form)) as served:
            began = time.monotonic()
            answer = ask(served.port, *WIRES[client].asked(streams))
            took = time.monotonic() - began
    assert answer.status == 200 and least_s <= took < 2


def test_waking_for_nothing_costs_no_patience() -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("", "", ["429 retry-after-ms=900", "ok"])
        config = {**behind(up, "anthropic"), "max_wait_s": 1}
        with proxy(config) as served, connect(served.port) as sock:
            sock.sendall(request_bytes(*WIRES["anthropic"].asked(False)))
            assert eventually(lambda: len(scripted.calls) == 1)
            for _ in range(3):
                served.call(served.parts.relay.wakeup.set)
                served.run(served.parts.use, settings_of({**config, "listen": "127.0.0.1:0"}))
            assert read_answer(sock).status == 200


def test_a_pause_is_not_cut_short_by_news_of_keys() -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("", "", ["500", "500", "ok"])
        with proxy(behind(up, "anthropic")) as served, connect(served.port) as sock:
            began = time.monotonic()
            sock.sendall(request_bytes(*WIRES["anthropic"].asked(False)))
            while not select.select([sock], [], [], 0.05)[0]:
                assert ask(served.port, "/status", {"reset": "all"}).status == 200
            assert read_answer(sock).status == 200
    assert time.monotonic() - began >= 1.1


def test_a_cooldown_that_is_cleared_by_hand_wakes_who_waits() -> None:
    with service("anthropic") as (served_by, up):
        served_by.say("", "", ["429 retry-after=15", "ok"])
        with proxy({**behind(up, "anthropic"), **SOON}) as served:
            began = time.monotonic()
            talk = Client(served.port, "anthropic")
            talk.until(chunked(KEEP["anthropic"]), 2)
            assert ask(served.port, "/status", {"reset": "all"}).json["cleared"] == ["up/***"]
            answer = talk.rest()
            assert time.monotonic() - began < 5
    assert b"hello" in answer.body
