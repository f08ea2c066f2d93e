"""Hostile requests, byte by byte: ``requests.json`` holds what is sent and what must come back.

A case sends its pieces (strings as latin-1, ``{"text", "times"}`` repeated, ``{"pause_s"}`` waited) on one connection
and expects the status of the last of its ``responses``, whether the connection is ``closed`` (if not, it must still
serve), and how many requests the upstream got. After each, a fresh connection must be served as if nothing had been.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import (
    CHAT_BODY,
    Answer,
    Proxy,
    Scripted,
    ask,
    behind,
    connect,
    http,
    is_closed,
    proxy,
    read_answer,
    upstream,
)

CASES = json.loads((Path(__file__).parent / "requests.json").read_text())
PLAIN = [case for case in CASES if "options" not in case]
SPECIAL = [case for case in CASES if "options" in case]
HELLO = {
    **CHAT_BODY,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}


def as_bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        return piece.encode("latin-1")
    return piece["text"].encode("latin-1") * piece["times"]


def send(sock: socket.socket, case: dict[str, Any]) -> None:
    for piece in case["send"]:
        if isinstance(piece, dict) and "pause_s" in piece:
            time.sleep(piece["pause_s"])
            continue
        try:
            sock.sendall(as_bytes(piece))
        except ConnectionError:  # refused early, as it may be
            return


def play(case: dict[str, Any], served: Proxy, up: Scripted) -> None:
    before = len(up.seen)
    with connect(served.port) as sock:
        send(sock, case)
        answer, rest = Answer(0, {}, b""), b""
        for _ in range(case.get("responses", 1) if case["status"] else 0):
            answer = read_answer(sock, rest, _method(case))
            rest = answer.rest
        assert answer.interim == case.get("interim", 0)
        wanted = case["status"] if isinstance(case["status"], list) else [case["status"]]
        assert answer.status in wanted, answer
        assert case.get("body_contains", "").encode() in answer.body
        assert "body_lacks" not in case or case["body_lacks"].encode() not in answer.body
        if case.get("closed"):
            assert is_closed(sock)
        else:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert read_answer(sock, rest, "GET").status == 200
    assert len(up.seen) - before == case.get("upstream_calls", 0)
    assert ask(served.port, "/healthz", method="GET").status == 200


def _method(case: dict[str, Any]) -> str:
    """HEAD answers have no body; the last request of a case is the one that counts."""
    text = b"".join(as_bytes(piece) for piece in case["send"] if not (isinstance(piece, dict) and "pause_s" in piece))
    return "HEAD" if text.startswith(b"HEAD") else "GET"


@pytest.fixture(scope="module")
def plain() -> Iterator[tuple[Proxy, Scripted]]:
    with upstream([http(200, HELLO)]) as up, proxy({**behind(up, "openai-chat"), "retries": 0}) as served:
        yield served, up


@pytest.mark.parametrize("case", PLAIN, ids=[case["name"] for case in PLAIN])
def test_request(case: dict[str, Any], plain: tuple[Proxy, Scripted]) -> None:
    play(case, *plain)


@pytest.mark.parametrize("case", SPECIAL, ids=[case["name"] for case in SPECIAL])
def test_request_with_settings(case: dict[str, Any]) -> None:
    options = dict(case["options"])
    config: dict[str, Any] = {name: options[name] for name in ("client_keys", "timeouts") if name in options}
    if "max_body_bytes" in options:
        config["limits"] = {"max_body_bytes": options["max_body_bytes"]}
    with upstream([http(200, HELLO)]) as up, proxy({**behind(up, "openai-chat"), **config}) as served:
        play(case, served, up)
