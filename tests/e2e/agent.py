"""What runs inside a network namespace of its own: the four SDKs, the proxy, and a real agent CLI as its upstream.

``python -m tests.e2e.agent CLI``; the result is one line of JSON. The CLI itself asks a scripted Anthropic service.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support import LAST, STALL, STREAM_HEAD, Proxy, Seen, Step, anthropic_event, eventually, proxy, upstream
from tests.support import ask as http_ask

MODEL = "claude-sonnet-4-5"
Ask = Callable[[list[tuple[str, str]], bool], Iterator[str]]


def text_of(message: Any) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def answered(seen: Seen) -> list[Step]:
    """The service says what the user said; and stops in the middle where that is to wait."""
    asked = text_of(seen.json["messages"][-1])
    start = anthropic_event(
        "message_start",
        message={"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [],
                 "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 1}},
    )  # fmt: skip
    begun = start + anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    words = f"you said {asked}".split(" ")
    deltas = [
        anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"{word} "})
        for word in words
    ]
    if "wait" in asked:
        return [STREAM_HEAD, begun + deltas[0], STALL]
    stop = anthropic_event("content_block_stop", index=0)
    stop += anthropic_event(
        "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 7}
    )
    return [STREAM_HEAD, begun + b"".join(deltas) + stop + anthropic_event("message_stop") + LAST]


# ---------------------------------------------------------------- the clients: each asks with a conversation


def anthropic(served: Proxy) -> Ask:
    from anthropic import Anthropic

    client = Anthropic(base_url=f"{served.url}/s-anthropic", api_key="none-needed", max_retries=0)

    def ask(turns: list[tuple[str, str]], stream: bool) -> Iterator[str]:
        messages: Any = [{"role": role, "content": text} for role, text in turns]
        if stream:
            with client.messages.stream(model=MODEL, max_tokens=100, messages=messages) as answer:
                yield from answer.text_stream
        else:
            yield client.messages.create(model=MODEL, max_tokens=100, messages=messages).content[0].text  # type: ignore[union-attr]

    return ask


def chat(served: Proxy) -> Ask:
    from openai import OpenAI

    client = OpenAI(base_url=f"{served.url}/s-chat/v1", api_key="none-needed", max_retries=0)

    def ask(turns: list[tuple[str, str]], stream: bool) -> Iterator[str]:
        messages: Any = [{"role": role, "content": text} for role, text in turns]
        if stream:
            with client.chat.completions.create(model=MODEL, messages=messages, stream=True) as answer:
                for chunk in answer:
                    yield (chunk.choices[0].delta.content or "") if chunk.choices else ""
        else:
            yield client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content or ""

    return ask


def responses(served: Proxy) -> Ask:
    from openai import OpenAI

    client = OpenAI(base_url=f"{served.url}/s-responses/v1", api_key="none-needed", max_retries=0)

    def ask(turns: list[tuple[str, str]], stream: bool) -> Iterator[str]:
        items: Any = [{"role": role, "content": text} for role, text in turns]
        if stream:
            with client.responses.create(model=MODEL, input=items, stream=True) as answer:
                for event in answer:
                    yield event.delta if event.type == "response.output_text.delta" else ""
        else:
            yield client.responses.create(model=MODEL, input=items).output_text

    return ask


def gemini(served: Proxy) -> Ask:
    from google import genai

    options = genai.types.HttpOptions(base_url=f"{served.url}/s-gemini")
    client = genai.Client(api_key="none-needed", http_options=options, vertexai=False)

    def ask(turns: list[tuple[str, str]], stream: bool) -> Iterator[str]:
        names = {"user": "user", "assistant": "model"}
        contents: Any = [{"role": names[role], "parts": [{"text": text}]} for role, text in turns]
        if stream:
            for chunk in client.models.generate_content_stream(model=MODEL, contents=contents):
                yield chunk.text or ""
        else:
            yield client.models.generate_content(model=MODEL, contents=contents).text or ""

    return ask


CLIENTS = {"anthropic": anthropic, "openai-chat": chat, "openai-responses": responses, "gemini": gemini}


def children() -> list[str]:
    """The programs that this process has started and that are still there."""
    return [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def exchange(ask: Ask, seen: list[Seen]) -> dict[str, Any]:
    """A whole answer, a streamed one in a second turn, and one that is left in the middle."""
    first = "".join(ask([("user", "hello there")], False))
    turns = [("user", "hello there"), ("assistant", first), ("user", "and again")]
    pieces = [piece for piece in ask(turns, True) if piece]
    told = [[text_of(message).strip() for message in one.json["messages"]] for one in seen]
    sessions = [json.loads(one.json["metadata"]["user_id"])["session_id"] for one in seen]
    leaving = ask([("user", "please wait")], True)
    begun = next(piece for piece in leaving if piece)
    there, left = children(), time.monotonic()
    leaving.close()  # type: ignore[attr-defined]
    gone = eventually(lambda: not children(), 10)
    return {
        "first": first, "second": "".join(pieces), "pieces": len(pieces), "told": told, "sessions": sessions,
        "begun": begun, "there": len(there), "gone": gone, "gone_s": round(time.monotonic() - left, 2),
    }  # fmt: skip


def main(command: str) -> dict[str, Any]:
    results = {}
    for name, client in CLIENTS.items():
        with upstream(choose=answered) as up:
            env = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{up.port}"}
            entry = {"format": "claude-cli", "command": [command], "keys": ["a-key-for-the-cli"], "env": env}
            with proxy({"upstreams": {"cli": entry}}) as served:
                results[name] = exchange(client(served), up.seen)
                results[name]["sent"] = sent_with(served, up.seen)
    return results


SETTINGS: dict[str, Any] = {
    "max_tokens": 77,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop_sequences": ["X"],
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}},
}


def sent_with(served: Proxy, seen: list[Seen]) -> dict[str, Any]:
    """What the service gets of a request's settings, and of its instructions."""
    body = {"model": MODEL, "system": "be nice", "messages": [{"role": "user", "content": "hello"}], **SETTINGS}
    assert http_ask(served.port, "/v1/messages", body).status == 200
    sent = seen[-1].json
    return {**{name: sent.get(name) for name in SETTINGS}, "system": [block["text"] for block in sent["system"]][-1]}


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps(main(sys.argv[1])), flush=True)
    os._exit(0)  # the SDKs' connections are still open
