"""JSON Schemas of tools and outputs, and the subsets that services accept. Pure; schemas are copied, never changed.

A *property* that happens to be named like a keyword is left alone: only keyword positions are touched.

>>> as_parameters(None)
{'type': 'object', 'properties': {}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames", "additionalItems")
_MANY = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
_UNIONS = ("anyOf", "oneOf", "allOf")
_MAX_DEPTH = 64


def transform(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]], depth: int = 0) -> Any:
    """The schema with ``change`` applied to every subschema, innermost first; deeper than 64 levels is left alone."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return schema
    copy = dict(schema)
    for key in _ONE:
        if isinstance(copy.get(key), Mapping):
            copy[key] = transform(copy[key], change, depth + 1)
    if isinstance(copy.get("items"), list):
        copy["items"] = [transform(item, change, depth + 1) for item in copy["items"]]
    for key in _MANY:
        if isinstance(copy.get(key), Mapping):
            copy[key] = {name: transform(inner, change, depth + 1) for name, inner in copy[key].items()}
    for key in _LIST:
        if isinstance(copy.get(key), list):
            copy[key] = [transform(inner, change, depth + 1) for inner in copy[key]]
    return change(copy)


def _with_properties(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), Mapping):
        schema["properties"] = {}
    return schema


def as_parameters(schema: Any) -> dict[str, Any]:
    """A tool schema for OpenAI: an object schema, and ``properties`` in every object schema at any depth."""
    if not isinstance(schema, Mapping):
        return {"type": "object", "properties": {}}
    root = dict(schema)
    if not isinstance(root.get("type"), str | list) and not any(key in root for key in (*_UNIONS, "$ref")):
        root["type"] = "object"
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
    reference = branch.get("$ref") if isinstance(branch, Mapping) else None
    for _ in range(8):
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        branch = root
        for step in reference[2:].split("/"):
            branch = branch.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(branch, Mapping) else None
        reference = branch.get("$ref") if isinstance(branch, Mapping) else None
    return branch if isinstance(branch, Mapping) else {}


def _merge(root: dict[str, Any], branches: list[Schema], *, binding: bool) -> None:
    properties = dict(root.get("properties") or {})
    required = list(root.get("required") or [])
    for branch in branches:
        inner = branch.get("properties")
        if isinstance(inner, Mapping):
            for name, definition in inner.items():
                properties.setdefault(name, definition)
        if binding and isinstance(branch.get("required"), list):
            required += [name for name in branch["required"] if name not in required]
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
        schema["description"] = "\n".join(filter(None, [schema.get("description"), "; ".join(limits)]))
    return schema


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
            met = met and closed and names <= set(inner.get("required") or [])
        return inner

    transform(schema, look)
    return met


FREE_TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
"""The schema of a function that stands for a custom tool, where the target has functions only."""
