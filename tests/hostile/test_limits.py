"""Slow, stalled, vanishing and greedy peers: what they cost, and how soon they are let go."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.support import (
    ANTHROPIC_ASK,
    ANTHROPIC_STREAM,
    CHAT_ASK,
    CHAT_BODY,
    CHAT_END,
    CHAT_STREAM,
    ECHO,
    LAST,
    PATIENCE_S,
    STALL,
    STREAM_HEAD,
    Answer,
    Proxy,
    Scripted,
    ask,
    behind,
    chat_delta,
    chunk,
    connect,
    eventually,
    http,
    is_closed,
    process,
    proxy,
    read_answer,
    request_bytes,
    sse,
    upstream,
)

STREAMED = {**CHAT_ASK, "stream": True}
CLIENTS = {
    "same format": ("/v1/chat/completions", STREAMED),
    "other format": ("/v1/messages", {**ANTHROPIC_ASK, "stream": True}),
}
PIECE = chat_delta(content="x" * 60_000)


# ---------------------------------------------------------------- clients that go away


def leave(sock: socket.socket, how: str) -> None:
    if how == "reset":
        import struct

        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    elif how == "half-close":
        sock.shutdown(socket.SHUT_WR)
    else:
        sock.close()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("when", ["before the first byte", "in the middle"])
def test_a_client_that_goes_away_closes_its_upstream_within_250_ms(how: str, client: str, when: str) -> None:
    path, body = CLIENTS[client]
    script: list[Any] = (
        [STALL] if "before" in when else [STREAM_HEAD, chat_delta(role="assistant", content="hi"), STALL]
    )
    with upstream(script) as up, proxy(behind(up, "openai-chat")) as served:
        sock = connect(served.port)
        sock.sendall(request_bytes(path, body))
        assert eventually(lambda: len(up.seen) == 1)
        if "middle" in when:
            assert sock.recv(1)
        left = time.monotonic()
        leave(sock, how)
        assert up.gone.wait(5)
        assert time.monotonic() - left < 0.25
        sock.close()
        assert eventually(lambda: served.parts.parts.pool.open_count == 0)
    assert len(up.seen) == 1


def test_a_client_that_goes_away_between_attempts_ends_them() -> None:
    with upstream([http(500, {})]) as up, proxy({**behind(up, "openai-chat"), "retries": 5}) as served:
        sock = connect(served.port)
        sock.sendall(request_bytes("/v1/chat/completions", CHAT_ASK))
        assert eventually(lambda: len(up.seen) == 1)
        sock.close()
        assert eventually(lambda: served.parts.listener.connections == 0)
        time.sleep(0.8)  # the pause before the next attempt would have ended
    assert len(up.seen) == 1


def test_an_early_end_of_input_does_not_disturb_a_local_answer() -> None:
    with proxy(ECHO) as served, connect(served.port) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert read_answer(sock, method="GET").json == {"status": "ok"}
        assert is_closed(sock)


# ---------------------------------------------------------------- flow control


class Flood:
    """A stream of pieces; ``sent`` counts the bytes that the proxy and the two sockets took."""

    def __init__(self, total: int) -> None:
        self.pieces = -(-total // len(PIECE))
        self.sent = 0

    def _count(self, up: Scripted) -> None:
        self.sent += len(PIECE)

    def script(self) -> list[Any]:
        head = [STREAM_HEAD, chat_delta(role="assistant", content="hi")]
        return [*head, *[PIECE, self._count] * self.pieces, CHAT_END + LAST]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stalled_client_costs_less_than_two_megabytes(client: str) -> None:
    """The mean of several: what the allocator keeps differs by a megabyte from one run to the next."""
    path, body = CLIENTS[client]
    floods = [Flood(30_000_000) for _ in range(4)]
    with (
        upstream(CHAT_STREAM, *(flood.script() for flood in floods)) as up,
        process(behind(up, "openai-chat")) as served,
        contextlib.ExitStack() as stack,
    ):
        assert ask(served.port, path, body).status == 200  # everything is imported and warm
        before = served.rss_kb()
        socks = []
        for _ in floods:
            sock = stack.enter_context(connect(served.port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            sock.sendall(request_bytes(path, body))
            socks.append(sock)
        assert eventually(lambda: all(flood.sent > 1_000_000 for flood in floods))
        steady: list[list[int]] = [[], [0]]

        def stopped() -> bool:
            steady.append([flood.sent for flood in floods])
            time.sleep(0.05)
            return steady[-1] == steady[-2] == steady[-3]

        assert eventually(stopped)
        assert max(steady[-1]) < 20_000_000, "the upstream was not held back"
        assert (served.rss_kb() - before) / len(floods) < 2048
        for sock in socks:
            assert read_answer(sock).body.count(b"x" * 60_000) == floods[0].pieces
        assert (served.rss_kb() - before) / len(floods) < 2048
        assert served.stderr.count("Traceback") == 0


def test_a_client_that_never_reads_is_cut() -> None:
    flood = Flood(1_000_000_000)
    with (
        upstream(flood.script()) as up,
        proxy({**behind(up, "openai-chat"), "timeouts": {"client_write_s": 0.4}}) as served,
    ):
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
            assert eventually(
                lambda: served.parts.listener.connections == 0 and served.parts.parts.pool.open_count == 0
            )


def test_a_whole_answer_that_nobody_reads_is_dropped() -> None:
    big = {**CHAT_BODY, "padding": "x" * 20_000_000}
    with upstream([http(200, big)]) as up:
        with proxy({**behind(up, "openai-chat"), "timeouts": {"client_write_s": 0.4, "client_idle_s": 0.4}}) as served:
            with connect(served.port) as sock:
                sock.sendall(request_bytes("/v1/chat/completions", CHAT_ASK))
                assert eventually(lambda: len(up.seen) == 1)
                assert eventually(lambda: served.parts.listener.connections == 0)


def slowly(sock: socket.socket, total: int) -> int:
    """Read at about 10 MB/s; how many bytes came."""
    got = 0
    while got < total:
        data = sock.recv(200_000)
        if not data:
            break
        got += len(data)
        time.sleep(len(data) / 10_000_000)
    return got


def test_a_closing_connection_delivers_all_of_its_answer() -> None:
    big = {**CHAT_BODY, "padding": "x" * 20_000_000}
    with upstream([http(200, big)]) as up, proxy(behind(up, "openai-chat")) as served, connect(served.port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.sendall(request_bytes("/v1/chat/completions", CHAT_ASK, connection="close"))
        assert slowly(sock, 20_000_000) >= 20_000_000


def test_answers_that_pile_up_unread_stop_the_next_request() -> None:
    big = {**CHAT_BODY, "padding": "x" * 5_000_000}
    with upstream([http(200, big)]) as up, proxy(behind(up, "openai-chat")) as served, connect(served.port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.sendall(request_bytes("/v1/chat/completions", CHAT_ASK) * 10)
        assert eventually(lambda: len(up.seen) >= 1)
        time.sleep(0.3)
        assert len(up.seen) == 1
        rest = b""
        for _ in range(10):
            answer = read_answer(sock, rest)
            assert len(answer.body) > 5_000_000
            rest = answer.rest
    assert len(up.seen) == 10


def test_a_request_after_a_stream_that_lingers_upstream_has_flow_control_of_its_own() -> None:
    release = threading.Event()
    first: list[Any] = [
        STREAM_HEAD,
        chat_delta(role="assistant", content="a"),
        CHAT_END,
        lambda _: release.wait(5),
        LAST,
    ]
    with (
        upstream(first, Flood(20_000_000).script()) as up,
        proxy(behind(up, "openai-chat")) as served,
        connect(served.port) as sock,
    ):
        sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
        one = read_answer(sock)
        sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
        assert eventually(lambda: len(up.seen) == 2)
        time.sleep(0.4)  # longer than the grace that the first upstream's connection was given
        release.set()
        two = read_answer(sock, one.rest)
    assert b"message_stop" in two.body and len(two.body) > 20_000_000


def test_held_bytes_before_the_first_content_are_bounded() -> None:
    comments = chunk(b": keep-alive\n\n" * 10_000)

    def pour(up: Scripted) -> None:
        for _ in range(1000):
            next(iter(up._sockets)).sendall(comments)

    config = {"limits": {"max_event_bytes": 1_000_000}, "retries": 0}
    with upstream([STREAM_HEAD, pour]) as up, proxy({**behind(up, "openai-chat"), **config}) as served:
        answer = ask(served.port, "/v1/chat/completions", STREAMED)
    assert (answer.status, "larger than 1000000 bytes" in answer.body.decode()) == (502, True)


def test_an_answer_that_is_too_large() -> None:
    big = {**CHAT_BODY, "padding": "x" * 2_000_000}
    with upstream([http(200, big)]) as up:
        with proxy({**behind(up, "openai-chat"), "limits": {"max_event_bytes": 1_000_000}, "retries": 0}) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 502


# ---------------------------------------------------------------- many connections


def test_the_cap_refuses_politely_and_recovers() -> None:
    with proxy({**ECHO, "limits": {"max_connections": 5}}) as served:
        held = [connect(served.port) for _ in range(5)]
        assert eventually(lambda: served.parts.listener.connections == 5)
        with connect(served.port) as sock:
            refused = read_answer(sock)
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        for sock in held:
            sock.close()
        assert eventually(lambda: served.parts.listener.connections == 0)
        assert ask(served.port, "/healthz", method="GET").status == 200


def test_two_thousand_refusals_at_once() -> None:
    with proxy(ECHO) as served, connect(served.port) as sock:
        sock.sendall(b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        rest = b""
        for _ in range(2000):
            answer = read_answer(sock, rest, "GET")
            assert answer.status == 404
            rest = answer.rest


def test_two_hundred_streams_at_once() -> None:
    bodies: list[Answer] = []

    def one(served: Proxy, number: int) -> None:
        body = {**ANTHROPIC_ASK, "stream": True, "messages": [{"role": "user", "content": f"number {number} " * 20}]}
        path = "/v1/messages"
        answer = ask(served.port, path, body)
        assert answer.body.count(b"event: message_stop") == 1
        assert f"{number} ".encode() in answer.body
        bodies.append(answer)

    with proxy(ECHO) as served:
        threads = [threading.Thread(target=one, args=(served, number)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(bodies) == 200


def test_nothing_is_left_behind() -> None:
    with upstream(CHAT_STREAM) as up, process(behind(up, "openai-chat")) as served:
        for path, body in CLIENTS.values():
            ask(served.port, path, body)
        assert eventually(lambda: served.files() <= 16)
        before = served.files()
        for number in range(60):
            path, body = list(CLIENTS.values())[number % 2]
            if number % 3:
                ask(served.port, path, body)
            else:
                with connect(served.port) as sock:
                    sock.sendall(request_bytes(path, body))
        assert eventually(lambda: served.files() <= before + 2)
        assert "Traceback" not in served.stderr


def test_few_file_descriptors() -> None:
    """The cap stays below what the process may open: no busy loop, and life goes on."""
    with process(ECHO) as plain:
        pid = plain.process.pid
        import resource

        resource.prlimit(pid, resource.RLIMIT_NOFILE, (40, 40))
        held = []
        for _ in range(60):
            sock = socket.socket()
            sock.settimeout(PATIENCE_S)
            sock.connect(("127.0.0.1", plain.port))
            held.append(sock)
        time.sleep(1.2)
        for sock in held:
            sock.close()
        assert eventually(lambda: _answers(plain.port))
        assert plain.stderr.count("\n") < 10
        assert "Traceback" not in plain.stderr


def _answers(port: int) -> bool:
    try:
        return ask(port, "/healthz", method="GET").status == 200
    except (OSError, EOFError):
        return False


# ---------------------------------------------------------------- what a review found once


def test_several_refused_keys_are_still_not_the_clients_fault() -> None:
    no = {"error": {"message": "no", "type": "invalid_request_error"}}
    for keys in (["key-number-one", "key-number-two"], [f"key-number-{n}" for n in range(5)]):
        for _ in range(5):
            with upstream([http(401, no)]) as up, proxy(behind(up, "openai-chat", keys=keys)) as served:
                answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
            assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
            assert len(up.seen) == len(keys)


@pytest.mark.parametrize("body", [{"error": {"message": "broke"}}, {}, {"foo": 1}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_200_that_is_no_answer_is_no_200(body: dict[str, Any], stream: bool) -> None:
    with upstream([http(200, body)]) as up, proxy({**behind(up, "openai-chat"), "retries": 0}) as served:
        assert ask(served.port, "/v1/chat/completions", {**CHAT_ASK, "stream": stream}).status >= 500


def test_a_redirect_with_a_body_is_not_passed_on() -> None:
    script = http(307, {"a": 1}, location="https://evil.example/x")
    with upstream([script]) as up, proxy({**behind(up, "openai-chat"), "retries": 0}) as served:
        answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert answer.status == 502
    assert "location" not in answer.headers


def test_a_body_that_is_cut_behind_complete_json_is_a_failure() -> None:
    raw = json.dumps(CHAT_BODY).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (len(raw) + 5)
    with upstream([head + raw, "close"]) as up, proxy({**behind(up, "openai-chat"), "retries": 0}) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 502


@pytest.mark.parametrize("client", CLIENTS)
def test_odd_values_in_a_stream_end_it_and_hang_nobody(client: str) -> None:
    path, body = CLIENTS[client]
    odd = sse({"choices": [{"index": 0, "delta": {"content": 5, "tool_calls": 7}, "finish_reason": [5]}], "usage": [1]})
    with upstream([STREAM_HEAD, chat_delta(role="assistant", content="hi"), odd + LAST]) as up:
        with proxy(behind(up, "openai-chat")) as served:
            answer = ask(served.port, path, body)
    assert b"error" in answer.body or client == "same format"


def test_an_error_in_our_own_code_hangs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from ccproxy_lite.relay import streams

    for name in ("feed", "close"):
        with monkeypatch.context() as patch:

            def broken(*_: object) -> bytes:
                raise ZeroDivisionError("secret")

            patch.setattr(streams.Converted, name, broken)
            with upstream(CHAT_STREAM) as up, proxy({**behind(up, "openai-chat"), "retries": 0}) as served:
                if name == "close":
                    up.scripts[0] = [STREAM_HEAD, chat_delta(role="assistant", content="hi") + LAST]
                answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
                assert b"see" in answer.body
                assert b"secret" not in answer.body
                assert ask(served.port, "/healthz", method="GET").status == 200


@pytest.mark.parametrize("client", CLIENTS)
def test_secrets_in_a_late_error_are_blotted_out(client: str) -> None:
    path, body = CLIENTS[client]
    leak = sse({"error": {"message": "bad key upstream-key-one", "type": "server_error"}})
    with upstream([STREAM_HEAD, chat_delta(role="assistant", content="hi"), leak + LAST]) as up:
        with proxy({**behind(up, "openai-chat"), "retries": 0}) as served:
            answer = ask(served.port, path, body)
    assert b"[redacted]" in answer.body and b"upstream-key-one" not in answer.body


def test_secrets_in_an_upstreams_headers_are_blotted_out() -> None:
    with upstream(
        [http(200, CHAT_BODY, x_echo="upstream-key-one")],
        [http(400, {"error": {"message": "no"}}, x_echo="upstream-key-one")],
    ) as up:
        with proxy(behind(up, "openai-chat")) as served:
            for _ in range(2):
                assert ask(served.port, "/v1/chat/completions", CHAT_ASK).headers["x-echo"] == "[redacted]"


def test_a_key_in_the_query_never_travels_on() -> None:
    from tests.support import ANTHROPIC_BODY

    with upstream([http(200, ANTHROPIC_BODY)]) as up:
        with proxy({**behind(up, "anthropic"), "client_keys": ["client-key-one"]}) as served:
            for spelling in ("key", "k%65y", "%6bey"):
                assert (
                    ask(served.port, f"/v1/messages?beta=true&{spelling}=client-key-one", ANTHROPIC_ASK).status == 200
                )
    for seen in up.seen:
        assert seen.head.startswith("POST /v1/messages?beta=true HTTP/1.1")


def test_header_values_beyond_ascii_travel() -> None:
    with upstream(ANTHROPIC_STREAM) as up, proxy(behind(up, "anthropic")) as served:
        assert (
            ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True}, anthropic_beta="caf\xe9").status == 200
        )
    assert up.seen[0].header("anthropic-beta") == "caf\xe9"


def test_an_upstream_that_lists_nonsense_hides_no_other(tmp_path: Path) -> None:
    with upstream([http(200, {"data": 5})]) as up:
        config = behind(up, "openai-chat")
        config["upstreams"]["echo"] = {"format": "echo"}
        with proxy(config) as served:
            answer = ask(served.port, "/v1/models", method="GET")
    assert [model["id"] for model in answer.json["data"]] == ["echo", "echo-thinking"]


def test_a_long_hint_of_one_key_does_not_hold_back_another() -> None:
    from tests.support import CHAT_BODY as body

    limited = http(429, {"error": {"message": "later"}}, retry_after="3600")
    with upstream([limited], [http(500, {})], [http(200, body)]) as up:
        with proxy(behind(up, "openai-chat", keys=["key-number-one", "key-number-two"])) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200


@pytest.mark.parametrize("turns", range(10))
def test_a_connection_at_any_moment_of_draining_is_closed(turns: int) -> None:
    """asyncio loses one that it has accepted when its server closes: it would complain of an unclosed transport."""
    refused: list[int] = []
    with proxy(ECHO) as served, socket.socket() as sock:

        async def meet() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.parts.listener.drain)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                refused.append(sock.connect_ex(("127.0.0.1", served.port)))

        served.run(meet)
        gc.collect()
        assert refused[0] or is_closed(sock)
