"""Gemini generateContent: its two dialects of JSON Schema, and back from both. Pure; schemas are copied, never changed.

``parametersJsonSchema`` and ``responseJsonSchema`` take JSON Schema without references; the older ``parameters`` and
``responseSchema`` take a subset of OpenAPI 3.0. Source: ai.google.dev, structured output; the SDK's ``types.Schema``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ccproxy_lite.formats.neutral.schema import (
    MAX_DEPTH,
    Schema,
    described,
    each,
    merge,
    referred,
    required_names,
    transform,
    with_definition,
)
from ccproxy_lite.jsontext import dumps, loads


def resolved(schema: Any) -> Any:
    """The schema with every local ``$ref`` replaced by what it refers to.

    A reference inside the definition that it names becomes an object of any kind. So do all others after 2000
    replacements, because schemas can be written that would grow without a bound.
    """
    budget = [2000]

    def walk(node: Any, seen: tuple[str, ...], depth: int) -> Any:
        if not isinstance(node, Mapping) or depth > MAX_DEPTH:
            return node
        reference = node.get("$ref")
        # Only local references can be resolved.
        if not isinstance(reference, str) or not reference.startswith("#"):
            return each(node, lambda inner: walk(inner, seen, depth + 1))
        budget[0] -= 1
        beside = each(
            {key: value for key, value in node.items() if key != "$ref"}, lambda one: walk(one, seen, depth + 1)
        )
        if reference in seen or budget[0] < 0:
            return {"type": "object", **beside}
        return with_definition(walk(referred(reference, schema), (*seen, reference), depth + 1), beside)

    return walk(schema, (), 0)


def _without_annotations(schema: dict[str, Any]) -> dict[str, Any]:
    """For Gemini's JSON Schema fields: no annotations that it rejects, and ``enum`` for ``const``."""
    done = {key: value for key, value in schema.items() if key not in _NOTES and not key.startswith("x-")}
    if "const" in done:
        done["enum"] = [done.pop("const")]
    return done


_NOTES = ("$schema", "$id", "$comment", "$anchor", "$defs", "definitions")


def as_json_schema(schema: Any) -> dict[str, Any] | None:
    """A schema for Gemini's ``parametersJsonSchema`` and ``responseJsonSchema``; None for an object of nothing."""
    if not isinstance(schema, Mapping):
        return None
    done: dict[str, Any] = transform(resolved(schema), _without_annotations)
    # Gemini rejects an object schema without properties; leaving the schema out means "no arguments".
    empty = done.keys() <= {"type", "properties", "additionalProperties", "required", "title"}
    empty = empty and done.get("type", "object") == "object" and not done.get("properties")
    return None if empty and done.get("additionalProperties") in (None, False) else done


_GEMINI = (
    "type format title description nullable enum items properties required anyOf propertyOrdering default minimum "
    "maximum minItems maxItems minLength maxLength minProperties maxProperties pattern"
).split()


