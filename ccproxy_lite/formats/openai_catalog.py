"""OpenAI's two formats: model lists, both ways. Source: the API's reference, which knows ids only; all else is as
compatible services have it: OpenRouter, vLLM, llama.cpp, LM Studio, Mistral, Groq, Together and others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.catalog import INPUTS, ModelInfo, limit

_WINDOWS = (
    "context_length",
    "context_window",
    "max_model_len",
    "loaded_context_length",
    "max_context_length",
    "max_input_tokens",
    "n_ctx",
    "num_ctx",
    "n_ctx_train",
)
"""What services call the context window; what is loaded counts more than what a model was trained for."""
_OUTPUTS = ("max_completion_tokens", "max_output_tokens", "max_output_length", "output_token_limit")
_HOLDERS = ("top_provider", "meta", "metadata", "limits", "capabilities")
"""Objects in which some of them stand."""


def write_models(models: Sequence[ModelInfo], created: int) -> dict[str, Any]:
    """The list of models for a client."""
    return {"object": "list", "data": [write_model(model, created) for model in models]}


def write_model(model: ModelInfo, created: int) -> dict[str, Any]:
    """One model for a client; what OpenAI's own list lacks is spelled as OpenRouter does."""
    written: dict[str, Any] = {"id": model.id, "object": "model", "created": created, "owned_by": "ccproxy-lite"}
    if model.name:
        written["name"] = model.name
    if model.context_tokens:
        written["context_length"] = model.context_tokens
    if model.output_tokens:
        written["max_completion_tokens"] = model.output_tokens
        written["top_provider"] = {"max_completion_tokens": model.output_tokens}
    if model.inputs is not None:
        modalities = {"input_modalities": ["text", *model.inputs], "output_modalities": ["text"]}
        written["architecture"] = modalities
    return written


def read_models(body: Any) -> list[ModelInfo]:
    """The models in an upstream's list, which may be a bare one, or be called ``models``."""
    found = []
    entries = (
        body if isinstance(body, list) else fields.lenient_list(body, "data") or fields.lenient_list(body, "models")
    )
    for entry in entries:
        model = fields.lenient(entry, "id")
        if model:
            name = fields.lenient(entry, "name") or fields.lenient(entry, "display_name")
            name = "" if name == model else name
            window, output = _first(entry, _WINDOWS), _first(entry, _OUTPUTS)
            found.append(ModelInfo(model, name, window, output, _read_inputs(entry)))
    return found


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    inner = [entry[key] for key in _HOLDERS if isinstance(entry.get(key), dict)]
    values = (fields.count(holder, name) for name in names for holder in (entry, *inner))
    return next((value for value in map(limit, values) if value), None)


def _read_inputs(entry: Mapping[str, Any]) -> tuple[str, ...] | None:
    listed = entry.get("input_modalities") or fields.lenient_list(entry.get("architecture"), "input_modalities")
    told = set(listed) if isinstance(listed, list) and all(isinstance(one, str) for one in listed) else set()
    capabilities = entry.get("capabilities")
    if (isinstance(capabilities, dict) and capabilities.get("vision") is True) or entry.get("type") == "vlm":
        told.add("image")
    return tuple(kind for kind in INPUTS if kind in told) if told else None
