"""A service without a wire format: the paths of a client's own service, behind a base URL. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from ccproxy_lite.formats.format import Format
from ccproxy_lite.providers import direct
from ccproxy_lite.providers.credentials import key_headers
from ccproxy_lite.providers.provider import Ask, Outbound, Service, with_query


def raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    """A request for a path below a base URL, whatever the path."""
    path = urlsplit(service.base_url).path.rstrip("/") + ask.raw_path
    target = with_query(path or "/", ask.query)
    return Outbound(ask.method, service.base_url, target, [*ask.headers, *key_headers((ask.auth,), key)])


PROVIDER = direct.PROVIDER._replace(name="plain", defaults={}, raw=raw)
