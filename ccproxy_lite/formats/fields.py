"""Typed access to JSON from outside: the value, or a ClientError that names its path.

Two families: functions for requests raise ``ClientError`` for a wrong type; ``lenient``, ``count`` and the like are for
responses of upstreams, where a missing or odd value is never worth an error.

>>> text({"model": "m"}, "model", "")
'm'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats.neutral.events import NOTHING, Extra
from ccproxy_lite.jsontext import loads

Object = Mapping[str, Any]


def wrong(at: str, expected: str) -> ClientError:
    """The error for a value of the wrong type."""
    return ClientError(400, f"{at or 'body'} must be {expected}", param=at or None)


def join(at: str, key: str | int) -> str:
    """A path one step deeper.

    >>> join(join("messages", 3), "content")
    'messages[3].content'
    """
    if isinstance(key, int):
        return f"{at}[{key}]"
    return f"{at}.{key}" if at else key


def as_object(value: Any, at: str) -> Object:
    if not isinstance(value, dict):
        raise wrong(at, "an object")
    return value


def as_array(value: Any, at: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong(at, "an array")
    return value


def as_text(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise wrong(at, "a string")
    return value


def objects(source: Object, key: str, at: str) -> list[tuple[Object, str]]:
    """The objects in an array member, each with its path; an absent or null member is empty."""
    value = source.get(key)
    if value is None:
        return []
    inner = join(at, key)
    return [(as_object(item, join(inner, i)), join(inner, i)) for i, item in enumerate(as_array(value, inner))]


def text(source: Object, key: str, at: str, default: str | None = None) -> str:
    """A string member; required where there is no default."""
    value = source.get(key, default)
    if isinstance(value, str):  # paths are only joined for errors: a history has thousands of fields
        return value
    if value is None and default is None:
        raise ClientError(400, f"{join(at, key)} is required", param=join(at, key))
    return as_text(value, join(at, key)) if value is not None else str(default)


def optional_text(source: Object, key: str, at: str = "") -> str | None:
    return None if source.get(key) is None else as_text(source[key], join(at, key))


def optional_object(source: Object, key: str, at: str = "") -> Object | None:
    return None if source.get(key) is None else as_object(source[key], join(at, key))


def optional_bool(source: Object, key: str, at: str = "") -> bool | None:
    value = source.get(key)
    if value is not None and not isinstance(value, bool):
        raise wrong(join(at, key), "true or false")
    return value


def optional_int(source: Object, key: str, at: str = "") -> int | None:
    value = source.get(key)
    # JSON has one kind of number: 5.0 is 5.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise wrong(join(at, key), "an integer")
    return value


def optional_number(source: Object, key: str, at: str = "") -> float | None:
    value = source.get(key)
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise wrong(join(at, key), "a number")
    return value


def texts(source: Object, key: str, at: str = "") -> tuple[str, ...]:
    """An array of strings, or one string; empty ones say nothing."""
    value = source.get(key)
    if value is None:
        return ()
    inner = join(at, key)
    items = [value] if isinstance(value, str) else as_array(value, inner)
    return tuple(text for i, item in enumerate(items) if (text := as_text(item, join(inner, i))))


_MAX_DIGITS = 18


def count(source: Any, *keys: str) -> int:
    """A token count somewhere inside an answer; 0 where it is missing or odd, for a count is never worth an error."""
    for key in keys:
        source = source.get(key) if isinstance(source, dict) else None
    if type(source) is int or source is None:  # the usual cases
        return max(source or 0, 0)
    if isinstance(source, str) and source.isdecimal():  # proto3 writes 64-bit numbers as text
        source = int(source[:_MAX_DIGITS])
    # ``bool`` is an ``int`` in Python, but no count.
    if isinstance(source, bool) or not isinstance(source, int | float):
        return 0
    return max(int(source), 0)


def counts(source: Object, *keys: str) -> list[int]:
    """The token counts that are members of an object (see ``count``)."""
    values = map(source.get, keys)
    return [value if type(value) is int and value >= 0 else count(value) for value in values]


def place(source: Any, key: str) -> int | None:
    """A position in an upstream's answer; None where it is missing or odd."""
    value = source.get(key) if isinstance(source, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def object_in(text: str) -> dict[str, Any] | None:
    """The object that a text holds as JSON; None for anything else, which others will judge."""
    try:
        value = loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def listed(body: Any, key: str, field: str) -> list[str]:
    """One text of every object in an upstream's list; those without are left out."""
    items = body.get(key) if isinstance(body, dict) else None
    items = [lenient(item, field) for item in items] if isinstance(items, list) else []
    return [text for text in items if text]


def lenient_list(source: Any, key: str) -> list[Any]:
    """An array member; empty where it is missing or odd."""
    value = source.get(key) if isinstance(source, dict) else None
    return value if isinstance(value, list) else []


def lenient(source: Any, key: str) -> str:
    """A string in an upstream's answer; empty where it is missing or odd."""
    value = source.get(key) if isinstance(source, dict) else None
    return value if isinstance(value, str) else ""


def extra_of(source: Object, known: frozenset[str], at: str = "") -> Extra:
    """The members of ``source`` that the neutral model does not take, named from ``at`` on.

    Those that are null, false or 0 say nothing, nor does an object of such; an empty one may be a switch.
    """
    # The usual case, and on the way of every part of a long history.
    if source.keys() <= known:
        return NOTHING
    return {join(at, key): value for key, value in source.items() if key not in known and not _says_nothing(value)}


def _says_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(_says_nothing(inner) for inner in value.values())
    return value is None or value is False or value == 0


_LOCATION = ("city", "region", "country", "timezone")


def location(source: Object, key: str, at: str) -> dict[str, str]:
    """Where a search is to be made from, as both OpenAI and Anthropic spell it. Raises ClientError."""
    where, place = join(at, key), optional_object(source, key, at) or {}
    place = optional_object(place, "approximate", where) or place
    return {name: text(place, name, where) for name in _LOCATION if place.get(name)}
