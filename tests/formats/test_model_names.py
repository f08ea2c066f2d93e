"""Clouds and gateways put something before a model's name; what the model takes stays the same."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo, Target
from ccproxy_lite.formats.neutral.catalog import bare_name

ASK = {
    "model": "any",
    "input": "think about it",
    "reasoning": {"effort": "high"},
    "temperature": 0.5,
    "top_p": 0.9,
    "max_output_tokens": 200_000,
}
PREFIXES = (
    "openrouter/", "us.anthropic.", "global.anthropic.", "us-gov.anthropic.", "anthropic.", "openai.", "us.openai.",
    "databricks-", "system.ai.", "arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.",
)  # fmt: skip


def written(form: str, model: str) -> Any:
    request = FORMATS["openai-responses"].read_request(ASK, PathInfo())
    outgoing = FORMATS[form].write_request(request, Target(model))
    return {**outgoing.body, "model": ""}, outgoing.dropped


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("model", ["claude-opus-5", "claude-sonnet-4-5", "claude-3-5-haiku"])
def test_a_model_of_anthropic(model: str, prefix: str) -> None:
    assert written("anthropic", prefix + model) == written("anthropic", model)
    assert bare_name(prefix + model) == model


@pytest.mark.parametrize("suffix", ["-20250929-v1:0", "@20250929"])
def test_what_stands_behind_a_name_changes_nothing(suffix: str) -> None:
    assert written("anthropic", f"claude-sonnet-4-5{suffix}") == written("anthropic", "claude-sonnet-4-5")


@pytest.mark.parametrize("prefix", ["openrouter/", "openai.", "us.openai."])
@pytest.mark.parametrize("model", ["gpt-5.6-sol", "gpt-4.1", "o3"])
def test_a_model_of_openai(model: str, prefix: str) -> None:
    assert written("openai-chat", prefix + model) == written("openai-chat", model)


@pytest.mark.parametrize(
    "name", ["gpt-4.1", "llama-3.3-70b", "glm-4.7", "kimi-k2.5", "my-model", "qwen3.5-coder", "o3"]
)
def test_a_number_is_no_vendor(name: str) -> None:
    assert bare_name(name) == name
