"""Responses that are kept, so that clients of foreign services can continue them: chains, bounds, owners, endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.config.model import StoreSettings
from ccproxy_lite.formats.format import Turn
from ccproxy_lite.relay.states import States
from tests.support import WIRES, FakeClock, ask, behind, http, proxy, upstream

FOREIGN = ["anthropic", "openai-chat", "gemini"]
ASK: dict[str, Any] = {"model": "m", "input": "one"}


def texts(body: dict[str, Any]) -> str:
    """All that a foreign service was told, as one text."""
    return str(body.get("messages") or body.get("contents"))


def go_on(port: int, previous: str, text: str, **more: Any) -> Any:
    body = {**ASK, "input": text, "previous_response_id": previous, **more}
    return ask(port, "/v1/responses", body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("to", FOREIGN)
def test_a_chain_of_turns(to: str, stream: bool) -> None:
    wire = WIRES[to]
    answer = wire.stream if stream else [http(200, wire.body)]
    with upstream(answer) as up, proxy(behind(up, to)) as served:
        first = ask(served.port, "/v1/responses", {**ASK, "stream": stream})
        second = go_on(served.port, response_id(first), "two", stream=stream)
        third = go_on(served.port, response_id(second), "three", stream=stream)
        assert (first.status, second.status, third.status) == (200, 200, 200), third
        told = texts(up.seen[-1].json)
        order = [told.index(f"'{word}'") for word in ("one", "two", "three")]
        assert order == sorted(order) and told.count("hello") == 2
        # The first answer can be continued once more, in another direction.
        assert go_on(served.port, response_id(first), "else").status == 200
        told = texts(up.seen[-1].json)
        assert "'else'" in told and "'two'" not in told and told.count("hello") == 1


def response_id(answer: Any) -> str:
    text = answer.body.decode()
    start = text.index('"resp_') + 1
    return text[start : text.index('"', start)]


def test_what_it_tells_of_itself() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        first = ask(served.port, "/v1/responses", ASK).json
        assert (first["store"], first["previous_response_id"]) == (True, None)
        second = go_on(served.port, first["id"], "two").json
        assert (second["store"], second["previous_response_id"]) == (True, first["id"])
        unkept = go_on(served.port, first["id"], "two", store=False).json
        assert unkept["store"] is False
        assert go_on(served.port, unkept["id"], "three").status == 404


def test_instructions_are_not_inherited() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        first = ask(served.port, "/v1/responses", {**ASK, "instructions": "be brief"}).json
        assert go_on(served.port, first["id"], "two").status == 200
        assert "system" not in up.seen[-1].json


@pytest.mark.parametrize("to", FOREIGN)
def test_one_that_is_not_there_is_told_as_clients_know_it(to: str) -> None:
    with upstream([http(200, WIRES[to].body)]) as up, proxy(behind(up, to)) as served:
        answer = go_on(served.port, "resp_none", "two")
        counted = ask(served.port, "/v1/responses/input_tokens", {**ASK, "previous_response_id": "resp_none"})
    error = answer.json["error"]
    assert (answer.status, error["code"], error["param"]) == (
        404,
        "previous_response_not_found",
        "previous_response_id",
    )
    assert counted.status == 404 and up.seen == []


def test_a_service_that_keeps_them_itself_is_asked() -> None:
    with upstream([http(200, WIRES["openai-responses"].body)]) as up:
        with proxy(behind(up, "openai-responses")) as served:
            assert go_on(served.port, "resp_theirs", "two").status == 200
            assert len(served.parts.relay.states) == 0
    assert up.seen[0].json["previous_response_id"] == "resp_theirs"


def test_a_conversation_that_began_elsewhere_goes_on_at_a_service_that_keeps_them() -> None:
    with (
        upstream([http(200, WIRES["anthropic"].body)]) as foreign,
        upstream([http(200, WIRES["openai-responses"].body)]) as own,
    ):
        config = behind(foreign, "anthropic")
        config["upstreams"]["own"] = behind(own, "openai-responses")["upstreams"]["up"]
        with proxy(config) as served:
            first = ask(served.port, "/v1/responses", {**ASK, "model": "up/m"}).json
            assert go_on(served.port, first["id"], "two", model="own/m").status == 200
    sent = own.seen[0].json
    assert "previous_response_id" not in sent and [item.get("role") for item in sent["input"]][::2] == ["user", "user"]


def test_another_client_cannot_use_it() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        with proxy(
            {**behind(up, "anthropic"), "client_keys": ["key-of-one-0123456789", "key-of-two-0123456789"]}
        ) as served:
            mine = {"authorization": "Bearer key-of-one-0123456789"}
            theirs = {"authorization": "Bearer key-of-two-0123456789"}
            first = ask(served.port, "/v1/responses", ASK, **mine).json
            path, body = f"/v1/responses/{first['id']}", {**ASK, "previous_response_id": first["id"]}
            assert ask(served.port, "/v1/responses", body, **theirs).status == 404
            assert ask(served.port, path, method="GET", **theirs).status == 404
            assert ask(served.port, path, method="DELETE", **theirs).status == 404
            assert ask(served.port, "/v1/responses", body, **mine).status == 200


def test_reading_and_deleting_one() -> None:
    with upstream([http(200, WIRES["gemini"].body)]) as up, proxy(behind(up, "gemini")) as served:
        items = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
        first = ask(served.port, "/v1/responses", {**ASK, "input": items}).json
        path = f"/v1/responses/{first['id']}"
        assert ask(served.port, path, method="GET").json == first
        listed = ask(served.port, f"{path}/input_items?order=asc", method="GET").json
        assert [item["content"][0]["text"] for item in listed["data"]] == ["a", "b"]
        assert (listed["first_id"], listed["has_more"]) == (listed["data"][0]["id"], False)
        page = ask(served.port, f"{path}/input_items?limit=1", method="GET").json
        assert (page["data"][0]["content"][0]["text"], page["has_more"]) == ("b", True)
        rest = ask(served.port, f"{path}/input_items?after={page['last_id']}", method="GET").json
        assert [item["content"][0]["text"] for item in rest["data"]] == ["a"]
        assert ask(served.port, f"{path}/input_items?limit=no", method="GET").status == 400
        deleted = ask(served.port, path, method="DELETE").json
        assert deleted == {"id": first["id"], "object": "response", "deleted": True}
        assert ask(served.port, path, method="GET").status == 404
        assert go_on(served.port, first["id"], "two").status == 404
    assert len(up.seen) == 1


def test_reasoning_returns_to_who_has_sealed_it() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "c2VhbGVk"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    ]
    answer = {**WIRES["anthropic"].body, "content": content, "stop_reason": "tool_use"}
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]
    with upstream([http(200, answer)]) as up, proxy(behind(up, "anthropic", prompt_cache="off")) as served:
        first = ask(served.port, "/v1/responses", {**ASK, "tools": tools}).json
        result = [{"type": "function_call_output", "call_id": "toolu_1", "output": "r"}]
        body = {"model": "m", "input": result, "tools": tools, "previous_response_id": first["id"]}
        assert ask(served.port, "/v1/responses", body).status == 200
    assert up.seen[1].json["messages"][1]["content"] == content


def test_it_may_be_turned_off() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        with proxy({**behind(up, "anthropic"), "responses_store": {"max_mb": 0}}) as served:
            first = ask(served.port, "/v1/responses", ASK).json
            assert first["store"] is False
            answer = go_on(served.port, first["id"], "two")
    assert (answer.status, answer.json["error"]["param"]) == (400, "previous_response_id")


def test_it_is_forgotten_in_time() -> None:
    clock = FakeClock()
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        with proxy({**behind(up, "anthropic"), "responses_store": {"ttl_s": 60}}, clock=clock) as served:
            first = ask(served.port, "/v1/responses", ASK).json
            clock.time += 59
            second = go_on(served.port, first["id"], "two").json
            clock.time += 59
            assert go_on(served.port, second["id"], "three").status == 200
            clock.time += 61
            assert go_on(served.port, second["id"], "three").status == 404


# ---------------------------------------------------------------- the store alone


def turn(number: int, size: int = 10) -> Turn:
    return Turn(f"resp_{number}", [{"role": "user", "content": "x" * size}], [{"n": number}])


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    states = States(StoreSettings(1, 3600))
    for number in range(100):
        states.keep("k", turn(number, 100_000), {"id": number}, "", float(number))
    assert 5 < len(states) < 12 and states._bytes <= 1_048_576
    assert states.chain("k", "resp_99", 100.0) is not None and states.chain("k", "resp_0", 100.0) is None
    states.keep("k", turn(1000, 2_000_000), {}, "", 101.0)
    assert states.chain("k", "resp_1000", 101.0) is None and len(states) > 5


def test_a_chain_is_kept_as_a_whole_or_not_at_all() -> None:
    states = States(StoreSettings(1, 100))
    states.keep("k", turn(0), {}, "", 0.0)
    states.keep("k", turn(1), {}, "resp_0", 50.0)
    assert [one.id for one in states.chain("k", "resp_1", 99.0) or ()] == ["resp_0", "resp_1"]
    assert [one.id for one in states.chain("k", "resp_0", 190.0) or ()] == ["resp_0"]
    states.delete("k", "resp_0")
    assert states.chain("k", "resp_1", 190.0) is None
    assert states.chain("other", "resp_1", 190.0) is None


def test_a_chain_that_leads_back_to_itself_ends() -> None:
    states = States(StoreSettings(1, 100))
    states.keep("k", turn(0), {}, "resp_1", 0.0)
    states.keep("k", turn(1), {}, "resp_0", 0.0)
    assert states.chain("k", "resp_1", 1.0) is None
