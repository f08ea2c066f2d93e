"""Anthropic Messages: the JSON Schemas that it accepts for strict tools and structured output. Pure.

Source: platform.claude.com, structured outputs, "JSON Schema limitations".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.formats.neutral.schema import Schema, described, transform

_UNENFORCED = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "maxItems", "minProperties", "maxProperties", "uniqueItems",
)  # fmt: skip


def _close_object(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object" or isinstance(schema.get("properties"), Mapping):
        schema["additionalProperties"] = False
    limits = [f"{key}: {schema.pop(key)}" for key in _UNENFORCED if key in schema]
    if schema.get("minItems") not in (None, 0, 1):
        limits.append(f"minItems: {schema.pop('minItems')}")
    if limits:
        schema["description"] = described(schema, limits)
    return schema


def as_output_schema(schema: Schema) -> dict[str, Any]:
    """An output schema for Anthropic: closed objects; limits that are not enforced move to the description."""
    done: dict[str, Any] = transform(schema, _close_object)
    return done


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
