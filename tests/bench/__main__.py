"""What the proxy costs, beside a floor in the same run: ``python -m tests.bench``.

    --peer CMD     another proxy, measured with the same load; {port} and {upstream} stand for the two ports
    --only NAMES   scenarios, with commas (see ``scenarios``)
    --json FILE    all figures
    --svg FILE     a picture of the ratios

Instructions are counted by valgrind: the same number on a busy machine as on a quiet one, but without the kernel.
System calls are counted by strace, processor time is what the operating system has accounted. All are the difference
between a short and a long run, so that the start is not in them; of processor times, three runs are made, and the
spread is shown. Only ratios within one run are worth comparing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import measures
from tests.bench.picture import picture
from tests.bench.scenarios import FLOOR, OURS, SCENARIOS, Contender, service

RUNS = 3
_INSTRUCTIONS = [name for name in SCENARIOS if name != "large-converted"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="CMD")
    parser.add_argument("--only", metavar="NAMES", default=",".join(SCENARIOS))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--svg", metavar="FILE")
    given = parser.parse_args()
    contenders = [OURS, FLOOR, *([Contender("peer", given.peer)] if given.peer else [])]
    names = [name for name in SCENARIOS if name in given.only.split(",")]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, service(Path(folder)) as upstream:
        bench = measures.Bench(upstream, Path(folder))
        print(f"{'':26}{'':10}{'ours':>10}{'floor':>10}{'ratio':>8}{'peer':>10}")
        for name in names:
            figures[name] = {}
            if measures.VALGRIND and name in _INSTRUCTIONS:
                counted = {one.name: bench.instructions(one, SCENARIOS[name]) / 1e3 for one in contenders[:2]}
                figures[name]["thousand instructions"] = show(name, "k instr", counted)
            if measures.STRACE:
                counted = {one.name: bench.system_calls(one, SCENARIOS[name]) for one in contenders[:2]}
                figures[name]["system calls"] = show(name, "syscalls", counted)
            runs = [{one.name: bench.cpu_us(one, SCENARIOS[name]) for one in contenders} for _ in range(RUNS)]
            middle = {who: statistics.median(run[who] for run in runs) for who in runs[0]}
            ratios = [run["ours"] / run["floor"] for run in runs]
            figures[name]["CPU us"] = {**show(name, "CPU us", middle), "ratios": ratios}
            print(f"{'':36}ratios {min(ratios):.2f} to {max(ratios):.2f}")
        figures["paced"] = {one.name: bench.paced(one) for one in contenders}
        for who, row in figures["paced"].items():
            print(f"200 paced streams, {who:8}", ", ".join(f"{what} {value:.2f}" for what, value in row.items()))
        figures["gaps"] = {one.name: bench.longest_gaps(one) for one in contenders}
        for who, row in figures["gaps"].items():
            print(
                f"longest gap of 20 streams, {who:8}",
                ", ".join(f"{what} {value:.0f} ms" for what, value in row.items()),
            )
        figures["idle MB"] = {one.name: bench.idle_mb(one) for one in contenders}
        print("idle MB", figures["idle MB"])
    if given.json:
        Path(given.json).write_text(json.dumps(figures, indent=1))
    if given.svg:
        Path(given.svg).write_text(picture(figures))


def show(name: str, what: str, values: dict[str, float]) -> dict[str, float]:
    """Print a row, and return it with its ratio."""
    ratio = values["ours"] / values["floor"]
    peer = f"{values['peer']:10.1f}" if "peer" in values else ""
    print(f"{name:26}{what:10}{values['ours']:10.1f}{values['floor']:10.1f}{ratio:8.2f}{peer}", flush=True)
    return {**values, "ratio": ratio}


if __name__ == "__main__":
    main()
