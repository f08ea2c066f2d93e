"""OpenAI Responses: answers, whole and streamed, read. Source: the SDK's ``types.responses``, and what compatible
servers make of it: text or arguments only in the ``done`` events, or only in the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import names, shape
from ccproxy_lite.formats.lanes import Lanes
from ccproxy_lite.formats.neutral import (
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
    settled,
)
from ccproxy_lite.formats.openai import failed_of
from ccproxy_lite.formats.openai_responses.items import NAME
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.sse import Event as SseEvent
from ccproxy_lite.sse import encode

_INCOMPLETE: dict[str, StopReason] = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
_ENDINGS = ("response.completed", "response.incomplete", "response.failed", "error")


def _read_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    cached = shape.count(usage, "input_tokens_details", "cached_tokens")
    written = shape.count(usage, "input_tokens_details", "cache_write_tokens")
    details = usage.get("output_tokens_details")
    return Usage(
        max(shape.count(usage, "input_tokens") - cached - written, 0),
        shape.count(usage, "output_tokens"),
        cached,
        written,
        shape.count(details, "reasoning_tokens") if isinstance(details, dict) else None,
    )


def _read_citation(annotation: Any) -> tuple[Citation, ...]:
    url = shape.lenient(annotation, "url")
    if not url:
        return ()
    start, end = annotation.get("start_index"), annotation.get("end_index")
    return (Citation(url, shape.lenient(annotation, "title"), start, end),)


def read_body(body: Mapping[str, Any]) -> list[Event]:
    """A whole answer as events: the same reader takes it as the last event of a stream. Raises UpstreamError."""
    if body.get("error") or body.get("status") in ("failed", "cancelled"):
        return [_failed(body)]
    if not isinstance(body.get("output"), list):
        raise UpstreamError("the upstream's answer holds no output")
    return Reader(shape.lenient(body, "id")).ending(body)


def _failed(response: Any) -> Failed:
    error = response.get("error") if isinstance(response, dict) else None
    if isinstance(error, dict | str):
        return failed_of({"error": error}, 500)
    return Failed(502, "server", "the upstream's answer failed without a reason")


@dataclass(slots=True)
class _Item:
    """An output item, as far as it is known. ``said`` holds the indexes of the texts that came in pieces."""

    type: str
    open: tuple[PartKind, int] | None = None
    said: set[int] = field(default_factory=set)
    citations: tuple[Citation, ...] = ()
    done: bool = False


_CALLS: dict[str, tuple[PartKind, str]] = {
    "function_call": ("tool", "arguments"),
    "custom_tool_call": ("custom", "input"),
}


class Reader:
    """Reads a streamed answer. Items that grow at the same time come one after the other."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._begun = False
        self._over = False
        self._called = False
        self._refused = False
        self._items: dict[int, _Item] = {}
        self._lanes: Lanes[int, Event] = Lanes()

    def feed(self, event: SseEvent) -> list[Event]:
        if self._over or not event.data or event.data.strip() == "[DONE]":
            return []
        try:
            data = loads(event.data)
        except ValueError:
            raise UpstreamError(f"the upstream's {event.name or 'unnamed'} event is not JSON") from None
        if not isinstance(data, dict):
            raise UpstreamError("the upstream sent an event that is no object")
        kind = str(data.get("type") or event.name)
        response = data.get("response")
        if kind in ("response.created", "response.in_progress", "response.queued"):
            return self._begin(response)
        if kind in ("response.completed", "response.incomplete"):
            return self.ending(response if isinstance(response, dict) else {})
        if kind in ("response.failed", "error") or (kind == "" and "error" in data):
            self._over = True
            return [_failed(response) if kind == "response.failed" else failed_of(data, 500)]
        step = _STEPS.get(kind)
        if step is None:
            return []
        begun = self._begin({})
        index = data.get("output_index")
        step(self, index if isinstance(index, int) else max(self._items, default=0), data)
        return begun + self._lanes.flush()

    def close(self) -> list[Event]:
        if self._over:
            return []
        self._over = True
        return [Failed(502, "server", "the upstream's stream ended early")]

    def ending(self, response: Mapping[str, Any]) -> list[Event]:
        """The last event, which holds the whole answer once more: what was not heard yet is taken from it."""
        events = self._begin(response)
        self._over = True
        output = response.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            self._item_done(index, {"item": item})
        for index, known in self._items.items():
            self._finish(index, known, {})
        details = response.get("incomplete_details")
        reason: StopReason = "refusal" if self._refused else "end"
        if response.get("status") == "incomplete" or isinstance(details, dict):
            reason = _INCOMPLETE.get(shape.lenient(details, "reason"), "max_tokens")
        return [*events, *self._lanes.flush(), End(settled(reason, self._called), _read_usage(response.get("usage")))]

    # --- what an event says

    def _begin(self, response: Any) -> list[Event]:
        if self._begun:
            return []
        self._begun = True
        return [Begin(shape.lenient(response, "id"), shape.lenient(response, "model"))]

    def _item_added(self, index: int, data: Mapping[str, Any]) -> None:
        item = data.get("item")
        if isinstance(item, dict) and index not in self._items:
            self._items[index] = known = _Item(shape.lenient(item, "type"))
            self._lanes.add(index)
            if shape.lenient(item, "name"):
                self._start_call(index, known, item)

    def _item_done(self, index: int, data: Mapping[str, Any]) -> None:
        item = data.get("item")
        if not isinstance(item, dict):
            return
        self._item_added(index, data)
        known = self._items[index]
        if known.done:
            return
        if known.type in _CALLS:
            self._start_call(index, known, item)
            self._rest(index, known, 0, shape.lenient(item, _CALLS[known.type][1]))
        elif known.type == "message":
            self._texts(index, known, item.get("content"))
        elif known.type == "reasoning" and not known.said:
            self._texts(index, known, item.get("summary") or item.get("content"))
        elif known.type == "image_generation_call" and shape.lenient(item, "result"):
            media_type = f"image/{shape.lenient(item, 'output_format') or 'png'}"
            self._lanes.add(index, PartStart("image", media_type=media_type), PartDelta(item["result"]), PartEnd())
        self._finish(index, known, item)

    def _texts(self, index: int, known: _Item, parts: Any) -> None:
        """The parts of a whole item; those that came in pieces only tell their citations."""
        for number, part in enumerate(parts if isinstance(parts, list) else ()):
            kind: PartKind = "thinking" if known.type == "reasoning" else "text"
            text = shape.lenient(part, "text")
            if shape.lenient(part, "type") == "refusal":
                kind, text = "refusal", shape.lenient(part, "refusal")
            if number not in known.said and text:
                self._say(index, known, kind, number, text)
            found = part.get("annotations") if isinstance(part, dict) else None
            for annotation in found if isinstance(found, list) and not known.citations else ():
                known.citations += _read_citation(annotation)

    def _text(self, index: int, data: Mapping[str, Any]) -> None:
        """A piece of a text, or all of it where no piece came."""
        kind = str(data.get("type"))
        known = self._known(index, "reasoning" if "reasoning" in kind else "message")
        number = data.get("summary_index", data.get("content_index"))
        number = number if isinstance(number, int) else 0
        part: PartKind = "thinking" if "reasoning" in kind else "refusal" if "refusal" in kind else "text"
        if kind.endswith(".delta"):
            self._say(index, known, part, number, shape.lenient(data, "delta"))
        elif number not in known.said:
            text = shape.lenient(data, "text") or shape.lenient(data, "refusal")
            self._say(index, known, part, number, text)

    def _arguments(self, index: int, data: Mapping[str, Any]) -> None:
        kind = str(data.get("type"))
        known = self._known(index, "custom_tool_call" if "custom" in kind else "function_call")
        if known.open is None:
            return  # who is called comes with the item
        if kind.endswith(".delta"):
            piece = shape.lenient(data, "delta")
            if piece:
                known.said.add(0)
                self._lanes.add(index, PartDelta(piece))
        else:
            self._rest(index, known, 0, shape.lenient(data, _CALLS[known.type][1]))

    def _annotation(self, index: int, data: Mapping[str, Any]) -> None:
        known = self._known(index, "message")
        known.citations += _read_citation(data.get("annotation"))

    # --- what becomes of it

    def _known(self, index: int, kind: str) -> _Item:
        if index not in self._items:
            self._items[index] = _Item(kind)
            self._lanes.add(index)
        return self._items[index]

    def _say(self, index: int, known: _Item, kind: PartKind, number: int, text: str) -> None:
        if not text or known.done:
            return
        self._refused = self._refused or kind == "refusal"
        known.said.add(number)
        if kind == "thinking" and known.open is not None and known.open[0] == kind:
            if known.open[1] != number:
                text = f"\n\n{text}"
        elif known.open != (kind, number):
            self._shut(index, known)
            self._lanes.add(index, PartStart(kind))
        known.open = (kind, number)
        self._lanes.add(index, PartDelta(text))

    def _start_call(self, index: int, known: _Item, item: Mapping[str, Any]) -> None:
        if known.type not in _CALLS or known.open is not None:
            return
        kind, _ = _CALLS[known.type]
        name = shape.lenient(item, "name")
        if not name:
            raise UpstreamError("the upstream called a tool without saying which")
        space = shape.lenient(item, "namespace")
        call_id = shape.lenient(item, "call_id") or shape.lenient(item, "id")
        call_id = call_id or names.made_up_id(self._seed, index, name)
        known.open = (kind, 0)
        self._called = True
        self._lanes.add(index, PartStart(kind, call_id, f"{space}__{name}" if space else name))

    def _rest(self, index: int, known: _Item, number: int, text: str) -> None:
        if number not in known.said and text:
            known.said.add(number)
            self._lanes.add(index, PartDelta(text))

    def _shut(self, index: int, known: _Item) -> None:
        if known.open is not None:
            ending = PartEnd(citations=known.citations if known.open[0] == "text" else ())
            self._lanes.add(index, PartEnd(origin=NAME) if known.open[0] == "thinking" else ending)
            known.open, known.citations = None, ()

    def _finish(self, index: int, known: _Item, item: Mapping[str, Any]) -> None:
        if known.done:
            return
        known.done = True
        sealed = shape.lenient(item, "encrypted_content")
        if known.type == "reasoning" and sealed:
            if known.open is None:
                self._lanes.add(index, PartStart("thinking"))
            self._lanes.add(index, PartEnd(f"{shape.lenient(item, 'id')}.{sealed}", NAME))
        else:
            self._shut(index, known)
        self._lanes.end(index)


