"""Where the formats are spoken: the registry of providers, one file for each. Pure.

>>> provider_of("gemini").name, defaults("gemini").key_variables
('direct', ('GEMINI_API_KEY', 'GOOGLE_API_KEY'))
"""

from __future__ import annotations

from ccproxy_lite.providers import claude_cli, direct, echo, plain
from ccproxy_lite.providers.direct import FAMILIES, VENDORS, Families, is_makers
from ccproxy_lite.providers.provider import QUIRKS, Defaults, Provider
from ccproxy_lite.providers.windows import known_model

__all__ = [
    "DIRECT",
    "EMBEDDED",
    "FAMILIES",
    "KINDS",
    "QUIRKS",
    "VENDORS",
    "Families",
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
AUTHS = plain.AUTHS
"""How such a service may want its key."""
ENDPOINTS = {"/chat/completions": "", "/messages": "", "/responses": "", "/v1/v1": "/v1"}
"""Endings of URLs that are an endpoint's and no base URL, because users paste them; and the ending that was meant."""
KEY_HEADERS = tuple(dict.fromkeys([*(one.key_header for one in direct.DEFAULTS.values()), *plain.KEY_HEADERS]))
"""The headers in which services expect a key; a client's key is never forwarded in one of them."""

LOCAL = claude_cli.PROVIDER
"""An agent CLI on this machine."""
LOCAL_COMMAND, LOCAL_PARALLEL = claude_cli.DEFAULT_COMMAND, claude_cli.DEFAULT_PARALLEL
_BY_KIND = {kind: provider for provider in (DIRECT, EMBEDDED, LOCAL) for kind in provider.defaults}
KINDS = tuple(_BY_KIND)
"""The words that may stand in an upstream's ``format``."""


def provider_of(kind: str) -> Provider:
    """The provider that speaks what an upstream's ``format`` says."""
    return _BY_KIND[kind]


def defaults(kind: str) -> Defaults:
    """The base URL, variables and key header for an upstream's ``format``, unless the file says otherwise."""
    return _BY_KIND[kind].defaults[kind]


def key_variables() -> list[str]:
    """Every environment variable that usually holds a key, each once."""
    return list(dict.fromkeys(name for kind in KINDS for name in defaults(kind).key_variables))
