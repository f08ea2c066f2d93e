"""AWS' frames: whole, byte by byte, cut off, with wrong sums; and what ``botocore`` reads and publishes of them."""

from __future__ import annotations

import importlib.util
import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.providers.awsframes import Frame, Frames, encode

HEADERS = {":message-type": "event", ":event-type": "chunk", ":content-type": "application/json"}
FRAME = encode(HEADERS, b'{"bytes":"e30="}')
SOURCE = Path(os.environ.get("CCPROXY_TEST_BOTOCORE", "nowhere"), "tests/unit/test_eventstream.py")


def test_whole_and_byte_by_byte_and_with_more_behind_it() -> None:
    expected = Frame(HEADERS, b'{"bytes":"e30="}')
    assert Frames().feed(FRAME) == [expected]
    assert Frames().feed(FRAME * 3) == [expected] * 3
    frames = Frames()
    assert [one for byte in FRAME * 2 for one in frames.feed(bytes([byte]))] == [expected] * 2
    assert frames.unfinished == 0


@pytest.mark.parametrize("cut", range(1, len(FRAME)))
def test_cut_off_it_is_unfinished(cut: int) -> None:
    frames = Frames()
    assert frames.feed(FRAME[:cut]) == [] and frames.unfinished == cut
    assert frames.feed(FRAME[cut:]) == [Frame(HEADERS, b'{"bytes":"e30="}')]


@pytest.mark.parametrize("at", range(len(FRAME)))
def test_one_wrong_byte_is_seen(at: int) -> None:
    broken = bytearray(FRAME)
    broken[at] ^= 0x40
    frames = Frames()
    with pytest.raises(UpstreamError, match=r"broken: (the checksum|a frame)"):
        frames.feed(bytes(broken))
        assert frames.unfinished == 0  # a length that asks for more must be noticed at once
        raise AssertionError("not noticed")


def made(length: int, headers_length: int) -> bytes:
    prelude = struct.pack(">II", length, headers_length)
    return prelude + struct.pack(">I", crc32(prelude))


@pytest.mark.parametrize(("length", "headers"), [(15, 0), (0, 0), (16, 1), (1000, 990), (200_000, 140_000)])
def test_impossible_lengths(length: int, headers: int) -> None:
    with pytest.raises(UpstreamError, match="impossible length"):
        Frames().feed(made(length, headers))


def test_a_frame_that_is_too_large_is_not_waited_for() -> None:
    with pytest.raises(UpstreamError, match="an event of more than 1000 bytes"):
        Frames(1000).feed(made(5000, 0))


def with_headers(raw: bytes) -> bytes:
    start = struct.pack(">II", 16 + len(raw), len(raw))
    frame = start + struct.pack(">I", crc32(start)) + raw
    return frame + struct.pack(">I", crc32(frame))


@pytest.mark.parametrize(
    "raw",
    [
        b"\x05ab",  # a name that is cut off
        b"\x01a\x07\x00\x05abc",  # a value that is cut off
        b"\x01a\x0a",  # an unknown type
        b"\x01a\x04\x00\x00",  # half a number
        b"\x01a",  # no type
        b"\x01a\x00\x01a\x00",  # the same name twice
        b"\x01\xff\x00",  # no text
    ],
)
def test_headers_that_cannot_be_read(raw: bytes) -> None:
    with pytest.raises(UpstreamError, match="headers cannot be read"):
        Frames().feed(with_headers(raw))


def test_every_type_of_value() -> None:
    raw = (
        b"\x01a\x00\x01b\x01\x01c\x02\xff\x01d\x03\xff\xfe\x01e\x04\x00\x00\x00\x07\x01f\x05" + bytes(7) + b"\x08"
        b"\x01g\x06\x00\x02\x01\x02\x01h\x07\x00\x02hi\x01i\x08" + bytes(7) + b"\x09\x01j\x09" + bytes(range(16))
    )
    frame = Frames().feed(with_headers(raw))[0]
    assert frame.headers == {
        "a": True, "b": False, "c": -1, "d": -2, "e": 7, "f": 8, "g": b"\x01\x02", "h": "hi", "i": 9, "j": bytes(range(16)),
    }  # fmt: skip


@given(
    headers=st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=5),
    payload=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 400), max_size=5),
)
def test_botocore_reads_the_same(headers: dict[str, str], payload: bytes, cuts: list[int]) -> None:
    eventstream = pytest.importorskip("botocore.eventstream", reason="botocore is not installed")
    data = encode(headers, payload)
    buffer = eventstream.EventStreamBuffer()
    buffer.add_data(data)
    theirs = next(iter(buffer))
    assert (dict(theirs.headers), theirs.payload) == (headers, payload)
    frames, ours = Frames(), []
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(places):
        ours += frames.feed(data[start:end])
    assert ours == [Frame(headers, payload)]


def vectors(kind: str) -> list[Any]:
    """The published vectors: bytes, and what they say; read from the tests in botocore's source."""
    if not SOURCE.is_file() or importlib.util.find_spec("botocore") is None:
        return []
    text = SOURCE.read_text().split("def assert_message_equal")[0]
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("from tests", "import tests")))
    found: dict[str, Any] = {}
    exec(compile(text, str(SOURCE), "exec"), found)
    return list(found[kind])


@pytest.mark.skipif(not SOURCE.is_file(), reason="CCPROXY_TEST_BOTOCORE is not the source of botocore")
def test_the_published_vectors() -> None:
    positive, negative = vectors("POSITIVE_CASES"), vectors("NEGATIVE_CASES")
    assert len(positive) >= 5 and len(negative) >= 5
    for encoded, message in positive:
        frame = Frames().feed(encoded)[0]
        assert (dict(frame.headers), frame.payload) == (dict(message.headers), message.payload)
    for encoded, _ in negative:
        with pytest.raises(UpstreamError):
            frames = Frames(25_000_000)
            frames.feed(encoded)
            raise AssertionError(encoded)
