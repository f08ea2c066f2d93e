"""The commands around the proxy: first steps, health, shells, and what happens when something is wrong with the machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.cli.arguments import COMMANDS
from ccproxy_lite.server.clients import CLIENTS, environment
from tests.bundles import bundle, public_copy, public_python
from tests.cli.test_cli import cli, config_file
from tests.ports import listening
from tests.support import ANTHROPIC_ASK, ECHO, PROGRAM_S, ask, clean_environment, eventually, process
from tests.terminals import terminal

KEY = "a-real-looking-key-0123456789"


# ---------------------------------------------------------------- first steps


def test_the_first_run_says_what_to_paste(tmp_path: Path) -> None:
    with process({}, "--listen", "127.0.0.1:0", usual=True, ANTHROPIC_API_KEY=KEY) as served:
        assert served.process.stdout is not None
        lines = [served.process.stdout.readline() for _ in range(6)]
        assert lines[0] == "upstreams: anthropic (anthropic) (config: the environment)\n"
        exports = "".join(lines)
        url = f"http://127.0.0.1:{served.port}"
        assert f"export ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN=none-needed" in exports
        assert f"export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=none-needed" in exports
        assert (
            f"GOOGLE_GEMINI_BASE_URL={url}" in exports
            and f"ccproxy-lite env claude --listen 127.0.0.1:{served.port}" in exports
        )
        assert KEY not in exports
        served.stop()
    with process(ECHO) as served:
        assert served.process.stdout is not None
        served.stop()
        assert "export" not in served.process.stdout.read(), "who has a configuration knows"


def test_init_writes_references_that_only_the_owner_can_read(tmp_path: Path) -> None:
    keys = {"ANTHROPIC_API_KEY": KEY, "GEMINI_API_KEY": KEY, "OPENAI_API_KEY": "changeme"}
    os.umask(0o000)
    try:
        done = cli("init", home=tmp_path, **keys)
    finally:
        os.umask(0o022)
    path = tmp_path / ".config/ccproxy-lite/config.json"
    assert done.returncode == 0 and f"wrote {path}: anthropic, gemini" in done.stdout
    assert "OPENAI_API_KEY contains a placeholder" in done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_text()
    assert KEY not in text
    assert json.loads(text)["upstreams"]["gemini"] == {"format": "gemini", "keys": ["$GEMINI_API_KEY"]}
    assert cli("check", home=tmp_path, **keys).returncode == 0
    again = cli("init", home=tmp_path, **keys)
    assert (again.returncode, "already exists; not overwritten" in again.stderr) == (1, True)
    assert path.read_text() == text


def test_init_elsewhere_and_for_one_model(tmp_path: Path) -> None:
    path = tmp_path / "proxy.json"
    done = cli("init", "--config", str(path), "--model", "openai-chat/gpt-5.4", home=tmp_path, OPENAI_API_KEY=KEY)
    assert done.returncode == 0
    assert json.loads(path.read_text())["models"] == {"*": ["openai-chat/gpt-5.4"]}
    assert cli("check", "--config", str(path), home=tmp_path, OPENAI_API_KEY=KEY).returncode == 0
    target = tmp_path / "target"
    (tmp_path / "link").symlink_to(target)
    assert cli("init", "--config", str(tmp_path / "link"), home=tmp_path, OPENAI_API_KEY=KEY).returncode == 1
    assert not target.exists(), "a link is not followed"


def test_init_without_keys_or_a_home(tmp_path: Path) -> None:
    done = cli("init", home=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Set one of ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, GOOGLE_API_KEY and try again" in done.stderr
    done = cli("init", home=tmp_path, OPENAI_API_KEY=KEY, HOME="")
    assert (done.returncode, done.stderr) == (1, "ccproxy-lite: HOME is unset: use --config FILE\n")


def test_health(tmp_path: Path) -> None:
    with process({**ECHO, "client_keys": ["the-client-key"]}) as served:
        listen = f"127.0.0.1:{served.port}"
        assert cli("health", "--listen", listen, home=tmp_path).stdout == "ok\n"
    done = cli("health", "--listen", listen, home=tmp_path)
    assert (done.returncode, "no proxy is running at" in done.stderr) == (1, True)
    path = config_file(tmp_path, {**ECHO, "listen": f"unix:{tmp_path}/sock"})
    with subprocess.Popen(
        [sys.executable, "-m", "ccproxy_lite", "--config", path], env=clean_environment(tmp_path),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as child:  # fmt: skip
        try:
            assert child.stdout is not None and child.stdout.readline()
            assert cli("health", "--config", path, home=tmp_path).stdout == "ok\n"
        finally:
            child.kill()
    with listening() as other:  # somebody else
        port = other.getsockname()[1]
        with subprocess.Popen([sys.executable, "-c", _OTHER, str(other.fileno())], pass_fds=[other.fileno()]) as child:
            done = cli("health", "--listen", f"127.0.0.1:{port}", home=tmp_path)
            child.kill()
    assert done.returncode == 1 and "not ccproxy-lite" in done.stderr


_OTHER = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as listener:
    sock, _ = listener.accept()
    sock.recv(1000)
    sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
"""


