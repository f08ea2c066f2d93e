"""Anthropic Messages: answers, whole and streamed, read. Source: the SDK's ``types.message`` and
``types.raw_message_stream_event``.

A stream, and the events that the ``Reader`` turns it into:

    message_start                 Begin
    content_block_start           PartStart; upstreams may put content into it already
    content_block_delta ...       PartDelta; signatures, citations and the input of a call are kept for the end
    content_block_stop            PartEnd
    message_delta                 stop reason and usage, kept: its totals overwrite those of ``message_start``
    message_stop                  End

The use of a web tool opens a search, and its result ends it; of several uses in a row the others wait for theirs.

One part is open at a time. Some upstreams open a second block before the first is closed: its events are queued and
replayed once the first has ended. A stream that breaks off after ``message_delta`` is complete all the same; one that
breaks off earlier has failed. A complete response is read by the same steps, as if it had been streamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.anthropic import web
from ccproxy_lite.formats.anthropic.blocks import NAME
from ccproxy_lite.formats.anthropic.errors import is_own_error, write_error
from ccproxy_lite.formats.format import Progress
from ccproxy_lite.formats.neutral import names, overflow, search, thinking
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
    Usage,
    final_stop_reason,
)
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.formats.sse import Usual, encode
from ccproxy_lite.jsontext import dumps, dumps_text

REASONS: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "stop_sequence",
    "max_tokens": "max_tokens",
    "tool_use": "tool_use",
    "pause_turn": "pause",
    "refusal": "refusal",
}

_OVERFLOW = "model_context_window_exceeded"
"""The length limit, if the answer has content; else the prompt has left no room for one."""

_KINDS: dict[str, PartKind] = {
    "text": "text",
    "thinking": "thinking",
    "redacted_thinking": "redacted",
    "tool_use": "tool",
}

_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

# ---------------------------------------------------------------- reading


def read_body(body: Mapping[str, Any], seed: str) -> list[Event]:
    """A complete response as events. Raises UpstreamError."""
    if body.get("type") == "error" or failures.states_error(body, body.get("content") or None):
        return [failures.failed_of(body, 500)]
    content = body.get("content")
    if not isinstance(content, list):
        raise UpstreamError("the upstream's response has no content")
    reader = Reader(seed)
    events = reader.step("message_start", {"message": body})
    for index, block in enumerate(content):
        events += reader.step("content_block_start", {"index": index, "content_block": block})
        events += reader.step("content_block_stop", {"index": index})
    reader.step("message_delta", {"delta": body})
    return events + reader.step("message_stop", {})


def _signature_and_origin(kind: PartKind, signature: str) -> tuple[str, str]:
    """Signature and origin of reasoning; a tag from an earlier conversion names the true origin."""
    if kind not in ("thinking", "redacted"):
        return "", ""
    origin, value = thinking.untag(signature) or (NAME, signature)
    return value, origin


def _read_usage(source: Any) -> Usage | None:
    usage = source.get("usage") if isinstance(source, dict) else None
    if not isinstance(usage, dict):
        return None
    details = usage.get("output_tokens_details")
    thoughts = fields.count(details, "thinking_tokens") if isinstance(details, dict) else None
    sent, said, read, written = fields.counts(usage, *_COUNTS)
    return Usage(sent, said, read, written, thoughts)


def _read_citations(citations: list[Any]) -> tuple[Citation, ...]:
    """Those of web pages; the neutral model has no documents to cite."""
    pages = [(fields.lenient(one, "url"), fields.lenient(one, "title")) for one in citations]
    return tuple(Citation(url, title) for url, title in pages if url)


def _search_of_earlier(result: Any) -> list[Event]:
    """What a search has found whose use stood in an answer that has paused."""
    name = fields.lenient(result, "type").removesuffix("_tool_result")
    return search.events_of(web.read_search({}, result), fields.lenient(result, "tool_use_id"), name)


class Reader:
    """Reads a streamed answer; see the module's docstring for its steps."""

    def __init__(self, seed: str = "") -> None:
        self._begun = False
        self._over = False
        self._index: object = None
        self._waiting: list[dict[str, Any]] = []
        self._called = False
        self._kind: PartKind | None = None
        self._any_part = False
        self._input = ""
        self._arguments = names.Arguments()
        self._signature = ""
        self._citations: list[Any] = []
        self._usage: dict[str, Any] = {}
        self._reason: str | None = None
        self._stop_sequence: str | None = None
        self._uses: list[dict[str, Any]] = []
        self._results: dict[str, dict[str, Any]] = {}
        self._earlier: list[dict[str, Any]] = []

    def feed(self, event: SseEvent) -> list[Event]:
        if self._over or not event.data or event.data == "[DONE]":
            return []
        data = failures.event_object(event)
        kind = str(data.get("type") or event.name)
        step = _STEPS.get(kind)
        if step is not None:
            return step(self, data)
        return self._end_with_failure(failures.failed_of(data, 500)) if _is_failure(kind, data, event.name) else []

    def step(self, kind: str, data: dict[str, Any]) -> list[Event]:
        """The neutral events of one event."""
        step = _STEPS.get(kind)
        return step(self, data) if step else []

    def close(self) -> list[Event]:
        if self._over:
            return []
        if self._reason is not None:  # nothing but message_stop is missing
            return self._message_stop({})
        return self._end_with_failure(Failed(502, "server", "the upstream's stream ended early"))

    def _end_with_failure(self, failed: Failed) -> list[Event]:
        self._over = True
        return [failed]

    def _read_start(self, data: dict[str, Any]) -> list[Event]:
        message = data.get("message")
        if not isinstance(message, dict) or self._begun:
            return []
        self._begun = True
        totals = message.get("usage")
        self._usage.update(totals if isinstance(totals, dict) else {})
        return [Begin(fields.lenient(message, "id"), fields.lenient(message, "model"), _read_usage(message))]

    def _begin_once(self) -> list[Event]:
        if self._begun:
            return []
        self._begun = True
        return [Begin()]

    def _block_start(self, data: dict[str, Any]) -> list[Event]:
        if self._kind is not None:  # interleaved: replayed by _block_stop
            self._waiting.append({**data, "type": "content_block_start"})
            return []
        block = data.get("content_block")
        events = self._begin_once()
        kind = _KINDS.get(fields.lenient(block, "type"))
        if kind is None and (web.is_use(block) or (web.is_result(block) and self._uses)):
            return events + self._search_block(data, block)
        events += self._end_searches()
        if kind is None and web.is_result(block):  # its use stood in an answer that has paused
            self._any_part = True
            return events + _search_of_earlier(block)
        self._index, self._kind = data.get("index"), kind
        self._called = self._called or kind == "tool"
        if kind is None or not isinstance(block, dict):
            return [*events, Lost(fields.lenient(block, "type") or "content")]
        self._any_part = True
        self._arguments = names.Arguments()
        self._signature = fields.lenient(block, "signature")
        self._citations = list(fields.lenient_list(block, "citations"))
        self._input = dumps_text(block["input"]) if kind == "tool" and block.get("input") else ""
        events.append(PartStart(kind, fields.lenient(block, "id"), fields.lenient(block, "name")))
        content = fields.lenient(block, {"thinking": "thinking", "redacted": "data", "tool": ""}.get(kind, "text"))
        if content:
            events.append(PartDelta(content))
        return events

    def _search_block(self, data: dict[str, Any], block: Any) -> list[Event]:
        """The use of a web tool, or the result of one: a search is open from the one to the other."""
        self._index, self._kind, self._any_part = data.get("index"), "search", True
        self._arguments, self._input = names.Arguments(), ""
        if web.is_result(block):
            waiting = [fields.lenient(use, "id") for use in self._uses]
            use_id = fields.lenient(block, "tool_use_id") or waiting[0]
            if use_id in waiting:
                self._results[use_id] = block
            else:
                self._earlier.append(block)
            return self._end_searches(waits=True)
        self._uses.append(dict(block))
        return self._open_search() if len(self._uses) == 1 else []

    def _open_search(self) -> list[Event]:
        use = self._uses[0]
        return [PartStart("search", fields.lenient(use, "id"), fields.lenient(use, "name"))]

    def _end_searches(self, waits: bool = False) -> list[Event]:
        """End the searches in the order in which they have begun; if one ``waits``, as far as their results have come.

        Where something else follows, or nothing, what has no result by now gets none.
        """
        events: list[Event] = []
        if not (self._uses or self._earlier):
            return events
        while self._uses:
            result = self._results.pop(fields.lenient(self._uses[0], "id"), None)
            if result is None and waits:
                return events
            events.append(PartEnd(search=web.read_search(self._uses.pop(0), result)))
            events += self._open_search() if self._uses else []
        events += [event for block in self._earlier for event in _search_of_earlier(block)]
        self._earlier = []
        return events

    def _block_delta(self, data: dict[str, Any]) -> list[Event]:
        delta = data.get("delta")
        if data.get("index") != self._index:
            if self._waiting:
                self._waiting.append({**data, "type": "content_block_delta"})
            return []
        if self._kind is None or not isinstance(delta, dict):
            return []
        if self._kind == "search" and delta.get("type") != "input_json_delta":
            return []
        match delta.get("type"):
            case "text_delta":
                piece = delta.get("text")
            case "input_json_delta":
                return self._add_input(fields.lenient(delta, "partial_json"))
            case "thinking_delta":
                piece = delta.get("thinking")
            case "signature_delta":
                self._signature = fields.lenient(delta, "signature")
                return []
            case "citations_delta":
                self._citations.append(delta.get("citation"))
                return []
            case _:
                return []
        return [PartDelta(piece)] if isinstance(piece, str) and piece else []

    def _add_input(self, piece: str) -> list[Event]:
        """A piece of a call's input; ``null`` is none. What stood in the block's start was a placeholder."""
        piece = self._arguments.add(piece)
        if not piece:
            return []
        if self._kind == "search":  # the query is told when it is complete
            self._input += piece
            return []
        self._input = ""
        return [PartDelta(piece)]

    def _block_stop(self, data: dict[str, Any]) -> list[Event]:
        if data.get("index") != self._index:
            if self._waiting:
                self._waiting.append({**data, "type": "content_block_stop"})
            return []
        if self._kind is None:
            return []
        if self._kind == "search":
            if self._input and self._uses:
                self._uses[-1]["input"] = names.arguments_object(self._input)
            self._kind, self._input = None, ""
            return self._replay_waiting()
        events: list[Event] = [PartDelta(self._input)] if self._input else []
        sealed = _signature_and_origin(self._kind, self._signature)
        cited = _read_citations(self._citations)
        if len(cited) < len(self._citations):
            events.append(Lost("citations"))
        events.append(PartEnd(*sealed, cited))
        self._kind, self._input, self._signature, self._citations = None, "", "", []
        return events + self._replay_waiting()

    def _replay_waiting(self) -> list[Event]:
        """The events of blocks that were opened before the last one had ended."""
        waiting, self._waiting = self._waiting, []
        return [read for event in waiting for read in self.step(event["type"], event)]

    def _message_delta(self, data: dict[str, Any]) -> list[Event]:
        delta = data.get("delta")
        self._reason = fields.lenient(delta, "stop_reason") or self._reason
        self._stop_sequence = fields.lenient(delta, "stop_sequence") or self._stop_sequence
        totals = data.get("usage")
        if isinstance(totals, dict):
            self._usage.update((key, value) for key, value in totals.items() if value is not None)
        return []

    def _message_stop(self, data: dict[str, Any]) -> list[Event]:
        events = self._begin_once()
        while self._kind is not None:
            events += self._block_stop({"index": self._index})
        events += self._end_searches()
        self._over = True
        if self._reason == _OVERFLOW and not self._any_part:
            return [*events, overflow.failure(_OVERFLOW)]
        reason = REASONS.get(self._reason or "end_turn", "max_tokens" if self._reason == _OVERFLOW else None)
        if reason is None:
            events.append(Lost(f"stop_reason={self._reason}"))
        usage = _read_usage({"usage": self._usage}) if self._usage else None
        events.append(End(final_stop_reason(reason or "end", self._called), usage, self._stop_sequence))
        return events


