"""One streamed response on its way from an upstream to a client: relayed as it is, or converted. Pure.

Three kinds, by what the two sides have in common:

``Relayed``
    same format, same framing: the bytes are passed on untouched, and each event is only looked at
``Reframed``
    same format, other framing: each event is written anew, its data untouched
``Converted``
    different formats: bytes to events, to neutral events, and back

All of them take the upstream's bytes and return the client's, at once: the events of one read are one write. Nothing
is delayed but half an event, which waits for its other half. They keep one ``Progress``, which the ``Delivery`` reads
after each call: until ``content`` is true nothing needs to have reached the client, so that another upstream can still
be tried; ``over`` and ``failed`` end the stream. A stream that ends without its format's ending has failed, never
ended.
"""

from __future__ import annotations

import re
from typing import Protocol

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import sse
from ccproxy_lite.formats.format import Format, Parser, Progress, Reader, Writer
from ccproxy_lite.formats.neutral.events import End, Event, Failed, PartStart
from ccproxy_lite.formats.neutral.names import Restorer

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


class Stream(Protocol):
    """A streamed response; ``progress`` says how far it has come."""

    progress: Progress

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for the upstream's. Raises UpstreamError."""

    def close(self) -> bytes:
        """The upstream's stream has ended."""

    def fail(self, failed: Failed) -> bytes:
        """The response is cut off: the client's in-band error."""


class Relayed:
    """Both sides speak the same format: the bytes are passed on untouched, and only looked at.

    Half an event waits for its other half: an error, or a redaction, must not end up in the middle of an event.
    """

    def __init__(self, parser: Parser, form: Format) -> None:
        self.progress = Progress()
        self._parser = parser
        self._look = form.look
        self._write_failure = form.write_failure
        self._tail: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        events = self._parser.feed(data)
        for event in events:
            self._look(event, self.progress)
        unfinished = self._parser.unfinished()
        if unfinished and not events:  # nothing but a piece of an event
            self._tail.append(data)
            return b""
        if self._tail:
            data = b"".join([*self._tail, data])
            self._tail = []
        if unfinished:
            end = _end_of_events(data)
            data, self._tail = data[:end], [data[end:]]
        return data

    def close(self) -> bytes:
        if self.progress.ended or self.progress.failed:
            self.progress.over = True
            return b"".join(self._tail)
        return self.fail(Failed(502, "server", "the upstream's stream ended early"))

    def fail(self, failed: Failed) -> bytes:
        self.progress.failed = failed
        return self._write_failure(failed, self.progress)


def _end_of_events(data: bytes) -> int:
    """Where the last complete event ends: behind the last blank line."""
    return max((match.end() for match in _BLANK_LINE.finditer(data)), default=0)


class Reframed(Relayed):
    """Both sides speak the same format, but the upstream frames its events differently: each is written anew."""

    def feed(self, data: bytes) -> bytes:
        pieces = []
        for event in self._parser.feed(data):
            self._look(event, self.progress)
            pieces.append(sse.encode(event.data, event.name))
        return b"".join(pieces)


class Converted:
    """The sides differ: bytes to events to neutral events and back."""

    def __init__(self, parser: Parser, reader: Reader, restorer: Restorer, writer: Writer) -> None:
        self.progress = Progress()
        self._parser = parser
        self._reader = reader
        self._restore = restorer.restore
        self._writer = writer

    def feed(self, data: bytes) -> bytes:
        out = b""
        reader = self._reader
        for event in self._parser.feed(data):
            events = reader.feed(event)
            if events:
                out += self.pass_on(events)
        return out

    def close(self) -> bytes:
        return b"" if self.progress.over or self.progress.failed else self.pass_on(self._reader.close())

    def fail(self, failed: Failed) -> bytes:
        self.progress.failed = failed
        return self._writer.write(failed)

    def pass_on(self, events: list[Event]) -> bytes:
        """The client's bytes for neutral events."""
        write, progress = self._writer.write, self.progress
        pieces = []
        for event in self._restore(events):
            kind = type(event)
            if kind is PartStart:
                progress.content = True
            elif kind is End:
                progress.content = progress.over = True
                progress.usage = event.usage  # type: ignore[union-attr]
            elif kind is Failed:
                progress.failed = event  # type: ignore[assignment]
            pieces.append(write(event))
        return b"".join(pieces)


class ArrayFraming:
    """Server-sent events as one growing JSON array: how Gemini streams to clients that do not ask for ``alt=sse``."""

    def __init__(self) -> None:
        self._parser = sse.Parser(max_event_bytes=1 << 62)  # they were written here, and are bounded already
        self._before = b"["

    def feed(self, events: bytes) -> bytes:
        """The bytes of the array for these events."""
        pieces = []
        for event in self._parser.feed(events):
            pieces += [self._before, event.data.encode()]
            self._before = b",\r\n"
        return b"".join(pieces)

    def close(self) -> bytes:
        """The end of the array; a failed stream has none, so that it is not valid JSON."""
        return b"[]" if self._before == b"[" else b"]"


def failed_of(error: UpstreamError) -> Failed:
    """The failure that an error stands for."""
    return Failed(error.status, error.kind, error.message, error.code)
