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

from collections.abc import Callable, Sequence
from typing import Protocol

from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import failures, sse
from ccproxy_lite.formats.format import Format, Parser, Progress, Reader, Writer
from ccproxy_lite.formats.neutral import overflow
from ccproxy_lite.formats.neutral.answer_losses import AnswerLosses
from ccproxy_lite.formats.neutral.events import End, Event, Failed, Lost, PartDelta, PartStart
from ccproxy_lite.formats.neutral.names import Restorer
from ccproxy_lite.relay.pauses import Pauses

_LOOKED_AT_BYTES = 512
"""Where usual events and others come in one read, it is parted again and again, down to this."""


class Stream(Protocol):
    """A streamed response; ``progress`` says how far it has come."""

    progress: Progress

    def feed(self, data: bytes) -> bytes:
        """The client's bytes for the upstream's. Raises UpstreamError."""

    def close(self) -> bytes:
        """The upstream's stream has ended. Raises UpstreamError if it was cut off."""

    def fail(self, failed: Failed) -> bytes:
        """The response is cut off: the client's in-band error."""

    def take_dropped(self) -> tuple[str, ...]:
        """What the answer has lost so far, for its head; what is not taken is told in the stream."""


class Relayed:
    """Both sides speak the same format: the bytes are passed on untouched, and only looked at.

    Half an event waits for its other half: an error, or a redaction, must not end up in the middle of an event. Three
    things are not passed on as they came, because clients break on them: a failure in the shape of another format, a
    finish reason that says that the context window is full, and the blank line behind a comment, at which some decoders
    dispatch an empty event.
    """

    def __init__(self, parser: Parser, form: Format) -> None:
        self.progress = Progress()
        self._parser = parser
        self._look = form.look
        self._usual = form.usual
        self._write_failure = form.write_failure
        self._rest = b""
        self._last_usual = self._last_counts = b""
        self._tail: list[bytes] = []
        self._cut_line_end: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not self._is_between_events:
            return self._feed_looking(data)
        end = sse.end_of_usual(data)
        if end == len(data):
            return self._feed_whole(data)
        if not end:
            return self._feed_looking(data)
        written = self._feed_whole(data[:end])
        if self.progress.is_foreign:
            return written
        if not self._last_usual:
            return written + self._feed_looking(data[end:])
        self._rest = data[end:]
        return written

    @property
    def _is_between_events(self) -> bool:
        return not self._tail and self._cut_line_end is None

    def _feed_whole(self, data: bytes) -> bytes:
        """Whole events: passed on unseen where they are usual ones; parts of them, where others are among them."""
        progress = self.progress
        if progress.is_foreign:  # the failure has been told in the client's words: nothing follows it
            return b""
        if progress.content and not progress.ended and self._is_between_events and self._usual.cover(data):
            self._last_usual = data
            if self._usual.counts in data:
                self._last_counts = data
            return data
        parts = self._usual.parts(data) if len(data) > _LOOKED_AT_BYTES else ()
        if len(parts) < 2:
            return self._feed_looking(data)
        return b"".join(map(self._feed_whole, parts))

    def _look_back(self) -> None:
        """Note what events that were passed on unseen have said: of the last of them, and the last count of tokens."""
        if not self._last_usual:
            return
        counted, last = self._last_counts, self._last_usual
        self._last_usual = self._last_counts = b""
        unseen = [sse.event_at(counted, counted.rfind(self._usual.counts))] if counted else []
        for event in self._parser.feed(b"".join([*unseen, sse.event_at(last, len(last) - 5)])):
            self._look(event, self.progress)

    def _feed_looking(self, data: bytes) -> bytes:
        self._look_back()
        events = self._parser.feed(data)
        for event in events:
            self._look(event, self.progress)
        if self.progress.is_foreign and self.progress.failed is not None:
            return self._in_own_words(events, self.progress.failed)
        unfinished = self._parser.unfinished()
        if unfinished and not events:  # nothing but a piece of an event
            self._tail.append(data)
            return b""
        if self._tail:
            data = b"".join([*self._tail, data])
            self._tail = []
        if unfinished:
            end = sse.end_of_events(data)
            data, self._tail = data[:end], [data[end:]]
        # Else there is one blank line for each event.
        if data.count(b"\n\n") != len(events) or b"\n\n\n" in data or b"\r" in data or data[:1] == b"\n":
            data = self._without_lone_blank_lines(data, len(events))
        return overflow.as_length_limit(data) if self.progress.window_full else data

    def _without_lone_blank_lines(self, data: bytes, events: int) -> bytes:
        """Data with so many events, without the blank lines that end none."""
        half = b""
        if self._cut_line_end is not None and data[:1] == b"\n":
            half, data = self._cut_line_end, data[1:]  # goes where its first half went
        kept = sse.without_lone_blank_lines(data, events)
        # A line end that is cut between two reads.
        self._cut_line_end = None if data[-1:] != b"\r" else b"\n" if kept[-1:] == b"\r" else b""
        return half + kept

    def _in_own_words(self, events: list[sse.Event], failed: Failed) -> bytes:
        """The events before the one that says so in another format's words, and the failure in those of this one."""
        seen, pieces = Progress(), []
        for event in events:
            self._look(event, seen)
            if seen.failed is not None:
                break
            pieces.append(sse.encode(event.data, event.name))
        return b"".join([*pieces, self._write_failure(failed, self.progress)])

    def close(self) -> bytes:
        rest, self._rest = self._rest, b""
        written = self._feed_looking(rest)
        if not self.progress.over:
            self._parser.close()
        if self.progress.ended or self.progress.failed:
            self.progress.over = True
            return b"".join([written, *self._tail])
        failed = Failed(502, "server", "the upstream's stream ended early")
        return self.fail(failures.with_words(failed, self._parser.stray))

    def fail(self, failed: Failed) -> bytes:
        self._look_back()
        self.progress.failed = failed
        return self._write_failure(failed, self.progress)

    def take_dropped(self) -> tuple[str, ...]:
        return ()


