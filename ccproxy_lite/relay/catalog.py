"""The models that clients can request: the configuration's names, and what the upstreams list.

A list is asked for when it is needed, once for all who need it then. It is fresh for five minutes; after a
failure the old one stays, and is not asked for again for 15 seconds. A request for a message asks only where it must
know: if an effort may stand behind its model's name, and if the service does not have the model. Of an alias with
several targets, clients are told the largest window among those that any large request may reach, for with a smaller
one they would compact too early; and the smallest limit of answers among them, for it is sent to each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import anyio
import anyio.abc

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import Config, Upstream
from ccproxy_lite.errors import UNREACHABLE, ClientError, UpstreamError
from ccproxy_lite.formats.neutral.catalog import INPUTS, ModelInfo
from ccproxy_lite.log import internal_error, log
from ccproxy_lite.providers import known_model
from ccproxy_lite.providers.provider import Ask
from ccproxy_lite.relay.headers import USER_AGENT
from ccproxy_lite.relay.upstreams import Upstreams, wire_format
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.routing.keys import KeyRing
from ccproxy_lite.routing.outages import Outages
from ccproxy_lite.routing.routes import Listed, Route, model_names, resolve, route_to, targets_of

_FRESH_S = 300.0
_RETRY_S = 15.0
_HURRY_S = 3.0
_MAX_BYTES = 16_777_216


class Services(Protocol):
    """The upstreams of one configuration, their keys, and which of them cannot be reached: a ``Relay``."""

    config: Config
    upstreams: Upstreams
    rings: Mapping[str, KeyRing]
    outages: Outages
    vault: Vault
    clock: Clock

    def report_reach(self, upstream: str, problem: str, began: float) -> None:
        """Whether a request has reached its upstream."""


class Catalog:
    """The models that a client can request.

    :param tasks: where upstreams are asked, for who waits for an answer may leave before it; without it, none is asked
    :ivar problems: by upstream, why its list could not be had the last time
    """

    def __init__(self, relay: Services, tasks: anyio.abc.TaskGroup | None) -> None:
        self._relay = relay
        self._tasks = tasks
        self._fresh_until: dict[str, float] = {}
        self._asking: dict[str, anyio.Event] = {}
        self.problems: dict[str, str] = {}

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
        targets, told, ordinary = targets_of(self.config, name), ModelInfo(name), list[ModelInfo]()
        if not targets:
            return told.completed(self.info(self.routes(name)[0]))
        inputs: set[str] = set()
        for target in targets:
            route = route_to(self.config, target, name)
            there = self.info(route)
            there = there if route.model == name else there._replace(name="")  # an alias has a name of its own
            info = ModelInfo(name, target.name, target.context_tokens, target.output_tokens).completed(there)
            # A target for some kinds of content gets these alone.
            chosen = info.inputs or () if target.when is None else set(info.inputs or ()) & set(target.when.contents)
            inputs.update(chosen)
            if target.when is None or target.when.tokens_over is not None:
                ordinary.append(info)
            told = told.completed(info)
            if target.when is None:  # what stands behind it is for failures
                break
        # A target for large requests is there so that they may become large.
        window = max((info.context_tokens or 0 for info in ordinary), default=0) or told.context_tokens
        output = min((info.output_tokens for info in ordinary if info.output_tokens), default=told.output_tokens)
        kinds = None if told.inputs is None else tuple(kind for kind in INPUTS if kind in inputs)
        return told._replace(context_tokens=window, output_tokens=output, inputs=kinds)

    def retrieved(self, name: str) -> ModelInfo | None:
        """What clients are told of a name that they ask for by itself; None if nobody has such a model.

        That is any name to which an entry of ``models`` leads, or which an upstream lists; where it lists none, a name
        that is written with the upstream's.
        """
        try:
            route = self.routes(name)[0]
        except ClientError:
            return None
        names = self.listed_by(route.upstream)
        is_there = bool(targets_of(self.config, name)) or route.model in names
        is_pinned = name.startswith(f"{route.upstream.name}/") and not names
        return self.described(name) if is_there or is_pinned else None

    def info(self, route: Route) -> ModelInfo:
        """What is known of a model of an upstream: what its list says, else what its name does."""
        own = self._relay.upstreams.lists.get(route.upstream.name, {}).get(route.model, ModelInfo(route.model))
        return own.completed(known_model(route.model))

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
        for done in [self._begin(upstream) for upstream in upstreams]:
            if done is not None:
                await done.wait()

    async def hurry(self, upstreams: Iterable[Upstream]) -> None:
        """The same while a client waits for its response, not for long, and not for those whose list failed before."""
        begun = [(upstream.name in self.problems, self._begin(upstream)) for upstream in upstreams]
        with anyio.move_on_after(_HURRY_S):
            for has_failed, done in begun:
                if done is not None and not has_failed:
                    await done.wait()

    def _begin(self, upstream: Upstream) -> anyio.Event | None:
        """Ask an upstream, if it must be; the event is set when its answer is there, which is for all who wait."""
        name, now = upstream.name, self._relay.clock.now()
        is_fresh = self._relay.outages.is_out(name, now) or now < self._fresh_until.get(name, 0.0)
        if upstream.models or upstream.from_client or not upstream.lists or is_fresh or self._tasks is None:
            return None
        if name not in self._asking:
            self._asking[name] = anyio.Event()
            self._tasks.start_soon(self._ask_for_list, upstream, now)
        return self._asking[name]

    async def _ask_for_list(self, upstream: Upstream, now: float) -> None:
        name = upstream.name
        try:
            self._relay.upstreams.lists[name] = {model.id: model for model in await self.ask(upstream)}
            self._fresh_until[name] = now + _FRESH_S
            self.problems.pop(name, None)
        except UpstreamError as error:
            self._note_problem(name, error.message, now)
            if error.code == UNREACHABLE:
                self._relay.report_reach(name, error.message, now)
        except Exception as error:  # nobody else would see it
            self._note_problem(name, internal_error(error), now)
        finally:
            self._asking.pop(name).set()

    def _note_problem(self, name: str, message: str, now: float) -> None:
        self.problems[name] = self._relay.vault.redact(message)
        self._fresh_until[name] = now + _RETRY_S
        log.warning("could not list models of %s: %s", name, self.problems[name])
