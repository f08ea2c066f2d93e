"""The raw relay: requests for paths that no format knows, passed on untouched to the upstream whose API they belong to.

Only the address, the key and the headers for this hop change. A request is sent again, with another key, only as long
as that is possible: until the response has begun for the client, and while all that was taken of the client's body is
still at hand (see ``passage.Upload``). What limits a key for one part of an API (files, embeddings) says nothing about
the others, so a part takes the place that a model has elsewhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast
from urllib.parse import unquote

from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import PARTIAL, ClientError, UpstreamError
from ccproxy_lite.formats import VERSIONS, failures, owner_of
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.application import Response
from ccproxy_lite.net.bodies import IncomingBody
from ccproxy_lite.net.heads import AnswerHead, OutHeaders
from ccproxy_lite.net.inflate import CODINGS, InflateError, Inflater
from ccproxy_lite.providers.provider import Ask, Outbound
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.exchange import Exchange
from ccproxy_lite.relay.headers import RAW, about_answer, for_upstream, merged
from ccproxy_lite.relay.passage import Passage, Upload, note, send
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.streams import failed_of
from ccproxy_lite.relay.upstreams import wire_format
from ccproxy_lite.relay.whole import json_in
from ccproxy_lite.routing import retry_after
from ccproxy_lite.routing.failover import Attempt
from ccproxy_lite.routing.routes import Route, owner, pinned

_MAX_PART_CHARS = 100


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
        form = wire_format(upstream, call.form.name)
        headers = merged(form.fixed_headers, for_upstream(call.head, RAW))
        ask = Ask(
            query=call.head.query,
            headers=tuple(headers),
            method=call.head.method,
            raw_path=call.raw_path,
            auth=call.auth_at(upstream, form),
        )
        return upstream.provider.raw(upstream, form, ask, self.secret)._replace(raw=True)

    def _headers(self, answer: AnswerHead) -> OutHeaders:
        upstream = self.attempt.route.upstream
        return merged(self._call.headers_for_client(answer, upstream, RAW), about_answer(self.attempt.route, ()))

    def _judgement(self) -> Failed | None:
        """What an error response says about the key and the upstream."""
        answer, upstream = self._passage.answer, self.attempt.route.upstream
        if answer is None or answer.status < 400:
            return None
        body = _plain(bytes(self._passage.body), answer.get("content-encoding"))
        value = json_in(body)
        said = body[:200].decode("utf-8", "replace") if value is None else value
        failed = failures.read_error(answer.status, upstream.provider.error_body(answer.get, said))
        hint_s = retry_after.best(failed, answer.headers, self._relay.clock.wall())
        # What a key may not do with one part of the API says nothing about the others.
        return replace(failed, retry_after_s=hint_s, code=PARTIAL if failed.kind == "permission" else failed.code)

    def misses_model(self, failed: Failed) -> bool:
        return False

    def explained(self, failed: Failed) -> Failed:
        return failed

    def drop_refused_field(self) -> bool:
        return False

    def error_as_it_came(self, retry_after_s: float | None) -> Response | None:
        answer, body = self._passage.answer, bytes(self._passage.body)
        if answer is None or self.is_answered or self._passage.failed is not None:
            return None
        headers = self._headers(answer)
        plain = _plain(body, answer.get("content-encoding"))
        if plain != body:  # a secret can only be found in what can be read
            body, headers = plain, [(name, value) for name, value in headers if name != "content-encoding"]
        return Response(answer.status, headers, body)


def _plain(body: bytes, coding: str) -> bytes:
    """A body without its content coding, as far as that can be undone."""
    try:
        return Inflater(coding).feed(body) if coding in CODINGS else body
    except InflateError:
        return b""


def _part(raw_path: str) -> str:
    """The part of an API to which a path belongs.

    >>> _part("/v1/files/f1/content"), _part("/files"), _part("/upload/v1beta/files")
    ('v1/files', 'v1/files', 'v1beta/files')
    """
    segments = raw_path.strip("/").removeprefix("upload/").split("/")
    segments = segments if segments[0] in VERSIONS else [VERSIONS[0], *segments]
    return "/".join(segments[:2])[:_MAX_PART_CHARS]


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
    route = Route(upstream, _part(call.raw_path))
    upload = Upload(cast(IncomingBody, call.incoming))
    call.record.model, call.record.session = route.model, call.session
    call.client.cancel_on_eof()
    await upload.take_small()

    async def dispatch(attempt: Attempt) -> RawDispatch:
        return RawDispatch(relay, call, attempt, upload)

    await Exchange(relay, call, [route], dispatch, None).run()
