"""The errors of the program, and nothing else.

    CcproxyError
     |- ConfigError      the configuration is wrong; one line per problem, shown to the person who wrote it
     |- ClientError      the client's request cannot be served; becomes an HTTP error in the client's own format
     `- UpstreamError    an upstream did not do what its wire format promises; may be retried elsewhere

Anything else that is raised while a request is served is a bug: it is answered with a 500 that carries an id, and
the log repeats the id.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "bad_request",
    "auth",
    "billing",
    "permission",
    "not_found",
    "too_large",
    "rate_limit",
    "overloaded",
    "timeout",
    "server",
]

STATUS: dict[Kind, int] = {
    "bad_request": 400,
    "auth": 401,
    "billing": 402,
    "permission": 403,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "overloaded": 503,
    "timeout": 504,
    "server": 500,
}


DISCONNECTED = 499
"""The status for logs where the client has gone away, as clients do when their user stops them."""
UNREACHABLE = "(unreachable)"
"""Codes of errors that the proxy gives itself: no other key would mend that an upstream cannot be reached,"""
NO_PROGRAM = "(no program)"
"""nor, ever, that a local program cannot be run;"""
NO_SECRET = "(no secret)"
"""a key of ours could not be read, so that nothing was sent;"""
UNKNOWN_SESSION = "(unknown session)"
"""a local program has forgotten a session;"""
PARTIAL = "(partial)"
"""a key was rejected for one part of an API alone. In parentheses, because upstreams give codes of their own."""


def kind_of(status: int) -> Kind:
    """The neutral kind of an HTTP error status.

    >>> kind_of(529), kind_of(422), kind_of(502)
    ('overloaded', 'bad_request', 'server')
    """
    for kind, code in STATUS.items():
        if code == status:
            return kind
    if status == 408:
        return "timeout"
    if status == 529:
        return "overloaded"
    return "bad_request" if 400 <= status < 500 else "server"


class CcproxyError(Exception):
    """Everything that this program raises on purpose."""


class ConfigError(CcproxyError):
    """A configuration that cannot be used; ``problems`` holds one printable line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ClientError(CcproxyError):
    """A request that cannot be served as it is: answered with ``status`` and never sent to an upstream.

    ``code`` is a word by which clients know the error.
    """

    def __init__(
        self, status: int, message: str, *, kind: Kind | None = None, param: str | None = None, code: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind: Kind = kind or kind_of(status)
        self.message = message
        self.param = param
        self.code = code


class UpstreamError(CcproxyError):
    """An upstream could not be reached, or broke its wire format. ``status`` is the one that the client would get.

    ``code`` is the upstream's own, or one of those above.
    """

    def __init__(self, message: str, *, status: int = 502, kind: Kind = "server", code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind: Kind = kind
        self.code = code
        self.message = message


def printable(text: str) -> str:
    """A text that can neither forge a line of the log nor steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
