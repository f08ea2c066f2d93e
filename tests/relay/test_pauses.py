"""A service that pauses in a long search is asked to go on, and the client gets one answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import LAST, STREAM_HEAD, WIRES, Step, anthropic_event, ask, behind, http, proxy, upstream

USE = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "moons"}}
PAGE = {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "sealed"}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [PAGE]}
ASKED: dict[str, dict[str, Any]] = {
    "openai-chat": {**WIRES["openai-chat"].ask, "web_search_options": {}},
    "openai-responses": {**WIRES["openai-responses"].ask, "tools": [{"type": "web_search"}]},
    "gemini": {**WIRES["gemini"].ask, "tools": [{"googleSearch": {}}]},
}
ROUNDS: list[tuple[list[dict[str, Any]], str]] = [
    ([{"type": "text", "text": "Let me see."}, USE], "pause_turn"),
    ([RESULT, {"type": "text", "text": " Two."}], "end_turn"),
]


def said(content: list[dict[str, Any]], stop: str, stream: bool) -> list[Step]:
    usage = {"input_tokens": 10, "output_tokens": 2}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "usage": usage}
    if not stream:
        return [http(200, {**head, "content": content, "stop_reason": stop, "stop_sequence": None})]
    out = anthropic_event("message_start", message={**head, "content": []})
    for index, block in enumerate(content):
        out += anthropic_event("content_block_start", index=index, content_block=block)
        out += anthropic_event("content_block_stop", index=index)
    out += anthropic_event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage)
    return [STREAM_HEAD, out + anthropic_event("message_stop") + LAST]


def script(stream: bool, rounds: list[tuple[list[dict[str, Any]], str]]) -> list[list[Step]]:
    return [said(content, stop, stream) for content, stop in rounds]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", list(ASKED))
def test_the_client_gets_one_answer(client: str, stream: bool) -> None:
    wire = WIRES[client]
    path = wire.stream_path if stream else wire.path
    body = {**ASKED[client], **(wire.options if stream else {})}
    body = {**body, "stream": True} if stream and client != "gemini" else body
    with upstream(*script(stream, ROUNDS)) as up, proxy(behind(up, "anthropic", prompt_cache="off")) as served:
        answer = ask(served.port, path, body)
        state = ask(served.port, "/status", method="GET").json
    assert answer.status == 200, answer
    text = answer.body.decode()
    assert "Let me see." in text and "Two." in text and "pause" not in text
    first, second = (one.json for one in up.seen)
    assert second["messages"][-1] == {"role": "assistant", "content": ROUNDS[0][0]}
    assert second["messages"][:-1] == first["messages"] and second["tools"] == first["tools"]
    assert "pause" not in answer.headers.get("x-ccproxy-dropped", "")
    assert state["models"][0]["input_tokens"] == 20 and state["models"][0]["output_tokens"] == 4
    if client == "openai-responses" and not stream:
        before, call, behind_it = answer.json["output"]
        assert (before["type"], call["type"], behind_it["type"]) == ("message", "web_search_call", "message")
        assert call["action"]["query"] == "moons"
        assert call["action"]["sources"] == [{"type": "url", "url": "https://a.example"}]
    if stream:
        assert text.count("response.web_search_call.completed") in (0, 2)
        assert text.count("response.completed") in (0, 2) and text.count("[DONE]") in (0, 1)


QUERIES = {"srvtoolu_1": "moons", "srvtoolu_2": "suns"}
USES = [{**USE, "id": name, "input": {"query": query}} for name, query in QUERIES.items()]
RESULTS = [{**RESULT, "tool_use_id": name, "content": [{**PAGE, "url": f"https://{name}"}]} for name in QUERIES]
TEXT = {"type": "text", "text": "Two."}
OVER_PAUSES: dict[str, list[list[dict[str, Any]]]] = {
    "two that both wait": [USES, [*RESULTS, TEXT]],
    "the second is found first": [USES, [*reversed(RESULTS), TEXT]],
    "one is found at once": [[USES[0], USES[1], RESULTS[0]], [RESULTS[1], TEXT]],
    "the second is found in the round of the first": [[*USES, RESULTS[1]], [RESULTS[0], TEXT]],
    "the second is found before the first": [[USES[0]], [USES[1], RESULTS[1]], [RESULTS[0], TEXT]],
    "the first is found behind the second": [[USES[0]], [USES[1], *RESULTS, TEXT]],
    "a round that only finds": [[USES[0]], [RESULTS[0]], [USES[1], RESULTS[1], TEXT]],
    "a round that only begins": [[USES[0]], [USES[1]], [*RESULTS, TEXT]],
    "a round without a word": [USES, [], [*RESULTS, TEXT]],
    "a pause for each": [[USES[0]], [RESULTS[0], USES[1]], [RESULTS[1], TEXT]],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", OVER_PAUSES)
def test_a_search_over_a_pause_is_one(what: str, stream: bool) -> None:
    *paused, last = OVER_PAUSES[what]
    rounds = [*((content, "pause_turn") for content in paused), (last, "end_turn")]
    with upstream(*script(stream, rounds)) as up, proxy(behind(up, "anthropic", prompt_cache="off")) as served:
        answer = ask(served.port, "/v1/responses", {**ASKED["openai-responses"], "stream": stream})
        output = completed(answer.body)["output"] if stream else answer.json["output"]
        calls = [item for item in output if item["type"] == "web_search_call"]
        assert [(call["action"]["query"], call["action"]["sources"]) for call in calls] == [
            (query, [{"type": "url", "url": f"https://{name}"}]) for name, query in QUERIES.items()
        ]
        # They return to the service as they were, each with its result.
        answered = completed(answer.body) if stream else answer.json
        ask(served.port, "/v1/responses", {**ASKED["openai-responses"], "previous_response_id": answered["id"]})
    returned = [block for message in up.seen[-1].json["messages"][:-1] for block in message["content"]]
    assert [block for block in returned if "tool" in block["type"]] == [USES[0], RESULTS[0], USES[1], RESULTS[1]]


def test_a_search_that_finds_nothing_over_a_pause() -> None:
    rounds = [([USE], "pause_turn"), ([TEXT], "end_turn")]
    with upstream(*script(True, rounds)) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/responses", {**ASKED["openai-responses"], "stream": True})
    call, message = completed(answer.body)["output"]
    assert call["action"]["query"] == "moons" and message["content"][0]["text"] == "Two."


def completed(body: bytes) -> Any:
    """The response that a stream ends with."""
    return json.loads(body.decode().rpartition("data: ")[2])["response"]


def test_what_was_said_returns_unchanged() -> None:
    """Also where the client's format puts something between two thoughts."""
    thoughts = [{"type": "thinking", "thinking": text, "signature": f"c2ln{text}"} for text in ("one", "two")]
    content = [thoughts[0], USE, RESULT, thoughts[1], {"type": "text", "text": "a"}]
    body = {**ASKED["openai-chat"], "stream": True}
    with upstream(*script(True, [(content, "pause_turn"), ROUNDS[1]])) as up:
        with proxy(behind(up, "anthropic", prompt_cache="off")) as served:
            assert ask(served.port, "/v1/chat/completions", body).status == 200
    assert up.seen[1].json["messages"][-1]["content"] == content


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_of_the_clients_tool_waits_for_the_client(stream: bool) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    body = {**ASKED["openai-chat"], "tools": [function], "stream": stream}
    with (
        upstream(*script(stream, [([USE, RESULT, call], "pause_turn")])) as up,
        proxy(behind(up, "anthropic")) as served,
    ):
        answer = ask(served.port, "/v1/chat/completions", body)
    assert len(up.seen) == 1 and b'"finish_reason":"tool_calls"' in answer.body.replace(b" ", b"")


