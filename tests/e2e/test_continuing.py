"""OpenAI's own SDKs continue a conversation by its last response, over ten turns with tools, at services of every format."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from tests.billing import Service, served
from tests.loops import INSTRUCTIONS
from tests.loops import TOOLS as LOOP_TOOLS
from tests.support import behind, proxy

FOREIGN = ["anthropic", "openai-chat", "gemini"]
TURNS = 10
TOOLS: list[Any] = [
    {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, "strict": False}
    for name in ("read_file", "search_text")
]


def told(body: dict[str, Any]) -> str:
    """The conversation as the service has got it."""
    return json.dumps(body.get("messages") or body.get("contents"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", FOREIGN)
def test_the_openai_sdk(form: str, stream: bool) -> None:
    from openai import OpenAI

    service = Service(form, turns=TURNS)
    with served(service) as up, proxy(behind(up, form)) as proxied:
        client = OpenAI(base_url=f"{proxied.url}/v1", api_key="none-needed", max_retries=0)
        asked: Any = "Begin."
        previous: str | None = None
        for turn in range(TURNS):
            given: Any = {"model": "m", "input": asked, "tools": TOOLS, "instructions": INSTRUCTIONS}
            if stream:
                with client.responses.stream(previous_response_id=previous, **given) as events:
                    response: Any = events.get_final_response()
            else:
                response = client.responses.create(previous_response_id=previous, **given)
            calls = [item for item in response.output if item.type == "function_call"]
            assert bool(calls) == (turn < TURNS - 1), response
            asked = [
                {"type": "function_call_output", "call_id": call.call_id, "output": f"result of turn {turn}"}
                for call in calls
            ]
            previous = response.id
        last = told(up.seen[-1].json)
        assert all(f"result of turn {turn}" in last for turn in range(TURNS - 1)) and "Begin." in last
        assert len(up.seen) == TURNS and client.responses.retrieve(str(previous)).output_text == response.output_text
        items = client.responses.input_items.list(str(previous), order="asc").data
        assert [item.type for item in items] == ["function_call_output"] * len(items) and items
        client.responses.delete(str(previous))


@pytest.mark.parametrize("automatic", [False, True])
@pytest.mark.parametrize("form", FOREIGN)
def test_the_agents_sdk(form: str, automatic: bool) -> None:
    agents = pytest.importorskip("agents", reason="the Agents SDK is not installed")
    from openai import AsyncOpenAI

    names: list[str] = []

    def tool(name: str) -> Any:
        async def run(context: Any, arguments: str) -> str:
            names.append(name)
            return f"result {len(names)}"

        schema = {"type": "object", "properties": {}, "additionalProperties": True}
        return agents.FunctionTool(
            name=name, description=name, params_json_schema=schema, on_invoke_tool=run, strict_json_schema=False
        )

    async def converse(url: str) -> Any:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none-needed", max_retries=0) as client:
            model = agents.OpenAIResponsesModel(model="m", openai_client=client)
            tools = [tool(one["name"]) for one in LOOP_TOOLS]
            agent = agents.Agent(name="a", instructions=INSTRUCTIONS, model=model, tools=tools)
            most = {"max_turns": TURNS + 1}
            if automatic:
                return await agents.Runner.run(agent, "Begin.", auto_previous_response_id=True, **most)
            first = await agents.Runner.run(agent, "Begin.", **most)
            last = first.last_response_id
            return await agents.Runner.run(agent, "And again.", previous_response_id=last, **most)

    agents.set_tracing_disabled(True)
    with served(Service(form, turns=TURNS)) as up, proxy(behind(up, form)) as proxied:
        result = anyio.run(converse, proxied.url)
        assert result.final_output
        assert len(up.seen) == (TURNS if automatic else 2 * TURNS)
    last = told(up.seen[-1].json)
    assert "Begin." in last and "result 1" in last and (automatic or "And again." in last)
