"""A local agent CLI as an upstream: Claude Code, headless. It is run anew for each exchange. Pure.

What the service would be sent becomes a command, an environment and lines of JSON; the lines that the program prints
become the events that the service would send. So to the rest of the proxy it is one more host of Anthropic's format.

    claude -p --input-format stream-json --output-format stream-json ...

Sources: ``claude --help``, and what version 2.1.329 was measured to do:

- A line with ``shouldQuery: false`` is history. The program takes lines of the assistant at once and queues those of
  the user, so each of the latter is answered (a ``result`` without turns) before the next line is written.
- ``text_not_typed`` keeps it from reading ``/word`` as a command and ``@path`` as a file.
- ``CLAUDE_CODE_EXTRA_BODY`` is merged into the request that it sends.
- After ``max_tokens`` and after a tool call it goes on by itself, so it is ended when it says so.
- It retries by itself, unless told otherwise; the proxy knows better when to.
- ``--bare`` sends least, but knows no login, only a key.

>>> unfit_in({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "mcp_servers": [1]})
('mcp_servers',)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Literal, NamedTuple

from ccproxy_lite.errors import UNKNOWN_SESSION, ClientError, UpstreamError
from ccproxy_lite.formats.format import Format
from ccproxy_lite.formats.sse import encode
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.providers import direct, local
from ccproxy_lite.providers.provider import (
    Ask,
    Fitted,
    Launch,
    Move,
    Outbound,
    Question,
    Resume,
    Service,
)

SPEAKS = "anthropic"

_KEY_VARIABLE = "ANTHROPIC_API_KEY"
_EXTRA = frozenset("max_tokens temperature top_p top_k stop_sequences thinking output_config service_tier".split())
"""What is merged into the program's own request."""
_TAKEN = _EXTRA | {"model", "messages", "system", "stream", "tools", "tool_choice"}
_IGNORED = frozenset(("metadata", "cache_control"))
"""Statistics of the service, and caching, which the program arranges for itself."""
_MAX_EXTRA_BYTES = 100_000
"""An environment variable holds 128 KiB on Linux."""
_SYSTEM_FILE = "system.txt"
_MAX_ANSWER_CHARS = 4_000_000
"""A longer answer is not remembered: the next request tells all of the history again."""
_MAX_SECONDS = 4e9
"""Since 1970; what is more is no time."""
_OPTIONS = (
    "-p --input-format stream-json --output-format stream-json --include-partial-messages --verbose "
    "--strict-mcp-config --setting-sources= --disable-slash-commands"
).split()
_SWITCHES = dict.fromkeys(
    (
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC DISABLE_AUTOUPDATER DISABLE_TELEMETRY DISABLE_ERROR_REPORTING "
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS "
        "CLAUDE_CODE_DISABLE_REFUSAL_RETRY CLAUDE_CODE_DISABLE_ATTACHMENTS"
    ).split(),
    "1",
)
_OFF = {"CLAUDE_CODE_MAX_RETRIES": "0", "CLAUDE_CODE_ATTRIBUTION_HEADER": "0"}
_FINAL = ("end_turn", "stop_sequence", "pause_turn")
"""The stop reasons after which the program ends by itself."""
_STATUS = {
    "authentication_failed": 401,
    "billing_error": 402,
    "rate_limit": 429,
    "overloaded": 529,
    "server_error": 500,
}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}

Line = tuple[Literal["history", "assistant", "question"], bytes]


# ---------------------------------------------------------------- the request


def fit(service: Service, form: Format, body: Mapping[str, Any], ask: Ask) -> Fitted:
    """The same body, and what of it the program has no place for. Raises ClientError for what must not be left out."""
    return Fitted(body, list(ask.headers), unfit_in(body))


