"""Secrets at run time: read when they are needed, read again when they are old or rejected, and redacted in all texts.

``config.secrets`` says what a secret reference is, and whether it can work at all. Here files are read and helpers run;
what is fetched from a cloud, a function that is handed in fetches (``credentials``).

A secret is read at its first use and kept for five minutes, or, if its source says when it expires, until shortly
before. It is read again earlier when an upstream has rejected it, because its source may have a new one by then; but
one that has just returned the rejected value again is not asked for half a minute. If a source fails, the old value is
still used: a token that was valid a minute ago is worth more than an error. Only a secret that could never be read is
an error. When a value has changed, ``on_change`` lets the relay clear the cooldowns that the old value has caused.

Redaction: every value that was ever read is remembered, in the spellings that JSON and URLs give it, and replaced in
everything that is logged, shown or sent to a client. Upstreams quote keys in their error messages.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from math import inf
from typing import NamedTuple
from urllib.parse import quote

import anyio

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.secrets import display_name, is_fetched, is_renewable, variable, why_unusable, words
from ccproxy_lite.errors import NO_SECRET, UpstreamError
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import log
from ccproxy_lite.providers.credentials import Secret, identity, parts, secret_of
from ccproxy_lite.relay.helpers import run_helper

MAX_AGE_S = 300.0
_REREAD_DELAY_S = 30.0
_EARLY_S = 225.0
"""So long before it expires a secret is renewed; earlier, Google's metadata server gives the same token again."""
MIN_REDACTED_CHARS = 6
_MAX_RETIRED = 4096


class _Value(NamedTuple):
    """A secret, until when it is used without another look, and until when it is surely good."""

    secret: str
    fresh_until: float = -inf
    good_until: float = -inf


_NOTHING = _Value("")
Fetch = Callable[[str], Awaitable[Secret]]


async def _no_cloud(reference: str) -> Secret:
    raise OSError("nothing is fetched here")


