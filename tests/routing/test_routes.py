"""Which upstream answers a model name: the rules of the contract, in their order."""

from __future__ import annotations

import pytest

from ccproxy_lite.config.model import Config, ModelTarget, Upstream
from ccproxy_lite.errors import ClientError
from ccproxy_lite.providers import EMBEDDED
from ccproxy_lite.routing.routes import resolve

CLAUDE = Upstream("claude", "anthropic", "https://a")
GPT = Upstream("gpt", "openai-chat", "https://b/v1")
QWEN = Upstream("qwen", "openai-chat", "https://c/v1", models=("qwen3-coder",))
MAPPED = (
    ("claude-*haiku*", (ModelTarget("qwen/qwen3-coder"),)),
    ("claude-*", (ModelTarget("claude/*"), ModelTarget("gpt/gpt-5"))),
    ("claude-opus-5", (ModelTarget("gpt/gpt-5"),)),
    ("fast", (ModelTarget("qwen/qwen3-coder"),)),
)
CONFIG = Config((CLAUDE, GPT, QWEN), models=MAPPED)


def routes(model: str, client: str = "anthropic", config: Config = CONFIG, pinned: str = "") -> list[str]:
    return [str(route) for route in resolve(config, model, client, pinned)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("qwen/some/model", ["qwen/some/model"]),
        ("fast", ["qwen/qwen3-coder"]),
        ("claude-opus-5", ["gpt/gpt-5"]),  # an exact name before any glob
        ("claude-haiku-4-5", ["qwen/qwen3-coder"]),  # the first glob of two
        ("claude-sonnet-4-5", ["claude/claude-sonnet-4-5", "gpt/gpt-5"]),
        ("qwen3-coder", ["qwen/qwen3-coder"]),  # listed
        ("gpt-5.4", ["gpt/gpt-5.4"]),  # by family
        ("o3-mini", ["gpt/o3-mini"]),
        ("deepseek-v4", ["gpt/deepseek-v4"]),
        ("whatever", ["claude/whatever"]),  # the first that may know it
        ("other/model", ["claude/other/model"]),  # no upstream of that name
    ],
)
def test_rules(model: str, expected: list[str]) -> None:
    assert routes(model) == expected


def test_a_pin_beats_everything() -> None:
    assert routes("fast", pinned="gpt") == ["gpt/fast"]
    assert routes("gpt/fast", pinned="gpt") == ["gpt/fast"]


def test_the_same_format_is_preferred() -> None:
    config = Config((Upstream("a", "openai-chat", "x", models=("m",)), Upstream("b", "anthropic", "y", models=("m",))))
    assert routes("m", "anthropic", config) == ["b/m"]
    assert routes("m", "openai-chat", config) == ["a/m"]


def test_a_model_that_nobody_has() -> None:
    with pytest.raises(ClientError) as caught:
        routes("m", config=Config((QWEN,), models=(("fast", (ModelTarget("qwen/qwen3-coder"),)),)))
    assert caught.value.status == 404
    assert "fast, qwen3-coder" in caught.value.message


def test_an_upstream_that_does_not_exist() -> None:
    with pytest.raises(ClientError, match='unknown upstream "nope"'):
        routes("m", pinned="nope")


@pytest.mark.parametrize("client", ["anthropic", "gemini", ""])
def test_the_embedded_service_speaks_every_format(client: str) -> None:
    first = Upstream("a", "openai-chat", "x", models=("m",))
    embedded = Upstream("e", "echo", "", models=("m",), provider=EMBEDDED)
    assert str(resolve(Config((first, embedded)), "m", client)[0]) == "e/m"
    assert str(resolve(Config((first, embedded)), "m", "openai-chat")[0]) == "a/m"