# ---------------------------------------------------------------- shells


def test_env_is_understood_by_shells(tmp_path: Path) -> None:
    awkward = "it's-a-key-with-a-quote"
    path = config_file(tmp_path, {**ECHO, "listen": "127.0.0.1:4321", "client_keys": [awkward]})
    for shell, program in (("sh", "sh"), ("sh", "bash"), ("sh", "zsh"), ("fish", "fish")):
        if shutil.which(program) is None:
            continue
        lines = cli("env", "--shell", shell, "--config", path, home=tmp_path, OPENAI_ORG_ID="org").stdout
        script = f'{lines}\nprintf "%s " "$ANTHROPIC_BASE_URL" "$OPENAI_API_KEY" "$OPENAI_ORG_ID"'
        done = subprocess.run(
            [program, "-c", script],
            capture_output=True,
            text=True,
            env=clean_environment(tmp_path, OPENAI_ORG_ID="org"),
        )
        assert done.stdout.split() == ["http://127.0.0.1:4321", awkward], (program, done.stderr)
    powershell = cli("env", "openai", "--shell", "powershell", "--config", path, home=tmp_path).stdout
    assert "$env:OPENAI_API_KEY = 'it''s-a-key-with-a-quote'" in powershell


def test_env_names_a_key_that_is_in_the_environment(tmp_path: Path) -> None:
    path = config_file(tmp_path, {**ECHO, "client_keys": ["$MINE"]})
    done = cli("env", "claude", "--config", path, home=tmp_path, MINE=KEY)
    assert done.stdout.splitlines() == [
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:8317",
        'export ANTHROPIC_AUTH_TOKEN="$MINE"',
        "export CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY=1",
    ]
    assert (
        "$env:ANTHROPIC_AUTH_TOKEN = $env:MINE"
        in cli("env", "--shell", "powershell", "-c", path, home=tmp_path, MINE=KEY).stdout
    )
    told = json.loads(
        cli("env", "claude", "--json", "--config", path, home=tmp_path, MINE=KEY, ANTHROPIC_API_KEY="x").stdout
    )
    assert told == {
        "set": {
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:8317", "ANTHROPIC_AUTH_TOKEN": KEY,
            "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        },
        "unset": ["ANTHROPIC_API_KEY"], "flags": {}, "hints": [],
    }  # fmt: skip


def test_env_leads_codex_by_a_function(tmp_path: Path) -> None:
    fake = tmp_path / "codex"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    for program, shell in (("sh", "sh"), ("bash", "sh"), ("fish", "fish")):
        if shutil.which(program) is None:
            continue
        lines = cli("env", "codex", "--shell", shell, home=tmp_path).stdout
        environ = clean_environment(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
        done = subprocess.run(
            [program, "-c", f"{lines}\ncodex exec 'two words'"], capture_output=True, text=True, env=environ
        )
        assert done.stdout.splitlines()[-2:] == ["exec", "two words"], done.stderr
        assert 'model_providers.ccproxy.base_url="http://127.0.0.1:8317/v1"' in done.stdout


def test_env_of_what_has_no_url(tmp_path: Path) -> None:
    for listen, message in (("unix:/x", "cannot use a unix socket as base URL"), ("127.0.0.1:0", "listen port is 0")):
        done = cli("env", "--listen", listen, home=tmp_path)
        assert (done.returncode, message in done.stderr) == (1, True)


def complete_in_bash(line: str, folder: Path) -> list[str]:
    words = line.split(" ")
    script = (
        f'source "{folder}/bash"; COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; '
        '_ccproxy_lite; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=folder)
    assert done.stderr == ""
    return done.stdout.split()


def complete_in_fish(line: str, folder: Path) -> list[str]:
    script = f"source {folder}/fish; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "-c", script], capture_output=True, text=True, cwd=folder, env={**os.environ, "HOME": str(folder)}
    )
    assert done.stderr == ""
    return [row.split("\t")[0] for row in done.stdout.splitlines()]


def complete_in_zsh(line: str, folder: Path) -> list[str]:
    """zsh completes for a terminal only: it gets one, and a line whose end is Tab."""
    (folder / ".zshrc").write_text(
        f"autoload -Uz compinit; compinit -u -D; PS1='> '; setopt LIST_AMBIGUOUS AUTO_LIST; source {folder}/zsh\n"
    )
    with terminal(
        ["zsh", "-i"], {**os.environ, "ZDOTDIR": str(folder), "HOME": str(folder), "TERM": "dumb"}, folder
    ) as shell:
        shell.until("> ")
        shell.send(line + "\t\t")
        return shell.until_quiet().replace("\r", " ").split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / shell).write_text(cli("completion", shell, home=tmp_path).stdout)
    (tmp_path / "some-config.json").touch()
    complete = {"bash": complete_in_bash, "zsh": complete_in_zsh, "fish": complete_in_fish}[shell]
    for line, wanted in (
        ("ccproxy-lite ", set(COMMANDS)),
        ("ccproxy-lite con", {"convert"}),
        ("ccproxy-lite check --", {"--config", "--json", "--live"}),
        ("ccproxy-lite check --config some", {"some-config.json"}),
        ("ccproxy-lite serve --log-level ", {"debug", "info", "warning", "error"}),
        ("ccproxy-lite convert --from ", {"anthropic", "gemini", "openai-chat", "openai-responses"}),
        ("ccproxy-lite env ", set(CLIENTS)),
        ("ccproxy-lite run -- hostna", {"hostname"}),
        ("ccproxy-lite completion ", {"bash", "zsh", "fish"}),
    ):
        found = complete(line, tmp_path)
        if shell == "zsh" and len(wanted) == 1:
            assert wanted.pop() in "".join(found), (line, found)
        else:
            assert wanted <= set(found), (line, found)


# ---------------------------------------------------------------- a machine that is in the way


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&- <&-", "> /dev/full", "2> /dev/full"])
@pytest.mark.parametrize(
    "words", ["check", "demo", "--version", "models", "nope", "serve --listen nope", "completion bash"]
)
def test_closed_and_full_streams(words: str, closed: str, tmp_path: Path) -> None:
    script = f"{sys.executable} -m ccproxy_lite {words} {closed}"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env=clean_environment(tmp_path), timeout=PROGRAM_S
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    assert done.returncode in (0, 1, 2)
    assert closed != "> /dev/full" or done.returncode in (1, 2), "what could not be written is no success"


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to be somebody who may not read"
)
def test_no_permission(tmp_path: Path, public_path: Path) -> None:
    python = public_python()
    if python is None:
        pytest.skip("no Python here can be used by others than root")
    program = public_copy(bundle(), public_path)
    path = config_file(tmp_path, ECHO)
    os.chown(path, 0, 0)
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/root", "OPENAI_API_KEY": KEY}
    for words, message in (
        (["check", "--config", path], f"{path}: Permission denied"),
        (["init", "--config", "/etc/ccproxy.json"], "ccproxy-lite: /etc/ccproxy.json: Permission denied"),
        (["init"], "ccproxy-lite: /root/.config/ccproxy-lite: Permission denied"),
        (
            ["--log-file", "/etc/log", "--listen", "127.0.0.1:0"],
            "the log file /etc/log cannot be written: Permission denied",
        ),
        (["bundle", "-o", "/etc/x.pyz"], "ccproxy-lite: /etc/x.pyz cannot be written: Permission denied"),
        (["--listen", "unix:/etc/sock"], "ccproxy-lite: cannot listen on /etc/sock: Permission denied"),
    ):
        command = ["setpriv", "--reuid", "65534", "--clear-groups", python, str(program), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd="/")
        assert (done.returncode in (1, 2), done.stderr) == (True, message + "\n")


