"""Work in a copy of the process: outcomes, errors, ends, order and bounds; and calls whose bodies are read there."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from ccproxy_lite.errors import ClientError
from ccproxy_lite.relay.call import CAN_FORK
from ccproxy_lite.relay.offload import Offload, Peer
from tests.support import WIRES, Answer, ask, behind, connect, eventually, http, proxy, request_bytes, upstream

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="this system cannot copy a process")

BOUND = 1000


def outcome(function: Callable[[], Any]) -> Any:
    return anyio.run(lambda: Offload(BOUND).run(function, 1))


@pytest.mark.parametrize("value", [None, {"a": [1, "é"]}, b"x" * 3_000_000])
def test_a_value_comes_back(value: Any) -> None:
    assert outcome(lambda: value) == value


def test_an_error_comes_back_with_all_that_it_says() -> None:
    def fail() -> None:
        raise ClientError(413, "too much", param="messages", code="big")

    with pytest.raises(ClientError, match="too much") as raised:
        outcome(fail)
    error = raised.value
    assert (error.status, error.message, error.param, error.code, error.kind) == (413, "too much", "messages", "big", "too_large")  # fmt: skip


def test_deep_nesting_comes_back_as_what_it_is() -> None:
    def fail() -> None:
        raise RecursionError("too deep")

    with pytest.raises(RecursionError):
        outcome(fail)


def test_a_bug_is_told() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        outcome(lambda: 1 / 0)


def test_what_cannot_be_sent_is_told() -> None:
    with pytest.raises(RuntimeError, match="lambda"):
        outcome(lambda: lambda: 1)


def test_a_child_that_dies_is_told() -> None:
    with pytest.raises(RuntimeError, match="has died"):
        outcome(lambda: os.kill(os.getpid(), 9))


def test_what_is_left_is_killed_and_its_place_is_free() -> None:
    async def main() -> None:
        offload = Offload(BOUND, 1)

        def work(peer: Peer) -> None:
            peer.answer(os.getpid)
            peer.receive()

        async with offload.forked(work, 1) as child:
            pid = await child.receive()
            os.kill(pid, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert await offload.run(lambda: 7, 1) == 7

    anyio.run(main)


def test_sockets_are_not_held_by_a_child() -> None:
    async def main() -> list[str]:
        kept = os.dup(0)
        try:
            return await Offload(BOUND).run(lambda: sorted(os.listdir("/dev/fd"), key=int), 1)
        finally:
            os.close(kept)

    assert len(anyio.run(main)) <= 6  # the standard ones, two pipes, and the listing itself


def test_order_and_bounds() -> None:
    """So many bytes at once, in the order of arrival; a body that is larger than the bound runs alone."""

    async def main() -> list[int]:
        offload, done = Offload(BOUND, 2), list[int]()
        most = 0

        async def one(number: int, size: int) -> None:
            nonlocal most

            def work(peer: Peer) -> None:
                peer.receive()
                peer.answer(lambda: number)

            async with offload.forked(work, size) as child:
                most = max(most, offload._bytes)
                assert offload._bytes <= BOUND or offload._children == 1
                await child.send("go")
                done.append(await child.receive())

        async with anyio.create_task_group() as tasks:
            for number, size in enumerate((600, 600, 5 * BOUND, 10, 10)):
                tasks.start_soon(one, number, size)
                await anyio.lowlevel.checkpoint()
        assert offload._bytes == offload._children == 0 and most == 5 * BOUND
        return done

    done = anyio.run(main)
    assert done[:3] == [0, 1, 2] and sorted(done) == [0, 1, 2, 3, 4]


def test_who_stops_waiting_lets_others_pass() -> None:
    async def main() -> int:
        offload = Offload(BOUND, 1)
        async with offload.forked(lambda peer: peer.receive(), 1):
            with anyio.move_on_after(0.05) as scope:
                await offload.run(lambda: 1, 1)
            assert scope.cancelled_caught
        return await offload.run(lambda: 2, 1)

    assert anyio.run(main) == 2


# ---------------------------------------------------------------- calls


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccproxy_lite.relay.call.LARGE_BYTES", 0)


SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOLS: dict[str, dict[str, Any]] = {
    "anthropic": {
        "tools": [{"name": "Read", "input_schema": SCHEMA}],
        "system": [{"type": "text", "text": "be brief"}],
    },
    "openai-responses": {
        "tools": [{"type": "function", "name": "Read", "parameters": SCHEMA}],
        "instructions": "be brief",
    },
    "openai-chat": {"tools": [{"type": "function", "function": {"name": "Read", "parameters": SCHEMA}}]},
    "gemini": {"tools": [{"functionDeclarations": [{"name": "Read", "parameters": SCHEMA}]}]},
}


def exchange(client: str, above: str, stream: bool, **config: Any) -> tuple[Any, Answer]:
    """What the upstream was sent, and what the client was answered."""
    path, body = WIRES[client].asked(stream)
    body = {**body, **TOOLS[client]}
    script = WIRES[above].stream if stream else [http(200, WIRES[above].body)]
    with upstream(script) as up, proxy(behind(up, above, **config)) as served:
        answer = ask(served.port, path, body)
    return [(seen.head.split("\r\n")[0], seen.json) for seen in up.seen], answer


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("above", WIRES)
@pytest.mark.parametrize("client", WIRES)
def test_it_makes_no_difference(client: str, above: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    near, near_answer = exchange(client, above, stream)
    monkeypatch.setattr("ccproxy_lite.relay.call.LARGE_BYTES", 0)
    far, far_answer = exchange(client, above, stream)
    assert far == near and near_answer.status == far_answer.status == 200
    assert len(far_answer.body) == len(near_answer.body)
    assert far_answer.headers.keys() == near_answer.headers.keys()


@pytest.mark.usefixtures("everything_is_large")
class TestLargeCalls:
    def test_failover_writes_for_the_next_target(self) -> None:
        path, body = WIRES["anthropic"].asked(False)
        with upstream([http(500, {"error": {"message": "broken"}})]) as first, \
             upstream([http(200, WIRES["gemini"].body)]) as second:  # fmt: skip
            config = {
                "upstreams": {**behind(first, "openai-chat")["upstreams"],
                              "other": behind(second, "gemini")["upstreams"]["up"]},
                "models": {"*": ["up/m", "other/g"]}, "retries": 0,
            }  # fmt: skip
            with proxy(config) as served:
                answer = ask(served.port, path, body)
        assert answer.status == 200 and answer.headers["x-ccproxy-upstream"] == "other/g"
        assert "contents" in second.seen[0].json

    @pytest.mark.parametrize(
        ("body", "message"),
        [(b'{"model": "m", ', "not JSON"), (b"[1]", "JSON object"), (b'{"messages": []}', "model is required"),
         (b'{"model": "m", "max_tokens": 1, "messages": [{"role": "cat", "content": "x"}]}', "role"),
         (b'{"model": "m", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deep")],
    )  # fmt: skip
    def test_what_is_wrong_is_told(self, body: bytes, message: str) -> None:
        with upstream([]) as up, proxy(behind(up, "openai-chat")) as served:
            answer = ask(served.port, "/v1/messages", body, content_type="application/json")
        assert answer.status == 400 and message in answer.json["error"]["message"] and not up.seen

    def test_conditions_of_targets_see_all_of_it(self) -> None:
        path, body = WIRES["anthropic"].asked(False)
        body = {**body, "messages": [{"role": "user", "content": "word " * 9000}]}
        with upstream([http(200, WIRES["openai-chat"].body)]) as up:
            config = behind(up, "openai-chat")
            config["models"] = {"*": [{"to": "up/long", "when": {"tokens_over": 5000}}, "up/short"]}
            with proxy(config) as served:
                assert ask(served.port, path, body).headers["x-ccproxy-upstream"] == "up/long"

    def test_a_response_that_is_kept_is_continued_with_all_of_it(self) -> None:
        with upstream([http(200, WIRES["openai-chat"].body)]) as up, proxy(behind(up, "openai-chat")) as served:
            first = ask(served.port, "/v1/responses", {"model": "m", "input": "the first question"})
            asked = {"model": "m", "input": "and then?", "previous_response_id": first.json["id"]}
            assert ask(served.port, "/v1/responses", asked).status == 200
        said = json.dumps(up.seen[1].json["messages"])
        assert "the first question" in said and "and then?" in said

    def test_counting(self) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "word " * 1000}]}
        with upstream([http(404, {})]) as up, proxy(behind(up, "openai-chat")) as served:
            answer = ask(served.port, "/v1/messages/count_tokens", body)
        assert answer.status == 200 and answer.json["input_tokens"] > 900

    def test_a_client_that_leaves_ends_the_work(self) -> None:
        """Its body would be parsed for a long time: the copy is gone as soon as the client is."""
        body = b'{"model": "m", "messages": [' + b"[]," * 3_000_000 + b"[]]}"
        with upstream([]) as up, proxy(behind(up, "openai-chat")) as served:
            offload = served.parts.relay.upstreams.offload
            with connect(served.port) as sock:
                sock.sendall(request_bytes("/v1/messages", body, content_type="application/json"))
                assert eventually(lambda: offload._children == 1)
            assert eventually(lambda: offload._children == 0, 2)


def test_no_child_is_left_after_a_reload_or_the_end(everything_is_large: None) -> None:
    path, body = WIRES["anthropic"].asked(False)
    with upstream([http(200, WIRES["openai-chat"].body)]) as up, proxy(behind(up, "openai-chat")) as served:
        pids = []
        for _ in range(2):
            assert ask(served.port, path, body).status == 200
            idle = served.parts.relay.upstreams.offload._idle
            assert eventually(lambda idle=idle: len(idle) == 1)
            pids.append(idle[0]._pid)
            served.run(served.parts.use, served.parts.relay.config)
        assert ask(served.port, path, body).status == 200
        idle = served.parts.relay.upstreams.offload._idle
        assert eventually(lambda: len(idle) == 1)
        pids.append(idle[0]._pid)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_others_are_answered_while_a_large_body_is_read() -> None:
    """A million tiny values hold an interpreter for seconds; another request needs less than that."""
    body = b'{"model": "m", "messages": [' + b'{"a":[]},' * 1_000_000 + b"[]]}"
    answers: list[int] = []
    path, small = WIRES["anthropic"].asked(False)
    with upstream([http(200, WIRES["openai-chat"].body)]) as up, proxy(behind(up, "openai-chat")) as served:
        offload = served.parts.relay.upstreams.offload

        def ask_much() -> None:
            answers.append(ask(served.port, "/v1/messages", body, content_type="application/json").status)

        asking = threading.Thread(target=ask_much)
        asking.start()
        assert eventually(lambda: offload._children == 1)
        assert ask(served.port, path, small).status == 200
        assert offload._children == 1, "the small one has come second, and is answered first"
        asking.join()
    assert answers == [400]
