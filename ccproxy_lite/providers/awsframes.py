"""AWS' binary framing of streams (``application/vnd.amazon.eventstream``): bytes to frames, and back. Pure.

    length of all | length of headers | CRC32 of these 8 bytes | headers | payload | CRC32 of all before

Numbers are big endian. Both checksums are verified; the first before its lengths are believed. Half a frame waits for
its other half, and what remains at the end of a stream says that it was cut off (``unfinished``). Frames in front of
what is none are still good: the error comes with the next call.

Source: "Event stream encoding" in the Amazon Transcribe and Smithy documentation.

>>> frames = Frames()
>>> data = encode({":event-type": "chunk"}, b"{}")
>>> frames.feed(data[:9]), frames.feed(data[9:])
([], [Frame(headers={':event-type': 'chunk'}, payload=b'{}')])
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

from ccproxy_lite.errors import UpstreamError

_PRELUDE = struct.Struct(">III")
_FRAME_BYTES = 16
"""Of a frame without headers and payload."""
_MAX_HEADERS_BYTES = 131_072
_FIXED = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}
"""Types of values with a fixed size: a byte, numbers of 2, 4 and 8 bytes, a time."""
_STRING, _BYTES, _UUID = 7, 6, 9


class Frame(NamedTuple):
    """One message: its headers by name, and its payload."""

    headers: Mapping[str, Any]
    payload: bytes


class Frames:
    """Cuts bytes into frames, in whatever pieces they come.

    :param max_bytes: the most bytes that one frame may have; more raises UpstreamError
    :ivar broken: what is wrong with the bytes behind the last frame
    """

    def __init__(self, max_bytes: int = 33_554_432) -> None:
        self._max_bytes = max_bytes
        self._partial = bytearray()
        self._wanted = _PRELUDE.size
        self.broken: UpstreamError | None = None

    @property
    def unfinished(self) -> int:
        """How many bytes are held of a frame that is not complete."""
        return len(self._partial)

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises UpstreamError for what is no frame."""
        self._partial += chunk
        frames: list[Frame] = []
        while self.broken is None:
            try:
                frame = self._next()
            except UpstreamError as error:
                self.broken = error
                break
            if frame is None:
                return frames
            frames.append(frame)
        if not frames:
            raise self.broken
        return frames

    def _next(self) -> Frame | None:
        """The next frame, if it is complete."""
        if len(self._partial) < self._wanted:
            return None
        length, headers_length = self._lengths()
        self._wanted = length
        if len(self._partial) < length:
            return None
        frame = _decode(bytes(self._partial[:length]), headers_length)
        del self._partial[:length]
        self._wanted = _PRELUDE.size
        return frame

    def _lengths(self) -> tuple[int, int]:
        length, headers_length, checksum = _PRELUDE.unpack_from(self._partial)
        if crc32(self._partial[:8]) != checksum:
            raise UpstreamError("the upstream's stream is broken: the checksum of a frame's beginning is wrong")
        if length < _FRAME_BYTES or headers_length > min(length - _FRAME_BYTES, _MAX_HEADERS_BYTES):
            raise UpstreamError("the upstream's stream is broken: a frame has an impossible length")
        if length > self._max_bytes:
            raise UpstreamError(f"the upstream sent an event of more than {self._max_bytes} bytes")
        return length, headers_length


def _decode(frame: bytes, headers_length: int) -> Frame:
    if crc32(frame[:-4]) != int.from_bytes(frame[-4:], "big"):
        raise UpstreamError("the upstream's stream is broken: the checksum of a frame is wrong")
    start, end = _PRELUDE.size, _PRELUDE.size + headers_length
    try:
        headers = _headers(frame[start:end])
    except (struct.error, IndexError, ValueError):
        raise UpstreamError("the upstream's stream is broken: a frame's headers cannot be read") from None
    return Frame(headers, frame[end:-4])


def _headers(data: bytes) -> dict[str, Any]:
    """Raises ValueError, IndexError and struct.error."""
    headers: dict[str, Any] = {}
    at = 0
    while at < len(data):
        start, at = at + 1, at + 1 + data[at]
        name = _slice(data, start, at).decode()
        kind = data[at]
        value, at = _value(data, kind, at + 1)
        if name in headers:
            raise ValueError(name)
        headers[name] = value
    return headers


def _value(data: bytes, kind: int, at: int) -> tuple[Any, int]:
    """A header's value, and where it ends."""
    if kind in (0, 1):
        return kind == 0, at
    if kind in _FIXED:
        return struct.unpack_from(_FIXED[kind], data, at)[0], at + struct.calcsize(_FIXED[kind])
    if kind == _UUID:
        return _slice(data, at, at + 16), at + 16
    if kind not in (_STRING, _BYTES):
        raise ValueError(kind)
    start = at + 2
    end = start + struct.unpack_from(">H", data, at)[0]
    raw = _slice(data, start, end)
    return (raw.decode() if kind == _STRING else raw), end


def _slice(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise ValueError(end)
    return data[start:end]


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame whose headers are all strings."""
    parts = []
    for name, value in headers.items():
        parts.append(bytes([len(name.encode())]) + name.encode() + bytes([_STRING]))
        parts.append(struct.pack(">H", len(value.encode())) + value.encode())
    told = b"".join(parts)
    lengths = struct.pack(">II", _FRAME_BYTES + len(told) + len(payload), len(told))
    frame = lengths + struct.pack(">I", crc32(lengths)) + told + payload
    return frame + struct.pack(">I", crc32(frame))
