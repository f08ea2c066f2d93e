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
    # Beside OpenAI's breakpoints the end of the conversation counts, and where the last request has ended.
    turns += [{"role": "assistant", "content": "x"}, {"role": "user", "content": "a"}]
    turns += [{"role": "assistant", "content": "y"}, {"role": "user", "content": "b"}]
    assert marked(sent("openai-chat", "anthropic", {"messages": turns})) == ["0", "5", "a", "b"]
    body = sent("openai-chat", "anthropic", {"messages": turns}, quirks=["automatic_caching"])
    assert (marked(body), body["cache_control"]) == (["0", "5", "a"], MARK)


def test_the_marker_of_the_last_message_stays() -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": "q"}]
    for number in range(4):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        result = [{"type": "text", "text": f"r{number}", "cache_control": MARK}]
        turns += [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": result},
        ]
    turns.append({"role": "user", "content": [{"type": "text", "text": "last", "cache_control": MARK}]})
    body = sent("openai-chat", "anthropic", {"messages": turns})
    assert marked(body) == ["last"] and str(body).count("cache_control") == 4


LOST = {
    "a blank text": {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": " ", "cache_control": MARK}]},
    "no object": {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": "ephemeral"}]},
}  # fmt: skip


@pytest.mark.parametrize("message", LOST.values(), ids=LOST)
def test_a_marker_that_is_lost_is_none(message: dict[str, Any]) -> None:
    assert marked(sent("openai-chat", "anthropic", {"messages": [message]})) == ["a"]


def test_a_marker_that_lives_longer_follows_no_shorter_one() -> None:
    long = {**MARK, "ttl": "1h"}
    system = {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": MARK}]}
    user = {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": long}]}
    body = sent("openai-chat", "anthropic", {"messages": [system, user]})
    assert [body["system"][0]["cache_control"], body["messages"][0]["content"][0]["cache_control"]] == [long, long]


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


def test_a_clients_own_key_goes_where_it_is_known() -> None:
    own = {"prompt_cache_key": "mine"}
    assert sent("openai-responses", "openai-chat", own, quirks=["prompt_cache_key"])["prompt_cache_key"] == "mine"
    assert "prompt_cache_key" not in sent("openai-responses", "openai-chat", own)


def test_breakpoints_cross_between_openais_formats() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    asked = {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a", **mark}]}],
        "prompt_cache_options": {"mode": "explicit"},
    }
    body = sent("openai-responses", "openai-chat", {**asked, "model": "gpt-5.6"}, quirks=["prompt_cache_key"])
    assert body["messages"][-1]["content"] == [{"type": "text", "text": "a", **mark}]
    assert body["prompt_cache_options"] == {"mode": "explicit"}
    body = sent("openai-responses", "openai-chat", asked)
    assert body["messages"][-1]["content"] == "a" and "prompt_cache_options" not in body


@pytest.mark.parametrize(
    "model", ["GPT-5.6", "ft:gpt-5.6:org::x", "openai/gpt-5.10-sol", "openai.gpt-6", "gpt-5.6-2026-09-01"]
)
def test_names_of_models_that_want_a_breakpoint(model: str) -> None:
    assert "prompt_cache_breakpoint" in str(sent("anthropic", "openai-responses", {"model": f"up/{model}"}))


@pytest.mark.parametrize("model", ["gpt-50", "gpt-56-prod", "gpt-5.5", "gpt-4.1", "my-gpt-5.6"])
def test_names_of_others(model: str) -> None:
    assert "prompt_cache_breakpoint" not in str(sent("anthropic", "openai-responses", {"model": f"up/{model}"}))


def test_what_is_blank_is_not_marked() -> None:
    system = [{"type": "text", "text": "a"}, {"type": "text", "text": " "}]
    body = sent("anthropic", "openai-responses", {"model": "gpt-5.6", "system": system})
    assert ["prompt_cache_breakpoint" in part for part in body["input"][0]["content"]] == [True, False]
    assert "prompt_cache_breakpoint" not in str(
        sent("gemini", "openai-responses", {"systemInstruction": {"parts": [{"text": " "}]}})
    )


def test_a_picture_begins_a_conversation_as_well() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    assert sent("anthropic", "openai-responses", {"messages": [{"role": "user", "content": [picture]}]})[
        "prompt_cache_key"
    ]


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


def refused(to: str, asked: list[tuple[str, dict[str, Any]]], refuses: Any, **settings: Any) -> list[dict[str, Any]]:
    """What an upstream gets that rejects the bodies for which there is a message; its clients hear of no error."""

    def choose(seen: Any) -> list[Any]:
        message = refuses(seen.json)
        error = {"type": "error", "error": {"type": "invalid_request_error", **(message or {})}}
        return [http(400, error) if message else http(200, WIRES[to].body)]

    with upstream(choose=choose) as up, proxy(behind(up, to, **settings)) as served:
        for client, body in asked:
            assert ask(served.port, WIRES[client].path, body).status == 200
        return [seen.json for seen in up.seen]


def test_only_what_was_rejected_is_left_out() -> None:
    def no_breakpoint(body: dict[str, Any]) -> Any:
        return "prompt_cache_breakpoint" in str(body) and {"message": "prompt_cache_breakpoint is not supported"}

    asked = {**ASKED["anthropic"], "model": "up/gpt-5.6"}
    first, again, later, other = refused(
        "openai-responses",
        [("anthropic", asked), ("anthropic", asked), ("anthropic", {**asked, "model": "up/gpt-5.5"})],
        no_breakpoint,
    )
    assert "prompt_cache_breakpoint" in str(first) and "prompt_cache_breakpoint" not in f"{again} {later}"
    assert len({body["prompt_cache_key"] for body in (first, again, later, other)}) == 1


def test_a_field_that_only_the_parameter_names() -> None:
    def no_key(body: dict[str, Any]) -> Any:
        return "prompt_cache_key" in body and {"message": "Unsupported.", "param": "prompt_cache_key"}

    first, again = refused("openai-responses", [("anthropic", ASKED["anthropic"])], no_key)
    assert "prompt_cache_key" in first and "prompt_cache_key" not in again


def test_blocks_are_marked_where_the_whole_request_cannot_be() -> None:
    def no_setting(body: dict[str, Any]) -> Any:
        return "cache_control" in body and {"message": "cache_control: Extra inputs are not permitted"}

    asked = [("openai-chat", ASKED["openai-chat"])] * 2
    first, *others = refused("anthropic", asked, no_setting, quirks=["automatic_caching"])
    assert marked(first) == [INSTRUCTIONS, "one"]
    assert [marked(body) for body in others] == [[INSTRUCTIONS, "one", "two"]] * 2
    # A client's own setting is a marker of the last block there.
    [body] = refused("anthropic", [("openai-chat", {**ASKED["openai-chat"], "cache_control": MARK})], no_setting)
    assert marked(body) == ["two"]


def no_marker(body: dict[str, Any]) -> Any:
    return "cache_control" in str(body) and {
        "message": "messages.0.content.0.cache_control: Extra inputs are not permitted"
    }


def test_breakpoints_at_a_host_that_takes_no_markers() -> None:
    part = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    asked = {**ASKED["openai-chat"], "messages": [{"role": "user", "content": [part]}]}
    bodies = refused("anthropic", [("openai-chat", asked)] * 2, no_marker)
    assert ["cache_control" in str(body) for body in bodies] == [True, False, False]


_PART = {"type": "text", "text": "a"}
OWN: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "a marker": (
        "openai-chat",
        "anthropic",
        {"cache_control": {"type": "ephemeral", "ttl": "2h"}},
        "cache_control.ephemeral.ttl",
    ),
    "a marker of a block": (
        "openai-chat",
        "anthropic",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"ttl": "2h"}}]}]},
        "messages.0.content.0.text.cache_control.ephemeral.ttl",
    ),
    "a key": ("openai-chat", "openai-responses", {"prompt_cache_key": "2h" * 40}, "prompt_cache_key"),
    "a time to live": ("openai-chat", "openai-responses", {"prompt_cache_retention": "2h"}, "prompt_cache_retention"),
    "options": ("openai-chat", "openai-responses", {"prompt_cache_options": {"ttl": "2h"}}, "prompt_cache_options"),
    "a breakpoint": (
        "openai-chat",
        "openai-responses",
        {
            "model": "up/gpt-5.6",
            "messages": [{"role": "user", "content": [{**_PART, "prompt_cache_breakpoint": {"mode": "2h"}}]}],
        },
        "prompt_cache_breakpoint",
    ),
}


