"""What a conversion adds for an upstream's prompt cache: where, when it is left out, and how a refusal is learnt."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import WIRES, ask, behind, http, proxy, upstream

INSTRUCTIONS = "be brief"
MARK = {"type": "ephemeral"}
ASKED: dict[str, dict[str, Any]] = {
    "openai-chat": {
        "model": "m",
        "messages": [
            {"role": "system", "content": INSTRUCTIONS},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": "two"},
        ],
    },
    "openai-responses": {
        "model": "m",
        "instructions": INSTRUCTIONS,
        "input": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": "two"},
        ],
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": INSTRUCTIONS}]},
        "contents": [
            {"role": "user", "parts": [{"text": "one"}]},
            {"role": "model", "parts": [{"text": "1"}]},
            {"role": "user", "parts": [{"text": "two"}]},
        ],
    },
    "anthropic": {
        "model": "m",
        "max_tokens": 9,
        "system": INSTRUCTIONS,
        "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": "two"},
        ],
    },
}


def sent(client: str, to: str, more: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """What the upstream gets for the client's request."""
    with upstream([http(200, WIRES[to].body)]) as up, proxy(behind(up, to, **settings)) as served:
        answer = ask(served.port, WIRES[client].path, {**ASKED[client], **(more or {})})
        assert answer.status == 200, answer
        return up.seen[0].json


def marked(body: dict[str, Any]) -> list[str]:
    blocks = [*body.get("system", ()), *(block for message in body["messages"] for block in message["content"])]
    return [block["text"] for block in blocks if block.get("cache_control") == MARK]


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses", "gemini"])
def test_a_conversation_is_marked_for_its_next_turn(client: str) -> None:
    body = sent(client, "anthropic")
    assert (marked(body), "cache_control" in body) == ([INSTRUCTIONS, "one", "two"], False)
    # Where the host has one setting for the whole request, it moves on with the conversation.
    body = sent(client, "anthropic", quirks=["automatic_caching"])
    assert (marked(body), body["cache_control"]) == ([INSTRUCTIONS, "one"], MARK)
    body = sent(client, "anthropic", prompt_cache="off")
    assert (marked(body), "cache_control" in body) == ([], False)


def test_a_client_that_marks_knows_best() -> None:
    own = [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": MARK}]}]
    own += [{"role": "user", "content": "b"}]
    assert marked(sent("openai-chat", "anthropic", {"messages": own})) == ["a"]
    assert marked(sent("openai-chat", "anthropic", {"prompt_cache_options": {"mode": "explicit"}})) == []
    # A breakpoint of OpenAI's clients is a marker, beside which the end of the conversation counts.
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    turns = [{"role": "user", "content": [part]}, {"role": "assistant", "content": "x"}]
    turns += [{"role": "user", "content": "b"}]
    assert marked(sent("openai-chat", "anthropic", {"messages": turns})) == ["a", "b"]


def test_never_more_than_four_markers() -> None:
    part = {"type": "text", "prompt_cache_breakpoint": {"mode": "explicit"}}
    turns = [{"role": "user", "content": [{**part, "text": str(number)} for number in range(6)]}]
    assert marked(sent("openai-chat", "anthropic", {"messages": turns})) == ["0", "3", "4", "5"]


@pytest.mark.parametrize("client", ["anthropic", "gemini", "openai-chat"])
def test_a_conversation_has_one_key_in_every_turn(client: str) -> None:
    first, again = sent(client, "openai-responses"), sent(client, "openai-responses", _longer(client))
    assert first["prompt_cache_key"] == again["prompt_cache_key"] and len(first["prompt_cache_key"]) == 32
    assert "prompt_cache_key" not in sent(client, "openai-responses", prompt_cache="off")


def _longer(client: str) -> dict[str, Any]:
    name = "contents" if client == "gemini" else "messages"
    more = {"parts": [{"text": "3"}]} if client == "gemini" else {"content": "3"}
    turns = [{"role": "model" if client == "gemini" else "assistant", **more}, {"role": "user", **more}]
    return {name: ASKED[client][name] + turns}


def test_agents_that_share_a_session_do_not_share_a_key() -> None:
    session = {"metadata": {"user_id": "user_1_account__session_s1"}}
    keys = {sent("anthropic", "openai-responses", {**session, "system": text})["prompt_cache_key"] for text in "ab"}
    assert len(keys) == 2
    others = {sent("anthropic", "openai-responses", {**session, "messages": [{"role": "user", "content": text}]})
              ["prompt_cache_key"] for text in "ab"}  # fmt: skip
    assert len(others) == 1


def test_models_that_match_at_breakpoints_get_one_where_the_instructions_end() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    body = sent("anthropic", "openai-responses", {"model": "gpt-5.6"})
    content = [{"type": "input_text", "text": INSTRUCTIONS, **mark}]
    assert body["input"][0] == {"type": "message", "role": "developer", "content": content}
    assert "instructions" not in body
    body = sent("anthropic", "openai-chat", {"model": "gpt-5.6-sol"}, quirks=["prompt_cache_key"])
    assert body["messages"][0] == {"role": "system", "content": [{"type": "text", "text": INSTRUCTIONS, **mark}]}
    for model in ("gpt-5.5", "qwen3"):
        assert sent("anthropic", "openai-responses", {"model": model})["instructions"] == INSTRUCTIONS
    body = sent("anthropic", "openai-chat", {"model": "gpt-5.6"})
    assert body["messages"][0]["content"] == INSTRUCTIONS and "prompt_cache_key" not in body


REFUSALS = [
    ("openai-chat", "anthropic", 400, "messages.0.cache_control: Extra inputs are not permitted", "cache_control"),
    ("anthropic", "openai-responses", 400, "Unknown parameter: 'prompt_cache_key'.", "prompt_cache_key"),
    ("gemini", "openai-responses", 422, "prompt_cache_key: unexpected field", "prompt_cache_key"),
]


@pytest.mark.parametrize(("client", "to", "status", "message", "field"), REFUSALS)
def test_a_host_that_rejects_them_is_remembered(client: str, to: str, status: int, message: str, field: str) -> None:
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    fine = [http(200, WIRES[to].body)]
    with upstream([http(status, refusal)], fine, fine) as up, proxy(behind(up, to)) as served:
        answers = [ask(served.port, WIRES[client].path, ASKED[client]).status for _ in range(2)]
    assert answers == [200, 200]
    assert [field in one.body.decode() for one in up.seen] == [True, False, False]


def test_other_errors_are_the_clients() -> None:
    refusal = {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: too odd"}}
    with upstream([http(400, refusal)]) as up, proxy(behind(up, "anthropic")) as served:
        assert ask(served.port, "/v1/chat/completions", ASKED["openai-chat"]).status == 400
    assert len(up.seen) == 1


def test_what_was_read_from_the_cache_is_shown() -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 10, "output_tokens": 5}
    with upstream([http(200, {**WIRES["anthropic"].body, "usage": usage})]) as up:
        with proxy(behind(up, "anthropic")) as served:
            assert ask(served.port, "/v1/chat/completions", ASKED["openai-chat"]).status == 200
            state = ask(served.port, "/status", method="GET").json
            metrics = ask(served.port, "/metrics", method="GET").body.decode()
    assert next(iter(state["upstreams"].values()))["cached_input"] == 0.8
    assert state["models"][0]["cached_tokens"] == 80
    assert 'ccproxy_cached_input_ratio{upstream="up"} 0.800' in metrics
