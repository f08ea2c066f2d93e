"""``ccproxy-lite bundle``: this program and what it needs as one file, for machines where nothing can be installed.

The file is a zip that Python runs: sources for any version, and the byte code of the versions that are on this machine,
because compiling at every start would take longer than everything else. The same sources and versions give the same
bytes. Nothing is fetched here, and nothing is unpacked there.

    __main__.py         checks the version of Python
    src/                sources, licences, the roots of certifi
    cpython-311, ...    the byte code of all modules for one version (see ``ccproxy_lite.cli.zipped``)
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import ccproxy_lite
from ccproxy_lite.cli import zipped
from ccproxy_lite.errors import CcproxyError

_VERSIONS = [(3, minor) for minor in range(10, 16)]
_NOT_IN_BYTE_CODE = (
    "certifi/",
    "ccproxy_lite/cli/zipped.py",
    "idna/",
    "anyio/_backends/_trio.py",
    "anyio/pytest_plugin.py",
)
"""Data is found beside its source only; the other ones are imported before it is read, or not at all."""
_NOT_THE_SAME_TWICE = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}

_MAIN = """\
# -*- coding: utf-8 -*-
# This much any Python can read, so that it can say what is wrong.
import os
import sys

if sys.version_info < (3, 10):
    there = ["python3.%d" % minor for minor in range(15, 9, -1)]
    there = [name for name in there if any(os.path.exists(os.path.join(folder, name))
                                           for folder in os.environ.get("PATH", "").split(os.pathsep))]
    sys.stderr.write("ccproxy-lite needs Python 3.10 or newer; this is %d.%d (try %s)\\n" % (
        sys.version_info[0], sys.version_info[1], there[0] if there else "another one: python3.11"))
    sys.exit(2)

archive = os.path.dirname(os.path.abspath(__file__))
sys.path[0] = os.path.join(archive, "src")
from ccproxy_lite.cli import zipped

zipped.install(archive)
if sys.version_info < (3, 11):
    try:
        import exceptiongroup
    except ImportError:
        sys.stderr.write("this ccproxy-lite.pyz was made without what Python 3.10 needs (exceptiongroup)\\n")
        sys.exit(2)
from ccproxy_lite.cli.main import main

sys.exit(main())
"""

_COMPILE = """
import sys
sys.path = [folder for folder in sys.path if folder]  # not the working directory
import json, marshal
codes = {}
for file, name in json.load(sys.stdin):
    with open(file, "rb") as source:
        code = compile(source.read(), "ccproxy-lite.pyz/src/" + name, "exec", dont_inherit=True)
    is_package = name.endswith("/__init__.py")
    module = name[:-12 if is_package else -3].replace("/", ".")
    codes[module] = (is_package, marshal.dumps(code))
sys.stdout.buffer.write(marshal.dumps(codes))
"""


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0, 1 if the file cannot be written."""
    archive = getattr(getattr(ccproxy_lite, "__loader__", None), "archive", None)  # if one runs
    content = Path(archive).read_bytes() if archive else _build_archive()
    _write_atomically(Path(arguments.output), content)
    print(f"wrote {arguments.output}: {len(content) / 1e6:.1f} MB, sha256 {hashlib.sha256(content).hexdigest()}")
    return 0


def _write_atomically(path: Path, content: bytes) -> None:
    """Write the file, executable, in one step: a running old one is not disturbed. Raises CcproxyError."""
    if path.exists() and not path.is_file():
        raise CcproxyError(f"{path} cannot be written: not a regular file")
    # In the same folder, because a rename only works within one file system.
    beside = path.parent / f".{path.name}.{os.getpid()}"
    try:
        beside.write_bytes(content)
        beside.chmod(0o755)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CcproxyError(f"{path} cannot be written: {error.strerror}") from None


