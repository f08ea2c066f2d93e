"""Which proxy leads to a service: the one that the file names, else the environment's. Pure.

The variables are curl's: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, lower case before upper case.

>>> named, variable = usual("https://api.openai.com/v1", {"HTTPS_PROXY": "http://me:secret@proxy.corp:3128"})
>>> str(named), variable, bypasses("10.0.0.0/8, .corp", "llm.corp", 443)
('http://***@proxy.corp:3128', 'HTTPS_PROXY', True)
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ccproxy_lite.net.address import bracketed

_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """A proxy for CONNECT; ``tls`` is about the way to the proxy itself."""

    tls: bool
    host: str
    port: int
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read ``http://user:password@host:port``; a scheme may be missing. Raises ValueError with a remedy."""
        wanted = "a proxy is http://host:port or http://user:password@host:port (%23 for #, %2F for /, %40 for @)"
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            port = parts.port
        except ValueError:  # whose words may hold a piece of the password
            raise ValueError(wanted) from None
        if parts.scheme not in _PORTS:
            raise ValueError(f"{parts.scheme}:// proxies are not supported; http://host:port is")
        strange = parts.path.strip("/") or parts.query or parts.fragment or "#" in text or "?" in text
        if not parts.hostname or strange or not text.isprintable() or " " in text:
            raise ValueError(wanted)
        tls, user, password = parts.scheme == "https", unquote(parts.username or ""), unquote(parts.password or "")
        return cls(tls, parts.hostname, port or _PORTS[parts.scheme], user, password)

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        return f"{bracketed(self.host)}:{self.port}"

    @property
    def authorization(self) -> str:
        """The value of ``Proxy-Authorization`` (RFC 7617), or the empty string."""
        if not self.user and not self.password:
            return ""
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __str__(self) -> str:
        scheme, login = "https" if self.tls else "http", "***@" if self.authorization else ""
        return f"{scheme}://{login}{self.authority}"


def usual(url: str, environ: Mapping[str, str]) -> tuple[Proxy | None, str]:
    """The environment's proxy for a URL, and the variable that named it. Raises ValueError, naming the variable.

    This machine is never reached through a proxy, as in Go: a company's proxy cannot connect to a local model server.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            text = environ.get(variable, "").strip()
            if not text:
                continue
            if not host or host == "localhost" or _is_loopback(host):
                return None, ""
            no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
            if bypasses(no_proxy, host, parts.port or _PORTS[parts.scheme]):
                return None, ""
            try:
                return Proxy.parse(text), variable
            except ValueError as error:
                raise ValueError(f"environment variable {variable}: {error}") from None
    return None, ""


def bypasses(no_proxy: str, host: str, port: int) -> bool:
    """Whether ``NO_PROXY`` exempts a host: by name, parent domain, address, network (CIDR), port, or ``*``."""
    host = host.lower().strip("[]").removesuffix(".")
    return any(_entry_matches(entry.lower(), host, port) for entry in no_proxy.replace(",", " ").split())


def _entry_matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    network = _parse_network(entry.strip("[]"))
    if network is None:
        entry, colon, wanted = entry.rpartition(":")
        if not colon:
            entry = wanted
        elif wanted != str(port):
            return False
        network = _parse_network(entry.strip("[]"))
    if network is not None:
        from ipaddress import ip_address

        try:
            return ip_address(host) in network
        except ValueError:
            return False
    domain = entry.removeprefix("*").removeprefix(".").removesuffix(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _parse_network(text: str):  # type: ignore[no-untyped-def]  # ipaddress has no public name for both versions
    from ipaddress import ip_network  # only few machines have a proxy to think about

    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
