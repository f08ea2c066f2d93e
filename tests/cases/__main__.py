"""``python -m tests.cases fill FILE ...``: write the expectations that are missing, for review."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ccproxy_lite.errors import ClientError, UpstreamError
from tests import conversions as run
from tests.cases import Case, by_target, written


def fill(cases: list[Case]) -> list[str]:
    """Add to each target without one what the converters make of the case now; returns the names of those."""
    filled = []
    for case in cases:
        for target, several in case["to"].items():
            for one in several if isinstance(several, list) else [several]:
                if not {"expect", "rejected"} & one.keys():
                    alone = by_target({**case, "to": {target: one}}, "")[0]
                    one.update(expectation(alone))
                    filled.append(f"{one.get('name', case['name'])} [{target}]")
    return filled


def expectation(case: Case) -> dict[str, Any]:
    """What the converters make of one case for one target."""
    if "request" in case:
        try:
            outgoing = run.convert_request(case)
        except ClientError as error:
            return {"rejected": error.param or error.message}
        return {"expect": outgoing.body, **({"dropped": sorted(outgoing.dropped)} if outgoing.dropped else {})}
    try:
        if "response" in case:
            answer, dropped = run.convert_response(case)
        else:
            sse, dropped = run.convert_stream(case, [run.sse_bytes(case["stream"])])
            answer = run.whole_of(case, sse)
        return {"expect": answer, **({"dropped": dropped} if dropped else {})}
    except UpstreamError as error:
        return {"expect": {"error": {"kind": error.kind, "message": error.message}}}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cases", description=__doc__)
    parser.add_argument("command", choices=["fill"])
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    for path in parser.parse_args().files:
        cases = json.loads(path.read_text())
        filled = fill(cases)
        path.write_text(written(cases))
        for name in filled:
            print(f"{path}: {name}")
        print(f"{path}: {len(filled)} filled; review them with git diff")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
