"""Efforts behind the names of models: in the upstream's own field, never in a name, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import WIRES, http, upstream
from tests.targets import MORE, PAIRS, model_in, question, say, serve

SPELLINGS = ["m({})", "m:{}", "m-{}", "m({})[1m]", "m[1m]({})", "m-{}[1m]"]
MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("anthropic", "claude-opus-4-8", {"output_config": {"effort": "high"}}),
    ("anthropic", "claude-sonnet-4-5", {"thinking": {"type": "enabled"}}),
    ("openai-chat", "gpt-5.4", {"reasoning_effort": "high"}),
    ("openai-responses", "gpt-5.4", {"reasoning": {"effort": "high"}}),
    ("gemini", "gemini-3-pro", {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH"}}}),
]


def contains(value: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(value, dict) and all(contains(value.get(key), inner) for key, inner in part.items())
    return bool(value == part)


@pytest.mark.parametrize(("to", "model", "expected"), MODELS)
@pytest.mark.parametrize("client", WIRES)
def test_an_effort_reaches_the_upstreams_own_field(client: str, to: str, model: str, expected: dict[str, Any]) -> None:
    models = {"m": f"up/{model}", "inside": f"up/{model}(high)"}
    names = [*(spelling.format("high") for spelling in SPELLINGS), "inside", "inside[1m]", f"up/{model}(high)"]
    with upstream([http(200, WIRES[to].body)]) as up, serve(up, to, models) as served:
        for name in names:
            answer = say(served, client, name)
            assert (answer.status, answer.headers.get("x-ccproxy-upstream")) == (200, f"up/{model}"), (name, answer)
    for name, seen in zip(names, up.seen, strict=True):
        assert model_in(seen) == model, name
        assert contains(seen.json, expected), (name, seen.json)
        assert "(high)" not in seen.head and b"(high)" not in seen.body and b"1m]" not in seen.body


@pytest.mark.parametrize(("to", "model", "expected"), MODELS)
def test_the_rest_of_a_same_format_body_stays(to: str, model: str, expected: dict[str, Any]) -> None:
    body = {"x_unknown": {"kept": [1]}, **MORE[to]["system"]}
    with upstream([http(200, WIRES[to].body)]) as up, serve(up, to, {"m": f"up/{model}"}) as served:
        assert say(served, to, "m-high", body).status == 200
    sent, fields = up.seen[0].json, {"thinking", "output_config", "reasoning", "reasoning_effort", "generationConfig"}
    left = {key: value for key, value in sent.items() if key not in fields}
    assert left == question(to, model, body)[1]


@pytest.mark.parametrize(("client", "to"), PAIRS)
def test_the_effort_in_the_name_beats_the_one_in_the_body(client: str, to: str) -> None:
    model = next(model for form, model, _ in MODELS if form == to)
    with upstream([http(200, WIRES[to].body)]) as up, serve(up, to, {"m": f"up/{model}"}) as served:
        assert say(served, client, "m(low)", MORE[client]["thinking"]).status == 200
    sent = up.seen[0].json
    config = sent.get("generationConfig", {}).get("thinkingConfig", {})
    found = [sent.get("output_config", {}).get("effort"), sent.get("reasoning_effort")]
    found += [sent.get("reasoning", {}).get("effort"), config.get("thinkingLevel")]
    assert [one.lower() for one in found if one] == ["low"], sent


@pytest.mark.parametrize("client", ["anthropic", "openai-chat"])
def test_an_effort_and_what_is_set_together(client: str) -> None:
    models = {"m": {"to": "up/gpt-5.4(low)", "set": {"reasoning_effort": "xhigh", "seed": 4}}}
    with upstream([http(200, WIRES["openai-chat"].body)]) as up, serve(up, "openai-chat", models) as served:
        assert say(served, client, "m").status == 200
        assert say(served, client, "m(none)").status == 200
    assert [(one.json["reasoning_effort"], one.json["seed"]) for one in up.seen] == [("xhigh", 4)] * 2


SAMPLED = [{"temperature": 0.2}, {"top_k": 5}, {"top_p": 0.5}]


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-6"])
@pytest.mark.parametrize("client", ["anthropic", "openai-chat"])
@pytest.mark.parametrize("more", SAMPLED)
def test_thinking_is_not_asked_for_beside_what_anthropic_rejects_with_it(
    client: str, more: dict[str, Any], model: str
) -> None:
    """As in a conversion: either the one or the other, never a request that is sure to be refused."""
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        with serve(up, "anthropic", {"m": f"up/{model}"}) as served:
            assert say(served, client, "m(high)", more).status == 200
    sent = up.seen[0].json
    assert sent.get("thinking", {}).get("type", "disabled") == "disabled" or not set(more) & set(sent), sent


LOST = [
    ("anthropic", "claude-3-5-haiku-20241022"),
    ("gemini", "gemini-2.0-flash"),
    ("gemini", "gemma-3-27b-it"),
    ("openai-chat", "gpt-4o"),
    ("openai-responses", "gpt-4o"),
]


@pytest.mark.parametrize("client", ["same", "anthropic", "openai-chat"])
@pytest.mark.parametrize(("to", "model"), LOST)
def test_an_effort_that_a_model_cannot_take_is_named(client: str, to: str, model: str) -> None:
    client = to if client == "same" else client
    with upstream([http(200, WIRES[to].body)]) as up, serve(up, to, {"m": f"up/{model}"}) as served:
        answer = say(served, client, "m(high)")
        assert answer.status == 200
        assert answer.headers.get("x-ccproxy-dropped"), "the client's wish was left out, and nothing says so"
        strict = say(served, client, "m(high)", x_ccproxy_strict="1")
        assert strict.status == 400


def test_a_model_in_the_body_beside_the_one_in_the_path_has_no_suffix() -> None:
    with upstream([http(200, WIRES["gemini"].body)]) as up, serve(up, "gemini", {}) as served:
        for name in ("m(high)", "m[1m]"):
            assert say(served, "gemini", name, {"model": f"models/{name}"}).status == 200
    assert [b"(high)" in one.body or b"1m]" in one.body for one in up.seen] == [False, False]


ODD_MESSAGES: list[Any] = [
    [{"content": "hi"}],
    [{"role": "user"}],
    ["hi"],
    [{"role": "developer", "content": [None]}],
    [{"role": "assistant", "content": None}],
    [{"role": 5, "content": {}}],
    {"role": "user"},
    "hi",
    None,
    [],
    [{"role": "assistant", "content": [{"type": "tool_use"}]}, {"role": "user", "content": [{"type": "tool_result"}]}],
    [{"role": "assistant", "content": []}, {"role": "user", "content": [{"type": "tool_result"}]}],
    [{"role": "assistant", "content": ["x", {"type": "tool_use"}]}, {"role": "user", "content": [{"type": "text"}]}],
    [{"role": "", "content": "hi"}],
    [{"role": ["user"], "content": "hi"}],
]


@pytest.mark.parametrize("form", WIRES)
@pytest.mark.parametrize("odd", ODD_MESSAGES)
def test_odd_bodies_with_an_effort_are_the_services_business(form: str, odd: Any) -> None:
    """What the proxy cannot read, it passes on: as it came but for the effort."""
    member = {"gemini": "contents", "openai-responses": "input"}.get(form, "messages")
    model = {"anthropic": "claude-sonnet-4-5"}.get(form, "m")
    with upstream([http(200, WIRES[form].body)]) as up, serve(up, form, {}) as served:
        answer = say(served, form, f"{model}(high)", {member: odd})
    assert answer.status == 200, answer
    assert up.seen[0].json[member] == odd


ODD_SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("anthropic", {"thinking": "on", "output_config": [1]}),
    ("anthropic", {"max_tokens": "16000"}),
    ("anthropic", {"max_tokens": None, "tool_choice": "any"}),
    ("anthropic", {"max_tokens": -5}),
    ("openai-chat", {"reasoning_effort": {"a": 1}}),
    ("openai-responses", {"reasoning": "high"}),
    ("gemini", {"generationConfig": None}),
    ("gemini", {"generationConfig": {"thinkingConfig": ["a"]}}),
    ("gemini", {"generationConfig": {"thinkingConfig": {"thinkingBudget": "x"}, "maxOutputTokens": "5"}}),
    ("gemini", {"generation_config": {"thinking_config": 3, "max_output_tokens": 1}}),
    ("gemini", {"generationConfig": {"maxOutputTokens": 0}, "generation_config": {}}),
]


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-8", "gemini-2.5-flash", "gemini-3-pro", "gpt-5"])
@pytest.mark.parametrize(("form", "more"), ODD_SETTINGS)
def test_odd_settings_never_break_an_effort(form: str, more: dict[str, Any], model: str) -> None:
    with upstream([http(200, WIRES[form].body)]) as up, serve(up, form, {}) as served:
        for effort in ("none", "minimal", "high", "max"):
            assert say(served, form, f"{model}({effort})", more).status == 200


@pytest.mark.parametrize("client", WIRES)
def test_an_effort_in_the_name_counts_as_thinking(client: str) -> None:
    models = {"m": [{"to": "up/thinker", "when": {"has": "thinking"}}, "up/usual"]}
    with upstream([http(200, WIRES["openai-chat"].body)]) as up, serve(up, "openai-chat", models) as served:
        assert say(served, client, "m(high)").headers["x-ccproxy-upstream"] == "up/thinker"
        assert say(served, client, "m(none)", MORE[client]["thinking"]).headers["x-ccproxy-upstream"] == "up/usual"
