"""Undoing the content codings gzip and deflate, and rejecting bombs. Pure.

Requests to upstreams ask for no coding (``identity``); some services compress all the same. Clients may compress what
they send, within the limit of their bodies.
"""

from __future__ import annotations

import zlib

CODINGS = ("gzip", "x-gzip", "deflate")
_RATIO = 200
_HEAD_BYTES = 2
_MAX_MEMBERS = 1000
_FREE_BYTES = 1_048_576
"""So much is allowed at any ratio: a long run of one character compresses a thousandfold."""


class InflateError(Exception):
    """The bytes are not in the coding, or the plain ones are too many (``is_too_large``)."""

    def __init__(self, message: str, *, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.is_too_large = is_too_large


class Inflater:
    """Undoes gzip and deflate.

    :param max_bytes: the most plain bytes; without it, as many as a sane ratio allows
    """

    def __init__(self, coding: str, max_bytes: int | None = None) -> None:
        self.started = False
        self._raw_allowed = coding == "deflate"
        self._max_bytes = max_bytes
        # 32: gzip or zlib, whichever header comes.
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._in = 0
        self._out = 0
        self._members = 1
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The plain bytes. Raises InflateError."""
        self.started = True
        self._in += len(data)
        if self._raw_allowed and self._in < _HEAD_BYTES:  # so few bytes do not show which of the two it is
            self._held += data
            return b""
        data, self._held = self._held + data, b""
        pieces = []
        while data:
            most = _FREE_BYTES + _RATIO * self._in if self._max_bytes is None else self._max_bytes
            try:
                plain = self._zlib.decompress(data, most - self._out + 1)
            except zlib.error:
                # ``deflate`` means zlib, but some senders use the raw format.
                if not self._raw_allowed or self._out:
                    raise InflateError("invalid compressed data") from None
                self._raw_allowed = False
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
                continue
            self._out += len(plain)
            if self._out > most:
                raise InflateError("decompressed data too large", is_too_large=True)
            pieces.append(plain)
            data = self._zlib.unused_data if self._zlib.unused_data.startswith(b"\x1f\x8b") else b""
            if data:  # another member
                self._members += 1
                if self._members > _MAX_MEMBERS:
                    raise InflateError("too many members of compressed data")
                self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)
        return b"".join(pieces)

    @property
    def complete(self) -> bool:
        """Whether the data has come to its end."""
        return (self._zlib.eof or not self.started) and not self._held
