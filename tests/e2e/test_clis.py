"""Real clients, in a namespace with loopback only: the tool is really run, through upstreams of every format.

Needs root, ``unshare`` and the programs: on PATH, or named by ``CCPROXY_TEST_CLAUDE``, ``CCPROXY_TEST_CODEX`` and
``CCPROXY_TEST_GEMINI``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from tests.support import ROOT

pytestmark = pytest.mark.clients

SHELL = "echo really-run > proof.txt; echo done"

INSIDE = """
import json, os, subprocess, sys
from tests.support import proxy
from ccproxy_lite import echo
form, home, *words = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
seen = []
serve = echo.Echo.serve
async def watched(self, head, body, client):
    seen.append(head.path)
    await serve(self, head, body, client)
echo.Echo.serve = watched
with proxy({"upstreams": {"echo": {"format": "echo"}}}) as inner:
    url = inner.parts.relay._echo_url() + ("/v1" if form.startswith("openai") else "")
    config = os.path.join(home, "proxy.json")
    with open(config, "w") as file:
        json.dump({"upstreams": {"up": {"format": form, "base_url": url, "keys": ["upstream-key"]}}}, file)
    command = [sys.executable, "-m", "ccproxy_lite", "run", "--config", config, "--", *words]
    done = subprocess.run(command, cwd=os.path.join(home, "work"), capture_output=True, text=True, timeout=50,
                          stdin=subprocess.DEVNULL)
print(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr, "seen": seen}))
"""


@dataclass(frozen=True)
class Client:
    """A program, its words on the command line, its switches, and where it says what the model said."""

    program: str
    variable: str
    words: list[str]
    tool: str
    arguments: dict[str, Any]
    environ: dict[str, str]

    @property
    def path(self) -> str:
        return os.environ.get(self.variable) or shutil.which(self.program) or ""

    @property
    def prompt(self) -> str:
        return f"call {self.tool} {json.dumps(self.arguments)}"

    def said(self, out: str) -> str:
        """What the client heard last."""
        if self.program == "claude":
            answer = json.loads(out)
            assert answer["is_error"] is False and answer["usage"]["input_tokens"] > 100
            return str(answer["result"])
        if self.program == "gemini":
            answer = json.loads(out[out.index("{") :])
            return str(answer["response"])
        events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        assert [event for event in events if event["type"] in ("error", "turn.failed")] == []
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        return str([item["text"] for item in items if item["type"] == "agent_message"][-1])


CLAUDE = Client(
    "claude",
    "CCPROXY_TEST_CLAUDE",
    "--model claude-sonnet-4-5 --output-format json --dangerously-skip-permissions -p".split(),
    "Bash",
    {"command": SHELL, "description": "writes a file"},
    {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "IS_SANDBOX": "1",
    },
)
CODEX = Client(
    "codex",
    "CCPROXY_TEST_CODEX",
    "exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox --json -m gpt-5.5".split(),
    "exec_command",
    {"cmd": SHELL},
    {},
)
CODEX_IN_CODE = replace(
    CODEX,
    words=[*CODEX.words[:-1], "gpt-6-sol"],
    tool="functions__exec",
    arguments={"input": f"text((await tools.exec_command({{cmd: {json.dumps(SHELL)}}})).output)"},
)
"""A model for which Codex has free-text tools in a namespace only, which come as an item of the conversation."""
GEMINI = Client(
    "gemini",
    "CCPROXY_TEST_GEMINI",
    "-m gemini-2.5-pro --yolo --skip-trust -o json -p".split(),
    "run_shell_command",
    {"command": SHELL, "description": "writes a file"},
    {"GEMINI_CLI_DISABLE_UPDATE": "1", "NO_BROWSER": "1"},
)


def prepare(client: Client, home: Path) -> None:
    """A fresh home with telemetry and updates off."""
    (home / "work").mkdir()
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text("check_for_update_on_startup = false\n[analytics]\nenabled = false\n")
    (home / ".gemini").mkdir()
    settings = {
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
    }
    (home / ".gemini" / "settings.json").write_text(json.dumps(settings))


@pytest.fixture
def home() -> Iterator[Path]:
    """A fresh home, where nobody else may write: Gemini CLI looks at that."""
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".ccproxy-test-") as folder:
        yield Path(folder)


def run(client: Client, form: str, home: Path, *flags: str) -> dict[str, Any]:
    """The client's own report of one prompt, and the paths that the upstream was asked for."""
    prepare(client, home)
    node = str(Path(client.path).resolve().parent)
    environ = {"PATH": f"{os.environ['PATH']}:{node}", "HOME": str(home), "PYTHONPATH": str(ROOT), **client.environ}
    words = [client.path, *flags, *client.words, client.prompt]
    command = ["unshare", "-n", sys.executable, "-c", INSIDE, form, str(home), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=58)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["code"] == 0, result
    return result


LOOPS = [
    pytest.param(client, form, id=f"{client.program}-{form}") for client in (CLAUDE, CODEX, GEMINI) for form in FORMATS
]


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a network namespace"
)
@pytest.mark.parametrize(("client", "form"), [*LOOPS])
def test_a_tool_loop(client: Client, form: str, home: Path) -> None:
    if not client.path:
        pytest.skip(f"{client.program} is not installed")
    check(client, form, run(client, form, home), home)


