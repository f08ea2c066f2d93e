"""Gemini generateContent: answers, whole and streamed, written. Source: what google-genai accepts: ``data: `` lines and
nothing else, arguments as objects, base64 signatures, and a last chunk that holds a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import names, thinking
from ccproxy_lite.formats.gemini.contents import NAME, write_signature
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


class _Seals:
    """Signatures on their way to the part that they sit on.

    A signature of Gemini without a text of its own belongs to the call behind it. A call that Gemini did not make gets
    the word that stands for a signature: Gemini would refuse it later, when the conversation comes to it.
    """

    def __init__(self) -> None:
        self._held = ""
        self._called = False

    def parts(self, part: WholePart, streamed: bool = False) -> list[dict[str, Any]]:
        """The parts for a whole one; where its text was ``streamed``, only what closes it."""
        start, end = part.start, part.end
        if start.kind == "thinking" and end.origin == NAME and end.signature and not part.text and not streamed:
            rest, self._held = self.rest(), end.signature
            return rest
        if start.kind in ("tool", "custom"):
            seal = self._held or ("" if self._called else thinking.SENTINEL)
            self._held, self._called = "", True
            return [{**_write_part(part), **({"thoughtSignature": seal} if seal else {})}]
        return [*self.rest(), _write_part(part)]

    def rest(self) -> list[dict[str, Any]]:
        """A signature that no call took."""
        held, self._held = self._held, ""
        return [{"text": "", "thoughtSignature": held}] if held else []


def _write_part(part: WholePart) -> dict[str, Any]:
    start, end = part.start, part.end
    match start.kind:
        case "thinking":
            seal = write_signature(end.signature, "", end.origin)
            return {"text": part.text, "thought": True, **({"thoughtSignature": seal} if seal else {})}
        case "redacted":
            return {"text": "", "thought": True, "thoughtSignature": write_signature("", part.text, end.origin)}
        case "tool" | "custom":
            arguments = {"input": part.text} if start.kind == "custom" else names.arguments_object(part.text)
            return {"functionCall": {"id": start.id, "name": start.name, "args": arguments}}
        case "image":
            return {"inlineData": {"mimeType": start.media_type or "image/png", "data": part.text}}
        case _:
            return {"text": part.text}


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
    seals = _Seals()
    written = [one for part in parts for one in seals.parts(part)] + seals.rest()
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
        self._seals = _Seals()
        self._streamed = False

    def write(self, event: Event) -> bytes:
        if type(event) is PartDelta:
            if not self._before:
                self._held.append(event.text)
                return b""
            before = b"" if self._streamed else self._chunk(self._seals.rest())
            self._streamed = True
            return before + f"{self._before}{quote(event.text)}{self._after}".encode()
        match event:
            case PartStart():
                self._start, self._held, self._before, self._streamed = event, [], "", False
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
        if not parts:
            return b""
        return f"{self._head}{dumps(parts)[1:-1]}{self._tail}".encode()

    def _close(self, end: PartEnd) -> bytes:
        self._citations += end.citations
        if self._before and not end.signature:
            return b""
        part = WholePart(self._start, "".join(self._held), end)
        return self._chunk(self._seals.parts(part, self._streamed))

    def _end(self, end: End) -> bytes:
        parts = self._seals.rest() or [{"text": ""}]  # without a part, the SDK forgets the whole turn
        content = {"role": "model", "parts": parts}
        cited = {"groundingChunks": [{"web": {"uri": c.url, "title": c.title}} for c in self._citations]}
        candidate = {"content": content, **_ending(end, cited if self._citations else {})}
        usage = {"usageMetadata": _write_usage(end.usage)} if end.usage is not None else {}
        return encode(dumps({"candidates": [candidate], **usage, **self._identity}))
