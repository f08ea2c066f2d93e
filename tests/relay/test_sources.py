"""Where keys come from, through real sockets: files that change, helpers that are run again, the client's own."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.services import service
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    LAST,
    STREAM_HEAD,
    WIRES,
    FakeClock,
    anthropic_event,
    ask,
    behind,
    connect,
    eventually,
    http,
    process,
    proxy,
    read_answer,
    request_bytes,
    upstream,
)


def helper(folder: Path, script: str) -> str:
    """A credential helper: a Python program in a file of its own."""
    path = folder / "helper.py"
    path.write_text(script)
    return f"cmd:{sys.executable} {path}"


COUNTING = """
import pathlib, sys
path = pathlib.Path(__file__).with_name("count")
number = len(path.read_text()) if path.exists() else 0
path.write_text("x" * (number + 1))
print("key-" + "abcdef"[number])
"""


def test_a_helper_is_run_again_after_a_401_and_the_client_notices_nothing(tmp_path: Path) -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("a", "", ["ok", "401"])
        with proxy(behind(up, "anthropic", keys=[helper(tmp_path, COUNTING)])) as served:
            answers = [ask(served.port, "/v1/messages", ANTHROPIC_ASK).status for _ in range(3)]
            keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
    assert answers == [200, 200, 200]
    assert scripted.calls == ["a", "a", "b", "b"]
    assert keys[0]["cooldowns"] == [] and keys[0]["failures"] == 0


def test_a_helper_whose_new_key_is_rejected_too_is_believed(tmp_path: Path) -> None:
    with service("openai-chat") as (scripted, up):
        scripted.say("", "", ["401"])
        with proxy(behind(up, "openai-chat", keys=[helper(tmp_path, COUNTING)])) as served:
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 502
            keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
    assert scripted.calls == ["a", "b"]
    assert keys[0]["cooldowns"][0]["reason"] == "invalid_key"


def test_a_helper_that_gives_the_same_key_again(tmp_path: Path) -> None:
    with service("openai-chat") as (scripted, up):
        scripted.say("", "", ["401"])
        with proxy(behind(up, "openai-chat", keys=[helper(tmp_path, "print('key-a')")])) as served:
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
    assert answer.status == 502 and "helper.py" not in answer.body.decode()
    assert scripted.calls == ["a"]


def test_a_helper_is_run_again_after_five_minutes(tmp_path: Path) -> None:
    clock = FakeClock()
    with service("openai-chat") as (scripted, up):
        with proxy(behind(up, "openai-chat", keys=[helper(tmp_path, COUNTING)]), clock=clock) as served:
            for _ in range(4):
                assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
                clock.time += 100
    assert scripted.calls == ["a", "a", "a", "b"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import sys; print('oh no: secret-stuff', file=sys.stderr); sys.exit(3)", "exited with status 3"),
        ("pass", "printed nothing"),
        ("print('two words')", "not allowed in an HTTP header"),
        ("print('changeme')", "placeholder"),
    ],
)
def test_a_helper_that_fails(tmp_path: Path, script: str, message: str) -> None:
    """Its key cools down, the next one answers; with no other, the client hears why."""
    failing = helper(tmp_path, script)
    with service("openai-chat") as (scripted, up):
        with proxy(behind(up, "openai-chat", keys=[failing, "key-b"])) as served:
            assert [ask(served.port, "/v1/chat/completions", CHAT_ASK).status for _ in range(3)] == [200, 200, 200]
        assert scripted.calls == ["b", "b", "b"]
        with proxy(behind(up, "openai-chat", keys=[failing])) as served:
            answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert answer.status == 502 and answer.headers["x-should-retry"] == "false"
    assert message in answer.json["error"]["message"]
    assert "rejected" not in answer.json["error"]["message"]
    assert "secret-stuff" not in answer.body.decode()


def test_a_helper_that_cannot_be_started() -> None:
    with service("openai-chat") as (_, up):
        with proxy(behind(up, "openai-chat", keys=["cmd:/nonexistent/helper"])) as served:
            answer = ask(served.port, "/v1/chat/completions", CHAT_ASK)
    assert answer.status == 502 and "No such file" in answer.json["error"]["message"]


def test_a_file_is_picked_up_again_after_five_minutes(tmp_path: Path) -> None:
    path, clock = tmp_path / "key", FakeClock()
    path.write_text("key-a\n")
    with service("gemini") as (scripted, up):
        with proxy(behind(up, "gemini", keys=[f"file:{path}"]), clock=clock) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
            path.write_text("key-b\n")
            clock.time += 299
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
            clock.time += 1
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    assert scripted.calls == ["a", "a", "b"]


def test_a_file_that_changed_before_a_401_helps_at_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("key-a\n")
    with service("gemini") as (scripted, up):
        scripted.say("a", "", ["ok", "400 reason=API_KEY_INVALID"])
        with proxy(behind(up, "gemini", keys=[f"file:{path}"])) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
            path.write_text("key-b\n")
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    assert scripted.calls == ["a", "a", "b"]


def test_a_changed_file_ends_the_cooldown_of_an_invalid_key(tmp_path: Path) -> None:
    """Though another key is ready, and nobody would have tried this one."""
    path, clock = tmp_path / "key", FakeClock()
    path.write_text("key-a\n")
    with service("anthropic") as (scripted, up):
        scripted.say("a", "", ["401"])
        with proxy(behind(up, "anthropic", keys=[f"file:{path}", "key-z"]), clock=clock) as served:
            for _ in range(2):
                assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
            clock.time += 300
            assert {ask(served.port, "/v1/messages", ANTHROPIC_ASK).status for _ in range(2)} == {200}
            path.write_text("key-b\n")
            clock.time += 301  # of 600
            assert {ask(served.port, "/v1/messages", ANTHROPIC_ASK).status for _ in range(2)} == {200}
    assert scripted.calls[:2] == ["a", "z"]
    assert scripted.calls.count("a") == 2 and scripted.calls.count("b") == 1


def test_a_file_that_was_never_readable_disturbs_nobody(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("key-a\n")
    with service("anthropic") as (scripted, up):
        with proxy(behind(up, "anthropic", keys=[f"file:{path}", "key-b"])) as served:
            path.unlink()
            assert {ask(served.port, "/v1/messages", ANTHROPIC_ASK).status for _ in range(4)} == {200}
    assert set(scripted.calls) == {"b"}


@pytest.mark.parametrize("key", ["a%0d%0ab", "a%00b", "a%20b", "%C3%A4"])
def test_a_clients_key_that_cannot_be_sent(key: str) -> None:
    with service("anthropic") as (scripted, up), proxy(behind(up, "anthropic", keys="from-client")) as served:
        assert ask(served.port, f"/v1/messages?key={key}", ANTHROPIC_ASK).status == 401
    assert scripted.calls == []


def test_a_clients_own_key_is_blotted_out_for_itself_and_changes_nothing_for_others() -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("", "", ['400 "the key application/json is odd"'])
        with proxy(behind(up, "anthropic", keys="from-client")) as served:
            own = ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_api_key="application/json")
            other = ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_api_key="key-b")
    assert "application/json" not in own.body.decode() and own.status == 400
    assert "the key application/json is odd" in other.body.decode()
    assert other.headers["content-type"] == "application/json"


def test_a_clients_own_key_is_blotted_out_of_everything(tmp_path: Path) -> None:
    """Of the log, of headers, and of an error behind the first content."""
    own, log = "sk-my-own-key-424242", tmp_path / "log"
    go_on = threading.Event()
    steps: list[Any] = [
        STREAM_HEAD.replace(b"200 OK", b"200 OK\r\nx-debug: " + own.encode()),
        *WIRES["anthropic"].begun[1:],
        lambda _: go_on.wait(10),
        anthropic_event("error", error={"type": "api_error", "message": f"account of {own} was closed"}) + LAST,
    ]
    with upstream(steps) as up:
        config = {**behind(up, "anthropic", keys="from-client"), "log": {"file": str(log)}}
        with process(config) as served, connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}, x_api_key=own))
            got = sock.recv(65536)
            go_on.set()
            answer = read_answer(sock, got)
            assert eventually(lambda: "was closed" in log.read_text())
            assert own not in log.read_text() + served.stderr
    assert own not in answer.body.decode() and "account of [redacted] was closed" in answer.body.decode()
    assert answer.headers["x-debug"] == "[redacted]"


def test_a_file_that_was_missing_and_is_back_is_used_at_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("key-a\n")
    with service("anthropic") as (scripted, up):
        with proxy(behind(up, "anthropic", keys=[f"file:{path}", "key-b"])) as served:
            path.unlink()
            ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            path.write_text("key-a\n")
            assert {ask(served.port, "/v1/messages", ANTHROPIC_ASK).status for _ in range(4)} == {200}
    assert scripted.calls.count("a") >= 1


@pytest.mark.parametrize("padding", [0, 100, 170, 190])
def test_a_key_is_blotted_out_before_a_text_is_cut(padding: int) -> None:
    secret = "key-a-long-secret-0123456789-0123456789-0123456789"
    page = f"<html>{'x' * padding} {secret} is not known".encode()
    with upstream([http(401, page, "text/html")]) as up:
        with proxy(behind(up, "openai-chat", keys=[secret])) as served:
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK).body.decode()
            shown = ask(served.port, "/status", method="GET").body.decode()
    assert secret[:12] not in answer + shown


def test_a_key_of_an_agreed_place(tmp_path: Path) -> None:
    """Without ``keys``: a file of the upstream's name."""
    folder = tmp_path / "ccproxy-lite" / "keys"
    folder.mkdir(parents=True)
    (folder / "up").write_text("key-c\n")
    with service("openai-chat") as (scripted, up):
        config = behind(up, "openai-chat")
        del config["upstreams"]["up"]["keys"]
        with proxy(config, {"XDG_CONFIG_HOME": str(tmp_path)}) as served:
            assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
    assert scripted.calls == ["c"]


