"""OpenAI Chat Completions: answers, whole and streamed, read. Source: the SDK's ``types.chat``, and what compatible
servers make of it: late names and ids, interleaved or unnumbered calls, usage anywhere, no finish.

A chunk's ``delta`` has pieces of text, reasoning, refusal and tool calls in any mixture, and nothing says where a part
ends. So the ``Reader`` keeps one part open and decides:

- A piece of the open part is passed on at once. A piece of another kind closes the open part and opens its own.
- A tool call is not closed that way, because fragments of several calls arrive interleaved. While the open call's
  arguments are not a complete JSON object, everything else waits: text in ``_waiting``, other calls as ``_Call``.
- A call opens once its name is known; an id may come later, and is made up if it never comes.

States of a call: ``waiting`` (not passed on yet), ``open`` (passed on as it grows), ``sent`` (closed), ``void`` (an
empty fragment that never became a call). The end is ``[DONE]`` or a ``finish_reason``; without both, the stream has
failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.format import Progress
from ccproxy_lite.formats.neutral import names
from ccproxy_lite.formats.neutral.events import (
    Begin,
    Citation,
    End,
    Event,
    Failed,
    PartDelta,
    PartEnd,
    PartKind,
    PartStart,
    StopReason,
    Usage,
    final_stop_reason,
)
from ccproxy_lite.formats.openai import failed_of, read_usage, write_error
from ccproxy_lite.formats.openai_chat.messages import NAME, read_signature
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.formats.sse import encode
from ccproxy_lite.jsontext import dumps, dumps_text, loads

_REASONS: dict[str, StopReason] = {
    "stop": "end",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def _read_usage(usage: Any) -> Usage | None:
    return read_usage(usage, "prompt", "completion")


def _text_of(value: Any) -> str:
    """Content as text; some servers send a list of parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(fields.lenient(part, "text") for part in value)
    return ""


def _reasoning_of(message: Mapping[str, Any]) -> str:
    for key in ("reasoning_content", "reasoning"):
        value = message.get(key)
        if value:
            return _text_of(value) if not isinstance(value, dict) else fields.lenient(value, "text")
    return ""


def _read_citations(message: Mapping[str, Any]) -> tuple[Citation, ...]:
    annotations = message.get("annotations")
    citations = []
    for annotation in annotations if isinstance(annotations, list) else ():
        source = annotation.get("url_citation") if isinstance(annotation, dict) else None
        if isinstance(source, dict) and fields.lenient(source, "url"):
            start, end = fields.place(source, "start_index"), fields.place(source, "end_index")
            citations.append(Citation(fields.lenient(source, "url"), fields.lenient(source, "title"), start, end))
    return tuple(citations)


def read_body(body: Mapping[str, Any], seed: str) -> list[Event]:
    """A complete response as events: the same reader takes it as one chunk. Raises UpstreamError."""
    if body.get("error"):
        return [failed_of(body, 500)]
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UpstreamError("the upstream's response has no choice")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise UpstreamError("the upstream's response has no message")
    reader = Reader(fields.lenient(body, "id") or seed)
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        # In a complete response calls have no index.
        calls = [{**call, "index": i} for i, call in enumerate(calls) if isinstance(call, dict)]
    choice = {"delta": {**message, "tool_calls": calls}, "finish_reason": choices[0].get("finish_reason") or "stop"}
    return reader.chunk({**body, "choices": [choice]}) + reader.close()


@dataclass(slots=True)
class _Call:
    """A tool call, as far as its fragments have arrived."""

    id: str = ""
    name: str = ""
    kind: PartKind = "tool"
    arguments: str = ""
    signature: str = ""
    sent: int = 0
    state: Literal["waiting", "open", "sent", "void"] = "waiting"
    checked: int = -1

    def is_complete(self) -> bool:
        """Whether the arguments are a complete JSON object, so that nothing can follow; parsed once per length."""
        if self.kind == "custom" or self.checked == len(self.arguments):
            return False
        try:
            return isinstance(loads(self.arguments), dict)
        except ValueError:
            self.checked = len(self.arguments)
            return False


