"""``ccproxy-lite demo``: every client format through every upstream format, over real sockets, offline."""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import replace

import anyio

from ccproxy_lite.config.model import Config, Log, Upstream
from ccproxy_lite.formats import FORMATS, Format
from ccproxy_lite.formats.format import PathInfo, Target
from ccproxy_lite.formats.neutral.events import End, Event, fold
from ccproxy_lite.formats.neutral.request import Message, Reasoning, Request, Text, Tool
from ccproxy_lite.formats.sse import Parser
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.providers import EMBEDDED_BASE_PATHS
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.server import accesslog
from ccproxy_lite.server.echo import echoing
from ccproxy_lite.server.lifecycle import Running, running

_TEXT = "Grüße aus dem Echo!"
_CALLS = 'Please call look_up {"word": "Gruß"} and call look_up {"word": "Echo"}'
_TOOL = Tool("look_up", "Looks a word up.", {"type": "object", "properties": {"word": {"type": "string"}}})


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if every pair brought everything back, 1 if not."""
    return anyio.run(_run_demo)


async def _run_demo() -> int:
    accesslog.configure(Log(level="error"), lambda text: text, dict(os.environ))
    async with echoing() as url:
        config = Config(
            tuple(Upstream(name, name, url + EMBEDDED_BASE_PATHS[name]) for name in FORMATS),
            listen="127.0.0.1:0",
        )
        async with running(config, Vault()) as proxy:
            print(f"Testing all format pairs through a proxy at {proxy.url} (built-in echo upstream)\n")
            return await _print_table(proxy)


async def _print_table(proxy: Running) -> int:
    width = max(map(len, FORMATS)) + 2
    print("client \\ upstream".ljust(width) + "".join(name.ljust(width) for name in FORMATS))
    failed_pairs = 0
    for client in FORMATS.values():
        cells = []
        for name in FORMATS:
            results = [await _failed_checks(proxy, client, name, stream) for stream in (False, True)]
            failed_pairs += any(results)
            cells.append(" / ".join(f"no {', '.join(failed)}" if failed else "ok" for failed in results))
        print(client.name.ljust(width) + "".join(cell.ljust(width) for cell in cells))
    pairs = len(FORMATS) ** 2
    print(f"\n{pairs - failed_pairs} of {pairs} pairs, non-streaming / streaming.")
    print('"ok": text, parallel tool calls, reasoning and the stop reason came back unchanged; tokens were counted.')
    return 1 if failed_pairs else 0


async def _failed_checks(proxy: Running, client: Format, upstream: str, stream: bool) -> list[str]:
    """The checks that failed, of one request for text and one for tool calls and reasoning, in the client's format."""
    failed = []
    text_request = Request(f"{upstream}/echo", _user_message(_TEXT), max_tokens=4096, stream=stream)
    tool_request = replace(
        text_request, messages=_user_message(_CALLS), tools=(_TOOL,), reasoning=Reasoning("low", visible=True)
    )
    parts, end = fold(await _received_events(proxy, client, text_request))
    if "".join(part.text for part in parts if part.start.kind == "text") != _TEXT:
        failed.append("text")
    if not isinstance(end, End) or end.usage is None or not (end.usage.input and end.usage.output):
        failed.append("usage")
    parts, end = fold(await _received_events(proxy, client, tool_request))
    calls = [(part.start.name, loads(part.text or "{}")) for part in parts if part.start.kind == "tool"]
    if not calls:
        failed.append("tool call")
    elif calls != [("look_up", {"word": "Gruß"}), ("look_up", {"word": "Echo"})]:
        failed.append("parallel calls")
    if not isinstance(end, End) or end.reason != "tool_use":
        failed.append("stop reason")
    if not any(part.start.kind == "thinking" and _CALLS in part.text for part in parts):
        failed.append("reasoning")
    return failed


def _user_message(text: str) -> tuple[Message, ...]:
    return (Message("user", (Text(text),)),)


async def _received_events(proxy: Running, client: Format, request: Request) -> list[Event]:
    """The response that a client of that format gets."""
    outgoing = client.write_request(request, Target(request.model))
    path = client.write_path(request.model, PathInfo(streams=request.stream))
    answer = await _post_request(proxy.listener.port, path, dumps(outgoing.body).encode())
    if not request.stream:
        return client.read_body(loads(answer), "")
    reader, parser = client.reader(""), Parser()
    return [event for sse_event in parser.feed(answer) for event in reader.feed(sse_event)] + reader.close()


async def _post_request(port: int, path: str, body: bytes) -> bytes:
    """One request with nothing but sockets; HTTP/1.0, so that the answer ends with the connection."""
    # OpenAI's paths are relative to a base URL that ends in /v1.
    path = path if path.startswith("/v1") else f"/v1{path}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2]
