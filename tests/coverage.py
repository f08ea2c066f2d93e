"""How the conversion cases cover the matrix of topics and pairs: ``python -m tests.coverage``; exit code 1 for a gap."""

from __future__ import annotations

import re
from collections import Counter

from ccproxy_lite.formats import FORMATS
from tests.cases import FOLDER, of_file

SHORT = {"anthropic": "A", "openai-chat": "C", "openai-responses": "R", "gemini": "G"}
REQUESTS = "turns system tools tool_results thinking sampling output media ids_and_names losses".split()
ANSWERS = "text thinking tools stop_reasons usage failures".split()
PAIRS = [(a, b) for a in FORMATS for b in FORMATS if a != b]


def counted() -> Counter[tuple[str, str, str, str]]:
    """Cases by kind (request or answer), topic, and the formats that they lead from and to."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    for path in FOLDER.glob("*.json"):
        topic = re.sub(r"^[a-z]+_(?:answers_)?", "", path.stem)
        for case in of_file(path):
            kind = "request" if "request" in case else "answer"
            found[kind, topic, case["from"], case["to"]] += 1
    return found


def gaps() -> list[str]:
    """The cells without a case."""
    found = counted()
    cells = [("request", topic) for topic in REQUESTS] + [("answer", topic) for topic in ANSWERS]
    return [
        f"{kind} {topic} {source} -> {target}"
        for kind, topic in cells
        for source, target in PAIRS
        if not found[kind, topic, source, target]
    ]


def main() -> int:
    found = counted()
    for kind, topics in (("request", REQUESTS), ("answer", ANSWERS)):
        arrow = ">" if kind == "request" else "<"
        heads = [
            f"{SHORT[a]}{arrow}{SHORT[b]}" if kind == "request" else f"{SHORT[b]}{arrow}{SHORT[a]}" for a, b in PAIRS
        ]
        print(f"{kind:16}" + "".join(f"{head:>6}" for head in heads))
        for topic in topics:
            cells = "".join(f"{found[kind, topic, source, target]:6}" for source, target in PAIRS)
            print(f"  {topic:14}{cells}")
    print(f"{sum(found.values())} cases; client first, then the upstream: A Anthropic, C Chat, R Responses, G Gemini")
    missing = gaps()
    for gap in missing:
        print(f"no case: {gap}")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
