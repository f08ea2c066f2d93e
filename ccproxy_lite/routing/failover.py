"""The decisions of one request: which target and key next, how long to wait, when to give up. Pure.

    failover.next(now) -> Attempt | Wait | GiveUp
    failover.report(attempt, failed, now)

A round tries every ready key of every target once, then the keys that rest by a guess. What may help (another key,
another moment) is tried again in more rounds, but no key and no broken target more often than ``retries`` times again;
what the client did wrong, never.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ccproxy_lite.config.model import Key
from ccproxy_lite.errors import Kind
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.routing.keys import SLACK_S, KeyRing, Outcome, Rest, Use
from ccproxy_lite.routing.routes import Route

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 8.0
_MOST_FAULTS = 3
"""After so many failures that are no key's fault, a target's other keys are not tried in this round."""


class Attempt(NamedTuple):
    """Send the request to this target, the one of that number, with this key; ``started_s`` is now."""

    route: Route
    key: Key
    started_s: float = 0.0
    number: int = 0


class Wait(NamedTuple):
    """Ask again after so many seconds; or sooner, if it is for the rest of a key, and that may have ended."""

    seconds: float
    for_a_rest: bool = False


class GiveUp(NamedTuple):
    """Tell the client; ``route`` is where it failed so, ``attempt`` the one whose failure is told as it came."""

    failed: Failed
    route: Route
    should_retry: bool | None = None
    attempt: Attempt | None = None


_OUTCOMES: Mapping[str, Outcome] = {
    "auth": "refused",
    "permission": "refused",
    "billing": "billing",
    "rate_limit": "rate_limit",
    "overloaded": "transient",
    "not_found": "missing_model",
    "bad_request": "client",
    "too_large": "client",
    "timeout": "transient",
    "server": "transient",
}
_HOPE: Mapping[Outcome, int] = {
    "rate_limit": 4, "transient": 3, "billing": 2, "refused": 1, "missing_model": 0, "client": -1
}  # fmt: skip
"""Of several failures the client is told the one that most likely passes."""


def outcome_of(failed: Failed) -> Outcome:
    """What a failure says about the key. An overload rests a key only for a time that the upstream names.

    >>> outcome_of(Failed(422, "bad_request", "no")), outcome_of(Failed(529, "overloaded", "busy"))
    ('client', 'transient')
    """
    if failed.kind == "overloaded" and failed.retry_after_s is not None:
        return "rate_limit"
    return _OUTCOMES[failed.kind]


@dataclass(slots=True)
class Failover:
    """One client request and its attempts.

    :ivar rings: the keys of each target's upstream, at least one each
    :ivar jitter: a random number below 1, from outside
    :ivar attempts: what was tried, and what became of it
    """

    routes: list[Route]
    rings: Mapping[str, KeyRing]
    retries: int = 2
    max_wait_s: float = 20
    jitter: float = 0.0
    session: str = ""
    attempts: list[tuple[Attempt, Failed | None]] = field(default_factory=list)
    _waited_s: float = 0.0
    _waits_since: float | None = None
    _tried: set[tuple[int, Key]] = field(default_factory=set)
    _tries: Counter[tuple[int, Key]] = field(default_factory=Counter)
    _limited: set[tuple[int, Key]] = field(default_factory=set)
    _later: dict[tuple[int, Key], float] = field(default_factory=dict)
    _out: set[tuple[str, Key]] = field(default_factory=set)
    _renewed: set[tuple[str, Key]] = field(default_factory=set)
    _skipped: set[int] = field(default_factory=set)
    _faults: Counter[int] = field(default_factory=Counter)
    _faulty_rounds: Counter[int] = field(default_factory=Counter)
    _broken_rounds: Counter[int] = field(default_factory=Counter)
    _final: GiveUp | None = None

    def next(self, now: float) -> Attempt | Wait | GiveUp:
        """What to do now."""
        if self._final is not None:
            return self._final
        if self._waits_since is not None:
            self._waited_s += now - self._waits_since
            self._waits_since = None
        for guesses in (False, True):
            for number, route in enumerate(self.routes):
                if number in self._skipped or self._faults[number] >= _MOST_FAULTS or self._is_broken(number):
                    continue
                key = self._pick(number, route, now, guesses)
                if key is not None:
                    self._tried.add((number, key))
                    self._tries[number, key] += 1
                    return Attempt(route, key, now, number)
        return self._end_of_round(now)

    def _pick(self, number: int, route: Route, now: float, guesses: bool) -> Key | None:
        used = {key for at, key in self._tried if at == number}
        used |= {key for name, key in self._out if name == route.upstream.name}
        used |= {key for (at, key), tries in self._tries.items() if at == number and tries > self.retries}
        used |= {key for (at, key), then in self._later.items() if at == number and then - now > SLACK_S}
        ring = self.rings[route.upstream.name]
        used |= {key for key, rest in ring.rests(route.model, now) if self._holds(number, key, rest)}
        return ring.pick(route.model, now, used, self.session, guesses)

    def _holds(self, number: int, key: Key, rest: Rest | None) -> bool:
        """Whether a rest is waited for: a hinted one, and what this very request has heard is no guess either."""
        heard = rest is not None and rest.reason == "rate_limit" and (number, key) in self._limited
        return rest is not None and (rest.hinted or heard)

    def _is_broken(self, number: int) -> bool:
        return self._broken_rounds[number] > self.retries

    def report(self, attempt: Attempt, failed: Failed | None, now: float) -> Rest | None:
        """What became of an attempt; None for success. Returns the rest of its key that begins now."""
        route, key = attempt.route, attempt.key
        outcome: Outcome = "ok" if failed is None else outcome_of(failed)
        self.attempts.append((attempt, failed))
        hint_s = failed.retry_after_s if failed else None
        message = f"{failed.status} {failed.message}" if failed else ""
        ring = self.rings[route.upstream.name]
        rest = ring.report(key, route.model, Use(outcome, now, attempt.started_s, hint_s, message))
        if failed is None:
            return None
        number = attempt.number
        if outcome == "client":
            self._final = GiveUp(failed, route, attempt=attempt)
        elif outcome == "missing_model":
            self._skipped.add(number)
        elif outcome in ("refused", "billing"):
            self._out.add((route.upstream.name, key))
        elif outcome == "rate_limit":
            self._limited.add((number, key))
        elif outcome == "transient":  # another key cannot reach what cannot be reached
            self._faults[number] += _MOST_FAULTS if failed.code == "unreachable" else 1
        return rest

    def unfit(self, attempt: Attempt, failed: Failed) -> None:
        """The target cannot express the request; nothing was sent, and another may."""
        self.attempts.append((attempt, failed))
        self._skipped.add(attempt.number)
        self.abandoned(attempt)

    def abandoned(self, attempt: Attempt) -> None:
        """Nothing will come of an attempt any more."""
        self.rings[attempt.route.upstream.name].release(attempt.key, attempt.route.model, attempt.started_s)

    def may_renew(self, attempt: Attempt) -> bool:
        """Whether a new secret for the attempt's key would be tried."""
        return (attempt.route.upstream.name, attempt.key) not in self._renewed

    def renewed(self, attempt: Attempt, failed: Failed) -> None:
        """The key was refused, but has a new secret: it may be tried again at once, and is not blamed."""
        self.attempts.append((attempt, failed))
        place = (attempt.number, attempt.key)
        self._renewed.add((attempt.route.upstream.name, attempt.key))
        self._tried.discard(place)
        self._tries[place] -= 1
        self.abandoned(attempt)

    # --- the end of a round

    def _end_of_round(self, now: float) -> Wait | GiveUp:
        self._faulty_rounds.update(self._faults.keys())
        self._broken_rounds.update(number for number, faults in self._faults.items() if faults >= _MOST_FAULTS)
        self._faults.clear()
        waits: list[tuple[float, bool]] = []
        unseen: set[int] = set()
        for number, key, rest in self._open(now):
            place = (number, key)
            if self._tries[place] > self.retries or self._is_broken(number):
                continue
            if rest is not None and self._holds(number, key, rest):
                if self._waited_s + rest.left_s(now) <= self.max_wait_s:
                    waits.append((rest.left_s(now), True))
                continue
            if self._later.get(place, now) - now <= SLACK_S:
                self._later[place] = now + self._pause_s(number)
                if place not in self._tried:
                    unseen.add(number)
            waits.append((self._later[place] - now, False))
        if not waits:
            return self._give_up(now)
        seconds, is_rest = min(waits)
        self._waits_since = now if is_rest else None
        self._tried = {(at, key) for at, key in self._tried if at in unseen}  # there the other keys come first
        return Wait(seconds, is_rest)

    def _pause_s(self, number: int) -> float:
        doubled = _FIRST_PAUSE_S * float(2 ** max(self._faulty_rounds[number] - 1, 0))
        return min(doubled, _LONGEST_PAUSE_S) * (0.75 + self.jitter / 2)

    def _open(self, now: float) -> list[tuple[int, Key, Rest | None]]:
        """The targets and keys that may be tried again, and how they rest."""
        return [
            (number, key, rest)
            for number, route in enumerate(self.routes)
            if number not in self._skipped
            for key, rest in self.rings[route.upstream.name].rests(route.model, now)
            if (route.upstream.name, key) not in self._out
        ]

    def _give_up(self, now: float) -> GiveUp:
        """The most hopeful failure; where only keys were refused, the client's own credential is fine."""
        resting = [(self.routes[at], rest) for at, _, rest in self._open(now) if rest and rest.reason == "rate_limit"]
        told: list[tuple[Route, Failed, Attempt | None]]
        told = [(route, _of_rest(rest, now), None) for route, rest in resting if rest.hinted]
        told += [(attempt.route, failed, attempt) for attempt, failed in self.attempts if failed is not None]
        hopes = [_HOPE[outcome_of(failed)] for _, failed, _ in told]
        last = len(told) - 1 - hopes[::-1].index(max(hopes))
        route, failed, attempt = told[last if max(hopes) >= 0 else 0]  # of refusals to convert, the first
        outcome = outcome_of(failed)
        if outcome == "rate_limit":
            lefts = [rest.left_s(now) for _, rest in resting]
            failed = replace(failed, retry_after_s=max(min(lefts, default=0.0), _FIRST_PAUSE_S))
        if route.upstream.from_client or outcome not in ("refused", "billing"):
            return GiveUp(failed, route, attempt=attempt)
        if outcome == "refused":
            return GiveUp(self._refused(route, failed), route, should_retry=False)
        return GiveUp(failed, route, should_retry=False, attempt=attempt)

    def _refused(self, route: Route, failed: Failed) -> Failed:
        keys = [attempt.key.label for attempt, _ in self.attempts if attempt.route.upstream == route.upstream]
        labels = ", ".join(dict.fromkeys(label for label in keys if label)) or "no key"
        if failed.code == "no_secret":
            return Failed(502, "server", failed.message)
        return Failed(502, "server", f"{route.upstream.name} refused the key {labels}: {failed.message}")


def _of_rest(rest: Rest, now: float) -> Failed:
    """What a client hears that came while every key rests: what the upstream said when it asked for that."""
    status, _, message = rest.message.partition(" ")
    overloaded = status in ("503", "529")
    kind: Kind = "overloaded" if overloaded else "rate_limit"
    return Failed(
        int(status) if overloaded else 429, kind, message or "every key rests", retry_after_s=rest.left_s(now)
    )
