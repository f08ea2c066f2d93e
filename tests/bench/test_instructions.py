"""What a request and a streamed event cost in instructions must not grow.

Valgrind counts them: the same number on a busy machine as on a quiet one, but another one with every build of Python. So
the best that was reached stands in ``best.json`` for each build, and elsewhere nothing is compared. After an
improvement: ``python -m tests.bench.test_instructions`` writes the new numbers.
"""

from __future__ import annotations

import json
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from tests.bench.measures import VALGRIND, Bench
from tests.bench.scenarios import OURS, SCENARIOS, service

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

BEST = Path(__file__).with_name("best.json")
SHORT = ("small-same", "small-converted", "stream-anthropic-chat")  # the others depend on how reads are cut
TOLERANCE = 1.03


def build() -> str:
    """Which Python this is, as far as it matters here."""
    is_optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"{sys.implementation.name} {sys.version.split()[0]}{' optimised' if is_optimised else ''}"


def count(names: tuple[str, ...], folder: Path) -> dict[str, float]:
    with service(folder) as upstream:
        bench = Bench(upstream, folder)
        return {name: round(bench.instructions(OURS, SCENARIOS[name]) / 1e3, 1) for name in names}


@pytest.mark.parametrize("name", SHORT)
def test_instructions_do_not_grow(name: str, tmp_path: Path) -> None:
    best = json.loads(BEST.read_text()).get(build())
    if VALGRIND is None or best is None:
        pytest.skip("valgrind is not installed" if best else f"nothing is known of {build()}")
    counted = count((name,), tmp_path)[name]
    assert counted <= best[name] * TOLERANCE, "thousand instructions; see the table of python -m tests.bench"


if __name__ == "__main__":
    known = json.loads(BEST.read_text()) if BEST.exists() else {}
    with tempfile.TemporaryDirectory() as home:
        known[build()] = count(SHORT, Path(home))
    BEST.write_text(json.dumps(known, indent=1) + "\n")
    print(known[build()])
