"""A local agent CLI as an upstream, with a stand-in that misbehaves on request. The real one: ``tests/e2e``."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.errors import ConfigError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.neutral.events import fold
from tests.conversions import read_stream
from tests.support import (
    ANTHROPIC_ASK,
    ROOT,
    WIRES,
    Answer,
    FakeClock,
    ask,
    connect,
    eventually,
    http,
    process,
    proxy,
    read_answer,
    request_bytes,
    settings_of,
    upstream,
)

STANDIN = str(ROOT / "tests" / "standin.py")


class Cli:
    """A configuration with the stand-in, and what it has noted."""

    def __init__(self, folder: Path, mode: str = "", **more: Any) -> None:
        self.notes_path = folder / "notes"
        env = {"NOTES": str(self.notes_path), "MODE": mode, **more.pop("env", {})}
        entry = {"format": "claude-cli", "command": [sys.executable, STANDIN], "env": env, **more}
        self.config: dict[str, Any] = {"upstreams": {"cli": entry}, "retries": 0}

    @property
    def notes(self) -> list[dict[str, Any]]:
        if not self.notes_path.exists():
            return []
        return [json.loads(line) for line in self.notes_path.read_text().splitlines()]

    def noted(self, name: str) -> list[Any]:
        return [note[name] for note in self.notes if name in note]


def text_of(client: str, answer: Answer) -> str:
    if answer.headers["content-type"].startswith("text/event-stream"):
        parts, _ = fold(read_stream(client, [answer.body]))
    else:
        parts, _ = fold(FORMATS[client].read_body(answer.json, "x"))
    return "".join(part.text for part in parts if part.start.kind == "text").strip()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("client", WIRES)
def test_every_client_gets_its_answer(client: str, stream: bool, tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    path, body = WIRES[client].asked(stream)
    with proxy(cli.config) as served:
        answer = ask(served.port, path, body)
    assert (answer.status, answer.headers["x-ccproxy-upstream"]) == (200, "cli/m"), answer
    assert text_of(client, answer) == "you said hi"
    ((turn,),) = cli.noted("turns")
    assert turn == {
        "type": "user",
        "text_not_typed": True,
        "message": {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    }


def test_how_it_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-the-cli")
    cli = Cli(tmp_path, keys=["the-key-of-the-cli", "another-key-of-nobody"])
    asked = {
        **ANTHROPIC_ASK,
        "model": "--sonnet",
        "system": [{"type": "text", "text": "be nice"}],
        "temperature": 0.5,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    with proxy(cli.config) as served:
        assert ask(served.port, "/v1/messages", asked).status == 200
        status = ask(served.port, "/status", None, "GET").body.decode()
    (argv,), (env,), (system,), (cwd,) = (cli.noted(name) for name in ("argv", "env", "system", "cwd"))
    assert {"--model=--sonnet", "--tools=", "--setting-sources=", "--bare", "--no-session-persistence"} <= set(argv)
    assert (system, json.loads(env["CLAUDE_CODE_EXTRA_BODY"])) == (
        "be nice",
        {"max_tokens": 50, "temperature": 0.5, "thinking": asked["thinking"]},
    )
    inherited = set(env) - {name for name in env if name.startswith(("CLAUDE_CODE_", "DISABLE_"))}
    assert inherited - {"PATH", "HOME", "LANG", "TERM"} == {"ANTHROPIC_API_KEY", "MODE", "CCPROXY_RUN"}
    assert env["ANTHROPIC_API_KEY"] == "the-key-of-the-cli"
    assert "/ccproxy-" in cwd and not Path(cwd).exists()
    assert "the-key-of-the-cli" not in status


def test_the_name_of_a_family_is_its_current_model(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    asked = {
        "model": "sonnet",
        "messages": [{"role": "user", "content": "hi"}],
        "reasoning_effort": "low",
        "top_p": 0.5,
    }
    with proxy(cli.config) as served:
        answer = ask(served.port, "/v1/chat/completions", asked)
    assert (answer.status, answer.headers["x-ccproxy-dropped"]) == (200, "top_p")
    extra = json.loads(cli.noted("env")[0]["CLAUDE_CODE_EXTRA_BODY"])
    assert (extra["thinking"]["type"], extra["output_config"]) == ("adaptive", {"effort": "low"})


def test_without_a_key_it_uses_its_own_login(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    with proxy(cli.config) as served:
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
    assert "--bare" not in cli.noted("argv")[0] and "ANTHROPIC_API_KEY" not in cli.noted("env")[0]
    assert cli.noted("env")[0]["MAX_THINKING_TOKENS"] == "0"
    assert settings_of(cli.config).upstreams[0].source == "its own login"


def test_history_is_told_turn_by_turn(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": "three"},
        {"role": "user", "content": [{"type": "text", "text": "four"}]},
    ]
    with proxy(cli.config) as served:
        assert (
            text_of("anthropic", ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "messages": messages}))
            == "you said four"
        )
    (turns,) = cli.noted("turns")
    assert [(turn["type"], turn["message"]["content"][0]["text"], turn.get("shouldQuery", True)) for turn in turns] == [
        ("user", "one", False), ("assistant", "two", True), ("user", "three", False), ("user", "four", True),
    ]  # fmt: skip
    assert "cache_control" not in json.dumps(turns)


# ---------------------------------------------------------------- sessions


def conversation(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"model": "m", "messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]}


def session_of(argv: list[str]) -> tuple[str, str]:
    option, _, value = next(
        word for word in argv if word.startswith(("--session-id", "--resume", "--no-session"))
    ).partition("=")
    return option, value


def test_a_session_is_resumed_with_the_new_turn_alone(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    path = "/my-session/v1/chat/completions"
    with proxy(cli.config) as served:
        ask(served.port, path, conversation("one"))
        ask(served.port, path, conversation("one", "you said one", "two"))
        ask(served.port, path, conversation("one", "you said one", "two", "you said two ", "three"))
    first, second, third = map(session_of, cli.noted("argv"))
    assert (first[0], second[0], third[0]) == ("--session-id", "--resume", "--resume")
    assert first[1] == second[1] == third[1]
    assert [[turn["message"]["content"][0]["text"] for turn in turns] for turns in cli.noted("turns")] == [
        ["one"],
        ["two"],
        ["three"],
    ]


@pytest.mark.parametrize(
    "texts",
    [
        ("other", "you said one", "two"),
        ("one", "an edited answer", "two"),
        ("one",),
        ("one", "you said one", "two", "of another", "three"),
    ],
)
def test_a_conversation_that_goes_on_otherwise_begins_anew(texts: tuple[str, ...], tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    with proxy(cli.config) as served:
        for asked in (("one",), texts):
            assert ask(served.port, "/s/v1/chat/completions", conversation(*asked)).status == 200
    first, second = map(session_of, cli.noted("argv"))
    expected = "--resume" if texts[:2] == ("one", "you said one") else "--session-id"
    assert (second[0], second[1] == first[1]) == (expected, expected == "--resume")
    assert sum(len(turns) for turns in cli.noted("turns")[1:]) == len(texts) - (2 if expected == "--resume" else 0)


def test_a_session_that_it_has_forgotten_is_told_anew(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "forgets")
    with proxy(cli.config) as served:
        ask(served.port, "/s/v1/chat/completions", conversation("one"))
        answer = ask(served.port, "/s/v1/chat/completions", conversation("one", "you said one", "two"))
    assert text_of("openai-chat", answer) == "you said two"
    options = [session_of(argv)[0] for argv in cli.noted("argv")]
    assert (options, len(cli.noted("turns")[1])) == (["--session-id", "--resume", "--session-id"], 3)


def test_a_session_in_use_is_not_shared(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "wait")
    go = tmp_path / "go"
    with proxy(cli.config) as served:
        asked = conversation(str(go))
        threads = [threading.Thread(target=ask, args=(served.port, "/s/v1/chat/completions", asked)) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(cli.noted("turns")) == 2)
        go.touch()
        for thread in threads:
            thread.join()
    assert sorted(session_of(argv)[0] for argv in cli.noted("argv")) == ["--no-session-persistence", "--session-id"]


# ---------------------------------------------------------------- what it refuses and drops


@pytest.mark.parametrize("client", WIRES)
def test_tools_of_the_client_are_refused_by_name(client: str, tmp_path: Path) -> None:
    function = {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}
    tools: dict[str, Any] = {
        "anthropic": [{"name": "f", "input_schema": {"type": "object"}}],
        "openai-chat": [{"type": "function", "function": function}],
        "openai-responses": [{"type": "function", **function}],
        "gemini": [{"functionDeclarations": [function]}],
    }
    cli, wire = Cli(tmp_path), WIRES[client]
    with proxy(cli.config) as served:
        answer = ask(served.port, wire.path, {**wire.ask, "tools": tools[client]})
    assert (answer.status, cli.notes) == (400, [])
    assert "tools of a client are not supported by a local CLI" in answer.body.decode()


def test_with_another_target_they_go_there(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        cli.config["upstreams"]["up"] = {
            "format": "anthropic",
            "base_url": f"http://127.0.0.1:{up.port}",
            "keys": ["upstream-key-one"],
        }
        cli.config["models"] = {"m": ["cli/m", "up/m"]}
        with proxy(cli.config) as served:
            asked = {**ANTHROPIC_ASK, "tools": [{"name": "f", "input_schema": {"type": "object"}}]}
            answer = ask(served.port, "/v1/messages", asked)
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).headers["x-ccproxy-upstream"] == "cli/m"
    assert (answer.status, answer.headers["x-ccproxy-upstream"]) == (200, "up/m")


def test_what_it_has_no_place_for_is_named(tmp_path: Path) -> None:
    asked = {**ANTHROPIC_ASK, "container": "c", "metadata": {"user_id": "u"}, "mcp_servers": []}
    with proxy(Cli(tmp_path).config) as served:
        answers = [ask(served.port, "/v1/messages", {**asked, "stream": stream}) for stream in (False, True)]
        strict = ask(served.port, "/v1/messages", asked, x_ccproxy_strict="1")
        prefilled = ask(
            served.port,
            "/v1/messages",
            {**asked, "messages": [*ANTHROPIC_ASK["messages"], {"role": "assistant", "content": "I"}]},
        )  # type: ignore[misc]
    assert [answer.headers["x-ccproxy-dropped"] for answer in answers] == ["container"] * 2
    assert (strict.status, "container" in strict.body.decode()) == (400, True)
    assert (prefilled.status, "messages must end with" in prefilled.body.decode()) == (400, True)


def test_other_endpoints(tmp_path: Path) -> None:
    with proxy(Cli(tmp_path, models=["sonnet"]).config) as served:
        counted = ask(served.port, "/v1/messages/count_tokens", {**ANTHROPIC_ASK, "model": "sonnet"})
        listed = ask(served.port, "/v1/models", None, "GET")
        batches = ask(served.port, "/v1/messages/batches", {})
    assert (counted.status, counted.headers["x-ccproxy-estimate"], [one["id"] for one in listed.json["data"]]) == (
        200,
        "1",
        ["sonnet"],
    )
    assert (batches.status, "a local CLI has no" in batches.body.decode()) == (404, True)


def test_without_a_list_it_has_no_models(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    with proxy(cli.config) as served:
        assert ask(served.port, "/v1/models", None, "GET").json["data"] == []
    assert cli.notes == []


def test_with_its_own_tools_its_turns_are_one_message(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "tools", tools=["Bash", "Read"])
    with proxy(cli.config) as served:
        whole = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        stream = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
    assert [text_of("anthropic", one) for one in (whole, stream)] == ["I look. It is done."] * 2
    assert (whole.json["stop_reason"], whole.json["usage"]["output_tokens"]) == ("end_turn", 7)
    assert [block["type"] for block in whole.json["content"]] == ["text", "text"]
    assert {"--tools=Bash,Read", "--allowedTools=Bash,Read"} <= set(cli.noted("argv")[0])
    assert cli.noted("system") == [None, None]  # its own instructions


# ---------------------------------------------------------------- faults


FAULTS = [
    ("exit", 502, "the CLI exited with status 1 without an answer: something is wrong here"),
    ("killed", 502, "the CLI was killed by signal 9 without an answer"),
    ("garbage", 502, "without an answer"),
    ("endless", 502, "the CLI printed a line of more than 1000000 bytes"),
    ("error 400 invalid_request", 400, "API Error: invalid_request"),
    ("error 0 unknown", 502, "API Error: unknown"),
    ("error 529 overloaded", 529, "API Error: overloaded"),
    ("error 500 server_error", 500, "API Error: server_error"),
    (
        "error 0 authentication_failed",
        502,
        "upstream cli rejected the request, which had no API key: API Error: authentication_failed",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("mode", "status", "words"), FAULTS)
def test_a_fault_before_the_answer(mode: str, status: int, words: str, stream: bool, tmp_path: Path) -> None:
    cli = Cli(tmp_path, mode)
    cli.config["limits"] = {"max_event_bytes": 1_000_000}
    with proxy(cli.config, clock=FakeClock()) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": stream})
        assert ask(served.port, "/healthz", None, "GET").status == 200
    assert answer.status == status, answer
    assert words in answer.json["error"]["message"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    cli = Cli(tmp_path, command=["no-such-program-here"])
    with proxy(cli.config, clock=FakeClock()) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    error = answer.json["error"]
    assert (answer.status, error["type"], error["message"]) == (
        502,
        "api_error",
        "cannot run no-such-program-here: No such file or directory",
    )


def test_a_limit_is_told_with_its_end(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "limit")
    cli.config["max_wait_s"] = 1
    with proxy(cli.config) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        again = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert [answer.status, again.status, len(cli.noted("argv"))] == [429, 429, 1]
    assert 20 < int(again.headers["retry-after"]) <= 41


def test_half_an_answer_is_an_error_in_its_stream(tmp_path: Path) -> None:
    with proxy(Cli(tmp_path, "half").config) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": True})
        whole = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert b"half" in answer.body and b"event: error" in answer.body and b"message_stop" not in answer.body
    assert whole.status == 502


def test_a_length_limit_ends_it(tmp_path: Path) -> None:
    """It would go on by itself, at its user's cost."""
    cli = Cli(tmp_path, "max_tokens")
    with proxy(cli.config) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert (text_of("anthropic", answer), answer.json["stop_reason"], cli.noted("went_on")) == (
        "cut off",
        "max_tokens",
        [],
    )


