"""``GET /metrics``, read by the official client's parser; and what the counters count."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.formats.neutral.events import Usage
from ccproxy_lite.relay.record import Record
from ccproxy_lite.server.metrics import BUCKETS_S, Histogram, Metrics, family
from tests.services import service
from tests.support import ANTHROPIC_ASK, CHAT_ASK, CHAT_STREAM, STALL, Proxy, ask, behind, connect, eventually

from tests.support import proxy, request_bytes, upstream  # isort: skip

KEY = "sk-a-very-secret-key-0123456789-wxyz"


def samples(port: int, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels; the parser raises for what Prometheus would not take."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    answer = ask(port, "/metrics", method="GET", **headers)
    assert answer.status == 200 and answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    assert "wxyz" not in text and "work" not in text, "no key, and no label of one"
    families = list(parser.text_string_to_metric_families(text))
    assert all(one.documentation and one.type != "unknown" for one in families)
    found = {(one.name, frozenset(one.labels.items())): one.value for group in families for one in group.samples}
    assert len(found) == sum(len(group.samples) for group in families), "no sample stands there twice"
    return found


def value(found: dict[Any, float], name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_what_is_counted() -> None:
    with service("openai-chat") as (scripted, up):
        scripted.say("", "", ["429 retry-after=50", "ok", "400"])
        keys = [{"key": KEY, "label": "work"}, "another-key-0123"]
        with proxy(behind(up, "openai-chat", keys=keys)) as served:
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 400
            assert ask(served.port, "/nowhere", {}).status == 404
            ask(served.port, "/healthz", method="GET")
            found = samples(served.port)
    place = {"upstream": "up", "model": "m"}
    assert value(found, "ccproxy_requests_total", client_format="anthropic", status="200", **place) == 1
    assert value(found, "ccproxy_requests_total", client_format="openai-chat", status="400", **place) == 1
    assert value(found, "ccproxy_attempt_failures_total", kind="rate_limit", **place) == 1
    assert value(found, "ccproxy_rejected_requests_total", status="404") == 1
    assert value(found, "ccproxy_tokens_total", kind="input", **place) == 3
    assert value(found, "ccproxy_tokens_total", kind="output", **place) == 1
    assert value(found, "ccproxy_request_seconds_count", **place) == 2
    assert value(found, "ccproxy_first_byte_seconds_count", **place) == 1
    assert value(found, "ccproxy_request_seconds_bucket", le="+Inf", **place) == 2
    assert value(found, "ccproxy_keys", upstream="up", state="cooling_down") == 1
    assert value(found, "ccproxy_keys", upstream="up", state="ready") == 1
    assert value(found, "ccproxy_live_requests") == 0
    assert value(found, "ccproxy_configuration_broken") == 0
    assert sum(count for (name, _), count in found.items() if name == "ccproxy_requests_total") == 2, "none of its own"


def test_a_request_under_way_is_live() -> None:
    with upstream([CHAT_STREAM[0], STALL]) as up, proxy(behind(up, "openai-chat")) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/chat/completions", {**CHAT_ASK, "stream": True}))
            assert eventually(lambda: bool(up.seen))
            assert value(samples(served.port), "ccproxy_live_requests") == 1
            live = ask(served.port, "/status", method="GET").json["live"]
            assert [(one["format"], one["model"], one["upstream"]) for one in live] == [("openai-chat", "m", "up/m")]
        assert eventually(lambda: value(samples(served.port), "ccproxy_live_requests") == 0)
        gone = {"client_format": "openai-chat", "upstream": "up", "model": "m", "status": "499"}
        assert value(samples(served.port), "ccproxy_requests_total", **gone) == 1


def test_it_needs_the_client_key_and_outlives_a_reload() -> None:
    with service("anthropic") as (_, up):
        config = {**behind(up, "anthropic"), "client_keys": ["the-client-key"]}
        with proxy(config) as served:
            assert ask(served.port, "/metrics", method="GET").status == 401
            headers = {"x_api_key": "the-client-key"}
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK, **headers).status == 200
            reload(served, config)
            labels = {"client_format": "anthropic", "upstream": "up", "model": "m", "status": "200"}
            assert value(samples(served.port, **headers), "ccproxy_requests_total", **labels) == 1


def reload(served: Proxy, config: dict[str, Any]) -> None:
    from tests.support import settings_of

    served.run(served.parts.use, settings_of(config))


def test_clients_cannot_grow_it() -> None:
    metrics = Metrics()
    for n in range(5000):
        record = Record(route=f"up/model-{n}", format="gemini", status=500, error="x" * 10_000)
        metrics.begin(record)
        metrics.end(record, 1.0, 1.0)
    assert len(metrics.tallies) < 400
    assert metrics.tallies["up", "(other)"].errors > 4000
    assert len(metrics.errors) == 50 and metrics.live == {}
    assert all(len(one["error"]) <= 500 for one in metrics.overview(1.0)["errors"])


def test_label_values_cannot_break_the_text() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    metrics = Metrics()
    odd = 'a"b\\c\nd} 5 é'
    metrics.end(Record(route=f"up/{odd}", status=200, usage=Usage(1, 2)), 1.0, 1.0)
    found = list(parser.text_string_to_metric_families("\n".join(metrics.families()) + "\n"))
    assert {sample.labels["model"] for group in found for sample in group.samples if "model" in sample.labels} == {odd}


def test_histograms_are_cumulative_at_their_bounds() -> None:
    histogram = Histogram()
    for seconds in (0.05, 0.051, 1e9):
        histogram.add(seconds)
    assert histogram.counts[0] == 1 and histogram.counts[1] == 1 and histogram.counts[-1] == 1
    assert len(histogram.counts) == len(BUCKETS_S) + 1


def test_a_metric_without_samples_is_not_told() -> None:
    assert list(family("a", "gauge", "b", [])) == []
    assert list(family("a", "gauge", "b", [({}, 1.5)]))[-1] == "a 1.500"


def test_counting_costs_no_tokens_and_a_broken_stream_is_an_error() -> None:
    with (
        upstream([CHAT_STREAM[0], CHAT_STREAM[1], "close"]) as up,
        proxy({**behind(up, "openai-chat"), "retries": 0}) as served,
    ):
        assert ask(served.port, "/v1/messages/count_tokens", ANTHROPIC_ASK).json["input_tokens"] > 0
        ask(served.port, "/v1/chat/completions", {**CHAT_ASK, "stream": True})
        found = samples(served.port)
        models = ask(served.port, "/status", method="GET").json["models"]
    assert value(found, "ccproxy_tokens_total", kind="input", upstream="up", model="m") in (None, 0)
    assert value(found, "ccproxy_first_byte_seconds_count", upstream="up", model="m") == 1
    assert models[0]["errors"] == 1 and models[0]["input_tokens"] == 0
