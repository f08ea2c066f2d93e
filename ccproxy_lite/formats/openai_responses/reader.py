"""OpenAI Responses: answers, whole and streamed, read. Source: the SDK's ``types.responses``, and what compatible
servers make of it: text or arguments only in the ``done`` events, or only in the last one.

A stream is a list of output items that grow at the same time, each event naming its item by ``output_index``:

    response.created              Begin
    output_item.added             a tool call opens here; text and reasoning with their first piece
    ... .delta                    PartDelta
    ... .done, output_item.done   what was not streamed yet, then PartEnd
    response.completed            End, after whatever of the complete response has not been streamed

Neutral parts come one after the other, so every item's events go through ``OrderedParts``: the oldest item is passed on
as it grows, younger ones wait. ``_Item.streamed`` remembers which texts have arrived in pieces, so that the ``done``
events, which repeat them, are used only where nothing was streamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.format import Progress
from ccproxy_lite.formats.neutral import names, overflow, thinking
from ccproxy_lite.formats.neutral.events import (
    Begin,
    Citation,
    End,
    Event,
    Failed,
    Lost,
    PartDelta,
    PartEnd,
    PartKind,
    PartStart,
    StopReason,
    final_stop_reason,
)
from ccproxy_lite.formats.openai import read_usage
from ccproxy_lite.formats.openai_responses import web
from ccproxy_lite.formats.openai_responses.items import NAME
from ccproxy_lite.formats.openai_responses.ordered_parts import OrderedParts
from ccproxy_lite.formats.openai_responses.tools import SEARCH
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.formats.sse import Usual, encode
from ccproxy_lite.jsontext import dumps, dumps_text, loads

_INCOMPLETE: dict[str, StopReason] = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
_ENDINGS = ("response.completed", "response.incomplete", "response.failed", "error")


def _read_citation(annotation: Any) -> tuple[Citation, ...]:
    url = fields.lenient(annotation, "url")
    if not url:
        return ()
    place = fields.place(annotation, "start_index"), fields.place(annotation, "end_index")
    return (Citation(url, fields.lenient(annotation, "title"), *place),)


def read_body(body: Mapping[str, Any], seed: str) -> list[Event]:
    """A complete response as events: the same reader takes it as the last event of a stream. Raises UpstreamError."""
    if not isinstance(body.get("output"), list) and body.get("status") != "failed":
        if failures.states_error(body):
            return [failures.failed_of(body, 500)]
        raise UpstreamError("the upstream's response has no output")
    return Reader(fields.lenient(body, "id") or seed).ending(body)


def _read_failure(response: Any) -> Failed:
    error = response.get("error") if isinstance(response, dict) else None
    if isinstance(error, dict | str) and error:
        return failures.failed_of({"error": error}, 500)
    return Failed(502, "server", "the upstream's response failed without a reason")


_Number = tuple[str, int]
"""Which of an item's texts: of its content, or of its summary."""


@dataclass(slots=True)
class _Item:
    """An output item, as far as it has arrived. ``streamed`` has the numbers of the texts that came in pieces."""

    type: str
    key: int
    id: str = ""
    call_id: str = ""
    open: tuple[PartKind, _Number] | None = None
    streamed: set[_Number] = field(default_factory=set)
    arguments: names.Arguments = field(default_factory=names.Arguments)
    citations: dict[_Number, list[Citation]] = field(default_factory=dict)
    done: bool = False


_CALLS: dict[str, tuple[PartKind, str]] = {
    "function_call": ("tool", "arguments"),
    "custom_tool_call": ("custom", "input"),
    "tool_search_call": ("tool", "arguments"),
}
_ALL = ("content", 0)


