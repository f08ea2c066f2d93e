"""The parameters of a request that are one value each, as one table per format. Pure.

A row says where the format has a parameter of the neutral request, and of what type it is. Reading, writing, the fields
that a reader knows and the names for losses follow from the table:

>>> table = Scalars(top_k=integer("generationConfig.topK"), stop=texts("stop"))
>>> table.read({"generationConfig": {"topK": 4}}), sorted(table.known_fields()), table.paths["top_k"]
({'top_k': 4}, ['generationConfig', 'stop'], 'generationConfig.topK')
>>> body = {}
>>> table.write(body, {"top_k": 4}, Losses("", "gemini")); body
{'generationConfig': {'topK': 4}}

What a table lacks is lost, as ``losses.TO`` says for that format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.losses import Losses


class Scalar(NamedTuple):
    """A row: how a value is read, the path at which it is written and named, and how else it may be spelled.

    ``spellings`` are the paths at which it is read, the preferred one first. ``is_written``: a format may know a
    parameter, and yet never be sent it.
    """

    read: Callable[[fields.Object, str, str], Any]
    path: str
    spellings: tuple[str, ...]
    is_written: bool = True


def integer(path: str, *spellings: str, is_written: bool = True) -> Scalar:
    return Scalar(fields.optional_int, path, spellings or (path,), is_written)


def number(path: str) -> Scalar:
    return Scalar(fields.optional_number, path, (path,))


def text(path: str, *spellings: str, is_written: bool = True) -> Scalar:
    return Scalar(fields.optional_text, path, spellings or (path,), is_written)


def identifier(path: str, *spellings: str) -> Scalar:
    """A text; an empty one is none."""
    return Scalar(lambda body, key, at: fields.optional_text(body, key, at) or None, path, spellings or (path,))


def texts(path: str) -> Scalar:
    return Scalar(fields.texts, path, (path,))


class _Place(NamedTuple):
    """Where a parameter may be read, ready for use: the object in the body that holds it, and its field there."""

    name: str
    holder: str
    field: str
    read: Callable[[fields.Object, str, str], Any]
    is_last: bool

    @classmethod
    def of(cls, name: str, row: Scalar, path: str) -> _Place:
        return cls(name, *_holder_and_field(path), row.read, path == row.spellings[-1])


class Scalars:
    """The table of a format: a row for each parameter, under its neutral name.

    :ivar paths: from the neutral names to the format's
    """

    def __init__(self, **rows: Scalar) -> None:
        self.paths = {name: row.path for name, row in rows.items()}
        self._places = [_Place.of(name, row, path) for name, row in rows.items() for path in row.spellings]
        self._written = {name: _holder_and_field(row.path) for name, row in rows.items() if row.is_written}

    def known_fields(self, holder: str = "") -> frozenset[str]:
        """The fields that the table knows, of the body or of one object in it."""
        here = {place.field for place in self._places if place.holder == holder}
        return frozenset(here if holder else here | {place.holder for place in self._places if place.holder})

    def read(self, body: fields.Object) -> dict[str, Any]:
        """The values in a body, by their neutral names; null and empty lists are absent. Raises ClientError."""
        values: dict[str, Any] = {}
        holders: dict[str, fields.Object] = {"": body}
        for name, at, field, read, is_last in self._places:
            holder = holders.get(at)
            if holder is None:
                holder = holders[at] = fields.optional_object(body, at) or {}
            if holder.get(field) is not None and name not in values:
                value = read(holder, field, at)
                if value or (is_last and value not in (None, ())):
                    values[name] = value
        return values

    def write(self, body: dict[str, Any], values: Mapping[str, Any], losses: Losses) -> None:
        """Put every value where the format has it; what has no place is lost. Raises ClientError."""
        for name, value in values.items():
            if name not in self._written:
                losses.lose_scalar(name, value)
                continue
            place, field = self._written[name]
            (body.setdefault(place, {}) if place else body)[field] = list(value) if type(value) is tuple else value


def _holder_and_field(path: str) -> tuple[str, str]:
    holder, _, field = path.rpartition(".")
    return holder, field
