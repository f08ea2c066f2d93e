"""Undoing gzip and deflate: whole, byte by byte, and what is no such thing."""

from __future__ import annotations

import gzip
import zlib

import pytest

from ccproxy_lite.net.inflate import InflateError, Inflater

PLAIN = b'{"messages": [' + b'{"role": "user"}, ' * 500 + b"]}"


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(PLAIN),
    "x-gzip": gzip.compress(PLAIN[:99]) + gzip.compress(PLAIN[99:]),
    "deflate": zlib.compress(PLAIN),
}


@pytest.mark.parametrize("size", [1, 2, 7, 1_000_000])
@pytest.mark.parametrize("coding", [*PACKED, "raw"])
def test_in_pieces_of_any_size(coding: str, size: int) -> None:
    packed = PACKED.get(coding) or raw(PLAIN)
    inflater = Inflater("deflate" if coding == "raw" else coding, len(PLAIN))
    pieces = []
    for at in range(0, len(packed), size):
        assert not (at and inflater.complete and coding != "x-gzip")
        pieces.append(inflater.feed(packed[at : at + size]))
    assert b"".join(pieces) == PLAIN and inflater.complete


@pytest.mark.parametrize("coding", PACKED)
def test_what_is_cut_is_not_complete(coding: str) -> None:
    for length in (1, 5, len(PACKED[coding]) - 5):
        inflater = Inflater(coding)
        inflater.feed(PACKED[coding][:length])
        assert not inflater.complete


@pytest.mark.parametrize("coding", PACKED)
def test_what_is_not_in_the_coding(coding: str) -> None:
    with pytest.raises(InflateError) as caught:
        Inflater(coding).feed(b"\xff" * 50)
    assert not caught.value.is_too_large


def test_one_byte_more_than_allowed() -> None:
    assert Inflater("gzip", len(PLAIN)).feed(PACKED["gzip"]) == PLAIN
    with pytest.raises(InflateError) as caught:
        Inflater("gzip", len(PLAIN) - 1).feed(PACKED["gzip"])
    assert caught.value.is_too_large


def test_without_a_limit_the_ratio_is_bounded() -> None:
    with pytest.raises(InflateError) as caught:
        Inflater("gzip").feed(gzip.compress(b" " * 300_000_000))
    assert caught.value.is_too_large


def test_thousands_of_empty_members() -> None:
    with pytest.raises(InflateError, match="too many members"):
        Inflater("gzip", 1000).feed(gzip.compress(b"") * 2000)
