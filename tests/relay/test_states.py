"""Responses that are kept, so that clients of foreign services can continue them: chains, bounds, owners, endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from ccproxy_lite.config.model import StoreSettings
from ccproxy_lite.formats.format import Turn
from ccproxy_lite.relay.call import is_own_id, new_id
from ccproxy_lite.relay.states import Chain, States
from tests.support import WIRES, FakeClock, ask, behind, http, proxy, upstream

FOREIGN = ["anthropic", "openai-chat", "gemini"]
ASK: dict[str, Any] = {"model": "m", "input": "one"}


def texts(body: dict[str, Any]) -> str:
    """All that a foreign service was told, as one text."""
    return str(body.get("messages") or body.get("contents"))


def go_on(port: int, previous: str, text: str, **more: Any) -> Any:
    headers = {name: more.pop(name) for name in [*more] if name.startswith("x_")}
    body = {**ASK, "input": text, "previous_response_id": previous, **more}
    return ask(port, "/v1/responses", body, **headers)


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


FOUND = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "moons"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {
                "type": "web_search_result",
                "url": "https://e.x/",
                "title": "T",
                "encrypted_content": "SEALED",
                "page_age": None,
            }
        ],
    },
    {"type": "text", "text": "5"},
]


@pytest.mark.parametrize("stream", [False, True])
def test_a_search_returns_to_who_has_made_it(stream: bool) -> None:
    answer = {**WIRES["anthropic"].body, "content": FOUND}
    tools = {"tools": [{"type": "web_search"}]}
    with (
        upstream([http(200, answer)]) as up,
        upstream([http(200, WIRES["openai-responses"].body)]) as own,
    ):
        config = behind(up, "anthropic", prompt_cache="off")
        config["upstreams"]["own"] = behind(own, "openai-responses")["upstreams"]["up"]
        with proxy(config) as served:
            first = ask(served.port, "/v1/responses", {**ASK, **tools, "stream": stream, "model": "up/m"})
            assert "sealed" not in first.body.decode().lower()
            again = go_on(served.port, response_id(first), "two", model="up/m", x_ccproxy_strict="1", **tools)
            assert again.status == 200, again
            assert up.seen[1].json["messages"][1]["content"] == FOUND
            # To nobody else.
            assert go_on(served.port, response_id(first), "two", model="own/m", **tools).status == 200
    assert "sealed" not in str(own.seen[0].json).lower() and "web_search_call" not in str(own.seen[0].json["input"])


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


@pytest.mark.parametrize("wrong", [{"role": "user", "content": "SECRET"}, 5, True])
def test_odd_input_is_not_passed_over(wrong: Any) -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        first = ask(served.port, "/v1/responses", ASK).json
        answer = go_on(served.port, first["id"], "", input=wrong)
        assert answer.status == 400 and "input must be" in answer.json["error"]["message"]
    assert len(up.seen) == 1


def test_what_was_made_here_is_asked_of_nobody_else() -> None:
    """A service that ignores the id would answer without the history."""
    clock = FakeClock()
    with (
        upstream([http(200, WIRES["anthropic"].body)]) as foreign,
        upstream([http(200, WIRES["openai-responses"].body)]) as own,
    ):
        config = behind(foreign, "anthropic")
        config["upstreams"]["own"] = behind(own, "openai-responses")["upstreams"]["up"]
        config |= {"models": {"x": ["up/m", "own/m"]}, "responses_store": {"ttl_s": 60}}
        with proxy(config, clock=clock) as served:
            first = ask(served.port, "/v1/responses", {**ASK, "model": "x"}).json
            clock.time += 61
            assert go_on(served.port, first["id"], "two", model="x").status == 404
            for method in ("GET", "DELETE"):
                assert ask(served.port, f"/v1/responses/{first['id']}", method=method).status == 404
            assert own.seen == []
            # Another id may be the service's.
            assert go_on(served.port, "resp_theirs", "two", model="x").status == 200
            assert ask(served.port, "/v1/responses/resp_theirs", method="GET").status == 200
    assert own.seen[0].json["previous_response_id"] == "resp_theirs" and len(own.seen) == 2


@pytest.mark.parametrize(
    "path", ["/v1/responses/resp_x", "/api/provider/up/v1/responses/resp_x", "/v1/responses/resp_x/input_items"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_service_of_another_format_is_not_asked_for_responses(path: str, method: str) -> None:
    with upstream([http(200, {})]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, path, method=method)
    assert answer.status == 404 and 'response "resp_x" not found' in answer.json["error"]["message"]
    assert up.seen == []


@pytest.mark.parametrize("form", ["anthropic", "openai-chat"])
@pytest.mark.parametrize("more", [{"conversation": "c"}, {"prompt": {"id": "p"}}, {"background": True}])
def test_what_cannot_be_answered_is_not_counted(more: dict[str, Any], form: str) -> None:
    with upstream([http(200, {"input_tokens": 5})]) as up, proxy(behind(up, form)) as served:
        for path in ("/v1/responses", "/v1/responses/input_tokens"):
            answer = ask(served.port, path, {**ASK, **more})
            assert (answer.status, answer.json["error"]["param"]) == (400, next(iter(more)))
    assert up.seen == []


def test_what_is_too_large_to_be_kept_says_so() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        with proxy({**behind(up, "anthropic"), "responses_store": {"max_mb": 1}}) as served:
            first = ask(served.port, "/v1/responses", ASK).json
            large = ask(served.port, "/v1/responses", {**ASK, "input": "x" * 1_100_000}).json
            assert (first["store"], large["store"]) == (True, False)
            assert go_on(served.port, first["id"], "x" * 1_048_000).json["store"] is False
            state = ask(served.port, "/status", method="GET").json["kept_responses"]
            assert state["count"] == 1 and 0 < state["bytes"] < 10_000


def test_pages_of_items() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        same = [{"id": "msg_same", "type": "message", "role": "user", "content": str(number)} for number in range(12)]
        none = [{"id": None, "role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
        first = ask(served.port, "/v1/responses", {**ASK, "input": [*same, *none]}).json
        path = f"/v1/responses/{first['id']}/input_items"
        listed = ask(served.port, f"{path}?order=asc&limit=100", method="GET").json["data"]
        assert len({item["id"] for item in listed}) == 14
        assert listed[12]["content"] == [{"type": "output_text", "text": "a", "annotations": []}]
        assert {item["status"] for item in listed} == {"completed"}
        found: list[str] = []
        while page := ask(
            served.port, f"{path}?order=asc&limit=5" + (f"&after={found[-1]}" if found else ""), method="GET"
        ).json:
            found += [item["id"] for item in page["data"]]
            if not page["has_more"]:
                break
        assert found == [item["id"] for item in listed]
        for wrong in ("order=bogus", "after=unknown", f"limit={'9' * 5000}", "limit=0", "limit=101"):
            assert ask(served.port, f"{path}?{wrong}", method="GET").status == 400
        assert ask(served.port, f"/v1/responses/{first['id']}?stream=true", method="GET").status == 400


def test_what_cannot_be_kept_costs_no_answer() -> None:
    """A depth that can be read may be too deep to be written again."""
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        for depth in range(900, 1000, 5):
            deep = (
                '{"model":"m","input":[{"role":"user","content":"x","status":' + "[" * depth + "]" * depth + "}]}"
            ).encode()
            asked = len(up.seen)
            answer = ask(served.port, "/v1/responses", deep)
            assert answer.status == 200 or len(up.seen) == asked, answer


@pytest.mark.parametrize("store", ["false", 0, False])
def test_nothing_is_kept_that_the_client_does_not_want_kept(store: Any) -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        ask(served.port, "/v1/responses", {**ASK, "store": store})
        assert len(served.parts.relay.states) == 0


@pytest.mark.parametrize("to", ["anthropic", "openai-chat"])
def test_a_conversation_stays_on_its_key_and_in_its_cache(to: str) -> None:
    """From its first response on; other conversations take turns."""
    settings = {"keys": ["upstream-key-one", "upstream-key-two"], "quirks": ["prompt_cache_key"]}
    with upstream([http(200, WIRES[to].body)]) as up, proxy(behind(up, to, **settings)) as served:
        answer = ask(served.port, "/v1/responses", ASK).json
        ask(served.port, "/v1/responses", ASK)
        for number in range(4):
            answer = go_on(served.port, answer["id"], str(number)).json
        keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
    assert sum(key["sessions"] for key in keys) == 1, "what nobody continues is no session"
    first, other, *later = [
        (seen.header("x-api-key") or seen.header("authorization"), seen.json.get("prompt_cache_key"))
        for seen in up.seen
    ]
    assert other[0] != first[0] and set(later) == {first}
    assert (first[1] is not None) == (to == "openai-chat")


def test_a_response_whose_beginning_was_deleted() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        first = ask(served.port, "/v1/responses", ASK).json["id"]
        second = go_on(served.port, first, "and?").json["id"]
        ask(served.port, f"/v1/responses/{first}", method="DELETE")
        answer = go_on(served.port, second, "and?")
    assert answer.status == 404 and "continues a response that is no longer stored" in answer.json["error"]["message"]
    assert answer.json["error"]["code"] == "previous_response_not_found"


def test_what_was_asked_and_what_was_answered_have_ids_of_their_own() -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/responses", ASK).json
        items = ask(served.port, f"/v1/responses/{answer['id']}/input_items", method="GET").json["data"]
    assert not {item["id"] for item in items} & {item["id"] for item in answer["output"]}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt stored at another provider"),
        ({"previous_response_id": 5}, "previous_response_id must be a string"),
    ],
)
def test_what_only_the_provider_has_is_refused_with_its_reason(more: dict[str, Any], words: str) -> None:
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/responses", {**ASK, **more})
    assert answer.status == 400 and words in answer.json["error"]["message"], answer


def test_ids_are_known_as_ours() -> None:
    made = {new_id() for _ in range(100)}
    assert len(made) == 100 and all(is_own_id(f"resp_{one}") for one in made)
    assert not any(
        map(is_own_id, ("resp_x", f"resp_{'0' * 24}", "resp_68a0c7fe4d6c8193b2a1d7ae5b7c9f0101e2d3c4b5a69788"))
    )


# ---------------------------------------------------------------- the store alone


def test_a_reload_keeps_what_its_bounds_allow() -> None:
    states = States(StoreSettings(2, 3600))
    for number in range(10):
        states.keep("k", turn(number, 100_000), float(number))
    after = States(StoreSettings(1, 3600), states)
    after.forget(20.0)
    assert len(after) == 10 and after.chain("k", "resp_9", 20.0) is not None
    gone = States(StoreSettings(0, 3600), after)
    gone.forget(20.0)
    assert (len(gone), gone.bytes) == (0, 0)


def test_letters_of_all_scripts_take_their_bytes() -> None:
    states = States(StoreSettings(1, 3600))
    states.keep("k", Turn("resp_1", [{"content": "字" * 1000}], {"output": []}), 0.0)
    assert states.bytes < 3200


def turn(number: int, size: int = 10, previous: str = "") -> Turn:
    return Turn(f"resp_{number}", [{"role": "user", "content": "x" * size}], {"output": [{"n": number}]}, previous)


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    states = States(StoreSettings(1, 3600))
    for number in range(100):
        states.keep("k", turn(number, 100_000), float(number))
    assert 5 < len(states) < 12 and states.bytes <= 1_048_576
    assert states.chain("k", "resp_99", 100.0) is not None and states.chain("k", "resp_0", 100.0) is None
    states.keep("k", turn(1000, 2_000_000), 101.0)
    assert states.chain("k", "resp_1000", 101.0) is None and len(states) > 5


def ids(chain: Chain | None) -> list[str]:
    return [one.id for one in chain.turns] if chain is not None else []


def test_a_chain_is_there_as_a_whole_or_not_at_all() -> None:
    states = States(StoreSettings(1, 100))
    states.keep("k", turn(0), 0.0)
    states.keep("k", turn(1, previous="resp_0"), 50.0)
    assert ids(states.chain("k", "resp_1", 99.0)) == ["resp_0", "resp_1"]
    assert ids(states.chain("k", "resp_0", 190.0)) == ["resp_0"]
    states.delete("k", "resp_0")
    assert states.chain("other", "resp_1", 190.0) is None and len(states) == 1
    # What is left of it is still there to be read, and the answer is the same the next time.
    assert [states.chain("k", "resp_1", 190.0) for _ in range(2)] == [None, None]
    assert states.has("k", "resp_1") and states.get("k", "resp_1", 190.0) is not None


def test_a_chain_that_leads_back_to_itself_ends() -> None:
    states = States(StoreSettings(1, 100))
    states.keep("k", turn(0, previous="resp_1"), 0.0)
    states.keep("k", turn(1, previous="resp_0"), 0.0)
    assert states.chain("k", "resp_1", 1.0) is None
