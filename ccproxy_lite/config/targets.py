"""The targets of model names in a configuration file: where a name leads, for which requests, and with what. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
    headers = tuple((name.lower(), pattern) for name, pattern in given.pop("header", {}).items())
    return Condition(given.pop("has", ()), headers=headers, **given)


def _read_overlay(value: Any, place: Place) -> str:
    if not isinstance(value, dict):
        raise Invalid("expected an object")
    for key in _FIXED:
        if key in value:
            place.at(key).error(f'"set" must not change {key}', key=True)
    return dumps(value)


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
    "header": dict_of(text),
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