def test_check_as_json(tmp_path: Path) -> None:
    path = config_file(
        tmp_path, {"upstreams": {"up": {"format": "openai-chat", "keys": [KEY]}}, "models": {"a": "up/b"}}
    )
    told = json.loads(cli("check", "--json", "--config", path, home=tmp_path).stdout)
    assert told["ok"] is True and told["models"] == {"a": ["up/b"]} and told["source"] == path
    assert told["upstreams"][0]["keys"] == ["...6789"] and KEY not in json.dumps(told)
    done = cli("check", "--json", "--config", config_file(tmp_path, {"upstreams": {}}), home=tmp_path)
    assert done.returncode == 2 and json.loads(done.stdout) == {
        "ok": False, "problems": [f"{path}:1:15: upstreams: at least one upstream is required"]
    }  # fmt: skip


def test_check_shows_the_proxy_in_between(tmp_path: Path) -> None:
    done = cli("check", home=tmp_path, OPENAI_API_KEY=KEY, HTTPS_PROXY="http://me:my-password@proxy.corp:3128")
    assert "proxy: http://***@proxy.corp:3128 (from HTTPS_PROXY)" in done.stdout and "my-password" not in done.stdout
    done = cli("check", home=tmp_path, OPENAI_API_KEY=KEY, ALL_PROXY="socks5://proxy.corp:1080")
    assert done.returncode == 2 and "ALL_PROXY: socks5:// proxies are not supported; http://host:port is" in done.stderr


