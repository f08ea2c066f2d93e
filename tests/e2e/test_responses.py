"""The official ``openai`` SDK as a Responses client, whose accumulator is strict about identity."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from tests.e2e.sdks import WEATHER, openai_client
from tests.support import CLOSE, WIRES, Proxy, behind, http, proxy, upstream

openai = pytest.importorskip("openai", reason="the openai SDK is not installed")

TOOLS = [{"type": "function", "name": "weather", "description": "The weather.", "parameters": WEATHER, "strict": False}]
PATCH = {"type": "custom", "name": "apply_patch", "description": "Changes files."}
SPACE = {"type": "namespace", "name": "city", "description": "About cities.", "tools": TOOLS}


def ask(served: Proxy, stream: bool, **more: Any) -> Any:
    body = {"model": "some-model", **more}
    client = openai_client(served)
    if not stream:
        return client.responses.create(**body)
    with client.responses.stream(**body) as events:
        return events.get_final_response()


def calls_of(answer: Any) -> list[Any]:
    return [item for item in answer.output if item.type == "function_call"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
class TestThroughTheEcho:
    def test_text(self, echoing: Proxy, stream: bool) -> None:
        answer = ask(echoing, stream, input="Grüße, 漢字 \u2028 🎉!")
        assert answer.output_text == "Grüße, 漢字 \u2028 🎉!"
        assert (answer.status, answer.model, answer.error) == ("completed", "some-model", None)
        assert answer.usage.input_tokens > 3 and answer.usage.output_tokens > 3

    def test_a_tool_loop(self, echoing: Proxy, stream: bool) -> None:
        turns: list[Any] = [
            {"role": "user", "content": 'call weather {"city": "Köln"} and call weather {"city": "Bonn"}'}
        ]
        first = ask(echoing, stream, input=turns, tools=TOOLS)
        calls = calls_of(first)
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [
            ("weather", {"city": "Köln"}),
            ("weather", {"city": "Bonn"}),
        ]
        assert len({call.call_id for call in calls}) == len({call.id for call in calls}) == 2
        turns += [item.model_dump(exclude_none=True) for item in first.output]
        turns += [
            {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny {n}"}
            for n, call in enumerate(calls)
        ]
        last = ask(echoing, stream, input=turns, tools=TOOLS)
        assert last.output_text == "The tool said: sunny 0\nsunny 1"

    def test_thinking_and_its_return(self, echoing: Proxy, stream: bool) -> None:
        reasoning = {"effort": "low", "summary": "auto"}
        first = ask(echoing, stream, input="hi", reasoning=reasoning, include=["reasoning.encrypted_content"])
        assert [item.type for item in first.output] == ["reasoning", "message"]
        assert first.output[0].summary[0].text == "The user said: hi"
        turns = [{"role": "user", "content": "hi"}]
        turns += [item.model_dump(exclude_none=True) for item in first.output]
        again = ask(echoing, stream, input=[*turns, {"role": "user", "content": "again"}], reasoning=reasoning)
        assert again.output_text == "again"

    def test_a_tool_of_a_namespace(self, echoing: Proxy, stream: bool) -> None:
        said = 'call weather {"city": "Bonn"} and call city__weather {"city": "Bonn"}'
        answer = openai_client(echoing).responses.create(model="m", input=said, tools=[SPACE], stream=False)
        call = calls_of(answer)[-1]
        assert (call.name, call.namespace) == ("weather", "city")
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        turns = [{"role": "user", "content": "go"}, call.model_dump(exclude_none=True), output]
        assert ask(echoing, False, input=turns, tools=[SPACE]).output_text == "The tool said: sunny"

    def test_structured_output(self, echoing: Proxy, stream: bool) -> None:
        schema = {**WEATHER, "additionalProperties": False}
        form = {"format": {"type": "json_schema", "name": "weather", "schema": schema, "strict": True}}
        answer = ask(echoing, stream, input='{"city": "Bonn"}', text=form)
        assert json.loads(answer.output_text) == {"city": "Bonn"}


def test_counting(echoing: Proxy) -> None:
    client = openai_client(echoing)
    assert client.responses.input_tokens.count(model="m", input="hello there").input_tokens > 1


def test_a_custom_tool_comes_back_as_one() -> None:
    """It goes out as a function, because the service knows nothing else."""
    call = {"id": "call_1", "name": "apply_patch", "input": {"input": "*** Begin"}, "type": "tool_use"}
    body = {**WIRES["anthropic"].body, "content": [call], "stop_reason": "tool_use"}
    with upstream([http(200, body)]) as up, proxy(behind(up, "anthropic")) as served:
        item = ask(served, False, input="go", tools=[PATCH]).output[0]
    assert (item.type, item.name, item.input) == ("custom_tool_call", "apply_patch", "*** Begin")
    assert up.seen[0].json["tools"][0]["input_schema"]["required"] == ["input"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_early_error_is_raised_and_a_late_one_ends_the_response(form: str) -> None:
    with upstream([http(429, {"error": {"message": "slow down"}})]) as up:
        with proxy({**behind(up, form), "retries": 0}) as served, pytest.raises(openai.RateLimitError, match="slow"):
            ask(served, True, input="hi")
    with upstream([*WIRES[form].begun, CLOSE]) as up:
        with proxy({**behind(up, form), "retries": 0}) as served:
            events = list(openai_client(served).responses.create(model="m", input="hi", stream=True))
    assert events[-1].type == "response.failed"
    assert len({event.response.id for event in events if hasattr(event, "response")}) == 1


@pytest.mark.parametrize("field", ["conversation", "background"])
def test_state_of_the_service_is_passed_on_or_refused(field: str) -> None:
    value = True if field == "background" else "resp_1"
    body = WIRES["openai-responses"].body
    with upstream([http(200, body)]) as up, proxy(behind(up, "openai-responses")) as served:
        openai_client(served).responses.create(model="m", input="hi", **{field: value})
    assert up.seen[0].json[field] == value
    with upstream([http(200, body)]) as up, proxy(behind(up, "gemini")) as served:
        with pytest.raises(openai.BadRequestError, match=field):
            openai_client(served).responses.create(model="m", input="hi", **{field: value})
    assert up.seen == []


def test_compacting_is_passed_on_or_refused() -> None:
    compacted = {"id": "cmp_1", "object": "response.compaction", "created_at": 1, "output": [], "usage": {}}
    with upstream([http(200, compacted)]) as up, proxy(behind(up, "openai-responses")) as served:
        assert openai_client(served).responses.compact(model="m", input="hi").id == "cmp_1"
    assert up.seen[0].head.startswith("POST /v1/responses/compact ")
    with upstream([http(200, compacted)]) as up, proxy(behind(up, "anthropic")) as served:
        with pytest.raises(openai.BadRequestError, match="compact"):
            openai_client(served).responses.compact(model="m", input="hi")
