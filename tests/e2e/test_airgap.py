"""A machine without any network: a wheelhouse is installed, or one file is copied, and an SDK finds the proxy.

Needs root, ``unshare``, and, to fill the wheelhouse, a package index once; as the README says it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import bundle, interpreters
from tests.support import PROGRAM_S, ROOT

pytestmark = [
    pytest.mark.clients,
    pytest.mark.xdist_group("airgap"),  # one wheelhouse for all
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare: no network"),
]
PYTHON = str(Path(sys._base_executable))  # type: ignore[attr-defined]
SDK = (
    "import anthropic; "
    "told = anthropic.Anthropic().messages.create(model='claude-x', max_tokens=99, messages=[{'role': 'user', 'content': 'Guten Tag'}]); "
    "print(told.content[-1].text, told.usage.input_tokens > 0)"
)


def commands(heading: str) -> list[str]:
    """The blocks of shell lines below a heading of the README."""
    section = re.split(rf"^## {heading}$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)[1]
    return re.findall(r"```sh\n(.*?)```", section.split("\n## ")[0], re.DOTALL)


def without_network(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environ}
    command = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *words]
    return subprocess.run(command, capture_output=True, text=True, env=clean, cwd=home, timeout=PROGRAM_S)


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Filled by the README's own words, and with an SDK."""
    folder = tmp_path_factory.mktemp("filled")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".git", "*.egg-info", "__pycache__", ".*cache", "build", "tests")
    shutil.copytree(ROOT, source, ignore=ignored)
    script = commands("Without a network")[0].replace("python3 ", f"{PYTHON} ")
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(["sh", "-ec", script], cwd=source, capture_output=True, text=True, env=environ)
    if done.returncode and "No matching distribution" in done.stderr + done.stdout:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    more = [PYTHON, "-m", "pip", "download", "-q", "-d", str(source / "wheelhouse"), "anthropic>=2"]
    subprocess.run(more, check=True, capture_output=True, env=environ)
    yield source / "wheelhouse"


def test_from_the_wheelhouse(wheelhouse: Path, tmp_path: Path) -> None:
    install = commands("Without a network")[1]
    shutil.copytree(wheelhouse, tmp_path / "wheelhouse")
    done = without_network(tmp_path, "sh", "-ec", install.replace("python3 ", f"{PYTHON} "))
    assert done.returncode == 0, done.stderr + done.stdout
    program = str(tmp_path / "ccproxy-lite/bin/ccproxy-lite")
    assert "16 of 16" in without_network(tmp_path, program, "demo").stdout
    python = sdk(wheelhouse, tmp_path)
    done = without_network(tmp_path, program, "run", "--", python, "-c", SDK)
    assert (done.returncode, done.stdout) == (0, "Guten Tag True\n"), done.stderr
    names = {path.name.split("-")[0] for path in wheelhouse.iterdir()}
    assert {"exceptiongroup", "typing_extensions", "h11", "anyio", "certifi", "idna", "ccproxy_lite"} <= names


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_from_one_file(version: str, wheelhouse: Path, tmp_path: Path) -> None:
    python = interpreters().get(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    copy = tmp_path / "ccproxy-lite.pyz"
    shutil.copy(bundle(), copy)
    assert "16 of 16" in without_network(tmp_path, python, str(copy), "demo").stdout
    done = without_network(tmp_path, python, str(copy), "run", "--", sdk(wheelhouse, tmp_path), "-c", SDK)
    assert (done.returncode, done.stdout) == (0, "Guten Tag True\n"), done.stderr
    told = json.loads(without_network(tmp_path, python, str(copy), "check", "--json").stdout)
    assert told["upstreams"][0]["format"] == "echo"


def sdk(wheelhouse: Path, folder: Path) -> str:
    """An interpreter with the SDK, installed without a network."""
    venv = folder / "sdk"
    made = without_network(
        folder,
        "sh",
        "-ec",
        f"{PYTHON} -m venv {venv} && {venv}/bin/pip install -q --no-index --find-links {wheelhouse} anthropic",
    )
    assert made.returncode == 0, made.stderr
    return str(venv / "bin/python")