class Reader:
    """Reads a streamed answer; see the module's docstring for its events."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._begun = False
        self._over = False
        self._called = False
        self._refused = False
        self._items: list[_Item] = []
        self._by_index: dict[int, _Item] = {}
        self._ordered: OrderedParts[int, Event] = OrderedParts()

    def feed(self, event: SseEvent) -> list[Event]:
        if self._over or not event.data or event.data.strip() == "[DONE]":
            return []
        data = failures.event_object(event)
        kind = str(data.get("type") or event.name)
        response = data.get("response")
        if kind in ("response.created", "response.in_progress", "response.queued"):
            return self._begin_once(response)
        if kind in ("response.completed", "response.incomplete"):
            return self.ending(response if isinstance(response, dict) else {}, kind.endswith("incomplete"))
        if kind in ("response.failed", "error") or (not kind.startswith("response.") and _is_failure(event, data)):
            self._over = True
            return [_read_failure(response) if kind == "response.failed" else failures.failed_of(data, 500)]
        # Unknown events are ignored: new ones appear with every model.
        step = _STEPS.get(kind)
        if step is None:
            return []
        begun = self._begin_once({})
        step(self, data, kind)
        return begun + self._ordered.flush()

    def close(self) -> list[Event]:
        if self._over:
            return []
        self._over = True
        return [Failed(502, "server", "the upstream's stream ended early")]

    def ending(self, response: Mapping[str, Any], incomplete: bool = False) -> list[Event]:
        """The last event, which has the complete response once more: what was not streamed is taken from it."""
        self._over = True
        if response.get("error") or response.get("status") in ("failed", "cancelled"):
            return [_read_failure(response)]
        # A background response that has only been accepted is no answer.
        waits = response.get("status") in ("queued", "in_progress") and not response.get("background")
        output = response.get("output")
        if not self._items and not output and (waits or not response):
            return [Failed(502, "server", "the upstream's response is empty")]
        events = self._begin_once(response)
        # Items that were streamed are done already; the others are written now, whole.
        for index, item in enumerate(output if isinstance(output, list) else ()):
            self._item_done({"item": item, "output_index": index}, "")
        for item_ in self._items:
            self._finish_item(item_, {})
        details = response.get("incomplete_details")
        reason: StopReason = "refusal" if self._refused else "end"
        if incomplete or response.get("status") == "incomplete" or fields.lenient(details, "reason"):
            stated = fields.lenient(details, "reason") or "max_output_tokens"
            if stated not in _INCOMPLETE:
                events.append(Lost(f"incomplete_details={stated}"))
            reason = _INCOMPLETE.get(stated, "max_tokens")
        end = End(final_stop_reason(reason, self._called), read_usage(response.get("usage")))
        return [*events, *self._ordered.flush(), end]

    # --- which item

    def _find_item(self, data: Mapping[str, Any], kind: str, fresh: bool = False) -> _Item:
        """The item that an event is about: by its id or its call's, else by its place; a new one if there is none.

        Some services count items wrongly or not at all, and others change ids on the way.
        """
        item = data.get("item")
        item_id = fields.lenient(item, "id") or fields.lenient(data, "item_id")
        call_id = fields.lenient(item, "call_id")
        for item_ in reversed(self._items):  # nearly always the newest
            same_call = call_id and item_.call_id == call_id and not (item_id and item_.id)
            if (item_id and item_.id == item_id) or same_call:
                return item_
        index = fields.place(data, "output_index")
        place = len(self._items) if index is None and fresh else (index or 0)
        # Without an index the event is about the newest item.
        there = self._by_index.get(place)
        if there is None and index is None and self._items:
            there = self._items[-1]
        # A new item with an index that is taken: the service counts wrongly.
        other = there is not None and item_id and there.id and fresh
        if there is None or other or (there.type != kind and isinstance(item, dict)):
            there = _Item(kind, len(self._items), item_id, call_id)
            self._items.append(there)
            self._by_index[place] = there
            self._ordered.add(there.key)
        return there

    # --- what an event says

    def _begin_once(self, response: Any) -> list[Event]:
        if self._begun:
            return []
        self._begun = True
        return [Begin(fields.lenient(response, "id"), fields.lenient(response, "model"))]

    def _item_added(self, data: Mapping[str, Any], event: str) -> None:
        item = data.get("item")
        if isinstance(item, dict):
            item_ = self._find_item(data, fields.lenient(item, "type"), fresh=True)
            if fields.lenient(item, "name"):
                self._start_call(item_, item)
            elif item_.type == web.CALL:
                self._start_search(item_, item)

    def _item_done(self, data: Mapping[str, Any], event: str) -> None:
        item = data.get("item")
        if not isinstance(item, dict):
            return
        item_ = self._find_item(data, fields.lenient(item, "type"))
        if item_.done:
            return
        if item_.type in _CALLS:
            self._start_call(item_, item)
            self._finish_arguments(item_, item.get(_CALLS[item_.type][1]))
        elif item_.type == "message":
            self._finish_texts(item_, "content", item)
        elif item_.type == "reasoning" and not item_.streamed:
            self._finish_texts(item_, "summary" if item.get("summary") else "content", item)
        elif item_.type == web.CALL:
            self._start_search(item_, item)
            self._ordered.add(item_.key, PartEnd(search=web.read_search(item)))
            item_.open = None
        elif item_.type == "image_generation_call" and fields.lenient(item, "result"):
            media_type = f"image/{fields.lenient(item, 'output_format') or 'png'}"
            self._ordered.add(
                item_.key, PartStart("image", media_type=media_type), PartDelta(item["result"]), PartEnd()
            )
        elif item_.type != "reasoning":
            self._ordered.add(item_.key, Lost(item_.type or "output"))
        self._finish_item(item_, item)

    def _finish_texts(self, item_: _Item, field_name: str, item: Mapping[str, Any]) -> None:
        """The parts of a whole item; those that were streamed only add their citations."""
        parts = item.get(field_name)
        for index, part in enumerate(parts if isinstance(parts, list) else ()):
            number = (field_name, index)
            kind: PartKind = "thinking" if item_.type == "reasoning" else "text"
            text = fields.lenient(part, "text")
            if fields.lenient(part, "type") == "refusal":
                kind, text = "refusal", fields.lenient(part, "refusal")
            if not item_.citations.get(number):
                for annotation in fields.lenient_list(part, "annotations"):
                    self._cite(item_, number, annotation)
            if number not in item_.streamed and text:
                self._stream_text(item_, kind, number, text)

    def _text_event(self, data: Mapping[str, Any], event: str) -> None:
        """A piece of a text, or all of it where no piece came."""
        item_ = self._find_item(data, "reasoning" if "reasoning" in event else "message")
        where = "summary" if "summary" in event else "content"
        number = (where, fields.place(data, f"{where}_index") or 0)
        part: PartKind = "thinking" if "reasoning" in event else "refusal" if "refusal" in event else "text"
        if item_.type in _CALLS:
            return
        if event.endswith(".delta"):
            self._stream_text(item_, part, number, fields.lenient(data, "delta"))
        elif number not in item_.streamed:
            self._stream_text(item_, part, number, fields.lenient(data, "text") or fields.lenient(data, "refusal"))

    def _arguments_event(self, data: Mapping[str, Any], event: str) -> None:
        item_ = self._find_item(data, "custom_tool_call" if "custom" in event else "function_call")
        if item_.open is None or item_.type not in _CALLS:
            return  # who is called comes with the item
        if event.endswith(".delta"):
            self._stream_arguments(item_, fields.lenient(data, "delta"))
        else:
            self._finish_arguments(item_, data.get(_CALLS[item_.type][1]))

    def _annotation_event(self, data: Mapping[str, Any], event: str) -> None:
        item_ = self._find_item(data, "message")
        self._cite(item_, ("content", fields.place(data, "content_index") or 0), data.get("annotation"))

    def _part_done(self, data: Mapping[str, Any], event: str) -> None:
        """A part that is complete: it repeats its annotations, if they have come at all."""
        item_, number = self._find_item(data, "message"), ("content", fields.place(data, "content_index") or 0)
        if not item_.citations.get(number):
            for annotation in fields.lenient_list(data.get("part"), "annotations"):
                self._cite(item_, number, annotation)

    def _cite(self, item_: _Item, number: _Number, annotation: Any) -> None:
        """A page that a text cites; the neutral model has no files to cite."""
        citation = _read_citation(annotation)
        item_.citations.setdefault(number, []).extend(citation)
        if not citation:
            self._ordered.add(item_.key, Lost("citations"))

    # --- what becomes of it

    def _stream_text(self, item_: _Item, kind: PartKind, number: _Number, text: str) -> None:
        if not text or item_.done:
            return
        self._refused = self._refused or kind == "refusal"
        item_.streamed.add(number)
        # Parts of one summary become one part, separated by a blank line.
        if kind == "thinking" and item_.open is not None and item_.open[0] == kind:
            if item_.open[1] != number:
                text = f"\n\n{text}"
        elif item_.open != (kind, number):
            self._close_part(item_)
            self._ordered.add(item_.key, PartStart(kind))
        item_.open = (kind, number)
        self._ordered.add(item_.key, PartDelta(text))

    def _start_call(self, item_: _Item, item: Mapping[str, Any]) -> None:
        if item_.type not in _CALLS or item_.open is not None or item_.done:
            return
        kind, _ = _CALLS[item_.type]
        name, space = fields.lenient(item, "name"), fields.lenient(item, "namespace")
        if item_.type == "tool_search_call":
            # A search that the provider runs is no call of the client's tool.
            if item.get("execution") != "client":
                return
            name = SEARCH
        if not name:
            raise UpstreamError("the upstream called a tool without saying which")
        call_id = fields.lenient(item, "call_id") or fields.lenient(item, "id")
        # Some services send no ids at all; the result must refer to something.
        call_id = call_id or names.made_up_id(self._seed, item_.key, name)
        item_.open, item_.call_id = (kind, _ALL), item_.call_id or fields.lenient(item, "call_id")
        self._called = True
        self._ordered.add(item_.key, PartStart(kind, call_id, f"{space}__{name}" if space else name))

    def _start_search(self, item_: _Item, item: Mapping[str, Any]) -> None:
        if item_.open is None and not item_.done:
            item_.open = ("search", _ALL)
            self._ordered.add(item_.key, PartStart("search", fields.lenient(item, "id"), "web_search"))

    def _finish_arguments(self, item_: _Item, value: Any) -> None:
        """The arguments as a whole, where no piece came."""
        text = value if isinstance(value, str) else dumps_text(value) if isinstance(value, dict) and value else ""
        if item_.open is not None and _ALL not in item_.streamed:
            item_.arguments = names.Arguments()
            self._stream_arguments(item_, text)

    def _stream_arguments(self, item_: _Item, piece: str) -> None:
        if item_.open is not None and item_.open[0] == "tool":
            piece = item_.arguments.add(piece)
        if piece:
            item_.streamed.add(_ALL)
            self._ordered.add(item_.key, PartDelta(piece))

    def _close_part(self, item_: _Item) -> None:
        if item_.open is not None:
            kind, number = item_.open
            cited = tuple(item_.citations.get(number, ())) if kind == "text" else ()
            self._ordered.add(item_.key, PartEnd(origin=NAME) if kind == "thinking" else PartEnd(citations=cited))
            item_.open = None

    def _finish_item(self, item_: _Item, item: Mapping[str, Any]) -> None:
        if item_.done:
            return
        item_.done = True
        sealed = fields.lenient(item, "encrypted_content") if item_.type == "reasoning" else ""
        if sealed and thinking.untag(sealed) is None:
            # The service wants both back: see ``items``.
            sealed = f"{fields.lenient(item, 'id')}.{sealed}"
        signature, redacted, origin = thinking.unseal(sealed, NAME)
        if redacted:
            self._close_part(item_)
            self._ordered.add(item_.key, PartStart("redacted"), PartDelta(redacted), PartEnd("", origin))
        elif signature:
            if item_.open is None:
                self._ordered.add(item_.key, PartStart("thinking"))
            self._ordered.add(item_.key, PartEnd(signature, origin))
        else:
            self._close_part(item_)
        self._ordered.end(item_.key)


_STEPS = {
    "response.output_item.added": Reader._item_added,
    "response.output_item.done": Reader._item_done,
    "response.output_text.delta": Reader._text_event,
    "response.output_text.done": Reader._text_event,
    "response.output_text.annotation.added": Reader._annotation_event,
    "response.content_part.done": Reader._part_done,
    "response.refusal.delta": Reader._text_event,
    "response.refusal.done": Reader._text_event,
    "response.reasoning_summary_text.delta": Reader._text_event,
    "response.reasoning_summary_text.done": Reader._text_event,
    "response.reasoning_text.delta": Reader._text_event,
    "response.reasoning_text.done": Reader._text_event,
    "response.function_call_arguments.delta": Reader._arguments_event,
    "response.function_call_arguments.done": Reader._arguments_event,
    "response.custom_tool_call_input.delta": Reader._arguments_event,
    "response.custom_tool_call_input.done": Reader._arguments_event,
}


# ---------------------------------------------------------------- looking on


_DELTAS = "output_text function_call_arguments custom_tool_call_input reasoning_summary_text reasoning_text".split()
USUAL = Usual(
    tuple(f"event: response.{name}.delta\ndata: {{".encode() for name in _DELTAS)
    + tuple(f'data: {{"type":"response.{name}.delta"'.encode() for name in _DELTAS)
)


def look(event: SseEvent, progress: Progress) -> None:
    """Note how far a relayed stream has come. Only its first event and its endings are parsed."""
    progress.last = event.data
    kind = event.name or _event_type_in(event.data)
    if kind == "response.created" or kind in _ENDINGS:
        data = failures.event_seen(event)
        if data is not None:
            _look_at_response(kind, data, progress)
    elif not kind.startswith("response."):
        _look_for_failure(event, progress)
    elif kind.endswith((".added", ".delta", ".done")):
        progress.content = True


def _is_failure(event: SseEvent, data: Mapping[str, Any]) -> bool:
    """Whether an event that is none of the format says that something is wrong."""
    return failures.states_error(data, name=event.name)


def _look_for_failure(event: SseEvent, progress: Progress) -> None:
    """An event that is none of the format may say that something is wrong."""
    data = failures.event_seen(event)
    if data is not None and _is_failure(event, data):
        progress.failed, progress.is_foreign = failures.failed_of(data, 500), True


def _look_at_response(kind: str, data: dict[str, Any], progress: Progress) -> None:
    response = data.get("response")
    if isinstance(response, dict):
        progress.notes = {key: response[key] for key in ("id", "created_at", "model") if key in response}
        progress.usage = read_usage(response.get("usage"))
    if kind in ("response.failed", "error"):
        progress.failed = _read_failure(response) if kind == "response.failed" else failures.failed_of(data, 500)
        error = response.get("error") if isinstance(response, dict) else data
        is_own = fields.lenient(error, "message") == progress.failed.message and data.get("type") == kind
        is_coded = kind == "response.failed" and fields.lenient(error, "code") == overflow.CODE
        progress.is_foreign = not is_own or (progress.failed.overflow is not None and not is_coded)
    elif kind != "response.created":
        progress.content = progress.content or isinstance(response, dict)
        progress.ended = progress.over = True


def write_failure(failed: Failed, progress: Progress) -> bytes:
    """The failed response that ends a relayed stream for the client; it carries the next number of the sequence."""
    response = {**progress.notes, "object": "response", "status": "failed", "error": failure(failed), "output": []}
    numbers = _NUMBER.findall(progress.last)
    data = {
        "type": "response.failed",
        "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
        "response": response,
    }
    return encode(dumps(data), "response.failed")


_NUMBER = re.compile(r'"sequence_number": ?(\d{1,15})')


def _event_type_in(data: str) -> str:
    """The type of an event that has no name; nearly always its first member."""
    at = data.find('"type"')
    start = data.find('"', at + 6) + 1
    name = data[start : data.find('"', start)] if at >= 0 and start > 0 else ""
    if name.startswith("response.") or name == "error":
        return name
    try:
        return fields.lenient(loads(data), "type")
    except ValueError:
        return ""


_CODES = {"rate_limit": "rate_limit_exceeded", "overloaded": "server_is_overloaded", "billing": "insufficient_quota"}


def failure(failed: Failed) -> dict[str, Any]:
    """The error inside a failed response; Codex reads its code."""
    code = _CODES.get(failed.kind, "server_error")
    if failed.kind in ("bad_request", "too_large", "not_found", "permission", "auth"):  # not worth a retry
        code = overflow.CODE if failed.overflow is not None else "invalid_prompt"
    return {"code": code, "message": failed.message}
