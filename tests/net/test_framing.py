"""Message bodies, compared with h11 byte by byte: the same, or stricter."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy_lite.net.framing import (
    LAST_CHUNK,
    Decoder,
    FramingError,
    encode_chunk,
    keeps_alive,
    response_framing,
)

HEADS = {
    "chunked": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
    5: b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n",
    0: b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
}
Outcome = tuple[str, bytes, bytes]


def by_h11(framing: int | str, pieces: list[bytes]) -> Outcome:
    connection = h11.Connection(h11.SERVER)
    body = b""
    try:
        connection.receive_data(HEADS[framing])
        assert isinstance(connection.next_event(), h11.Request)
        for piece in [b"", *pieces]:
            if piece:
                connection.receive_data(piece)
            while True:
                event = connection.next_event()
                if event in (h11.NEED_DATA, h11.PAUSED):
                    break
                if isinstance(event, h11.EndOfMessage):
                    continue
                body += bytes(event.data)
    except h11.RemoteProtocolError:
        return "error", b"", b""
    if connection.their_state is h11.DONE:
        return "done", body, connection.trailing_data[0]
    return "more", body, b""


def by_us(framing: int | str, pieces: list[bytes]) -> Outcome:
    decoder = Decoder(framing)
    body = b""
    try:
        for piece in pieces:
            body += decoder.feed(piece)
    except FramingError:
        return "error", b"", b""
    return ("done", body, decoder.trailing_data) if decoder.done else ("more", body, b"")


def every_way(framing: int | str, raw: bytes) -> Outcome:
    """Whole, byte by byte, and in two pieces at every place: all the same."""
    whole = by_us(framing, [raw])
    assert by_us(framing, [raw[i : i + 1] for i in range(len(raw))]) == whole
    for cut in range(len(raw)):
        assert by_us(framing, [raw[:cut], raw[cut:]]) == whole
    return whole


BODIES = [
    ("chunked", b"0\r\n\r\n"),
    ("chunked", b"3\r\nabc\r\n0\r\n\r\n"),
    ("chunked", b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n"),
    ("chunked", b"3;name=value\r\nabc\r\n0\r\n\r\n"),
    ("chunked", b"0000003\r\nabc\r\n000\r\n\r\n"),
    ("chunked", b"3\r\nabc\r\n0\r\ntrailer: x\r\ncontent-length: 3\r\n\r\nrest"),
    ("chunked", b"3 ;name=value\r\nabc\r\n0\r\n\r\n"),
    ("chunked", b"3;name=value \r\nabc\r\n0 \t\r\n\r\n"),
    ("chunked", b"3\r\nabc"),
    ("chunked", b"3\r\nabc\r\n0\r\n"),
    ("chunked", b"3\r\nabcX0\r\n\r\n"),
    ("chunked", b"3\r\nabcXY0\r\n\r\n"),
    ("chunked", b"0x3\r\nabc\r\n0\r\n\r\n"),
    ("chunked", b"+3\r\nabc\r\n0\r\n\r\n"),
    ("chunked", b"-1\r\n\r\n"),
    ("chunked", b"\r\nabc\r\n"),
    ("chunked", b"111111111111111111111\r\n"),
    (5, b"hello"),
    (5, b"helloPOST"),
    (5, b"hel"),
    (0, b""),
    (0, b"GET"),
]


@pytest.mark.parametrize(("framing", "raw"), BODIES)
def test_like_h11(framing: int | str, raw: bytes) -> None:
    assert every_way(framing, raw) == by_h11(framing, [raw])


STRICTER = [
    ("a chunk extension of 20 KB", b"3;" + b"x" * 20_000 + b"\r\nabc\r\n0\r\n\r\n"),
    ("17 trailers", b"0\r\n" + b"a: b\r\n" * 17 + b"\r\n"),
    ("a trailer of 9 KB", b"0\r\na: " + b"x" * 9000 + b"\r\n\r\n"),
    ("a trailer line without an end", b"0\r\n" + b"x" * 9000),
    ("extensions that add up", (b"1;" + b"x" * 1000 + b"\r\na\r\n") * 17),
    ("line feeds alone", b"3\nabc\n0\n\n"),
    ("a trailer that is none", b"0\r\nnonsense\r\n\r\n"),
    ("a trailer whose name is none", b"0\r\n;x=1x: y\r\n\r\n"),
    ("a trailer with white space before the colon", b"0\r\nx : y\r\n\r\n"),
]


@pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in STRICTER])
def test_stricter_than_h11(raw: bytes) -> None:
    assert by_us("chunked", [raw])[0] == "error"
    assert by_us("chunked", [raw[i : i + 1000] for i in range(0, len(raw), 1000)])[0] == "error"


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.lists(
        st.sampled_from(b"0 3 a abc \r\n \r \n ;x=1 0\r\n\r\n 0\r\n x:y\r\n x: \0 \x7f \x0b \t".split(b" ") + [b" "])
    ),
    st.data(),
)
def test_any_bytes_like_h11_or_stricter(parts: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(parts)
    ours = every_way("chunked", raw)
    theirs = by_h11("chunked", [raw])
    assert ours == theirs or ours[0] == "error" or (ours[0] == "more" and theirs[0] == "error")


@given(st.lists(st.binary(max_size=50)))
def test_what_is_encoded_h11_decodes(pieces: list[bytes]) -> None:
    raw = b"".join(encode_chunk(piece) for piece in pieces) + LAST_CHUNK
    assert by_h11("chunked", [raw]) == ("done", b"".join(pieces), b"")
    assert every_way("chunked", raw) == ("done", b"".join(pieces), b"")


def test_the_end_of_the_connection() -> None:
    decoder = Decoder("until-close")
    assert decoder.feed(b"abc") == b"abc"
    decoder.receive_eof()
    assert decoder.done
    for framing, raw in (("chunked", b"3\r\nab"), (5, b"abc")):
        decoder = Decoder(framing)
        decoder.feed(raw)
        with pytest.raises(FramingError):
            decoder.receive_eof()


CHUNKED = (b"transfer-encoding", b"chunked")
LENGTH = (b"content-length", b"3")


@pytest.mark.parametrize(
    ("method", "status", "headers", "expected"),
    [
        (b"GET", 200, [LENGTH], 3),
        (b"GET", 200, [CHUNKED], "chunked"),
        (b"GET", 200, [], "until-close"),
        (b"HEAD", 200, [LENGTH], 0),
        (b"POST", 204, [LENGTH], 0),
        (b"POST", 304, [], 0),
    ],
)
def test_response_framing(method: bytes, status: int, headers: list[tuple[bytes, bytes]], expected: object) -> None:
    assert response_framing(method, status, headers) == expected


@pytest.mark.parametrize("headers", [[CHUNKED, LENGTH], [(b"transfer-encoding", b"gzip, chunked")]])
def test_ambiguous_framing(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(FramingError):
        response_framing(b"GET", 200, headers)


@pytest.mark.parametrize(
    ("version", "value", "expected"),
    [(b"1.1", None, True), (b"1.1", b"Close", False), (b"1.0", None, False), (b"1.0", b"keep-alive", True)],
)
def test_keep_alive(version: bytes, value: bytes | None, expected: bool) -> None:
    assert keeps_alive(version, [(b"connection", value)] if value else []) is expected
