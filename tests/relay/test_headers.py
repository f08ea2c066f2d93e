"""Which headers travel on, and what an upstream's say about waiting."""

from __future__ import annotations

from ccproxy_lite.config.model import Key, Upstream
from ccproxy_lite.net.heads import read_head
from ccproxy_lite.relay.headers import for_client, for_upstream, merged


def head(*lines: str):  # type: ignore[no-untyped-def]
    return read_head("\r\n".join(["POST / HTTP/1.1", "Host: localhost", *lines, "", ""]).encode("latin-1"))


def upstream(keys: int, from_client: bool = False) -> Upstream:
    named = tuple(Key(f"key-{number}", "") for number in range(keys))
    return Upstream("up", "openai-chat", "http://localhost:1", named, from_client=from_client)


def test_upward() -> None:
    given = head(
        "Authorization: Bearer x", "X-Api-Key: x", "X-Goog-Api-Key: x", "Cookie: a", "Connection: keep-alive, X-Hop", "X-Hop: 1",
        "Transfer_Encoding: chunked", "X-Forwarded-For: 1.2.3.4", "X-Real-IP: 1.2.3.4", "Sec-Fetch-Mode: cors", "Origin: http://x",
        "X-CCProxy-Strict: 1", "Accept-Encoding: gzip", "Content-Length: 0", "Anthropic-Beta: a,b", "X-Custom: caf\xe9",
    )  # fmt: skip
    assert for_upstream(given) == [("anthropic-beta", "a,b"), ("x-custom", "caf\xe9")]


def test_downward() -> None:
    given = [
        (b"content-type", b"application/json"), (b"content-length", b"3"), (b"content-encoding", b"gzip"), (b"connection", b"x-hop"),
        (b"x-hop", b"1"), (b"set-cookie", b"a"), (b"access-control-allow-origin", b"*"), (b"request-id", b"r1"), (b"date", b"now"),
    ]  # fmt: skip
    assert for_client(given, upstream(1)) == [("content-type", "application/json"), ("request-id", "r1")]


def test_what_is_left_to_a_key_is_withheld_where_there_are_several() -> None:
    left = [
        (b"anthropic-ratelimit-tokens-remaining", b"9"),
        (b"x-ratelimit-remaining-requests", b"1"),
        (b"ratelimit-limit", b"5"),
    ]
    given = [*left, (b"x-request-id", b"theirs")]
    kept = [("x-ccproxy-upstream-request-id", "theirs")]
    assert for_client(given, upstream(2)) == kept
    everything = [(name.decode(), value.decode()) for name, value in left] + kept
    assert for_client(given, upstream(1)) == for_client(given, upstream(0, from_client=True)) == everything


def test_a_later_group_overrides() -> None:
    assert merged([("a", "1"), ("b", "1")], [("b", "2")], [("c", "3")]) == [("a", "1"), ("b", "2"), ("c", "3")]
