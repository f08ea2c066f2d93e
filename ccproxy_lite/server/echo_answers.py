"""What the embedded service says: the last thing that it was sent, a tool call, reasoning. Pure but for made-up ids.

It streams the last thing that the user said, in several pieces; calls a tool where the text says ``call NAME`` and a
tool of that name is offered (with the JSON object that follows, or one made from the tool's schema); thinks where
thinking is asked for; and writes a value of the schema where structured output is requested and the user's text is no
JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from json import JSONDecoder
from typing import Any

from ccproxy_lite.formats.neutral.events import Begin, End, Event, PartDelta, PartEnd, PartKind, PartStart, Usage
from ccproxy_lite.formats.neutral.names import free_text
from ccproxy_lite.formats.neutral.request import Request, Text, Tool, ToolResult
from ccproxy_lite.formats.neutral.tokens import estimate, estimate_text
from ccproxy_lite.formats.neutral.turns import merged
from ccproxy_lite.jsontext import dumps, loads

NAME = "echo"


_WORDS = re.compile(r"\S+\s*|\s+")


def last_text(request: Request) -> str:
    """The last text of the user's last turn."""
    for message in reversed(request.messages):
        if message.role == "user":
            return next((part.text for part in reversed(message.parts) if isinstance(part, Text)), "")
    return ""


def answer(request: Request, origin: str) -> list[Event]:
    """What the echo says, as neutral events; its reasoning is signed by the format ``origin``."""
    events: list[Event] = [Begin(NAME, request.model)]
    text = last_text(request)
    if request.reasoning is not None and request.reasoning.effort != "none":
        events += [
            PartStart("thinking"),
            PartDelta("The user said: "),
            PartDelta(text),
            PartEnd("ZWNobw==", origin),
        ]
    last = merged(request.messages)[-1:]
    results = [part for message in last for part in message.parts if isinstance(part, ToolResult)]
    calls = [] if results or _forbids_tools(request) else _requested_calls(request, text)
    if request.output is not None and request.output.schema is not None and not _is_json(text):
        text = dumps(_sample_value(request.output.schema))
    for number, (tool, arguments) in enumerate(calls):
        kind: PartKind = "custom" if tool.kind == "custom" else "tool"
        events += [PartStart(kind, f"call_{number}_{os.urandom(4).hex()}", tool.name)]
        middle = len(arguments) // 2
        events += [PartDelta(piece) for piece in (arguments[:middle], arguments[middle:]) if piece] + [PartEnd()]
    if not calls:
        if results:
            results_text = [part.text for result in results for part in result.content if isinstance(part, Text)]
            text = "The tool said: " + "\n".join(results_text)
        events.append(PartStart("text"))
        events += [PartDelta(word) for word in _WORDS.findall(text)]
        events.append(PartEnd())
    output = sum(estimate_text(event.text) for event in events if isinstance(event, PartDelta))
    reasoning_tokens = (
        3 + estimate_text(text) if isinstance(events[1], PartStart) and events[1].kind == "thinking" else None
    )
    usage = Usage(
        estimate(request), output, reasoning=None if reasoning_tokens is None else min(reasoning_tokens, output)
    )
    events.append(End("tool_use" if calls else "end", usage))
    return events


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except ValueError:
        return False
    return True


def _forbids_tools(request: Request) -> bool:
    return request.tool_choice is not None and request.tool_choice.mode == "none"


def _requested_calls(request: Request, text: str) -> list[tuple[Tool, str]]:
    calls = []
    for tool in request.tools:
        if isinstance(tool, Tool):
            for match in re.finditer(rf"\bcall {re.escape(tool.name)}\b\s*", text):
                calls.append((match.start(), tool, _arguments(tool, text[match.end() :])))
    calls.sort(key=lambda call: call[0])
    if request.parallel_tools is False:
        calls = calls[:1]
    return [(tool, arguments) for _, tool, arguments in calls]


def _arguments(tool: Tool, after_name: str) -> str:
    if after_name.startswith("{"):
        try:
            value, _ = JSONDecoder().raw_decode(after_name)
        except ValueError:
            pass
        else:
            return free_text(dumps(value)) if tool.kind == "custom" else dumps(value)
    return "echo" if tool.kind == "custom" else dumps(_sample_value(tool.schema or {}))


_SAMPLES: Mapping[str, Any] = {
    "string": "echo",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "null": None,
}


def _sample_value(schema: Mapping[str, Any]) -> Any:
    """A small value of a schema: what it requires, and no more."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    if kind != "object" and kind is not None:
        return _SAMPLES.get(str(kind), "echo")
    properties = schema.get("properties") or {}
    return {name: _sample_value(properties.get(name) or {"type": "string"}) for name in schema.get("required") or ()}
