"""The measurements: of one proxy, that is started for it, and one kind of load."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.bench.load import cpu_s, drive
from tests.bench.scenarios import EVENTS, HEADERS, SCENARIOS, Contender, Scenario, ask, connected, free_port, started
from tests.support import ROOT, clean_environment

VALGRIND, STRACE = shutil.which("valgrind"), shutil.which("strace")
_MARK = re.compile(rb"T(\d+)Z")
_PACED_STREAMS, _PACED_EVENTS, _PACED_MS = 200, 100, 40
_LARGE_BYTES = 5_000_000


class Bench:
    """A service, and a folder for what is written."""

    def __init__(self, upstream_port: int, folder: Path) -> None:
        self._upstream = upstream_port
        self._folder = folder

    def _prepare(self, contender: Contender, scenario: Scenario) -> tuple[int, list[str]]:
        ask(self._upstream, "/_ctl", scenario.settings)
        port = free_port()
        return port, contender.argv(scenario, port, self._upstream, self._folder)

    # --- counted by tools

    def instructions(self, contender: Contender, scenario: Scenario) -> float:
        """In user space, for each unit."""
        few, many, units = (5, 25, EVENTS) if scenario.is_streamed else (20, 120, 1)
        tool = [str(VALGRIND), "--tool=callgrind", f"--callgrind-out-file={self._folder}/callgrind"]
        counts = []
        for requests in (few, many):
            port, argv = self._prepare(contender, scenario)
            log = self._under(tool, port, argv, scenario, requests)
            found = re.search(r"Collected : (\d+)", log)
            assert found is not None, log
            counts.append(int(found[1]))
        return (counts[1] - counts[0]) / (many - few) / units

    def system_calls(self, contender: Contender, scenario: Scenario) -> float:
        """For each request, or each stream."""
        few, many = (20, 120)
        counts = []
        for requests in (few, many):
            port, argv = self._prepare(contender, scenario)
            report = self._folder / "strace"
            self._under([str(STRACE), "-f", "-c", "-o", str(report)], port, argv, scenario, requests)
            counts.append(int(report.read_text().splitlines()[-1].split()[3 if "errors" in report.read_text() else 2]))
        return (counts[1] - counts[0]) / (many - few)

    def _under(self, tool: list[str], port: int, argv: list[str], scenario: Scenario, requests: int) -> str:
        """The output of a tool under which a proxy has answered so many requests on one connection."""
        log = self._folder / "log"
        with log.open("w") as out:
            child = subprocess.Popen([*tool, *argv], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=ROOT,
                                     env=clean_environment(self._folder))  # fmt: skip
            try:
                connection = connected(child, port)
                for _ in range(requests):
                    ask_on(connection, scenario)
                connection.close()
            finally:
                if child.poll() is None:
                    for pid in _children(child.pid) or [child.pid]:  # strace ends with what it looks at
                        os.kill(pid, signal.SIGTERM)
                child.wait(120)
        return log.read_text()

    # --- accounted by the operating system

    def cpu_us(self, contender: Contender, scenario: Scenario) -> float:
        """Processor time of the proxy for each unit, in microseconds."""
        is_large = len(scenario.request()) > 100_000
        count, parallel = (40, 2) if is_large else (160, 8) if scenario.is_streamed else (4000, 8)
        port, argv = self._prepare(contender, scenario)
        with started(argv, port, self._folder) as child:
            asyncio.run(drive(port, scenario.request(), parallel * 4, parallel))  # warm
            before = cpu_s(child.pid)
            asyncio.run(drive(port, scenario.request(), count, parallel))
            return (cpu_s(child.pid) - before) / count / (EVENTS if scenario.is_streamed else 1) * 1e6

    def paced(self, contender: Contender) -> dict[str, float]:
        """Many slow streams, converted: processor time for each event, and how late events are."""
        scenario = SCENARIOS["stream-anthropic-chat"]
        port, argv = self._prepare(contender, scenario)
        ask(self._upstream, "/_ctl", {"chunks": _PACED_EVENTS, "delay_ms": _PACED_MS})
        with started(argv, port, self._folder) as child:
            before = cpu_s(child.pid)
            late_s = sorted(asyncio.run(_streams(port, scenario, _PACED_STREAMS)))
            spent_us = (cpu_s(child.pid) - before) / len(late_s) * 1e6
        return {
            "CPU us": spent_us,
            "p50 ms": late_s[len(late_s) // 2] * 1e3,
            "p99 ms": late_s[-len(late_s) // 100] * 1e3,
        }

    def longest_gaps(self, contender: Contender) -> dict[str, float]:
        """Milliseconds between two events of other streams while large bodies are converted."""
        scenario = SCENARIOS["stream-anthropic-chat"]
        block = {"type": "text", "text": "some words of a file " * 40}
        messages = [{"role": ("user", "assistant")[at % 2], "content": [block]} for at in range(_LARGE_BYTES // 900)]
        large = json.dumps({"model": "m", "max_tokens": 9, "messages": [*messages, {"role": "user", "content": "go"}]})
        tiny = '{"model": "m", "max_tokens": 9, "messages": [' + '{"a":[]},' * 1_000_000 + "[]]}"
        gaps = {}
        for name, body, count in (("quiet", "", 0), ("5 MB", large, 4), ("a million tiny values", tiny, 1)):
            port, argv = self._prepare(contender, scenario)
            ask(self._upstream, "/_ctl", {"chunks": 300, "delay_ms": 10})
            with started(argv, port, self._folder):
                gaps[name] = asyncio.run(_longest_gap(port, scenario, body.encode(), count)) * 1e3
        return gaps

    def idle_mb(self, contender: Contender) -> float:
        """Resident memory after a first answer."""
        scenario = SCENARIOS["small-converted"]
        port, argv = self._prepare(contender, scenario)
        with started(argv, port, self._folder) as child:
            ask(port, scenario.path, scenario.body)
            pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def ask_on(connection: http.client.HTTPConnection, scenario: Scenario) -> None:
    """One request on a connection that stays open."""
    connection.request("POST", scenario.path, json.dumps(scenario.body), HEADERS)
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status == 200, data[:300]


def _children(pid: int) -> list[int]:
    """Of strace, which runs what it looks at as a child; valgrind is the process itself."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _streams(port: int, scenario: Scenario, count: int) -> list[float]:
    """The delays, in seconds, of all events of so many streams at a time."""
    late_s: list[float] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(scenario.request())
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            data = await reader.read(65536)
            now = time.monotonic_ns()
            assert data, "the stream was cut"
            rest += data
            for mark in _MARK.finditer(rest):
                late_s.append((now - int(mark[1])) / 1e9)
                end = mark.end()
            rest = rest[end:] if _MARK.search(rest) else rest[-64:]
        writer.close()

    await asyncio.gather(*(one() for _ in range(count)))
    assert len(late_s) == count * _PACED_EVENTS, len(late_s)
    return late_s


async def _longest_gap(port: int, scenario: Scenario, body: bytes, count: int) -> float:
    """The longest time in seconds between two reads of any of twenty streams."""
    gaps: list[float] = []

    async def stream() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(scenario.request())
        await reader.readuntil(b"text_delta")
        last = time.monotonic()
        while data := await reader.read(65536):
            now = time.monotonic()
            gaps.append(now - last)
            last = now
            if data.endswith(b"0\r\n\r\n"):
                break
        writer.close()

    async def large() -> None:
        await asyncio.sleep(0.5)
        head = scenario.request().partition(b"\r\n\r\n")[0]
        head = re.sub(rb"content-length: \d+", b"content-length: %d" % len(body), head)
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"\r\n\r\n" + body)
            await reader.read(1)
            writer.close()

    await asyncio.gather(*(stream() for _ in range(20)), large())
    return max(gaps)