def test_it_is_asked_to_go_on_five_times() -> None:
    endless: list[tuple[list[dict[str, Any]], str]] = [([{"type": "text", "text": "on "}], "pause_turn")]
    with upstream(*script(False, endless)) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/chat/completions", ASKED["openai-chat"])
    assert len(up.seen) == 6
    assert answer.json["choices"][0]["finish_reason"] == "stop"
    assert answer.headers["x-ccproxy-dropped"] == "answer.pause_turn"


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_on_the_way_is_told(stream: bool) -> None:
    error = http(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "no more"}})
    rounds = script(stream, ROUNDS[:1])
    with upstream(*rounds, [error]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/chat/completions", {**ASKED["openai-chat"], "stream": stream})
    assert answer.status == (200 if stream else 400)
    assert "no more" in answer.body.decode() and "[DONE]" not in answer.body.decode()


@pytest.mark.parametrize("client", list(ASKED))
@pytest.mark.parametrize("streams", [(False, False), (False, True), (True, False)])
def test_a_stream_for_which_the_service_says_a_round_in_one_piece(streams: tuple[bool, bool], client: str) -> None:
    rounds = [said(content, stop, stream) for (content, stop), stream in zip(ROUNDS, streams, strict=True)]
    body = {**ASKED[client], **({"stream": True} if client != "gemini" else {})}
    with upstream(*rounds) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, WIRES[client].stream_path, body)
    assert answer.status == 200 and b"Let me see." in answer.body and b"Two." in answer.body, answer


def test_a_failure_before_the_client_has_heard_anything_is_a_status() -> None:
    error = http(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "no more"}})
    with upstream(said(*ROUNDS[0], False), [error]) as up, proxy(behind(up, "anthropic")) as served:
        answer = ask(served.port, "/v1/chat/completions", {**ASKED["openai-chat"], "stream": True})
    assert answer.status == 400 and "no more" in answer.body.decode()


def test_another_key_is_tried_where_the_client_has_heard_nothing() -> None:
    begun = [STREAM_HEAD, anthropic_event("message_start", message={"id": "msg_1", "usage": {}})]
    broken = [*begun, anthropic_event("error", error={"type": "api_error", "message": "no"}) + LAST]
    rounds = [said(*ROUNDS[0], False), broken, said(*ROUNDS[0], True), said(*ROUNDS[1], True)]
    keys = ["upstream-key-one", "upstream-key-two"]
    with upstream(*rounds) as up, proxy(behind(up, "anthropic", keys=keys)) as served:
        answer = ask(served.port, "/v1/responses", {**ASKED["openai-responses"], "stream": True})
    assert len(up.seen) == 4 and completed(answer.body)["output"][1]["action"]["query"] == "moons"


def test_who_speaks_the_format_goes_on_itself() -> None:
    asked = {**WIRES["anthropic"].ask, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    with upstream(*script(False, ROUNDS)) as up, proxy(behind(up, "anthropic")) as served:
        assert ask(served.port, "/v1/messages", asked).json["stop_reason"] == "pause_turn"
    assert len(up.seen) == 1
