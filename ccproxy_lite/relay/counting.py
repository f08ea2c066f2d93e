"""Counting the tokens of a call: by the upstream where it can, else by the local estimate. No key's state changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ccproxy_lite.errors import UNREACHABLE, ClientError, UpstreamError
from ccproxy_lite.formats.format import Format
from ccproxy_lite.formats.neutral.events import Usage
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.net.application import Response
from ccproxy_lite.providers.provider import Ask
from ccproxy_lite.relay import stored
from ccproxy_lite.relay.attempt import target_of
from ccproxy_lite.relay.call import Call, is_large
from ccproxy_lite.relay.facts import routes_for
from ccproxy_lite.relay.headers import JSON_HEADERS, about_answer, for_converted, for_upstream, merged
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import wire_format
from ccproxy_lite.routing.routes import Route

_MAX_BYTES = 1_048_576

Result = TypeVar("Result")


async def count(relay: Relay, call: Call) -> None:
    """Respond with a token count, at worst an estimate. Raises ClientError for an invalid request."""
    if is_large(call.raw_body):
        from ccproxy_lite.relay.large import preparing  # which most proxies never need

        async with preparing(call, relay.upstreams):  # the body is read; what is sent is another
            pass
    record = call.record
    is_known = stored.continue_previous(relay, call)
    record.model = call.model
    now, routes = relay.clock.now(), await routes_for(relay, call)
    routes = routes if is_known else stored.knowing_previous(call, routes)
    reachable = [one for one in routes if not relay.outages.is_out(one.upstream.name, now)]
    route = (reachable or routes)[0]
    stored.check_known(call, route)
    record.route = str(route)
    call.client.cancel_on_eof()
    headers = about_answer(route, ())
    counted = await _upstream_count(relay, call, route) if reachable else None
    if counted is None:
        from ccproxy_lite.formats.neutral.tokens import estimate  # a large module that is seldom needed

        counted = await _elsewhere(relay, call, lambda one: estimate(one.request))
        headers.append(("x-ccproxy-estimate", "1"))
    record.status, record.usage, record.is_count = 200, Usage(input=counted), True
    body = dumps(call.form.write_count(counted)).encode()
    call.client.respond(Response(200, merged(JSON_HEADERS, headers), body))


async def _elsewhere(relay: Relay, call: Call, function: Callable[[Call], Result]) -> Result:
    """What a function makes of a call; of a large one in a copy of the process. Raises what it raises."""
    if call.digest is None:
        return function(call)
    return await relay.upstreams.offload.run(lambda: function(call.unread()), len(call.raw_body))


async def _upstream_count(relay: Relay, call: Call, route: Route) -> int | None:
    """The upstream's count; None if it has no such endpoint, or does not respond."""
    upstream, upstreams = route.upstream, relay.upstreams
    form, began = wire_format(upstream, call.form.name), relay.clock.now()
    if form.counting is None:
        return None
    try:
        ask = await _elsewhere(relay, call, lambda one: _counting_request(relay, one, route, form))
        key = relay.ring_for(upstream, call.client_key).key_for_side_request(route.model, relay.clock.now())
        if key is None:
            return None
        secret = await upstreams.secret_of(upstream, key.reference, call.client_key)
        question = upstream.provider.count_tokens(upstream, form, ask, secret)
        if question is None:
            return None
        return await upstreams.collect(upstream, question, _MAX_BYTES, call.head) or None
    except UpstreamError as error:
        if error.code == UNREACHABLE:
            relay.report_reach(upstream.name, error.message, began)
        return None
    except (ClientError, ValueError):
        return None


def _counting_request(relay: Relay, call: Call, route: Route, form: Format) -> Ask:
    """The request for a counting endpoint. Raises ClientError for what the target cannot express."""
    ask, sent = _whole_request(relay, call, route, form)
    fitted = route.upstream.provider.fit(route.upstream, form, sent, ask)
    if fitted is None:
        return ask
    body = ask.body if fitted.body is sent else dumps(fitted.body).encode()
    return ask._replace(headers=tuple(fitted.headers), body=body)


def _whole_request(relay: Relay, call: Call, route: Route, form: Format) -> tuple[Ask, Mapping[str, Any]]:
    """The request with all that the client has sent, and its body before it was written."""
    assert form.counting is not None
    if form is not call.form:
        target = target_of(call, route, relay.upstreams)._replace(strict=False, caching=False)
        body = form.counting.body(form.write_request(call.request, target).body, route.model)
        headers = merged(form.fixed_headers, for_converted(False))
        return Ask(route.model, call.path_info, "", tuple(headers), dumps(body).encode()), body
    headers = merged(form.fixed_headers, for_upstream(call.head))
    body = call.cleaned or call.body
    counted = form.counting.body(body, route.model)
    untouched = body is call.body and counted in (body, {**body, "model": route.model})
    raw = call.with_model(route.model) if untouched else dumps(counted).encode()
    return Ask(route.model, call.path_info, call.head.query, tuple(headers), raw), counted
