"""The server's side of one connection: bytes in protocol callbacks, one request at a time, absolute deadlines.

It knows HTTP/1.1 and nothing about endpoints. The application decides in ``admit`` whether a request may send its body,
and responds in ``serve``, through the methods ``respond``, ``begin``, ``write``, ``finish`` and ``abort`` here.

    waiting -> head -> body -> serving -> waiting ...
                 `------`---------`---> lingering -> closed

``waiting``
    between requests; ``idle_s`` until the connection is closed without a word
``head``, ``body``
    a request arrives; each has one deadline from its first byte on, so that a byte now and then does not extend it.
    A request that breaks the protocol or a limit gets its error, and the connection ends: where the next request
    would begin is uncertain.
``serving``
    the application's task runs, and no deadline: an upstream may think for minutes. What arrives meanwhile (a pipelined
    request) is kept in ``_inbox`` and read when the response is complete. Where the application wants to pass the body
    on while it arrives (``Streamed``), this state begins with the head, and what arrives goes to ``_incoming`` first;
    then the only deadline is ``body_s`` for each piece that the application waits for.
``lingering``
    the last response is sent, and input is read and discarded. Closing a socket with unread input would send a reset,
    which may overtake the response.

Who changes the state: the callbacks of asyncio (``data_received``, ``connection_lost``), the application's calls, and
``expire``, which the watchdog calls once the deadline has passed. All of them run in the event loop's thread, so there
are no locks. When the connection fails in the middle of a response, the writes that still come do nothing.

Back pressure: when the peer does not read, asyncio calls ``pause_writing``; ``on_blocked`` passes that on to whoever
feeds the response, and ``write_s`` is the longest that a peer may take nothing at all.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import anyio

from ccproxy_lite.log import bug
from ccproxy_lite.net.application import Limits, Response, Streamed
from ccproxy_lite.net.bodies import CONTINUE, IncomingBody
from ccproxy_lite.net.framing import LAST_CHUNK, Decoder, FramingError, encode_chunk
from ccproxy_lite.net.heads import OutHeaders, Rejected, RequestHead, find_end, read_head, status_line, write_head
from ccproxy_lite.net.inflate import CODINGS, InflateError, Inflater
from ccproxy_lite.net.reading import ReadingProtocol
from ccproxy_lite.net.tasks import Spawn, Tasks
from ccproxy_lite.net.watchdog import NEVER, Watchdog

WRITE_HIGH_BYTES = 65_536
_LINGER_S = 1.0
_MAX_PIPELINED_BYTES = 1_048_576

State = Literal["waiting", "head", "body", "serving", "lingering", "closed"]


class Application(Protocol):
    """What the connection needs from the program."""

    def admit(self, head: RequestHead) -> Response | Streamed | Any:
        """A response that rejects the request before its body is read; or anything else, to be handed to ``serve``."""

    def reject(self, head: RequestHead | None, status: int, message: str) -> Response:
        """The response to a request that broke the protocol or a limit."""

    async def serve(self, head: RequestHead, admitted: Any, body: bytes | IncomingBody, client: Connection) -> None:
        """Respond to a request; ``admitted`` is what ``admit`` returned, possibly before a reload.

        :param body: an ``IncomingBody`` for what was ``Streamed``
        """


@dataclass(slots=True)
class Shared:
    """What all connections of a listener share."""

    app: Application
    limits: Limits
    watchdog: Watchdog
    spawn: Spawn
    connections: set[Connection] = field(default_factory=set)
    draining: bool = False
    on_empty: Callable[[], None] = lambda: None


class Connection(ReadingProtocol):
    """One accepted connection.

    :ivar on_blocked: called with True when the peer stops reading, with False when it goes on
    :ivar gone: the peer has closed its side
    :ivar cut: a shutdown interrupts the response in flight
    :ivar response_started: its head may still wait for the first piece of its body
    :ivar extra_headers: headers of the response to the current request, whatever it is
    """

    def __init__(self, shared: Shared) -> None:
        self.deadline = NEVER
        self.state: State = "waiting"
        self.gone = self.cut = False
        self.on_blocked: Callable[[bool], None] | None = None
        self.extra_headers: OutHeaders = []
        self._shared = shared
        self._tasks = Tasks(shared.spawn)
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._inbox = bytearray()
        self._searched = 0  # bytes of the inbox in which the end of the head was not found
        self._head: RequestHead | None = None
        self._admitted: Any = None
        self._decoder = Decoder(0)
        self._inflater: Inflater | None = None
        self._pieces: list[bytes] = []
        self._body_bytes = 0
        self._incoming: IncomingBody | None = None
        self._scope: anyio.CancelScope | None = None
        self._cancel_on_eof = False
        self.response_started = self._chunked = self._until_close = False
        self._pending = b""  # a head that goes out with the first piece of its body, in one packet
        self._blocked = False
        self._unsent = 0  # bytes that the peer had not taken when the deadline was set

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        shared = self._shared
        shared.watchdog.watch(self)
        # Also for the time before the first byte: a connection that says nothing is closed.
        self._set_deadline(shared.limits.head_s)
        # a client that gets an error can retry elsewhere; one that is left in the backlog only waits
        if len(shared.connections) >= shared.limits.max_connections:
            self._reject_and_close(503, "too many connections")
            self._transport.close()
            return
        shared.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self.state == "body":
            self._feed_body(data)
        elif self.state in ("waiting", "head"):
            self._inbox += data
            self._next_head()
        elif self._incoming is not None and not self._incoming.is_over:
            self._inbox += self._incoming.feed(data)
        elif self.state == "serving":
            if len(self._inbox) > _MAX_PIPELINED_BYTES:  # no client pipelines that much: read on only to see EOF
                cast(RequestHead, self._head).keep_alive = False
            else:
                self._inbox += data

    def eof_received(self) -> bool:
        """A half-close. No AI client half-closes and then waits: while an upstream works, EOF means disconnected."""
        self.gone = True
        if self.state == "serving":
            if self._incoming is not None:
                self._incoming.fail(400, "the body ends early")
            if self._cancel_on_eof and self._scope is not None:
                self._scope.cancel()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.state = "closed"
        self.deadline = NEVER
        if self._incoming is not None:
            self._incoming.fail(400, "the body ends early")
        if self._scope is not None:
            self._scope.cancel()
        self.on_blocked = None
        self._inbox.clear()
        self._pieces = []
        self._tasks.close()
        self._shared.watchdog.forget(self)
        self._shared.connections.discard(self)
        if not self._shared.connections:
            self._shared.on_empty()

    def pause_writing(self) -> None:
        self._blocked = True
        self._set_deadline(self._shared.limits.write_s)
        if self.on_blocked is not None:
            self.on_blocked(True)

    def resume_writing(self) -> None:
        self._blocked = False
        if self.state == "serving":
            self._set_serving_deadline()
        elif self.state == "waiting":
            self._await_next()
        elif self.state == "lingering":
            self._set_deadline(_LINGER_S)
        if self.on_blocked is not None:
            self.on_blocked(False)

    # --- the watchdog, and the listener

    def expire(self) -> None:
        unsent = self._transport.get_write_buffer_size()
        if 0 < unsent < self._unsent:  # slow, but it takes what is sent
            self._set_deadline(self._shared.limits.write_s)
        elif self.state == "head":
            self._reject_and_close(408, "the request head took too long")
        elif self.state == "body":
            self._reject_and_close(408, "the request body took too long")
        elif self.state == "waiting" and not unsent:
            self._transport.close()
        elif self._incoming is not None and self._incoming.awaited:
            self._incoming.fail(408, "the request body took too long")
        else:
            self._transport.abort()

    def close_when_idle(self) -> None:
        """The listener drains: no new request is read, a response in flight is finished."""
        if self.state in ("waiting", "head"):
            self._transport.close()

    def cancel(self) -> None:
        """The drain timeout is over: cancel the response, so that the application can end it in its own format."""
        self.cut = True
        if self._scope is not None:
            self._scope.cancel()
        else:
            self._transport.abort()

    # --- what the application calls

    @property
    def blocked(self) -> bool:
        """Whether the peer reads slower than the response is written."""
        return self._blocked

    @property
    def is_local(self) -> bool:
        """Whether the peer is on this machine: by the address of the socket, and nothing that the peer says."""
        peer = self._transport.get_extra_info("peername")
        if not isinstance(peer, tuple):  # a unix socket
            return True
        address = str(peer[0]).removeprefix("::ffff:")
        return address == "::1" or address.startswith("127.")

    def cancel_on_eof(self) -> None:
        """From now on a half-close cancels ``serve``; an earlier one does so at once."""
        # Only from the first upstream on: a request that is answered locally takes no time.
        self._cancel_on_eof = True
        if self.gone and self._scope is not None:
            self._scope.cancel()

    def respond(self, response: Response) -> None:
        """Send a complete response; ignored if another one has begun."""
        if self.response_started or self.state == "closed":
            return
        length = [("content-length", str(len(response.body)))]
        head = self._head_bytes(response.status, response.headers + length)
        self.response_started = True
        without_body = self._head is not None and self._head.method == "HEAD"
        self._transport.write(head if without_body else head + response.body)
        self._response_finished()

    def begin(self, status: int, headers: OutHeaders, length: int | None = None) -> None:
        """Start a response; its head is sent together with the first ``write``.

        :param length: of the body in bytes, where it is known; of one that is not sent, because of HEAD, as well
        """
        head = cast(RequestHead, self._head)
        framing = [] if length is None else [("content-length", str(length))]
        has_body = head.method != "HEAD" and status not in (204, 304)
        self._chunked = has_body and length is None and not head.http_10
        self._until_close = has_body and length is None and head.http_10  # which knows no chunks
        head.keep_alive = head.keep_alive and not self._until_close
        if self._chunked:
            framing = [("transfer-encoding", "chunked")]
        self._pending = self._head_bytes(status, headers + framing)
        self.response_started = True

    def write(self, data: bytes) -> None:
        """Send a piece of the response that was begun."""
        if self.state == "closed" or not data:
            return
        framed = encode_chunk(data) if self._chunked else data
        if self._pending:
            # One packet instead of two.
            framed, self._pending = self._pending + framed, b""
        self._transport.write(framed)

    def flush(self) -> None:
        """Send the head of the response that was begun, if it still waits for the first ``write``."""
        if self._pending and self.state != "closed":
            self._transport.write(self._pending)
            self._pending = b""

    def finish(self, data: bytes = b"") -> None:
        """End the response that was begun, with a last piece."""
        if self.state == "closed":
            return
        framed = encode_chunk(data) + LAST_CHUNK if self._chunked else data
        last, self._pending = self._pending + framed, b""
        if last:
            self._transport.write(last)
        self._response_finished()

    def abort(self, *, discard_unsent: bool = False) -> None:
        """End the connection so that the client sees an incomplete response, after what was written has been sent."""
        if self.state == "closed" or (self.state == "lingering" and not discard_unsent):
            return
        if discard_unsent:
            self._transport.abort()
            return
        self.flush()
        self.state = "lingering"
        if self._until_close:  # only a reset shows that a body without a length is broken
            sock = self._transport.get_extra_info("socket")
            if sock is not None and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._set_deadline(self._shared.limits.write_s)
        self._transport.close()

    # --- heads

    def _next_head(self) -> None:
        """Read a head, as far as the bytes reach."""
        inbox = self._inbox
        if self.state not in ("waiting", "head") or self._blocked:  # a peer that does not read gets no more responses
            return
        if self.state == "waiting":
            if inbox.startswith(b"\r\n"):  # an empty line before a request line is allowed: RFC 9112 section 2.2
                del inbox[:2]
            if not inbox or inbox == b"\r":
                return
            self.state = "head"
            self._searched = 0
            self._set_deadline(self._shared.limits.head_s)
        try:
            end = find_end(inbox, self._searched)
            if end < 0:
                self._searched = len(inbox)
                return
            self._head = head = read_head(bytes(inbox[:end]))
        except Rejected as error:
            self._reject_and_close(error.status, error.message)
            return
        behind_head = bytes(inbox[end:])
        inbox.clear()
        self._start_body(head, behind_head)

    def _start_body(self, head: RequestHead, behind_head: bytes) -> None:
        admitted = self._shared.app.admit(head)
        limit = self._shared.limits.max_body_bytes
        if not isinstance(admitted, (Response, Streamed)) and isinstance(head.framing, int) and head.framing > limit:
            admitted = self._shared.app.reject(head, 413, f"the body is larger than {limit} bytes")
        if isinstance(admitted, Response):  # the body that follows is not worth reading: no further request here
            head.keep_alive = head.keep_alive and head.framing == 0
            self.state = "serving"
            self._inbox += behind_head
            self.respond(admitted)
            return
        self._decoder = Decoder(head.framing)
        if isinstance(admitted, Streamed):
            self._stream_body(head, admitted.admitted, behind_head)
            return
        self._admitted = admitted
        self._inflater = Inflater(head.coding, limit) if head.coding in CODINGS else None
        self._pieces, self._body_bytes = [], 0
        self.state = "body"
        self._set_deadline(self._shared.limits.body_s)
        if head.expects_continue and not behind_head:  # who sends the body at once needs no invitation
            self._transport.write(CONTINUE)
        self._feed_body(behind_head)

    def _feed_body(self, data: bytes) -> None:
        try:
            piece = self._decoder.feed(data)
        except FramingError as error:
            self._reject_and_close(400, str(error))
            return
        limit = self._shared.limits.max_body_bytes
        self._body_bytes += len(piece)
        if self._body_bytes > limit:
            self._reject_and_close(413, f"the body is larger than {limit} bytes")
            return
        if piece and self._inflater is not None:
            try:
                piece = self._inflater.feed(piece)
            except InflateError as error:
                too_large = f"the decompressed body is larger than {limit} bytes"
                self._reject_and_close(*((413, too_large) if error.is_too_large else (400, f"the body: {error}")))
                return
        if piece:
            self._pieces.append(piece)
        if self._decoder.done and self._inflater is not None and not self._inflater.complete:
            self._reject_and_close(400, "the compressed body ends early")
        elif self._decoder.done:
            self._inbox += self._decoder.trailing_data  # a pipelined request
            body, self._pieces = b"".join(self._pieces), []
            self.state = "serving"
            self.deadline = NEVER
            self._serve(cast(RequestHead, self._head), self._admitted, body)

    # --- bodies that are passed on while they arrive

    def _stream_body(self, head: RequestHead, admitted: Any, behind_head: bytes) -> None:
        self.state = "serving"
        self.deadline = NEVER
        invite = head.expects_continue and not behind_head
        body = self._incoming = IncomingBody(
            self._decoder, self._transport, invite, self._set_serving_deadline, self.eof_received
        )
        self._inbox += body.feed(behind_head)
        self._serve(head, admitted, body)

    def _set_serving_deadline(self) -> None:
        """No deadline while a response is under way, but for a piece of the body that is awaited."""
        if self._incoming is not None and self._incoming.awaited:
            self._set_deadline(self._shared.limits.body_s)
        elif not self._blocked:
            self.deadline = NEVER

    # --- answers

    def _serve(self, head: RequestHead, admitted: Any, body: bytes | IncomingBody) -> None:
        async def work(scope: anyio.CancelScope) -> None:
            self._scope = scope
            try:
                if self.state == "serving":
                    await self._shared.app.serve(head, admitted, body, self)
            except Exception as error:
                bug(error)
            finally:
                if self._head is head and self.state == "serving":  # the client must not take it for complete
                    self.abort()

        self._tasks.run(work)

    def _head_bytes(self, status: int, headers: OutHeaders) -> bytes:
        head, body = self._head, self._incoming
        # decided when the head is written: a shutdown that begins earlier still closes after this response
        keep_alive = head is not None and head.keep_alive and not self._shared.draining and not self.gone
        keep_alive = keep_alive and (body is None or body.complete)
        if head is not None:
            head.keep_alive = keep_alive
        if not keep_alive:
            headers = [*headers, ("connection", "close")]
        elif head is not None and head.http_10:
            headers = [*headers, ("connection", "keep-alive")]
        return write_head(status_line(status), headers + self.extra_headers)

    def _response_finished(self) -> None:
        """A response is complete: on to the next request, or close."""
        head = self._head
        if self._incoming is not None:
            self._incoming.close()
        self.on_blocked = self._scope = self._incoming = None
        if head is None or not head.keep_alive or self._shared.draining:
            self._close_gently()
            return
        self._head = None
        self.response_started = self._chunked = self._until_close = self._cancel_on_eof = False
        self.extra_headers = []
        self.state = "waiting"
        if self._blocked:  # the next request waits until this response is read
            self._set_deadline(self._shared.limits.write_s)
        else:
            self._await_next()

    def _await_next(self) -> None:
        self._set_deadline(self._shared.limits.idle_s)
        if self._inbox:  # not at once: a thousand pipelined requests would recurse
            self._loop.call_soon(self._next_head)

    def _reject_and_close(self, status: int, message: str) -> None:
        """Respond to an invalid request and close: what follows it cannot be trusted."""
        self._scope = None
        if self._head is not None:
            self._head.keep_alive = False
        self.state = "serving"
        self.respond(self._shared.app.reject(self._head, status, message))

    def _close_gently(self) -> None:
        """Close so that the response arrives: closing with unread input would reset the connection."""
        self.state = "lingering"
        self._inbox.clear()
        self._pieces = []
        if self.gone or (self._head is not None and self._head.framing == 0) or not self._transport.can_write_eof():
            self._set_deadline(self._shared.limits.write_s)
            self._transport.close()
            return
        self._transport.set_write_buffer_limits(high=0)  # so that resume_writing is called when everything is sent
        self._set_deadline(self._shared.limits.write_s if self._transport.get_write_buffer_size() else _LINGER_S)
        try:
            self._transport.write_eof()
        except OSError:  # the peer has reset the connection
            self._transport.abort()

    def _set_deadline(self, seconds: float) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self._now() + seconds
