"""Counting the tokens of a call: by the upstream where it can, else by the local estimate. It blames no key."""

from __future__ import annotations

from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import Format
from ccproxy_lite.formats.neutral.events import Usage
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.net.connection import Connection as Client
from ccproxy_lite.net.connection import Response
from ccproxy_lite.relay import headers as hd
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.record import Record
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.routing.routes import Route, resolve


async def count(relay: Relay, call: Call, client: Client, record: Record) -> None:
    """Answer a call that asks for a count; it always has an answer. Raises ClientError for what nobody understands."""
    record.model = call.model
    route = resolve(relay.config, call.model, call.form.name, call.pinned)[0]
    record.route = str(route)
    client.cancel_on_eof()
    headers = hd.own(route, ())
    counted = await _upstream(relay, call, route, relay.form_of(route.upstream, call.form))
    if counted is None:
        from ccproxy_lite.formats.neutral.tokens import estimate  # large, and seldom needed

        counted = estimate(call.request)
        headers.append(("x-ccproxy-estimate", "1"))
    record.status, record.usage, record.is_count = 200, Usage(input=counted), True
    body = dumps(call.form.write_count(counted)).encode()
    client.respond(Response(200, hd.merged([("content-type", "application/json")], headers), body))


async def _upstream(relay: Relay, call: Call, route: Route, form: Format) -> int | None:
    """The upstream's own count; None where it has none or does not give it."""
    if form.counting is None:
        return None
    try:
        path = form.counting.path(route.model, call.path)
        if form is call.form:
            body, own = call.cleaned or call.body, hd.upward(call.head)
            path = hd.with_query(path, call.head.query)
        else:
            target = relay.target(call, route)._replace(strict=False)
            body, own = form.write_request(call.request, target).body, hd.own_upward(False)
        counted = form.counting.body(body, route.model)
        untouched = body is call.body and counted in (body, {**body, "model": route.model})
        raw = call.with_model(route.model) if untouched else dumps(counted).encode()
        key = relay.rings[route.upstream.name].spare(route.model, relay.clock.now())
        if key is None:
            return None
        answer = await relay.collect(
            route.upstream,
            key,
            form,
            path,
            hd.merged(form.fixed_headers, own),
            head=call.head,
            client_key=call.client_key,
            body=raw,
            max_body_bytes=1_048_576,
        )
        return form.counting.read(loads(answer)) or None
    except (ClientError, UpstreamError, ValueError):
        return None
