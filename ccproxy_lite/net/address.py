"""Where to listen, as text and as a value. Pure.

>>> Address.parse("[::1]:8317").url(8317)
'http://[::1]:8317'
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit


def bracketed(host: str) -> str:
    """A host as it stands before a port.

    >>> bracketed("::1"), bracketed("localhost")
    ('[::1]', 'localhost')
    """
    return f"[{host}]" if ":" in host else host


class Address(NamedTuple):
    """Where to listen: ``host`` and ``port``, or the ``path`` of a unix socket."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host:port``, ``[::1]:port`` or ``unix:/path``. Raises ValueError."""
        if text.startswith("unix:"):
            if len(text) < 6:
                raise ValueError("unix: needs a path")
            return cls("", 0, text[5:])
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise ValueError("must be host:port, [::1]:port or unix:/path")
        if int(port) > 65535:
            raise ValueError("a port is at most 65535")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("an IPv6 address needs brackets: [::1]:8317")
        if not host.isprintable() or " " in host:
            raise ValueError("a host has no spaces and no control characters")
        if not host:
            raise ValueError("missing host; use 0.0.0.0 or [::] for all interfaces")
        return cls(host, int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        return bool(self.path) or self.host in ("localhost", "::1") or self.host.startswith("127.")

    @property
    def is_everywhere(self) -> bool:
        """Whether it stands for every address of this machine."""
        return self.host in ("0.0.0.0", "::")

    def answers(self, url: str) -> bool:
        """Whether a URL leads here, as far as that shows."""
        parts = urlsplit(url)
        local = ("localhost", "127.0.0.1", "::1")
        everywhere = (self.is_everywhere or self.host in local) and parts.hostname in local
        return bool(self.port) and parts.port == self.port and (everywhere or parts.hostname == self.host)

    def url(self, port: int) -> str:
        """The base URL of a client on this machine, for the port that was really bound."""
        if self.path:
            return f"unix:{self.path}"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{bracketed(host)}:{port}"
