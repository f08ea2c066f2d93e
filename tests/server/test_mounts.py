"""Mounts: a client's own service behind the proxy, passed through as if the proxy were not there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.errors import ConfigError
from ccproxy_lite.net.connection import Connection
from tests.support import (
    CHAT_ASK,
    RESET,
    ROOT,
    Scripted,
    Seen,
    ask,
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

OK = [http(200, {"ok": True})]
KEY = "mount-key-of-the-service"


def mounted(up: Scripted, path: str = "/api/", **more: Any) -> dict[str, Any]:
    """A configuration with one mount, whose service is the scripted one."""
    entry = {"to": f"http://127.0.0.1:{up.port}", "keys": [KEY], **more}
    return {"upstreams": {"echo": {"format": "echo"}}, "mounts": {path: entry}}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_and_the_whole_path_arrive(method: str) -> None:
    with upstream(OK) as up, proxy(mounted(up)) as served:
        answer = ask(served.port, "/api/threads//a%2Fb/?x=1&y", b"\x00body", method)
    (seen,) = up.seen
    assert (answer.status, answer.headers["x-ccproxy-upstream"]) == (200, "/api/")
    assert seen.head.split("\r\n")[0] == f"{method} /api/threads//a%2Fb/?x=1&y HTTP/1.1"
    assert (seen.body, seen.header("authorization")) == (b"\x00body", f"Bearer {KEY}")


@pytest.mark.parametrize("path", ["/api/get/https%253A%252F%252Fa.example", "/api/v1/v1/x", "/api//x//"])
def test_a_path_is_untouched(path: str) -> None:
    with upstream(OK) as up, proxy(mounted(up)) as served:
        assert (ask(served.port, path, None, "GET").status, up.seen[0].head.split(" ")[1]) == (200, path)


@pytest.mark.parametrize("path", ["/api/../x", "/api/%2e%2e/x", "/api/..%2fx"])
def test_no_path_leads_out_of_a_mount(path: str) -> None:
    with upstream(OK) as up, proxy(mounted(up)) as served:
        assert (ask(served.port, path, None, "GET").status, up.seen) == (404, [])


@pytest.mark.parametrize(
    ("to", "strip", "path", "target"),
    [
        ("", False, "/api/x", "/api/x"),
        ("/base/", False, "/api/x", "/base/api/x"),
        ("/base", True, "/api/x/?y", "/base/x/?y"),
        ("", True, "/api/", "/"),
    ],
)
def test_the_path_behind_the_service(to: str, strip: bool, path: str, target: str) -> None:
    with upstream(OK) as up, proxy(mounted(up, to=f"http://127.0.0.1:{up.port}{to}", strip=strip)) as served:
        assert ask(served.port, path, None, "GET").status == 200
    assert up.seen[0].head.split(" ")[1] == target


@pytest.mark.parametrize(("base", "target"), [("/base", "/base?y"), ("", "/?y")])
def test_an_exact_path_that_is_cut_leaves_the_base_url(base: str, target: str) -> None:
    with upstream(OK) as up, proxy(mounted(up, "/api", to=f"http://127.0.0.1:{up.port}{base}", strip=True)) as served:
        assert ask(served.port, "/api?y", None, "GET").status == 200
    assert up.seen[0].head.split(" ")[1] == target


@pytest.mark.parametrize(
    ("mount", "path", "status"),
    [("/news.rss", "/news.rss", 200), ("/news.rss", "/news.rss/x", 404), ("/a/", "/a", 404), ("/", "/anything", 200)],
)
def test_a_prefix_ends_in_a_slash_and_all_else_is_exact(mount: str, path: str, status: int) -> None:
    with upstream(OK) as up, proxy(mounted(up, mount)) as served:
        assert ask(served.port, path, None, "GET").status == status


def test_own_endpoints_come_first_then_the_longest_mount_then_the_raw_relay() -> None:
    with upstream(OK) as up, upstream(OK) as other:
        config = mounted(up, "/")
        config["mounts"]["/v1/deep/"] = {"to": f"http://127.0.0.1:{other.port}"}
        with proxy(config) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).headers["x-ccproxy-upstream"] == "echo/m"
            assert ask(served.port, "/healthz", None, "GET").json == {"status": "ok"}
            assert ask(served.port, "/api/provider/echo/v1/models", None, "GET").json["object"] == "list"
            for path in ("/v1/embeddings", "/v1/deep/down", "/status/x"):
                assert ask(served.port, path, {}).status == 200
    assert [seen.head.split(" ")[1] for seen in up.seen] == ["/v1/embeddings", "/status/x"]
    assert [seen.head.split(" ")[1] for seen in other.seen] == ["/v1/deep/down"]


def test_the_clients_credential_is_removed_and_its_cookies_are_not() -> None:
    answer = http(200, b"", set_cookie="a=b", access_control_allow_origin="*", access_control_allow_headers="*")
    with upstream([answer]) as up, proxy({**mounted(up), "client_keys": ["client-key-1"]}) as served:
        asked = ask(
            served.port,
            "/api/x?key=client-key-1&a=1",
            None,
            "GET",
            cookie="c=d",
            authorization="Bearer client-key-1",
            x_api_key="client-key-1",
        )
        refused = ask(served.port, "/api/x", None, "GET")
    (seen,) = up.seen
    assert ("client-key-1" in seen.head, seen.header("cookie"), seen.header("authorization")) == (
        False,
        "c=d",
        f"Bearer {KEY}",
    )
    assert (asked.headers["set-cookie"], [name for name in asked.headers if name.startswith("access-control")]) == (
        "a=b",
        [],
    )
    assert refused.status == 401


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ("bearer", "authorization", f"Bearer {KEY}"),
        ("x-api-key", "x-api-key", KEY),
        ("x-goog-api-key", "x-goog-api-key", KEY),
        ("api-key", "api-key", KEY),
        ("none", "authorization", None),
    ],
)
def test_the_key_goes_where_the_mount_says(auth: str, header: str, value: str | None) -> None:
    with upstream(OK) as up, proxy(mounted(up, auth=auth)) as served:
        assert ask(served.port, "/api/x", None, "GET").status == 200
    assert (up.seen[0].header(header), KEY in up.seen[0].head) == (value, value is not None)


def test_no_other_credential_goes_with_it() -> None:
    with upstream(OK) as up, proxy({**mounted(up, auth="api-key"), "client_keys": ["client-key-1"]}) as served:
        referer = "http://localhost/api/page?key=client-key-1"
        ask(
            served.port,
            "/api/x",
            None,
            "GET",
            x_api_key="client-key-1",
            api_key="another-of-the-client",
            referer=referer,
        )
    (seen,) = up.seen
    assert [line for line in seen.head.split("\r\n") if "key" in line.lower()] == [f"api-key: {KEY}"]


def test_a_rejected_key_is_read_again_for_the_next_request(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the-old-key-of-mine")

    def choose(seen: Seen) -> Any:
        return OK if "the-new-key-of-mine" in seen.head else [http(401, {})]

    with upstream(choose=choose) as up, proxy(mounted(up, keys=[f"file:{secret}"])) as served:
        assert ask(served.port, "/api/x", {}).status == 401
        secret.write_text("the-new-key-of-mine")
        assert eventually(lambda: ask(served.port, "/api/x", {}).status == 200)


def test_redirects_are_passed_on_and_never_followed() -> None:
    moved = http(302, b"", location="https://login.example/?back=http://localhost/api/")
    with upstream([moved]) as up, proxy(mounted(up)) as served:
        answer = ask(served.port, "/api/login", None, "GET")
    assert (answer.status, answer.headers["location"], len(up.seen)) == (
        302,
        "https://login.example/?back=http://localhost/api/",
        1,
    )


def test_gzip_passes_through() -> None:
    zipped = gzip.compress(b"page")
    with upstream([http(200, zipped, "text/html", content_encoding="gzip")]) as up, proxy(mounted(up)) as served:
        answer = ask(served.port, "/api/page", None, "GET", accept_encoding="gzip, br")
    assert (answer.body, answer.headers["content-encoding"]) == (zipped, "gzip")
    assert up.seen[0].header("accept-encoding") == "gzip, br"


@pytest.mark.parametrize("origins", [[], ["http://localhost:3000"]])
def test_preflights_are_refused(origins: list[str]) -> None:
    with upstream(OK) as up, proxy({**mounted(up), "cors_origins": origins}) as served:
        asked = {"origin": "http://localhost:3000", "access_control_request_method": "POST"}
        answer = ask(served.port, "/api/x", None, "OPTIONS", **asked)
        assert (answer.status, up.seen) == (403, [])
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_errors_are_the_services_own_and_never_repeated() -> None:
    with upstream([http(503, b"busy", "text/plain", retry_after="7")]) as up, proxy(mounted(up)) as served:
        answer = ask(served.port, "/api/x", {})
    assert (answer.status, answer.body, answer.headers["retry-after"], len(up.seen)) == (503, b"busy", "7", 1)


def test_a_service_that_does_not_answer_is_a_502() -> None:
    with upstream([RESET]) as up, proxy(mounted(up)) as served:
        answer = ask(served.port, "/api/x", {})
        assert (answer.status, len(up.seen)) == (502, 1)
        assert "closed the connection" in answer.json["error"]["message"] or "reset" in answer.json["error"]["message"]


def test_a_websocket_is_refused_at_once() -> None:
    with upstream(OK) as up, proxy(mounted(up)) as served:
        assert (ask(served.port, "/api/x", None, "GET", upgrade="websocket").status, up.seen) == (426, [])


# ---------------------------------------------------------------- keys


def test_the_first_key_that_is_set_is_the_key(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    keys = ["$FIRST_OF_ALL", f"file:{secret}", "literal-key-at-last"]
    with upstream(OK) as up, proxy(mounted(up, keys=keys)) as served:
        ask(served.port, "/api/x", {})
        secret.write_text("from-the-file-1\n")
        ask(served.port, "/api/x", {})
    with upstream(OK) as later, proxy(mounted(later, keys=keys), {"FIRST_OF_ALL": "from-the-environment"}) as served:
        ask(served.port, "/api/x", {})
    sent = [seen.header("authorization") for seen in [*up.seen, *later.seen]]
    assert sent == ["Bearer literal-key-at-last", "Bearer from-the-file-1", "Bearer from-the-environment"]


def test_a_mount_without_any_key_that_is_set_is_not_configured(tmp_path: Path) -> None:
    keys = ["$NOT_SET_ANYWHERE", f"file:{tmp_path}/nothing"]
    with upstream(OK) as up:
        settings = settings_of(mounted(up, keys=keys))
        assert settings.notes == (f"mounts./api/.keys: none is set ({', '.join(keys)}); requests will get 503",)
        with proxy(mounted(up, keys=keys)) as served:
            answer = ask(served.port, "/api/x", {})
    assert (answer.status, up.seen) == (503, [])
    assert (
        answer.json["error"]["message"] == f"mount /api/ is not configured: none of its keys is set ({', '.join(keys)})"
    )


# ---------------------------------------------------------------- who may come


def test_only_this_machine_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "is_local", False)
    with upstream(OK) as up:
        with proxy(mounted(up)) as served:
            answer = ask(served.port, "/api/x", {}, x_forwarded_for="127.0.0.1")
            assert (answer.status, up.seen) == (403, [])
        with proxy(mounted(up, loopback_only=False)) as served:
            assert ask(served.port, "/api/x", {}).status == 200


@pytest.mark.parametrize(
    ("peer", "is_local"),
    [
        (("127.0.0.1", 1), True),
        (("127.8.9.1", 1), True),
        (("::1", 1, 0, 0), True),
        (("::ffff:127.0.0.1", 1, 0, 0), True),
        (("10.0.0.1", 1), False),
        (("::ffff:10.0.0.1", 1, 0, 0), False),
        ("", True),
    ],
)
def test_what_counts_as_this_machine(peer: Any, is_local: bool) -> None:
    class Transport:
        def get_extra_info(self, name: str) -> Any:
            return peer

    connection = Connection.__new__(Connection)
    connection._transport = Transport()  # type: ignore[assignment]
    assert connection.is_local is is_local


# ---------------------------------------------------------------- mistakes in the file


@pytest.mark.parametrize(
    ("mount", "entry", "words"),
    [
        ("/api/", {}, 'test.json:1:90: mounts./api/: missing "to"'),
        ("/api/", {"to": "ampcode.com"}, "mounts./api/.to: must start with https://"),
        ("/api/", {"to": "http://ampcode.com"}, "mounts./api/.to: keys and conversations would be sent unencrypted"),
        ("/api/", {"to": "https://a.example?x"}, "mounts./api/.to: must contain only scheme, host, port and path"),
        ("/api/", {"to": "https://a.example", "key": "x"}, 'mounts./api/.key: unknown key (did you mean "keys"?)'),
        (
            "/api/",
            {"to": "https://a.example", "keys": ["changeme"]},
            "mounts./api/.keys[0]: the key contains a placeholder",
        ),
        ("/api/", {"to": "https://a.example", "auth": "basic"}, "mounts./api/.auth: must be one of bearer"),
        ("api/", {"to": "https://a.example"}, 'mounts.api/: a mount is a path such as "/api/"'),
        ("/a b/", {"to": "https://a.example"}, "mounts./a b/: a mount is a path"),
        ("/a/../b/", {"to": "https://a.example"}, 'mounts./a/../b/: a mount is a path such as "/api/"'),
        ("/a/*", {"to": "https://a.example"}, 'mounts./a/*: a mount is a path such as "/api/"'),
    ],
)
def test_mistakes(mount: str, entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of({"listen": "127.0.0.1:9", "upstreams": {"echo": {"format": "echo"}}, "mounts": {mount: entry}})
    assert words in caught.value.problems[0], caught.value.problems


# ---------------------------------------------------------------- what one client needs


AMP: list[tuple[str, str]] = [
    *(
        ("POST", f"/api/{name}")
        for name in (
            "internal?listThreads",
            "telemetry",
            "otel/v1/traces",
            "tab/complete",
            "ads/next",
            "thread-actors/1",
        )
    ),
    *(("GET", f"/api/{name}") for name in ("user", "meta/version", "threads/T-1", "auth/session")),
    ("PUT", "/api/threads/T-1"),
    ("DELETE", "/api/threads/T-1"),
    *(
        ("GET", path)
        for path in (
            "/threads",
            "/threads/T-1",
            "/threads.rss",
            "/news.rss",
            "/docs",
            "/docs/x",
            "/settings",
            "/settings/x",
            "/auth",
            "/auth/cli-login?x=1",
        )
    ),
]


def amp(up: Scripted) -> dict[str, Any]:
    """The example, with the scripted service in the place of every other."""
    text = (ROOT / "examples/amp.json").read_text().replace("https://ampcode.com", f"http://127.0.0.1:{up.port}")
    config: dict[str, Any] = json.loads(text)
    for upstream_entry in config["upstreams"].values():
        suffix = "/v1" if upstream_entry["format"].startswith("openai") else ""
        upstream_entry["base_url"] = f"http://127.0.0.1:{up.port}{suffix}"
    return config


KEYS = {
    "ANTHROPIC_API_KEY": "key-of-claude",
    "OPENAI_API_KEY": "key-of-gpt",
    "GEMINI_API_KEY": "key-of-google",
    "AMP_API_KEY": KEY,
}


@pytest.mark.parametrize(("method", "path"), AMP)
def test_a_route_of_amps_own_service(method: str, path: str) -> None:
    with upstream(OK) as up, proxy(amp(up), KEYS) as served:
        answer = ask(served.port, path, {"x": 1} if method != "GET" else None, method)
    assert (answer.status, up.seen[0].head.split("\r\n")[0]) == (200, f"{method} {path} HTTP/1.1")
    needs_key = not path.startswith(("/auth", "/docs", "/news"))
    assert (KEY in up.seen[0].head) is needs_key


@pytest.mark.parametrize(
    ("path", "upstream_name"),
    [
        ("anthropic/v1/messages", "claude"),
        ("anthropic/v1/messages/count_tokens", "claude"),
        ("openai/v1/chat/completions", "gpt"),
        ("openai/v1/responses", "gpt"),
        ("openai/v1/completions", "gpt"),
        ("google/v1beta/models/m:generateContent", "google"),
        ("google/v1beta1/publishers/google/models/m:streamGenerateContent", "google"),
    ],
)
def test_a_provider_alias_of_amps(path: str, upstream_name: str) -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    body = {"model": "m", "input": "hi"} if "responses" in path else body
    body = {"model": "m", "prompt": "hi"} if path.endswith("v1/completions") else body
    body = {"contents": [{"parts": [{"text": "hi"}]}]} if "google" in path else body
    with upstream([http(400, {"error": {"message": "seen"}})]) as up, proxy(amp(up), KEYS) as served:
        answer = ask(served.port, f"/api/provider/{path}", body)
    assert answer.headers["x-ccproxy-upstream"] == f"{upstream_name}/m", answer
    assert f"key-of-{upstream_name}" in up.seen[0].head


@pytest.mark.parametrize(("vendor", "member"), [("anthropic", "has_more"), ("openai", "object"), ("google", "models")])
def test_amps_model_lists(vendor: str, member: str) -> None:
    with (
        upstream([http(200, {"data": [{"id": "m"}], "models": [{"name": "models/m"}]})]) as up,
        proxy(amp(up), KEYS) as served,
    ):
        assert member in ask(served.port, f"/api/provider/{vendor}/models", None, "GET").json


def test_the_log_names_the_mount() -> None:
    with upstream(OK) as up, process(mounted(up), "--log-format", "json") as served:
        assert ask(served.port, "/api/x", {}, x_request_id="mine").status == 200
        assert eventually(lambda: "mine" in served.stderr)
        (line,) = [json.loads(text) for text in served.stderr.splitlines() if "mine" in text]
    assert (line["upstream"], line["status"], line["request"]) == ("mount:/api/", 200, "POST /api/x")


def test_a_mount_streams() -> None:
    with (
        upstream(
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
                lambda up: up.gone.wait(60),
                b"0\r\n\r\n",
            ]
        ) as up,
        proxy(mounted(up)) as served,
        connect(served.port) as sock,
    ):
        sock.sendall(request_bytes("/api/x", {}))
        received = b""
        while b"first" not in received:
            received += sock.recv(1000)
        up.gone.set()
        assert read_answer(sock, received).body == b"first"
