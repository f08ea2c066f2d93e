"""Gemini generateContent: requests, read and written. Source: the SDK's ``types.GenerateContentConfig`` and the REST
reference; both spellings are read, camelCase is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.format import Outgoing, PathInfo, Target
from ccproxy_lite.formats.gemini import models, schema, web
from ccproxy_lite.formats.gemini.contents import (
    NAME,
    NAME_LIMITS,
    camel,
    detail_of,
    read_contents,
    with_detail,
    write_contents,
)
from ccproxy_lite.formats.neutral import names, thinking
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    Effort,
    Output,
    Reasoning,
    Request,
    ServerTool,
    Text,
    Tool,
    ToolChoice,
    WebTool,
)
from ccproxy_lite.formats.neutral.schema import as_function, output_schema
from ccproxy_lite.formats.scalars import Scalars, integer, number, text, texts

SCALARS = Scalars(
    max_tokens=integer("generationConfig.maxOutputTokens"),
    temperature=number("generationConfig.temperature"),
    top_p=number("generationConfig.topP"),
    top_k=integer("generationConfig.topK"),
    stop=texts("generationConfig.stopSequences"),
    seed=integer("generationConfig.seed"),
    frequency_penalty=number("generationConfig.frequencyPenalty"),
    presence_penalty=number("generationConfig.presencePenalty"),
    candidates=integer("generationConfig.candidateCount", is_written=False),
    service_tier=text("serviceTier", is_written=False),
)
_KNOWN = SCALARS.known_fields() | frozenset(
    "contents systemInstruction tools toolConfig generateContentRequest model".split()
)
_CONFIG = SCALARS.known_fields("generationConfig") | frozenset(
    "responseMimeType responseSchema responseJsonSchema responseLogprobs logprobs thinkingConfig".split()
)
_PATHS = {
    **SCALARS.paths,
    "messages": "contents",
    "output": "generationConfig.responseMimeType",
    "json_object": "generationConfig.responseMimeType",
    "reasoning": "generationConfig.thinkingConfig",
    "logprobs": "generationConfig.responseLogprobs",
    "file.name": "inlineData.displayName",
    "web_tool.blocked_domains": "{at}.excludeDomains",
}
_MAX_STOPS = 5
_THINKING = frozenset(("includeThoughts", "thinkingBudget", "thinkingLevel"))
_CALLING = frozenset(("mode", "allowedFunctionNames"))

# ---------------------------------------------------------------- reading


def read_request(body: fields.Object, path: PathInfo) -> Request:
    """What a Gemini client asks; model and method stand in the path. Raises ClientError."""
    # The service and the SDKs accept snake_case as well.
    body = camel(body)
    # countTokens accepts a whole request in this wrapping.
    if path.action == "count" and "generateContentRequest" in body:
        body = fields.as_object(body["generateContentRequest"], "generateContentRequest")
    config = fields.optional_object(body, "generationConfig") or {}
    at = "generationConfig"
    calling = _function_calling_config(body)
    choice, strict = _read_choice(calling)
    messages, resolution = read_contents(body), fields.text(config, "mediaResolution", at, "")
    detail = detail_of(resolution)
    wants_logprobs = fields.optional_bool(config, "responseLogprobs", at)
    return Request(
        model=path.model or fields.text(body, "model", "", "").removeprefix("models/"),
        messages=with_detail(messages, detail) if detail else messages,
        system=tuple(_read_system(body)),
        tools=tuple(_read_tools(body, strict)),
        tool_choice=choice,
        **SCALARS.read(body),
        logprobs=(fields.optional_int(config, "logprobs", at) or 0) if wants_logprobs else None,
        reasoning=_read_reasoning(config),
        output=_read_output(config),
        stream=path.streams or False,
        origin=NAME,
        extra=_read_extra(body, config, calling),
        paths=_PATHS,
    )


def _read_extra(body: fields.Object, config: fields.Object, calling: fields.Object) -> Mapping[str, Any]:
    setting = fields.optional_object(config, "thinkingConfig", "generationConfig") or {}
    tool_config = fields.optional_object(body, "toolConfig") or {}
    system = body["systemInstruction"] if isinstance(body.get("systemInstruction"), dict) else {}
    extra = {
        **fields.extra_of(system, frozenset(("role", "parts")), "systemInstruction"),
        **fields.extra_of(body, _KNOWN),
        **fields.extra_of(config, _CONFIG, "generationConfig"),
        **fields.extra_of(setting, _THINKING, "generationConfig.thinkingConfig"),
        **fields.extra_of(calling, _CALLING, "toolConfig.functionCallingConfig"),
        **fields.extra_of(tool_config, frozenset(("functionCallingConfig",)), "toolConfig"),
    }
    # The defaults are no losses.
    if extra.get("generationConfig.responseModalities") == ["TEXT"]:
        del extra["generationConfig.responseModalities"]
    if detail_of(str(extra.get("generationConfig.mediaResolution"))):
        del extra["generationConfig.mediaResolution"]
    return extra


def _read_system(body: fields.Object) -> Iterable[Text]:
    value = body.get("systemInstruction")
    if isinstance(value, str):  # as the SDKs' users write it
        yield Text(value, at="systemInstruction")
        return
    instruction = fields.optional_object(body, "systemInstruction") or {}
    for part, at in fields.objects(instruction, "parts", "systemInstruction"):
        text = fields.text(part, "text", at, "")
        if text:
            yield Text(text, fields.extra_of(part, frozenset(("text", "thought"))), at)
        elif part.keys() - {"text"}:
            raise fields.wrong(at, "text")


def _function_calling_config(body: fields.Object) -> fields.Object:
    config = fields.optional_object(body, "toolConfig") or {}
    return fields.optional_object(config, "functionCallingConfig", "toolConfig") or {}


def _read_choice(calling: fields.Object) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether calls must follow their schemas."""
    at = "toolConfig.functionCallingConfig"
    called = fields.texts(calling, "allowedFunctionNames", at)
    match fields.text(calling, "mode", at, "").upper():
        case "AUTO":
            return ToolChoice("auto", called), None
        case "ANY":
            return ToolChoice("required", called), None
        case "NONE":
            return ToolChoice("none"), None
        case "VALIDATED":
            # VALIDATED: the model chooses freely, but its calls follow the schemas.
            return ToolChoice("auto", called), True
        case "" | "MODE_UNSPECIFIED":
            return (ToolChoice("auto", called) if called else None), None
        case _:
            raise fields.wrong(f"{at}.mode", "AUTO, ANY, NONE or VALIDATED")


