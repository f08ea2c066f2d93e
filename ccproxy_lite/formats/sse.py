"""Server-sent events: bytes to events and events to bytes. Pure; it knows no wire format and no socket.

Lines end at LF, CR or CRLF *bytes* only. ``str.splitlines`` would also split at U+2028, which stands raw in JSON.

>>> parser = Parser()
>>> parser.feed(b'event: ping\\ndata: {"a"'), parser.feed(b':1}\\n\\n')
([], [Event(name='ping', data='{"a":1}')])

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ccproxy_lite.errors import UpstreamError

LINE_BEGINS = (b"data:", b"event:", b"id:", b"retry:", b":", b"error:")
_MUTE_FIELDS = (b"", b"event", b"id", b"retry")
"""Of the standard's fields, and the one that begins a comment, all but ``data``."""
_MAX_STRAY_CHARS = 500
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")


@dataclass(slots=True)
class Event:
    """One event; ``name`` is empty where the stream gave none."""

    name: str
    data: str


class Parser:
    """Splits a byte stream into events, in whatever pieces it comes.

    :param max_event_bytes: the most bytes that one unfinished event may hold; more raises UpstreamError
    """

    def __init__(self, max_event_bytes: int = 33_554_432) -> None:
        self.max_event_bytes = max_event_bytes
        self._stray = ""
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._cr = False
        self._first = True
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes."""
        if self._cr and chunk:
            self._cr = False
            # The second half of a CRLF that was cut between two reads.
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        # A long event in many pieces is joined once, not at every read.
        if b"\n" not in chunk and b"\r" not in chunk:
            self._keep_unfinished(chunk)
            return []
        if chunk.endswith(b"\n\n") and not (self._partial or self._data or self._name or self._first or b"\r" in chunk):
            return self._read_events(chunk)
        block = b"".join(self._partial) + chunk
        self._partial, self._partial_bytes = [], 0
        # A CR at the end is a line end already; a LF that follows belongs to it.
        self._cr = block[-1:] == b"\r"
        # ``split`` is several times faster than the pattern, and CR is rare.
        lines = _LINE_END.split(block) if b"\r" in block else block.split(b"\n")
        self._keep_unfinished(lines.pop())
        events: list[Event] = []
        for line in lines:
            self._read_line(line, events)
        return events

    def _read_events(self, block: bytes) -> list[Event]:
        """Whole events, as most services send them: a line with data, and perhaps one with a name before it."""
        events: list[Event] = []
        for event in block.split(b"\n\n"):
            name, _, line = event.partition(b"\n") if event.startswith(b"event: ") else (b"", b"", event)
            if line.startswith(b"data: ") and b"\n" not in line:
                self._data_bytes = len(line)
                self._check_size()
                events.append(Event(name[7:].decode("utf-8", "replace"), line[6:].decode("utf-8", "replace")))
                self._data_bytes = 0
            elif event:
                for one in (*event.split(b"\n"), b""):
                    self._read_line(one, events)
        return events

    def unfinished(self) -> bool:
        """Whether bytes of an event without its closing blank line are held; such an event is never delivered."""
        return bool(self._partial_bytes or self._data or self._name)

    def check(self) -> None:
        """Every text is a stream."""

    def close(self) -> None:
        """Many services break off in the middle of a line that nobody needs."""

    @property
    def stray(self) -> str:
        """The beginning of what has come in place of events: lines without a field, and an event that was not ended.

        If the stream ends here, these may be the words of a failure.
        """
        rest = b"".join(self._partial)[:_MAX_STRAY_CHARS]
        field, colon, value = rest.partition(b":")
        if colon and field in (b"data", b"error"):
            rest = value
        elif any(begin.startswith(rest) or rest.startswith(begin) for begin in LINE_BEGINS):
            rest = b""
        pending = b"\n".join(self._data)[:_MAX_STRAY_CHARS]
        return self._stray + b"\n".join((pending, rest)).decode("utf-8", "replace")

    def _keep_unfinished(self, piece: bytes) -> None:
        if piece:
            self._partial.append(piece)
            self._partial_bytes += len(piece)
            self._check_size()

    def _check_size(self) -> None:
        if self._partial_bytes + self._data_bytes > self.max_event_bytes:
            raise UpstreamError(f"the upstream sent an event of more than {self.max_event_bytes} bytes")

    def _read_line(self, line: bytes, events: list[Event]) -> None:
        if self._first:
            self._first = False
            # A byte order mark may stand at the very beginning.
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            # An event without data is not delivered, says the standard; its name is forgotten.
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(Event(self._name, data.decode("utf-8", "replace")))
                self._data, self._data_bytes = [], 0
            self._name = ""
        elif line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_bytes += len(value)
            self._check_size()
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ").decode("utf-8", "replace")
        elif line.startswith(b"error:"):
            # No field of the standard: how llama.cpp and some others say that they have failed.
            self._name = "error"
            self._data.append(line[6:].removeprefix(b" "))
        elif line == b"data":
            # A line without a colon is a field without a value.
            self._data.append(b"")
        elif line.startswith(b"{"):
            # No field either: an object that somebody behind the service has written into the stream.
            events.append(Event("", line.decode("utf-8", "replace")))
        elif len(self._stray) < _MAX_STRAY_CHARS and line.partition(b":")[0] not in _MUTE_FIELDS:
            self._stray += line.decode("utf-8", "replace") + "\n"


class Usual(NamedTuple):
    """The events that most of a stream consists of, told by their bytes: where both sides speak one format, a stream
    need not be taken apart while nothing else comes.

    ``begins`` are the ways in which one begins; the rest of it is one line. Each has all of ``needs``, and none of
    ``never``; of the members ``nulls``, none has another value than null. ``counts`` stands in those that tell of
    tokens, of which the last is looked at in the end.

    >>> deltas = Usual((b"data: {",), needs=(b'"choices"',), never=(b'"error"',), nulls=(b'"finish_reason":',))
    >>> deltas.cover(b'data: {"choices":[{"finish_reason":null}]}\\n\\n' * 2)
    True
    >>> deltas.cover(b'data: {"choices":[{"finish_reason":"stop"}]}\\n\\n'), deltas.cover(b"data: [DONE]\\n\\n")
    (False, False)
    """

    begins: tuple[bytes, ...] = ()
    needs: tuple[bytes, ...] = ()
    never: tuple[bytes, ...] = ()
    nulls: tuple[bytes, ...] = ()
    counts: bytes = b"\0"

    def cover(self, data: bytes) -> bool:
        """Whether these whole events are such, and nothing else.

        What is counted is long where it can be: looking for a long text skips most bytes.
        """
        begin = next(filter(data.startswith, self.begins), None)
        if begin is None:
            return False
        is_crlf = data.endswith(b"\r\n\r\n")
        events = 1 + data.count((b"\r\n\r\n" if is_crlf else b"\n\n") + begin)
        line_ends = (begin.count(b"\n") + 2) * events
        if data.count(b"\n") != line_ends or not data.endswith(_BLANKS):
            return False
        if b"\r" in data and not (is_crlf and data.count(b"\r") == line_ends == data.count(b"\r\n")):
            return False
        return (
            all([data.count(mark) >= events for mark in self.needs])
            and not any([mark in data for mark in self.never])
            and all([data.count(mark) == _nulls(data, mark) for mark in self.nulls])
        )

    def parts(self, data: bytes) -> list[bytes]:
        """Whole events that are not all usual, in parts: what stands before the first usual one, and behind the last.

        Where it is among them that others are, two halves.
        """
        blank = _blank_line_of(data)
        places = [place for begin in self.begins for place in (data.find(begin), data.rfind(begin)) if place >= 0]
        if not places:
            return [data]
        start, end = min(places), data.find(blank, max(places)) + len(blank)
        if not start and end == len(data):
            start = end = data.find(blank, len(data) // 2) + len(blank)
        return [part for part in (data[:start], data[start:end], data[end:]) if part]


_BLANKS = (b"\n\n", b"\r\n\r\n")


def _nulls(data: bytes, mark: bytes) -> int:
    return data.count(mark + b"null") + data.count(mark + b" null")


def event_at(data: bytes, at: int) -> bytes:
    """The event to which a byte of some whole events belongs."""
    blank = _blank_line_of(data)
    start, end = data.rfind(blank, 0, at), data.find(blank, at)
    return data[0 if start < 0 else start + len(blank) : end + len(blank)]


def _blank_line_of(data: bytes) -> bytes:
    return b"\r\n\r\n" if data.endswith(b"\r\n\r\n") else b"\n\n"


def end_of_usual(data: bytes) -> int:
    """Where the last complete event ends, if its lines end as usual; 0 if there is none."""
    if data.endswith(_BLANKS):
        return len(data)
    return max(at + len(blank) if (at := data.rfind(blank)) >= 0 else 0 for blank in _BLANKS)


def end_of_events(data: bytes) -> int:
    """Where the last complete event ends: behind the last blank line."""
    return max((match.end() for match in _BLANK_LINE.finditer(data)), default=0)


def without_lone_blank_lines(data: bytes, events: int) -> bytes:
    """Whole events, so many, without the blank lines that end none; what else stands in a block without data is kept.

    But for its name, which would become that of the next event.
    """
    has_usual_ends = data[:1] not in (b"\r", b"\n") and data[-1:] == b"\n"
    if has_usual_ends and data.count(b"\n\r\n") == events > 0 and b"\n\r\n\r\n" not in data and b"\n\n" not in data:
        return data
    kept: list[bytes] = []
    block: list[bytes] = []
    for line in _LINES.findall(data):
        if line.strip(b"\r\n"):
            block.append(line)
            continue
        if any(one.startswith((b"data", b"{", b"error:")) for one in block):
            kept += [*block, line]
        else:
            kept += [one for one in block if not one.startswith(b"event")]
        block = []
    return b"".join(kept + block)


def encode(data: str, name: str = "") -> bytes:
    """One event as bytes. JSON has no raw line ends, so ``data`` is one line.

    >>> encode('{"a":1}', "ping")
    b'event: ping\\ndata: {"a":1}\\n\\n'
    """
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode()
