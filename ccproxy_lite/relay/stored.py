"""Calls about responses that are kept: continuing one, keeping one, and reading or deleting one."""

from __future__ import annotations

from functools import partial
from urllib.parse import unquote

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.format import Writer
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import log
from ccproxy_lite.net.application import Response
from ccproxy_lite.relay.call import Call, is_own_id
from ccproxy_lite.relay.headers import JSON_HEADERS
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import wire_format
from ccproxy_lite.routing.routes import Route


def continue_previous(relay: Relay, call: Call) -> bool:
    """Put the turns that a request refers to into its body; returns whether all that it refers to is there.

    Raises ClientError for a response that was made here and is not there, or another client's: no service has it.
    """
    state, states = call.form.state, relay.states
    if state is None or not states.is_on:
        return True
    call.is_kept = call.path_info.action == "message" and state.wants_store(call.body)
    call.asked = call.body
    call.previous = state.previous_id(call.body)
    size = len(call.raw_body)
    if call.previous:
        chain = states.chain(call.client_key, call.previous, relay.clock.now())
        if chain is None and is_own_id(call.previous):
            raise state.unknown(call.previous, states.has(call.client_key, call.previous))
        if chain is None:
            return False
        size += chain.size
        if size > relay.config.limits.max_body_bytes:
            raise ClientError(413, "the conversation is larger than max_body_bytes")
        call.conversation, call.first_key = chain.turns[0].id, chain.key
        if call.digest is not None:  # of which all is needed
            call.read_all()
            call.asked = call.body
        call.use_body(state.continued(call.body, chain.turns))
    call.is_kept = call.is_kept and size <= states.max_bytes
    call.keep = partial(_keep, relay) if call.is_kept else None
    return True


def knowing_previous(call: Call, routes: list[Route]) -> list[Route]:
    """The targets that may know a response which the proxy does not: services that store them. Raises ClientError."""
    own = [route for route in routes if wire_format(route.upstream, call.form.name) is call.form]
    if not own and call.form.state is not None:
        raise call.form.state.unknown(call.previous, False)
    return own


def check_known(call: Call, route: Route) -> None:
    """Raises ClientError (400) for a request that refers to what its target does not keep."""
    state = call.form.state
    name = state.refers_elsewhere(call.body) if state is not None else ""
    if name and wire_format(route.upstream, call.form.name) is not call.form:
        message = f"{name} is not supported by {route.upstream.format}: refers to state at another provider"
        raise ClientError(400, message, param=name)


def _keep(relay: Relay, call: Call, writer: Writer, key: str) -> None:
    """Keep a response that no service has kept; before the client has it, for it may continue it at once.

    Whatever prevents that must not cost the client its answer.
    """
    try:
        asked = call.asked if call.digest is None else call.unread().body
        turn = call.form.state.turn_of(asked, writer, call.previous) if call.form.state is not None else None
        if turn is not None:
            relay.states.keep(call.client_key, turn, relay.clock.now(), key)
    except (RecursionError, ValueError) as error:
        log.warning("a response could not be kept: %s", error)


def answer(relay: Relay, call: Call) -> bool:
    """Respond to a request for a response that is kept; returns whether there is one.

    Raises ClientError (404) for one that nobody can have: it was made here, or no upstream keeps any.
    """
    state, method = call.form.state, call.head.method
    named = state.stored_at(unquote(call.raw_path), call.head.query) if state is not None else None
    if state is None or named is None or not relay.states.is_on:
        return False
    found = relay.states.get(call.client_key, named.id, relay.clock.now())
    if found is None or method not in ("GET", "DELETE") or (method == "DELETE" and named.items is not None):
        pinned = relay.config.upstream(call.pinned_upstream)
        keepers = [pinned] if pinned is not None else relay.config.upstreams
        if is_own_id(named.id) or not any(one.speaks(call.form.name) for one in keepers):
            raise state.missing(named.id)
        return False
    if named.is_streamed:
        raise ClientError(400, "stream: a response that is kept cannot be streamed again", param="stream")
    response = found.response
    if method == "DELETE":
        relay.states.delete(call.client_key, named.id)
        response = state.write_deleted(named.id)
    elif named.items is not None:
        response = state.write_items(found, named.items)
    call.record.status = 200
    call.client.respond(Response(200, JSON_HEADERS, dumps(response).encode()))
    return True
