"""Real clients, in a namespace with loopback only: the tool is really run, through upstreams of every format.

Needs root, ``unshare`` and the programs: on PATH, or named by ``CCPROXY_TEST_CLAUDE``, ``CCPROXY_TEST_CODEX``,
``CCPROXY_TEST_GEMINI``, ``CCPROXY_TEST_QWEN``, ``CCPROXY_TEST_OPENCODE``, ``CCPROXY_TEST_AIDER``, ``CCPROXY_TEST_LLM``.
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


def inside(client: Client, home: Path, *words: str, timeout_s: float = 58) -> dict[str, Any]:
    """What ``tests.e2e.inside`` reports of these words, in a namespace and a home of their own."""
    prepare(client, home)
    beside, resolved = Path(client.path).parent, Path(client.path).resolve().parent
    environ = {
        "PATH": f"{beside}:{os.environ['PATH']}:{resolved}",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        **client.environ,
    }
    command = ["unshare", "-n", sys.executable, "-m", "tests.e2e.inside", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["code"] == 0, result
    return result


def run(client: Client, form: str, home: Path, *flags: str) -> dict[str, Any]:
    """The client's own report of one prompt, and the paths that the upstream was asked for."""
    return inside(client, home, "loop", form, str(home), client.path, *flags, *client.words, client.prompt)


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
    asked = [re.split("[/:?]", seen)[-1] for seen in result["seen"]]
    assert [one for one in asked if one != "models"] == [ASKED[form], ASKED[form]]  # ``run`` asks for the window
    lines = (home / ".local/state/ccproxy-lite/run.log").read_text().splitlines()
    assert len([line for line in lines if '"status":200' in line and '"GET /v1/models"' not in line]) == 2


@pytest.mark.skipif(not CODEX.path, reason="Codex is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.parametrize("hint", ["", "retry-after=30", "retry-after=15"], ids=["no hint", "long hints", "short hints"])
def test_codex_survives_a_rate_limited_minute(hint: str, home: Path) -> None:
    """It takes a 429 without Retry-After for the end."""
    words = [CODEX.path, *CODEX.words, "say hello"]
    result = inside(CODEX, home, "limited", "openai-chat", str(home), hint, *words, timeout_s=190)
    events = [json.loads(line) for line in result["out"].splitlines() if line.startswith("{")]
    assert [event for event in events if event["type"] == "turn.failed"] == []
    assert [event["item"]["text"] for event in events if event.get("item", {}).get("type") == "agent_message"] == [
        "hello"
    ]
    assert result["told"][-1][0] >= 60 and result["told"][-1][1] == 200
    assert len(result["told"]) <= 12, "the service was left alone as long as it asked"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.parametrize("client", [CLAUDE, CODEX, GEMINI], ids=lambda client: client.program)
def test_keep_alives_before_and_in_a_stream(client: Client, home: Path) -> None:
    """A service that thinks for two seconds, twice."""
    if not client.path:
        pytest.skip(f"{client.program} is not installed")
    result = inside(client, home, "slow", str(home), client.path, *client.words, "say hello")
    assert "hello" in result["out"], result
    assert result["calls"] == 1, "nothing was asked again"


HELLO = ["say hello"]
OTHERS = {
    "qwen": ("--yolo -m qwen3-coder-plus", HELLO, {"QWEN_USAGE_STATISTICS_ENABLED": "false", "QWEN_TELEMETRY_ENABLED": "false"}),
    "opencode": ("run -m anthropic/claude-sonnet-4-5", HELLO, {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}),
    "aider": (
        "--yes-always --no-stream --no-show-model-warnings --no-pretty --no-git --no-detect-urls --no-check-update "
        "--analytics-disable --model anthropic/claude-sonnet-4-5 -m", HELLO, {},
    ),
    "llm": ("-m gpt-4o-mini", HELLO, {}),
}  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
@pytest.mark.parametrize("name", OTHERS)
def test_other_clients_find_the_proxy_by_themselves(name: str, home: Path) -> None:
    """With nothing but ``run``; their users' own settings would lead them elsewhere."""
    words, prompt, environ = OTHERS[name]
    client = Client(name, f"CCPROXY_TEST_{name.upper()}", words.split(), "", {}, environ)
    if not client.path:
        pytest.skip(f"{name} is not installed")
    elsewhere = "OPENAI_BASE_URL=http://127.0.0.1:9/v1\nOPENAI_API_BASE=http://127.0.0.1:9/v1\nANTHROPIC_BASE_URL=http://127.0.0.1:9\n"
    (home / ".env").write_text(elsewhere)
    stored = home / ".config/io.datasette.llm/keys.json"
    stored.parent.mkdir(parents=True)
    stored.write_text('{"openai": "a-stored-key-that-the-proxy-does-not-know"}')
    result = inside(client, home, "loop", "openai-chat", str(home), client.path, *client.words, *prompt)
    assert "hello" in result["out"].lower(), result
    assert result["seen"] and set(result["seen"]) == {"/v1/chat/completions"}


@pytest.mark.skipif(not CLAUDE.path, reason="Claude Code is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
def test_settings_of_the_user_do_not_lead_claude_code_around(home: Path) -> None:
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(
        json.dumps({"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "CLAUDE_CODE_USE_BEDROCK": "1"}})
    )
    check(CLAUDE, "openai-chat", run(CLAUDE, "openai-chat", home), home)


@pytest.mark.skipif(not CLAUDE.path, reason="Claude Code is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace")
def test_an_interactive_claude_code(home: Path) -> None:
    """In a terminal: a question and its answer, one that Ctrl-C interrupts, and Ctrl-C to leave."""
    (home / ".claude.json").write_text(json.dumps({
        "hasCompletedOnboarding": True, "theme": "dark", "bypassPermissionsModeAccepted": True,
        "projects": {str(home / "work"): {"hasTrustDialogAccepted": True}},
    }))  # fmt: skip
    result = inside(CLAUDE, home, "typed", str(home), CLAUDE.path, "--model", "claude-sonnet-4-5")
    assert result["answered"] and result["interrupted"], result["out"][-3000:]
    assert result["code"] == 0
