"""Amazon Bedrock, InvokeModel: Anthropic's bodies at paths of AWS, in its binary framing. Pure.

    POST /model/{id}/invoke                         a message
    POST /model/{id}/invoke-with-response-stream    a streamed one
    POST /model/{id}/count-tokens                   counting

The model stands in the path alone, escaped because ids may be ARNs; whether to stream, too. Beta names stand in the
body. A request is signed, or carries Bedrock's own key as a bearer token. Bedrock's other surfaces (``mantle``, and the
one that speaks OpenAI's formats) are usual services: ``direct``.

Sources: the Bedrock API reference; ``anthropic.lib.bedrock``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats.format import Format
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.formats.sse import Event
from ccproxy_lite.jsontext import decode, dumps, edited, loads
from ccproxy_lite.providers import direct, hosts
from ccproxy_lite.providers.awsframes import Frame, Frames
from ccproxy_lite.providers.credentials import key_headers, signed
from ccproxy_lite.providers.provider import Ask, Framing, Headers, Outbound, Provider, Question, Service

NAME = "bedrock"
VERSION = "2026-10-21"
"""Of the bodies, here and on Vertex AI. Source: ``anthropic._constants``."""
SPEAKS = "anthropic"
ERROR_TYPE_HEADER = "x-amzn-errortype"
_IN_BODY = "anthropic-beta"
_NOT_SENT = (_IN_BODY, "anthropic-version", "accept")
_REGIONS = ("us.", "eu.", "apac.", "jp.", "au.", "ca.", "sa.", "me.", "af.", "us-gov.", "global.")
"""How the ids of inference profiles begin."""


# ---------------------------------------------------------------- requests


def message(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    action = "invoke-with-response-stream" if ask.path.streams else "invoke"
    return _outbound(service, ask, f"/model/{model_in_path(ask.model)}/{action}", _body(ask), key)


def count_tokens(service: Service, form: Format, ask: Ask, key: str) -> Question[int] | None:
    """The model's own id: profiles are not counted. The body must be complete, so with a limit."""
    model = next((ask.model[len(one) :] for one in _REGIONS if ask.model.startswith(one)), ask.model)
    body = loads(_body(ask))
    whole = dumps({**body, "max_tokens": body.get("max_tokens") or 1})
    counted = {"input": {"invokeModel": {"body": base64.b64encode(whole.encode()).decode()}}}
    path = f"/model/{model_in_path(model)}/count-tokens"
    return Question(_outbound(service, ask, path, dumps(counted).encode(), key), lambda told: int(told["inputTokens"]))


def model_in_path(model: str) -> str:
    """A model's id as a segment of a path. Raises ClientError for one that would leave it.

    >>> model_in_path("arn:aws:bedrock:us-east-1:1:inference-profile/us.m")
    'arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.m'
    """
    if model in (".", ".."):
        raise ClientError(400, f'"{model}" is not the name of a model', param="model")
    return quote(model, safe="")


def _body(ask: Ask) -> bytes:
    """The body as InvokeModel wants it: version and betas inside, model and ``stream`` outside."""
    text = decode(ask.body)
    betas = [name.strip() for header, value in ask.headers if header == _IN_BODY for name in value.split(",")]
    added = {"anthropic_beta": [name for name in betas if name]} if any(betas) else {}
    return edited(text, added, ("model", "stream"), {"anthropic_version": VERSION}).encode()


def _outbound(service: Service, ask: Ask, path: str, body: bytes, key: str) -> Outbound:
    credentials = key_headers(service.auth or ("bearer",), key)
    kept: Headers = [(name, value) for name, value in ask.headers if name not in _NOT_SENT]
    headers = [*kept, ("accept", "*/*"), *credentials]
    return signed(Outbound("POST", service.base_url, path, headers, body), key, NAME, service.region)


def models(service: Service, form: Format, ask: Ask, key: str) -> Question[list[ModelInfo]]:
    raise ClientError(404, "Bedrock does not list models here")


def raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    raise ClientError(404, f"Bedrock's InvokeModel has no {ask.raw_path}")


# ---------------------------------------------------------------- responses

_ERRORS = {
    "throttlingException": "rate_limit_error",
    "validationException": "invalid_request_error",
    "serviceUnavailableException": "overloaded_error",
    "modelTimeoutException": "timeout_error",
    "accessDeniedException": "permission_error",
    "resourceNotFoundException": "not_found_error",
}
"""Exceptions in a stream, as errors of Anthropic's; others are ``api_error``."""


class EventParser:
    """The events of Anthropic's format in AWS' frames (see ``formats.format.Parser``)."""

    def __init__(self, max_event_bytes: int) -> None:
        self._frames = Frames(max_event_bytes)

    @property
    def stray(self) -> str:
        return ""

    def unfinished(self) -> bool:
        return self._frames.unfinished > 0

    def check(self) -> None:
        if self._frames.broken is not None:
            raise self._frames.broken

    def close(self) -> None:
        self.check()
        if self._frames.unfinished:
            raise UpstreamError("the upstream's stream ended early, in the middle of a frame")

    def feed(self, chunk: bytes) -> list[Event]:
        return [event for frame in self._frames.feed(chunk) if (event := event_of(frame)) is not None]


def event_of(frame: Frame) -> Event | None:
    """The event in a frame; None for kinds of frames that are not known, and say nothing to clients."""
    match frame.headers.get(":message-type"):
        case "event" if frame.headers.get(":event-type") == "chunk":
            text = _chunk_text(_object(frame.payload).get("bytes"))
            return Event(str(_object(text.encode()).get("type", "")), text) if text else None
        case "exception":
            name = str(frame.headers.get(":exception-type", ""))
            return _error(name, _object(frame.payload).get("message"))
        case "error":
            return _error(str(frame.headers.get(":error-code", "")), frame.headers.get(":error-message"))
    return None


def _chunk_text(held: Any) -> str:
    try:
        return base64.b64decode(held, validate=True).decode("utf-8", "replace") if isinstance(held, str) else ""
    except ValueError:
        raise UpstreamError("the upstream's stream is broken: a frame holds no base64") from None


def _error(name: str, message: Any) -> Event:
    text = message if isinstance(message, str) and message else name or "the stream was broken off"
    name = name[:1].lower() + name[1:]
    error = {"type": "error", "error": {"type": _ERRORS.get(name, "api_error"), "message": text}}
    return Event("error", dumps(error))


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def error_body(get: Callable[[str], str], body: Any) -> Any:
    """An error's body with the type that AWS puts in a header.

    >>> error_body({"x-amzn-errortype": "ThrottlingException:http://x"}.get, {"message": "slow down"})
    {'message': 'slow down', '__type': 'ThrottlingException:http://x'}
    """
    name = get(ERROR_TYPE_HEADER)
    if not name:
        return body
    return {**body, "__type": name} if isinstance(body, dict) else {"message": str(body or name), "__type": name}


FRAMING = Framing("application/vnd.amazon.eventstream", EventParser)

INVOKE = direct.PROVIDER._replace(
    name=NAME,
    framing=FRAMING,
    message=message,
    count_tokens=count_tokens,
    models=models,
    raw=raw,
    error_body=error_body,
)
COMPATIBLE = direct.PROVIDER._replace(name=NAME, error_body=error_body)
"""The surfaces with the paths of the formats' makers."""


def provider(kind: str, base_url: str, api_version: str) -> Provider:
    """How a format is spoken at a base URL: at an unknown host, Claude by InvokeModel."""
    host = hosts.at(base_url)
    return INVOKE if kind == SPEAKS and (host is None or host.provider != NAME or host.name == NAME) else COMPATIBLE
