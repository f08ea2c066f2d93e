"""One attempt's response on its way to the client: held until its first content, then passed on as it arrives.

A ``Delivery`` is the sink of one upstream connection: everything here runs in protocol callbacks, without a task
switch. It knows no wire format. It is held back because an error before the first content can still be answered by
another key or upstream, without the client noticing; afterwards it cannot. Its states, and what leads from one to the
next:

    head -> undecided -> collecting            not a stream, an error, or a body that turns out not to be a stream
       `-------+------> holding -> passing -> over
    any of them -> over                        the response is incomplete or invalid: ``failed`` says why

``head``
    nothing has come yet
``undecided``
    a stream was requested: the first bytes will show whether this is one, for content types are often wrong
``collecting``
    the response is kept until it is complete: when ``done`` is set, ``body`` has all of it, for the attempt to judge
``holding``
    a stream without content yet: nothing has reached the client, another upstream could still answer
``passing``
    content has reached the client; from here on a failure can only be reported inside the stream
``over``
    the stream is complete, or the response, of whatever kind, has failed; what still arrives is ignored

``done`` is set when the waiting task has something to do, ``ended`` when the HTTP body is complete: the connection can
be used again only if it gets that far.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from ccproxy_lite.clock import Clock
from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.formats.sse import LINE_BEGINS
from ccproxy_lite.log import internal_error
from ccproxy_lite.net.heads import AnswerHead
from ccproxy_lite.net.upstream import Connection
from ccproxy_lite.providers.provider import SERVER_SENT_EVENTS, Framing
from ccproxy_lite.relay.reply import Reply
from ccproxy_lite.relay.streams import Stream, failed_of

_MAX_ERROR_BYTES = 1_048_576

_BODY_BEGINS = (b"{", b"[", b"<", b'"')
"""JSON and HTML; an event begins with a letter or a colon."""
_BLANKS = b" \t\r\n\xef\xbb\xbf"
"""White space, of which some services send a lot to keep a connection alive, and a byte order mark."""
_MAX_SNIFFED_BYTES = 64

State = Literal["head", "undecided", "collecting", "holding", "passing", "over"]


class Delivery:
    """The sink of one attempt; without a reply and a stream, the response is only collected.

    :ivar committed_at: when the first content reached the client; None if none did
    :ivar failed: why the response is of no use
    :ivar surplus: whether something has come behind its end
    """

    def __init__(
        self, reply: Reply | None, stream: Stream | None, max_body_bytes: int, framing: Framing, clock: Clock
    ) -> None:
        self.state: State = "head"
        self.done = asyncio.Event()  # anyio's costs a turn of the loop where it is set already
        self.ended = asyncio.Event()
        self.committed_at: float | None = None
        self.failed: Failed | None = None
        self.surplus = False
        self.answer: AnswerHead | None = None
        self.stream = stream
        self._reply = reply
        self._framing = framing
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._connection: Connection | None = None
        self._pieces: list[bytes] = []
        self._bytes = 0

    @property
    def body(self) -> bytes:
        """The body as far as it was collected."""
        return b"".join(self._pieces)

    @property
    def is_event_stream(self) -> bool:
        """Whether what was collected is a stream of events: the first bytes say so, else the content type."""
        kind = self.answer.get("content-type").lower() if self.answer is not None else ""
        named = kind.startswith(self._framing.content_type)
        if self._framing is not SERVER_SENT_EVENTS:  # a length that begins like JSON would be an impossible one
            return named and self.body.lstrip(_BLANKS)[:1] not in _BODY_BEGINS
        start = self.body.lstrip(_BLANKS)[:_MAX_SNIFFED_BYTES]
        return start.startswith(LINE_BEGINS) or (named and start[:1] not in _BODY_BEGINS)

    @property
    def is_connected(self) -> bool:
        """Whether the request has a connection."""
        return self._connection is not None

    @property
    def committed(self) -> bool:
        """Whether the client has seen content."""
        return self.committed_at is not None

    @property
    def is_early(self) -> bool:
        """Whether the last event has come, but perhaps not the end of the HTTP body."""
        return self.state == "over" and self.failed is None

    def release(self) -> None:
        """The attempt is over: close the connection, unless its response was complete."""
        if self._reply is not None:
            self._reply.pause_nobody()
        if self._connection is not None:
            self._connection.drop(self)

    # --- net.upstream.Sink

    def connected(self, connection: Connection) -> None:
        self._connection = connection
        if self._reply is not None:
            self._reply.pause_upstream_with(connection.pause)

    def head(self, head: AnswerHead) -> None:
        self.answer = head
        if self.stream is None or not 200 <= head.status < 300:
            self.state = "collecting"
            # An error needs no more room; a large body would only cost memory.
            if head.status >= 400:
                self._max_body_bytes = min(self._max_body_bytes, _MAX_ERROR_BYTES)
        else:
            self.state = "undecided"

    def data(self, data: bytes) -> None:
        if self.state == "passing" or self.state == "holding":
            self._feed_stream(data)
        elif self.state == "collecting":
            self._collect_piece(data)
        elif self.state == "over":
            self.surplus = True
        elif self.state == "undecided" and (start := data.lstrip(_BLANKS)[:1]):
            self.state = "collecting" if start in _BODY_BEGINS else "holding"
            Delivery.data(self, data)

    def end(self) -> None:
        try:
            if self.state == "undecided":  # and empty
                self.state = "collecting"
            elif self.stream is not None and self.state in ("holding", "passing"):
                self._pass_to_client(self.stream.close(), self.stream, last=True)
        except UpstreamError as error:
            self.fail(failed_of(error))
        except Exception as error:
            self.fail(Failed(500, "server", internal_error(error)))
        finally:
            self.ended.set()
            self.done.set()

    def fail(self, failed: Failed) -> None:
        """The response has failed: before its content the attempt has, afterwards the client gets an in-band error."""
        if self.state == "over":
            return
        error = self.stream.fail(failed) if self.committed and self.stream is not None else None
        self._finish_delivery(failed, error)

    def failed_upstream(self, error: UpstreamError) -> None:
        self.fail(failed_of(error))
        self.ended.set()

    # ---

    def _feed_stream(self, data: bytes) -> None:
        assert self.stream is not None
        try:
            out = self.stream.feed(data)
        except UpstreamError as error:
            self.fail(failed_of(error))
            return
        self._pass_to_client(out, self.stream)

    def _pass_to_client(self, out: bytes, stream: Stream, *, last: bool = False) -> None:
        progress = stream.progress
        if progress.failed is not None:
            self._finish_delivery(progress.failed, out)
            return
        if self.state != "passing":
            self._collect_piece(out)
            if self.failed:
                return
            if not progress.content:
                if last:
                    self.fail(Failed(502, "server", "the upstream's stream was empty"))
                return
            out = self._commit_to_client()
        if progress.over or progress.paused or last:
            self._finish_delivery(written=out)
        elif out and self._reply is not None:
            self._reply.write(out)

    def _commit_to_client(self) -> bytes:
        """The head goes to the client; returns the events that were held back until now."""
        assert self.answer is not None and self._reply is not None and self.stream is not None
        self.state, self.committed_at = "passing", self._clock.now()
        self._reply.begin(self.answer, () if self._reply.begun else self.stream.take_dropped())
        held, self._pieces = self.body, []
        return held

    def _finish_delivery(self, failed: Failed | None = None, written: bytes | None = None) -> None:
        """The stream is over; ``written`` are its last events, or, if it has failed after its first content, its
        error."""
        self.state, self.failed = "over", failed
        if self._reply is not None and self.committed:
            if failed is not None:
                self._reply.fail(failed, written)
            elif self.stream is not None and self.stream.progress.paused:
                self._reply.write(written or b"")
            else:
                self._reply.finish(written or b"")
        self.done.set()

    def _collect_piece(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > self._max_body_bytes:
            self._pieces = []
            message = f"the upstream's response is larger than {self._max_body_bytes} bytes"
            self.fail(Failed(502, "server", message))
            return
        self._pieces.append(data)