# ---------------------------------------------------------------- logs


def test_a_log_file_survives_its_rotation(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with process(ECHO, "--log-file", str(log), "--log-format", "text") as served:
        ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        assert eventually(lambda: log.exists() and log.read_text().count("200 POST") == 1)
        log.rename(tmp_path / "log.1")
        ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        assert eventually(lambda: log.exists() and log.read_text().count("200 POST") == 1)
    assert (tmp_path / "log.1").read_text().count("200 POST") == 1


@pytest.mark.parametrize(("option", "lines"), [("-q", 0), ("", 1), ("-v", 4)])
def test_quiet_and_verbose(option: str, lines: int) -> None:
    with process(ECHO, "--log-format", "text", *filter(None, [option])) as served:
        ask(served.port, "/v1/messages", ANTHROPIC_ASK)
        ask(served.port, "/healthz", method="GET")
        served.stop()
        said = [line for line in served.stderr.splitlines() if "draining" not in line]
    assert len(said) == lines, said
    assert any("attempt: echo/m" in line for line in said) is (option == "-v")
    assert any("GET /healthz" in line for line in said) is (option == "-v")


# ---------------------------------------------------------------- a terminal


_INTERACTIVE = """
import os, signal, sys, tty
counts = []
def stop(*_):
    counts.append(1)
    os.write(1, b"heard")
signal.signal(signal.SIGINT, stop)
print("terminal", os.isatty(0), os.isatty(1), flush=True)
line = sys.stdin.readline().strip()
print("interrupted", len(counts), "read", line, flush=True)
tty.setraw(0)
print("ready", flush=True)
print("raw", ord(sys.stdin.buffer.raw.read(1)), flush=True)
sys.exit(9)
"""


def test_run_hands_the_terminal_through(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ccproxy_lite", "run", "--", sys.executable, "-c", _INTERACTIVE]
    with terminal(words, clean_environment(tmp_path), tmp_path) as shown:
        shown.until("terminal True True")
        shown.send("\x03")  # the terminal makes a signal of it, for both
        shown.until("heard")
        shown.send("hello\n")
        shown.until("interrupted 1 read hello")
        shown.until("ready")
        shown.send("\x03")  # a program that reads keys gets it as one
        shown.until("raw 3")
        assert shown.status() == 9
    log = tmp_path / ".local/state/ccproxy-lite/run.log"
    assert log.exists()


def test_serve_on_a_terminal_is_coloured_unless_asked_not_to(tmp_path: Path) -> None:
    path = config_file(tmp_path, {**ECHO, "listen": "127.0.0.1:0", "workers": 2})
    words = [sys.executable, "-m", "ccproxy_lite", "--config", path]
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with terminal(words, {"TERM": "xterm", **clean_environment(tmp_path, **more)}, tmp_path) as shown:
            said = shown.until("has no effect in this version")
            assert ("\x1b[33mwarning\x1b[0m" in said) is coloured and "{" not in said
            shown.send("\x03")
            assert shown.status() == 130


# ---------------------------------------------------------------- broken configurations

UP = '"upstreams": {"up": {"format": "openai-chat", "base_url": "http://127.0.0.1:1/v1"}}'
BROKEN: list[tuple[str, str]] = [
    ('{\n  "upstreams": {,}\n}', "2:17: JSON has no trailing commas"),
    (f'{{\n  {UP},\n}}', "2:86: JSON has no trailing commas"),
    (f'{{{UP},\n "lisen": "127.0.0.1:1"}}', '2:2: lisen: unknown key (did you mean "listen"?)'),
    ('{"upstreams": {"q": {"format": "openai-chat",\n "base_ur": "http://127.0.0.1:1", "keys": ["k-0123456789"]}}}',
     '2:2: upstreams.q.base_ur: unknown key (did you mean "base_url"?)'),
    ('{"upstreams": {"q": {\n  "format": "openai"}}}', '2:13: upstreams.q.format: must be one of anthropic, '),
    ('{"upstreams": {"q": {"format": "anthropic", "keys": [\n"$NOT_THERE"]}}}',
     "2:1: upstreams.q.keys[0]: environment variable NOT_THERE is unset"),
    ('{"upstreams": {"q": {"format": "anthropic", "keys": ["changeme"]}}}', "1:54: upstreams.q.keys[0]: the key contains a placeholder"),
    ('{"upstreams": {"q": {"format": "anthropic", "keys": [ "file:/nonexistent"]}}}',
     "1:55: upstreams.q.keys[0]: /nonexistent cannot be read: No such file or directory"),
    ('{"upstreams": {"q": {"format": "openai-chat", "keys": ["k-0123456789"], "base_url": "http://llm.corp/v1"}}}',
     '1:85: upstreams.q.base_url: keys and conversations would be sent unencrypted; use https://, or set "allow_http": true'),
    ('{"upstreams": {"q": {"format": "anthropic"}}}',
     "1:21: upstreams.q: no API key: set ANTHROPIC_API_KEY"),
    (f'{{{UP}, "models": {{"m": "op/x"}}}}', '1:103: models.m: unknown upstream "op"; known: up'),
    (f'{{{UP}, "models": {{"m": "x"}}}}', '1:103: models.m: expected "upstream/model"'),
    (f'{{{UP}, "listen": "0.0.0.0:80"}}', "1:97: listen: client_keys is required when listening on a non-loopback address"),
    (f'{{{UP}, "listen": "8317"}}', "1:97: listen: must be host:port, [::1]:port or unix:/path"),
    (f'{{{UP}, "retries": "two"}}', "1:98: retries: expected an integer"),
    (f'{{{UP}, "retries": 1, "retries": 2}}', "1:101: retries: duplicate key \"retries\""),
    (f'{{{UP}, "log": {{"level": "loud"}}}}', "1:104: log.level: must be one of debug, info, warning, error"),
    ('{"upstreams": {"q": {"format": "anthropic", "keys": ["k-0123456789"], "proxy": "socks5://p:1"}}}',
     "1:80: upstreams.q.proxy: socks5:// proxies are not supported; http://host:port is"),
    ('{"upstreams": {"q": {"format": "anthropic", "keys": ["k-0123456789"], "ca_file": "/nonexistent.pem"}}}',
     "1:82: upstreams.q.ca_file: /nonexistent.pem cannot be read: No such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BROKEN, ids=[told.partition(": ")[2][:40] for _, told in BROKEN])
def test_a_broken_configuration_is_one_line_with_its_place_and_a_remedy(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "proxy.json"
    path.write_text(text)
    done = cli("check", "--config", str(path), home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path}:{told}"), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_thousand_of_the_same_mistake_are_a_thousand_lines(tmp_path: Path) -> None:
    models: dict[str, Any] = {f"m{n}": "nowhere/x" for n in range(1000)}
    done = cli("check", "--config", config_file(tmp_path, {**ECHO, "models": models}), home=tmp_path)
    assert done.stderr.count('unknown upstream "nowhere"') == 1000


# ---------------------------------------------------------------- what a review found


def test_run_hands_open_files_and_ignored_signals_on(tmp_path: Path) -> None:
    program = f"{sys.executable} -m ccproxy_lite run --"
    environ = clean_environment(tmp_path)
    script = f"{program} cat <(echo hello)"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environ, timeout=PROGRAM_S)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    script = f"trap '' HUP INT; {program} grep SigIgn /proc/self/status"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environ, timeout=PROGRAM_S)
    ignored = int(done.stdout.split()[1], 16)
    assert ignored & 1 << signal.SIGHUP - 1 and ignored & 1 << signal.SIGINT - 1, "as nohup wants it"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": ".corp"}, ".corp,127.0.0.1,localhost"),
        ({"no_proxy": ".low", "NO_PROXY": ".up"}, ".low,127.0.0.1,localhost"),
        ({"NO_PROXY": "*"}, "*"),
    ],
)
def test_run_keeps_what_goes_around_the_company_s_proxy(given: dict[str, str], expected: str) -> None:
    child = environment(given, "sh", "http://127.0.0.1:1", "key")
    assert child["NO_PROXY"] == child["no_proxy"] == expected


def test_the_value_of_an_option_is_no_command_and_an_empty_one_is_a_mistake(tmp_path: Path) -> None:
    done = cli("--config", "serve", "check", home=tmp_path)
    assert (done.returncode, "serve: No such file" in done.stderr) == (2, True)
    for option in ("--config", "--listen", "--log-file"):
        done = cli("serve", option, "", home=tmp_path)
        assert (done.returncode, "value is empty" in done.stderr) == (2, True)
    assert "usage: ccproxy-lite check" in cli("help", "check", home=tmp_path).stdout
    assert "commands:" in cli("help", home=tmp_path).stdout
    for listen in ("a\nb:80", "a b:80"):
        assert cli("health", "--listen", listen, home=tmp_path).returncode == 2


def test_health_of_somebody_who_drips(tmp_path: Path) -> None:
    with listening() as other:
        words = [sys.executable, "-c", _DRIPS, str(other.fileno())]
        with subprocess.Popen(words, pass_fds=[other.fileno()]) as child:
            try:
                began = time.monotonic()
                done = cli("health", "--listen", f"127.0.0.1:{other.getsockname()[1]}", home=tmp_path)
            finally:
                child.kill()
    assert done.returncode == 1 and time.monotonic() - began < 12
    assert "\x1b" not in done.stderr


_DRIPS = """
import socket, sys, time
with socket.socket(fileno=int(sys.argv[1])) as listener:
    sock, _ = listener.accept()
    sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1000\\r\\n\\r\\n")
    while True:
        sock.sendall(b"x")
        time.sleep(0.5)
"""


def test_env_uses_a_variable_before_it_unsets_it(tmp_path: Path) -> None:
    path = config_file(tmp_path, {**ECHO, "client_keys": ["$ANTHROPIC_API_KEY"]})
    lines = cli("env", "claude", "--config", path, home=tmp_path, ANTHROPIC_API_KEY=KEY).stdout
    script = f'{lines}\nprintf "%s|%s" "$ANTHROPIC_AUTH_TOKEN" "$ANTHROPIC_API_KEY"'
    environ = clean_environment(tmp_path, ANTHROPIC_API_KEY=KEY)
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environ).stdout == f"{KEY}|"
    done = cli("env", "--config", config_file(tmp_path, {**ECHO, "client_keys": ["$NOT_THERE"]}), home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and "NOT_THERE is unset" in done.stderr


def test_bundle_runs_nothing_of_the_working_directory_and_replaces_files_only(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("open('ran', 'w'); raise SystemExit(1)")
    os.mkfifo(tmp_path / "fifo")
    for output, message in (("fifo", "not a regular file"), (".", "not a regular file"), ("x.pyz", "")):
        command = [
            sys.executable,
            "-P" if sys.version_info >= (3, 11) else "-s",
            "-m",
            "ccproxy_lite",
            "bundle",
            "-o",
            output,
        ]
        if sys.version_info < (3, 11) or not output.endswith("z"):
            command[1:4] = [
                "-c",
                "import sys; sys.path.pop(0); from ccproxy_lite.cli.main import main; sys.exit(main())",
            ]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=clean_environment(tmp_path), timeout=PROGRAM_S
        )
        assert message in done.stderr and "Traceback" not in done.stderr
        assert done.returncode == (1 if message else 0), done.stderr
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode) and not (tmp_path / "ran").exists()


