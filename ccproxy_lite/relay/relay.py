"""What lasts for one configuration: the keys of its upstreams, and the way to them. One call is an ``exchange``."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.abc

from ccproxy_lite.config.model import Upstream
from ccproxy_lite.log import log
from ccproxy_lite.relay.capture import Captures
from ccproxy_lite.relay.catalog import Catalog
from ccproxy_lite.relay.client_keys import ClientRings
from ccproxy_lite.relay.ledger import Ledger
from ccproxy_lite.relay.states import States
from ccproxy_lite.relay.upstreams import Upstreams
from ccproxy_lite.routing.keys import ANONYMOUS, KeyRing
from ccproxy_lite.routing.outages import Outages


class Wakeup:
    """Wakes the requests that wait for a cooldown, under whichever configuration they wait."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def set(self) -> None:
        """Wake all that wait now; later ones wait for the next event."""
        self.event.set()
        self.event = anyio.Event()


class Relay:
    """The keys of one configuration, the way to its upstreams, and the event that ends waits early.

    :param before: the relay of the configuration before this one, whose keys and sessions are kept where they exist
    :param tasks: where services are asked for their lists of models; without it, they are not
    """

    def __init__(
        self, upstreams: Upstreams, before: Relay | None = None, tasks: anyio.abc.TaskGroup | None = None
    ) -> None:
        self.upstreams = upstreams
        self.config = upstreams.config
        self.vault = upstreams.vault
        self.clock = upstreams.clock
        rings = before.rings if before else {}
        self.rings: Mapping[str, KeyRing] = {
            upstream.name: KeyRing(upstream.keys or (ANONYMOUS,), self.config.strategy, rings.get(upstream.name))
            for upstream in self.config.upstreams
        }
        self.client_rings: ClientRings = before.client_rings if before else ClientRings()
        self.client_rings.keep({upstream.name for upstream in self.config.upstreams if upstream.from_client})
        keys = [(name, state.key) for name, ring in self.rings.items() for state in ring.states]
        self.ledger: Ledger = Ledger(keys, before.ledger if before else None)
        self.outages: Outages = before.outages if before else Outages()
        known = before.config.upstreams if before else ()
        self.outages.forget(set(rings) - {one.name for one in self.config.upstreams if one in known})
        self.wakeup: Wakeup = before.wakeup if before else Wakeup()
        self.states: States = States(self.config.responses_store, before.states if before else None)
        self.states.forget(self.clock.now())
        self.captures = Captures(self.config.capture, self.clock) if self.config.capture.dir else None
        self.catalog = Catalog(self, tasks)
        self.vault.on_change = self.clear_rejected

    def ring_for(self, upstream: Upstream, client_key: str) -> KeyRing:
        """The keys that a request may use: the configured ones, or the client's own."""
        return self.client_rings.ring(upstream.name, client_key) if upstream.from_client else self.rings[upstream.name]

    def all_rings(self, upstream: Upstream) -> list[KeyRing]:
        """Every ring of an upstream: one, or one for each key that a client has brought."""
        return list(self.client_rings.of(upstream.name)) if upstream.from_client else [self.rings[upstream.name]]

    def report_reach(self, upstream: str, problem: str, began: float) -> None:
        """Whether a request that began then has reached its upstream: ``problem`` says why not."""
        now, was_out = self.clock.now(), self.outages.of(upstream) is not None
        length_s = self.outages.report(upstream, reached=not problem, began=began, now=now)
        if length_s is not None:
            words = self.vault.redact(problem)
            log.warning("%s: %s; other targets, if there are any, are tried first", upstream, words)
        elif was_out and self.outages.of(upstream) is None:
            log.info("%s can be reached again", upstream)

    def clear_rejected(self, secret: str) -> None:
        """A key has a new secret: it counts as rejected no longer."""
        for ring in self.rings.values():
            ring.clear(secret, "invalid_key")
        self.wakeup.set()
