"""Who may ask, without a socket."""

from __future__ import annotations

import pytest

from ccproxy_lite.config.model import Config
from ccproxy_lite.errors import ClientError
from ccproxy_lite.net.heads import RequestHead, read_head
from ccproxy_lite.server.access import Access, check_body_type


def head(path: str = "/v1/models", method: str = "GET", **headers: str) -> RequestHead:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return read_head("\r\n".join([*lines, "", ""]).encode())


def access(listen: str = "127.0.0.1:8317", *keys: str, **more: tuple[str, ...]) -> Access:
    return Access(Config((), listen=listen, **more), keys)  # type: ignore[arg-type]


def status_of(check: object, given: RequestHead) -> int:
    try:
        check(given)  # type: ignore[operator]
    except ClientError as error:
        return error.status
    return 200


@pytest.mark.parametrize(
    ("listen", "host", "status"),
    [
        ("127.0.0.1:8317", "localhost:8317", 200),
        ("127.0.0.1:8317", "127.9.9.9", 200),
        ("127.0.0.1:8317", "[::1]:1", 200),
        ("127.0.0.1:8317", "evil.example", 403),
        ("127.0.0.1:8317", "10.0.0.1", 403),
        ("127.0.0.1:8317", "named.example.", 200),
        ("0.0.0.0:8317", "10.0.0.1:8317", 200),
        ("0.0.0.0:8317", "evil.example", 403),
        ("0.0.0.0:8317", "0.0.0.0", 403),
        ("box.lan:8317", "box.lan:8317", 200),
        ("unix:/run/x", "anything", 200),
    ],
)
def test_hosts(listen: str, host: str, status: int) -> None:
    assert status_of(access(listen, allowed_hosts=("Named.example",)).check_source, head(host=host)) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "https://app.example"}, 200),
        ({"origin": "http://localhost:8317"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"origin": "https://app.example", "sec_fetch_site": "cross-site"}, 200),
    ],
)
def test_browsers(headers: dict[str, str], status: int) -> None:
    given = head(host="localhost:8317", **headers)
    door = access(cors_origins=("https://app.example",))
    assert status_of(door.check_source, given) == status
    assert bool(door.cors(given)) == (headers.get("origin") == "https://app.example")


def test_a_link_may_lead_to_the_page_alone() -> None:
    followed = {"host": "localhost:8317", "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert status_of(access().check_source, head("/", **followed)) == 200
    assert status_of(access().check_source, head("/status", **followed)) == 403


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 401),
        ("/", {"authorization": "Bearer two"}, 200),
        ("/", {"authorization": "bearer two"}, 200),
        ("/", {"authorization": "Basic two"}, 401),
        ("/", {"x_api_key": "one"}, 200),
        ("/", {"x_goog_api_key": "one"}, 200),
        ("/?key=one", {}, 200),
        ("/?key=one", {"x_api_key": "two"}, 401),
        ("/?key=one", {"x_api_key": "one"}, 200),
        ("/", {"x_api_key": "three"}, 401),
    ],
)
def test_keys(path: str, headers: dict[str, str], status: int) -> None:
    assert status_of(access("127.0.0.1:1", "one", "two").check_key, head(path, host="x", **headers)) == status


def test_without_keys_nobody_is_asked_for_one() -> None:
    assert status_of(access().check_key, head(host="x", x_api_key="whatever")) == 200


def test_the_refusal_names_the_places() -> None:
    with pytest.raises(ClientError) as caught:
        access("127.0.0.1:1", "one").check_key(head(host="x"))
    assert caught.value.message.endswith("Authorization: Bearer, x-api-key or x-goog-api-key")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/json"}, 200),
        ({"content_type": "Application/JSON; charset=UTF-8"}, 200),
        ({"content_type": "application/json; charset=latin-1"}, 415),
        ({"content_type": "text/plain"}, 415),
        ({}, 415),
        ({"content_type": "application/json", "content_encoding": "gzip"}, 200),
        ({"content_type": "application/json", "content_encoding": "Deflate"}, 200),
        ({"content_type": "application/json", "content_encoding": "gzip, gzip"}, 415),
        ({"content_type": "application/json", "content_encoding": "br"}, 415),
        ({"content_type": "application/json", "content_encoding": "zstd"}, 415),
        ({"content_type": "application/json", "content_encoding": "identity"}, 200),
    ],
)
def test_bodies(headers: dict[str, str], status: int) -> None:
    assert status_of(check_body_type, head(method="POST", host="x", **headers)) == status
