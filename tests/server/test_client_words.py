"""Which model a command will ask for, by its words, its variable, or its settings."""

from __future__ import annotations

import pytest

from ccproxy_lite.server.clients import CLIENTS, asked_models

USUAL = list(CLIENTS["codex"].asks_for)


@pytest.mark.parametrize(
    ("words", "models"),
    [
        (["-m", "a"], ["a"]),
        (["exec", "-ma", "say hi"], ["a"]),
        (["-m=a"], ["a"]),
        (["--model=a", "--model", "b"], ["b"]),
        (["-c", 'model="a"'], ["a"]),
        (["-cmodel=a"], ["a"]),
        (["--config=model='a'"], ["a"]),
        (["--config", "model=a"], ["a"]),
        (["-c", "model_context_window=9"], USUAL),
        (["-c"], USUAL),
        ([], USUAL),
    ],
)
def test_words_of_codex(words: list[str], models: list[str]) -> None:
    assert asked_models(["/usr/bin/codex", *words], {}) == models


def test_words_count_before_the_variable_and_this_before_the_settings() -> None:
    given = {"ANTHROPIC_MODEL": "b"}
    assert asked_models(["claude", "--model", "a"], given, '{"model": "c"}') == ["a"]
    assert asked_models(["claude"], given, '{"model": "c"}') == ["b"]
    assert asked_models(["claude"], {}, '{"model": "c"}') == ["c"]
