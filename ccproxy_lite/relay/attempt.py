"""One attempt: a call written for one target, sent with one key, and its response brought to the client.

``prepare`` writes the request: if both sides speak the same format the client's bytes are passed on, and only the
value of ``model`` is replaced; otherwise it is converted. A ``MessageDispatch`` sends it, and either streams the
response through a ``Delivery`` or judges it once it is complete. What it cannot deliver, it reports as ``failed``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio

from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats.format import Format, Outgoing, Parser, PathInfo, Target, Writer
from ccproxy_lite.formats.neutral import missing_model, overflow
from ccproxy_lite.formats.neutral.answer_losses import AnswerLosses
from ccproxy_lite.formats.neutral.events import End, Event, Failed
from ccproxy_lite.formats.neutral.names import Restorer
from ccproxy_lite.jsontext import dumps, loads, patched
from ccproxy_lite.log import internal_error, log
from ccproxy_lite.net.application import Response
from ccproxy_lite.net.heads import AnswerHead
from ccproxy_lite.providers.provider import SERVER_SENT_EVENTS, Ask
from ccproxy_lite.relay.call import Call, is_large
from ccproxy_lite.relay.capture import RecordedDelivery
from ccproxy_lite.relay.delivery import Delivery
from ccproxy_lite.relay.headers import JSON_HEADERS, about_answer, for_converted, for_upstream, merged
from ccproxy_lite.relay.pauses import Pauses
from ccproxy_lite.relay.reply import Reply
from ccproxy_lite.relay.streams import Converted, Reframed, Relayed, Stream, failed_of, late_losses
from ccproxy_lite.relay.tape import AttemptTape
from ccproxy_lite.relay.upstreams import Upstreams, wire_format
from ccproxy_lite.relay.whole import Whole, json_in, read_whole
from ccproxy_lite.routing import retry_after
from ccproxy_lite.routing.failover import Attempt
from ccproxy_lite.routing.routes import Route, suggestion

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Effort, Request


_NONE_REFUSED: frozenset[str] = frozenset()


class Prepared(NamedTuple):
    """A request written for one target; ``outgoing`` is None if both sides speak the same format.

    ``unfit`` names what the host has no place for.
    """

    form: Format
    outgoing: Outgoing | None
    ask: Ask
    unfit: tuple[str, ...] = ()

    @property
    def dropped(self) -> tuple[str, ...]:
        return self.unfit if self.outgoing is None else self.outgoing.dropped + self.unfit

    @property
    def restorer(self) -> Restorer:
        """Gives the tool calls of the response the names that the client knows."""
        return Restorer(self.outgoing.names, self.outgoing.custom) if self.outgoing else Restorer({}, frozenset())


def prepare(call: Call, route: Route, upstreams: Upstreams) -> Prepared:
    """The request for a target. Raises ClientError if the target cannot express it, or if it is invalid."""
    form = wire_format(route.upstream, call.form.name)
    outgoing, unfit = None, tuple[str, ...]()
    if form is call.form:  # nothing is parsed that need not be
        headers = merged(form.fixed_headers, JSON_HEADERS, for_upstream(call.head))
        path, query = call.path_info._replace(streams=call.wants_stream), call.head.query
        changed, unfit = _with_settings(call, route, form, upstreams)
        body = call.with_model(route.model) if changed is None else dumps(changed).encode()
        sent = call.cleaned or call.body if changed is None else changed
    else:
        outgoing = _converted(call.request, form, route, target_of(call, route, upstreams))
        headers = merged(for_converted(call.wants_stream), form.fixed_headers)
        path, query = PathInfo(streams=call.wants_stream), ""
        body, sent = dumps(outgoing.body).encode(), outgoing.body
    ask = Ask(route.model, path, query, tuple(headers), body, auth=call.auth_at(route.upstream, form))
    prepared = Prepared(form, outgoing, ask, unfit)
    if route.upstream.provider.runs:
        call.request  # noqa: B018  raises if the request is invalid
        prepared = prepared._replace(ask=ask._replace(session=call.session))
    return _fitted(prepared, sent, call, route.upstream, upstreams.config.strict)


def _with_settings(
    call: Call, route: Route, form: Format, upstreams: Upstreams
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The client's own body with what its target says beside the model, and what that left out; None if it says none.

    Raises ClientError in strict mode, if anything is left out.
    """
    if not (route.effort or route.overlay):
        return None, ()
    body, dropped = call.renamed(call.cleaned or call.body, route.model), tuple[str, ...]()
    if route.effort:
        target = target_of(call, route, upstreams)
        body, dropped = form.with_effort(body, cast("Effort", route.effort), target)
        if dropped and target.strict:
            message = f'model "{route.model}" does not support: {", ".join(dropped)}'
            raise ClientError(400, message, param=dropped[0])
    return _overlaid(body, route), dropped


