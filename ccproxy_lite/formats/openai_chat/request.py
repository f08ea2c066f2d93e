"""OpenAI Chat Completions: requests, read and written. Source: the SDK's ``types.chat.completion_create_params``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ccproxy_lite.formats import fields, openai
from ccproxy_lite.formats.format import Outgoing, PathInfo, Target
from ccproxy_lite.formats.neutral import names
from ccproxy_lite.formats.neutral.events import NOTHING, Extra
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    Effort,
    Output,
    Reasoning,
    Request,
    ServerTool,
    Tool,
    ToolChoice,
    WebTool,
)
from ccproxy_lite.formats.neutral.schema import as_function
from ccproxy_lite.formats.neutral.search import allows_search
from ccproxy_lite.formats.openai_caching import KEY, caching_of
from ccproxy_lite.formats.openai_chat.messages import NAME_LIMITS, read_messages, write_messages
from ccproxy_lite.formats.openai_chat.reasoning import NAME
from ccproxy_lite.formats.scalars import Scalars, identifier, integer, number, text, texts

SCALARS = Scalars(
    max_tokens=integer("max_tokens", "max_completion_tokens", "max_tokens"),
    temperature=number("temperature"),
    top_p=number("top_p"),
    top_k=integer("top_k"),
    stop=texts("stop"),
    seed=integer("seed"),
    frequency_penalty=number("frequency_penalty"),
    presence_penalty=number("presence_penalty"),
    candidates=integer("n"),
    verbosity=text("verbosity"),
    user=identifier("user", "safety_identifier", "user"),
    cache_key=text("prompt_cache_key"),
    service_tier=text("service_tier"),
)
_KNOWN = SCALARS.known_fields() | frozenset(
    "model messages stream tools tool_choice functions function_call parallel_tool_calls response_format "
    "reasoning_effort reasoning thinking logprobs top_logprobs web_search_options".split()
)
_PATHS = {
    **SCALARS.paths,
    "output": "response_format",
    "json_object": "response_format",
    "reasoning": "reasoning_effort",
    "parallel_tools": "parallel_tool_calls",
    "file.name": "file.filename",
    "web_tool.context_size": "{at}.search_context_size",
    "web_tool.location": "{at}.user_location",
}
_MAX_STOPS = 4
_GATEWAY = frozenset(("effort", "max_tokens", "enabled"))
_THINKING = frozenset(("type", "budget_tokens"))
_SEARCH = "web_search_options"
_SEARCH_MODELS = re.compile(r"(?:.*[/.:])?gpt-.*-search(?:-|\Z)")
"""They search with every request; others reject the options."""

# ---------------------------------------------------------------- reading


def read_request(body: fields.Object, path: PathInfo) -> Request:
    """What a Chat client asks. Raises ClientError."""
    system, messages = read_messages(body)
    extra = {
        **fields.extra_of(body, _KNOWN),
        **fields.extra_of(fields.optional_object(body, "reasoning") or {}, _GATEWAY, "reasoning"),
        **fields.extra_of(fields.optional_object(body, "thinking") or {}, _THINKING, "thinking"),
        **_extra_of_output(body),
    }
    if extra.get("modalities") == ["text"]:
        extra = {key: value for key, value in extra.items() if key != "modalities"}
    return Request(
        model=fields.text(body, "model", ""),
        messages=messages,
        system=system,
        tools=tuple(_read_tools(body)),
        tool_choice=_read_choice(body),
        parallel_tools=fields.optional_bool(body, "parallel_tool_calls"),
        **SCALARS.read(body),
        logprobs=_read_logprobs(body),
        reasoning=_read_reasoning(body),
        output=_read_output(body),
        stream=fields.optional_bool(body, "stream") or False,
        origin=NAME,
        extra=extra,
        paths=_PATHS,
    )


def _read_tools(body: fields.Object) -> Iterable[Tool | WebTool | ServerTool]:
    for tool, at in fields.objects(body, "tools", ""):
        match fields.text(tool, "type", at, "function"):
            case "function":
                inner = f"{at}.function"
                beside = fields.extra_of(tool, frozenset(("type", "function")))
                yield _read_function(fields.as_object(tool.get("function"), inner), inner, beside)
            case "custom":
                custom = fields.as_object(tool.get("custom"), f"{at}.custom")
                name = fields.text(custom, "name", f"{at}.custom")
                about = fields.text(custom, "description", f"{at}.custom", "")
                beside = fields.extra_of(tool, frozenset(("type", "custom")))
                extra = {**beside, **fields.extra_of(custom, frozenset(("name", "description", "format")))}
                grammar = _read_grammar(custom, f"{at}.custom")
                yield Tool(name, about, kind="custom", grammar=grammar, extra=extra, at=f"{at}.custom")
            case "web_search":  # as several gateways spell it
                yield _read_search(tool, at)
            case kind:
                yield ServerTool(kind, kind, dict(tool), at)
    # The predecessor of ``tools``, which old clients still send.
    for function, at in fields.objects(body, "functions", ""):
        yield _read_function(function, at)
    search = fields.optional_object(body, _SEARCH)
    if search is not None:
        yield _read_search(search, _SEARCH)


def _read_search(options: fields.Object, at: str) -> WebTool:
    return WebTool(
        "web_search",
        location=fields.location(options, "user_location", at),
        context_size=openai.context_size(options, at),
        extra=fields.extra_of(options, frozenset(("type", "search_context_size", "user_location"))),
        at=at,
    )


def _read_grammar(custom: fields.Object, at: str) -> tuple[str, str] | None:
    form = fields.optional_object(custom, "format", at) or {}
    if form.get("type", "text") == "text":
        return None
    inner = fields.as_object(form.get("grammar"), f"{at}.format.grammar")
    where = f"{at}.format.grammar"
    return fields.text(inner, "syntax", where), fields.text(inner, "definition", where)


def _read_function(function: fields.Object, at: str, beside: Extra = NOTHING) -> Tool:
    return Tool(
        fields.text(function, "name", at),
        fields.text(function, "description", at, ""),
        fields.optional_object(function, "parameters", at),
        fields.optional_bool(function, "strict", at),
        extra={**beside, **fields.extra_of(function, frozenset(("name", "description", "parameters", "strict")))},
        at=at,
    )


def _read_choice(body: fields.Object) -> ToolChoice | None:
    return openai.read_choice(body.get("tool_choice") or body.get("function_call"))  # the latter is the old name


def _read_logprobs(body: fields.Object) -> int | None:
    wanted = fields.optional_bool(body, "logprobs")
    # The number of alternatives counts only beside the switch.
    return (fields.optional_int(body, "top_logprobs") or 0) if wanted else None


def _read_reasoning(body: fields.Object) -> Reasoning | None:
    """``reasoning_effort``, or the spellings of gateways: ``reasoning.effort`` and ``thinking.type``."""
    effort, budget, at = openai.effort(body, "reasoning_effort"), None, "reasoning_effort"
    gateway, other = fields.optional_object(body, "reasoning"), fields.optional_object(body, "thinking")
    if gateway:
        at = at if effort else "reasoning"
        effort = effort or openai.effort(gateway, "effort", "reasoning")
        # OpenRouter: a budget in tokens, or a level, or a switch.
        budget = fields.optional_int(gateway, "max_tokens", "reasoning")
        if effort is None and fields.optional_bool(gateway, "enabled", "reasoning") is not None:
            effort = "auto" if gateway["enabled"] else "none"
    if other:
        at = at if effort else "thinking"
        # The spelling of GLM, Kimi and others, after Anthropic's.
        if other.get("type") == "disabled":
            effort = effort or "none"
        else:
            budget = fields.optional_int(other, "budget_tokens", "thinking")
            effort = effort or "auto"
    if effort is None and budget is None:
        return None
    level: Effort = effort or "auto"
    return Reasoning(level, budget if level == "auto" else None, at=at)


def _extra_of_output(body: fields.Object) -> Extra:
    form = fields.optional_object(body, "response_format") or {}
    at = "response_format.json_schema"
    inner = fields.optional_object(form, "json_schema", "response_format") or {}
    return {
        **fields.extra_of(form, frozenset(("type", "json_schema")), "response_format"),
        **fields.extra_of(inner, openai.OUTPUT, at),
    }


def _read_output(body: fields.Object) -> Output | None:
    form = fields.optional_object(body, "response_format")
    if form is None:
        return None
    match fields.text(form, "type", "response_format"):
        case "text":
            return None
        case "json_object":
            return Output()
        case "json_schema":
            at = "response_format.json_schema"
            return openai.output(fields.as_object(form.get("json_schema"), at), at)
        case _:
            raise fields.wrong("response_format.type", "text, json_object or json_schema")


# ---------------------------------------------------------------- writing


def write_request(request: Request, target: Target) -> Outgoing:
    """The request for a Chat upstream. Raises ClientError for what it must not leave out."""
    losses = Losses.of(request, NAME, target.strict)
    # Only the legacy endpoint's requests are written for a service of their own kind: it knows their other fields.
    own = request.extra if request.origin == NAME else NOTHING
    losses.lose_extra(request.extra if own is NOTHING else NOTHING)
    searches = "web_search" in target.quirks or _SEARCH_MODELS.match(target.model) is not None
    searches = searches and allows_search(request)  # it cannot be declared and forbidden
    request = losses.without_server_tools(request, ("web_search",) if searches else (), target.quirks)
    is_reasoning_model = openai.is_openai_reasoning(target.model)  # only these models accept custom tools
    caching = caching_of(request, target, losses, is_known=KEY in target.quirks)
    body: dict[str, Any] = {
        "model": target.model,
        "messages": write_messages(request, target, losses, caching),
        **{name: value for name, value in own.items() if name.isidentifier()},
    }
    _write_tools(body, request, losses, is_reasoning_model)
    for tool in request.web_tools:
        body[_SEARCH] = _write_search(tool, losses)
    SCALARS.write(body, _accepted_parameters(request, target, losses), losses)
    # OpenAI's reasoning models and its service reject the old name; other services only know that one.
    if "max_tokens" in body and (is_reasoning_model or "max_completion_tokens" in target.quirks):
        body["max_completion_tokens"] = body.pop("max_tokens")
    for_cache = caching.write(body)
    _write_reasoning(body, request, target, losses)
    _write_output(body, request)
    if request.stream:
        body["stream"] = True
        # Otherwise a stream has no usage.
        body["stream_options"] = {"include_usage": True}
    return Outgoing(
        body,
        losses.finish(),
        names.renamed_tools(request.tools, NAME_LIMITS),
        frozenset() if is_reasoning_model else names.custom_names(request.tools),
        for_cache,
    )


def _write_tools(body: dict[str, Any], request: Request, losses: Losses, is_reasoning_model: bool) -> None:
    written = []
    for tool in request.tools:
        if isinstance(tool, Tool):
            written.append(_write_tool(tool if is_reasoning_model else as_function(tool), losses))
    if not written:
        return
    body["tools"] = written
    if request.tool_choice is not None:
        body["tool_choice"] = _write_choice(request.tool_choice, request, is_reasoning_model)
    if request.parallel_tools is not None:
        body["parallel_tool_calls"] = request.parallel_tools


def _write_tool(tool: Tool, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(tool.extra, tool.at)
    written: dict[str, Any] = {"name": names.fit_name(tool.name, NAME_LIMITS)}
    if tool.description:
        written["description"] = tool.description
    if tool.kind == "custom":
        if tool.grammar is not None:
            syntax, definition = tool.grammar
            written["format"] = {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}
        return {"type": "custom", "custom": written}
    written["parameters"] = openai.as_parameters(tool.schema)
    if tool.strict is not None:
        # Strict mode requires closed objects with all properties required; others are rejected.
        written["strict"] = tool.strict and openai.is_strict(written["parameters"])
    return {"type": "function", "function": written}


def _write_search(tool: WebTool, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(tool.extra, tool.at)
    losses.lose_web_settings(tool, "allowed_domains", "blocked_domains", "max_uses")
    written: dict[str, Any] = {}
    if tool.context_size:
        written["search_context_size"] = tool.context_size
    if tool.location:
        written["user_location"] = {"type": "approximate", "approximate": dict(tool.location)}
    return written


def _write_choice(choice: ToolChoice, request: Request, is_reasoning_model: bool) -> Any:
    called = [name for name in choice.names if name not in request.web_names]
    if choice.mode == "none" or not choice.names:
        return choice.mode
    if not called:  # such a model always searches
        return "auto"
    custom = names.custom_names(request.tools) if is_reasoning_model else frozenset()
    allowed = []
    for name in called:
        kind = "custom" if name in custom else "function"
        allowed.append({"type": kind, kind: {"name": names.fit_name(name, NAME_LIMITS)}})
    # One forced tool has a form of its own.
    if choice.mode == "required" and len(allowed) == 1:
        return allowed[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": allowed}}


def _accepted_parameters(request: Request, target: Target, losses: Losses) -> dict[str, Any]:
    """The parameters, without those that the service or the model does not take. Raises ClientError (``Losses``)."""
    values = openai.accepted(request, target, losses)
    unsupported = [] if "top_k" in target.quirks else ["top_k"]
    if openai.is_openai_reasoning(target.model):
        unsupported.append("stop")
    if _SEARCH_MODELS.match(target.model):
        unsupported += ["temperature", "top_p", "frequency_penalty", "presence_penalty"]
    if values.get("candidates", 1) > 1:
        unsupported.append("candidates")
    for name in unsupported:
        if name in values:
            losses.lose_scalar(name, values.pop(name))
    if len(values.get("stop", ())) > _MAX_STOPS:
        losses.lose("stop.more")
        values["stop"] = request.stop[:_MAX_STOPS]
    return values


def _write_reasoning(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    if request.reasoning is None:
        return
    effort = openai.openai_effort(request.reasoning, target.model)
    if openai.takes_no_effort(target):
        if effort not in (None, "none"):
            losses.lose("reasoning", request.reasoning.at)
    elif effort is not None:
        body["reasoning_effort"] = effort


def _write_output(body: dict[str, Any], request: Request) -> None:
    output = request.output
    if output is None:
        return
    if output.schema is None:
        body["response_format"] = {"type": "json_object"}
        return
    body["response_format"] = {"type": "json_schema", "json_schema": openai.write_output(output)}


def with_effort(body: fields.Object, effort: Effort, target: Target) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A client's own body with another effort, in OpenAI's spelling; one that the model does not take is named."""
    changed = {key: value for key, value in body.items() if key != "reasoning_effort"}
    if openai.takes_no_effort(target):
        return changed, () if effort == "none" else ("effort",)
    wanted = openai.openai_effort(Reasoning(effort), target.model)
    return (changed if wanted is None else {**changed, "reasoning_effort": wanted}), ()
