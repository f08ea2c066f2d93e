"""One attempt's answer on its way to the client: held until its first content, then passed on as it comes.

It is the sink of an upstream connection: everything here runs in protocol callbacks, without a task switch. It knows
streams and wholes, and no wire format.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.neutral import Failed
from ccproxy_lite.log import bug
from ccproxy_lite.net.connection import Connection as Client
from ccproxy_lite.net.connection import OutHeaders
from ccproxy_lite.net.upstream import AnswerHead
from ccproxy_lite.streams import Stream, failed_of

EVENT_STREAM = "text/event-stream"


class Delivery:
    """The sink of one attempt.

    Without a client the answer is only collected. ``done`` is set when the task that waits has something to do: the
    stream is over or failed, or a whole answer (``answer`` and ``body``) is there to be judged. ``committed`` says
    that the client has seen the first byte.
    """

    def __init__(
        self,
        client: Client | None,
        stream: Stream | None,
        answer_headers: Callable[[AnswerHead], OutHeaders],
        max_body_bytes: int,
        now: Callable[[], float],
        redact: Callable[[bytes], bytes] = lambda data: data,
        breaks_off: bool = False,
    ) -> None:
        self.done = anyio.Event()
        self.ended = anyio.Event()
        self.committed = False
        self.committed_s: float | None = None
        self.failed: Failed | None = None
        self.answer: AnswerHead | None = None
        self.stream = stream
        self._client = client
        self._answer_headers = answer_headers
        self._max_body_bytes = max_body_bytes
        self._now = now
        self._redact = redact
        self._breaks_off = breaks_off
        self._streams: bool | None = None
        self._over = False
        self._pieces: list[bytes] = []
        self._bytes = 0

    @property
    def body(self) -> bytes:
        """The whole answer."""
        return b"".join(self._pieces)

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer came as server-sent events."""
        return self.answer is not None and self.answer.get("content-type").lower().startswith(EVENT_STREAM)

    @property
    def streamed(self) -> bool:
        """Whether the answer was passed on as a stream; if not, it waits in ``body``."""
        return self._streams is True

    # --- net.upstream.Sink

    def head(self, head: AnswerHead) -> None:
        self.answer = head
        if self.stream is None or not 200 <= head.status < 300:
            self._streams = False
        elif self.is_event_stream:
            self._streams = True

    def data(self, data: bytes) -> None:
        if self._streams is None:  # asked for a stream, and not told what this is: JSON and HTML show themselves
            self._streams = data.lstrip()[:1] not in (b"{", b"[", b"<")
        if not self._streams or self.stream is None:
            self._collect(data)
            return
        if self._over or self.failed:
            return
        try:
            out = self.stream.feed(data)
        except UpstreamError as error:
            self.failed_stream(failed_of(error))
            return
        self._pass_on(out, self.stream)

    def end(self) -> None:
        try:
            if self._streams and self.stream is not None and not self._over and not self.failed:
                self._pass_on(self.stream.close(), self.stream, last=True)
        except UpstreamError as error:
            self.failed_stream(failed_of(error))
        except Exception as error:
            message = f"an error inside the proxy; its log calls it {bug(error)}"
            self.failed_stream(Failed(500, "server", message))
        finally:
            self.ended.set()
            self.done.set()

    def failed_stream(self, failed: Failed) -> None:
        """The answer is broken: an attempt that failed, or the in-band error of a stream that has begun."""
        if self.failed or self._over:
            return
        self.failed = failed
        if self.committed and self.stream is not None and self._client is not None:
            self._client.write(self._redact(self.stream.fail(failed)))
            self._finish()
        self.done.set()

    def failed_upstream(self, error: UpstreamError) -> None:
        self.failed_stream(failed_of(error))
        self.ended.set()

    # ---

    def _pass_on(self, out: bytes, stream: Stream, *, last: bool = False) -> None:
        if stream.failed is not None and not self.committed:
            self.failed = stream.failed
            self.done.set()
            return
        if stream.failed is not None:
            out = self._redact(out)
        if not self.committed:
            self._collect(out)
            if self.failed:
                return
            if not stream.content:
                if last:
                    self.failed_stream(Failed(502, "server", "the upstream's stream was empty"))
                return
            self._commit()
        elif self._client is not None:
            self._client.write(out)
        if stream.failed is not None:
            self.failed = stream.failed
            self._finish()
        elif stream.over or last:
            self._finish()

    def _commit(self) -> None:
        assert self.answer is not None and self._client is not None
        self.committed, self.committed_s = True, self._now()
        self._client.begin(200, self._answer_headers(self.answer))
        self._client.write(self.body)
        self._pieces = []

    def _finish(self) -> None:
        self._over = True
        if self._client is not None and self.failed and self._breaks_off:
            self._client.abort()
        elif self._client is not None:
            self._client.finish()
        self.done.set()

    def _collect(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > self._max_body_bytes:
            self._pieces = []
            self.failed_stream(
                Failed(502, "server", f"the upstream's answer is larger than {self._max_body_bytes} bytes")
            )
            return
        self._pieces.append(data)
