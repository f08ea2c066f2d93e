"""The cooldowns of keys that clients bring themselves: a key ring for each, found by a hash of the key.

An upstream that gets its clients' own keys has no list of them. A key that one client brings is limited or rejected for
that client alone, so each has a ring of its own with one key. No key is kept, only the first half of its SHA-256; and
of rings only the most recently used ``_MAX_RINGS``, because anybody may bring keys.
"""

from __future__ import annotations

from collections.abc import Iterator

from ccproxy_lite.config.model import Key
from ccproxy_lite.routing.keys import ANONYMOUS, KeyRing

_MAX_RINGS = 1000


class ClientRings:
    """The rings of all clients' keys, by upstream and hash; the most recently used last."""

    def __init__(self) -> None:
        self._rings: dict[tuple[str, str], KeyRing] = {}

    def ring(self, upstream: str, key: str) -> KeyRing:
        """The ring of a client's key at an upstream; a client without a key has nothing to remember."""
        if not key:
            return KeyRing((ANONYMOUS,))
        from hashlib import sha256  # which brings OpenSSL, and is needed for such upstreams only

        digest = sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        ring = self._rings.pop((upstream, digest), None) or KeyRing((Key(digest, f"client-{digest[:8]}"),))
        self._rings[upstream, digest] = ring
        if len(self._rings) > _MAX_RINGS:
            del self._rings[next(iter(self._rings))]
        return ring

    def of(self, upstream: str) -> Iterator[KeyRing]:
        """The rings at an upstream."""
        return (ring for (name, _), ring in self._rings.items() if name == upstream)

    def keep(self, upstreams: set[str]) -> None:
        """Forget the rings at all other upstreams."""
        self._rings = {place: ring for place, ring in self._rings.items() if place[0] in upstreams}
