"""Anthropic Messages: answers, whole and streamed, written. Source: the SDK's ``types.message``, and what its
accumulator requires: event lines, contiguous indexes, numeric usage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.anthropic import web
from ccproxy_lite.formats.anthropic.blocks import NAME, NAME_LIMITS
from ccproxy_lite.formats.anthropic.errors import write_error
from ccproxy_lite.formats.anthropic.reader import REASONS
from ccproxy_lite.formats.format import ReplyInfo
from ccproxy_lite.formats.neutral import names, thinking
from ccproxy_lite.formats.neutral.events import (
    Begin,
    End,
    Event,
    Failed,
    PartDelta,
    PartEnd,
    PartStart,
    Search,
    Usage,
    WholePart,
    fold,
)
from ccproxy_lite.formats.neutral.search import span
from ccproxy_lite.formats.sse import encode
from ccproxy_lite.jsontext import dumps, dumps_text, quote

_REASON_NAMES = {reason: name for name, reason in REASONS.items()}


def _write_usage(usage: Usage | None, searches: int = 0) -> dict[str, Any]:
    usage = usage or Usage()
    written: dict[str, Any] = {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
    }
    if usage.reasoning is not None:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if searches:
        written["server_tool_use"] = {"web_search_requests": searches, "web_fetch_requests": 0}
    return written


def _message_object(reply: ReplyInfo, content: list[Any], usage: Usage | None, searches: int = 0) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.request.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _write_usage(usage, searches),
    }


def _stop_fields(end: End) -> dict[str, Any]:
    ending: dict[str, Any] = {"stop_reason": _REASON_NAMES[end.reason], "stop_sequence": end.stop_sequence}
    if end.reason == "refusal":
        ending["stop_details"] = {"type": "refusal"}
    return ending


def write_body(events: Iterable[Event], reply: ReplyInfo) -> dict[str, Any]:
    """A complete response. Raises UpstreamError if the events end in a failure."""
    parts, end = fold(events)
    if isinstance(end, Failed):
        raise UpstreamError(end.message, status=end.status, kind=end.kind)
    if _only_searches(reply):
        parts = _searches_first(parts)
    citations = [one for part in parts for one in part.end.citations]
    content: list[dict[str, Any]] = []
    searches = 0
    for part in parts:
        if part.start.kind == "search":
            if reply.request.web_tools and part.start.name == "web_search":
                searches += 1
                use_id = _search_id(reply, searches)
                found = part.end.search or _CUT_OFF
                content += [web.write_use(found, use_id), web.write_result(found, use_id, citations)]
        elif part.start.kind == "text" and part.end.citations:
            content += web.write_texts(part.text, part.end.citations)
        else:
            content.append(_write_block(part))
    return {**_message_object(reply, content, end.usage, searches), **_stop_fields(end)}


def _only_searches(reply: ReplyInfo) -> bool:
    """Whether the request is for nothing but a search."""
    tools = reply.request.tools
    return bool(tools) and len(reply.request.web_tools) == len(tools)


def _searches_first(parts: list[WholePart]) -> list[WholePart]:
    """The parts of an answer; some services tell of the searches behind what they have made of them."""
    told = len(parts)
    while told and parts[told - 1].start.kind == "search":
        told -= 1
    return parts[told:] + parts[:told]


def _search_id(reply: ReplyInfo, number: int) -> str:
    return f"{web.MARK}{reply.id}_{number}"


def _write_block(part: WholePart) -> dict[str, Any]:
    match part.start.kind:
        case "thinking":
            return {"type": "thinking", "thinking": part.text, "signature": _signature_for_client(part.end)}
        case "redacted":
            return {"type": "redacted_thinking", "data": part.text}
        case "tool" | "custom":
            call_id = names.id_for_client(part.start.id, NAME_LIMITS)
            arguments = names.arguments_object(part.text)
            arguments = {"input": part.text} if part.start.kind == "custom" else arguments
            return {"type": "tool_use", "id": call_id, "name": part.start.name, "input": arguments}
        case "image":
            return {"type": "text", "text": _image_notice(part.start)}
        case _:
            return {"type": "text", "text": part.text}


def _signature_for_client(end: PartEnd) -> str:
    return end.signature if end.origin == NAME else thinking.tag(end.origin, end.signature)


def _image_notice(start: PartStart) -> str:
    return f"[an image of type {start.media_type or 'unknown'}, which this format cannot carry]"


_CUT_OFF = Search(error="unavailable")
"""A search of which the answer did not tell the end."""
_DELTAS = {
    "text": ("text_delta", "text"),
    "refusal": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool": ("input_json_delta", "partial_json"),
}


class Writer:
    """Writes a streamed answer: one block at a time, indexes from 0 without a gap.

    The answer to a request for nothing but a search is short, and some services tell only at its end what was found and
    which words cite it. Its results and texts are held until then: results get the titles that only citations tell, and
    texts are cut at the borders of what is cited. Elsewhere a text is written as it comes, and cites as a whole.
    """

    def __init__(self, reply: ReplyInfo) -> None:
        self._reply = reply
        self._index = -1
        self._start = PartStart("text")
        self._prefix = ""
        self._held: list[str] = []
        self._searches = 0
        self._uses: set[str] = set()
        self._holds = _only_searches(reply)
        self._shows_searches = bool(reply.request.web_tools)
        self._parts: list[WholePart] = []

    def write(self, event: Event) -> bytes:
        if type(event) is PartDelta:
            if not self._prefix:
                self._held.append(event.text)
                return b""
            if self._start.kind == "text" and self._shows_searches:  # citations quote it
                self._held.append(event.text)
            return f"{self._prefix}{quote(event.text)}}}}}\n\n".encode()
        match event:
            case PartStart():
                return self._open_part(event)
            case PartEnd():
                return self._close_part(event)
            case Begin():
                message = _message_object(self._reply, [], event.usage)
                return _encode_event("message_start", {"message": message})
            case End():
                delta = {"delta": _stop_fields(event), "usage": _write_usage(event.usage, self._searches)}
                return self._write_held() + _encode_event("message_delta", delta) + _encode_event("message_stop", {})
            case Failed():
                if self._holds and self._start.kind == "text" and self._held:
                    self._parts.append(WholePart(self._start, "".join(self._held), PartEnd()))
                return self._write_held() + encode(dumps(write_error(event)[1]), "error")
        raise AssertionError(event)

    def _open_part(self, start: PartStart) -> bytes:
        self._start, self._held, self._prefix = start, [], ""
        if start.kind == "search":
            return self._open_search()
        # What must stand in the start of its block, or is held, is written when it is complete.
        kind = _DELTAS.get(start.kind)
        if kind is None or (self._holds and start.kind == "text"):
            return b""
        match start.kind:
            case "thinking":
                block: dict[str, Any] = {"type": "thinking", "thinking": "", "signature": ""}
            case "tool":
                call_id = names.id_for_client(start.id, NAME_LIMITS)
                block = {"type": "tool_use", "id": call_id, "name": start.name, "input": {}}
            case _:
                block = {"type": "text", "text": ""}
        opened = self._open_block(block)
        # Everything but the text of a delta is the same for the whole block.
        delta = f'{{"type":"content_block_delta","index":{self._index},"delta":{{"type":"{kind[0]}","{kind[1]}":'
        self._prefix = f"event: content_block_delta\ndata: {delta}"
        return opened

    def _close_part(self, end: PartEnd) -> bytes:
        part, self._held = WholePart(self._start, "".join(self._held), end), []
        if self._start.kind == "search":
            return self._close_search(part)
        if self._prefix:
            quoted = [web.write_citation(one, part.text[slice(*span(one, len(part.text)))]) for one in end.citations]
            deltas = [self._encode_delta("citations_delta", "citation", citation) for citation in quoted]
            if self._start.kind == "thinking":
                deltas.append(self._encode_delta("signature_delta", "signature", _signature_for_client(end)))
            return b"".join([*deltas, self._close_block()])
        if self._holds and self._start.kind == "text":
            self._parts.append(part)
            return b""
        return self._write_whole(_write_block(part))

    # --- searches

    def _open_search(self) -> bytes:
        if not self._shows_searches or self._start.name != "web_search":
            return b""
        self._searches += 1
        if any(part.start.kind == "text" for part in self._parts):  # held, and this one stands behind it
            return b""
        use_id = _search_id(self._reply, self._searches)
        self._uses.add(use_id)
        return self._open_block(web.write_use(Search(), use_id))

    def _close_search(self, part: WholePart) -> bytes:
        if not self._shows_searches or self._start.name != "web_search":
            return b""
        found, use_id = part.end.search or _CUT_OFF, _search_id(self._reply, self._searches)
        if self._holds:
            self._parts.append(WholePart(replace(part.start, id=use_id), "", replace(part.end, search=found)))
        if use_id not in self._uses:
            return b""
        text = dumps_text(web.write_use(found, use_id)["input"])
        out = self._encode_delta("input_json_delta", "partial_json", text) + self._close_block()
        if self._holds:
            return out
        return out + self._open_block(web.write_result(found, use_id)) + self._close_block()

    def _write_held(self) -> bytes:
        citations = [one for part in self._parts for one in part.end.citations]
        blocks: list[dict[str, Any]] = []
        for part in _searches_first(self._parts):
            found, use_id = part.end.search, part.start.id
            if found is not None:
                blocks += [] if use_id in self._uses else [web.write_use(found, use_id)]
                blocks.append(web.write_result(found, use_id, citations))
            else:
                blocks += web.write_texts(part.text, part.end.citations)
        self._parts = []
        return b"".join(map(self._write_whole, blocks))

    # --- blocks

    def _open_block(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        return _encode_event("content_block_start", {"index": self._index, "content_block": block})

    def _close_block(self) -> bytes:
        return _encode_event("content_block_stop", {"index": self._index})

    def _encode_delta(self, kind: str, field: str, value: Any) -> bytes:
        delta = {"type": kind, field: value}
        return _encode_event("content_block_delta", {"index": self._index, "delta": delta})

    def _write_whole(self, block: dict[str, Any]) -> bytes:
        """A block that is complete; the SDK wants the start of one and its content apart."""
        match block["type"]:
            case "text":
                citations = block.get("citations", ())
                out = self._open_block({"type": "text", "text": "", **({"citations": []} if citations else {})})
                out += self._encode_delta("text_delta", "text", block["text"])
                for citation in citations:
                    out += self._encode_delta("citations_delta", "citation", citation)
            case "tool_use" | web.USE:
                out = self._open_block({**block, "input": {}})
                out += self._encode_delta("input_json_delta", "partial_json", dumps_text(block["input"]))
            case _:
                out = self._open_block(block)
        return out + self._close_block()


def _encode_event(kind: str, data: dict[str, Any]) -> bytes:
    return encode(dumps({"type": kind, **data}), kind)