@pytest.mark.skipif(not CODEX.path, reason="Codex is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.parametrize("form", FORMATS)
def test_codex_with_free_text_tools_in_a_namespace(form: str, home: Path) -> None:
    check(CODEX_IN_CODE, form, run(CODEX_IN_CODE, form, home), home)


@pytest.mark.skipif(not CLAUDE.path, reason="Claude Code is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.parametrize("form", ["openai-chat", "anthropic"])
def test_claude_code_without_its_usual_tools(form: str, home: Path) -> None:
    check(CLAUDE, form, run(CLAUDE, form, home, "--bare"), home)


ASKED = {
    "anthropic": "messages",
    "openai-responses": "responses",
    "openai-chat": "completions",
    "gemini": "streamGenerateContent",
}


def check(client: Client, form: str, result: dict[str, Any], home: Path) -> None:
    """The tool ran, the client heard its result, and nothing was asked twice."""
    assert (home / "work" / "proof.txt").read_text() == "really-run\n"
    assert "The tool said: " in client.said(result["out"]) and "done" in client.said(result["out"])
    assert [re.split("[/:]", seen)[-1] for seen in result["seen"]] == [ASKED[form], ASKED[form]]
    log = (home / ".local/state/ccproxy-lite/run.log").read_text()
    assert log.count('"status":200') == 2


LIMITED = """
import json, os, subprocess, sys, time
from tests.services import service
form, home, hint, *words = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
began, told = time.monotonic(), []
with service(form) as (scripted, up):
    choose = scripted.choose
    def chosen(seen):
        limited = time.monotonic() - began < 60
        scripted.say("", "", [f"429 {hint}" if limited else "ok"])
        told.append((round(time.monotonic() - began, 1), 429 if limited else 200))
        return choose(seen)
    up.choose = chosen
    url = f"http://127.0.0.1:{up.port}" + ("/v1" if form.startswith("openai") else "")
    config = os.path.join(home, "proxy.json")
    with open(config, "w") as file:
        json.dump({"upstreams": {"up": {"format": form, "base_url": url, "keys": ["upstream-key"]}}}, file)
    command = [sys.executable, "-m", "ccproxy_lite", "run", "--config", config, "--", *words]
    done = subprocess.run(command, cwd=os.path.join(home, "work"), capture_output=True, text=True, timeout=170,
                          stdin=subprocess.DEVNULL)
print(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr, "told": told}))
"""


@pytest.mark.skipif(not CODEX.path, reason="Codex is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.timeout(200)
@pytest.mark.parametrize("hint", ["", "retry-after=30", "retry-after=15"], ids=["no hint", "long hints", "short hints"])
def test_codex_survives_a_rate_limited_minute(hint: str, home: Path) -> None:
    """It takes a 429 without Retry-After for the end."""
    prepare(CODEX, home)
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
    words = [CODEX.path, *CODEX.words, "say hello"]
    command = ["unshare", "-n", sys.executable, "-c", LIMITED, "openai-chat", str(home), hint, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=190)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["code"] == 0, result
    events = [json.loads(line) for line in result["out"].splitlines() if line.startswith("{")]
    assert [event for event in events if event["type"] == "turn.failed"] == []
    assert [event["item"]["text"] for event in events if event.get("item", {}).get("type") == "agent_message"] == [
        "hello"
    ]
    assert result["told"][-1][0] >= 60 and result["told"][-1][1] == 200
    assert len(result["told"]) <= 12, "the service was left alone as long as it asked"


SLOW = """
import json, os, subprocess, sys
from tests.services import service, slowly
home, *words = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with service("openai-chat") as (scripted, up):
    slowly(scripted, up, 2)
    config = os.path.join(home, "proxy.json")
    entry = {"format": "openai-chat", "base_url": f"http://127.0.0.1:{up.port}/v1", "keys": ["upstream-key"]}
    with open(config, "w") as file:
        json.dump({"upstreams": {"up": entry}, "keepalive_s": 0.1}, file)
    command = [sys.executable, "-m", "ccproxy_lite", "run", "--config", config, "--", *words]
    done = subprocess.run(command, cwd=os.path.join(home, "work"), capture_output=True, text=True, timeout=50,
                          stdin=subprocess.DEVNULL)
print(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr, "calls": len(scripted.calls)}))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.parametrize("client", [CLAUDE, CODEX, GEMINI], ids=lambda client: client.program)
def test_keep_alives_before_and_in_a_stream(client: Client, home: Path) -> None:
    """A service that thinks for two seconds, twice."""
    if not client.path:
        pytest.skip(f"{client.program} is not installed")
    prepare(client, home)
    node = str(Path(client.path).resolve().parent)
    environ = {"PATH": f"{os.environ['PATH']}:{node}", "HOME": str(home), "PYTHONPATH": str(ROOT), **client.environ}
    command = ["unshare", "-n", sys.executable, "-c", SLOW, str(home), client.path, *client.words, "say hello"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=58)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["code"] == 0 and "hello" in result["out"], result
    assert result["calls"] == 1, "nothing was asked again"
