"""The way of one request through the house: read, route, pick a key, write, send, and bring the answer back.

It joins ``exchange`` (which target and key), the formats (wire) and ``net`` (bytes). When both sides
speak one format the body is not written anew: only the value of ``model`` is exchanged in the client's own bytes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from random import random
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import anyio

from ccproxy_lite import headers as hd
from ccproxy_lite.accesslog import Record
from ccproxy_lite.config import Config, Upstream
from ccproxy_lite.delivery import EVENT_STREAM, Delivery
from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.exchange import Attempt, Exchange, GiveUp, Wait
from ccproxy_lite.formats import FORMATS, Format
from ccproxy_lite.formats.names import Restorer
from ccproxy_lite.formats.neutral import End, Event, Failed, Outgoing, PathInfo, Reply, Request, Target, Usage
from ccproxy_lite.formats.tokens import estimate
from ccproxy_lite.jsontext import Member, decode, dumps, loads, members
from ccproxy_lite.keys import KeyRing
from ccproxy_lite.net.connection import Connection as Client
from ccproxy_lite.net.connection import OutHeaders, Response
from ccproxy_lite.net.heads import RequestHead
from ccproxy_lite.net.upstream import AnswerHead, Connection, Origin, Outbound, Pool, Timeouts
from ccproxy_lite.routing import Route, resolve
from ccproxy_lite.secrets import Vault
from ccproxy_lite.sse import Event as SseEvent
from ccproxy_lite.sse import Parser
from ccproxy_lite.streams import AsArray, Converted, Relayed, Stream, as_array, failed_of

_GRACE_S = 0.25
_COUNT_S = 10.0
_JSON: OutHeaders = [("content-type", "application/json")]
_SSE: OutHeaders = [("content-type", f"{EVENT_STREAM}; charset=utf-8"), ("cache-control", "no-cache")]
_TAG = re.compile(r"<(script|style).*?</\1>|<[^>]*>|\s+", re.DOTALL | re.IGNORECASE)


@dataclass
class Call:
    """What one client asks: its format, its bytes, and what the path and the headers say."""

    form: Format
    head: RequestHead
    raw: bytes
    pinned: str = ""
    client_key: str = ""
    id: str = ""
    created: int = 0
    strict: bool = False
    path: PathInfo = field(default_factory=PathInfo)

    @cached_property
    def text(self) -> str:
        try:
            return decode(self.raw)
        except ValueError as error:
            raise ClientError(400, f"the body is not JSON: {error}") from None

    @cached_property
    def members(self) -> list[Member]:
        try:
            return members(self.text)
        except ValueError as error:
            known = "must be" in str(error) and self.text.strip()
            raise ClientError(400, str(error) if known else f"the body is not JSON: {error}") from None

    @cached_property
    def body(self) -> dict[str, Any]:
        return {member.key: member.value for member in self.members}

    @cached_property
    def model(self) -> str:
        model = self.path.model or self.body.get("model")
        if not isinstance(model, str) or not model.strip():
            raise ClientError(400, "model: a string is required", param="model")
        if not model.isprintable():
            raise ClientError(400, "model: control characters are not allowed", param="model")
        return model

    @cached_property
    def wants_stream(self) -> bool:
        return self.body.get("stream") is True if self.path.streams is None else self.path.streams

    @cached_property
    def request(self) -> Request:
        return self.form.read_request(self.body, self.path)

    @cached_property
    def reply(self) -> Reply:
        """What writers need; where nothing is converted, the request is not even read."""
        return Reply(self.request, self.id, self.created)

    @cached_property
    def cleaned(self) -> dict[str, Any] | None:
        """The body without what this format's services would refuse; None if all is well."""
        return self.form.without_foreign(self.body)

    def with_model(self, model: str) -> bytes:
        """The client's bytes, with another model name and without thoughts that only other providers understand."""
        if self.cleaned is not None:
            return dumps(self.cleaned if self.path.model else {**self.cleaned, "model": model}).encode()
        places = [member for member in self.members if member.key == "model" and not self.path.model]
        if not places or places[-1].value == model:
            return self.raw.removeprefix(b"\xef\xbb\xbf")
        last = places[-1]
        return (self.text[: last.start] + dumps(model) + self.text[last.end :]).encode()


