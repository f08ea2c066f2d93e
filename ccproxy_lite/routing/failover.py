"""The decisions of one request: which target and key next, how long to wait, when to give up. Pure.

    failover.next(now) -> Attempt | Wait | GiveUp
    failover.report(attempt, failed, now)
    failover.give_up(now) -> GiveUp                where the caller knows that no other attempt is possible

A request has one or more *targets* (an upstream and a model) in the order of the configuration, and each target has
*candidates*: the keys of its upstream. ``next`` and ``report`` alone change their state. What lasts
beyond this request (cooldowns, turns, sessions) is the ``KeyRing``'s.

Rounds. Within a round every candidate is tried at most once, without a pause: first the ready keys of all targets,
then, as a last resort, those whose cooldown is only an estimate. When none is left, the round ends, and the next
one begins after the shortest of the waits that may help:

- for the end of a cooldown that is to be obeyed: the upstream has said how long, or this very request has received the
  429. All such waits of a request together last ``max_wait_s`` at most.
- for a pause before a candidate is tried again: 0.5 s, doubled with each round in which the target failed, 8 s at
  most, with a jitter of 25 %.

What a failure means (``outcome_of``) decides who is still a candidate:

- the client's fault (400, 413, ...): the end. No other upstream would respond differently.
- the model is unknown, or the request cannot be converted: the target is skipped.
- the key is rejected, or its quota spent: the key is out, at every target of this upstream; if its file or
  helper gives a new secret, it is tried once more.
- a rate limit: the key has a cooldown, which the ring keeps.
- the upstream's fault: after three in one round, and at once if it cannot be reached at all, the round is cut short for
  the target: its other keys wait for the next one (twenty keys times three rounds would be an attack on a broken
  service).

No candidate is tried more than ``retries`` times again, and no target after ``retries`` more rounds that were cut
short. The count is kept for each of them, so that a broken fallback does not shorten the patience with the first
target. When nothing may help any more, the client gets the failure that is most likely to pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ccproxy_lite.config.model import Key
from ccproxy_lite.errors import NO_PROGRAM, NO_SECRET, PARTIAL, UNREACHABLE, Kind
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.routing.keys import SLACK_S, Cooldown, KeyRing, Lease, Outcome, Result
from ccproxy_lite.routing.outages import Outages
from ccproxy_lite.routing.routes import Route

_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 8.0
_MAX_FAULTS = 3
"""After so many failures in a round that are no key's fault, a target's other keys are not tried in it."""


class Attempt(NamedTuple):
    """Send the request to this route, the target at that index, with the leased key."""

    route: Route
    lease: Lease
    target_index: int = 0

    @property
    def key(self) -> Key:
        return self.lease.key


class Wait(NamedTuple):
    """Ask again after so many seconds; or sooner, if it is for a cooldown, and that may have been cleared."""

    seconds: float
    for_cooldown: bool = False


class GiveUp(NamedTuple):
    """Tell the client. ``route`` is where it failed so; ``attempt`` the one whose error may be passed on as it came."""

    failed: Failed
    route: Route
    should_retry: bool | None = None
    attempt: Attempt | None = None


_OUTCOMES: Mapping[str, Outcome] = {
    "auth": "invalid_key",
    "permission": "invalid_key",
    "billing": "quota_exceeded",
    "rate_limit": "rate_limit",
    "overloaded": "upstream_error",
    "not_found": "unknown_model",
    "bad_request": "client_error",
    "too_large": "client_error",
    "timeout": "upstream_error",
    "server": "upstream_error",
}
_LIKELY_TO_PASS: Mapping[Outcome, int] = {
    "rate_limit": 4, "upstream_error": 3, "quota_exceeded": 2, "invalid_key": 1, "unknown_model": 0, "client_error": -1
}  # fmt: skip
"""Of several failures the client gets the one with the highest number."""


def outcome_of(failed: Failed | None) -> Outcome:
    """The kind of result of an attempt. An overload counts as a rate limit only if the upstream says how long to wait.

    >>> outcome_of(Failed(422, "bad_request", "no")), outcome_of(Failed(529, "overloaded", "busy")), outcome_of(None)
    ('client_error', 'upstream_error', 'ok')
    """
    if failed is None:
        return "ok"
    if failed.kind == "overloaded" and failed.retry_after_s is not None:
        return "rate_limit"
    return _OUTCOMES[failed.kind]


@dataclass(slots=True)
class _Candidate:
    """A key of a target, as far as this request has used it.

    :ivar had_turn: it was tried in this round; kept while other keys of the target have missed their turn
    :ivar rate_limited: this very request got a 429 with this key, so it waits for the end of the cooldown, even of an
        estimated one
    :ivar not_before: the end of the pause before it may be tried again
    """

    key: Key
    attempt_count: int = 0
    had_turn: bool = False
    rate_limited: bool = False
    not_before: float = 0.0

    def must_wait_for(self, cooldown: Cooldown | None) -> bool:
        """Whether the end of a cooldown is waited for."""
        if cooldown is None:
            return False
        return not cooldown.is_estimate or (cooldown.reason == "rate_limit" and self.rate_limited)


@dataclass(slots=True)
class _Target:
    """A route, and what this request has seen of it.

    :ivar skipped: it does not have the model, or cannot express the request
    :ivar fault_score: failures of this round that are no key's fault; ``_MAX_FAULTS`` at once for an unreachable one
    :ivar rounds_with_faults: rounds that had any; ``rounds_cut_short``, those with so many that keys were left out
    """

    target_index: int
    route: Route
    ring: KeyRing
    candidates: dict[Key, _Candidate] = field(default_factory=dict)
    skipped: bool = False
    fault_score: int = 0
    rounds_with_faults: int = 0
    rounds_cut_short: int = 0

    @property
    def upstream(self) -> str:
        return self.route.upstream.name

    def candidate_for(self, key: Key) -> _Candidate:
        """What this request has done with a key; a reload of the configuration may have added one meanwhile."""
        return self.candidates.get(key) or self.candidates.setdefault(key, _Candidate(key))

    def candidates_with_cooldown(self, now: float) -> Iterator[tuple[_Candidate, Cooldown | None]]:
        """All candidates, each with the cooldown that holds for this model now, or None."""
        return ((self.candidate_for(key), cooldown) for key, cooldown in self.ring.cooldowns(self.route.model, now))

    def end_round(self) -> None:
        """Count this round's faults."""
        self.rounds_with_faults += self.fault_score > 0
        self.rounds_cut_short += self.fault_score >= _MAX_FAULTS
        self.fault_score = 0

    def pause_s(self, jitter: float) -> float:
        doubled = _FIRST_PAUSE_S * float(2 ** max(self.rounds_with_faults - 1, 0))
        return min(doubled, _MAX_PAUSE_S) * (0.75 + jitter / 2)


