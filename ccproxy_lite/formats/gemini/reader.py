"""Gemini generateContent: answers, whole and streamed, read. Source: the SDK's ``types.GenerateContentResponse``.

Every chunk is a complete answer with a few more parts; a tool call always arrives whole. So the ``Reader`` has at most
one open part, a text or reasoning, which a part of another kind closes. There is no last event: the stream ends after
the chunk with a ``finishReason``, and without one it has failed.

A ``thoughtSignature`` on anything but reasoning becomes a reasoning part without text: in front of the part on which it
stands, or behind an open text that this part continues. ``groundingMetadata`` may come later than the text that it is
about, and counts bytes from the beginning of a part; ``_part_places`` says, by the part's index, where in all texts of
the answer a part with that index first began. What it says of a text that has been passed on is lost, and named.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import failures, fields
from ccproxy_lite.formats.format import Progress
from ccproxy_lite.formats.gemini import web
from ccproxy_lite.formats.gemini.contents import NAME, read_signature, standard
from ccproxy_lite.formats.gemini.errors import is_own_error, write_error
from ccproxy_lite.formats.neutral import names, search
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

_REASONS: dict[str, StopReason] = {
    "STOP": "end",
    "MAX_TOKENS": "max_tokens",
    "CONTINUATION": "max_tokens",
    **dict.fromkeys(
        (
            "SAFETY RECITATION LANGUAGE BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
            "IMAGE_RECITATION IMAGE_OTHER MODEL_ARMOR PUP_LIMITED_DISABLED"
        ).split(),
        "refusal",
    ),
}
_UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
"""Some services send it with every chunk; as the only one it is the end of an answer that has content."""
_BROKEN = frozenset(
    (
        "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE MALFORMED_RESPONSE"
    ).split()
)
"""Finish reasons that are failures of the model, not answers."""


_KNOWN_MEMBERS = frozenset("text thought thoughtSignature functionCall inlineData partMetadata videoMetadata".split())
_NOT_READ = ("citationMetadata",)


def _read_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    cached, thoughts = fields.count(usage, "cachedContentTokenCount"), fields.count(usage, "thoughtsTokenCount")
    # Tokens of tool results are counted apart, the cached ones within the prompt.
    prompt = fields.count(usage, "promptTokenCount") + fields.count(usage, "toolUsePromptTokenCount")
    cached = min(cached, prompt)
    return Usage(
        max(prompt - cached, 0),
        fields.count(usage, "candidatesTokenCount") + thoughts,
        cached,
        reasoning=thoughts if "thoughtsTokenCount" in usage else None,
    )


def read_body(body: Mapping[str, Any], seed: str) -> list[Event]:
    """A complete response as events: the same reader takes it as one chunk. Raises UpstreamError."""
    if failures.states_error(body, body.get("candidates") or None):
        return [failures.failed_of(body, 500)]
    reader = Reader(fields.lenient(body, "responseId") or seed)
    events = reader.chunk(body)
    if not body.get("candidates") and not reader.finish:
        raise UpstreamError("the upstream's response has no candidate")
    reader.finish = reader.finish or ("" if reader.is_unspecified else "STOP")
    return events + reader.close()


class Reader:
    """Reads a streamed answer; see the module's docstring."""

    def __init__(self, seed: str = "") -> None:
        self.finish = ""
        self.is_unspecified = False
        self._any_part = False
        self._seed = seed
        self._begun = False
        self._over = False
        self._open: PartKind | None = None
        self._texts = search.Texts()
        self._said: list[str] = []
        self._byte_ends: list[int] = []
        self._calls = 0
        self._usage: Usage | None = None
        self._detail = ""
        self._part_places: dict[int, int] = {}
        self._found = web.Found()

    def feed(self, event: SseEvent) -> list[Event]:
        if self._over or not event.data or event.data.strip() == "[DONE]":
            return []
        if event.data.startswith("["):  # an array of chunks, as a stream without ``alt=sse`` sends them
            parts = failures.event_object(SseEvent(event.name, f'{{"parts":{event.data}}}'))["parts"]
            return [read for part in parts for read in self.feed(SseEvent(event.name, dumps(part)))]
        data = failures.event_object(event)
        if failures.states_error(data, data.get("candidates"), event.name):
            self._over = True
            return [failures.failed_of(data, 500)]
        return self.chunk(data)

    def chunk(self, data: Mapping[str, Any]) -> list[Event]:
        """The neutral events of one chunk."""
        events: list[Event] = []
        self._texts.let_go()
        self._usage = _read_usage(data.get("usageMetadata")) or self._usage
        candidates, feedback = data.get("candidates"), data.get("promptFeedback")
        if not self._begun:
            self._begun = True
            events.append(Begin(fields.lenient(data, "responseId"), fields.lenient(data, "modelVersion")))
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self.finish = "SAFETY"
        for candidate in candidates if isinstance(candidates, list) else ():
            if isinstance(candidate, dict) and candidate.get("index", 0) in (0, None):
                self._read_candidate(candidate, events)
        return events

    def close(self) -> list[Event]:
        if self._over:
            return []
        self._over = True
        events: list[Event] = []
        if self.finish in _BROKEN:
            return [Failed(502, "server", self._detail or f"the model ended with {self.finish}")]
        if self.is_unspecified and self._any_part:
            self.finish = self.finish or "STOP"
        if not self.finish or not self._begun:
            unsaid = "the upstream stopped without a finish reason"
            return [Failed(502, "server", unsaid if self.is_unspecified else "the upstream's stream ended early")]
        self._close_part(events)
        events += self._found.events()
        if self.finish not in _REASONS:
            events.append(Lost(f"finishReason={self.finish}"))
        reason = final_stop_reason(_REASONS.get(self.finish, "end"), self._calls > 0)
        return [*events, End(reason, self._usage)]

    def _read_candidate(self, candidate: Mapping[str, Any], events: list[Event]) -> None:
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        events += [Lost(name) for name in _NOT_READ if candidate.get(name)]
        self._found.add(candidate)
        for number, part in enumerate(parts):
            self._part_places.setdefault(number, self._texts.length)
            self._read_part(part, events)
        if candidate.get("groundingMetadata"):
            self._add_citations(candidate["groundingMetadata"], events)
        stated = candidate.get("finishReason")
        finish = _UNSPECIFIED if stated == 0 else fields.lenient(candidate, "finishReason")  # 0 is its number
        self.is_unspecified = finish == _UNSPECIFIED  # that of the last chunk counts
        self.finish = finish if finish and finish != _UNSPECIFIED else self.finish
        self._detail = fields.lenient(candidate, "finishMessage") or self._detail

    def _read_part(self, part: Mapping[str, Any], events: list[Event]) -> None:
        used = self._found.add_use(part)
        if used is not None:  # whole: its signature belongs to it
            self._any_part = True
            self._close_part(events)
            events += used
            return
        text, raw_signature = fields.lenient(part, "text"), fields.lenient(part, "thoughtSignature")
        signature, redacted, origin = read_signature(raw_signature) if raw_signature else ("", "", NAME)
        call, blob = part.get("functionCall"), part.get("inlineData")
        if part.get("thought") is True and call is None:
            if text:
                self._add_text("thinking", text, events)
            if signature and self._open == "thinking":
                events.append(PartEnd(signature, origin))
                self._open = None
            elif signature:
                self._add_signature(signature, origin, events)
            elif redacted:
                self._close_part(events)
                events += [PartStart("redacted"), PartDelta(redacted), PartEnd("", origin)]
            return
        # The signature stands behind the text that is open, not in front of it.
        if text and self._open == "text":
            self._add_text("text", text, events)
            text = ""
        if signature:
            self._add_signature(signature, origin, events)
        if text:
            self._add_text("text", text, events)
        if isinstance(call, dict):
            self._add_call(call, events)
        elif isinstance(blob, dict) and fields.lenient(blob, "data"):
            self._close_part(events)
            kind = fields.lenient(blob, "mimeType")
            self._any_part = True
            if kind.startswith("image/"):
                events += [PartStart("image", media_type=kind), PartDelta(standard(blob["data"])), PartEnd()]
            else:
                events.append(Lost("inlineData"))
        else:
            lost = [Lost(name) for name in part if name not in _KNOWN_MEMBERS]
            self._any_part = self._any_part or bool(lost)
            events += lost

    def _add_call(self, call: Mapping[str, Any], events: list[Event]) -> None:
        self._close_part(events)
        name, arguments = fields.lenient(call, "name"), call.get("args")
        if not name:
            raise UpstreamError("the upstream called a tool without saying which")
        call_id = fields.lenient(call, "id") or names.made_up_id(self._seed, self._calls, name)
        self._calls += 1
        self._any_part = True
        events.append(PartStart("tool", call_id, name))
        if isinstance(arguments, dict) and arguments:
            events.append(PartDelta(dumps_text(arguments)))
        elif isinstance(arguments, str) and not names.may_be_null(arguments):
            events.append(PartDelta(arguments))
        events.append(PartEnd())

    def _add_text(self, kind: PartKind, text: str, events: list[Event]) -> None:
        if self._open != kind:
            self._close_part(events)
            self._open, self._any_part = kind, True
            events.append(PartStart(kind))
            if kind == "text":
                self._texts.begin()
        if kind == "text":
            self._texts.add(text)
            self._said.append(text)
        events.append(PartDelta(text))

    def _add_signature(self, signature: str, origin: str, events: list[Event]) -> None:
        """A signature on anything but reasoning becomes a reasoning part without text."""
        self._close_part(events)
        events += [PartStart("thinking"), PartEnd(signature, origin)]

    def _close_part(self, events: list[Event]) -> None:
        if self._open == "thinking":
            events.append(PartEnd(origin=NAME))
        elif self._open is not None:
            events.append(self._texts.end())
        self._open = None

    def _add_citations(self, metadata: Any, events: list[Event]) -> None:
        """Sources of the texts; several may support the same words."""
        pages = [_read_page(chunk) for chunk in fields.lenient_list(metadata, "groundingChunks")]
        supports = [one for one in fields.lenient_list(metadata, "groundingSupports") if isinstance(one, dict)]
        citations = list(self._supported(pages, supports))
        if not citations:
            citations = [citation for page in pages for citation in _cite(page)]
        is_all = [self._texts.cite(citation) for citation in citations]
        if not all(is_all) or not all(fields.lenient(page, "uri") for page in pages):
            events.append(Lost("groundingMetadata"))

    def _supported(self, pages: list[Any], supports: Iterable[Mapping[str, Any]]) -> Iterable[Citation]:
        for support in supports:
            place = self._characters(support["segment"]) if isinstance(support.get("segment"), dict) else (None, None)
            for index in fields.lenient_list(support, "groundingChunkIndices"):
                if isinstance(index, int) and 0 <= index < len(pages):
                    yield from _cite(pages[index], *place)

    def _characters(self, segment: Mapping[str, Any]) -> tuple[int, int]:
        """The characters of all texts that a segment is about.

        It counts from the beginning of its part, or, where it quotes other words than stand there, from that of the
        answer.
        """
        text, ends = self._measured()
        first, quoted = self._part_places.get(fields.count(segment, "partIndex"), 0), fields.lenient(segment, "text")
        places = []
        for offset in (ends[first - 1] if first else 0, 0):
            start, end = (offset + fields.count(segment, name) for name in ("startIndex", "endIndex"))
            places.append((bisect_right(ends, start), bisect_right(ends, end)))
        return next((place for place in places if quoted and text[slice(*place)] == quoted), places[0])

    def _measured(self) -> tuple[str, list[int]]:
        """All texts so far, and the number of bytes up to each character's end."""
        text = "".join(self._said)
        before, new = len(self._byte_ends), self._byte_ends[-1] if self._byte_ends else 0
        self._byte_ends += [new + end for end in accumulate(map(web.byte_length, text[before:]))]
        self._said = [text]
        return text, self._byte_ends


