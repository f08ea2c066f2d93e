"""The way of one call: pick a target and a key, make an attempt, and go on until one has responded.

``routing.failover`` decides what comes next (an attempt, a wait, giving up). What an attempt is, the ``Exchange`` does
not know: ``messages`` converts and relays, ``raw`` passes on untouched. Everything that lasts for one call is in it;
what lasts longer, in ``relay``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from logging import DEBUG
from math import ceil
from random import random
from typing import Protocol

import anyio

from ccproxy_lite.clock import duration
from ccproxy_lite.config.secrets import is_renewable
from ccproxy_lite.errors import NO_SECRET, PARTIAL, UNREACHABLE, ClientError, UpstreamError
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import log
from ccproxy_lite.net.application import Response
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.headers import JSON_HEADERS, about_answer, merged
from ccproxy_lite.relay.record import describe
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.reply import Reply
from ccproxy_lite.relay.streams import failed_of
from ccproxy_lite.routing.failover import Attempt, Failover, GiveUp, Wait, outcome_of
from ccproxy_lite.routing.routes import Route

_LONG_CONNECTING_S = 1.0
"""A connection that takes longer when its client leaves counts as one that cannot be had."""


class Dispatch(Protocol):
    """One attempt: one request to one target, with one key.

    :ivar failed: the outcome, once it has run: None if the client has its response
    :ivar secret: the key as it was sent
    :ivar began_at: when it was begun
    :ivar dropped: what the request has lost
    """

    attempt: Attempt
    failed: Failed | None
    secret: str
    began_at: float
    dropped: tuple[str, ...]

    @property
    def is_final(self) -> bool:
        """Whether no other attempt is possible, because the request cannot be sent again."""

    @property
    def is_answered(self) -> bool:
        """Whether the client has a response, or the beginning of one, so that no other attempt can help."""

    @property
    def connecting_s(self) -> float:
        """How long the connection has been waited for, if there is none yet; else 0."""

    async def run(self) -> None:
        """Send the request, and deliver its response."""

    def misses_model(self, failed: Failed) -> bool:
        """Whether the failure says that the service does not have the model."""

    def explained(self, failed: Failed) -> Failed:
        """The failure as the client is told of it."""

    def drop_refused_field(self) -> bool:
        """Whether the request was rejected for a field that only serves a cache; the next one goes without it."""

    def error_as_it_came(self, retry_after_s: float | None) -> Response | None:
        """The upstream's error response, if the client can be sent it as it came.

        :param retry_after_s: for the client's ``Retry-After``
        """


class Exchange:
    """One call and its response.

    :param dispatch: a new attempt; raises ClientError for a target that cannot express the request
    :param reply: the client's end of a streamed response
    """

    def __init__(
        self,
        relay: Relay,
        call: Call,
        routes: list[Route],
        dispatch: Callable[[Attempt], Awaitable[Dispatch]],
        reply: Reply | None = None,
    ) -> None:
        self._relay = relay
        self._call = call
        self._new_dispatch = dispatch
        self._reply = reply
        self._dispatches: list[Dispatch] = []
        # Only then may the client's key be sent on, and must be redacted.
        if any(route.upstream.from_client for route in routes):
            call.passed_secret = call.client_key
        config = relay.config
        rings = {route.upstream.name: relay.ring_for(route.upstream, call.passed_secret) for route in routes}
        # A client's own key has a ring of its own, and a session nowhere else to go.
        is_own = bool(call.passed_secret) and all(route.upstream.from_client for route in routes)
        session = (call.session or call.conversation) if config.sticky_sessions and not is_own else ""
        if session and call.first_key:
            for ring in rings.values():
                ring.prefer(session, call.first_key, relay.clock.now())
        self._failover = Failover(routes, rings, config.retries, config.max_wait_s, random(), session, relay.outages)
        call.record.attempts = self._failover.attempts

    async def run(self) -> None:
        """Respond to the call, if only with an error."""
        client = self._call.client
        try:
            await self._until_answered()
        except anyio.get_cancelled_exc_class():
            if client.cut and self._reply is not None and self._reply.begun:
                self._reply.fail(Failed(503, "overloaded", "the proxy is shutting down"))
            raise
        finally:
            if self._reply is not None:
                self._reply.close()

    async def _until_answered(self) -> None:
        clock = self._relay.clock
        # Before the first attempt: a rotated key should work at once.
        await self._look_for_new_secrets()
        while True:
            step = self._failover.next(clock.now())
            if isinstance(step, Wait):
                await clock.wait(step.seconds, self._relay.wakeup.event if step.for_cooldown else None)
            elif isinstance(step, GiveUp):
                await self._send_final_error(step)
                return
            elif await self._make_attempt(step):
                return

    async def _look_for_new_secrets(self) -> None:
        """A file whose key was rejected may contain another one by now."""
        for ring in self._failover.rings.values():
            for state in ring.states:
                rejected = any(one.reason == "invalid_key" for one in state.cooldowns.values())
                if rejected and state.key.reference.startswith("file:"):
                    with suppress(UpstreamError):
                        await self._relay.vault.value(state.key.reference, self._relay.clock.now())

    # --- one attempt

    async def _make_attempt(self, step: Attempt) -> bool:
        """Make an attempt; returns whether the client has its response."""
        record = self._call.record
        record.route, record.key = str(step.route), step.key.label
        try:
            dispatch = await self._new_dispatch(step)
        except ClientError as error:
            self._failover.not_convertible(step, failed_of(error))
            return False
        except BaseException:
            self._failover.abandon(step)
            raise
        self._dispatches.append(dispatch)
        try:
            await dispatch.run()
            await self._report_outcome(dispatch)
        except ClientError:  # its body never came
            self._failover.abandon(step)
            raise
        except anyio.get_cancelled_exc_class():
            self._failover.abandon(step)
            # The client's patience is shorter than ours; without this, it would never learn of the other targets.
            if dispatch.connecting_s >= _LONG_CONNECTING_S:
                self._report_reach(dispatch, Failed(504, "timeout", "no connection", UNREACHABLE))
            raise
        if dispatch.is_final and dispatch.failed is not None and not dispatch.is_answered:
            # Another key might serve the next request, whatever this one has been told.
            await self._send_final_error(self._failover.give_up(self._relay.clock.now())._replace(should_retry=None))
            return True
        return dispatch.is_answered

    async def _report_outcome(self, dispatch: Dispatch) -> None:
        """Report the outcome of an attempt, unless a rejected key turns out to have a new secret."""
        relay, record, attempt, failed = self._relay, self._call.record, dispatch.attempt, dispatch.failed
        if failed is not None and await self._has_new_secret(dispatch, failed):
            self._failover.retry_with_new_secret(attempt, failed)
            return
        if failed is not None and not dispatch.is_answered and dispatch.drop_refused_field():
            self._failover.retry_uncounted(attempt, failed)
            return
        upstream, key = attempt.route.upstream, attempt.key
        now = relay.clock.now()
        cooldown = self._failover.report(attempt, failed, now)
        self._report_reach(dispatch, failed)
        totals = relay.ledger.of(upstream.name, key)
        totals.add(attempt.route.model, outcome_of(failed), now, record.usage)
        if log.isEnabledFor(DEBUG):
            log.debug("attempt: %s", describe(attempt, failed))
        if cooldown is not None and not upstream.from_client:
            is_scoped = cooldown.reason == "rate_limit" or (failed is not None and failed.code == PARTIAL)
            scope = attempt.route if is_scoped else upstream.name
            where, length = f"{scope} [{key.label}]", duration(cooldown.until - cooldown.since)
            subject = f"{where} {cooldown.reason}"
            log.warning("%s cooling down for %s: %s", where, length, cooldown.message, extra={"subject": subject})

    def _report_reach(self, dispatch: Dispatch, failed: Failed | None) -> None:
        """Whether the upstream could be reached, which concerns all requests."""
        if failed is None or failed.code != NO_SECRET:  # without a secret, nothing was sent
            problem = failed.message if failed is not None and failed.code == UNREACHABLE else ""
            self._relay.report_reach(dispatch.attempt.route.upstream.name, problem, dispatch.began_at)

    async def _has_new_secret(self, dispatch: Dispatch, failed: Failed) -> bool:
        """Whether a key was rejected whose file or helper now returns another secret."""
        reference = dispatch.attempt.key.reference
        is_rejected = failed.kind == "auth" and failed.code != NO_SECRET
        if not is_rejected or not is_renewable(reference) or not self._failover.may_get_new_secret(dispatch.attempt):
            return False
        value = await self._relay.vault.value(reference, self._relay.clock.now(), rejected=dispatch.secret)
        return value != dispatch.secret

    # --- no attempt has succeeded

    async def _send_final_error(self, end: GiveUp) -> None:
        """Send the error in the client's format, without any secret."""
        call, record = self._call, self._call.record
        dispatch = next((one for one in self._dispatches if one.attempt is end.attempt), None)
        if dispatch is not None and dispatch.misses_model(end.failed):
            await self._relay.catalog.hurry([end.route.upstream])  # whose names are told
        failed = dispatch.explained(end.failed) if dispatch is not None else end.failed
        record.route, record.error = str(end.route), call.redact(failed.message)
        record.status, body = call.form.write_error(failed)
        # The head was sent: the error goes into the stream.
        if self._reply is not None and self._reply.begun:
            record.status = 200
            self._reply.fail(failed)
            return
        text, headers = dumps(body).encode(), about_answer(end.route, dispatch.dropped if dispatch else ())
        # An error of an upstream in the client's format is passed on as it came.
        passed_on = dispatch.error_as_it_came(failed.retry_after_s) if dispatch and failed is end.failed else None
        if passed_on is not None:
            record.status, text = passed_on.status, passed_on.body
            # The hint may have been replaced by a shorter one of another key.
            kept = [(name, value) for name, value in passed_on.headers if name != "retry-after-ms"]
            headers = merged(kept, headers)
        else:
            headers = merged(headers, JSON_HEADERS)
        if failed.retry_after_s is not None:
            headers = merged(headers, [("retry-after", str(ceil(failed.retry_after_s)))])
        if end.should_retry is not None:
            headers = merged(headers, [("x-should-retry", str(end.should_retry).lower())])
        call.client.respond(Response(record.status, headers, call.redact_bytes(text)))
