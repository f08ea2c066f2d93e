"""Bodies on their way through: the client's to a service, and the service's to the client, neither held in memory.

The client's goes out piece by piece while it comes in (``Upload``), the service's likewise the other way (``Passage``),
and each waits for the slower side.

    head -> passing -> over          a response for the client
       `--> judged -> over           an error, kept for the caller to decide what comes next

The raw relay (``raw``) and the mounts (``mounts``) are made of these.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Literal, cast

import anyio
import anyio.lowlevel

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.bodies import BodyError, IncomingBody
from ccproxy_lite.net.framing import header
from ccproxy_lite.net.heads import AnswerHead, OutHeaders
from ccproxy_lite.net.upstream import Connection
from ccproxy_lite.providers.provider import Outbound
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.streams import failed_of

_KEPT_BYTES = 1_048_576
_MAX_ERROR_BYTES = 1_048_576

State = Literal["head", "passing", "judged", "over"]


class Upload:
    """The client's body on its way; it can begin again as long as all that was taken of it is at hand."""

    def __init__(self, body: IncomingBody) -> None:
        self._body = body
        self._kept: list[bytes] | None = []
        self._kept_bytes = 0
        self.whole: bytes | None = None

    @property
    def framing(self) -> int | Literal["chunked"]:
        return "chunked" if self._body.length is None else self._body.length

    @property
    def can_restart(self) -> bool:
        return self._kept is not None

    async def take_small(self) -> None:
        """Wait for a body that is announced as small enough to be kept: ``whole``. Raises ClientError."""
        length = self._body.length
        if length is not None and length <= _KEPT_BYTES:
            try:
                self.whole = b"".join([piece async for piece in self.pieces()])
            except BodyError as error:
                await anyio.lowlevel.checkpoint()  # if the client has left, the request ends here
                raise ClientError(error.status, error.message) from None

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it from the beginning. Raises BodyError."""
        for piece in self._kept or ():
            yield piece
        while piece := await self._body.receive():
            self._kept_bytes += len(piece)
            if self._kept is not None:
                self._kept.append(piece)
            if self._kept_bytes > _KEPT_BYTES:
                self._kept = None
            yield piece


class Passage:
    """The sink of one attempt: the response goes to the client as it comes.

    :param judges: whether an error is kept instead
    :param headers: the client's headers for the upstream's head
    :ivar failed: why the response is of no use, or incomplete
    :ivar began_at: when the client has got its head
    """

    is_early = False

    def __init__(self, call: Call, clock: Clock, judges: bool, headers: Callable[[AnswerHead], OutHeaders]) -> None:
        self.state: State = "head"
        self.done, self.ended, self.is_connected = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.answer: AnswerHead | None = None
        self.failed: Failed | None = None
        self.began_at: float | None = None
        self.connection: Connection | None = None
        self.body = bytearray()
        self._client = call.client
        self._clock = clock
        self._judges = judges
        self._headers = headers
        self._pause: Callable[[bool], None] | None = None

    def release(self) -> None:
        """The attempt is over: close the connection, unless its response was complete."""
        self._pause_nobody()
        if self.connection is not None:
            self.connection.drop(self)

    # --- net.upstream.Sink

    def connected(self, connection: Connection) -> None:
        self.connection = connection
        self._client.on_blocked = self._pause = connection.pause
        self.is_connected.set()

    def head(self, head: AnswerHead) -> None:
        self.answer = head
        if self._judges and head.status >= 400:
            self.state = "judged"
        else:
            self._begin(head)

    def _begin(self, head: AnswerHead) -> None:
        self.state, self.began_at = "passing", self._clock.now()
        has_length = head.status != 204 and header(head.headers, b"transfer-encoding") is None
        length = header(head.headers, b"content-length") if has_length else None
        self._client.begin(head.status, self._headers(head), None if length is None else int(length))
        # The body may be long in coming; if it has come already, both are one packet.
        asyncio.get_running_loop().call_soon(self._client.flush)

    def data(self, data: bytes) -> None:
        if self.state == "passing":
            self._client.write(data)
            return
        self.body += data
        if len(self.body) > _MAX_ERROR_BYTES and self.answer is not None:  # larger than errors are
            self._begin(self.answer)
            self._client.write(bytes(self.body))

    def end(self) -> None:
        self._pause_nobody()
        was_passing, self.state = self.state == "passing", "over"
        try:
            if was_passing:
                self._client.finish()
        finally:
            self._set_done()

    def failed_upstream(self, error: UpstreamError) -> None:
        self.failed = failed_of(error)
        was_passing, self.state = self.state == "passing", "over"
        try:
            if was_passing:
                self._client.abort()
        finally:
            self._set_done()

    def _set_done(self) -> None:
        self.ended.set()
        self.done.set()

    def _pause_nobody(self) -> None:
        """The upstream's connection may serve another request from now on, and so may the client's."""
        if self._client.on_blocked is self._pause:
            self._client.on_blocked = None


async def send(
    relay: Relay, call: Call, upstream: Upstream, outbound: Outbound, sending: tuple[Upload, Passage]
) -> None:
    """Send a request and pass its response on. Raises UpstreamError, and ClientError for a body that never came."""
    upload, passage = sending
    if upload.whole is not None:
        await relay.upstreams.send(upstream, outbound._replace(body=upload.whole), passage, call.head)
        return
    if outbound.sign is not None:
        raise ClientError(413, f"a request of more than {_KEPT_BYTES} bytes, or of unknown length, cannot be signed")
    error: UpstreamError | BodyError | None = None
    async with anyio.create_task_group() as tasks:

        async def send_body() -> None:
            nonlocal error
            await passage.is_connected.wait()
            connection = cast(Connection, passage.connection)
            try:
                async for piece in upload.pieces():
                    await connection.send(piece)
                await connection.send(b"")
            except BodyError as broken:
                if not passage.done.is_set():  # else the service has answered without reading on
                    error = broken
                    tasks.cancel_scope.cancel()

        tasks.start_soon(send_body)
        try:
            await relay.upstreams.send(upstream, outbound._replace(upload=upload.framing), passage, call.head)
        except UpstreamError as failed:
            error = failed
        tasks.cancel_scope.cancel()
    if isinstance(error, BodyError):
        raise ClientError(error.status, error.message)
    if error is not None:
        raise error


def note(call: Call, passage: Passage) -> None:
    """Record what the client has got; the status of what was interrupted is the caller's."""
    if passage.began_at is not None and passage.answer is not None:
        call.record.status = passage.answer.status if passage.done.is_set() else 0
        call.record.first_byte_s = passage.began_at - call.record.started_at
        call.record.error = call.redact(passage.failed.message) if passage.failed is not None else ""
