"""OpenAI Chat Completions: messages, read and written. Source: ``types.chat.chat_completion_message_param``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ccproxy_lite.formats import fields, media, openai
from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral import cache_marks, names, thinking, turns
from ccproxy_lite.formats.neutral.events import Extra
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
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ccproxy_lite.formats.openai_caching import Caching
from ccproxy_lite.formats.openai_chat import reasoning
from ccproxy_lite.formats.openai_chat.reasoning import NAME
from ccproxy_lite.jsontext import dumps_text

_REASONING = "reasoning_content"
NAME_LIMITS = names.Limits(names.WORD, 64, names.PRINTABLE, 40)

# ---------------------------------------------------------------- reading

_Read = TypeVar("_Read", bound=Part)
_MESSAGE = frozenset(
    "role content tool_calls tool_call_id refusal function_call name reasoning_content reasoning thinking_blocks "
    "reasoning_details".split()
)


def read_messages(body: fields.Object) -> tuple[tuple[Text, ...], tuple[Message, ...]]:
    """The leading instructions, and the turns after them. Raises ClientError."""
    system: list[Text] = []
    messages: list[Message] = []
    legacy_ids: dict[str, str] = {}
    for message, at in fields.objects(body, "messages", ""):
        role = fields.text(message, "role", at)
        extra = fields.extra_of(message, _MESSAGE)
        if role in ("system", "developer"):
            parts = _marked(message, _read_instructions(message, at))
            if messages:
                messages.append(Message("system", parts, extra, at))
            else:
                others = {key: value for key, value in extra.items() if key != cache_marks.MARKER}
                system += [replace(part, extra={**part.extra, **others}) if others else part for part in parts]
        elif role == "user":
            messages.append(Message("user", _marked(message, _read_content(message, at)), extra, at))
        elif role == "assistant":
            messages.append(Message("assistant", _marked(message, _read_assistant(message, at, legacy_ids)), extra, at))
        elif role in ("tool", "function"):
            messages.append(Message("user", _marked(message, [_read_result(message, at, legacy_ids)]), extra, at))
        else:
            raise fields.wrong(f"{at}.role", "system, developer, user, assistant or tool")
    return tuple(system), tuple(messages)


def _marked(message: fields.Object, parts: Iterable[_Read]) -> tuple[_Read, ...]:
    """The parts of a message; a cache marker of Anthropic's that the message carries belongs to the last of them."""
    read = [*parts]
    places = [number for number, part in enumerate(read) if _may_be_marked(part)]
    if places and cache_marks.marker_of(message) is not None:
        last: Any = read[places[-1]]
        read[places[-1]] = replace(last, extra={cache_marks.MARKER: cache_marks.marker_of(message), **last.extra})
    return tuple(read)


def _may_be_marked(part: Part) -> bool:
    return bool(part.text) if isinstance(part, Text) else not isinstance(part, Foreign | Thinking)


def _read_instructions(message: fields.Object, at: str) -> Iterable[Text]:
    for part in _read_content(message, at):
        if not isinstance(part, Text):
            raise fields.wrong(part.at, "text")
        if part.text:
            yield part


def _read_content(message: fields.Object, at: str) -> Iterable[Part]:
    value = message.get("content")
    if value is None:
        return
    if isinstance(value, str):
        yield Text(value, at=f"{at}.content")
        return
    for part, inner in fields.objects(message, "content", at):
        yield _read_part(part, inner)


