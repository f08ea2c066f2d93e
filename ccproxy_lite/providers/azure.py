"""Microsoft Azure: OpenAI's formats at a resource, and Claude in Foundry. Pure.

    https://RESOURCE.openai.azure.com/openai/v1/...                                            the usual paths
    https://RESOURCE.openai.azure.com/openai/deployments/MODEL/chat/completions?api-version=V  the older ones
    https://RESOURCE.services.ai.azure.com/anthropic/v1/messages                               Foundry

A model is the name of a deployment. A key goes into headers of its own, never also as a bearer token, for that would be
read as a token of Entra; such a token goes as a bearer only. The older paths are used where ``api_version`` is set;
then the base URL is the resource's root.

Sources: ``openai.lib.azure``, ``anthropic.lib.foundry``.

>>> tidy("https://r.openai.azure.com/", "openai-chat"), tidy("https://r.services.ai.azure.com", "anthropic")
('https://r.openai.azure.com/openai/v1', 'https://r.services.ai.azure.com/anthropic')
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlsplit

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.format import Format
from ccproxy_lite.providers import direct
from ccproxy_lite.providers.credentials import is_token
from ccproxy_lite.providers.provider import Ask, Outbound, Place, Provider, Question, Service

NAME = "azure"
Result = TypeVar("Result")
_FOUNDRY = "anthropic"
_ROOT = "/openai"
_OF_DEPLOYMENTS = ("/embeddings", "/audio/", "/images/")
"""Paths that name a deployment, which only the body of the request says."""


def tidy(url: str, kind: str) -> str:
    """A base URL with the path of the format, which a resource's root lacks."""
    url = direct.tidy(url, kind)
    path = urlsplit(url).path
    if "/deployments" in path:
        raise ValueError(
            'must not include a deployment; use the resource\'s root, and "api_version" for the older paths'
        )
    if kind == _FOUNDRY:
        return url if path else f"{url}/anthropic"
    return f"{url.removesuffix(_ROOT)}{_ROOT}/v1" if path in ("", _ROOT) else url


def _usual(service: Service, form: Format, key: str) -> tuple[str, ...]:
    """How a key is sent. Foundry's SDK sends it in both headers."""
    if service.auth or is_token(key):
        return service.auth or ("bearer",)
    return ("x-api-key", "api-key") if form.name == _FOUNDRY else ("api-key",)


Write = Callable[[Service, Format, Ask, str], Result]


def _with_auth(write: Write[Result]) -> Write[Result]:
    """The request that a usual service would get, with the key where this one wants it."""

    def written(service: Service, form: Format, ask: Ask, key: str) -> Result:
        place = Place(service.base_url, _usual(service, form, key), api_version=service.api_version)
        return write(place, form, ask, key)

    return written


# ---------------------------------------------------------------- the older paths


def _older_path(model: str, path: str, version: str) -> str:
    """Most paths name the deployment.

    >>> _older_path("gpt", "/chat/completions", "2024-10-21")
    '/openai/deployments/gpt/chat/completions?api-version=2024-10-21'
    """
    is_shared = path.startswith("/responses") or not model
    where = _ROOT if is_shared else f"{_ROOT}/deployments/{quote(model, safe='')}"
    return f"{where}{path}{'&' if '?' in path else '?'}api-version={quote(version, safe='')}"


def _older_message(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    path = _older_path(ask.model, form.write_path(ask.model, ask.path), service.api_version)
    return direct.outbound(service, form, path, ask, key)


def _older_count(service: Service, form: Format, ask: Ask, key: str) -> Question[int] | None:
    return None


def _older_raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    """A path that names no deployment: files, batches."""
    if ask.raw_path.removeprefix("/v1").startswith(_OF_DEPLOYMENTS):
        raise ClientError(404, f"{ask.raw_path} needs the usual paths of Azure: leave out api_version")
    path = _older_path("", direct.raw_path(form, ask.raw_path), service.api_version)
    return direct.outbound(service, form, path, ask, key)


def _older_tidy(url: str, kind: str) -> str:
    """The root of a resource. Raises ValueError for a path below it."""
    url = url.rstrip("/").removesuffix("/v1").removesuffix(_ROOT)
    if urlsplit(url).path:
        raise ValueError("must be the resource's root where there is an api_version")
    return url


PROVIDER = direct.PROVIDER._replace(
    name=NAME,
    tidy=tidy,
    message=_with_auth(direct.message),
    count_tokens=_with_auth(direct.count_tokens),
    models=_with_auth(direct.models),
    raw=_with_auth(direct.raw),
)
DEPLOYMENTS = PROVIDER._replace(
    tidy=_older_tidy,
    message=_with_auth(_older_message),
    count_tokens=_with_auth(_older_count),
    raw=_with_auth(_older_raw),
)
"""The older paths."""


def provider(kind: str, base_url: str, api_version: str) -> Provider:
    """How a format is spoken there."""
    return DEPLOYMENTS if api_version and kind != _FOUNDRY else PROVIDER