def test_ten_megabytes(tmp_path: Path) -> None:
    with proxy(Cli(tmp_path, "large").config) as served:
        for stream in (False, True):
            answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": stream})
            assert len(text_of("anthropic", answer)) == 10_000_000


@pytest.mark.parametrize("mode", ["hang", "slow"])
def test_it_is_gone_within_a_second_of_its_client(mode: str, tmp_path: Path) -> None:
    cli = Cli(tmp_path, mode)
    with process(cli.config) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
            if mode == "slow":
                while b"word" not in sock.recv(100_000):
                    pass
            assert eventually(lambda: bool(cli.noted("pid") if mode == "hang" else cli.noted("turns")))
            children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
            assert children
        left = time.monotonic()
        pids = [int(pid) for pid in children] + cli.noted("child")
        assert eventually(lambda: not any(map(is_alive, pids)))
        assert time.monotonic() - left < 1.5
        assert ask(served.port, "/healthz", None, "GET").status == 200


def test_one_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "hang")
    cli.config["timeouts"] = {"first_byte_s": 0.5}
    with proxy(cli.config, clock=FakeClock()) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        assert (answer.status, answer.json["error"]["message"]) == (504, "no answer from the CLI for 0.5 s")
    assert eventually(lambda: not any(map(is_alive, cli.noted("pid") + cli.noted("child"))))