def _read_part(part: fields.Object, at: str) -> Part:
    match fields.text(part, "type", at):
        case "text":
            return Text(fields.text(part, "text", at), fields.extra_of(part, frozenset(("type", "text"))), at)
        case "refusal":
            return Refusal(fields.text(part, "refusal", at), fields.extra_of(part, frozenset(("type", "refusal"))), at)
        case "image_url":
            image = part.get("image_url")
            holder = {"url": image} if isinstance(image, str) else fields.as_object(image, f"{at}.image_url")
            extra = {
                **fields.extra_of(part, frozenset(("type", "image_url"))),
                **fields.extra_of(holder, frozenset(("url", "detail")), "image_url"),
            }
            detail = fields.text(holder, "detail", at, "")
            return media.image(fields.text(holder, "url", f"{at}.image_url"), detail, extra, at)
        case "input_audio":
            audio = fields.as_object(part.get("input_audio"), f"{at}.input_audio")
            where = f"{at}.input_audio"
            return Audio(fields.text(audio, "data", where), fields.text(audio, "format", where, "wav"), at=at)
        case "file":
            file = fields.as_object(part.get("file"), f"{at}.file")
            extra = {
                **fields.extra_of(part, frozenset(("type", "file"))),
                **fields.extra_of(file, frozenset(("filename", "file_id", "file_data")), "file"),
            }
            return _read_file(file, extra, at)
        case kind:
            return Foreign(kind, dict(part), at)


def _read_file(file: fields.Object, extra: Extra, at: str) -> File:
    name = fields.text(file, "filename", at, "")
    if file.get("file_id"):
        return File(file_id=fields.text(file, "file_id", at), name=name, extra=extra, at=at)
    return media.file(fields.text(file, "file_data", f"{at}.file"), name, extra, at, f"{at}.file.file_data")


def _read_assistant(message: fields.Object, at: str, legacy_ids: dict[str, str]) -> Iterable[Part]:
    yield from reasoning.read_history(message, at)
    yield from _read_content(message, at)
    refusal = fields.text(message, "refusal", at, "")
    if refusal:
        yield Refusal(refusal, at=f"{at}.refusal")
    for call, inner in fields.objects(message, "tool_calls", at):
        signature, redacted, origin = thinking.unseal(read_signature(call), NAME)
        if signature or redacted:
            yield Thinking("", signature, redacted, origin, at=f"{inner}.extra_content")
        yield _read_call(call, inner)
    legacy = fields.optional_object(message, "function_call", at)
    if legacy:
        name = fields.text(legacy, "name", f"{at}.function_call")
        legacy_ids[name] = names.made_up_id(at, name)
        arguments = fields.text(legacy, "arguments", f"{at}.function_call", "")
        yield ToolCall(legacy_ids[name], name, arguments, at=f"{at}.function_call")


