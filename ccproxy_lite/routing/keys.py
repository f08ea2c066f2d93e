"""The keys of one upstream: which one is next, which ones rest, why and until when. Pure; time is an argument.

>>> ring = KeyRing((Key("a", "a", 2), Key("b", "b")))
>>> [ring.pick("m", 0.0).label for _ in range(6)]
['a', 'b', 'a', 'a', 'b', 'a']

A rest is *hinted* when the upstream itself said how long; otherwise it is a guess. A guess only puts a key behind the
others: it never leaves a request without one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ccproxy_lite.config.model import Key
from ccproxy_lite.formats.neutral.events import Usage

Outcome = Literal["ok", "rate_limit", "billing", "refused", "missing_model", "transient", "client"]
"""What a key's use came to: see ``failover.outcome_of``."""

ANONYMOUS = Key("", "")
"""Stands for the key of an upstream that needs none, or that gets the client's."""

PROBE_S = 3600.0
"""However long a hint is, after this time one request finds out whether it still holds."""

_GUESSES: dict[Outcome, tuple[float, float]] = {
    "rate_limit": (1.0, 60.0),
    "billing": (1800.0, 1800.0),
    "refused": (300.0, 3600.0),
}
"""The first guess and the longest, in seconds; each failure after a rest doubles."""

_UNDECIDED_PROBE_S = 60.0
SLACK_S = 0.001
_SESSION_S = 3600.0
_MOST_SESSIONS = 10_000
_MOST_MODELS = 100
_LONGEST_MESSAGE = 500
_WHOLE_KEY = ""


class Use(NamedTuple):
    """What a request that used a key came to.

    ``started_s`` is when it was sent: what was in flight before a rest began neither ends nor lengthens it. ``hint_s``
    is how long the upstream asked to be left alone.
    """

    outcome: Outcome
    now_s: float
    started_s: float
    hint_s: float | None = None
    message: str = ""


@dataclass(slots=True)
class Rest:
    """Why a key is left alone, and until when; kept when it is over, because the next guess doubles it."""

    reason: Outcome
    since_s: float
    until_s: float
    hinted: bool = False
    message: str = ""
    probe_s: float = float("inf")

    def left_s(self, now: float) -> float:
        """Seconds until the key may be used again; 0 once it may."""
        left = min(self.until_s, self.probe_s) - now
        return left if left > SLACK_S else 0.0


@dataclass(slots=True)
class Tally:
    """What a key has done with one model."""

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class KeyState:
    """A key, and what it has been through; ``rests`` by model, the empty name standing for all of them."""

    key: Key
    turn: int = 0
    rests: dict[str, Rest] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    last: Outcome | None = None
    last_s: float = 0.0

    def slots(self, model: str) -> list[Rest]:
        """The rests, over or not, that concern a model."""
        return [self.rests[slot] for slot in {_WHOLE_KEY, model} if slot in self.rests]

    def probes(self, model: str, now: float) -> list[Rest]:
        """The rests whose next use is a probe."""
        return [rest for rest in self.slots(model) if rest.until_s > now >= rest.probe_s - SLACK_S]

    def resting(self, model: str, now: float) -> Rest | None:
        """The rest that holds now for a model: a hinted one before a guess, else the longer one."""
        holding = [rest for rest in self.slots(model) if rest.left_s(now)]
        return max(holding, key=lambda rest: (rest.hinted, rest.left_s(now)), default=None)

    def is_ready(self, model: str, now: float) -> bool:
        return not self.rests or self.resting(model, now) is None

    def tally(self, model: str) -> Tally:
        """The counters for a model; clients name models, so their number is bounded."""
        if model not in self.tallies and len(self.tallies) >= _MOST_MODELS:
            model = "(other)"
        return self.tallies.setdefault(model, Tally())


