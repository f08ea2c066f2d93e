"""The client's side: connections to upstreams, a pool of idle ones per origin, one request at a time on each.

A response is handed to a ``Sink`` in protocol callbacks: ``head``, ``data`` any number of times, then exactly one of
``end`` and ``failed_upstream``. The task that has sent the request only waits until the response begins.

A connection is in one of these states, which follow from ``_sink`` and ``_decoder``:

idle
    no sink; in the pool, for ``_IDLE_S`` seconds. Bytes that arrive now answer no request, so the connection is closed.
waiting
    a sink, no decoder: the request is sent, the head is awaited for ``first_byte_s``
receiving
    both: the body arrives, with at most ``idle_s`` between two reads. While the client does not read, the transport is
    paused and the deadline is off, for the silence is not the upstream's fault.
closed
    ``closed`` is True; the sink, if there was one, was given the error

A body that is sent piece by piece (``HttpRequest.upload``) may still be under way while the response is received. No
deadline is in force while its next piece is missing, for that is not the upstream's fault either.

After a complete response the connection goes back to the pool, unless the upstream wants to close it, sent more than it
announced, or has not read the whole request: in those cases the next response could not be attributed for sure.

Sending twice. An upstream may close an idle connection in the moment in which a request is sent on it. If not one byte
of a response was read, the request is sent once more, on a fresh connection; a body that comes in pieces gets a fresh
one at once. Nothing else is ever sent twice from here: whether a request may be repeated is decided by
``routing.failover``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

import anyio
import anyio.lowlevel
import h11

from ccproxy_lite.errors import UNREACHABLE, UpstreamError
from ccproxy_lite.log import internal_error
from ccproxy_lite.net.framing import (
    LAST_CHUNK,
    Decoder,
    FramingError,
    Headers,
    encode_chunk,
    keeps_alive,
    lower_headers,
    response_framing,
    tokens,
)
from ccproxy_lite.net.heads import MAX_ANSWER_HEAD_BYTES, AnswerHead, answer_machine, request_line, write_head
from ccproxy_lite.net.inflate import CODINGS, InflateError, Inflater
from ccproxy_lite.net.origin import Origin
from ccproxy_lite.net.reading import ReadingProtocol
from ccproxy_lite.net.tls import context_for, describe
from ccproxy_lite.net.tunnel import explain_rejection, through
from ccproxy_lite.net.watchdog import NEVER, Watchdog

if TYPE_CHECKING:
    import ssl

_MAX_HEADERS = 200
_MAX_INFORMATIONAL = 10
_MAX_IDLE_PER_ORIGIN = 32
_IDLE_S = 60.0
_COPIED_BYTES = 65_536


class HttpRequest(Protocol):
    """One request; ``target`` is path and query.

    ``upload`` is the framing of a body that is sent piece by piece, by ``Connection.send``; None for one that is
    complete. For a ``raw`` request the content coding of the response is the client's business: it is not undone.
    """

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def upload(self) -> int | Literal["chunked"] | None: ...
    @property
    def raw(self) -> bool: ...


class Timeouts(NamedTuple):
    """Seconds."""

    connect_s: float
    first_byte_s: float
    idle_s: float


class Sink(Protocol):
    """Receives a response. Exactly one of ``end`` and ``failed_upstream`` is the last call."""

    def connected(self, connection: Connection) -> None:
        """The request goes out on this connection now, which can be paused and dropped; maybe once more, on another."""

    def head(self, head: AnswerHead) -> None:
        """The final head; 1xx responses are skipped."""

    def data(self, data: bytes) -> None:
        """Bytes of the body, decoded."""

    def end(self) -> None:
        """The body is complete."""

    def failed_upstream(self, error: UpstreamError) -> None:
        """The response is incomplete, or never came."""


class _Stale(Exception):
    """A pooled connection was closed by the peer before it answered."""


class Connection(ReadingProtocol):
    """One connection to an upstream."""

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.deadline = NEVER
        self.origin = origin
        self.used = False
        self.closed = False
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._transport: asyncio.Transport | None = None
        self._sink: Sink | None = None
        self._answered: asyncio.Future[None] | None = None
        self._machine: h11.Connection | None = None  # while a head is read
        self._method = b"GET"
        self._decoder: Decoder | None = None
        self._inflater: Inflater | None = None
        self._sniff = self._raw = False
        self._keep_alive = True
        self._got_bytes = False
        self._informational = 0
        self._paused = False
        self._upload: int | Literal["chunked"] | None = None  # not yet sent to its end
        self._writable: anyio.Event | None = None  # the transport takes no more for now
        self._timeouts: Timeouts  # of the request in flight

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.watchdog.watch(self)

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:  # it answers no request: whatever comes next could be taken for the wrong response
            self.close()
            return
        # From here on the request must not be sent again.
        self._got_bytes = True
        if not self._paused:
            self._set_deadline(self._timeouts.idle_s)
        try:
            if self._decoder is None:
                self._feed_head(data, sink)
            else:
                self._feed_body(data, sink)
        except UpstreamError as error:
            self._fail_response(error)
        except (FramingError, h11.RemoteProtocolError) as error:
            self._fail_response(UpstreamError(f"{self.origin.authority} sent invalid HTTP: {error}"))
        except Exception as error:
            self._fail_response(UpstreamError(internal_error(error), status=500))

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._writable = anyio.Event()
        if self._upload is not None:
            self._set_deadline(self._timeouts.idle_s)

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set()
        self._writable = None
        if self._upload is not None:
            self._set_deadline(self._timeouts.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._writable is not None:
            self._writable.set()
        self._pool.forget(self)
        if self._transport is not None:
            self._transport.abort()  # Python 3.10 does not count a lost TLS transport as closed
        if self._sink is None:
            return
        if self._decoder is not None:
            try:
                if exc is not None and not self._decoder.done:
                    raise FramingError(describe(exc, self.origin.host, self.origin.port))
                self._decoder.receive_eof()
            except FramingError as error:
                what = "closed the connection before the response was complete"
                self._fail_response(UpstreamError(f"{self.origin.authority} {what}: {error}"))
            else:
                self._finish_response()
        elif self.used and not self._got_bytes and self._answered is not None and not self._answered.done():
            self._sink = None  # the pool sends the request again, on a fresh connection
            self._answered.set_exception(_Stale())
        else:
            self._fail_response(UpstreamError(f"{self.origin.authority} closed the connection without a response"))

    # --- the watchdog

    def expire(self) -> None:
        if self._sink is None:
            self.close()
        elif self._decoder is None:
            message = f"no response from {self.origin.authority} within {self._timeouts.first_byte_s:g} s"
            if self._upload is not None:
                message = f"{self.origin.authority} took nothing of the request for {self._timeouts.idle_s:g} s"
            self._fail_response(UpstreamError(message, status=504, kind="timeout"))
        else:
            message = f"no data from {self.origin.authority} for {self._timeouts.idle_s:g} s"
            self._fail_response(UpstreamError(message, status=504, kind="timeout"))

    # --- what the pool and the relay call

    async def exchange(self, outbound: HttpRequest, sink: Sink, timeouts: Timeouts) -> None:
        """Send a request; returns once the response has begun or failed. Raises _Stale."""
        assert self._transport is not None
        self._machine = None
        self._sink, self._timeouts = sink, timeouts
        self._decoder = self._inflater = None
        self._got_bytes, self._informational = False, 0
        self._method = outbound.method.encode()
        # Through a proxy without a tunnel the target is a whole URL, and the proxy's credentials are headers.
        target, more = self.origin.addressed(outbound.target)
        headers = [("host", self.origin.authority), *outbound.headers, *more]
        self._raw, self._upload = outbound.raw, outbound.upload
        if not outbound.raw or all(name != "accept-encoding" for name, _ in outbound.headers):
            headers.append(("accept-encoding", "identity"))
        if outbound.upload == "chunked":
            headers.append(("transfer-encoding", "chunked"))
        elif outbound.upload is not None or outbound.body or outbound.method in ("POST", "PUT", "PATCH"):
            headers.append(("content-length", str(outbound.upload or len(outbound.body))))
        head = write_head(request_line(outbound.method, target), headers)
        # small requests are one packet; large bodies are not copied to put a head in front of them
        self._transport.write(head + outbound.body if len(outbound.body) < _COPIED_BYTES else head)
        if len(outbound.body) >= _COPIED_BYTES:
            self._transport.write(outbound.body)
        self._set_deadline(timeouts.first_byte_s)
        # the response may be complete, and the connection serve another request, before this task goes on: so it
        # must touch nothing of this connection afterwards
        answered = self._answered = self._loop.create_future()
        await answered

    async def send(self, piece: bytes) -> None:
        """Send the next piece of an upload, the empty one after the last; returns when more can be sent.

        Does nothing once the response is complete, or the connection is closed.
        """
        # What has arrived is read first: after an answer nothing more is sent, for a peer that has closed would take a
        # write for a reason to discard it.
        await anyio.lowlevel.checkpoint()
        if self._sink is None or self._upload is None or self._transport is None or self._decoder is not None:
            return
        chunked = self._upload == "chunked"
        if not piece:
            self._upload = None
            self._set_deadline(self._timeouts.first_byte_s)
        if piece or chunked:
            self._transport.write((encode_chunk(piece) or LAST_CHUNK) if chunked else piece)
        while self._writable is not None and not self.closed:
            await self._writable.wait()

    def pause(self, paused: bool) -> None:
        """Stop reading while the client does not keep up, or go on."""
        if self.closed or self._transport is None or paused == self._paused or self._sink is None:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
            self.deadline = NEVER
        else:
            self._transport.resume_reading()
            self._set_deadline(self._timeouts.idle_s)

    def drop(self, sink: Sink) -> None:
        """The response is not needed any more: close, unless it was complete."""
        if self._sink is sink:
            self.close()

    def close(self) -> None:
        """Close at once, without a call of the sink."""
        self._sink = None
        self.deadline = NEVER
        self._pool.forget(self)
        if self._transport is not None and not self.closed:
            self.closed = True
            self._transport.abort()

    # --- answers

    def _feed_head(self, data: bytes, sink: Sink) -> None:
        machine = self._machine = self._machine or answer_machine(data)
        machine.receive_data(data)
        while True:
            event = machine.next_event()
            if isinstance(event, h11.Response):
                break
            # h11.NEED_DATA: the head is incomplete.
            if not isinstance(event, h11.InformationalResponse):
                return
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                raise UpstreamError(f"{self.origin.authority} sent too many 1xx responses")
        proxy = self.origin.proxy
        # without a tunnel the proxy's own refusal looks like a response of the upstream
        if proxy is not None and not self.origin.tls and event.status_code == 407:
            raise UpstreamError(
                f"proxy {proxy.authority} {explain_rejection(proxy, 407, self.origin.authority)}", code=UNREACHABLE
            )
        headers = lower_headers(event)
        if len(headers) > _MAX_HEADERS or sum(len(k) + len(v) for k, v in headers) > MAX_ANSWER_HEAD_BYTES:
            raise UpstreamError(f"{self.origin.authority} sent a head that is too large")
        self._keep_alive = keeps_alive(event.http_version, headers)
        self._decoder = Decoder(response_framing(self._method, event.status_code, headers))
        self._sniff = False
        if not self._raw:
            self._choose_inflater(headers)
        behind_head = machine.trailing_data[0]
        self._machine = None
        # From here on the sink is called from the callbacks; the task that sent the request may go on.
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)
        sink.head(AnswerHead(event.status_code, headers))
        if self._sink is sink and (behind_head or self._decoder.done):
            self._feed_body(behind_head, sink)

    def _choose_inflater(self, headers: Headers) -> None:
        coding = b",".join(tokens(headers, b"content-encoding")).decode("latin-1")
        if coding in ("", "identity"):
            self._sniff = True  # some services compress without saying so
        elif coding in CODINGS:
            self._inflater = Inflater(coding)
        else:
            raise UpstreamError(f"unexpected content-encoding {coding} from {self.origin.authority}")

    def _feed_body(self, data: bytes, sink: Sink) -> None:
        decoder = cast(Decoder, self._decoder)
        body = decoder.feed(data)
        if body:
            if self._sniff:
                self._sniff = False
                if body[:2] == b"\x1f\x8b":
                    self._inflater = Inflater("gzip")
            if self._inflater is not None:
                try:
                    body = self._inflater.feed(body)
                except InflateError as error:
                    raise UpstreamError(f"the upstream's compressed response: {error}") from None
            if body:
                sink.data(body)
        if decoder.done and self._sink is sink:  # the sink may have dropped this connection in ``data``
            self._finish_response()

    def _finish_response(self) -> None:
        sink = cast(Sink, self._sink)
        if self._inflater is not None and not self._inflater.complete:
            self._fail_response(UpstreamError("upstream's compressed response ends early"))
            return
        self._sink = None
        # After trailing bytes, the next response could not be distinguished from the rest of this one.
        clean = self._keep_alive and not self.closed and not (self._decoder and self._decoder.trailing_data)
        # Unsent bytes: the upstream has answered before it read the whole request.
        clean = clean and self._upload is None
        if clean and self._transport is not None and self._transport.get_write_buffer_size() == 0:
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self._set_deadline(_IDLE_S)
            self._pool.give_back(self)
        else:
            self.close()
        sink.end()

    def _fail_response(self, error: UpstreamError) -> None:
        sink = self._sink
        answered = self._answered
        self.close()
        if answered is not None and not answered.done():
            answered.set_result(None)
        if sink is not None:
            sink.failed_upstream(error)

    def _set_deadline(self, seconds: float) -> None:
        if self._upload is not None and self._writable is None and self._sink is not None:
            self.deadline = NEVER  # the next move is the client's
            return
        self.deadline = self._now() + seconds


@dataclass(slots=True)
class Pool:
    """Idle connections by origin, the most recently used first."""

    watchdog: Watchdog
    tls_context: Callable[[str, str], ssl.SSLContext] = context_for
    _idle: dict[Origin, list[Connection]] = field(default_factory=dict)
    _open: set[Connection] = field(default_factory=set)

    async def fetch(self, origin: Origin, outbound: HttpRequest, sink: Sink, timeouts: Timeouts) -> None:
        """Send a request and hand its response to the sink; returns when the response has begun or failed.

        Raises UpstreamError when no connection can be made.
        """
        connection = self._take_idle(origin) if outbound.upload is None else None
        if connection is not None:
            sink.connected(connection)
            try:
                await connection.exchange(outbound, sink, timeouts)
                return
            except _Stale:
                pass
        connection = await self._open_connection(origin, timeouts.connect_s)
        sink.connected(connection)
        await connection.exchange(outbound, sink, timeouts)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose response is complete."""
        idle = self._idle.setdefault(connection.origin, [])
        connection.used = True
        if len(idle) >= _MAX_IDLE_PER_ORIGIN:
            connection.close()
        else:
            idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self.watchdog.forget(connection)
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    @property
    def open_count(self) -> int:
        """How many connections are open, idle or not."""
        return len(self._open)

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()

    def _take_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        while idle:
            # The one used last, which the upstream is least likely to have closed meanwhile.
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _open_connection(self, origin: Origin, connect_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        connection = Connection(self, origin)
        context = self.tls_context(origin.ca_file, origin.client_cert) if origin.tls else None
        try:
            with anyio.fail_after(connect_s):
                if origin.proxy is not None:
                    await through(origin.proxy, connection, origin.host, origin.port, context)
                else:
                    await loop.create_connection(
                        lambda: connection,
                        origin.host,
                        origin.port,
                        ssl=context,
                        server_hostname=origin.host if origin.tls else None,
                        happy_eyeballs_delay=0.25,
                    )
        except (OSError, TimeoutError, UnicodeError) as error:
            status = 504 if isinstance(error, TimeoutError) else 502
            kind = "timeout" if status == 504 else "server"
            message = describe(error, origin.host, origin.port)
            if origin.proxy is not None and isinstance(error, TimeoutError):
                message = f"proxy {origin.proxy.authority}: CONNECT to {origin.host}:{origin.port} timed out"
            raise UpstreamError(message, status=status, kind=kind, code=UNREACHABLE) from None  # type: ignore[arg-type]
        self._open.add(connection)
        return connection
