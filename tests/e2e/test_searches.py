"""The web search of real clients, in a namespace with loopback only: the service of another format does it for them.

Needs root, ``unshare`` and the programs, as ``test_clis`` does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.searching import (
    AGAIN,
    ENDING,
    IN_A_SANDBOX,
    PAGES,
    QUERY,
    SEARCHERS,
    TEXT,
    WIRES,
    Run,
    Searcher,
    encoded,
    run,
    spans,
)
from tests.e2e.test_clis import home

pytestmark = [
    pytest.mark.clients,
    pytest.mark.xdist_group("searches"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a network namespace"
    ),
]
__all__ = ["home"]

CITED = [(TEXT[start:end], *PAGES[page]) for start, end, page in spans()]
"""What is cited: the words, the page's title and its address."""


def searched(searcher: Searcher, form: str, home: Path) -> Run:
    """A run in which the service has searched once, as it is asked in its own format, and has rejected nothing."""
    if not searcher.client.path:
        pytest.skip(f"{searcher.client.program} is not installed")
    result = run(searcher, form, home)
    kinds = ["search", "again"] if searcher.client.program == "codex" else ["call", "search", "told"]
    assert [call["kind"] for call in result.calls] == kinds, [
        (call["kind"], call["target"], call["declared"]) for call in result.calls
    ]
    assert [exchange["answer"]["status"] for exchange in result.exchanges] == [200] * len(kinds)
    declared = result.asked("search")[0]["declared"]
    assert isinstance(declared, dict)
    if form == "anthropic":
        assert declared["name"] == "web_search"
    return result


def all_told(form: str) -> list[tuple[str, str]]:
    """The pages that a service tells of: in Chat Completions, only those that it cites."""
    return PAGES[: len(CITED)] if form == "openai-chat" else PAGES


@pytest.mark.parametrize("form", WIRES)
def test_claude_code_shows_links(form: str, home: Path) -> None:
    result = searched(SEARCHERS[0], form, home)
    shown = [event["tool_use_result"] for event in result.events() if "tool_use_result" in event]
    assert [(one["query"], one["searchCount"]) for one in shown] == [(QUERY, 1)], result.screen()
    told = result.told()
    assert TEXT in told
    links = [json.loads(line) for line in re.findall(r"^Links: (\[.*\])$", told, re.MULTILINE)]
    assert len(links) == 1, told
    assert [(one["title"], one["url"]) for one in links[0][: len(CITED)]] == PAGES[: len(CITED)]
    assert [one["url"] for one in links[0]] == [url for _, url in all_told(form)]


@pytest.mark.parametrize("form", WIRES)
def test_gemini_cli_marks_what_is_cited(form: str, home: Path) -> None:
    result = searched(SEARCHERS[2], form, home)
    shown = [event for event in result.events() if event["type"] == "tool_result"]
    assert [(event["status"], QUERY in event["output"]) for event in shown] == [("success", True)], result.screen()
    marked = TEXT
    for number, (words, _, _) in enumerate(CITED, 1):
        marked = marked.replace(words, f"{words}[{number}]")
    heading, _, rest = result.told().partition("\n\n")
    said, _, sources = rest.partition("\n\nSources:\n")
    assert QUERY in heading
    assert said == marked
    lines = sources.splitlines()
    assert lines[: len(CITED)] == [f"[{number}] {title} ({url})" for number, (_, title, url) in enumerate(CITED, 1)]
    assert [line.rpartition(" ")[2] for line in lines] == [f"({url})" for _, url in all_told(form)]


def items(result: Run, turn: int, kind: str) -> Iterator[dict[str, Any]]:
    """The items of a kind that Codex has reported as completed."""
    for event in result.events(turn):
        if event["type"] == "item.completed" and event["item"]["type"] == kind:
            yield event["item"]


def check_codex(result: Run, form: str) -> None:
    """The search and the text are shown, and the next turn has both, with what is cited."""
    assert [event for event in result.events() if event["type"] in ("error", "turn.failed")] == []
    shown = [item["query"] for item in items(result, 0, "web_search")]
    assert len(shown) == 1, result.screen()
    assert shown == [QUERY] or form == "openai-chat"  # which never tells what was searched
    assert [item["text"] for item in items(result, 0, "agent_message")] == [TEXT]
    assert [item["text"] for item in items(result, 1, "agent_message")] == [ENDING]
    sent = json.loads(result.exchanges[-1]["client"]["body"])["input"]
    assert [item["action"]["type"] for item in sent if item["type"] == "web_search_call"] == ["search"]
    said = [part for item in sent if item.get("role") == "assistant" for part in item["content"]]
    assert "".join(part["text"] for part in said) == TEXT
    cited = [
        (part["text"][one["start_index"] : one["end_index"]], one["title"], one["url"])
        for part in said
        for one in part.get("annotations", ())
    ]
    assert cited == CITED, said
    history = encoded(result.asked("again")[0]["body"])
    assert AGAIN in history
    assert all(words in history for words, _, _ in CITED), "the service knows what it has said"


@pytest.mark.parametrize("form", WIRES)
def test_codex_shows_a_search_and_keeps_its_sources(form: str, home: Path) -> None:
    check_codex(searched(SEARCHERS[1], form, home), form)


@pytest.mark.parametrize("form", WIRES)
def test_codex_in_a_sandbox_searches_where_that_is_allowed(form: str, home: Path) -> None:
    check_codex(searched(IN_A_SANDBOX, form, home), form)


@pytest.mark.parametrize("form", [form for form in WIRES if form != IN_A_SANDBOX.form])
def test_codex_in_a_sandbox_does_not_search_the_live_web_by_itself(form: str, home: Path) -> None:
    if not IN_A_SANDBOX.client.path:
        pytest.skip("codex is not installed")
    result = run(IN_A_SANDBOX, form, home, quirks=())
    assert [(call["kind"], call["declared"]) for call in result.calls] == [("other", None), ("again", None)]
    assert [item["text"] for item in items(result, 0, "agent_message")] == ["hello"]
