"""``ccproxy-lite demo``: every client format through every upstream format, over real sockets, offline."""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import dataclass

import anyio

from ccproxy_lite import accesslog, echo
from ccproxy_lite.config import Config, Log, Upstream
from ccproxy_lite.formats import FORMATS, Format
from ccproxy_lite.formats.neutral import Event, Message, Reasoning, Request, Target, Text, Tool, fold
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.secrets import Vault
from ccproxy_lite.server import Running, running
from ccproxy_lite.sse import Parser

_SAID = "Grüße aus dem Echo! Please call look_up"
_TOOL = Tool("look_up", "Looks a word up.", {"type": "object", "properties": {"word": {"type": "string"}}})


def main(arguments: argparse.Namespace) -> int:
    """Exit code 0 if every pair brought everything back, 1 if not."""
    return anyio.run(_demo)


async def _demo() -> int:
    accesslog.configure(Log(level="error"), lambda text: text, dict(os.environ))
    async with echo.running() as upstream:
        url = f"http://127.0.0.1:{upstream.port}"
        config = Config(
            tuple(Upstream(name, name, url + ("/v1" if "openai" in name else "")) for name in FORMATS),
            listen="127.0.0.1:0",
        )
        async with running(config, Vault()) as proxy:
            print(f"a proxy at {proxy.url}, and behind it the embedded echo, which speaks every format\n")
            return await _table(proxy)


async def _table(proxy: Running) -> int:
    width = max(map(len, FORMATS)) + 2
    print("client \\ upstream".ljust(width + 6) + "".join(name.ljust(24) for name in FORMATS))
    faults = 0
    for client in FORMATS.values():
        cells = []
        for name in FORMATS:
            seen = [await _ask(proxy, client, name, stream) for stream in (False, True)]
            faults += sum(not result.complete for result in seen)
            cells.append(" / ".join(str(result) for result in seen))
        print(client.name.ljust(width + 6) + "".join(cell.ljust(24) for cell in cells))
    print("\neach cell: whole / streamed; a cell says ok if text, thoughts and a tool call came back")
    return 1 if faults else 0


@dataclass(frozen=True, slots=True)
class Result:
    """What came back of one question."""

    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return not self.missing

    def __str__(self) -> str:
        return "ok" if self.complete else f"no {', '.join(self.missing)}"


async def _ask(proxy: Running, client: Format, upstream: str, stream: bool) -> Result:
    """One question for text and one for a tool call and thoughts, in the client's format."""
    missing = []
    text = await _events(proxy, client, upstream, stream, "Grüße aus dem Echo!", ())
    if "".join(part.text for part in fold(text)[0] if part.start.kind == "text") != "Grüße aus dem Echo!":
        missing.append("text")
    parts, _ = fold(await _events(proxy, client, upstream, stream, _SAID, (_TOOL,)))
    kinds = {part.start.kind for part in parts}
    missing += [name for kind, name in (("tool", "tool call"), ("thinking", "thoughts")) if kind not in kinds]
    return Result(tuple(missing))


async def _events(
    proxy: Running, client: Format, upstream: str, stream: bool, said: str, tools: tuple[Tool, ...]
) -> list[Event]:
    request = Request(
        model=f"{upstream}/echo",
        messages=(Message("user", (Text(said),)),),
        tools=tools,
        reasoning=Reasoning("low") if tools else None,
        max_tokens=4096,
        stream=stream,
        origin=client.name,
    )
    body = dumps(client.write_request(request, Target(request.model)).body).encode()
    answer = await _post(proxy.listener.port, client.messages_path, body)
    if not stream:
        return client.read_body(loads(answer))
    reader, parser = client.reader(""), Parser()
    return [event for part in parser.feed(answer) for event in reader.feed(part)] + reader.close()


async def _post(port: int, path: str, body: bytes) -> bytes:
    """One request with nothing but sockets; HTTP/1.0, so that the answer ends with the connection."""
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
