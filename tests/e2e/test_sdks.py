"""The official SDKs are the judges: what they return through the proxy, over both formats, streaming and not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from tests.e2e.sdks import WEATHER, anthropic_client, openai_client, said
from tests.support import (
    ANTHROPIC_BODY,
    ANTHROPIC_END,
    ANTHROPIC_START,
    ANTHROPIC_TEXT,
    CHAT_BODY,
    CLOSE,
    GEMINI_TEXT,
    LAST,
    RESPONSES_START,
    RESPONSES_TEXT,
    STREAM_HEAD,
    Proxy,
    Scripted,
    anthropic_event,
    behind,
    chat_delta,
    http,
    proxy,
    response_event,
    sse,
    upstream,
)

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
openai = pytest.importorskip("openai", reason="the openai SDK is not installed")

PIXEL = base64.b64encode(b"\x89PNG not really").decode()
ANTHROPIC_TOOLS = [{"name": "weather", "description": "The weather.", "input_schema": WEATHER}]
CHAT_TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": WEATHER}}
]


def ask_anthropic(client: Any, stream: bool, **more: Any) -> Any:
    body = {"model": "some-model", "max_tokens": 4096, **more}
    if not stream:
        return client.messages.create(**body)
    with client.messages.stream(**body) as events:
        return events.get_final_message()


def ask_openai(client: Any, stream: bool, **more: Any) -> Any:
    body = {"model": "some-model", **more}
    if not stream:
        return client.chat.completions.create(**body)
    with client.chat.completions.stream(**body, stream_options={"include_usage": True}) as events:
        return events.get_final_completion()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
class TestThroughTheEcho:
    def test_anthropic_text(self, echoing: Proxy, stream: bool) -> None:
        message = ask_anthropic(anthropic_client(echoing), stream, messages=said("Grüße, 漢字 \u2028 🎉!"))
        assert message.content[0].text == "Grüße, 漢字 \u2028 🎉!"
        assert message.stop_reason == "end_turn"
        assert message.model == "some-model"
        assert message.usage.input_tokens > 3 and message.usage.output_tokens > 3

    def test_openai_text(self, echoing: Proxy, stream: bool) -> None:
        answer = ask_openai(openai_client(echoing), stream, messages=said("Grüße, 漢字 \u2028 🎉!"))
        assert answer.choices[0].message.content == "Grüße, 漢字 \u2028 🎉!"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.prompt_tokens > 3 and answer.usage.completion_tokens > 3

    def test_an_anthropic_tool_loop(self, echoing: Proxy, stream: bool) -> None:
        client = anthropic_client(echoing)
        turns = said('call weather {"city": "Köln"} and call weather {"city": "Bonn"}')
        first = ask_anthropic(client, stream, messages=turns, tools=ANTHROPIC_TOOLS)
        calls = [block for block in first.content if block.type == "tool_use"]
        assert first.stop_reason == "tool_use"
        assert [(call.name, call.input) for call in calls] == [
            ("weather", {"city": "Köln"}),
            ("weather", {"city": "Bonn"}),
        ]
        assert len({call.id for call in calls}) == 2
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": f"sunny in {call.input['city']}"}
            for call in calls
        ]
        turns += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}]
        turns += [{"role": "user", "content": results}]
        last = ask_anthropic(client, stream, messages=turns, tools=ANTHROPIC_TOOLS)
        assert last.content[0].text == "The tool said: sunny in Köln\nsunny in Bonn"

    def test_an_openai_tool_loop(self, echoing: Proxy, stream: bool) -> None:
        client = openai_client(echoing)
        turns = said('call weather {"city": "Köln"} and call weather {"city": "Bonn"}')
        first = ask_openai(client, stream, messages=turns, tools=CHAT_TOOLS)
        calls = first.choices[0].message.tool_calls
        assert first.choices[0].finish_reason == "tool_calls"
        assert [(call.function.name, json.loads(call.function.arguments)["city"]) for call in calls] == [
            ("weather", "Köln"),
            ("weather", "Bonn"),
        ]
        turns += [first.choices[0].message.model_dump(exclude_none=True)]
        turns += [{"role": "tool", "tool_call_id": call.id, "content": f"sunny {n}"} for n, call in enumerate(calls)]
        last = ask_openai(client, stream, messages=turns, tools=CHAT_TOOLS)
        assert last.choices[0].message.content == "The tool said: sunny 0\nsunny 1"

    def test_anthropic_thinking_and_its_return(self, echoing: Proxy, stream: bool) -> None:
        client = anthropic_client(echoing)
        thinking = {"type": "enabled", "budget_tokens": 1024}
        first = ask_anthropic(client, stream, messages=said("hi"), thinking=thinking)
        assert [block.type for block in first.content] == ["thinking", "text"]
        assert first.content[0].thinking == "The user said: hi"
        assert first.content[0].signature
        history = [block.model_dump(exclude_none=True) for block in first.content]
        turns = [*said("hi"), {"role": "assistant", "content": history}, *said("again")]
        assert ask_anthropic(client, stream, messages=turns, thinking=thinking).content[-1].text == "again"

    def test_openai_thinking(self, echoing: Proxy, stream: bool) -> None:
        answer = ask_openai(openai_client(echoing), stream, messages=said("hi"), reasoning_effort="high")
        assert answer.choices[0].message.reasoning_content == "The user said: hi"
        assert answer.choices[0].message.content == "hi"

    def test_images_and_structured_output(self, echoing: Proxy, stream: bool) -> None:
        schema = {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        }
        picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        turns = [{"role": "user", "content": [picture, {"type": "text", "text": '{"a": 1}'}]}]
        form = {"format": {"type": "json_schema", "schema": schema}}
        message = ask_anthropic(anthropic_client(echoing), stream, messages=turns, output_config=form)
        assert json.loads(message.content[0].text) == {"a": 1}
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        turns = [{"role": "user", "content": [image, {"type": "text", "text": '{"a": 1}'}]}]
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
        answer = ask_openai(openai_client(echoing), stream, messages=turns, response_format=wanted)
        assert json.loads(answer.choices[0].message.content) == {"a": 1}


def test_counting_and_models(echoing: Proxy) -> None:
    client = anthropic_client(echoing)
    assert client.messages.count_tokens(model="m", messages=said("hello there")).input_tokens > 1
    assert [model.id for model in client.models.list()] == ["echo", "echo-thinking"]
    assert client.models.retrieve("echo").id == "echo"
    assert [model.id for model in openai_client(echoing).models.list()] == ["echo", "echo-thinking"]
    assert openai_client(echoing).models.retrieve("echo").id == "echo"


def test_what_reaches_the_upstream() -> None:
    """Images, structured output, tools and limits, as the SDK sends them and as the other service gets them."""
    with upstream([http(200, CHAT_BODY)]) as up, proxy(behind(up, "openai-chat")) as served:
        picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
        ask_anthropic(
            anthropic_client(served), False, system="Be brief.", stop_sequences=["END"],
            messages=[{"role": "user", "content": [{"type": "text", "text": "look"}, picture]}],
            tools=ANTHROPIC_TOOLS, tool_choice={"type": "any", "disable_parallel_tool_use": True},
        )  # fmt: skip
    assert up.seen[0].json == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ]},
        ],
        "tools": CHAT_TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 4096,
        "stop": ["END"],
    }  # fmt: skip


# ---------------------------------------------------------------- errors, by what the SDK raises

STATUSES = [400, 401, 404, 429, 500]
RAISED = {
    400: "BadRequestError",
    401: "InternalServerError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("form", FORMATS)
def test_errors(form: str, status: int, stream: bool) -> None:
    """Of an upstream of any format, by what the SDKs for two of them raise."""
    kind = {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        500: "api_error",
    }[status]
    body: dict[str, Any] = {"error": {"type": kind, "message": "the upstream's own words"}}
    if form == "anthropic":
        body["type"] = "error"
    if form == "gemini":
        body = {"error": {"code": status, "message": "the upstream's own words", "status": GOOGLE[status]}}
    for module, ask, client in ((anthropic, ask_anthropic, anthropic_client), (openai, ask_openai, openai_client)):
        with upstream([http(status, body, retry_after="3")]) as up, proxy({**behind(up, form), "retries": 0}) as served:
            with pytest.raises(getattr(module, RAISED[status])) as caught:
                ask(client(served), stream, messages=said("hi"))
            assert "the upstream's own words" in str(caught.value)
            assert caught.value.status_code == (502 if status == 401 else status)
            assert caught.value.response.headers.get("retry-after") == (None if status == 401 else "3")


GOOGLE = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
}
LATE_CHAT: list[Any] = [
    STREAM_HEAD,
    chat_delta(role="assistant", content="hel"),
    sse({"error": {"message": "broke", "type": "server_error"}}) + LAST,
]
LATE_ANTHROPIC: list[Any] = [
    STREAM_HEAD,
    ANTHROPIC_START + ANTHROPIC_TEXT,
    anthropic_event("error", error={"type": "overloaded_error", "message": "broke"}) + LAST,
]
LATE_RESPONSES: list[Any] = [
    STREAM_HEAD,
    RESPONSES_START + RESPONSES_TEXT,
    response_event(
        "failed", response={"id": "resp_1", "status": "failed", "error": {"code": "server_error", "message": "broke"}}
    ),
]
LATE_GEMINI: list[Any] = [
    STREAM_HEAD,
    GEMINI_TEXT,
    sse({"error": {"code": 503, "message": "broke", "status": "UNAVAILABLE"}}) + LAST,
]
LATE = {
    "anthropic": LATE_ANTHROPIC,
    "openai-chat": LATE_CHAT,
    "openai-responses": LATE_RESPONSES,
    "gemini": LATE_GEMINI,
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("how", ["an error", "a cut"])
def test_a_failure_in_the_middle_is_raised(form: str, how: str) -> None:
    script = LATE[form] if how == "an error" else [*LATE[form][:-1], CLOSE]
    with upstream(script) as up, proxy({**behind(up, form), "retries": 0}) as served:
        for module, ask, client in ((anthropic, ask_anthropic, anthropic_client), (openai, ask_openai, openai_client)):
            with pytest.raises(module.APIError):
                ask(client(served), True, messages=said("hi"))


def test_the_sdks_own_retry_meets_the_truth() -> None:
    """``x-should-retry: false`` keeps the SDK from repeating what is pointless."""
    with upstream([http(401, {"error": {"message": "no"}})]) as up, proxy(behind(up, "openai-chat")) as served:
        client = anthropic_client(served, retries=2)
        with pytest.raises(anthropic.APIStatusError):
            ask_anthropic(client, False, messages=said("hi"))
    assert len(up.seen) == 1


# ---------------------------------------------------------------- usage


def test_usage_arithmetic() -> None:
    usage = {
        "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }  # fmt: skip
    with upstream([http(200, {**CHAT_BODY, "usage": usage})]) as up, proxy(behind(up, "openai-chat")) as served:
        found = ask_anthropic(anthropic_client(served), False, messages=said("hi")).usage
    assert (
        found.input_tokens,
        found.cache_read_input_tokens,
        found.cache_creation_input_tokens,
        found.output_tokens,
    ) == (30, 60, 10, 20)
    assert found.output_tokens_details.thinking_tokens == 5
    usage = {"input_tokens": 30, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 10, "output_tokens": 20}
    with upstream([http(200, {**ANTHROPIC_BODY, "usage": usage})]) as up, proxy(behind(up, "anthropic")) as served:
        found = ask_openai(openai_client(served), False, messages=said("hi")).usage
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (100, 20, 120)
    assert found.prompt_tokens_details.cached_tokens == 60


def test_late_usage_reaches_an_anthropic_stream() -> None:
    script: list[Any] = [
        STREAM_HEAD,
        chat_delta(role="assistant", content="hello"),
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        sse({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}) + sse("[DONE]") + LAST,
    ]
    with upstream(script) as up, proxy(behind(up, "openai-chat")) as served:
        message = ask_anthropic(anthropic_client(served), True, messages=said("hi"))
    assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 2)
    assert up.seen[0].json["stream_options"] == {"include_usage": True}


def test_interleaved_parallel_calls_reach_the_sdk_apart() -> None:
    def call(index: int, **function: str) -> bytes:
        return chat_delta(
            tool_calls=[
                {
                    "index": index,
                    "function": function,
                    **({"id": f"c{index}", "type": "function"} if "name" in function else {}),
                }
            ]
        )

    script: list[Any] = [
        STREAM_HEAD,
        chat_delta(role="assistant"),
        call(0, name="weather", arguments='{"ci'), call(1, name="weather", arguments='{"city":'),
        call(0, arguments='ty":"A"}'), call(1, arguments='"B"}'),
        sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}) + sse("[DONE]") + LAST,
    ]  # fmt: skip
    with upstream(script) as up, proxy(behind(up, "openai-chat")) as served:
        message = ask_anthropic(anthropic_client(served), True, messages=said("hi"), tools=ANTHROPIC_TOOLS)
    assert [(block.id, block.input) for block in message.content] == [("c0", {"city": "A"}), ("c1", {"city": "B"})]


def test_a_long_tool_name_is_shortened_and_restored() -> None:
    name = "mcp__server__" + "x" * 60

    def answer(up: Scripted) -> None:
        sent = up.seen[-1].json["tools"][0]["function"]["name"]
        assert len(sent) <= 64
        message = {"role": "assistant", "content": None, "tool_calls": [
            {"id": "functions.f:0", "type": "function", "function": {"name": sent, "arguments": "{}"}}
        ]}  # fmt: skip
        up.scripts[0][1:] = [
            http(200, {**CHAT_BODY, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
        ]

    with upstream([answer]) as up, proxy(behind(up, "openai-chat")) as served:
        client = anthropic_client(served)
        tools = [{"name": name, "input_schema": {"type": "object", "properties": {}}}]
        call = ask_anthropic(client, False, messages=said("go"), tools=tools).content[0]
        assert (call.name, call.id.replace("_", "").replace("-", "").isalnum()) == (name, True)
        turns = [*said("go"), {"role": "assistant", "content": [call.model_dump(exclude_none=True)]}]
        turns += [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "done"}]}]
        ask_anthropic(client, False, messages=turns, tools=tools)
    again = up.seen[1].json["messages"]
    assert again[1]["tool_calls"][0]["id"] == again[2]["tool_call_id"] == "functions.f:0"
    assert again[1]["tool_calls"][0]["function"]["name"] == up.seen[1].json["tools"][0]["function"]["name"]


def test_an_ending_is_an_ending() -> None:
    with (
        upstream([STREAM_HEAD, ANTHROPIC_START + ANTHROPIC_TEXT + ANTHROPIC_END + LAST]) as up,
        proxy(behind(up, "anthropic")) as served,
    ):
        assert ask_openai(openai_client(served), True, messages=said("hi")).choices[0].message.content == "hello"
