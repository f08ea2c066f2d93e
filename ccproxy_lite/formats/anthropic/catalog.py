"""Anthropic Messages: model lists and token counts, both ways. Source: the SDK's ``types.model_info``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.catalog import ModelInfo, limit

COUNTED = frozenset("model messages system tools tool_choice thinking output_config cache_control speed".split())
"""The members that the counting endpoint accepts; others are rejected there."""


def write_models(models: Sequence[ModelInfo], created: int) -> dict[str, Any]:
    """The list of models for a client."""
    return {
        "data": [write_model(model, created) for model in models],
        "has_more": False,
        "first_id": models[0].id if models else None,
        "last_id": models[-1].id if models else None,
    }


def write_model(model: ModelInfo, created: int) -> dict[str, Any]:
    """One model for a client. A single name that is null makes Claude Code discard the whole list."""
    when = datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    written: dict[str, Any] = {"type": "model", "id": model.id, "display_name": model.name or model.id}
    written |= {"created_at": when, "lifecycle": "active"}
    if model.context_tokens:
        written["max_input_tokens"] = model.context_tokens
    if model.output_tokens:
        written["max_tokens"] = model.output_tokens
    if model.inputs is not None:
        told = {"image": "image_input", "file": "pdf_input"}
        written["capabilities"] = {name: {"supported": kind in model.inputs} for kind, name in told.items()}
    return written


def read_models(body: Any) -> list[ModelInfo]:
    """The models in an upstream's list."""
    found = []
    for entry in fields.lenient_list(body, "data"):
        model = fields.lenient(entry, "id")
        if model:
            told = (("image_input", "image"), ("pdf_input", "file"))
            found.append(
                ModelInfo(
                    model,
                    fields.lenient(entry, "display_name"),
                    limit(fields.count(entry, "max_input_tokens")),
                    limit(fields.count(entry, "max_tokens")),
                    tuple(kind for name, kind in told if _is_supported(entry["capabilities"], name))
                    if isinstance(entry.get("capabilities"), dict)
                    else None,
                )
            )
    return found


def _is_supported(capabilities: Any, name: str) -> bool:
    entry = capabilities.get(name) if isinstance(capabilities, dict) else None
    return isinstance(entry, dict) and entry.get("supported") is True


def write_count(tokens: int) -> dict[str, Any]:
    """A token count for a client."""
    return {"input_tokens": tokens}


def read_count(body: Any) -> int:
    """The token count of an upstream."""
    return fields.count(body, "input_tokens")


def counting_body(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A request body as the counting endpoint accepts it."""
    return {**{key: value for key, value in body.items() if key in COUNTED}, "model": model}
