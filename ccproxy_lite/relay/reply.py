"""The client's end of one streamed response, which outlives attempts that fail: one head, bytes, keep-alives.

Until the first content the head is held back, so that an early failure is a real HTTP status; but not longer than
``keepalive_s``: then the head is sent with a first keep-alive, because clients give up on a silent connection. Another
upstream may still respond behind it, but a failure can from then on only be reported inside the stream.

    held back -> begun (``begun``) -> finished or failed (``_over``)

``expect`` says, before each attempt, which headers its response would bring; ``begin`` sends the head, ``write`` the
events. The watchdog calls ``expire`` after every interval without a write.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.format import Progress
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.heads import AnswerHead, OutHeaders
from ccproxy_lite.net.watchdog import NEVER, Watchdog
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.headers import JSON_HEADERS, SSE_HEADERS, about_answer, merged
from ccproxy_lite.relay.streams import ArrayFraming
from ccproxy_lite.routing.routes import Route


class Reply:
    """The client's end of the streamed response to a call.

    :param only: the route, if there is only one: it can be named in a head that is sent before it has responded
    :ivar begun: the head was sent
    """

    def __init__(self, call: Call, watchdog: Watchdog, keepalive_s: float, only: Route | None) -> None:
        self._call = call
        self._client = call.client
        self._watchdog = watchdog
        self._interval_s = keepalive_s or NEVER
        self._only = only
        self._early: OutHeaders = about_answer(only, ()) if only is not None else []
        self._route = only
        self._dropped: tuple[str, ...] = ()
        self._is_relayed = False
        self._array = ArrayFraming() if call.path_info.array else None
        self._pause: Callable[[bool], None] | None = None
        self._now = time.monotonic
        self.begun = self._over = False
        self.deadline = self._now() + self._interval_s
        watchdog.watch(self)

    def expect(self, route: Route, dropped: tuple[str, ...], *, is_relayed: bool) -> None:
        """The next attempt: its route, what its request has lost, and whether the upstream's headers are passed on."""
        self._route, self._dropped, self._is_relayed = route, dropped, is_relayed
        if self._only is not None:
            self._early = about_answer(route, dropped)

    # --- the response

    def begin(self, answer: AnswerHead, lost: tuple[str, ...] = ()) -> None:
        """A stream begins, whose upstream's head this is; ``lost`` is what the response has lost already."""
        headers = SSE_HEADERS
        if self._is_relayed and self._route is not None:
            headers = self._call.headers_for_client(answer, self._route.upstream)
        is_labelled = answer.get("content-type").lower().startswith("text/event-stream")
        kind = JSON_HEADERS if self._array else [] if is_labelled else SSE_HEADERS
        self._send_head_once(merged(headers, kind, self._headers(lost)))

    def write(self, events: bytes) -> None:
        """More of the response, as server-sent events."""
        self._client.write(events if self._array is None else self._array.feed(events))
        self.deadline = self._now() + self._interval_s

    def write_whole(self, events: bytes, lost: tuple[str, ...]) -> None:
        """A response that came in one piece, written as a stream."""
        self._send_head_once(merged(self._content_type, self._headers(lost)))
        self.finish(events)

    def fail(self, failed: Failed, written: bytes | None = None) -> None:
        """End the response with an in-band error: the one that a stream has ``written``, or one that stands alone."""
        if self._over:  # the client's connection may serve its next request by now
            return
        self._over = True
        self.close()
        error = self._call.redact_bytes(self._lone_error(failed) if written is None else written)
        error = error if self._array is None else self._array.feed(error)
        if self._call.form.breaks_off:
            self._client.write(error)
            self._client.abort()
        else:
            self._client.finish(error)

    def finish(self, events: bytes = b"") -> None:
        """The last events, in one packet with the end of the response."""
        self._over = True
        self.close()
        self._client.finish(events if self._array is None else self._array.feed(events) + self._array.close())

    def close(self) -> None:
        """No more keep-alives."""
        self.deadline = NEVER
        self._watchdog.forget(self)

    # --- the watchdog

    def expire(self) -> None:
        """Nothing was written for a while."""
        self.deadline = self._now() + self._interval_s
        if not self._client.blocked:
            self._send_head_once(merged(self._content_type, self._early))
            self._client.write(self._call.form.keep_alive)

    # --- back pressure: a client that reads slower than the upstream sends

    def pause_upstream_with(self, pause: Callable[[bool], None]) -> None:
        """Call ``pause`` with True when the client does not keep up, and with False when it does again."""
        self._client.on_blocked = self._pause = pause

    def pause_nobody(self) -> None:
        """That upstream's response is over; its connection may serve another request. A later attempt's stays set."""
        if self._client.on_blocked is self._pause:
            self._client.on_blocked = None
        self._pause = None

    # ---

    def _headers(self, lost: tuple[str, ...]) -> OutHeaders:
        return about_answer(self._route, self._dropped + lost) if self._route is not None else []

    @property
    def _content_type(self) -> OutHeaders:
        return JSON_HEADERS if self._array else SSE_HEADERS

    def _send_head_once(self, headers: OutHeaders) -> None:
        """Send the head, unless a keep-alive has done so."""
        if not self.begun:
            self.begun = True
            self._client.begin(200, headers)

    def _lone_error(self, failed: Failed) -> bytes:
        """The in-band error of a response that has nothing but keep-alives before it."""
        form = self._call.form
        try:
            return form.writer(self._call.reply).write(failed)
        except ClientError:  # the request itself cannot be read, so it cannot shape the error
            return form.write_failure(failed, Progress())
