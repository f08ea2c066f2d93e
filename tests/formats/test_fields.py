"""Every neutral field, through every pair: it arrives, or the table of losses names it."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import FORMATS, failures
from ccproxy_lite.formats.format import Outgoing, PathInfo, Progress, ReplyInfo, Target
from ccproxy_lite.formats.neutral.losses import FROM, TO, Losses
from ccproxy_lite.formats.neutral.request import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Output,
    Part,
    Reasoning,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from ccproxy_lite.formats.sse import Event, Parser
from tests.conversions import SMALLEST

PAIRS = [(a, b) for a in FORMATS for b in FORMATS if a != b]
PATHS = {name: FORMATS[name].read_request(SMALLEST[name], PathInfo()).paths for name in FORMATS}
MODEL = "some-model"
HELLO = (Message("user", (Text("hello"),)),)
TOOL = Tool("look_up", "Looks up.", {"type": "object", "properties": {"word": {"type": "string"}}})

FIELDS: dict[str, Any] = {
    "messages": HELLO,
    "system": (Text("Be brief."),),
    "tools": (TOOL,),
    "tool_choice": ToolChoice("required", ("look_up",)),
    "parallel_tools": False,
    "max_tokens": 77,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "stop": ("END",),
    "seed": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.25,
    "candidates": 2,
    "logprobs": 3,
    "reasoning": Reasoning("high"),
    "output": Output(
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
        "response",
        True,
    ),
    "verbosity": "low",
    "user": "somebody",
    "cache_key": "key",
    "service_tier": "auto",
    "stream": True,
}
NOT_ON_THE_WIRE = {"model", "origin", "extra", "paths"}
CONCEPTS = {
    "output": ("output", "json_object"),
    "reasoning": ("reasoning", "reasoning.conflict"),
    "stop": ("stop", "stop.more"),
}


def base(origin: str, **more: Any) -> Request:
    tools = (TOOL,) if {"tool_choice", "parallel_tools"} & more.keys() else ()
    return Request(
        MODEL,
        **{
            "messages": HELLO,
            "tools": tools,
            "max_tokens": None,
            "origin": origin,
            "paths": PATHS.get(origin, {}),
            **more,
        },
    )


def test_every_field_is_tested() -> None:
    assert {field.name for field in dataclasses.fields(Request)} == FIELDS.keys() | NOT_ON_THE_WIRE


@pytest.mark.parametrize(("origin", "target"), PAIRS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_arrives_or_is_named(field: str, origin: str, target: str) -> None:
    request = base(origin, **{field: FIELDS[field]})
    concepts = CONCEPTS.get(field, (field,))
    try:
        outgoing = FORMATS[target].write_request(request, Target(MODEL))
    except ClientError as error:
        assert any(TO[target][concept].action == "rejected" for concept in concepts if concept in TO[target])
        assert PATHS[origin].get(field, field) in error.message
        return
    back = again(target, outgoing, stream=request.stream)
    if arrived(field, back):
        return
    declared = [TO[target][concept] for concept in concepts if concept in TO[target]]
    assert declared, f"{field} is lost on the way to {target}, and nobody says so"
    if not any(loss.action == "ignored" for loss in declared):
        named = PATHS[origin].get(field, field)
        assert any(named in path for path in outgoing.dropped), (field, outgoing.dropped)


def again(target: str, outgoing: Outgoing, *, stream: bool = False) -> Request:
    """What was written, read again."""
    path, _, query = FORMATS[target].write_path(MODEL, PathInfo(streams=stream)).partition("?")
    asked = FORMATS[target].read_path(path, query)
    assert asked is not None, path
    return FORMATS[target].read_request(outgoing.body, asked)


def arrived(field: str, back: Request) -> bool:
    value = getattr(back, field)
    if field == "reasoning":
        return value is not None and value.effort != "none"
    if field == "output":
        return value is not None and value.schema == FIELDS["output"].schema
    if field == "tools":
        return value[0].name == "look_up" and value[0].schema == TOOL.schema
    return bool(value == FIELDS[field])


CALL = ToolCall("call_1", "look_up", '{"word":"x"}', at="messages[1].content[0]")
RESULT = ToolResult("call_1", (Text("found"),), at="messages[2].content[0]")
PARTS: dict[str, tuple[str, Part]] = {
    "text": ("user", Text("more")),
    "image": ("user", Image("image/png", "aGk=")),
    "image by url": ("user", Image(url="https://example.com/a.png")),
    "image by id": ("user", Image(file_id="file_1")),
    "an image of another type": ("user", Image("image/tiff", "aGk=")),
    "pdf": ("user", File("application/pdf", "aGk=", name="a.pdf")),
    "text file": ("user", File("text/plain", text="content of the file")),
    "pdf by url": ("user", File("application/pdf", url="https://example.com/a.pdf")),
    "file by id": ("user", File(file_id="file_1")),
    "another file": ("user", File("application/msword", "aGk=", name="a.doc")),
    "audio": ("user", Audio("aGk=", "wav")),
    "foreign": ("user", Foreign("executableCode", {"type": "executableCode", "executableCode": {"code": "1"}})),
    "video": ("user", Foreign("video", {"type": "video", "inlineData": {"mimeType": "video/mp4", "data": "aGk="}})),
    "signed thought": ("assistant", Thinking("hm", "c2ln", origin="anthropic")),
    "hidden thought": ("assistant", Thinking(redacted="aGk=", origin="anthropic")),
    "plain thought": ("assistant", Thinking("hm", origin="openai-chat")),
    "a thought of Responses": ("assistant", Thinking("hm", "rs_1.c2ln", origin="openai-responses")),
    "a signature of Gemini": ("assistant", Thinking("", "c2ln", origin="gemini")),
    "a thought of Gemini": ("assistant", Thinking("hm", "c2ln", origin="gemini")),
    "refusal": ("assistant", Refusal("I will not.")),
    "call": ("assistant", CALL),
    "failed result": ("user", dataclasses.replace(RESULT, is_error=True)),
}


@pytest.mark.parametrize(("origin", "target"), PAIRS)
@pytest.mark.parametrize("name", PARTS)
def test_a_part_arrives_or_is_named(name: str, origin: str, target: str) -> None:
    role, part = PARTS[name]
    part = dataclasses.replace(part, at="the.path")
    turns = [Message("user", (Text("hello"),)), Message("assistant", (Text("yes"), CALL)), Message("user", (RESULT,))]
    number = 1 if role == "assistant" else 2
    parts = (Text("yes"), part) if isinstance(part, ToolCall) else (*turns[number].parts, part)
    if isinstance(part, ToolResult):
        parts = (part,)
    turns[number] = Message(role, parts)  # type: ignore[arg-type]
    request = Request(MODEL, tuple(turns), tools=(TOOL,), origin=origin)
    try:
        outgoing = FORMATS[target].write_request(request, Target(MODEL))
    except ClientError as error:
        assert "the.path" in error.message
        return
    back = again(target, outgoing)
    found = [inner for message in back.messages for inner in message.parts]
    if not any(same(part, inner) for inner in found):
        assert any(path.startswith("the.path") for path in outgoing.dropped), (part, found)


def same(part: Part, found: Part) -> bool:
    """Whether a part says the same; formats without refusals or files of text say it as text."""
    if isinstance(part, Refusal) or (isinstance(part, File) and part.text):
        return (part.text in found.text) if isinstance(found, Text | Refusal | File) else False
    if isinstance(part, ToolResult) and isinstance(found, ToolResult):
        failed = found.is_error or str(getattr(found.content[0], "text", "")).startswith("Error: ")
        return found.call_id == part.call_id and failed == part.is_error
    if isinstance(part, Image | File) and part.file_id:
        return isinstance(found, Image | File) and found.file_id == part.file_id
    if isinstance(part, Foreign):
        return isinstance(found, Foreign) and found.type == part.type
    if isinstance(part, Thinking) and isinstance(found, Thinking):
        return (part.text, part.redacted) == (found.text, found.redacted)
    blank = {"at": "", "extra": {}}
    return type(part) is type(found) and dataclasses.replace(
        part, **{k: v for k, v in blank.items() if k in fields_of(part)}
    ) == dataclasses.replace(found, **{k: v for k, v in blank.items() if k in fields_of(found)})


def fields_of(part: Part) -> set[str]:
    return {field.name for field in dataclasses.fields(part)}


@pytest.mark.parametrize(("origin", "target"), PAIRS)
def test_a_providers_tool(origin: str, target: str) -> None:
    tool = ServerTool(
        "web_search_20260318", "web_search", {"type": "web_search_20260318", "name": "web_search"}, "tools[0]"
    )
    alone = Request(MODEL, HELLO, tools=(tool,), origin=origin)
    beside = dataclasses.replace(alone, tools=(tool, TOOL))
    with pytest.raises(ClientError, match=r"tools\[0\]"):
        FORMATS[target].write_request(alone, Target(MODEL))
    assert "tools[0]" in FORMATS[target].write_request(beside, Target(MODEL)).dropped


@pytest.mark.parametrize("target", FORMATS)
def test_strict_refuses_what_would_be_dropped(target: str) -> None:
    other = next(name for name in FORMATS if name != target)
    field = {"anthropic": "seed", "gemini": "verbosity"}.get(target, "top_k")
    request = base(other, **{field: FIELDS[field]})
    assert FORMATS[target].write_request(request, Target(MODEL)).dropped == (PATHS[other].get(field, field),)
    with pytest.raises(ClientError, match=field):
        FORMATS[target].write_request(request, Target(MODEL, strict=True))


def test_unknown_fields_of_the_client_are_named() -> None:
    losses = Losses("anthropic", "openai-chat")
    losses.lose_extra({"cache_control": {}, "brand_new": 1}, "messages[0]")
    assert losses.dropped == ["messages[0].brand_new"]


# ---------------------------------------------------------------- every documented field of a request

FIELDS_OF: dict[str, dict[str, Any]] = {
    "anthropic": {
        "system": "Be brief.", "tools": [{"name": "f", "input_schema": {"type": "object"}}], "stop_sequences": ["END"],
        "tool_choice": {"type": "none"}, "thinking": {"type": "enabled", "budget_tokens": 2048}, "stream": True,
        "output_config": {"effort": "low"}, "temperature": 0.5, "top_p": 0.5, "top_k": 5, "service_tier": "auto",
        "metadata": {"user_id": "somebody"}, "speed": "fast", "cache_control": {"type": "ephemeral"}, "container": "c_1",
        "inference_geo": "eu", "diagnostics": {"a": 1}, "user_profile_id": "p", "mcp_servers": [{"name": "s", "url": "u"}],
        "context_management": {"edits": [1]}, "compaction": {"a": 1}, "fallbacks": ["m"], "fallback_credit_token": "t",
        "thread": "t_1", "billing_policy": "b", "betas": ["b"], "workspace_id": "w",
        "output_format": {"type": "json_schema", "schema": {"type": "object"}}, "brand_new": "x",
    },
    "openai-chat": {
        "max_completion_tokens": 7, "max_tokens": 7, "temperature": 0.5, "top_p": 0.5, "frequency_penalty": 0.5,
        "presence_penalty": 0.5, "logit_bias": {"1": 2}, "seed": 3, "n": 2, "stop": "END", "stream": True,
        "stream_options": {"include_usage": True}, "tools": [{"type": "function", "function": {"name": "f"}}],
        "parallel_tool_calls": False, "functions": [{"name": "f"}], "response_format": {"type": "json_object"},
        "reasoning_effort": "high", "verbosity": "low", "modalities": ["text", "audio"], "audio": {"voice": "v"},
        "logprobs": True, "prediction": {"type": "content"}, "web_search_options": {"search_context_size": "low"},
        "moderation": {"model": "m"}, "user": "somebody", "safety_identifier": "somebody", "prompt_cache_key": "k",
        "prompt_cache_options": {"mode": "x"}, "prompt_cache_retention": "24h", "service_tier": "flex", "store": True,
        "metadata": {"a": "b"}, "top_k": 5, "brand_new": "x",
    },
    "openai-responses": {
        "instructions": "Be brief.", "max_output_tokens": 77, "max_tool_calls": 2, "top_logprobs": 2, "store": True,
        "tools": [{"type": "function", "name": "f", "parameters": {}}], "parallel_tool_calls": False, "stream": True,
        "reasoning": {"effort": "high"}, "text": {"verbosity": "low"}, "include": ["reasoning.encrypted_content"],
        "previous_response_id": "resp_1", "conversation": "conv_1", "temperature": 0.5, "top_p": 0.5,
        "truncation": "auto", "stream_options": {"include_obfuscation": True}, "background": True, "prompt": {"id": "p"},
        "context_management": [{"type": "compaction"}], "moderation": {"model": "m"}, "image": {"a": 1},
        "access_programs": ["a"], "background_options": {"a": 1}, "metadata": {"a": "b"}, "user": "somebody", "safety_identifier": "somebody",
        "prompt_cache_key": "k", "prompt_cache_options": {"mode": "x"}, "prompt_cache_retention": "24h",
        "service_tier": "flex", "client_metadata": {"a": "b"}, "brand_new": "x",
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]}, "safetySettings": [{"category": "c"}], "store": True,
        "tools": [{"functionDeclarations": [{"name": "f"}]}], "labels": {"a": "b"}, "serviceTier": "flex",
        "toolConfig": {"retrievalConfig": {"languageCode": "de"}}, "cachedContent": "cachedContents/1",
        "brandNew": "x",
        **{f"generationConfig.{name}": value for name, value in {
            "temperature": 0.5, "topP": 0.5, "topK": 5, "candidateCount": 2, "maxOutputTokens": 77, "seed": 3,
            "stopSequences": ["END"], "responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"},
            "responseJsonSchema": {"type": "object"}, "presencePenalty": 0.5, "frequencyPenalty": 0.5,
            "responseLogprobs": True, "responseModalities": ["AUDIO"], "speechConfig": {"a": 1},
            "imageConfig": {"a": 1}, "mediaResolution": "MEDIA_RESOLUTION_MEDIUM", "thinkingConfig": {"thinkingBudget": 2048},
            "continuationToken": "t", "responseFormat": {"a": 1}, "enableEnhancedCivicAnswers": True, "brandNew": "x",
        }.items()},
    },
}  # fmt: skip
NEUTRAL = {
    "anthropic": {"service_tier": "service_tier", "metadata": "user"},
    "openai-chat": {
        "service_tier": "service_tier", "prompt_cache_key": "cache_key", "user": "user", "safety_identifier": "user",
    },
    "openai-responses": {
        "service_tier": "service_tier", "prompt_cache_key": "cache_key", "user": "user", "safety_identifier": "user",
    },
    "gemini": {"serviceTier": "service_tier"},
}  # fmt: skip
"""What the tables call a field that may be left out in silence."""
CROSS = [
    pytest.param(origin, target, field, id=f"{field}-{origin}-{target}")
    for origin, fields in FIELDS_OF.items()
    for target in FORMATS
    for field in fields
    if origin != target
]


def converted(origin: str, target: str, body: dict[str, Any]) -> Outgoing:
    path = PathInfo(model="m") if origin == "gemini" else PathInfo()
    return FORMATS[target].write_request(FORMATS[origin].read_request(body, path), Target(MODEL))


@pytest.mark.parametrize(("origin", "target", "field"), CROSS)
def test_a_documented_field_arrives_or_is_named(origin: str, target: str, field: str) -> None:
    """By the tables, in each of the twelve directions between different formats."""
    holder, _, name = field.rpartition(".")
    value = FIELDS_OF[origin][field]
    smallest = SMALLEST[origin]
    if field in ("tool_choice", "parallel_tool_calls"):  # which say nothing without tools
        smallest = {**smallest, "tools": FIELDS_OF[origin]["tools"]}
    body = {**smallest, **({holder: {name: value}} if holder else {field: value})}
    without = converted(origin, target, smallest)
    try:
        outgoing = converted(origin, target, body)
    except ClientError as error:
        assert field in error.message or PATHS[origin].get(field, field) in error.message
        return
    if outgoing.body != without.body or (field == "stream" and target == "gemini"):  # whose paths say so
        return
    if any(field in path for path in outgoing.dropped):
        return
    silent = FROM[origin].get(field) or TO[target].get(NEUTRAL[origin].get(field, ""))
    if silent is None and isinstance(value, dict):
        silent = FROM[origin].get(f"{field}.{next(iter(value))}")
    assert silent is not None and silent.action == "ignored", f"{field} is lost on the way to {target}"


def test_the_fields_are_all_that_the_sdks_know() -> None:
    """A field that an SDK learns must be thought about: listed here, and in the tables if it is lost."""
    params = {
        "anthropic": ("anthropic.types.message_create_params", "MessageCreateParamsBase"),
        "openai-chat": ("openai.types.chat.completion_create_params", "CompletionCreateParamsBase"),
        "openai-responses": ("openai.types.responses.response_create_params", "ResponseCreateParamsBase"),
    }
    needed = {"model", "messages", "input", "max_tokens", "top_logprobs", "tool_choice", "function_call"}
    for origin, (module, name) in params.items():
        types = pytest.importorskip(module, reason="the SDK is not installed")
        known = set(getattr(types, name).__annotations__)
        missing = known - set(FIELDS_OF[origin]) - needed
        name = module.partition(".")[0]
        measured = {"anthropic": (2, 12), "openai": (3, 54)}[name]
        if missing and tuple(map(int, version(name).split(".")[:2])) > measured:
            pytest.skip(f"the table was made from {name} {measured}; this one knows more: {missing}")
        assert not missing, f"{origin}: {missing}"


# ---------------------------------------------------------------- nothing whatever raises anything but our own errors

JUNK = st.recursive(
    st.none()
    | st.just(5)
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from(
        [
            "",
            "text",
            "user",
            "tool_use",
            "data:,",
            "auto",
            "nan",
            "\u00b2",
            "message",
            "function_call",
            "reasoning",
            "model",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "type role content text id name input source messages tools function arguments delta index parts "
                    "functionCall functionResponse thoughtSignature inlineData output call_id summary encrypted_content"
                ).split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = [
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "stop", "max_tokens",
    "temperature", "metadata", "stream", "response_format", "reasoning_effort", "functions", "choices", "content", "usage",
    "error", "type", "index", "delta", "message", "content_block", "contents", "systemInstruction", "toolConfig",
    "generationConfig", "input", "instructions", "text", "reasoning", "output", "item", "output_index", "response",
    "candidates", "promptFeedback", "usageMetadata", "part", "status", "incomplete_details",
]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@given(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=6))
def test_any_request_is_read_or_refused(name: str, body: dict[str, Any]) -> None:
    try:
        request = FORMATS[name].read_request({"model": "m", "max_tokens": 1, **body}, PathInfo())
        for form in FORMATS.values():
            form.write_request(request, Target("m"))
    except ClientError as error:
        assert 400 <= error.status < 500


@pytest.mark.parametrize("name", FORMATS)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=5), max_size=5))
def test_any_stream_is_read_or_fails(name: str, chunks: list[dict[str, Any]]) -> None:
    from ccproxy_lite.formats.neutral.events import check
    from ccproxy_lite.jsontext import dumps

    reader, progress = FORMATS[name].reader("s"), Progress()
    events = []
    try:
        for chunk in chunks:
            event = Event(str(chunk.get("type") or ""), dumps(chunk))
            FORMATS[name].look(event, progress)
            events += reader.feed(event)
        events += reader.close()
    except UpstreamError:
        pass
    assert check(events) == []


@pytest.mark.parametrize("name", FORMATS)
@given(st.dictionaries(st.sampled_from(KEYS), JUNK, max_size=6), st.sampled_from([400, 401, 429, 500, 529]))
def test_any_answer_and_any_error_is_read_or_fails(name: str, body: dict[str, Any], status: int) -> None:
    from ccproxy_lite.formats.neutral.events import check

    failed = failures.read_error(status, body)
    assert failed.message and failed.status == status
    for form in FORMATS.values():
        assert 400 <= form.write_error(failed)[0] < 600
    try:
        events = FORMATS[name].read_body(body, "s")
    except UpstreamError:
        return
    assert check(events) == []
    reply = ReplyInfo(Request("m"), "id", 1)
    for form in FORMATS.values():
        writer = form.writer(reply)
        assert Parser().feed(b"".join(writer.write(event) for event in events)) or not events


def test_of_two_wrong_parameters_the_simple_one_is_named() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "x", "max_tokens": "y"}
    with pytest.raises(ClientError, match="max_tokens must be an integer"):
        FORMATS["openai-chat"].read_request(body, PathInfo())
