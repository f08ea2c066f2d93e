"""The examples do what they say: configurations pass ``check``, scripts and images' commands are run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import bundle, interpreters, public_copy, public_python
from tests.support import PROGRAM_S, ROOT, clean_environment

EXAMPLES = ROOT / "examples"
CONFIGS = sorted(path for path in EXAMPLES.rglob("*.json") if "devcontainer" not in path.name)
IS_ALONE = os.geteuid() == 0 and bool(shutil.which("unshare"))


def here(text: str, folder: Path) -> str:
    """An example whose secrets lie in a folder of the test."""
    (folder / "run").mkdir(exist_ok=True)
    for name in re.findall(r"file:/run/([\w./-]+)", text):
        path = folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a-real-looking-key-0123456789\n")
    return text.replace("file:/run/", f"file:{folder}/run/")


def environment(folder: Path, text: str) -> dict[str, str]:
    names = re.findall(r'"\$([A-Z_0-9]+)"', text)
    return clean_environment(folder, **dict.fromkeys(names, "a-real-looking-key-0123456789"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_a_configuration(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "config.json"
    copy.write_text(here(path.read_text(), tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "ccproxy_lite", "check", "--json", "--config", str(copy)],
        capture_output=True, text=True, env=environment(tmp_path, path.read_text()), timeout=PROGRAM_S,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["ok"] is True, told
    assert [note for note in told["notes"] if "no effect" in note] == []


def test_the_usual_set_ups_are_there() -> None:
    assert len(CONFIGS) >= 8
    names = {path.stem for path in CONFIGS}
    assert names >= {"azure", "foundry", "vertex", "bedrock", "databricks", "openrouter", "ollama"}


# ---------------------------------------------------------------- dev containers


def test_the_feature_and_its_use() -> None:
    folder = EXAMPLES / "devcontainer"
    feature = json.loads((folder / "ccproxy-lite" / "devcontainer-feature.json").read_text())
    container = json.loads((folder / "devcontainer.json").read_text())
    assert feature["id"] == "ccproxy-lite" and re.fullmatch(r"\d+\.\d+\.\d+", feature["version"])
    assert {option["type"] for option in feature["options"].values()} <= {"string", "boolean"}
    assert set(container["features"]) == {"./ccproxy-lite"}
    assert "ANTHROPIC_API_KEY" not in container["remoteEnv"], "clients must not meet the real key"
    assert os.access(folder / "ccproxy-lite" / "install.sh", os.X_OK)


def feature(folder: Path) -> Path:
    shutil.copytree(EXAMPLES / "devcontainer" / "ccproxy-lite", folder / "feature")
    shutil.copy(bundle(), folder / "feature" / "ccproxy-lite.pyz")
    return folder / "feature" / "install.sh"


@pytest.mark.skipif(not IS_ALONE, reason="needs root and unshare: a namespace that ends what is started in it")
def test_the_feature_installs_and_starts_without_a_network(tmp_path: Path) -> None:
    script = feature(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"listen": "127.0.0.1:8317", "upstreams": {"echo": {"format": "echo"}}}))
    start = f"ccproxy-lite-start --config {config}"
    steps = f"set -e; ip link set lo up; sh {script}; {start}; {start}; ccproxy-lite status --config {config}; command -v ccproxy-lite"
    environ = {
        "PATH": f"{tmp_path}/scratch/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PREFIX": f"{tmp_path}/scratch",
    }
    environ["TMPDIR"] = str(tmp_path)
    done = subprocess.run(
        ["unshare", "-npf", "--kill-child", "sh", "-c", steps],
        capture_output=True,
        text=True,
        env=environ,
        timeout=PROGRAM_S,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    lines = done.stdout.splitlines()
    assert (
        lines[0].startswith("ccproxy-lite ")
        and lines[1] == "ok"
        and lines[-1] == f"{tmp_path}/scratch/bin/ccproxy-lite"
    )


def test_the_feature_says_what_is_missing(tmp_path: Path) -> None:
    environ = {"PATH": "/nonexistent:/usr/bin:/bin", "PREFIX": f"{tmp_path}/scratch", "PYTHON": ""}
    bare = EXAMPLES / "devcontainer" / "ccproxy-lite" / "install.sh"
    done = subprocess.run(["sh", str(bare)], capture_output=True, text=True, env=environ)
    assert done.returncode == 1 and "ccproxy-lite.pyz is missing: write it with" in done.stderr
    old = interpreters().get("3.9") or interpreters().get("3.8")
    if old is None:
        pytest.skip("no Python that is too old is installed")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname", "cat", "mkdir", "cp", "chmod"):
        (tools / name).symlink_to(shutil.which(name) or name)
    (tools / "python3").symlink_to(old)
    script = feature(tmp_path)
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, env={**environ, "PATH": str(tools)})
    assert done.returncode == 1 and "needs Python 3.10 or newer: add the feature" in done.stderr
    assert not (tmp_path / "scratch").exists()


# ---------------------------------------------------------------- the image


def instructions() -> dict[str, str]:
    """The last of each instruction of the Dockerfile."""
    text = (EXAMPLES / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    return dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_the_image_is_small_and_not_root() -> None:
    found = instructions()
    assert found["FROM"].endswith("-slim") and found["USER"] == "10001:10001" and found["STOPSIGNAL"] == "SIGTERM"
    assert isinstance(json.loads(found["ENTRYPOINT"]), list) and isinstance(json.loads(found["CMD"]), list)
    copied = re.findall(
        r"^COPY (?:--from=\S+ )?(.+) \S+$", (EXAMPLES / "docker" / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = [name for names in copied for name in names.split() if not name.startswith("/")]
    assert all((ROOT / name).exists() for name in sources), sources


@pytest.mark.skipif(not IS_ALONE, reason="needs root and unshare for another user and a read-only file system")
def test_the_image_s_commands_run_read_only_as_its_user(public_path: Path) -> None:
    """No engine is needed: the same commands, with the paths of this machine."""
    found = instructions()
    python = public_python()
    if python is None:
        pytest.skip("no Python here can be used by others than root")
    copy, config = public_copy(bundle(), public_path), public_path / "config.json"
    config.write_text(here((EXAMPLES / "docker" / "config.json").read_text(), public_path))

    def adapted(words: list[str]) -> str:
        names = {
            "python": python,
            "/usr/local/lib/ccproxy-lite.pyz": str(copy),
            "/etc/ccproxy-lite/config.json": str(config),
        }
        return " ".join(names.get(word, word) for word in words)

    health = adapted(json.loads(found["HEALTHCHECK"].split(" CMD ")[1]))
    user = f"setpriv --reuid {found['USER'].split(':')[0]} --regid {found['USER'].split(':')[1]} --clear-groups --no-new-privs"
    script = (
        f"ip link set lo up; mount -o remount,bind,ro /; {user} {adapted(json.loads(found['ENTRYPOINT']) + json.loads(found['CMD']))} & "
        f"for i in $(seq 40); do {user} {health} 2>/dev/null && break; done; {user} {health}; status=$?; kill -TERM $!; wait $! && exit $status"
    )
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["unshare", "-mnpf", "--kill-child", "sh", "-c", script],
        capture_output=True,
        text=True,
        env=environ,
        cwd="/",
        timeout=PROGRAM_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ok" and "listening on http://127.0.0.1:8317" in done.stdout
