"""A local estimate of tokens, for upstreams that cannot count. Pure.

Within 15 % of OpenAI's o200k encoder on English, code, JSON and Chinese (measured in the tests; a single Chinese text
may be further off, by its register). No block, tool or instruction is left out. Claude's encoder cuts finer.

>>> estimate_text("Hello, world!"), estimate_text("")
(3, 0)
"""

from __future__ import annotations

import re

from ccproxy_lite.formats.neutral.request import (
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

# Cut like the pre-tokenizer of a byte pair encoder; a group's number is its row in _COST.
_PIECE = re.compile(
    r"( ?[A-Z]?[a-z]+)"  # 1 a word, or a part of a camelCase name
    r"|( ?[!-/:-@\[-`{-~]+\n*)"  # 2 signs, and the line ends behind them
    r"|( ?[A-Z]+)"  # 3 capitals
    r"|( ?[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]+)"  # 4 Chinese, Japanese, Korean
    r"|( ?[^\W\d_]+)"  # 5 letters of other scripts, and words with accents
    r"|([0-9]{1,3}|\s*\n|\s+(?=\s)|\s)"  # 6 digits in threes, line ends, indentation
    r"|(.)"  # 7 anything else
)
_COST = ((0.0, 0.0), (0.78, 0.05), (0.45, 0.23), (0.6, 0.3), (0.0, 0.8), (0.5, 0.18), (1.0, 0.0), (0.65, 0.0))
"""Tokens for a piece, and for each of its characters: least squares over prose, code, JSON and Chinese."""


def estimate_text(text: str) -> int:
    """About how many tokens a text is."""
    total = 0.0
    for match in _PIECE.finditer(text):
        piece, each = _COST[match.lastindex or 0]
        total += piece + each * (match.end() - match.start())
    return max(round(total), 1) if text else 0


def estimate(request: Request) -> int:
    """About how many input tokens a request is: instructions, every part of every turn, and every tool."""
    total = sum(estimate_text(part.text) for part in request.system)
    for message in request.messages:
        total += _MESSAGE_TOKENS + sum(_estimate_part(part) for part in message.parts)
    for tool in request.tools:
        if isinstance(tool, ServerTool):
            total += _TOOL_TOKENS + estimate_text(dumps(dict(tool.data)))
        else:
            total += _TOOL_TOKENS + estimate_text(f"{tool.name} {tool.description} ")
            total += estimate_text(dumps(dict(tool.schema or {})))
    if request.output is not None and request.output.schema is not None:
        total += estimate_text(dumps(dict(request.output.schema)))
    return max(total, 1)


def _estimate_part(part: Part) -> int:
    match part:
        case Text() | Refusal():
            return estimate_text(part.text)
        case Thinking():
            return estimate_text(part.text) + (len(part.redacted) // 4)
        case ToolCall():
            return _TOOL_TOKENS + estimate_text(part.name) + estimate_text(part.arguments)
        case ToolResult():
            return _TOOL_TOKENS + sum(_estimate_part(inner) for inner in part.content)
        # What Claude charges for a large picture; the size is not known without decoding it.
        case Image():
            return _IMAGE_TOKENS
        case File():
            return estimate_text(part.text) + len(part.data) * 3 // 4 // _PDF_BYTES_PER_TOKEN
        case Audio():
            return len(part.data) // 100
        case Foreign():
            return estimate_text(dumps(dict(part.data)))