def test_so_many_at_once_and_the_others_in_order(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "wait", max_parallel=1)
    with proxy(cli.config) as served:
        socks = []
        for number in range(3):
            sock = connect(served.port)
            sock.sendall(request_bytes("/v1/chat/completions", conversation(str(tmp_path / f"go-{number}"))))
            socks.append(sock)
            assert eventually(lambda number=number: len(served.call(lambda: served.connections())) == number + 1)  # type: ignore[misc]
            if not number:
                assert eventually(lambda: len(cli.noted("turns")) == 1)
            else:
                time.sleep(0.05)  # the request is read, and waits: nothing shows from outside
        for number, sock in enumerate(socks):
            assert len(cli.noted("turns")) <= number + 1
            (tmp_path / f"go-{number}").touch()
            assert read_answer(sock).status == 200
            sock.close()
    asked = [turns[-1]["message"]["content"][0]["text"][-1] for turns in cli.noted("turns")]
    assert asked == ["0", "1", "2"]
    began, ended = cli.noted("began"), cli.noted("ended")
    assert all(later >= earlier for earlier, later in zip(ended, began[1:], strict=False))


def test_who_leaves_the_queue_says_nothing_about_the_cli(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "wait", max_parallel=1)
    with proxy(cli.config) as served:
        with connect(served.port) as first:
            first.sendall(request_bytes("/v1/chat/completions", conversation(str(tmp_path / "go"))))
            assert eventually(lambda: len(cli.noted("turns")) == 1)
            with connect(served.port) as second:
                second.sendall(request_bytes("/v1/chat/completions", conversation("x")))
                time.sleep(1.3)  # longer than a connection may take
            assert eventually(lambda: len(served.connections()) == 1)
            assert ask(served.port, "/status", None, "GET").json["upstreams"]["cli"]["unreachable_s"] is None
            (tmp_path / "go").touch()
            assert read_answer(first).status == 200
    assert len(cli.noted("turns")) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["broken", "unending"])
