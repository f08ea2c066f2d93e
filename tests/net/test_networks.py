"""Networks of companies: proxies in between, roots and client certificates of their own, over real sockets."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.errors import ConfigError
from ccproxy_lite.net.tls import client_context
from tests.ports import listening
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    CHAT_BODY,
    CHAT_STREAM,
    Scripted,
    ask,
    eventually,
    http,
    proxy,
    settings_of,
    upstream,
)

STREAMED = {**CHAT_ASK, "stream": True}
CLIENTS = {
    "same format": ("/v1/chat/completions", STREAMED),
    "converted": ("/v1/messages", {**ANTHROPIC_ASK, "stream": True}),
}


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    made = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    made.path = str(path)
    yield made


def server_context(authority: Any, *names: str, **more: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **more).configure_cert(context)
    return context


def tls_config(up: Scripted, **more: Any) -> dict[str, Any]:
    entry = {
        "format": "openai-chat",
        "base_url": f"https://localhost:{up.port}/v1",
        "keys": ["upstream-key-one"],
        **more,
    }
    return {"upstreams": {"up": entry}, "retries": 0}


@pytest.mark.parametrize("client", CLIENTS)
def test_tls_with_a_root_of_its_own(authority: Any, client: str) -> None:
    path, body = CLIENTS[client]
    with upstream(CHAT_STREAM, tls=server_context(authority, "localhost")) as up:
        with proxy(tls_config(up, ca_file=authority.path)) as served:
            for _ in range(3):
                assert b"lo" in ask(served.port, path, body).body
    assert up.connections == 1


def test_tls_failures_say_what_to_do(authority: Any) -> None:
    import datetime

    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    for context, more, message in (
        (
            server_context(authority, "localhost"),
            {},
            "unknown authority (a proxy that inspects TLS?); name its root in ca_file or SSL_CERT_FILE",
        ),
        (
            server_context(authority, "other.example"),
            {"ca_file": authority.path},
            "its certificate is for another host name",
        ),
        (
            server_context(authority, "localhost", not_after=past),
            {"ca_file": authority.path},
            "its certificate has expired",
        ),
    ):
        with upstream(CHAT_STREAM, tls=context) as up, proxy(tls_config(up, **more)) as served:
            answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
            assert (answer.status, message in answer.json["error"]["message"]) == (502, True), answer.body
        assert up.seen == []


def test_tls_to_a_port_without_it() -> None:
    def refuse(listener: socket.socket) -> None:
        with listener.accept()[0] as sock:
            sock.recv(100)
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening() as listener:
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        with proxy(tls_config(Scripted([], port=listener.getsockname()[1]))) as served:
            answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
        thread.join()
    assert (answer.status, "did you mean http://?" in answer.json["error"]["message"]) == (502, True)


# ---------------------------------------------------------------- a proxy in between


@dataclass
class Between:
    """A CONNECT proxy: what it was asked for, and whom it lets through to where."""

    port: int = 0
    login: str = ""
    answer: bytes = b""
    elsewhere: int = 0
    tls: ssl.SSLContext | None = None
    seen: list[str] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if self.tls is not None:
                sock = stack.enter_context(self.tls.wrap_socket(sock, server_side=True))
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(1)
            self.seen.append(head.decode())
            if self.answer:
                sock.sendall(self.answer)
                return
            if self.login and f"proxy-authorization: {self.login}" not in head.decode().replace(
                "Proxy-Auth", "proxy-auth"
            ):
                sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            method, target, _ = head.decode().split("\r\n")[0].split(" ")
            there = stack.enter_context(socket.create_connection(("127.0.0.1", self.elsewhere), 10))
            if method == "CONNECT":
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\nVia: corp\r\n\r\n")
            else:  # the whole URL in the request line
                there.sendall(head.replace(target.encode(), b"/" + target.split("/", 3)[3].encode(), 1))
            pump(sock, there)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    while True:
        waiting = isinstance(one, ssl.SSLSocket) and one.pending()
        for source in [one] if waiting else select.select([one, other], [], [], 10)[0]:
            data = source.recv(65536)
            if not data:
                return
            (other if source is one else one).sendall(data)


@contextlib.contextmanager
def between(up: Scripted, **settings: Any) -> Iterator[Between]:
    with listening() as listener:
        proxy = Between(listener.getsockname()[1], elsewhere=up.port, **settings)
        threading.Thread(target=proxy.serve, args=(listener,), daemon=True).start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def corporate(authority: Any, **more: Any) -> dict[str, Any]:
    """A service of which only the proxy knows where it is."""
    entry = {"format": "openai-chat", "base_url": "https://llm.example/v1", "keys": ["upstream-key-one"]}
    return {"upstreams": {"up": {**entry, "ca_file": authority.path, **more}}, "retries": 0}


def told(served: Any) -> tuple[int, str]:
    answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    return answer.status, answer.json["error"]["message"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "the file", "a reference"])
def test_through_a_proxy_with_a_login(authority: Any, client: str, variable: str) -> None:
    path, body = CLIENTS[client]
    login = "Basic bWU6c0BjcmV0LWluLXRoZS1maWxl"
    with upstream(CHAT_STREAM, tls=server_context(authority, "llm.example")) as up, between(up, login=login) as middle:
        url = f"http://me:s%40cret-in-the-file@127.0.0.1:{middle.port}"
        named = {"the file": {"proxy": url}, "a reference": {"proxy": "$CORP"}}.get(variable, {})
        environ = {"CORP": url, variable: url} if " " not in variable else {"CORP": url}
        with proxy(corporate(authority, **named), environ) as served:
            for _ in range(3):
                assert b"lo" in ask(served.port, path, body).body
    assert len(middle.seen) == up.connections == 1, "one tunnel is used again"
    assert middle.seen[0].startswith("CONNECT llm.example:443 HTTP/1.1\r\n")
    assert "authorization: bearer" not in middle.seen[0].lower()
    assert up.seen[0].header("proxy-authorization") is None and up.seen[0].header("host") == "llm.example"


def test_an_http_service_behind_a_proxy(authority: Any) -> None:
    with upstream([http(200, CHAT_BODY)]) as up, between(up, login="Basic bWU6c2VjcmV0") as middle:
        settings = corporate(authority, base_url="http://llm.example/v1", allow_http=True)
        with proxy(settings, {"HTTP_PROXY": f"http://me:secret@127.0.0.1:{middle.port}"}) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    assert middle.seen[0].startswith("POST http://llm.example/v1/chat/completions HTTP/1.1\r\n")


def test_a_proxy_of_an_http_service_that_wants_a_login(authority: Any) -> None:
    body = b"your login was Basic bWU6c2VjcmV0LXdvcmQ="
    answer = b"HTTP/1.1 407 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with upstream([]) as up, between(up, answer=answer) as middle:
        url = f"http://me:secret-word@127.0.0.1:{middle.port}"
        with proxy(corporate(authority, base_url="http://llm.example/v1", allow_http=True, proxy=url)) as served:
            status, said = told(served)
    assert (status, "rejected this user and password (407)" in said) == (502, True)


def test_no_proxy_and_none_go_straight(authority: Any) -> None:
    with upstream([http(200, CHAT_BODY)], tls=server_context(authority, "localhost")) as up, between(up) as middle:
        here = f"https://localhost:{up.port}/v1"
        environ = {"HTTPS_PROXY": f"http://127.0.0.1:{middle.port}"}
        for more, extra in (({}, {}), ({"proxy": "none"}, {}), ({}, {"NO_PROXY": "*"})):
            with proxy(corporate(authority, base_url=here, **more), {**environ, **extra}) as served:
                assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
        assert middle.seen == []
        with proxy(corporate(authority, base_url=here, proxy=environ["HTTPS_PROXY"]), {}) as served:  # said expressly
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
        assert len(middle.seen) == 1


@pytest.mark.parametrize(
    ("answer", "login", "message"),
    [
        (b"HTTP/1.1 407 X\r\n\r\n", "", "requires authentication (407); use http://user:password@host:port"),
        (b"HTTP/1.1 407 X\r\n\r\n", "me:secret@", "rejected this user and password (407)"),
        (b"HTTP/1.1 403 X\r\n\r\n", "", "refused to connect to llm.example:443 (403)"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "", "sent invalid HTTP"),
        (b"HTTP/1.1 200", "", "closed the connection without a response"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "", "llm.example:443"),
    ],
)
def test_what_a_proxy_refuses_is_said(authority: Any, answer: bytes, login: str, message: str) -> None:
    with upstream([]) as up, between(up, answer=answer) as middle:
        url = f"http://{login}127.0.0.1:{middle.port}"
        with proxy(corporate(authority, proxy=url)) as served:
            status, said = told(served)
    assert status == 502 and message in said
    assert "secret" not in said


def test_a_proxy_that_is_not_there(authority: Any) -> None:
    with listening() as listener:
        port = listener.getsockname()[1]
    with proxy(corporate(authority, proxy=f"http://127.0.0.1:{port}")) as served:
        assert told(served) == (502, f"proxy 127.0.0.1:{port} refused the connection")


def test_a_proxy_that_says_nothing(authority: Any) -> None:
    with listening() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with proxy({**corporate(authority, proxy=url), "timeouts": {"connect_s": 0.2}}) as served:
            status, said = told(served)
            assert (status, "CONNECT to llm.example:443 timed out" in said) == (504, True)
            assert eventually(lambda: served.call(lambda: served.parts.parts.pool.open_count) == 0)


def test_a_proxy_that_inspects_tls(authority: Any) -> None:
    """It shows a certificate of an authority that only this company knows."""
    with upstream(CHAT_STREAM, tls=server_context(authority, "llm.example")) as up, between(up) as middle:
        settings = corporate(authority, proxy=f"http://127.0.0.1:{middle.port}")
        del settings["upstreams"]["up"]["ca_file"]
        with proxy(settings) as served:
            status, said = told(served)
    assert status == 502
    assert "unknown authority (a proxy that inspects TLS?); name its root in ca_file or SSL_CERT_FILE" in said


def test_tls_to_the_proxy_itself(authority: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.path)
    tls = server_context(authority, "127.0.0.1")
    with upstream(CHAT_STREAM, tls=server_context(authority, "llm.example")) as up, between(up, tls=tls) as middle:
        with proxy(corporate(authority, proxy=f"https://127.0.0.1:{middle.port}")) as served:
            answer = ask(served.port, "/v1/chat/completions", STREAMED)
    if sys.version_info >= (3, 11):
        assert b"lo" in answer.body
    else:
        assert "needs Python 3.11 or newer" in answer.json["error"]["message"]


def test_a_proxy_that_cannot_be_used_is_told_with_its_place(authority: Any) -> None:
    with pytest.raises(ConfigError, match=r"upstreams\.up\.proxy: socks5:// proxies are not supported"):
        settings_of(corporate(authority, proxy="socks5://p:1"))
    with pytest.raises(ConfigError, match=r"upstreams\.up: environment variable ALL_PROXY: socks5://"):
        settings_of(corporate(authority), {"ALL_PROXY": "socks5://p:1"})
    with pytest.raises(ConfigError, match=r"upstreams\.up\.proxy: environment variable CORP is unset"):
        settings_of(corporate(authority, proxy="$CORP"))


TINYPROXY = """Port {port}
Listen 127.0.0.1
Timeout 30
LogFile "{folder}/log"
LogLevel Info
MaxClients 20
ConnectPort {upstream}
BasicAuth me secret-of-mine
"""


@pytest.mark.skipif(not shutil.which("tinyproxy"), reason="tinyproxy is not installed")
def test_through_a_proxy_that_others_have_written(authority: Any, tmp_path: Path) -> None:
    with upstream(CHAT_STREAM, tls=server_context(authority, "localhost")) as up:
        with listening() as free:
            port = free.getsockname()[1]
        conf = tmp_path / "tinyproxy.conf"
        conf.write_text(TINYPROXY.format(port=port, folder=tmp_path, upstream=up.port))
        child = subprocess.Popen(
            ["tinyproxy", "-d", "-c", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            assert eventually(lambda: _listens(port))
            for login, status in (("me:secret-of-mine@", 200), ("me:wrong@", 502), ("", 502)):
                url = f"http://{login}127.0.0.1:{port}"
                with proxy(corporate(authority, base_url=f"https://localhost:{up.port}/v1", proxy=url)) as served:
                    answer = ask(served.port, "/v1/chat/completions", STREAMED)
                    assert answer.status == status, answer.body
        finally:
            child.terminate()
            child.wait()
    assert f"CONNECT localhost:{up.port}" in (tmp_path / "log").read_text()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# ---------------------------------------------------------------- certificates


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"])
def test_roots_that_the_environment_names(authority: Any, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, authority.path)
    with upstream(CHAT_STREAM, tls=server_context(authority, "localhost")) as up, proxy(tls_config(up)) as served:
        assert ask(served.port, "/v1/chat/completions", STREAMED).status == 200


@pytest.mark.parametrize("variable", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_a_folder_of_roots(authority: Any, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", authority.path], capture_output=True, text=True
    )
    if shown.returncode:
        pytest.skip("openssl is not installed")
    shutil.copy(authority.path, tmp_path / f"{shown.stdout.strip()}.0")
    monkeypatch.setenv(variable, f"{tmp_path}")
    with upstream(CHAT_STREAM, tls=server_context(authority, "localhost")) as up, proxy(tls_config(up)) as served:
        assert ask(served.port, "/v1/chat/completions", STREAMED).status == 200


def test_roots_are_read_anew_with_the_configuration(authority: Any, tmp_path: Path) -> None:
    import trustme

    roots = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(roots))
    with upstream(CHAT_STREAM, tls=server_context(authority, "localhost")) as up:
        config = tls_config(up, ca_file=str(roots))
        with proxy(config) as served:
            assert ask(served.port, "/v1/chat/completions", STREAMED).status == 502
            shutil.copy(authority.path, roots)
            assert ask(served.port, "/v1/chat/completions", STREAMED).status == 502
            served.run(served.parts.use, settings_of(config))
            assert ask(served.port, "/v1/chat/completions", STREAMED).status == 200


def client_pem(authority: Any, path: Path) -> Path:
    made = authority.issue_cert("me@corp.example")
    path.write_bytes(made.private_key_pem.bytes() + b"".join(blob.bytes() for blob in made.cert_chain_pems))
    return path


def test_client_certificates(authority: Any, tmp_path: Path) -> None:
    context = server_context(authority, "localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    pem = client_pem(authority, tmp_path / "me.pem")
    with upstream(CHAT_STREAM, tls=context) as up:
        with proxy(tls_config(up, ca_file=authority.path, client_cert=str(pem))) as served:
            assert b"lo" in ask(served.port, "/v1/chat/completions", STREAMED).body
        with proxy(tls_config(up, ca_file=authority.path)) as served:
            status, said = told(served)
    assert status == 502 and ("client_cert" in said or "closed the connection" in said or "reset" in said), said


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("ca_file", "not a certificate", "holds no usable PEM certificate"),
        ("ca_file", "", "holds no usable PEM certificate"),
        ("client_cert", "not a certificate", "holds no usable PEM certificate (with its unencrypted key"),
    ],
)
def test_files_that_hold_no_certificate(key: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "it.pem"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        client_context(**{key: str(path)})
    assert caught.value.problems[0].startswith(f"{key}: {path}: ") and message in caught.value.problems[0]


def test_an_encrypted_key_asks_nobody(authority: Any, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s

    made = authority.issue_cert("me@corp.example")
    key = s.load_pem_private_key(made.private_key_pem.bytes(), None)
    locked = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"password"))
    path = tmp_path / "me.pem"
    path.write_bytes(locked + made.cert_chain_pems[0].bytes())
    with pytest.raises(ConfigError, match=r"client_cert: .*unencrypted key"):
        client_context(client_cert=str(path))
