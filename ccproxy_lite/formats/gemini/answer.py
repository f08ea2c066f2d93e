"""Gemini generateContent: answers, whole and streamed, written. Source: what google-genai accepts: ``data: `` lines and
nothing else, arguments as objects, base64 signatures, and a last chunk that holds a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.format import ReplyInfo
from ccproxy_lite.formats.gemini import models, web
from ccproxy_lite.formats.gemini.contents import write_signature
from ccproxy_lite.formats.gemini.errors import write_error
from ccproxy_lite.formats.neutral import names
from ccproxy_lite.formats.neutral.events import (
    Begin,
    End,
    Event,
    Failed,
    PartDelta,
    PartEnd,
    PartStart,
    Search,
    StopReason,
    Usage,
    WholePart,
    fold,
)
from ccproxy_lite.formats.sse import encode
from ccproxy_lite.jsontext import dumps, quote

_REASON_NAMES: dict[StopReason, str] = {
    "end": "STOP",
    "stop_sequence": "STOP",
    "tool_use": "STOP",
    "pause": "STOP",
    "max_tokens": "MAX_TOKENS",
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

    A signature without text belongs to the call behind it. A call that Gemini did not make gets
    the placeholder signature: Gemini would reject it later, when the conversation comes to it.
    """

    def __init__(self) -> None:
        self._held = ""
        self._called = False

    def parts(self, part: WholePart, streamed: bool = False) -> list[dict[str, Any]]:
        """The parts for a whole one; where its text was ``streamed``, only what closes it."""
        start, end = part.start, part.end
        if start.kind == "thinking" and end.signature and not part.text and not streamed:
            pending, self._held = self.pending(), write_signature(end.signature, "", end.origin)
            return pending
        if start.kind in ("tool", "custom"):
            # Only the first of parallel calls carries a signature.
            seal = self._held or ("" if self._called else models.SENTINEL)
            self._held, self._called = "", True
            return [{**_write_part(part), **({"thoughtSignature": seal} if seal else {})}]
        return [*self.pending(), _write_part(part)]

    @property
    def is_holding(self) -> bool:
        """Whether a signature waits for its call."""
        return bool(self._held)

    def pending(self) -> list[dict[str, Any]]:
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


def _end_of_candidate(end: End, found: dict[str, Any]) -> dict[str, Any]:
    return {"finishReason": _REASON_NAMES[end.reason], "index": 0, **found}


def write_body(events: Iterable[Event], reply: ReplyInfo) -> dict[str, Any]:
    """A complete response. Raises UpstreamError if the events end in a failure."""
    parts, end = fold(events)
    if isinstance(end, Failed):
        raise UpstreamError(end.message, status=end.status, kind=end.kind)
    seals = _Seals()
    written: list[dict[str, Any]] = []
    cited = []
    searches = [(part.start.name, part.end.search) for part in parts if part.end.search is not None]
    joins = bool(reply.request.web_tools)  # places of sources count over the whole text
    pieces: dict[int, list[str]] = {}  # of texts, by the number of their part
    before = 0
    for part in parts:
        is_text, number = part.start.kind in ("text", "refusal"), len(written) - 1
        if part.start.kind == "search" or (is_text and not part.text):
            continue
        if not (joins and is_text and number in pieces and not seals.is_holding):
            written += seals.parts(part)
            number, before = len(written) - 1, 0
        if is_text:
            cited.append((number, before, part.text, part.end.citations))
            pieces.setdefault(number, []).append(part.text)
            before += web.byte_length(part.text) if joins else 0
    for number, texts in pieces.items():
        written[number] = {"text": "".join(texts)}
    written += seals.pending()
    content = {"role": "model", "parts": written or [{"text": ""}]}
    candidate = {"content": content, **_end_of_candidate(end, web.metadata(searches, cited))}
    usage = {"usageMetadata": _write_usage(end.usage)} if end.usage is not None else {}
    return {"candidates": [candidate], **usage, "modelVersion": reply.request.model, "responseId": reply.id}


class Writer:
    """Writes a streamed answer: text as it comes, calls and signatures when they are complete."""

    def __init__(self, reply: ReplyInfo) -> None:
        self._identity = {"modelVersion": reply.request.model, "responseId": reply.id}
        self._tail = f']}},"index":0}}],{dumps(self._identity)[1:]}\n\n'
        self._head = 'data: {"candidates":[{"content":{"role":"model","parts":['
        self._start = PartStart("text")
        self._before = self._after = ""
        self._held: list[str] = []
        self._cited: list[web.Cited] = []
        self._found: list[tuple[str, Search]] = []
        self._text_bytes = 0
        self._seals = _Seals()
        self._streamed = False

    def write(self, event: Event) -> bytes:
        if type(event) is PartDelta:
            # Calls and media are written once they are complete.
            if not self._before:
                self._held.append(event.text)
                return b""
            before = b"" if self._streamed else self._write_chunk(self._seals.pending())
            self._streamed = True
            if self._start.kind != "thinking":
                self._held.append(event.text)
            return before + f"{self._before}{quote(event.text)}{self._after}".encode()
        match event:
            case PartStart():
                self._start, self._held, self._before, self._streamed = event, [], "", False
                if event.kind in ("text", "refusal", "thinking"):
                    thought = ',"thought":true' if event.kind == "thinking" else ""
                    self._before, self._after = f'{self._head}{{"text":', f"{thought}}}{self._tail}"
                return b""
            case PartEnd():
                return self._close_part(event)
            case Begin():
                return b""
            case End():
                return self._write_end(event)
            case Failed():
                return encode(dumps(write_error(event)[1]))
        raise AssertionError(event)

    def _write_chunk(self, parts: list[dict[str, Any]]) -> bytes:
        if not parts:
            return b""
        return f"{self._head}{dumps(parts)[1:-1]}{self._tail}".encode()

    def _close_part(self, end: PartEnd) -> bytes:
        if self._start.kind == "search":  # told with the end of the answer
            self._found += [(self._start.name, end.search)] if end.search is not None else []
            return b""
        if self._start.kind in ("text", "refusal"):
            text = "".join(self._held)
            if end.citations:
                self._cited.append((0, self._text_bytes, text, end.citations))
            self._text_bytes += web.byte_length(text)
        # The text was streamed, and nothing is left to say.
        if self._before and not end.signature:
            return b""
        # A signature that arrives behind its text goes out with an empty one.
        part = WholePart(self._start, "" if self._streamed else "".join(self._held), end)
        return self._write_chunk(self._seals.parts(part, self._streamed))

    def _write_end(self, end: End) -> bytes:
        parts = self._seals.pending() or [{"text": ""}]  # without a part, the SDK forgets the whole turn
        content = {"role": "model", "parts": parts}
        candidate = {"content": content, **_end_of_candidate(end, web.metadata(self._found, self._cited))}
        usage = {"usageMetadata": _write_usage(end.usage)} if end.usage is not None else {}
        return encode(dumps({"candidates": [candidate], **usage, **self._identity}))
