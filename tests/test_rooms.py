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

from ccproxy_lite.formats import FORMATS, KEY_HEADERS, PROFILES
from ccproxy_lite.providers import CLOUDS, DIRECT, EMBEDDED
from tests.support import ROOT

PACKAGE = ROOT / "ccproxy_lite"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = {name.removesuffix(".__init__"): path for name, path in MODULES.items() if name.endswith(".__init__")}
FOLDERS = [name.replace("-", "_") for name in FORMATS]
GROUND = ("errors", "log", "clock", "jsontext", "cached", "__init__")
REGISTRY = "formats.__init__"
SHARED = ("formats.format", "formats.failures", "formats.sse", "formats.session", "formats.neutral")
PLACES = ("providers.__init__", "providers.hosts", "providers.clouds", "providers.credentials")
"""What others may see of the providers: the registry, the table of known services, where credentials come from."""

ROWS: dict[str, tuple[str, ...]] = {
    "cli": ("server", "relay", "routing", "config", "providers", "formats", "net", *GROUND),
    "server": ("relay", "routing", "config", REGISTRY, *SHARED, "net", *GROUND),
    "relay": ("routing", "config", *PLACES, "providers.provider", REGISTRY, *SHARED, "net", *GROUND),
    "routing": ("config", "formats.neutral.events", "formats.neutral.error_details", "net.framing", "errors"),
    "config": (*PLACES, "formats.neutral.thinking", "net.address", "net.proxies", "errors", "jsontext"),
    "providers": (
        "formats.format",
        "formats.sse",
        "formats.neutral.losses",
        "formats.neutral.catalog",
        "errors",
        "jsontext",
    ),
    REGISTRY: ("formats.format",),
    "formats": ("formats.neutral", "errors", "jsontext"),
    "formats.neutral": ("errors", "jsontext"),
    **{f"formats.{name}": ("formats", "formats.neutral", "errors", "jsontext") for name in FOLDERS},
    "net": ("errors", "log"),
    **dict.fromkeys(GROUND, GROUND),
    "__main__": ("cli.main",),
}
"""From the top down: a room, or a module that stands in none, and what it may import beside itself."""

PURE = (
    "routing", "config", "providers", "formats", "errors", "jsontext",
    "net.framing", "net.heads", "net.address", "net.proxies", "net.inflate",
    "relay.streams", "relay.pauses", "relay.states", "relay.whole", "relay.headers", "relay.record", "relay.tape",
    "server.clients", "server.paths", "server.access", "server.metrics",
)  # fmt: skip
"""No clock, no randomness, no input or output: what these import is pure, too."""
PURE_LIBRARY = set(
    "base64 binascii bisect collections configparser collections.abc dataclasses datetime difflib email.utils fnmatch functools "
    "hashlib hmac http ipaddress itertools json json.decoder math operator re shlex string struct types typing urllib.parse "
    "zlib __future__ h11".split()
) | {"pathlib.PurePath", "importlib.import_module"}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "now", "today", "utcnow"}

SOCKETS = {"socket", "ssl", "http.client", "urllib.request", "socketserver", "select", "selectors"}
WITH_SOCKETS = {
    "cli.ask": "asks a proxy that runs",
    "cli.serve": "hands over what systemd has opened",
    "server.lifecycle": "the same",
}
"""Who touches sockets outside ``net``, and why."""

