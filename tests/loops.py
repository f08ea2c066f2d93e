"""Both ends of an agent's loop of tool calls, in each format: what a service says, and a client that does what it is told.

    Client("gemini").run(port, "gemini-3.5-flash", turns=30)

A client sends the same instructions and tools in each request, and in front of the tools' results the answer as it has
received it, as the agents of its format do. ``Saying.steps`` is what a scripted upstream sends for one answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support import (
    ANTHROPIC_BODY,
    LAST,
    RESPONSES_BODY,
    STREAM_HEAD,
    Answer,
    Step,
    anthropic_event,
    ask,
    chat_delta,
    http,
    response_event,
    sse,
)

Object = dict[str, Any]
BILLING_HEADER = "x-anthropic-billing-header:"
"""Claude Code's first system block begins so, and is another one in each request."""
SESSION = "4fd3a8d2-6d0e-4c54-9f0f-2b8e6f3f7c11"
EPHEMERAL = {"cache_control": {"type": "ephemeral"}}


def _digest(what: str, length: int) -> str:
    return hashlib.sha256(what.encode()).hexdigest()[:length]


# ---------------------------------------------------------------- what is talked about

INSTRUCTIONS = "You are a careful software engineer.\n" + "".join(
    f"{number}. Before changing file number {_digest(str(number), 8)}, read all of it, and keep the style of its text.\n"
    for number in range(1, 126)
)
_PURPOSE = "It works in the folder of the project, reports errors as text, and never asks back. Use it"
TOOLS: list[Object] = [
    {
        "name": name,
        "description": f"{purpose} {_PURPOSE} rather than a command of the shell, and only on paths that you have seen.",
        "schema": {
            "type": "object",
            "properties": {
                "path": {
                    "type": "string",
                    "description": "A path below the folder of the project, with forward slashes.",
                },
                "limit": {"type": "integer", "minimum": 1, "description": "The most lines that come back."},
                "all": {"type": "boolean", "description": "Whether hidden files count."},
                "filter": {"type": "object", "description": "More conditions.", "additionalProperties": True},
            },
            "required": ["path"],
        },
    }
    for name, purpose in {
        "Read": "Reads a text file.",
        "Write": "Writes a text file.",
        "Edit": "Replaces one text of a file by another.",
        "Bash": "Runs a command.",
        "Glob": "Finds files by name.",
        "Grep": "Finds lines by a regular expression.",
        "WebFetch": "Fetches a page.",
        "WebSearch": "Searches the web.",
        "TodoWrite": "Keeps the list of what is to be done.",
        "NotebookEdit": "Changes a cell of a notebook.",
        "Task": "Has another agent do a part of the work.",
        "mcp__issues__list": "Lists open issues.",
    }.items()
]
QUESTION = "Please find out why the nightly build is slow, and make it faster."


class Bill(NamedTuple):
    """The input tokens of one request: read from the cache, written to it, and neither."""

    read: int
    written: int
    plain: int


class Call(NamedTuple):
    """A call of a tool; Gemini's have no id."""

    id: str
    name: str
    arguments: Object

    @property
    def result(self) -> str:
        """What the tool returns: 300 to 600 tokens."""
        count = 17 + int(_digest(f"{self.name} {self.arguments}", 4), 16) % 16
        return "".join(f"{line:5} {_digest(f'{self.arguments} {line}', 64)}\n" for line in range(count))


class Saying(NamedTuple):
    """What a service answers. ``seal`` stands for what only the service can read: signatures, encrypted reasoning."""

    number: int
    calls: list[Call]
    bill: Bill
    text: str
    thought: str
    seal: str

    def steps(self, form: str, stream: bool) -> list[Step]:
        """The answer in a format."""
        return _ANSWERS[form](self, stream)


