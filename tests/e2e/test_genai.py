"""The official ``google-genai`` SDK, whose parser of streams dies of anything but ``data: `` lines."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from tests.e2e.sdks import WEATHER, genai_client
from tests.support import CLOSE, WIRES, Proxy, behind, http, proxy, upstream

genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")
types, errors = genai.types, pytest.importorskip("google.genai.errors")

WEATHER_TOOL = {"function_declarations": [{"name": "weather", "description": "The weather.", "parameters": WEATHER}]}
THINKING = {"include_thoughts": True, "thinking_budget": 2048}


def config(**more: Any) -> Any:
    off = {"automatic_function_calling": {"disable": True}} if "tools" in more else {}
    return types.GenerateContentConfig(**more, **off)


def ask(served: Proxy, stream: bool, contents: Any, **more: Any) -> list[Any]:
    """The chunks of an answer; one, if it is whole."""
    models = genai_client(served).models
    asked = {"model": "some-model", "contents": contents, "config": config(**more)}
    return list(models.generate_content_stream(**asked)) if stream else [models.generate_content(**asked)]


def parts_of(chunks: list[Any]) -> list[Any]:
    return [part for chunk in chunks for part in chunk.candidates[0].content.parts]


def text_of(chunks: list[Any]) -> str:
    return "".join(part.text for part in parts_of(chunks) if part.text and not part.thought)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
class TestThroughTheEcho:
    def test_text(self, echoing: Proxy, stream: bool) -> None:
        chunks = ask(echoing, stream, "Grüße, 漢字 \u2028 🎉!")
        assert text_of(chunks) == "Grüße, 漢字 \u2028 🎉!"
        assert chunks[-1].candidates[0].finish_reason == "STOP"
        usage = chunks[-1].usage_metadata
        assert usage.prompt_token_count > 3 and usage.candidates_token_count > 3
        assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count

    def test_a_tool_loop(self, echoing: Proxy, stream: bool) -> None:
        """The SDK sends results without ids, in the order of the calls."""
        said = 'call weather {"city": "Köln"} and call weather {"city": "Bonn"}'
        turns = [types.Content(role="user", parts=[types.Part(text=said)])]
        chunks = ask(echoing, stream, turns, tools=[WEATHER_TOOL])
        calls = [part.function_call for part in parts_of(chunks) if part.function_call]
        assert [(call.name, call.args) for call in calls] == [
            ("weather", {"city": "Köln"}),
            ("weather", {"city": "Bonn"}),
        ]
        assert chunks[-1].candidates[0].finish_reason == "STOP"
        turns += [chunk.candidates[0].content for chunk in chunks]
        results = [
            types.Part.from_function_response(name="weather", response={"output": f"sunny {n}"})
            for n in range(len(calls))
        ]
        turns.append(types.Content(role="user", parts=results))
        assert text_of(ask(echoing, stream, turns, tools=[WEATHER_TOOL])) == "The tool said: sunny 0\nsunny 1"

    def test_thinking_and_its_return(self, echoing: Proxy, stream: bool) -> None:
        chunks = ask(echoing, stream, "hi", thinking_config=THINKING)
        thoughts = [part for part in parts_of(chunks) if part.thought]
        assert "".join(part.text for part in thoughts) == "The user said: hi"
        assert text_of(chunks) == "hi"
        turns = [types.Content(role="user", parts=[types.Part(text="hi")])]
        turns += [chunk.candidates[0].content for chunk in chunks]
        turns.append(types.Content(role="user", parts=[types.Part(text="again")]))
        assert text_of(ask(echoing, stream, turns, thinking_config=THINKING)) == "again"

    def test_structured_output(self, echoing: Proxy, stream: bool) -> None:
        form = {"response_mime_type": "application/json", "response_json_schema": WEATHER}
        assert json.loads(text_of(ask(echoing, stream, '{"city": "Bonn"}', **form))) == {"city": "Bonn"}
        schema = types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")})
        form = {"response_mime_type": "application/json", "response_schema": schema}
        assert json.loads(text_of(ask(echoing, stream, '{"city": "Bonn"}', **form))) == {"city": "Bonn"}

    def test_a_chat_remembers_its_turns(self, echoing: Proxy, stream: bool) -> None:
        """A turn whose last chunk has no parts would be forgotten."""
        chat = genai_client(echoing).chats.create(model="some-model")
        for word in ("one", "two"):
            answer = list(chat.send_message_stream(word)) if stream else [chat.send_message(word)]
            assert text_of(answer) == word
        roles = [content.role for content in chat.get_history(curated=True)]
        assert roles[0] == "user" and roles.count("user") == 2 and roles.count("model") >= 2


def test_counting_and_models(echoing: Proxy) -> None:
    client = genai_client(echoing)
    assert client.models.count_tokens(model="m", contents="hello there").total_tokens > 1
    assert [model.name for model in client.models.list()] == ["models/echo", "models/echo-thinking"]
    assert client.models.get(model="echo").name == "models/echo"


def test_a_picture_in_url_safe_base64_reaches_another_service() -> None:
    raw = b"\x89PNG\xfb\xff\xfe?>"
    with upstream([http(200, WIRES["anthropic"].body)]) as up, proxy(behind(up, "anthropic")) as served:
        ask(served, False, [types.Part.from_bytes(data=raw, mime_type="image/png"), "look"])
    block = up.seen[0].json["messages"][0]["content"][0]
    assert base64.b64decode(block["source"]["data"], validate=True) == raw


STATUSES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("form", FORMATS)
def test_errors(form: str, status: int, stream: bool) -> None:
    body = {"error": {"message": "the upstream's own words", **({"code": status} if form == "gemini" else {})}}
    with upstream([http(status, body)]) as up, proxy({**behind(up, form), "retries": 0}) as served:
        with pytest.raises(errors.APIError, match="the upstream's own words") as caught:
            ask(served, stream, "hi")
    assert caught.value.code == status
    if form != "gemini":
        assert caught.value.status == STATUSES[status]


@pytest.mark.parametrize("form", FORMATS)
def test_a_cut_in_the_middle_is_raised(form: str) -> None:
    with upstream([*WIRES[form].begun, CLOSE]) as up, proxy({**behind(up, form), "retries": 0}) as served:
        with pytest.raises(Exception, match=r"closed the connection before the response was complete") as caught:
            ask(served, True, "hi")
    assert caught.type.__name__ in ("ServerError", "APIError")
