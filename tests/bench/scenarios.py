"""What is measured, and who takes part: requests of each kind, and proxies as processes of their own."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import ROOT, clean_environment

EVENTS = 200
BURST = 5
_TEXT = [{"role": "user", "content": "hello there"}]
_MESSAGES = {"model": "claude-x", "max_tokens": 100, "messages": _TEXT}
_HISTORY = [
    {"role": ("user", "assistant")[at % 2], "content": [{"type": "text", "text": "words of some file, again. " * 33}]}
    for at in range(1000)
]
HEADERS = {"content-type": "application/json", "x-api-key": "client", "anthropic-version": "2023-06-01"}


class Scenario(NamedTuple):
    """A request, to a service of a format; ``mode`` is the floor's."""

    upstream: str
    mode: str
    path: str
    body: dict[str, Any]
    is_streamed: bool = False

    @property
    def unit(self) -> str:
        return "event" if self.is_streamed else "request"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the service."""
        return {"chunks": EVENTS, "burst": BURST} if self.is_streamed else {}

    def request(self) -> bytes:
        """As bytes for a connection that stays open."""
        body = json.dumps(self.body).encode()
        lines = [f"POST {self.path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in HEADERS.items()), "", ""]).encode() + body


SCENARIOS = {
    "small-same": Scenario("anthropic", "relay", "/v1/messages", _MESSAGES),
    "small-converted": Scenario("openai-chat", "conv", "/v1/messages", _MESSAGES),
    "stream-same": Scenario("anthropic", "relay", "/v1/messages", {**_MESSAGES, "stream": True}, True),
    "stream-anthropic-chat": Scenario("openai-chat", "conv", "/v1/messages", {**_MESSAGES, "stream": True}, True),
    "stream-chat-anthropic": Scenario(
        "anthropic", "conv", "/v1/chat/completions", {"model": "x", "stream": True, "messages": _TEXT}, True
    ),
    "stream-responses-chat": Scenario(
        "openai-chat", "conv", "/v1/responses",
        {"model": "gpt-x", "stream": True, "instructions": "be brief", "input": "hello there"}, True,
    ),
    "stream-gemini-anthropic": Scenario(
        "anthropic", "conv", "/v1beta/models/x:streamGenerateContent?alt=sse",
        {"systemInstruction": {"parts": [{"text": "be brief"}]},
         "contents": [{"role": "user", "parts": [{"text": "hello there"}]}]}, True,
    ),
    "large-converted": Scenario("openai-chat", "conv", "/v1/messages", {**_MESSAGES, "messages": _HISTORY}),
}  # fmt: skip
"""The second half of a name is client and service, where they differ."""


class Contender(NamedTuple):
    """A proxy; ``command`` of a peer has ``{port}`` and ``{upstream}`` in it."""

    name: str
    command: str = ""

    def argv(self, scenario: Scenario, port: int, upstream_port: int, folder: Path) -> list[str]:
        if self.name == "floor":
            return [sys.executable, "-m", "tests.bench.floor", scenario.mode, str(port), str(upstream_port)]
        if self.command:
            return shlex.split(self.command.format(port=port, upstream=upstream_port))
        base = f"http://127.0.0.1:{upstream_port}" + ("/v1" if scenario.upstream == "openai-chat" else "")
        service = {"format": scenario.upstream, "base_url": base, "keys": ["a-key-that-is-long"]}
        config = folder / f"{port}.json"
        config.write_text(
            json.dumps({"listen": f"127.0.0.1:{port}", "log": {"level": "warning"}, "upstreams": {"u": service}})
        )
        return [sys.executable, "-m", "ccproxy_lite", "serve", "--config", str(config)]


OURS, FLOOR = Contender("ours"), Contender("floor")


def free_port() -> int:
    """Below the ephemeral range, where a port may be taken by a connection to somewhere else."""
    return random.randint(12_000, 28_000)


@contextlib.contextmanager
def started(argv: list[str], port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on the port, until the block ends."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=ROOT,
                             stderr=subprocess.DEVNULL, env=clean_environment(folder))  # fmt: skip
    try:
        connected(child, port).close()
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def connected(child: subprocess.Popen[bytes], port: int) -> http.client.HTTPConnection:
    """A connection to a process as soon as it listens."""
    until = time.monotonic() + 240
    while time.monotonic() < until and child.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        try:
            connection.connect()
            return connection
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on {port}: {child.args}")


@contextlib.contextmanager
def service(folder: Path) -> Iterator[int]:
    """The port of a service that does not exist."""
    port = free_port()
    with started([sys.executable, "-m", "tests.bench.upstream", str(port)], port, folder):
        yield port


def ask(port: int, path: str, body: Any) -> bytes:
    """The body of the answer to a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps(body), HEADERS)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} was answered with {answer.status}: {data[:300]!r}")
    return data
