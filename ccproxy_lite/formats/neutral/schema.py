"""JSON Schemas of tools and outputs, and the subsets that services accept. Pure; schemas are copied, never changed.

A *property* that happens to be named like a keyword is left alone: only keyword positions are touched.

>>> as_parameters(None)
{'type': 'object', 'properties': {}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ccproxy_lite.formats.neutral.request import Tool
from ccproxy_lite.jsontext import dumps, loads

Schema = Mapping[str, Any]

_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "additionalItems")
_MANY = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LIST = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_UNIONS = ("anyOf", "oneOf", "allOf")
_MAX_DEPTH = 64


def _each(schema: Schema, change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of a schema with ``change`` applied to each of its direct subschemas."""
    copy = dict(schema)
    for key in _ONE:
        if isinstance(copy.get(key), Mapping):
            copy[key] = change(copy[key])
    if isinstance(copy.get("items"), bool):
        copy["items"] = _spelled(copy["items"])
    for key in _MANY:
        if isinstance(copy.get(key), Mapping):
            copy[key] = {name: change(_spelled(inner)) for name, inner in copy[key].items()}
    for key in _LIST:
        if isinstance(copy.get(key), list):
            copy[key] = [change(_spelled(inner)) for inner in copy[key]]
    return copy


def _spelled(schema: Any) -> Any:
    """A boolean schema as the object that it stands for."""
    return ({} if schema else {"not": {}}) if isinstance(schema, bool) else schema


def transform(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]], depth: int = 0) -> Any:
    """The schema with ``change`` applied to every subschema, innermost first; deeper than 64 levels is left alone."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return schema
    return change(_each(schema, lambda inner: transform(inner, change, depth + 1)))


def _with_properties(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), Mapping):
        schema["properties"] = {}
    return schema


def as_parameters(schema: Any) -> dict[str, Any]:
    """A tool schema for OpenAI: an object schema, and ``properties`` in every object schema at any depth."""
    if not isinstance(schema, Mapping):
        return {"type": "object", "properties": {}}
    root = dict(schema) if "$ref" in schema else as_input_schema(schema)
    done: dict[str, Any] = transform(root, _with_properties)
    return done


def as_input_schema(schema: Any) -> dict[str, Any]:
    """A tool schema for Anthropic: an object at the root, without a union there.

    The object branches of a root union are merged: the first definition of a property wins, and only ``allOf``
    makes the branches' ``required`` binding.
    """
    if not isinstance(schema, Mapping):
        return {"type": "object", "properties": {}}
    root = dict(schema)
    for key in _UNIONS:
        branches = root.pop(key, None)
        if isinstance(branches, list):
            _merge(root, [_resolved(branch, root) for branch in branches], binding=key == "allOf")
    root["type"] = "object"
    if not isinstance(root.get("properties"), Mapping):
        root["properties"] = {}
    return root


def _resolved(branch: Any, root: Schema) -> Schema:
    """A branch, or the definition in the same schema that it refers to."""
    for _ in range(8):
        reference = branch.get("$ref") if isinstance(branch, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        branch = _at(reference, root)
    return branch if isinstance(branch, Mapping) else {}


def _required(schema: Schema) -> list[str]:
    """The required names; some schemas in the wild hold something else there."""
    names = schema.get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _merge(root: dict[str, Any], branches: list[Schema], *, binding: bool) -> None:
    known = root.get("properties")
    properties = dict(known) if isinstance(known, Mapping) else {}
    required = _required(root)
    for branch in branches:
        inner = branch.get("properties")
        if isinstance(inner, Mapping):
            for name, definition in inner.items():
                properties.setdefault(name, definition)
        if binding:
            required += [name for name in _required(branch) if name not in required]
    root["properties"] = properties
    if required:
        root["required"] = required


_UNENFORCED = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "minProperties", "maxProperties", "uniqueItems",
)  # fmt: skip


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object" or isinstance(schema.get("properties"), Mapping):
        schema["additionalProperties"] = False
    limits = [f"{key}: {schema.pop(key)}" for key in _UNENFORCED if key in schema]
    if schema.get("minItems") not in (None, 0, 1):
        limits.append(f"minItems: {schema.pop('minItems')}")
    if limits:
        schema["description"] = _told(schema, limits)
    return schema


def _told(schema: Schema, limits: list[str]) -> str:
    """The description, and what is told instead of being enforced."""
    known = schema.get("description")
    return "\n".join(filter(None, [known if isinstance(known, str) else "", "; ".join(limits)]))


def as_output_schema(schema: Schema) -> dict[str, Any]:
    """An output schema for Anthropic: closed objects; limits that are not enforced move to the description."""
    done: dict[str, Any] = transform(schema, _closed)
    return done


def is_strict(schema: Any) -> bool:
    """Whether a schema meets OpenAI's strict rules: every object is closed and requires all its properties."""
    met = True

    def look(inner: dict[str, Any]) -> dict[str, Any]:
        nonlocal met
        properties = inner.get("properties")
        if inner.get("type") == "object" or isinstance(properties, Mapping):
            names = set(properties) if isinstance(properties, Mapping) else set()
            closed = inner.get("additionalProperties") is False
            met = met and closed and names <= set(_required(inner))
        return inner

    transform(schema, look)
    return met