def late_losses(names: Sequence[str]) -> bytes:
    """What an answer has lost since its head was sent, as a comment: without a blank line, which would be an event."""
    return f": ccproxy dropped {', '.join(names)}\n".encode() if names else b""


class Reframed(Relayed):
    """Both sides speak the same format, but the upstream frames its events differently: each is written anew."""

    def feed(self, data: bytes) -> bytes:
        events = self._parser.feed(data)
        for event in events:
            self._look(event, self.progress)
        if self.progress.is_foreign and self.progress.failed is not None:
            return self._in_own_words(events, self.progress.failed)
        if not self.progress.over:
            self._parser.check()
        written = b"".join(sse.encode(event.data, event.name) for event in events)
        return overflow.as_length_limit(written) if self.progress.window_full else written


class Converted:
    """The sides differ: bytes to events to neutral events and back.

    What the answer loses on its way is named by ``losses``: in the head, or, once ``is_head_sent`` says that this is
    out, in a comment in front of the end. ``pauses`` is there if the service may have to be asked to go on; ``earlier``
    has what it has said in one piece before, which the client has not been told yet.
    """

    def __init__(
        self, parser: Parser, reader: Reader, restorer: Restorer, writer: Writer, losses: AnswerLosses
    ) -> None:
        self.progress = Progress()
        self.is_head_sent: Callable[[], bool] = lambda: False
        self.on_end: Callable[[], None] = lambda: None
        self.pauses: Pauses | None = None
        self.earlier: list[Event] = []
        self._parser = parser
        self._reader = reader
        self._restorer = restorer
        self._writer = writer
        self._losses = losses
        self._told = 0

    def feed(self, data: bytes) -> bytes:
        read, write = self._reader.feed, self._writer.write
        has_own_way = self.pauses is not None or not self._restorer.is_idle
        pieces = []
        for event in self._parser.feed(data):
            events = read(event)
            if len(events) == 1 and type(events[0]) is PartDelta and not has_own_way:  # nearly all of them
                pieces.append(write(events[0]))
            elif events:
                pieces.append(self.pass_on(events))
        if not self.progress.over:
            self._parser.check()
        return b"".join(pieces)

    def close(self) -> bytes:
        if self.progress.over or self.progress.failed:
            return b""
        self._parser.close()
        events = self._reader.close()
        if events and isinstance(events[-1], Failed):
            events[-1] = failures.with_words(events[-1], self._parser.stray)
        return self.pass_on(events)

    def fail(self, failed: Failed) -> bytes:
        self.progress.failed = failed
        return self._writer.write(failed)

    def take_dropped(self) -> tuple[str, ...]:
        dropped = tuple(self._losses.dropped)
        self._told = len(dropped)
        return dropped

    def pass_on(self, events: list[Event]) -> bytes:
        """The client's bytes for neutral events."""
        write, progress = self._writer.write, self.progress
        pieces = []
        events = self._restorer.restore(events)
        if self.pauses is not None:
            events = self.pauses.joined(events)
            progress.paused = self.pauses.is_paused
            progress.content = progress.content or progress.paused  # a round that says nothing new is not empty
            if not all(isinstance(event, Failed | Lost) for event in events):
                events = [*self.earlier, *events]
                self.earlier.clear()
        for event in events:
            kind = type(event)
            if kind is not PartDelta:
                self._losses.note(event)
                if kind is PartStart:
                    progress.content = True
                elif kind is End:
                    progress.content = progress.over = True
                    progress.usage = event.usage  # type: ignore[union-attr]
                    pieces.append(self._late_losses())
                elif kind is Failed:
                    progress.failed = event  # type: ignore[assignment]
                elif kind is Lost:
                    continue
            pieces.append(write(event))
        if progress.over:
            self.on_end()
        return b"".join(pieces)

    def _late_losses(self) -> bytes:
        return late_losses(self._losses.dropped[self._told :]) if self.is_head_sent() else b""


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


def failed_of(error: UpstreamError | ClientError) -> Failed:
    """The failure that an error stands for."""
    param = error.param or "" if isinstance(error, ClientError) else ""
    return Failed(error.status, error.kind, error.message, error.code, param)
