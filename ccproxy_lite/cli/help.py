"""``ccproxy-lite help TOPIC``: the tables that the code uses, as text."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Callable, Iterable, Iterator

from ccproxy_lite.cli.arguments import EXIT_CODES
from ccproxy_lite.providers import CLOUDS, HOSTS, Host, clouds
from ccproxy_lite.providers.credentials import AWS, GOOGLE

_GAP = 2
_MAX_FIRST_COLUMN = 52
_MIN_LAST_COLUMN = 30
_KIND_WIDTH = 18


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


def _providers() -> Iterator[str]:
    yield 'A name may stand as an upstream\'s "base_url"; its "format" is one of those below the name.'
    yield "Braces stand for fields of the upstream, capitals for a part of the address that only you know."
    for host in HOSTS:
        yield ""
        yield from table([(host.name, "; ".join(host_facts(host)))])
        yield from (f"  {kind.ljust(_KIND_WIDTH)}{host.shown(kind)}" for kind in host.urls)
    yield ""
    yield "Credentials of clouds, in keys:"
    yield from table((f"  {name}", about) for name, about in clouds.REFERENCES.items())
    yield from (f"    {command}" for command in clouds.COMMANDS)


def providers_markdown() -> str:
    """The known services for the README, those with the same formats in one row; ``help providers`` has the rest."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for host in HOSTS:
        rows.setdefault(tuple(sorted(host.urls)), []).append(f"`{host.name}`")
    lines = [f"| {', '.join(kinds)} | {', '.join(names)} |" for kinds, names in rows.items()]
    return "\n".join(["| formats | services |", "|---|---|", *lines])


def host_facts(host: Host) -> Iterator[str]:
    """What is to be known of a service beside its base URLs."""
    if host.aliases:
        yield f"also {', '.join(host.aliases)}"
    if host.provider in CLOUDS:
        yield f"provider {host.provider}"
    ways = [f"${name}" for name in host.variables]
    ways += [GOOGLE] if host.tokens else [AWS] if host.signs else []
    yield f"key: {', '.join(ways) or 'none needed'}"
    if not host.is_local and not host.lists:
        yield "no model list"
    if host.remark:
        yield host.remark


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
    "providers": _providers,
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
