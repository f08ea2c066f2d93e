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
from ccproxy_lite.providers.clouds import is_api_key
from ccproxy_lite.providers.credentials import key_headers
from ccproxy_lite.providers.provider import Ask, Headers, Outbound, Provider, Question, Service, with_query

NAME = "vertex"
DEFAULT_LOCATION = "global"
_CLAUDE = "anthropic"
_GOOGLES = "v1beta1"
_COUNTED = ("contents", "systemInstruction", "tools", "generationConfig")
_FOLDERS = ("models", "cachedContents", "projects")
"""What of the Developer API has its like there; files and tuned models have not."""
_NO_VERSION = ("@default", "@latest")
"""What counting does not take behind a model's name."""


def tidy(url: str, kind: str) -> str:
    """A base URL without what the paths bring. Raises ValueError for one with a project.

    >>> tidy("https://us-east5-aiplatform.googleapis.com/v1/", "anthropic")
    'https://us-east5-aiplatform.googleapis.com'
    """
    url = url.rstrip("/")
    for suffix in ("/v1beta1", "/v1"):
        url = url.removesuffix(suffix)
    if "/projects/" in url:
        raise ValueError('must not include the project; set "project" and "location"')
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
        _claude_path(service, ask.model)  # refuses what no message could name
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
    model, colon, method = path.partition("/models/")[2].partition(":")
    if model.startswith("projects/"):
        return f"/{_GOOGLES}/{model}{colon}{method}"
    if not model.startswith("publishers/"):
        publisher, _, name = model.rpartition("/")
        model = f"publishers/{publisher or 'google'}/models/{name}"
    return f"/{_GOOGLES}/{_parent(service)}{model}{colon}{method}"


def models(service: Service, form: Format, ask: Ask, key: str) -> Question[list[ModelInfo]]:
    raise ClientError(404, "Vertex AI does not list models here")


def raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    """Other methods of a model, and what lies beside the models: caches, say."""
    path = ask.raw_path.lstrip("/").partition("/")[2]
    folder = path.partition("/")[0]
    if form.name == _CLAUDE or not service.project or folder not in _FOLDERS or ask.raw_path.startswith("/upload"):
        raise ClientError(404, f"Vertex AI has no {ask.raw_path}")
    if folder == "models":
        target = _gemini_path(service, f"/{path}")
    else:
        target = f"/{_GOOGLES}/{'' if folder == 'projects' else _parent(service)}{path}"
    return _outbound(service, with_query(target, ask.query), ask, key)


def _outbound(service: Service, path: str, ask: Ask, key: str) -> Outbound:
    is_plain = is_api_key(key) or not service.project
    credentials = key_headers(service.auth or (("x-goog-api-key",) if is_plain else ("bearer",)), key)
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
