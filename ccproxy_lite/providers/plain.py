"""A service without a wire format: the paths of a client's own service, behind a base URL. Pure.

>>> key_headers("x-api-key", "K"), key_headers("none", "K")
([('x-api-key', 'K')], [])
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ccproxy_lite.formats.format import Format
from ccproxy_lite.providers import direct
from ccproxy_lite.providers.provider import Ask, Headers, Outbound, Service, with_query

AUTHS = ("bearer", "x-api-key", "api-key", "x-goog-api-key", "none")
"""How a service may want its key."""
KEY_HEADERS = tuple(auth for auth in AUTHS if auth not in ("bearer", "none"))
"""The headers that carry nothing but a key."""


def key_headers(auth: str, key: str) -> Headers:
    """The header that carries a key."""
    if not key or auth == "none":
        return []
    return [("authorization", f"Bearer {key}")] if auth == "bearer" else [(auth, key)]


def raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    """A request for a path below a base URL, whatever the path."""
    path = urlsplit(service.base_url).path.rstrip("/") + ask.raw_path
    target = with_query(path or "/", ask.query)
    return Outbound(ask.method, service.base_url, target, [*ask.headers, *key_headers(ask.auth, key)])


PROVIDER = direct.PROVIDER._replace(name="plain", defaults={}, raw=raw)
