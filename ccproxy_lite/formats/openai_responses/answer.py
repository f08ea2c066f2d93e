"""OpenAI Responses: answers, whole and streamed, written. Source: what the SDK's accumulator requires: one id of the
response, one id and one ``output_index`` for each item, and every finished item once more in the last event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.format import ReplyInfo
from ccproxy_lite.formats.neutral import names, thinking
from ccproxy_lite.formats.neutral.events import (
    Begin,
    Citation,
    End,
    Event,
    Failed,
    PartDelta,
    PartEnd,
    PartStart,
    Search,
    Usage,
)
from ccproxy_lite.formats.neutral.request import Tool
from ccproxy_lite.formats.neutral.search import sealed as seal
from ccproxy_lite.formats.neutral.search import span
from ccproxy_lite.formats.openai_responses import web
from ccproxy_lite.formats.openai_responses.items import NAME
from ccproxy_lite.formats.openai_responses.reader import failure
from ccproxy_lite.formats.openai_responses.tools import NAME_LIMITS, NOTE
from ccproxy_lite.formats.sse import encode
from ccproxy_lite.jsontext import dumps, loads, quote

_INCOMPLETE = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}


def _write_usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.total_input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.total_input + usage.output,
    }


def write_body(events: Iterable[Event], reply: ReplyInfo) -> dict[str, Any]:
    """A complete response, as the last event of a stream has it. Raises UpstreamError if they end in a failure."""
    writer = Writer(reply)
    for event in events:
        if isinstance(event, Failed):
            raise UpstreamError(event.message, status=event.status, kind=event.kind)
        if isinstance(event, End):
            return writer.ended(event)
        writer.write(event)
    raise UpstreamError("the response ended early")


def _annotation(citation: Citation, length: int) -> dict[str, Any]:
    start, end = span(citation, length)
    place = {"start_index": start, "end_index": end}
    return {"type": "url_citation", "url": citation.url, "title": citation.title, **place}


_BEGUN = ("in_progress", "searching")
"""The steps of a search that has begun."""
_TEXTS = {"text": ("output_text", "text"), "refusal": ("refusal", "refusal")}
_ID_PREFIX = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "tool_search_call": "tsc",
    "image_generation_call": "ig",
    web.CALL: "ws",
}


class Writer:
    """Writes a streamed answer, one item at a time. Texts that follow each other are parts of one message.

    :ivar response: the whole response, once it has ended
    :ivar sealed: by their ids, what of searches only the service can read that has made them; it has no place here
    """

    def __init__(self, reply: ReplyInfo) -> None:
        request = reply.request
        self._reply = reply
        self._extra_of_tool = {tool.name: tool.extra for tool in request.tools if isinstance(tool, Tool)}
        self._number = -1
        self._items: list[dict[str, Any]] = []
        self._item: dict[str, Any] = {}
        self._start = PartStart("text")
        self._pieces: list[str] = []
        self._prefix: tuple[str, str] = ("", "")
        self._refused = False
        self._begun = False
        self._closed = True
        self.response: dict[str, Any] | None = None
        self.sealed: dict[str, str] = {}

    def write(self, event: Event) -> bytes:
        if type(event) is PartDelta:
            return self._write_delta(event.text)
        match event:
            case PartStart():
                return self._open_part(event)
            case PartEnd():
                self._closed = True
                return self._close_part(event)
            case Begin():
                return self._begin_stream()
            case End():
                kind = "incomplete" if self._incomplete_reason(event) else "completed"
                before = self._close_item(kind)
                self.response = self.ended(event)
                return before + self._encode_event(f"response.{kind}", {"response": self.response})
            case Failed():
                before = self._begin_stream() if not self._begun else self._close_item() if self._closed else b""
                response = {**self._response_object("failed"), "error": failure(event)}
                return before + self._encode_event("response.failed", {"response": response})
        raise AssertionError(event)

    def ended(self, end: End) -> dict[str, Any]:
        """The response as it is at the end."""
        reason = self._incomplete_reason(end)
        self._close_item("incomplete" if reason else "completed")
        response = self._response_object("incomplete" if reason else "completed")
        response["incomplete_details"] = {"reason": reason} if reason else None
        response["completed_at"] = None if reason else self._reply.created
        return {**response, "usage": _write_usage(end.usage)}

    def _incomplete_reason(self, end: End) -> str | None:
        """Why the answer is not complete; a refusal with a text counts as complete."""
        return None if end.reason == "refusal" and self._refused else _INCOMPLETE.get(end.reason)

    # --- events

    def _encode_event(self, kind: str, data: dict[str, Any]) -> bytes:
        self._number += 1
        return encode(dumps({"type": kind, "sequence_number": self._number, **data}), kind)

    def _response_object(self, status: str) -> dict[str, Any]:
        request = self._reply.request
        return {
            "id": f"resp_{self._reply.id}",
            "object": "response",
            "created_at": self._reply.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": request.max_tokens,
            "metadata": {},
            "model": request.model,
            "output": list(self._items),
            "parallel_tool_calls": request.parallel_tools is not False,
            "previous_response_id": self._reply.previous or None,
            "store": self._reply.is_kept,
            "temperature": request.temperature,
            "tool_choice": request.tool_choice.mode if request.tool_choice else "auto",
            "tools": [],
            "top_p": request.top_p,
            "usage": None,
        }

    def _begin_stream(self) -> bytes:
        self._begun = True
        response = self._response_object("in_progress")
        data = {"response": response}
        return self._encode_event("response.created", data) + self._encode_event("response.in_progress", data)

    def _item_added(self, kind: str, **fields: Any) -> bytes:
        """A new item, and the end of the message before it."""
        before = self._close_item()
        item_id = f"{_ID_PREFIX[kind]}_{self._reply.id}_{len(self._items)}"
        self._item = {"id": item_id, "type": kind, "status": "in_progress", **fields}
        data = {"output_index": len(self._items), "item": self._item}
        return before + self._encode_event("response.output_item.added", data)

    def _item_done(self, **fields: Any) -> bytes:
        """An item is complete; written with the next event, for if that is the end, the item may have been cut."""
        self._item = {**self._item, **fields}
        return b""

    def _close_item(self, status: str = "completed") -> bytes:
        """The end of the open item."""
        if not self._item:
            return b""
        if self._item["type"] == web.CALL:  # a search that was told of is over
            status = "failed" if self._item["status"] == "failed" else "completed"
        # A call whose arguments are complete was not cut off: clients may run it.
        if status == "incomplete" and self._item["type"] == "function_call" and _is_object(self._item["arguments"]):
            status = "completed"  # the limit came after the call
        item, self._item = {**self._item, "status": status}, {}
        data = {"output_index": len(self._items), "item": item}
        self._items.append(item)
        return self._encode_event("response.output_item.done", data)

    def _item_position(self, **more: Any) -> dict[str, Any]:
        return {"item_id": self._item["id"], "output_index": len(self._items), **more}

    def _prepare_deltas(self, kind: str, place: dict[str, Any], tail: str = "") -> None:
        """What stands around the text of each delta to come; only the number in its middle changes."""
        self._prefix = (
            f'event: {kind}\ndata: {{"type":"{kind}",{dumps(place)[1:-1]}{tail},"sequence_number":',
            ',"delta":',
        )

    def _write_delta(self, text: str) -> bytes:
        self._pieces.append(text)
        # Media and redacted reasoning have no deltas.
        if not self._prefix[0]:
            return b""
        before = b""
        if self._item.get("type") == "reasoning" and not self._item["summary"]:
            before = self._open_summary()
        self._number += 1
        # The sequence number is the only part that changes from one delta to the next.
        head, middle = self._prefix
        return before + f"{head}{self._number}{middle}{quote(text)}}}\n\n".encode()

    # --- parts

    def _open_part(self, start: PartStart) -> bytes:
        self._start, self._pieces, self._prefix, self._closed = start, [], ("", ""), False
        match start.kind:
            case "text" | "refusal":
                return self._open_text(start)
            case "thinking":
                added = self._item_added("reasoning", summary=[])
                self._prepare_deltas("response.reasoning_summary_text.delta", self._item_position(summary_index=0))
                return added
            case "redacted":
                return self._item_added("reasoning", summary=[])
            case "image":
                return self._item_added("image_generation_call", result=None)
            case "search":
                return self._open_search()
        extra = self._extra_of_tool.get(start.name, {})
        call_id = names.id_for_client(start.id, NAME_LIMITS)
        if NOTE in extra:
            return self._item_added("tool_search_call", call_id=call_id, execution="client", arguments={})
        # Tools in namespaces go out under one flat name and come back with their namespace.
        name = {"name": extra.get("(inner)", start.name)}
        if "(namespace)" in extra:
            name["namespace"] = extra["(namespace)"]
        if start.kind == "custom":
            added = self._item_added("custom_tool_call", call_id=call_id, **name, input="")
            self._prepare_deltas("response.custom_tool_call_input.delta", self._item_position())
        else:
            added = self._item_added("function_call", call_id=call_id, **name, arguments="")
            self._prepare_deltas("response.function_call_arguments.delta", self._item_position())
        return added

    def _open_text(self, start: PartStart) -> bytes:
        before = b""
        # Texts that follow each other are parts of one message.
        if self._item.get("type") != "message":
            before = self._item_added("message", role="assistant", content=[])
        kind, field = _TEXTS[start.kind]
        self._refused = self._refused or start.kind == "refusal"
        place = self._item_position(content_index=len(self._item["content"]))
        empty = {"type": kind, field: "", **({"annotations": [], "logprobs": []} if kind == "output_text" else {})}
        self._prepare_deltas(f"response.{kind}.delta", place, ',"logprobs":[]' if kind == "output_text" else "")
        return before + self._encode_event("response.content_part.added", {**place, "part": empty})

    def _open_search(self) -> bytes:
        if not self._reply.request.web_tools:  # which nobody has asked for
            return b""
        added = self._item_added(web.CALL, action={"type": "search", "query": ""})
        position = self._item_position()
        return added + b"".join(self._encode_event(f"response.{web.CALL}.{step}", position) for step in _BEGUN)

    def _close_search(self, found: Search) -> bytes:
        if not self._reply.request.web_tools:
            return b""
        status = {"status": "failed"} if found.error else {}
        if found.item:
            self.sealed[self._item["id"]] = seal(found)
        done = self._encode_event(f"response.{web.CALL}.completed", self._item_position())
        return done + self._item_done(action=web.write_action(found), **status)

    def _open_summary(self) -> bytes:
        part = {"type": "summary_text", "text": ""}
        self._item = {**self._item, "summary": [part]}
        return self._encode_event(
            "response.reasoning_summary_part.added", {**self._item_position(summary_index=0), "part": part}
        )

    def _close_part(self, end: PartEnd) -> bytes:
        text = "".join(self._pieces)
        match self._start.kind:
            case "text" | "refusal":
                return self._close_text(text, end)
            case "thinking":
                return self._close_thinking(text, end)
            case "redacted":
                return self._item_done(encrypted_content=thinking.seal("", text, end.origin, NAME))
            case "search":
                return self._close_search(end.search or Search())
            case "image":
                return self._item_done(result=text, output_format=self._start.media_type.rpartition("/")[2] or "png")
        if self._item["type"] == "tool_search_call":
            return self._item_done(arguments=names.arguments_object(text))
        if self._item["type"] == "custom_tool_call":
            done = self._encode_event("response.custom_tool_call_input.done", {**self._item_position(), "input": text})
            return done + self._item_done(input=text)
        missing = b"" if text.strip() else self._write_delta("{}")  # clients parse the arguments, and "" is not JSON
        text = names.arguments_text(text)
        data = {**self._item_position(), "name": self._item["name"], "arguments": text}
        return (
            missing
            + self._encode_event("response.function_call_arguments.done", data)
            + self._item_done(arguments=text)
        )

    def _close_text(self, text: str, end: PartEnd) -> bytes:
        kind, field = _TEXTS[self._start.kind]
        place = self._item_position(content_index=len(self._item["content"]))
        part: dict[str, Any] = {"type": kind, field: text}
        out, logprobs = b"", dict[str, Any]()
        if kind == "output_text":
            part |= {"annotations": [_annotation(citation, len(text)) for citation in end.citations], "logprobs": []}
            logprobs = {"logprobs": []}
            for number, annotation in enumerate(part["annotations"]):
                data = {**place, "annotation_index": number, "annotation": annotation}
                out += self._encode_event("response.output_text.annotation.added", data)
        self._item = {**self._item, "content": [*self._item["content"], part]}
        out += self._encode_event(f"response.{kind}.done", {**place, field: text, **logprobs})
        return out + self._encode_event("response.content_part.done", {**place, "part": part})

    def _close_thinking(self, text: str, end: PartEnd) -> bytes:
        out, summary = b"", []
        if text:
            place, part = self._item_position(summary_index=0), {"type": "summary_text", "text": text}
            out = self._encode_event("response.reasoning_summary_text.done", {**place, "text": text})
            out += self._encode_event("response.reasoning_summary_part.done", {**place, "part": part})
            summary = [part]
        # The encrypted content is what the client sends back in its next request.
        sealed = thinking.seal(end.signature, "", end.origin, NAME)
        if not sealed and end.origin != NAME:  # without a mark it would be mistaken for one of the service itself
            sealed = thinking.tag(end.origin, "")
        return out + self._item_done(summary=summary, **({"encrypted_content": sealed} if sealed else {}))


def _is_object(text: str) -> bool:
    try:
        return isinstance(loads(text), dict)
    except ValueError:
        return False
