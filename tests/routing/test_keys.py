"""The ring of keys, without a socket and without a clock: turns, rests, probes, sessions."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy_lite.config.model import Key, Upstream
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.routing.failover import Attempt, Failover, GiveUp, Wait
from ccproxy_lite.routing.keys import PROBE_S, Cooldown, KeyRing, Lease, Outcome, Result
from ccproxy_lite.routing.routes import Route

A, B, C = Key("a", "a"), Key("b", "b"), Key("c", "c")


def cooldowns_of(ring: KeyRing, now: float) -> dict[str, float]:
    """What cools down, and how long still: ``a/m`` for one model, ``a`` for the whole key."""
    return {
        f"{state.key.label}/{model}".rstrip("/"): round(cooldown.blocked_s(now), 3)
        for state in ring.states
        for model, cooldown in state.cooldowns.items()
        if cooldown.blocked_s(now)
    }


def report(
    ring: KeyRing, key: Key, model: str, outcome: Outcome, now: float, started_at: float | None = None, **more: Any
) -> Cooldown | None:
    """Of a request that was sent just now, unless ``started_s`` says otherwise."""
    return ring.report(Lease(key, model, now if started_at is None else started_at), Result(outcome, now, **more))


def pick(ring: KeyRing, *args: Any, **more: Any) -> Key | None:
    lease = ring.pick(*args, **more)
    return lease.key if lease else None


# ---------------------------------------------------------------- turns


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_weights_are_met_within_one_round(weights: list[int]) -> None:
    keys = tuple(Key(str(i), str(i), weight) for i, weight in enumerate(weights))
    ring = KeyRing(keys)
    for _ in range(3):
        picked = Counter(pick(ring, "m", 0.0) for _ in range(sum(weights)))
        assert {key: count for key, count in picked.items()} == {key: key.weight for key in keys}


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5), st.data())
def test_weights_are_met_among_the_keys_that_are_left(weights: list[int], data: st.DataObject) -> None:
    keys = tuple(Key(str(i), str(i), weight) for i, weight in enumerate(weights))
    ring = KeyRing(keys)
    for _ in range(data.draw(st.integers(0, 9))):
        pick(ring, "m", 0.0)
    away = data.draw(st.sampled_from(keys))
    report(ring, away, "m", "rate_limit", 0.0, retry_after_s=60.0)
    left = [key for key in keys if key != away]
    for _ in range(sum(weights)):  # what was saved up for the key that is away is spent
        pick(ring, "m", 1.0)
    picked = Counter(pick(ring, "m", 1.0) for _ in range(3 * sum(key.weight for key in left)))
    assert away not in picked
    assert all(abs(picked[key] - 3 * key.weight) <= 1 for key in left)


def test_turns_are_smooth() -> None:
    ring = KeyRing((Key("a", "a", 5), B, C))
    picked = [pick(ring, "m", 0.0) for _ in range(7)]
    assert "".join(key.label for key in picked if key) == "aabacaa"


def test_fill_first() -> None:
    ring = KeyRing((A, B), "fill-first")
    assert [pick(ring, "m", 0.0) for _ in range(3)] == [A, A, A]
    assert pick(ring, "m", 0.0, {A}) == B
    assert pick(ring, "m", 0.0, {A, B}) is None
    report(ring, A, "m", "rate_limit", 0.0, retry_after_s=5.0)
    assert [pick(ring, "m", now) for now in (1.0, 4.9, 5.0)] == [B, B, A]


# ---------------------------------------------------------------- cooldowns


@pytest.mark.parametrize(
    ("outcome", "lengths", "where"),
    [
        ("rate_limit", [1, 2, 4, 8, 16, 32, 60, 60], "a/m"),
        ("quota_exceeded", [1800, 1800, 1800], "a"),
        ("invalid_key", [300, 600, 1200, 2400, 3600, 3600], "a"),
    ],
)
def test_estimates_double_from_one_cooldown_to_the_next(outcome: Outcome, lengths: list[float], where: str) -> None:
    ring, now = KeyRing((A,)), 100.0
    for length in lengths:
        report(ring, A, "m", outcome, now, started_at=now)
        assert cooldowns_of(ring, now) == {where: length}
        now += length
        assert cooldowns_of(ring, now) == {}
    report(ring, A, "m", "ok", now + 1)
    report(ring, A, "m", outcome, now + 2)
    assert cooldowns_of(ring, now + 2) == {where: lengths[0]}, "a success starts the guesses anew"


@pytest.mark.parametrize("outcome", ["upstream_error", "client_error", "unknown_model", "ok"])
def test_what_starts_no_cooldown(outcome: Outcome) -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", outcome, 1.0)
    assert cooldowns_of(ring, 1.0) == {}


def test_a_hint_is_kept_exactly() -> None:
    ring = KeyRing((A, B))
    report(ring, A, "m", "rate_limit", 10.0, retry_after_s=2.5)
    assert cooldowns_of(ring, 10.0) == {"a/m": 2.5}
    assert {pick(ring, "m", 12.4) for _ in range(3)} == {B}
    assert {pick(ring, "m", 12.5) for _ in range(3)} == {A, B}
    assert {pick(ring, "other", 10.0) for _ in range(3)} == {A, B}, "another model has limits of its own"


def test_failures_that_were_under_way_do_not_lengthen_a_guess() -> None:
    ring = KeyRing((A,))
    for number in range(10):
        report(ring, A, "m", "rate_limit", 5.0 + number / 100, started_at=4.0)
    assert cooldowns_of(ring, 5.1) == {"a/m": 0.9}


def test_of_two_hints_at_once_the_longer_one_holds_and_a_later_one_replaces_it() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 5.0, started_at=1.0, retry_after_s=60.0)
    report(ring, A, "m", "rate_limit", 5.5, started_at=1.0, retry_after_s=2.0)
    assert cooldowns_of(ring, 5.5) == {"a/m": 59.5}
    report(ring, A, "m", "rate_limit", 70.0, started_at=69.0, retry_after_s=3.0)
    assert cooldowns_of(ring, 70.0) == {"a/m": 3.0}


def test_a_success_that_began_before_a_cooldown_does_not_end_it() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 5.0, started_at=1.0, retry_after_s=60.0)
    report(ring, A, "m", "ok", 6.0, started_at=2.0)
    assert cooldowns_of(ring, 6.0) == {"a/m": 59.0}


def test_a_guess_never_shortens_a_hint() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 5.0, retry_after_s=60.0)
    report(ring, A, "m", "rate_limit", 6.0, started_at=1.0)
    assert cooldowns_of(ring, 6.0) == {"a/m": 59.0}


def test_one_probe_an_hour_finds_out_whether_a_long_hint_still_holds() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 0.0, retry_after_s=100_000.0)
    assert pick(ring, "m", PROBE_S - 1) is None
    assert pick(ring, "m", PROBE_S) == A
    assert pick(ring, "m", PROBE_S + 1) is None, "one"
    report(ring, A, "m", "rate_limit", PROBE_S + 2, started_at=PROBE_S)
    assert pick(ring, "m", 2 * PROBE_S + 1) is None
    assert pick(ring, "m", 2 * PROBE_S + 2) == A
    report(ring, A, "m", "ok", 2 * PROBE_S + 3, started_at=2 * PROBE_S + 2)
    assert cooldowns_of(ring, 2 * PROBE_S + 3) == {}


def test_a_probe_that_decides_nothing_is_repeated_soon() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 0.0, retry_after_s=100_000.0)
    assert pick(ring, "m", PROBE_S) == A
    assert [pick(ring, "m", PROBE_S + seconds) for seconds in (1, 59, 61, 62)] == [None, None, A, None]


def test_a_probe_that_was_not_sent_is_left_to_another() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 0.0, retry_after_s=100_000.0)
    first = ring.pick("m", PROBE_S)
    assert first is not None and first.key == A
    ring.release(first)
    assert pick(ring, "m", PROBE_S + 1) == A
    ring.release(first)
    assert pick(ring, "m", PROBE_S + 2) is None, "that was somebody else's"


def test_what_is_no_attempt_takes_no_turn_and_no_probe() -> None:
    ring = KeyRing((A, B, C))
    report(ring, C, "m", "rate_limit", 0.0, retry_after_s=100_000.0)
    assert [ring.key_for_side_request("m", PROBE_S) for _ in range(4)] == [B, A, B, A]
    assert [pick(ring, "m", 1.0) for _ in range(4)] == [A, B, A, B]
    assert pick(ring, "m", PROBE_S, {A, B}) == C
    assert KeyRing((A,)).key_for_side_request("m", 0.0) == A
    report(ring, A, "m", "invalid_key", 0.0)
    report(ring, B, "m", "invalid_key", 0.0)
    assert ring.key_for_side_request("m", 1.0) is None


def test_turns_begin_anew_with_a_new_configuration() -> None:
    ring = KeyRing((Key("a", "a", 1000), B))
    for _ in range(500):
        pick(ring, "m", 0.0)
    ring = KeyRing((A, B), before=ring)
    assert Counter(pick(ring, "m", 0.0) for _ in range(10)) == {A: 5, B: 5}


def test_estimated_cooldowns_are_used_when_nothing_else_is_left_the_soonest_first() -> None:
    ring = KeyRing((A, B, C))
    report(ring, A, "m", "quota_exceeded", 0.0)
    report(ring, B, "m", "rate_limit", 0.0)
    report(ring, C, "m", "rate_limit", 0.0, retry_after_s=0.5)
    assert pick(ring, "m", 0.1) is None
    assert pick(ring, "m", 0.1, last_resort=True) == B
    assert pick(ring, "m", 0.1, {B}, last_resort=True) == A
    assert pick(ring, "m", 0.1, {A, B}, last_resort=True) is None


def test_names_of_models_do_not_fill_the_memory() -> None:
    ring = KeyRing((A,))
    for number in range(5000):
        report(ring, A, f"model-{number}", "rate_limit", float(number))
    assert len(ring.states[0].cooldowns) < 200


# ---------------------------------------------------------------- sessions


def test_a_session_stays_on_its_key_for_an_hour_after_its_last_use() -> None:
    ring = KeyRing((A, B, C))
    first = pick(ring, "m", 0.0, session="s")
    assert {pick(ring, "m", now, session="s") for now in (1.0, 3000.0, 6000.0, 9000.0)} == {first}
    assert len({pick(ring, "m", 9000.0 + 3600.0 * number, session="s") for number in (1, 2, 3)}) > 1


def test_sessions_share_the_keys_by_weight() -> None:
    ring = KeyRing((Key("a", "a", 3), B))
    picked = Counter(pick(ring, "m", 0.0, session=f"s{number}") for number in range(40))
    assert sorted(picked.values()) == [10, 30]


def test_a_cooldown_unbinds_a_session_and_a_transient_failure_does_not() -> None:
    ring = KeyRing((A, B))
    assert pick(ring, "m", 0.0, session="s") == A
    report(ring, A, "m", "upstream_error", 0.0)
    assert pick(ring, "m", 0.0, {A}, session="s") == B
    assert pick(ring, "m", 1.0, session="s") == A
    report(ring, A, "m", "rate_limit", 2.0)
    assert pick(ring, "m", 2.0, session="s") == B
    assert [pick(ring, "m", 10.0, session="s") for _ in range(3)] == [B, B, B]


def test_the_session_that_was_used_longest_ago_is_forgotten_first() -> None:
    ring = KeyRing((A, B))
    for number in range(10_000):
        pick(ring, "m", 0.0, session=f"s{number}")
    pick(ring, "m", 1.0, session="s0")
    pick(ring, "m", 1.0, session="new")
    assert "s0" in ring.sessions and "s1" not in ring.sessions and "s2" in ring.sessions


def test_of_two_cooldowns_the_longer_one_is_told() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 0.0)
    report(ring, A, "m", "quota_exceeded", 0.0)
    cooldown = ring.states[0].cooldown("m", 0.5)
    assert cooldown is not None and cooldown.reason == "quota_exceeded"


def test_a_key_that_a_reload_has_removed_is_reported_in_vain() -> None:
    ring = KeyRing((A,))
    report(ring, B, "m", "invalid_key", 0.0)
    assert cooldowns_of(ring, 0.0) == {}


def test_a_guess_after_a_hint_begins_anew() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "rate_limit", 0.0, retry_after_s=50.0)
    report(ring, A, "m", "rate_limit", 51.0, started_at=50.5)
    assert cooldowns_of(ring, 51.0) == {"a/m": 1.0}


def test_a_refusal_after_a_spent_quota_begins_anew() -> None:
    ring = KeyRing((A,))
    report(ring, A, "m", "quota_exceeded", 0.0)
    report(ring, A, "m", "invalid_key", 1801.0, started_at=1800.5)
    assert cooldowns_of(ring, 1801.0) == {"a": 300.0}


def test_sessions_are_bounded() -> None:
    ring = KeyRing((A, B))
    for number in range(20_000):
        pick(ring, "m", number / 1000, session=f"s{number}")
    assert len(ring.sessions) <= 10_000
    assert "s19999" in ring.sessions and "s0" not in ring.sessions
    ring.forget_sessions(10_000.0)
    assert ring.sessions == {}


# ---------------------------------------------------------------- another configuration


def test_what_is_known_of_a_key_survives_a_new_configuration() -> None:
    ring = KeyRing((A, B, C))
    report(ring, A, "m", "rate_limit", 0.0, retry_after_s=60.0)
    report(ring, B, "m", "invalid_key", 0.0)
    report(ring, C, "m", "quota_exceeded", 0.0)
    bound = {f"s{number}": pick(ring, "n", 0.0, session=f"s{number}") for number in range(2)}
    renamed = Key("a", "work", 5)
    new = KeyRing((renamed, B, Key("d", "d")), before=ring)
    assert cooldowns_of(new, 1.0) == {"work/m": 59.0}, "and an invalid key gets another chance"
    assert new.states[0].key == renamed
    for session, key in bound.items():
        if key == A:
            assert pick(new, "n", 1.0, session=session) == renamed
    report(ring, A, "m", "rate_limit", 2.0, started_at=1.0, retry_after_s=90.0)  # by a request that began before
    assert cooldowns_of(new, 2.0) == {"work/m": 90.0}
    report(ring, C, "m", "ok", 3.0)
    assert "c" not in cooldowns_of(new, 3.0)


# ---------------------------------------------------------------- many requests at once, at random


class World:
    """Some upstreams that fail at random, and what must hold whatever they do."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.retries = self.dice.randrange(4)
        names = "abcdefgh"[: self.dice.randint(1, 6)]
        keys = [Key(name, name, self.dice.randint(1, 3)) for name in names]
        cut = self.dice.randint(0, len(keys) - 1)
        groups = [tuple(keys[:cut]), tuple(keys[cut:])] if cut else [tuple(keys)]
        self.routes = [
            Route(Upstream(f"u{number}", "anthropic", "x", group), "m") for number, group in enumerate(groups)
        ]
        strategy = self.dice.choice(["round-robin", "fill-first"])
        self.rings = {route.upstream.name: KeyRing(route.upstream.keys, strategy) for route in self.routes}
        self.now = 1000.0
        self.hinted: dict[Key, float] = {}
        self.faulty: set[Key] = set()
        self.calls: dict[int, list[Attempt]] = {}

    def outcome(self, key: Key) -> Failed | None:
        kind = self.dice.choice(["ok", "ok", "server", "rate", "hint", "auth", "billing", "missing", "bad"])
        if kind == "ok":
            return None
        if kind == "hint":
            return Failed(429, "rate_limit", "x", retry_after_s=self.dice.choice([0.5, 5.0, 100.0, 3000.0]))
        known: dict[str, tuple[int, str]] = {
            "server": (500, "server"), "rate": (429, "rate_limit"), "auth": (401, "auth"),
            "billing": (402, "billing"), "missing": (404, "not_found"), "bad": (400, "bad_request"),
        }  # fmt: skip
        return Failed(known[kind][0], known[kind][1], "x")  # type: ignore[arg-type]

    def run(self) -> None:
        """Several exchanges at once, each a step at a time."""
        under_way: list[tuple[int, Failover, Attempt | None, float]] = []
        for number in range(30):
            session = self.dice.choice(["", "s", "t"])
            steps = Failover(self.routes, self.rings, self.retries, 20.0, self.dice.random(), session)
            under_way.append((number, steps, None, self.now))
            self.steps = 0
            while len(under_way) > 3 or (number == 29 and under_way):
                self.steps += 1
                assert self.steps < 2000, "it never ends"
                at = self.dice.randrange(len(under_way))
                number_, steps, attempt, ready_s = under_way.pop(at)
                self.now = max(self.now + self.dice.random(), ready_s if not under_way else self.now)
                if ready_s > self.now:
                    self.now = ready_s
                if attempt is not None and self.settle(steps, attempt):
                    continue
                step = steps.next(self.now)
                if isinstance(step, Attempt):
                    self.check_attempt(number_, step)
                    under_way.append((number_, steps, step, self.now))
                elif isinstance(step, Wait):
                    assert step.seconds <= 20
                    under_way.append((number_, steps, None, self.now + step.seconds))
                else:
                    self.check_end(number_, steps, step)

    def settle(self, steps: Failover, attempt: Attempt) -> bool:
        failed = self.outcome(attempt.key)
        steps.report(attempt, failed, self.now)
        if failed is not None and failed.retry_after_s is not None:
            self.hinted[attempt.key] = max(self.hinted.get(attempt.key, 0.0), self.now + failed.retry_after_s)
        if failed is not None and failed.kind in ("rate_limit", "auth", "billing"):
            self.faulty.add(attempt.key)
        return failed is None

    def check_attempt(self, number: int, step: Attempt) -> None:
        self.calls.setdefault(number, []).append(step)
        assert self.now >= self.hinted.get(step.key, 0.0) - 0.01, "a key was used while a hinted cooldown lasts"
        keys = sum(len(route.upstream.keys) for route in self.routes)
        assert len(self.calls[number]) <= (self.retries + 1) * keys, "too many calls"

    def check_end(self, number: int, steps: Failover, step: GiveUp) -> None:
        if step.failed.status == 400:
            return
        calls = self.calls.get(number, [])
        used = {call.key for call in calls}
        given_up = {call.route for call, failed in steps.attempts if failed and failed.status == 404}
        for route in self.routes:
            faults = sum(failed is not None and failed.status == 500 for call, failed in steps.attempts
                         if call.route == route)  # fmt: skip
            for key in route.upstream.keys:
                if key not in self.faulty and route not in given_up and faults < 3:
                    assert key in used, "a key that nobody blamed was not tried"


@settings(max_examples=5 * settings.default.max_examples)
@given(st.integers(0, 2**32))
def test_at_random(seed: int) -> None:
    World(seed).run()


def test_a_cooldown_that_is_over_may_be_forgotten_while_it_is_reported() -> None:
    """Requests for many models that were in flight when their cooldowns began, and end after them."""
    ring = KeyRing((Key("k", "k"),))
    for n in range(100):
        report(ring, Key("k", "k"), f"m{n}", "rate_limit", 0.0)
    assert report(ring, Key("k", "k"), "m0", "rate_limit", 5.0, started_at=0.5) is None
