"""The targets of model names in a configuration file: where a name leads, for which requests, and with what. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy_lite.config.located import Object
from ccproxy_lite.config.model import CONTENTS, EFFORTS, Condition, ModelTarget
from ccproxy_lite.config.readers import (
    Invalid,
    Place,
    Reader,
    dict_of,
    did_you_mean,
    integer_at_least,
    list_of,
    members,
    one_of,
    text,
)
from ccproxy_lite.jsontext import dumps

Models = tuple[tuple[str, tuple[ModelTarget, ...]], ...]

_EFFORT_BEHIND = re.compile(r".*\((\w*)\)")
_FIXED = ("model", "stream")
"""Members of an upstream's body that no target may set: the first is what the target says, the second the client."""


def _read_address(value: Any, place: Place) -> str:
    if not text(value, place).partition("/")[2]:
        raise Invalid('expected "upstream/model"')
    written = _EFFORT_BEHIND.fullmatch(value)
    if written is not None and written[1] not in EFFORTS:
        known = f"known: {', '.join(EFFORTS)}"
        raise Invalid(f'unknown effort "{written[1]}"{did_you_mean(written[1], EFFORTS) or f"; {known}"}')
    return str(value)


def _read_contents(value: Any, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list):
        return (one_of(*CONTENTS)(value, place),)
    if not value:
        raise Invalid(f"expected one or several of {', '.join(CONTENTS)}")
    return list_of(one_of(*CONTENTS))(value, place)


def _read_condition(value: Any, place: Place) -> Condition:
    given = members(value, place, WHEN_FIELDS)
    if not value:
        raise Invalid("at least one condition is required")
    over, under = given.get("tokens_over"), given.get("tokens_under")
    if over is not None and under is not None and over + 1 >= under:
        place.error(f"tokens_over {over} and tokens_under {under} exclude every request")
    return Condition(given.pop("has", ()), headers=given.pop("header", ()), **given)


def _read_header_conditions(value: Any, place: Place) -> tuple[tuple[str, str], ...]:
    patterns: dict[str, str] = {}
    for name, pattern in dict_of(text)(value, place).items():
        if not name.isascii() or not name or not all(char.isalnum() or char in "-_" for char in name):
            place.at(name).error("invalid header name", key=True)
        if name.lower() in patterns:
            place.at(name).error("duplicate header (names ignore case)", key=True)
        patterns[name.lower()] = pattern
    if not value:
        raise Invalid("at least one header is required")
    return tuple(patterns.items())


def _read_overlay(value: Any, place: Place) -> str:
    if not isinstance(value, dict):
        raise Invalid("expected an object")
    for key in _FIXED:
        if key in value:
            place.at(key).error(f'"set" must not change {key}', key=True)
    _look_for_duplicates(value, place)
    return dumps(value) if value else ""


def _look_for_duplicates(value: Any, place: Place) -> None:
    """Members that a text has twice, at any depth."""
    for key in value.duplicates if isinstance(value, Object) else ():
        place.at(key).error(f'duplicate key "{key}"', key=True)
    inner: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else ()
    for step, one in enumerate(value) if isinstance(value, list) else inner:
        _look_for_duplicates(one, place.at(step))


def _read_target(value: Any, place: Place) -> ModelTarget:
    if not isinstance(value, dict):
        return ModelTarget(_read_address(value, place))
    given = members(value, place, TARGET_FIELDS)
    if "to" not in value:
        place.error('missing "to" (upstream/model)')
    overlay = given.pop("set", "")
    return ModelTarget(given.pop("to", ""), given.pop("when", None), overlay, **given)


def _read_targets(value: Any, place: Place) -> tuple[ModelTarget, ...]:
    if not isinstance(value, list):
        return (_read_target(value, place),)
    if not value:
        raise Invalid("at least one target is required")
    return list_of(_read_target)(value, place)


def read_models(value: Any, place: Place) -> Models:
    """The entries of ``models``."""
    return tuple(dict_of(_read_targets)(value, place).items())


def check_targets(models: Mapping[str, Any], upstreams: list[str], place: Place) -> None:
    """Note the targets whose upstream does not exist."""
    for name, value in models.items():
        targets = (
            [((name, index), one) for index, one in enumerate(value)] if isinstance(value, list) else [((name,), value)]
        )
        for path, target in targets:
            if isinstance(target, dict):
                path, target = (*path, "to"), target.get("to")
            upstream = target.partition("/")[0] if isinstance(target, str) and "/" in target else None
            if upstream is not None and upstream not in upstreams:
                hint = did_you_mean(upstream, upstreams) or f"; known: {', '.join(upstreams)}"
                place.at(*path).error(f'unknown upstream "{upstream}"{hint if upstreams else ""}')


WHEN_FIELDS: Mapping[str, Reader[Any]] = {
    "has": _read_contents,
    "tokens_over": integer_at_least(0),
    "tokens_under": integer_at_least(1),
    "header": _read_header_conditions,
    "system": text,
}
TARGET_FIELDS: Mapping[str, Reader[Any]] = {
    "to": _read_address,
    "when": _read_condition,
    "set": _read_overlay,
    "name": text,
    "context_tokens": integer_at_least(1),
    "output_tokens": integer_at_least(1),
}
