"""Gemini generateContent: model lists and token counts, both ways. Source: the SDK's ``types.Model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ccproxy_lite.formats import fields


def write_models(ids: Sequence[str], created: int) -> dict[str, Any]:
    """The list of models for a client."""
    return {"models": [write_model(model, created) for model in ids]}


def write_model(model: str, created: int) -> dict[str, Any]:
    """One model for a client."""
    methods = ["generateContent", "streamGenerateContent", "countTokens"]
    return {"name": f"models/{model}", "displayName": model, "supportedGenerationMethods": methods}


def read_models(body: Any) -> list[str]:
    """The ids in an upstream's list."""
    return [name.removeprefix("models/") for name in fields.listed(body, "models", "name")]


def write_count(tokens: int) -> dict[str, Any]:
    """A token count for a client."""
    return {"totalTokens": tokens}


def read_count(body: Any) -> int:
    """The token count of an upstream."""
    return fields.count(body, "totalTokens")
