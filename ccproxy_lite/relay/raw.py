"""Requests that are passed on untouched: to a service whose API is larger than the formats know, or through a mount.

Only the address, the key and the headers for this hop change. Neither body is held in memory: the client's goes out
piece by piece while it comes in (``Upload``), the service's likewise the other way (``Passage``), and each waits for
the slower side.

    head -> passing -> over          a response for the client
       `--> judged -> over           an error, which may concern the key: kept, for ``Exchange`` to decide

A request is sent again, with another key, only as long as that is possible: until the first content has reached the
client, and while all that was taken of the client's body is still at hand (``_KEPT_BYTES`` at most). Through a mount,
nothing is ever judged or sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Literal, cast
from urllib.parse import unquote

import anyio
import anyio.lowlevel

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import Mount, Upstream
from ccproxy_lite.config.secrets import is_renewable, is_sendable
from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import owner_of
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.application import Response
from ccproxy_lite.net.bodies import BodyError, IncomingBody
from ccproxy_lite.net.framing import header
from ccproxy_lite.net.heads import AnswerHead, OutHeaders
from ccproxy_lite.net.inflate import CODINGS, InflateError, Inflater
from ccproxy_lite.net.upstream import Connection
from ccproxy_lite.providers.provider import Ask, Outbound
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.exchange import Exchange
from ccproxy_lite.relay.headers import about_answer, for_upstream, merged
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.streams import failed_of
from ccproxy_lite.relay.whole import json_in
from ccproxy_lite.routing import retry_after
from ccproxy_lite.routing.failover import Attempt
from ccproxy_lite.routing.routes import Route, owner, pinned

_KEPT_BYTES = 1_048_576
_MAX_ERROR_BYTES = 1_048_576
_MAX_RESOURCE_CHARS = 100

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
        self.done, self.ended, self.is_connected = anyio.Event(), anyio.Event(), anyio.Event()
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
        elif len(self.body) <= _MAX_ERROR_BYTES:
            self.body += data

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


class RawDispatch:
    """One attempt (see ``exchange.Dispatch``)."""

    dropped: tuple[str, ...] = ()

    def __init__(self, relay: Relay, call: Call, attempt: Attempt, upload: Upload) -> None:
        self.attempt = attempt
        self.failed: Failed | None = None
        self.secret = ""
        self.began_at = relay.clock.now()
        self._relay = relay
        self._call = call
        self._upload = upload
        self._passage = Passage(call, relay.clock, True, self._headers)

    @property
    def is_final(self) -> bool:
        return not self._upload.can_restart

    @property
    def is_answered(self) -> bool:
        return self._passage.began_at is not None

    @property
    def connecting_s(self) -> float:
        return 0.0 if self._passage.connection is not None else self._relay.clock.now() - self.began_at

    async def run(self) -> None:
        relay, call, record, passage = self._relay, self._call, self._call.record, self._passage
        upstream, reference = self.attempt.route.upstream, self.attempt.key.reference
        try:
            self.secret = await relay.upstreams.secret_of(upstream, reference, call.passed_secret)
            outbound = self._outbound(upstream)
            await send(relay, call, upstream, outbound, (self._upload, passage))
        except UpstreamError as error:
            self.failed = failed_of(error)
            return
        finally:
            note(call, passage)
        self.failed = self._judgement() or passage.failed
        if self.failed is not None:
            self.failed = replace(self.failed, message=call.redact(self.failed.message))
            record.error = self.failed.message if self.is_answered else ""

    def _outbound(self, upstream: Upstream) -> Outbound:
        call = self._call
        form = self._relay.upstreams.format_of(upstream, call.form.name)
        headers = merged(form.fixed_headers, for_upstream(call.head, raw=True))
        ask = Ask(
            query=call.head.query,
            headers=tuple(headers),
            method=call.head.method,
            raw_path=call.raw_path,
            auth=call.auth_at(form) if upstream.from_client else "",
        )
        return upstream.provider.raw(upstream, form, ask, self.secret)._replace(raw=True)

    def _headers(self, answer: AnswerHead) -> OutHeaders:
        upstream = self.attempt.route.upstream
        return merged(self._call.headers_for_client(answer, upstream, raw=True), about_answer(self.attempt.route, ()))

    def _judgement(self) -> Failed | None:
        """What an error response says about the key and the upstream."""
        answer, upstream = self._passage.answer, self.attempt.route.upstream
        if answer is None or answer.status < 400:
            return None
        form = self._relay.upstreams.format_of(upstream, self._call.form.name)
        body = _plain(bytes(self._passage.body), answer.get("content-encoding"))
        value = json_in(body)
        failed = form.read_error(answer.status, body[:200].decode("utf-8", "replace") if value is None else value)
        hint_s = retry_after.best(failed, answer.headers, self._relay.clock.wall())
        # What a key may not do with one part of the API says nothing about the others.
        return replace(failed, retry_after_s=hint_s, code="part" if failed.kind == "permission" else failed.code)

    def error_as_it_came(self, retry_after_s: float | None) -> Response | None:
        answer, body = self._passage.answer, bytes(self._passage.body)
        if answer is None or self.is_answered or self._passage.failed is not None or len(body) > _MAX_ERROR_BYTES:
            return None
        headers = self._headers(answer)
        plain = _plain(body, answer.get("content-encoding"))
        if plain != body:  # a secret can only be found in what can be read
            body, headers = plain, [(name, value) for name, value in headers if name != "content-encoding"]
        # The hint may have been replaced by a shorter one of another key.
        return Response(answer.status, [(name, value) for name, value in headers if name != "retry-after-ms"], body)


def note(call: Call, passage: Passage) -> None:
    """Record what the client has got; the status of what was interrupted is the caller's."""
    if passage.began_at is not None and passage.answer is not None:
        call.record.status = passage.answer.status if passage.done.is_set() else 0
        call.record.first_byte_s = passage.began_at - call.record.started_at
        call.record.error = call.redact(passage.failed.message) if passage.failed is not None else ""