def test_init_where_the_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("init", "--config", str(tmp_path / "file" / "c.json"), home=tmp_path, OPENAI_API_KEY=KEY)
    assert (done.returncode, done.stderr) == (
        1,
        f"ccproxy-lite: {tmp_path}/file is not a directory: use --config FILE\n",
    )


def test_env_twice_in_one_shell(tmp_path: Path) -> None:
    """The first run unsets and sets variables that the configuration may name."""
    upstreams = {
        "a": {"format": "anthropic", "keys": ["$ANTHROPIC_API_KEY"]},
        "o": {"format": "openai-chat", "keys": ["$OPENAI_API_KEY"]},
        "g": {"format": "gemini", "keys": ["$GOOGLE_API_KEY"]},
    }
    keys = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY, "GOOGLE_API_KEY": KEY}
    for client_key in ("literal-client-key-1", "$ANTHROPIC_API_KEY"):
        path = config_file(tmp_path, {"upstreams": upstreams, "client_keys": [client_key]})
        command = f"{sys.executable} -m ccproxy_lite env {{}} --config {path}"
        for clients in (("claude", "claude"), ("", "claude"), ("codex", "gemini", "claude")):
            runs = "\n".join(f'eval "$({command.format(client)})" || exit 9' for client in clients)
            script = f'set -e\n{runs}\nprintf "%s|%s" "$ANTHROPIC_AUTH_TOKEN" "$ANTHROPIC_API_KEY"'
            environ = clean_environment(tmp_path, **keys)
            done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environ)
            expected = KEY if client_key.startswith("$") else client_key
            hint = 'ccproxy-lite: gemini also needs a settings file; "ccproxy-lite run -- gemini" provides one\n'
            assert (done.stdout, done.stderr) == (f"{expected}|", hint if "gemini" in clients else ""), clients
    path = config_file(tmp_path, {"upstreams": upstreams, "client_keys": ["$ANTHROPIC_API_KEY"]})
    done = cli("env", "claude", "--config", path, home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and "ANTHROPIC_API_KEY is unset" in done.stderr
    # The key is found where it is now, and a key of the user's own is never taken for it.
    command = f"{sys.executable} -m ccproxy_lite env {{}} --config {path}"
    script = f'eval "$({command.format("claude")})"\neval "$({command.format("codex")})"\nprintf "%s" "$OPENAI_API_KEY"'
    environ = clean_environment(tmp_path, **{**keys, "OPENAI_API_KEY": "the-users-own-key-123456789"})
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environ).stdout == KEY
    script = f'eval "$({command.format("claude")})"\n{command.format("claude")} --json'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environ).stdout
    assert json.loads(shown)["set"]["ANTHROPIC_AUTH_TOKEN"] == KEY


