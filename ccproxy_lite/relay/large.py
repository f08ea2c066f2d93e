"""A call with a large body: it is read and written in a copy of the process, and only what is small of it stays here.

The copy is given the body, reads it, tells of it (``Digest``: the small members, the request without its messages, what
conditions of targets ask for), waits until a target has been chosen, and writes the request for it. For another target,
after a failure, a second copy reads and writes once more. From then on ``call.body`` and ``call.request`` are the small
ones; ``call.unread()`` is the same call with all of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, NamedTuple

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import Outgoing, PathInfo
from ccproxy_lite.net.heads import RequestHead
from ccproxy_lite.providers.provider import Ask
from ccproxy_lite.relay.attempt import Prepared, prepare, refused_by
from ccproxy_lite.relay.call import Call, Digest
from ccproxy_lite.relay.facts import RequestFacts
from ccproxy_lite.relay.offload import Child, Peer
from ccproxy_lite.relay.upstreams import Upstreams, wire_format
from ccproxy_lite.routing.routes import Route

_SMALL_CHARS = 16_384

Prepare = Callable[[Route], Awaitable[Prepared]]
"""Writes the request for a target. Raises ClientError."""


@contextlib.asynccontextmanager
async def preparing(call: Call, upstreams: Upstreams) -> AsyncIterator[Prepare]:
    """How the requests of a large call are written. Raises ClientError for a body that cannot be read."""
    async with contextlib.AsyncExitStack() as stack:
        large = _Large(call, upstreams, stack)
        await large.read()
        yield large.prepare


class _Seed(NamedTuple):
    """What the child needs of a call."""

    form: str
    head: RequestHead
    raw_body: bytes
    path_info: PathInfo
    named_session: str

    def call(self) -> Call:
        nobody: Any = None  # where the response goes is none of its business
        call = Call(FORMATS[self.form], self.head, self.raw_body, nobody, nobody, nobody, self.path_info)
        call.named_session = self.named_session
        return call


class _Target(NamedTuple):
    """A route, and the fields for a cache that have been rejected there."""

    upstream: str
    model: str
    effort: str
    overlay: str
    refused: frozenset[str]


_Packed = tuple[Outgoing | None, Ask, bytes | None, tuple[str, ...]]


class _Large:
    """The requests for the targets of one call, of which the child that has read it writes one.

    :param stack: as long as it is open, the child is there for this call
    """

    def __init__(self, call: Call, upstreams: Upstreams, stack: contextlib.AsyncExitStack) -> None:
        self._call = call
        self._upstreams = upstreams
        self._stack = stack
        self._child: Child | None = None

    async def read(self) -> None:
        """Have the body read, and take what is small of it."""
        call, upstreams = self._call, self._upstreams
        working = upstreams.offload.resident(lambda peer: _work(peer, upstreams), len(call.raw_body))
        call.client.cancel_on_eof()
        child = await self._stack.enter_async_context(working)
        await child.send(_Seed(call.form.name, call.head, call.raw_body, call.path_info, call.named_session))
        try:
            call.use_digest(await child.receive())
        except Exception:  # its work for this call is done
            await self._stack.aclose()
            raise
        self._child = child
        self._stack.push_async_callback(self._let_go)

    async def prepare(self, route: Route) -> Prepared:
        """The request for a target. Raises ClientError."""
        call, upstreams, child = self._call, self._upstreams, self._child
        if call.digest is None:  # all of it was needed here, and has been read
            await self._stack.aclose()
            return prepare(call, route, upstreams)
        if child is None:
            packed: _Packed = await upstreams.offload.run(
                lambda: _packed(call, prepare(call.unread(), route, upstreams)), len(call.raw_body)
            )
        else:
            refused = refused_by(route, call, upstreams)
            self._child = None
            await child.send(_Target(route.upstream.name, route.model, route.effort, route.overlay, refused))
            try:
                packed = await child.receive()
            except Exception:
                await self._stack.aclose()
                raise
            await self._stack.aclose()
        outgoing, ask, body, unfit = packed
        ask = ask._replace(body=call.raw_body if body is None else body)
        return Prepared(wire_format(route.upstream, call.form.name), outgoing, ask, unfit)

    async def _let_go(self) -> None:
        """The call has no target."""
        child, self._child = self._child, None
        if child is not None:
            await child.send(None)


def _work(peer: Peer, upstreams: Upstreams) -> None:
    """In the child: one call."""
    seed: _Seed = peer.receive()
    call = seed.call()
    if not peer.answer(lambda: _digest(call, upstreams)):
        return
    target: _Target | None = peer.receive()
    if target is None:
        return
    upstream = upstreams.config.upstream(target.upstream)
    assert upstream is not None, "both have the same configuration"
    route = Route(upstream, target.model, target.effort, target.overlay)
    call.refused = {(upstream.name, target.model): target.refused}
    peer.answer(lambda: _packed(call, prepare(call, route, upstreams)))


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
