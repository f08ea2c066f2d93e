"""Anthropic Messages: content blocks, read and written. Source: the SDK's ``types.content_block_param``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy_lite.formats import media, shape
from ccproxy_lite.formats.neutral import names, thinking, turns
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    File,
    Foreign,
    Image,
    Part,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ccproxy_lite.jsontext import dumps_text

NAME = "anthropic"
NAME_LIMITS = names.Limits(names.WORD, 64, names.WORD, 512)
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

# ---------------------------------------------------------------- reading


def read_content(holder: shape.Object, at: str) -> Iterable[Part]:
    value = holder.get("content")
    if value is None:
        return
    if isinstance(value, str):
        if value:
            yield Text(value, at=f"{at}.content")
        return
    for block, inner in shape.objects(holder, "content", at):
        yield from _read_block(block, inner)


TEXT = frozenset(("type", "text"))
_IMAGE = frozenset(("type", "source"))
_DOCUMENT = frozenset(("type", "source", "title"))
_THINKING = frozenset(("type", "thinking", "signature"))
_REDACTED = frozenset(("type", "data"))
_TOOL_USE = frozenset(("type", "id", "name", "input"))
_TOOL_RESULT = frozenset(("type", "tool_use_id", "content", "is_error"))
_SEARCH_RESULT = frozenset(("type", "source", "title", "content"))


def _read_block(block: shape.Object, at: str) -> Iterable[Part]:
    match shape.text(block, "type", at):
        case "text":
            yield Text(shape.text(block, "text", at), shape.extra_of(block, TEXT), at)
        case "image":
            yield _read_image(block, at)
        case "document":
            yield from _read_document(block, at)
        case "search_result":
            lines = [shape.text(block, "title", at, ""), shape.text(block, "source", at, "")]
            lines += [shape.text(inner, "text", where, "") for inner, where in shape.objects(block, "content", at)]
            yield Text("\n".join(filter(None, lines)), shape.extra_of(block, _SEARCH_RESULT), at)
        case "thinking":
            yield _read_thinking(block, at)
        case "redacted_thinking":
            origin, data = thinking.untag(shape.text(block, "data", at)) or (NAME, shape.text(block, "data", at))
            yield Thinking(redacted=data, origin=origin, extra=shape.extra_of(block, _REDACTED), at=at)
        case "tool_use":
            arguments = dumps_text(shape.optional_object(block, "input", at) or {})
            name, call_id = shape.text(block, "name", at), shape.text(block, "id", at)
            yield ToolCall(call_id, name, arguments, extra=shape.extra_of(block, _TOOL_USE), at=at)
        case "tool_result":
            kinds = Text | Image | File | Foreign
            content = tuple(part for part in read_content(block, at) if isinstance(part, kinds))
            is_error = shape.optional_bool(block, "is_error", at) or False
            call_id = shape.text(block, "tool_use_id", at)
            yield ToolResult(call_id, content, is_error, extra=shape.extra_of(block, _TOOL_RESULT), at=at)
        case kind:
            yield Foreign(kind, dict(block), at)


def _read_image(block: shape.Object, at: str) -> Image:
    source = shape.as_object(block.get("source"), f"{at}.source")
    extra = shape.extra_of(block, _IMAGE)
    where = f"{at}.source"
    match shape.text(source, "type", where):
        case "base64":
            media_type = shape.text(source, "media_type", where)
            return Image(media_type, shape.text(source, "data", where), extra=extra, at=at)
        case "url":
            return Image(url=media.web_url(shape.text(source, "url", where), where), extra=extra, at=at)
        case "file":
            return Image(file_id=shape.text(source, "file_id", where), extra=extra, at=at)
        case _:
            raise shape.wrong(f"{where}.type", "base64, url or file")


def _read_document(block: shape.Object, at: str) -> Iterable[Part]:
    source = shape.as_object(block.get("source"), f"{at}.source")
    extra, where = shape.extra_of(block, _DOCUMENT), f"{at}.source"
    title = shape.text(block, "title", at, "")
    match shape.text(source, "type", where):
        case "base64":
            media_type, data = (
                shape.text(source, "media_type", where, "application/pdf"),
                shape.text(source, "data", where),
            )
            if media_type.startswith("text/plain"):
                yield File("text/plain", text=media.plain(data, f"{where}.data"), name=title, extra=extra, at=at)
            else:
                yield File(media_type, data, name=title, extra=extra, at=at)
        case "text":
            yield File("text/plain", text=shape.text(source, "data", where), name=title, extra=extra, at=at)
        case "content":
            parts = list(read_content(source, where))
            lines = [part.text for part in parts if isinstance(part, Text)]
            if lines:
                yield File("text/plain", text="\n".join(lines), name=title, extra=extra, at=at)
            yield from (part for part in parts if not isinstance(part, Text))
        case "url":
            url = media.web_url(shape.text(source, "url", where), where)
            yield File("application/pdf", url=url, name=title, extra=extra, at=at)
        case "file":
            yield File(file_id=shape.text(source, "file_id", where), name=title, extra=extra, at=at)
        case _:
            raise shape.wrong(f"{where}.type", "base64, text, content, url or file")


def _read_thinking(block: shape.Object, at: str) -> Thinking:
    signature = shape.text(block, "signature", at, "")
    origin, value = thinking.untag(signature) or (NAME, signature)
    extra = shape.extra_of(block, _THINKING)
    return Thinking(shape.text(block, "thinking", at, ""), value, origin=origin, extra=extra, at=at)


# ---------------------------------------------------------------- writing


def write_text(part: Text, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    return {"type": "text", "text": part.text}


RULES = turns.Rules(
    lambda thought: thought.origin == NAME and bool(thought.signature or thought.redacted), blanks=False, audio=False
)


def write_part(part: Part, losses: Losses) -> dict[str, Any]:
    """One block, of a part that fits."""
    match part:
        case Text():
            return write_text(part, losses)
        case ToolCall():
            losses.lose_extra(part.extra, part.at)
            return {
                "type": "tool_use",
                "id": names.fit_id(part.id, NAME_LIMITS),
                "name": names.fit_name(part.name, NAME_LIMITS),
                "input": names.call_arguments(part),
            }
        case ToolResult():
            return _write_result(part, losses)
        case Thinking() if part.redacted:
            return {"type": "redacted_thinking", "data": part.redacted}
        case Thinking():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        case Image():
            return _write_image(part, losses)
        case File():
            return _write_file(part, losses)
        case Refusal():  # what the model said
            return {"type": "text", "text": part.text}
    raise AssertionError(part)


def _write_result(part: ToolResult, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    content = [write_part(inner, losses) for inner in part.content if turns.fits(inner, "user", RULES, losses)]
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": names.fit_id(part.call_id, NAME_LIMITS)}
    if content:
        result["content"] = content
    if part.is_error:
        result["is_error"] = True
    return result


def _write_image(part: Image, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    if part.data:
        if part.media_type not in IMAGE_TYPES:
            losses.lose("image.media_type", part.at)
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    elif part.url:
        source = {"type": "url", "url": part.url}
    else:
        raise losses.refusal("file_id", part.at)
    return {"type": "image", "source": source}


def _write_file(part: File, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    if media.is_text(part):
        source = {"type": "text", "media_type": "text/plain", "data": part.text}
    elif part.file_id:
        raise losses.refusal("file_id", part.at)
    elif part.url:
        if part.media_type not in ("", "application/pdf"):
            losses.lose("file.media_type", part.at)
        source = {"type": "url", "url": part.url}
    else:
        if part.media_type != "application/pdf":
            losses.lose("file.media_type", part.at)
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    title = {"title": part.name} if part.name else {}
    return {"type": "document", "source": source, **title}
