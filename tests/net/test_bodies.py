"""Bodies that are passed on while they arrive."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest

from ccproxy_lite.net.bodies import CONTINUE, BodyError, IncomingBody
from ccproxy_lite.net.framing import Decoder


class Transport:
    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.socket: socket.socket | None = None

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return self.socket


def body(framing: Any, *, invite: bool = False) -> tuple[IncomingBody, Transport, list[bool]]:
    transport, awaited = Transport(), []
    made = IncomingBody(
        Decoder(framing),
        transport,  # type: ignore[arg-type]
        invite,
        lambda: awaited.append(made.awaited),
        lambda: transport.calls.append("left"),
    )
    return made, transport, awaited


def all_of(incoming: IncomingBody) -> list[bytes]:
    async def receive() -> list[bytes]:
        pieces = []
        while piece := await incoming.receive():
            pieces.append(piece)
        return pieces

    return anyio.run(receive)


def test_what_came_before_it_was_asked_for() -> None:
    incoming, _, _ = body(5)
    assert (incoming.length, incoming.complete) == (5, False)
    assert [incoming.feed(b"ab"), incoming.feed(b"cdeNEXT")] == [b"", b"NEXT"]
    assert (incoming.complete, all_of(incoming), all_of(incoming)) == (True, [b"abcde"], [])


def test_no_body_is_complete_at_once() -> None:
    incoming, _, _ = body(0)
    assert (incoming.feed(b""), incoming.complete, all_of(incoming)) == (b"", True, [])


@pytest.mark.parametrize("size", range(1, 24))
def test_chunks_cut_anywhere(size: int) -> None:
    raw, (incoming, _, _) = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nGET", body("chunked")
    behind = b""
    for at in range(0, len(raw), size):
        behind = incoming.feed(raw[at : at + size])
    assert (incoming.length, b"".join(all_of(incoming)), behind) == (None, b"abcde", b"GET")


def test_more_than_fits_is_not_read_until_it_is_taken() -> None:
    incoming, transport, _ = body(1_000_000)

    async def main() -> None:
        incoming.feed(bytes(65_535))
        assert transport.calls == []
        incoming.feed(b"x")
        incoming.feed(b"y")
        assert transport.calls == ["pause"]
        assert len(await incoming.receive()) == 65_537
        assert transport.calls == ["pause", "resume"]

    anyio.run(main)


def test_who_leaves_while_nothing_is_read_is_noticed() -> None:
    incoming, transport, _ = body(1_000_000)

    async def main() -> None:
        transport.socket, peer = socket.socketpair()
        with transport.socket:
            incoming.feed(bytes(70_000))
            await anyio.sleep(0.5)
            assert transport.calls == ["pause"]
            peer.close()
            with anyio.fail_after(10):
                while "left" not in transport.calls:
                    await anyio.sleep(0.01)

    anyio.run(main)


def test_who_waits_is_woken_and_the_client_invited_once() -> None:
    incoming, transport, awaited = body(4, invite=True)

    async def main() -> list[bytes]:
        pieces: list[bytes] = []

        async def receive() -> None:
            while piece := await incoming.receive():
                pieces.append(piece)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            for piece in (b"ab", b"cd"):
                await anyio.wait_all_tasks_blocked()
                assert incoming.awaited
                incoming.feed(piece)
        return pieces

    assert anyio.run(main) == [b"ab", b"cd"]
    assert (transport.calls, awaited) == ([CONTINUE], [True, False, True, False])


@pytest.mark.parametrize("raw", [b"zz\r\n", b"1\r\nabc"])
def test_broken_framing(raw: bytes) -> None:
    incoming, _, _ = body("chunked")
    incoming.feed(raw)
    with pytest.raises(BodyError) as caught:
        all_of(incoming)
    assert (caught.value.status, incoming.is_over, incoming.complete) == (400, True, False)


def test_a_failure_after_the_end_changes_nothing() -> None:
    incoming, _, _ = body(1)
    incoming.feed(b"x")
    incoming.fail(400, "gone")
    assert all_of(incoming) == [b"x"]


def test_the_first_failure_counts() -> None:
    incoming, transport, _ = body(100_000)

    async def main() -> None:
        incoming.feed(bytes(70_000))
        incoming.fail(408, "too slow")
        incoming.close()

    anyio.run(main)
    assert transport.calls == ["pause", "resume"]
    with pytest.raises(BodyError, match="too slow"):
        all_of(incoming)
