"""A response that was collected in one piece: its content as events, whatever it turns out to be. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats import failures
from ccproxy_lite.formats.format import Format, Parser
from ccproxy_lite.formats.neutral.events import End, Event, Failed
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.net.heads import AnswerHead

_BOM = b"\xef\xbb\xbf"
_TAG = re.compile(r"<(script|style).*?</\1>|<[^>]*>|\s+", re.DOTALL | re.IGNORECASE)


class Whole(NamedTuple):
    """A collected response: its head, its body, and the parser of its events if it is a stream after all.

    ``error_body`` is the provider's (see ``Provider``).
    """

    head: AnswerHead | None
    body: bytes
    events: Parser | None = None
    error_body: Callable[[Callable[[str], str], Any], Any] = lambda get, body: body


def read_whole(form: Format, whole: Whole, seed: str, redact: Callable[[str], str]) -> list[Event]:
    """A response as events; ``Failed`` for an error response. Raises UpstreamError for anything else.

    :param redact: removes secrets, before a text is cut and half of one remains
    """
    head, body = whole.head, whole.body
    if head is None:
        raise UpstreamError("no response from the upstream")
    kind = head.get("content-type").lower()
    if head.status == 304 or not 200 <= head.status < 600:
        raise UpstreamError(f"the upstream returned {head.status}")
    # Following it would send the API key to another host.
    if 300 <= head.status < 400:
        try:
            where = urlsplit(head.get("location")).hostname or "somewhere else"
        except ValueError:
            where = "nowhere"
        raise UpstreamError(f"upstream redirected to {where}; not followed, to protect the API key")
    if head.status >= 400:
        parts = whole.events.feed(body) if whole.events is not None else []
        said = parts[0].data.encode() if parts else body  # some services send an error as an event
        return [failures.read_error(head.status, whole.error_body(head.get, _json_or_text(said, kind, redact)))]
    if whole.events is not None:
        reader = form.reader(seed)
        events = [event for part in whole.events.feed(body) for event in reader.feed(part)]
        if not events or not isinstance(events[-1], End):
            whole.events.close()
        events += reader.close()
        if len(events) == 1 and isinstance(events[0], Failed):
            events = [failures.with_words(events[0], whole.events.stray)]
        return events
    value = _json_or_text(body, kind, redact)
    # Gemini without ``alt=sse``.
    if isinstance(value, list):  # a stream in one piece
        reader = form.reader(seed)
        return [event for part in value for event in reader.feed(SseEvent("", dumps(part)))] + reader.close()
    if not isinstance(value, dict):
        raise UpstreamError(str(value) or "the upstream's response was empty")
    return form.read_body(value, seed)


def _json_or_text(body: bytes, kind: str, redact: Callable[[str], str]) -> Any:
    try:
        return loads(body.removeprefix(_BOM))
    except ValueError:
        text = _TAG.sub(" ", redact(body[:8192].decode("utf-8", "replace"))[:4096])
        text = " ".join(text.split())[:200]
        return f"the upstream returned {kind or 'no content type'}: {text}" if text else ""


def json_in(body: bytes) -> Any:
    """The value in a body; None where it is no JSON."""
    try:
        return loads(body)
    except ValueError:
        return None
