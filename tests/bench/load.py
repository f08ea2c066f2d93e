"""A load generator and a floor for it: raw sockets, as cheap as they can be, so that what is measured is the proxy.

``python -m tests.bench.load serve FORMAT EVENTS`` answers every request with a canned answer of that format (a stream
of EVENTS deltas where a stream is asked for) and prints its port; ``drive`` sends requests and waits for their ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import ReplyInfo
from ccproxy_lite.formats.neutral.events import Begin, End, Event, PartDelta, PartEnd, PartStart, Usage
from ccproxy_lite.formats.neutral.request import Request


def canned(form: str, events: int) -> tuple[bytes, bytes, list[bytes]]:
    """A whole answer, and a streamed one: its head and its chunks."""
    reply = ReplyInfo(Request("some-model", extra={"stream_options": {"include_usage": True}}), "123456789", 1)
    deltas: list[Event] = [PartDelta("word and ") for _ in range(events)]
    said = [Begin("id", "m"), PartStart("text"), *deltas, PartEnd(), End("end", Usage(9, 9))]
    whole = json.dumps(FORMATS[form].write_body(said[:3] + said[-2:], reply))
    writer = FORMATS[form].writer(reply)
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in map(writer.write, said) if piece]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    sized = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(whole)
    return sized + whole.encode(), head, [*chunks, b"0\r\n\r\n"]


TICKS = os.sysconf("SC_CLK_TCK")


class Upstream(asyncio.Protocol):
    """Answers by what the request's body asks for."""

    def __init__(self, whole: bytes, head: bytes, chunks: list[bytes], pace_s: float) -> None:
        self.whole, self.head, self.chunks, self.pace_s = whole, head, chunks, pace_s
        self.stream = head + b"".join(chunks)
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.data += data
        while True:
            head, mark, rest = self.data.partition(b"\r\n\r\n")
            if not mark:
                return
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0])
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            if b'"stream":true' not in body.replace(b" ", b"") and b":streamGenerateContent" not in head:
                self.transport.write(self.whole)
            elif self.pace_s:
                self.transport.write(self.head)
                self.paced(0)
            else:
                self.transport.write(self.stream)

    def paced(self, at: int) -> None:
        """One chunk at a time: the way tokens come."""
        if at < len(self.chunks):
            self.transport.write(self.chunks[at])
            asyncio.get_running_loop().call_later(self.pace_s, self.paced, at + 1)


async def serve(form: str, events: int, pace_s: float) -> None:
    whole, head, chunks = canned(form, events)
    server = await asyncio.get_running_loop().create_server(
        lambda: Upstream(whole, head, chunks, pace_s), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the parent closes it


def cpu_s(pid: int) -> float:
    """User and system time of a process and all that it has started, in seconds.

    In nanoseconds where the kernel counts them, else, and for those that have ended, in ticks.
    """
    running = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = [int(one) for one in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]
    try:
        tasks = [task.read_text().split()[0] for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        own_s = sum(map(int, tasks)) / 1e9
    except OSError:
        own_s = 0.0
    return (own_s or sum(fields[:2]) / TICKS) + sum(fields[2:]) / TICKS + sum(map(cpu_s, map(int, running)))


async def drive(port: int, request: bytes, count: int, parallel: int) -> None:
    """``count`` requests over ``parallel`` keep-alive connections, each awaited to its end."""

    async def one(share: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        for _ in range(share):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 " in head, head
            if b"chunked" in head:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            else:
                at = head.find(b"content-length:")
                await reader.readexactly(int(head[at + 15 :].split(b"\r\n")[0]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one(count // parallel) for _ in range(parallel)))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