def _converted(request: Request, form: Format, route: Route, target: Target) -> Outgoing:
    """A request in another format. Raises ClientError."""
    if route.effort:
        from ccproxy_lite.formats.neutral.request import Reasoning  # converters have loaded it

        shown = request.reasoning.visible if request.reasoning is not None else None
        request = replace(request, reasoning=Reasoning(cast("Effort", route.effort), visible=shown, at="effort"))
    outgoing = form.write_request(request, target)
    return outgoing._replace(body=_overlaid(outgoing.body, route)) if route.overlay else outgoing


def _overlaid(body: dict[str, Any], route: Route) -> dict[str, Any]:
    return cast(dict[str, Any], patched(body, loads(route.overlay))) if route.overlay else body


def _fitted(prepared: Prepared, body: Mapping[str, Any], call: Call, upstream: Upstream, strict: bool) -> Prepared:
    """A request without what its host does not take. Raises ClientError for what must not be left out.

    :param body: what is sent, but for the model's name
    """
    fitted = upstream.provider.fit(upstream, prepared.form, body, prepared.ask)
    if fitted is None:
        return prepared
    if fitted.dropped and (strict or call.is_strict):
        message = f"not supported by this upstream: {', '.join(fitted.dropped)}"
        raise ClientError(400, message, param=fitted.dropped[0])
    ask = prepared.ask._replace(headers=tuple(fitted.headers))
    if fitted.body is not body:
        whole = fitted.body if prepared.outgoing is not None else call.renamed(fitted.body, ask.model)
        ask = ask._replace(body=dumps(whole).encode())
    return prepared._replace(ask=ask, unfit=(*prepared.unfit, *fitted.dropped, *fitted.idle))


def target_of(call: Call, route: Route, upstreams: Upstreams) -> Target:
    """What a request to that route is written for."""
    config = upstreams.config
    return Target(
        route.model,
        route.upstream.quirks,
        config.default_max_tokens,
        config.thinking_budgets,
        call.is_strict or config.strict,
        call.session,
        route.upstream.prompt_cache != "off",
        refused_by(route, call, upstreams),
    )


def refused_by(route: Route, call: Call, upstreams: Upstreams) -> frozenset[str]:
    """The fields for a prompt cache that an upstream has rejected for its model, now or earlier."""
    if not (upstreams.refused or call.refused):
        return _NONE_REFUSED
    place = route.upstream.name, route.model
    return upstreams.refused.get(place, frozenset()) | call.refused.get(place, frozenset())


