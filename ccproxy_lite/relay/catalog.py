"""The models that clients can request: the configuration's names, and the upstreams' lists, kept for five minutes."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from ccproxy_lite.config.model import Config, Upstream
from ccproxy_lite.errors import UNREACHABLE, UpstreamError
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.log import log
from ccproxy_lite.providers import known
from ccproxy_lite.providers.provider import Ask
from ccproxy_lite.relay.facts import Listed
from ccproxy_lite.relay.headers import USER_AGENT
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import wire_format
from ccproxy_lite.routing.routes import Route, model_names, resolve, route_to, targets_of

_FRESH_S = 300.0
_RETRY_S = 15.0
_MAX_BYTES = 16_777_216


class Catalog:
    """The models that a client can request."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._fresh_until: dict[str, float] = {}
        self._asking: dict[str, anyio.Lock] = {}

    async def models(self, pinned_upstream: str = "") -> list[ModelInfo]:
        """Aliases first, then what each upstream lists, each name once; if one is ``pinned``, only its models."""
        config = self._relay.config
        one = config.upstream(pinned_upstream)
        candidates = config.upstreams if one is None else (one,)
        await self.refresh(candidates)
        if one is not None:
            return [self.info(Route(one, model)) for model in self.listed_by(one)]
        listed = [model for upstream in candidates for model in self.listed_by(upstream)]
        return [self.described(name) for name in dict.fromkeys([*model_names(config), *listed])]

    @property
    def config(self) -> Config:
        return self._relay.config

    def routes(self, name: str) -> list[Route]:
        """Where a name leads, as far as that depends on no request. Raises ClientError (404)."""
        return resolve(self.config, name, "", facts=Listed(self._relay.upstreams.lists))

    def listed_by(self, upstream: Upstream) -> list[str]:
        """The models that an upstream is known to have: those of the configuration, else of its own list."""
        return list(upstream.models) or list(self._relay.upstreams.lists.get(upstream.name, ()))

    def described(self, name: str) -> ModelInfo:
        """What clients are told of a name: what the configuration says, else what is known of where it leads."""
        targets, told, windows = targets_of(self.config, name), ModelInfo(name), []
        if not targets:
            return told.completed(self.info(self.routes(name)[0]))
        for target in targets:
            info = ModelInfo(name, target.name, target.context_tokens, target.output_tokens)
            info = info.completed(self.info(route_to(self.config, target, name))._replace(name=""))
            if target.when is None or target.when.tokens_over is not None:
                windows.append(info.context_tokens or 0)
            told = told.completed(info)
            if target.when is None:  # what stands behind it is for failures
                break
        # A target for large requests is there so that they may become large.
        return told._replace(context_tokens=max(windows, default=0) or told.context_tokens)

    def info(self, route: Route) -> ModelInfo:
        """What is known of a model of an upstream: what its list says, else what its name does."""
        own = self._relay.upstreams.lists.get(route.upstream.name, {}).get(route.model, ModelInfo(route.model))
        return own.completed(known(route.model))

    async def ask(self, upstream: Upstream) -> list[ModelInfo]:
        """The list of an upstream, requested now. Raises UpstreamError."""
        relay, upstreams = self._relay, self._relay.upstreams
        form = wire_format(upstream)
        ring = relay.rings[upstream.name]
        key = ring.key_for_side_request("", relay.clock.now()) or ring.states[0].key
        headers = (("accept", "application/json"), ("user-agent", USER_AGENT), *form.fixed_headers)
        secret = await upstreams.secret_of(upstream, key.reference)
        question = upstream.provider.models(upstream, form, Ask(headers=headers), secret)
        return await upstreams.collect(upstream, question, _MAX_BYTES)

    async def refresh(self, upstreams: Iterable[Upstream]) -> None:
        """Ask those for their lists that have one, and whose last answer is too old."""
        async with anyio.create_task_group() as tasks:
            for upstream in upstreams:
                if not upstream.models and not upstream.from_client and not upstream.provider.runs:
                    tasks.start_soon(self._refresh_list, upstream)

    async def _refresh_list(self, upstream: Upstream) -> None:
        name, now = upstream.name, self._relay.clock.now()
        # One request at a time; the others use its result.
        async with self._asking.setdefault(name, anyio.Lock()):
            if self._relay.outages.is_out(name, now) or now < self._fresh_until.get(name, 0.0):
                return
            try:
                self._relay.upstreams.lists[name] = {model.id: model for model in await self.ask(upstream)}
                self._fresh_until[name] = now + _FRESH_S
            except UpstreamError as error:
                log.warning("could not list models of %s: %s", name, self._relay.vault.redact(error.message))
                self._fresh_until[name] = now + _RETRY_S
                if error.code == UNREACHABLE:
                    self._relay.report_reach(name, error.message, now)
