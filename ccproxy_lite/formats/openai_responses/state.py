"""OpenAI Responses: conversations that continue a stored response, and stored responses themselves. Pure.

    {"model": "m", "previous_response_id": "resp_1", "input": "and then?"}      continues what resp_1 has answered
    GET, DELETE /v1/responses/resp_1                                            the response itself
    GET /v1/responses/resp_1/input_items?order=asc&limit=20&after=ITEM          what it was asked

Where the service does not keep responses, the proxy does: a ``Turn`` is what one request adds to a conversation. The
instructions of an earlier turn do not hold for a later one. Source: ``types.responses.response_create_params``,
``response_item_list``, ``input_item_list_params``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.format import Stored, Turn, Writer
from ccproxy_lite.formats.openai import PREVIOUS_NOT_FOUND
from ccproxy_lite.formats.openai_responses import web
from ccproxy_lite.formats.openai_responses.answer import Writer as ResponseWriter

_PREVIOUS = "previous_response_id"
_ELSEWHERE = ("conversation", "prompt", "background")
_PATH = re.compile(r"(?:/v1)?/responses/(resp_[^/?]+)(/input_items|/cancel)?")
_LIMIT = re.compile(r"100|[1-9]\d?")
_DEFAULT_LIMIT = 20


def previous_id(body: fields.Object) -> str:
    """The response that a request continues; empty if it begins."""
    return fields.lenient(body, _PREVIOUS)


def wants_store(body: fields.Object) -> bool:
    """Whether the response may be kept: unless the client says no, in whatever spelling."""
    return body.get("store", True) in (True, None)


def refers_elsewhere(body: fields.Object) -> str:
    """The field that refers to what only the format's own service keeps, or does."""
    return next((name for name in (_PREVIOUS, *_ELSEWHERE) if body.get(name)), "")


def unknown(response_id: str, is_there: bool = False) -> ClientError:
    """The error for a response that is not kept, any more or at all; or that ``is_there`` without what it continues."""
    what = "continues a response that is no longer stored" if is_there else "not found"
    message = f'previous response "{response_id}" {what}; send the whole conversation as input'
    return ClientError(404, message, param=_PREVIOUS, code=PREVIOUS_NOT_FOUND)


def missing(response_id: str) -> ClientError:
    """The error for a response that is asked for and not kept."""
    return ClientError(404, f'response "{response_id}" not found')


def continued(body: fields.Object, turns: Iterable[Turn]) -> dict[str, Any]:
    """A request that holds the whole conversation, in place of one that refers to it. Raises ClientError."""
    if not isinstance(body.get("input", ""), str | list | None):
        raise fields.wrong("input", "a string or an array")
    before = [item for turn in turns for item in (*turn.asked, *_with_seals(turn))]
    kept = {key: value for key, value in body.items() if key != _PREVIOUS}
    return {**kept, "input": [*before, *_items(body)]}


def _with_seals(turn: Turn) -> Iterable[Any]:
    for item in turn.answered:
        sealed = turn.sealed.get(fields.lenient(item, "id"))
        yield {**item, web.SEALED: sealed} if sealed else item


def turn_of(body: fields.Object, writer: Writer, previous: str) -> Turn | None:
    """What a request and the response that was written for it add to a conversation; None if it has not ended."""
    if not isinstance(writer, ResponseWriter) or writer.response is None:
        return None
    response = writer.response
    return Turn(response["id"], _items(body), response, previous, writer.sealed)


def _items(body: fields.Object) -> list[Any]:
    """The items of the input; a bare string is what the user says."""
    value = body.get("input")
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": value}]}]
    return value if isinstance(value, list) else []


# ---------------------------------------------------------------- stored responses


def stored_at(path: str, query: str) -> Stored | None:
    """The stored response that a path names, and which part of it; None for any other path."""
    matched = _PATH.fullmatch(path)
    if matched is None:
        return None
    is_streamed = parse_qs(query).get("stream", [""])[-1].lower() == "true"
    return Stored(matched[1], query if matched[2] == "/input_items" else None, is_streamed)


def write_items(turn: Turn, query: str) -> dict[str, Any]:
    """A page of what a response was asked. Raises ClientError."""
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    order, limit, after = given.get("order", "desc"), given.get("limit", str(_DEFAULT_LIMIT)), given.get("after")
    if order not in ("asc", "desc"):
        raise fields.wrong("order", "asc or desc")
    if not _LIMIT.fullmatch(limit):
        raise fields.wrong("limit", "an integer from 1 to 100")
    items = _listed(turn)
    items = items if order == "asc" else items[::-1]
    if after is not None:
        place = next((number for number, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise fields.wrong("after", "the id of an item")
        items = items[place + 1 :]
    page = items[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(page) < len(items),
    }


def _listed(turn: Turn) -> list[dict[str, Any]]:
    """The items as a list has them: each with an id of its own, a message with its type, status and parts."""
    listed: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(turn.asked):
        entry = dict(item) if isinstance(item, dict) else {}
        if "role" in entry:
            entry = {"type": "message", "status": "completed", **entry}
            if isinstance(entry.get("content"), str):
                kind = "output_text" if entry["role"] == "assistant" else "input_text"
                part: dict[str, Any] = {"type": kind, "text": entry["content"]}
                entry["content"] = [part | ({"annotations": []} if kind == "output_text" else {})]
        item_id = fields.lenient(entry, "id")
        if not item_id or item_id in listed:
            item_id = f"{'msg' if entry.get('type') == 'message' else 'item'}_{turn.id[5:]}_in{number}"
        listed[item_id] = {**entry, "id": item_id}
    return list(listed.values())


def write_deleted(response_id: str) -> dict[str, Any]:
    return {"id": response_id, "object": "response", "deleted": True}
