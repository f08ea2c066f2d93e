"""Properties of every format: what was written is read again, and how a stream is cut does not matter."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace
from itertools import chain, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo, ReplyInfo, Target
from ccproxy_lite.formats.neutral.events import (
    Begin,
    End,
    Event,
    PartDelta,
    PartEnd,
    PartStart,
    Usage,
    WholePart,
    check,
    fold,
)
from ccproxy_lite.formats.neutral.request import (
    Image,
    Message,
    Output,
    Part,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    WebTool,
)
from ccproxy_lite.formats.neutral.turns import merged
from tests.conversions import read_stream

MODEL = "some-model"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(lambda text: f"x{text}y")
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
OBJECTS = st.dictionaries(NAMES, TEXTS | st.integers(-9, 9) | st.booleans() | st.lists(TEXTS, max_size=2), max_size=3)
SCHEMAS = st.dictionaries(
    NAMES, st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": "array", "items": {"type": "string"}}]),
    min_size=1, max_size=3,
).map(lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)[:1]})  # fmt: skip
PICTURES = st.binary(min_size=1, max_size=6).map(lambda raw: Image("image/png", base64.b64encode(raw).decode()))


def thoughts(form: str) -> st.SearchStrategy[list[Part]]:
    """A thought as an upstream of this format would have sealed it; Chat has no place for one."""
    if form == "openai-chat":
        return st.just([])
    value = {"openai-responses": "rs_1.c2ln"}.get(form, "c2lnbmVk")
    return st.lists(TEXTS.map(lambda text: Thinking(text, value, origin=form)), max_size=1)


@st.composite
def conversations(draw: st.DrawFn, form: str) -> tuple[Message, ...]:
    """Turns as every service accepts them: the user begins and ends, every call is answered."""
    turns: list[Message] = []
    for number in range(draw(st.integers(0, 3))):
        turns.append(Message("user", tuple(draw(st.lists(TEXTS.map(Text) | PICTURES, min_size=1, max_size=3)))))
        calls = [
            ToolCall(
                f"call_{number}_{n}", draw(NAMES), json.dumps(arguments, separators=(",", ":"), ensure_ascii=False)
            )
            for n, arguments in enumerate(draw(st.lists(OBJECTS, max_size=2)))
        ]
        turns.append(Message("assistant", (*draw(thoughts(form)), Text(draw(TEXTS)), *calls)))
        if calls:
            results = tuple(ToolResult(call.id, (Text(draw(TEXTS)),)) for call in calls)
            turns += [Message("user", results), Message("assistant", (Text(draw(TEXTS)),))]
    return (*turns, Message("user", (Text(draw(TEXTS)),)))


@st.composite
def requests(draw: st.DrawFn, form: str) -> Request:
    tools = tuple(Tool(name, draw(TEXTS), draw(SCHEMAS)) for name in draw(st.lists(NAMES, unique=True, max_size=2)))
    choice = draw(st.sampled_from([None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("none")]))
    maybe = draw(st.booleans())
    more: dict[str, Any] = {}
    if form in ("openai-chat", "gemini"):
        more |= {"seed": draw(st.none() | st.integers(0, 9)), "stop": tuple(draw(st.lists(TEXTS, max_size=3)))}
    if maybe and form != "anthropic":
        more["output"] = Output(draw(SCHEMAS), "response", False)
    return Request(
        MODEL,
        draw(conversations(form)),
        system=(Text(draw(TEXTS)),) if maybe else (),
        tools=tools,
        tool_choice=choice if tools else None,
        max_tokens=draw(st.integers(1024, 4096)),
        temperature=draw(st.none() | st.sampled_from([0.25, 0.5, 1])),
        top_p=draw(st.none() | st.sampled_from([0.25, 0.5])),
        origin=form,
        stream=draw(st.booleans()),
        **more,
    )


SAME = "system tool_choice max_tokens temperature top_p stop seed stream".split()


def bare(messages: tuple[Message, ...]) -> list[tuple[str, list[Any]]]:
    """Turns without what only one format knows of them."""
    return [(turn.role, [_bare(part) for part in turn.parts]) for turn in merged(messages)]


def _bare(part: Part) -> Any:
    if isinstance(part, ToolCall):
        return part.id, part.name, json.loads(part.arguments or "{}")
    if isinstance(part, ToolResult):
        return part.call_id, [_bare(inner) for inner in part.content]
    if isinstance(part, Thinking):
        return part.text, part.signature, part.origin
    return part


@pytest.mark.parametrize("form", FORMATS)
@given(st.data())
def test_what_was_written_is_read_again(form: str, data: st.DataObject) -> None:
    request = data.draw(requests(form))
    outgoing = FORMATS[form].write_request(replace(request, origin="another"), Target(MODEL))
    assert outgoing.dropped == ()
    path, _, query = FORMATS[form].write_path(MODEL, PathInfo(streams=request.stream)).partition("?")
    asked = FORMATS[form].read_path(path, query)
    assert asked is not None
    again = FORMATS[form].read_request(json.loads(json.dumps(outgoing.body)), asked)
    assert bare(again.messages) == bare(request.messages)
    assert [replace(tool, strict=None) for tool in again.tools if isinstance(tool, Tool)] == list(request.tools)
    for name in SAME:
        assert getattr(again, name) == getattr(request, name), name
    assert (again.output and again.output.schema) == (request.output and request.output.schema)


# ---------------------------------------------------------------- answers


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """What a model says: thoughts, of which some are only sealed, text and calls, in pieces."""
    events: list[Event] = [Begin("id", "m")]
    kinds = draw(st.lists(st.sampled_from(["thinking", "seal", "text", "tool"]), max_size=4))
    for number, kind in enumerate(kinds):
        is_thought = kind in ("thinking", "seal")
        start = PartStart("thinking" if is_thought else kind)  # type: ignore[arg-type]
        events.append(PartStart("tool", f"call_{number}", "look_up") if kind == "tool" else start)
        pieces = [json.dumps(draw(OBJECTS))] if kind == "tool" else draw(st.lists(TEXTS, max_size=3))
        events += [PartDelta(piece) for piece in pieces if kind != "seal"]
        events.append(PartEnd(*(("c2ln", "somewhere") if is_thought else ())))
    reason = draw(st.sampled_from(["end", "max_tokens", "refusal"])) if "tool" not in kinds else "tool_use"
    events.append(End(reason, Usage(draw(st.integers(0, 99)), draw(st.integers(0, 99)), draw(st.integers(0, 9)))))
    return events


def heard(parts: list[WholePart]) -> dict[str, Any]:
    """What a client makes of an answer; texts run together, thoughts may be one."""
    return {
        "text": "".join(part.text for part in parts if part.start.kind == "text"),
        "thoughts": "".join(part.text for part in parts if part.start.kind == "thinking").replace("\n\n", ""),
        "calls": [(p.start.id, p.start.name, json.loads(p.text or "{}")) for p in parts if p.start.kind == "tool"],
    }


def copied(events: list[Event]) -> list[Event]:
    """Writers may change an event that they are given."""
    return copy.deepcopy(events)


@pytest.mark.parametrize("form", FORMATS)
@given(answers(), st.integers(1, 40), st.booleans())
def test_an_answer_is_heard_as_it_was_said(form: str, events: list[Event], size: int, may_search: bool) -> None:
    """Whole and streamed, and whatever the cut of the bytes."""
    extra = {"stream_options": {"include_usage": True}}
    tools = (WebTool("web_search"),) if may_search else ()
    reply = ReplyInfo(Request("m", tools=tools, origin=form, extra=extra), "id", 1)
    said, end = fold(copied(events))
    body = FORMATS[form].write_body(copied(events), reply)
    whole = FORMATS[form].read_body(json.loads(json.dumps(body)), "s")
    writer = FORMATS[form].writer(reply)
    raw = b"".join(writer.write(event) for event in copied(events))
    streamed = read_stream(form, [raw])
    assert streamed == read_stream(form, [raw[i : i + size] for i in range(0, len(raw), size)])
    for back in (whole, streamed):
        assert check(back) == []
        parts, found = fold(back)
        assert heard(parts) == heard(said)
        assert isinstance(end, End) and isinstance(found, End)
        assert found.reason == end.reason
        assert found.usage is not None and end.usage is not None
        assert (found.usage.total_input, found.usage.output) == (end.usage.total_input, end.usage.output)


def squeezed(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gemini's parts with texts, and thoughts, as one that come in pieces; an empty text is none."""
    out: list[dict[str, Any]] = []
    for part in parts:
        is_more = bool(out) and "text" in part and "text" in out[-1] and "thoughtSignature" not in out[-1]
        if is_more and part.get("thought") == out[-1].get("thought") and ("thought" in part or part.keys() == {"text"}):
            out[-1] = {**out[-1], **part, "text": out[-1]["text"] + part["text"]}
        elif part != {"text": ""}:
            out.append(part)
    return out


