"""Where the formats are spoken: the registry of providers, one file for each. Pure.

>>> provider_of("gemini").name, defaults("gemini").key_variables
('direct', ('GEMINI_API_KEY', 'GOOGLE_API_KEY'))
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from ccproxy_lite.providers import credentials, direct, echo, hosts, local, plain
from ccproxy_lite.providers.direct import FAMILIES, VENDORS, Families, is_makers
from ccproxy_lite.providers.hosts import HOSTS, Host
from ccproxy_lite.providers.provider import QUIRKS, Defaults, Provider
from ccproxy_lite.providers.windows import known_model

__all__ = [
    "DIRECT",
    "EMBEDDED",
    "FAMILIES",
    "HOSTS",
    "KINDS",
    "QUIRKS",
    "VENDORS",
    "Families",
    "Field",
    "Host",
    "Provider",
    "is_makers",
    "known_model",
    "provider_of",
]

DIRECT = direct.PROVIDER
"""The vendors' services, and all that are compatible with them."""
EMBEDDED = echo.PROVIDER
"""What is served where no service is configured."""
EMBEDDED_BASE_PATHS = {kind: echo.base_path(kind) for kind in DIRECT.defaults}
"""The path below the embedded service's address that is the base URL of each format."""
PLAIN = plain.PROVIDER
"""What has no wire format: the services behind mounts."""
AUTHS = credentials.AUTHS
"""How a service may want its key."""
ENDPOINTS = {"/chat/completions": "", "/messages": "", "/responses": "", "/v1/v1": "/v1"}
"""Endings of URLs that are an endpoint's and no base URL, because users paste them; and the ending that was meant."""
KEY_HEADERS = tuple(dict.fromkeys([*(one.key_header for one in direct.DEFAULTS.values()), *credentials.KEY_HEADERS]))
"""The headers in which services expect a key; a client's key is never forwarded in one of them."""

LOCAL = local.NAME
"""An agent CLI on this machine."""
LOCAL_COMMAND, LOCAL_PARALLEL = local.COMMAND, local.PARALLEL
_BY_KIND = {kind: provider for provider in (DIRECT, EMBEDDED) for kind in provider.defaults}
KINDS = (*_BY_KIND, LOCAL)
"""The words that may stand in an upstream's ``format``."""


class Field(NamedTuple):
    """What the hosts of one provider want to know: the shape of a value, what it is called, how to come by it."""

    provider: str
    pattern: str
    what: str
    remedy: str


CLOUDS = ("azure", "vertex", "bedrock")
NAMES = (DIRECT.name, *CLOUDS)
"""The words that may stand in an upstream's ``provider``."""
FIELDS = {
    "project": Field(
        "vertex", r"[a-z0-9][a-z0-9.:-]*", "a project's id", "set GOOGLE_CLOUD_PROJECT, or add it to the upstream"
    ),
    "location": Field("vertex", r"[a-z0-9-]+", "a location, such as us-east5", "add it to the upstream"),
    "region": Field(
        "bedrock",
        r"[a-z0-9-]+",
        "a region, such as us-east-1",
        "set AWS_REGION, or add it to the upstream",
    ),
    "api_version": Field("azure", r"[\w.-]+", "a version, such as 2024-10-21", "add it to the upstream"),
}
"""What is to be said about an upstream of one kind of host only."""


def provider_of(kind: str) -> Provider:
    """The provider that speaks what an upstream's ``format`` says, unless its host is of another kind."""
    if kind == LOCAL:
        local_program: Provider = import_module("ccproxy_lite.providers.claude_cli").PROVIDER
        return local_program
    return _BY_KIND[kind]


def cloud(name: str, kind: str, base_url: str, api_version: str = "") -> Provider:
    """The provider of that name, for a format at a base URL. It is loaded only where it is used.

    >>> cloud("vertex", "gemini", "").name
    'vertex'
    """
    if name not in CLOUDS:
        return provider_of(kind)
    module = import_module(f"ccproxy_lite.providers.{name}")
    choice: Provider = module.provider(kind, base_url, api_version)
    return choice


def host_at(base_url: str) -> Host | None:
    """The known service at a base URL."""
    return hosts.at(base_url)


def quirks_at(base_url: str) -> frozenset[str]:
    """The quirks of the host of a base URL.

    >>> quirks_at("https://api.anthropic.com")
    frozenset({'automatic_caching'})
    """
    host = hosts.at(base_url)
    return frozenset(host.quirks if host is not None else ())


def host_named(name: str) -> Host | None:
    """The known service of a name."""
    return hosts.named(name)


def host_names() -> tuple[str, ...]:
    """The names of all known services."""
    return hosts.names()


def formats_of(provider: str) -> list[str]:
    """The formats that a kind of cloud speaks; empty for others.

    >>> formats_of("azure")
    ['openai-chat', 'openai-responses', 'anthropic']
    """
    return list(dict.fromkeys(kind for one in HOSTS if one.provider == provider in CLOUDS for kind in one.urls))


def host_for(provider: str, kind: str) -> Host | None:
    """The known service that stands for a kind of host where a format is spoken, wherever it may be.

    >>> host_for("azure", "anthropic").name, host_for("direct", "anthropic")
    ('foundry', None)
    """
    return next((one for one in HOSTS if one.provider == provider in CLOUDS and kind in one.urls), None)


def defaults(kind: str) -> Defaults:
    """The base URL, variables and key header for an upstream's ``format``, unless the file says otherwise."""
    return local.DEFAULTS if kind == LOCAL else _BY_KIND[kind].defaults[kind]


def key_variables() -> list[str]:
    """Every environment variable that usually holds a key, each once."""
    return list(dict.fromkeys(name for kind in KINDS for name in defaults(kind).key_variables))
