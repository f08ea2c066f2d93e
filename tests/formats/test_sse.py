"""Server-sent events: every line end, every cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.sse import Event, Parser, encode


def parse(*pieces: bytes, **options: int) -> list[Event]:
    parser = Parser(**options)
    return [event for piece in pieces for event in parser.feed(piece)]


def every_way(raw: bytes) -> list[Event]:
    """The events of a stream fed whole, byte by byte, and in two pieces at every place: all the same."""
    whole = parse(raw)
    assert parse(*(raw[i : i + 1] for i in range(len(raw)))) == whole
    for cut in range(len(raw)):
        assert parse(raw[:cut], raw[cut:]) == whole
    return whole


CASES = [
    ("one event", b"data: a\n\n", [Event("", "a")]),
    ("a name", b"event: ping\ndata: {}\n\n", [Event("ping", "{}")]),
    ("the name after the data", b"data: {}\nevent: ping\n\n", [Event("ping", "{}")]),
    ("no space after the colon", b"data:a\nevent:b\n\n", [Event("b", "a")]),
    ("only one space is taken", b"data:  a\n\n", [Event("", " a")]),
    ("CRLF", b"event: e\r\ndata: a\r\n\r\n", [Event("e", "a")]),
    ("CR", b"event: e\rdata: a\r\r", [Event("e", "a")]),
    ("a mixture", b"event: e\rdata: a\r\n\ndata: b\n\r\n", [Event("e", "a"), Event("", "b")]),
    ("several data lines", b"data: a\ndata:\ndata: b\n\n", [Event("", "a\n\nb")]),
    ("comments, ids and retries", b": hi\nid: 1\nretry: 3\ndata: a\n:\n\n", [Event("", "a")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: a\n\n", [Event("", "a")]),
    (
        "a mark in the middle is text",
        b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n",
        [Event("", "a"), Event("", "c")],
    ),
    ("line separators of Unicode are text", 'data: "a\u2028b\u0085c"\n\n'.encode(), [Event("", '"a\u2028b\x85c"')]),
    ("control characters are text", b"data: a\x0bb\x0cc\x1cd\n\n", [Event("", "a\x0bb\x0cc\x1cd")]),
    ("letters of several bytes", "data: grüße 漢字 🎉\n\n".encode(), [Event("", "grüße 漢字 🎉")]),
    ("invalid UTF-8 is replaced", b"data: a\xffb\n\n", [Event("", "a�b")]),
    ("an event without data is none", b"event: ping\n\ndata: a\n\n", [Event("", "a")]),
    ("an unfinished event is never delivered", b"data: a\n\ndata: b\n", [Event("", "a")]),
    ("an unfinished line", b"data: a\n\ndata: b", [Event("", "a")]),
    ("a field without a colon", b"data\n\n", [Event("", "")]),
    ("nothing", b"\n\n\r\n\r", []),
]


@pytest.mark.parametrize(("raw", "expected"), [pytest.param(raw, expected, id=name) for name, raw, expected in CASES])
def test_events(raw: bytes, expected: list[Event]) -> None:
    assert every_way(raw) == expected


def test_unfinished_is_known() -> None:
    parser = Parser()
    parser.feed(b"data: a\n\n")
    assert not parser.unfinished()
    parser.feed(b"da")
    assert parser.unfinished()
    parser.feed(b"ta: b\n")
    assert parser.unfinished()
    parser.feed(b"\n")
    assert not parser.unfinished()


def test_a_line_of_megabytes() -> None:
    text = "x" * 5_000_000
    raw = f"data: {text}\n\n".encode()
    assert parse(*(raw[i : i + 65536] for i in range(0, len(raw), 65536))) == [Event("", text)]


@pytest.mark.parametrize("raw", [b"data: " + b"x" * 200, b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 60 + b"\n"])
def test_an_event_that_is_too_large(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        parse(raw, max_event_bytes=100)


@given(st.text(), st.sampled_from(["", "ping", "content_block_delta"]))
def test_what_is_written_is_read(text: str, name: str) -> None:
    from ccproxy_lite.jsontext import dumps

    assert parse(encode(dumps(text), name)) == [Event(name, dumps(text))]


@given(
    st.lists(st.sampled_from([b"data: a", b"\n", b"\r", b"\r\n", b":", b"event: e", b"\xef\xbb\xbf", b"\xe2\x80\xa8"]))
)
def test_any_cut_gives_the_same(pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    assert parse(*(raw[i : i + 1] for i in range(len(raw)))) == parse(raw)