def test_it_is_ended_when_nobody_wants_its_answer_any_more(mode: str, stream: bool, tmp_path: Path) -> None:
    if mode == "unending" and stream:
        pytest.skip("a stream has no largest size")
    cli = Cli(tmp_path, mode)
    cli.config["limits"] = {"max_event_bytes": 1_000_000}
    with proxy(cli.config, clock=FakeClock()) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "stream": stream})
        assert eventually(lambda: not any(map(is_alive, cli.noted("pid"))), 5)
    assert b"too busy" in answer.body or b"larger than 1000000 bytes" in answer.body


@pytest.mark.parametrize("stream", [False, True])
def test_nobody_waits_for_its_end(stream: bool, tmp_path: Path) -> None:
    cli = Cli(tmp_path, "linger")
    began = time.monotonic()
    with proxy(cli.config) as served:
        answer = ask(served.port, "/s/v1/chat/completions", {**conversation("one"), "stream": stream})
        assert (text_of("openai-chat", answer), time.monotonic() - began < 4) == ("you said one", True)
        # It was ended in the end, so what it has kept of the session is uncertain.
        assert eventually(lambda: not any(map(is_alive, cli.noted("pid"))), 10)
        ask(served.port, "/s/v1/chat/completions", conversation("one", "you said one", "two"))
    assert [session_of(argv)[0] for argv in cli.noted("argv")] == ["--session-id", "--session-id"]