def _plain(body: bytes, coding: str) -> bytes:
    """A body without its content coding, as far as that can be undone."""
    try:
        return Inflater(coding).feed(body) if coding in CODINGS else body
    except InflateError:
        return b""


def _upstream_of(relay: Relay, call: Call) -> Upstream:
    """The upstream to whose API a path belongs: the pinned one, or its vendor's first. Raises ClientError (404)."""
    form, only = owner_of(unquote(call.raw_path), call.head.query, call.head.get)
    if call.pinned_upstream:
        return pinned(relay.config, call.pinned_upstream, form)
    upstream = owner(relay.config, form, only)
    if upstream is None:
        names = ", ".join(f"{one.name} ({one.format})" for one in relay.config.upstreams)
        asked = f"{call.head.method} {call.head.path}"
        raise ClientError(404, f"no upstream for {asked}: none speaks {form}; known: {names}")
    return upstream


async def relay_untouched(relay: Relay, call: Call) -> None:
    """Respond to a call with what an upstream answers at the same path of its API. Raises ClientError."""
    upstream = _upstream_of(relay, call)
    # A limit of one part of an API (files, embeddings) says nothing about the others: it takes the place of a model.
    route = Route(upstream, "/".join(call.raw_path.strip("/").split("/")[:2])[:_MAX_RESOURCE_CHARS])
    upload = Upload(cast(IncomingBody, call.incoming))
    call.record.model, call.record.session = route.model, call.session
    call.client.cancel_on_eof()
    await upload.take_small()
    await Exchange(relay, call, [route], lambda attempt: RawDispatch(relay, call, attempt, upload), None).run()


async def through_mount(relay: Relay, call: Call, mount: Mount) -> None:
    """Respond to a call with what the service behind a mount answers. Raises ClientError."""
    if not call.client.is_local and mount.loopback_only:
        raise ClientError(403, f"{mount.path} is for clients on this machine only")
    if call.head.method == "OPTIONS" and call.head.get("access-control-request-method"):
        raise ClientError(403, f"{mount.path} is not for browsers")
    call.record.route = f"mount:{mount.path}"
    service, secret = mount.service, await _first_secret(relay, mount)
    headers = tuple(for_upstream(call.head, raw=True, with_cookies=True))
    ask = Ask(query=call.head.query, headers=headers, method=call.head.method, raw_path=call.raw_path, auth=mount.auth)
    outbound = service.provider.raw(service, call.form, ask, secret)._replace(raw=True)
    named: OutHeaders = [("x-ccproxy-upstream", mount.path)]
    passage = Passage(
        call,
        relay.clock,
        False,
        lambda answer: merged(call.headers_for_client(answer, service, raw=True, with_cookies=True), named),
    )
    upload = Upload(cast(IncomingBody, call.incoming))
    call.client.cancel_on_eof()
    await upload.take_small()
    try:
        await send(relay, call, service, outbound, (upload, passage))
    except UpstreamError as error:
        passage.failed = failed_of(error)
    finally:
        note(call, passage)
    if passage.answer is not None and passage.answer.status == 401:
        await _look_for_new_secret(relay, mount, secret)
    if passage.began_at is None:
        failed = passage.failed or Failed(502, "server", "no response")
        raise ClientError(failed.status, call.redact(failed.message), kind=failed.kind)


async def _look_for_new_secret(relay: Relay, mount: Mount, rejected: str) -> None:
    """For the next request: the file or helper may have a new key by now."""
    for key in mount.service.keys:
        if is_renewable(key.reference) and relay.vault.peek(key.reference) == rejected:
            with suppress(UpstreamError):
                await relay.vault.value(key.reference, relay.clock.now(), rejected=rejected)


async def _first_secret(relay: Relay, mount: Mount) -> str:
    """The first of a mount's keys that is set; empty for a mount without keys. Raises ClientError (503)."""
    for key in mount.service.keys:
        with suppress(UpstreamError):
            secret = await relay.vault.value(key.reference, relay.clock.now())
            if secret and is_sendable(secret):
                return secret
    if mount.service.keys:
        labels = ", ".join(key.label for key in mount.service.keys)
        raise ClientError(503, f"mount {mount.path} is not configured: none of its keys is set ({labels})")
    return ""