def read_signature(call: fields.Object) -> str:
    """A call's reasoning signature, where Google's Chat endpoint puts it."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    return fields.lenient(google, "thought_signature")


def write_signature(signature: str) -> dict[str, Any]:
    """The member of a call that carries a signature; none where there is none."""
    return {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}


def without_foreign(body: fields.Object) -> dict[str, Any] | None:
    """The body without signatures of other providers; None if there are none."""
    changed = False
    messages: list[Any] = []
    for message in fields.lenient_list(body, "messages"):
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        if isinstance(calls, list) and any(isinstance(call, dict) and _is_foreign(call) for call in calls):
            changed = True
            kept = [_without_extra(call) if isinstance(call, dict) and _is_foreign(call) else call for call in calls]
            message = {**message, "tool_calls": kept}
        messages.append(message)
    return {**body, "messages": messages} if changed else None


def _is_foreign(call: fields.Object) -> bool:
    return thinking.unseal(read_signature(call), NAME)[2] != NAME


def _without_extra(call: fields.Object) -> dict[str, Any]:
    return {key: value for key, value in call.items() if key != "extra_content"}


def _read_call(call: fields.Object, at: str) -> ToolCall:
    call_id = fields.text(call, "id", at, "") or names.made_up_id(at)
    extra = fields.extra_of(call, frozenset(("id", "type", "function", "custom")))
    if call.get("type") == "custom":
        custom = fields.as_object(call.get("custom"), f"{at}.custom")
        name, text = fields.text(custom, "name", at), fields.text(custom, "input", at, "")
        return ToolCall(call_id, name, text, "custom", extra, at)
    function = fields.as_object(call.get("function"), f"{at}.function")
    name = fields.text(function, "name", f"{at}.function")
    # Ollama and some others use an object where OpenAI has JSON text.
    if isinstance(function.get("arguments"), dict):  # as some servers want it
        return ToolCall(call_id, name, dumps_text(function["arguments"]), extra=extra, at=at)
    return ToolCall(call_id, name, fields.text(function, "arguments", f"{at}.function", ""), extra=extra, at=at)


def _read_result(message: fields.Object, at: str, legacy_ids: dict[str, str]) -> ToolResult:
    kinds = Text | Image | File | Audio | Foreign
    content = tuple(part for part in _read_content(message, at) if isinstance(part, kinds))
    if message.get("role") == "function":
        name = fields.text(message, "name", at)
        return ToolResult(legacy_ids.get(name, ""), content, name=name, at=at)
    return ToolResult(fields.text(message, "tool_call_id", at), content, at=at)


# ---------------------------------------------------------------- writing


def write_messages(request: Request, target: Target, losses: Losses, caching: Caching) -> list[dict[str, Any]]:
    """All messages, tool results directly after the calls that they answer. Raises ClientError."""
    written = _write_instructions(request, caching, losses)
    native = openai.is_openai_reasoning(target.model)  # only these models accept custom tools
    # Plain reasoning is only sent where it is expected; signed reasoning goes back to its origin.
    wanted = _REASONING in target.quirks
    rules = turns.Rules(lambda part: bool((wanted and part.text) or (part.origin == NAME and part.signature)))
    fitting = turns.fitting(turns.in_place(request.messages, target.quirks), rules, losses)
    paired = turns.merged(_without_lone_reasoning(turn, losses) for turn in turns.paired(fitting, losses, seam="\n\n"))
    for message in paired:
        if message.role == "assistant":
            written.append(_write_assistant(message, target, losses, native))
        elif message.role == "system":
            text = "\n".join(part.text for part in message.parts if isinstance(part, Text))
            written.append({"role": "system", "content": text})
        else:
            written += _write_user(message, losses, caching)
    if not paired and turns.says_nothing(request.messages):
        written.append({"role": "user", "content": ""})
    if not written:
        raise losses.empty()
    turns.name_prefill(paired, losses)
    return written


def _write_instructions(request: Request, caching: Caching, losses: Losses) -> list[dict[str, Any]]:
    for part in request.system:
        losses.lose_extra(part.extra, part.at)
    if not request.system:
        return []
    marks = caching.marked(request.system)
    if any(marks):
        texts = zip(request.system, marks, strict=True)
        return [{"role": "system", "content": [{"type": "text", "text": part.text, **mark} for part, mark in texts]}]
    return [{"role": "system", "content": "\n".join(part.text for part in request.system)}]


def _without_lone_reasoning(turn: Message, losses: Losses) -> Message:
    """A turn without reasoning, if it has nothing else: a message cannot consist of it alone."""
    if turn.role != "assistant" or any(not isinstance(part, Thinking) for part in turn.parts):
        return turn
    for part in turn.parts:
        losses.lose("thinking", part.at)
    return replace(turn, parts=())


def _write_user(message: Message, losses: Losses, caching: Caching) -> Iterable[dict[str, Any]]:
    media_parts: list[dict[str, Any]] = []
    content: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield _write_result(part, media_parts, losses)
        else:
            content += [{**written, **caching.mark(part.extra)} for written in _write_part(part, losses)]
    content = media_parts + content
    if len(content) == 1 and content[0]["type"] == "text" and len(content[0]) == 2:
        yield {"role": "user", "content": content[0]["text"]}
    elif content:
        yield {"role": "user", "content": content}


def _write_result(part: ToolResult, media_parts: list[dict[str, Any]], losses: Losses) -> dict[str, Any]:
    """A tool message holds text only; what else the result holds follows the batch, labelled with the call's id."""
    losses.lose_extra(part.extra, part.at)
    call_id = names.fit_id(part.call_id, NAME_LIMITS)
    content = _write_content(part.content, losses)
    lines = [inner["text"] for inner in content if inner["type"] == "text"]
    others = [inner for inner in content if inner["type"] != "text"]
    # A tool message holds text only: media follow the batch of results in a user message.
    if others:
        lines = lines or ["(see the content below)"]
        media_parts += [{"type": "text", "text": f"Content of the tool result {call_id}:"}, *others]
    text = "\n".join(lines)
    if part.is_error and not text.startswith("Error: "):
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def _write_content(parts: Sequence[Part], losses: Losses) -> list[dict[str, Any]]:
    return [written for part in parts for written in _write_part(part, losses)]


