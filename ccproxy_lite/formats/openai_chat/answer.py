"""OpenAI Chat Completions: answers, whole and streamed, written. Source: what the SDK's accumulator requires: role, id,
type and name once, indexes from 0, one finish chunk, usage last, ``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.format import ReplyInfo
from ccproxy_lite.formats.neutral import names, thinking
from ccproxy_lite.formats.neutral.events import (
    Begin,
    Citation,
    End,
    Event,
    Failed,
    PartDelta,
    PartEnd,
    PartStart,
    StopReason,
    Usage,
    WholePart,
    fold,
)
from ccproxy_lite.formats.neutral.search import span
from ccproxy_lite.formats.openai import write_error
from ccproxy_lite.formats.openai_chat import reasoning
from ccproxy_lite.formats.openai_chat.messages import NAME_LIMITS, write_signature
from ccproxy_lite.formats.openai_chat.reasoning import NAME
from ccproxy_lite.formats.sse import encode
from ccproxy_lite.jsontext import dumps, quote

_REASON_NAMES: dict[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "pause": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def write_usage(usage: Usage) -> dict[str, Any]:
    """Usage as Chat Completions counts it."""
    written: dict[str, Any] = {
        "prompt_tokens": usage.total_input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total_input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
    }
    if usage.cache_write:
        written["prompt_tokens_details"]["cache_write_tokens"] = usage.cache_write
    if usage.reasoning is not None:
        written["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
    return written


def _annotations(citations: Iterable[Citation], offset: int, length: int) -> list[dict[str, Any]]:
    """Citations of a text part that stands at ``offset`` of the content; one without a place covers the part."""
    written = []
    for citation in citations:
        start, end = span(citation, length)
        place = {"start_index": offset + start, "end_index": offset + end}
        source = {"url": citation.url, "title": citation.title, **place}
        written.append({"type": "url_citation", "url_citation": source})
    return written


def _write_image(part: WholePart) -> dict[str, Any]:
    url = f"data:{part.start.media_type or 'image/png'};base64,{part.text}"
    return {"type": "image_url", "image_url": {"url": url}}


def write_body(events: Iterable[Event], reply: ReplyInfo) -> dict[str, Any]:
    """A complete response. Raises UpstreamError if the events end in a failure."""
    parts, end = fold(events)
    if isinstance(end, Failed):
        raise UpstreamError(end.message, status=end.status, kind=end.kind)
    by_kind: dict[str, list[WholePart]] = {}
    # The format has one text, one reasoning and a list of calls; their order among each other is lost.
    for part in parts:
        by_kind.setdefault(part.start.kind, []).append(part)
    text = "".join(part.text for part in by_kind.get("text", ()))
    refusal = "".join(part.text for part in by_kind.get("refusal", ()))
    message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": refusal or None}
    thoughts = [part.text for part in by_kind.get("thinking", ()) if part.text]
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    reasoning.write_sealed(message, [item for part in parts for item in _own_details(part)])
    calls, signature = [], ""
    for part in parts:
        if part.start.kind in ("tool", "custom"):
            calls.append({**_write_call(part), **write_signature(signature)})
        signature = _signature(part.end) if not part.text else ""
    if calls:
        message["tool_calls"] = calls
    annotations, offset = [], 0
    for part in by_kind.get("text", ()):
        annotations += _annotations(part.end.citations, offset, len(part.text))
        offset += len(part.text)
    if annotations:
        message["annotations"] = annotations
    if "image" in by_kind:
        message["images"] = [_write_image(part) for part in by_kind["image"]]
    body: dict[str, Any] = {
        "id": f"chatcmpl-{reply.id}",
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.request.model,
        "choices": [
            {"index": 0, "message": message, "finish_reason": _REASON_NAMES[end.reason], "logprobs": None},
        ],
    }
    if end.usage is not None:
        body["usage"] = write_usage(end.usage)
    return body


def _own_details(part: WholePart) -> list[dict[str, Any]]:
    """What another service of this format has sealed; its client sends it back there."""
    return reasoning.unseal(part.end.signature, part.text) if part.end.origin == NAME else []


def _signature(end: PartEnd) -> str:
    """The signature that reasoning without text leaves for the call behind it."""
    return "" if reasoning.is_sealed(end.signature) else thinking.seal(end.signature, "", end.origin, NAME)


def _write_call(part: WholePart) -> dict[str, Any]:
    call_id = names.id_for_client(part.start.id, NAME_LIMITS)
    if part.start.kind == "custom":
        return {"id": call_id, "type": "custom", "custom": {"name": part.start.name, "input": part.text}}
    function = {"name": part.start.name, "arguments": names.arguments_text(part.text)}
    return {"id": call_id, "type": "function", "function": function}


class Writer:
    """Writes a streamed answer."""

    def __init__(self, reply: ReplyInfo) -> None:
        options = reply.request.extra.get("stream_options")
        self._usage_wanted = isinstance(options, Mapping) and options.get("include_usage") is True
        chunk = {
            "id": f"chatcmpl-{reply.id}",
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.request.model,
        }
        self._head = "data: " + dumps(chunk)[:-1]
        self._tail = ',"usage":null}\n\n' if self._usage_wanted else "}\n\n"
        self._start = PartStart("text")
        self._calls = self._images = -1
        self._signature = ""
        self._prefix = ""
        self._suffix = ""
        self._silent = True
        self._held = ""
        self._thought = False
        self._annotations: list[dict[str, Any]] = []
        self._offset = self._length = 0

    def write(self, event: Event) -> bytes:
        if type(event) is PartDelta:
            text = event.text
            # Several reasoning parts become one field: a blank line separates them.
            if self._silent and self._start.kind == "thinking":
                again, self._thought = self._thought, True
                text = f"\n\n{text}" if again else text
            self._silent = False
            self._length += len(text)
            if not self._prefix:
                self._held += text
                return b""
            return f"{self._prefix}{quote(text)}{self._suffix}".encode()
        match event:
            case PartStart():
                return self._open_part(event)
            case PartEnd():
                return self._close_part(event)
            case Begin():
                return self._encode_chunk({"role": "assistant", "content": ""})
            case End():
                return self._final_chunks(event)
            case Failed():
                return encode(dumps(write_error(event)[1]))
        raise AssertionError(event)

    def _encode_chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return f'{self._head},"choices":[{dumps(choice)}]{self._tail}'.encode()

    def _open_part(self, start: PartStart) -> bytes:
        self._start, self._silent, self._held, self._length = start, True, "", 0
        head = f'{self._head},"choices":[{{"index":0,"delta":'
        end = f',"finish_reason":null,"logprobs":null}}]{self._tail}'
        field = {"text": "content", "thinking": "reasoning_content", "refusal": "refusal"}.get(start.kind)
        if field:
            self._prefix, self._suffix = f'{head}{{"{field}":', "}" + end
            return b""
        if start.kind not in ("tool", "custom"):  # a search has no place
            self._prefix = ""
            return b""
        self._calls += 1
        kind, field = ("custom", "input") if start.kind == "custom" else ("function", "arguments")
        call = {"index": self._calls, "id": names.id_for_client(start.id, NAME_LIMITS), "type": kind}
        self._prefix = f'{head}{{"tool_calls":[{{"index":{self._calls},"{kind}":{{"{field}":'
        self._suffix = "}}]}" + end
        signed, self._signature = write_signature(self._signature), ""
        return self._encode_chunk({"tool_calls": [{**call, kind: {"name": start.name, field: ""}, **signed}]})

    def _close_part(self, end: PartEnd) -> bytes:
        self._signature = _signature(end) if self._silent else ""
        if end.origin == NAME and reasoning.is_sealed(end.signature):
            sealed: dict[str, Any] = {}
            reasoning.write_sealed(sealed, reasoning.unseal(end.signature, ""))
            return self._encode_chunk(sealed)
        if self._start.kind == "tool" and self._silent:  # clients parse the arguments, and "" is not JSON
            return f"{self._prefix}{quote('{}')}{self._suffix}".encode()
        if self._start.kind == "image":
            self._images += 1
            return self._encode_chunk(
                {"images": [{"index": self._images, **_write_image(WholePart(self._start, self._held, end))}]}
            )
        if self._start.kind == "text":
            self._annotations += _annotations(end.citations, self._offset, self._length)
            self._offset += self._length
        return b""

    def _final_chunks(self, end: End) -> bytes:
        # All at once, in the end: the SDK appends the lists of chunks to each other.
        last = self._encode_chunk({"annotations": self._annotations}) if self._annotations else b""
        last += self._encode_chunk({}, _REASON_NAMES[end.reason])
        if self._usage_wanted and end.usage is not None:
            usage = dumps(write_usage(end.usage))
            last += f'{self._head},"choices":[],"usage":{usage}}}\n\n'.encode()
        return last + b"data: [DONE]\n\n"