def saying(number: int, calls: int, bill: Bill, thinks: bool) -> Saying:
    """The answer to a service's request of that number, with so many calls of tools; the same one each time."""
    made = []
    for one in range(calls):
        arguments = {
            "path": f"src/größe {number}/{one}.py",
            "limit": 100 + number,
            "filter": {"z": 1, "a": []},
            "all": False,
        }
        made.append(
            Call(f"call_{_digest(f'call {number} {one}', 24)}", TOOLS[(number + one) % len(TOOLS)]["name"], arguments)
        )
    text = f"Step {number}: I look at what is needed next." if made else f"All is done after {number} steps."
    thought = f"The user wants to know more, so this is step {number}." if thinks else ""
    return Saying(number, made, bill, text, thought, _digest(f"seal {number}", 64))


# ---------------------------------------------------------------- what a service says


def _anthropic_answer(said: Saying, stream: bool) -> list[Step]:
    content: list[Object] = []
    if said.thought:
        content.append({"type": "thinking", "thinking": said.thought, "signature": said.seal})
    content.append({"type": "text", "text": said.text})
    content += [{"type": "tool_use", "id": one.id, "name": one.name, "input": one.arguments} for one in said.calls]
    read, written, plain = said.bill
    used = {"input_tokens": plain, "cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    usage, reason = {**used, "output_tokens": 50}, "tool_use" if said.calls else "end_turn"
    message = {**ANTHROPIC_BODY, "id": f"msg_{said.number}", "content": content, "stop_reason": reason, "usage": usage}
    if not stream:
        return [http(200, message)]
    events = anthropic_event("message_start", message={**message, "content": [], "stop_reason": None})
    for index, block in enumerate(content):
        empty = {
            name: {} if name == "input" else "" for name in ("thinking", "signature", "text", "input") if name in block
        }
        events += anthropic_event("content_block_start", index=index, content_block={**block, **empty})
        for name in empty:
            piece = {"type": f"{name}_delta", name: block[name]}
            if name == "input":
                piece = {"type": "input_json_delta", "partial_json": json.dumps(block[name])}
            events += anthropic_event("content_block_delta", index=index, delta=piece)
        events += anthropic_event("content_block_stop", index=index)
    events += anthropic_event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
    return [STREAM_HEAD + events + anthropic_event("message_stop") + LAST]


def _chat_answer(said: Saying, stream: bool) -> list[Step]:
    calls = [
        {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": json.dumps(one.arguments)}}
        for one in said.calls
    ]
    details = {"cached_tokens": said.bill.read, "cache_write_tokens": said.bill.written}
    total = sum(said.bill)
    usage = {
        "prompt_tokens": total,
        "completion_tokens": 50,
        "total_tokens": total + 50,
        "prompt_tokens_details": details,
    }
    reason, about = "tool_calls" if calls else "stop", {"id": f"chatcmpl-{said.number}", "created": 1, "model": "m"}
    if not stream:
        message = {"role": "assistant", "content": said.text, **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return [http(200, {**about, "object": "chat.completion", "choices": [choice], "usage": usage})]
    events = chat_delta(role="assistant", content="") + chat_delta(content=said.text)
    for index, call in enumerate(calls):
        events += chat_delta(tool_calls=[{"index": index, **call}])
    events += sse({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    return [STREAM_HEAD + events + sse({"choices": [], "usage": usage}) + sse("[DONE]") + LAST]


def _responses_answer(said: Saying, stream: bool) -> list[Step]:
    text = {"type": "output_text", "text": said.text, "annotations": []}
    items: list[Object] = []
    if said.thought:
        items.append({"id": f"rs_{said.seal[:32]}", "type": "reasoning", "summary": [], "encrypted_content": said.seal})
    items.append(
        {
            "id": f"msg_{said.seal[:32]}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
    )
    for one in said.calls:
        call = {"id": f"fc_{one.id[5:]}", "type": "function_call", "status": "completed", "call_id": one.id}
        items.append({**call, "name": one.name, "arguments": json.dumps(one.arguments)})
    details = {"cached_tokens": said.bill.read, "cache_write_tokens": said.bill.written}
    total = sum(said.bill)
    usage = {"input_tokens": total, "output_tokens": 50, "total_tokens": total + 50, "input_tokens_details": details}
    body = {**RESPONSES_BODY, "id": f"resp_{said.number}", "output": items, "usage": usage}
    if not stream:
        return [http(200, body)]
    events = response_event("created", response={**body, "status": "in_progress", "output": [], "usage": None})
    for index, item in enumerate(items):
        place = {"output_index": index, "item_id": item["id"]}
        empty = {name: value[:0] for name, value in item.items() if name in ("content", "arguments")}
        events += response_event("output_item.added", output_index=index, item={**item, **empty})
        if item["type"] == "message":
            events += response_event("output_text.delta", **place, content_index=0, delta=said.text)
        if item["type"] == "function_call":
            events += response_event("function_call_arguments.delta", **place, delta=item["arguments"])
        events += response_event("output_item.done", output_index=index, item=item)
    return [STREAM_HEAD + events + response_event("completed", response=body) + LAST]


def _gemini_answer(said: Saying, stream: bool) -> list[Step]:
    parts: list[Object] = [{"text": said.thought, "thought": True}] if said.thought else []
    parts.append({"text": said.text})
    calls = [{"functionCall": {"name": one.name, "args": one.arguments}} for one in said.calls]
    # Of calls that are made at the same time, the first one has the signature.
    parts += [{**call, "thoughtSignature": said.seal} if call is calls[0] else call for call in calls]
    read, total = said.bill.read, sum(said.bill)
    usage = {
        "promptTokenCount": total,
        "cachedContentTokenCount": read,
        "candidatesTokenCount": 50,
        "totalTokenCount": total + 50,
    }

    def chunk(some: list[Object], **more: Any) -> Object:
        return {
            "candidates": [{"content": {"role": "model", "parts": some}, "index": 0, **more}],
            "usageMetadata": usage,
        }

    if not stream:
        return [http(200, chunk(parts, finishReason="STOP"))]
    return [STREAM_HEAD + b"".join(sse(chunk([part])) for part in parts) + sse(chunk([], finishReason="STOP")) + LAST]


_ANSWERS = {
    "anthropic": _anthropic_answer,
    "openai-chat": _chat_answer,
    "openai-responses": _responses_answer,
    "gemini": _gemini_answer,
}


# ---------------------------------------------------------------- what a client asks, and what it hears


@dataclass
class Client:
    """An agent that speaks one format. What it sends for the prompt cache is what the agents of its format send:

    the Anthropic one marks (``marks``) the end of its instructions and of the last two messages of the user, the OpenAI
    ones name their session as ``prompt_cache_key`` (``keyed``). Without the key, and in Gemini's format, the session
    stands in a header; with an empty ``session`` nowhere. Without ``keeps_thoughts`` it sends back texts and calls only.
    """

    form: str
    stream: bool = True
    session: str = SESSION
    marks: bool = True
    keyed: bool = True
    keeps_thoughts: bool = True
    history: list[Object] = field(default_factory=list)

    def run(self, port: int, model: str, turns: int) -> None:
        """So many requests. Where the service calls no tool, the user asks again. Raises AssertionError."""
        self.history += _QUESTIONS[self.form](QUESTION)
        for _ in range(turns):
            path, body = self.request(model)
            headers = {"x_session_id": self.session} if self.session and self.form != "anthropic" else {}
            answer = ask(port, path, body, **headers)
            assert answer.status == 200, answer.body
            turn, calls = _HEARD[self.form](answer, self.stream)
            self.history += turn if self.keeps_thoughts else _without_thoughts(turn)
            self.history += (
                _RESULTS[self.form](calls) if calls else _QUESTIONS[self.form](f"{QUESTION} And then again.")
            )

    def request(self, model: str) -> tuple[str, Object]:
        """Path and body of the next request."""
        return _ASKED[self.form](self, model)


_OF_THOUGHTS = ("reasoning_content", "reasoning_details", "thinking_blocks", "extra_content", "thoughtSignature")


def _without_thoughts(value: Any) -> Any:
    """An assistant's turn of any format, without reasoning and signatures."""
    if isinstance(value, list):
        return [_without_thoughts(item) for item in value if not _is_thought(item)]
    if isinstance(value, dict):
        return {name: _without_thoughts(item) for name, item in value.items() if name not in _OF_THOUGHTS}
    return value


def _is_thought(item: Any) -> bool:
    return isinstance(item, dict) and ("thought" in item or item.get("type") in ("thinking", "reasoning"))


def _events(answer: Answer) -> list[Object]:
    """The data of a stream."""
    lines = [line[6:] for line in answer.body.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def _marked(message: Object) -> Object:
    *others, last = message["content"]
    return {**message, "content": [*others, {**last, **EPHEMERAL}]}


def _ask_anthropic(client: Client, model: str) -> tuple[str, Object]:
    header = f"{BILLING_HEADER} cc_version=2.1.329; cc_entrypoint=cli; cch={_digest(str(len(client.history)), 5)};"
    system = [{"type": "text", "text": text} for text in (header, "You are an agent.", INSTRUCTIONS)]
    messages = list(client.history)
    if client.marks:
        system[-1].update(EPHEMERAL)  # type: ignore[arg-type]
        users = [place for place, message in enumerate(messages) if message["role"] == "user"]
        for place in users[-2:]:
            messages[place] = _marked(messages[place])
    tools = [{"name": one["name"], "description": one["description"], "input_schema": one["schema"]} for one in TOOLS]
    body = {"model": model, "max_tokens": 32000, "system": system, "messages": messages, "tools": tools}
    user = json.dumps({"device_id": "d", "account_uuid": "", "session_id": client.session})
    metadata = {"metadata": {"user_id": user}} if client.session else {}
    return "/v1/messages", {**body, **metadata, "thinking": {"type": "adaptive"}, "stream": client.stream}


def _hear_anthropic(answer: Answer, stream: bool) -> tuple[list[Object], list[Call]]:
    content: list[Object] = [] if stream else answer.json["content"]
    for event in _events(answer) if stream else ():
        if event["type"] == "content_block_start":
            content.append({**event["content_block"]})
            arguments = ""
        elif event["type"] == "content_block_delta":
            kind = event["delta"]["type"].removesuffix("_delta")
            if kind == "input_json":
                arguments += event["delta"]["partial_json"]
                content[-1]["input"] = {}
            else:
                content[-1][kind] = content[-1].get(kind, "") + event["delta"][kind]
        elif event["type"] == "content_block_stop" and arguments:
            content[-1]["input"] = json.loads(arguments)
    calls = [Call(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
    return [{"role": "assistant", "content": content}], calls


def _ask_chat(client: Client, model: str) -> tuple[str, Object]:
    tools = [
        {
            "type": "function",
            "function": {"name": one["name"], "description": one["description"], "parameters": one["schema"]},
        }
        for one in TOOLS
    ]
    messages = [{"role": "system", "content": INSTRUCTIONS}, *client.history]
    body = {"model": model, "messages": messages, "tools": tools, "reasoning_effort": "medium"}
    options: Object = {"stream": True, "stream_options": {"include_usage": True}} if client.stream else {}
    return "/v1/chat/completions", {**body, **options, **_cache_key(client)}


def _cache_key(client: Client) -> Object:
    return {"prompt_cache_key": client.session} if client.keyed and client.session else {}


def _hear_chat(answer: Answer, stream: bool) -> tuple[list[Object], list[Call]]:
    message: Object = {} if stream else answer.json["choices"][0]["message"]
    for delta in [choice["delta"] for event in _events(answer) for choice in event["choices"]] if stream else ():
        for name, value in delta.items():
            if name == "tool_calls":
                _add_calls(message.setdefault(name, []), value)
            elif name == "role" or name not in message:
                message[name] = value
            elif value is not None:
                message[name] += value
    calls = message.get("tool_calls") or ()
    functions = [(call["id"], call["function"]) for call in calls]
    return [message], [Call(at, made["name"], json.loads(made["arguments"])) for at, made in functions]


def _add_calls(calls: list[Object], pieces: list[Object]) -> None:
    for piece in pieces:
        if piece["index"] == len(calls):
            calls.append({name: value for name, value in piece.items() if name != "index"})
        else:
            calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]


def _ask_responses(client: Client, model: str) -> tuple[str, Object]:
    tools = [
        {
            "type": "function",
            "name": one["name"],
            "description": one["description"],
            "strict": False,
            "parameters": one["schema"],
        }
        for one in TOOLS
    ]
    body = {"model": model, "instructions": INSTRUCTIONS, "input": client.history, "tools": tools, "store": False}
    reasoning = {"reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
    return "/v1/responses", {**body, **reasoning, **_cache_key(client), "stream": client.stream}


def _hear_responses(answer: Answer, stream: bool) -> tuple[list[Object], list[Call]]:
    done = (
        [event["item"] for event in _events(answer) if event["type"] == "response.output_item.done"] if stream else []
    )
    items = done if stream else answer.json["output"]
    calls = [item for item in items if item["type"] == "function_call"]
    return items, [Call(call["call_id"], call["name"], json.loads(call["arguments"])) for call in calls]


def _ask_gemini(client: Client, model: str) -> tuple[str, Object]:
    tools = [
        {"name": one["name"], "description": one["description"], "parametersJsonSchema": one["schema"]} for one in TOOLS
    ]
    body = {
        "systemInstruction": {"role": "user", "parts": [{"text": INSTRUCTIONS}]},
        "contents": client.history,
        "tools": [{"functionDeclarations": tools}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"}},
    }
    return f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if client.stream else 'generateContent'}", body


def _hear_gemini(answer: Answer, stream: bool) -> tuple[list[Object], list[Call]]:
    chunks = _events(answer) if stream else [answer.json]
    contents = [chunk["candidates"][0]["content"] for chunk in chunks if chunk.get("candidates")]
    parts = [part for content in contents for part in content.get("parts", ())]
    made = [part["functionCall"] for part in parts if "functionCall" in part]
    return [{"role": "model", "parts": parts}], [Call(call.get("id", ""), call["name"], call["args"]) for call in made]


def _gemini_result(call: Call) -> Object:
    named = {"id": call.id} if call.id else {}
    return {"functionResponse": {**named, "name": call.name, "response": {"output": call.result}}}


_ASKED: dict[str, Callable[[Client, str], tuple[str, Object]]] = {
    "anthropic": _ask_anthropic,
    "openai-chat": _ask_chat,
    "openai-responses": _ask_responses,
    "gemini": _ask_gemini,
}
_HEARD: dict[str, Callable[[Answer, bool], tuple[list[Object], list[Call]]]] = {
    "anthropic": _hear_anthropic,
    "openai-chat": _hear_chat,
    "openai-responses": _hear_responses,
    "gemini": _hear_gemini,
}
_QUESTIONS: dict[str, Callable[[str], list[Object]]] = {
    "anthropic": lambda text: [{"role": "user", "content": [{"type": "text", "text": text}]}],
    "openai-chat": lambda text: [{"role": "user", "content": text}],
    "openai-responses": lambda text: [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    ],
    "gemini": lambda text: [{"role": "user", "parts": [{"text": text}]}],
}
_RESULTS: dict[str, Callable[[list[Call]], list[Object]]] = {
    "anthropic": lambda calls: [
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": one.id, "content": one.result} for one in calls],
        }
    ],
    "openai-chat": lambda calls: [{"role": "tool", "tool_call_id": one.id, "content": one.result} for one in calls],
    "openai-responses": lambda calls: [
        {"type": "function_call_output", "call_id": one.id, "output": one.result} for one in calls
    ],
    "gemini": lambda calls: [{"role": "user", "parts": [_gemini_result(one) for one in calls]}],
}
