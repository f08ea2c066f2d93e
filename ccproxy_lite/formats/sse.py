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

from ccproxy_lite.errors import UpstreamError

_LINE_END = re.compile(rb"\r\n|\n|\r")


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
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._cr = False
        self._first = True
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes."""
        if self._cr and chunk:
            self._cr = False
            if chunk[:1] == b"\n":
                chunk = chunk[1:]
        if b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return []
        block = b"".join(self._rest) + chunk
        self._rest, self._rest_bytes = [], 0
        self._cr = block[-1:] == b"\r"
        lines = _LINE_END.split(block) if b"\r" in block else block.split(b"\n")
        self._hold(lines.pop())
        events: list[Event] = []
        for line in lines:
            self._line(line, events)
        return events

    def unfinished(self) -> bool:
        """Whether bytes of an event without its closing blank line are held; such an event is never delivered."""
        return bool(self._rest_bytes or self._data or self._name)

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._rest.append(piece)
            self._rest_bytes += len(piece)
            self._check()

    def _check(self) -> None:
        if self._rest_bytes + self._data_bytes > self.max_event_bytes:
            raise UpstreamError(f"the upstream sent an event of more than {self.max_event_bytes} bytes")

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(Event(self._name, data.decode("utf-8", "replace")))
                self._data, self._data_bytes = [], 0
            self._name = ""
        elif line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_bytes += len(value)
            self._check()
        elif line.startswith(b"event:"):
            self._name = line[6:].removeprefix(b" ").decode("utf-8", "replace")
        elif line == b"data":
            self._data.append(b"")


def encode(data: str, name: str = "") -> bytes:
    """One event as bytes. JSON has no raw line ends, so ``data`` is one line.

    >>> encode('{"a":1}', "ping")
    b'event: ping\\ndata: {"a":1}\\n\\n'
    """
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data}\n\n".encode()
