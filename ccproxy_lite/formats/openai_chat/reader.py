"""OpenAI Chat Completions: answers, whole and streamed, read. Source: the SDK's ``types.chat``, and what compatible
servers make of it: late names and ids, interleaved or unnumbered calls, usage anywhere, no finish.

A chunk's ``delta`` has pieces of text, reasoning, refusal and tool calls in any mixture, and nothing says where a part
ends. So the ``Reader`` keeps one part open and decides:

- A piece of the open part is passed on at once. A piece of another kind closes the open part and opens its own.
- A tool call is not closed that way, because fragments of several calls arrive interleaved. While the open call's
  arguments are not a complete JSON object, everything else waits: text in ``_waiting``, other calls as ``_Call``.
- A call opens once its name is known; an id may come later, and is made up if it never comes.

Reasoning that the service seals (``reasoning_details``) leaves with the reasoning part that is open when it arrives, or
with one without text: see ``reasoning``. Annotations count over all texts (``search.Texts``). Sources of the whole
answer (``citations``, ``search_results``) belong to its first text. That there was a search is told at the end, by what
is cited: the format has no other sign of one.

States of a call: ``waiting`` (not passed on yet), ``open`` (passed on as it grows), ``sent`` (closed), ``void`` (an
empty fragment that never became a call). The end is ``[DONE]`` or a ``finish_reason``; without both, the stream has
failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.format import Progress
from ccproxy_lite.formats.neutral import names, overflow, search
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
    Search,
    StopReason,
    Usage,
    final_stop_reason,
)
from ccproxy_lite.formats.openai import is_own_error, read_usage, write_error
from ccproxy_lite.formats.openai_chat import reasoning
from ccproxy_lite.formats.openai_chat.finish_reasons import meaning
from ccproxy_lite.formats.openai_chat.messages import read_signature
from ccproxy_lite.formats.openai_chat.reasoning import NAME
from ccproxy_lite.formats.openai_chat.sources import BESIDE, read_annotations, read_sources
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.formats.sse import Usual, encode
from ccproxy_lite.jsontext import dumps, dumps_text, loads

_PLAIN_DELTA = frozenset(("role", "content"))


def read_body(body: Mapping[str, Any], seed: str) -> list[Event]:
    """A complete response as events: the same reader takes it as one chunk. Raises UpstreamError."""
    if failures.states_error(body, body.get("choices") or None):
        return [failures.failed_of(body, 500)]
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise UpstreamError("the upstream's response has no choice")
    message, finish = choices[0].get("message"), fields.lenient(choices[0], "finish_reason")
    # Azure: an answer that was filtered before it had a word.
    if not isinstance(message, dict) and meaning(finish) in (None, "end", "tool_use"):
        raise UpstreamError("the upstream's response has no message")
    reader = Reader(fields.lenient(body, "id") or seed)
    choice = {**choices[0], "message": message or {}, "finish_reason": finish or "stop"}
    return reader.chunk({**body, "choices": [choice]}) + reader.close()


def _as_delta(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A complete message as one delta: its calls have no index."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [{**call, "index": i} for i, call in enumerate(calls) if isinstance(call, dict)]}


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

    def may_be_over(self) -> bool:
        """Whether a fragment with a name begins another call: this one is complete, or has no arguments."""
        return self.is_complete() or (bool(self.name) and self.kind == "tool" and names.may_be_null(self.arguments))


class Reader:
    """Reads a streamed answer; see the module's docstring for its rules."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._begun = False
        self._over = False
        self._open: PartKind | _Call | None = None
        self._calls: dict[Any, _Call] = {}
        self._waiting: list[tuple[PartKind, str]] = []
        self._texts = search.Texts()
        self._citations: list[Citation] = []
        self._images: list[str] = []
        self._sources: tuple[Citation, ...] = ()
        self._pages: list[Citation] = []
        self._thought: list[str] = []
        self._details = reasoning.Details()
        self._any_part = self._any_plain = self._sourced = False
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._done = False
        self._refused = False

    def feed(self, event: SseEvent) -> list[Event]:
        if self._over or self._done or not event.data:
            return []
        if event.data[:1] != "{" and event.data.strip() == "[DONE]":
            self._done = True
            return self.close()
        data = failures.event_object(event)
        # Nearly every chunk has a choice; only where there is none, an error may have any shape.
        is_usual = data.get("choices") and not data.get("error") and not event.name
        if not is_usual and failures.states_error(data, data.get("choices"), event.name):
            self._over = True
            return [failures.failed_of(data, 500)]
        return self.chunk(data)

    def chunk(self, data: Mapping[str, Any]) -> list[Event]:
        """The neutral events of one chunk."""
        events: list[Event] = []
        self._texts.let_go()
        if data.get("usage"):
            self._usage = read_usage(data["usage"])
        self._note_sources(data)
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
                elif isinstance(choice.get("message"), dict) and not self._any_part:
                    self._read_delta(_as_delta(choice["message"]), events)
                if choice.get("error"):  # OpenRouter
                    self._over = True
                    return [*events, failures.failed_of({"error": choice["error"]}, 500)]
                finish = fields.lenient(choice, "finish_reason")
                self._finish = finish if finish not in ("", "null") else self._finish
                # Moonshot puts usage into the choice.
                if choice.get("usage"):
                    self._usage = read_usage(choice["usage"])
        return events

    def close(self) -> list[Event]:
        if self._over:
            return []
        self._over = True
        # Some servers send only [DONE], some only a finish reason; one of them must be there.
        if self._finish is None and not (self._done and self._begun):
            return [Failed(502, "server", "the upstream's stream ended early")]
        finish = meaning(self._finish or "stop")
        if finish == "fault":
            return [Failed(502, "server", f"the upstream stopped with finish_reason {self._finish}")]
        events: list[Event] = [] if self._begun else [Begin()]
        self._flush_waiting(events)
        if any(call.state == "waiting" for call in self._calls.values()):
            return [*events, Failed(502, "server", "the upstream called a tool without saying which")]
        if finish == "overflow" and not self._any_part:
            return [*events, overflow.failure(self._finish or "")]
        if finish is None:
            events.append(Lost(f"finish_reason={self._finish}"))
        called = any(call.state == "sent" for call in self._calls.values())
        reason: StopReason = "refusal" if self._refused else "max_tokens" if finish == "overflow" else finish or "end"
        if self._pages:
            events += search.events_of(Search((), search.pages_of(self._pages), origin=NAME))
        events.append(End(final_stop_reason(reason, called), self._usage))
        return events

    def _read_delta(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        content = delta.get("content")
        if delta.keys() <= _PLAIN_DELTA and isinstance(content, str):  # what most of them are
            if content:
                self._add_text("text", content, events)
            return
        if delta.get("annotations"):
            cited = read_annotations(delta)
            self._citations += cited
            self._pages += cited
        self._note_sources(delta)
        self._read_thought(delta, events)
        if isinstance(content, str):
            if content:
                self._add_text("text", content, events)
        elif isinstance(content, list):
            for part in content:
                self._read_part(part, events)
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._refused = True
            self._add_text("refusal", refusal, events)
        if delta.get("images"):
            for image in fields.lenient_list(delta, "images"):
                self._add_image(image, events)
        if delta.get("audio"):
            events.append(Lost("audio"))
        calls = delta.get("tool_calls")
        legacy = delta.get("function_call")
        if isinstance(legacy, dict):
            calls = [{"index": 0, "function": legacy}]
        for position, fragment in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(fragment, dict):
                self._add_fragment(fragment, position, events)

    def _note_sources(self, holder: Mapping[str, Any]) -> None:
        """Sources of the whole answer, for its first text; some services repeat them with every chunk."""
        if not self._sourced and not BESIDE.isdisjoint(holder):
            found = read_sources(holder)
            if found and found != self._sources:
                self._sources = found
                self._pages += found

    def _read_thought(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        text_in_details = ""
        for key in reasoning.SEALED:
            if delta.get(key):
                text_in_details += self._details.add(delta[key])
        signature = read_signature(delta)
        if signature:
            self._close_part(events)
            events += [PartStart("thinking"), PartEnd(signature, NAME)]
        plain = reasoning.plain_text(delta)
        self._any_plain = self._any_plain or bool(plain)
        # Where there is plain text too, the details repeat it, sometimes only at the end.
        thought = plain if self._any_plain else text_in_details
        if thought:
            self._add_text("thinking", thought, events)

    def _read_part(self, part: Any, events: list[Event]) -> None:
        """A part of content that is a list: texts everywhere, reasoning and references at Mistral."""
        match fields.lenient(part, "type"):
            case "thinking" | "reasoning":  # Mistral, Databricks
                kind, text = "thinking", reasoning.text_of(part.get("thinking") or part.get("summary"))
            case "text" | "output_text" | "":
                kind, text = "text", reasoning.text_of(part)
            case "image_url":
                self._add_image(part, events)
                return
            case other:
                events.append(Lost(other))
                return
        if text:
            self._add_text(kind, text, events)  # type: ignore[arg-type]

    def _add_image(self, image: Any, events: list[Event]) -> None:
        """An image of OpenRouter or Gemini's Chat endpoint: a data URL, whole."""
        url = fields.lenient(image.get("image_url") if isinstance(image, dict) else None, "url")
        if url.startswith("data:") and ";base64," in url:
            self._images.append(url)
        elif url:
            events.append(Lost("image"))

    def _add_text(self, kind: PartKind, text: str, events: list[Event]) -> None:
        if self._open == kind:
            if kind == "thinking":
                self._thought.append(text)
            elif kind == "text":
                self._texts.length += len(text)
            events.append(PartDelta(text))
        elif self._try_close_call(events):
            self._open_text(kind, text, events)
        else:
            self._waiting.append((kind, text))

    def _open_text(self, kind: PartKind, text: str, events: list[Event]) -> None:
        if self._open != kind:
            self._close_part(events)
            if kind != "thinking":
                self._seal_details(events)
            self._open = kind
            self._any_part = True
            events.append(PartStart(kind))
            if kind == "text":
                self._texts.begin()
        if kind == "thinking":
            self._thought.append(text)
        elif kind == "text":
            self._texts.length += len(text)
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
            events.append(PartEnd(self._details.take("".join(self._thought)), NAME))
            self._thought = []
        elif self._open == "text":
            self._place_citations()
            end = self._texts.end()
            end.citations = end.citations or self._sources
            events.append(end)
            self._sourced, self._sources = self._sourced or bool(self._sources), ()
        else:
            events.append(PartEnd())
        self._open = None

    def _place_citations(self) -> None:
        """Put on the texts what cites them; what is about words to come waits."""
        said = self._texts.length
        self._citations = [one for one in self._citations if (one.start or 0) >= said or not self._texts.cite(one)]

    def _seal_details(self, events: list[Event]) -> None:
        """Sealed reasoning that came without a text."""
        if self._details.items:
            events += [PartStart("thinking"), PartEnd(self._details.take(""), NAME)]

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
            if other and call is not None and named and call.may_be_over():
                by_id = [key for key, call in self._calls.items() if call.id == call_id]
                index = by_id[0] if by_id else new
        else:
            by_id = [key for key, call in self._calls.items() if call_id and call.id == call_id]
            last = next(reversed(self._calls), None)
            fresh = last is None or bool(call_id) or (named and self._calls[last].may_be_over())
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
        self._seal_details(events)
        self._any_part = True
        number = list(self._calls.values()).index(call)
        call.id = call.id or names.made_up_id(self._seed, number, call.name)
        call.state, self._open = "open", call
        if call.signature:
            events += [PartStart("thinking"), PartEnd(call.signature, NAME)]
        events.append(PartStart(call.kind, call.id, call.name))
        self._pass_on_arguments(call, events)

    def _pass_on_arguments(self, call: _Call, events: list[Event]) -> None:
        if call.kind == "tool" and names.may_be_null(call.arguments):
            return
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
        self._seal_details(events)
        if self._sources or not all([self._texts.cite(one) for one in self._citations]):
            events.append(Lost("citations"))


# ---------------------------------------------------------------- looking on


USUAL = Usual(
    (b"data: {",), needs=(b'"choices"',), never=(b'"error"',), nulls=(b'"finish_reason":',), counts=b'"usage":'
)


def look(event: SseEvent, progress: Progress) -> None:
    """Note how far a relayed stream has come. After the first content only chunks that may end it are parsed."""
    data = event.data
    if progress.content and not event.name and not _is_notable(data):
        return
    if data.strip() == "[DONE]":
        progress.content = progress.content or progress.ended
        progress.ended = progress.over = True
        return
    chunk = failures.event_seen(event)
    if chunk is None:
        return
    if failures.states_error(chunk, chunk.get("choices"), event.name):
        progress.failed = failures.failed_of(chunk, 500)
        progress.is_foreign = not is_own_error(400, chunk)
    progress.usage = read_usage(chunk.get("usage")) or progress.usage
    full = ""
    for choice in fields.lenient_list(chunk, "choices"):
        if isinstance(choice, dict):
            finish = fields.lenient(choice, "finish_reason")
            progress.ended = progress.ended or finish not in ("", "null")
            full = finish if meaning(finish) == "overflow" else full
            delta = choice.get("delta") or choice.get("message")
            has_content = isinstance(delta, dict) and any(value for key, value in delta.items() if key != "role")
            progress.content = progress.content or has_content
    progress.window_full = progress.window_full or bool(full)
    if full and not progress.content:
        progress.failed, progress.is_foreign = overflow.failure(full), True
    progress.content = progress.content or progress.ended


def write_failure(failed: Failed, progress: Progress) -> bytes:
    """The error chunk that ends a relayed stream for the client."""
    return encode(dumps(write_error(failed)[1]))


def _is_notable(data: str) -> bool:
    at = data.find('"finish_reason":')
    finished = at >= 0 and not data.startswith("null", at + 16) and not data.startswith(" null", at + 16)
    return finished or '"usage":' in data or '"error"' in data or '"choices"' not in data
