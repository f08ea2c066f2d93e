"""A local estimate of tokens, for upstreams that cannot count. Pure; within 15 % of a byte pair encoder on prose,
code, JSON and Chinese (measured in the tests), and it never forgets a block, a tool or the instructions.

>>> estimate_text("Hello, world!")
4
"""

from __future__ import annotations

import re

from ccproxy_lite.formats.neutral import (
    Audio,
    File,
    Foreign,
    Image,
    Part,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ccproxy_lite.jsontext import dumps

_IMAGE_TOKENS = 1600
_PDF_BYTES_PER_TOKEN = 12
_MESSAGE_TOKENS = 4
_TOOL_TOKENS = 12

# How byte pair encoders cut: words with their leading space, digits in threes, runs of signs, and each script its own.
_PIECE = re.compile(
    r" ?[A-Za-z]+"  # 1 a word
    r"|([0-9]{1,3})"
    r"|(\n[ \t\n]*|[ \t]{2,})"  # 2 indentation and blank lines
    r"|([⺀-鿿豈-﫿가-힣぀-ヿ]+)"  # 3 Chinese, Japanese, Korean
    r"|( ?[^\sA-Za-z0-9\x80-\U0010ffff]+)"  # 4 signs
    r"|([^\x00-\x7f]+)"  # 5 anything else
)


def estimate_text(text: str) -> int:
    """About how many tokens a text is."""
    total = 0.0
    for match in _PIECE.finditer(text):
        length = match.end() - match.start()
        group = match.lastindex
        if group is None:
            total += 1.0 if length <= 8 else 1.0 + (length - 8) / 5
        elif group in (1, 2):
            total += 1.0
        elif group == 3:
            total += length * 0.75
        elif group == 4:
            total += 1.0 if length <= 3 else length / 2.5
        else:
            total += max(length * 0.5, 1.0)
    return max(round(total), 1) if text else 0


def estimate(request: Request) -> int:
    """About how many input tokens a request is: instructions, every part of every turn, and every tool."""
    total = sum(estimate_text(part.text) for part in request.system)
    for message in request.messages:
        total += _MESSAGE_TOKENS + sum(_part(part) for part in message.parts)
    for tool in request.tools:
        if isinstance(tool, ServerTool):
            total += _TOOL_TOKENS + estimate_text(dumps(dict(tool.data)))
        else:
            total += _TOOL_TOKENS + estimate_text(f"{tool.name} {tool.description} ")
            total += estimate_text(dumps(dict(tool.schema or {})))
    if request.output is not None and request.output.schema is not None:
        total += estimate_text(dumps(dict(request.output.schema)))
    return max(total, 1)


def _part(part: Part) -> int:
    match part:
        case Text() | Refusal():
            return estimate_text(part.text)
        case Thinking():
            return estimate_text(part.text) + (len(part.redacted) // 4)
        case ToolCall():
            return _TOOL_TOKENS + estimate_text(part.name) + estimate_text(part.arguments)
        case ToolResult():
            return _TOOL_TOKENS + sum(_part(inner) for inner in part.content)
        case Image():
            return _IMAGE_TOKENS
        case File():
            return estimate_text(part.text) + len(part.data) * 3 // 4 // _PDF_BYTES_PER_TOKEN
        case Audio():
            return len(part.data) // 100
        case Foreign():
            return estimate_text(dumps(dict(part.data)))
