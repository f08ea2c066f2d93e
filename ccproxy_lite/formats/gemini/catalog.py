"""Gemini generateContent: model lists and token counts, both ways. Source: the SDK's ``types.Model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.catalog import ModelInfo, limit


def write_models(models: Sequence[ModelInfo], created: int) -> dict[str, Any]:
    """The list of models for a client."""
    return {"models": [write_model(model, created) for model in models]}


def write_model(model: ModelInfo, created: int) -> dict[str, Any]:
    """One model for a client; there is no field for what kinds of content it takes."""
    methods = ["generateContent", "streamGenerateContent", "countTokens"]
    written: dict[str, Any] = {"name": f"models/{model.id}", "displayName": model.name or model.id}
    if model.context_tokens:
        written["inputTokenLimit"] = model.context_tokens
    if model.output_tokens:
        written["outputTokenLimit"] = model.output_tokens
    return {**written, "supportedGenerationMethods": methods}


def read_models(body: Any) -> list[ModelInfo]:
    """The models in an upstream's list."""
    found = []
    for entry in fields.lenient_list(body, "models"):
        name = fields.lenient(entry, "name").removeprefix("models/")
        if name:
            window, output = fields.count(entry, "inputTokenLimit"), fields.count(entry, "outputTokenLimit")
            found.append(ModelInfo(name, fields.lenient(entry, "displayName"), limit(window), limit(output)))
    return found


def write_count(tokens: int) -> dict[str, Any]:
    """A token count for a client."""
    return {"totalTokens": tokens}


def read_count(body: Any) -> int:
    """The token count of an upstream."""
    return fields.count(body, "totalTokens")
