"""Heads: what h11 parses, what this server accepts of it, and how heads are written. Pure.

h11 is a parser, not a policy. It accepts a length beside a transfer coding, bare line feeds, folded headers, HTTP/2.0,
any Host, and heads of any size that arrive in one piece. All of these are rejected here, before anything acts on them.

What is written needs no parser. Every name and value has been read by h11, checked with the configuration, or stands
in this program; ``write_head`` only makes sure that none of them ends its line, which is what smuggling is made of.
Validating each header again, as h11 does when it sends, was a sixth of what a small request costs.

>>> read_head(b"GET /v1/models HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n").path
'/v1/models'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote

import h11

from ccproxy_lite.net.framing import Framing, Headers, header, keeps_alive, lower_headers, tokens

MAX_HEAD_BYTES = 32_768
MAX_ANSWER_HEAD_BYTES = 65_536
MAX_TARGET_BYTES = 8192
MAX_HEADERS = 100

_METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"}
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?\Z")
_A_REQUEST = h11.Request(method="POST", target="/", headers=[("host", "h")])
_TARGET = re.compile(r"[\x21-\x7e]+")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


OutHeaders = list[tuple[str, str]]
"""The headers of an answer, as text."""


class Rejected(Exception):
    """A head that is answered with ``status`` and a closed connection."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class RequestHead:
    """One accepted request head. ``path`` is percent-decoded, ``raw_path`` and ``query`` are as sent.

    :ivar first: for each name of a header its first value
    """

    method: str
    path: str
    raw_path: str
    query: str
    host: str
    headers: Headers
    first: dict[bytes, bytes]
    framing: Framing
    keep_alive: bool
    expects_continue: bool
    http_10: bool

    def get(self, name: str) -> str | None:
        """The first value of a header; the name in lower case."""
        value = self.first.get(name.encode())
        return None if value is None else value.decode("latin-1")

    @property
    def coding(self) -> str:
        """The content coding of the body; empty for none."""
        if b"content-encoding" not in self.first:
            return ""
        coding = ",".join(self.all("content-encoding")).lower().strip()
        return "" if coding == "identity" else coding

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]


def find_end(data: bytes | bytearray, start: int) -> int:
    """Where the head in ``data`` ends (the offset of the byte after it), or -1 while more is needed. Raises Refused."""
    end = data.find(b"\r\n\r\n", max(start - 3, 0))
    if end > MAX_HEAD_BYTES or (end < 0 and len(data) > MAX_HEAD_BYTES):
        # No line end so far: it is the target that is too long.
        if data.find(b"\r\n", 0, MAX_TARGET_BYTES + 32) < 0:
            raise Rejected(414, "the request line is too long")
        raise Rejected(431, f"the request head is larger than {MAX_HEAD_BYTES} bytes")
    if end >= 0:
        return end + 4
    # The first byte of a TLS handshake. Its CRLFCRLF would never come.
    if data[:1] == b"\x16":
        raise Rejected(400, "this port speaks plain HTTP: use http://, not https://")
    # Checked while the head is incomplete, or a client that sends LF alone would run into the timeout.
    if _BARE_LF.search(data, max(start - 1, 0)):
        raise Rejected(400, "a line of the request head does not end with CRLF")
    return -1


