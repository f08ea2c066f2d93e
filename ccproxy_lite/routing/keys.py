"""The keys of one upstream: which one is next, which ones cool down, why and until when. Pure; time is an argument.

>>> ring = KeyRing((Key("a", "a", 2), Key("b", "b")))
>>> [lease.key.label for _ in range(6) if (lease := ring.pick("m", 0.0))]
['a', 'b', 'a', 'a', 'b', 'a']

States. For a given model a key is *ready* or in a *cooldown*. A rate limit is a cooldown for one model, a spent quota
or a rejected key one for all of them (kept under the empty model name). Only ``KeyRing.report`` begins or extends a
cooldown; ``report`` ends one after a success, and ``clear`` when a user says so or a rejected key has a new secret.

Two sources. Where the upstream has said how long (``retry_after``), the key is not used before, except for one probe
an hour. Where it has not, the length is an estimate (``backoff``), which doubles from one failure to the next. An
estimate may be wrong, so it only puts the key behind all others: ``pick(last_resort=True)`` still hands it out, and
one hiccup never takes an upstream's only key away.

What counts as news. Many requests are in flight when a limit is hit, and all of them fail or succeed after it. So a
success ends a cooldown only if its request was sent after that began, and a failure for the same reason doubles an
estimate only if its request was sent after that ended. A time that the upstream names, or a failure for another reason,
replaces an estimate at once. A cooldown that is over is kept for a while, because the next one doubles it.

Probes. Upstreams name absurd times (a day, for a limit that is lifted at once), so an hour after such a cooldown began
one request may try whether it still holds. ``pick`` notes in the ``Lease`` which cooldowns it probes; the report that
comes with the same lease decides. For a minute no other request may probe; ``release`` hands an unused probe back.

Turns and sessions. Ready keys take turns in proportion to their weights, smoothly (a, b, a, not a, a, b). A session
stays on the key to which it is bound until that one cools down, because the upstreams' prompt caches are kept per key;
a retry with another key does not rebind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ccproxy_lite.config.model import Key

Outcome = Literal[
    "ok", "rate_limit", "quota_exceeded", "invalid_key", "unknown_model", "upstream_error", "client_error"
]
"""What a key's use came to: see ``failover.outcome_of``."""

ANONYMOUS = Key("", "")
"""Stands for the key of an upstream that needs none, or that gets the client's."""

PROBE_S = 3600.0
"""However long an upstream asks for, after this time one request finds out whether it still holds."""

_BACKOFF_S: dict[Outcome, tuple[float, float]] = {
    "rate_limit": (1.0, 60.0),
    "quota_exceeded": (1800.0, 1800.0),
    "invalid_key": (300.0, 3600.0),
}
"""The outcomes that begin a cooldown: its first length and its longest, in seconds."""

_UNDECIDED_PROBE_S = 60.0
SLACK_S = 0.001
"""Less than this is no time: it swallows the errors of adding floats."""
_SESSION_S = 3600.0
_MAX_SESSIONS = 10_000
_PURGE_EVERY = 100
"""Whenever a key has a multiple of so many cooldowns, those that are over are dropped."""
_MAX_MESSAGE_CHARS = 500
_ALL_MODELS = ""


class Result(NamedTuple):
    """What became of a request that used a key. ``retry_after_s`` is how long the upstream wants to be left alone.

    ``is_partial``: the key was rejected for the requested part of the API alone.
    """

    outcome: Outcome
    now: float
    retry_after_s: float | None = None
    message: str = ""
    is_partial: bool = False


@dataclass(slots=True)
class Cooldown:
    """Why a key is left alone, and until when.

    :ivar source: ``retry_after`` if the upstream said how long, ``backoff`` if that is an estimate
    :ivar probe_at: when one request may try whether it still holds; infinite for an estimate
    :ivar probe: the lease of the request that tries just now
    """

    reason: Outcome
    since: float
    until: float
    source: Literal["retry_after", "backoff"] = "backoff"
    message: str = ""
    probe_at: float = float("inf")
    probe: Lease | None = field(default=None, compare=False, repr=False)

    @property
    def is_estimate(self) -> bool:
        return self.source == "backoff"

    def blocked_s(self, now: float) -> float:
        """Seconds until the key may be used again; 0 once it may."""
        left = min(self.until, self.probe_at) - now
        return left if left > SLACK_S else 0.0

    def wants_probe(self, now: float) -> bool:
        """Whether the key's next use is a probe."""
        return self.until > now >= self.probe_at - SLACK_S


class Lease(NamedTuple):
    """A key that was handed out for one request at ``started_at``, and the cooldowns which that request probes."""

    key: Key
    model: str
    started_at: float = 0.0
    probes: tuple[Cooldown, ...] = ()


