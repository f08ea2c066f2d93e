"""Calls about responses that are kept: continuing one, keeping one, and reading or deleting one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import log
from ccproxy_lite.net.application import Response
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.headers import JSON_HEADERS
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import wire_format
from ccproxy_lite.routing.routes import Route


def continue_previous(relay: Relay, call: Call) -> bool:
    """Put the turns that a request refers to into its body; returns whether all that it refers to is there."""
    state = call.form.state
    if state is None or not relay.states.is_on:
        return True
    call.is_kept = call.path_info.action == "message" and state.wants_store(call.body)
    call.asked = call.body
    if call.is_kept:
        call.keep = partial(_keep, relay)
    call.previous = state.previous_id(call.body)
    if not call.previous:
        return True
    turns = relay.states.chain(call.client_key, call.previous, relay.clock.now())
    if turns is not None:
        call.use_body(state.continued(call.body, turns))
    return turns is not None


def knowing_previous(call: Call, routes: list[Route]) -> list[Route]:
    """The targets that may know a response which the proxy does not: services that store them. Raises ClientError."""
    own = [route for route in routes if wire_format(route.upstream, call.form.name) is call.form]
    if not own and call.form.state is not None:
        raise call.form.state.unknown(call.previous)
    return own


def _keep(relay: Relay, call: Call, response: Mapping[str, Any]) -> None:
    """Keep a response that no service has kept; before the client has it, for it may continue it at once.

    Whatever prevents that must not cost the client its answer.
    """
    state = call.form.state
    assert state is not None
    try:
        turn = state.turn_of(call.asked, response)
        relay.states.keep(call.client_key, turn, response, call.previous, relay.clock.now())
    except (RecursionError, ValueError) as error:
        log.warning("a response could not be kept: %s", error)


def answer(relay: Relay, call: Call) -> bool:
    """Respond to a request for a response that is kept; returns whether there is one. Raises ClientError."""
    state, method = call.form.state, call.head.method
    named = state.stored_at(unquote(call.raw_path), call.head.query) if state is not None else None
    if state is None or named is None or method not in ("GET", "DELETE"):
        return False
    found = relay.states.get(call.client_key, named.id, relay.clock.now())
    if found is None or (method == "DELETE" and named.query is not None):
        return False
    turn, response = found
    if method == "DELETE":
        relay.states.delete(call.client_key, named.id)
        response = state.write_deleted(named.id)
    elif named.query is not None:
        response = state.write_items(turn, named.query)
    call.record.status = 200
    call.client.respond(Response(200, JSON_HEADERS, dumps(response).encode("utf-8", "surrogatepass")))
    return True