def read_head(raw: bytes) -> RequestHead:
    """Parse a complete head. Raises Refused."""
    _check_raw(raw)
    machine = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES + 1)
    try:
        machine.receive_data(raw)
        event = machine.next_event()
    except h11.RemoteProtocolError as error:
        raise Rejected(error.error_status_hint, str(error)) from None
    if not isinstance(event, h11.Request):
        raise Rejected(400, "not an HTTP/1.1 request")
    headers = lower_headers(event)
    first = dict(reversed(headers))
    _check_head(event, headers, first)
    path, raw_path, query = _read_target(event.target)
    expectation = first.get(b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise Rejected(417, "only 100-continue can be expected")
    return RequestHead(
        method=event.method.decode(),
        path=path,
        raw_path=raw_path,
        query=query,
        host=first.get(b"host", b"").decode("latin-1"),
        headers=headers,
        first=first,
        framing="chunked" if b"transfer-encoding" in first else int(first.get(b"content-length", b"0")),
        keep_alive=keeps_alive(event.http_version, headers),
        expects_continue=expectation is not None and event.http_version >= b"1.1",
        http_10=event.http_version < b"1.1",
    )


@lru_cache(maxsize=256)
def _read_target(target: bytes) -> tuple[str, str, str]:
    """Path, raw path and query of a target: clients ask for the same few again and again. Raises Rejected."""
    raw_path, _, query = target.decode("latin-1").partition("?")
    if _BAD_ESCAPE.search(raw_path):
        raise Rejected(400, "a bad percent escape in the path")
    path = unquote(raw_path, errors="replace")
    # Checked after decoding: ``%0a`` in a path would forge a line of the log.
    if any(char < " " or char == "\x7f" for char in path):
        raise Rejected(400, "a control character in the path")
    return path, raw_path, query


def _check_raw(raw: bytes) -> None:
    lines = raw.count(b"\r\n")
    if raw.count(b"\n") != lines:
        raise Rejected(400, "a line of the request head does not end with CRLF")
    # RFC 9112 section 5.2: to be rejected or unfolded. No client of today sends them.
    if b"\r\n " in raw or b"\r\n\t" in raw:
        raise Rejected(400, "folded header lines are obsolete")
    if raw.find(b"\r\n") > MAX_TARGET_BYTES + 32:
        raise Rejected(414, "the request line is too long")
    # The request line and the empty one at the end are no headers.
    if lines - 2 > MAX_HEADERS:
        raise Rejected(431, f"more than {MAX_HEADERS} headers")
    # h11 would answer HTTP/2.0 as if it were 1.1.
    version = raw[: raw.find(b"\r\n")].rpartition(b" ")[2]
    if version.startswith(b"HTTP/") and version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Rejected(505, "only HTTP/1.1 is supported")


def _check_head(event: h11.Request, headers: Headers, first: Mapping[bytes, bytes]) -> None:
    if event.method not in _METHODS:
        raise Rejected(501, "method not supported")
    if len(event.target) > MAX_TARGET_BYTES:
        raise Rejected(414, "the request target is too long")
    # The absolute form is for forward proxies, the authority form for CONNECT.
    if not event.target.startswith(b"/") and not (event.target == b"*" and event.method == b"OPTIONS"):
        raise Rejected(400, "the request target must be a path")
    if b"transfer-encoding" in first:
        coding = tokens(headers, b"transfer-encoding")
        # Request smuggling: which of the two is followed differs from server to server.
        if b"content-length" in first:
            raise Rejected(400, "both Content-Length and Transfer-Encoding")
        if event.http_version < b"1.1":
            raise Rejected(400, "Transfer-Encoding in HTTP/1.0")
        if coding != [b"chunked"]:
            raise Rejected(501, "only the chunked transfer coding is supported")
    # Which host is meant is what protects against DNS rebinding (``server.access``).
    hosts = [value for key, value in headers if key == b"host"]
    if len(hosts) > 1 or (hosts and not _HOST.match(hosts[0])):
        raise Rejected(400, "not a valid Host header")
    if not hosts and event.http_version >= b"1.1":
        raise Rejected(400, "no Host header")


def answer_machine(start: bytes) -> h11.Connection:
    """A machine for the head of a response of which ``start`` has arrived.

    Only one that has been told of a request reads 1xx responses; telling it is a third of the work, and seldom needed.
    """
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_HEAD_BYTES)
    if start[9:10] in (b"", b"1"):  # behind "HTTP/1.1 "
        machine.send(_A_REQUEST)
    return machine


def write_head(first_line: str, headers: OutHeaders) -> bytes:
    """A head, up to and including its empty line. Raises ValueError where a header would be more than one line.

    >>> write_head("GET / HTTP/1.1", [("host", "localhost")])
    b'GET / HTTP/1.1\\r\\nhost: localhost\\r\\n\\r\\n'
    """
    lines = [first_line, *[f"{name}: {value}" for name, value in headers], "", ""]
    head = "\r\n".join(lines).encode("latin-1", "replace")
    ends = len(lines) - 1
    if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
        raise ValueError("a control character in a head")
    return head


def request_line(method: str, target: str) -> str:
    """The first line of a request. Raises ValueError for a target that would not end where it should."""
    if not _TARGET.fullmatch(target):
        raise ValueError("a character in the request target that must be escaped")
    return f"{method} {target} HTTP/1.1"


@lru_cache(maxsize=64)
def status_line(status: int) -> str:
    """The first line of a response; with a reason phrase, because strict clients reject ``HTTP/1.1 200 ``."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded" if status == 529 else "Status"
    return f"HTTP/1.1 {status} {phrase}"


@dataclass(slots=True)
class AnswerHead:
    """The head of an answer; header names are lower-case."""

    status: int
    headers: Headers

    def get(self, name: str) -> str:
        """The first value of a header, or the empty string."""
        return (header(self.headers, name.encode()) or b"").decode("latin-1")
