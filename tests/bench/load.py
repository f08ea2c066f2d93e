"""A load generator and a floor for it: raw sockets, as cheap as they can be, so that what is measured is the proxy.

``python -m tests.bench.load serve FORMAT EVENTS`` answers every request with a canned answer of that format (a stream
of EVENTS deltas where a stream is asked for) and prints its port; ``drive`` sends requests and waits for their ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.support import ANTHROPIC_BODY, CHAT_BODY


def canned(form: str, events: int) -> tuple[bytes, bytes, list[bytes]]:
    """A whole answer, and a streamed one: its head and its chunks."""
    if form == "anthropic":
        whole = json.dumps(ANTHROPIC_BODY)
        message = {**ANTHROPIC_BODY, "content": [], "stop_reason": None}
        first = [
            ("message_start", {"message": message}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ]
        delta = ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "word and "}})
        last = [
            ("content_block_stop", {"index": 0}),
            (
                "message_delta",
                {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 9}},
            ),
            ("message_stop", {}),
        ]

        def line(event: tuple[str, dict[str, object]]) -> str:
            return f"event: {event[0]}\ndata: {json.dumps({'type': event[0], **event[1]})}\n\n"

        stream = [line(event) for event in [*first, *[delta] * events, *last]]
    else:
        whole = json.dumps(CHAT_BODY)
        base = {"id": "chatcmpl-123456789", "object": "chat.completion.chunk", "created": 1, "model": "some-model"}

        def piece(delta: dict[str, str], finish: str | None = None) -> str:
            return (
                "data: "
                + json.dumps({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
                + "\n\n"
            )

        stream = [
            piece({"role": "assistant", "content": ""}),
            *[piece({"content": "word and "})] * events,
            piece({}, "stop"),
        ]
        stream.append("data: [DONE]\n\n")
    chunks = [b"%x\r\n%b\r\n" % (len(text), text.encode()) for text in stream]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    sized = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(whole)
    return sized + whole.encode(), head, [*chunks, b"0\r\n\r\n"]


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
            if b'"stream":true' not in body.replace(b" ", b""):
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
