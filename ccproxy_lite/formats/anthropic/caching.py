"""Anthropic Messages: where a request's prompt cache is marked. Pure.

The service stores the prompt up to each marker, and reads what an earlier request has stored: at most 20 blocks before
a marker, one of at most four. Written tokens cost 1.25 times as much, read ones a tenth. Clients of other formats set
no markers, because their services need none, so a conversion sets three:

- on the last message, for the next turn; as one setting for the whole request where the host has it
- where the instructions end (without any, the tools): other conversations begin with the same ones
- on the user's message before the last: exactly there the previous request has ended, however many blocks came since

A client that marks its requests itself knows best: then no marker is added. The breakpoints of OpenAI's clients are
markers as well, but beside these the end of the conversation counts, unless they say otherwise. Source: prompt
caching at platform.claude.com; ``prompt_cache_breakpoint`` in the ``openai`` SDK.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral.events import Extra
from ccproxy_lite.formats.neutral.request import Request, ToolResult

MARKER = "cache_control"
MAX_MARKERS = 4
_BREAKPOINT = "prompt_cache_breakpoint"
_OPTIONS = "prompt_cache_options"
_UNMARKABLE = ("thinking", "redacted_thinking")
_EPHEMERAL = {"type": "ephemeral"}


def cache_marker(extra: Extra) -> dict[str, Any]:
    """The marker that a client has set: Anthropic's own, which Chat clients may use, or OpenAI's breakpoint."""
    marker = extra.get(MARKER)
    if isinstance(marker, dict):
        return {MARKER: marker}
    return {MARKER: dict(_EPHEMERAL)} if isinstance(extra.get(_BREAKPOINT), dict) else {}


def limit_markers(body: dict[str, Any]) -> None:
    """At most four markers are accepted: of more, the first and the last ones do most."""
    marked = [block for block in _blocks(body) if MARKER in block]
    most = MAX_MARKERS - (MARKER in body)
    if len(marked) > most:
        for block in marked[1 : len(marked) - most + 1]:
            del block[MARKER]


def add_markers(body: dict[str, Any], request: Request, target: Target) -> bool:
    """Mark what the next request will have in common with this one; returns whether any marker was added."""
    options = request.extra.get(_OPTIONS)
    is_explicit = isinstance(options, dict) and options.get("mode") == "explicit"
    if not target.caching or is_explicit or _has_own_markers(request):
        return False
    left = MAX_MARKERS - sum(MARKER in block for block in _blocks(body))
    places = _places(body, "automatic_caching" in target.quirks)[:left]
    for place in places:
        place[MARKER] = dict(_EPHEMERAL)
    return bool(places)


def _places(body: dict[str, Any], is_automatic: bool) -> list[dict[str, Any]]:
    """What gets a marker, the most useful first; a setting for the whole request marks its last block."""
    messages = body["messages"]
    instructions = [*body.get("tools", ()), *body.get("system", ())]
    last = _last_markable(messages[-1:])
    before = _last_markable([message for message in messages[:-1] if message["role"] == "user"])
    unmarked = [one for one in (last, *instructions[-1:], before) if one is not None and MARKER not in one]
    return [body if one is last and is_automatic else one for one in unmarked]


def _last_markable(messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    blocks = [block for message in messages[-1:] for block in message["content"]]
    return next((block for block in reversed(blocks) if block["type"] not in _UNMARKABLE), None)


def _blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    """All that may carry a marker, in the order of the prompt; what stands in results last."""
    turns = [message["content"] for message in body["messages"]]
    blocks = [*body.get("tools", ()), *body.get("system", ()), *(block for turn in turns for block in turn)]
    return blocks + [one for block in blocks if block.get("type") == "tool_result" for one in block.get("content", ())]


def _has_own_markers(request: Request) -> bool:
    return any(MARKER in extra for extra in _extras(request))


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
