"""Runs conversion cases: the pure formats alone, as the relay joins them."""

from __future__ import annotations

import json
from typing import Any

from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import Outgoing, PathInfo, ReplyInfo, Target
from ccproxy_lite.formats.neutral.answer_losses import AnswerLosses
from ccproxy_lite.formats.neutral.events import Event, Failed, check
from ccproxy_lite.formats.neutral.names import Restorer
from ccproxy_lite.formats.neutral.request import Request
from ccproxy_lite.formats.sse import Parser
from tests.cases import Case

SMALLEST = {
    "anthropic": {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]},
    "openai-chat": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "openai-responses": {"model": "m", "input": "hi"},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
}


def read_request(case: Case, body: dict[str, Any]) -> Request:
    path = (
        PathInfo(model=body.get("model", "m"), streams=case.get("streams")) if case["from"] == "gemini" else PathInfo()
    )
    return FORMATS[case["from"]].read_request(body, path)


def convert_request(case: Case) -> Outgoing:
    request = read_request(case, case["request"])
    target = Target(
        model=case.get("model", request.model),
        quirks=frozenset(case.get("quirks", ())),
        strict=case.get("strict", False),
        session=case.get("session", ""),
        caching=case.get("caching", False),
    )
    return write_request(case["to"], request, target)


def write_request(form: str, request: Request, target: Target) -> Outgoing:
    """The request in a format; that changes nothing of it, for another target may be next."""
    before = repr(request)
    try:
        return FORMATS[form].write_request(request, target)
    finally:
        assert repr(request) == before, f"{form} changes the request that it writes"


def asked(case: Case) -> tuple[Request, Outgoing]:
    """The client's request that an answer case replies to: the case's ``asked``, or the smallest one."""
    body = {**SMALLEST[case["to"]], **case.get("asked", {})}
    path = PathInfo(model="m") if case["to"] == "gemini" else PathInfo()
    request = FORMATS[case["to"]].read_request(body, path)
    return request, write_request(case["from"], request, Target(request.model))


def sse_bytes(stream: list[Any]) -> bytes:
    """A stream as bytes: an object, ``[event name, object]``, or a raw string, one event each."""
    out = b""
    for item in stream:
        name, data = item if isinstance(item, list) else ("", item)
        if isinstance(data, dict) and not name and isinstance(data.get("type"), str) and "choices" not in data:
            name = data["type"]
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        out += (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()
    return out


def read_stream(format_name: str, pieces: list[bytes]) -> list[Event]:
    """The neutral events of a stream that comes in these pieces."""
    parser, reader = Parser(), FORMATS[format_name].reader("seed")
    events: list[Event] = []
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                events += reader.feed(event)
        events += reader.close()
    except UpstreamError as error:
        events.append(Failed(error.status, error.kind, error.message))
    assert check(events) == [], (check(events), events)
    return events


def convert_stream(case: Case, pieces: list[bytes]) -> tuple[bytes, list[str]]:
    """What the client gets for an upstream's stream, and what that has lost."""
    request, outgoing = asked(case)
    restorer, losses = Restorer(outgoing.names, outgoing.custom), AnswerLosses(case["to"])
    writer = FORMATS[case["to"]].writer(ReplyInfo(request, "id", 1))
    events = losses.without_lost(restorer.restore(read_stream(case["from"], pieces)))
    return b"".join(writer.write(event) for event in events), losses.dropped


def convert_response(case: Case) -> tuple[dict[str, Any], list[str]]:
    request, outgoing = asked(case)
    events = FORMATS[case["from"]].read_body(case["response"], "seed")
    assert check(events) == []
    losses = AnswerLosses(case["to"])
    restored = losses.without_lost(Restorer(outgoing.names, outgoing.custom).restore(events))
    return FORMATS[case["to"]].write_body(restored, ReplyInfo(request, "id", 1)), losses.dropped


def whole_of(case: Case, sse: bytes) -> dict[str, Any]:
    """A stream for a client, read back into the whole answer that the client ends up with."""
    events = read_stream(case["to"], [sse])
    if events and isinstance(events[-1], Failed):
        return {"error": {"kind": events[-1].kind, "message": events[-1].message}}
    return FORMATS[case["to"]].write_body(events, ReplyInfo(asked(case)[0], "id", 1))


def payloads(sse: bytes) -> list[Any]:
    """The data of every event of a stream for a client."""
    return [json.loads(e.data) if e.data != "[DONE]" else e.data for e in Parser().feed(sse)]


__all__ = ["ClientError"]
