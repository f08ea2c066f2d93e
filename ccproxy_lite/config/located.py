"""JSON written by hand: plain values, and the place of a mistake once there is one. Pure.

Only configuration files are read so; what travels is read by ``jsontext``.

>>> text = '{"a": [1, {"b": 2}]}'
>>> parse(text), text[find(text, ("a", 1, "b")):], position("{\\n 1}", 3)
({'a': [1, {'b': 2}]}, '2}]}', (2, 2))
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from ccproxy_lite.jsontext import DECODER, skip

KeyPath = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+')


class Object(dict[str, Any]):
    """An object, and the keys that it has more than once; the last one counts."""

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__(members)
        self.duplicates = sorted({key for i, (key, _) in enumerate(members) if key in dict(members[:i])})


class Misplaced(ValueError):
    """A syntax error, and its offset."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


_DECODER = json.JSONDecoder(
    object_pairs_hook=Object, parse_constant=DECODER.parse_constant, parse_float=DECODER.parse_float
)


def parse(text: str) -> Any:
    """The value of a whole document. Raises Misplaced."""
    if not text.strip():
        raise Misplaced("the file is empty", 0)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _explained(text, error) from None
    except RecursionError:
        raise Misplaced("nested too deep", 0) from None
    except ValueError as error:  # a number or a word that JSON does not have
        raise Misplaced(str(error), _bad_token(text)) from None


def _explained(text: str, error: json.JSONDecodeError) -> Misplaced:
    """The error in terms of a text that was written by hand."""
    at = skip(text, error.pos)
    before = text[: at + 1 if text[at : at + 1] == "," else at].rstrip()
    if text[at : at + 2] in ("//", "/*") or text[at : at + 1] == "#":
        return Misplaced("JSON has no comments", at)
    if before.endswith(",") and text[skip(text, len(before)) :][:1] in ("}", "]"):
        return Misplaced("JSON has no trailing commas", len(before) - 1)
    if error.msg == "Extra data":
        return Misplaced("nothing may follow the closing brace", at)
    if not text[:at].strip():
        return Misplaced("not JSON; the configuration is a JSON file", at)
    return Misplaced(error.msg, error.pos)


def _bad_token(text: str) -> int:
    for token in _TOKENS.finditer(text):
        try:
            DECODER.decode(token[0])
        except ValueError:
            return token.start()
    return 0


def find(text: str, path: KeyPath, *, key: bool = False) -> int:
    """The offset of a value, or of its key, in a document that can be parsed; where it is missing, of what lacks it."""
    at = offset = skip(text, 0)
    for step in path:
        places = [(key_at, value_at) for name, key_at, value_at in _children(text, at) if name == step]
        if not places:
            return at
        offset, at = places[-1]
    return offset if key else at


def _children(text: str, at: int) -> Iterator[tuple[str | int, int, int]]:
    """Key or index, offset of the key, and offset of the value, for each child of the value at ``at``."""
    opening = text[at]
    if opening not in "{[":
        return
    at, index = skip(text, at + 1), 0
    while text[at] not in "}]":
        name, key_at = index, at
        if opening == "{":
            name, at = scanstring(text, at + 1)
            at = skip(text, skip(text, at) + 1)  # behind the colon
        yield name, key_at, at
        at = skip(text, DECODER.raw_decode(text, at)[1])
        at, index = skip(text, at + 1) if text[at] == "," else at, index + 1


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, both counted from 1."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
