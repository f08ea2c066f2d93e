"""OpenAI Responses: tools and tool choice, read and written. Source: the SDK's ``types.responses.tool_param``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ccproxy_lite.formats import fields, openai
from ccproxy_lite.formats.neutral import names
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import Request, ServerTool, Tool, ToolChoice, WebTool
from ccproxy_lite.formats.openai_responses import web

AnyTool = Tool | WebTool | ServerTool
Entry = tuple[fields.Object, str]
"""A tool as the client wrote it, and the path where it stands."""

NAME_LIMITS = names.Limits(names.WORD, 64, names.PRINTABLE, 64)
SEARCH = "tool_search"
NOTE = "(tool_search)"

# ---------------------------------------------------------------- reading


def read_tools(entries: Iterable[Entry]) -> tuple[AnyTool, ...]:
    """All tools, those of a namespace under one flat name each. Of two with one name the first one counts."""
    tools: dict[str, AnyTool] = {}
    for tool, at in entries:
        for read in _read_tool(tool, at):
            first = tools.get(read.name)
            if (
                isinstance(first, Tool)
                and isinstance(read, Tool)
                and _namespace_and_name(first) != _namespace_and_name(read)
            ):
                # Two tools whose flat names collide, from different namespaces.
                read = replace(read, name=f"{read.name}_{_origin_digest(read)}")
            # A function may have the name of a tool that the service runs.
            tools.setdefault(read.name if isinstance(read, Tool) else f"({read.name})", read)
    return tuple(tools.values())


def _namespace_and_name(tool: Tool) -> tuple[str, str]:
    return tool.extra.get("(namespace)", ""), tool.extra.get("(inner)", tool.name)


def _origin_digest(tool: Tool) -> str:
    return hashlib.sha256("\0".join(_namespace_and_name(tool)).encode("utf-8", "surrogatepass")).hexdigest()[:6]


def flat_names(tools: Iterable[AnyTool]) -> dict[tuple[str, str], str]:
    """From namespace and name to the flat name."""
    return {
        (tool.extra["(namespace)"], tool.extra["(inner)"]): tool.name
        for tool in tools
        if isinstance(tool, Tool) and "(namespace)" in tool.extra
    }


def _read_tool(tool: fields.Object, at: str) -> Iterable[AnyTool]:
    match fields.text(tool, "type", at, "function"):
        case "function":
            yield _read_function(tool, at)
        case "custom":
            yield _read_custom(tool, at)
        case "namespace":
            yield from _read_namespace(tool, at)
        # Run by the client: to others it is a function of that name.
        case "tool_search" if tool.get("execution") == "client":
            about = fields.text(tool, "description", at, "")
            parameters = fields.optional_object(tool, "parameters", at)
            yield Tool(SEARCH, about, parameters, extra={NOTE: True}, at=at)
        case kind if web.is_search(kind):
            yield web.read_tool(tool, at)
        case kind:
            yield ServerTool(kind, kind, dict(tool), at)


def _read_function(tool: fields.Object, at: str) -> Tool:
    return Tool(
        fields.text(tool, "name", at),
        fields.text(tool, "description", at, ""),
        fields.optional_object(tool, "parameters", at),
        fields.optional_bool(tool, "strict", at),
        extra=fields.extra_of(tool, frozenset(("type", "name", "description", "parameters", "strict"))),
        at=at,
    )


def _read_custom(tool: fields.Object, at: str) -> Tool:
    form = fields.optional_object(tool, "format", at) or {}
    grammar = None
    if form.get("type", "text") != "text":
        where = f"{at}.format"
        grammar = fields.text(form, "syntax", where), fields.text(form, "definition", where)
    extra = fields.extra_of(tool, frozenset(("type", "name", "description", "format")))
    about = fields.text(tool, "description", at, "")
    return Tool(fields.text(tool, "name", at), about, kind="custom", grammar=grammar, extra=extra, at=at)


def _read_namespace(space: fields.Object, at: str) -> Iterable[AnyTool]:
    name, about = fields.text(space, "name", at), fields.text(space, "description", at, "")
    for inner, where in fields.objects(space, "tools", at):
        for tool in _read_tool(inner, where):
            if isinstance(tool, Tool):
                extra = {**tool.extra, "(namespace)": name, "(inner)": tool.name}
                # The description of the namespace concerns every tool in it, and has no other place.
                description = "\n\n".join(filter(None, [about, tool.description]))
                tool = replace(tool, name=f"{name}__{tool.name}", description=description, extra=extra)
            yield tool


def read_choice(body: fields.Object, flat: dict[tuple[str, str], str]) -> ToolChoice | None:
    """``tool_choice``; tools in namespaces have flat names, and the web search has one name for all its types."""
    return openai.read_choice(
        body.get("tool_choice"),
        lambda space, name: flat.get((space, name), name),
        lambda kind: "web_search" if web.is_search(kind) else kind,
    )


# ---------------------------------------------------------------- writing


def write_tools(request: Request, losses: Losses) -> list[dict[str, Any]]:
    """The tools that the client runs, and the web search."""
    written: list[dict[str, Any]] = []
    for tool in request.tools:
        if isinstance(tool, Tool):
            losses.lose_extra(tool.extra, tool.at)
            written.append(_write_tool(tool))
        elif isinstance(tool, WebTool):
            written.append(web.write_tool(tool, losses))
    return written


def _write_tool(tool: Tool) -> dict[str, Any]:
    written: dict[str, Any] = {"type": tool.kind, "name": names.fit_name(tool.name, NAME_LIMITS)}
    if tool.description:
        written["description"] = tool.description
    if tool.kind == "custom":
        if tool.grammar is not None:
            written["format"] = {"type": "grammar", "syntax": tool.grammar[0], "definition": tool.grammar[1]}
        return written
    written["parameters"] = openai.as_parameters(tool.schema)
    # without the word the service would try to be strict by itself
    written["strict"] = bool(tool.strict) and openai.is_strict(written["parameters"])
    return written


def write_choice(choice: ToolChoice, request: Request) -> Any:
    """``tool_choice`` for the tools of a request."""
    if choice.mode == "none" or not choice.names:
        return choice.mode
    custom = names.custom_names(request.tools)
    searches = request.web_names
    chosen = [
        {"type": name}
        if name in searches
        else {"type": "custom" if name in custom else "function", "name": names.fit_name(name, NAME_LIMITS)}
        for name in choice.names
    ]
    if choice.mode == "required" and len(chosen) == 1:
        return chosen[0]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": chosen}
