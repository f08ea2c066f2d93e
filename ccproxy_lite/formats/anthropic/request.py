"""Anthropic Messages: requests, read and written. Source: the ``anthropic`` SDK's ``types.message_create_params``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.anthropic import directives, models, reasoning, schema, web
from ccproxy_lite.formats.anthropic.blocks import (
    NAME,
    NAME_LIMITS,
    RULES,
    TEXT,
    read_content,
    write_parts,
    write_text,
)
from ccproxy_lite.formats.anthropic.caching import cache_marker, write_markers
from ccproxy_lite.formats.format import Outgoing, PathInfo, Target
from ccproxy_lite.formats.neutral import names, thinking, turns
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    Effort,
    Message,
    Output,
    Reasoning,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    WebTool,
)
from ccproxy_lite.formats.neutral.schema import as_function, as_input_schema, output_schema
from ccproxy_lite.formats.scalars import Scalars, identifier, integer, number, text, texts

VERSION = "2023-06-01"
BILLING_HEADER = "x-anthropic-billing-header:"
MCP = "mcp_server"
SAFEGUARDS = "safeguards"
"""Its presence alone asks for checks, whatever its value: another service cannot make them."""

SCALARS = Scalars(
    max_tokens=integer("max_tokens"),
    temperature=number("temperature"),
    top_p=number("top_p"),
    top_k=integer("top_k"),
    stop=texts("stop_sequences"),
    user=identifier("metadata.user_id"),
    service_tier=text("service_tier", is_written=False),
)
_KNOWN = SCALARS.known_fields() | frozenset(
    "model messages system tools tool_choice thinking output_config output_format stream".split()
)
_PATHS = {
    **SCALARS.paths,
    "output": "output_config.format",
    "reasoning": "thinking",
    "parallel_tools": "tool_choice.disable_parallel_tool_use",
    "file.name": "title",
    "web_tool.location": "{at}.user_location",
}

# ---------------------------------------------------------------- reading


def read_request(body: fields.Object, path: PathInfo) -> Request:
    """What an Anthropic client asks. Raises ClientError."""
    config = fields.optional_object(body, "output_config") or {}
    choice = fields.optional_object(body, "tool_choice")
    metadata = fields.optional_object(body, "metadata") or {}
    has_directives = directives.any_in(body)
    system, messages = _read_turns(body, has_directives)
    return Request(
        model=fields.text(body, "model", ""),
        messages=messages,
        system=system,
        tools=tuple(_read_tools(body, has_directives)),
        tool_choice=_read_choice(choice) if choice else None,
        parallel_tools=_read_parallel(choice or {}),
        **SCALARS.read(body),
        reasoning=_read_reasoning(body, config),
        output=_read_output(body, config),
        stream=fields.optional_bool(body, "stream") or False,
        origin=NAME,
        paths=_PATHS,
        extra={
            **fields.extra_of(body, _KNOWN),
            **({SAFEGUARDS: body[SAFEGUARDS]} if body.get(SAFEGUARDS) is not None else {}),
            **fields.extra_of(config, _CONFIG, "output_config"),
            **fields.extra_of(choice or {}, _CHOICE, "tool_choice"),
            **fields.extra_of(metadata, _METADATA, "metadata"),
            **fields.extra_of(fields.optional_object(body, "thinking") or {}, _THINKING, "thinking"),
        },
    )


_CONFIG = frozenset(("effort", "format"))
_CHOICE = frozenset(("type", "name", "disable_parallel_tool_use"))
_METADATA = SCALARS.known_fields("metadata")
_THINKING = frozenset(("type", "budget_tokens", "display"))


def _read_system(body: fields.Object) -> Iterable[Text]:
    value = body.get("system")
    if isinstance(value, str):
        text = _without_billing(value)
        if text:
            yield Text(text, at="system")
        return
    for block, at in fields.objects(body, "system", ""):
        text = _without_billing(fields.text(block, "text", at))
        if text:
            yield Text(text, fields.extra_of(block, TEXT), at)


def _without_billing(text: str) -> str:
    """Instructions without the billing line: it is for Anthropic alone, and defeats every other prompt cache."""
    if text.lstrip().startswith(BILLING_HEADER):
        return text.lstrip().partition("\n")[2].lstrip("\n")
    return text


def _read_turns(body: fields.Object, has_directives: bool) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """System messages that stand before the first turn are instructions like ``system``."""
    entries = fields.objects(body, "messages", "")
    entries = directives.after_compaction(entries) if has_directives else entries
    shown = [message for message, _ in entries]
    messages = [_read_message(*entry) for i, entry in enumerate(entries) if not directives.is_cleared(shown, i)]
    first = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    if not first:
        return tuple(_read_system(body)), tuple(messages)
    leading: list[Text] = []
    others: list[Message] = []
    for message in messages[:first]:
        texts = [part for part in message.parts if isinstance(part, Text) and part.text]
        leading += [replace(part, extra={**part.extra, **message.extra}) if message.extra else part for part in texts]
        rest = tuple(part for part in message.parts if not isinstance(part, Text))
        others.append(replace(message, parts=rest, extra={} if texts else message.extra))
    changes = [message for message in others if message.parts]
    return (*_read_system(body), *leading), (*changes, *messages[first:])


_EFFORT = frozenset(("effort",))
_MESSAGE = frozenset(("role", "content")) | directives.SETTINGS


def _read_message(message: fields.Object, at: str) -> Message:
    role = fields.text(message, "role", at)
    if role not in ("user", "assistant", "system"):
        raise fields.wrong(f"{at}.role", "user, assistant or system")
    extra = fields.extra_of(message, _MESSAGE)
    if config := fields.optional_object(message, "output_config", at):
        extra = {**extra, **fields.extra_of(config, _EFFORT, "output_config")}
    return Message(role, tuple(read_content(message, at)), extra, at)  # type: ignore[arg-type]


_TOOL = frozenset(("type", "name", "description", "input_schema", "strict"))


def _read_tools(body: fields.Object, has_directives: bool) -> Iterable[Tool | WebTool | ServerTool]:
    for tool, at in directives.offered_tools(body) if has_directives else fields.objects(body, "tools", ""):
        yield _read_tool(tool, at)
    for server, at in fields.objects(body, "mcp_servers", ""):
        yield ServerTool(MCP, fields.text(server, "name", at, MCP), dict(server), at)


def _read_tool(tool: fields.Object, at: str) -> Tool | WebTool | ServerTool:
    kind = fields.text(tool, "type", at, "custom")
    if kind != "custom":
        return web.read_tool(tool, at) or ServerTool(kind, fields.text(tool, "name", at, kind), dict(tool), at)
    return Tool(
        fields.text(tool, "name", at),
        fields.text(tool, "description", at, ""),
        fields.optional_object(tool, "input_schema", at),
        fields.optional_bool(tool, "strict", at),
        extra=fields.extra_of(tool, _TOOL),
        at=at,
    )


def _read_choice(choice: fields.Object) -> ToolChoice:
    match fields.text(choice, "type", "tool_choice"):
        case "auto":
            return ToolChoice("auto")
        case "any":
            return ToolChoice("required")
        case "tool":
            return ToolChoice("required", (fields.text(choice, "name", "tool_choice"),))
        case "none":
            return ToolChoice("none")
        case _:
            raise fields.wrong("tool_choice.type", "auto, any, tool or none")


def _read_parallel(choice: fields.Object) -> bool | None:
    disabled = fields.optional_bool(choice, "disable_parallel_tool_use", "tool_choice")
    return None if disabled is None else not disabled


_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def _read_reasoning(body: fields.Object, config: fields.Object) -> Reasoning | None:
    setting = fields.optional_object(body, "thinking")
    effort = directives.last_effort(body) or fields.optional_text(config, "effort", "output_config")
    if effort is not None and effort not in _EFFORTS:
        raise fields.wrong("output_config.effort", "low, medium, high, xhigh or max")
    level: Effort = effort or "auto"  # type: ignore[assignment]
    if setting is None:
        return Reasoning(level, at="output_config.effort") if effort else None
    display = setting.get("display")
    visible = display != "omitted" if display else None
    match fields.text(setting, "type", "thinking"):
        case "disabled":
            return Reasoning("none")
        case "enabled":
            budget = fields.optional_int(setting, "budget_tokens", "thinking")
            return Reasoning(level, None if effort else budget, visible)
        case "adaptive" | "between_tools" | "auto":
            return Reasoning(level, None, visible)
        case _:
            raise fields.wrong("thinking.type", "enabled, adaptive, between_tools or disabled")


def _read_output(body: fields.Object, config: fields.Object) -> Output | None:
    form = config.get("format") or body.get("output_format")
    if form is None:
        return None
    form = fields.as_object(form, "output_config.format")
    if fields.text(form, "type", "output_config.format") != "json_schema":
        raise fields.wrong("output_config.format.type", "json_schema")
    return Output(fields.as_object(form.get("schema"), "output_config.format.schema"), strict=True)


# ---------------------------------------------------------------- writing


def write_request(request: Request, target: Target) -> Outgoing:
    """The request for an Anthropic upstream. Raises ClientError for what it must not leave out."""
    losses = Losses.of(request, NAME, target.strict)
    losses.lose_extra(request.extra)
    request = losses.without_server_tools(request, _web_tools(request), target.quirks)
    messages, system = _write_turns(request, target, losses)
    body: dict[str, Any] = {
        "model": target.model,
        "max_tokens": reasoning.max_tokens(request, target, losses),
        "messages": messages,
    }
    if system:
        body["system"] = system
    tools = _write_tools(request, losses)
    if tools:
        body["tools"] = tools
        choice = _write_choice(request)
        if choice:
            body["tool_choice"] = choice
    if request.stream:
        body["stream"] = True
    _write_output(body, request, losses)
    reasoning.write_thinking(body, request, target, losses)
    SCALARS.write(body, _accepted_parameters(body, request, target, losses), losses)
    if target.session and request.user is None:  # spelled so that a session can be found in it
        body["metadata"] = {"user_id": f"proxy_session_{names.short_user(target.session, 64)}"}
    for_cache = write_markers(body, request, target)
    return Outgoing(
        body,
        losses.finish(),
        names.renamed_tools(request.tools, NAME_LIMITS),
        names.custom_names(request.tools),
        for_cache,
    )


def _write_turns(request: Request, target: Target, losses: Losses) -> tuple[list[Any], list[Any]]:
    system = [write_text(part, losses) for part in request.system if part.text.strip()]
    messages = turns.fitting(turns.in_place(request.messages, target.quirks), RULES, losses)
    written: list[dict[str, Any]] = [
        {"role": message.role, "content": write_parts(message.parts, losses)}
        for message in turns.merged(_without_trailing_reasoning(turns.paired(messages, losses), losses))
    ]
    if not written and system:  # a conversation of instructions only: they are what the user says
        return [{"role": "user", "content": system}], []
    if not written:
        raise losses.empty()
    # A prefill.
    if written[-1]["role"] == "assistant":
        last = written[-1]["content"][-1]
        if last["type"] == "text":  # trailing white space in a prefill is rejected
            last["text"] = last["text"].rstrip()
    return written, system


def _without_trailing_reasoning(messages: Iterable[Message], losses: Losses) -> Iterable[Message]:
    """The turns without reasoning at their end, where it is rejected."""
    for message in messages:
        parts = list(message.parts)
        while message.role == "assistant" and parts and isinstance(parts[-1], Thinking):
            losses.lose("thinking", parts.pop().at)
        if parts:
            yield replace(message, parts=tuple(parts))


def _web_tools(request: Request) -> list[str]:
    """The web tools that can be declared: names are unique, and a function may have one of theirs."""
    functions = {tool.name for tool in request.tools if isinstance(tool, Tool)}
    return [name for name in web.TOOLS if name not in functions]


def _write_tools(request: Request, losses: Losses) -> list[dict[str, Any]]:
    choice = request.tool_choice or ToolChoice("auto")
    # One forced tool has a form of its own; several allowed ones can only be expressed by leaving out the others.
    named = choice.mode == "required" and len(choice.names) == 1
    allowed = () if named else choice.names
    written = []
    for tool in request.tools:
        if isinstance(tool, ServerTool) or (allowed and tool.name not in allowed):
            continue
        written.append(_write_tool(tool, losses) if isinstance(tool, Tool) else web.write_tool(tool, losses))
    return written


def _write_tool(tool: Tool, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(tool.extra, tool.at)
    tool = as_function(tool)
    written: dict[str, Any] = {"name": names.fit_name(tool.name, NAME_LIMITS)}
    if tool.description:
        written["description"] = tool.description
    written["input_schema"] = as_input_schema(tool.schema)
    written |= cache_marker(tool.extra)
    # Strict mode requires closed objects; others are rejected.
    if tool.strict and schema.is_closed(written["input_schema"]):
        written["strict"] = True
    return written


def _write_choice(request: Request) -> dict[str, Any] | None:
    choice = request.tool_choice or ToolChoice("auto")
    if choice.mode == "none":
        return {"type": "none"}
    written: dict[str, Any] = {"type": "any" if choice.mode == "required" else "auto"}
    if choice.mode == "required" and len(choice.names) == 1:
        written = {"type": "tool", "name": names.fit_name(choice.names[0], NAME_LIMITS)}
    if request.parallel_tools is False:
        written["disable_parallel_tool_use"] = True
    return written if request.tool_choice or request.parallel_tools is False else None


def _write_output(body: dict[str, Any], request: Request, losses: Losses) -> None:
    if request.output is None:
        return
    # There is no "any JSON object"; instructions alone cannot promise one.
    if request.output.schema is None:
        losses.lose("json_object")
        return
    form = schema.as_output_schema(output_schema(request.output))
    body["output_config"] = {"format": {"type": "json_schema", "schema": form}}


def _accepted_parameters(body: dict[str, Any], request: Request, target: Target, losses: Losses) -> dict[str, Any]:
    """The parameters, without what the model rejects, alone or beside the thinking that the body asks for."""
    values = {name: value for name, value in request.scalars().items() if name != "max_tokens"}
    # Sequences of white space only are rejected.
    values["stop"] = [sequence for sequence in request.stop if sequence.strip()]
    if len(values["stop"]) < len(request.stop):
        losses.lose("stop")
    if not values["stop"]:
        del values["stop"]
    if "user" in values:
        values["user"] = names.short_user(values["user"], 128)
    is_claude = models.claude_version(target.model) is not None
    if is_claude and request.temperature == 1 and request.top_p not in (None, 1):
        del values["temperature"]  # only one of the two is accepted, and 1 says nothing
    thinks = body.get("thinking", {}).get("type", "disabled") != "disabled"
    # Beside thinking only temperature 1 is accepted; Claude takes temperature or top_p, not both.
    unsupported = {"top_p", "top_k"} if thinks else {"top_p"} if is_claude and "temperature" in values else set()
    if thinks and request.temperature != 1:
        unsupported.add("temperature")
    if not models.claude_takes_sampling(target.model, target.quirks):
        unsupported |= {"temperature", "top_p", "top_k"}
    for name in ("temperature", "top_p", "top_k"):
        if name in values and name in unsupported:
            losses.lose_scalar(name, values.pop(name))
    if values.get("temperature", 0) > 1:
        losses.lose("temperature")
        values["temperature"] = 1
    return values


def without_foreign(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The body without what Anthropic would reject because of another provider; None if there is nothing of it.

    That is reasoning tagged by another, and manual thinking in a tool loop that began elsewhere, without reasoning.
    """
    changed = False
    messages: list[Any] = []
    for message in fields.lenient_list(body, "messages"):
        content = message.get("content") if isinstance(message, dict) else None
        kept = _own_blocks(content) if isinstance(content, list) else content
        if kept is not content:
            changed = True
            if not kept:
                continue
            message = {**message, "content": kept}
        messages.append(message)
    setting = body.get("thinking")
    if isinstance(setting, dict) and setting.get("type") == "enabled" and reasoning.hides_thoughts(messages):
        return {**{key: value for key, value in body.items() if key != "thinking"}, "messages": messages}
    return {**body, "messages": messages} if changed else None


def _own_blocks(content: list[Any]) -> list[Any]:
    """The blocks that Anthropic accepts; the same list if it accepts all of them."""
    kept: list[Any] | None = None
    for place, block in enumerate(content):
        own = None if _is_foreign(block) else web.own(block)
        if own is not block and kept is None:
            kept = content[:place]
        if kept is not None and own is not None:
            kept.append(own)
    return content if kept is None else kept


def _is_foreign(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") not in ("thinking", "redacted_thinking"):
        return False
    mark = thinking.untag(str(block.get("signature") or block.get("data") or ""))
    return mark is not None and mark[0] != NAME
