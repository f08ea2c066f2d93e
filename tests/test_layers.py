"""The walls of the house: who imports whom, what is pure, and how large things may grow."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "ccproxy_lite"
MODULES = sorted(PACKAGE.rglob("*.py"))
IO = {
    "asyncio", "anyio", "socket", "ssl", "time", "random", "secrets", "uuid", "os", "logging", "subprocess",
    "threading", "signal", "tempfile", "pathlib", "io",
}  # fmt: skip

PURE = (
    "errors jsontext sse address proxies clients config configfile routing keys exchange hints streams net.framing net.heads formats"
).split()
"""No clock, no randomness, no input or output; h11 is pure itself."""

LAYERS = [
    ["cli", "__main__"],
    ["commands"],
    ["arguments"],
    ["reload"],
    ["server"],
    ["app"],
    ["echo", "catalog", "counting", "status", "dashboard"],
    ["metrics", "clients"],
    ["relay"],
    ["call", "whole"],
    ["delivery", "headers", "hints"],
    ["net.listener", "net.upstream"],
    ["net.connection", "net.tunnel"],
    ["net.tls"],
    ["net.heads", "net.watchdog", "net.framing"],
    ["streams", "exchange", "accesslog"],
    ["routing", "keys"],
    ["configfile"],
    ["config"],
    ["formats", "secrets", "address", "proxies"],
    ["sse", "jsontext"],
    ["systemd"],
    ["errors", "log", "clock", "zipped", "__init__", "net.__init__"],
]
"""From the top down: a module imports from its own row or from a lower one."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            yield base
            if base.startswith("ccproxy_lite"):
                yield from (f"{base}.{alias.name}" for alias in node.names)


def row(name: str) -> int | None:
    """The layer of a module or of a name inside one; the longest match wins."""
    best: tuple[int, int] | None = None
    for number, names in enumerate(LAYERS):
        for entry in names:
            if (name == entry or name.startswith(entry + ".")) and (best is None or len(entry) > best[0]):
                best = (len(entry), number)
    return best[1] if best else None


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_points_back_up(path: Path) -> None:
    own = row(name_of(path))
    assert own is not None, f"{name_of(path)} has no layer"
    for imported in imports(path):
        if imported.startswith("ccproxy_lite."):
            theirs = row(imported.removeprefix("ccproxy_lite."))
            assert theirs is None or theirs >= own, f"{name_of(path)} imports {imported} from above"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_decides_is_pure(path: Path) -> None:
    name = name_of(path)
    if not any(name == pure or name.startswith(pure + ".") for pure in PURE):
        return
    for imported in imports(path):
        top = imported.split(".")[0]
        assert top not in IO, f"{name} imports {imported}"


def test_no_format_knows_another() -> None:
    formats = [folder.name for folder in (PACKAGE / "formats").iterdir() if (folder / "request.py").exists()]
    assert len(formats) >= 2
    for path in (PACKAGE / "formats").rglob("*.py"):
        own = path.parent.name
        if path == PACKAGE / "formats" / "__init__.py":  # the registry
            continue
        for imported in imports(path):
            for other in formats:
                assert other == own or f"formats.{other}" not in imported, f"{path} imports {imported}"


def test_formats_import_only_formats_and_the_floor() -> None:
    allowed = ("ccproxy_lite.formats", "ccproxy_lite.errors", "ccproxy_lite.jsontext", "ccproxy_lite.sse")
    for path in (PACKAGE / "formats").rglob("*.py"):
        for imported in imports(path):
            assert not imported.startswith("ccproxy_lite") or imported.startswith(allowed), f"{path}: {imported}"


def functions() -> Iterator[tuple[str, int]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name_of(path)}.{node.name}", (node.end_lineno or 0) - node.lineno + 1


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank ones, no comments, no docstrings."""
    text = path.read_text()
    lines: set[int] = set()
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return len(lines)


def test_sizes() -> None:
    lines = {name_of(path): path.read_text().count("\n") for path in MODULES}
    assert {name: count for name, count in lines.items() if count > 500} == {}
    assert [name for name, count in functions() if count > 60] == []
    lengths = sorted(count for _, count in functions())
    assert lengths[len(lengths) // 2] <= 10
    assert sum(code_lines(path) for path in MODULES) < 13_000


def test_runtime_dependencies() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dependencies = ["h11>=0.16", "anyio>=4", "certifi"]' in text
    allowed = {"h11", "anyio", "certifi", "ccproxy_lite", "__future__"}
    import sys

    for path in MODULES:
        for imported in imports(path):
            assert imported.split(".")[0] in allowed | sys.stdlib_module_names, f"{path}: {imported}"


def test_every_package_is_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for folder in {path.parent for path in MODULES}:
        assert f'"{".".join(folder.relative_to(ROOT).parts)}"' in text


def test_nothing_but_five_things_at_the_top() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - {"build", "dist", "ccproxy_lite.egg-info"} <= {
        "pyproject.toml", "README.md", "ccproxy_lite", "tests", "examples"
    }  # fmt: skip
