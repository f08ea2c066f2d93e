"""Another configuration without a restart: by SIGHUP and by a change of the file; a broken one changes nothing."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from ccproxy_lite.cli import serve
from ccproxy_lite.cli.load import read_text
from ccproxy_lite.config.file import read as read_config
from ccproxy_lite.config.model import Config
from ccproxy_lite.relay.vault import Vault
from tests.services import service
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    ECHO,
    PATIENCE_S,
    WIRES,
    FakeClock,
    Process,
    ask,
    behind,
    clean_environment,
    connect,
    eventually,
    process,
    proxy,
    read_answer,
    request_bytes,
    settings_of,
    upstream,
)


def rewrite(served: Process, config: Any) -> None:
    """Put another configuration into the place of the first, as editors do."""
    text = config if isinstance(config, str) else json.dumps({"listen": "127.0.0.1:0", **config})
    new = served.home / "proxy.json.new"
    new.write_text(text)
    new.replace(served.home / "proxy.json")


def configuration(served: Process) -> Any:
    return ask(served.port, "/status", method="GET").json["configuration"]


def served_by(served: Process) -> str:
    return ask(served.port, "/v1/chat/completions", CHAT_ASK).headers["x-ccproxy-upstream"]


@pytest.mark.parametrize("how", ["SIGHUP", "the file"])
def test_a_new_configuration_takes_over(how: str) -> None:
    two = {"upstreams": {"second": {"format": "echo"}, "third": {"format": "echo"}}}
    with process(ECHO) as served:
        assert served_by(served) == "echo/m"
        rewrite(served, two)
        if how == "SIGHUP":
            served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: served_by(served) == "second/m", PATIENCE_S)
        assert eventually(lambda: "reloaded from" in served.stderr)
        assert served.stop() == 0


def test_sighup_reads_an_unchanged_file_again() -> None:
    """So that a key that was rejected gets another chance."""
    with service("anthropic") as (scripted, up):
        scripted.say("", "", ["401", "ok"])
        with process(behind(up, "anthropic")) as served:
            ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
            assert keys[0]["cooldowns"][0]["reason"] == "invalid_key"
            served.process.send_signal(signal.SIGHUP)
            assert eventually(lambda: "reloaded from" in served.stderr)
            keys = ask(served.port, "/status", method="GET").json["upstreams"]["up"]["keys"]
            assert keys[0]["cooldowns"] == [] and keys[0]["requests"] == 1


BROKEN = {
    "no JSON": '{"upstreams": {',
    "an unknown key": json.dumps({"upstreams": {"echo": {"format": "echo", "base_ur": "x"}}}),
    "a variable that is not set": json.dumps(
        {"upstreams": {"up": {"format": "anthropic", "base_url": "https://x.invalid", "keys": ["$NOT_SET"]}}}
    ),
    "a client key from nowhere": json.dumps({**ECHO, "client_keys": ["cmd:/nonexistent/helper"]}),
    "an empty file": "",
    "a log file of an impossible name": json.dumps({**ECHO, "log": {"file": "/tmp/a\0b"}}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_configuration_changes_nothing(what: str) -> None:
    with process(ECHO) as served:
        rewrite(served, BROKEN[what])
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "reload failed" in served.stderr, PATIENCE_S)
        assert served_by(served) == "echo/m"
        shown = configuration(served)
        assert shown["failed_at"] and shown["problems"]
        if what == "an unknown key":
            assert shown["problems"][0].endswith('unknown key (did you mean "base_url"?)')
            assert "proxy.json:1:" in shown["problems"][0]
        rewrite(served, {"upstreams": {"mended": {"format": "echo"}}})
        assert eventually(lambda: served_by(served) == "mended/m", PATIENCE_S)
        assert configuration(served)["problems"] == []
        assert "Traceback" not in served.stderr


def test_a_rejected_file_does_not_move_the_log(tmp_path: Path) -> None:
    with process(ECHO) as served:
        log = {"file": str(tmp_path / "log")}
        rewrite(served, {**ECHO, "client_keys": ["cmd:/nonexistent/helper"], "log": log})
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "reload failed" in served.stderr, PATIENCE_S)
        rewrite(served, {**ECHO, "log": log})
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "reloaded from" in (tmp_path / "log").read_text(), PATIENCE_S)


def test_the_state_of_a_proxy_whose_file_is_broken(tmp_path: Path) -> None:
    """Which is when one wants to see it."""
    with process({**ECHO, "client_keys": ["$CCPROXY_CLIENT_KEY"]}, CCPROXY_CLIENT_KEY="the-client-key") as served:
        rewrite(served, f'{{"listen": "127.0.0.1:{served.port}", "upstreams": oh no')
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "reload failed" in served.stderr, PATIENCE_S)
        shown = subprocess.run(
            [sys.executable, "-m", "ccproxy_lite", "status", "--config", str(served.home / "proxy.json")],
            capture_output=True,
            text=True,
            env=clean_environment(tmp_path, CCPROXY_CLIENT_KEY="the-client-key"),
        )
    assert shown.returncode == 0, shown.stderr
    assert "reload failed at 20" in shown.stdout and "proxy.json:1:" in shown.stdout


def test_a_client_key_in_a_file_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccproxy_lite.server.lifecycle._RENEW_S", 0.05)
    path, clock = tmp_path / "key", FakeClock()
    path.write_text("the-first-key\n")
    asked = ("/v1/chat/completions", CHAT_ASK)
    with proxy({**ECHO, "client_keys": [f"file:{path}"]}, clock=clock) as served:
        assert ask(served.port, *asked, x_api_key="the-first-key").status == 200
        path.write_text("the-second-key\n")
        assert ask(served.port, *asked, x_api_key="the-second-key").status == 401
        clock.time += 300
        assert eventually(lambda: ask(served.port, *asked, x_api_key="the-second-key").status == 200)
        assert ask(served.port, *asked, x_api_key="the-first-key").status == 401
        path.unlink()
        clock.time += 300
        time.sleep(0.2)
        assert ask(served.port, *asked, x_api_key="the-second-key").status == 200


def test_a_file_that_is_gone_changes_nothing() -> None:
    with process(ECHO) as served:
        (served.home / "proxy.json").unlink()
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "reload failed" in served.stderr, PATIENCE_S)
        assert served_by(served) == "echo/m"


def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes swaps its mounted files."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"listen": "127.0.0.1:0", "upstreams": {name: {"format": "echo"}}})
        )
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "one.json")
    with process(ECHO, "--config", str(link)) as served:
        assert served_by(served) == "one/m"
        other = tmp_path / "link.new"
        other.symlink_to(tmp_path / "two.json")
        os.replace(other, link)
        assert eventually(lambda: served_by(served) == "two/m", PATIENCE_S)


def test_a_change_before_the_first_look_is_seen(tmp_path: Path) -> None:
    """Between the reading and the watching there is time, on a busy machine a lot of it."""
    path, texts = tmp_path / "proxy.json", [json.dumps({"listen": "127.0.0.1:0", **ECHO}), json.dumps(ECHO)]
    path.write_text(texts[0])
    read_again = anyio.Event()

    class Changing(serve.Source):
        def read(self) -> tuple[Config, str]:
            text = path.read_text()
            path.write_text(texts[1])
            if text == texts[1]:
                anyio.from_thread.run_sync(read_again.set)
            return read_config(text, str(path), {}, read_text), str(path)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve._serve_until_stopped, Changing(argparse.Namespace(config=str(path)), Vault(), []))
            with anyio.fail_after(PATIENCE_S):
                await read_again.wait()
            tasks.cancel_scope.cancel()

    anyio.run(main)


def test_a_reload_never_opens_a_listener_to_everybody() -> None:
    """The address stays, so the keys must."""
    with process({**ECHO, "listen": "0.0.0.0:0", "client_keys": ["the-client-key"]}) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 401
        rewrite(served, ECHO)
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "reload failed" in served.stderr, PATIENCE_S)
        assert "client_keys is required" in served.stderr
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 401
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK, x_api_key="the-client-key").status == 200


def test_a_usual_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """Without it a machine would serve something else, and to everybody."""
    folder = tmp_path / "ccproxy-lite"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**ECHO, "listen": "0.0.0.0:0", "client_keys": ["the-client-key"]}))
    with process(ECHO, XDG_CONFIG_HOME=str(tmp_path), usual=True) as served:
        (folder / "config.json").unlink()
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "reload failed" in served.stderr, PATIENCE_S)
        assert "config.json was deleted" in served.stderr
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 401


def test_keys_that_change_while_a_body_comes() -> None:
    with proxy({**ECHO, "client_keys": ["the-first-key"]}) as served, connect(served.port) as sock:
        whole = request_bytes("/v1/chat/completions", CHAT_ASK, x_api_key="the-first-key")
        sock.sendall(whole[:-5])
        assert eventually(lambda: served.call(lambda: any(c.state == "body" for c in served.connections())))
        served.run(served.parts.use, settings_of({**ECHO, "client_keys": ["the-second-key"]}))
        sock.sendall(whole[-5:])
        assert read_answer(sock).status == 401


def test_what_needs_a_restart_says_so() -> None:
    with process(ECHO) as served:
        rewrite(served, {"upstreams": {"other": {"format": "echo"}}, "listen": "127.0.0.1:1"})
        served.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "needs a restart" in served.stderr, PATIENCE_S)
        assert eventually(lambda: served_by(served) == "other/m")


def test_client_keys_change_at_once() -> None:
    with process({**ECHO, "client_keys": ["the-first-key"]}) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK, x_api_key="the-first-key").status == 200
        rewrite(served, {**ECHO, "client_keys": ["the-second-key"]})
        served.process.send_signal(signal.SIGHUP)
        asked = ("/v1/chat/completions", CHAT_ASK)
        assert eventually(lambda: ask(served.port, *asked, x_api_key="the-second-key").status == 200)
        assert ask(served.port, *asked, x_api_key="the-first-key").status == 401


def test_a_running_stream_goes_on_and_a_kept_connection_sees_the_new_configuration() -> None:
    go_on = threading.Event()
    wire = WIRES["openai-chat"]
    steps: list[Any] = [*wire.begun, lambda _: go_on.wait(PATIENCE_S), *wire.stream[2:]]
    with upstream(steps) as up, proxy(behind(up, "openai-chat")) as served, connect(served.port) as sock:
        sock.sendall(request_bytes(*wire.asked(True)))
        got = sock.recv(65536)
        served.run(served.parts.use, settings_of({"upstreams": {"echo": {"format": "echo"}}}))
        go_on.set()
        answer = read_answer(sock, got)
        assert b"[DONE]" in answer.body and answer.headers["x-ccproxy-upstream"] == "up/m"
        sock.sendall(request_bytes(*wire.asked(False)))
        assert read_answer(sock).headers["x-ccproxy-upstream"] == "echo/m"


def test_limits_change_for_new_requests() -> None:
    with proxy(ECHO) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
        served.run(served.parts.use, settings_of({**ECHO, "limits": {"max_body_bytes": 10}}))
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 413
        assert served.parts.listener.draining is False
        assert ask(served.port, "/healthz", method="GET").status == 200


def test_many_reloads_leave_nothing_behind() -> None:
    with process(ECHO) as served:
        ask(served.port, "/v1/chat/completions", CHAT_ASK)
        before = served.files()
        for number in range(20):
            rewrite(served, {"upstreams": {f"e{number}": {"format": "echo"}}})
            served.process.send_signal(signal.SIGHUP)
            assert eventually(lambda n=number: served_by(served) == f"e{n}/m")  # type: ignore[misc]
        assert served.files() <= before + 1