class Vault:
    """Resolves secret references, and redacts what it has seen.

    :ivar on_change: called with the reference of a secret that has changed, or that can be read again
    :ivar environ: what ``$NAME`` refers to
    :ivar fetch: gives the secret of a reference to a cloud; it may raise OSError, ValueError and UpstreamError
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.on_change: Callable[[str], object] = lambda reference: None
        self.fetch: Fetch = _no_cloud
        self.clock = Clock()
        self.environ = os.environ if environ is None else environ
        self._values: dict[str, _Value] = {}
        self._failures: dict[str, UpstreamError] = {}
        self._rejected: dict[str, tuple[str, float]] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._seen: dict[str, tuple[str, ...]] = {}
        self._retired: dict[str, None] = {}
        self._order: list[str] | None = None

    async def value(self, reference: str, now: float, rejected: str | None = None) -> str:
        """The secret; from a file or helper at most 5 minutes old, unless reading fails.

        Raises UpstreamError if it could never be read.

        :param rejected: the value that an upstream has just rejected: read again, however recent it is
        """
        if self._may_reuse(reference, now, rejected):
            return self.peek(reference)
        cached, failure = self._values.get(reference), self._failures.get(reference)
        lock = self._locks.setdefault(reference, anyio.Lock())
        if lock.locked() and rejected is None and cached is not None and now < cached.good_until:
            return cached.secret  # it is being renewed ahead of its time
        # One helper at a time; other requests wait for its result.
        async with lock:
            # Unchanged: no other request has read it while this one waited for the lock.
            if self._values.get(reference) is cached and self._failures.get(reference) is failure:
                await self._read_again(reference, now)
            elif reference not in self._values:
                raise self._failures[reference]
        if rejected is not None:
            self._rejected[reference] = (rejected, now)
        return self.peek(reference)

    def peek(self, reference: str) -> str:
        """The secret as it was last read, or the empty string."""
        return self._values.get(reference, _NOTHING).secret

    def identity(self, reference: str) -> str:
        """The part of a secret by which users tell keys apart."""
        return identity(self.peek(reference))

    def forget(self) -> None:
        """Read the secrets of files and helpers again when they are needed."""
        self._values = {reference: _Value(value.secret) for reference, value in self._values.items()}

    def _may_reuse(self, reference: str, now: float, rejected: str | None) -> bool:
        cached = self._values.get(reference)
        if cached is None or not is_renewable(reference):
            return cached is not None
        if rejected is not None and cached.secret == rejected:
            # A helper may return the rejected value again.
            rejected_before, since = self._rejected.get(reference, ("", 0.0))
            return not reference.startswith("file:") and rejected_before == rejected and now - since < _REREAD_DELAY_S
        return now < cached.fresh_until

    async def _read_again(self, reference: str, now: float) -> None:
        cached = self._values.get(reference)
        try:
            secret, expires_at = await self._read_source(reference)
            for part in parts(secret) if is_renewable(reference) else ():
                reason_unusable = why_unusable(part, "its content")
                if reason_unusable:
                    raise ValueError(reason_unusable)
        except (OSError, ValueError, UpstreamError) as error:
            reason = getattr(error, "strerror", None) or error
            if cached is None:
                message = f"the key {display_name(reference)} cannot be read: {reason}"
                # A service that is out of order says nothing about the key.
                may_pass = isinstance(error, UpstreamError) and error.status >= 500
                self._failures[reference] = UpstreamError(
                    message, kind="server" if may_pass else "auth", code=NO_SECRET
                )
                raise self._failures[reference] from None
            log.warning("the key %s cannot be read again: %s", display_name(reference), reason)
            # A helper that hangs delays a request each time.
            again_s = MAX_AGE_S if reference.startswith("cmd:") else _REREAD_DELAY_S
            self._values[reference] = cached._replace(fresh_until=now + again_s)
            return
        left_s = MAX_AGE_S if expires_at is None else expires_at - self.clock.wall()
        kept_s = left_s if expires_at is None else max(left_s - _EARLY_S, left_s / 2, _REREAD_DELAY_S)
        self._values[reference] = _Value(secret, now + kept_s, now + left_s)
        for part in parts(secret):
            self._retired.pop(part, None)
            self.remember(part)
        has_changed = cached is not None and cached.secret != secret
        if cached is not None and has_changed:
            for part in parts(cached.secret):
                self._retire(part)
        if self._failures.pop(reference, None) or has_changed:
            self.on_change(reference)

    def remember(self, secret: str) -> None:
        """Redact this value in every text from now on, however JSON and URLs spell it."""
        if len(secret) < MIN_REDACTED_CHARS or secret in self._seen:
            return
        self._seen[secret] = spellings(secret)
        self._order = None

    def _retire(self, secret: str) -> None:
        """Old values stay redacted, but not all of them for ever: helpers issue new ones without end."""
        self._retired[secret] = None
        if len(self._retired) > _MAX_RETIRED:
            oldest = next(iter(self._retired))
            del self._retired[oldest]
            if all(
                oldest not in parts(value.secret) for value in self._values.values()
            ):  # another source may still have it
                self._seen.pop(oldest, None)
                self._order = None

    def redact(self, text: str, own: str = "") -> str:
        """The text without any secret that was ever resolved.

        :param own: another secret, of the request alone
        """
        for spelling in self._spelled(own):
            if spelling in text:
                text = text.replace(spelling, "[redacted]")
        return text

    def redact_bytes(self, data: bytes, own: str = "") -> bytes:
        """The same for bytes."""
        return self.redact(data.decode("utf-8", "surrogateescape"), own).encode("utf-8", "surrogateescape")

    def mask_bytes(self, data: bytes, own: str = "") -> bytes:
        """The same with what has as many bytes as before, so that places stay the same."""
        return masked(data, self._spelled(own))

    def _spelled(self, own: str) -> Iterable[str]:
        """Every secret as it may be spelled, the longest first: one may begin with another."""
        if self._order is None:
            self._order = sorted({one for spelled in self._seen.values() for one in spelled}, key=len, reverse=True)
        if len(own) < MIN_REDACTED_CHARS:
            return self._order
        return sorted({*self._order, *spellings(own)}, key=len, reverse=True)

    async def _read_source(self, reference: str) -> Secret:
        name = variable(reference)
        if name is not None:
            return Secret(self.environ.get(name, "").strip())
        if reference.startswith("file:"):
            return Secret((await anyio.Path(reference[5:]).read_text()).strip())
        if reference.startswith("cmd:"):
            return secret_of(await run_helper(words(reference)), self.clock.wall())
        return await self.fetch(reference) if is_fetched(reference) else Secret(reference.strip())


def spellings(secret: str) -> tuple[str, ...]:
    """A secret as JSON and URLs may spell it.

    >>> spellings("a/b")
    ('a/b', 'a\\\\/b', 'a%2Fb')
    """
    in_json = dumps(secret)[1:-1]
    return tuple(dict.fromkeys((secret, in_json, in_json.replace("/", "\\/"), quote(secret, safe=""))))


def masked(data: bytes, spelled: Iterable[str]) -> bytes:
    """Bytes in which every spelling is replaced by as many others; digits by digits, for they may be a number.

    >>> masked(b"a secret-of-mine b", ["secret-of-mine"]), masked(b"[12345678]", ["12345678"])
    (b'a [redacted]**** b', b'[11111111]')
    """
    for text in spelled:
        raw = text.encode("utf-8", "surrogatepass")
        if raw in data:
            other = b"[redacted]".ljust(len(raw), b"*") if len(raw) >= 10 else b"*" * len(raw)
            data = data.replace(raw, b"1" * len(raw) if raw.isdigit() else other)
    return data
