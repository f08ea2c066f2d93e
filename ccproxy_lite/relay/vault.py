"""Secrets at run time: read when they are needed, read again when they are old or rejected, and redacted in all texts.

``config.secrets`` says what a secret string is, and whether it can work at all. Here files are read and helpers run.

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
from collections.abc import Callable, Mapping
from math import inf
from urllib.parse import quote

import anyio

from ccproxy_lite.config.secrets import is_renewable, label, unusable, variable, words
from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.log import log

MAX_AGE_S = 300.0


_AGAIN_S = 30.0


_HELPER_TIMEOUT_S = 20.0


SHORTEST_REDACTED = 6


_MOST_REMEMBERED = 4096


class Vault:
    """Resolves secret strings, and redacts what it has seen.

    :ivar on_change: called with the secret string whose value has changed
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.on_change: Callable[[str], object] = lambda spec: None
        self._environ = os.environ if environ is None else environ
        self._values: dict[str, tuple[str, float]] = {}
        self._failures: dict[str, UpstreamError] = {}
        self._rejected: dict[str, tuple[str, float]] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._seen: dict[str, tuple[str, ...]] = {}

    async def value(self, spec: str, now: float, rejected: str | None = None) -> str:
        """The secret, at most 5 minutes old. Raises UpstreamError if it could never be read.

        :param rejected: the value that an upstream has just rejected: read again, however recent it is
        """
        if self._is_still_good(spec, now, rejected):
            return self.peek(spec)
        value_before, failure = self._values.get(spec), self._failures.get(spec)
        async with self._locks.setdefault(
            spec, anyio.Lock()
        ):  # one helper at a time; other requests wait for its result
            # unchanged while this request waited for the lock: no other request has read it meanwhile
            if self._values.get(spec) is value_before and self._failures.get(spec) is failure:
                await self._read_again(spec, now)
            elif spec not in self._values:
                raise self._failures[spec]
        if rejected is not None:
            self._rejected[spec] = (rejected, now)
        return self.peek(spec)

    def peek(self, spec: str) -> str:
        """The secret as it was last read, or the empty string."""
        return self._values.get(spec, ("", 0.0))[0]

    def forget(self) -> None:
        """Read every secret again when it is needed."""
        self._values = {spec: (value, -inf) for spec, (value, _) in self._values.items()}

    def _is_still_good(self, spec: str, now: float, rejected: str | None) -> bool:
        value_before = self._values.get(spec)
        if value_before is None or not is_renewable(spec):
            return value_before is not None
        if rejected is not None and value_before[0] == rejected:
            rejected_before, since_s = self._rejected.get(
                spec, ("", 0.0)
            )  # a helper may return the rejected value again
            return spec.startswith("cmd:") and rejected_before == rejected and now - since_s < _AGAIN_S
        return now - value_before[1] < MAX_AGE_S

    async def _read_again(self, spec: str, now: float) -> None:
        value_before = self._values.get(spec)
        try:
            secret = (await self._read_source(spec)).strip()
            trouble = unusable(secret, "what it holds") if is_renewable(spec) else None
            if trouble:
                raise ValueError(trouble)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            if value_before is None:
                message = f"the key {label(spec)} cannot be read: {reason}"
                self._failures[spec] = UpstreamError(message, kind="auth", code="no_secret")
                raise self._failures[spec] from None
            log.warning("the key %s cannot be read again: %s", label(spec), reason)
            again_s = (
                MAX_AGE_S if spec.startswith("cmd:") else _AGAIN_S
            )  # a helper that hangs delays a request each time
            self._values[spec] = (value_before[0], now - MAX_AGE_S + again_s)
            return
        self._values[spec] = (secret, now)
        self.remember(secret)
        if self._failures.pop(spec, None) or (value_before is not None and value_before[0] != secret):
            self.on_change(spec)

    def remember(self, secret: str) -> None:
        """Redact this value in every text from now on, however JSON and URLs spell it."""
        if len(secret) < SHORTEST_REDACTED or secret in self._seen:
            return
        self._seen[secret] = tuple(dict.fromkeys((secret, secret.replace("/", "\\/"), quote(secret, safe=""))))
        if len(self._seen) > _MOST_REMEMBERED:  # helpers issue new tokens without end
            current = {value for value, _ in self._values.values()}
            self._seen.pop(next((old for old in self._seen if old not in current), secret))

    def redact(self, text: str) -> str:
        """The text without any secret that was ever resolved."""
        for spellings in self._seen.values():
            for spelling in spellings:
                if spelling in text:
                    text = text.replace(spelling, "[redacted]")
        return text

    def redact_bytes(self, data: bytes) -> bytes:
        """The same for bytes."""
        return self.redact(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    async def _read_source(self, spec: str) -> str:
        name = variable(spec)
        if name is not None:
            return self._environ.get(name, "")
        if spec.startswith("file:"):
            return await anyio.Path(spec[5:]).read_text()
        if spec.startswith("cmd:"):
            return await _run_helper(words(spec))
        return spec


async def _run_helper(command: list[str]) -> str:
    """The standard output of a credential helper; no shell, no input, a time limit."""
    from subprocess import DEVNULL

    try:
        with anyio.fail_after(_HELPER_TIMEOUT_S):
            done = await anyio.run_process(command, stdin=DEVNULL, check=False)
    except TimeoutError:
        raise OSError(f"{command[0]} did not finish in {_HELPER_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        complaint = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        log.warning("%s exited with status %d: %s", command[0], done.returncode, complaint)
        raise OSError(f"{command[0]} exited with status {done.returncode}")
    token = done.stdout.decode("ascii", "replace").strip()
    if not token:
        raise OSError(f"{command[0]} printed nothing")
    return token
