"""What upstreams say in place of an answer: errors of any shape, and events that are none of the format. Pure.

A format has one shape for its errors, and services that speak it have many: an object without a wrapper, FastAPI's
``detail``, a list (Google), plain words (load balancers), or another service's error as text inside a ``message``
(gateways). They are read here for all formats alike, so that a client always hears the service's own words:

    failed_of(body, 200) the failure, by the words that services have for its kind; by its status where they have none
    states_error(data)   whether an object says that something is wrong, in whatever shape
    said(body)           its members, and the words as ``message``
    with_words(...)      a failure in the words that stand where an answer should
    event_object(event)  the object in an event of a stream; plain words become one that states an error

Each format's ``is_own_error`` says whether a client of it can be given the error as it came. Nothing is taken for an
error because of a ``message`` or the like alone if it has a type, a name, an answer or a code of success: new events
appear all the time, and some of them have something to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ccproxy_lite.errors import PARTIAL, STATUS, Kind, UpstreamError, kind_of
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.error_details import refine
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.jsontext import loads

_KINDS: Mapping[str, Kind] = {
    # Anthropic: types
    "invalid_request_error": "bad_request",
    "authentication_error": "auth",
    "billing_error": "billing",
    "permission_error": "permission",
    "not_found_error": "not_found",
    "request_too_large": "too_large",
    "rate_limit_error": "rate_limit",
    "overloaded_error": "overloaded",
    "timeout_error": "timeout",
    "api_error": "server",
    # OpenAI: codes and types
    "invalid_api_key": "auth",
    **dict.fromkeys(("insufficient_quota", "credit_balance_exhausted"), "billing"),
    **dict.fromkeys(("rate_limit_exceeded", "slow_down", "usage_limit_reached"), "rate_limit"),
    "model_not_found": "not_found",
    "DeploymentNotFound": "not_found",
    "server_is_overloaded": "overloaded",
    "vector_store_timeout": "timeout",
    "server_error": "server",
    **dict.fromkeys(
        (
            "context_length_exceeded content_filter invalid_prompt bio_policy misalignment_policy_violation "
            "invalid_image invalid_image_format invalid_base64_image invalid_image_url image_too_large "
            "image_too_small image_parse_error image_content_policy_violation invalid_image_mode "
            "image_file_too_large image_file_not_found unsupported_image_media_type empty_image_file "
            "failed_to_download_image"
        ).split(),
        "bad_request",
    ),
    # Google: statuses
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), "bad_request"),
    "UNAUTHENTICATED": "auth",
    "PERMISSION_DENIED": "permission",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limit",
    "UNAVAILABLE": "overloaded",
    "DEADLINE_EXCEEDED": "timeout",
    # AWS: exceptions
    **dict.fromkeys(
        (
            "ExpiredTokenException UnrecognizedClientException InvalidSignatureException "
            "IncompleteSignatureException MissingAuthenticationTokenException InvalidClientTokenId"
        ).split(),
        "auth",
    ),
    "AccessDeniedException": "permission",
    "ResourceNotFoundException": "not_found",
    "ValidationException": "bad_request",
    **dict.fromkeys("ThrottlingException ServiceQuotaExceededException ModelNotReadyException".split(), "rate_limit"),
    "ServiceUnavailableException": "overloaded",
    "ModelTimeoutException": "timeout",
    **dict.fromkeys("InternalServerException ModelErrorException ModelStreamErrorException".split(), "server"),
    # MiniMax: numbers
    **dict.fromkeys(("base_resp 1004", "base_resp 2049"), "auth"),
    **dict.fromkeys(("base_resp 1002", "base_resp 1039", "base_resp 1041"), "rate_limit"),
    "base_resp 1008": "billing",
    "base_resp 2013": "bad_request",
}
"""What services call a failure. Sources: their error references."""
_STATUSES = {"overloaded_error": 529}
"""What a name means in HTTP, where it is not what its kind does."""
_STATUS = re.compile(r"[45][0-9]{2}")
_NO_MODEL_ACCESS = "access to the model"
_FOR_ONE_MODEL = re.compile(r"bedrock[\w-]*:\w+|aiplatform\.endpoints\.predict")
"""Actions that clouds permit model by model, so that a denial says nothing about the others."""

_IDLE_EVENTS = frozenset("ping pong keepalive keep-alive keep_alive heartbeat".split())


def read_error(status: int, body: Any) -> Failed:
    """The failure in an HTTP error answer; ``body`` is its JSON, or whatever text it held."""
    return failed_of(body, status, is_http=True)


def failed_of(body: Any, status: int, *, is_http: bool = False) -> Failed:
    """An error object, in an error answer or in an event, in whatever shape; ``status`` where it states none itself."""
    error = said(body)
    code, name, label = _text(error, "code"), _text(error, "type"), _text(error, "status")
    aws = _text(error, "__type").rpartition("#")[2].partition(":")[0]
    stated = next((int(text) for text in (code, label) if _STATUS.fullmatch(text)), 0)
    named = [one for one in (label, aws, name) if one in _KINDS]
    kind = _KINDS.get(code)
    if kind is None and stated not in (0, 500):
        kind = kind_of(stated)
    if stated == 500:  # a name may be more exact, but it stays the service's fault
        named = [one for one in named if _KINDS[one] in ("overloaded", "timeout", "server")]
    kind = kind or (_KINDS[named[0]] if named else kind_of(stated or status))
    words = [one for one in (code, label, aws, name) if one and not one.isdigit()]
    message = fields.lenient(error, "message") or next(iter(words), "") or code or f"the upstream returned {status}"
    if aws == "AccessDeniedException" and _NO_MODEL_ACCESS in message:
        kind, words = "not_found", ["model_not_found"]
    elif kind == "permission" and _FOR_ONE_MODEL.search(message):
        words = [PARTIAL]
    if aws in _KINDS and kind_of(status) != kind:  # AWS says 400 of quotas, 403 of tokens that have expired
        status, is_http = STATUS[kind], False
    implied = stated if stated not in (0, 500) else _STATUSES.get(name, STATUS[kind])
    answered = implied if stated or status in (200, 500) else status
    failed = Failed(answered, kind, message, next(iter(words), code), _text(error, "param"))
    return refine(failed, error, status if is_http else None)


def _text(error: fields.Object, name: str) -> str:
    value = error.get(name)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def event_object(event: SseEvent) -> dict[str, Any]:
    """The object that an upstream's event holds. A sentence is an error; a word, a number and the like say nothing.

    Raises UpstreamError for broken JSON and for lists.
    """
    if event.name and event.name.lower() in _IDLE_EVENTS:
        return {}
    try:
        data = loads(event.data)
    except ValueError:
        data = event.data.strip()
        if data[:1] == "{" or (data[:1] == "[" and data[-1:] != "]"):
            raise UpstreamError(f"the upstream's {event.name or 'unnamed'} event is not JSON") from None
    if isinstance(data, dict):
        return data
    if isinstance(data, list):
        raise UpstreamError("the upstream sent an event that is not a JSON object")
    is_sentence = isinstance(data, str) and (" " in data.strip() or "error" in data.lower())
    return {"error": data} if is_sentence or event.name == "error" else {}


def event_seen(event: SseEvent) -> dict[str, Any] | None:
    """The same of an event that is only looked at; None for what cannot be read."""
    try:
        return event_object(event) if event.data else None
    except UpstreamError:
        return None


_MAX_DEPTH = 6
_MAX_JOINED = 6
_WORDS = (
    "error", "detail", "message", "Message", "errors", "msg", "error_msg", "error_message", "error_description",
    "status_msg",
)  # fmt: skip
"""Where services put what is wrong: a text, or an object that has one of these again."""
_ENVELOPE = "base_resp"
"""MiniMax sends it with every answer; a code other than 0 is an error."""


def said(body: Any, depth: int = _MAX_DEPTH) -> fields.Object:
    """What an upstream's error answer, or error event, says: the members of its innermost object, and ``message``.

    Services nest errors in each other, as objects, lists (Google) and JSON inside texts (gateways), under various names
    (FastAPI's ``detail``, AWS' ``Message``). ``message`` is absent where nothing says what is wrong.

    >>> said({"detail": [{"loc": ["body", "n"], "msg": "too big"}]})["message"]
    'body.n: too big'
    """
    members: dict[str, Any] = {}
    value = body
    for left in range(depth, 0, -1):
        if isinstance(value, list):
            value = _joined(value, left - 1)
        if isinstance(value, str):
            inner = fields.object_in(value) if value.lstrip()[:1] == "{" else None
            if inner is None or not states_error(inner):
                return {**members, "message": value.strip()}
            value = inner
        if not isinstance(value, dict):
            break
        members |= {key: inner for key, inner in value.items() if key not in _WORDS and inner not in (None, "error")}
        value = _words_in(value, left - 1)
    return members


def is_nested(message: str) -> bool:
    """Whether an error's message is another error, as JSON."""
    return said({"message": message}).get("message") != message.strip()


