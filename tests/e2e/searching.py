"""Real clients that search the web, in a namespace with loopback only: a service of each format searches for them.

``python -m tests.e2e.searching [FOLDER]`` (as root) prints what each client showed and what its service received; the
captures of all exchanges are kept in the folder. The services also reject what the real ones are known to reject.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tests import support
from tests.e2e import inside
from tests.e2e.test_clis import CLAUDE, CODEX, GEMINI, Client, prepare
from tests.support import LAST, PROGRAM_S, ROOT, STREAM_HEAD, Seen, Step, http, sse, upstream

QUERY = "moons of Zork"
AGAIN = "And which of them is green?"
ENDING = "None of them is green."
PAGES = [
    ("Ünder – der große Mond", "https://a.example/under?x=1&y=2"),
    ('Klæf, "der Kleine"', "https://b.example/kl%C3%A6f"),
    ("The Zork almanac", "https://c.example/almanac"),
]
"""What is found: titles and addresses. The last one is not cited."""
PIECES: list[tuple[str, int | None]] = [
    ("Über Zork 🌙 kreisen drei Monde: ", None),
    ("Ünder 🛰️ ist der größte.", 0),
    ("\n\n", None),
    ("Klæf ist der kleinste.", 1),
    (" Mehr weiß niemand.", None),
]
"""What is said of it, and which page each piece cites."""
TEXT = "".join(text for text, _ in PIECES)

Body = dict[str, Any]
Parts = list[dict[str, Any]]


def spans() -> Iterator[tuple[int, int, int]]:
    """Start and end of each cited piece in the text, in characters, and its page."""
    at = 0
    for text, page in PIECES:
        if page is not None:
            yield at, at + len(text), page
        at += len(text)


def strings(value: Any) -> Iterator[str]:
    """All texts inside a JSON value, but for the types of parts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings([one for name, one in value.items() if name != "type"])
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def encoded(value: Any) -> str:
    """JSON as services send it: umlauts and emoji as they are."""
    return json.dumps(value, ensure_ascii=False)


# ---------------------------------------------------------------- what the services understand and say


class Wire(Protocol):
    """One format at a service. An answer consists of parts, which are sent whole or as a stream."""

    model: str
    quirks: tuple[str, ...]

    def declared(self, body: Body) -> Any:
        """The search tool of a request."""

    def functions(self, body: Body) -> set[str]:
        """The functions of a request."""

    def results(self, body: Body) -> list[Any]:
        """What functions have given back."""

    def flaw(self, body: Body) -> str:
        """Why the real service would reject a request."""

    def text(self, text: str) -> Parts: ...

    def call(self, name: str, arguments: dict[str, Any]) -> Parts: ...

    def search(self, body: Body) -> Parts: ...

    def whole(self, parts: Parts) -> Body: ...

    def events(self, parts: Parts) -> Iterable[tuple[str, Any]]:
        """The names and the data of a stream's events."""


