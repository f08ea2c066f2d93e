"""The vendors' services, and all that are compatible with them: a base URL, the format's paths, a key in a header.

Sources: the official SDKs' defaults for base URLs, variables and headers.

>>> usual_auth("anthropic", "https://llm.example.com")
('x-api-key', 'bearer')
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ccproxy_lite.formats.format import Format
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.providers import hosts
from ccproxy_lite.providers.credentials import is_structured, key_headers, signed
from ccproxy_lite.providers.provider import (
    SERVER_SENT_EVENTS,
    SUBSETS,
    Ask,
    Defaults,
    Fitted,
    Outbound,
    Provider,
    Question,
    Service,
    with_query,
)

DEFAULTS = {
    "anthropic": Defaults("https://api.anthropic.com", ("ANTHROPIC_API_KEY",), "x-api-key"),
    "openai-responses": Defaults("https://api.openai.com/v1", ("OPENAI_API_KEY",), "authorization"),
    "openai-chat": Defaults("https://api.openai.com/v1", ("OPENAI_API_KEY",), "authorization"),
    "gemini": Defaults(
        "https://generativelanguage.googleapis.com", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "x-goog-api-key"
    ),
}

Families = tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]
FAMILIES: Families = (
    (re.compile(r"claude-"), ("anthropic",)),
    (re.compile(r"gpt-|o[0-9]|codex-|chatgpt-"), ("openai-responses", "openai-chat")),
    (re.compile(r"gemini-|gemma-"), ("gemini",)),
    (re.compile(r"qwen|deepseek|kimi|glm|llama|mistral|grok"), ("openai-chat",)),
)
"""How the names of a vendor's models begin, and the formats that usually speak for them, the best first."""

VENDORS = {
    "anthropic": ("anthropic",),
    "openai": ("openai-responses", "openai-chat"),
    "google": ("gemini",),
}
"""The formats of each vendor."""

_VERSIONS_IN_PATHS = {"anthropic": "v1", "gemini": "v1beta"}
"""The formats whose paths begin with a version, so that a base URL needs none; and the usual one."""
_WITH_VERSION = re.compile(r"/(?:upload/)?v\d")


def tidy(url: str, kind: str) -> str:
    """A base URL without a trailing slash, and without the version that a format's paths bring themselves.

    >>> tidy("https://api.anthropic.com/v1/", "anthropic"), tidy("http://a/v1/", "openai-chat")
    ('https://api.anthropic.com', 'http://a/v1')
    """
    url = url.rstrip("/")
    if kind in _VERSIONS_IN_PATHS:
        for suffix in ("/v1beta", "/v1"):
            url = url.removesuffix(suffix)
    return url


def is_makers(kind: str, base_url: str) -> bool:
    """Whether a base URL is that of the format's vendor."""
    return base_url == DEFAULTS[kind].base_url


def usual_auth(kind: str, base_url: str, auth: str = "") -> tuple[str, ...]:
    """How a key is sent. Anthropic's and Google's services accept a second header, but prefer one.

    :param auth: of a key that may be sent in one header only (see ``Ask``)
    """
    header = DEFAULTS[kind].key_header
    if header == "authorization" or auth == "bearer":
        return ("bearer",)
    # Compatible services read one header or the other; sending both reaches either.
    return (header,) if auth or is_makers(kind, base_url) else (header, "bearer")


def outbound(service: Service, form: Format, path: str, ask: Ask, key: str) -> Outbound:
    """A request below a base URL; the key takes the place of any header of its name. Raises UpstreamError."""
    base_url, kind = service.base_url, form.base or form.name
    target = urlsplit(base_url).path + with_query(path, ask.query)
    credentials = key_headers(service.auth or usual_auth(kind, base_url, ask.auth), key)
    # Headers that the configuration adds must not send a second key.
    names = {name for name, _ in credentials}
    headers = [*((name, value) for name, value in ask.headers if name not in names), *credentials]
    request = Outbound(ask.method, base_url, target, headers, ask.body)
    return signed(request, key, _signing_name(service), service.region) if is_structured(key) else request


def _signing_name(service: Service) -> str:
    """A service's name in signatures; an unknown host that has a region stands in front of Bedrock."""
    host = hosts.at(service.base_url)
    return host.signs if host is not None else "bedrock" if service.region else ""


def fit(service: Service, form: Format, body: Mapping[str, Any], ask: Ask) -> Fitted | None:
    """What is left of a request for a host that does not take everything (see ``refusals``)."""
    if service.quirks.isdisjoint(SUBSETS):
        return None
    from ccproxy_lite.providers import refusals  # a large table that few need

    return refusals.fit(service, form, body, ask)


def message(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    return outbound(service, form, form.write_path(ask.model, ask.path), ask, key)


def count_tokens(service: Service, form: Format, ask: Ask, key: str) -> Question[int] | None:
    if form.counting is None:
        return None
    path = form.counting.path(ask.model, ask.path)
    return Question(outbound(service, form, path, ask, key), form.counting.read)


def models(service: Service, form: Format, ask: Ask, key: str) -> Question[list[ModelInfo]]:
    listing = ask._replace(method="GET")
    return Question(outbound(service, form, form.models_path, listing, key), form.read_models)


def raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    """A request for a path that no format knows: with a version, if the base URL has none, else without."""
    return outbound(service, form, raw_path(form, ask.raw_path), ask, key)


def raw_path(form: Format, path: str) -> str:
    """A client's path as it stands below a base URL."""
    version = _VERSIONS_IN_PATHS.get(form.name)
    if version is None:
        in_base_url = urlsplit(DEFAULTS[form.name].base_url).path
        return path.removeprefix(in_base_url) if path.startswith(f"{in_base_url}/") else path
    return path if _WITH_VERSION.match(path) else f"/{version}{path}"


PROVIDER = Provider(
    name="direct",
    defaults=DEFAULTS,
    framing=SERVER_SENT_EVENTS,
    speaks=lambda kind, client: kind,
    tidy=tidy,
    message=message,
    count_tokens=count_tokens,
    models=models,
    raw=raw,
    fit=fit,
)
