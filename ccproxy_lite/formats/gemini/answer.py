"""Gemini generateContent: answers, whole and streamed, written. Source: what google-genai accepts: ``data: `` lines and
nothing else, arguments as objects, base64 signatures, and a last chunk that holds a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import names
from ccproxy_lite.formats.gemini.contents import write_signature
from ccproxy_lite.formats.gemini.errors import write_error
from ccproxy_lite.formats.neutral import (
    Begin,
    Citation,
    End,
    Event,
    Failed,
    PartDelta,
    PartEnd,
    PartStart,
    Reply,
    StopReason,
    Usage,
    WholePart,
    fold,
)
from ccproxy_lite.jsontext import dumps, quote
from ccproxy_lite.sse import encode

_REASON_NAMES: dict[StopReason, str] = {
    "end": "STOP",
    "stop_sequence": "STOP",
    "tool_use": "STOP",
    "pause": "STOP",
    "max_tokens": "MAX_TOKENS",
    "context_window": "MAX_TOKENS",
    "refusal": "SAFETY",
}


def _write_usage(usage: Usage) -> dict[str, Any]:
    thoughts = usage.reasoning or 0
    written = {
        "promptTokenCount": usage.total_input,
        "candidatesTokenCount": max(usage.output - thoughts, 0),
        "totalTokenCount": usage.total_input + usage.output,
    }
    if usage.cache_read:
        written["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning is not None:
        written["thoughtsTokenCount"] = thoughts
    return written


def _write_part(part: WholePart) -> list[dict[str, Any]]:
    """A whole part; one that closes a text or a thought that was streamed has no text left."""
    start, end = part.start, part.end
    match start.kind:
        case "thinking":
            seal = write_signature(end.signature, "", end.origin)
            return [{"text": part.text, "thought": True, **({"thoughtSignature": seal} if seal else {})}]
        case "redacted":
            return [{"text": "", "thought": True, "thoughtSignature": write_signature("", part.text, end.origin)}]
        case "tool" | "custom":
            arguments = {"input": part.text} if start.kind == "custom" else names.arguments_object(part.text)
            return [{"functionCall": {"id": start.id, "name": start.name, "args": arguments}}]
        case "image":
            return [{"inlineData": {"mimeType": start.media_type or "image/png", "data": part.text}}]
        case _:
            return [{"text": part.text}]


def _grounding(text: str, citations: Iterable[Citation]) -> dict[str, Any]:
    """Sources of a text, with their places in bytes."""
    chunks, supports = [], []
    for number, citation in enumerate(citations):
        chunks.append({"web": {"uri": citation.url, "title": citation.title}})
        start, end = citation.start or 0, len(text) if citation.end is None else citation.end
        segment = {
            "startIndex": len(text[:start].encode()),
            "endIndex": len(text[:end].encode()),
            "text": text[start:end],
        }
        supports.append({"segment": segment, "groundingChunkIndices": [number]})
    return {"groundingChunks": chunks, "groundingSupports": supports} if chunks else {}


def _ending(end: End, grounding: dict[str, Any]) -> dict[str, Any]:
    more = {"groundingMetadata": grounding} if grounding else {}
    return {"finishReason": _REASON_NAMES[end.reason], "index": 0, **more}


def write_body(events: Iterable[Event], reply: Reply) -> dict[str, Any]:
    """A whole answer. Raises UpstreamError if the events end in a failure."""
    parts, end = fold(events)
    if isinstance(end, Failed):
        raise UpstreamError(end.message, status=end.status, kind=end.kind)
    written = [one for part in parts for one in _write_part(part)]
    text = "".join(part.text for part in parts if part.start.kind == "text")
    cited = [citation for part in parts for citation in part.end.citations]
    content = {"role": "model", "parts": written or [{"text": ""}]}
    candidate = {"content": content, **_ending(end, _grounding(text, cited))}
    usage = {"usageMetadata": _write_usage(end.usage)} if end.usage is not None else {}
    return {"candidates": [candidate], **usage, "modelVersion": reply.request.model, "responseId": reply.id}


class Writer:
    """Writes a streamed answer: text as it comes, calls and signatures when they are complete."""

    def __init__(self, reply: Reply) -> None:
        self._identity = {"modelVersion": reply.request.model, "responseId": reply.id}
        self._tail = f']}},"index":0}}],{dumps(self._identity)[1:]}\n\n'
        self._head = 'data: {"candidates":[{"content":{"role":"model","parts":['
        self._start = PartStart("text")
        self._before = self._after = ""
        self._held: list[str] = []
        self._citations: list[Citation] = []

    def write(self, event: Event) -> bytes:
        if type(event) is PartDelta:
            if not self._before:
                self._held.append(event.text)
                return b""
            return f"{self._before}{quote(event.text)}{self._after}".encode()
        match event:
            case PartStart():
                self._start, self._held, self._before = event, [], ""
                if event.kind in ("text", "refusal", "thinking"):
                    thought = ',"thought":true' if event.kind == "thinking" else ""
                    self._before, self._after = f'{self._head}{{"text":', f"{thought}}}{self._tail}"
                return b""
            case PartEnd():
                return self._close(event)
            case Begin():
                return b""
            case End():
                return self._end(event)
            case Failed():
                return encode(dumps(write_error(event)[1]))
        raise AssertionError(event)

    def keep_alive(self) -> bytes:
        return b"\n"

    def _chunk(self, parts: list[dict[str, Any]]) -> bytes:
        return f"{self._head}{dumps(parts)[1:-1]}{self._tail}".encode()

    def _close(self, end: PartEnd) -> bytes:
        self._citations += end.citations
        if self._before and not end.signature:
            return b""
        return self._chunk(_write_part(WholePart(self._start, "".join(self._held), end)))

    def _end(self, end: End) -> bytes:
        content = {"role": "model", "parts": [{"text": ""}]}  # without a part, the SDK forgets the whole turn
        cited = {"groundingChunks": [{"web": {"uri": c.url, "title": c.title}} for c in self._citations]}
        candidate = {"content": content, **_ending(end, cited if self._citations else {})}
        usage = {"usageMetadata": _write_usage(end.usage)} if end.usage is not None else {}
        return encode(dumps({"candidates": [candidate], **usage, **self._identity}))