class Relay:
    """Serves calls with the upstreams of one configuration."""

    def __init__(self, config: Config, pool: Pool, vault: Vault, echo_url: Callable[[], str]) -> None:
        self.config = config
        self.pool = pool
        self.vault = vault
        self.rings: Mapping[str, KeyRing] = {
            upstream.name: KeyRing(upstream.keys, config.strategy) for upstream in config.upstreams
        }
        self._echo_url = echo_url
        t = config.timeouts
        self._timeouts = Timeouts(t.connect_s, t.first_byte_s, t.idle_s)

    async def answer(self, call: Call, client: Client, record: Record) -> None:
        """Answer a call that asks for a message. Raises ClientError for what no upstream is asked."""
        record.model = call.model
        routes = resolve(self.config, call.model, call.form.name, call.pinned)
        exchange = Exchange(routes, self.rings, self.config.retries, self.config.max_wait_s, random())
        last: tuple[Failed, Delivery] | None = None
        client.cancel_on_eof()
        while True:
            step = exchange.next(time.monotonic())
            if isinstance(step, Wait):
                await anyio.sleep(step.seconds)
            elif isinstance(step, GiveUp):
                own = last[1] if last is not None and last[0] is step.failed else None
                self._give_up(call, client, step, record, own)
                return
            else:
                record.route, record.key = str(step.route), step.key.label if step.key else ""
                delivery, failed = await self._attempt(call, client, step, record)
                exchange.report(step, failed, time.monotonic())
                record.attempts = [f"{a.route.upstream.name}: {what}" for a, what in exchange.attempts]
                if failed is None or (delivery is not None and delivery.committed):
                    return
                last = (failed, delivery) if delivery is not None else None
                if failed.kind == "auth" and step.key is not None:
                    self.vault.forget(step.key.secret)

    # --- one attempt

    async def _attempt(
        self, call: Call, client: Client, attempt: Attempt, record: Record
    ) -> tuple[Delivery | None, Failed | None]:
        """Try one target; the failure that another one might mend, or None if the client has its answer."""
        upstream = attempt.route.upstream
        form = self.form_of(upstream, call.form)
        same = form is call.form
        outgoing = None if same else form.write_request(call.request, self._target(call, attempt.route))
        record.dropped = outgoing.dropped if outgoing else ()
        headers = _own_headers(attempt.route, record.dropped)
        stream = self._stream(call, form, outgoing) if call.wants_stream else None

        def answer_headers(head: AnswerHead) -> OutHeaders:
            kind = _JSON if call.path.array else []
            return hd.merged(self._downward(head) if same else _SSE, kind, headers)

        limit = self.config.limits.max_event_bytes
        delivery = Delivery(
            client, stream, answer_headers, limit, time.monotonic, self.vault.redact_bytes, call.form.breaks_off
        )
        try:
            outbound = await self._outbound(call, attempt, form, outgoing)
            await self.send(client, upstream, outbound, delivery)
        except UpstreamError as error:
            return None, failed_of(error)
        except anyio.get_cancelled_exc_class():
            if client.cut:
                delivery.failed_stream(Failed(503, "overloaded", "the proxy is shutting down"))
            raise
        if delivery.committed_s is not None:
            record.first_byte_s = delivery.committed_s - record.started_s
        if delivery.streamed or delivery.failed:
            if delivery.committed:
                record.status = 200
                record.usage = stream.usage if stream else None
                record.error = delivery.failed.message if delivery.failed else ""
            return delivery, delivery.failed
        return delivery, self._whole(call, client, form, outgoing, delivery, headers, record)

    def form_of(self, upstream: Upstream, client_form: Format) -> Format:
        """The format that an upstream is spoken to in; the echo speaks everybody's."""
        return client_form if upstream.format == "echo" else FORMATS[upstream.format]

    def _target(self, call: Call, route: Route) -> Target:
        return Target(
            route.model,
            route.upstream.quirks,
            self.config.default_max_tokens,
            self.config.thinking_budgets,
            call.strict or self.config.strict,
        )

    def _stream(self, call: Call, form: Format, outgoing: Outgoing | None) -> Stream:
        limit = self.config.limits.max_event_bytes
        stream: Stream
        if outgoing is None:
            stream = Relayed(form, limit)
        else:
            stream = Converted(form, call.form, call.reply, Restorer(outgoing.names, outgoing.custom), limit)
        return AsArray(stream, limit) if call.path.array else stream

    async def _outbound(self, call: Call, attempt: Attempt, form: Format, outgoing: Outgoing | None) -> Outbound:
        upstream = attempt.route.upstream
        if outgoing is None:
            body = call.with_model(attempt.route.model)
            own = hd.merged(form.fixed_headers, [("content-type", "application/json")], hd.upward(call.head))
            path = _with_query(form.write_path(attempt.route.model, call.path), call.head.query)
        else:
            body = dumps(outgoing.body).encode()
            own = hd.merged(hd.own_upward(call.wants_stream), outgoing.headers)
            path = outgoing.path
        return self.outbound(upstream, form, await self.key_of(attempt, call), call.head, path, own, body)

    def outbound(
        self,
        upstream: Upstream,
        form: Format,
        key: str,
        head: RequestHead | None,
        path: str,
        own: Iterable[tuple[str, str]],
        body: bytes | None = None,
    ) -> Outbound:
        """A request for an upstream: its address, its key and its configured headers around what is sent."""
        credential = hd.credential(form, upstream, key)
        headers = hd.merged(own, credential, hd.configured(upstream, head))
        method = "GET" if body is None else "POST"
        return Outbound(method, urlsplit(self.base_url(upstream, form)).path + path, headers, body or b"")

    def base_url(self, upstream: Upstream, form: Format) -> str:
        """Where an upstream is; the echo listens on a port of its own."""
        if upstream.format != "echo":
            return upstream.base_url
        return self._echo_url() + urlsplit(form.default_base_url).path

    async def key_of(self, attempt: Attempt, call: Call | None) -> str:
        """The secret to send. Raises UpstreamError when its source fails."""
        if attempt.route.upstream.from_client:
            self.vault.remember(call.client_key if call else "")
            return call.client_key if call else ""
        return await self.vault.value(attempt.key.secret, time.monotonic()) if attempt.key else ""

    async def send(self, client: Client | None, upstream: Upstream, outbound: Outbound, delivery: Delivery) -> None:
        """Send, and wait until the delivery is done; a cancelled wait closes the upstream's connection at once."""
        url = upstream.base_url if upstream.format != "echo" else self._echo_url()
        origin = Origin.of(url, upstream.ca_file, upstream.client_cert)
        taken: list[Connection] = []
        pauses: list[Callable[[bool], None]] = []

        def took(connection: Connection) -> None:
            taken.append(connection)
            if client is not None:
                client.on_blocked = pause = connection.pause
                pauses.append(pause)

        try:
            await self.pool.fetch(origin, outbound, delivery, self._timeouts, took)
            await delivery.done.wait()
            if delivery.streamed and not delivery.failed:
                with anyio.move_on_after(_GRACE_S):
                    await delivery.ended.wait()
        finally:
            if client is not None and client.on_blocked in pauses:  # not that of a later request
                client.on_blocked = None
            for connection in taken:
                connection.drop(delivery)

    # --- whole answers

    def _whole(
        self,
        call: Call,
        client: Client,
        form: Format,
        outgoing: Outgoing | None,
        delivery: Delivery,
        headers: OutHeaders,
        record: Record,
    ) -> Failed | None:
        """Judge an answer that was collected, and hand it to the client if it is one."""
        try:
            events = read_whole(form, delivery, call.id)
        except UpstreamError as error:
            return failed_of(error)
        last = events[-1] if events else Failed(502, "server", "the upstream's answer was empty")
        if isinstance(last, Failed):
            return last
        assert isinstance(last, End) and delivery.answer is not None
        record.usage, record.status = last.usage, 200
        record.first_byte_s = time.monotonic() - record.started_s
        if outgoing is not None:
            events = Restorer(outgoing.names, outgoing.custom).restore(events)
        if call.wants_stream:
            writer = call.form.writer(call.reply)
            written = b"".join(writer.write(event) for event in events)
            client.begin(200, hd.merged(_JSON if call.path.array else _SSE, headers))
            client.write(as_array(written) if call.path.array else written)
            client.finish()
        elif outgoing is None and not delivery.is_event_stream:
            down = hd.merged(self._downward(delivery.answer), headers)
            client.respond(Response(delivery.answer.status, down, delivery.body))
        else:
            body = dumps(call.form.write_body(events, call.reply)).encode()
            client.respond(Response(200, hd.merged(_JSON, headers), body))
        return None

    def _give_up(self, call: Call, client: Client, give_up: GiveUp, record: Record, delivery: Delivery | None) -> None:
        """Tell the client what became of its request, in its own format, with every secret blotted out."""
        failed = give_up.failed
        record.error = failed.message
        headers = list(_own_headers(give_up.attempt.route, record.dropped)) if give_up.attempt else []
        status, body = call.form.write_error(failed)
        text = dumps(body)
        if delivery is not None and give_up.attempt is not None:
            upstream = give_up.attempt.route.upstream
            answer = delivery.answer
            same = self.form_of(upstream, call.form) is call.form
            if same and answer is not None and answer.status >= 400 and not delivery.failed and _is_json(delivery):
                status, text = answer.status, delivery.body.decode("utf-8", "replace")
                headers = hd.merged(self._downward(answer), headers)
        if failed.retry_after_s is not None:
            headers = hd.merged(headers, [("retry-after", str(ceil(failed.retry_after_s)))])
        if give_up.should_retry is not None:
            headers.append(("x-should-retry", str(give_up.should_retry).lower()))
        record.status = status
        client.respond(Response(status, hd.merged(headers, _JSON), self.vault.redact(text).encode()))

    def _downward(self, answer: AnswerHead) -> OutHeaders:
        """The upstream's headers for a client of the same format, without any secret."""
        return [(name, self.vault.redact(value)) for name, value in hd.downward(answer.headers)]

    # --- counting

    async def count(self, call: Call, client: Client, record: Record) -> None:
        """Count the tokens of a call: by the upstream where it can, else by the local estimate."""
        record.model = call.model
        route = resolve(self.config, call.model, call.form.name, call.pinned)[0]
        form = self.form_of(route.upstream, call.form)
        record.route = str(route)
        client.cancel_on_eof()
        headers = _own_headers(route, ())
        counted = await self._count_upstream(call, route, form)
        if counted is None:
            counted = estimate(call.request)
            headers.append(("x-ccproxy-estimate", "1"))
        record.status, record.usage = 200, Usage(input=counted)
        body = dumps(call.form.write_count(counted)).encode()
        client.respond(Response(200, hd.merged(_JSON, headers), body))

    async def _count_upstream(self, call: Call, route: Route, form: Format) -> int | None:
        """The upstream's own count; None where it has none or does not give it."""
        if form.counting is None:
            return None
        path = form.counting.path(route.model, call.path)
        if form is call.form:
            body, own = call.cleaned or call.body, hd.upward(call.head)
            path = _with_query(path, call.head.query)
        else:
            body, own = form.write_request(call.request, self._target(call, route)).body, hd.own_upward(False)
        counted = form.counting.body(body, route.model)
        untouched = body is call.body and counted in (body, {**body, "model": route.model})
        raw = call.with_model(route.model) if untouched else dumps(counted).encode()
        attempt = Attempt(route, self.rings[route.upstream.name].pick(time.monotonic()))
        try:
            key = await self.key_of(attempt, call)
            own = hd.merged(form.fixed_headers, own)
            outbound = self.outbound(route.upstream, form, key, call.head, path, own, raw)
            delivery = Delivery(None, None, lambda head: [], 1_048_576, time.monotonic)
            with anyio.move_on_after(_COUNT_S):
                await self.send(None, route.upstream, outbound, delivery)
            if delivery.failed or delivery.answer is None or delivery.answer.status != 200:
                return None
            return form.counting.read(loads(delivery.body)) or None
        except (UpstreamError, ValueError):
            return None


