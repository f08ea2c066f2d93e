"""Anthropic Messages: where a request's prompt cache is marked. Pure.

The service stores the prompt up to each marker, and reads what an earlier request has stored: at most 20 blocks before
a marker, one of at most four. Written tokens cost 1.25 times as much, read ones a tenth. Clients of other formats set
no markers, because their services need none, so a conversion sets three:

- on the last message, for the next turn; as one setting for the whole request where the host has it
- where the instructions end (without any, the tools): other conversations begin with the same ones
- on the user's message before the last: exactly there the previous request has ended, however many blocks came since

A client that marks its requests itself knows best: then no marker is added. OpenAI's breakpoints are markers as well,
but in OpenAI's caches the end of the conversation counts beside them, so up to two places stay free for it. A marker
that lives longer (``ttl``) may not follow a shorter one. What a host has rejected (``Target.refused``) is left out:
first the setting for the whole request, in whose place the last block is marked, then all that were made here.
Source: prompt caching at platform.claude.com; ``prompt_cache_breakpoint`` in the ``openai`` SDK.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral import cache_marks
from ccproxy_lite.formats.neutral.events import Extra
from ccproxy_lite.formats.neutral.request import Request, ToolResult

MARKER = cache_marks.MARKER
AUTOMATIC = f"top-level {MARKER}"
"""How the setting for the whole request is called among the fields that a host rejects."""
MAX_MARKERS = 4
_UNMARKABLE = ("thinking", "redacted_thinking")
_EPHEMERAL = {"type": "ephemeral"}
_LONG = {"type": "ephemeral", "ttl": "1h"}

Block = dict[str, Any]


def cache_marker(extra: Extra) -> Block:
    """The marker that a client has set: Anthropic's own, which Chat clients may use, or OpenAI's breakpoint."""
    marker = cache_marks.marker_of(extra)
    if marker is not None:
        return {MARKER: marker}
    return {MARKER: dict(_EPHEMERAL)} if cache_marks.breakpoint_of(extra) is not None else {}


def write_markers(body: Block, request: Request, target: Target) -> tuple[str, ...]:
    """Keep of the client's markers what can be kept, and add ours; returns ``Outgoing.for_cache``.

    The blocks of the body have the client's markers already. What the client has set itself is not ours to leave out.
    """
    is_automatic = "automatic_caching" in target.quirks and AUTOMATIC not in target.refused
    body.update(cache_marker(request.extra))
    last = _last_markable(body["messages"][-1:])
    if MARKER in body and not is_automatic:
        setting = body.pop(MARKER)
        if last is not None:
            last.setdefault(MARKER, setting)
    marked = [block for block in _blocks(body) if MARKER in block]
    is_own = bool(marked or MARKER in body) and any(cache_marks.marker_of(extra) for extra in _extras(request))
    if MARKER in target.refused and not is_own:
        for block in (body, *marked):
            block.pop(MARKER, None)
        return ()
    is_added = target.caching and not is_own and not cache_marks.is_explicit(request)
    places = _places(body, last, is_automatic) if is_added else []
    _limit(marked, MAX_MARKERS - (MARKER in body) - len(places[:2]))
    if is_added:
        left = MAX_MARKERS - sum(MARKER in block for block in marked)
        for place in _places(body, last, is_automatic)[:left]:
            place[MARKER] = dict(_EPHEMERAL)
    marked = [block for block in _blocks(body) if MARKER in block]
    _put_longest_first([*marked, *([body] if MARKER in body else ())])
    return () if is_own else (*([AUTOMATIC] if MARKER in body else ()), *([MARKER] if marked else ()))


def _limit(marked: list[Block], most: int) -> None:
    """Of more markers than are accepted, the first and the last ones do most."""
    if len(marked) > most:
        for block in marked[1 : len(marked) - most + 1]:
            del block[MARKER]


def _places(body: Block, last: Block | None, is_automatic: bool) -> list[Block]:
    """What gets a marker, the most useful first; a setting for the whole request marks its last block."""
    instructions = [*body.get("tools", ()), *body.get("system", ())]
    before = _last_markable([message for message in body["messages"][:-1] if message["role"] == "user"])
    wanted = (last, before, *instructions[-1:])
    unmarked = [one for one in wanted if one is not None and MARKER not in one]
    return [body if one is last and is_automatic else one for one in unmarked]


def _last_markable(messages: list[Block]) -> Block | None:
    blocks = [block for message in messages[-1:] for block in message["content"]]
    return next((block for block in reversed(blocks) if block["type"] not in _UNMARKABLE), None)


def _put_longest_first(marked: list[Block]) -> None:
    """Let markers in front of one that lives for an hour do so too."""
    is_long = False
    for block in reversed(marked):
        is_long = is_long or block[MARKER].get("ttl") == "1h"
        if is_long:
            block[MARKER] = {**block[MARKER], **_LONG}


def _blocks(body: Block) -> Iterator[Block]:
    """All that may carry a marker, in the order of the prompt."""
    yield from body.get("tools", ())
    yield from body.get("system", ())
    for message in body["messages"]:
        for block in message["content"]:
            if block.get("type") == "tool_result":
                yield from block.get("content", ())
            yield block


def _extras(request: Request) -> Iterable[Extra]:
    yield request.extra
    yield from (part.extra for part in request.system)
    yield from (getattr(tool, "extra", {}) for tool in request.tools)
    for message in request.messages:
        yield message.extra
        for part in message.parts:
            yield part.extra
            if isinstance(part, ToolResult):
                yield from (inner.extra for inner in part.content)