_STEPS = {
    "response.output_item.added": Reader._item_added,
    "response.output_item.done": Reader._item_done,
    "response.output_text.delta": Reader._text,
    "response.output_text.done": Reader._text,
    "response.output_text.annotation.added": Reader._annotation,
    "response.refusal.delta": Reader._text,
    "response.refusal.done": Reader._text,
    "response.reasoning_summary_text.delta": Reader._text,
    "response.reasoning_summary_text.done": Reader._text,
    "response.reasoning_text.delta": Reader._text,
    "response.reasoning_text.done": Reader._text,
    "response.function_call_arguments.delta": Reader._arguments,
    "response.function_call_arguments.done": Reader._arguments,
    "response.custom_tool_call_input.delta": Reader._arguments,
    "response.custom_tool_call_input.done": Reader._arguments,
}


class Watcher:
    """Looks on while a stream is relayed as it is. Only its first event and its endings are parsed."""

    def __init__(self) -> None:
        self.content = self.ended = self.over = False
        self.failed: Failed | None = None
        self.usage: Usage | None = None
        self._events = 0
        self._response: dict[str, Any] = {}

    def feed(self, event: SseEvent) -> None:
        self._events += 1
        kind = event.name or _type_in(event.data)
        if kind == "response.created" or kind in _ENDINGS:
            try:
                data = loads(event.data)
            except ValueError:
                return
            if isinstance(data, dict):
                self._look(kind, data)
        elif kind.startswith("response.") and kind.endswith((".added", ".delta", ".done")):
            self.content = True

    def _look(self, kind: str, data: dict[str, Any]) -> None:
        response = data.get("response")
        if isinstance(response, dict):
            self._response = {key: response[key] for key in ("id", "created_at", "model") if key in response}
            self.usage = _read_usage(response.get("usage"))
        if kind in ("response.failed", "error"):
            self.failed = _failed(response) if kind == "response.failed" else failed_of(data, 500)
        elif kind != "response.created":
            self.content = self.ended = self.over = True

    def fail(self, failed: Failed) -> bytes:
        response = {**self._response, "object": "response", "status": "failed", "error": failure(failed), "output": []}
        data = {"type": "response.failed", "sequence_number": self._events, "response": response}
        return encode(dumps(data), "response.failed")


def _type_in(data: str) -> str:
    """The type of an event that has no name; nearly always its first member."""
    at = data.find('"type"')
    start = data.find('"', at + 6) + 1
    return data[start : data.find('"', start)] if at >= 0 and start > 0 else ""


_CODES = {"rate_limit": "rate_limit_exceeded", "overloaded": "server_is_overloaded", "billing": "insufficient_quota"}


def failure(failed: Failed) -> dict[str, Any]:
    """The error inside a failed response; Codex reads its code."""
    code = _CODES.get(failed.kind, "server_error")
    if failed.kind == "bad_request":
        code = failed.code if failed.code == "context_length_exceeded" else "invalid_prompt"
    return {"code": code, "message": failed.message}