@dataclass(slots=True)
class Failover:
    """One client request and its attempts.

    :ivar rings: a key ring for each upstream by name, with at least one key
    :ivar jitter: a random number below 1, from outside
    :ivar outages: the upstreams that cannot be reached, shared by all requests
    :ivar attempts: what was tried, and what became of it
    """

    routes: list[Route]
    rings: Mapping[str, KeyRing]
    retries: int = 2
    max_wait_s: float = 20
    jitter: float = 0.0
    session: str = ""
    outages: Outages = field(default_factory=Outages)
    attempts: list[tuple[Attempt, Failed | None]] = field(default_factory=list)
    _targets: list[_Target] = field(default_factory=list)
    _excluded: set[tuple[str, Key]] = field(default_factory=set)
    _got_new_secret: set[tuple[str, Key]] = field(default_factory=set)
    _waited_s: float = 0.0
    _waits_since: float | None = None
    _final: GiveUp | None = None

    def __post_init__(self) -> None:
        self._targets = [
            _Target(index, route, self.rings[route.upstream.name]) for index, route in enumerate(self.routes)
        ]

    def next(self, now: float) -> Attempt | Wait | GiveUp:
        """What to do now."""
        if self._final is not None:
            return self._final
        # The wait may have ended early, so it is measured, not added up.
        if self._waits_since is not None:
            self._waited_s += now - self._waits_since
            self._waits_since = None
        # Ready keys of all targets come before any key whose cooldown is only an estimate.
        # Those of upstreams that cannot be reached come last of all.
        for is_out in (False, True):
            targets = [one for one in self._targets if self.outages.is_out(one.upstream, now) is is_out]
            for last_resort in (False, True):
                for target in targets:
                    if target.skipped or target.fault_score >= _MAX_FAULTS or self._is_exhausted(target):
                        continue
                    lease = self._pick_lease(target, now, last_resort)
                    if lease is not None:
                        return self._begin_attempt(target, lease, now)
        return self._end_of_round(now)

    def _begin_attempt(self, target: _Target, lease: Lease, now: float) -> Attempt:
        candidate = target.candidate_for(lease.key)
        candidate.had_turn = True
        candidate.attempt_count += 1
        self.outages.begin(target.upstream, now)
        return Attempt(target.route, lease, target.target_index)

    def _pick_lease(self, target: _Target, now: float, last_resort: bool) -> Lease | None:
        excluded = {
            candidate.key
            for candidate, cooldown in target.candidates_with_cooldown(now)
            if candidate.had_turn
            or candidate.not_before - now > SLACK_S
            or candidate.must_wait_for(cooldown)
            or self._is_excluded(target, candidate)
        }
        return target.ring.pick(target.route.model, now, excluded, self.session, last_resort)

    def _is_excluded(self, target: _Target, candidate: _Candidate) -> bool:
        """Whether a candidate is not tried again, however long this request lasts."""
        return candidate.attempt_count > self.retries or (target.upstream, candidate.key) in self._excluded

    def _is_exhausted(self, target: _Target) -> bool:
        return target.rounds_cut_short > self.retries

    def report(self, attempt: Attempt, failed: Failed | None, now: float) -> Cooldown | None:
        """What became of an attempt; None for success. Returns the cooldown of its key that begins now."""
        target, outcome = self._targets[attempt.target_index], outcome_of(failed)
        self.attempts.append((attempt, failed))
        # The ring keeps the message for clients that arrive while all keys are cooling down.
        retry_after_s = failed.retry_after_s if failed else None
        message = f"{failed.status} {failed.message}" if failed else ""
        is_partial = failed is not None and failed.code == PARTIAL
        cooldown = target.ring.report(attempt.lease, Result(outcome, now, retry_after_s, message, is_partial))
        if failed is None:
            return None
        # Every upstream would reject it.
        if outcome == "client_error":
            self._final = GiveUp(failed, attempt.route, attempt=attempt)
        elif outcome == "unknown_model" or failed.code == NO_PROGRAM:  # which the next round would miss as well
            target.skipped = True
        elif outcome in ("invalid_key", "quota_exceeded"):
            self._excluded.add((target.upstream, attempt.key))
        elif outcome == "rate_limit":
            target.candidate_for(attempt.key).rate_limited = True
        elif outcome == "upstream_error":  # another key cannot reach what cannot be reached
            target.fault_score += _MAX_FAULTS if failed.code == UNREACHABLE else 1
        return cooldown

    def not_convertible(self, attempt: Attempt, failed: Failed) -> None:
        """The target cannot express the request; nothing was sent, and another target may."""
        self.attempts.append((attempt, failed))
        self._targets[attempt.target_index].skipped = True
        self.abandon(attempt)

    def abandon(self, attempt: Attempt) -> None:
        """Nothing will come of an attempt any more; the state of its key and its upstream stays as it was."""
        target = self._targets[attempt.target_index]
        target.ring.release(attempt.lease)
        self.outages.release(target.upstream)

    def may_get_new_secret(self, attempt: Attempt) -> bool:
        """Whether the attempt's key would be tried again with a new secret: once a request."""
        return (attempt.route.upstream.name, attempt.key) not in self._got_new_secret

    def retry_with_new_secret(self, attempt: Attempt, failed: Failed) -> None:
        """The key was rejected, but its file or helper gives a new secret: it may be tried again at once."""
        self._got_new_secret.add((attempt.route.upstream.name, attempt.key))
        self.retry_uncounted(attempt, failed)

    def retry_uncounted(self, attempt: Attempt, failed: Failed) -> None:
        """What the attempt has failed for will not be sent again: it may be repeated at once, and has not counted."""
        self.attempts.append((attempt, failed))
        candidate = self._targets[attempt.target_index].candidate_for(attempt.key)
        candidate.had_turn = False
        candidate.attempt_count -= 1
        self.abandon(attempt)

    # --- the end of a round

    def _end_of_round(self, now: float) -> Wait | GiveUp:
        waits: list[Wait] = []
        for target in self._targets:
            target.end_round()
            if not target.skipped and not self._is_exhausted(target):
                waits += self._waits_of_target(target, now)
        if not waits:
            return self.give_up(now)
        shortest = min(waits)
        self._waits_since = now if shortest.for_cooldown else None
        return shortest

    def _waits_of_target(self, target: _Target, now: float) -> list[Wait]:
        """How long until each of the target's candidates may be tried again; and a new round begins for it.

        Those that too many faults have kept from their turn come first in that round.
        """
        waits: list[Wait] = []
        missed_a_turn = False
        for candidate, cooldown in target.candidates_with_cooldown(now):
            if self._is_excluded(target, candidate):
                continue
            if cooldown is not None and candidate.must_wait_for(cooldown):
                if self._waited_s + cooldown.blocked_s(now) <= self.max_wait_s:
                    waits.append(Wait(cooldown.blocked_s(now), for_cooldown=True))
                continue
            if candidate.not_before - now <= SLACK_S:
                candidate.not_before = now + target.pause_s(self.jitter)
                missed_a_turn = missed_a_turn or not candidate.had_turn
            waits.append(Wait(candidate.not_before - now))
        # Otherwise the keys that were left out come first in the next round.
        if not missed_a_turn:
            for candidate in target.candidates.values():
                candidate.had_turn = False
        return waits

    def give_up(self, now: float) -> GiveUp:
        """The failure that is most likely to pass; if only keys were rejected, the client's own credential is fine."""
        if self._final is not None:
            return self._final
        cooldowns = self._rate_limits(now)
        failures: list[tuple[Route, Failed, Attempt | None]] = []
        # A hint of another request counts as well: this one may have found all keys cooling down.
        for route, cooldown in cooldowns:
            if not cooldown.is_estimate:
                failures.append((route, _as_failure(cooldown, now), None))
        failures += [(attempt.route, failed, attempt) for attempt, failed in self.attempts if failed is not None]
        likelihoods = [_LIKELY_TO_PASS[outcome_of(failed)] for _, failed, _ in failures]
        best = max(likelihoods)
        last = len(failures) - 1 - likelihoods[::-1].index(best)
        route, failed, attempt = failures[last if best >= 0 else 0]  # of rejected conversions, the first
        outcome = outcome_of(failed)
        if outcome == "rate_limit":
            shortest_s = min((cooldown.blocked_s(now) for _, cooldown in cooldowns), default=0.0)
            failed = replace(failed, retry_after_s=max(shortest_s, _FIRST_PAUSE_S))
        if route.upstream.from_client or failed.code == PARTIAL or outcome not in ("invalid_key", "quota_exceeded"):
            return GiveUp(failed, route, attempt=attempt)
        if outcome == "invalid_key":
            return GiveUp(self._all_keys_rejected(route, failed), route, should_retry=False)
        return GiveUp(failed, route, should_retry=False, attempt=attempt)

    def _rate_limits(self, now: float) -> list[tuple[Route, Cooldown]]:
        return [
            (target.route, cooldown)
            for target in self._targets
            if not target.skipped
            for candidate, cooldown in target.candidates_with_cooldown(now)
            if cooldown is not None and cooldown.reason == "rate_limit"
            if (target.upstream, candidate.key) not in self._excluded
        ]

    def _all_keys_rejected(self, route: Route, failed: Failed) -> Failed:
        if failed.code == NO_SECRET:
            return Failed(502, "server", failed.message)
        labels = [attempt.key.label for attempt, _ in self.attempts if attempt.route.upstream == route.upstream]
        named = list(dict.fromkeys(label for label in labels if label))
        what = f"{'all API keys' if len(named) > 1 else 'the API key'} ({', '.join(named)})"
        what = what if named else "the request, which had no API key"
        return Failed(502, "server", f"upstream {route.upstream.name} rejected {what}: {failed.message}")


def _as_failure(cooldown: Cooldown, now: float) -> Failed:
    """The error for a client while every key is cooling down: the message with which the upstream started that."""
    status, _, message = cooldown.message.partition(" ")
    overloaded = status in ("503", "529")
    kind: Kind = "overloaded" if overloaded else "rate_limit"
    return Failed(
        int(status) if overloaded else 429,
        kind,
        message or "all API keys are cooling down",
        retry_after_s=cooldown.blocked_s(now),
    )
