"""The README's generated part: the table of losses. ``python -m tests.readme`` writes it, ``--check`` compares it."""

from __future__ import annotations

import sys

from ccproxy_lite.formats.neutral.losses import markdown
from tests.support import ROOT

START, END = "<!-- losses: generated -->", "<!-- /losses -->"


def with_table(text: str) -> str:
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{markdown()}\n{END}{after}"


def main() -> int:
    path = ROOT / "README.md"
    text = path.read_text()
    new = with_table(text)
    if "--check" in sys.argv:
        if new != text:
            print("README.md: the table of losses is stale: python -m tests.readme", file=sys.stderr)
        return int(new != text)
    path.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
