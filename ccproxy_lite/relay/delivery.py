"""One attempt's answer on its way to the client: held until its first content, then passed on as it comes.

A ``Delivery`` is the sink of one upstream connection: everything there runs in protocol callbacks, without a task
switch. The ``Outlet`` is the client's end, which outlives attempts that fail. Neither knows a wire format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import Format
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.log import bug
from ccproxy_lite.net.connection import Connection as Client
from ccproxy_lite.net.connection import OutHeaders
from ccproxy_lite.net.upstream import AnswerHead
from ccproxy_lite.net.watchdog import NEVER, Watchdog
from ccproxy_lite.relay.streams import Stream, failed_of

EVENT_STREAM = "text/event-stream"
_MOST_ERROR_BYTES = 1_048_576


class Outlet:
    """The client's end of one streamed answer, whoever makes it: one head, bytes, and keep-alives when nothing comes.

    Until the first content the head is held back, so that an early failure is a real HTTP status; but not longer than
    ``interval_s``: then the head goes out with a first keep-alive, and another upstream may still answer.

    :ivar begun: the head is out

    :param early: the head's headers while nobody knows who will answer
    :param failing: the in-band error for a failure, where no stream is there to write it
    """

    def __init__(
        self,
        client: Client,
        form: Format,
        watchdog: Watchdog,
        interval_s: float,
        early: Callable[[], OutHeaders],
        failing: Callable[[Failed], bytes],
        redact: Callable[[bytes], bytes],
    ) -> None:
        self._client = client
        self._form = form
        self._watchdog = watchdog
        self._interval_s = interval_s or NEVER
        self._early = early
        self._failing = failing
        self._redact = redact
        self._now = asyncio.get_running_loop().time
        self.begun = self._over = False
        self.deadline = self._now() + self._interval_s
        watchdog.watch(self)

    def begin(self, headers: OutHeaders) -> None:
        """Begin the answer, unless a keep-alive has done so."""
        if not self.begun:
            self.begun = True
            self._client.begin(200, headers)

    def write(self, data: bytes) -> None:
        self._client.write(data)
        self.deadline = self._now() + self._interval_s

    def expire(self) -> None:
        """Nothing was written for a while."""
        self.deadline = self._now() + self._interval_s
        if not self._client.blocked:
            self.begin(self._early())
            self._client.write(self._form.keep_alive)

    def fail(self, failed: Failed, written: bytes | None = None) -> None:
        """End the answer with an in-band error: what a stream has ``written``, or one that stands alone."""
        if self._over:  # the connection may have gone on to the next request
            return
        self._client.write(self._redact(self._failing(failed) if written is None else written))
        self.finish(broken=True)

    def finish(self, *, broken: bool = False) -> None:
        self._over = True
        self.close()
        if broken and self._form.breaks_off:
            self._client.abort()
        else:
            self._client.finish()

    def close(self) -> None:
        """No more keep-alives."""
        self.deadline = NEVER
        self._watchdog.forget(self)


class Delivery:
    """The sink of one attempt.

    Without an outlet the answer is only collected. ``done`` is set when the task that waits has something to do: the
    stream is over or failed, or a whole answer (``answer`` and ``body``) is there to be judged. ``committed`` says
    that the client has seen content.
    """

    def __init__(
        self,
        outlet: Outlet | None,
        stream: Stream | None,
        answer_headers: Callable[[AnswerHead], OutHeaders],
        max_body_bytes: int,
        now: Callable[[], float],
    ) -> None:
        self.done = anyio.Event()
        self.ended = anyio.Event()
        self.committed = False
        self.committed_s: float | None = None
        self.failed: Failed | None = None
        self.answer: AnswerHead | None = None
        self.stream = stream
        self._outlet = outlet
        self._answer_headers = answer_headers
        self._max_body_bytes = max_body_bytes
        self._now = now
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
            if head.status >= 400:
                self._max_body_bytes = min(self._max_body_bytes, _MOST_ERROR_BYTES)
        elif self.is_event_stream:
            self._streams = True

    def data(self, data: bytes) -> None:
        if self._streams is None:  # asked for a stream, and not told what this is: JSON and HTML show themselves
            if not data.strip():
                return
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
        if self.committed and self.stream is not None:
            self._finish(self.stream.fail(failed))
        self.done.set()

    def failed_upstream(self, error: UpstreamError) -> None:
        self.failed_stream(failed_of(error))
        self.ended.set()

    # ---

    def _pass_on(self, out: bytes, stream: Stream, *, last: bool = False) -> None:
        if stream.failed is not None:
            self.failed = stream.failed
            if self.committed:
                self._finish(out)
            self.done.set()
            return
        if not self.committed:
            self._collect(out)
            if self.failed:
                return
            if not stream.content:
                if last:
                    self.failed_stream(Failed(502, "server", "the upstream's stream was empty"))
                return
            self._commit()
        elif self._outlet is not None and out:
            self._outlet.write(out)
        if stream.over or last:
            self._finish()

    def _commit(self) -> None:
        assert self.answer is not None and self._outlet is not None
        self.committed, self.committed_s = True, self._now()
        self._outlet.begin(self._answer_headers(self.answer))
        self._outlet.write(self.body)
        self._pieces = []

    def _finish(self, error: bytes | None = None) -> None:
        self._over = True
        if self._outlet is not None and self.failed:
            self._outlet.fail(self.failed, error)
        elif self._outlet is not None:
            self._outlet.finish()
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
