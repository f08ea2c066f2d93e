"""Readers of plain JSON values. Each takes a value and its place, and returns what the configuration keeps. Pure.

A reader that cannot use a value raises ``Invalid``; the ``Place`` around it, as a context manager, records that and
reading goes on, so that one reading finds every mistake. Where a place stands in the text is looked up at the end,
and only if there are mistakes.

>>> report = Report({}, str)
>>> members({"retries": -1, "retrys": 1}, Place(report), {"retries": integer_at_least(0)}), report.problems
({}, [(('retries',), 'must be at least 0', False), (('retrys',), 'unknown key (did you mean "retries"?)', True)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from ccproxy_lite.config import secrets
from ccproxy_lite.config.located import KeyPath, Object
from ccproxy_lite.providers.credentials import ReadText

Value = TypeVar("Value")


class Invalid(ValueError):
    """A value that cannot be used; the text says why."""


class Report:
    """What the readers of one file share: what they may look at, and the errors and notes that they record.

    :param read_text: reads the files that the configuration names, to see whether they can be
    :ivar problems: path, message, and whether the position of the key is meant, not that of its value
    :ivar notes: what is no error, but has no effect
    """

    def __init__(self, environ: Mapping[str, str], read_text: ReadText) -> None:
        self.environ = environ
        self.read_text = read_text
        self.problems: list[tuple[KeyPath, str, bool]] = []
        self.notes: list[str] = []


class Place(NamedTuple):
    """Where a value stands. As a context it takes what is ``Invalid`` inside it for a problem at this place."""

    report: Report
    path: KeyPath = ()

    def at(self, *steps: str | int) -> Place:
        return Place(self.report, (*self.path, *steps))

    def error(self, message: str, *, key: bool = False) -> None:
        self.report.problems.append((self.path, message, key))

    def __str__(self) -> str:
        return dotted(self.path)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Invalid):
            self.error(str(error))
        return isinstance(error, Invalid)


Reader = Callable[[Any, Place], Value]


def dotted(path: KeyPath) -> str:
    """A path as text.

    >>> dotted(("upstreams", "up", "keys", 0))
    'upstreams.up.keys[0]'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint at the choice that is nearly the word; empty if there is none."""
    import difflib  # only for a mistake

    close = difflib.get_close_matches(word, list(choices), 1)
    return f' (did you mean "{close[0]}"?)' if close else ""


# ---------------------------------------------------------------- single values


def text(value: Any, place: Place) -> str:
    if not isinstance(value, str):
        raise Invalid("expected a string")
    return value


def boolean(value: Any, place: Place) -> bool:
    if not isinstance(value, bool):
        raise Invalid("expected true or false")
    return value


def integer_at_least(minimum: int) -> Reader[int]:
    return lambda value, place: _at_least(minimum, value, int, "expected an integer")


def number_at_least(minimum: float) -> Reader[float]:
    return lambda value, place: _at_least(minimum, value, (int, float), "expected a number")


def _at_least(minimum: float, value: Any, kinds: Any, type_error: str) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise Invalid(type_error)
    if value < minimum:
        raise Invalid(f"must be at least {minimum:g}")
    return value


def one_of(*choices: str) -> Reader[str]:
    def read(value: Any, place: Place) -> str:
        if text(value, place) not in choices:
            raise Invalid(f"must be one of {', '.join(choices)}{did_you_mean(value, choices)}")
        return str(value)

    return read


def secret_reference(value: Any, place: Place) -> str:
    """A secret reference (``config.secrets``), checked as far as that is possible without running a ``cmd:`` helper."""
    problem = secrets.why_invalid(text(value, place), place.report.environ, place.report.read_text)
    if problem:
        raise Invalid(problem)
    if secrets.is_fetched(str(value)):
        raise Invalid("the credentials of a cloud are for keys of upstreams only")
    return str(value)


def readable_file(value: Any, place: Place) -> str:
    problem = secrets.why_unreadable(text(value, place), place.report.read_text)
    if problem:
        raise Invalid(problem)
    return str(value)


# ---------------------------------------------------------------- objects and arrays


def list_of(reader: Reader[Value]) -> Reader[tuple[Value, ...]]:
    def read(value: Any, place: Place) -> tuple[Value, ...]:
        if not isinstance(value, list):
            raise Invalid("expected an array")
        valid = []
        for index, item in enumerate(value):
            with place.at(index) as inner:
                valid.append(reader(item, inner))
        return tuple(valid)

    return read


def dict_of(reader: Reader[Value]) -> Reader[dict[str, Value]]:
    def read(value: Any, place: Place) -> dict[str, Value]:
        return members(value, place, dict.fromkeys(value, reader) if isinstance(value, dict) else {})

    return read


def object_of(build: Callable[..., Value], fields: Mapping[str, Reader[Any]]) -> Reader[Value]:
    """Reads an object whose members are all optional; ``build`` has their defaults."""
    return lambda value, place: build(**members(value, place, fields))


def members(
    value: Any, place: Place, fields: Mapping[str, Reader[Any]], reserved: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The members of an object that are given and valid; invalid, unknown and duplicate ones are recorded.

    :param reserved: keys of a later version, which may be given and have no effect in this one
    """
    if not isinstance(value, dict):
        raise Invalid("expected an object")
    valid = {}
    for key, item in value.items():
        with place.at(key) as inner:
            if key in reserved:
                place.report.notes.append(f"{inner}: has no effect in this version")
            elif key in fields:
                valid[key] = fields[key](item, inner)
            else:
                inner.error("unknown key" + did_you_mean(key, [*fields, *reserved]), key=True)
    for key in value.duplicates if isinstance(value, Object) else ():
        place.at(key).error(f'duplicate key "{key}"', key=True)
    return valid
