"""A call for a message: its targets, the request for each, and the client's end of the response."""

from __future__ import annotations

from logging import DEBUG
from typing import TYPE_CHECKING

from ccproxy_lite.log import log
from ccproxy_lite.relay import stored
from ccproxy_lite.relay.attempt import MessageDispatch, Prepared, prepare, refused_by
from ccproxy_lite.relay.call import Call, is_large
from ccproxy_lite.relay.exchange import Exchange
from ccproxy_lite.relay.facts import routes_for
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.reply import Reply
from ccproxy_lite.routing.conditions import condition_text
from ccproxy_lite.routing.failover import Attempt
from ccproxy_lite.routing.routes import Route

if TYPE_CHECKING:
    from ccproxy_lite.relay.large import Prepare


async def answer(relay: Relay, call: Call, routes: list[Route] | None = None) -> None:
    """Respond to a call. Raises ClientError for what is rejected before any upstream is contacted.

    :param routes: its targets, if they are not to be looked for
    """
    captures = relay.captures
    if captures is not None:
        captures.begin(call)
    try:
        if is_large(call.raw_body):
            from ccproxy_lite.relay.large import preparing  # which most proxies never need

            async with preparing(call, relay.upstreams) as prepare_elsewhere:
                await _answer(relay, call, routes, prepare_elsewhere)
        else:
            await _answer(relay, call, routes)
    finally:
        if captures is not None:
            await captures.finish(call, relay.config, relay.upstreams.lists)


async def _answer(
    relay: Relay, call: Call, routes: list[Route] | None, prepare_elsewhere: Prepare | None = None
) -> None:
    is_known = stored.continue_previous(relay, call)
    call.record.model = call.model
    routes = routes or await routes_for(relay, call)
    if log.isEnabledFor(DEBUG):
        condition = f" (when {condition_text(routes[0].condition)})" if routes[0].condition is not None else ""
        log.debug("route: %s -> %s: %s%s", call.model, ", ".join(map(str, routes)), routes[0].rule, condition)
    if not is_known:
        routes = stored.knowing_previous(call, routes)
    if call.tape is not None:
        call.tape.routes = routes
    call.record.session = call.session
    call.client.cancel_on_eof()
    reply = _reply(relay, call, routes) if call.wants_stream else None
    prepared: dict[tuple[int, frozenset[str]], Prepared] = {}

    async def dispatch(attempt: Attempt) -> MessageDispatch:
        variant = attempt.target_index, refused_by(attempt.route, call, relay.upstreams)
        if variant not in prepared:
            if prepare_elsewhere is None:
                prepared[variant] = prepare(call, attempt.route, relay.upstreams)
            else:
                prepared[variant] = await prepare_elsewhere(attempt.route)
        return MessageDispatch(call, relay.upstreams, reply, attempt, prepared[variant])

    await Exchange(relay, call, routes, dispatch, reply).run()


def _reply(relay: Relay, call: Call, routes: list[Route]) -> Reply:
    only = routes[0] if len(routes) == 1 else None
    return Reply(call, relay.upstreams.pool.watchdog, relay.config.keepalive_s, only)