class Reader:
    """Reads a streamed answer; see the module's docstring for its rules."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._begun = False
        self._over = False
        self._open: PartKind | _Call | None = None
        self._calls: dict[Any, _Call] = {}
        self._waiting: list[tuple[PartKind, str]] = []
        self._citations: tuple[Citation, ...] = ()
        self._images: list[str] = []
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._done = False
        self._refused = False

    def feed(self, event: SseEvent) -> list[Event]:
        if self._over or self._done or not event.data:
            return []
        if event.data.strip() == "[DONE]":
            self._done = True
            return self.close()
        data = fields.event_object(event)
        if data.get("error") or event.name == "error":
            self._over = True
            return [failed_of(data, 500)]
        return self.chunk(data)

    def chunk(self, data: Mapping[str, Any]) -> list[Event]:
        """The neutral events of one chunk."""
        events: list[Event] = []
        if data.get("usage"):
            self._usage = _read_usage(data["usage"])
        choices = data.get("choices")
        if not isinstance(choices, list):
            return events
        if not self._begun:
            self._begun = True
            events.append(Begin(fields.lenient(data, "id"), fields.lenient(data, "model")))
        # Only the first candidate: others were never requested.
        for choice in choices:
            if isinstance(choice, dict) and choice.get("index", 0) in (0, None):
                delta = choice.get("delta")
                if isinstance(delta, dict):
                    self._read_delta(delta, events)
                self._finish = fields.lenient(choice, "finish_reason") or self._finish
                # Moonshot puts usage into the choice.
                if choice.get("usage"):
                    self._usage = _read_usage(choice["usage"])
        return events

    def close(self) -> list[Event]:
        if self._over:
            return []
        self._over = True
        # Some servers send only [DONE], some only a finish reason; one of them must be there.
        if self._finish is None and not (self._done and self._begun):
            return [Failed(502, "server", "the upstream's stream ended early")]
        if self._finish == "error":
            return [Failed(502, "server", "the upstream stopped because of an error")]
        events: list[Event] = [] if self._begun else [Begin()]
        self._flush_waiting(events)
        if any(call.state == "waiting" for call in self._calls.values()):
            return [*events, Failed(502, "server", "the upstream called a tool without saying which")]
        called = any(call.state == "sent" for call in self._calls.values())
        reason: StopReason = "refusal" if self._refused else _REASONS.get(self._finish or "", "end")
        events.append(End(final_stop_reason(reason, called), self._usage))
        return events

    def _read_delta(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        self._citations += _read_citations(delta)
        reasoning = _reasoning_of(delta)
        if reasoning:
            self._add_text("thinking", reasoning, events)
        text = _text_of(delta.get("content"))
        if text:
            self._add_text("text", text, events)
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._refused = True
            self._add_text("refusal", refusal, events)
        images = delta.get("images")
        for image in images if isinstance(images, list) else ():
            # Images of OpenRouter and Gemini's Chat endpoint: data URLs, whole.
            url = fields.lenient(image.get("image_url") if isinstance(image, dict) else None, "url")
            if url.startswith("data:") and ";base64," in url:
                self._images.append(url)
        calls = delta.get("tool_calls")
        legacy = delta.get("function_call")
        if isinstance(legacy, dict):
            calls = [{"index": 0, "function": legacy}]
        for position, fragment in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(fragment, dict):
                self._add_fragment(fragment, position, events)

    def _add_text(self, kind: PartKind, text: str, events: list[Event]) -> None:
        if self._open == kind:
            events.append(PartDelta(text))
        elif self._try_close_call(events):
            self._open_text(kind, text, events)
        else:
            self._waiting.append((kind, text))

    def _open_text(self, kind: PartKind, text: str, events: list[Event]) -> None:
        if self._open != kind:
            self._close_part(events)
            self._open = kind
            events.append(PartStart(kind))
        events.append(PartDelta(text))

    def _try_close_call(self, events: list[Event]) -> bool:
        """Whether another part may open now; if so, the open call is closed, and waiting text passed on."""
        if isinstance(self._open, _Call):
            if not self._open.is_complete():
                return False
            self._close_part(events)
        waiting, self._waiting = self._waiting, []
        for kind, text in waiting:
            self._open_text(kind, text, events)
        return True

    def _close_part(self, events: list[Event]) -> None:
        if self._open is None:
            return
        if isinstance(self._open, _Call):
            self._open.state = "sent"
            events.append(PartEnd())
        elif self._open == "thinking":
            events.append(PartEnd("", NAME))
        else:
            events.append(PartEnd(citations=self._citations if self._open == "text" else ()))
            self._citations = ()
        self._open = None

    def _add_fragment(self, fragment: Mapping[str, Any], position: int, events: list[Event]) -> None:
        call = self._call_for_fragment(fragment, position)
        body = fragment.get("function")
        if isinstance(fragment.get("custom"), dict):
            body, call.kind = fragment["custom"], "custom"
        if not isinstance(body, dict):
            body = {}
        call.id = call.id or fields.lenient(fragment, "id")
        call.name = call.name or fields.lenient(body, "name")
        call.signature = call.signature or read_signature(fragment)
        arguments = body.get("arguments" if call.kind == "tool" else "input")
        if isinstance(arguments, dict):
            arguments = dumps_text(arguments)
        if isinstance(arguments, str):
            call.arguments += arguments
        self._advance_call(call, events)

    def _call_for_fragment(self, fragment: Mapping[str, Any], position: int) -> _Call:
        """The call that a fragment belongs to: by index, else by id, else the last one.

        Some servers number every call 0, or none: another id on a complete call, and a name after one, is a new call.
        """
        index, call_id = fragment.get("index"), fields.lenient(fragment, "id")
        named = bool(fields.lenient(fragment.get("function"), "name"))
        # A key that no index can be equal to.
        new = ("unnumbered", len(self._calls), position)
        if isinstance(index, int):
            call = self._calls.get(index)
            other = call is not None and bool(call_id and call.id) and call_id != call.id
            if other and call is not None and named and call.is_complete():
                by_id = [key for key, call in self._calls.items() if call.id == call_id]
                index = by_id[0] if by_id else new
        else:
            by_id = [key for key, call in self._calls.items() if call_id and call.id == call_id]
            last = next(reversed(self._calls), None)
            fresh = last is None or bool(call_id) or (named and self._calls[last].is_complete())
            index = by_id[0] if by_id else (new if fresh else last)
        return self._calls.setdefault(index, _Call())

    def _advance_call(self, call: _Call, events: list[Event]) -> None:
        """Pass on what can be: more of the open call, or the calls that waited for its end."""
        if call is self._open:
            self._pass_on_arguments(call, events)
            return
        for other in self._calls.values():
            named = other.name and (other.id or other.arguments)  # an id may come after the name
            if other.state == "waiting" and named and self._try_close_call(events):
                self._start_call(other, events)

    def _start_call(self, call: _Call, events: list[Event]) -> None:
        self._close_part(events)
        number = list(self._calls.values()).index(call)
        call.id = call.id or names.made_up_id(self._seed, number, call.name)
        call.state, self._open = "open", call
        if call.signature:
            events += [PartStart("thinking"), PartEnd(call.signature, NAME)]
        events.append(PartStart(call.kind, call.id, call.name))
        self._pass_on_arguments(call, events)

    def _pass_on_arguments(self, call: _Call, events: list[Event]) -> None:
        if len(call.arguments) > call.sent:
            events.append(PartDelta(call.arguments[call.sent :]))
            call.sent = len(call.arguments)

    def _flush_waiting(self, events: list[Event]) -> None:
        """Pass on everything that waits, because nothing more will arrive."""
        self._close_part(events)
        self._try_close_call(events)
        for url in self._images:
            self._close_part(events)
            media_type, _, data = url[5:].partition(";base64,")
            events += [PartStart("image", media_type=media_type), PartDelta(data), PartEnd()]
        for call in self._calls.values():
            if call.state == "waiting" and call.name:
                self._start_call(call, events)
            elif call.state == "waiting" and not (call.id or call.arguments):
                call.state = "void"
        self._close_part(events)


# ---------------------------------------------------------------- looking on


def look(event: SseEvent, progress: Progress) -> None:
    """Note how far a relayed stream has come. After the first content only chunks that may end it are parsed."""
    data = event.data
    if progress.content and not _is_notable(data):
        return
    if data.strip() == "[DONE]":
        progress.content = progress.content or progress.ended
        progress.ended = progress.over = True
        return
    chunk = fields.object_in(data)
    if chunk is None:
        return
    if chunk.get("error"):
        progress.failed = failed_of(chunk, 500)
    progress.usage = _read_usage(chunk.get("usage")) or progress.usage
    for choice in fields.lenient_list(chunk, "choices"):
        if isinstance(choice, dict):
            progress.ended = progress.ended or bool(choice.get("finish_reason"))
            delta = choice.get("delta")
            has_content = isinstance(delta, dict) and any(value for key, value in delta.items() if key != "role")
            progress.content = progress.content or has_content or progress.ended


def write_failure(failed: Failed, progress: Progress) -> bytes:
    """The error chunk that ends a relayed stream for the client."""
    return encode(dumps(write_error(failed)[1]))


def _is_notable(data: str) -> bool:
    at = data.find('"finish_reason":')
    finished = at >= 0 and not data.startswith("null", at + 16) and not data.startswith(" null", at + 16)
    return finished or '"usage":' in data or data.startswith("[DONE]") or '"error"' in data
