"""OpenAI Responses: the items of ``input``, read and written. Source: ``types.responses.response_input_param``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ccproxy_lite.formats import fields, media
from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral import names, thinking, turns
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    SearchCall,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ccproxy_lite.formats.openai_caching import Caching
from ccproxy_lite.formats.openai_responses import web
from ccproxy_lite.formats.openai_responses.tools import NAME_LIMITS, SEARCH, Entry, read_tools
from ccproxy_lite.jsontext import dumps_text

NAME = "openai-responses"
CONFIGURATION = "configuration_update"

# ---------------------------------------------------------------- reading

FlatName = Callable[[str, str], str]


def input_items(body: fields.Object) -> list[Entry]:
    """The items of the input; a bare string is what the user says."""
    if isinstance(body.get("input"), str):
        return [({"role": "user", "content": body["input"]}, "input")]
    return fields.objects(body, "input", "")


def configured(body: fields.Object, items: Iterable[Entry]) -> fields.Object:
    """The body with the settings that items of the conversation have made: each holds until the next one."""
    for item, at in items:
        if item.get("type") == CONFIGURATION:
            for name in ("reasoning", "text"):
                changed = fields.optional_object(item, name, at)
                if changed is not None:
                    body = {**body, name: {**(fields.optional_object(body, name) or {}), **changed}}
    return body


def tools_within(items: Iterable[Entry]) -> Iterable[Entry]:
    """Tools that the conversation brings in on its way."""
    for item, at in items:
        if item.get("type") in ("additional_tools", "tool_search_output"):
            yield from fields.objects(item, "tools", at)


def read_items(items: Iterable[Entry], flat_name: FlatName) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """The leading instructions, and one message for each item after them. Raises ClientError."""
    system: list[Text] = []
    messages: list[Message] = []
    for item, at in items:
        # A message may come without its type; anything else without one refers to a stored item.
        kind = fields.text(item, "type", at, "message" if "role" in item else "item_reference")
        if kind in ("additional_tools", CONFIGURATION):
            continue
        message = _read_message(item, at) if kind == "message" else _read_item(kind, item, at, flat_name)
        if message.role == "system" and not messages:
            texts = [part for part in message.parts if isinstance(part, Text) and part.text]
            system += [
                replace(part, extra={**part.extra, **message.extra}) if message.extra else part for part in texts
            ]
        else:
            messages.append(message)
    return tuple(system), tuple(messages)


_MESSAGE = frozenset(("type", "role", "content"))


def _read_message(item: fields.Object, at: str) -> Message:
    role = fields.text(item, "role", at)
    if role not in ("user", "assistant", "system", "developer"):
        raise fields.wrong(f"{at}.role", "user, assistant, system or developer")
    parts = tuple(_read_content(item, "content", at))
    if role in ("user", "assistant"):
        return Message(role, parts, fields.extra_of(item, _MESSAGE), at)  # type: ignore[arg-type]
    for part in parts:
        if not isinstance(part, Text):
            raise fields.wrong(part.at, "text")
    return Message("system", parts, fields.extra_of(item, _MESSAGE), at)


def _read_content(holder: fields.Object, key: str, at: str) -> Iterable[Part]:
    value = holder.get(key)
    if isinstance(value, str):
        yield Text(value, at=f"{at}.{key}")
        return
    for part, inner in fields.objects(holder, key, at):
        yield _read_part(part, inner)


_TEXT = frozenset(("type", "text"))
_IMAGE = frozenset(("type", "image_url", "file_id", "detail"))
_FILE = frozenset(("type", "file_data", "file_url", "file_id", "filename", "detail"))


def _read_part(part: fields.Object, at: str) -> Part:
    match fields.text(part, "type", at):
        case "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text":
            return Text(fields.text(part, "text", at), fields.extra_of(part, _TEXT), at)
        case "refusal":
            return Refusal(fields.text(part, "refusal", at), at=at)
        case "input_image" | "computer_screenshot":
            extra, detail = fields.extra_of(part, _IMAGE), fields.text(part, "detail", at, "")
            if part.get("file_id"):
                return Image(file_id=fields.text(part, "file_id", at), detail=detail, extra=extra, at=at)
            return media.image(fields.text(part, "image_url", at), detail, extra, at)
        case "input_file":
            return _read_file(part, at)
        case "input_audio" if "audio_url" in part:  # as Codex sends it
            media_type, data = media.data_url(fields.text(part, "audio_url", at), f"{at}.audio_url")
            return Audio(data, media_type.partition("/")[2].removeprefix("x-") or "wav", at=at)
        case "input_audio":
            where = f"{at}.input_audio"
            audio = fields.as_object(part.get("input_audio"), where)
            return Audio(fields.text(audio, "data", where), fields.text(audio, "format", where, "wav"), at=at)
        case kind:
            return Foreign(kind, dict(part), at)


def _read_file(part: fields.Object, at: str) -> File:
    name, extra = fields.text(part, "filename", at, ""), fields.extra_of(part, _FILE)
    if part.get("file_id"):
        return File(file_id=fields.text(part, "file_id", at), name=name, extra=extra, at=at)
    if part.get("file_url"):
        url = fields.text(part, "file_url", at)
        return File(media.type_of_url(url, "application/pdf"), url=url, name=name, extra=extra, at=at)
    return media.file(fields.text(part, "file_data", at), name, extra, at, f"{at}.file_data")


_CALL = frozenset(("type", "call_id", "name", "namespace", "arguments", "input"))
_OUTPUT = frozenset(("type", "call_id", "output", "name", "namespace"))
_BUILT_IN = {
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
    "computer_call": "action",
}
"""Calls of tools that the client runs, and the field that says what to do."""


def _read_item(kind: str, item: fields.Object, at: str, flat_name: FlatName) -> Message:
    part: Part
    match kind:
        case "function_call" | "custom_tool_call":
            name = flat_name(fields.text(item, "namespace", at, ""), fields.text(item, "name", at))
            is_custom = kind == "custom_tool_call"
            text = fields.text(item, "input" if is_custom else "arguments", at, "")
            extra = fields.extra_of(item, _CALL)
            call_id = fields.text(item, "call_id", at)
            part = ToolCall(call_id, name, text, "custom" if is_custom else "function", extra, at)
        case "function_call_output" | "custom_tool_call_output":
            part = ToolResult(
                fields.text(item, "call_id", at), _read_results(item, at), extra=fields.extra_of(item, _OUTPUT), at=at
            )
        case "reasoning":
            part = _read_reasoning(item, at)
        case web.CALL:
            part = web.read_history(item, at)
        case "agent_message":
            return _read_agent_message(item, at)
        case "mcp_call":
            failure = dumps_text(item["error"]) if item.get("error") else ""
            outcome = fields.text(item, "output", at, "") or failure
            call = f"{fields.text(item, 'name', at)}({fields.text(item, 'arguments', at, '')})"
            part = Text(f"{call}\n{outcome}", {turns.COMPLETE: True, **fields.extra_of(item, _MCP_CALL)}, at)
        case "tool_search_call" if item.get("execution") == "client":
            arguments = dumps_text(item.get("arguments") or {})
            part = ToolCall(fields.text(item, "call_id", at), SEARCH, arguments, at=at)
        case "tool_search_output" if item.get("execution") == "client":
            tool_names = ", ".join(tool.name for tool in read_tools(fields.objects(item, "tools", at)))
            content = (Text(f"Now there are these tools: {tool_names}", at=at),)
            part = ToolResult(fields.text(item, "call_id", at), content, at=at)
        case _ if kind in _BUILT_IN:
            call_id = fields.text(item, "call_id", at)
            arguments = dumps_text(item.get(_BUILT_IN[kind]) or {})
            part = ToolCall(call_id, kind.removesuffix("_call"), arguments, at=at)
        case _ if kind.removesuffix("_output") in _BUILT_IN:
            call_id = fields.text(item, "call_id", at, "") or fields.text(item, "id", at)
            failed = item.get("status") == "failed"
            part = ToolResult(call_id, _read_results(item, at), failed, at=at)
        case _:
            return Message("assistant", (Foreign(kind, dict(item), at),), at=at)
    return Message("user" if isinstance(part, ToolResult) else "assistant", (part,), at=at)


_MCP_CALL = frozenset("type id name arguments output error server_label status approval_request_id".split())
_AGENT_MESSAGE = frozenset("type content author recipient id agent".split())


def _read_agent_message(item: fields.Object, at: str) -> Message:
    """What another agent says to this one; sealed content makes the whole item unreadable."""
    parts = tuple(_read_content(item, "content", at))
    if any(isinstance(part, Foreign) for part in parts):
        parts = (Foreign("agent_message", dict(item), at),)
    return Message("user", parts, fields.extra_of(item, _AGENT_MESSAGE), at)


def _read_results(item: fields.Object, at: str) -> tuple[Text | Image | File | Audio | Foreign, ...]:
    value = item.get("output")
    if isinstance(value, dict):
        value = [value] if "image_url" in value or "file_id" in value else dumps_text(value)
    if isinstance(value, list) and not all(isinstance(part, dict) and "type" in part for part in value):
        value = dumps_text(value)
    kinds = Text | Image | File | Audio | Foreign
    return tuple(part for part in _read_content({"output": value}, "output", at) if isinstance(part, kinds))


_REASONING = frozenset(("type", "id", "summary", "content", "encrypted_content"))


def _read_reasoning(item: fields.Object, at: str) -> Thinking:
    texts = [part for key in ("summary", "content") for part in _read_content(item, key, at) if isinstance(part, Text)]
    sealed = fields.text(item, "encrypted_content", at, "")
    # The service wants its own id back together with the content, so both travel as one value.
    if sealed and thinking.untag(sealed) is None:
        sealed = f"{fields.text(item, 'id', at, '')}.{sealed}"
    signature, redacted, origin = thinking.unseal(sealed, NAME)
    text = "\n\n".join(part.text for part in texts)
    return Thinking(text, signature, redacted, origin, fields.extra_of(item, _REASONING), at)


# ---------------------------------------------------------------- writing


_RULES = turns.Rules(
    lambda thought: thought.origin == NAME and bool(thought.signature), audio=False, searches=web.can_return
)


def write_items(request: Request, target: Target, losses: Losses, caching: Caching) -> list[dict[str, Any]]:
    """The whole conversation as items, every output after its call. Raises ClientError."""
    paired = turns.paired(turns.fitting(turns.in_place(request.messages, target.quirks), _RULES, losses), losses)
    kinds: dict[str, str] = {}
    items: list[dict[str, Any]] = []
    for message in paired:
        role = "developer" if message.role == "system" else message.role
        content: list[dict[str, Any]] = []
        for part in message.parts:
            # These are items of their own and end the message before them.
            if isinstance(part, Thinking | ToolCall | ToolResult | SearchCall):
                items += _write_message(role, content)
                content = []
                items.append(_write_item(part, kinds, losses, caching))
            else:
                content.append({**_write_part(part, role, losses), **caching.mark(part.extra)})
        items += _write_message(role, content)
    turns.name_prefill(paired, losses)
    return items


def _write_message(role: str, content: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not content:
        return []
    only = content[0]
    bare = len(content) == 1 and only.keys() == {"type", "text"} and role != "assistant"
    return [{"type": "message", "role": role, "content": only["text"] if bare else list(content)}]


def _write_item(part: Part, kinds: dict[str, str], losses: Losses, caching: Caching) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    match part:
        case ToolCall():
            call_id = names.fit_id(part.id, NAME_LIMITS)
            name = names.fit_name(part.name, NAME_LIMITS)
            kinds[part.id] = part.kind
            if part.kind == "custom":
                return {"type": "custom_tool_call", "call_id": call_id, "name": name, "input": part.arguments}
            arguments = names.arguments_text(part.arguments)
            return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
        case ToolResult():
            kind = "custom_tool_call_output" if kinds.get(part.call_id) == "custom" else "function_call_output"
            call_id = names.fit_id(part.call_id, NAME_LIMITS)
            return {"type": kind, "call_id": call_id, "output": _write_output(part, losses, caching)}
        case SearchCall():
            return web.write_history(part)
        case Thinking():
            reasoning_id, _, sealed = part.signature.partition(".")
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            identity = {"id": reasoning_id} if reasoning_id else {}
            return {"type": "reasoning", **identity, "summary": summary, "encrypted_content": sealed}
    raise AssertionError(part)


def _write_output(part: ToolResult, losses: Losses, caching: Caching) -> str | list[dict[str, Any]]:
    """What a call gave back: text where it is only that. There is no flag for a failure, so the text says it."""
    content: list[dict[str, Any]] = []
    for inner in part.content:
        if isinstance(inner, Audio):
            losses.lose("result.audio", inner.at or part.at)
        elif isinstance(inner, Foreign):
            losses.lose_foreign(inner)
        else:
            content.append({**_write_part(inner, "user", losses), **caching.mark(inner.extra)})
    # There is no flag for a failed call, so its text says so.
    failed = part.is_error and not any(inner.get("text", "").startswith("Error: ") for inner in content[:1])
    if all(inner.keys() == {"type", "text"} for inner in content):
        text = "\n".join(inner["text"] for inner in content)
        return f"Error: {text}" if failed else text
    return [{"type": "input_text", "text": "Error: "}, *content] if failed else content


_DETAILS = ("auto", "low", "high", "original")


def _write_part(part: Part, role: str, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    match part:
        case Text() if role == "assistant":
            return {"type": "output_text", "text": part.text}
        case Text():
            return {"type": "input_text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Image():
            detail = {"detail": part.detail} if part.detail in _DETAILS else {}
            if part.file_id:
                raise losses.rejection("file_id", part.at)
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            return {"type": "input_image", "image_url": url, **detail}
        case File():
            return _write_file(part, losses)
    raise AssertionError(part)


def _write_file(part: File, losses: Losses) -> dict[str, Any]:
    if media.is_text(part):
        return {"type": "input_text", "text": media.as_text(part)}
    if part.file_id:
        raise losses.rejection("file_id", part.at)
    if part.url:
        if part.name:
            losses.lose_name(part.at)
        return {"type": "input_file", "file_url": part.url}
    if part.media_type.startswith("audio/"):
        raise losses.rejection("audio", part.at)
    name = part.name or ("document.pdf" if part.media_type == "application/pdf" else "document")
    return {"type": "input_file", "filename": name, "file_data": f"data:{part.media_type};base64,{part.data}"}


def without_foreign(body: fields.Object) -> dict[str, Any] | None:
    """The body without reasoning of other providers, and without what a client has made of a search; None if there is
    none."""
    items = body.get("input")
    if not isinstance(items, list):
        return None
    kept = [item for item in items if not _is_foreign(item)]
    return {**body, "input": kept} if len(kept) < len(items) else None


def _is_foreign(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("type") not in ("reasoning", web.CALL):
        return False
    if item["type"] == web.CALL:
        return not web.is_sendable(item)
    mark = thinking.untag(str(item.get("encrypted_content") or ""))
    return mark is not None and mark[0] != NAME
