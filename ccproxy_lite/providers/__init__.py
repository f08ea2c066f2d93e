"""Where the formats are spoken: the registry of providers, one file for each. Pure.

>>> provider_of("gemini").name, usual("gemini").key_variables
('direct', ('GEMINI_API_KEY', 'GOOGLE_API_KEY'))
"""

from __future__ import annotations

from ccproxy_lite.providers import direct, echo
from ccproxy_lite.providers.direct import FAMILIES, Families
from ccproxy_lite.providers.provider import QUIRKS, Provider, Usual

__all__ = ["EMBEDDED", "ENDPOINTS", "FAMILIES", "KINDS", "QUIRKS", "Families", "Provider", "provider_of", "usual"]

PROVIDERS = (direct.PROVIDER, echo.PROVIDER)
EMBEDDED = echo.PROVIDER
"""What is served where no service is configured."""
EMBEDDED_BASE_PATHS = {kind: echo.base_path(kind) for kind in direct.USUAL}
"""The path below the embedded service's address that is the base URL of each format."""
ENDPOINTS = ("/chat/completions", "/messages", "/responses", "/v1/v1")
"""How URLs end that are an endpoint's and no base URL; people paste them."""

_BY_KIND = {kind: provider for provider in PROVIDERS for kind in provider.usual}
KINDS = tuple(_BY_KIND)
"""The words that may stand in an upstream's ``format``."""


def provider_of(kind: str) -> Provider:
    """The provider of an upstream, by its ``format``."""
    return _BY_KIND[kind]


def usual(kind: str) -> Usual:
    """What goes without saying for an upstream's ``format``."""
    return _BY_KIND[kind].usual[kind]


def key_variables() -> list[str]:
    """Every environment variable that usually holds a key, each once."""
    return list(dict.fromkeys(name for kind in KINDS for name in usual(kind).key_variables))