_DETAILS = {"auto": "auto", "low": "low", "high": "high", "original": "high"}
"""Of images; the last is a level of Responses. Strict services reject any other."""


def _write_part(part: Part, losses: Losses) -> Iterable[dict[str, Any]]:
    losses.lose_extra(part.extra, part.at)
    match part:
        case Text() | Refusal():
            if part.text:
                yield {"type": "text", "text": part.text}
        case Image():
            if part.file_id:
                raise losses.rejection("file_id", part.at)
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            level = _DETAILS.get(part.detail)
            yield {"type": "image_url", "image_url": {"url": url, **({"detail": level} if level else {})}}
        case File():
            yield _write_file(part, losses)
        case Audio():
            yield {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        case Foreign():
            losses.lose_foreign(part)


def _write_file(part: File, losses: Losses) -> dict[str, Any]:
    if part.file_id:
        raise losses.rejection("file_id", part.at)
    if media.is_text(part):
        return {"type": "text", "text": media.as_text(part)}
    if part.url:
        losses.lose("file.url", part.at)
    name = part.name or ("document.pdf" if part.media_type == "application/pdf" else "document")
    file_data = f"data:{part.media_type};base64,{part.data}"
    return {"type": "file", "file": {"filename": name, "file_data": file_data}}


def _write_assistant(message: Message, target: Target, losses: Losses, native: bool) -> dict[str, Any]:
    text, thoughts, details, refusals, calls, signature = [], [], [], [], [], ""
    for part in message.parts:
        losses.lose_extra(part.extra, part.at)
        match part:
            case Text():
                text.append(part.text)
            case Refusal():
                refusals.append(part.text)
            case ToolCall():
                calls.append({**_write_call(part, losses, native), **write_signature(signature)})
                signature = ""
            case Thinking():
                sealed = reasoning.unseal(part.signature, part.text)
                details += sealed
                if part.text and (not sealed or _REASONING in target.quirks):
                    thoughts.append(part.text)
                elif part.signature and not sealed:
                    signature = part.signature
    written: dict[str, Any] = {"role": "assistant", "content": "".join(text) if text else None}
    if refusals:
        written["refusal"] = "\n".join(refusals)
    # Where it is expected, a turn with calls must have it, even without a word.
    if thoughts or (calls and _REASONING in target.quirks):
        written["reasoning_content"] = "\n\n".join(thoughts)
    if details:
        reasoning.write_sealed(written, details)
    if calls:
        written["tool_calls"] = calls
    elif signature:  # of a turn without calls
        written |= write_signature(signature)
    return written


def _write_call(part: ToolCall, losses: Losses, native: bool) -> dict[str, Any]:
    call_id, name = names.fit_id(part.id, NAME_LIMITS), names.fit_name(part.name, NAME_LIMITS)
    if part.kind == "custom" and native:
        return {"id": call_id, "type": "custom", "custom": {"name": name, "input": part.arguments}}
    arguments = part.arguments if part.kind == "function" else dumps_text(names.call_arguments(part))
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": names.arguments_text(arguments)}}
