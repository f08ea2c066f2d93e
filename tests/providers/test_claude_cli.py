"""What a local agent CLI is told, and what its lines mean. How it behaves as a program: ``tests/relay/test_programs.py``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy_lite.errors import UNKNOWN_SESSION, ClientError, UpstreamError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.anthropic.request import BILLING_HEADER
from ccproxy_lite.providers.claude_cli import Dialogue, Program, _turns, message, unfit_in
from ccproxy_lite.providers.provider import Ask, Place, Resume

ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
SERVICE = Place("", command=("claude",))


def program(body: dict[str, Any], service: Place = SERVICE, key: str = "") -> Program:
    outbound = message(service, FORMATS["anthropic"], Ask("m", body=json.dumps(body).encode(), session="s"), key)
    assert isinstance(outbound.program, Program)
    return outbound.program


@pytest.mark.parametrize(
    ("more", "dropped"),
    [
        ({}, ()),
        ({"temperature": 0, "top_p": 1, "top_k": 1, "stop_sequences": ["x"], "thinking": {}, "output_config": {}}, ()),
        ({"metadata": {"user_id": "u"}, "service_tier": "auto", "tools": [], "tool_choice": {"type": "none"}}, ()),
        (
            {"container": "c", "context_management": {"edits": []}, "mcp_servers": [], "speed": None},
            ("container", "context_management"),
        ),
    ],
)
def test_what_it_has_no_place_for(more: dict[str, Any], dropped: tuple[str, ...]) -> None:
    assert unfit_in({**ASK, **more}) == dropped


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"name": "f"}]}, "tools"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "assistant", "content": "I"}]}, "messages"),
        ({"output_config": {"format": {"schema": {"description": "x" * 200_000}}}}, "output_config"),
    ],
)
def test_what_is_refused(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ClientError) as caught:
        unfit_in({**ASK, **more})
    assert (caught.value.status, caught.value.param) == (400, param)


def test_instructions_without_the_line_of_another_copy() -> None:
    blocks = [{"type": "text", "text": text} for text in (f"{BILLING_HEADER} cc_version=1;", "be nice", "", "be brief")]
    launch = program({**ASK, "system": blocks}).launch(None)
    assert launch.files == {"system.txt": "be nice\n\nbe brief"}
    assert "--system-prompt-file=system.txt" in launch.argv


def test_with_its_tools_it_keeps_its_own_instructions() -> None:
    service = Place("", command=("claude",), tools=("Bash",))
    launch = program(ASK, service).launch(Resume("u", 0))
    assert launch.files == {} and {"--tools=Bash", "--allowedTools=Bash", "--session-id=u"} <= set(launch.argv)
    assert program({**ASK, "system": "mine"}, service).launch(None).files == {"system.txt": "mine"}


def test_a_turn_is_the_same_however_it_is_spelled() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "AA"}}
    spellings: list[Any] = [
        "hello ",
        [{"type": "text", "text": "hello"}],
        [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "hel"},
            {"type": "text", "text": "lo", "cache_control": {"type": "ephemeral"}},
        ],
    ]
    turns = [
        program({**ASK, "messages": [{"role": "assistant", "content": one}, *ASK["messages"]]}).turns[0]
        for one in spellings
    ]
    assert len(set(turns)) == 1 and turns[0] == program(ASK).turn_of("hello\n")
    others = [[image], "Hello", [image, {"type": "text", "text": "hello"}]]
    assert (
        len(
            {
                program({**ASK, "messages": [{"role": "assistant", "content": one}, *ASK["messages"]]}).turns[0]
                for one in others
            }
            | set(turns)
        )
        == 4
    )
    assert program({**ASK, "messages": [{"role": "user", "content": "hello"}]}).turns != tuple(turns[:1])


def dialogue(*, tools: bool = False) -> Dialogue:
    one = program(ASK).launch(None).dialogue
    assert isinstance(one, Dialogue)
    one._runs_tools = tools
    one.begin()
    return one


def line(**said: Any) -> bytes:
    return json.dumps(said).encode()


def event(kind: str, **more: Any) -> bytes:
    return line(type="stream_event", event={"type": kind, **more}, parent_tool_use_id=None)


def test_lines_that_say_nothing() -> None:
    one = dialogue()
    for said in (
        b"",
        b"garbage",
        b"[1]",
        b"null",
        line(type="system"),
        line(type="user"),
        line(type="stream_event"),
        line(type="rate_limit_event"),
    ):
        assert one.feed(said) == one.feed(b"{}")
    assert one.answer == ""


def test_after_the_end_nothing_is_said() -> None:
    one = dialogue()
    assert one.feed(event("message_start", message={})).status == 200
    assert one.feed(event("message_stop")).done
    assert not one.feed(event("message_start", message={})).data
    assert not one.ended(1, "").done


@pytest.mark.parametrize(
    ("said", "status", "kind"),
    [
        ({"api_error_status": 429, "api_error_type": "rate_limit_error", "result": "slow"}, 429, "rate_limit_error"),
        ({"api_error_status": 404, "result": "no model"}, 404, "not_found_error"),
        ({"api_error_status": None, "result": "refused"}, 502, "api_error"),
        ({"api_error_status": "x", "errors": ["first"]}, 502, "api_error"),
        ({}, 502, "api_error"),
    ],
)
def test_errors(said: dict[str, Any], status: int, kind: str) -> None:
    move = dialogue().feed(line(type="result", is_error=True, **said))
    assert (move.status, move.done, json.loads(move.data)["error"]["type"]) == (status, True, kind)


@pytest.mark.parametrize(
    ("error", "status"), [("authentication_failed", 401), ("billing_error", 402), ("rate_limit", 429), ("other", 502)]
)
def test_errors_by_the_word_of_the_message_before(error: str, status: int) -> None:
    one = dialogue()
    one.feed(line(type="assistant", error=error, message={}))
    assert one.feed(line(type="result", is_error=True, result="no")).status == status


def test_an_empty_success_is_an_error() -> None:
    with pytest.raises(UpstreamError, match="without stream events") as caught:
        dialogue().feed(line(type="result", is_error=False, result="hi"))
    assert caught.value.status == 502


@pytest.mark.parametrize("tools", [False, True])
def test_an_error_after_the_beginning_is_in_the_stream(tools: bool) -> None:
    one = dialogue(tools=tools)
    one.feed(event("message_start", message={}))
    move = one.feed(line(type="result", is_error=True, result="gone", api_error_status=529))
    assert (move.status, move.done, move.data.startswith(b"event: error\n")) == (0, True, True)


def test_a_forgotten_session() -> None:
    with pytest.raises(UpstreamError) as caught:
        dialogue().feed(line(type="result", is_error=True, errors=["No conversation found with session ID: u"]))
    assert caught.value.code == UNKNOWN_SESSION


@pytest.mark.parametrize(
    ("status", "stderr", "words"),
    [
        (1, "a\nb\n", "exited with status 1 without an answer: b"),
        (-9, "", "was killed by signal 9"),
        (0, "", "exited with status 0"),
    ],
)
def test_an_end_without_an_answer(status: int, stderr: str, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        dialogue().ended(status, stderr)


def test_instructions_on_the_way_are_the_users() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": []}]
    assert list(_turns(messages)) == [("user", [{"type": "text", "text": "s"}]), ("user", [])]
