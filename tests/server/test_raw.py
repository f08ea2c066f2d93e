"""Paths that are passed on untouched: to the API of an upstream, or through a mount."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest

from tests.ports import listening
from tests.support import (
    CHAT_BODY,
    CLOSE,
    ECHO,
    RESET,
    FakeClock,
    Scripted,
    ask,
    behind,
    connect,
    eventually,
    http,
    process,
    proxy,
    read_answer,
    request_bytes,
    upstream,
)

OK = [http(200, {"ok": True})]
FORMATS = {"anthropic": "/v1", "openai-chat": "", "openai-responses": "", "gemini": ""}


def four(up: Scripted) -> dict[str, Any]:
    """A configuration with one upstream of each format, told apart by their keys."""
    entries = {}
    for name in FORMATS:
        suffix = "/v1" if name.startswith("openai") else ""
        base_url = f"http://127.0.0.1:{up.port}{suffix}"
        entries[f"my-{name}"] = {"format": name, "base_url": base_url, "keys": [f"key-of-{name}"]}
    return {"upstreams": entries}


OWNERS = [
    ("POST", "/v1/embeddings", {}, "openai-chat"),
    ("GET", "/v1/files", {}, "openai-chat"),
    ("GET", "/v1/files", {"anthropic_version": "2023-06-01"}, "anthropic"),
    ("GET", "/v1/files", {"x_goog_api_client": "genai"}, "gemini"),
    ("POST", "/v1/messages/batches", {}, "anthropic"),
    ("POST", "/v1/threads/t1/messages", {}, "openai-chat"),
    ("GET", "/v1/responses/resp_1", {}, "openai-responses"),
    ("POST", "/v1/alpha/search", {}, "openai-responses"),
    ("DELETE", "/v1/responses/resp_1", {}, "openai-responses"),
    ("GET", "/v1/chat/completions/c1", {}, "openai-chat"),
    ("POST", "/v1/images/generations", {}, "openai-chat"),
    ("POST", "/v1/audio/speech", {}, "openai-chat"),
    ("POST", "/v1/rerank", {}, "openai-chat"),
    ("DELETE", "/v1/models/ft:gpt-9", {}, "openai-chat"),
    ("POST", "/v1beta/cachedContents", {}, "gemini"),
    ("PATCH", "/v1beta/cachedContents/c1", {}, "gemini"),
    ("POST", "/v1beta/models/m:embedContent", {}, "gemini"),
    ("POST", "/v1/models/m:batchEmbedContents", {}, "gemini"),
    ("POST", "/upload/v1beta/files", {}, "gemini"),
    ("POST", "//v1beta/files", {}, "gemini"),
    ("POST", "/v1//messages/batches", {}, "anthropic"),
]


@pytest.mark.parametrize(("method", "path", "headers", "owner"), OWNERS)
def test_a_path_of_an_api_goes_to_its_owner(method: str, path: str, headers: dict[str, str], owner: str) -> None:
    with upstream(OK) as up, proxy(four(up)) as served:
        answer = ask(served.port, f"{path}?a=b%20c&d", {"x": [1, 1.0]}, method, authorization="Bearer mine", **headers)
    (seen,) = up.seen
    assert (answer.status, answer.json) == (200, {"ok": True})
    assert answer.headers["x-ccproxy-upstream"].startswith(f"my-{owner}/")
    assert seen.head.split("\r\n")[0] == f"{method} {path.replace('//', '/')}?a=b%20c&d HTTP/1.1"
    assert (seen.body, f"key-of-{owner}" in seen.head, "mine" in seen.head) == (b'{"x": [1, 1.0]}', True, False)


def test_the_first_upstream_of_a_vendor_is_the_one() -> None:
    with upstream(OK) as up:
        config = four(up)
        config["upstreams"] = dict(reversed(config["upstreams"].items()))
        with proxy(config) as served:
            assert (
                ask(served.port, "/v1/embeddings", {}).headers["x-ccproxy-upstream"]
                == "my-openai-responses/v1/embeddings"
            )


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/messages/batches", "anthropic"),
        ("/v1/responses/r", "openai-responses"),
        ("/v1/alpha/search", "openai-responses"),
    ],
)
def test_without_an_upstream_of_its_format_a_path_is_not_there(path: str, form: str) -> None:
    with upstream(OK) as up, proxy(behind(up, "openai-chat")) as served:
        answer = ask(served.port, path, {}, authorization="Bearer k")
    assert (answer.status, up.seen) == (404, [])
    assert f"none speaks {form}; known: up (openai-chat)" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path",
    ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/files/..%2fadmin", "/v1/a\\..\\b", "/v1/%252e%252e/x", "/v1/..;/admin"],
)
def test_no_path_leads_out_of_the_api(path: str) -> None:
    with upstream(OK) as up, proxy(behind(up, "openai-chat")) as served:
        assert (ask(served.port, path, {}).status, up.seen) == (404, [])


def test_both_bodies_and_their_coding_are_untouched() -> None:
    """Also where the content type is none of ours, and where a response is compressed."""
    zipped = gzip.compress(b"plain" * 100)
    with (
        upstream([http(201, zipped, "audio/wav", content_encoding="gzip", location="/v1/files/1")]) as up,
        proxy(behind(up, "openai-chat")) as served,
        connect(served.port) as sock,
    ):
        head = request_bytes("/v1/audio/speech", b"\x00\xff\x1f\x8b", accept_encoding="gzip", content_encoding="gzip")
        sock.sendall(head.replace(b"application/json", b"multipart/form-data; boundary=x"))
        answer = read_answer(sock)
    assert (answer.status, answer.body, answer.headers["content-encoding"]) == (201, zipped, "gzip")
    assert (answer.headers["content-length"], answer.headers["location"]) == (str(len(zipped)), "/v1/files/1")
    (seen,) = up.seen
    assert (seen.body, seen.header("content-encoding"), seen.header("accept-encoding")) == (
        b"\x00\xff\x1f\x8b",
        "gzip",
        "gzip",
    )
    assert seen.header("content-type") == "multipart/form-data; boundary=x"


@pytest.mark.parametrize(("status", "method"), [(204, "DELETE"), (200, "HEAD"), (304, "GET"), (302, "GET")])
def test_responses_without_a_body_leave_the_connection_usable(status: int, method: str) -> None:
    head = f"HTTP/1.1 {status} X\r\n".encode() + (b"content-length: 77\r\n" if method == "HEAD" else b"")
    head += b"content-length: 0\r\n" if status == 302 else b""
    location = b"location: https://elsewhere.example/\r\n"
    with upstream([head + location + b"\r\n"], OK) as up, proxy(behind(up, "openai-chat")) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/files/1", None, method))
            first = read_answer(sock, method=method)
            sock.sendall(request_bytes("/v1/files/2", {}))
            second = read_answer(sock, first.rest)
    assert (first.status, first.body, second.json) == (status, b"", {"ok": True})
    assert first.headers["location"] == "https://elsewhere.example/"  # never followed
    assert first.headers.get("content-length") == ("77" if method == "HEAD" else "0" if status == 302 else None)
    assert len(up.seen) == 2


# ---------------------------------------------------------------- keys


def two_keys(up: Scripted) -> dict[str, Any]:
    return behind(up, "openai-chat", keys=["key-number-one", "key-number-two"])


@pytest.mark.parametrize("status", [429, 401, 500, 503])
def test_another_key_is_tried(status: int) -> None:
    with (
        upstream([http(status, {"error": {"message": "no"}})], OK) as up,
        proxy(two_keys(up), clock=FakeClock()) as served,
    ):
        answer = ask(served.port, "/v1/embeddings", {"input": "x"})
    assert (answer.status, len(up.seen)) == (200, 2)
    assert [("key-number-one" in seen.head, seen.body) for seen in up.seen] == [
        (True, b'{"input": "x"}'),
        (False, b'{"input": "x"}'),
    ]


def test_a_cooldown_is_for_one_part_of_the_api() -> None:
    limited = http(429, {"error": {"message": "slow down"}}, retry_after="50")
    with (
        upstream([limited], [limited], OK) as up,
        proxy({**two_keys(up), "max_wait_s": 1}, clock=FakeClock()) as served,
    ):
        first = ask(served.port, "/v1/files/a", {})
        again = ask(served.port, "/v1/files/b", {})
        other = ask(served.port, "/v1/embeddings", {})
        keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
    assert [first.status, again.status, other.status, len(up.seen)] == [429, 429, 200, 3]
    assert (first.json, first.headers["retry-after"], again.headers["retry-after"]) == (
        {"error": {"message": "slow down"}},
        "50",
        "50",
    )
    assert [one["cooldowns"][0]["model"] for one in keys] == ["v1/files", "v1/files"]


def test_all_keys_rejected_is_not_the_clients_fault() -> None:
    with (
        upstream([http(401, {"error": {"message": "bad key-number-one"}})]) as up,
        proxy(two_keys(up), clock=FakeClock()) as served,
    ):
        answer = ask(served.port, "/v1/embeddings", {})
    assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
    assert "key-number-one" not in answer.body.decode()


def test_what_a_key_may_not_do_with_one_part_concerns_no_other() -> None:
    """The next key may; and if none may, the client hears it as it is."""
    forbidden = http(403, {"error": {"message": "missing scope"}})
    with (
        upstream([forbidden], OK, [forbidden], [forbidden], OK, OK) as up,
        proxy(two_keys(up), clock=FakeClock()) as served,
    ):
        assert ask(served.port, "/v1/files", None, "GET").status == 200
        refused = ask(served.port, "/v1/vector_stores", None, "GET")
        assert (refused.status, refused.json["error"]["message"]) == (403, "missing scope")
        assert [ask(served.port, "/v1/embeddings", {}).status for _ in range(2)] == [200, 200]
        keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
    assert {one["model"] for key in keys for one in key["cooldowns"]} == {"v1/files", "v1/vector_stores"}
    assert len({seen.header("authorization") for seen in up.seen[4:]}) == 2


def test_a_limit_whose_body_breaks_off_is_a_limit() -> None:
    broken = b"HTTP/1.1 429 X\r\nretry-after: 50\r\ncontent-length: 100\r\n\r\n{"
    with upstream([broken, CLOSE], OK) as up, proxy(two_keys(up), clock=FakeClock()) as served:
        assert ask(served.port, "/v1/embeddings", {}).status == 200
        keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
    assert [one["left_s"] for key in keys for one in key["cooldowns"]] == [50.0]


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("status", [400, 404, 429])
def test_no_key_of_the_proxys_reaches_the_client(status: int, coded: bool) -> None:
    text = json.dumps({"error": {"message": "key-number-one is odd"}}).encode()
    more = {"content_encoding": "gzip"} if coded else {}
    answer = http(status, gzip.compress(text) if coded else text, x_key="key-number-one", retry_after="9", **more)
    with upstream([answer]) as up, proxy({**two_keys(up), "max_wait_s": 0}, clock=FakeClock()) as served:
        told = ask(served.port, "/v1/files", {}, accept_encoding="gzip")
    assert (told.status, told.json["error"]["message"]) == (status, "[redacted] is odd")
    assert "key-number" not in str(told.headers)


def test_a_clients_key_for_another_cloud_goes_nowhere() -> None:
    with upstream(OK) as up, proxy(behind(up, "openai-chat")) as served:
        ask(served.port, "/v1/files", None, "GET", api_key="client-key-of-azure", authorization="Bearer x")
    assert "client-key-of-azure" not in up.seen[0].head


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_client_error_is_passed_on_as_it_came(status: int) -> None:
    with upstream([http(status, b"<no>", "text/html", x_more="1")]) as up, proxy(two_keys(up)) as served:
        answer = ask(served.port, "/v1/files", {})
    assert (answer.status, answer.body, answer.headers["x-more"], len(up.seen)) == (status, b"<no>", "1", 1)


# ---------------------------------------------------------------- bodies on their way


@contextmanager
def reading(pace: threading.Semaphore | None = None, answer: bytes = OK[0]) -> Iterator[dict[str, Any]]:
    """An upstream that takes one request: its head, then its body in small reads, one for each permit of ``pace``."""
    seen: dict[str, Any] = {"head": b"", "body": b"", "bytes": 0, "over": threading.Event()}

    def serve(listener: socket.socket) -> None:
        with closing(listener.accept()[0]) as sock:
            data = b""
            while b"\r\n\r\n" not in data:
                data += sock.recv(1000)
            seen["head"], _, rest = data.partition(b"\r\n\r\n")
            seen["began"].set()
            tail = rest
            seen["bytes"] += len(rest)
            while not (tail.endswith(b"0\r\n\r\n") or seen["bytes"] == seen.get("expected")):
                if pace is not None:
                    pace.acquire()
                data = sock.recv(65536)
                if not data:
                    seen["over"].set()
                    return
                seen["bytes"] += len(data)
                tail = (tail + data)[-20:]
                if len(seen["body"]) < 10_000:
                    seen["body"] += data
            sock.sendall(answer)
            seen["over"].set()

    seen["began"] = threading.Event()
    with listening() as listener:
        seen["port"] = listener.getsockname()[1]
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield seen
        with closing(socket.socket()) as last:  # in case nobody came
            last.settimeout(1)
            last.connect_ex(("127.0.0.1", seen["port"]))


def to(port: int) -> dict[str, Any]:
    entry = {
        "format": "openai-chat",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "keys": ["a-key-of-mine", "another-key-of-mine"],
    }
    return {"upstreams": {"up": entry}}


def test_an_upload_reaches_the_service_while_it_arrives() -> None:
    with reading() as seen, proxy(to(seen["port"])) as served, connect(served.port) as sock:
        sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert seen["began"].wait(60)
        assert b"transfer-encoding: chunked" in seen["head"].lower()
        assert eventually(lambda: seen["bytes"] >= len(b"5\r\nfirst\r\n"))
        sock.sendall(b"4\r\nlast\r\n0\r\n\r\n")
        assert read_answer(sock).json == {"ok": True}


def test_a_client_that_asks_may_go_on() -> None:
    with reading() as seen, proxy(to(seen["port"])) as served, connect(served.port) as sock:
        sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        seen["expected"] = 3
        sock.sendall(b"abc")
        assert (read_answer(sock).json, seen["head"].lower().count(b"content-length: 3")) == ({"ok": True}, 1)


def test_a_client_that_leaves_in_the_middle_takes_its_upload_with_it() -> None:
    with reading() as seen, proxy(to(seen["port"])) as served:
        with connect(served.port) as sock:
            sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n" + bytes(1000))
            assert seen["began"].wait(60)
        assert seen["over"].wait(60)  # its connection was closed
        assert eventually(lambda: served.connections() == [])


def test_a_client_that_stalls_in_the_middle_hears_408() -> None:
    with reading() as seen:
        config = {**to(seen["port"]), "timeouts": {"client_body_s": 0.2}}
        with proxy(config) as served, connect(served.port) as sock:
            sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n" + bytes(1000))
            answer = read_answer(sock)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert "the request body took too long" in answer.json["error"]["message"]


def answering_early(listener: socket.socket, answer: bytes, *, closes: bool = False) -> None:
    """Answer each request once its head is read; then read on and discard, or close at once."""
    while True:
        try:
            sock = listener.accept()[0]
        except OSError:
            return
        with closing(sock):
            data = b""
            while b"\r\n\r\n" not in data:
                data += sock.recv(1000)
            sock.sendall(answer)
            with suppress(OSError):
                while not closes and sock.recv(65536):
                    pass


def test_a_large_early_answer_arrives_whole() -> None:
    size = 3_000_000
    with listening() as listener:
        threading.Thread(target=answering_early, args=(listener, http(413, bytes(size))), daemon=True).start()
        with process(to(listener.getsockname()[1]), "--log-format", "json") as served, connect(served.port) as sock:
            sock.sendall(
                b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nx-request-id: early\r\ncontent-length: 90000000\r\n\r\n"
            )

            def upload() -> None:
                with suppress(OSError):
                    while True:
                        sock.sendall(bytes(10_000))

            threading.Thread(target=upload, daemon=True).start()
            answer = read_answer(sock)
            assert (answer.status, len(answer.body)) == (413, size)
            assert eventually(lambda: '"early"' in served.stderr)
            (line,) = [json.loads(text) for text in served.stderr.splitlines() if '"early"' in text]
    assert line["status"] == 413


def test_a_service_that_answers_early_and_closes_is_heard() -> None:
    answer = http(413, {"error": {"message": "too large"}}, connection="close")
    with listening() as listener:
        threading.Thread(target=answering_early, args=(listener, answer), kwargs={"closes": True}, daemon=True).start()
        with (
            proxy({**to(listener.getsockname()[1]), "retries": 5}, clock=FakeClock()) as served,
            connect(served.port) as sock,
        ):
            sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(5):
                sock.sendall(b"186a0\r\n" + bytes(100_000) + b"\r\n")
            assert read_answer(sock).status == 413


def test_a_client_that_leaves_while_its_upload_waits_is_noticed() -> None:
    """The service does not read, so nothing is read from the client either."""
    with reading(threading.Semaphore(0)) as seen, proxy(to(seen["port"])) as served:
        with connect(served.port) as sock:
            sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90000000\r\n\r\n")
            assert seen["began"].wait(60)
            sock.settimeout(0.3)
            sent = 0
            with suppress(OSError):
                while sent < 20_000_000:
                    sent += sock.send(bytes(100_000))
            assert sent < 20_000_000
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # as a killed client's kernel
        assert eventually(lambda: served.connections() == [], 5)


def test_a_client_that_leaves_in_the_moment_of_the_answer_leaves_nothing_behind() -> None:
    go, came = threading.Event(), threading.Event()
    script = [lambda _: came.set(), lambda _: go.wait(60), OK[0]]
    with upstream(script) as up, proxy(behind(up, "openai-chat")) as served:
        sock = connect(served.port)
        sock.sendall(request_bytes("/v1/embeddings", {"x": 1}, connection="close"))
        assert came.wait(60)
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            release.wait(60)

        holder = threading.Thread(target=served.call, args=(hold,))  # the event loop is busy for a moment
        holder.start()
        assert held.wait(60)
        go.set()
        assert eventually(lambda: _unread(up) > 0)
        sock.close()
        release.set()
        holder.join()
        live = served.parts.server_state.metrics.live
        assert eventually(lambda: not live and served.connections() == [], 5)


def _unread(up: Scripted) -> int:
    """How many answers the scripted service has sent (it notes each before it follows its script)."""
    return len(up.seen)


@pytest.mark.parametrize(("path", "large"), [("/v1/files", False), ("/v1/files", True), ("/api/x", True)])
def test_a_client_that_leaves_is_logged_as_such(path: str, large: bool) -> None:
    with upstream([b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc", lambda up: up.gone.wait(60)]) as up:
        config = {**behind(up, "openai-chat"), "mounts": {"/api/": {"to": f"http://127.0.0.1:{up.port}"}}}
        with process(config, "--log-format", "json") as served:
            with connect(served.port) as sock:
                if large:  # in the middle of the answer
                    sock.sendall(request_bytes(path, {}, x_request_id="left"))
                    while b"abc" not in sock.recv(1000):
                        pass
                else:  # in the middle of its own body
                    sock.sendall(request_bytes(path, None, x_request_id="left", content_length="900"))
            assert eventually(lambda: '"left"' in served.stderr)
            (line,) = [json.loads(text) for text in served.stderr.splitlines() if '"left"' in text]
            up.gone.set()
    assert (line["status"], line["error"]) == (499, "client disconnected")


def test_an_early_answer_ends_the_upload() -> None:
    """The service has seen enough of it; the client's connection ends with it, for nobody reads the rest."""
    early = [http(413, {"error": {"message": "too large"}})]

    with listening() as listener:

        def serve() -> None:
            with closing(listener.accept()[0]) as sock:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += sock.recv(1000)
                sock.sendall(early[0])
                while sock.recv(65536):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        with proxy(to(listener.getsockname()[1])) as served, connect(served.port) as sock:
            sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n" + bytes(1000))
            answer = read_answer(sock)
    assert (answer.status, answer.json) == (413, {"error": {"message": "too large"}})