class KeyRing:
    """Smooth weighted round robin over the keys that are ready, or always the first of them (``fill-first``).

    :param before: the ring of an earlier configuration; what is known of its keys and sessions stays known, except
        that keys are no longer thought to be refused
    """

    def __init__(self, keys: tuple[Key, ...], strategy: str = "round-robin", before: KeyRing | None = None) -> None:
        known = {state.key.secret: state for state in before.states} if before else {}
        self.states: list[KeyState] = []
        for key in keys:
            state = known.get(key.secret) or KeyState(key)
            state.key, state.turn = key, 0
            self.states.append(state)
            self.forgive(key.secret)
        self.sessions: dict[str, tuple[str, float]] = before.sessions if before else {}
        self._by_secret = {state.key.secret: state for state in self.states}
        self._spared = 0
        self._fill_first = strategy == "fill-first"

    # --- choosing

    def pick(
        self, model: str, now: float, exclude: Collection[Key] = (), session: str = "", guesses: bool = False
    ) -> Key | None:
        """The key to use now, or None if none is left.

        :param session: keep to the key that this session used last, while it is ready
        :param guesses: choose among the keys that rest by a guess, instead of the ready ones
        """
        able = [state for state in self.states if state.key not in exclude]
        bound = self._bound(session, now)
        if guesses:
            state = self._least_tired(able, model, now)
        else:
            ready = [state for state in able if state.is_ready(model, now)]
            state = bound if bound in ready else self._next(ready)
        if state is None:
            return None
        if session and (bound is None or bound is state or not bound.is_ready(model, now)):
            self._bind(session, state, now)
        for rest in state.probes(model, now):
            rest.probe_s = now + _UNDECIDED_PROBE_S
        return state.key

    def spare(self, model: str, now: float) -> Key | None:
        """A ready key for what is no attempt (counting, listing): turns, sessions and probes are left alone."""
        ready = [state for state in self.states if state.is_ready(model, now) and not state.probes(model, now)]
        self._spared += 1
        return ready[self._spared % len(ready)].key if ready else None

    def release(self, key: Key, model: str, started_s: float) -> None:
        """Nothing came of an attempt: if it was to be a probe, another one may be."""
        state = self._by_secret.get(key.secret)
        for rest in state.slots(model) if state else ():
            if rest.probe_s == started_s + _UNDECIDED_PROBE_S:
                rest.probe_s = started_s

    def _next(self, ready: list[KeyState]) -> KeyState | None:
        if not ready or self._fill_first:
            return ready[0] if ready else None
        for state in ready:
            state.turn += state.key.weight
        best = max(ready, key=lambda state: state.turn)
        best.turn -= sum(state.key.weight for state in ready)
        return best

    def _least_tired(self, able: list[KeyState], model: str, now: float) -> KeyState | None:
        guessed = [
            (rest.left_s(now), state) for state in able if (rest := state.resting(model, now)) and not rest.hinted
        ]
        return min(guessed, key=lambda pair: pair[0], default=(0.0, None))[1]

    def rests(self, model: str, now: float) -> Iterator[tuple[Key, Rest | None]]:
        """For each key the rest that keeps it from this model, or None."""
        return ((state.key, state.resting(model, now)) for state in self.states)

    # --- sessions

    def _bound(self, session: str, now: float) -> KeyState | None:
        secret, last_s = self.sessions.get(session, ("", 0.0))
        return self._by_secret.get(secret) if session and now - last_s < _SESSION_S else None

    def _bind(self, session: str, state: KeyState, now: float) -> None:
        sessions = self.sessions
        sessions.pop(session, None)
        sessions[session] = (state.key.secret, now)
        self.forget_sessions(now)

    def forget_sessions(self, now: float) -> None:
        """Drop the sessions whose hour is over; they stand in the order of their last use."""
        while self.sessions:
            oldest = next(iter(self.sessions))
            if now - self.sessions[oldest][1] < _SESSION_S and len(self.sessions) <= _MOST_SESSIONS:
                return
            del self.sessions[oldest]

    # --- what became of a key

    def report(self, key: Key, model: str, use: Use) -> Rest | None:
        """What became of a request that used the key; returns the rest that begins with it."""
        state = self._by_secret.get(key.secret)
        if state is None:  # a reload has removed it meanwhile
            return None
        outcome, now, started_s = use.outcome, use.now_s, use.started_s
        tally = state.tally(model)
        tally.requests += 1
        tally.failures += outcome not in ("ok", "client")
        state.last, state.last_s = outcome, now
        if outcome == "ok":
            for slot in (_WHOLE_KEY, model):
                if slot in state.rests and started_s > state.rests[slot].since_s:
                    del state.rests[slot]
        elif outcome not in _GUESSES:
            self.release(key, model, started_s)
        else:
            slot = model if outcome == "rate_limit" else _WHOLE_KEY
            before = state.rests.get(slot)
            rest = state.rests[slot] = next_rest(before, use)
            if len(state.rests) % _MOST_MODELS == 0:  # now and then: clients name models
                state.rests = {slot: rest for slot, rest in state.rests.items() if rest.left_s(now)}
            return rest if rest is not before else None
        return None

    def spend(self, key: Key, model: str, usage: Usage) -> None:
        """Add the tokens of an answer to the key's counters."""
        state = self._by_secret.get(key.secret)
        if state is not None:
            tally = state.tally(model)
            tally.input_tokens += usage.total_input
            tally.output_tokens += usage.output

    def forgive(self, secret: str, *, everything: bool = False) -> bool:
        """End a key's rests: those of refused keys (its secret has changed), or all. Whether there was one."""
        ended = False
        for state in self.states:
            if state.key.secret == secret:
                kept = {slot: rest for slot, rest in state.rests.items() if rest.reason != "refused" and not everything}
                ended = ended or len(kept) < len(state.rests)
                state.rests = kept
        return ended


def next_rest(before: Rest | None, use: Use) -> Rest:
    """The rest after a failure, given the last one.

    >>> first = next_rest(None, Use("rate_limit", 0, 0))
    >>> next_rest(first, Use("rate_limit", 1, 1)).until_s, next_rest(first, Use("rate_limit", 1, 1, 9)).until_s
    (3.0, 10)
    """
    outcome, now, started_s, hint_s, message = use
    message = message[:_LONGEST_MESSAGE]
    is_news = before is None or started_s > before.since_s
    if outcome == "rate_limit" and hint_s is not None:
        until_s = now + hint_s
        if before is not None and before.hinted and not is_news:  # it was under way already: both hints hold
            until_s = max(until_s, before.until_s)
        return Rest(outcome, now, until_s, True, message, now + PROBE_S)
    shortest, longest = _GUESSES[outcome]
    if before is not None and before.hinted and now < before.until_s:
        before.probe_s = now + PROBE_S if is_news else before.probe_s
        return before
    if before is not None and before.reason == outcome and started_s < before.until_s - SLACK_S:
        return before
    length_s = shortest
    if before is not None and before.reason == outcome and not before.hinted:
        length_s = min(2 * (before.until_s - before.since_s), longest)
    return Rest(outcome, now, now + length_s, False, message)
