"""The real agent CLI as an upstream, asked by the four SDKs, in a namespace with loopback only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.formats import FORMATS
from tests.e2e.agent import SETTINGS
from tests.e2e.test_clis import CLAUDE, home
from tests.support import PROGRAM_S, ROOT

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("agent")]
__all__ = ["home"]


@pytest.mark.skipif(not CLAUDE.path, reason="Claude Code is not installed")
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root for a network namespace")
def test_an_agent_answers_every_client(home: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = ["unshare", "-n", sys.executable, "-m", "tests.e2e.agent", CLAUDE.path]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=PROGRAM_S)
    assert done.returncode == 0, done.stderr
    results: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert list(results) == sorted(FORMATS, key=list(results).index) and len(results) == 4
    for client, got in results.items():
        assert (got["first"].strip(), got["second"].strip()) == ("you said hello there", "you said and again"), client
        assert got["pieces"] > 1, client
        # The service has seen the whole conversation, although only the new turn was told to the CLI.
        assert got["told"] == [["hello there"], ["hello there", "you said hello there", "and again"]], client
        assert got["sessions"][0] == got["sessions"][1], client
        assert (got["begun"].strip(), got["there"], got["gone"]) == ("you", 1, True), client
        assert got["gone_s"] < 1.5, client
        assert got["sent"] == {**SETTINGS, "system": "be nice"}, client
