"""OpenAI Responses: requests, read and written. Source: the SDK's ``types.responses.response_create_params``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ccproxy_lite.formats import fields, openai
from ccproxy_lite.formats.format import Outgoing, PathInfo, Target
from ccproxy_lite.formats.neutral import names, thinking, turns
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import Effort, Output, Reasoning, Request, Text, Tool, WebTool
from ccproxy_lite.formats.openai_caching import Caching, caching_of
from ccproxy_lite.formats.openai_responses import web
from ccproxy_lite.formats.openai_responses.items import (
    NAME,
    configured,
    input_items,
    read_items,
    tools_within,
    write_items,
)
from ccproxy_lite.formats.openai_responses.tools import (
    NAME_LIMITS,
    AnyTool,
    flat_names,
    read_choice,
    read_tools,
    write_choice,
    write_tools,
)
from ccproxy_lite.formats.scalars import Scalars, identifier, integer, number, text

SCALARS = Scalars(
    max_tokens=integer("max_output_tokens"),
    temperature=number("temperature"),
    top_p=number("top_p"),
    verbosity=text("text.verbosity"),
    user=identifier("safety_identifier", "safety_identifier", "user"),
    cache_key=text("prompt_cache_key"),
    service_tier=text("service_tier"),
)
_KNOWN = SCALARS.known_fields() | frozenset(
    "model input instructions tools tool_choice parallel_tool_calls reasoning top_logprobs stream".split()
)
_PATHS = {
    **SCALARS.paths,
    "messages": "input",
    "output": "text.format",
    "json_object": "text.format",
    "parallel_tools": "parallel_tool_calls",
    "logprobs": "top_logprobs",
    "file.name": "filename",
    **web.PATHS,
}
_TIERS = openai.TIERS | {"ultrafast"}
_MIN_TOKENS = 16
"""Fewer are rejected by the service."""

# ---------------------------------------------------------------- reading


def read_request(body: fields.Object, path: PathInfo) -> Request:
    """What a Responses client asks. Raises ClientError."""
    items = input_items(body)
    body = configured(body, items)
    tools = read_tools([*fields.objects(body, "tools", ""), *tools_within(items)])
    flat = flat_names(tools)
    leading, messages = read_items(items, lambda space, name: flat.get((space, name)) or _flat_name(space, name))
    instructions = fields.text(body, "instructions", "", "")
    extra = {
        **fields.extra_of(body, _KNOWN),
        **fields.extra_of(fields.optional_object(body, "reasoning") or {}, _REASONING, "reasoning"),
        **fields.extra_of(
            fields.optional_object(body, "text") or {}, SCALARS.known_fields("text") | {"format"}, "text"
        ),
    }
    form = fields.optional_object(fields.optional_object(body, "text") or {}, "format", "text") or {}
    extra |= fields.extra_of(form, openai.OUTPUT | {"type"}, "text.format")
    if extra.get("truncation") == "disabled":  # the default
        del extra["truncation"]
    fields.text(body, "previous_response_id", "", "")  # at most checked: what it refers to is in the input by now
    if path.action == "compact":
        extra["compact"] = True
    if "max_tool_calls" in extra:
        tools, limited = _limited(tools, extra["max_tool_calls"])
        extra = {name: value for name, value in extra.items() if name != "max_tool_calls" or not limited}
    return Request(
        model=fields.text(body, "model", ""),
        messages=messages,
        system=(*([Text(instructions, at="instructions")] if instructions else []), *leading),
        tools=tools,
        tool_choice=read_choice(body, flat),
        parallel_tools=fields.optional_bool(body, "parallel_tool_calls"),
        **SCALARS.read(body),
        logprobs=fields.optional_int(body, "top_logprobs") or None,
        reasoning=_read_reasoning(body),
        output=_read_output(body),
        stream=fields.optional_bool(body, "stream") or False,
        origin=NAME,
        extra=extra,
        paths=_PATHS,
    )


def _limited(tools: tuple[AnyTool, ...], most: Any) -> tuple[tuple[AnyTool, ...], bool]:
    """The tools, the web search with a limit, if it is the only one that the service runs; whether it is."""
    run_there = [tool for tool in tools if not isinstance(tool, Tool)]
    if len(run_there) != 1 or not isinstance(run_there[0], WebTool) or type(most) is not int:
        return tools, False
    return tuple(replace(tool, max_uses=most) if isinstance(tool, WebTool) else tool for tool in tools), True


def _flat_name(space: str, name: str) -> str:
    return f"{space}__{name}" if space else name


_REASONING = frozenset(("effort", "summary", "generate_summary"))


def _read_reasoning(body: fields.Object) -> Reasoning | None:
    setting = fields.optional_object(body, "reasoning")
    if not setting:
        return None
    effort = openai.effort(setting, "effort", "reasoning")
    summary = fields.optional_text(setting, "summary", "reasoning")
    summary = summary or fields.optional_text(setting, "generate_summary", "reasoning")
    if effort is None and summary is None:
        return None
    return Reasoning(effort or "auto", visible=summary not in (None, "none"), at="reasoning")


def _read_output(body: fields.Object) -> Output | None:
    form = fields.optional_object(fields.optional_object(body, "text") or {}, "format", "text")
    if form is None:
        return None
    match fields.text(form, "type", "text.format"):
        case "text":
            return None
        case "json_object":
            return Output()
        case "json_schema":
            return openai.output(form, "text.format")
        case _:
            raise fields.wrong("text.format.type", "text, json_object or json_schema")


# ---------------------------------------------------------------- writing


def write_request(request: Request, target: Target) -> Outgoing:
    """The request for a Responses upstream. Raises ClientError for what it must not leave out."""
    losses = Losses.of(request, NAME, target.strict)
    losses.lose_extra(request.extra)
    request = losses.without_server_tools(request, ("web_search",), target.quirks)
    body: dict[str, Any] = {"model": target.model}
    caching = caching_of(request, target, losses, is_known=True)
    body["input"] = write_items(request, target, losses, caching)
    _write_instructions(body, request, losses, caching)
    if not body["input"]:
        if not turns.says_nothing(request.messages):
            raise losses.empty()
        body["input"] = ""
    tools = write_tools(request, losses)
    if tools:
        body["tools"] = tools
        if request.tool_choice is not None:
            body["tool_choice"] = write_choice(request.tool_choice, request)
        if request.parallel_tools is not None:
            body["parallel_tool_calls"] = request.parallel_tools
    _write_web_settings(body, request, losses)
    for_cache = caching.write(body)
    _write_reasoning(body, request, target, losses)
    _write_output(body, request)
    values = openai.accepted(request, target, losses, _TIERS)
    if request.max_tokens is not None and request.max_tokens < _MIN_TOKENS:
        losses.lose("max_tokens")
        values["max_tokens"] = _MIN_TOKENS
    SCALARS.write(body, values, losses)
    # The client keeps the history; nothing has to be stored at the provider.
    body["store"] = False
    if request.stream:
        body["stream"] = True
    names_there = names.renamed_tools(request.tools, NAME_LIMITS)
    return Outgoing(body, losses.finish(), names_there, for_cache=for_cache)


def _write_web_settings(body: dict[str, Any], request: Request, losses: Losses) -> None:
    """What holds for the searches of the whole request: how many there may be, and that their sources are told."""
    for tool in request.web_tools:
        if len(request.web_tools) == 1 and tool.max_uses is not None:
            body["max_tool_calls"] = tool.max_uses  # counts what the service runs, not the client's functions
        else:
            losses.lose_web_settings(tool, "max_uses")
        body["include"] = list(web.INCLUDE)


def _write_instructions(body: dict[str, Any], request: Request, losses: Losses, caching: Caching) -> None:
    """The instructions; as a message where a part of them is marked for the cache."""
    parts = [part for part in request.system if part.text]
    for part in request.system:
        losses.lose_extra(part.extra, part.at)
    marks = caching.marked(parts)
    if any(marks) and body["input"]:
        content = [{"type": "input_text", "text": one.text, **mark} for one, mark in zip(parts, marks, strict=True)]
        body["input"].insert(0, {"type": "message", "role": "developer", "content": content})
    elif not body["input"]:  # a conversation of instructions only: alone they are rejected
        body["input"] = [{"type": "message", "role": "developer", "content": part.text} for part in parts]
    elif parts:
        body["instructions"] = "\n\n".join(part.text for part in parts)


def _write_reasoning(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    """The effort, a summary if the client wants to see the reasoning, and its encrypted form for the next request."""
    setting = request.reasoning
    # Without this, reasoning could not be sent back in the next request.
    if openai.is_openai_reasoning(target.model):
        body.setdefault("include", []).append("reasoning.encrypted_content")
    if setting is None:
        return
    effort = openai.openai_effort(setting, target.model)
    if openai.takes_no_effort(target):
        if thinking.effort_of(setting) != "none":
            losses.lose("reasoning", setting.at)
        return
    effort = _beside_search(effort) if request.web_tools else effort
    written: dict[str, Any] = {} if effort is None else {"effort": effort}
    visible = thinking.effort_of(setting) != "none" if setting.visible is None else setting.visible
    if visible and "no_reasoning_summary" not in target.quirks:
        written["summary"] = "auto"
    if written:
        body["reasoning"] = written


def _write_output(body: dict[str, Any], request: Request) -> None:
    output = request.output
    if output is not None and output.schema is None:
        body["text"] = {"format": {"type": "json_object"}}
    elif output is not None:
        body["text"] = {"format": {"type": "json_schema", **openai.write_output(output)}}


def counting_body(body: fields.Object, model: str) -> dict[str, Any]:
    """A request body as the counting endpoint accepts it. Source: ``input_token_count_params``."""
    kept = (
        "model input instructions tools tool_choice parallel_tool_calls reasoning text truncation previous_response_id "
        "conversation"
    ).split()
    return {**{key: value for key, value in body.items() if key in kept}, "model": model}


def with_effort(body: fields.Object, effort: Effort, target: Target) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A client's own body with another effort; how much of the reasoning it wants to see stays.

    An effort that the model does not take is named.
    """
    if openai.takes_no_effort(target):
        changed = {key: value for key, value in body.items() if key != "reasoning"}
        return changed, () if effort == "none" else ("effort",)
    setting = body["reasoning"] if isinstance(body.get("reasoning"), dict) else {}
    wanted = openai.openai_effort(Reasoning(effort), target.model)
    searches = any(web.is_search(fields.lenient(tool, "type")) for tool in fields.lenient_list(body, "tools"))
    wanted = _beside_search(wanted) if searches else wanted
    return ({**body, "reasoning": {**setting, "effort": wanted}} if wanted is not None else dict(body)), ()


def _beside_search(effort: str | None) -> str | None:
    """The least effort is rejected beside a search."""
    return "low" if effort == "minimal" else effort