def _build_archive() -> bytes:
    names, missing = _dependencies()
    files = {f"ccproxy_lite/{name}": path for name, path in _package_modules()}
    for name in names:
        files.update(_files_of(name))
    for name in missing:
        remedy = ": Python 3.10 cannot run the file (pip install exceptiongroup, and again)"
        print(f"note: {name} is not installed here{remedy if name == 'exceptiongroup' else ''}", file=sys.stderr)
    content = {"__main__.py": _MAIN.encode(), **{f"src/{name}": path.read_bytes() for name, path in files.items()}}
    # Without exceptiongroup the byte code of 3.10 would be of no use.
    pythons = {version: python for version, python in _interpreters().items() if not missing or version > (3, 10)}
    content |= {zipped.entry(version): _compiled(python, files) for version, python in pythons.items()}
    versions = ", ".join("{}.{}".format(*version) for version in pythons)
    print(f"includes bytecode for Python {versions}; other versions compile at startup")
    return archive(content)


def archive(content: Mapping[str, bytes]) -> bytes:
    """A zip that is the same for the same content, behind a line that lets it be executed."""
    file = io.BytesIO(b"#!/usr/bin/env python3\n")
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as made:
        for name in sorted(content):
            # A fixed time and mode: the same content gives the same bytes.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            made.writestr(info, content[name], zipfile.ZIP_DEFLATED, 9)
    return file.getvalue()


def _dependencies() -> tuple[list[str], list[str]]:
    """The distributions that any version of Python needs; and those of them that are not here."""
    present, missing, wanted = [], [], ["h11", "anyio", "certifi"]
    for name in wanted:  # grows while it is walked
        try:
            requires = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        present.append(name)
        for requirement in requires:
            other = re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
            # Markers for Python versions are ignored on purpose: the file runs on any of them.
            if "extra ==" not in requirement and "platform" not in requirement and other not in wanted:
                wanted.append(other)
    return present, missing


def _package_modules() -> Iterator[tuple[str, Path]]:
    root = Path(ccproxy_lite.__file__).parent
    for path in root.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix(), path


def _files_of(name: str) -> Iterator[tuple[str, Path]]:
    """What a distribution has installed, licences included, programs and traces of the installation not."""
    for file in metadata.distribution(name).files or ():
        # "..": programs in bin/.
        inner = file.as_posix()
        unwanted = inner.startswith("..") or file.name in _NOT_THE_SAME_TWICE
        if not unwanted and not {"__pycache__", "tests"} & set(file.parts):
            yield inner, Path(str(file.locate()))


def _interpreters() -> dict[tuple[int, int], str]:
    """The interpreters of this machine by version; for its own version, the one that runs."""
    pythons = {version: shutil.which("python{}.{}".format(*version)) for version in _VERSIONS}
    pythons[sys.version_info[:2]] = sys.executable
    return {version: python for version, python in sorted(pythons.items()) if python and _is_version(python, version)}


def _is_version(python: str, version: tuple[int, int]) -> bool:
    """Whether it is what its name says: version managers leave names behind that lead nowhere."""
    script = "import sys; print(sys.implementation.cache_tag)"
    done = subprocess.run([python, "-I", "-S", "-c", script], capture_output=True, text=True)
    return done.stdout.strip() == zipped.entry(version)


def _compiled(python: str, files: Mapping[str, Path]) -> bytes:
    """The byte code of all modules, written by the version that will read it. Raises CcproxyError."""
    modules = [name for name in sorted(files) if name.endswith(".py") and not name.startswith(_NOT_IN_BYTE_CODE)]
    work = json.dumps([(str(files[name]), name) for name in modules]).encode()
    environ = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"}  # sets are written in the order of hashes
    done = subprocess.run([python, "-S", "-s", "-c", _COMPILE], input=work, capture_output=True, env=environ)
    if done.returncode:
        raise CcproxyError(f"{python} cannot compile: {done.stderr.decode().strip().rpartition(chr(10))[2]}")
    return done.stdout