def test_what_it_has_started_goes_with_it(tmp_path: Path) -> None:
    for mode, status, words in (
        ("daemon", 502, "exited with status 1 without an answer: it is broken"),
        ("daemon after", 200, "you said hi"),
    ):
        cli = Cli(tmp_path, mode)
        began = time.monotonic()
        with proxy(cli.config) as served:
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            assert (answer.status, words in answer.body.decode(), time.monotonic() - began < 8) == (
                status,
                True,
                True,
            ), answer
            if mode == "daemon after":
                assert eventually(lambda cli=cli: not any(map(is_alive, cli.noted("child"))))  # type: ignore[misc]
        for pid in cli.noted("child"):
            if is_alive(pid):
                os.kill(pid, 9)


def test_a_slow_client_gets_all_of_it(tmp_path: Path) -> None:
    """The program is gone before its last output is read."""
    cli = Cli(tmp_path, "large")
    with proxy(cli.config) as served, connect(served.port) as sock:
        sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
        assert eventually(lambda: bool(cli.noted("turns")))
        time.sleep(2)  # nothing is read meanwhile
        answer = read_answer(sock)
    assert len(text_of("anthropic", answer)) == 10_000_000


def test_what_a_proxy_in_between_has_started_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CCPROXY_RUN", "outer")
    cli = Cli(tmp_path)
    with proxy(cli.config) as served:
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
    assert cli.noted("env")[0]["CCPROXY_RUN"].startswith("outer:")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("mode", ["linger", "hang"])
def test_a_shutdown_leaves_nothing_behind(mode: str, number: int, tmp_path: Path) -> None:
    cli = Cli(tmp_path, mode, env={"TMPDIR": str(tmp_path)})
    with process(cli.config, TMPDIR=str(tmp_path)) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
            assert eventually(lambda: bool(cli.noted("pid")))
            if mode == "linger":
                assert read_answer(sock).status == 200
            for _ in range(3):
                served.process.send_signal(number)
                time.sleep(0.1)
        began = time.monotonic()
        assert served.process.wait(20) in (0, 130)
        assert time.monotonic() - began < 3
    assert not any(map(is_alive, cli.noted("pid") + cli.noted("child")))
    assert list(tmp_path.glob("ccproxy-*")) == []


ODD = [
    {"type": "stream_event", "event": {"type": "message_delta", "delta": "x"}},
    {"type": "stream_event", "event": {"type": "content_block_start", "index": [1], "content_block": "x"}},
    {"type": "stream_event", "event": {"type": 5}},
    {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 1e20}},
    {"type": "result", "is_error": True, "api_error_status": 99999, "api_error_type": ["x"]},
    {"type": "result", "is_error": True, "errors": "x", "result": {"a": 1}},
]


