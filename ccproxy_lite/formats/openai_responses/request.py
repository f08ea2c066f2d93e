"""OpenAI Responses: requests, read and written. Source: the SDK's ``types.responses.response_create_params``."""

from __future__ import annotations

from typing import Any

from ccproxy_lite.formats import openai, shape
from ccproxy_lite.formats.format import Outgoing, PathInfo, Target
from ccproxy_lite.formats.neutral import names, thinking
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import Output, Reasoning, Request, Text
from ccproxy_lite.formats.openai_responses.items import NAME, input_items, read_items, tools_within, write_items
from ccproxy_lite.formats.openai_responses.tools import (
    NAME_LIMITS,
    flat_names,
    read_choice,
    read_tools,
    write_choice,
    write_tools,
)

_KNOWN = frozenset(
    "model input instructions max_output_tokens tools tool_choice parallel_tool_calls reasoning text temperature top_p "
    "top_logprobs stream user safety_identifier prompt_cache_key service_tier".split()
)
_LEAST_TOKENS = 16
"""Fewer are refused by the service."""

# ---------------------------------------------------------------- reading


def read_request(body: shape.Object, path: PathInfo) -> Request:
    """What a Responses client asks. Raises ClientError."""
    items = input_items(body)
    tools = read_tools([*shape.objects(body, "tools", ""), *tools_within(items)])
    flat = flat_names(tools)
    leading, messages = read_items(items, lambda space, name: flat.get((space, name)) or _flat(space, name))
    instructions = shape.text(body, "instructions", "", "")
    own = {
        **shape.own_of(body, _KNOWN),
        **shape.own_of(shape.optional_object(body, "reasoning") or {}, _REASONING, "reasoning"),
        **shape.own_of(shape.optional_object(body, "text") or {}, frozenset(("format", "verbosity")), "text"),
    }
    if own.get("truncation") == "disabled":  # the default
        del own["truncation"]
    if path.action == "compact":
        own["compact"] = True
    return Request(
        model=shape.text(body, "model", ""),
        messages=messages,
        system=(*([Text(instructions, at="instructions")] if instructions else []), *leading),
        tools=tools,
        tool_choice=read_choice(body, flat),
        parallel_tools=shape.optional_bool(body, "parallel_tool_calls"),
        max_tokens=shape.optional_int(body, "max_output_tokens"),
        temperature=shape.optional_number(body, "temperature"),
        top_p=shape.optional_number(body, "top_p"),
        logprobs=shape.optional_int(body, "top_logprobs") or None,
        reasoning=_read_reasoning(body),
        output=_read_output(body),
        verbosity=shape.optional_text(shape.optional_object(body, "text") or {}, "verbosity", "text"),
        user=shape.optional_text(body, "safety_identifier") or shape.optional_text(body, "user"),
        cache_key=shape.optional_text(body, "prompt_cache_key"),
        service_tier=shape.optional_text(body, "service_tier"),
        stream=shape.optional_bool(body, "stream") or False,
        origin=NAME,
        own=own,
    )


def _flat(space: str, name: str) -> str:
    return f"{space}__{name}" if space else name


_REASONING = frozenset(("effort", "summary", "generate_summary"))


def _read_reasoning(body: shape.Object) -> Reasoning | None:
    setting = shape.optional_object(body, "reasoning")
    if not setting:
        return None
    effort = openai.effort(setting, "effort", "reasoning")
    summary = shape.optional_text(setting, "summary", "reasoning")
    summary = summary or shape.optional_text(setting, "generate_summary", "reasoning")
    if effort is None and summary is None:
        return None
    return Reasoning(effort or "auto", visible=summary not in (None, "none"), at="reasoning")


