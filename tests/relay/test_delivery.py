"""One attempt's answer, without a socket: its states, and what the client gets of it."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest

from ccproxy_lite.clock import Clock
from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.format import Progress
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.heads import AnswerHead
from ccproxy_lite.providers.provider import SERVER_SENT_EVENTS
from ccproxy_lite.relay.delivery import Delivery
from ccproxy_lite.relay.reply import Reply


class Stream:
    """Content begins with ``!``, the end is ``.``, an error event ``E``; what is passed on is upper-cased."""

    def __init__(self) -> None:
        self.progress = Progress()

    def feed(self, data: bytes) -> bytes:
        if b"B" in data:
            raise UpstreamError("broken")
        self.progress.content, self.progress.over = self.progress.content or b"!" in data, b"." in data
        self.progress.failed = Failed(529, "overloaded", "busy") if b"E" in data else None
        return data.upper()

    def close(self) -> bytes:
        return b"" if self.progress.over else self.fail(Failed(502, "server", "ended early"))

    def fail(self, failed: Failed) -> bytes:
        self.progress.failed = failed
        return f"<{failed.message}>".encode()

    def take_dropped(self) -> tuple[str, ...]:
        return ()


class Client:
    """The client's end, as a list of what happens there."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.begun = False

    def begin(self, answer: AnswerHead, dropped: tuple[str, ...]) -> None:
        self.told.append("head")

    def write(self, data: bytes) -> None:
        self.told.append(data.decode())

    def fail(self, failed: Failed, written: bytes | None = None) -> None:
        self.told.append(f"failed {(written or b'').decode()}")

    def finish(self, events: bytes = b"") -> None:
        self.told += [events.decode(), "end"] if events else ["end"]

    def pause_nobody(self) -> None: ...


EVENTS = AnswerHead(200, [(b"content-type", b"text/event-stream")])
UNSAID = AnswerHead(200, [])
JSON = AnswerHead(200, [(b"content-type", b"application/json")])
BUSY = AnswerHead(529, [(b"content-type", b"text/event-stream")])


def played(*steps: Any, stream: bool = True, most: int = 100) -> tuple[Delivery, list[str]]:
    """A delivery that has been told these heads, bytes and endings."""

    async def play() -> tuple[Delivery, list[str]]:
        client = Client()
        delivery = Delivery(cast(Reply, client), Stream() if stream else None, most, SERVER_SENT_EVENTS, Clock())
        for step in steps:
            if isinstance(step, AnswerHead):
                delivery.head(step)
            elif isinstance(step, bytes):
                delivery.data(step)
            elif step == "end":
                delivery.end()
            else:
                delivery.failed_upstream(UpstreamError(step))
        return delivery, client.told

    return anyio.run(play)


@pytest.mark.parametrize(
    ("steps", "state", "told", "failed"),
    [
        ([], "head", [], None),
        ([EVENTS], "undecided", [], None),
        ([EVENTS, b" {"], "collecting", [], None),
        ([JSON, b"data!"], "passing", ["head", "DATA!"], None),
        ([EVENTS, b"a"], "holding", [], None),
        ([EVENTS, b"a", b"!"], "passing", ["head", "A!"], None),
        ([EVENTS, b"a!", b"c."], "over", ["head", "A!", "C.", "end"], None),
        ([EVENTS, b"a!."], "over", ["head", "A!.", "end"], None),
        ([EVENTS, b"a!.", b"more", "end"], "over", ["head", "A!.", "end"], None),
        ([EVENTS, b"E"], "over", [], "busy"),
        ([EVENTS, b"!", b"E"], "over", ["head", "!", "failed E"], "busy"),
        ([EVENTS, b"B"], "over", [], "broken"),
        ([EVENTS, b"!", b"B"], "over", ["head", "!", "failed <broken>"], "broken"),
        ([EVENTS, b"a", "end"], "over", [], "ended early"),
        ([EVENTS, b"a!", "end"], "over", ["head", "A!", "failed <ended early>"], "ended early"),
        ([EVENTS, "cut"], "over", [], "cut"),
        ([EVENTS, b"!", "cut"], "over", ["head", "!", "failed <cut>"], "cut"),
        ([EVENTS, b"!.", "cut"], "over", ["head", "!.", "end"], None),
        ([UNSAID], "undecided", [], None),
        ([UNSAID, b"  "], "undecided", [], None),
        ([UNSAID, b"data!"], "passing", ["head", "DATA!"], None),
        ([UNSAID, b" {"], "collecting", [], None),
        ([UNSAID, "end"], "collecting", [], None),
        ([JSON, b"<html>", b"!", "end"], "collecting", [], None),
        ([JSON, b"[1", "cut"], "over", [], "cut"),
        ([BUSY, b"data: !", "end"], "collecting", [], None),
        (["cut"], "over", [], "cut"),
    ],
)
def test_states(steps: list[Any], state: str, told: list[str], failed: str | None) -> None:
    delivery, heard = played(*steps)
    assert (delivery.state, heard) == (state, told)
    assert (delivery.failed.message if delivery.failed else None) == failed
    assert delivery.committed == ("head" in told)
    assert delivery.done.is_set() == (state == "over" or "end" in steps)
    assert delivery.ended.is_set() == bool({"end", "cut"} & {step for step in steps if isinstance(step, str)})


@pytest.mark.parametrize("head", [EVENTS, JSON, UNSAID])
def test_what_nobody_streams_is_collected(head: AnswerHead) -> None:
    delivery, told = played(head, b"one", b"two", "end", stream=False)
    assert (delivery.state, delivery.body, told) == ("collecting", b"onetwo", [])


@pytest.mark.parametrize(("head", "stream"), [(JSON, False), (EVENTS, True), (UNSAID, True)])
def test_what_is_held_is_bounded(head: AnswerHead, stream: bool) -> None:
    delivery, told = played(head, b"x" * 60, b"x" * 60, b"x", stream=stream, most=100)
    assert delivery.failed is not None and "larger than 100 bytes" in delivery.failed.message
    assert (delivery.state, delivery.body, told) == ("over", b"", [])


def test_what_was_passed_on_is_not_held() -> None:
    delivery, told = played(EVENTS, b"!", *[b"x" * 60] * 5, most=100)
    assert (delivery.state, len(told), delivery.body) == ("passing", 7, b"")
