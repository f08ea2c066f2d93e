"""JSON Schemas of tools and outputs: walking through one, and what several formats want of it. Pure.

Schemas are copied, never changed. A *property* that happens to be named like a keyword is left alone: only keyword
positions are touched. The dialect of one format alone stands in its folder.

>>> as_input_schema(None)
{'type': 'object', 'properties': {}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from ccproxy_lite.formats.neutral.request import Output, Tool

Schema = Mapping[str, Any]

_MANY = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SUBSCHEMAS = frozenset(_MANY).union(
    (
        "items additionalProperties not if then else contains propertyNames additionalItems unevaluatedProperties "
        "unevaluatedItems contentSchema anyOf oneOf allOf prefixItems"
    ).split()
)
"""The keywords that hold a schema, a list of them, or (``_MANY``) an object of them."""
# Anthropic rejects these three at the root of a tool schema.
_UNIONS = ("anyOf", "oneOf", "allOf")
_VALUES = ("default", "const", "example")
MAX_DEPTH = 64


def each(schema: Schema, change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy of a schema with ``change`` applied to each of its direct subschemas."""
    copy = without_nulls(schema)
    for key, value in copy.items():
        if key not in _SUBSCHEMAS:
            continue
        if isinstance(value, list):
            copy[key] = [change(_as_object(inner)) for inner in value if inner is not None]
        elif isinstance(value, Mapping):
            copy[key] = _each_of_many(value, change) if key in _MANY else change(value)
        elif key == "items":
            copy[key] = _as_object(value)
    return copy


def _each_of_many(schemas: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: change(_as_object(schema)) for name, schema in schemas.items() if schema is not None}


def without_nulls(schema: Schema) -> dict[str, Any]:
    """A copy without keywords that are null: they say nothing, and no service takes one. As a value, null does."""
    return {key: value for key, value in schema.items() if value is not None or key in _VALUES}


def with_definition(definition: Schema, beside: Schema) -> dict[str, Any]:
    """What a reference with keywords beside it stands for: all of both; of single values, those beside it count."""
    merged = {**without_nulls(definition), **without_nulls(beside)}
    for key in _MANY:
        both = [one[key] for one in (definition, beside) if isinstance(one.get(key), Mapping)]
        if len(both) == 2:
            merged[key] = {**both[0], **both[1]}
    if isinstance(merged.get("required"), list):
        merged["required"] = list(dict.fromkeys([*required_names(definition), *required_names(beside)]))
    return merged


def _as_object(schema: Any) -> Any:
    """A boolean schema as the object that it stands for."""
    return ({} if schema else {"not": {}}) if isinstance(schema, bool) else schema


Change = Callable[[dict[str, Any]], dict[str, Any]]


def unchanged(schema: dict[str, Any]) -> dict[str, Any]:
    return schema


def transform(schema: Any, change: Change, depth: int = 0) -> Any:
    """The schema with ``change`` applied to every subschema, innermost first; deeper than 64 levels is left alone."""
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return schema
    return change(each(schema, lambda inner: transform(inner, change, depth + 1)))


def as_input_schema(schema: Any, change: Change = unchanged) -> dict[str, Any]:
    """A tool schema for Anthropic: an object at the root, without a union there, and ``change`` in all of it.

    The object branches of a root union are merged: the first definition of a property wins, and only ``allOf``
    makes the branches' ``required`` binding.
    """
    if not isinstance(schema, Mapping):
        return {"type": "object", "properties": {}}
    root = _without_root_reference(schema)
    for key in _UNIONS:
        branches = root.pop(key, None)
        if isinstance(branches, list):
            merge(root, [_follow_references(branch, root) for branch in branches], binding=key == "allOf")
    root["type"] = "object"
    if not isinstance(root.get("properties"), Mapping):
        root["properties"] = {}
    done: dict[str, Any] = transform(root, change)
    return done


def clean(schema: Schema) -> dict[str, Any]:
    """A copy without keywords that are null, and with what its root refers to in place of the reference."""
    done: dict[str, Any] = transform(_without_root_reference(schema), unchanged)
    return done


def _without_root_reference(schema: Schema) -> dict[str, Any]:
    """A copy with what its root refers to in place of the reference."""
    if "$ref" in schema:
        found = _follow_references({"$ref": schema["$ref"]}, schema)
        if found and "$ref" not in found:  # else it is left as it is, for the service to judge
            return with_definition(found, {key: value for key, value in schema.items() if key != "$ref"})
    return dict(schema)


def _follow_references(branch: Any, root: Schema) -> Schema:
    """A branch, or the definition in the same schema that it refers to."""
    # A chain of references, but never a circle.
    for _ in range(8):
        reference = branch.get("$ref") if isinstance(branch, Mapping) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            break
        branch = referred(reference, root)
    return branch if isinstance(branch, Mapping) else {}


def required_names(schema: Schema) -> list[str]:
    """The required names; some schemas in the wild hold something else there."""
    names = schema.get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def merge(root: dict[str, Any], branches: list[Schema], *, binding: bool) -> None:
    properties: dict[str, Any] = {}
    required = required_names(root)
    for schema in (root, *branches):
        inner = schema.get("properties")
        for name, definition in inner.items() if isinstance(inner, Mapping) else ():
            if definition is not None:
                properties.setdefault(name, definition)
    for branch in branches if binding else ():
        required += [name for name in required_names(branch) if name not in required]
    root["properties"] = properties
    if required:
        root["required"] = required


def output_schema(output: Output) -> dict[str, Any]:
    """The schema of an output, for a target that has no other place for its description."""
    wanted = clean(output.schema or {})
    if output.description:
        known = wanted.get("description")
        wanted["description"] = "\n".join(filter(None, [output.description, known if isinstance(known, str) else ""]))
    return wanted


def described(schema: Schema, limits: list[str]) -> str:
    """The description, and behind it the limits that have no keyword."""
    known = schema.get("description")
    return "\n".join(filter(None, [known if isinstance(known, str) else "", "; ".join(limits)]))


_FREE_TEXT: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}


def as_function(tool: Tool) -> Tool:
    """A tool as a function, where the target has nothing else: a custom tool's text is the one argument ``input``.

    A grammar that cannot be enforced is described instead.
    """
    if tool.kind == "function":
        return tool
    about = tool.description
    if tool.grammar is not None:
        about = f"{about}\n\nThe input follows this {tool.grammar[0]} grammar:\n{tool.grammar[1]}".lstrip()
    return replace(tool, kind="function", schema=_FREE_TEXT, description=about, grammar=None)


def referred(reference: str, root: Any) -> Schema:
    """What a local reference points to; an empty schema where there is nothing."""
    node = root
    for step in filter(None, unquote(reference[1:]).split("/")):  # RFC 6901 section 6
        if isinstance(node, list) and step.isdecimal():
            node = node[int(step)] if int(step) < len(node) else None
            continue
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}