_FUNCTION = frozenset(("name", "description", "parameters", "parametersJsonSchema"))


def _read_tools(body: fields.Object, strict: bool | None) -> Iterable[Tool | WebTool | ServerTool]:
    for tool, at in fields.objects(body, "tools", ""):
        for function, inner in fields.objects(tool, "functionDeclarations", at):
            yield Tool(
                fields.text(function, "name", inner),
                fields.text(function, "description", inner, ""),
                _read_schema(function, inner, "parametersJsonSchema", "parameters"),
                strict,
                extra=fields.extra_of(function, _FUNCTION),
                at=inner,
            )
        # Everything else in a tool object is a tool of the provider: googleSearch, urlContext, codeExecution.
        for kind in tool:
            if kind != "functionDeclarations" and tool[kind] is not None:
                where = f"{at}.{kind}"
                yield web.read_tool(kind, tool[kind], where) or ServerTool(kind, kind, {kind: tool[kind]}, where)


def _read_schema(holder: fields.Object, at: str, *keys: str) -> Mapping[str, Any] | None:
    """The first of the fields for a schema that is there, as JSON Schema."""
    declared = next((fields.optional_object(holder, key, at) for key in keys if holder.get(key) is not None), None)
    return None if declared is None else schema.from_gemini(declared)


def _read_reasoning(config: fields.Object) -> Reasoning | None:
    at = "generationConfig.thinkingConfig"
    setting = fields.optional_object(config, "thinkingConfig", "generationConfig")
    if not setting:
        return None
    visible = fields.optional_bool(setting, "includeThoughts", at) or False
    level = fields.text(setting, "thinkingLevel", at, "").upper()
    effort = models.GEMINI_EFFORTS.get(level)
    if effort is None and level not in ("", "THINKING_LEVEL_UNSPECIFIED"):
        raise fields.wrong(f"{at}.thinkingLevel", f"one of {', '.join(models.GEMINI_EFFORTS)}")
    budget = fields.optional_int(setting, "thinkingBudget", at)
    if effort is not None:
        return Reasoning(effort, visible=visible, at=at)
    if budget is None and not visible:
        return None
    if budget == 0:
        return Reasoning("none", visible=visible, at=at)
    # -1: the model decides; so does a setting without a budget.
    return Reasoning("auto", None if budget is None or budget < 0 else budget, visible, at)


def _read_output(config: fields.Object) -> Output | None:
    at = "generationConfig"
    form = fields.text(config, "responseMimeType", at, "text/plain")
    wanted = _read_schema(config, at, "responseJsonSchema", "responseSchema")
    # text/x.enum is a choice among values, which other formats cannot promise.
    if form not in ("text/plain", "application/json"):
        raise ClientError(400, f'{at}.responseMimeType "{form}" is not supported', param=f"{at}.responseMimeType")
    if wanted is not None:
        return Output(wanted, strict=True)
    return Output() if form == "application/json" else None


# ---------------------------------------------------------------- writing


