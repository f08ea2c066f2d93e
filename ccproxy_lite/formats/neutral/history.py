"""An answer as a turn of the conversation: what a client would send back of it. Pure.

>>> from ccproxy_lite.formats.neutral.events import Begin, End, PartDelta, PartEnd, PartStart
>>> [part.text for part in as_turn([Begin(), PartStart("text"), PartDelta("hi"), PartEnd(), End("end")]).parts]
['hi']
"""

from __future__ import annotations

from collections.abc import Iterable

from ccproxy_lite.formats.neutral.events import Event, WholePart, fold
from ccproxy_lite.formats.neutral.request import (
    Image,
    Message,
    Part,
    Refusal,
    SearchCall,
    Text,
    Thinking,
    ToolCall,
)


def as_turn(events: Iterable[Event]) -> Message:
    """The assistant's turn that the events of an answer are, complete or not."""
    parts, _ = fold(events)
    return Message("assistant", tuple(_as_part(part) for part in parts))


def _as_part(part: WholePart) -> Part:
    start, end = part.start, part.end
    match start.kind:
        case "thinking":
            return Thinking(part.text, end.signature, origin=end.origin)
        case "redacted":
            return Thinking(redacted=part.text, origin=end.origin)
        case "tool" | "custom":
            return ToolCall(start.id, start.name, part.text, "custom" if start.kind == "custom" else "function")
        case "search" if end.search is not None:
            return SearchCall(end.search)
        case "image":
            return Image(start.media_type, part.text)
        case "refusal":
            return Refusal(part.text)
        case _:
            return Text(part.text)
