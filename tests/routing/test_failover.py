"""The decisions of one request, without a socket and without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.config.model import Key, Upstream
from ccproxy_lite.errors import UNREACHABLE
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.routing.failover import Attempt, Failover, GiveUp, Wait, outcome_of
from ccproxy_lite.routing.keys import ANONYMOUS, KeyRing, Lease, Result
from ccproxy_lite.routing.routes import Route

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
) -> Failover:
    routes = routes or [Route(UP, "m")]
    rings = {route.upstream.name: KeyRing(keys or (ANONYMOUS,), strategy) for route in routes}
    return Failover(routes, rings, retries)


def play(steps: Failover, *outcomes: Failed | None) -> list[str]:
    """What happens: attempts as upstream:key, waits as seconds, the end as a status."""
    told = list(outcomes)
    log = []
    now = 0.0
    for _ in range(200):
        step = steps.next(now)
        if isinstance(step, Wait):
            log.append(f"wait {step.seconds:g}")
            now += step.seconds
        elif isinstance(step, GiveUp):
            return [*log, f"give up {step.failed.status}"]
        else:
            log.append(f"{step.route.upstream.name}:{step.key.label or '-'}")
            outcome = told.pop(0) if told else None
            now += 0.001
            steps.report(step, outcome, now)
            if outcome is None:
                return [*log, "ok"]
    raise AssertionError(log)  # it never ends


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
    assert last.failed.message == "upstream up rejected the API key (a): 401"


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


def test_a_rate_limit_without_a_hint_is_waited_out() -> None:
    """Longer each time, and the client hears how long the cooldown still lasts."""
    steps = exchange(A, retries=3)
    told = [failed(429, "rate_limit") for _ in range(4)]
    assert play(steps, *told) == ["up:a", "wait 1", "up:a", "wait 2", "up:a", "wait 4", "up:a", "give up 429"]
    last = steps.next(7.1)
    assert isinstance(last, GiveUp) and 7.5 < (last.failed.retry_after_s or 0) <= 8


def test_all_waiting_for_keys_together_is_bounded() -> None:
    steps = exchange(A, retries=9)
    told = [failed(429, "rate_limit", retry_after_s=8.0) for _ in range(9)]
    assert play(steps, *told) == ["up:a", "wait 8", "up:a", "wait 8", "up:a", "give up 429"]


def test_the_smallest_hint_of_all_keys_is_told() -> None:
    steps = exchange(A, B)
    play(steps, failed(429, "rate_limit", retry_after_s=50.0), failed(429, "rate_limit", retry_after_s=30.0))
    last = steps.next(0.002)
    assert isinstance(last, GiveUp) and 29.9 < (last.failed.retry_after_s or 0) <= 30


def test_the_most_hopeful_failure_is_told() -> None:
    limited = failed(429, "rate_limit", retry_after_s=50.0)
    assert play(exchange(A, B), limited, REFUSED) == ["up:a", "up:b", "give up 429"]
    assert play(exchange(A, B), failed(402, "billing"), REFUSED) == ["up:a", "up:b", "give up 402"]
    assert play(exchange(A, B, retries=0), BUSY, failed(402, "billing")) == ["up:a", "up:b", "give up 500"]
    assert play(exchange(A, B, retries=0), limited, BUSY) == ["up:a", "up:b", "give up 429"]
    both = [Route(UP, "m"), Route(OTHER, "n")]
    assert play(exchange(A, routes=both), MISSING, REFUSED) == ["up:a", "other:a", "give up 502"]


def test_what_cannot_be_reached_is_not_tried_with_every_key() -> None:
    gone = Failed(502, "server", "invalid_key", UNREACHABLE)
    both = [Route(UP, "m"), Route(OTHER, "n")]
    assert play(exchange(A, B, C, routes=both), gone, None) == ["up:a", "other:a", "ok"]


def test_a_broken_service_is_not_tried_with_every_key() -> None:
    keys = [Key(name, name) for name in "abcdefgh"]
    log = play(exchange(*keys, retries=1), *[BUSY] * 20)
    assert [entry.split()[0] for entry in log] == ["up:a", "up:b", "up:c", "wait", "up:d", "up:e", "up:f", "give"]


def test_ready_keys_of_any_target_come_before_estimated_cooldowns() -> None:
    both = [Route(UP, "m"), Route(OTHER, "n")]
    rings = {"up": KeyRing((A,)), "other": KeyRing((B,))}
    rings["up"].report(Lease(A, "m", 0.0), Result("invalid_key", 0.0))
    assert play(Failover(both, rings), BUSY, None) == ["other:b", "up:a", "ok"]


def test_while_all_keys_cool_down_by_a_hint_the_request_waits() -> None:
    ring = KeyRing((A, B))
    ring.report(Lease(A, "m", 0.0), Result("rate_limit", 0.0, 30.0))
    ring.report(Lease(B, "m", 0.0), Result("rate_limit", 0.0, 5.0, message="429 slow down"))
    assert play(Failover([Route(UP, "m")], {"up": ring}, retries=0), None) == ["wait 5", "up:b", "ok"]
    ring.report(Lease(B, "m", 6.0), Result("rate_limit", 6.0, 60.0, message="429 slow down"))
    last = Failover([Route(UP, "m")], {"up": ring}).next(7.0)
    assert isinstance(last, GiveUp)
    assert (last.failed.status, last.failed.message, last.failed.retry_after_s) == (429, "slow down", 23.0)


def test_a_guess_of_others_does_not_become_a_wait() -> None:
    """What another request heard meanwhile puts the key behind, and is nothing to wait for."""
    ring = KeyRing((A,))
    steps = Failover([Route(UP, "m")], {"up": ring})
    first = steps.next(0.0)
    assert isinstance(first, Attempt)
    steps.report(first, failed(429, "rate_limit"), 0.0)
    wait = steps.next(0.0)
    assert isinstance(wait, Wait) and wait.seconds == 1.0
    ring.report(Lease(A, "m", 0.5), Result("quota_exceeded", 0.5))
    assert isinstance(steps.next(1.0), Attempt)


def test_a_cooldown_that_is_cleared_early_still_has_a_hint() -> None:
    ring = KeyRing((A,))
    steps = Failover([Route(UP, "m")], {"up": ring}, retries=0)
    first = steps.next(0.0)
    assert isinstance(first, Attempt)
    steps.report(first, failed(429, "rate_limit", retry_after_s=50.0), 0.0)
    ring.clear("a")
    last = steps.next(0.0)
    assert isinstance(last, GiveUp) and last.failed.retry_after_s == 0.5


def test_a_target_that_cannot_express_the_request_is_passed_over() -> None:
    both = [Route(UP, "m"), Route(OTHER, "n")]
    steps = exchange(A, routes=both)
    first = steps.next(0.0)
    assert isinstance(first, Attempt)
    steps.not_convertible(first, BAD)
    second = steps.next(0.0)
    assert isinstance(second, Attempt) and second.route.upstream == OTHER
    steps.not_convertible(second, failed(400, "bad_request"))
    last = steps.next(0.0)
    assert isinstance(last, GiveUp) and last.failed is BAD and last.route.upstream == UP


def test_a_new_secret_is_tried_at_once_and_once() -> None:
    steps = exchange(A)
    first = steps.next(0.0)
    assert isinstance(first, Attempt) and steps.may_get_new_secret(first)
    steps.retry_with_new_secret(first, REFUSED)
    second = steps.next(0.0)
    assert isinstance(second, Attempt) and second.key == A and not steps.may_get_new_secret(second)
    assert steps.rings["up"].states[0].cooldowns == {}


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
    assert sum(entry.startswith("wait") for entry in log) <= len(calls), "each wait is for a call"


@pytest.mark.parametrize(
    ("kind", "outcome"), [("auth", "invalid_key"), ("timeout", "upstream_error"), ("too_large", "client_error")]
)
def test_outcomes(kind: str, outcome: str) -> None:
    assert outcome_of(failed(0, kind)) == outcome


def test_an_attempt_is_a_value() -> None:
    assert Attempt(Route(UP, "m"), Lease(A, "m")) == Attempt(Route(UP, "m"), Lease(A, "m"))
