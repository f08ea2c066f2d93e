"""Secret references: what they refer to, whether they can work, and how they are shown. Pure.

Files are read by a function that is handed in; helpers run only where a secret is needed (``relay.vault``).

A secret reference in the configuration is ``$NAME`` (environment), ``file:/path`` (read again after 5 minutes),
``cmd:helper --args`` (a credential helper, run again after 5 minutes or after a 401), the credentials of a cloud (see
``providers.clouds``), or the secret itself.

>>> mask("made-up-key-0123-abcdef"), mask("short")
('...cdef', '***')
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from ccproxy_lite.providers.credentials import AWS, GOOGLE, ReadText, is_sendable

NO_KEY = "none-needed"
"""What a client shows to a proxy without client keys: most clients insist on a key."""
ONE_TIME = "ccproxy-run-"
"""How the keys begin that are made for one command; like ``NO_KEY``, none is ever a key of a service."""
SECRET_NAME = re.compile("key|token|secret|auth|cookie|password|credential|signature", re.IGNORECASE)
"""What a header, a parameter or a variable is called that may hold a secret."""

_PLACEHOLDER = re.compile(
    r"(?:sk-)?(?:x{3,}|\.{3})|change-?me|your[-_ ].*|<.*>|replace[-_ ]?me|todo|placeholder|.*your[-_]?api[-_]?key.*"
    rf"|{NO_KEY}|{ONE_TIME}.*",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))\Z")


def mask(secret: str) -> str:
    """The last four characters of a long secret, nothing of a short one."""
    return f"...{secret[-4:]}" if len(secret) >= 20 else "***"


def variable(reference: str) -> str | None:
    """The name of the environment variable that a secret reference names, or None."""
    match = _VARIABLE.match(reference)
    return (match[1] or match[2]) if match else None


def is_literal(reference: str) -> bool:
    """Whether the reference is the secret itself."""
    return variable(reference) is None and not is_renewable(reference)


def is_renewable(reference: str) -> bool:
    """Whether another look may find another secret."""
    return reference.startswith(("file:", "cmd:")) or is_fetched(reference)


def is_token_source(reference: str) -> bool:
    """Whether it gives tokens or access keys that do not last, as clouds want them, and no plain key."""
    return reference.startswith("cmd:") or is_fetched(reference)


def is_fetched(reference: str) -> bool:
    """Whether a service is asked for the secret, which says itself how long it is good."""
    return reference.startswith((GOOGLE, AWS))


def display_name(reference: str) -> str:
    """How a secret is shown to users: the reference, or the masked literal."""
    if is_literal(reference):
        return mask(reference)
    return reference if not reference.startswith("cmd:") else f"cmd:{reference[4:].lstrip().partition(' ')[0]}"


def why_invalid(reference: str, environ: Mapping[str, str], read: ReadText) -> str | None:
    """Why a secret reference cannot work, as far as that shows without running anything."""
    name = variable(reference)
    if name is not None:
        return why_variable_unusable(name, environ)
    if reference.startswith("file:"):
        return _why_file_unusable(str(PurePath(reference[5:])), read)
    if reference.startswith("cmd:"):
        try:
            command = words(reference)
        except ValueError as error:
            return f"the command cannot be parsed: {error}"
        return None if command else "the command is empty"
    if is_fetched(reference):
        return None
    if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", reference):
        return f'looks like a variable name; did you mean "${reference}"?'
    if reference.startswith(("$", "~", "/")):
        return 'not a valid secret; use "$NAME", "file:/path" or "cmd:..."'
    return why_unusable(reference.strip(), "the key")


def why_variable_unusable(name: str, environ: Mapping[str, str]) -> str | None:
    """Why the value of an environment variable cannot be a secret, or None."""
    if not environ.get(name, "").strip():
        return f"environment variable {name} is {'empty' if name in environ else 'unset'}"
    return why_unusable(environ[name].strip(), f"environment variable {name}")


def peek(reference: str, environ: Mapping[str, str], read: ReadText) -> str:
    """The secret as far as it can be seen without running or asking anything; else the empty string."""
    name = variable(reference)
    if name is not None:
        return environ.get(name, "").strip()
    if reference.startswith("file:"):
        try:
            return read(reference[5:]).strip()
        except (OSError, ValueError):
            return ""
    return "" if is_token_source(reference) else reference.strip()


def words(reference: str) -> list[str]:
    """The command of a ``cmd:`` string, split as a shell does. Raises ValueError."""
    import shlex

    return shlex.split(reference[4:])


def _why_file_unusable(path: str, read: ReadText) -> str | None:
    try:
        return why_unusable(read(path).strip(), path)
    except (OSError, ValueError) as error:
        return _unreadable_text(path, error)


def why_unreadable(path: str, read: ReadText) -> str | None:
    """Why a text file cannot be read, or None."""
    try:
        read(path)
    except (OSError, ValueError) as error:
        return _unreadable_text(path, error)
    return None


def _unreadable_text(path: str, error: Exception) -> str:
    return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"


def why_unusable(secret: str, where: str) -> str | None:
    """Why a value cannot be a secret, or None; ``where`` is what holds it."""
    if not secret:
        return f"{where} is empty"
    if _PLACEHOLDER.fullmatch(secret):
        return f"{where} contains a placeholder instead of an API key"
    if not is_sendable(secret):
        return f"{where} contains characters not allowed in an HTTP header"
    return None
