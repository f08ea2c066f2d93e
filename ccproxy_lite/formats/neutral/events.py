"""The neutral answer: what the wire formats have in common, and its grammar. Pure.

An answer is a sequence of events, whether it came as one body or as a stream:

    Begin (PartStart PartDelta* PartEnd)* End          or any prefix of that, then Failed

One part is open at a time; ``check`` holds every reader to it. ``Lost`` may stand anywhere: a reader names what it
leaves out, and no writer sees it. Requests are in ``request``, which only converters need.

>>> check([Begin(), PartStart("text"), PartDelta("hi"), PartEnd(), End("end")])
[]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ccproxy_lite.errors import Kind

Extra = Mapping[str, Any]
NOTHING: Extra = MappingProxyType({})

PartKind = Literal["text", "thinking", "redacted", "tool", "custom", "refusal", "image", "search"]
StopReason = Literal["end", "stop_sequence", "max_tokens", "tool_use", "refusal", "pause"]


class Usage(NamedTuple):
    """Tokens. ``input`` excludes what was read from or written to a cache; ``output`` includes ``reasoning``."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int | None = None

    @property
    def total_input(self) -> int:
        return self.input + self.cache_read + self.cache_write


class Citation(NamedTuple):
    """A source of a text part: a web page, and the characters of that part which it supports."""

    url: str
    title: str = ""
    start: int | None = None
    end: int | None = None


class Page(NamedTuple):
    """A web page that a search has found."""

    url: str
    title: str = ""


class Search(NamedTuple):
    """What the provider has done on the web: a search, or (``page``) a page that was opened, or searched (``pattern``).

    ``error`` is a word for its failure. ``item`` is how the provider itself says all this, and more: JSON text for its
    ``origin`` alone.
    """

    queries: tuple[str, ...] = ()
    pages: tuple[Page, ...] = ()
    page: str = ""
    pattern: str = ""
    error: str = ""
    item: str = ""
    origin: str = ""


@dataclass(slots=True)
class Begin:
    """The answer has begun. ``id`` and ``model`` are the upstream's own."""

    id: str = ""
    model: str = ""
    usage: Usage | None = None


@dataclass(slots=True)
class PartStart:
    """A part opens. ``id`` and ``name`` belong to tool calls (``custom``: free text), ``media_type`` to images.

    The ``name`` of a search is ``web_search`` or ``web_fetch``; its end says what was found.
    """

    kind: PartKind
    id: str = ""
    name: str = ""
    media_type: str = ""


@dataclass(slots=True)
class PartDelta:
    """More of the open part: text, JSON text of arguments, base64 of an image, or the opaque redacted data."""

    text: str


@dataclass(slots=True)
class PartEnd:
    """The open part is complete. ``signature`` seals a thinking part and belongs to its ``origin`` alone."""

    signature: str = ""
    origin: str = ""
    citations: tuple[Citation, ...] = ()
    search: Search | None = None


@dataclass(slots=True)
class End:
    """The answer is complete."""

    reason: StopReason
    usage: Usage | None = None
    stop_sequence: str | None = None


@dataclass(slots=True)
class Failed:
    """The answer failed, at its start (an HTTP error) or later.

    ``retry_after_s`` is the upstream's own hint, ``resets_at`` the same as a time since 1970. ``overflow`` is there if
    the prompt did not fit into the context window: the tokens that it had, and those that fit; 0 for an unknown number.
    """

    status: int
    kind: Kind
    message: str
    code: str = ""
    param: str = ""
    retry_after_s: float | None = None
    resets_at: float | None = None
    overflow: tuple[int, int] | None = None


@dataclass(slots=True)
class Lost:
    """Something in the upstream's answer that the neutral model has no place for, by the upstream's name for it."""

    what: str


Event = Begin | PartStart | PartDelta | PartEnd | End | Failed | Lost


def final_stop_reason(reason: StopReason, called: bool) -> StopReason:
    """Why an answer stopped: limits and filters first, then whether a tool was called, whatever the upstream says."""
    # Many servers say "stop" although a tool was called; clients look at the reason to decide whether to run tools.
    # A call of the client's tool waits for its result, also where the service pauses in a search.
    if reason in ("end", "stop_sequence", "tool_use") or (reason == "pause" and called):
        return "tool_use" if called else ("end" if reason == "tool_use" else reason)
    return reason


def check(events: Iterable[Event]) -> list[str]:
    """What is wrong with a sequence of events, by the grammar above; empty if nothing is. A prefix is fine."""
    wrong: list[str] = []
    state = "new"
    for position, event in enumerate(events):
        if isinstance(event, Lost):
            continue
        expected = _NEXT.get((state, type(event).__name__))
        if expected is None:
            wrong.append(f"event {position}: {type(event).__name__} while {state}")
        else:
            state = expected
    return wrong


_NEXT = {
    ("new", "Begin"): "begun",
    ("begun", "PartStart"): "open",
    ("open", "PartDelta"): "open",
    ("open", "PartEnd"): "begun",
    ("begun", "End"): "over",
    ("new", "Failed"): "over",
    ("begun", "Failed"): "over",
    ("open", "Failed"): "over",
}


@dataclass(slots=True)
class WholePart:
    """A part that is complete."""

    start: PartStart
    text: str
    end: PartEnd


def fold(events: Iterable[Event]) -> tuple[list[WholePart], End | Failed]:
    """The parts of an answer and how it ended; one that just stops has failed."""
    parts: list[WholePart] = []
    start, pieces = PartStart("text"), []
    for event in events:
        match event:
            case PartDelta():
                pieces.append(event.text)
            case PartStart():
                start, pieces = event, []
            case PartEnd():
                parts.append(WholePart(start, "".join(pieces), event))
            case End() | Failed():
                return parts, event
    return parts, Failed(502, "server", "the response ended early")
