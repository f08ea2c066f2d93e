"""The rooms of the house: who may import whom, what is pure, who knows a wire format, and how large things are.

A row names what a room may import beside itself.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "ccproxy_lite"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
GROUND = ("errors", "log", "clock", "jsontext", "__init__")
FORMATS = sorted(
    path.parent.name for path in (PACKAGE / "formats").glob("*/request.py") if path.parent.name != "neutral"
)

ROWS: dict[str, tuple[str, ...]] = {
    "cli": ("server", "relay", "routing", "config", "providers", "formats", "net", *GROUND),
    "server": ("relay", "routing", "config", "formats", "net", *GROUND),
    "relay": ("routing", "config", "providers", "formats", "net", *GROUND),
    "routing": ("config", "formats.neutral", "net.framing", "errors"),
    "config": ("providers", "formats.neutral.thinking", "net.address", "net.proxies", "errors", "jsontext"),
    "providers": ("formats.format", "formats.sse", "formats.neutral.losses", "errors", "jsontext"),
    "formats": ("errors", "jsontext"),
    "formats.neutral": ("errors", "jsontext"),
    **{f"formats.{name}": ("formats", "errors", "jsontext") for name in FORMATS},
    "net": ("errors", "log"),
    **dict.fromkeys(GROUND, GROUND),
    "__main__": ("cli.main",),
}  # fmt: skip
"""From the top down: a room, or a module that stands in none, and what it may import beside itself."""

PURE = (
    "routing", "config", "providers", "formats", "errors", "jsontext",
    "net.framing", "net.heads", "net.address", "net.proxies", "net.inflate",
    "relay.streams", "relay.whole", "relay.headers", "relay.record",
    "server.clients", "server.paths", "server.access",
)  # fmt: skip
"""No clock, no randomness, no input or output; h11 is pure itself."""
IO = {
    "asyncio", "anyio", "socket", "ssl", "time", "random", "secrets", "uuid", "os", "logging", "subprocess",
    "threading", "signal", "tempfile", "pathlib", "io",
}  # fmt: skip

NAMES = re.compile(
    r"(?i:anthropic|openai|gemini|goog|x-api-key|/v1(?:alpha|beta)|/chat/completions)|\A(?:echo|direct)(?:-|\Z)"
)
"""What only formats and providers know: their names, the makers', their headers and paths."""
KNOWN_NAMES = {
    "server.clients": "describes programs of others, which are called so",
    "server.echo": "is the embedded service itself, and lists its models",
    "server.echo_answers": "says its name",
    "cli.arguments": "an example in a help text",
}
"""Where one of these stands all the same, and why."""


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, those of functions and for type checking included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            inside = [f"{base}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if name.removeprefix("ccproxy_lite.") in MODULES | PACKAGES]
            yield from modules
            if len(modules) < len(inside):
                yield base


PACKAGES = {name.removesuffix(".__init__"): path for name, path in MODULES.items() if name.endswith(".__init__")}


def own_imports(name: str) -> list[str]:
    """The same, within the package, named as in ``MODULES``; a package stands for its ``__init__``."""
    found = [one.removeprefix("ccproxy_lite").removeprefix(".") or "__init__" for one in imports(MODULES[name])
             if one.partition(".")[0] == "ccproxy_lite"]  # fmt: skip
    return sorted({f"{one}.__init__" if one in PACKAGES else one for one in found})


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str:
    """The room of a module: the row with the longest name that fits."""
    return max((room for room in ROWS if is_in(name, room)), key=len)


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_what_its_row_allows(name: str) -> None:
    room = room_of(name)
    wrong = [
        imported for imported in own_imports(name)
        if room_of(imported) != room and not any(is_in(imported, allowed) for allowed in ROWS[room])
        and not (name == "formats.__init__" and imported.startswith("formats."))
    ]  # fmt: skip
    if is_in(room, "formats") and room != "formats":  # a format knows what all formats share, and none of the others
        wrong += [one for one in own_imports(name) if room_of(one) not in (room, "formats", "formats.neutral", *GROUND)]
    elif room == "formats" and name != "formats.__init__":  # the registry alone knows the formats
        wrong = [one for one in wrong if room_of(one) != "formats.neutral"]
    if room == "formats.neutral":
        wrong += [one for one in own_imports(name) if one == "formats.__init__" or room_of(one) == "formats"]
    assert wrong == []


def test_no_circles() -> None:
    below = {name: set(own_imports(name)) for name in MODULES}
    while free := {name for name, needs in below.items() if not needs & below.keys()}:  # nothing left below them
        below = {name: needs for name, needs in below.items() if name not in free}
    while free := below.keys() - {one for needs in below.values() for one in needs}:  # nothing left above them
        below = {name: needs for name, needs in below.items() if name not in free}
    assert sorted(below) == []


@pytest.mark.parametrize("name", [name for name in MODULES if any(is_in(name, room) for room in PURE)])
def test_what_decides_is_pure(name: str) -> None:
    assert {imported.partition(".")[0] for imported in imports(MODULES[name])} & IO == set()


def texts(path: Path) -> Iterator[str]:
    """The string constants of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    documents = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in documents:
            yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")


@pytest.mark.parametrize(
    "name", [name for name in MODULES if not is_in(name, "formats") and not is_in(name, "providers")]
)
def test_nobody_else_names_a_format_or_a_provider(name: str) -> None:
    named = [text for text in texts(MODULES[name]) if NAMES.search(text)]
    assert named == [] or name in KNOWN_NAMES
    assert named or name not in KNOWN_NAMES, "it does so no more: take it from the list"


# ---------------------------------------------------------------- sizes


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", node


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


def test_modules_and_functions_are_short() -> None:
    lines = {name: path.read_text().count("\n") for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > 500} == {}
    lengths = {name: (node.end_lineno or 0) - node.lineno + 1 for name, node in functions()}
    assert {name: count for name, count in lengths.items() if count > 60} == {}
    assert sorted(lengths.values())[len(lengths) // 2] <= 10


WIDE = {"config.file._group", "config.file._keys"}
"""The functions that take more than five things; no other may."""


def test_functions_take_at_most_five_things() -> None:
    def takes(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return len([one for one in given if one.arg not in ("self", "cls")])

    assert {name for name, node in functions() if takes(node) > 5} == WIDE


def test_code_lines_of_each_room(capsys: pytest.CaptureFixture[str]) -> None:
    rooms: dict[str, int] = {}
    for name, path in MODULES.items():
        room = name.partition(".")[0] if "." in name else "the ground"
        rooms[room] = rooms.get(room, 0) + code_lines(path)
    with capsys.disabled():
        print(
            "code lines:",
            ", ".join(f"{room} {count}" for room, count in sorted(rooms.items())),
            "=",
            sum(rooms.values()),
        )
    assert sum(rooms.values()) < 13_200


# ---------------------------------------------------------------- the package as it is installed


def test_runtime_dependencies() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dependencies = ["h11>=0.16", "anyio>=4", "certifi"]' in text
    allowed = {"h11", "anyio", "certifi", "ccproxy_lite", "__future__"}
    for name, path in MODULES.items():
        for imported in imports(path):
            assert imported.partition(".")[0] in allowed | sys.stdlib_module_names, f"{name}: {imported}"


def test_every_folder_is_a_package() -> None:
    assert {path.parent for path in MODULES.values()} == {path.parent for path in PACKAGES.values()} | {PACKAGE}


def test_nothing_but_five_things_at_the_top() -> None:
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert found - {"build", "dist", "ccproxy_lite.egg-info"} <= {
        "pyproject.toml", "README.md", "ccproxy_lite", "tests", "examples"
    }  # fmt: skip
