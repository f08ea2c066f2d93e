"""Sessions: in a path, a header or a body; in the log, and handed on where the upstream's format has a place."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from ccproxy_lite.formats.session import session_in
from tests.support import ANTHROPIC_ASK, ECHO, WIRES, ask, behind, eventually, http, process, proxy, upstream

NAMED: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("/my-session{path}", {}, {}),
    ("{path}", {}, {"x_session_id": "my-session"}),
    ("{path}", {"metadata": {"session_id": "my-session"}}, {}),
    ("{path}", {"metadata": {"user_id": "user_1_account__session_my-session"}}, {}),
]


@pytest.mark.parametrize(("url", "more", "headers"), NAMED)
@pytest.mark.parametrize(
    ("client", "to"),
    [
        ("anthropic", "openai-responses"),
        ("openai-chat", "openai-responses"),
        ("gemini", "openai-responses"),
        ("openai-chat", "anthropic"),
        ("openai-responses", "anthropic"),
    ],
)
def test_it_is_handed_on_where_there_is_a_place(
    client: str, to: str, url: str, more: dict[str, Any], headers: dict[str, str]
) -> None:
    wire = WIRES[client]
    with upstream([http(200, WIRES[to].body)]) as up, proxy(behind(up, to)) as served:
        answer = ask(served.port, url.format(path=wire.path), {**wire.ask, **more}, **headers)
    assert answer.status == 200, answer
    sent = up.seen[0].json
    if to == "anthropic":
        assert session_in(sent) == "my-session"
    else:  # with the instructions, for agents that share a session do not share a prompt
        assert sent["prompt_cache_key"] == sha256(b"my-session").hexdigest()[:32]


def test_only_chat_services_that_know_the_parameter_get_it() -> None:
    for quirks in ([], ["prompt_cache_key"]):
        with (
            upstream([http(200, WIRES["openai-chat"].body)]) as up,
            proxy(behind(up, "openai-chat", quirks=quirks)) as served,
        ):
            assert ask(served.port, "/s1/v1/messages", ANTHROPIC_ASK).status == 200
        assert up.seen[0].json.get("prompt_cache_key") == (sha256(b"s1").hexdigest()[:32] if quirks else None)


def test_what_the_client_says_itself_stays() -> None:
    asked = {**WIRES["openai-chat"].ask, "prompt_cache_key": "mine", "user": "me"}
    for to, place in (
        ("openai-responses", ("prompt_cache_key", "mine")),
        ("anthropic", ("metadata", {"user_id": "me"})),
    ):
        with upstream([http(200, WIRES[to].body)]) as up, proxy(behind(up, to)) as served:
            assert ask(served.port, "/s1/v1/chat/completions", asked).status == 200
        assert up.seen[0].json[place[0]] == place[1]


def test_a_long_one_is_shortened_and_stays_the_same() -> None:
    sent = []
    with upstream([http(200, WIRES["openai-responses"].body)]) as up, proxy(behind(up, "openai-responses")) as served:
        for _ in range(2):
            assert ask(served.port, f"/{'s' * 200}/v1/messages", ANTHROPIC_ASK).status == 200
        sent = [seen.json["prompt_cache_key"] for seen in up.seen]
    assert sent[0] == sent[1] and len(sent[0]) == 32


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/embeddings"])
def test_it_is_in_the_log(path: str) -> None:
    with process(ECHO, "--log-format", "json") as served:
        ask(served.port, f"/my-session{path}", ANTHROPIC_ASK, anthropic_version="2023-06-01")
        assert eventually(lambda: "my-session" in served.stderr)
        lines = [json.loads(line) for line in served.stderr.splitlines()]
    assert [line["session"] for line in lines if "session" in line] == ["my-session"]
