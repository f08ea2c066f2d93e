"""A call with a large body: it is read and written in a copy of the process, and only what is small of it stays here.

The copy reads the body, tells of it (``Digest``: the small members, the request without its messages, what conditions
of targets ask for), waits until a target has been chosen, writes the request for it, and ends. For another target,
after a failure, a second copy reads and writes once more. From then on ``call.body`` and ``call.request`` are the small
ones; ``call.unread()`` is the same call with all of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.format import Outgoing
from ccproxy_lite.providers.provider import Ask
from ccproxy_lite.relay.attempt import Prepared, prepare
from ccproxy_lite.relay.call import Call, Digest
from ccproxy_lite.relay.facts import RequestFacts
from ccproxy_lite.relay.offload import CAN_FORK, LARGE_BYTES, Child, Peer
from ccproxy_lite.relay.upstreams import Upstreams, wire_format
from ccproxy_lite.routing.routes import Route

_SMALL_CHARS = 16_384

Prepare = Callable[[Route], Awaitable[Prepared]]
"""Writes the request for a target. Raises ClientError."""


def is_large(call: Call) -> bool:
    """Whether the call's body is read elsewhere."""
    return len(call.raw_body) > LARGE_BYTES and CAN_FORK


@contextlib.asynccontextmanager
async def preparing(call: Call, upstreams: Upstreams) -> AsyncIterator[Prepare]:
    """How the requests of a large call are written. Raises ClientError for a body that cannot be read."""
    async with upstreams.offload.forked(lambda peer: _work(peer, call, upstreams), len(call.raw_body)) as child:
        call.use_digest(await child.receive())
        large = _Large(call, upstreams, child)
        yield large.prepare


_Packed = tuple[Outgoing | None, Ask, bytes | None, tuple[str, ...]]


class _Large:
    """The requests for the targets of one call, of which the first child writes one."""

    def __init__(self, call: Call, upstreams: Upstreams, child: Child) -> None:
        self._call = call
        self._upstreams = upstreams
        self._first: Child | None = child

    async def prepare(self, route: Route) -> Prepared:
        call, upstreams = self._call, self._upstreams
        first, self._first = self._first, None
        if call.digest is None:  # it was needed here, and has been read
            if first is not None:
                first.close()
            return prepare(call, route, upstreams)
        packed: _Packed
        if first is None:
            packed = await upstreams.offload.run(
                lambda: _packed(call, prepare(call.unread(), route, upstreams)), len(call.raw_body)
            )
        else:
            first.send((route.upstream.name, *route[1:4]))
            packed = await first.receive()
            first.close()
        outgoing, ask, body, unfit = packed
        ask = ask._replace(body=call.raw_body if body is None else body)
        return Prepared(wire_format(route.upstream, call.form.name), outgoing, ask, unfit)


def _work(peer: Peer, call: Call, upstreams: Upstreams) -> None:
    """In the child."""
    peer.answer(lambda: _digest(call, upstreams))
    name, *target = peer.receive()
    upstream = upstreams.config.upstream(name)
    assert upstream is not None
    peer.answer(lambda: _packed(call, prepare(call, Route(upstream, *target), upstreams)))


def _packed(call: Call, prepared: Prepared) -> _Packed:
    """A request that can be sent: without the object that its bytes were made of, and its format, which has a name."""
    outgoing = prepared.outgoing._replace(body={}) if prepared.outgoing is not None else None
    ask = prepared.ask
    body = None if ask.body == call.raw_body else ask.body  # which the parent has
    return outgoing, ask._replace(body=b""), body, prepared.unfit


def _digest(call: Call, upstreams: Upstreams) -> Digest:
    small = {one.key: one.value for one in call.members if one.end - one.start <= _SMALL_CHARS}
    config, request, facts = upstreams.config, None, None
    if any(wire_format(upstream, call.form.name) is not call.form for upstream in config.upstreams):
        with contextlib.suppress(ClientError):  # which is raised again where the request is needed
            request = replace(call.request, messages=())
    if any(target.when is not None for _, targets in config.models for target in targets):
        known = RequestFacts(call, upstreams)
        facts = known.contents, known.tokens, known.system
    return Digest(small, request, facts)