@dataclass(slots=True)
class KeyState:
    """A key and its cooldowns by model, the empty name standing for all models."""

    key: Key
    credit: int = 0
    cooldowns: dict[str, Cooldown] = field(default_factory=dict)

    def concerning(self, model: str) -> list[Cooldown]:
        """The cooldowns, over or not, that concern a model."""
        return [self.cooldowns[slot] for slot in {_ALL_MODELS, model} if slot in self.cooldowns]

    def cooldown(self, model: str, now: float) -> Cooldown | None:
        """The one in force for a model: one that the upstream named rather than an estimate, else the longest."""
        holding = [cooldown for cooldown in self.concerning(model) if cooldown.blocked_s(now)]
        return max(holding, key=lambda one: (not one.is_estimate, one.blocked_s(now)), default=None)

    def is_ready(self, model: str, now: float) -> bool:
        return not self.cooldowns or self.cooldown(model, now) is None

    def lease(self, model: str, now: float) -> Lease:
        """Hand the key out; the probes that are due go with it, and with no other lease for a minute."""
        if not self.cooldowns:
            return Lease(self.key, model, now)
        lease = Lease(self.key, model, now, tuple(one for one in self.concerning(model) if one.wants_probe(now)))
        for cooldown in lease.probes:
            cooldown.probe, cooldown.probe_at = lease, now + _UNDECIDED_PROBE_S
        return lease


class KeyRing:
    """The keys of one upstream in turns, or always the first that is ready (``fill-first``).

    :param before: the ring of an earlier configuration; cooldowns and sessions of keys that are still there are kept,
        except that no key counts as rejected any more. Both rings share them: requests in flight still report here.
    """

    def __init__(self, keys: tuple[Key, ...], strategy: str = "round-robin", before: KeyRing | None = None) -> None:
        states_before = {state.key.reference: state for state in before.states} if before else {}
        self.states: list[KeyState] = []
        for key in keys:
            # The same object: requests in flight report to the old ring, and both must see it.
            state = states_before.get(key.reference) or KeyState(key)
            state.key, state.credit = key, 0
            self.states.append(state)
            self.clear(key.reference, "invalid_key")
        self.sessions: dict[str, tuple[str, float]] = before.sessions if before else {}
        self._by_reference = {state.key.reference: state for state in self.states}
        self._side_requests = 0
        self._fill_first = strategy == "fill-first"

    # --- choosing

    def pick(
        self, model: str, now: float, exclude: Collection[Key] = (), session: str = "", last_resort: bool = False
    ) -> Lease | None:
        """The key to use now, or None if none is left.

        :param session: stay on the key to which this session is bound, while it is ready
        :param last_resort: choose among the keys whose cooldown is an estimate, instead of the ready ones
        """
        candidates = [state for state in self.states if state.key not in exclude]
        bound = self._key_of_session(session, now)
        if last_resort:
            state = self._soonest_estimated(candidates, model, now)
        else:
            ready = [state for state in candidates if state.is_ready(model, now)]
            state = bound if bound in ready else self._next_turn(ready)
        if state is None:
            return None
        # A session moves for good when its key cools down; a transient failure does not move it.
        if session and (bound is None or bound is state or not bound.is_ready(model, now)):
            self._bind_session(session, state, now)
        return state.lease(model, now)

    def key_for_side_request(self, model: str, now: float) -> Key | None:
        """A ready key for a request outside the failover (counting, listing). Turns, sessions, probes stay."""
        ready = [
            state
            for state in self.states
            if state.is_ready(model, now) and not any(one.wants_probe(now) for one in state.concerning(model))
        ]
        self._side_requests += 1
        return ready[self._side_requests % len(ready)].key if ready else None

    def _next_turn(self, ready: list[KeyState]) -> KeyState | None:
        """Smooth weighted round robin: each key gains its weight, and the chosen one loses the sum of them."""
        if not ready or self._fill_first:
            return ready[0] if ready else None
        for state in ready:
            state.credit += state.key.weight
        chosen = max(ready, key=lambda state: state.credit)
        chosen.credit -= sum(state.key.weight for state in ready)
        return chosen

    def _soonest_estimated(self, candidates: list[KeyState], model: str, now: float) -> KeyState | None:
        estimates = [
            (cooldown.blocked_s(now), state)
            for state in candidates
            if (cooldown := state.cooldown(model, now)) and cooldown.is_estimate
        ]
        return min(estimates, key=lambda pair: pair[0], default=(0.0, None))[1]

    def cooldowns(self, model: str, now: float) -> Iterator[tuple[Key, Cooldown | None]]:
        """Each key with the cooldown that is in force for this model, or None."""
        return ((state.key, state.cooldown(model, now)) for state in self.states)

    # --- sessions

    def _key_of_session(self, session: str, now: float) -> KeyState | None:
        reference, last_at = self.sessions.get(session, ("", 0.0))
        return self._by_reference.get(reference) if session and now - last_at < _SESSION_S else None

    def _bind_session(self, session: str, state: KeyState, now: float) -> None:
        sessions = self.sessions
        sessions.pop(session, None)
        sessions[session] = (state.key.reference, now)
        self.forget_sessions(now)

    def prefer(self, session: str, reference: str, now: float) -> None:
        """Bind a session to a key of the ring, if it is there, and the session not bound yet."""
        state = self._by_reference.get(reference)
        if state is not None and self._key_of_session(session, now) is None:
            self._bind_session(session, state, now)

    def forget_sessions(self, now: float) -> None:
        """Drop sessions unused for an hour, and the oldest beyond the maximum; they are ordered by last use."""
        while self.sessions:
            oldest = next(iter(self.sessions))
            if now - self.sessions[oldest][1] < _SESSION_S and len(self.sessions) <= _MAX_SESSIONS:
                return
            del self.sessions[oldest]

    # --- what became of a key

    def report(self, lease: Lease, result: Result) -> Cooldown | None:
        """Update the cooldowns of a key after a request; returns the cooldown if it is a new one."""
        state = self._by_reference.get(lease.key.reference)
        if state is None:  # a reload has removed it meanwhile
            return None
        if result.outcome == "ok":
            for slot in (_ALL_MODELS, lease.model):
                if slot in state.cooldowns and lease.started_at > state.cooldowns[slot].since:
                    del state.cooldowns[slot]
            return None
        # Neither good news nor bad about the key.
        if result.outcome not in _BACKOFF_S:
            self.release(lease)
            return None
        # Rate limits are per model, quota and validity are not.
        slot = lease.model if result.outcome == "rate_limit" or result.is_partial else _ALL_MODELS
        before = state.cooldowns.get(slot)
        cooldown = state.cooldowns[slot] = next_cooldown(before, lease.started_at, result)
        if len(state.cooldowns) % _PURGE_EVERY == 0:  # clients choose model names: now and then, drop what is over
            state.cooldowns = {slot: one for slot, one in state.cooldowns.items() if one.blocked_s(result.now)}
        return cooldown if cooldown is not before else None

    def release(self, lease: Lease) -> None:
        """The request decided nothing about the key: what it was to probe, another one may."""
        for cooldown in lease.probes:
            if cooldown.probe is lease:
                cooldown.probe, cooldown.probe_at = None, lease.started_at

    def clear(self, reference: str, reason: Outcome | None = None) -> bool:
        """End a key's cooldowns, all or those for one reason. Whether there was one."""
        cleared = False
        for state in self.states:
            if state.key.reference == reference:
                kept = {slot: one for slot, one in state.cooldowns.items() if reason not in (None, one.reason)}
                cleared = cleared or len(kept) < len(state.cooldowns)
                state.cooldowns = kept
        return cleared


