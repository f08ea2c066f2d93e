"""OpenAI's two formats: what a request says for the service's prompt cache. Pure.

A prompt is found again under its ``prompt_cache_key``, and from GPT-5.6 on only where a breakpoint stood: at the end of
the newest message by itself, and at the last three ``prompt_cache_breakpoint`` of the request. Clients of other formats
set neither, so a conversion sends a key of its own, and marks the end of the instructions, with which other
conversations begin as well. What the client has set is kept between OpenAI's two formats. Chat services may reject all
of it, so only those get it that are known to know it, and a service that has rejected what was added
(``Target.refused``) gets the rest.
Source: prompt caching at platform.openai.com; ``types.chat.completion_create_params``.

>>> bool(_WITH_BREAKPOINTS.match("openai/gpt-5.6-sol")), bool(_WITH_BREAKPOINTS.match("gpt-5.5"))
(True, False)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.neutral import cache_marks
from ccproxy_lite.formats.neutral.events import NOTHING, Extra
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import Request, Text

BREAKPOINT = cache_marks.BREAKPOINT
KEY = "prompt_cache_key"
_OPTIONS = (cache_marks.OPTIONS, "prompt_cache_retention")
_WITH_BREAKPOINTS = re.compile(r"(?i)(?:.*[/:.])?gpt-(?:5\.(?:[6-9]|\d\d)|[6-9])(?!\d)")
"""From GPT-5.6 on, a prompt is only found again at a breakpoint."""


class Caching(NamedTuple):
    """What a request says for the cache.

    :ivar is_own_key: the client has set the key
    :ivar takes_breakpoints: the client's own may be sent
    :ivar marks_instructions: their end gets one that nobody has asked for; there are some, without any of the client's
    """

    key: str = ""
    is_own_key: bool = False
    takes_breakpoints: bool = False
    marks_instructions: bool = False
    options: Mapping[str, Any] = NOTHING

    def mark(self, extra: Extra) -> dict[str, Any]:
        """The breakpoint that a part of the client's request carries."""
        marker = cache_marks.breakpoint_of(extra)
        return {BREAKPOINT: marker} if self.takes_breakpoints and marker is not None else {}

    def marked(self, parts: Sequence[Text]) -> list[dict[str, Any]]:
        """The breakpoints of the instructions, one entry for each part; none of the entries may have one."""
        marks = [self.mark(part.extra) for part in parts]
        if self.marks_instructions:
            last = max(number for number, part in enumerate(parts) if part.text.strip())
            marks[last] = {BREAKPOINT: {"mode": "explicit"}}
        return marks

    def write(self, body: dict[str, Any]) -> tuple[str, ...]:
        """Put into a body what concerns all of it; returns the fields that nobody has asked for."""
        if self.key:
            body[KEY] = self.key
        body.update(self.options)
        is_added = bool(self.key) and not self.is_own_key
        return (*([BREAKPOINT] if self.marks_instructions else ()), *([KEY] if is_added else ()))


def caching_of(request: Request, target: Target, losses: Losses, *, is_known: bool) -> Caching:
    """What to say to a service; ``is_known``: it knows these fields."""
    if not is_known:
        return Caching()
    adds_key = target.caching and KEY not in target.refused
    adds_mark = target.caching and BREAKPOINT not in target.refused and not cache_marks.is_explicit(request)
    is_marked = losses.is_kin and any(cache_marks.breakpoint_of(part.extra) is not None for part in request.system)
    has_instructions = any(part.text.strip() for part in request.system)
    return Caching(
        request.cache_key or (_derived_key(request, target) if adds_key else ""),
        bool(request.cache_key),
        losses.is_kin,
        adds_mark and has_instructions and not is_marked and _WITH_BREAKPOINTS.match(target.model) is not None,
        {name: request.extra[name] for name in _OPTIONS if losses.is_kin and request.extra.get(name)},
    )


def _derived_key(request: Request, target: Target) -> str:
    """What finds the prompt's beginning again: the same in every turn of a conversation.

    It is made of the session and the instructions, so that agents that share a session do not share a key; where the
    client names no session, of the instructions and what the user said first. At most 64 characters are accepted.
    """
    beginning = target.session or _first_words(request)
    if not beginning:
        return ""
    text = "\0".join([beginning, *(part.text for part in request.system)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _first_words(request: Request) -> str:
    """The first part that the user has sent: a text, or the data of a medium."""
    parts = (part for message in request.messages if message.role == "user" for part in message.parts)
    first = next(parts, None)
    return next((value for name in ("text", "url", "data") if (value := getattr(first, name, ""))), "")