def _read_output(body: shape.Object) -> Output | None:
    form = shape.optional_object(shape.optional_object(body, "text") or {}, "format", "text")
    if form is None:
        return None
    match shape.text(form, "type", "text.format"):
        case "text":
            return None
        case "json_object":
            return Output()
        case "json_schema":
            return openai.output(form, "text.format")
        case _:
            raise shape.wrong("text.format.type", "text, json_object or json_schema")


# ---------------------------------------------------------------- writing


def write_request(request: Request, target: Target) -> Outgoing:
    """The request for a Responses upstream. Raises ClientError for what it must not leave out."""
    losses = Losses(request.origin, NAME, target.strict)
    losses.lose_own(request.own)
    request = losses.own_tools(request)
    body: dict[str, Any] = {"model": target.model}
    for part in request.system:
        losses.lose_own(part.own, part.at)
    instructions = [part.text for part in request.system if part.text]
    body["input"] = write_items(request, losses)
    if not body["input"]:  # a conversation of instructions only
        body["input"] = [{"type": "message", "role": "developer", "content": text} for text in instructions]
    elif instructions:
        body["instructions"] = "\n\n".join(instructions)
    if not body["input"]:
        raise losses.empty()
    tools = write_tools(request, losses)
    if tools:
        body["tools"] = tools
        if request.tool_choice is not None:
            body["tool_choice"] = write_choice(request.tool_choice, request)
        if request.parallel_tools is not None:
            body["parallel_tool_calls"] = request.parallel_tools
    _write_limits(body, request, target, losses)
    _write_reasoning(body, request, target, losses)
    _write_output(body, request)
    if request.user:
        body["safety_identifier"] = names.short_user(request.user, 64)
    if request.cache_key is not None:
        body["prompt_cache_key"] = request.cache_key
    body["store"] = False
    if request.service_tier is not None:
        if losses.is_kin:
            body["service_tier"] = request.service_tier
        else:
            losses.lose("service_tier")
    if request.stream:
        body["stream"] = True
    names_there = names.wire_names(request.tools, NAME_LIMITS)
    return Outgoing(body, tuple(losses.dropped), names_there)


def _write_limits(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    openai.write_sampling(body, request, target, losses)
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(request.max_tokens, _LEAST_TOKENS)
    for what in ("top_k", "seed", "logprobs"):
        if getattr(request, what) is not None:
            losses.lose(what)
    for what in ("stop", "frequency_penalty", "presence_penalty"):
        if getattr(request, what):
            losses.lose(what)
    if (request.candidates or 1) > 1:
        losses.lose("candidates")


def _write_reasoning(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    """The effort, a summary of the thoughts where the client wants to see them, and their sealed form to send back."""
    setting = request.reasoning
    if openai.is_openai_reasoning(target.model):
        body.setdefault("include", []).append("reasoning.encrypted_content")
    if setting is None:
        return
    effort = openai.openai_effort(setting, target.model)
    if openai.takes_no_effort(target):
        if thinking.effort_of(setting) != "none":
            losses.lose("reasoning", setting.at)
        return
    written: dict[str, Any] = {} if effort is None else {"effort": effort}
    visible = thinking.effort_of(setting) != "none" if setting.visible is None else setting.visible
    if visible and "no_reasoning_summary" not in target.quirks:
        written["summary"] = "auto"
    if written:
        body["reasoning"] = written


def _write_output(body: dict[str, Any], request: Request) -> None:
    text: dict[str, Any] = {}
    output = request.output
    if output is not None and output.schema is None:
        text["format"] = {"type": "json_object"}
    elif output is not None:
        text["format"] = {"type": "json_schema", **openai.write_output(output)}
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    if text:
        body["text"] = text


def counting_body(body: shape.Object, model: str) -> dict[str, Any]:
    """A request body as the counting endpoint accepts it. Source: ``input_token_count_params``."""
    kept = (
        "model input instructions tools tool_choice parallel_tool_calls reasoning text truncation previous_response_id "
        "conversation"
    ).split()
    return {**{key: value for key, value in body.items() if key in kept}, "model": model}
