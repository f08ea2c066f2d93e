"""Anthropic Messages: model lists and token counts, both ways. Source: the SDK's ``types.model_info``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ccproxy_lite.formats import fields

COUNTED = frozenset("model messages system tools tool_choice thinking output_config cache_control speed".split())
"""The members that the counting endpoint accepts; others are rejected there."""


def write_models(ids: Sequence[str], created: int) -> dict[str, Any]:
    """The list of models for a client."""
    data = [write_model(model, created) for model in ids]
    return {
        "data": data,
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


def write_model(model: str, created: int) -> dict[str, Any]:
    """One model for a client."""
    when = datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": model, "display_name": model, "created_at": when}


def read_models(body: Any) -> list[str]:
    """The ids in an upstream's list."""
    return fields.listed(body, "data", "id")


def write_count(tokens: int) -> dict[str, Any]:
    """A token count for a client."""
    return {"input_tokens": tokens}


def read_count(body: Any) -> int:
    """The token count of an upstream."""
    return fields.count(body, "input_tokens")


def counting_body(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A request body as the counting endpoint accepts it."""
    return {**{key: value for key, value in body.items() if key in COUNTED}, "model": model}
