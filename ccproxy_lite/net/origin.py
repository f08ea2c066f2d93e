"""Where a connection to an upstream leads.

>>> Origin.of("https://llm.example.com:8443/v1").authority
'llm.example.com:8443'
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from ccproxy_lite.net.address import bracketed
from ccproxy_lite.net.proxies import Proxy


class Origin(NamedTuple):
    """Where to connect, and whom to trust there; equal origins share connections."""

    tls: bool
    host: str
    port: int
    ca_file: str = ""
    client_cert: str = ""
    proxy: Proxy | None = None

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, url: str, ca_file: str = "", client_cert: str = "", proxy: Proxy | None = None) -> Origin:
        """The origin of a base URL that the configuration has checked."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return cls(tls, parts.hostname or "", parts.port or (443 if tls else 80), ca_file, client_cert, proxy)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        return _authority(self.tls, self.host, self.port)

    def addressed(self, target: str) -> tuple[str, list[tuple[str, str]]]:
        """The target, and headers for a proxy on the way: one without a tunnel needs the whole URL."""
        if self.proxy is None or self.tls:
            return target, []
        login = self.proxy.authorization
        return f"http://{self.authority}{target}", [("proxy-authorization", login)] if login else []


@lru_cache(maxsize=256)
def _authority(tls: bool, host: str, port: int) -> str:
    host = bracketed(host)
    return host if port == (443 if tls else 80) else f"{host}:{port}"
