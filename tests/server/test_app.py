"""The endpoints: who may ask, what is asked, in which dialect the answer is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy_lite.server.paths import match
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    CHAT_BODY,
    ECHO,
    ask,
    behind,
    connect,
    http,
    proxy,
    read_answer,
    request_bytes,
    settings_of,
    upstream,
)

KEYED = {**ECHO, "client_keys": ["client-key-one", "client-key-two"]}


def get(port: int, path: str, **headers: str) -> Any:
    return ask(port, path, method="GET", **headers)


@pytest.mark.parametrize("reloaded", [False, True])
def test_health_says_that_it_drains(reloaded: bool) -> None:
    with proxy(ECHO) as served:
        if reloaded:
            served.run(served.parts.use, settings_of(ECHO))
        assert b"ccproxy_client_connections 1" in get(served.port, "/metrics").body
        served.parts.listener._shared.draining = True
        answer = get(served.port, "/healthz")
    assert (answer.status, answer.json) == (503, {"status": "draining"})


def test_health_and_root_need_no_key() -> None:
    with proxy(KEYED) as served:
        assert get(served.port, "/healthz").json == {"status": "ok"}
        assert get(served.port, "/").status == 200
        for path in ("/", "/healthz"):
            answer = ask(served.port, path, method="HEAD")
            assert (answer.status, answer.body) == (200, b"")


GIVEN = [
    ({"authorization": "Bearer client-key-one"}, 200),
    ({"authorization": "bearer client-key-two"}, 200),
    ({"x_api_key": "client-key-one"}, 200),
    ({"x_goog_api_key": "client-key-one"}, 200),
    ({"x_api_key": "client-key-one", "authorization": "Bearer client-key-one"}, 200),
    ({"x_api_key": "client-key-one", "authorization": "Bearer wrong-key"}, 401),
    ({"x_api_key": "client-key-one", "authorization": "Basic Zm9v"}, 401),
    ({"x_api_key": ""}, 401),
    ({"x_api_key": "client-key-on"}, 401),
    ({"x_api_key": "clé"}, 401),
    ({"authorization": "client-key-one"}, 401),
    ({"x_forwarded_for": "127.0.0.1"}, 401),
    ({}, 401),
]


@pytest.mark.parametrize(("headers", "status"), GIVEN)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_client_keys(path: str, headers: dict[str, str], status: int) -> None:
    body = ANTHROPIC_ASK if "messages" in path else CHAT_ASK
    with proxy(KEYED) as served:
        answer = ask(served.port, path, body, **headers)
    assert answer.status == status
    for value in headers.values():
        assert status == 200 or value.split(" ")[-1] == "" or value.split(" ")[-1].encode() not in answer.body
    if status == 401:
        kind = answer.json["error"]["type"]
        assert kind == ("authentication_error" if "messages" in path else "invalid_request_error")


def test_a_key_in_the_query() -> None:
    with proxy(KEYED) as served:
        assert get(served.port, "/v1/models?key=client-key-one").status == 200
        assert get(served.port, "/v1/models?key=wrong").status == 401


HOSTS = [
    ("localhost", 200), ("localhost:9999", 200), ("LOCALHOST", 200), ("localhost.", 200), ("127.0.0.1", 200), ("[::1]:8317", 200),
    ("127.0.0.2:1", 200), ("proxy.internal", 200), ("evil.com", 403), ("localhost.evil.com", 403), ("127.0.0.1.nip.io", 403),
    ("0.0.0.0", 403), ("0.0.0.0:8317", 403), ("[::]", 403), ("192.168.1.1", 403),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_hosts(host: str, status: int) -> None:
    with proxy({**ECHO, "allowed_hosts": ["proxy.internal"]}) as served, connect(served.port) as sock:
        sock.sendall(f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert read_answer(sock, method="GET").status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.com"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
        {"origin": "http://localhost:3001"},
    ],
)
def test_other_sites_are_refused(headers: dict[str, str]) -> None:
    with proxy({**ECHO, "cors_origins": ["http://localhost:3000"]}) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK, **headers)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_allowed_origin() -> None:
    origin = "http://localhost:3000"
    with proxy({**KEYED, "cors_origins": [origin]}) as served:
        asked = {
            "origin": origin,
            "access_control_request_method": "POST",
            "access_control_request_headers": "x-api-key",
        }
        preflight = ask(served.port, "/v1/messages", method="OPTIONS", **asked)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == origin
        assert preflight.headers["access-control-allow-headers"] == "x-api-key"
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK, origin=origin, x_api_key="client-key-one")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
        assert (
            ask(
                served.port,
                "/v1/messages",
                method="OPTIONS",
                origin="https://evil.com",
                access_control_request_method="POST",
            ).status
            == 403
        )


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_only_json_is_taken(kind: str) -> None:
    with proxy(ECHO) as served, connect(served.port) as sock:
        sock.sendall(request_bytes("/v1/messages", ANTHROPIC_ASK).replace(b"application/json", kind.encode()))
        assert read_answer(sock).status == 415


def test_common_headers() -> None:
    with proxy(ECHO) as served:
        for answer in (
            get(served.port, "/v1/models"),
            ask(served.port, "/v1/messages", ANTHROPIC_ASK),
            get(served.port, "/nope"),
        ):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-type"] == "application/json"


def test_a_wrong_method_is_told_the_right_ones() -> None:
    with proxy(ECHO) as served:
        assert ask(served.port, "/v1/messages", method="DELETE").headers["allow"] == "POST"
        assert ask(served.port, "/status", method="DELETE").headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404), ("GET", "/v1/messages", 405), ("DELETE", "/v1/messages", 405), ("POST", "/v1/models", 405),
        ("GET", "//v1//models", 200), ("GET", "/v1/models/", 200), ("GET", "/v1/../healthz", 404), ("GET", "/v1/%2e%2e/healthz", 404),
        ("GET", "/api/provider/nope/v1/models", 404), ("GET", "/api/provider/echo/v1/models", 200), ("GET", "/models", 200),
    ],
)  # fmt: skip
def test_paths(method: str, path: str, status: int) -> None:
    with proxy(ECHO) as served:
        assert ask(served.port, path, {} if method == "POST" else None, method=method).status == status


def test_a_path_pins_an_upstream() -> None:
    with upstream([http(200, CHAT_BODY)]) as up:
        config = behind(up, "openai-chat")
        config["upstreams"] = {"echo": {"format": "echo"}, **config["upstreams"]}
        with proxy(config) as served:
            pinned = ask(served.port, "/api/provider/up/v1/messages", ANTHROPIC_ASK)
            free = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert (pinned.headers["x-ccproxy-upstream"], free.headers["x-ccproxy-upstream"]) == ("up/m", "echo/m")


WRONG = [
    (b"", "the body is not JSON"),
    (b"[]", "the body must be a JSON object"),
    (b"null", "the body must be a JSON object"),
    (b"{", "the body is not JSON"),
    (b'{"model": "m"} x', "the body is not JSON"),
    (b'{"model": "m", "messages": ' + b"[" * 100_000, "nested too deep"),
    (b'{"model": "m", "x": NaN}', "NaN is not JSON"),
    (b'{"model": "m", "x": "\xff"}', "not UTF-8"),
    (b"{}", "model is required"),
    (b'{"model": 5}', "model must be a string"),
    (b'{"model": "a\\nb"}', "model must not contain control characters"),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions", "/v1/messages/count_tokens"])
def test_wrong_bodies(path: str, body: bytes, message: str) -> None:
    with proxy(ECHO) as served:
        answer = ask(served.port, path, body)
        assert answer.status == 400
        assert message in answer.json["error"]["message"]
        assert ask(served.port, "/healthz", method="GET").status == 200


def test_wrong_types_name_their_path() -> None:
    wrong = [
        ({"messages": "hi"}, "messages must be an array"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role must be user, assistant or system"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": 5}]}]},
            "messages[0].content[0].source must be an object",
        ),
        ({"temperature": "hot"}, "temperature must be a number"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name is required"),
        ({"thinking": {"type": "maybe"}}, "thinking.type must be enabled, adaptive, between_tools or disabled"),
    ]
    with upstream([http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        for more, message in wrong:
            answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, **more})
            assert (answer.status, answer.json["error"]["message"]) == (400, message)
            assert answer.json["error"]["type"] == "invalid_request_error"
    assert up.seen == []


def test_a_model_that_nobody_has() -> None:
    config = {"upstreams": {"echo": {"format": "echo", "models": ["only-this"]}}}
    with proxy(config) as served:
        for path, body in (("/v1/messages", ANTHROPIC_ASK), ("/v1/chat/completions", CHAT_ASK)):
            answer = ask(served.port, path, body)
            assert answer.status == 404
            assert "only-this" in answer.json["error"]["message"]


def test_a_url_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def counted(path: str, *others: Any) -> Any:
        looked.append(path)
        return match(path, *others)

    with proxy(ECHO) as served, monkeypatch.context() as patch:
        patch.setattr("ccproxy_lite.server.app.match", counted)
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
        assert ask(served.port, "/nothing", ANTHROPIC_ASK).status == 404
    assert looked == ["/v1/messages", "/nothing"]


def test_a_bug_is_a_500_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy(ECHO) as served:

        async def broken(*_: object) -> None:
            raise ZeroDivisionError("client-secret")

        with monkeypatch.context() as patch:
            patch.setattr("ccproxy_lite.relay.messages.answer", broken)
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        assert answer.status == 500
        assert "internal error in ccproxy-lite " in answer.json["error"]["message"]
        assert "ZeroDivisionError" not in answer.body.decode()
        assert get(served.port, "/healthz").status == 200


def test_many_requests_on_one_connection() -> None:
    with proxy(ECHO) as served, connect(served.port) as sock:
        rest = b""
        for number in range(200):
            asked = {
                **CHAT_ASK,
                "messages": [{"role": "user", "content": f"number {number}"}],
                "stream": number % 2 == 0,
            }
            sock.sendall(request_bytes("/v1/chat/completions", asked))
            answer = read_answer(sock, rest)
            assert f"{number}".encode() in answer.body
            rest = answer.rest


def test_pipelined_requests_are_answered_in_their_order() -> None:
    asks = [
        {**CHAT_ASK, "messages": [{"role": "user", "content": f"number{n}"}], "stream": n % 2 == 0} for n in range(6)
    ]
    with proxy(ECHO) as served, connect(served.port) as sock:
        sock.sendall(b"".join(request_bytes("/v1/chat/completions", body) for body in asks))
        rest = b""
        for number in range(6):
            answer = read_answer(sock, rest)
            assert f"number{number}".encode() in answer.body
            rest = answer.rest


def test_the_log_has_one_line_a_request(tmp_path: Any) -> None:
    path = tmp_path / "log"
    from ccproxy_lite.config.model import Log
    from ccproxy_lite.server import accesslog

    accesslog.configure(
        Log(format="json", file=str(path)), lambda text: text.replace("upstream-key-one", "[redacted]"), {}
    )
    try:
        with upstream([http(500, {})], [http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
            ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "top_k": 1})
            ask(served.port, "/v1/mess\u00e4ges".encode().decode("latin-1"), ANTHROPIC_ASK)
            get(served.port, "/healthz")
    finally:
        accesslog.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    first = lines[0]
    assert first["request"] == "POST /v1/messages"
    assert (first["format"], first["upstream"], first["model"], first["status"]) == ("anthropic", "up/m", "m", 200)
    assert (first["input_tokens"], first["output_tokens"], first["dropped"]) == (3, 1, "top_k")
    assert first["attempts"] == "up/m [***] 500 server: the upstream returned 500; up/m [***] ok"
    assert 0 < first["first_byte_s"] <= first["total_s"]
    assert len(lines) == 1
