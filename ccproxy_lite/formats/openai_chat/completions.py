"""Legacy text completions: what clients still ask at ``/v1/completions``, as a Chat conversation of one turn.

A prompt becomes the user's message, and the answer's text the completion. What only a service of this endpoint can do
(fill in the middle, probabilities of tokens, several completions) is rejected by name. An upstream with the quirk
``completions`` has the endpoint itself: there the request goes untouched, and ``look`` and the readers only follow the
answer. Source: the SDK's ``types.completion`` and ``types.completion_create_params``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ccproxy_lite.errors import ClientError, UpstreamError
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.format import PathInfo, Progress, ReplyInfo
from ccproxy_lite.formats.neutral.events import End, Event, Failed, PartDelta, PartStart, fold
from ccproxy_lite.formats.neutral.request import Request
from ccproxy_lite.formats.openai import write_error
from ccproxy_lite.formats.openai_chat import answer, reader, request
from ccproxy_lite.formats.sse import Event as SseEvent
from ccproxy_lite.formats.sse import encode
from ccproxy_lite.jsontext import dumps, loads, quote

NAME = "openai-completions"
_ECHO = "(echo)"
_FINISH = {"max_tokens": "length", "refusal": "content_filter"}
_OWN = frozenset("prompt suffix echo best_of logprobs".split())

# ---------------------------------------------------------------- requests


def read_request(body: fields.Object, path: PathInfo) -> Request:
    """What a client asks, as a conversation. Raises ClientError for what only this endpoint can do."""
    prompt = _prompt(body)
    if fields.text(body, "suffix", "", "") != "":
        raise _rejected("suffix", "filling in the middle (suffix)")
    for name in ("best_of", "n"):
        if (fields.optional_int(body, name) or 1) > 1:
            raise _rejected(name, f"more than one completion ({name})")
    if body.get("logprobs") is not None and body["logprobs"] is not False:
        raise _rejected("logprobs", "probabilities of tokens (logprobs)")
    others = {name: value for name, value in body.items() if name not in _OWN}
    asked = request.read_request({**others, "messages": [{"role": "user", "content": prompt}]}, path)
    echo = {_ECHO: prompt} if fields.optional_bool(body, "echo") else {}
    return replace(asked, extra={**asked.extra, **echo}, paths={**asked.paths, "messages": "prompt"})


def _prompt(body: fields.Object) -> str:
    """The prompt: a text, or a list of one."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, list) and prompt:
        several = all(isinstance(one, str) for one in prompt)
        raise _rejected("prompt", "more than one prompt" if several else "a prompt of token numbers")
    if prompt is not None and not isinstance(prompt, str | list):
        raise fields.wrong("prompt", "a string or an array with one string")
    if not prompt:
        raise ClientError(400, f"prompt is {'required' if prompt is None else 'empty'}", param="prompt")
    return str(prompt)


def _rejected(name: str, what: str) -> ClientError:
    remedy = 'for an upstream that has /v1/completions itself, set the quirk "completions"'
    return ClientError(400, f"not supported by a chat service: {what}; {remedy}", param=name)


# ---------------------------------------------------------------- answers


def _head(reply: ReplyInfo) -> dict[str, Any]:
    return {
        "id": f"cmpl-{reply.id}",
        "object": "text_completion",
        "created": reply.created,
        "model": reply.request.model,
    }


def _choice(text: str, finish: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}


def _finish_of(end: End) -> str:
    return _FINISH.get(end.reason, "stop")


def write_body(events: Iterable[Event], reply: ReplyInfo) -> dict[str, Any]:
    """A complete response. Raises UpstreamError if the events end in a failure."""
    parts, end = fold(events)
    if isinstance(end, Failed):
        raise UpstreamError(end.message, status=end.status, kind=end.kind)
    text = "".join(part.text for part in parts if part.start.kind in ("text", "refusal"))
    body = {**_head(reply), "choices": [_choice(reply.request.extra.get(_ECHO, "") + text, _finish_of(end))]}
    return body if end.usage is None else {**body, "usage": answer.write_usage(end.usage)}


class Writer:
    """Writes a streamed answer."""

    def __init__(self, reply: ReplyInfo) -> None:
        options = reply.request.extra.get("stream_options")
        self._usage_wanted = isinstance(options, Mapping) and options.get("include_usage") is True
        self._echo = reply.request.extra.get(_ECHO, "")
        self._head = "data: " + dumps(_head(reply))[:-1]
        self._tail = ',"usage":null}\n\n' if self._usage_wanted else "}\n\n"
        self._is_text = False

    def write(self, event: Event) -> bytes:
        match event:
            case PartDelta() if self._is_text:
                return self._chunk(event.text)
            case PartStart():
                self._is_text = event.kind in ("text", "refusal")
                echo, self._echo = self._echo if self._is_text else "", "" if self._is_text else self._echo
                return self._chunk(echo) if echo else b""
            case End():
                return self._final_chunks(event)
            case Failed():
                return encode(dumps(write_error(event)[1]))
        return b""

    def _chunk(self, text: str, finish: str | None = None) -> bytes:
        finish_reason = "null" if finish is None else quote(finish)
        choice = f'{{"text":{quote(text)},"index":0,"logprobs":null,"finish_reason":{finish_reason}}}'
        return f'{self._head},"choices":[{choice}]{self._tail}'.encode()

    def _final_chunks(self, end: End) -> bytes:
        last = self._chunk(self._echo, _finish_of(end))
        if self._usage_wanted and end.usage is not None:
            last += f'{self._head},"choices":[],"usage":{dumps(answer.write_usage(end.usage))}}}\n\n'.encode()
        return last + b"data: [DONE]\n\n"


# ---------------------------------------------------------------- answers of an upstream that has the endpoint


def _as_chat(body: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A body or a chunk with its texts where Chat has them."""
    choices = [
        {**choice, field: {"role": "assistant", "content": choice.get("text")}, "logprobs": None}
        for choice in fields.lenient_list(body, "choices")
        if isinstance(choice, dict)
    ]
    return {**body, "choices": choices}


def read_body(body: Mapping[str, Any], seed: str) -> list[Event]:
    """A complete response as events. Raises UpstreamError."""
    return reader.read_body(_as_chat(body, "message") if "choices" in body else body, seed)


class Reader(reader.Reader):
    """Reads a streamed answer."""

    def feed(self, event: SseEvent) -> list[Event]:
        return super().feed(_chat_event(event))


def look(event: SseEvent, progress: Progress) -> None:
    """Note how far a relayed stream has come."""
    reader.look(event if progress.content else _chat_event(event), progress)


def _chat_event(event: SseEvent) -> SseEvent:
    try:
        chunk = loads(event.data)
    except ValueError:
        return event
    if not isinstance(chunk, dict) or "choices" not in chunk:
        return event
    return SseEvent(event.name, dumps(_as_chat(chunk, "delta")))
