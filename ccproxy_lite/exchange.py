"""The decisions of one request: which target and key next, how long to wait, when to give up. Pure.

    exchange.next(now) -> Attempt | Wait | GiveUp
    exchange.report(attempt, failed, now)

A round tries every key of every target once. What may help (another key, another moment) is tried again for
``retries`` more rounds; what the client did wrong, never.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ccproxy_lite.config import Key
from ccproxy_lite.formats.neutral import Failed
from ccproxy_lite.keys import KeyRing, Outcome
from ccproxy_lite.routing import Route

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 8.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send the request to this target, with this key if there is one."""

    route: Route
    key: Key | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Tell the client; ``attempt`` is the one that failed so."""

    failed: Failed
    attempt: Attempt | None
    should_retry: bool | None = None


_OUTCOMES: Mapping[str, Outcome] = {
    "auth": "refused",
    "permission": "refused",
    "billing": "billing",
    "rate_limit": "rate_limit",
    "overloaded": "rate_limit",
    "not_found": "missing_model",
    "bad_request": "client",
    "too_large": "client",
    "timeout": "transient",
    "server": "transient",
}


def outcome_of(failed: Failed) -> Outcome:
    """What a failure says about the key.

    >>> outcome_of(Failed(422, "bad_request", "no")), outcome_of(Failed(529, "overloaded", "busy"))
    ('client', 'rate_limit')
    """
    return _OUTCOMES[failed.kind]


@dataclass(slots=True)
class Exchange:
    """One client request and its attempts. ``jitter`` is a random number below 1, given from outside."""

    routes: list[Route]
    rings: Mapping[str, KeyRing]
    retries: int = 2
    max_wait_s: float = 20
    jitter: float = 0.0
    attempts: list[tuple[Attempt, str]] = field(default_factory=list)
    _round: int = 0
    _tried: set[tuple[int, Key | None]] = field(default_factory=set)
    _out: set[tuple[int, Key | None]] = field(default_factory=set)
    _skipped: set[int] = field(default_factory=set)
    _last: GiveUp | None = None
    _final: bool = False
    _worth_a_round: bool = False
    _hints: list[float | None] = field(default_factory=list)

    def next(self, now: float) -> Attempt | Wait | GiveUp:
        """What to do now."""
        if self._final and self._last is not None:
            return self._last
        for number, route in enumerate(self.routes):
            if number in self._skipped:
                continue
            ring = self.rings.get(route.upstream.name)
            used = self._tried | self._out
            if ring is None or not ring.states:
                if (number, None) not in used:
                    self._tried.add((number, None))
                    return Attempt(route, None)
                continue
            key = ring.pick(now, {key for at, key in used if at == number and key is not None})
            if key is not None:
                self._tried.add((number, key))
                return Attempt(route, key)
        return self._end_of_round()

    def report(self, attempt: Attempt, failed: Failed | None, now: float) -> None:
        """What became of an attempt; None for success."""
        outcome: Outcome = "ok" if failed is None else outcome_of(failed)
        ring = self.rings.get(attempt.route.upstream.name)
        if ring is not None and attempt.key is not None:
            ring.report(attempt.key, outcome, now)
        self.attempts.append((attempt, "ok" if failed is None else f"{failed.status} {failed.kind}"))
        if failed is None:
            return
        number = self.routes.index(attempt.route)
        self._last = GiveUp(failed, attempt)
        if outcome == "client":
            self._final = True
        elif outcome == "missing_model":
            self._skipped.add(number)
        elif outcome in ("refused", "billing"):
            self._out.add((number, attempt.key))
        else:
            self._worth_a_round = True
            self._hints.append(failed.retry_after_s)

    def _end_of_round(self) -> Wait | GiveUp:
        last = self._last or GiveUp(Failed(503, "overloaded", "no key can be used now"), None)
        wait_s = min(_FIRST_WAIT_S * 2**self._round, _LONGEST_WAIT_S) * (0.75 + self.jitter / 2)
        hints = [hint for hint in self._hints if hint is not None]
        if hints and len(hints) == len(self._hints):  # somebody without a hint may be asked sooner
            wait_s = min(hints)
        if not self._worth_a_round or self._round >= self.retries or wait_s > self.max_wait_s:
            return self._verdict(last)
        self._round += 1
        self._tried.clear()
        self._worth_a_round, self._hints = False, []
        return Wait(wait_s)

    def _verdict(self, last: GiveUp) -> GiveUp:
        """When only keys were refused, the client's own credential is fine: it hears 502, and need not retry."""
        attempt, failed = last.attempt, last.failed
        if attempt is None or failed.kind not in ("auth", "permission") or attempt.route.upstream.from_client:
            return last
        key = attempt.key.label if attempt.key else "no key"
        message = f"{attempt.route.upstream.name} refused the key {key}: {failed.message}"
        return GiveUp(Failed(502, "server", message), attempt, should_retry=False)