_FREE_TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


def is_closed(schema: Any) -> bool:
    """Whether a schema meets Anthropic's strict rules: every object is closed, and no limits on values."""
    met = True

    def look(inner: dict[str, Any]) -> dict[str, Any]:
        nonlocal met
        is_object = inner.get("type") == "object" or isinstance(inner.get("properties"), Mapping)
        met = met and (not is_object or inner.get("additionalProperties") is False)
        met = met and not any(key in inner for key in (*_UNENFORCED, "pattern"))
        return inner

    transform(schema, look)
    return met


def as_function(tool: Tool) -> Tool:
    """A tool as a function, where the target has nothing else: a custom tool's text is the one argument ``input``.

    A grammar that cannot be enforced is told instead.
    """
    if tool.kind == "function":
        return tool
    about = tool.description
    if tool.grammar is not None:
        about = f"{about}\n\nThe input follows this {tool.grammar[0]} grammar:\n{tool.grammar[1]}".lstrip()
    return replace(tool, kind="function", schema=_FREE_TEXT, description=about, grammar=None)


def resolved(schema: Any) -> Any:
    """The schema with every local ``$ref`` replaced by what it refers to.

    A reference inside its own definition becomes an object of any kind; a schema may not grow beyond all measure, so
    after 2000 replacements the rest do too.
    """
    budget = [2000]

    def walk(node: Any, seen: tuple[str, ...], depth: int) -> Any:
        if not isinstance(node, Mapping) or depth > _MAX_DEPTH:
            return node
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return _each(node, lambda inner: walk(inner, seen, depth + 1))
        budget[0] -= 1
        beside = {key: value for key, value in node.items() if key != "$ref"}
        if reference in seen or budget[0] < 0:
            return {"type": "object", **beside}
        return {**walk(_at(reference, schema), (*seen, reference), depth + 1), **beside}

    return walk(schema, (), 0)


def _at(reference: str, root: Any) -> Schema:
    """What a local reference points to; an empty schema where there is nothing."""
    found = root
    for step in filter(None, reference[1:].split("/")):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _mild(schema: dict[str, Any]) -> dict[str, Any]:
    """For Gemini's JSON Schema fields: no annotations that it refuses, and ``enum`` for ``const``."""
    done = {key: value for key, value in schema.items() if key not in _NOTES and not key.startswith("x-")}
    if "const" in done:
        done["enum"] = [done.pop("const")]
    return done


_NOTES = ("$schema", "$id", "$comment", "$anchor", "$defs", "definitions")


def as_json_schema(schema: Any) -> dict[str, Any] | None:
    """A schema for Gemini's ``parametersJsonSchema`` and ``responseJsonSchema``; None for an object of nothing."""
    if not isinstance(schema, Mapping):
        return None
    done: dict[str, Any] = transform(resolved(schema), _mild)
    empty = done.keys() <= {"type", "properties", "additionalProperties", "required", "title"}
    empty = empty and done.get("type", "object") == "object" and not done.get("properties")
    return None if empty and done.get("additionalProperties") in (None, False) else done


