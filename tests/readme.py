"""The README's generated parts: the tables of losses and of known services.

``python -m tests.readme`` writes them, ``--check`` compares them.
"""

from __future__ import annotations

import sys

from ccproxy_lite.cli.help import providers_markdown
from ccproxy_lite.formats.neutral.losses import markdown
from tests.support import ROOT

PARTS = {"losses": markdown, "providers": providers_markdown}


def with_tables(text: str) -> str:
    for name, written in PARTS.items():
        start, end = f"<!-- {name}: generated -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{written()}\n{end}{after}"
    return text


def main() -> int:
    path = ROOT / "README.md"
    text = path.read_text()
    new = with_tables(text)
    if "--check" in sys.argv:
        if new != text:
            print("README.md: a generated table is stale: python -m tests.readme", file=sys.stderr)
        return int(new != text)
    path.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
