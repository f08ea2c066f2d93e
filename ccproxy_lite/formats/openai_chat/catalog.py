"""OpenAI Chat Completions: model lists, both ways. The API has no counting endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ccproxy_lite.formats import shape


def write_models(ids: Sequence[str], created: int) -> dict[str, Any]:
    """The list of models for a client."""
    return {"object": "list", "data": [write_model(model, created) for model in ids]}


def write_model(model: str, created: int) -> dict[str, Any]:
    """One model for a client."""
    return {"id": model, "object": "model", "created": created, "owned_by": "ccproxy-lite"}


def read_models(body: Any) -> list[str]:
    """The ids in an upstream's list."""
    data = body.get("data") if isinstance(body, dict) else None
    items = data if isinstance(data, list) else ()
    return [shape.lenient(item, "id") for item in items if shape.lenient(item, "id")]
