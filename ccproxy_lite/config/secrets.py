"""Secret strings: what they refer to, whether they can work, and how they are shown. Pure; files are read by a function
that is handed in, and helpers only where the secret is needed.

A secret string in the configuration is ``$NAME`` (environment), ``file:/path`` (read again after 5 minutes),
``cmd:helper --args`` (a credential helper, run again after 5 minutes or after a 401), or the secret itself.

>>> mask("made-up-key-0123-abcdef"), mask("short")
('...cdef', '***')
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath

NO_KEY = "none-needed"
"""What a client shows to a proxy without client keys: most clients insist on a key."""
ONE_TIME = "ccproxy-run-"
"""How the keys begin that are made for one command; like ``NO_KEY``, none is ever a key of a service."""
ReadText = Callable[[str], str]
"""The text of the file at a path. Raises OSError, or ValueError for what is no text."""

_PLACEHOLDER = re.compile(
    r"(?:sk-)?(?:x{3,}|\.{3})|change-?me|your[-_ ].*|<.*>|replace[-_ ]?me|todo|placeholder|.*your[-_]?api[-_]?key.*"
    rf"|{NO_KEY}|{ONE_TIME}.*",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))\Z")


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
    """How a secret is shown to users: the reference, or the masked literal."""
    if is_literal(spec):
        return mask(spec)
    return spec if not spec.startswith("cmd:") else f"cmd:{spec[4:].lstrip().partition(' ')[0]}"


def problem(spec: str, environ: Mapping[str, str], read: ReadText) -> str | None:
    """Why a secret string cannot work, as far as that shows without running anything."""
    name = variable(spec)
    if name is not None:
        return problem_of_variable(name, environ)
    if spec.startswith("file:"):
        return _problem_of_file(str(PurePath(spec[5:])), read)
    if spec.startswith("cmd:"):
        try:
            command = words(spec)
        except ValueError as error:
            return f"the command cannot be parsed: {error}"
        return None if command else "the command is empty"
    if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", spec):
        return f'looks like a variable name; did you mean "${spec}"?'
    if spec.startswith(("$", "~", "/")):
        return 'not a valid secret; use "$NAME", "file:/path" or "cmd:..."'
    return unusable(spec.strip(), "the key")


def problem_of_variable(name: str, environ: Mapping[str, str]) -> str | None:
    """Why the value of an environment variable cannot be a secret, or None."""
    if not environ.get(name, "").strip():
        return f"environment variable {name} is {'empty' if name in environ else 'unset'}"
    return unusable(environ[name].strip(), f"environment variable {name}")


def words(spec: str) -> list[str]:
    """The command of a ``cmd:`` string, split as a shell does. Raises ValueError."""
    import shlex

    return shlex.split(spec[4:])


def _problem_of_file(path: str, read: ReadText) -> str | None:
    try:
        return unusable(read(path).strip(), path)
    except (OSError, ValueError) as error:
        return _unreadable_text(path, error)


def unreadable(path: str, read: ReadText) -> str | None:
    """Why a text file cannot be read, or None."""
    try:
        read(path)
    except (OSError, ValueError) as error:
        return _unreadable_text(path, error)
    return None


def _unreadable_text(path: str, error: Exception) -> str:
    return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"


def unusable(secret: str, where: str) -> str | None:
    """Why a value cannot be a secret, or None; ``where`` is what holds it."""
    if not secret:
        return f"{where} is empty"
    if _PLACEHOLDER.fullmatch(secret):
        return f"{where} contains a placeholder instead of an API key"
    if not is_sendable(secret):
        return f"{where} contains characters not allowed in an HTTP header"
    return None
