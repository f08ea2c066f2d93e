"""Anthropic Messages: content blocks, read and written. Source: the SDK's ``types.content_block_param``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy_lite.formats import fields, media
from ccproxy_lite.formats.anthropic import directives, web
from ccproxy_lite.formats.anthropic.caching import cache_marker
from ccproxy_lite.formats.neutral import names, thinking, turns
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    File,
    Foreign,
    Image,
    Part,
    Refusal,
    SearchCall,
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


def read_content(holder: fields.Object, at: str) -> Iterable[Part]:
    value = holder.get("content")
    if value is None:
        return
    if isinstance(value, str):
        yield Text(value, at=f"{at}.content")
        return
    at = f"{at}.content"
    blocks = fields.as_array(value, at)
    is_searching = any(map(_is_searching, blocks))
    searches = web.searches_in(blocks, at) if is_searching else {}
    for number, block in enumerate(blocks):
        if number in searches:
            yield searches[number]
        elif block is not None and not (is_searching and web.is_result(block)):  # None: replaced by a compaction
            where = f"{at}[{number}]"
            yield from _read_block(fields.as_object(block, where), where)


def _is_searching(block: Any) -> bool:
    return fields.lenient(block, "type") not in _USUAL and (web.is_use(block) or web.is_result(block))


_USUAL = frozenset(("text", "tool_use", "tool_result", "thinking", "image"))


TEXT = frozenset(("type", "text"))
_UNCITED = frozenset(("type", "text", "citations"))
_IMAGE = frozenset(("type", "source"))
_SOURCE = frozenset("type media_type data url file_id content".split())
_DOCUMENT = frozenset(("type", "source", "title"))
_THINKING = frozenset(("type", "thinking", "signature"))
_IN_RESULTS = (Text, Image, File, Foreign)
_REDACTED = frozenset(("type", "data"))
_TOOL_USE = frozenset(("type", "id", "name", "input"))
_TOOL_RESULT = frozenset(("type", "tool_use_id", "content", "is_error"))
_TOOL_REFERENCE = frozenset(("type", "tool_name"))
_COMPACTION = frozenset(("type", "content", "encrypted_content", "signature", "tool_changes"))
_SEARCH_RESULT = frozenset(("type", "source", "title", "content"))


def _read_block(block: fields.Object, at: str) -> Iterable[Part]:
    match fields.text(block, "type", at):
        case "text":
            # No sources in an earlier answer are no loss, nor those that a conversion has written there.
            cited = block.get("citations") and fields.lenient_list(block, "citations")
            known = TEXT if cited and not all(map(web.is_marked_citation, cited)) else _UNCITED
            yield Text(fields.text(block, "text", at), fields.extra_of(block, known), at)
        case "image":
            yield _read_image(block, at)
        case "document":
            yield from _read_document(block, at)
        # The client's own search results: a title, a source and texts, which other formats only know as text.
        case "search_result":
            lines = [fields.text(block, "title", at, ""), fields.text(block, "source", at, "")]
            lines += [fields.text(inner, "text", where, "") for inner, where in fields.objects(block, "content", at)]
            yield Text("\n".join(filter(None, lines)), fields.extra_of(block, _SEARCH_RESULT), at)
        case "thinking":
            yield _read_thinking(block, at)
        case "redacted_thinking":
            origin, data = thinking.untag(fields.text(block, "data", at)) or (NAME, fields.text(block, "data", at))
            yield Thinking(redacted=data, origin=origin, extra=fields.extra_of(block, _REDACTED), at=at)
        case "tool_use":
            arguments = dumps_text(fields.optional_object(block, "input", at) or {})
            name, call_id = fields.text(block, "name", at), fields.text(block, "id", at)
            yield ToolCall(call_id, name, arguments, extra=fields.extra_of(block, _TOOL_USE), at=at)
        case "tool_result":
            content = tuple(part for part in read_content(block, at) if isinstance(part, _IN_RESULTS))
            is_error = fields.optional_bool(block, "is_error", at) or False
            call_id = fields.text(block, "tool_use_id", at)
            yield ToolResult(call_id, content, is_error, extra=fields.extra_of(block, _TOOL_RESULT), at=at)
        case "tool_reference":  # what the client's search for tools has found
            yield Text(fields.text(block, "tool_name", at), fields.extra_of(block, _TOOL_REFERENCE), at)
        case "compaction":  # a summary of what stood before it; without one it has failed, and says nothing
            summary = fields.optional_text(block, "content", at)
            if summary:
                yield Text(summary, fields.extra_of(block, _COMPACTION), at)
        case kind if not directives.is_applied(block):
            yield Foreign(kind, dict(block), at)


def _read_image(block: fields.Object, at: str) -> Image:
    source = fields.as_object(block.get("source"), f"{at}.source")
    extra = {**fields.extra_of(block, _IMAGE), **fields.extra_of(source, _SOURCE, "source")}
    where = f"{at}.source"
    match fields.text(source, "type", where):
        case "base64":
            media_type = fields.text(source, "media_type", where)
            return Image(media_type, fields.text(source, "data", where), extra=extra, at=at)
        case "url":
            return Image(url=media.web_url(fields.text(source, "url", where), where), extra=extra, at=at)
        case "file":
            return Image(file_id=fields.text(source, "file_id", where), extra=extra, at=at)
        case _:
            raise fields.wrong(f"{where}.type", "base64, url or file")


def _read_document(block: fields.Object, at: str) -> Iterable[Part]:
    source = fields.as_object(block.get("source"), f"{at}.source")
    extra, where = {**fields.extra_of(block, _DOCUMENT), **fields.extra_of(source, _SOURCE, "source")}, f"{at}.source"
    title = fields.text(block, "title", at, "")
    match fields.text(source, "type", where):
        case "base64":
            media_type, data = (
                fields.text(source, "media_type", where, "application/pdf"),
                fields.text(source, "data", where),
            )
            if media_type.startswith("text/plain"):
                yield File("text/plain", text=media.plain(data, f"{where}.data"), name=title, extra=extra, at=at)
            else:
                yield File(media_type, data, name=title, extra=extra, at=at)
        case "text":
            yield File("text/plain", text=fields.text(source, "data", where), name=title, extra=extra, at=at)
        # A document made of blocks: its texts are one file, its images follow it.
        case "content":
            parts = list(read_content(source, where))
            lines = [part.text for part in parts if isinstance(part, Text)]
            if lines:
                yield File("text/plain", text="\n".join(lines), name=title, extra=extra, at=at)
            yield from (part for part in parts if not isinstance(part, Text))
        case "url":
            url = media.web_url(fields.text(source, "url", where), where)
            yield File("application/pdf", url=url, name=title, extra=extra, at=at)
        case "file":
            yield File(file_id=fields.text(source, "file_id", where), name=title, extra=extra, at=at)
        case _:
            raise fields.wrong(f"{where}.type", "base64, text, content, url or file")


def _read_thinking(block: fields.Object, at: str) -> Thinking:
    signature = fields.text(block, "signature", at, "")
    # Reasoning that a conversion has passed through this client's history.
    origin, value = thinking.untag(signature) or (NAME, signature)
    extra = fields.extra_of(block, _THINKING)
    return Thinking(fields.text(block, "thinking", at, ""), value, origin=origin, extra=extra, at=at)


# ---------------------------------------------------------------- writing


def write_text(part: Text, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    return {"type": "text", "text": part.text, **cache_marker(part.extra)}


RULES = turns.Rules(
    lambda thought: thought.origin == NAME and bool(thought.signature or thought.redacted),
    blanks=False,
    audio=False,
    searches=web.can_return,
)


def write_parts(parts: Iterable[Part], losses: Losses) -> list[dict[str, Any]]:
    """The blocks of a turn's parts, all of which fit."""
    blocks: list[dict[str, Any]] = []
    for part in parts:
        blocks += web.write_history(part) if isinstance(part, SearchCall) else [write_part(part, losses)]
    return blocks


def write_part(part: Part, losses: Losses) -> dict[str, Any]:
    """One block, of a part that fits."""
    return {**_write_block(part, losses), **({} if isinstance(part, Thinking) else cache_marker(part.extra))}


def _write_block(part: Part, losses: Losses) -> dict[str, Any]:
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
        case Refusal():  # it was a text for the user
            losses.lose_extra(part.extra, part.at)
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
        raise losses.rejection("file_id", part.at)
    return {"type": "image", "source": source}


def _write_file(part: File, losses: Losses) -> dict[str, Any]:
    losses.lose_extra(part.extra, part.at)
    if media.is_text(part):
        source = {"type": "text", "media_type": "text/plain", "data": part.text}
    elif part.file_id:
        raise losses.rejection("file_id", part.at)
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
