"""The decisions of one request, without a socket and without a clock."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.config import Key, Upstream
from ccproxy_lite.exchange import Attempt, Exchange, GiveUp, Wait, outcome_of
from ccproxy_lite.formats.neutral import Failed
from ccproxy_lite.keys import KeyRing
from ccproxy_lite.routing import Route

A, B, C = Key("a", "a"), Key("b", "b"), Key("c", "c")
UP = Upstream("up", "anthropic", "https://x")
OTHER = Upstream("other", "openai-chat", "https://y")


def failed(status: int, kind: str, **more: float) -> Failed:
    return Failed(status, kind, f"{status}", **more)  # type: ignore[arg-type]


BUSY = failed(500, "server")
BAD = failed(400, "bad_request")
REFUSED = failed(401, "auth")
MISSING = failed(404, "not_found")
LIMITED = failed(429, "rate_limit")


def exchange(
    *keys: Key, retries: int = 2, routes: list[Route] | None = None, strategy: str = "round-robin"
) -> Exchange:
    routes = routes or [Route(UP, "m")]
    rings = {route.upstream.name: KeyRing(keys, strategy) for route in routes}
    return Exchange(routes, rings, retries)


def play(steps: Exchange, *outcomes: Failed | None) -> list[str]:
    """What happens: attempts as upstream:key, waits as seconds, the end as a status."""
    told = list(outcomes)
    log = []
    for _ in range(50):
        step = steps.next(0.0)
        if isinstance(step, Wait):
            log.append(f"wait {step.seconds:g}")
        elif isinstance(step, GiveUp):
            return [*log, f"give up {step.failed.status}"]
        else:
            log.append(f"{step.route.upstream.name}:{step.key.label if step.key else '-'}")
            outcome = told.pop(0) if told else None
            steps.report(step, outcome, 0.0)
            if outcome is None:
                return [*log, "ok"]
    raise AssertionError(log)


def test_the_first_success_ends_it() -> None:
    assert play(exchange(A, B)) == ["up:a", "ok"]


def test_a_failure_goes_to_the_next_key_at_once() -> None:
    assert play(exchange(A, B), BUSY, None) == ["up:a", "up:b", "ok"]


def test_after_a_round_there_is_a_pause_and_another_round() -> None:
    assert play(exchange(A), BUSY, BUSY, BUSY) == ["up:a", "wait 0.375", "up:a", "wait 0.75", "up:a", "give up 500"]


def test_without_retries_one_round_is_all() -> None:
    assert play(exchange(A, B, retries=0), BUSY, BUSY) == ["up:a", "up:b", "give up 500"]


def test_what_the_client_did_wrong_is_never_retried() -> None:
    assert play(exchange(A, B), BAD) == ["up:a", "give up 400"]


def test_a_refused_key_is_not_used_again() -> None:
    assert play(exchange(A, B), REFUSED, BUSY, BUSY, BUSY) == [
        "up:a", "up:b", "wait 0.375", "up:b", "wait 0.75", "up:b", "give up 500"
    ]  # fmt: skip


def test_when_all_keys_are_refused_the_client_hears_that_its_own_is_fine() -> None:
    steps = exchange(A)
    assert play(steps, REFUSED) == ["up:a", "give up 502"]
    last = steps.next(0.0)
    assert isinstance(last, GiveUp) and last.should_retry is False
    assert last.failed.message == "up refused the key a: 401"


def test_with_the_clients_own_key_a_refusal_is_passed_on() -> None:
    own = Upstream("up", "anthropic", "https://x", from_client=True)
    assert play(exchange(routes=[Route(own, "m")]), REFUSED) == ["up:-", "give up 401"]


def test_a_missing_model_goes_to_the_next_target_and_blames_no_key() -> None:
    steps = exchange(A, B, routes=[Route(UP, "m"), Route(OTHER, "n")])
    assert play(steps, MISSING, None) == ["up:a", "other:a", "ok"]


def test_targets_are_tried_in_their_order() -> None:
    steps = exchange(A, routes=[Route(UP, "m"), Route(OTHER, "n")], retries=0)
    assert play(steps, BUSY, LIMITED) == ["up:a", "other:a", "give up 429"]


def test_the_upstreams_hint_is_the_wait() -> None:
    assert play(exchange(A), failed(429, "rate_limit", retry_after_s=2.0), None) == ["up:a", "wait 2", "up:a", "ok"]


def test_a_hint_that_is_too_long_ends_it() -> None:
    assert play(exchange(A), failed(429, "rate_limit", retry_after_s=60.0)) == ["up:a", "give up 429"]


def test_an_upstream_without_keys() -> None:
    assert play(exchange(retries=1), BUSY, BUSY) == ["up:-", "wait 0.375", "up:-", "give up 500"]


FAILURES = [None, BUSY, BAD, REFUSED, MISSING, LIMITED, failed(402, "billing"), failed(504, "timeout")]


@given(st.lists(st.sampled_from(FAILURES), max_size=40), st.integers(0, 3), st.integers(0, 3), st.integers(1, 3))
def test_the_number_of_calls_is_bounded(outcomes: list[Failed | None], retries: int, keys: int, targets: int) -> None:
    routes = [Route(Upstream(f"u{i}", "anthropic", "x"), "m") for i in range(targets)]
    steps = exchange(*[A, B, C][:keys], retries=retries, routes=routes)
    log = play(steps, *outcomes, *[BUSY] * 50)
    calls = [entry for entry in log if ":" in entry]
    assert len(calls) <= (retries + 1) * max(keys, 1) * targets
    assert sum(entry.startswith("wait") for entry in log) <= retries


@pytest.mark.parametrize(("kind", "outcome"), [("auth", "refused"), ("timeout", "transient"), ("too_large", "client")])
def test_outcomes(kind: str, outcome: str) -> None:
    assert outcome_of(failed(0, kind)) == outcome


# ---------------------------------------------------------------- the ring


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_weights_are_met_within_one_round(weights: list[int]) -> None:
    keys = tuple(Key(str(i), str(i), weight) for i, weight in enumerate(weights))
    ring = KeyRing(keys)
    picked = Counter(ring.pick(0.0) for _ in range(sum(weights) * 3))
    assert {key: count for key, count in picked.items()} == {key: key.weight * 3 for key in keys}


def test_fill_first() -> None:
    ring = KeyRing((A, B), "fill-first")
    assert [ring.pick(0.0) for _ in range(3)] == [A, A, A]
    assert ring.pick(0.0, {A}) == B
    assert ring.pick(0.0, {A, B}) is None


def test_what_became_of_a_key_is_remembered() -> None:
    ring = KeyRing((A, B))
    ring.report(A, "ok", 1.0)
    ring.report(A, "transient", 2.0)
    ring.report(A, "client", 3.0)
    state = ring.states[0]
    assert (state.used, state.failed, state.last, state.last_s) == (3, 1, "client", 3.0)


def test_an_attempt_is_a_value() -> None:
    assert Attempt(Route(UP, "m"), A) == Attempt(Route(UP, "m"), A)
