"""The conversion cases in ``tests/cases``, whose README says what a case is, through the converters.

``python -m tests.coverage`` prints how the cases cover the topics of every pair.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy_lite.errors import ClientError, UpstreamError
from tests import conversions as run
from tests.cases import FOLDER, Case, load, of_file, written
from tests.cases.__main__ import fill
from tests.coverage import gaps

CASES = load()


def test_no_cell_of_topic_and_pair_is_empty() -> None:
    assert gaps() == []


def of_kind(kind: str) -> list[object]:
    return [pytest.param(case, id=case["name"]) for case in CASES if kind in case]


@pytest.mark.parametrize("case", of_kind("request"))
def test_request(case: Case) -> None:
    if "rejected" in case:
        with pytest.raises(ClientError) as caught:
            run.convert_request(case)
        assert caught.value.status == 400
        assert case["rejected"] in caught.value.message
        return
    outgoing = run.convert_request(case)
    assert outgoing.body == case["expect"]
    assert sorted(outgoing.dropped) == sorted(case.get("dropped", []))


@pytest.mark.parametrize("case", of_kind("response"))
def test_response(case: Case) -> None:
    if case["expect"].get("error"):
        with pytest.raises(UpstreamError) as caught:
            run.convert_response(case)
        assert case["expect"]["error"] == {"kind": caught.value.kind, "message": caught.value.message}
        return
    assert run.convert_response(case) == (case["expect"], case.get("dropped", []))


@pytest.mark.parametrize("case", of_kind("stream"))
def test_stream(case: Case) -> None:
    raw = run.sse_bytes(case["stream"])
    converted = run.convert_stream(case, [raw])
    sse, dropped = converted
    assert (run.whole_of(case, sse), dropped) == (case["expect"], case.get("dropped", []))
    if "emits" in case:
        assert run.payloads(sse) == case["emits"]
    events = raw.split(b"\n\n")
    assert run.convert_stream(case, [event + b"\n\n" for event in events[:-1]]) == converted
    assert run.convert_stream(case, [raw[i : i + 1] for i in range(len(raw))]) == converted
    assert run.convert_stream(case, [raw.replace(b"\n", b"\r\n")]) == converted


def test_files_are_written_as_the_tool_writes_them() -> None:
    for path in FOLDER.glob("*.json"):
        assert path.read_text() == written(json.loads(path.read_text())), f"python -m tests.cases fill {path}"


def test_missing_expectations_are_filled_in() -> None:
    """With what the tests then accept: for a request, one that is refused, and an answer."""
    request = {"model": "m", "max_tokens": 9, "top_k": 4, "messages": [{"role": "user", "content": "hi"}]}
    kept = {"expect": {"written": "by hand"}}
    case: Any = {"name": "n", "from": "anthropic", "request": request, "to": {"openai-chat": {}, "gemini": [{}, kept]}}
    cases = [case, {**case, "request": {**request, "container": "c"}, "to": {"gemini": {}}}]
    assert fill(cases) == ["n [openai-chat]", "n [gemini]", "n [gemini]"]
    assert case["to"]["openai-chat"]["dropped"] == ["top_k"]
    assert case["to"]["gemini"][0]["expect"]["generationConfig"] == {"maxOutputTokens": 9, "topK": 4}
    assert case["to"]["gemini"][1] == {"expect": {"written": "by hand"}}
    assert cases[1]["to"] == {"gemini": {"rejected": "container"}}
    for one in of_file(FOLDER / "chat_answers_text.json")[:5]:
        name = one.pop("name")
        target, expected, dropped = one.pop("to"), one.pop("expect"), one.pop("dropped", [])
        again = [{**one, "name": name, "to": {target: {}}}]
        fill(again)
        assert again[0]["to"][target] == {"expect": expected, **({"dropped": dropped} if dropped else {})}