def _to_openapi(schema: dict[str, Any]) -> dict[str, Any]:
    """For Gemini's older OpenAPI fields: its keywords only, upper-case types, text enums; the others described."""
    schema = _without_annotations(schema)
    # There is no ``allOf``: its branches are merged into the schema.
    for branch in schema.pop("allOf", None) or ():
        if isinstance(branch, Mapping):
            schema = {**branch, **schema}
            if "properties" in branch:
                merge(schema, [branch], binding=True)
    # Nor ``oneOf``; ``anyOf`` accepts a little more.
    schema.setdefault("anyOf", schema.pop("oneOf", None))
    # A list of types: one besides "null" is a nullable type, several are alternatives.
    kinds = schema.get("type")
    if isinstance(kinds, list):
        some = [kind for kind in kinds if kind != "null"]
        schema["nullable"] = "null" in kinds or None
        schema["type"] = some[0] if len(some) == 1 else None
        if len(some) > 1:
            schema["anyOf"] = [{"type": str(kind).upper()} for kind in some]
    # What has no keyword is said in the description, so that the model still reads it.
    limits = [f"{key}: {dumps(value)}" for key, value in schema.items() if key not in _GEMINI and _is_plain(value)]
    # Enumerations hold texts only.
    values = schema.get("enum")
    if isinstance(values, list) and None in values:
        values = schema["enum"] = [value for value in values if value is not None]
        schema["nullable"] = True
    if isinstance(values, list) and not all(isinstance(value, str) for value in values):
        limits.append("one of " + ", ".join(map(dumps, schema.pop("enum"))))
    elif isinstance(values, list):
        schema["type"] = "string"
    if isinstance(schema.get("type"), str):
        schema["type"] = schema["type"].upper()
    # Other formats of texts are rejected.
    if schema.get("format") not in (None, "date-time") and schema.get("type") in (None, "STRING"):
        limits.append(f"format: {schema.pop('format')}")
    # One schema for each position is not possible: any of them for every position.
    if isinstance(schema.get("items"), list):
        schema["items"] = {"anyOf": [item for item in schema["items"] if isinstance(item, Mapping)]}
    # ``items`` is required.
    if schema.get("type") == "ARRAY" and not schema.get("items"):
        schema["items"] = {"type": "STRING"}
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        # A required name that is no property is rejected.
        schema["required"] = [name for name in required_names(schema) if name in properties] or None
    else:
        schema.pop("required", None)
    if limits:
        schema["description"] = described(schema, limits)
    if isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [branch for branch in schema["anyOf"] if isinstance(branch, Mapping)]
    return {key: schema[key] for key in _GEMINI if schema.get(key) not in (None, {}, [])}


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float)


def as_openapi_schema(schema: Any) -> dict[str, Any] | None:
    """A schema for Gemini's ``parameters`` and ``responseSchema``; None for an object of nothing."""
    mild = as_json_schema(schema)
    done: dict[str, Any] | None = mild and transform(mild, _to_openapi)
    return done


_SPELLINGS = {
    "any_of": "anyOf", "one_of": "oneOf", "all_of": "allOf", "min_items": "minItems", "max_items": "maxItems",
    "min_length": "minLength", "max_length": "maxLength", "min_properties": "minProperties",
    "max_properties": "maxProperties", "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties", "prefix_items": "prefixItems", "ref": "$ref", "defs": "$defs",
}  # fmt: skip


def _to_standard(schema: dict[str, Any]) -> dict[str, Any]:
    """From Gemini's dialect: lower-case types, ``null`` as a type, standard spellings."""
    done = {key: value for key, value in schema.items() if key != "propertyOrdering"}
    kind = done.get("type")
    if isinstance(kind, str):
        done["type"] = kind.lower()
        if done["type"] == "type_unspecified":
            del done["type"]
    elif isinstance(kind, list):
        done["type"] = [str(one).lower() for one in kind]
    for key in ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"):
        if isinstance(done.get(key), str) and _DIGITS.fullmatch(done[key]):  # 64-bit numbers are strings there
            done[key] = int(done[key])
    # Widths of numbers, which other services reject as unknown formats.
    if done.get("format") in _GOOGLE_FORMATS:
        del done["format"]
    if isinstance(done.get("enum"), list):
        done["enum"] = [_read_enum_value(value, done.get("type")) for value in done["enum"]]
    if isinstance(done.get("$ref"), str):
        # Definitions may be spelled ``defs``, and references lead there.
        done["$ref"] = done["$ref"].replace("#/defs/", "#/$defs/")
    return _with_null(done) if done.pop("nullable", None) is True else done


_DIGITS = re.compile(r"[0-9]{1,18}")


_GOOGLE_FORMATS = ("enum", "int32", "int64", "float", "double")


def _read_enum_value(value: Any, kind: Any) -> Any:
    """A value of an enumeration, which is always text in Google's schemas."""
    if not isinstance(value, str) or kind not in ("integer", "number"):
        return value
    try:
        number = loads(value)
    except ValueError:
        return value
    return number if isinstance(number, int | float) else value


def _with_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema


def from_gemini(schema: Schema, depth: int = 0) -> dict[str, Any]:
    """The JSON Schema that one of Gemini's schemas stands for."""
    spelled = {_SPELLINGS.get(key, key): value for key, value in schema.items()}
    if depth > MAX_DEPTH:
        return spelled
    return _to_standard(
        each(spelled, lambda inner: from_gemini(inner, depth + 1) if isinstance(inner, Mapping) else inner)
    )
