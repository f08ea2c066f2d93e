"""What keys have done: only shown, and bounded."""

from __future__ import annotations

from ccproxy_lite.config.model import Key
from ccproxy_lite.formats.neutral.events import Usage
from ccproxy_lite.relay.ledger import Ledger

A, B = Key("a", "a"), Key("b", "b")


def test_attempts_failures_and_tokens_are_counted_by_key_and_model() -> None:
    ledger = Ledger([("up", A), ("up", B)])
    totals = ledger.of("up", A)
    totals.add("m", "ok", 1.0, Usage(5, 7, cache_read=2))
    totals.add("m", "upstream_error", 2.0, None)
    totals.add("m", "client_error", 3.0, None)
    model = totals.models["m"]
    assert (model.requests, model.failures, model.input_tokens, model.output_tokens) == (3, 1, 7, 7)
    assert (totals.last_outcome, totals.last_at) == ("client_error", 3.0)
    assert ledger.of("up", B).models == {}


def test_names_of_models_do_not_fill_the_memory() -> None:
    totals = Ledger([("up", A)]).of("up", A)
    for number in range(5000):
        totals.add(f"model-{number}", "ok", 0.0, None)
    assert len(totals.models) <= 101 and totals.models["(other)"].requests == 4900


def test_totals_outlive_a_new_configuration_also_for_what_is_in_flight() -> None:
    before = Ledger([("up", A), ("up", B)])
    before.of("up", A).add("m", "ok", 0.0, None)
    after = Ledger([("up", Key("a", "renamed"))], before)
    before.of("up", A).add("m", "ok", 1.0, None)
    before.of("up", B).add("m", "ok", 1.0, None)
    assert after.of("up", A).models["m"].requests == 2
    assert after.of("up", B).models == {}, "removed"