_GEMINI = (
    "type format title description nullable enum items properties required anyOf propertyOrdering default minimum "
    "maximum minItems maxItems minLength maxLength minProperties maxProperties pattern"
).split()


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """For Gemini's older OpenAPI fields: its keywords only, one upper-case type, text enums; the rest is told."""
    schema = _mild(schema)
    for branch in schema.pop("allOf", None) or ():
        if isinstance(branch, Mapping):
            schema = {**branch, **schema}
            if "properties" in branch:
                _merge(schema, [branch], binding=True)
    schema.setdefault("anyOf", schema.pop("oneOf", None))
    kinds = schema.get("type")
    if isinstance(kinds, list):
        some = [kind for kind in kinds if kind != "null"]
        schema["nullable"] = "null" in kinds or None
        schema["type"] = some[0] if len(some) == 1 else None
        if len(some) > 1:
            schema["anyOf"] = [{"type": str(kind).upper()} for kind in some]
    told = [f"{key}: {dumps(value)}" for key, value in schema.items() if key not in _GEMINI and _is_plain(value)]
    values = schema.get("enum")
    if isinstance(values, list) and None in values:
        values = schema["enum"] = [value for value in values if value is not None]
        schema["nullable"] = True
    if isinstance(values, list) and not all(isinstance(value, str) for value in values):
        told.append("one of " + ", ".join(map(dumps, schema.pop("enum"))))
    elif isinstance(values, list):
        schema["type"] = "string"
    if isinstance(schema.get("type"), str):
        schema["type"] = schema["type"].upper()
    if schema.get("format") not in (None, "date-time") and schema.get("type") in (None, "STRING"):
        told.append(f"format: {schema.pop('format')}")
    if isinstance(schema.get("items"), list):
        schema["items"] = {"anyOf": [item for item in schema["items"] if isinstance(item, Mapping)]}
    if schema.get("type") == "ARRAY" and not schema.get("items"):
        schema["items"] = {"type": "STRING"}
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        schema["required"] = [name for name in _required(schema) if name in properties] or None
    else:
        schema.pop("required", None)
    if told:
        schema["description"] = _told(schema, told)
    if isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [branch for branch in schema["anyOf"] if isinstance(branch, Mapping)]
    return {key: schema[key] for key in _GEMINI if schema.get(key) not in (None, {}, [])}


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float)


def as_openapi_schema(schema: Any) -> dict[str, Any] | None:
    """A schema for Gemini's ``parameters`` and ``responseSchema``; None for an object of nothing."""
    mild = as_json_schema(schema)
    done: dict[str, Any] | None = mild and transform(mild, _strict)
    return done


_SPELLINGS = {
    "any_of": "anyOf", "one_of": "oneOf", "all_of": "allOf", "min_items": "minItems", "max_items": "maxItems",
    "min_length": "minLength", "max_length": "maxLength", "min_properties": "minProperties",
    "max_properties": "maxProperties", "property_ordering": "propertyOrdering",
    "additional_properties": "additionalProperties", "prefix_items": "prefixItems", "ref": "$ref", "defs": "$defs",
}  # fmt: skip


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
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
    if done.get("format") in _GOOGLE_FORMATS:
        del done["format"]
    if isinstance(done.get("enum"), list):
        done["enum"] = [_number(value, done.get("type")) for value in done["enum"]]
    if isinstance(done.get("$ref"), str):
        done["$ref"] = done["$ref"].replace("#/defs/", "#/$defs/")
    return _nullable(done) if done.pop("nullable", None) is True else done


_DIGITS = re.compile(r"[0-9]{1,18}")
_GOOGLE_FORMATS = ("enum", "int32", "int64", "float", "double")


def _number(value: Any, kind: Any) -> Any:
    """A value of an enumeration, which is always text in Google's schemas."""
    if not isinstance(value, str) or kind not in ("integer", "number"):
        return value
    try:
        number = loads(value)
    except ValueError:
        return value
    return number if isinstance(number, int | float) else value


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
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
    if depth > _MAX_DEPTH:
        return spelled
    return _plain(_each(spelled, lambda inner: from_gemini(inner, depth + 1) if isinstance(inner, Mapping) else inner))
