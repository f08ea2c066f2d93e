"""Claude Code itself, in a namespace with loopback only: the tool is really run, through either upstream format.

Needs root, ``unshare`` and the ``claude`` binary: on PATH, or named by ``CCPROXY_TEST_CLAUDE``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.clients

CLAUDE = os.environ.get("CCPROXY_TEST_CLAUDE") or shutil.which("claude") or ""
PROMPT = 'call Bash {"command": "echo really-run > proof.txt; echo done", "description": "writes a file"}'

INSIDE = """
import json, os, subprocess, sys, tempfile
from tests.support import proxy, behind
from ccproxy_lite import echo
form, home, claude, prompt, *flags = sys.argv[1:]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
seen = []
serve = echo.Echo.serve
async def watched(self, head, body, client):
    seen.append(head.path)
    await serve(self, head, body, client)
echo.Echo.serve = watched
with proxy({"upstreams": {"echo": {"format": "echo"}}}) as inner:
    url = inner.parts.relay._echo_url() + ("/v1" if form == "openai-chat" else "")
    config = os.path.join(home, "proxy.json")
    with open(config, "w") as file:
        json.dump({"upstreams": {"up": {"format": form, "base_url": url, "keys": ["upstream-key"]}}}, file)
    command = [sys.executable, "-m", "ccproxy_lite", "run", "--config", config, "--", claude, *flags, "-p", prompt,
               "--model", "claude-sonnet-4-5", "--output-format", "json", "--dangerously-skip-permissions"]
    done = subprocess.run(command, cwd=os.path.join(home, "work"), capture_output=True, text=True, timeout=45)
print(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr, "seen": seen}))
"""

SWITCHES = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "IS_SANDBOX": "1",
}


@pytest.mark.skipif(not CLAUDE, reason="Claude Code is not installed")
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a network namespace"
)
@pytest.mark.parametrize("flags", [[], ["--bare"]], ids=["plain", "bare"])
@pytest.mark.parametrize("form", ["openai-chat", "anthropic"])
def test_a_tool_loop(form: str, flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **SWITCHES}
    command = ["unshare", "-n", sys.executable, "-c", INSIDE, form, str(tmp_path), CLAUDE, PROMPT, *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=55)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["code"] == 0, result
    assert (tmp_path / "work" / "proof.txt").read_text() == "really-run\n"
    answer = json.loads(result["out"])
    assert answer["is_error"] is False
    assert answer["result"].startswith("The tool said: done")
    assert answer["usage"]["input_tokens"] > 100
    path = "/v1/chat/completions" if form == "openai-chat" else "/v1/messages"
    assert result["seen"] == [path, path]
    log = (tmp_path / ".local/state/ccproxy-lite/run.log").read_text()
    assert log.count('"status":200') == 2