PARTS: dict[str, list[Event]] = {
    "text": [PartStart("text"), PartDelta("a "), PartEnd()],
    "nothing": [PartStart("text"), PartEnd()],
    "thought": [PartStart("thinking"), PartDelta("b "), PartEnd("c2ln", "gemini")],
    "seal": [PartStart("thinking"), PartEnd("c2ln", "anthropic")],
    "call": [PartStart("tool", "call_1", "look_up"), PartDelta("{}"), PartEnd()],
}


@pytest.mark.parametrize("may_search", [False, True])
def test_gemini_says_all_in_the_same_order_whole_and_streamed(may_search: bool) -> None:
    """Signatures belong to what stands behind them, so no text passes one by."""
    reply = ReplyInfo(Request("m", tools=(WebTool("web_search"),) if may_search else (), origin="gemini"), "id", 1)
    for kinds in chain.from_iterable(product(PARTS, repeat=length) for length in range(1, 5)):
        events = [Begin("id", "m"), *(event for kind in kinds for event in PARTS[kind]), End("end", Usage(1, 1))]
        whole = FORMATS["gemini"].write_body(copied(events), reply)["candidates"][0]["content"]["parts"]
        writer = FORMATS["gemini"].writer(reply)
        lines = b"".join(writer.write(event) for event in copied(events)).decode().split("\n")
        chunks = [json.loads(line[6:])["candidates"][0] for line in lines if line.startswith("data: ")]
        assert squeezed(whole) == squeezed([part for chunk in chunks for part in chunk["content"]["parts"]]), kinds