@pytest.mark.parametrize("what", ["--response", "--stream"])
def test_convert_names_what_an_answer_loses(what: str, tmp_path: Path) -> None:
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "hologram"}],
        "stop_reason": "end_turn",
    }
    events = [
        {"type": "message_start", "message": {**message, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "hologram"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    given = json.dumps(message) if what == "--response" else "".join(f"data: {json.dumps(one)}\n\n" for one in events)
    done = cli("convert", "--from", "anthropic", "--to", "openai-chat", what, stdin=given.encode(), home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "dropped: answer.hologram\n")


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("routes", "POST /v1/messages"),
        ("losses", "to anthropic:"),
        ("quirks", "reasoning_content"),
        ("exit-codes", "130 interrupted"),
    ],
)
def test_a_topic_is_explained(topic: str, words: str, tmp_path: Path) -> None:
    done = cli("help", topic, home=tmp_path)
    assert (done.returncode, done.stderr, words in done.stdout) == (0, "", True)
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_help_of_a_command_and_of_nothing(tmp_path: Path) -> None:
    assert cli("help", "run", home=tmp_path).stdout == cli("run", "--help", home=tmp_path).stdout
    assert cli("help", home=tmp_path).stdout == cli("--help", home=tmp_path).stdout
    done = cli("help", "rotues", home=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        'ccproxy-lite: unknown command or topic "rotues" (did you mean "routes"?)',
    )
    assert "topics: routes, losses, quirks, providers, exit-codes" in cli("help", "xyzzy", home=tmp_path).stderr


def test_check_tells_of_mounts_captures_and_programs(tmp_path: Path) -> None:
    config = {
        "upstreams": {"agent": {"format": "claude-cli", "command": ["no-such-program", "-x"]}},
        "mounts": {"/api/": {"to": "https://ampcode.com", "keys": ["$NOT_SET_ANYWHERE"]}},
        "capture": {"dir": "/somewhere"},
    }
    file = tmp_path / "c.json"
    file.write_text(json.dumps(config))
    done = cli("check", "--config", str(file), home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "upstream agent: claude-cli at no-such-program -x",
        "  keys: its own login",
        "mount /api/ -> https://ampcode.com (key $NOT_SET_ANYWHERE)",
        "captures: /somewhere",
        "note: mounts./api/.keys: none is set ($NOT_SET_ANYWHERE); requests will get 503",
        "note: upstreams.agent.command: no-such-program is not installed (not found on PATH)",
        "note: upstreams.agent.models: without it clients are told of no model here; a local program has no list",
    ):
        assert line in done.stdout.splitlines(), done.stdout
    listed = cli("models", "--config", str(file), home=tmp_path)
    assert (listed.returncode, listed.stderr.startswith("no model is known: no upstream lists any")) == (1, True)
    live = cli("check", "--live", "--config", str(file), home=tmp_path)
    assert (live.returncode, "live agent: no-such-program is not installed" in live.stdout) == (1, True)


@pytest.mark.parametrize(
    ("path", "noted"),
    [
        ("/status", True),
        ("/v1/messages", True),
        ("/api/provider/x", True),
        ("/api/", False),
        ("/v1/", False),
        ("/", False),
        ("/docs", False),
    ],
)
def test_check_tells_of_a_mount_that_is_never_reached(path: str, noted: bool, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({**ECHO, "mounts": {path: {"to": "https://ampcode.com"}}, "capture": {"max_files": 1}}))
    done = cli("check", "--config", str(file), home=tmp_path)
    assert (f"note: mounts.{path}: is never reached; the proxy's own endpoint comes first" in done.stdout) is noted
    assert "note: capture: has no effect without dir" in done.stdout
