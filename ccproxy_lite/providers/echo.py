"""The embedded service: it speaks every format, at the paths below the base URLs that are usual for each.

``server.echo`` serves it, and ``formats`` does what it means; here stand only its URLs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from ccproxy_lite.formats.format import Format
from ccproxy_lite.providers import direct
from ccproxy_lite.providers.provider import Ask, Defaults, Place, Service

NAME = "echo"
Request = TypeVar("Request")


def base_path(kind: str) -> str:
    """The path of a format's base URL.

    >>> base_path("openai-chat"), base_path("anthropic")
    ('/v1', '')
    """
    return urlsplit(direct.DEFAULTS[kind].base_url).path


def _at_base_path(
    write: Callable[[Service, Format, Ask, str], Request],
) -> Callable[[Service, Format, Ask, str], Request]:
    """The request that the vendor's service would get, at the path of its base URL."""
    return lambda service, form, ask, key: write(Place(service.base_url + base_path(form.name)), form, ask, key)


PROVIDER = direct.PROVIDER._replace(
    name=NAME,
    defaults={NAME: Defaults("", (), "")},
    speaks=lambda kind, client: client if client in direct.DEFAULTS else "openai-chat",
    message=_at_base_path(direct.message),
    count_tokens=_at_base_path(direct.count_tokens),
    models=_at_base_path(direct.models),
    raw=_at_base_path(direct.raw),
    embedded=True,
)
