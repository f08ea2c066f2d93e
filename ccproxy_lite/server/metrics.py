"""What the proxy has done: requests in flight, the last errors, and counters for Prometheus. Pure.

``begin`` and ``end`` are called for each request. No label names a key, and the number of labels is bounded:
clients name models, so a model beyond the first few hundred counts as ``(other)``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ccproxy_lite.errors import DISCONNECTED
from ccproxy_lite.relay.record import Record

BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MAX_SERIES = 300
NO_ACCESS = (401, 403)
"""The statuses of requests without a key, or from where none may come."""
_MAX_ERRORS = 50
_MAX_ERROR_CHARS = 500

INPUT = ("input", "cache_read", "cache_write")
"""The kinds of input tokens, as they are priced."""
Place = tuple[str, str]
"""An upstream and one of its models."""


@dataclass(slots=True)
class Histogram:
    """Durations by bucket; the last count is of those beyond all buckets."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


@dataclass(slots=True)
class Tally:
    """The requests for one model of one upstream."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    first_byte: Histogram = field(default_factory=Histogram)
    total: Histogram = field(default_factory=Histogram)

    @property
    def errors(self) -> int:
        """Requests that ended with an error for the client, also inside a stream; a disconnected client has none."""
        return self.broken + sum(
            count for (_, status), count in self.requests.items() if status >= 400 and status != DISCONNECTED
        )


class Failure(NamedTuple):
    """What a client was told: the status, who was asked for what, and the message."""

    status: int
    where: str
    message: str


class Metrics:
    """Counters since the start; they outlive a reload.

    :ivar errors: the last requests with an error, also those whose client has disconnected
    :ivar failures: how many clients were told of a failure, by what they were told, since the start
    """

    def __init__(self) -> None:
        self.live: dict[int, Record] = {}
        self.errors: deque[tuple[float, Record]] = deque(maxlen=_MAX_ERRORS)
        self.tallies: dict[Place, Tally] = {}
        self.failures: Counter[Failure] = Counter()
        self.rejected: Counter[int] = Counter()

    def begin(self, record: Record) -> None:
        """A request has begun."""
        self.live[id(record)] = record

    def end(self, record: Record, now: float, wall_s: float) -> None:
        """The request is over."""
        self.live.pop(id(record), None)
        upstream, _, model = record.route.partition("/")
        tally = self._tally_of((upstream, model))
        tally.requests[record.format, record.status] += 1
        tally.total.add(now - record.started_at)
        if record.first_byte_s is not None:
            tally.first_byte.add(record.first_byte_s)
        # A counted request has used no tokens.
        if record.usage is not None and not record.is_count:
            used, tokens = record.usage, tally.tokens
            tokens["input"] += used.input
            tokens["cache_read"] += used.cache_read
            tokens["cache_write"] += used.cache_write
            tokens["output"] += used.output
        # Attempts count where they were made, the request where it ended.
        for attempt, failed in record.attempts:
            if failed is not None:
                self._tally_of((attempt.route.upstream.name, attempt.route.model)).failures[failed.kind] += 1
        # The head had been sent with 200 before it failed.
        if record.error and record.status < 400:
            tally.broken += 1
        if record.error:
            self.errors.append((wall_s, record))
            if record.status != DISCONNECTED:
                self._count(Failure(record.status, record.route or record.model, record.error))

    def reject(self, status: int, where: str, message: str) -> None:
        """A request was rejected before any endpoint. One without access has failed; others are a client's probes."""
        self.rejected[status] += 1
        if status in NO_ACCESS:
            self._count(Failure(status, where, message))

    def _count(self, failure: Failure) -> None:
        failure = failure._replace(message=failure.message[:_MAX_ERROR_CHARS])
        is_known = failure in self.failures or len(self.failures) < _MAX_SERIES
        self.failures[failure if is_known else Failure(failure.status, "", "(other)")] += 1

    def _tally_of(self, place: Place) -> Tally:
        # Clients choose model names.
        if place not in self.tallies and len(self.tallies) >= _MAX_SERIES:
            place = (place[0], "(other)")
        return self.tallies.setdefault(place, Tally())

    def cached_shares(self) -> dict[str, float]:
        """For each upstream the share of the input tokens that it has read from its prompt cache, from 0 to 1."""
        sums: dict[str, Counter[str]] = {}
        for (upstream, _), tally in self.tallies.items():
            sums.setdefault(upstream, Counter()).update(tally.tokens)
        totals = {upstream: sum(tokens[kind] for kind in INPUT) for upstream, tokens in sums.items()}
        return {upstream: sums[upstream]["cache_read"] / total for upstream, total in totals.items() if total}

    def overview(self, now: float) -> dict[str, Any]:
        """For the dashboard: requests in flight, recent errors, and tokens per model."""
        return {
            "live": [
                {
                    "format": record.format,
                    "model": record.model,
                    "upstream": record.route,
                    "key": record.key,
                    "seconds": round(now - record.started_at, 1),
                }
                for record in self.live.values()
            ],
            "models": [
                {
                    "upstream": upstream,
                    "model": model,
                    "requests": tally.requests.total(),
                    "errors": tally.errors,
                    "input_tokens": sum(tally.tokens[kind] for kind in INPUT),
                    "cached_tokens": tally.tokens["cache_read"],
                    "output_tokens": tally.tokens["output"],
                }
                for (upstream, model), tally in self.tallies.items()
                if upstream
            ],
            "errors": [
                {
                    "at": at,
                    "request": f"{record.method} {record.path}",
                    "model": record.model,
                    "upstream": record.route,
                    "status": record.status,
                    "error": record.error[:_MAX_ERROR_CHARS],
                }
                for at, record in reversed(self.errors)
            ],
        }

    def families(self) -> Iterator[str]:
        """The counters and histograms in Prometheus' text format, 0.0.4."""
        tallies = [({"upstream": place[0], "model": place[1]}, tally) for place, tally in self.tallies.items()]
        yield from family("ccproxy_requests_total", "counter", "Requests served, by the status sent to the client.", (
            ({"client_format": form, **labels, "status": str(status)}, count)
            for labels, tally in tallies
            for (form, status), count in tally.requests.items()
        ))  # fmt: skip
        yield from family("ccproxy_rejected_requests_total", "counter", "Requests rejected before any endpoint.", (
            ({"status": str(status)}, count) for status, count in self.rejected.items()
        ))  # fmt: skip
        yield from family("ccproxy_attempt_failures_total", "counter", "Attempts at an upstream that failed.", (
            ({**labels, "kind": kind}, count) for labels, tally in tallies for kind, count in tally.failures.items()
        ))  # fmt: skip
        yield from family("ccproxy_tokens_total", "counter", "Tokens that the upstreams counted.", (
            ({**labels, "kind": kind}, count) for labels, tally in tallies for kind, count in tally.tokens.items()
        ))  # fmt: skip
        yield from family(
            "ccproxy_cached_input_ratio", "gauge", "Share of the input that was read from the upstream's prompt cache.",
            (({"upstream": upstream}, share) for upstream, share in self.cached_shares().items()),
        )  # fmt: skip
        first = ((labels, tally.first_byte) for labels, tally in tallies)
        total = ((labels, tally.total) for labels, tally in tallies)
        yield from _histograms("ccproxy_first_byte_seconds", "From a request's start to the first content.", first)
        yield from _histograms("ccproxy_request_seconds", "From a request's start to its end.", total)
        yield from family("ccproxy_live_requests", "gauge", "Requests in flight.", [({}, len(self.live))])


