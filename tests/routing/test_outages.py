"""Upstreams that cannot be reached: how long they stand behind others, and who tries them again."""

from __future__ import annotations

from ccproxy_lite.config.model import Key, Upstream
from ccproxy_lite.errors import UNREACHABLE
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.routing.failover import Attempt, Failover, GiveUp, Wait
from ccproxy_lite.routing.keys import KeyRing
from ccproxy_lite.routing.outages import Outages
from ccproxy_lite.routing.routes import Route

ROUTES = [Route(Upstream(name, "anthropic", "https://x"), "m") for name in ("first", "second")]
GONE = Failed(502, "server", "connection refused", UNREACHABLE)
BUSY = Failed(500, "server", "busy")


def test_an_outage_lasts_longer_each_time_and_ends_with_an_answer() -> None:
    outages, now, lengths = Outages(), 0.0, []
    for _ in range(6):
        outages.begin("a", now)
        outages.report("a", reached=False, began=now, now=now)
        outage = outages.of("a")
        assert outage is not None and outages.is_out("a", now)
        lengths.append(outage.until - now)
        now = outage.until
        assert not outages.is_out("a", now)
    assert lengths == [5, 10, 20, 40, 60, 60]
    outages.report("a", reached=True, began=now, now=now)
    assert outages.of("a") is None and not outages.is_out("a", now)
    assert outages.report("a", reached=False, began=now, now=now) == 5


def test_many_failures_at_the_same_time_are_one_outage() -> None:
    outages = Outages()
    assert [outages.report("a", reached=False, began=0.0, now=number / 10) for number in range(20)] == [5, *[None] * 19]
    outage = outages.of("a")
    assert outage is not None and (outage.first, outage.until) == (0, 5)


def test_one_request_tries_again_and_the_others_do_not_wait_for_it() -> None:
    outages = Outages()
    outages.report("a", reached=False, began=0.0, now=0.0)
    assert not outages.is_out("a", 5.0)
    outages.begin("a", 5.0)
    assert outages.is_out("a", 5.0) and outages.is_out("a", 20.0)
    assert not outages.is_out("a", 60.0)  # it was cancelled, and never reported


def test_a_request_that_was_never_sent_leaves_the_trial_to_the_next() -> None:
    outages = Outages()
    outages.report("a", reached=False, began=0.0, now=0.0)
    outages.begin("a", 5.0)
    outages.release("a")
    assert not outages.is_out("a", 5.0)
    outages.release("b")  # it was never out


def test_old_news_is_none() -> None:
    outages = Outages()
    outages.report("a", reached=False, began=9.0, now=10.0)
    outages.report("a", reached=True, began=1.0, now=11.0)  # a stream that began long ago
    assert outages.is_out("a", 11.0)
    outages.report("a", reached=True, began=11.0, now=12.0)
    assert outages.report("a", reached=False, began=10.5, now=13.0) is None  # it began to connect before
    assert not outages.is_out("a", 13.0)


def test_a_changed_upstream_is_another_one() -> None:
    outages = Outages()
    for name in ("a", "b"):
        outages.report(name, reached=False, began=0.0, now=0.0)
    outages.forget({"a", "c"})
    assert outages.of("a") is None and outages.of("b") is not None


def request(outages: Outages, now: float, *outcomes: Failed | None, only: bool = False) -> list[str]:
    """The upstreams that one request tries, where the outcomes are these."""
    routes = ROUTES[:1] if only else ROUTES
    rings = {route.upstream.name: KeyRing((Key("k", "k"),)) for route in routes}
    steps, told, tried = Failover(routes, rings, retries=0, outages=outages), list(outcomes), []
    while True:
        step = steps.next(now)
        if isinstance(step, GiveUp):
            return tried
        assert not isinstance(step, Wait)
        tried.append(step.route.upstream.name)
        failed = told.pop(0)
        steps.report(step, failed, now)
        reached = failed is None or failed.code != UNREACHABLE
        outages.report(step.route.upstream.name, reached=reached, began=now, now=now)
        if failed is None:
            return tried


def test_what_cannot_be_reached_stands_behind_the_others() -> None:
    outages = Outages()
    assert request(outages, 0.0, GONE, None) == ["first", "second"]
    assert request(outages, 1.0, None) == ["second"]
    assert request(outages, 4.9, BUSY, GONE) == ["second", "first"]  # it is tried all the same
    assert request(outages, 5.0, GONE, None) == ["first", "second"]
    assert request(outages, 14.9, None) == ["second"]
    assert request(outages, 15.0, None) == ["first"]
    assert request(outages, 15.1, None) == ["first"]


def test_without_another_target_it_is_tried_at_once() -> None:
    outages = Outages()
    for now in (0.0, 0.1, 0.2):
        assert request(outages, now, GONE, only=True) == ["first"]


def test_what_cannot_be_converted_does_not_use_up_the_trial() -> None:
    outages = Outages()
    outages.report("first", reached=False, began=0.0, now=0.0)
    rings = {route.upstream.name: KeyRing((Key("k", "k"),)) for route in ROUTES}
    steps = Failover(ROUTES, rings, outages=outages)
    step = steps.next(6.0)
    assert isinstance(step, Attempt) and step.route.upstream.name == "first"
    steps.not_convertible(step, Failed(400, "bad_request", "no"))
    assert request(outages, 6.1, None) == ["first"]


def test_it_comes_even_behind_keys_whose_cooldown_is_an_estimate() -> None:
    from ccproxy_lite.routing.keys import Lease, Result

    outages = Outages()
    outages.report("first", reached=False, began=0.0, now=0.0)
    rings = {route.upstream.name: KeyRing((Key("k", "k"),)) for route in ROUTES}
    rings["second"].report(Lease(Key("k", "k"), "m", 0.0), Result("invalid_key", 0.0))
    step = Failover(ROUTES, rings, outages=outages).next(1.0)
    assert isinstance(step, Attempt) and step.route.upstream.name == "second"