def write_request(request: Request, target: Target) -> Outgoing:
    """The request for a Gemini upstream. Raises ClientError for what it must not leave out."""
    losses = Losses.of(request, NAME, target.strict)
    losses.lose_extra(request.extra)
    request = losses.without_server_tools(request, web.tools_for(request, target), target.quirks)
    contents = write_contents(request, target, losses)
    system = [_write_text(part, losses) for part in request.system if part.text]
    if not contents and system:  # a conversation of instructions only: they are what the user says
        contents, system = [{"role": "user", "parts": system}], []
    if not contents:
        raise losses.empty()
    body: dict[str, Any] = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    _write_tools(body, request, target, losses)
    config = _write_config(request, target, losses)
    if config:
        body["generationConfig"] = config
    values = request.scalars()
    if len(request.stop) > _MAX_STOPS:
        losses.lose("stop.more")
        values["stop"] = request.stop[:_MAX_STOPS]
    SCALARS.write(body, values, losses)
    if request.parallel_tools is False and request.tools:
        losses.lose("parallel_tools")
    return Outgoing(
        body,
        losses.finish(),
        names.renamed_tools(request.tools, NAME_LIMITS),
        names.custom_names(request.tools),
    )


def _write_text(part: Text, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    return {"text": part.text}


def _write_tools(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> None:
    choice = request.tool_choice or ToolChoice("auto")
    filtered = choice.names if choice.mode == "auto" else ()  # there, a list of names is rejected
    functions: list[dict[str, Any]] = []
    for tool in request.tools:
        if isinstance(tool, Tool) and (not filtered or tool.name in filtered):
            functions.append(_write_function(tool, target, losses))
    if functions:
        body["tools"] = [{"functionDeclarations": functions}]
        config = _write_calling(choice, request)
        if config:
            body["toolConfig"] = {"functionCallingConfig": config}
    is_forced = bool(request.web_names.intersection(choice.names)) or (bool(request.web_tools) and not functions)
    if choice.mode == "required" and is_forced:
        losses.lose("tool_choice")
    web.write_tools(body, request, target, losses)


def _write_function(tool: Tool, target: Target, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(tool.extra, tool.at)
    tool = as_function(tool)
    written: dict[str, Any] = {"name": names.fit_name(tool.name, NAME_LIMITS)}
    if tool.description:
        written["description"] = tool.description
    strict = "gemini_strict_schema" in target.quirks
    parameters = schema.as_openapi_schema(tool.schema) if strict else schema.as_json_schema(tool.schema)
    # No parameters at all is how a function without arguments is declared.
    if parameters is not None:
        written["parameters" if strict else "parametersJsonSchema"] = parameters
    return written


def _write_calling(choice: ToolChoice, request: Request) -> dict[str, Any]:
    tools = [tool for tool in request.tools if isinstance(tool, Tool)]
    if choice.mode == "none":
        return {"mode": "NONE"}
    if choice.mode == "required":
        # Only ANY takes a list of names.
        own = {tool.name for tool in tools}
        called = [names.fit_name(name, NAME_LIMITS) for name in choice.names if name in own]
        if choice.names and not called:  # a search, which cannot be forced
            return {}
        return {"mode": "ANY", **({"allowedFunctionNames": called} if called else {})}
    # Strictness is a mode of calling here, and holds for all tools or for none.
    if all(tool.strict for tool in tools):
        return {"mode": "VALIDATED"}
    return {"mode": "AUTO"} if request.tool_choice is not None else {}


def _write_config(request: Request, target: Target, losses: Losses) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.reasoning is not None:
        setting = models.gemini_config(request.reasoning, target, request.max_tokens)
        if setting is not None:
            config["thinkingConfig"] = setting
        elif thinking.effort_of(request.reasoning) != "none":
            losses.lose("reasoning", request.reasoning.at)
    if request.output is not None:
        config["responseMimeType"] = "application/json"
        wanted = None if request.output.schema is None else output_schema(request.output)
        if wanted is not None and "gemini_strict_schema" in target.quirks:
            config["responseSchema"] = schema.as_openapi_schema(wanted) or {"type": "OBJECT"}
        elif wanted is not None:
            config["responseJsonSchema"] = schema.as_json_schema(wanted) or {"type": "object"}
    return config


def counting_body(body: fields.Object, model: str) -> dict[str, Any]:
    """A request body as the counting endpoint accepts it: a client's, or a converted one wrapped."""
    inner = body.get("generateContentRequest") or body.get("generate_content_request")
    if not isinstance(inner, dict) and body.keys() <= {"contents"}:
        return dict(body)
    return {"generateContentRequest": {**(inner if isinstance(inner, dict) else body), "model": f"models/{model}"}}


def with_effort(body: fields.Object, effort: Effort, target: Target) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A client's own body with another effort; how much of the reasoning it wants to see stays.

    An effort for a model that does not reason is named.
    """
    name = "generation_config" if "generation_config" in body else "generationConfig"
    if body.get(name) is not None and not isinstance(body[name], dict):
        return dict(body), ("effort",)
    config = {**(body.get(name) or {})}
    setting = camel(config.pop("thinking_config", None) or config.pop("thinkingConfig", None) or {})
    limit = config.get("maxOutputTokens", config.get("max_output_tokens"))
    visible = setting.get("includeThoughts") is True if isinstance(setting, dict) else False
    written = models.gemini_config(Reasoning(effort, visible=visible), target, limit if type(limit) is int else None)
    if written is not None:
        config["thinkingConfig"] = written
    return {**body, name: config}, () if written is not None or effort == "none" else ("effort",)