def family(name: str, kind: str, about: str, samples: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
    """The lines of one metric; none without samples.

    >>> list(family("up", "gauge", "Whether it is.", [({"who": 'a"b'}, 1)]))[-1]
    'up{who="a\\\\"b"} 1'
    """
    rows = [f"{name}{_label_text(labels)} {value:.3f}" if value % 1 else f"{name}{_label_text(labels)} {value:.0f}"
            for labels, value in samples]  # fmt: skip
    if rows:
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} {kind}"
        yield from rows


def _histograms(name: str, about: str, samples: Iterable[tuple[dict[str, str], Histogram]]) -> Iterator[str]:
    rows = []
    for labels, histogram in samples:
        if not any(histogram.counts):
            continue
        count = 0
        # Buckets are cumulative in Prometheus.
        for bound, in_bucket in zip((*BUCKETS_S, "+Inf"), histogram.counts, strict=True):
            count += in_bucket
            rows.append(f"{name}_bucket{_label_text({**labels, 'le': str(bound)})} {count}")
        rows.append(f"{name}_sum{_label_text(labels)} {histogram.sum_s:.6f}")
        rows.append(f"{name}_count{_label_text(labels)} {count}")
    if rows:
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} histogram"
        yield from rows


def _label_text(labels: dict[str, str]) -> str:
    pairs = [f'{name}="{_escape_label(value)}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
