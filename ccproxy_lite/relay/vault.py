"""Secrets at run time: read when they are needed, read again when they are old or rejected, and redacted in all texts.

``config.secrets`` says what a secret reference is, and whether it can work at all. Here files are read and helpers run.

A secret is read at its first use and kept for five minutes. It is read again earlier when an upstream has rejected it,
because a file or helper may have a new one by then; but a helper that has just returned the rejected value again is
not run for half a minute. If a source fails, the old value is still used: a token that was valid a minute ago is worth
more than an error. Only a secret that could never be read is an error. When a value has changed, ``on_change`` lets the
relay clear the cooldowns that the old value has caused.

Redaction: every value that was ever read is remembered, in the spellings that JSON and URLs give it, and replaced in
everything that is logged, shown or sent to a client. Upstreams quote keys in their error messages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from math import inf
from urllib.parse import quote

import anyio

from ccproxy_lite.config.secrets import display_name, is_renewable, variable, why_unusable, words
from ccproxy_lite.errors import NO_SECRET, UpstreamError
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import log

MAX_AGE_S = 300.0
_REREAD_DELAY_S = 30.0
_HELPER_TIMEOUT_S = 20.0
MIN_REDACTED_CHARS = 6
_MAX_RETIRED = 4096


class Vault:
    """Resolves secret references, and redacts what it has seen.

    :ivar on_change: called with the reference of a secret that has changed, or that can be read again
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.on_change: Callable[[str], object] = lambda reference: None
        self._environ = os.environ if environ is None else environ
        self._values: dict[str, tuple[str, float]] = {}
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
        # One helper at a time; other requests wait for its result.
        async with self._locks.setdefault(reference, anyio.Lock()):
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
        return self._values.get(reference, ("", 0.0))[0]

    def forget(self) -> None:
        """Read the secrets of files and helpers again when they are needed."""
        self._values = {reference: (value, -inf) for reference, (value, _) in self._values.items()}

    def _may_reuse(self, reference: str, now: float, rejected: str | None) -> bool:
        cached = self._values.get(reference)
        if cached is None or not is_renewable(reference):
            return cached is not None
        if rejected is not None and cached[0] == rejected:
            # A helper may return the rejected value again.
            rejected_before, since = self._rejected.get(reference, ("", 0.0))
            return reference.startswith("cmd:") and rejected_before == rejected and now - since < _REREAD_DELAY_S
        return now - cached[1] < MAX_AGE_S

    async def _read_again(self, reference: str, now: float) -> None:
        cached = self._values.get(reference)
        try:
            secret = (await self._read_source(reference)).strip()
            reason_unusable = why_unusable(secret, "its content") if is_renewable(reference) else None
            if reason_unusable:
                raise ValueError(reason_unusable)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            if cached is None:
                message = f"the key {display_name(reference)} cannot be read: {reason}"
                self._failures[reference] = UpstreamError(message, kind="auth", code=NO_SECRET)
                raise self._failures[reference] from None
            log.warning("the key %s cannot be read again: %s", display_name(reference), reason)
            # A helper that hangs delays a request each time.
            again_s = MAX_AGE_S if reference.startswith("cmd:") else _REREAD_DELAY_S
            self._values[reference] = (cached[0], now - MAX_AGE_S + again_s)
            return
        self._values[reference] = (secret, now)
        self._retired.pop(secret, None)
        self.remember(secret)
        has_changed = cached is not None and cached[0] != secret
        if cached is not None and has_changed:
            self._retire(cached[0])
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
            if all(oldest != value for value, _ in self._values.values()):  # another source may still have it
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

    async def _read_source(self, reference: str) -> str:
        name = variable(reference)
        if name is not None:
            return self._environ.get(name, "")
        if reference.startswith("file:"):
            return await anyio.Path(reference[5:]).read_text()
        if reference.startswith("cmd:"):
            return await _run_helper(words(reference))
        return reference


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


async def _run_helper(command: list[str]) -> str:
    """The standard output of a credential helper; no shell, no input, a time limit."""
    from subprocess import DEVNULL

    try:
        with anyio.fail_after(_HELPER_TIMEOUT_S):
            done = await anyio.run_process(command, stdin=DEVNULL, check=False)
    except TimeoutError:
        raise OSError(f"{command[0]} did not finish in {_HELPER_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        last_line = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        log.warning("%s exited with status %d: %s", command[0], done.returncode, last_line)
        raise OSError(f"{command[0]} exited with status {done.returncode}")
    token = done.stdout.decode("ascii", "replace").strip()
    if not token:
        raise OSError(f"{command[0]} printed nothing")
    return token
