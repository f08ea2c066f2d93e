"""``ccproxy-lite help TOPIC``: the tables that the code uses, as text."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator

from ccproxy_lite.cli.arguments import EXIT_CODES

_GAP = 2
_MAX_FIRST_COLUMN = 52
_MIN_LAST_COLUMN = 30


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0."""
    for line in _TOPICS[arguments.topic]():
        print(line)
    return 0


def _routes() -> Iterator[str]:
    from ccproxy_lite.server.paths import routes

    return table(routes())


def _quirks() -> Iterator[str]:
    from ccproxy_lite.providers import QUIRKS

    return table(QUIRKS.items())


def _losses() -> Iterator[str]:
    from ccproxy_lite.formats.neutral.losses import rows

    directions: dict[str, list[tuple[str, str]]] = {}
    for direction, what, action, why in rows():
        directions.setdefault(direction, []).append((f"  {what.replace('`', '')}", f"{action}: {why}"))
    for direction, lines in directions.items():
        yield f"{direction}:"
        yield from table(lines)
        yield ""


def _exit_codes() -> Iterator[str]:
    yield EXIT_CODES
    yield "run: the status of its command; 127 no such command, 126 it is not executable"


_TOPICS: dict[str, Callable[[], Iterator[str]]] = {
    "routes": _routes,
    "quirks": _quirks,
    "losses": _losses,
    "exit-codes": _exit_codes,
}


def table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Two columns within the width of the terminal; what is too long for the first pushes the second down."""
    rows = list(rows)
    first = min(max((len(row[0]) for row in rows), default=0), _MAX_FIRST_COLUMN) + _GAP
    columns = shutil.get_terminal_size((100, 24)).columns - 1
    width = max(columns - first, _MIN_LAST_COLUMN)
    for name, about in rows:
        lines, indent = textwrap.wrap(about, width) or [""], " " * (len(name) - len(name.lstrip()))
        if len(name) + _GAP > first:
            yield from textwrap.wrap(
                name.lstrip(), max(columns, _MAX_FIRST_COLUMN), initial_indent=indent, subsequent_indent=indent
            )
            name = ""
        yield f"{name.ljust(first)}{lines[0]}".rstrip()
        for line in lines[1:]:
            yield " " * first + line
