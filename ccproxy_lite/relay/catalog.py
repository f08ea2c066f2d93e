"""The models that clients can request: the configuration's names, and the upstreams' lists, kept for five minutes."""

from __future__ import annotations

import anyio

from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import UNREACHABLE, UpstreamError
from ccproxy_lite.log import log
from ccproxy_lite.providers.provider import Ask
from ccproxy_lite.relay.headers import USER_AGENT
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import wire_format
from ccproxy_lite.routing.routes import model_names

_FRESH_S = 300.0
_RETRY_S = 15.0
_MAX_BYTES = 16_777_216


class Catalog:
    """The models that a client can request."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._lists: dict[str, tuple[list[str], float]] = {}
        self._asking: dict[str, anyio.Lock] = {}

    async def names(self, pinned_upstream: str = "") -> list[str]:
        """Aliases first, then what each upstream lists, each name once; if one is ``pinned``, only its models."""
        config = self._relay.config
        one = config.upstream(pinned_upstream)
        if one is not None and one.models:
            return list(one.models)
        candidates = config.upstreams if one is None else (one,)
        listing = [
            upstream
            for upstream in candidates
            if not upstream.models and not upstream.from_client and not upstream.provider.runs
        ]
        async with anyio.create_task_group() as tasks:
            for upstream in listing:
                tasks.start_soon(self._refresh_list, upstream)
        lists = [self._lists[upstream.name][0] for upstream in listing]
        aliases = model_names(config) if one is None else []
        return list(dict.fromkeys([*aliases, *(name for names in lists for name in names)]))

    async def ask(self, upstream: Upstream) -> list[str]:
        """The list of an upstream, requested now. Raises UpstreamError."""
        relay, upstreams = self._relay, self._relay.upstreams
        form = wire_format(upstream)
        ring = relay.rings[upstream.name]
        key = ring.key_for_side_request("", relay.clock.now()) or ring.states[0].key
        headers = (("accept", "application/json"), ("user-agent", USER_AGENT), *form.fixed_headers)
        secret = await upstreams.secret_of(upstream, key.reference)
        question = upstream.provider.models(upstream, form, Ask(headers=headers), secret)
        return await upstreams.collect(upstream, question, _MAX_BYTES)

    async def _refresh_list(self, upstream: Upstream) -> None:
        now = self._relay.clock.now()
        # One request at a time; the others use its result.
        async with self._asking.setdefault(upstream.name, anyio.Lock()):
            names, until = self._lists.get(upstream.name, ([], 0.0))
            if self._relay.outages.is_out(upstream.name, now):
                self._lists.setdefault(upstream.name, (names, now))
                return
            if now < until:
                return
            try:
                self._lists[upstream.name] = (await self.ask(upstream), now + _FRESH_S)
            except UpstreamError as error:
                log.warning("could not list models of %s: %s", upstream.name, self._relay.vault.redact(error.message))
                self._lists[upstream.name] = (names, now + _RETRY_S)
                if error.code == UNREACHABLE:
                    self._relay.report_reach(upstream.name, error.message, now)
