"""The one-file program: the same bytes each time, on every Python, with nothing installed, from a read-only place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bundles import build, bundle, environment, interpreters
from tests.support import ANTHROPIC_ASK, PROGRAM_S, ROOT, ask

GOOD = [f"3.{minor}" for minor in range(10, 16)]
HAS_ALL = bool(shutil.which("unshare")) and os.geteuid() == 0


def run(python: str, *words: str, home: Path, flags: tuple[str, ...] = ("-I",)) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *flags, str(bundle()), *words],
        capture_output=True,
        text=True,
        env=environment(home),
        cwd="/",
        timeout=PROGRAM_S,
    )


@pytest.mark.parametrize("version", GOOD)
def test_on_every_python(version: str, tmp_path: Path) -> None:
    python = interpreters().get(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    from importlib.util import find_spec

    if version == "3.10" and find_spec("exceptiongroup") is None:
        done = run(python, "--version", home=tmp_path)
        assert (done.returncode, "made without what Python 3.10 needs" in done.stderr) == (2, True)
        return
    done = run(python, "demo", home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("ok / ok") == 16
    assert list(tmp_path.iterdir()) == [], "nothing is unpacked"
    code = "from ccproxy_lite.net.tls import client_context as c; print(len(c().get_ca_certs()) > 100)"
    probe = f"import sys; sys.argv[1:] = []; sys.path.insert(0, {str(bundle() / 'src')!r}); {code}"
    done = subprocess.run([python, "-I", "-S", "-c", probe], capture_output=True, text=True, env=environment(tmp_path))
    assert done.stdout == "True\n", "the roots are read from within the file: " + done.stderr


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8", "3.9"])
def test_on_pythons_that_are_too_old(version: str, tmp_path: Path) -> None:
    python = interpreters().get(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    done = run(python, home=tmp_path, flags=())
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"ccproxy-lite needs Python 3.10 or newer; this is {version} (try python3.")
    assert done.stderr.count("\n") == 1


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "first.pyz", tmp_path / "second.pyz"
    for path in (first, second):
        done = build(path)
        assert done.returncode == 0, done.stderr
        assert f"wrote {path}: " in done.stdout and "sha256 " in done.stdout
    assert first.read_bytes() == second.read_bytes()
    assert os.access(first, os.X_OK) and sorted(path.name for path in tmp_path.iterdir()) == ["first.pyz", "second.pyz"]


def test_it_holds_all_that_it_needs_and_no_more(tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle()) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    for wanted in ("h11", "anyio", "certifi", "idna", "typing_extensions"):
        assert any(name.startswith(f"src/{wanted}") for name in names), wanted
    assert any("licenses" in name or "LICENSE" in name for name in names), "the licences go with the code"
    assert "src/ccproxy_lite/server/dashboard.html" in names
    assert not [name for name in names if "tests/" in name or "__pycache__" in name or "direct_url" in name]
    assert len([name for name in names if name.startswith("cpython-3")]) >= 1
    assert len(names) < 400 and bundle().stat().st_size < 6_000_000


def test_it_writes_itself(tmp_path: Path) -> None:
    done = run(sys.executable, "bundle", "-o", str(tmp_path / "copy.pyz"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy.pyz").read_bytes() == bundle().read_bytes()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.pyz"
    done = run(sys.executable, "bundle", "-o", str(path), home=tmp_path)
    told = f"ccproxy-lite: {path} cannot be written: No such file or directory\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.skipif(not HAS_ALL, reason="needs root and unshare for a read-only file system without a network")
def test_read_only_without_home_network_or_temporary_files(tmp_path: Path) -> None:
    copy = tmp_path / "it.pyz"
    shutil.copy(bundle(), copy)
    serve = f"{sys.executable} -I {copy} --listen 127.0.0.1:9999"
    script = (
        "ip link set lo up; mount -o remount,bind,ro / && mount -t tmpfs -o ro none /tmp_ 2>/dev/null; "
        f"touch {tmp_path}/x 2>/dev/null && exit 9; {sys.executable} -I {copy} demo || exit 8; {serve} & "
        f"for i in $(seq 50); do {sys.executable} -I {copy} health --listen 127.0.0.1:9999 2>/dev/null && break; done; "
        "kill $!; wait $!"
    )
    environ = {"PATH": os.environ["PATH"], "TMPDIR": "/nonexistent"}
    done = subprocess.run(
        ["unshare", "-mnpf", "--kill-child", "sh", "-c", script],
        capture_output=True,
        text=True,
        env=environ,
        cwd="/",
        timeout=PROGRAM_S,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "16 of 16" in done.stdout and "\nok\n" in done.stdout


def test_a_real_request_over_tls_from_the_file(tmp_path: Path) -> None:
    """The dashboard and the counting of tokens are read from within it, too."""
    config = tmp_path / "proxy.json"
    config.write_text(json.dumps({"listen": "127.0.0.1:0", "upstreams": {"echo": {"format": "echo"}}}))
    child = subprocess.Popen(
        [sys.executable, "-I", str(bundle()), "--config", str(config)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(tmp_path), cwd="/",
    )  # fmt: skip
    try:
        assert child.stdout is not None
        port = int(child.stdout.readline().rpartition(":")[2])
        assert ask(port, "/v1/messages", ANTHROPIC_ASK).status == 200
        assert ask(port, "/v1/messages/count_tokens", ANTHROPIC_ASK).json["input_tokens"] > 0
        assert b"<title>ccproxy-lite</title>" in ask(port, "/", method="GET", accept="text/html").body
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_the_sources_run_with_the_dependencies_beside_them(tmp_path: Path) -> None:
    """An unpacked tree, without pip: ``python -m ccproxy_lite``."""
    with zipfile.ZipFile(bundle()) as archive:
        archive.extractall(tmp_path)
    environ = {**environment(tmp_path), "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-s", "-m", "ccproxy_lite", "demo"],
        capture_output=True,
        text=True,
        env=environ,
        cwd="/",
        timeout=PROGRAM_S,
    )
    assert done.returncode == 0 and "16 of 16" in done.stdout, done.stderr
    where = [
        sys.executable,
        "-s",
        "-c",
        "import anyio, h11, ccproxy_lite; print(anyio.__file__, h11.__file__, ccproxy_lite.__file__)",
    ]
    files = subprocess.run(where, capture_output=True, text=True, env=environ, cwd="/").stdout.split()
    assert all(file.startswith(str(tmp_path)) for file in files) and str(ROOT) not in "".join(files)