NAMES = re.compile(
    "|".join(
        ["(?i:anthropic|openai|gemini|goog)", r"/v1(?:alpha|beta)"]
        + [re.escape(profile.stem) for profile in PROFILES.values()]
        + [re.escape(name) for profile in PROFILES.values() for name in profile.headers]
        + [re.escape(name) for name in KEY_HEADERS]
        + [rf"\A{re.escape(name)}(?:-|\Z)" for name in (DIRECT.name, EMBEDDED.name, *CLOUDS)]
    )
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
    """What a file imports, names of modules and names inside them; in functions and for type checking, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(imported: str) -> str | None:
    """The module of this package that an import leads to, named as in ``MODULES``; None for others."""
    top, _, name = imported.partition(".")
    if top != "ccproxy_lite":
        return None
    for one in (name, name.rpartition(".")[0]):
        if f"{one}.__init__".lstrip(".") in MODULES:
            return f"{one}.__init__".lstrip(".")
        if one in MODULES:
            return one
    raise AssertionError(f"there is no {imported}")


def own_imports(name: str) -> list[str]:
    """The modules of this package that a module imports."""
    return sorted({module for one in imports(MODULES[name]) if (module := module_of(one)) is not None})


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(name: str) -> str:
    """The room of a module: the row with the longest name that fits."""
    return max((room for room in ROWS if is_in(name, room)), key=len)


def may_import(room: str, imported: str) -> bool:
    theirs = room_of(imported)
    if theirs == room:
        return True
    allowed = [one for one in ROWS[room] if is_in(imported, one)]
    if is_in(room, "formats"):  # there "formats" means what all formats share: neither the registry nor a sibling
        return any(one != "formats" or theirs == "formats" for one in allowed)
    return bool(allowed)


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_what_its_row_allows(name: str) -> None:
    assert [imported for imported in own_imports(name) if not may_import(room_of(name), imported)] == []


def test_every_format_is_a_folder_of_its_own() -> None:
    folders = {path.name for path in (PACKAGE / "formats").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == {*FOLDERS, "neutral"}


def test_no_circles() -> None:
    below = {name: set(own_imports(name)) for name in MODULES}
    while free := {name for name, needs in below.items() if not needs & below.keys()}:  # nothing left below them
        below = {name: needs for name, needs in below.items() if name not in free}
    while free := below.keys() - {one for needs in below.values() for one in needs}:  # nothing left above them
        below = {name: needs for name, needs in below.items() if name not in free}
    assert sorted(below) == []


def defined(path: Path) -> set[str]:
    """The names that a module makes itself; a package's ``__all__`` are its own, too."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name)}
            if "__all__" in names and isinstance(node.value, ast.List):
                names |= {item.value for item in node.value.elts if isinstance(item, ast.Constant)}
    return names


@pytest.mark.parametrize("name", MODULES)
def test_a_name_is_imported_from_where_it_is_made(name: str) -> None:
    """Else a wall is passed through somebody else's imports."""
    for imported in imports(MODULES[name]):
        module = module_of(imported)
        if module is None:
            continue
        place = f"ccproxy_lite.{module}".removesuffix(".__init__")
        if imported != place:
            assert imported.removeprefix(f"{place}.") in defined(MODULES[module]), f"{imported} is only imported there"


IS_PURE = [name for name in MODULES if any(is_in(name, room) for room in PURE)]


@pytest.mark.parametrize("name", IS_PURE)
def test_what_decides_is_pure(name: str) -> None:
    for imported in imports(MODULES[name]):
        module = module_of(imported)
        if module is not None:
            assert module in IS_PURE or module == "__init__", f"{module} is not pure"
        else:
            assert {imported, imported.rpartition(".")[0]} & PURE_LIBRARY, imported
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in IMPURE_CALLS, f"line {node.lineno}: {called}"
            assert called != "import_module" or name in (REGISTRY, "providers.__init__")


def test_who_says_that_it_is_pure_is_held_to_it() -> None:
    says = {
        name
        for name, path in MODULES.items()
        if re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or "")
    }
    assert says - set(IS_PURE) - {name for name in says if name.endswith("__init__")} == {"server.echo_answers"}, (
        "which makes up ids"
    )


@pytest.mark.parametrize("name", [name for name in MODULES if not is_in(name, "net")])
def test_only_one_room_opens_sockets(name: str) -> None:
    touches = [one for one in imports(MODULES[name]) if {one, one.rpartition(".")[0]} & SOCKETS]
    assert touches == [] or name in WITH_SOCKETS
    assert touches or name not in WITH_SOCKETS, "it does so no more: take it from the list"


def texts(path: Path) -> Iterator[str]:
    """The string constants of a file that are no docstrings, and the names that it makes."""
    tree = ast.parse(path.read_text())
    documents = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in documents:
            yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg


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


def test_functions_take_at_most_five_things() -> None:
    def takes(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return len([one for one in given if one.arg not in ("self", "cls")])

    assert {name for name, node in functions() if takes(node) > 5} == set()


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
    assert sum(rooms.values()) < 23_500


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