@pytest.mark.parametrize("tools", [[], ["Bash"]])
@pytest.mark.parametrize("odd", ODD)
def test_odd_lines_are_its_fault_and_another_target_answers(
    odd: dict[str, Any], tools: list[str], tmp_path: Path
) -> None:
    cli = Cli(tmp_path, f"odd {json.dumps(odd)}", tools=tools)
    with upstream([http(200, WIRES["anthropic"].body)]) as up:
        cli.config["upstreams"]["up"] = {
            "format": "anthropic",
            "base_url": f"http://127.0.0.1:{up.port}",
            "keys": ["upstream-key-one"],
        }
        cli.config["models"] = {"m": ["cli/m", "up/m"]}
        with proxy(cli.config, clock=FakeClock()) as served:
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            alone = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "model": "cli/m"})
    assert (answer.status, answer.headers["x-ccproxy-upstream"]) == (200, "up/m"), answer
    assert alone.status in (429, 502) and "internal error" not in alone.body.decode(), alone


@pytest.mark.parametrize("body", [{"messages": ["x"]}, {"messages": [{"role": "user", "content": 5}]}, {"system": 5}])
def test_an_odd_request_is_the_clients_fault(body: dict[str, Any], tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    with proxy(cli.config) as served:
        answer = ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, **body})
    assert (answer.status, cli.notes) == (400, []), answer


def test_lines_that_say_nothing_do_not_put_off_the_end(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "noise")
    cli.config["timeouts"] = {"first_byte_s": 0.5}
    with proxy(cli.config, clock=FakeClock()) as served:
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 504


def test_secrets_of_its_environment_are_known_as_such(tmp_path: Path) -> None:
    cli = Cli(tmp_path, "leak", env={"A_TOKEN_OF_MINE": "$THE_TOKEN"})
    with proxy(cli.config, {"THE_TOKEN": "a-token-of-an-account"}, clock=FakeClock()) as served:
        answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert "the token [redacted] is wrong" in answer.body.decode()
    assert cli.noted("env")[0]["A_TOKEN_OF_MINE"] == "a-token-of-an-account"


def test_earlier_reasoning_is_named(tmp_path: Path) -> None:
    thought = {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"}],
    }
    with proxy(Cli(tmp_path).config) as served:
        asked = {**ANTHROPIC_ASK, "messages": [ANTHROPIC_ASK["messages"][0], thought, ANTHROPIC_ASK["messages"][0]]}  # type: ignore[index]
        assert ask(served.port, "/v1/messages", asked).headers["x-ccproxy-dropped"] == "messages[1].content[0]"


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"command": []}, 'upstreams.cli.command: expected the words of a command, such as ["claude"]'),
        ({"command": "claude"}, "upstreams.cli.command: expected an array"),
        (
            {"base_url": "https://a.example"},
            "upstreams.cli.base_url: a local program has none; set its environment in env",
        ),
        ({"keys": "from-client"}, "upstreams.cli.keys: a local program is logged in as its user"),
        ({"quirks": ["completions"]}, "upstreams.cli.quirks[0]: a local program has no endpoints"),
        ({"max_parallel": 0}, "upstreams.cli.max_parallel: must be at least 1"),
        ({"env": {"A": 1}}, "upstreams.cli.env.A: expected a string"),
        ({"env": {"A=B": "x"}}, "upstreams.cli.env.A=B: not the name of an environment variable"),
        ({"env": {"A": "$NOT_SET_ANYWHERE"}}, "upstreams.cli.env.A: environment variable NOT_SET_ANYWHERE is unset"),
        (
            {"format": "anthropic", "command": ["claude"], "keys": ["upstream-key-one"]},
            "upstreams.cli.command: only for format claude-cli",
        ),
    ],
)
def test_mistakes(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of({"upstreams": {"cli": {"format": "claude-cli", **entry}}})
    assert words in "\n".join(caught.value.problems)


def test_defaults() -> None:
    (one,) = settings_of({"upstreams": {"cli": {"format": "claude-cli"}}}).upstreams
    assert (one.command, one.tools, one.max_parallel, one.keys) == (("claude",), (), 4, ())
    assert os.environ.get("HOME")


def test_an_invalid_request_runs_nothing_whatever_the_interpreter_leaves_out(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    asked = {**ANTHROPIC_ASK, "messages": [{"role": "nobody", "content": "hi"}]}
    with process(cli.config, PYTHONOPTIMIZE="1") as served:
        answer = ask(served.port, "/v1/messages", asked)
    assert (answer.status, cli.notes) == (400, []), answer
