"""The example that chooses a model by what a request holds, with a real Claude Code; in a namespace with loopback only.

Needs root, ``unshare`` and the program, as ``test_clis`` does.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.test_clis import CLAUDE, home, inside

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not CLAUDE.path, reason="Claude Code is not installed"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a network namespace"
    ),
]
__all__ = ["home"]

FLAGS = "--output-format json --dangerously-skip-permissions".split()
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LONG = "qzxj" * 30_000
"""About 100,000 tokens, in as many bytes as one word of a command line may have."""


SONNET = ("--model", "claude-sonnet-4-5")
ORDINARY = ("openai-chat", "qwen3-coder-plus")


def asked(home: Path, prompt: str, *words: str) -> list[dict[str, str]]:
    """What was asked of whom, in order."""
    result = inside(CLAUDE, home, "chosen", str(home), CLAUDE.path, *FLAGS, *words, "-p", prompt)
    assert CLAUDE.said(result["out"]), result
    calls: list[dict[str, str]] = result["asked"]
    return calls


def targets(calls: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(call["form"], call["model"]) for call in calls]


def test_an_ordinary_request(home: Path) -> None:
    assert targets(asked(home, "hi", *SONNET)) == [ORDINARY]


def test_a_small_job(home: Path) -> None:
    assert targets(asked(home, "hi", "--model", "claude-haiku-4-5")) == [("openai-chat", "qwen3-coder-flash")]


def test_a_long_conversation(home: Path) -> None:
    calls = asked(home, LONG, *SONNET, "--append-system-prompt", LONG)
    assert targets(calls) == [("gemini", "gemini-3.1-pro")]


def test_a_picture_that_a_tool_has_read(home: Path) -> None:
    picture = home / "dot.png"
    picture.write_bytes(base64.b64decode(PIXEL))
    calls = asked(home, f"call Read {json.dumps({'file_path': str(picture)})}", *SONNET)
    assert targets(calls) == [ORDINARY, ("gemini", "gemini-3.5-flash")]


def test_a_search(home: Path) -> None:
    calls = asked(home, 'call WebSearch {"query": "moons"}', *SONNET, "--tools", "WebSearch")
    assert targets(calls) == [ORDINARY, ("openai-responses", "gpt-5.2"), ORDINARY]
    assert calls[1]["effort"] == "low", "the one behind the target's name"
