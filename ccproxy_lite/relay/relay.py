"""The way of one request through the house: read, route, pick a key, write, send, and bring the answer back.

It joins ``exchange`` (which target and key), the formats (wire) and ``net`` (bytes). When both sides
speak one format the body is not written anew: only the value of ``model`` is exchanged in the client's own bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from logging import DEBUG
from math import ceil
from random import random
from typing import NamedTuple
from urllib.parse import urlsplit

import anyio

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import Config, Key, Upstream
from ccproxy_lite.config.secrets import is_renewable, is_sendable
from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import FORMATS, PROFILES, Format
from ccproxy_lite.formats.format import Outgoing, Target
from ccproxy_lite.formats.neutral.events import End, Failed
from ccproxy_lite.formats.neutral.names import Restorer
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import bug, log
from ccproxy_lite.net.connection import Connection as Client
from ccproxy_lite.net.connection import OutHeaders, Response
from ccproxy_lite.net.heads import RequestHead
from ccproxy_lite.net.upstream import AnswerHead, Connection, Origin, Outbound, Pool, Timeouts
from ccproxy_lite.relay import headers as hd
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.delivery import EVENT_STREAM, Delivery, Outlet
from ccproxy_lite.relay.record import Record, told
from ccproxy_lite.relay.streams import AsArray, Converted, Relayed, Stream, as_array, failed_of
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.relay.whole import is_json, read_whole
from ccproxy_lite.routing import retry_after as hints
from ccproxy_lite.routing.failover import Attempt, Exchange, GiveUp, Wait
from ccproxy_lite.routing.keys import ANONYMOUS, KeyRing
from ccproxy_lite.routing.routes import Route, resolve

_GRACE_S = 0.25
_SHORTEST_KEY = 6
_JSON: OutHeaders = [("content-type", "application/json")]
_SSE: OutHeaders = [("content-type", f"{EVENT_STREAM}; charset=utf-8"), ("cache-control", "no-cache")]


@dataclass(slots=True)
class Tried:
    """An attempt on its way: the key that was sent, what a conversion dropped, and what came of it."""

    attempt: Attempt
    secret: str = ""
    dropped: tuple[str, ...] = ()
    delivery: Delivery | None = None
    failed: Failed | None = None
    hint_s: float | None = None


class Prepared(NamedTuple):
    """A request as one target wants it; ``outgoing`` is None where both sides speak one format."""

    form: Format
    outgoing: Outgoing | None
    path: str
    headers: list[tuple[str, str]]
    body: bytes


class Bell:
    """Wakes whoever waits for a key, whichever configuration it waits under."""

    def __init__(self) -> None:
        self.rung = anyio.Event()

    def ring(self) -> None:
        self.rung.set()
        self.rung = anyio.Event()


class Relay:
    """Serves calls with the upstreams of one configuration.

    :param before: the relay of the configuration before this one, whose keys and sessions are kept where they exist
    """

    def __init__(
        self,
        config: Config,
        pool: Pool,
        vault: Vault,
        echo_url: Callable[[], str],
        clock: Clock,
        before: Relay | None = None,
    ) -> None:
        self.config = config
        self.pool = pool
        self.vault = vault
        self.clock = clock
        rings = before.rings if before else {}
        self.rings: Mapping[str, KeyRing] = {
            upstream.name: KeyRing(upstream.keys or (ANONYMOUS,), config.strategy, rings.get(upstream.name))
            for upstream in config.upstreams
        }
        self.bell: Bell = before.bell if before else Bell()
        self._echo_url = echo_url
        t = config.timeouts
        self._timeouts = Timeouts(t.connect_s, t.first_byte_s, t.idle_s)
        vault.on_change = self.forgive

    def forgive(self, secret: str) -> None:
        """A key has a new secret: it is refused no longer."""
        for ring in self.rings.values():
            ring.forgive(secret)
        self.bell.ring()

    async def answer(self, call: Call, client: Client, record: Record) -> None:
        """Answer a call that asks for a message. Raises ClientError for what no upstream is asked."""
        record.model = call.model
        routes = resolve(self.config, call.model, call.form.name, call.pinned)
        if any(route.upstream.from_client for route in routes):
            call.own_secret = call.client_key
        exchange = self._exchange(call, routes)
        client.cancel_on_eof()
        outlet = self._outlet(call, client, routes, record) if call.wants_stream else None
        try:
            await self._rounds(call, client, exchange, outlet, record)
        except anyio.get_cancelled_exc_class():
            if client.cut and outlet is not None and outlet.begun:
                outlet.fail(Failed(503, "overloaded", "the proxy is shutting down"))
            raise
        finally:
            if outlet is not None:
                outlet.close()

    def _exchange(self, call: Call, routes: list[Route]) -> Exchange:
        """The decisions of one call; a client's own key is no business of other calls."""
        rings = {
            upstream.name: KeyRing((ANONYMOUS,)) if upstream.from_client else self.rings[upstream.name]
            for upstream, _ in routes
        }
        session = call.session if self.config.sticky_sessions else ""
        return Exchange(routes, rings, self.config.retries, self.config.max_wait_s, random(), session)

    def _outlet(self, call: Call, client: Client, routes: list[Route], record: Record) -> Outlet:
        def early() -> OutHeaders:
            """Who answers can be said already if there is only one who may."""
            known = hd.own(routes[0], record.dropped) if len(routes) == 1 else []
            return hd.merged(_JSON if call.path.array else _SSE, known)

        def failing(failed: Failed) -> bytes:
            try:
                stream: Stream = Converted(call.form, call.form, call.reply, Restorer({}, frozenset()), 0)
            except ClientError:  # the request is not even read where it cannot be
                stream = Relayed(call.form, 0)
            return (AsArray(stream, self.config.limits.max_event_bytes) if call.path.array else stream).fail(failed)

        keepalive_s = self.config.keepalive_s
        return Outlet(
            client,
            call.form,
            self.pool.watchdog,
            keepalive_s,
            early,
            failing,
            lambda data: self._redact_bytes(call, data),
        )

    async def _rounds(
        self, call: Call, client: Client, exchange: Exchange, outlet: Outlet | None, record: Record
    ) -> None:
        tried: list[Tried] = []
        ready: dict[Route, Prepared] = {}
        clock = self.clock
        await self._look_for_new_secrets(exchange)
        while True:
            step = exchange.next(clock.now())
            if isinstance(step, Wait):
                await clock.wait(step.seconds, self.bell.rung if step.for_a_rest else None)
                continue
            if isinstance(step, GiveUp):
                own = next((one for one in tried if one.attempt is step.attempt), None)
                self._give_up(call, client, step, record, own, outlet)
                return
            record.route, record.key = str(step.route), step.key.label
            one = Tried(step)
            tried.append(one)
            try:
                prepared = ready[step.route] = ready.get(step.route) or self._prepare(call, step.route)
            except ClientError as error:
                one.failed = Failed(error.status, error.kind, error.message, param=error.param or "")
                exchange.unfit(step, one.failed)
            else:
                await self._attempt(call, client, one, prepared, outlet, record)
                await self._report(call, exchange, one, record)
            record.attempts = exchange.attempts
            if (one.delivery is not None and one.delivery.committed) or one.failed is None:
                return

    async def _look_for_new_secrets(self, exchange: Exchange) -> None:
        """A file that holds a refused key may hold another by now."""
        for ring in exchange.rings.values():
            for state in ring.states:
                refused = any(rest.reason == "refused" for rest in state.rests.values())
                if refused and state.key.secret.startswith("file:"):
                    with suppress(UpstreamError):
                        await self.vault.value(state.key.secret, self.clock.now())

    def _redact(self, call: Call, text: str) -> str:
        """A text without any secret, a client's own key included."""
        if len(call.own_secret) >= _SHORTEST_KEY:
            text = text.replace(call.own_secret, "[redacted]")
        return self.vault.redact(text)

    def _redact_bytes(self, call: Call, data: bytes) -> bytes:
        if len(call.own_secret) >= _SHORTEST_KEY:
            data = data.replace(call.own_secret.encode("latin-1", "replace"), b"[redacted]")
        return self.vault.redact_bytes(data)

    async def _report(self, call: Call, exchange: Exchange, one: Tried, record: Record) -> None:
        """Tell the exchange what came of an attempt; a key that was refused may have a new secret by now."""
        failed, key = one.failed, one.attempt.key
        if failed is not None:
            answer = one.delivery.answer if one.delivery else None
            one.hint_s = hints.best(failed, answer.headers, self.clock.wall()) if answer else None
            message = self._redact(call, failed.message)
            failed = one.failed = replace(failed, message=message, retry_after_s=one.hint_s)
        is_refused = failed is not None and failed.kind == "auth" and failed.code != "no_secret"
        if is_refused and is_renewable(key.secret) and exchange.may_renew(one.attempt):
            assert failed is not None
            if await self.vault.value(key.secret, self.clock.now(), refused=one.secret) != one.secret:
                exchange.renewed(one.attempt, failed)
                return
        rest = exchange.report(one.attempt, failed, self.clock.now())
        if log.isEnabledFor(DEBUG):
            log.debug("attempt: %s", told(one.attempt, failed))
        if rest is not None and not one.attempt.route.upstream.from_client:
            where, left_s = f"{one.attempt.route} [{key.label}]", rest.until_s - rest.since_s
            log.warning("%s rests %.3g s: %s", where, left_s, rest.message, extra={"subject": f"{where} {rest.reason}"})
        if record.usage is not None:
            exchange.rings[one.attempt.route.upstream.name].spend(key, one.attempt.route.model, record.usage)

    # --- one attempt

    def _prepare(self, call: Call, route: Route) -> Prepared:
        """What is sent to a target. Raises ClientError for what the target cannot express, or nobody understands."""
        form = self.form_of(route.upstream, call.form)
        if form is call.form:
            own = hd.merged(form.fixed_headers, [("content-type", "application/json")], hd.upward(call.head))
            path = hd.with_query(form.write_path(route.model, call.path), call.head.query)
            return Prepared(form, None, path, own, call.with_model(route.model))
        outgoing = form.write_request(call.request, self.target(call, route))
        own = hd.merged(hd.own_upward(call.wants_stream), outgoing.headers)
        return Prepared(form, outgoing, outgoing.path, own, dumps(outgoing.body).encode())

    async def _attempt(
        self, call: Call, client: Client, one: Tried, prepared: Prepared, outlet: Outlet | None, record: Record
    ) -> None:
        """Try one target. ``one.failed`` is then what another might mend, or None if the client has its answer."""
        route, outgoing = one.attempt.route, prepared.outgoing
        one.dropped = record.dropped = outgoing.dropped if outgoing else ()
        headers = hd.own(route, record.dropped)
        stream = self._stream(call, prepared.form, outgoing) if call.wants_stream else None

        def answer_headers(head: AnswerHead) -> OutHeaders:
            kind = _JSON if call.path.array else []
            return hd.merged(self._downward(call, head) if outgoing is None else _SSE, kind, headers)

        limit = self.config.limits.max_event_bytes
        delivery = Delivery(outlet, stream, answer_headers, limit, self.clock.now)
        try:
            one.secret = await self.secret_of(route.upstream, one.attempt.key.secret, call.client_key)
            outbound = self.outbound(
                route.upstream, prepared.form, one.secret, call.head, prepared.path, prepared.headers, prepared.body
            )
            one.delivery = delivery
            await self.send(client, route.upstream, outbound, delivery)
        except UpstreamError as error:
            one.failed = failed_of(error)
            return
        except anyio.get_cancelled_exc_class():
            ring = self.rings[route.upstream.name]
            ring.release(one.attempt.key, route.model, one.attempt.started_s)
            if client.cut:
                delivery.failed_stream(Failed(503, "overloaded", "the proxy is shutting down"))
            raise
        finally:
            if delivery.committed_s is not None:
                record.first_byte_s = delivery.committed_s - record.started_s
        if delivery.streamed or delivery.failed:
            one.failed = delivery.failed
            if delivery.committed:
                record.status = 200
                record.usage = stream.usage if stream else None
                record.error = self._redact(call, delivery.failed.message) if delivery.failed else ""
            return
        one.failed = self._whole(call, client, prepared, delivery, headers, record, outlet)

    def form_of(self, upstream: Upstream, client_form: Format) -> Format:
        """The format that an upstream is spoken to in; the echo speaks everybody's."""
        return client_form if upstream.format == "echo" else FORMATS[upstream.format]

    def target(self, call: Call, route: Route) -> Target:
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
        return self._echo_url() + urlsplit(PROFILES[form.name].default_base_url).path

    async def secret_of(self, upstream: Upstream, spec: str, client_key: str = "") -> str:
        """The secret to send. Raises UpstreamError when its source fails."""
        if upstream.from_client:
            if not is_sendable(client_key):
                raise UpstreamError("this key cannot be sent", status=401, kind="auth", code="no_secret")
            return client_key
        return await self.vault.value(spec, self.clock.now())

    async def send(self, client: Client | None, upstream: Upstream, outbound: Outbound, delivery: Delivery) -> None:
        """Send, and wait until the delivery is done; a cancelled wait closes the upstream's connection at once."""
        url = upstream.base_url if upstream.format != "echo" else self._echo_url()
        origin = Origin.of(url, upstream.ca_file, upstream.client_cert, upstream.proxy)
        taken: list[Connection] = []
        pauses: list[Callable[[bool], None]] = []

        def took(connection: Connection) -> None:
            taken.append(connection)
            if client is not None:
                client.on_blocked = pause = partial(connection.pause)  # one of our own, though connections are shared
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

    async def collect(
        self,
        upstream: Upstream,
        key: Key,
        form: Format,
        path: str,
        own: Iterable[tuple[str, str]],
        *,
        head: RequestHead | None = None,
        client_key: str = "",
        body: bytes | None = None,
        max_body_bytes: int,
        patience_s: float = 10.0,
    ) -> bytes:
        """The body of a 200 to a request that is no attempt, and blames nobody. Raises UpstreamError for all else."""
        secret = await self.secret_of(upstream, key.secret, client_key)
        delivery = Delivery(None, None, lambda head: [], max_body_bytes, self.clock.now)
        with anyio.move_on_after(patience_s) as scope:
            await self.send(None, upstream, self.outbound(upstream, form, secret, head, path, own, body), delivery)
        if scope.cancelled_caught:
            raise UpstreamError(f"{upstream.name} did not answer in {patience_s:g} s")
        if delivery.failed or delivery.answer is None:
            raise UpstreamError(delivery.failed.message if delivery.failed else "no answer")
        if delivery.answer.status != 200:
            raise UpstreamError(f"{upstream.name} answered {delivery.answer.status}", status=delivery.answer.status)
        return delivery.body

    # --- whole answers

    def _whole(
        self,
        call: Call,
        client: Client,
        prepared: Prepared,
        delivery: Delivery,
        headers: OutHeaders,
        record: Record,
        outlet: Outlet | None,
    ) -> Failed | None:
        """Judge an answer that was collected, and hand it to the client if it is one."""
        outgoing = prepared.outgoing
        try:
            events = read_whole(prepared.form, delivery, call.id, lambda text: self._redact(call, text))
        except UpstreamError as error:
            return failed_of(error)
        except Exception as error:  # whatever an upstream has sent, another may still answer
            return Failed(500, "server", f"an error inside the proxy; its log calls it {bug(error)}")
        last = events[-1] if events else Failed(502, "server", "the upstream's answer was empty")
        if isinstance(last, Failed):
            return last
        assert isinstance(last, End) and delivery.answer is not None
        record.usage, record.status = last.usage, 200
        record.first_byte_s = self.clock.now() - record.started_s
        if outgoing is not None:
            events = Restorer(outgoing.names, outgoing.custom).restore(events)
        if outlet is not None:
            writer = call.form.writer(call.reply)
            written = b"".join(writer.write(event) for event in events)
            outlet.begin(hd.merged(_JSON if call.path.array else _SSE, headers))
            outlet.write(as_array(written) if call.path.array else written)
            outlet.finish()
        elif outgoing is None and not delivery.is_event_stream:
            down = hd.merged(self._downward(call, delivery.answer), headers)
            client.respond(Response(delivery.answer.status, down, delivery.body))
        else:
            body = dumps(call.form.write_body(events, call.reply)).encode()
            client.respond(Response(200, hd.merged(_JSON, headers), body))
        return None

    def _give_up(
        self, call: Call, client: Client, give_up: GiveUp, record: Record, own: Tried | None, outlet: Outlet | None
    ) -> None:
        """Tell the client what became of its request, in its own format, with every secret blotted out."""
        failed = give_up.failed
        record.route, record.error = str(give_up.route), self._redact(call, failed.message)
        record.status, body = call.form.write_error(failed)
        if outlet is not None and outlet.begun:
            record.status = 200
            outlet.fail(failed)
            return
        text, headers = dumps(body), hd.own(give_up.route, own.dropped if own else ())
        delivery = own.delivery if own else None
        answer = delivery.answer if delivery else None
        same = self.form_of(give_up.route.upstream, call.form) is call.form
        if own and own.hint_s is not None and failed.retry_after_s is not None:  # or its body names another time
            same = same and ceil(own.hint_s) == ceil(failed.retry_after_s)
        if delivery is not None and answer is not None and same and answer.status >= 400 and is_json(delivery):
            record.status, text = answer.status, delivery.body.decode("utf-8", "replace")
            down = [(name, value) for name, value in self._downward(call, answer) if name != "retry-after-ms"]
            headers = hd.merged(down, headers)
        if failed.retry_after_s is not None:
            headers = hd.merged(headers, [("retry-after", str(ceil(failed.retry_after_s)))])
        if give_up.should_retry is not None:
            headers = hd.merged(headers, [("x-should-retry", str(give_up.should_retry).lower())])
        client.respond(Response(record.status, hd.merged(headers, _JSON), self._redact(call, text).encode()))

    def _downward(self, call: Call, answer: AnswerHead) -> OutHeaders:
        """The upstream's headers for a client of the same format, without any secret."""
        return [(name, self._redact(call, value)) for name, value in hd.downward(answer.headers)]