def next_cooldown(before: Cooldown | None, started_at: float, result: Result) -> Cooldown:
    """The cooldown after a failure: ``before`` itself if the failure adds nothing to it.

    >>> first = next_cooldown(None, 0, Result("rate_limit", 0))
    >>> next_cooldown(first, 1, Result("rate_limit", 1)).until
    3.0
    >>> next_cooldown(first, 1, Result("rate_limit", 1, retry_after_s=9)).until
    10
    """
    is_news = before is None or started_at > before.since
    if result.outcome == "rate_limit" and result.retry_after_s is not None:
        until = result.now + result.retry_after_s
        # The upstream has named both times at once: both hold.
        if before is not None and not before.is_estimate and not is_news:
            until = max(until, before.until)
        return _requested_cooldown(result, until)
    if before is not None and not before.is_estimate and result.now < before.until:
        if is_news:  # a probe has failed
            before.probe, before.probe_at = None, result.now + PROBE_S
        return before
    if before is not None and before.reason == result.outcome and started_at < before.until - SLACK_S:
        return before
    return _estimated_cooldown(before, result)


def _requested_cooldown(result: Result, until: float) -> Cooldown:
    message = result.message[:_MAX_MESSAGE_CHARS]
    return Cooldown(result.outcome, result.now, until, "retry_after", message, result.now + PROBE_S)


def _estimated_cooldown(before: Cooldown | None, result: Result) -> Cooldown:
    """An estimate, twice as long as the one before for the same reason."""
    length_s, longest_s = _BACKOFF_S[result.outcome]
    if before is not None and before.reason == result.outcome and before.is_estimate:
        length_s = min(2 * (before.until - before.since), longest_s)
    until = result.now + length_s
    return Cooldown(result.outcome, result.now, until, message=result.message[:_MAX_MESSAGE_CHARS])