def test_the_clients_own_key(tmp_path: Path) -> None:
    with service("anthropic") as (scripted, up):
        with proxy(behind(up, "anthropic", keys="from-client")) as served:
            for headers in ({"authorization": "Bearer key-d"}, {"x_api_key": "key-e"}, {"x_goog_api_key": "key-f"}):
                assert ask(served.port, "/v1/messages", ANTHROPIC_ASK, **headers).status == 200
            assert ask(served.port, "/v1/messages?key=key-g", ANTHROPIC_ASK).status == 200
            status = ask(served.port, "/status", method="GET")
    assert scripted.calls == ["d", "e", "f", "g"]
    assert status.json["upstreams"]["up"]["keys"] == [] and status.json["upstreams"]["up"]["from_client"] is True


def test_a_helpers_output_is_never_shown(tmp_path: Path) -> None:
    secret = "key-a-of-a-helper-0123456789"
    with service("anthropic") as (scripted, up):
        scripted.say("", "", [f'500 "you sent {secret}"'])
        config = {**behind(up, "anthropic", keys=[helper(tmp_path, f"print({secret!r})")]), "retries": 0}
        with proxy(config) as served:
            answer = ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            shown = ask(served.port, "/status", method="GET").body.decode()
    assert secret not in answer.body.decode() and secret not in shown
    assert os.path.exists(tmp_path / "helper.py") and '"...6789"' in shown
