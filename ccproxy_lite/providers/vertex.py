"""Google Vertex AI: Gemini and Claude below the paths of their publishers. Pure.

    POST /v1beta1/projects/P/locations/L/publishers/google/models/M:generateContent
    POST /v1beta1/publishers/google/models/M:generateContent                            an express key, no project
    POST /v1/projects/P/locations/L/publishers/anthropic/models/M:rawPredict            :streamRawPredict for a stream
    POST /v1/projects/P/locations/L/publishers/anthropic/models/count-tokens:rawPredict

Gemini's bodies are as on the Developer API; only counting takes the request itself, in no wrapper. Claude's bodies have
a version, and no model but where tokens are counted. What speaks OpenAI's formats there needs only a base URL:
``direct``. A key is a token, sent as a bearer, or an API key.

Sources: ``google.genai._api_client``, ``anthropic.lib.vertex``; the reference of ``countTokens``.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.format import Format, PathInfo
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.jsontext import decode, dumps, edited, loads
from ccproxy_lite.providers import direct
from ccproxy_lite.providers.bedrock import VERSION
from ccproxy_lite.providers.credentials import key_headers
from ccproxy_lite.providers.provider import Ask, Headers, Outbound, Provider, Question, Service, with_query

NAME = "vertex"
DEFAULT_LOCATION = "global"
_CLAUDE = "anthropic"
_GOOGLES = "v1beta1"
_COUNTED = ("contents", "systemInstruction", "tools", "generationConfig")
_NO_VERSION = ("@default", "@latest")
"""What counting does not take behind a model's name."""
_API_KEYS = ("AIza", "AQ.")
"""How the keys of Google's APIs begin; tokens begin otherwise."""


def tidy(url: str, kind: str) -> str:
    """A base URL without what the paths bring.

    >>> tidy("https://us-east5-aiplatform.googleapis.com/v1/", "anthropic")
    'https://us-east5-aiplatform.googleapis.com'
    """
    url = url.rstrip("/")
    for suffix in ("/v1beta1", "/v1"):
        url = url.removesuffix(suffix)
    return url


def message(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    if form.name == _CLAUDE:
        action = "streamRawPredict" if ask.path.streams else "rawPredict"
        path = f"{_claude_path(service, ask.model)}:{action}"
        body = edited(decode(ask.body), {"anthropic_version": VERSION}, ["model"]).encode()
        return _outbound(service, path, ask._replace(body=body), key)
    return _outbound(
        service, with_query(_gemini_path(service, form.write_path(ask.model, ask.path)), ask.query), ask, key
    )


def count_tokens(service: Service, form: Format, ask: Ask, key: str) -> Question[int] | None:
    if form.counting is None:
        return None
    if form.name == _CLAUDE:
        told = loads(ask.body)
        model = next((ask.model.removesuffix(one) for one in _NO_VERSION if ask.model.endswith(one)), ask.model)
        body = {**told, "model": model, "anthropic_version": VERSION}
        path = f"{_claude_path(service, 'count-tokens')}:rawPredict"
    else:
        told = loads(ask.body)
        request = told.get("generateContentRequest", told)
        body = {name: value for name, value in request.items() if name in _COUNTED}
        path = _gemini_path(service, form.counting.path(ask.model, PathInfo("count")))
    kept = tuple(one for one in ask.headers if one[0] != "anthropic-beta")  # counting knows none, and needs none
    asked = ask._replace(body=dumps(body).encode(), headers=kept)
    return Question(_outbound(service, path, asked, key), form.counting.read)


def _claude_path(service: Service, model: str) -> str:
    if "/" in model or model in (".", ".."):
        raise ClientError(400, f'"{model}" is not the name of a model', param="model")
    return f"/v1/{_parent(service)}publishers/anthropic/models/{quote(model, safe='@:')}"


def _parent(service: Service) -> str:
    """The project and its location; empty for an express key."""
    return f"projects/{service.project}/locations/{service.location or DEFAULT_LOCATION}/" if service.project else ""


def _gemini_path(service: Service, path: str) -> str:
    """A path of the Developer API as Vertex AI has it. A name with its publisher, or its project, stays as it is.

    >>> class Place: project, location = "p", "global"
    >>> _gemini_path(Place, "/v1beta/models/gemini-3:countTokens")
    '/v1beta1/projects/p/locations/global/publishers/google/models/gemini-3:countTokens'
    """
    model, _, method = path.partition("/models/")[2].rpartition(":")
    if model.startswith("projects/"):
        return f"/{_GOOGLES}/{model}:{method}"
    if not model.startswith("publishers/"):
        publisher, _, name = model.rpartition("/")
        model = f"publishers/{publisher or 'google'}/models/{name}"
    return f"/{_GOOGLES}/{_parent(service)}{model}:{method}"


def models(service: Service, form: Format, ask: Ask, key: str) -> Question[list[ModelInfo]]:
    raise ClientError(404, "Vertex AI does not list models here")


def raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    """Other methods of a model, and what lies beside the models: caches, say."""
    _, _, path = ask.raw_path.removeprefix("/upload").lstrip("/").partition("/")
    if form.name == _CLAUDE or not service.project or not path:
        raise ClientError(404, f"Vertex AI has no {ask.raw_path}")
    is_model = path.startswith("models/") and ":" in path
    target = _gemini_path(service, f"/{path}") if is_model else f"/{_GOOGLES}/{_parent(service)}{path}"
    return _outbound(service, with_query(target, ask.query), ask, key)


def _outbound(service: Service, path: str, ask: Ask, key: str) -> Outbound:
    is_api_key = key.startswith(_API_KEYS) or not service.project
    credentials = key_headers(service.auth or (("x-goog-api-key",) if is_api_key else ("bearer",)), key)
    kept: Headers = [(name, value) for name, value in ask.headers if name != "anthropic-version"]
    target = urlsplit(service.base_url).path + path
    return Outbound(ask.method, service.base_url, target, [*kept, *credentials], ask.body)


PROVIDER = direct.PROVIDER._replace(
    name=NAME, tidy=tidy, message=message, count_tokens=count_tokens, models=models, raw=raw
)
COMPATIBLE = direct.PROVIDER._replace(name=NAME)
"""Its surface with OpenAI's paths."""
SPEAKS: Mapping[str, Provider] = {_CLAUDE: PROVIDER, "gemini": PROVIDER}


def provider(kind: str, base_url: str, api_version: str) -> Provider:
    """How a format is spoken there."""
    return SPEAKS.get(kind, COMPATIBLE)
