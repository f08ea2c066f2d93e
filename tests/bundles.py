"""The one-file program for tests: built once for all of them, by whichever is first."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import PROGRAM_S, ROOT, clean_environment


@functools.cache
def interpreters() -> dict[str, str]:
    """The Pythons of this machine by version: those on PATH, and pyenv's; none by a script that starts it."""
    found: dict[str, str] = {}
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    script = "import sys; sys.stdout.write('%d.%d %s' % (sys.version_info[0], sys.version_info[1], sys.executable))"
    for name in ("python2.7", *(f"python3.{minor}" for minor in range(6, 16))):
        for folder in folders:
            if (folder / name).exists():
                command = [str(folder / name), "-S", "-c", script]
                version, _, path = subprocess.run(command, capture_output=True, text=True).stdout.partition(" ")
                if version == name.removeprefix("python"):
                    found.setdefault(version, path)
    return found


def environment(home: Path) -> dict[str, str]:
    """An environment whose PATH has all interpreters, and whose imports are the bundle's own."""
    folders = [str(Path(python).parent) for version, python in interpreters().items() if version > "3.1"]
    environ = clean_environment(home)
    del environ["PYTHONPATH"]
    return {**environ, "PATH": os.pathsep.join([os.environ["PATH"], *folders])}


def build(path: Path) -> subprocess.CompletedProcess[str]:
    """``ccproxy-lite bundle`` with this Python and all others of this machine."""
    command = [sys.executable, "-m", "ccproxy_lite", "bundle", "-o", str(path)]
    environ = {**environment(path.parent), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd="/", timeout=PROGRAM_S)


def bundle() -> Path:
    """The file, built anew when the sources have changed."""
    sources = sorted((ROOT / "ccproxy_lite").rglob("*.*"))
    stamps = [f"{path} {path.stat().st_mtime_ns}" for path in sources if "__pycache__" not in path.parts]
    mark = hashlib.sha256("\n".join([sys.version, *stamps]).encode()).hexdigest()[:16]
    own = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    folder = Path(tempfile.gettempdir(), f"ccproxy-lite-tests-{os.getuid()}-{own}")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{mark}.pyz"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            for old in folder.glob("*.pyz"):
                old.unlink()
            done = build(path)
            assert done.returncode == 0, done.stderr
    return path


def public_python() -> str | None:
    """An interpreter that every user of this machine may run."""
    for python in (*interpreters().values(), "/usr/bin/python3"):
        new = subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]).returncode == 0
        if new and str(Path(python).resolve()).startswith("/usr/"):
            return python
    return None


def public_copy(program: Path, folder: Path) -> Path:
    """The same file in a folder that every user may read."""
    copy = folder / "ccproxy-lite.pyz"
    copy.write_bytes(program.read_bytes())
    copy.chmod(0o755)
    return copy