@pytest.mark.parametrize("quirks", [[], ["automatic_caching"]])
@pytest.mark.parametrize("what", OWN)
def test_what_a_client_has_set_itself_is_its_own_mistake(what: str, quirks: list[str]) -> None:
    """It hears of it, and nobody else is concerned: neither later, nor where the host takes none at all."""
    client, to, own, field = OWN[what]
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": f"{field}: {what} is invalid"}}

    def choose(seen: Any) -> list[Any]:
        return [http(400, error) if "2h" in str(seen.json) else http(200, WIRES[to].body)]

    with upstream(choose=choose) as up, proxy(behind(up, to, quirks=quirks)) as served:
        asked = (ASKED[client], {**ASKED[client], **own}, ASKED[client])
        statuses = [ask(served.port, WIRES[client].path, body).status for body in asked]
    first, *others, last = [seen.json for seen in up.seen]
    assert statuses == [200, 400, 200]
    assert first == last and ("cache_control" in str(first) or "prompt_cache_key" in first)
    assert len(others) == 1


def test_a_clients_own_markers_at_a_host_that_takes_none() -> None:
    part = {"type": "text", "text": "a", "cache_control": MARK}
    own = {**ASKED["openai-chat"], "messages": [{"role": "user", "content": [part]}]}

    def choose(seen: Any) -> list[Any]:
        refusal = no_marker(seen.json)
        error = {"type": "error", "error": {"type": "invalid_request_error", **(refusal or {})}}
        return [http(400, error) if refusal else http(200, WIRES["anthropic"].body)]

    with upstream(choose=choose) as up, proxy(behind(up, "anthropic")) as served:
        statuses = [ask(served.port, "/v1/chat/completions", body).status for body in (own, ASKED["openai-chat"], own)]
    assert statuses == [400, 200, 400]


def test_what_is_named_for_another_reason_is_not_remembered() -> None:
    """A repeat that fails too says nothing of the field; nor does a word that contains it."""
    tool = {"type": "function", "function": {"name": "set", "parameters": {"type": "object"}}}
    bad = {**ASKED["openai-chat"], "tools": [tool]}
    error = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "tools.0: cache_control of set is wrong"},
    }

    def choose(seen: Any) -> list[Any]:
        return [http(400, error) if "tools" in seen.json else http(200, WIRES["anthropic"].body)]

    with upstream(choose=choose) as up, proxy(behind(up, "anthropic")) as served:
        asked = (ASKED["openai-chat"], bad, ASKED["openai-chat"])
        statuses = [ask(served.port, "/v1/chat/completions", body).status for body in asked]
    assert statuses == [200, 400, 200]
    assert ["cache_control" in str(seen.json) for seen in up.seen] == [True, True, False, True]


def test_a_word_that_contains_the_field_is_not_the_field() -> None:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "set_cache_control: too odd"}}
    with upstream([http(400, error)]) as up, proxy(behind(up, "anthropic")) as served:
        assert ask(served.port, "/v1/chat/completions", ASKED["openai-chat"]).status == 400
    assert len(up.seen) == 1


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