def unfit_in(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What the program has no place for. Raises ClientError for what must not be left out."""
    if body.get("tools"):
        raise ClientError(
            400, "tools of a client are not supported by a local CLI: it runs its own only", param="tools"
        )
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, Mapping) or last.get("role") == "assistant":
        raise ClientError(400, "messages must end with a message of the user for a local CLI", param="messages")
    if len(_extra_body(body)) > _MAX_EXTRA_BYTES:
        raise ClientError(400, "output_config is too large for a local CLI", param="output_config")
    unfit = [name for name, value in body.items() if name not in _TAKEN | _IGNORED and value not in (None, [], {})]
    return (*unfit, *_reasoning_in(body["messages"]))


def _reasoning_in(messages: Sequence[Any]) -> Iterator[str]:
    """Earlier reasoning, which the program does not take back."""
    for number, message in enumerate(messages):
        content = message.get("content") if isinstance(message, Mapping) else None
        for index, block in enumerate(content if isinstance(content, list) else ()):
            if isinstance(block, Mapping) and block.get("type") in ("thinking", "redacted_thinking"):
                yield f"messages[{number}].content[{index}]"


def _extra_body(body: Mapping[str, Any]) -> str:
    return dumps({name: value for name, value in body.items() if name in _EXTRA and value is not None})


class Program(NamedTuple):
    """One exchange with the program: everything but the session that it may go on with.

    ``turns`` has a digest for each message; ``session`` is the client's id of the conversation.
    """

    service: Service
    model: str
    body: Mapping[str, Any]
    key: str
    session: str
    turns: tuple[str, ...]

    def turn_of(self, answer: str) -> str:
        """The digest of an answer, as it will be in the next request."""
        return _digest("assistant", answer)

    def launch(self, resume: Resume | None) -> Launch:
        """How to run it: anew with all of the history, or going on with a session that knows the first turns."""
        system, tools = _text_of(self.body.get("system")), self.service.tools
        argv = [*self.service.command, *_OPTIONS, f"--model={self.model}", f"--tools={','.join(tools)}"]
        argv += [f"--allowedTools={','.join(tools)}"] if tools else []
        files = {}
        if system or not tools:  # with its tools and without instructions, it keeps its own
            files[_SYSTEM_FILE] = system
            argv.append(f"--system-prompt-file={_SYSTEM_FILE}")
        argv += ["--bare"] if self.key else []
        known = 0
        if resume is None:
            argv.append("--no-session-persistence")
        elif resume.turns:
            argv += [f"--resume={resume.id}", "--system-prompt-snapshot=off"]
            known = resume.turns
        else:
            argv.append(f"--session-id={resume.id}")
        return Launch(argv, self._environment(), files, Dialogue(_lines(self.body["messages"][known:]), bool(tools)))

    def _environment(self) -> dict[str, str]:
        environment = {**_SWITCHES, **_OFF, "CLAUDE_CODE_EXTRA_BODY": _extra_body(self.body)}
        if self.body.get("thinking") is None:
            environment["MAX_THINKING_TOKENS"] = "0"
        if self.key:
            environment[_KEY_VARIABLE] = self.key
        return environment


def _text_of(content: Any) -> str:
    """The text of instructions, without the line that another copy of the program writes for its own service."""
    if isinstance(content, str):
        return content
    texts = [block.get("text") for block in content or () if isinstance(block, Mapping)]
    return "\n\n".join(
        text for text in texts if isinstance(text, str) and text and not text.startswith("x-anthropic-billing-header:")
    )


def _blocks(content: Any) -> list[Any]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    return [
        {name: value for name, value in block.items() if name != "cache_control"} if isinstance(block, dict) else block
        for block in blocks
    ]


def _turns(messages: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Role and blocks of each message; instructions on the way are the user's here."""
    for message in messages:
        role = "assistant" if message.get("role") == "assistant" else "user"
        yield role, _blocks(message.get("content"))


def _lines(messages: Sequence[Any]) -> list[Line]:
    turns = list(_turns(messages))
    lines: list[Line] = []
    for number, (role, blocks) in enumerate(turns):
        line: dict[str, Any] = {"type": role, "message": {"role": role, "content": blocks}}
        is_last = number == len(turns) - 1
        if role == "user":
            line["text_not_typed"] = True
            line.update({} if is_last else {"shouldQuery": False})
        kind: Any = "assistant" if role == "assistant" else "question" if is_last else "history"
        lines.append((kind, dumps(line).encode() + b"\n"))
    return lines


def _digest(role: str, content: Any) -> str:
    """What identifies a turn, however it is spelled: its texts and all else but reasoning, in their order."""
    parts = [role]
    for block in _blocks(content):
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            text = str(block.get("text"))
            parts = [*parts[:-1], parts[-1] + text] if parts[-1].startswith("text:") else [*parts, f"text:{text}"]
        elif kind not in ("thinking", "redacted_thinking"):
            parts.append(dumps(block))
    return hashlib.sha256("\x00".join(part.strip() for part in parts).encode("utf-8", "surrogatepass")).hexdigest()


# ---------------------------------------------------------------- the answer


class Dialogue:
    """What is said to one run of the program, and what its lines become.

        telling -> asked -> answering -> over

    ``telling``: history is written, turn by turn. ``asked``: the question is written. ``answering``: the first event
    has come, and with it the head of the response. ``over``: the answer is complete, or has failed; lines that still
    come say nothing new.

    With its tools on, the program has several turns before it is done: their texts become one message, without its
    calls of its own tools, which would be taken for calls of the client's.

    :ivar answer: the text so far
    """

    def __init__(self, lines: list[Line], runs_tools: bool) -> None:
        self.answer = ""
        self._lines = lines
        self._runs_tools = runs_tools
        self._state: Literal["telling", "asked", "answering", "over"] = "telling"
        self._indexes: dict[int, int] = {}
        self._next_index = 0
        self._stop: Any = None
        self._stop_sequence: Any = None
        self._error = ""
        self._resets_at: float | None = None
        self._stray = ""

    def begin(self) -> Move:
        """The first lines."""
        return self._tell()

    def _tell(self) -> Move:
        told = []
        while self._lines:
            kind, line = self._lines.pop(0)
            told.append(line)
            if kind == "history":
                return Move(write=b"".join(told))
        self._state = "asked"
        return Move(write=b"".join(told), close_input=True)

    def feed(self, line: bytes) -> Move:
        """A line that the program has printed."""
        try:
            said = loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            self._stray = line.strip()[:200].decode("utf-8", "replace")
            return Move()
        if self._state == "over" or said.get("parent_tool_use_id") is not None:
            return Move()
        match said.get("type"):
            case "stream_event" if isinstance(said.get("event"), dict):
                return self._pass_on(said["event"])
            case "result":
                return self._tell() if self._state == "telling" and not said.get("is_error") else self._finish(said)
            case "assistant":
                self._error = str(said.get("error") or self._error)
            case "rate_limit_event":
                info = said.get("rate_limit_info")
                if isinstance(info, dict) and info.get("status") == "rejected":
                    self._resets_at = info.get("resetsAt")
        return Move()

    def ended(self, status: int, stderr: str) -> Move:
        """The program has ended. Raises UpstreamError if its answer is not complete."""
        if self._state == "over":
            return Move()
        said = stderr.strip().rpartition("\n")[2][:200] or self._stray
        how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
        raise UpstreamError(f"the CLI {how} without an answer" + (f": {said}" if said else ""))

    # --- events

    def _pass_on(self, event: dict[str, Any]) -> Move:
        if self._state != "answering" and event.get("type") not in ("message_start", "error"):
            raise UpstreamError("the CLI's answer has no beginning")
        if event.get("type") == "error":
            self._state = "over"
            return self._answering(_encoded(event))._replace(done=True, kill=True)
        if self._runs_tools:
            shown = self._merged(event)
            return self._answering(_encoded(shown)) if shown is not None else Move()
        move = self._answering(_encoded(event))
        if event.get("type") == "message_delta":
            self._stop = _member(event, "delta").get("stop_reason")
            if self._stop not in _FINAL:  # it would go on by itself
                self._state = "over"
                return move._replace(data=move.data + _encoded({"type": "message_stop"}), done=True, kill=True)
        elif event.get("type") == "message_stop":
            self._state = "over"
            return move._replace(done=True)
        self._note_text(event)
        return move

    def _answering(self, data: bytes) -> Move:
        if self._state == "answering":
            return Move(data=data)
        self._state = "answering"
        return Move(status=200, headers=(("content-type", "text/event-stream"),), data=data)

    def _note_text(self, event: Mapping[str, Any]) -> None:
        delta = _member(event, "delta")
        if delta.get("type") == "text_delta" and len(self.answer) < _MAX_ANSWER_CHARS:
            self.answer += str(delta.get("text", ""))

    def _merged(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """An event of one of several turns as part of one message, or None."""
        index = event.get("index")
        match event.get("type"):
            case "message_start":
                self._indexes = {}
                return event if self._state == "asked" else None
            case "content_block_start":
                kind = _member(event, "content_block").get("type")
                if kind not in ("text", "thinking", "redacted_thinking") or not isinstance(index, int):
                    return None
                self._indexes[index] = self._next_index
                self._next_index += 1
            case "message_delta":
                self._stop = _member(event, "delta").get("stop_reason")
                self._stop_sequence = _member(event, "delta").get("stop_sequence")
                return None
            case "message_stop":
                return None
        self._note_text(event)
        if index is None:
            return event
        shown = self._indexes.get(index) if isinstance(index, int) else None
        return None if shown is None else {**event, "index": shown}

    # --- the end

    def _finish(self, said: Mapping[str, Any]) -> Move:
        was, self._state = self._state, "over"
        errors = said.get("errors")
        text = str(said.get("result") or (errors[0] if isinstance(errors, list) and errors else "") or "no answer")
        if not said.get("is_error") and was != "answering":
            raise UpstreamError("the CLI printed a result without stream events (--include-partial-messages)")
        if not said.get("is_error") and was == "answering":
            delta = {
                "type": "message_delta",
                "delta": {"stop_reason": self._stop, "stop_sequence": self._stop_sequence},
            }
            data = _encoded({**delta, "usage": said.get("usage") or {}}) + _encoded({"type": "message_stop"})
            return Move(data=data, done=True)
        if text.startswith("No conversation found"):
            raise UpstreamError(text, code=UNKNOWN_SESSION)
        status = said.get("api_error_status")
        status = status if isinstance(status, int) and 400 <= status < 600 else _STATUS.get(self._error, 502)
        kind = said.get("api_error_type") or _ERROR_TYPES.get(status, "api_error")
        error = {"type": "error", "error": {"type": kind, "message": text}}
        if was == "answering":
            return Move(data=_encoded(error), done=True)
        headers = [("content-type", "application/json"), *self._reset_header()]
        return Move(status=status, headers=tuple(headers), data=dumps(error).encode(), done=True)

    def _reset_header(self) -> list[tuple[str, str]]:
        if not isinstance(self._resets_at, int | float) or not 0 < self._resets_at < _MAX_SECONDS:
            return []
        when = datetime.fromtimestamp(self._resets_at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return [("anthropic-ratelimit-requests-remaining", "0"), ("anthropic-ratelimit-requests-reset", when)]


def _member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _encoded(event: Mapping[str, Any]) -> bytes:
    return encode(dumps(event), str(event.get("type", "")))


# ---------------------------------------------------------------- the provider


def message(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    body = loads(ask.body)
    turns = tuple(_digest(role, blocks) for role, blocks in _turns(body["messages"]))
    program = Program(service, ask.model, body, key, ask.session, turns)
    return Outbound("RUN", "", " ".join(service.command), [], ask.body, program=program)


def count_tokens(service: Service, form: Format, ask: Ask, key: str) -> Question[int] | None:
    return None


def raw(service: Service, form: Format, ask: Ask, key: str) -> Outbound:
    raise ClientError(404, f"a local CLI has no {ask.raw_path}")


PROVIDER = direct.PROVIDER._replace(
    name=local.NAME,
    defaults={local.NAME: local.DEFAULTS},
    speaks=lambda kind, client: SPEAKS,
    tidy=lambda url, kind: url,
    message=message,
    count_tokens=count_tokens,
    raw=raw,
    fit=fit,
    runs=True,
)
