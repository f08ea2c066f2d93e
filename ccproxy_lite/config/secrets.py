"""Secrets: where they come from, how they are shown, and that they never are.

A secret string in the configuration is ``$NAME`` (environment), ``file:/path`` (read again after 5 minutes),
``cmd:helper --args`` (a credential helper, run again after 5 minutes or after a 401), or the secret itself.

>>> mask("made-up-key-0123-abcdef"), mask("short")
('...cdef', '***')
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from urllib.parse import quote

import anyio

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.log import log

MAX_AGE_S = 300.0
_AGAIN_S = 30.0
_HELPER_TIMEOUT_S = 20.0
NO_KEY = "none-needed"
"""What a client shows to a proxy without client keys: most clients insist on a key."""
ONE_TIME = "ccproxy-run-"
"""How the keys begin that are made for one command; like ``NO_KEY``, none is ever a key of a service."""
_PLACEHOLDER = re.compile(
    r"(?:sk-)?(?:x{3,}|\.{3})|change-?me|your[-_ ].*|<.*>|replace[-_ ]?me|todo|placeholder|.*your[-_]?api[-_]?key.*"
    rf"|{NO_KEY}|{ONE_TIME}.*",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))\Z")
_SHORTEST_REDACTED = 6
_MOST_REMEMBERED = 4096


def mask(secret: str) -> str:
    """The last four characters of a long secret, nothing of a short one."""
    return f"...{secret[-4:]}" if len(secret) >= 20 else "***"


def is_sendable(secret: str) -> bool:
    """Whether a key can stand in a header."""
    return secret.isascii() and secret.isprintable() and " " not in secret


def variable(spec: str) -> str | None:
    """The name of the environment variable that a secret string refers to, or None."""
    match = _VARIABLE.match(spec)
    return (match[1] or match[2]) if match else None


def is_literal(spec: str) -> bool:
    """Whether the string is the secret itself."""
    return variable(spec) is None and not is_renewable(spec)


def is_renewable(spec: str) -> bool:
    """Whether another look may find another secret."""
    return spec.startswith(("file:", "cmd:"))


def label(spec: str) -> str:
    """What to call a secret in front of people: the reference, or the masked literal."""
    if is_literal(spec):
        return mask(spec)
    return spec if not spec.startswith("cmd:") else f"cmd:{spec[4:].lstrip().partition(' ')[0]}"


def problem(spec: str, environ: Mapping[str, str]) -> str | None:
    """Why a secret string cannot work, as far as that shows without running anything."""
    name = variable(spec)
    if name is not None:
        if not environ.get(name, "").strip():
            return f"the environment variable {name} is {'empty' if name in environ else 'not set'}"
        return _unusable(environ[name].strip(), f"the environment variable {name}")
    if spec.startswith("file:"):
        path = Path(spec[5:])
        return unreadable(str(path)) or _unusable(path.read_text().strip(), str(path))
    if spec.startswith("cmd:"):
        try:
            words = _words(spec)
        except ValueError as error:
            return f"the command cannot be parsed: {error}"
        return None if words else "the command is empty"
    if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", spec):
        return f"looks like the name of a variable: ${spec} is its value"
    if spec.startswith(("$", "~", "/")):
        return "is neither a variable nor a key; a file is named as file:/path"
    return _unusable(spec.strip(), "the key")


def unreadable(path: str) -> str | None:
    """Why a text file cannot be read, or None."""
    try:
        Path(path).read_text()
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


def _unusable(secret: str, where: str) -> str | None:
    if not secret:
        return f"{where} is empty"
    if _PLACEHOLDER.fullmatch(secret):
        return f"{where} holds a placeholder, not a key"
    if not is_sendable(secret):
        return f"{where} holds characters that cannot stand in a header"
    return None


class Vault:
    """Resolves secret strings, remembers what it has seen, and blots it out of texts.

    :ivar on_change: is told the secret string whose value has changed
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.on_change: Callable[[str], object] = lambda spec: None
        self._environ = os.environ if environ is None else environ
        self._values: dict[str, tuple[str, float]] = {}
        self._failures: dict[str, UpstreamError] = {}
        self._refused: dict[str, tuple[str, float]] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._seen: dict[str, tuple[str, ...]] = {}

    async def value(self, spec: str, now: float, refused: str | None = None) -> str:
        """The secret, at most 5 minutes old. Raises UpstreamError when its source fails and nothing is known.

        :param refused: what an upstream has refused just now: look for another one, whatever its age
        """
        if self._is_good(spec, now, refused):
            return self.peek(spec)
        known, failure = self._values.get(spec), self._failures.get(spec)
        async with self._locks.setdefault(spec, anyio.Lock()):  # one helper at a time; who waited has its result
            if self._values.get(spec) is known and self._failures.get(spec) is failure:
                await self._renew(spec, now)
            elif spec not in self._values:
                raise self._failures[spec]
        if refused is not None:
            self._refused[spec] = (refused, now)
        return self.peek(spec)

    def peek(self, spec: str) -> str:
        """The secret as it was last read, or the empty string."""
        return self._values.get(spec, ("", 0.0))[0]

    def forget(self) -> None:
        """Read every secret again when it is needed."""
        self._values = {spec: (value, -inf) for spec, (value, _) in self._values.items()}

    def _is_good(self, spec: str, now: float, refused: str | None) -> bool:
        known = self._values.get(spec)
        if known is None or not is_renewable(spec):
            return known is not None
        if refused is not None and known[0] == refused:
            wrong, since_s = self._refused.get(spec, ("", 0.0))  # a helper that has just said so again
            return spec.startswith("cmd:") and wrong == refused and now - since_s < _AGAIN_S
        return now - known[1] < MAX_AGE_S

    async def _renew(self, spec: str, now: float) -> None:
        known = self._values.get(spec)
        try:
            secret = (await self._read(spec)).strip()
            trouble = _unusable(secret, "what it holds") if is_renewable(spec) else None
            if trouble:
                raise ValueError(trouble)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            if known is None:
                message = f"the key {label(spec)} cannot be read: {reason}"
                self._failures[spec] = UpstreamError(message, kind="auth", code="no_secret")
                raise self._failures[spec] from None
            log.warning("the key %s cannot be read again: %s", label(spec), reason)
            again_s = MAX_AGE_S if spec.startswith("cmd:") else _AGAIN_S  # a helper that hangs holds requests up
            self._values[spec] = (known[0], now - MAX_AGE_S + again_s)
            return
        self._values[spec] = (secret, now)
        self.remember(secret)
        if self._failures.pop(spec, None) or (known is not None and known[0] != secret):
            self.on_change(spec)

    def remember(self, secret: str) -> None:
        """Blot this value out of every text from now on, however JSON and URLs spell it."""
        if len(secret) < _SHORTEST_REDACTED or secret in self._seen:
            return
        self._seen[secret] = tuple(dict.fromkeys((secret, secret.replace("/", "\\/"), quote(secret, safe=""))))
        if len(self._seen) > _MOST_REMEMBERED:  # helpers make new ones for ever
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

    async def _read(self, spec: str) -> str:
        name = variable(spec)
        if name is not None:
            return self._environ.get(name, "")
        if spec.startswith("file:"):
            return await anyio.Path(spec[5:]).read_text()
        if spec.startswith("cmd:"):
            return await _run(_words(spec))
        return spec


def _words(spec: str) -> list[str]:
    import shlex

    return shlex.split(spec[4:])


async def _run(words: list[str]) -> str:
    """The standard output of a credential helper; no shell, no input, a time limit."""
    from subprocess import DEVNULL

    try:
        with anyio.fail_after(_HELPER_TIMEOUT_S):
            done = await anyio.run_process(words, stdin=DEVNULL, check=False)
    except TimeoutError:
        raise OSError(f"{words[0]} did not finish in {_HELPER_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        log.warning("%s exited with status %d: %s", words[0], done.returncode, said)
        raise OSError(f"{words[0]} exited with status {done.returncode}")
    token = done.stdout.decode("ascii", "replace").strip()
    if not token:
        raise OSError(f"{words[0]} printed nothing")
    return token
