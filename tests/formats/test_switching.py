"""A conversation that goes on with another service at every turn: nobody sees what only another can read."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo, ReplyInfo, Target
from ccproxy_lite.formats.neutral.events import Begin, End, Event, PartDelta, PartEnd, PartStart

TOOLS: dict[str, list[Any]] = {
    "anthropic": [{"name": "look_up", "input_schema": {"type": "object", "properties": {}}}],
    "openai-responses": [{"type": "function", "name": "look_up", "parameters": {"type": "object", "properties": {}}}],
    "openai-chat": [{"type": "function", "function": {"name": "look_up"}}],
    "gemini": [{"functionDeclarations": [{"name": "look_up"}]}],
}
TURNS = {"anthropic": "messages", "openai-responses": "input", "openai-chat": "messages", "gemini": "contents"}
MODELS = {
    "anthropic": "claude-opus-4-8",
    "openai-responses": "gpt-5.4",
    "openai-chat": "some-model",
    "gemini": "gemini-3-pro",
}
SEALS = {form: base64.b64encode(f"sealed by {form}!".encode()).decode() for form in FORMATS}
SENTINEL = "skip_thought_signature_validator"


def first(form: str) -> dict[str, Any]:
    """How a client of this format begins."""
    user: Any = {"role": "user", "parts": [{"text": "go"}]} if form == "gemini" else {"role": "user", "content": "go"}
    thinking: dict[str, Any] = {"thinking": {"type": "adaptive"}, "max_tokens": 4096} if form == "anthropic" else {}
    return {"model": "m", TURNS[form]: [user], "tools": TOOLS[form], **thinking}


def said(by: str, number: int) -> list[Event]:
    """A thought with its maker's seal, and a call."""
    seal = f"rs_{number}.{SEALS[by]}" if by == "openai-responses" else SEALS[by]
    thought = [PartStart("thinking"), PartDelta("hm"), PartEnd(seal if by != "openai-chat" else "", by)]
    call = [PartStart("tool", f"call_{number}", "look_up"), PartDelta("{}"), PartEnd()]
    return [Begin("id", "m"), *thought, *call, End("tool_use")]


def go_on(form: str, body: dict[str, Any], answer: Any, number: int) -> None:
    """What a client of this format adds to its history: the answer as it came, and the tool's result."""
    turns, call_id = body[TURNS[form]], f"call_{number}"
    if form == "anthropic":
        turns.append({"role": "assistant", "content": answer["content"]})
        turns.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": "found"}]})
    elif form == "openai-chat":
        turns.append(answer["choices"][0]["message"])
        turns.append({"role": "tool", "tool_call_id": call_id, "content": "found"})
    elif form == "openai-responses":
        turns += answer["output"]
        turns.append({"type": "function_call_output", "call_id": call_id, "output": "found"})
    else:
        turns.append(answer["candidates"][0]["content"])
        result = {"name": "look_up", "response": {"output": "found"}}
        turns.append({"role": "user", "parts": [{"functionResponse": result}]})


def sent(client: str, upstream: str, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The client's request as a neutral value, and as the upstream gets it."""
    form = FORMATS[client]
    request = form.read_request(body, PathInfo(model="m") if client == "gemini" else PathInfo())
    if client == upstream:
        return request, form.without_foreign(body) or body
    return request, FORMATS[upstream].write_request(request, Target(MODELS[upstream])).body


@pytest.mark.parametrize("client", FORMATS)
@pytest.mark.parametrize("order", list(itertools.permutations(FORMATS)), ids="-".join)
def test_every_order_of_services(client: str, order: tuple[str, ...]) -> None:
    """Once around and back again: each service sees its own seals, and no other's."""
    body, answered = first(client), list[str]()
    for number, upstream in enumerate((*order, *order)):
        request, asked = sent(client, upstream, json.loads(json.dumps(body)))
        text = json.dumps(asked)
        assert "ccp1." not in text and base64.b64encode(b"ccp1.").decode()[:6] not in text
        for form in FORMATS:
            seen = SEALS[form] in text
            had = form in answered and form == upstream and "openai-chat" not in (client, form)
            assert seen is had, f"turn {number}: {upstream} gets the seal of {form}: {seen}"
        if upstream == "gemini":
            calls = [part for turn in asked["contents"] for part in turn["parts"] if "functionCall" in part]
            extra = ("gemini",) if client == "gemini" else ()
            for part, maker in zip(calls, answered, strict=True):
                assert maker in extra or part.get("thoughtSignature") in (SENTINEL, SEALS["gemini"])
        assert text.count("found") == number
        answer = FORMATS[client].write_body(said(upstream, number), ReplyInfo(request, f"id{number}", 1))
        go_on(client, body, answer, number)
        answered.append(upstream)
