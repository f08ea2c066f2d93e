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
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.format import Stored, Turn, Writer
from ccproxy_lite.formats.openai_responses.answer import Writer as ResponseWriter

NOT_FOUND = "previous_response_not_found"
"""The code that clients answer by sending the whole conversation."""
_PREVIOUS = "previous_response_id"
_PATH = re.compile(r"/v1/responses/(resp_[^/?]+)(/input_items)?")
_LIMIT = 20
_MAX_LIMIT = 100


def previous_id(body: fields.Object) -> str:
    """The response that a request continues; empty if it begins. Raises ClientError."""
    return fields.text(body, _PREVIOUS, "", "")


def wants_store(body: fields.Object) -> bool:
    """Whether the response may be kept: unless the client says no."""
    return body.get("store") is not False


def unknown(response_id: str) -> ClientError:
    """The error for a response that is not kept, any more or at all."""
    message = f'previous response "{response_id}" not found; send the whole conversation as input'
    return ClientError(404, message, param=_PREVIOUS, code=NOT_FOUND)


def continued(body: fields.Object, turns: Iterable[Turn]) -> dict[str, Any]:
    """A request that holds the whole conversation, in place of one that refers to it."""
    before = [item for turn in turns for item in (*turn.asked, *turn.answered)]
    kept = {key: value for key, value in body.items() if key != _PREVIOUS}
    return {**kept, "input": [*before, *_items(body)]}


def turn_of(body: fields.Object, response: Mapping[str, Any]) -> Turn:
    """What a request and its response add to a conversation."""
    return Turn(fields.lenient(response, "id"), _items(body), fields.lenient_list(response, "output"))


def response_of(writer: Writer) -> Mapping[str, Any] | None:
    """The response that a stream has told of, once it has ended."""
    return writer.response if isinstance(writer, ResponseWriter) else None


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
    return Stored(matched[1], query if matched[2] else None) if matched is not None else None


def write_items(turn: Turn, query: str) -> dict[str, Any]:
    """A page of what a response was asked. Raises ClientError."""
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    items = [_with_id(item, turn.id, number) for number, item in enumerate(turn.asked)]
    if given.get("order", "desc") == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    if "after" in given:
        items = items[ids.index(given["after"]) + 1 :] if given["after"] in ids else []
    limit = given.get("limit", str(_LIMIT))
    if not limit.isdecimal() or not 1 <= int(limit) <= _MAX_LIMIT:
        raise ClientError(400, f"limit must be an integer from 1 to {_MAX_LIMIT}", param="limit")
    page = items[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(page) < len(items),
    }


def _with_id(item: Any, response_id: str, number: int) -> dict[str, Any]:
    """An item as a list has it: with an id, and a message with its type and parts."""
    entry = dict(item) if isinstance(item, dict) else {}
    if "role" in entry:
        entry.setdefault("type", "message")
        if isinstance(entry.get("content"), str):
            entry["content"] = [{"type": "input_text", "text": entry["content"]}]
    return {"id": f"{'msg' if entry.get('type') == 'message' else 'item'}_{response_id[5:]}_{number}", **entry}


def write_deleted(response_id: str) -> dict[str, Any]:
    return {"id": response_id, "object": "response", "deleted": True}