def read_whole(form: Format, delivery: Delivery, seed: str) -> list[Event]:
    """An answer that was collected, as events; ``Failed`` for everything that is none. Raises UpstreamError."""
    head, body = delivery.answer, delivery.body
    if head is None:
        raise UpstreamError("the upstream gave no answer")
    kind = head.get("content-type").lower()
    if head.status == 304 or head.status < 200:
        raise UpstreamError(f"the upstream answered {head.status}")
    if 300 <= head.status < 400:
        where = urlsplit(head.get("location")).hostname or "somewhere else"
        raise UpstreamError(f"the upstream redirects to {where}; keys do not follow redirects")
    if head.status >= 400:
        failed = form.read_error(head.status, _json_or_text(body, kind))
        hint = hd.retry_after_s(head.headers, time.time())
        failed.retry_after_s = failed.retry_after_s if hint is None else hint
        return [failed]
    if kind.startswith(EVENT_STREAM):
        parser, reader = Parser(), form.reader(seed)
        return [event for part in parser.feed(body) for event in reader.feed(part)] + reader.close()
    value = _json_or_text(body, kind)
    if isinstance(value, list):  # a stream in one piece
        reader = form.reader(seed)
        return [event for part in value for event in reader.feed(SseEvent("", dumps(part)))] + reader.close()
    if not isinstance(value, dict):
        raise UpstreamError(str(value) or "the upstream's answer was empty")
    return form.read_body(value, seed)


def _json_or_text(body: bytes, kind: str) -> Any:
    try:
        return loads(body)
    except ValueError:
        text = _TAG.sub(" ", body[:4096].decode("utf-8", "replace"))
        text = " ".join(text.split())[:200]
        return f"the upstream returned {kind or 'no content type'}: {text}" if text else ""


def _is_json(delivery: Delivery) -> bool:
    try:
        return isinstance(loads(delivery.body), dict)
    except ValueError:
        return False


def _own_headers(route: Route, dropped: tuple[str, ...]) -> OutHeaders:
    """What the proxy says of itself on every answer."""
    own = [("x-ccproxy-upstream", _header_safe(str(route)))]
    if dropped:
        own.append(("x-ccproxy-dropped", _header_safe(", ".join(dropped))[:2000]))
    return own


def _header_safe(text: str) -> str:
    return "".join(char if "\x20" <= char <= "\x7e" else "?" for char in text).strip()


def _with_query(path: str, query: str) -> str:
    """A path with the client's query behind it, without a client key and what the path says itself."""
    own = {"key", "alt", "$alt"} if "alt=" in path else {"key"}
    kept = "&".join(part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in own)
    return path + (("&" if "?" in path else "?") + kept if kept else "")