class MessageDispatch:
    """One request to one target, with one key (see ``exchange.Dispatch``).

    :param reply: the client's end of a streamed response; None if it wants a complete one
    """

    is_final = False  # the request is at hand

    def __init__(
        self, call: Call, upstreams: Upstreams, reply: Reply | None, attempt: Attempt, prepared: Prepared
    ) -> None:
        self.attempt = attempt
        self.prepared = prepared
        self.dropped = prepared.dropped
        self.delivery: Delivery | None = None
        self.failed: Failed | None = None
        self.secret = ""
        self._tape: AttemptTape | None = None
        self.began_at = upstreams.clock.now()
        self._call = call
        self._upstreams = upstreams
        self._reply = reply
        self._provider = attempt.route.upstream.provider
        self._framing = self._provider.framing
        self._losses = AnswerLosses(call.form.name)
        may_pause = prepared.outgoing is not None and prepared.form.pauses and bool(call.request.web_tools)
        self._pauses = Pauses() if may_pause else None
        self._parser: Parser | None = None
        self._writer: Writer | None = None
        self._earlier_rounds: list[Event] = []
        self._was_begun = False

    @property
    def connecting_s(self) -> float:
        """How long the connection has been waited for, if there is none yet; else 0."""
        delivery = self.delivery
        return 0.0 if delivery is None or delivery.is_connected else self._upstreams.clock.now() - self.began_at

    @property
    def is_answered(self) -> bool:
        """Whether the client has a response, or the beginning of one, so that no other attempt can help."""
        return self.failed is None or self._is_begun

    @property
    def _is_begun(self) -> bool:
        """Whether the client has been told something, in this round or in an earlier one."""
        return self._was_begun or (self.delivery is not None and self.delivery.committed)

    async def run(self) -> None:
        """Send the request, and deliver its response."""
        failed = await self._send_and_deliver(self.prepared)
        while failed is None and self._pauses is not None and self._pauses.is_paused:
            self._was_begun = self._is_begun
            failed = await self._send_and_deliver(self._next_round(self._pauses))
            if failed is not None and self._reply is not None and self._was_begun:
                self._call.record.error = self._call.redact(failed.message)
                self._reply.fail(failed)  # if the stream has not told the client itself
        if failed is not None:
            answer = self.delivery.answer if self.delivery else None
            hint_s = retry_after.best(failed, answer.headers, self._upstreams.clock.wall()) if answer else None
            # Upstreams quote keys in their error messages.
            failed = replace(failed, message=self._call.redact(failed.message), retry_after_s=hint_s)
        self.failed = failed
        if failed is None and self._call.refused:
            self._remember_refusals()
        if self._tape is not None:
            self._tape.failed = failed

    def _next_round(self, pauses: Pauses) -> Prepared:
        """The request that asks the service to go on."""
        route, prepared = self.attempt.route, self.prepared
        request = pauses.next_request(self._call.request)
        outgoing = _converted(request, prepared.form, route, target_of(self._call, route, self._upstreams))
        again = Prepared(prepared.form, outgoing, prepared.ask._replace(body=dumps(outgoing.body).encode()))
        return _fitted(again, outgoing.body, self._call, route.upstream, False)

    async def _send_and_deliver(self, prepared: Prepared) -> Failed | None:
        call, record = self._call, self._call.record
        upstream, key = self.attempt.route.upstream, self.attempt.key
        record.dropped = prepared.dropped
        if self._reply is not None:
            self._reply.expect(self.attempt.route, prepared.dropped, is_relayed=self._is_passed_on)
        delivery = self._new_delivery()
        try:
            self.secret = await self._upstreams.secret_of(upstream, key.reference, call.passed_secret)
            outbound = upstream.provider.message(upstream, prepared.form, prepared.ask, self.secret)
            self.delivery = delivery
            if call.tape is not None:
                self._tape = call.tape.begin_attempt(self.attempt, outbound, self.dropped, self.began_at)
                cast(RecordedDelivery, delivery).tape = self._tape
            await self._upstreams.send(upstream, outbound, delivery, call.head)
        except UpstreamError as error:
            return failed_of(error)
        except anyio.get_cancelled_exc_class():
            if call.client.cut:
                delivery.fail(Failed(503, "overloaded", "the proxy is shutting down"))
            raise
        finally:
            if delivery.committed_at is not None and record.first_byte_s is None:
                record.first_byte_s = delivery.committed_at - record.started_at
            if delivery.committed_at is not None:
                record.dropped += tuple(self._losses.dropped)
        if delivery.state == "collecting":
            return await self._deliver_collected(delivery, prepared)
        if delivery.committed:
            self._note_surplus(delivery)
            record.status = 200
            record.usage = delivery.stream.progress.usage if delivery.stream else None
            record.error = call.redact(delivery.failed.message) if delivery.failed else ""
        return delivery.failed

    def _note_surplus(self, delivery: Delivery) -> None:
        """Events on a line of their own may be followed by anything; behind binary ones, nothing is expected."""
        if self._framing is SERVER_SENT_EVENTS or delivery.failed is not None:
            return
        if delivery.surplus or (self._parser is not None and self._parser.unfinished()):
            log.warning("%s: ignored bytes behind the end of the message", self.attempt.route)

    def misses_model(self, failed: Failed) -> bool:
        return missing_model.is_about(failed, self.attempt.route.model)

    def explained(self, failed: Failed) -> Failed:
        """The failure; for a model that is not there, who was asked for what, what is there, and what to do.

        An address that is not there is explained as well: that is a wrong base URL.
        """
        asked, (upstream, sent, *_) = self._call.record.model, self.attempt.route
        if not self.misses_model(failed):
            is_path = failed.kind == "not_found" and failed.status == 404 and not self._is_own_error
            remedy = f"check the base_url of upstream {upstream.name}: {upstream.base_url}"
            return replace(failed, message=f"{failed.message} ({remedy})") if is_path else failed
        names = sorted(upstream.models or self._upstreams.lists.get(upstream.name, ()))
        others = [name for name in names if name != sent]
        known = f"; {suggestion(sent, others)}" if others else ""
        if sent in names:
            known = "; the upstream lists it, but does not serve it to this key"
        unmet = self.attempt.route.unmet
        known += f"; its targets under models require: {unmet}" if unmet else ""
        as_asked = "" if asked == sent else f' (requested as "{asked}")'
        remedy = 'run "ccproxy-lite models" for the list; map names under "models" in the configuration'
        message = f'upstream {upstream.name}, model "{sent}"{as_asked}: {failed.message.rstrip(".")}{known}; {remedy}'
        return replace(failed, message=message)

    @property
    def _is_own_error(self) -> bool:
        """Whether the upstream's error has the shape that its format has for one."""
        delivery, form = self.delivery, self.prepared.form
        if delivery is None or delivery.answer is None:
            return True
        return form.is_own_error(delivery.answer.status, json_in(delivery.body))

    @property
    def _place(self) -> tuple[str, str]:
        """What refusals are remembered for: models of one host differ in them."""
        return self.attempt.route.upstream.name, self.attempt.route.model

    def drop_refused_field(self) -> bool:
        """After the refusal of a field that only serves the service's cache: the call's next request is without it.

        Only if that one succeeds, the refusal is remembered: the field may have been named for another reason.
        """
        failed, sent = self.failed, self.prepared.outgoing.for_cache if self.prepared.outgoing else ()
        if failed is None or failed.kind != "bad_request":
            return False
        said = f"{failed.param} {failed.message}"
        name = next((one for one in sent if re.search(rf"(?<!\w){one.split()[-1]}(?!\w)", said)), "")
        if name:
            place = self._place
            self._call.refused[place] = self._call.refused.get(place, frozenset()) | {name}
        return bool(name)

    def _remember_refusals(self) -> None:
        """The service has taken the request without the fields that it had refused."""
        place = self._place
        names = self._call.refused.pop(place, frozenset())
        if names:
            self._upstreams.refused[place] = self._upstreams.refused.get(place, frozenset()) | names
            log.warning("%s rejects %s, which is no longer sent", self.attempt.route, " and ".join(sorted(names)))

    def error_as_it_came(self, retry_after_s: float | None) -> Response | None:
        """The error response of the upstream as it came, if the client speaks the same format.

        None if its body names another time to wait than ``retry_after_s``.

        :param retry_after_s: for the client's ``Retry-After``
        """
        delivery, hint_s = self.delivery, self.failed.retry_after_s if self.failed else None
        if delivery is None or delivery.answer is None or self.prepared.outgoing is not None:
            return None
        if hint_s is not None and retry_after_s is not None and ceil(hint_s) != ceil(retry_after_s):
            return None
        answer = delivery.answer
        if answer.status < 400 or not self._call.form.is_own_error(answer.status, json_in(delivery.body)):
            return None
        headers = self._call.headers_for_client(answer, self.attempt.route.upstream)
        return Response(answer.status, merged(headers, JSON_HEADERS), delivery.body)

    # --- the response

    @property
    def _is_passed_on(self) -> bool:
        """Whether a stream is relayed byte for byte: same format, same framing."""
        return self.prepared.outgoing is None and self._framing is SERVER_SENT_EVENTS

    def _new_delivery(self) -> Delivery:
        limit = self._upstreams.config.limits.max_event_bytes
        stream = self._new_stream(limit) if self._call.wants_stream else None
        kind = Delivery if self._call.tape is None else RecordedDelivery
        return kind(self._reply, stream, limit, self._framing, self._upstreams.clock)

    def _new_stream(self, limit: int) -> Stream:
        call, form, parser = self._call, self.prepared.form, self._framing.parser(limit)
        self._parser = parser
        if self.prepared.outgoing is None:
            return (Relayed if self._is_passed_on else Reframed)(parser, form)
        self._writer = self._writer or call.form.writer(call.reply)
        stream = Converted(parser, form.reader(call.reply.id), self.prepared.restorer, self._writer, self._losses)
        stream.pauses = self._pauses
        stream.earlier = self._earlier_rounds
        stream.on_end = self._keep_response
        if self._reply is not None and call.form.comments:
            reply = self._reply
            stream.is_head_sent = lambda: reply.begun
        return stream

    def _keep_response(self) -> None:
        """Keep what has been written, if the client may continue it."""
        if self._call.keep is not None and self._writer is not None:
            self._call.keep(self._call, self._writer, self.attempt.key.reference)

    async def _deliver_collected(self, delivery: Delivery, prepared: Prepared) -> Failed | None:
        """Judge a response that was collected, and send it to the client if it is one."""
        call, record = self._call, self._call.record
        limit = self._upstreams.config.limits.max_event_bytes
        parser = self._framing.parser(limit) if delivery.is_event_stream else None
        whole = Whole(delivery.answer, delivery.body, parser, self._provider.error_body)
        try:
            if is_large(whole.body):
                events = await self._upstreams.offload.run(lambda: self._read(whole), len(whole.body))
            else:
                events = self._read(whole)
        except UpstreamError as error:
            return failed_of(error)
        except Exception as error:  # whatever this upstream has sent, another may still respond
            return Failed(500, "server", internal_error(error))
        last = events[-1] if events else Failed(502, "server", "the upstream's response was empty")
        if isinstance(last, Failed):
            return last
        assert isinstance(last, End) and delivery.answer is not None
        record.usage, record.status = last.usage, 200
        record.first_byte_s = self._upstreams.clock.now() - record.started_at
        if self._reply is None and prepared.outgoing is None and parser is None:
            self._pass_on_body(delivery.answer, whole.body, last)
            return None
        events = prepared.restorer.restore(events)
        if self._pauses is not None:
            events = self._pauses.joined(events)
            if not self._pauses.is_paused:
                record.usage = cast(End, events[-1]).usage
        events = self._earlier_rounds + self._losses.without_lost(events)
        if self._pauses is not None and self._pauses.is_paused:
            self._earlier_rounds = events
            return None
        lost = tuple(self._losses.dropped)
        record.dropped += lost
        if self._reply is not None:
            writer = self._writer = self._writer or call.form.writer(call.reply)
            *pieces, end = [writer.write(event) for event in events]
            self._keep_response()
            comment = late_losses(lost) if self._reply.begun and call.form.comments else b""
            self._reply.write_whole(b"".join([*pieces, comment, end]), lost)
        else:
            if call.keep is not None and prepared.outgoing is not None:
                self._writer = call.form.writer(call.reply)
                for event in events:
                    self._writer.write(event)
                self._keep_response()
            body = dumps(call.form.write_body(events, call.reply)).encode()
            headers = about_answer(self.attempt.route, prepared.dropped + lost)
            call.client.respond(Response(200, merged(JSON_HEADERS, headers), body))
        return None

    def _read(self, whole: Whole) -> list[Event]:
        """What a response says; only its end, where the client gets it as it came. Raises UpstreamError."""
        prepared, call = self.prepared, self._call
        events = read_whole(prepared.form, whole, call.id, call.redact)
        is_passed_on = self._reply is None and prepared.outgoing is None and whole.events is None
        return events[-1:] if is_passed_on else events

    def _pass_on_body(self, answer: AnswerHead, body: bytes, end: End) -> None:
        """A whole response as it came, to a client of the same format."""
        headers = self._call.headers_for_client(answer, self.attempt.route.upstream)
        is_labelled = "json" in answer.get("content-type").lower()
        headers = merged(headers, [] if is_labelled else JSON_HEADERS, about_answer(self.attempt.route, self.dropped))
        body = overflow.as_length_limit(body) if end.reason == "max_tokens" else body
        self._call.client.respond(Response(answer.status, headers, body))
