"""Conversion cases as data, and how they are read and written; see ``README.md``.

>>> print(written([{"name": "short"}]), end="")
[
  {"name": "short"}
]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
Case = dict[str, Any]
_WIDTH = 118


def load() -> list[Case]:
    """Every case for every target on its own, with the file's name in front of its own."""
    return [one for path in sorted(FOLDER.glob("*.json")) for one in of_file(path)]


def of_file(path: Path) -> list[Case]:
    return [one for case in json.loads(path.read_text()) for one in by_target(case, path.stem)]


def by_target(case: Case, file: str) -> list[Case]:
    """A case as several: its common members, and those of one target each."""
    common = {key: value for key, value in case.items() if key not in ("name", "to")}
    return [
        {**common, **one, "to": target, "name": f"{file}: {one.get('name', case['name'])} [{target}]"}
        for target, several in case["to"].items()
        for one in (several if isinstance(several, list) else [several])
    ]


def written(cases: list[Case]) -> str:
    """The text of a file: what fits is one line, and short members share lines."""
    return "[\n" + ",\n".join(f"  {_text(case, 2, 0)}" for case in cases) + "\n]\n"


def _text(value: Any, indent: int, lead: int) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent + lead < _WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    pad, lines, line = " " * (indent + 2), [], ""
    members = [(f"{json.dumps(k, ensure_ascii=False)}: ", v) for k, v in value.items()] if isinstance(value, dict) else [
        ("", item) for item in value
    ]  # fmt: skip
    for number, (key, item) in enumerate(members):
        comma = "," * (number < len(members) - 1)
        short = key + json.dumps(item, ensure_ascii=False) + comma
        if line and (len(pad + short) > _WIDTH or len(line) + 1 + len(short) > _WIDTH):
            lines, line = [*lines, line], ""
        if len(pad + short) > _WIDTH:
            lines.append(f"{pad}{key}{_text(item, indent + 2, len(key))}{comma}")
        else:
            line = f"{line} {short}" if line else pad + short
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, *lines, *([line] if line else []), " " * indent + closing])