def _is_failure(kind: str, data: Mapping[str, Any], name: str) -> bool:
    """Whether an event that is none of an answer says that something is wrong."""
    return kind == "error" or (kind not in _STEPS and failures.states_error(data, name=name))


_STEPS = {
    "content_block_delta": Reader._block_delta,
    "content_block_start": Reader._block_start,
    "content_block_stop": Reader._block_stop,
    "message_start": Reader._read_start,
    "message_delta": Reader._message_delta,
    "message_stop": Reader._message_stop,
}


# ---------------------------------------------------------------- looking on


USUAL = Usual((b"event: content_block_delta\ndata: {",))


def look(event: SseEvent, progress: Progress) -> None:
    """Note how far a relayed stream has come. Deltas, nearly all of the bytes, are not even parsed."""
    name = event.name
    if name in ("content_block_delta", "content_block_stop", "ping"):
        return
    if name == "content_block_start":
        progress.content = True
        return
    if name == "message_stop":
        progress.content = progress.ended = progress.over = True
        return
    data = failures.event_seen(event)
    if data is None:
        return
    kind = str(data.get("type") or name)
    holder = data.get("message") if kind == "message_start" else data
    counts = holder.get("usage") if isinstance(holder, dict) else None
    if isinstance(counts, dict):  # those at the end complete those at the beginning
        progress.notes.update((key, value) for key, value in counts.items() if value is not None)
        progress.usage = _read_usage({"usage": progress.notes})
    if _is_failure(kind, data, name):
        progress.failed = failures.failed_of(data, 500)
        progress.is_foreign = not is_own_error(400, data)
    elif kind == "message_stop":
        progress.content = progress.ended = progress.over = True
    elif kind == "message_delta":
        progress.ended = True
        progress.window_full = fields.lenient(data.get("delta"), "stop_reason") == _OVERFLOW
        if progress.window_full and not progress.content:
            progress.failed, progress.is_foreign = overflow.failure(_OVERFLOW), True
    elif kind.startswith("content_block"):
        progress.content = True


def write_failure(failed: Failed, progress: Progress) -> bytes:
    """The error event that ends a relayed stream for the client."""
    return encode(dumps(write_error(failed)[1]), "error")
