"""Measurements: whole-process CPU per request and per streamed event, beside a floor from the same run.

The floor is the same load on the same upstream without a proxy; its own CPU stands for what this machine is worth in
this minute, so only ratios are worth comparing. ``pytest -n 0 -m bench -s`` prints the tables of the README.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.bench.load import cpu_s, drive
from tests.bundles import bundle, environment, interpreters
from tests.support import ROOT, WIRES, ask, clean_environment, process, request_bytes

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

TEXT = "Tell me something about proxies, please. " * 12
ASKS = {
    "anthropic": {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": TEXT}]},
    "openai-responses": {"model": "m", "input": TEXT},
    "openai-chat": {"model": "m", "messages": [{"role": "user", "content": TEXT}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
}
PAIRS = [
    ("anthropic", "anthropic"),
    ("openai-chat", "openai-chat"),
    ("anthropic", "openai-chat"),
    ("openai-responses", "openai-chat"),
    ("openai-chat", "anthropic"),
    ("gemini", "openai-chat"),
]


class Spent(NamedTuple):
    """Seconds by the clock and of the processor; only the latter is the same on a busy machine."""

    wall_s: float
    cpu_s: float

    def __str__(self) -> str:
        return f"{self.wall_s:.3f} s, CPU {self.cpu_s:.3f}"


class Start(NamedTuple):
    """What it takes until a proxy says that it serves, and until it has answered a message; its megabytes then.

    :ivar ratio: the processor time until it has answered, in that of the floor; the median of pairs that ran in turn,
        for what slows the machine down for a while slows both
    """

    serving_s: float
    answered: Spent
    idle_mb: float
    floor: Spent
    ratio: float

    def __str__(self) -> str:
        return (
            f"serves after {self.serving_s:.3f} s, first answer {self.answered} after start ({self.ratio:.2f} times "
            f"importing what it stands on, {self.floor}), idle {self.idle_mb:.1f} MB"
        )


EVENTS = 1000


@contextmanager
def canned(form: str, events: int, pace_s: float = 0.0) -> Iterator[tuple[int, int]]:
    """An upstream process: its port and its process id."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.load", form, str(events), str(pace_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment(ROOT), cwd=ROOT,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        yield int(child.stdout.readline()), child.pid
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def load(port: int, pid: int, form: str, stream: bool, count: int, parallel: int = 8) -> float:
    """CPU microseconds of a process for each of ``count`` requests."""
    wire = WIRES[form]
    more = {"stream": stream} if form != "gemini" else {}
    request = request_bytes(wire.stream_path if stream else wire.path, {**ASKS[form], **more})
    asyncio.run(drive(port, request, parallel * 4, parallel))  # warm
    before = cpu_s(pid)
    asyncio.run(drive(port, request, count, parallel))
    return (cpu_s(pid) - before) / count * 1e6


def config(form: str, port: int) -> dict[str, object]:
    suffix = "/v1" if form.startswith("openai") else ""
    return {
        "upstreams": {
            "up": {"format": form, "base_url": f"http://127.0.0.1:{port}{suffix}", "keys": ["some-bench-key"]}
        },
        "log": {"level": "error"},
    }


def measure(
    client: str, upstream: str, stream: bool, events: int, count: int, pace_s: float = 0.0, parallel: int = 8
) -> tuple[float, float]:
    """The proxy's and the bare upstream's CPU microseconds per request."""
    with canned(upstream, events, pace_s) as (port, pid), process(config(upstream, port)) as proxy:
        floor = load(port, pid, upstream, stream, count, parallel)
        return load(proxy.port, proxy.process.pid, client, stream, count, parallel), floor


ROWS: list[str] = []


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_cpu_per_request(client: str, upstream: str) -> None:
    proxy, floor = measure(client, upstream, False, 1, 4000)
    ROWS.append(f"| {client} -> {upstream} | request | {proxy:.0f} | {floor:.0f} | {proxy / floor:.1f} |")
    assert proxy / floor < 100


@pytest.mark.parametrize(("client", "upstream"), PAIRS)
def test_cpu_per_event_at_full_speed(client: str, upstream: str) -> None:
    many, floor = measure(client, upstream, True, EVENTS, 240)
    few, floor_few = measure(client, upstream, True, 1, 2000)
    each, floor_each = (many - few) / EVENTS, max((floor - floor_few) / EVENTS, 0.01)
    ROWS.append(
        f"| {client} -> {upstream} | event, full speed | {each:.1f} | {floor_each:.2f} | {each / floor_each:.0f} |"
    )
    assert each < few  # an event is cheaper than a request


@pytest.mark.parametrize(("client", "upstream"), [("openai-chat", "openai-chat"), ("anthropic", "openai-chat")])
def test_cpu_per_paced_event(client: str, upstream: str) -> None:
    events = 300
    many, floor = measure(client, upstream, True, events, 60, pace_s=0.005, parallel=20)
    few, floor_few = measure(client, upstream, True, 1, 1000, pace_s=0.0001, parallel=20)
    each, floor_each = (many - few) / events, (floor - floor_few) / events
    ROWS.append(f"| {client} -> {upstream} | event, paced | {each:.1f} | {floor_each:.1f} | {each / floor_each:.1f} |")
    assert each < 500


def test_start_memory_and_size(tmp_path: Path) -> None:
    """The footprint, from a wheel that is installed as a user would."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    build = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(build)], check=True)
    before = installed(venv)
    pip = subprocess.run([str(venv / "bin/pip"), "install", "-q", str(build)], capture_output=True, text=True)
    if pip.returncode:
        pytest.skip(f"nothing can be installed here: {pip.stderr.splitlines()[-1]}")
    names = sorted(
        path.name
        for path in site(venv).glob("*.dist-info")
        if not path.name.startswith(("pip-", "setuptools-", "ccproxy"))
    )
    assert len(names) <= 5, names
    size = (installed(venv) - before) / 1e6
    assert size < 7
    binary = str(venv / "bin/ccproxy-lite")
    python = str(venv / "bin/python")
    bare = best([python, "-c", "pass"])
    version = best([binary, "--version"])
    start = started([binary], [python, "-c", "import argparse, asyncio, json, ssl, anyio, h11"], tmp_path)
    ROWS.append(f"installed {size:.1f} MB ({', '.join(name.split('-')[0] for name in names)}), --version {version} "
                f"(the bare interpreter: {bare}), {start}")  # fmt: skip
    assert version.cpu_s < 6 * bare.cpu_s
    assert start.ratio < 3, "about 2.4 times"
    assert start.idle_mb < 32


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_start_of_the_one_file(version: str, tmp_path: Path) -> None:
    python = interpreters().get(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed")
    path = bundle()
    bare = [python, "-I", "-c", "import argparse, asyncio, json, ssl"]
    start = started([python, "-I", str(path)], bare, tmp_path)
    ROWS.append(f"one file ({path.stat().st_size / 1e6:.1f} MB) with Python {version}: {start}")
    assert start.ratio < 4, "about 2.7 times; without byte code 7 to 8 times"


def site(venv: Path) -> Path:
    return next((venv / "lib").glob("python*/site-packages"))


def installed(venv: Path) -> int:
    return sum(path.stat().st_size for path in site(venv).rglob("*") if path.is_file())


def best(command: list[str]) -> Spent:
    """The cheapest of several runs: the rest is other people's noise."""
    return cheapest(run_once(command) for _ in range(9))


def run_once(command: list[str]) -> Spent:
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def cheapest(runs: Iterable[Spent]) -> Spent:
    every = list(runs)
    return Spent(min(run.wall_s for run in every), min(run.cpu_s for run in every))


def started(command: list[str], bare: list[str], home: Path) -> Start:
    """Several starts of a proxy, each until it has answered a message, in turn with a bare command."""
    serving, answered, floors, idle_mb = [], [], [], 0.0
    environ = environment(home)
    for _ in range(9):
        floors.append(run_once(bare))
        began = time.monotonic()
        child = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0", "--log-level", "error"],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        try:
            assert child.stdout is not None
            port = int(child.stdout.readline().rpartition(":")[2])
            serving.append(time.monotonic() - began)
            assert ask(port, "/v1/messages", ASKS["anthropic"]).status == 200
            answered.append(Spent(time.monotonic() - began, cpu_s(child.pid)))
            idle_mb = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
    ratio = statistics.median(start.cpu_s / floor.cpu_s for start, floor in zip(answered, floors, strict=True))
    return Start(min(serving), cheapest(answered), idle_mb, cheapest(floors), ratio)


def test_print_what_was_measured() -> None:
    print("\n| what | unit | proxy, us CPU | floor, us CPU | ratio |\n|---|---|---|---|---|")
    print("\n".join(ROWS))