def _words_in(error: fields.Object, depth: int) -> Any:
    """What an object says is wrong: a text, or what holds one."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if raw and said(raw, depth).get("message"):  # OpenRouter: what the service behind it has said
        return raw
    if isinstance(error.get(_ENVELOPE), dict):
        return {**error[_ENVELOPE], "code": f"{_ENVELOPE} {error[_ENVELOPE].get('status_code', '')}"}
    found = [error[key] for key in _WORDS if isinstance(error.get(key), str | dict | list) and error[key]]
    # Of several the first that says something; a short name beside a sentence is none.
    holders = [one for one in found if not isinstance(one, str) and said(one, depth).get("message")]
    texts = [one for one in found if isinstance(one, str)]
    return holders[0] if holders else max(texts, key=len) if texts else found[0] if found else None


def _joined(errors: list[Any], depth: int) -> Any:
    """A list of errors as one: validation errors name the place of each."""
    if len(errors) == 1 and not (isinstance(errors[0], dict) and "loc" in errors[0]):
        return errors[0]
    lines = []
    for error in errors[:_MAX_JOINED]:
        place = ".".join(map(str, fields.lenient_list(error, "loc"))) if isinstance(error, dict) else ""
        words = fields.lenient(said(error, depth), "message")
        lines.append(f"{place}: {words}" if place else words)
    return "; ".join(filter(None, lines))


def with_words(failed: Failed, text: str) -> Failed:
    """A failure without words of the service, in those of a text that has come in place of an ending, if it has any."""
    error = said(" ".join(text.split()))
    message = fields.lenient(error, "message")
    if not message or message.startswith(("{", "[")):  # half an event
        return failed
    return refine(replace(failed, message=message), error)


_SUCCESS = (0, "0", 200, "200", "success", "ok")


def states_error(data: fields.Object, answer: Any = None, name: str = "") -> bool:
    """Whether an object says that something is wrong, in whatever dialect.

    :param answer: the member that only answers of the format have; None if there is none
    :param name: the event's
    """
    error = data.get("error")
    if error and not (isinstance(error, dict) and error.get("code") in _SUCCESS):
        return True
    if name == "error" or data.get("object") == "error" or fields.count(data.get(_ENVELOPE), "status_code"):
        return True
    kind = fields.lenient(data, "type")
    is_known = name or answer is not None or (kind and not kind.lower().endswith("error"))
    if is_known or data.get("code") in _SUCCESS:
        return False
    return any(data.get(key) for key in _WORDS)
