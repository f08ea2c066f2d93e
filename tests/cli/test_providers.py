"""``init --provider``, ``help providers``, and what ``check`` says of clouds: as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy_lite.cli.main import main
from ccproxy_lite.providers import HOSTS
from tests.support import PROGRAM_S, clean_environment

KEY = "a-real-looking-key-0123456789"


def cli(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ccproxy_lite", *words],
        capture_output=True, text=True, env=clean_environment(home, **environ), timeout=PROGRAM_S,
    )  # fmt: skip


@pytest.mark.parametrize("name", [host.name for host in HOSTS])
def test_a_starting_configuration_for_every_service(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = next(one for one in HOSTS if one.name == name)
    path = tmp_path / "c.json"
    environ = {"AWS_REGION": "us-east-1", "GOOGLE_CLOUD_PROJECT": "p-1", **dict.fromkeys(host.variables, KEY)}
    environ |= {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", "GCE_METADATA_HOST": "127.0.0.1:1"}
    for variable in [*os.environ]:
        monkeypatch.delenv(variable)
    for variable, value in {"HOME": str(tmp_path), **environ}.items():
        monkeypatch.setenv(variable, value)
    assert main(["init", "--provider", name, "--config", str(path)]) == 0
    done = capsys.readouterr().out
    assert path.stat().st_mode & 0o777 == 0o600 and KEY not in path.read_text()
    upstreams = json.loads(path.read_text())["upstreams"]
    assert [one["format"] for one in upstreams.values()] == host.starting_formats()
    code, told = main(["check", "--config", str(path)]), capsys.readouterr().err
    if "to do:" in done:
        assert code == 2 and ("replace it" in told or host.header in told)
    else:
        assert code == 0, told


def test_what_is_left_to_do_is_said(tmp_path: Path) -> None:
    done = cli(tmp_path, "init", "--provider", "vertex", "--model", "claude-sonnet-5")
    assert "to do: upstreams.vertex-anthropic.project: a project's id" in done.stdout.splitlines()
    path = tmp_path / ".config" / "ccproxy-lite" / "config.json"
    assert json.loads(path.read_text())["models"] == {"*": "vertex-anthropic/claude-sonnet-5"}
    checked = cli(tmp_path, "check")
    assert checked.returncode == 2 and "upstreams.vertex-anthropic.project: to be set: a project's id" in checked.stderr
    again = cli(tmp_path, "init", "--provider", "openrouter", "--config", str(tmp_path / "o.json"))
    assert "to do: set the environment variable OPENROUTER_API_KEY" in again.stdout


def test_a_service_that_nobody_knows(tmp_path: Path) -> None:
    done = cli(tmp_path, "init", "--provider", "openroutr")
    assert (done.returncode, done.stderr) == (
        2,
        'ccproxy-lite: --provider: no known service "openroutr"; did you mean "openrouter"?\n',
    )
    done = cli(tmp_path, "init", "--provider", "xyzzy")
    assert "see: ccproxy-lite help providers" in done.stderr


@pytest.mark.parametrize("columns", ["60", "120"])
def test_help_has_every_service(columns: str, tmp_path: Path) -> None:
    done = cli(tmp_path, "help", "providers", COLUMNS=columns)
    for host in HOSTS:
        assert f"\n{host.name} " in done.stdout
        for kind in host.urls:
            assert host.shown(kind) in done.stdout, "a URL can be copied"
    assert "cmd:gcloud auth print-access-token" in done.stdout.replace("\n", " ").replace("  ", "") or columns == "60"


def test_check_shows_a_cloud_and_live_what_can_be_known(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    entry = {"format": "anthropic", "provider": "bedrock", "region": "us-east-1"}
    path.write_text(
        json.dumps(
            {
                "upstreams": {
                    "good": {**entry, "keys": ["cmd:echo a-bedrock-key"]},
                    "bad": {**entry, "keys": ["cmd:false"]},
                }
            }
        )
    )
    done = cli(tmp_path, "check", "--config", str(path), "--live")
    lines = done.stdout.splitlines()
    assert "upstream good: anthropic at https://bedrock-runtime.us-east-1.amazonaws.com (bedrock)" in lines
    assert "  region: us-east-1" in lines and "  quirks: bedrock_subset" in lines
    assert "live good with cmd:echo: no model list here, key not verified" in lines
    assert done.returncode == 1 and any(
        line.startswith("live bad with cmd:false: the key cmd:false cannot be read") for line in lines
    )
