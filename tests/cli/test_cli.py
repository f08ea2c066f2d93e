"""The command line: every command, exit codes, signals, and no traceback for anything that a user can do wrong."""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.cli import convert
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.formats.neutral.events import End, fold
from ccproxy_lite.formats.sse import Parser
from ccproxy_lite.server import clients
from tests.ports import listening
from tests.support import (
    ANTHROPIC_ASK,
    CHAT_ASK,
    CHAT_BODY,
    ECHO,
    PATIENCE_S,
    PROGRAM_S,
    ROOT,
    STALL,
    STREAM_HEAD,
    WIRES,
    ask,
    behind,
    chat_delta,
    clean_environment,
    connect,
    eventually,
    http,
    process,
    read_answer,
    request_bytes,
    upstream,
)


def cli(*words: str, home: Path, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ccproxy_lite", *words],
        input=stdin, capture_output=True, env=clean_environment(home, **environ), timeout=PROGRAM_S, cwd=home,
    )  # fmt: skip
    result = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in result.stderr, result.stderr
    return result


def config_file(folder: Path, config: dict[str, Any]) -> str:
    path = folder / "proxy.json"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return str(path)


# ---------------------------------------------------------------- usage


def test_version_and_help(tmp_path: Path) -> None:
    from ccproxy_lite import __version__
    from ccproxy_lite.cli.arguments import COMMANDS

    assert cli("--version", home=tmp_path).stdout == f"ccproxy-lite {__version__}\n"
    text = cli("--help", home=tmp_path).stdout
    for command in COMMANDS:
        assert f"\n  {command} " in text
        own = cli(command, "--help", home=tmp_path).stdout
        assert f"example:\n  ccproxy-lite {command}" in own


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lisen", "x"], 'did you mean "--listen"?'),
        (["serv"], 'unknown command "serv" (did you mean "serve"?)'),
        (["frobnicate"], 'unknown command "frobnicate"'),
        (["--port", "80"], 'unknown option --port for serve (did you mean "--listen"?)'),
        (["check", "--port", "80"], "unknown option --port for check\n"),
        (["check", "--life"], 'unknown option --life for check (did you mean "--live"?)'),
        (["check", "extra"], 'unexpected argument "extra"'),
        (["--lis", "127.0.0.1:0"], 'unknown option --lis for serve (did you mean "--listen"?)'),
        (["env", "cloude"], "invalid choice: 'cloude'"),
        (["completion"], "required: shell"),
        (["--log-level", "loud"], "invalid choice: 'loud'"),
        (["convert", "--from", "anthropic"], "required: --to"),
        (
            ["convert", "--from", "anthropic", "--to", "nope"],
            'unknown format "nope"; known: anthropic, openai-responses, openai-chat, gemini',
        ),
        (["run"], "no command given"),
        (["--listen", "nope"], "--listen nope: must be host:port"),
        (["--listen", "0.0.0.0:0"], "client_keys is required"),
        (["--config", "/nonexistent.json"], "/nonexistent.json: No such file or directory"),
        (["run", "--model", "x/", "--config", "/nonexistent.json", "--", "true"], "No such file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(words: list[str], message: str, tmp_path: Path) -> None:
    done = cli(*words, home=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") <= 2


def test_a_broken_configuration_names_every_place(tmp_path: Path) -> None:
    path = config_file(tmp_path, {"upstreams": {"a": {"format": "nope"}}, "lisen": 1})
    for command in ("serve", "check", "models", "run"):
        words = [command, "--config", path, *(["--", "true"] if command == "run" else [])]
        done = cli(*words, home=tmp_path)
        assert done.returncode == 2
        assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["upstreams.a.format", "lisen"]


# ---------------------------------------------------------------- serve


def test_serve_says_where_and_what_is_behind(tmp_path: Path) -> None:
    with process(ECHO) as served:
        assert served.process.stdout is not None
        assert served.process.stdout.readline().startswith("upstreams: the built-in echo")
        assert ask(served.port, "/healthz", method="GET").status == 200
        assert served.stop(signal.SIGTERM) == 0
        said = served.stderr.splitlines()
        assert [line for line in said if "draining" not in line] == []  # the connection may not be gone yet


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_right_after_the_first_line(number: int, code: int) -> None:
    for _ in range(3):
        with process(ECHO) as served:
            assert served.stop(number) == code
            assert served.stderr == ""


def test_port_in_use(tmp_path: Path) -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
        done = cli("--listen", f"127.0.0.1:{port}", home=tmp_path)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_draining_finishes_a_stream(tmp_path: Path) -> None:
    import threading

    go_on = threading.Event()
    script: list[Any] = [
        STREAM_HEAD,
        chat_delta(role="assistant", content="hel"),
        lambda _: go_on.wait(10),
        b"0\r\n\r\n",
    ]
    from tests.support import CHAT_END

    script[3:3] = [CHAT_END]
    with upstream(script) as up, process(behind(up, "openai-chat")) as served, connect(served.port) as sock:
        sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
        got = b""
        while b"hel" not in got:
            got += sock.recv(65536)
        served.process.send_signal(signal.SIGTERM)
        with pytest.raises(OSError):  # nothing new is accepted
            for _ in range(100):
                connect(served.port).close()
                time.sleep(0.01)
        stopped = time.monotonic()
        go_on.set()
        assert b"message_stop" in read_answer(sock, got).body
        assert served.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - stopped < 5
        assert "Traceback" not in served.stderr


@pytest.mark.parametrize("committed", [True, False])
def test_what_outlasts_the_draining_is_cut_in_its_own_format(committed: bool) -> None:
    script: list[Any] = [STREAM_HEAD, chat_delta(role="assistant", content="hel"), STALL] if committed else [STALL]
    with upstream(script) as up, process({**behind(up, "openai-chat"), "timeouts": {"drain_s": 0.3}}) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", {**ANTHROPIC_ASK, "stream": True}))
            got = b""
            if committed:
                while b"hel" not in got:
                    got += sock.recv(65536)
            else:
                while not up.seen:
                    time.sleep(0.01)
            served.process.send_signal(signal.SIGTERM)
            answer = read_answer(sock, got)
            assert served.process.wait(PATIENCE_S) == 0
            assert "Traceback" not in served.stderr
    assert b"the proxy is shutting down" in answer.body
    assert answer.status == (200 if committed else 529)
    assert (b"event: error" in answer.body) is committed


def test_a_second_signal_stops_at_once() -> None:
    with upstream([STREAM_HEAD, chat_delta(role="assistant", content="hel"), STALL]) as up:
        with process(behind(up, "openai-chat")) as served, connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/chat/completions", {"model": "m", "messages": [], "stream": True}))
            assert sock.recv(1)
            served.process.send_signal(signal.SIGINT)
            while "shutting down" not in served.stderr:
                time.sleep(0.01)
            started = time.monotonic()
            assert served.stop(signal.SIGINT) == 130
            assert time.monotonic() - started < 2
            assert "Traceback" not in served.stderr


def test_as_process_1() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare to be process 1 somewhere")
    command = ["unshare", "-pf", "--mount-proc", sys.executable, "-m", "ccproxy_lite", "--listen", "127.0.0.1:0"]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(ROOT)
    )
    try:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline().startswith("listening on")
        inner = subprocess.run(
            ["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(inner[0]), signal.SIGTERM)
        assert child.wait(PATIENCE_S) == 0
        assert child.stderr.read() == ""
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with process({**ECHO, "listen": "[::1]:0"}) as served, socket.create_connection(("::1", served.port), 5) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: [::1]\r\n\r\n")
        assert read_answer(sock, method="GET").status == 200


def test_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with process({**ECHO, "listen": f"unix:{path}"}) as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n")
            assert read_answer(sock, method="GET").status == 200
        second = cli("--listen", f"unix:{path}", home=tmp_path)
        assert (second.returncode, "address already in use" in second.stderr) == (1, True)
        assert path.exists(), "a second server must not remove the first one's socket"
        assert served.stop() == 0
        assert not path.exists()


def test_a_unix_socket_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    done = cli("--listen", f"unix:{path}", home=tmp_path)
    assert (done.returncode, "is not a socket" in done.stderr) == (1, True)
    assert path.read_text() == "data"


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    with process({**ECHO, "listen": f"unix:{path}"}) as served:
        assert served.stop() == 0


def test_a_log_that_cannot_be_written_disturbs_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with process({**ECHO, "log": {"file": str(folder / "log")}}) as served:
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
        assert eventually(lambda: (folder / "log").read_text().count("\n") == 1)
        shutil.rmtree(folder)
        for _ in range(3):
            assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
        folder.mkdir()
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
        assert eventually((folder / "log").exists)
    with process({**ECHO, "log": {"file": "/dev/full"}}) as served:
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).status == 200
    done = cli("--config", config_file(tmp_path, {**ECHO, "log": {"file": "/nonexistent/log"}}), home=tmp_path)
    assert (done.returncode, "the log file /nonexistent/log cannot be written" in done.stderr) == (2, True)


def test_a_reader_that_stops_reading_is_no_traceback(tmp_path: Path) -> None:
    for words in (["demo"], ["--help"], ["check"]):
        script = f"{sys.executable} -m ccproxy_lite {' '.join(words)} | head -c 1"
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, env=clean_environment(tmp_path), timeout=PROGRAM_S
        )
        assert "Traceback" not in done.stderr


def test_a_minimal_environment(tmp_path: Path) -> None:
    """No HOME, no TMPDIR, no locale, isolated mode."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    for flags in ([], ["-O"], ["-X", "dev"]):
        done = subprocess.run(
            [sys.executable, *flags, "-m", "ccproxy_lite", "check"],
            capture_output=True,
            text=True,
            env=environ,
            cwd="/",
            timeout=PROGRAM_S,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "no configuration file and no API key" in done.stdout


# ---------------------------------------------------------------- check, models, convert, demo


def test_check_shows_what_it_comes_to_and_no_secret(tmp_path: Path) -> None:
    config = {
        "client_keys": ["client-key-0123456789-abcd"],
        "upstreams": {"claude": {"format": "anthropic", "keys": ["literal-key-0123456789-wxyz", "$NAMED"]}},
        "models": {"claude-*": ["claude/*"]},
        "workers": 2,
    }
    path = config_file(tmp_path, config)
    done = cli("check", "--config", path, home=tmp_path, NAMED="named-key-0123456789")
    assert done.returncode == 0
    assert "keys: ...wxyz, $NAMED (from the file)" in done.stdout
    assert "model claude-* -> claude/*" in done.stdout
    assert "note: workers: has no effect in this version" in done.stdout
    assert "0123456789" not in done.stdout + done.stderr
    os.chmod(path, 0o644)
    assert (
        "is readable by other users; run: chmod 600"
        in cli("check", "--config", path, home=tmp_path, NAMED="named-key-0123456789").stdout
    )


def test_options_may_stand_before_the_command(tmp_path: Path) -> None:
    path = config_file(tmp_path, ECHO)
    assert cli("--config", path, "check", home=tmp_path).stdout == cli("check", "--config", path, home=tmp_path).stdout


def test_check_says_where_it_looked(tmp_path: Path) -> None:
    done = cli("check", home=tmp_path, OPENAI_API_KEY="changeme")
    assert f"{tmp_path}/.config/ccproxy-lite/config.json" in done.stdout and "$OPENAI_API_KEY" in done.stdout
    assert "note: environment variable OPENAI_API_KEY contains a placeholder" in done.stdout


def test_run_cannot_know_the_keys_of_its_client(tmp_path: Path) -> None:
    path = config_file(tmp_path, {"upstreams": {"up": {"format": "anthropic", "keys": "from-client"}}})
    done = cli("run", "--config", path, "--", "true", home=tmp_path)
    assert (done.returncode, "cannot be used with" in done.stderr) == (2, True)


def test_a_broken_trust_store_is_told_at_the_start(tmp_path: Path) -> None:
    done = cli(home=tmp_path, SSL_CERT_FILE="/nonexistent.pem", OPENAI_API_KEY="a-good-key-0123")
    assert (done.returncode, "SSL_CERT_FILE: /nonexistent.pem" in done.stderr) == (2, True)


def test_check_live_asks_nobody_for_whom_it_has_no_key(tmp_path: Path) -> None:
    with upstream([http(401, {})]) as up:
        path = tmp_path / "proxy.json"
        path.write_text(json.dumps(behind(up, "openai-chat", keys="from-client")))
        done = cli("check", "--live", "--config", str(path), home=tmp_path)
    assert done.returncode == 0 and "live up: not contacted" in done.stdout
    assert up.seen == []


def test_check_live(tmp_path: Path) -> None:
    listing = {"data": [{"id": "one"}, {"id": "two"}]}
    with upstream([http(200, listing)], [http(401, {"error": {"message": "bad key second-key-value"}})]) as up:
        path = config_file(
            tmp_path, behind(up, "openai-chat", keys=["first-key-value", {"key": "second-key-value", "label": "b"}])
        )
        done = cli("check", "--live", "--config", path, home=tmp_path)
    assert done.returncode == 1
    assert "live up with ***: 2 models" in done.stdout
    assert "live up with b: up returned 401" in done.stdout


def test_check_live_looks_for_the_models_of_the_rules(tmp_path: Path) -> None:
    names = {"data": [{"id": "big-model"}, {"id": "other:latest"}]}
    models = {
        "a": ["up/big-modl", "up/other(high)"],
        "b*": "up/*",
        "c": {"to": "up/big-model", "when": {"has": "image"}},
    }
    with upstream(choose=lambda seen: [http(200, names)]) as up:
        path = config_file(tmp_path, {**behind(up, "openai-chat"), "models": models})
        done = cli("check", "--live", "--config", path, home=tmp_path)
    assert done.returncode == 0 and done.stdout.count("does not list") == 1
    assert '  does not list "big-modl"; did you mean big-model?' in done.stdout


def test_check_live_asks_the_embedded_service(tmp_path: Path) -> None:
    done = cli("check", "--live", "--config", config_file(tmp_path, ECHO), home=tmp_path)
    assert done.returncode == 0 and "live echo with no key: 2 models" in done.stdout, done.stdout


def test_models(tmp_path: Path) -> None:
    path = config_file(tmp_path, {**ECHO, "models": {"fast": "echo/echo", "claude-*": "echo/echo-thinking"}})
    done = cli("models", "--config", path, home=tmp_path)
    assert done.stdout.splitlines() == [
        "fast -> echo/echo", "echo -> echo/echo", "echo-thinking -> echo/echo-thinking", "claude-* -> echo/echo-thinking"
    ]  # fmt: skip
    assert json.loads(cli("models", "--json", "--config", path, home=tmp_path).stdout)[0] == {
        "model": "fast",
        "targets": ["echo/echo"],
    }


def test_convert(tmp_path: Path) -> None:
    def convert(*words: str, stdin: Any) -> subprocess.CompletedProcess[str]:
        raw = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
        return cli("convert", *words, home=tmp_path, stdin=raw)

    there = ["--from", "anthropic", "--to", "openai-chat"]
    done = convert(*there, stdin={**ANTHROPIC_ASK, "top_k": 5})
    assert json.loads(done.stdout)["messages"] == [{"role": "user", "content": "hi"}]
    assert done.stderr == "dropped: top_k\n"
    strict = convert(*there, "--strict", stdin={**ANTHROPIC_ASK, "top_k": 5})
    assert (strict.returncode, strict.stdout) == (1, "")
    assert "top_k is not supported" in strict.stderr
    named = convert(
        "--from",
        "openai-chat",
        "--to",
        "gemini",
        "--model",
        "gemini-2.5-pro",
        stdin={**CHAT_ASK, "reasoning_effort": "low"},
    )
    assert json.loads(named.stdout)["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 1024
    quirky = convert(*there, "--quirk", "top_k", stdin={**ANTHROPIC_ASK, "top_k": 5})
    assert (json.loads(quirky.stdout)["top_k"], quirky.stderr) == (5, "")
    back = ["--from", "openai-chat", "--to", "anthropic"]
    assert json.loads(convert(*back, "--response", stdin=CHAT_BODY).stdout)["content"] == [
        {"type": "text", "text": "hello"}
    ]
    stream = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    assert "event: message_stop" in convert(*back, "--stream", stdin=stream).stdout
    same = convert("--from", "gemini", "--to", "gemini", stdin={})
    assert (same.returncode, same.stderr) == (2, "ccproxy-lite: --from and --to are both gemini: nothing to convert\n")
    for wrong in (b"", b"{", b"[]", b"\xff", b'{"model": 5}'):
        done = convert(*there, stdin=wrong)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert convert(*back, "--response", stdin={}).returncode == 1
    assert convert(*back, "--stream", stdin=b"data: {nope\n\n").returncode == 1


@pytest.mark.parametrize("what", ["request", "response", "stream"])
@pytest.mark.parametrize(("source", "target"), [(a, b) for a in FORMATS for b in FORMATS if a != b])
def test_convert_between_all_formats(
    source: str, target: str, what: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Requests, whole answers and streams, from standard input to standard output."""
    wire = WIRES[source]
    asked = {**wire.ask, "model": "m"}
    raw = {"request": json.dumps(asked), "response": json.dumps(wire.body)}
    given = (
        raw[what].encode()
        if what in raw
        else unchunked(b"".join(step for step in wire.stream[1:] if isinstance(step, bytes)))
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert (
        convert.main(argparse.Namespace(source=source, target=target, what=what, strict=False, model="", quirk=[])) == 0
    )
    sys.stdout.flush()
    out = capfdbinary.readouterr().out
    form = FORMATS[target]
    if what == "request":
        path = PathInfo(model="m")
        assert [part.text for turn in form.read_request(json.loads(out), path).messages for part in turn.parts] == [
            "hi"
        ]
        return
    if what == "response":
        events = form.read_body(json.loads(out), "s")
    else:
        reader = form.reader("s")
        events = [event for part in Parser().feed(out) for event in reader.feed(part)] + reader.close()
    parts, end = fold(events)
    assert ["".join(part.text for part in parts), type(end)] == ["hello", End]


def unchunked(raw: bytes) -> bytes:
    out = b""
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        out, raw = out + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return out


def test_demo(tmp_path: Path) -> None:
    done = cli("demo", home=tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("ok / ok") == 16
    assert "16 of 16 pairs" in done.stdout


# ---------------------------------------------------------------- run

SHOW = "import json,os;print(json.dumps(dict(os.environ)))"
ASK = (
    "import json,os,sys,urllib.request as u;"
    "b=os.environ['ANTHROPIC_BASE_URL'];k=os.environ['ANTHROPIC_AUTH_TOKEN'];"
    "h={'content-type':'application/json','authorization':'Bearer '+(k if len(sys.argv)<2 else 'wrong')};"
    "q=json.dumps({'model':'claude-x','max_tokens':9,'messages':[{'role':'user','content':'hi'}]}).encode();"
    "r=u.urlopen(u.Request(b+'/v1/messages',q,h));print(r.headers['x-ccproxy-upstream'])"
)


def test_run_gives_the_command_a_proxy_of_its_own(tmp_path: Path) -> None:
    done = cli("run", "--", sys.executable, "-c", ASK, home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "echo/claude-x\n")
    log = (tmp_path / ".local/state/ccproxy-lite/run.log").read_text()
    assert '"upstream":"echo/claude-x"' in log


def test_run_needs_its_key(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ccproxy_lite", "run", "--", sys.executable, "-c", ASK, "wrong"],
        capture_output=True, text=True, env=clean_environment(tmp_path), timeout=PROGRAM_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert "401" in done.stderr


def test_run_maps_every_model(tmp_path: Path) -> None:
    done = cli("run", "--model", "echo/echo-thinking", "--", sys.executable, "-c", ASK, home=tmp_path)
    assert done.stdout == "echo/echo-thinking\n"


def test_run_sets_and_clears_the_environment(tmp_path: Path) -> None:
    done = cli(
        "run", "--", sys.executable, "-c", SHOW, home=tmp_path,
        ANTHROPIC_API_KEY="real-key-of-the-user", ANTHROPIC_CUSTOM_HEADERS="x", CLAUDE_CODE_USE_BEDROCK="1", NO_PROXY="a.b", KEPT="yes",
    )  # fmt: skip
    child = json.loads(done.stdout)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_USE_BEDROCK"):
        assert name not in child
    assert child["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert child["OPENAI_BASE_URL"] == child["ANTHROPIC_BASE_URL"] + "/v1"
    assert child["OPENAI_API_KEY"] == child["ANTHROPIC_AUTH_TOKEN"] == child["GEMINI_API_KEY"]
    assert child["NO_PROXY"] == "a.b,127.0.0.1,localhost"
    assert child["KEPT"] == "yes"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("raise SystemExit(7)", 7), ("import os;os.kill(os.getpid(), 9)", 137), ("pass", 0)],
)
def test_run_keeps_the_exit_status(code: str, expected: int, tmp_path: Path) -> None:
    assert cli("run", "--", sys.executable, "-c", code, home=tmp_path).returncode == expected


def test_run_of_what_does_not_exist(tmp_path: Path) -> None:
    done = cli("run", "--", "no-such-command", home=tmp_path)
    assert (done.returncode, done.stderr) == (127, "ccproxy-lite: no-such-command: command not found\n")
    script = tmp_path / "broken"
    script.write_bytes(b"\x7fnot a program")
    assert cli("run", "--", str(script), home=tmp_path).returncode == 126
    script.chmod(0o755)
    assert "cannot be started" in cli("run", "--", str(script), home=tmp_path).stderr


def test_run_passes_signals_on(tmp_path: Path) -> None:
    code = "import signal,sys,time\ndef stop(*_): print('stopped'); sys.exit(5)\nsignal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\ntime.sleep(30)"
    child = subprocess.Popen(
        [sys.executable, "-m", "ccproxy_lite", "run", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE, text=True, env=clean_environment(tmp_path),
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(PATIENCE_S) == 5
        assert child.stdout.read() == "stopped\n"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_run_tells_gemini_by_a_settings_file_of_its_own(tmp_path: Path) -> None:
    show = "h = pathlib.Path(environ['GEMINI_CLI_HOME']); print((h / '.gemini/settings.json').read_text())"
    show += "; print(sorted(os.listdir(h / '.gemini')), h)"
    program = fake(tmp_path, "gemini", show)
    settings, names, folder = parts(cli("run", "--", program, home=tmp_path, OPENAI_API_KEY="a-good-key-0123"))
    assert json.loads(settings)["security"]["auth"]["selectedType"] == "gemini-api-key"
    assert names == "['settings.json']" and not Path(folder).exists(), "nothing is left behind"
    own = tmp_path / ".gemini"
    own.mkdir()
    (own / "settings.json").write_text(
        '{"ui": {"theme": "mine"}, "security": {"auth": {"selectedType": "x", "kept": 1}}}'
    )
    (own / "trustedFolders.json").write_text("{}")
    settings, names, _ = parts(cli("run", "--", program, home=tmp_path))
    told = {"ui": {"theme": "mine"}, "security": {"auth": {"selectedType": "gemini-api-key", "kept": 1}}}
    assert (json.loads(settings), names) == (told, "['settings.json', 'trustedFolders.json']")


def parts(done: subprocess.CompletedProcess[str]) -> tuple[str, str, str]:
    settings, rest = done.stdout.rstrip().split("\n")
    names, _, folder = rest.rpartition(" ")
    return settings, names, folder


def test_what_clients_of_ours_are_given_is_never_a_key_of_a_service(tmp_path: Path) -> None:
    inner = f"{sys.executable} -m ccproxy_lite check"
    done = cli("run", "--", "sh", "-c", inner, home=tmp_path)
    assert (
        "no configuration file and no API key" in done.stdout and "OPENAI_API_KEY contains a placeholder" in done.stdout
    )
    assert "contains a placeholder" in cli("check", home=tmp_path, ANTHROPIC_API_KEY="none-needed").stdout


def fake(folder: Path, name: str, script: str) -> str:
    """A program of that name."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport json, os, pathlib\nenviron = dict(os.environ)\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_run_tells_qwen_and_aider_by_files_and_opencode_by_a_variable(tmp_path: Path) -> None:
    show = (
        "import sys; v = sys.argv[1]; print(pathlib.Path(environ[v]).read_text() if 'CONTENT' not in v else environ[v])"
    )
    qwen = cli("run", "--", fake(tmp_path, "qwen", show), "QWEN_CODE_SYSTEM_SETTINGS_PATH", home=tmp_path)
    assert json.loads(qwen.stdout) == {"security": {"auth": {"selectedType": "openai"}}, "modelProviders": None}
    aider = cli("run", "--", fake(tmp_path, "aider", show), "AIDER_ENV_FILE", home=tmp_path).stdout
    assert "\nANTHROPIC_API_BASE=http://127.0.0.1:" in aider and "\nOPENROUTER_API_KEY=\n" in aider
    theirs = json.dumps({"model": "mine", "provider": {"openai": {"options": {"fetch": "x", "timeout": 5}}}})
    opencode = fake(tmp_path, "opencode", show)
    merged = json.loads(
        cli("run", "--", opencode, "OPENCODE_CONFIG_CONTENT", home=tmp_path, OPENCODE_CONFIG_CONTENT=theirs).stdout
    )
    assert merged["model"] == "mine" and merged["provider"]["openai"]["options"]["timeout"] == 5
    assert merged["provider"]["openai"]["options"]["fetch"] is None
    assert merged["provider"]["google"]["options"]["baseURL"].endswith("/v1beta")


def test_run_hides_what_llm_has_stored(tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "io.datasette.llm"
    folder.mkdir(parents=True)
    program = fake(
        tmp_path,
        "llm",
        "print(sorted(os.listdir(environ['LLM_USER_PATH'])) if 'LLM_USER_PATH' in environ else 'theirs')",
    )
    shutil.rmtree(folder)
    assert cli("run", "--", program, home=tmp_path).stdout == "theirs\n"
    folder.mkdir()
    for name in ("keys.json", "logs.db", "aliases.json"):
        (folder / name).write_text("{}")
    assert cli("run", "--", program, home=tmp_path).stdout == "['aliases.json', 'logs.db']\n"
    assert (folder / "keys.json").exists()


def test_run_without_any_place_to_write(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare for a file system that is read-only")
    script = f"mount -o remount,bind,ro / && ! touch /x 2>/dev/null && exec {sys.executable} -m ccproxy_lite run -- {sys.executable} -c 'print(5)'"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "TMPDIR": "/nowhere"}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env=environ, cwd="/", timeout=PROGRAM_S
    )
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


def test_convert_of_a_broken_stream_fails(tmp_path: Path) -> None:
    broken = 'data: {"choices": [{"index": 0, "delta": {"content": "hel"}}]}\n\n'
    done = cli(
        "convert", "--from", "openai-chat", "--to", "anthropic", "--stream", home=tmp_path, stdin=broken.encode()
    )
    assert done.returncode == 1 and "ended early" in done.stdout


def test_run_tells_codex_by_flags() -> None:
    words = clients.with_flags(["/usr/bin/codex", "exec", "hi"], "http://127.0.0.1:1")
    assert words[0] == "/usr/bin/codex" and words[-2:] == ["exec", "hi"]
    assert 'model_providers.ccproxy.base_url="http://127.0.0.1:1/v1"' in words
    assert clients.with_flags(["claude", "-p"], "http://x") == ["claude", "-p"]