def _cite(page: Any, start: int | None = None, end: int | None = None) -> Iterable[Citation]:
    """The citation of a page that has an address."""
    if fields.lenient(page, "uri"):
        yield Citation(fields.lenient(page, "uri"), fields.lenient(page, "title"), start, end)


def _read_page(chunk: Any) -> Any:
    """A web page, a place on a map, or a document that has an address."""
    kinds = ("web", "maps", "retrievedContext")
    return next((chunk[kind] for kind in kinds if chunk.get(kind)), None) if isinstance(chunk, dict) else None


# ---------------------------------------------------------------- looking on


USUAL = Usual(
    (b"data: {",),
    needs=(b'"candidates"',),
    never=(b'"error"', b'"finishReason"', b'"promptFeedback"'),
    counts=b'"usageMetadata"',
)


def look(event: SseEvent, progress: Progress) -> None:
    """Note how far a relayed stream has come. After the first content only chunks that may end it are parsed."""
    data = event.data
    if progress.content and not event.name and not _is_notable(data):
        return
    chunk = failures.event_seen(event)
    if chunk is None:
        return
    if failures.states_error(chunk, chunk.get("candidates"), event.name):
        progress.failed = failures.failed_of(chunk, 500)
        progress.is_foreign = not is_own_error(400, chunk)
    progress.usage = _read_usage(chunk.get("usageMetadata")) or progress.usage
    for candidate in fields.lenient_list(chunk, "candidates"):
        if isinstance(candidate, dict):
            content = candidate.get("content")
            progress.content = progress.content or bool(isinstance(content, dict) and content.get("parts"))
            stated = bool(candidate.get("finishReason"))
            finish = fields.lenient(candidate, "finishReason")
            progress.ended = progress.ended or (stated and (finish != _UNSPECIFIED or progress.content))
            if finish in _BROKEN and not progress.content:
                detail = fields.lenient(candidate, "finishMessage") or finish
                progress.failed = Failed(502, "server", f"the model ended with {detail}")
    feedback = chunk.get("promptFeedback")
    is_blocked = isinstance(feedback, dict) and bool(feedback.get("blockReason"))
    progress.ended = progress.ended or is_blocked
    progress.content = progress.content or progress.ended


def _is_notable(data: str) -> bool:
    is_ending = '"finishReason"' in data or '"usageMetadata"' in data
    return is_ending or '"error"' in data or '"candidates"' not in data


def write_failure(failed: Failed, progress: Progress) -> bytes:
    """The error chunk that ends a relayed stream for the client."""
    return encode(dumps(write_error(failed)[1]))
