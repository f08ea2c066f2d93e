"""A JSON document of which it is known where everything stands, so that a mistake in it can be shown. Pure.

Only configuration files are read so; what travels is read by ``jsontext``.

>>> node = locate('{"a": [1]}')
>>> [(key, offset) for key, offset, _ in node.value], position("{\\n 1}", 3)
([('a', 1)], (2, 2))
"""

from __future__ import annotations

import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from ccproxy_lite.jsontext import DECODER, skip

MAX_DEPTH = 200


class Located(NamedTuple):
    """A value and where it stands: objects are lists of (key, offset of the key, Located), arrays tuples of Located."""

    value: Any
    offset: int


class Misplaced(ValueError):
    """A syntax error of a located document."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


def locate(text: str, at: int = 0) -> Located:
    """Parse a whole document, keeping the offset of each key and value. Raises Misplaced."""
    if not text.strip():
        raise Misplaced("the file is empty", 0)
    node, end = _locate(text, skip(text, at), 0)
    end = skip(text, end)
    if end != len(text):
        raise Misplaced("nothing may follow the closing brace", end)
    return node


def _locate(text: str, at: int, depth: int) -> tuple[Located, int]:
    if depth > MAX_DEPTH:
        raise Misplaced("nested too deep", at)
    opening = text[at : at + 1]
    if opening == "{":
        return _locate_object(text, at, depth)
    if opening == "[":
        return _locate_array(text, at, depth)
    if text[at : at + 2] in ("//", "/*") or opening == "#":
        raise Misplaced("JSON has no comments", at)
    try:
        value, end = DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise Misplaced(error.msg, error.pos) from None
    except ValueError as error:
        raise Misplaced(str(error), at) from None
    return Located(value, at), end


def _locate_object(text: str, start: int, depth: int) -> tuple[Located, int]:
    items: list[tuple[str, int, Located]] = []
    at = skip(text, start + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 2] in ("//", "/*") or text[at : at + 1] == "#":
            raise Misplaced("JSON has no comments", at)
        if text[at : at + 1] != '"':
            raise Misplaced('a key in double quotes or "}" was expected', at)
        key_at = at
        try:
            key, at = scanstring(text, at + 1)
        except json.JSONDecodeError as error:
            raise Misplaced(error.msg, error.pos) from None
        at = skip(text, at)
        if text[at : at + 1] != ":":
            raise Misplaced('":" was expected', at)
        node, at = _locate(text, skip(text, at + 1), depth + 1)
        items.append((key, key_at, node))
        at = _comma(text, at, "}")
    return Located(items, start), at + 1


def _locate_array(text: str, start: int, depth: int) -> tuple[Located, int]:
    values: list[Located] = []
    at = skip(text, start + 1)
    while text[at : at + 1] != "]":
        node, at = _locate(text, at, depth + 1)
        values.append(node)
        at = _comma(text, at, "]")
    return Located(tuple(values), start), at + 1


def _comma(text: str, at: int, closing: str) -> int:
    at = skip(text, at)
    if text[at : at + 1] == closing:
        return at
    if text[at : at + 1] != ",":
        raise Misplaced(f'"," or "{closing}" was expected', at)
    after = skip(text, at + 1)
    if text[after : after + 1] == closing:
        raise Misplaced("JSON has no trailing commas", at)
    return after


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both counted from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