class Anthropic:
    model = "claude-sonnet-4-6"
    quirks: tuple[str, ...] = ()

    def declared(self, body: Body) -> Any:
        return next((tool for tool in body.get("tools", []) if tool.get("type", "").startswith("web_search")), None)

    def functions(self, body: Body) -> set[str]:
        return {tool["name"] for tool in body.get("tools", []) if "input_schema" in tool}

    def _blocks(self, body: Body) -> Iterator[Body]:
        for message in body["messages"]:
            if isinstance(message["content"], list):
                yield from message["content"]

    def results(self, body: Body) -> list[Any]:
        return [block["content"] for block in self._blocks(body) if block["type"] == "tool_result"]

    def flaw(self, body: Body) -> str:
        blocks = list(self._blocks(body))
        results = [block for block in blocks if block["type"] == "web_search_tool_result"]
        calls = {block["id"] for block in blocks if block["type"] == "server_tool_use"}
        if calls != {block["tool_use_id"] for block in results}:
            return "web_search tool use without its result, or a result without its tool use"
        for block in results:
            if isinstance(block["content"], list) and any(
                one["encrypted_content"] != f"sealed {one['url']}" for one in block["content"]
            ):
                return "Invalid `encrypted_content` in `search_result` block"
        cited = [one for block in blocks for one in block.get("citations") or ()]
        if any(one["encrypted_index"] != f"index {one['url']}" for one in cited):
            return "Could not find search result for citation index"
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return "messages: text content blocks must contain non-whitespace text"
        return ""

    def text(self, text: str) -> Parts:
        return [{"type": "text", "text": text}]

    def call(self, name: str, arguments: dict[str, Any]) -> Parts:
        return [{"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}]

    def search(self, body: Body) -> Parts:
        found = [
            {"type": "web_search_result", "title": title, "url": url, "encrypted_content": f"sealed {url}", "page_age": None}
            for title, url in PAGES
        ]  # fmt: skip
        return [
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": QUERY}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found},
            *({"type": "text", "text": text, **self._citations(text, page)} for text, page in PIECES),
        ]

    def _citations(self, text: str, page: int | None) -> Body:
        if page is None:
            return {}
        title, url = PAGES[page]
        cited = {"type": "web_search_result_location", "url": url, "title": title}
        return {"citations": [{**cited, "encrypted_index": f"index {url}", "cited_text": f"Es heißt: {text} …"}]}

    def whole(self, parts: Parts) -> Body:
        stop = "tool_use" if parts[-1]["type"] == "tool_use" else "end_turn"
        searches = sum(part["type"] == "server_tool_use" for part in parts)
        usage = {"input_tokens": 300, "output_tokens": 9, "server_tool_use": {"web_search_requests": searches}}
        return {**support.ANTHROPIC_BODY, "model": self.model, "content": parts, "stop_reason": stop, "usage": usage}

    def events(self, parts: Parts) -> Iterable[tuple[str, Any]]:
        whole = self.whole(parts)
        begun = {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": 300, "output_tokens": 1}}
        events: list[Body] = [{"type": "message_start", "message": begun}]
        for index, part in enumerate(parts):
            opened, deltas = self._opened(part)
            events.append({"type": "content_block_start", "index": index, "content_block": opened})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        events += [{"type": "message_delta", "delta": stop, "usage": whole["usage"]}, {"type": "message_stop"}]
        return [(event["type"], event) for event in events]

    def _opened(self, part: Body) -> tuple[Body, list[Body]]:
        if "input" in part:
            text = encoded(part["input"])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", text[:9], text[9:])]
            return {**part, "input": {}}, deltas
        if part["type"] != "text":
            return part, []
        deltas = [{"type": "text_delta", "text": piece} for piece in halves(part["text"])]
        cited = [{"type": "citations_delta", "citation": one} for one in part.get("citations", ())]
        return {**part, "text": "", **({"citations": []} if cited else {})}, [*cited, *deltas]


def halves(text: str) -> list[str]:
    return [piece for piece in (text[: len(text) // 2], text[len(text) // 2 :]) if piece]


class Chat:
    model = "gpt-5.5-search"
    quirks: tuple[str, ...] = ("web_search",)

    def declared(self, body: Body) -> Any:
        return body.get("web_search_options")

    def functions(self, body: Body) -> set[str]:
        return {tool["function"]["name"] for tool in body.get("tools", []) if tool["type"] == "function"}

    def results(self, body: Body) -> list[Any]:
        return [message["content"] for message in body["messages"] if message["role"] == "tool"]

    def flaw(self, body: Body) -> str:
        strange = [tool["type"] for tool in body.get("tools", []) if tool["type"] not in ("function", "custom")]
        return f"Invalid value: '{strange[0]}'" if strange else ""

    def text(self, text: str) -> Parts:
        return [{"content": text}]

    def call(self, name: str, arguments: dict[str, Any]) -> Parts:
        function = {"name": name, "arguments": encoded(arguments)}
        return [{"tool_calls": [{"id": "call_1", "type": "function", "function": function}]}]

    def search(self, body: Body) -> Parts:
        cited = [
            {"url": PAGES[page][1], "title": PAGES[page][0], "start_index": start, "end_index": end}
            for start, end, page in spans()
        ]
        return [{"content": TEXT, "annotations": [{"type": "url_citation", "url_citation": one} for one in cited]}]

    def whole(self, parts: Parts) -> Body:
        reason = "tool_calls" if "tool_calls" in parts[0] else "stop"
        choice = {"index": 0, "message": {"role": "assistant", "content": None, **parts[0]}, "finish_reason": reason}
        usage = {"prompt_tokens": 300, "completion_tokens": 9, "total_tokens": 309}
        return {**support.CHAT_BODY, "model": self.model, "choices": [choice], "usage": usage}

    def events(self, parts: Parts) -> Iterable[tuple[str, Any]]:
        whole, part = self.whole(parts), parts[0]
        deltas: list[Body] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in halves(part.get("content", ""))]
        deltas += [{"tool_calls": [{"index": 0, **call}]} for call in part.get("tool_calls", ())]
        deltas += [{"annotations": part["annotations"]}] if "annotations" in part else []
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": self.model}
        for delta in deltas:
            yield "", {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        reason = whole["choices"][0]["finish_reason"]
        yield "", {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        yield "", {**chunk, "choices": [], "usage": whole["usage"]}
        yield "", "[DONE]"


class Responses:
    model = "gpt-5.5"
    quirks: tuple[str, ...] = ()

    def declared(self, body: Body) -> Any:
        return next((tool for tool in body.get("tools", []) if tool["type"].startswith("web_search")), None)

    def functions(self, body: Body) -> set[str]:
        return {tool["name"] for tool in body.get("tools", []) if tool["type"] == "function"}

    def _items(self, body: Body) -> Parts:
        return body["input"] if isinstance(body["input"], list) else []

    def results(self, body: Body) -> list[Any]:
        return [item["output"] for item in self._items(body) if item.get("type") == "function_call_output"]

    def flaw(self, body: Body) -> str:
        for item in self._items(body):
            if item.get("type") == "web_search_call":
                if not item.get("id", "ws_").startswith("ws_"):
                    return f"Invalid id: '{item['id']}'. Expected an ID that begins with 'ws'."
                if item.get("action", {}).get("type") not in ("search", "open_page", "find_in_page"):
                    return "Invalid value for the type of an action"
        return ""

    def text(self, text: str, annotations: Parts | None = None) -> Parts:
        content = {"type": "output_text", "text": text, "annotations": annotations or [], "logprobs": []}
        return [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}]

    def call(self, name: str, arguments: dict[str, Any]) -> Parts:
        call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "status": "completed"}
        return [{**call, "arguments": encoded(arguments)}]

    def search(self, body: Body) -> Parts:
        action: Body = {"type": "search", "query": QUERY, "queries": [QUERY]}
        if "web_search_call.action.sources" in (body.get("include") or ()):
            action["sources"] = [{"type": "url", "url": url} for _, url in PAGES]
        annotations = [
            {"type": "url_citation", "start_index": start, "end_index": end, "title": PAGES[page][0], "url": PAGES[page][1]}
            for start, end, page in spans()
        ]  # fmt: skip
        item = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": action}
        return [item, *self.text(TEXT, annotations)]

    def whole(self, parts: Parts) -> Body:
        usage = {"input_tokens": 300, "output_tokens": 9, "total_tokens": 309}
        return {**support.RESPONSES_BODY, "model": self.model, "output": parts, "usage": usage}

    def events(self, parts: Parts) -> Iterable[tuple[str, Any]]:
        whole = self.whole(parts)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        events: list[Body] = [{"type": "created", "response": begun}]
        for index, part in enumerate(parts):
            events += self._item(index, part)
        events.append({"type": "completed", "response": whole})
        for number, event in enumerate(events):
            kind = f"response.{event['type']}"
            yield kind, {**event, "type": kind, "sequence_number": number}

    def _item(self, index: int, part: Body) -> Iterator[Body]:
        place = {"output_index": index, "item_id": part["id"]}
        empty: dict[str, Body] = {"message": {"content": []}, "function_call": {"arguments": ""}}
        begun = {name: value for name, value in part.items() if name != "action"}
        yield {
            "type": "output_item.added",
            "output_index": index,
            "item": {**begun, "status": "in_progress", **empty.get(part["type"], {})},
        }
        if part["type"] == "web_search_call":
            for state in ("in_progress", "searching", "completed"):
                yield {"type": f"web_search_call.{state}", **place}
        elif part["type"] == "function_call":
            yield {"type": "function_call_arguments.delta", **place, "delta": part["arguments"]}
            yield {"type": "function_call_arguments.done", **place, "arguments": part["arguments"]}
        else:
            place["content_index"] = 0
            said = part["content"][0]
            yield {"type": "content_part.added", **place, "part": {**said, "text": "", "annotations": []}}
            for piece in halves(said["text"]):
                yield {"type": "output_text.delta", **place, "delta": piece, "logprobs": []}
            for number, one in enumerate(said["annotations"]):
                yield {"type": "output_text.annotation.added", **place, "annotation_index": number, "annotation": one}
            yield {"type": "output_text.done", **place, "text": said["text"], "logprobs": []}
            yield {"type": "content_part.done", **place, "part": said}
        yield {"type": "output_item.done", "output_index": index, "item": part}


CALLED, FOUND = "Y2FsbGVk", "Zm91bmQ="
"""The signatures of a search that runs beside functions."""


class Gemini:
    model = "gemini-3-flash-preview"
    quirks: tuple[str, ...] = ()

    def _tool(self, body: Body, name: str) -> Any:
        return next((tool[name] for tool in body.get("tools", []) if name in tool), None)

    def declared(self, body: Body) -> Any:
        return self._tool(body, "googleSearch")

    def functions(self, body: Body) -> set[str]:
        return {one["name"] for one in self._tool(body, "functionDeclarations") or ()}

    def _parts(self, body: Body) -> Parts:
        return [part for content in body["contents"] for part in content["parts"]]

    def results(self, body: Body) -> list[Any]:
        return [part["functionResponse"]["response"] for part in self._parts(body) if "functionResponse" in part]

    def _is_mixed(self, body: Body) -> bool:
        return body.get("toolConfig", {}).get("includeServerSideToolInvocations") is True

    def flaw(self, body: Body) -> str:
        if self.declared(body) is not None and self.functions(body) and not self._is_mixed(body):
            remedy = "Please enable tool_config.include_server_side_tool_invocations"
            return f"{remedy} to use Built-in tools with Function calling."
        signed = [
            part.get("thoughtSignature", "") for part in self._parts(body) if {"toolCall", "toolResponse"} & {*part}
        ]
        return (
            "" if signed in ([], [CALLED, FOUND]) else "A server-side tool call without its response or its signature"
        )

    def text(self, text: str) -> Parts:
        return [{"content": {"role": "model", "parts": [{"text": piece} for piece in halves(text)]}}]

    def call(self, name: str, arguments: dict[str, Any]) -> Parts:
        call = {"functionCall": {"id": "call-1", "name": name, "args": arguments}, "thoughtSignature": "c2lnbmVk"}
        return [{"content": {"role": "model", "parts": [call]}}]

    def search(self, body: Body) -> Parts:
        answer = self.text(TEXT)[0]
        if self._is_mixed(body):
            tool: Body = {"toolType": "GOOGLE_SEARCH_WEB", "id": "s1"}
            call: Body = {"toolCall": {**tool, "args": {"queries": [QUERY]}}, "thoughtSignature": CALLED}
            response: Body = {"toolResponse": {**tool, "response": {"search_suggestions": "<div></div>"}}}
            answer["content"]["parts"][:0] = [call, {**response, "thoughtSignature": FOUND}]
        supports: Parts = []
        for start, end, page in spans():
            segment: Body = {"startIndex": len(TEXT[:start].encode()), "endIndex": len(TEXT[:end].encode())}
            supports.append({"segment": {**segment, "text": TEXT[start:end]}, "groundingChunkIndices": [page]})
        answer["groundingMetadata"] = {
            "searchEntryPoint": {"renderedContent": "<div></div>"},
            "webSearchQueries": [QUERY],
            "groundingChunks": [{"web": {"uri": url, "title": title}} for title, url in PAGES],
            "groundingSupports": supports,
        }
        return [answer]

    def whole(self, parts: Parts) -> Body:
        usage = {"promptTokenCount": 300, "candidatesTokenCount": 9, "totalTokenCount": 309}
        candidate = {**parts[0], "index": 0, "finishReason": "STOP"}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": self.model, "responseId": "r"}

    def events(self, parts: Parts) -> Iterable[tuple[str, Any]]:
        whole = self.whole(parts)
        *first, last = parts[0]["content"]["parts"]
        for part in first:
            yield "", {**whole, "candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}
        final = {**whole["candidates"][0], "content": {"role": "model", "parts": [last]}}
        yield "", {**whole, "candidates": [final]}


WIRES: dict[str, Wire] = {
    "anthropic": Anthropic(),
    "openai-responses": Responses(),
    "openai-chat": Chat(),
    "gemini": Gemini(),
}


@dataclass
class Service:
    """A service whose model calls the client's tool, searches when it may, and repeats what a tool said."""

    wire: Wire
    tool: str
    calls: list[dict[str, Any]] = field(default_factory=list)

    def choose(self, seen: Seen) -> list[Step]:
        method, target, _ = seen.head.split(" ", 2)
        if method != "POST":
            return [http(200, {"data": [], "models": []})]
        if "count" in target or "input_tokens" in target:
            return [http(200, {"input_tokens": 300, "totalTokens": 300, "object": "response.input_tokens"})]
        body = seen.json
        flaw = self.wire.flaw(body)
        told = "".join(strings(self.wire.results(body)))
        kind = "rejected" if flaw else self._kind(body, told)
        declared = self.wire.declared(body)
        self.calls.append({"kind": kind, "target": target, "declared": declared, "told": told, "body": body})
        if flaw:
            error = {"code": 400, "type": "invalid_request_error", "status": "INVALID_ARGUMENT", "message": flaw}
            return [http(400, {"type": "error", "error": error})]
        parts = {
            "search": lambda: self.wire.search(body),
            "call": lambda: self.wire.call(self.tool, {"query": QUERY}),
            "told": lambda: self.wire.text(f"The tool said: {told}"),
            "again": lambda: self.wire.text(ENDING),
            "other": lambda: self.wire.text("hello"),
        }[kind]()
        if body.get("stream") is True or ":streamGenerateContent" in target:
            events = self.wire.events(parts)
            data = b"".join(sse(one if isinstance(one, str) else encoded(one), name) for name, one in events)
            return [STREAM_HEAD + data + LAST]
        return [http(200, encoded(self.wire.whole(parts)).encode())]

    def _kind(self, body: Body, told: str) -> str:
        if AGAIN in encoded(body):
            return "again"
        if told:
            return "told"
        if self.wire.declared(body) is not None:
            return "search"
        return "call" if self.tool in self.wire.functions(body) else "other"


# ---------------------------------------------------------------- the clients

PROMPT = f"Please search the web for the {QUERY}."


@dataclass(frozen=True)
class Searcher:
    """A client that searches: the words of each turn, its own format, and quirks that its requests need."""

    client: Client
    form: str
    turns: list[str]
    quirks: tuple[str, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.client.program


_CLAUDE = "--output-format stream-json --verbose --dangerously-skip-permissions"
_FULL = "--dangerously-bypass-approvals-and-sandbox"
_CODEX = "--skip-git-repo-check --json -m gpt-5.5"
SEARCHERS = [
    Searcher(
        replace(CLAUDE, tool="WebSearch"),
        "anthropic",
        [f"--model claude-sonnet-4-5 --tools WebSearch {_CLAUDE} -p"],
    ),
    Searcher(
        replace(CODEX, tool=""),
        "openai-responses",
        [f"exec {_CODEX} {_FULL}", f"exec resume --last {_CODEX} {_FULL}"],
    ),
    Searcher(
        replace(GEMINI, tool="google_web_search"),
        "gemini",
        ["-m gemini-2.5-pro --yolo --skip-trust -o stream-json -p"],
    ),
]
IN_A_SANDBOX = replace(
    SEARCHERS[1],
    turns=[f"exec {_CODEX} -s read-only", f"exec resume --last {_CODEX}"],
    quirks=("live_search",),
    name="codex in a sandbox",
)
"""What Codex does by default: it asks for a search that does not leave the service's cache."""


@dataclass
class Run:
    """What came of a run: the client's own report of each turn, and what the service was asked; in order."""

    searcher: Searcher
    outs: list[str]
    calls: list[dict[str, Any]]
    exchanges: list[dict[str, Any]]
    """The captures of the proxy."""

    def events(self, turn: int = 0) -> list[dict[str, Any]]:
        """The lines of JSON that the client wrote."""
        return [json.loads(line) for line in self.outs[turn].splitlines() if line.startswith("{")]

    def asked(self, kind: str) -> list[dict[str, Any]]:
        return [call for call in self.calls if call["kind"] == kind]

    def told(self) -> str:
        """What the model was told as the result of the client's tool."""
        return "".join(call["told"] for call in self.asked("told")[-1:])

    def screen(self) -> str:
        """What the client showed of the search."""
        if self.searcher.client.program == "claude":
            shown = [event["tool_use_result"] for event in self.events() if "tool_use_result" in event]
        elif self.searcher.client.program == "gemini":
            shown = [event for event in self.events() if event["type"] == "tool_result"]
        else:
            items = [event["item"] for event in self.events() if event["type"] == "item.completed"]
            shown = [item for item in items if item["type"] in ("web_search", "agent_message")]
        return " ".join(encoded(one) for one in shown)


def within(plan: dict[str, Any]) -> dict[str, Any]:
    """Inside a namespace: a service, and the turns of a client behind the proxy in front of it."""
    wire = WIRES[plan["form"]]
    service = Service(wire, plan["tool"])
    with upstream(choose=service.choose) as up:
        config = support.behind(up, plan["form"], quirks=[*wire.quirks, *plan["quirks"]])
        config |= {"models": {"*": f"up/{wire.model}"}, "capture": {"dir": plan["captures"]}}
        turns = [inside.behind(plan["form"], "", plan["home"], words, **config) for words in plan["turns"]]
    return {"turns": turns, "calls": service.calls}


def run(
    searcher: Searcher, form: str, home: Path, captures: Path | None = None, quirks: Iterable[str] | None = None
) -> Run:
    """A client whose requests go to a service of that format, in a namespace and a home of their own."""
    client, captures = searcher.client, captures or home / "captures"
    wanted = searcher.quirks if quirks is None and form != searcher.form else quirks or ()
    prepare(client, home)
    plan = {
        "form": form, "home": str(home), "tool": client.tool, "captures": str(captures),
        "quirks": [*wanted],
        "turns": [
            [client.path, *words.split(), prompt] for words, prompt in zip(searcher.turns, (PROMPT, AGAIN), strict=False)
        ],
    }  # fmt: skip
    beside, resolved = Path(client.path).parent, Path(client.path).resolve().parent
    path = f"{beside}:{os.environ['PATH']}:{resolved}"
    environ = {"PATH": path, "HOME": str(home), "PYTHONPATH": str(ROOT), **client.environ}
    command = ["unshare", "-n", sys.executable, "-m", "tests.e2e.searching", json.dumps(plan)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=PROGRAM_S)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [turn["code"] for turn in result["turns"]] == [0] * len(plan["turns"]), result["turns"]
    files = sorted(captures.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    exchanges = [json.loads(file.read_text()) for file in files]
    return Run(searcher, [turn["out"] for turn in result["turns"]], result["calls"], exchanges)


def table(folder: Path) -> None:
    """Print what each client showed, and what its service received."""
    for searcher in (*SEARCHERS, IN_A_SANDBOX):
        if not searcher.client.path:
            print(f"\n== {searcher}: not installed")
            continue
        for form in WIRES:
            with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".ccproxy-test-") as home:
                print(f"\n== {searcher}, {form}{' (its own)' if form == searcher.form else ''}")
                try:
                    result = run(searcher, form, Path(home), folder / f"{searcher}-{form}".replace(" ", "-"))
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    print("failed:", str(error)[-3000:])
                    continue
            print("screen:", result.screen() or "nothing of a search")
            for call in result.calls:
                print(f"service: {call['kind']}: {call['target']} {encoded(call['declared'])}")
            print("told:", encoded(result.told()))


def main(arguments: list[str]) -> None:
    if arguments and arguments[0].startswith("{"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        print(json.dumps(within(json.loads(arguments[0]))))
    elif arguments:
        table(Path(arguments[0]).absolute())
    else:
        with tempfile.TemporaryDirectory() as folder:
            table(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
