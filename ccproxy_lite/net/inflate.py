"""Undoing the content codings of answers, and rejecting bombs. Pure.

Requests ask for no coding (``identity``); some services compress all the same.
"""

from __future__ import annotations

import zlib

from ccproxy_lite.errors import UpstreamError

_INFLATE_RATIO = 200
_INFLATE_FREE_BYTES = 1_048_576
"""So much is allowed at any ratio: a long run of one character compresses a thousandfold."""


class Inflater:
    """Undoes gzip and deflate, as far as the ratio is sane."""

    def __init__(self, coding: str) -> None:
        self._raw_allowed = coding == "deflate"
        self.started = False
        # 32: gzip or zlib, whichever header comes.
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._in = 0
        self._out = 0

    def feed(self, data: bytes) -> bytes:
        """The plain bytes. Raises UpstreamError for a broken or bomb-like stream."""
        self.started = True
        self._in += len(data)
        pieces = []
        while data:
            allowed = _INFLATE_FREE_BYTES + _INFLATE_RATIO * self._in - self._out
            try:
                plain = self._zlib.decompress(data, allowed)
            except zlib.error:
                # ``deflate`` means zlib, but some servers send the raw format.
                if not self._raw_allowed or self._out:
                    raise UpstreamError("upstream's compressed response is invalid") from None
                self._raw_allowed = False
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
                continue
            self._out += len(plain)
            pieces.append(plain)
            # There is more than was allowed.
            if self._zlib.unconsumed_tail:
                raise UpstreamError("decompressed response too large")
            data = self._zlib.unused_data if self._zlib.unused_data.startswith(b"\x1f\x8b") else b""
            if data:  # another member
                self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)
        return b"".join(pieces)

    @property
    def complete(self) -> bool:
        return self._zlib.eof or not self.started