@pytest.mark.parametrize(("size", "tries"), [(900_000, 2), (3_000_000, 1)])
def test_an_upload_is_sent_again_while_all_of_it_is_at_hand(size: int, tries: int) -> None:
    """Chunked, so that nobody knows beforehand how much will come."""
    answers = [http(429, {"error": {"message": "slow down"}}), OK[0]]
    bodies: list[int] = []

    def serve(listener: socket.socket) -> None:
        for answer in answers:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            with closing(sock):
                data = b""
                count = 0
                while not data.endswith(b"0\r\n\r\n"):
                    piece = sock.recv(65536)
                    count += len(piece)
                    data = (data + piece)[-10:]
                bodies.append(count)
                sock.sendall(answer)

    with listening() as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with proxy(to(listener.getsockname()[1]), clock=FakeClock()) as served, connect(served.port) as sock:
            sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(size // 100_000):
                sock.sendall(b"186a0\r\n" + bytes(100_000) + b"\r\n")
            sock.sendall(b"0\r\n\r\n")
            answer = read_answer(sock)
        listener.close()
    assert (answer.status, len(bodies)) == ((200, 2) if tries == 2 else (429, 1))
    assert "x-should-retry" not in answer.headers
    assert all(count > size for count in bodies)


@pytest.mark.slow
def test_a_large_upload_through_a_slow_service_costs_little_memory() -> None:
    """500 MB up, with a service that reads 64 KB at a time, and now and then not at all."""
    size, pace = 500_000_000, threading.Semaphore(0)
    with reading(pace) as seen:
        seen["expected"] = size
        with process(to(seen["port"])) as served, connect(served.port) as sock:
            before, highest = served.rss_kb(), 0
            sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % size)
            done = threading.Event()

            def send() -> None:
                piece = bytes(1_000_000)
                for _ in range(size // len(piece)):
                    sock.sendall(piece)
                done.set()

            threading.Thread(target=send, daemon=True).start()
            assert seen["began"].wait(60)
            while not seen["over"].is_set():
                pace.release(200)
                highest = max(highest, served.rss_kb())
                seen["over"].wait(0.005)
            assert read_answer(sock).json == {"ok": True}
    print(f"500 MB up: {highest - before} kB more than before")
    assert highest - before < 4096


@pytest.mark.slow
def test_a_large_download_to_a_slow_client_costs_little_memory() -> None:
    size = 100_000_000
    with listening() as listener:

        def serve() -> None:
            with closing(listener.accept()[0]) as sock:
                sock.recv(65536)
                sock.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % size
                )
                for _ in range(size // 1_000_000):
                    sock.sendall(bytes(1_000_000))

        threading.Thread(target=serve, daemon=True).start()
        with process(to(listener.getsockname()[1])) as served, connect(served.port) as sock:
            before, highest, got = served.rss_kb(), 0, 0
            sock.sendall(request_bytes("/v1/files/f/content", None, "GET"))
            while got < size:
                data = sock.recv(100_000)
                assert data
                got += len(data)
                if got % 50 == 0 or got > size - 200_000:
                    highest = max(highest, served.rss_kb())
            highest = max(highest, served.rss_kb())
    print(f"100 MB down: {highest - before} kB more than before")
    assert highest - before < 4096


def test_a_download_until_the_end_of_a_connection_that_is_reset_is_broken() -> None:
    with (
        upstream([b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc", lambda _: None, RESET]) as up,
        proxy(behind(up, "openai-chat")) as served,
        connect(served.port) as sock,
    ):
        sock.sendall(request_bytes("/v1/files/f/content", None, "GET"))
        received = b""
        with suppress(ConnectionError):
            while data := sock.recv(1000):
                received += data
    assert not received.endswith(b"0\r\n\r\n")


def test_a_download_that_breaks_off_is_seen_to_be_broken() -> None:
    with (
        upstream([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", CLOSE]) as up,
        proxy(behind(up, "openai-chat")) as served,
        connect(served.port) as sock,
    ):
        sock.sendall(request_bytes("/v1/files/f/content", None, "GET"))
        received = b""
        while data := sock.recv(1000):
            received += data
    assert received.endswith(b"abc")


def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    go = threading.Event()
    with (
        upstream(
            [
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
                lambda _: go.wait(60),
                b"2\r\n:\n\r\n0\r\n\r\n",
            ]
        ) as up,
        proxy(behind(up, "openai-chat")) as served,
        connect(served.port) as sock,
    ):
        sock.sendall(request_bytes("/v1/threads/t/runs", {}))
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        go.set()
        assert sock.recv(1000)


# ---------------------------------------------------------------- pins


PINNED = {
    "anthropic": ["v1/messages", "messages"],
    "openai-chat": ["v1/chat/completions", "chat/completions"],
    "openai-responses": ["v1/responses", "responses"],
    "gemini": [
        "v1beta/models/m:generateContent",
        "v1/models/m:generateContent",
        "models/m:generateContent",
        "v1beta1/publishers/google/models/m:generateContent",
    ],
}
VENDORS = {"anthropic": "anthropic", "openai-chat": "openai", "openai-responses": "openai", "gemini": "google"}


@pytest.mark.parametrize(("form", "path"), [(form, path) for form, paths in PINNED.items() for path in paths])
def test_a_pin_by_a_vendors_name_leads_to_its_upstream(form: str, path: str) -> None:
    asks = {
        "anthropic": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
        "openai-chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        "openai-responses": {"model": "m", "input": "hi"},
        "gemini": {"contents": [{"parts": [{"text": "hi"}]}]},
    }
    with upstream([http(400, {"error": {"message": "seen"}})]) as up, proxy(four(up)) as served:
        answer = ask(served.port, f"/api/provider/{VENDORS[form]}/{path}", asks[form])
        by_name = ask(served.port, f"/api/provider/my-{form}/{path}", asks[form])
    assert [answer.status, by_name.status] == [400, 400], answer
    assert [answer.headers["x-ccproxy-upstream"], by_name.headers["x-ccproxy-upstream"]] == [f"my-{form}/m"] * 2
    assert all(f"key-of-{form}" in seen.head for seen in up.seen)


def test_an_own_name_comes_before_a_vendors() -> None:
    with upstream([http(200, CHAT_BODY)]) as up:
        config = four(up)
        config["upstreams"]["anthropic"] = config["upstreams"].pop("my-openai-chat")
        with proxy(config) as served:
            answer = ask(
                served.port,
                "/api/provider/anthropic/v1/chat/completions",
                {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            )
    assert (answer.status, answer.headers["x-ccproxy-upstream"]) == (200, "anthropic/m")


@pytest.mark.parametrize(("vendor", "member"), [("anthropic", "has_more"), ("openai", "object"), ("google", "models")])
@pytest.mark.parametrize("path", ["v1/models", "models", "v1beta/models"])
def test_a_vendors_models_are_listed_as_it_lists_them(vendor: str, member: str, path: str) -> None:
    with proxy(ECHO) as served:
        answer = ask(served.port, f"/api/provider/{vendor}/{path}", None, "GET")
    assert (answer.status, ("models" if path == "v1beta/models" else member) in answer.json) == (200, True), answer.json


def test_a_vendors_models_are_those_of_its_upstream() -> None:
    with upstream(OK) as up:
        config = four(up)
        for name, entry in config["upstreams"].items():
            entry["models"] = [f"of-{name}"]
        with proxy(config) as served:
            answer = ask(served.port, "/api/provider/google/models", None, "GET")
            one = ask(served.port, "/api/provider/anthropic/v1/models/of-my-anthropic", None, "GET")
            none = ask(served.port, "/api/provider/anthropic/v1/models/of-my-gemini", None, "GET")
    assert [model["name"] for model in answer.json["models"]] == ["models/of-my-gemini"]
    assert [one.status, none.status] == [200, 404]


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with upstream(OK) as up, proxy(behind(up, "openai-chat")) as served:
        for name, words in (("nobody", 'unknown upstream "nobody"'), ("google", "no upstream speaks google's format")):
            answer = ask(served.port, f"/api/provider/{name}/v1/messages", {}, anthropic_version="2023-06-01")
            assert (answer.status, answer.json["error"]["message"]) == (404, f"{words}; known: up")


@pytest.mark.parametrize(
    ("form", "sent"),
    [("openai-chat", "/v1/embeddings"), ("anthropic", "/v1/embeddings"), ("gemini", "/v1beta/embeddings")],
)
def test_any_other_path_below_a_pin_is_passed_on(form: str, sent: str) -> None:
    with upstream(OK) as up, proxy(behind(up, form)) as served:
        assert ask(served.port, "/api/provider/up/embeddings", {}).status == 200
        assert ask(served.port, "/api/provider/up/v1/files/", None, "GET").status == 200
    assert [seen.head.split()[1] for seen in up.seen] == [sent, "/v1/files/"]


def test_json_is_untouched_to_the_byte() -> None:
    body = b'{"input":"\\u00e9", "a":1.0,"a":2 }\n'
    with upstream(OK) as up, proxy(behind(up, "openai-chat")) as served:
        ask(served.port, "/v1/embeddings", body)
    assert (up.seen[0].body, json.loads(up.seen[0].body)) == (body, {"input": "é", "a": 2})
