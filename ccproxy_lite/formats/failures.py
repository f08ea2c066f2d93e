"""What upstreams say in place of an answer: errors of any shape, and events that are none of the format. Pure.

A format has one shape for its errors, and services that speak it have many: an object without a wrapper, FastAPI's
``detail``, a list (Google), plain words (load balancers), or another service's error as text inside a ``message``
(gateways). They are read here for all formats alike, so that a client always hears the service's own words:

    states_error(data)   whether an object says that something is wrong, in whatever shape
    said(body)           its members, and the words as ``message``
    with_words(...)      a failure in the words that stand where an answer should
    event_object(event)  the object in an event of a stream; plain words become one that states an error

Each format's ``is_own_error`` says whether a client of it can be given the error as it came. Nothing is taken for an
error because of a ``message`` or the like alone if it has a type, a name, an answer or a code of success: new events
appear all the time, and some of them have something to say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.error_details import refine
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.jsontext import loads

_IDLE_EVENTS = frozenset("ping pong keepalive keep-alive keep_alive heartbeat".split())


def event_object(event: SseEvent) -> dict[str, Any]:
    """The object that an upstream's event holds. A sentence is an error; a word, a number and the like say nothing.

    Raises UpstreamError for broken JSON and for lists.
    """
    if event.name.lower() in _IDLE_EVENTS:
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
        return {**error[_ENVELOPE], "code": str(error[_ENVELOPE].get("status_code", ""))}
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
