"""The state of the proxy as JSON and as metrics, and how cooldowns are cleared; of a secret four characters at most."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from ccproxy_lite import __version__
from ccproxy_lite.config.model import Upstream
from ccproxy_lite.config.secrets import mask
from ccproxy_lite.errors import ClientError
from ccproxy_lite.log import log
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.routing.keys import KeyState
from ccproxy_lite.server import clients
from ccproxy_lite.server.metrics import Metrics, family


@dataclass(slots=True)
class ServerState:
    """The start, the source of the configuration, the last reload, and the counters. Times are seconds since 1970."""

    source: str = ""
    loaded_at: float = 0.0
    failed_at: float | None = None
    problems: tuple[str, ...] = ()
    started_at: float = 0.0
    metrics: Metrics = field(default_factory=Metrics)


def overview(relay: Relay, server_state: ServerState, url: str) -> dict[str, Any]:
    """The whole state as JSON; ``url`` is the one at which it was requested."""
    shares = server_state.metrics.cached_shares()
    upstreams = {
        upstream.name: {**_describe_upstream(relay, upstream), "cached_input": shares.get(upstream.name)}
        for upstream in relay.config.upstreams
    }
    traffic = server_state.metrics.overview(relay.clock.now())
    for error in traffic["errors"]:
        error["at"], error["error"] = _iso_time(error["at"]), relay.vault.redact(error["error"])
    return {
        "version": __version__,
        "started_at": _iso_time(server_state.started_at),
        "configuration": {
            "source": server_state.source,
            "loaded_at": _iso_time(server_state.loaded_at),
            "failed_at": None if server_state.failed_at is None else _iso_time(server_state.failed_at),
            "problems": [relay.vault.redact(problem) for problem in server_state.problems],
        },
        "sessions": len(
            {
                session
                for upstream in relay.config.upstreams
                for ring in relay.all_rings(upstream)
                for session in ring.sessions
            }
        ),
        "kept_responses": {"count": len(relay.states), "bytes": relay.states.bytes},
        "upstreams": upstreams,
        **traffic,
        "connect": clients.instructions(url, "<client key>" if relay.config.client_keys else clients.NO_KEY),
    }


def render_metrics(relay: Relay, server_state: ServerState, connections: int) -> str:
    """All metrics, in Prometheus' text format."""
    now, key_samples, sessions = relay.clock.now(), [], 0
    for upstream in relay.config.upstreams:
        rings = relay.all_rings(upstream)
        states = [state for ring in rings for state in ring.states]
        cooling = sum(any(one.blocked_s(now) for one in state.cooldowns.values()) for state in states)
        key_samples += [({"upstream": upstream.name, "state": "cooling_down"}, cooling)]
        key_samples += [({"upstream": upstream.name, "state": "ready"}, len(states) - cooling)]
        for ring in rings:
            ring.forget_sessions(now)
            sessions += len(ring.sessions)
    failed, open_upstreams = bool(server_state.problems), relay.upstreams.pool.open_count
    lines = [
        *family("ccproxy_info", "gauge", "Version of the proxy.", [({"version": __version__}, 1)]),
        *server_state.metrics.families(),
        *family("ccproxy_keys", "gauge", "Keys; cooling_down: for at least one model.", key_samples),
        *family("ccproxy_sessions", "gauge", "Sessions that are bound to a key.", [({}, sessions)]),
        *family(
            "ccproxy_kept_responses_bytes", "gauge", "Responses that clients can continue.", [({}, relay.states.bytes)]
        ),
        *family("ccproxy_client_connections", "gauge", "Open connections of clients.", [({}, connections)]),
        *family("ccproxy_upstream_connections", "gauge", "Open connections to upstreams.", [({}, open_upstreams)]),
        *family("ccproxy_configuration_broken", "gauge", "Whether the last reload failed.", [({}, int(failed))]),
        *family("process_start_time_seconds", "gauge", "Start, since the epoch.", [({}, server_state.started_at)]),
        *family("process_cpu_seconds_total", "counter", "User and system time.", [({}, time.process_time())]),
    ]
    return "\n".join(lines) + "\n"


def _describe_upstream(relay: Relay, upstream: Upstream) -> dict[str, Any]:
    """Of keys that clients bring, those that are cooling down."""
    rings = relay.all_rings(upstream)
    now = relay.clock.now()
    outage = relay.outages.of(upstream.name)
    for ring in rings:
        ring.forget_sessions(now)
    session_counts = Counter(reference for ring in rings for reference, _ in ring.sessions.values())
    return {
        "format": upstream.format,
        "base_url": "" if upstream.provider.embedded else upstream.base_url,
        "from_client": upstream.from_client,
        "unreachable_s": None if outage is None else round(now - outage.first, 1),
        "keys": [
            {
                **_key_state(relay, state, now),
                **_key_totals(relay, upstream, state, now),
                "sessions": session_counts[state.key.reference],
            }
            for ring in rings
            for state in ring.states
            if not upstream.from_client or any(one.blocked_s(now) for one in state.cooldowns.values())
        ],
    }


def _key_state(relay: Relay, state: KeyState, now: float) -> dict[str, Any]:
    secret = relay.vault.identity(state.key.reference)
    cooldowns = [
        {
            "model": model or None,
            "reason": cooldown.reason,
            "source": cooldown.source,
            "left_s": round(cooldown.until - now, 1),
            "blocked_s": round(cooldown.blocked_s(now), 1),
            "message": relay.vault.redact(cooldown.message),
        }
        for model, cooldown in state.cooldowns.items()
        if cooldown.blocked_s(now)
    ]
    return {
        "label": _key_label(state),
        "key": mask(secret) if secret else "",
        "weight": state.key.weight,
        "cooldowns": cooldowns,
    }


def _key_totals(relay: Relay, upstream: Upstream, state: KeyState, now: float) -> dict[str, Any]:
    totals = relay.ledger.of(upstream.name, state.key)
    return {
        "last": totals.last_outcome,
        "last_s": round(now - totals.last_at, 1) if totals.last_outcome else None,
        "requests": sum(one.requests for one in totals.models.values()),
        "failures": sum(one.failures for one in totals.models.values()),
        "models": {model: asdict(one) for model, one in totals.models.items()},
    }


def clear_cooldowns(relay: Relay, name: str) -> list[str]:
    """Clear cooldowns of the keys of that name: ``upstream/label``, label, last four characters, upstream, or ``all``.

    Returns the keys that had one. Raises ClientError (404) if there is no such key.
    """
    keys = [
        (upstream.name, ring, state)
        for upstream in relay.config.upstreams
        for ring in relay.all_rings(upstream)
        for state in ring.states
    ]
    named = [one for one in keys if name in _names_of_key(relay, one[0], one[2])]
    if not named:
        names = ", ".join(_names_of_key(relay, upstream, state)[0] for upstream, _, state in keys)
        raise ClientError(404, f'unknown key "{name}"; known keys: {names}')
    cleared = [
        _names_of_key(relay, upstream, state)[0] for upstream, ring, state in named if ring.clear(state.key.reference)
    ]
    relay.wakeup.set()
    log.info("cleared cooldowns: %s", ", ".join(cleared) or "none")
    return cleared


def _names_of_key(relay: Relay, upstream: str, state: KeyState) -> tuple[str, ...]:
    secret = relay.vault.identity(state.key.reference)
    last = (mask(secret), secret[-4:]) if len(secret) >= 20 else ()
    return (f"{upstream}/{_key_label(state)}", _key_label(state), upstream, "all", *last)


def _key_label(state: KeyState) -> str:
    return state.key.label or "(none)"


def _iso_time(since_1970: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since_1970))
