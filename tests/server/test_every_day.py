"""What a user meets every day: request ids, keys that do not fit, failures in the log, targets that are away."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ccproxy_lite.cli.status import lines
from tests.ports import free_port
from tests.relay.test_dialects import cut_in_two
from tests.support import (
    ANTHROPIC_ASK,
    ANTHROPIC_BODY,
    CHAT_ASK,
    CHAT_BODY,
    CLOSE,
    WIRES,
    Scripted,
    ask,
    behind,
    connect,
    eventually,
    http,
    proxy,
    request_bytes,
    upstream,
)

LOGGER = "ccproxy_lite"


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and text of what was logged, requests as their line."""
    return [
        (record.levelname, record.__dict__["entry"].line(record.__dict__["now"]) if "entry" in record.__dict__ else record.getMessage())
        for record in caplog.records
    ]  # fmt: skip


# ---------------------------------------------------------------- request ids


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/healthz", "/nope", "/"])
def test_every_answer_has_a_request_id(path: str) -> None:
    body = CHAT_ASK if path.endswith("completions") else None
    with upstream([http(200, CHAT_BODY, x_request_id="theirs")]) as up, proxy(behind(up, "openai-chat")) as served:
        ids = [ask(served.port, path, body, method="POST" if body else "GET").headers["x-request-id"] for _ in "ab"]
        own = ask(served.port, path, body, method="POST" if body else "GET", x_request_id="mine-1")
    assert len({*ids, "theirs"}) == 3
    assert own.headers["x-request-id"] == "mine-1"
    if body:
        assert own.headers["x-ccproxy-upstream-request-id"] == "theirs"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("form", WIRES)
def test_the_id_is_in_answer_and_log(form: str, stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", LOGGER)
    above = WIRES["openai-chat"]
    with upstream(above.stream if stream else [http(200, above.body)]) as up:
        with proxy(behind(up, "openai-chat")) as served:
            given = ask(served.port, *WIRES[form].asked(stream), x_request_id="mine-2").headers["x-request-id"]
            made = ask(served.port, *WIRES[form].asked(stream)).headers["x-request-id"]
    assert given == "mine-2"
    assert [f"request_id={name}" in text for name, (_, text) in zip((given, made), logged(caplog), strict=True)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("bad", ["", "x" * 129, "a b", "caf\xe9"])
def test_an_id_that_is_none_is_replaced(bad: str) -> None:
    with proxy({"upstreams": {"echo": {"format": "echo"}}}) as served:
        assert ask(served.port, "/healthz", method="GET", x_request_id=bad).headers["x-request-id"] != bad


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("form", WIRES)
def test_three_ways_to_have_no_key_are_three_sentences(form: str) -> None:
    """And the SDKs do not go on with it: they read ``x-should-retry``."""
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "missing client key"),
        ({"authorization": "Bearer wrong-key-123"}, "invalid client key"),
        ({"authorization": "Bearer wrong-key-123", "x_api_key": "other-key-123"}, "several different client keys"),
    ]
    with proxy({"upstreams": {"echo": {"format": "echo"}}, "client_keys": ["client-key-123"]}) as served:
        for headers, words in cases:
            answer = ask(served.port, WIRES[form].path, WIRES[form].ask, **headers)
            assert answer.status == 401 and answer.headers["x-should-retry"] == "false"
            message = answer.json["error"]["message"]
            assert message.startswith(words) and "wrong-key" not in message and ". " not in message


def test_the_limits_of_one_key_of_several_are_not_the_clients() -> None:
    left = {"x_ratelimit_remaining_requests": "9", "anthropic_ratelimit_tokens_remaining": "1"}
    for keys, shown in ((["key-one-123"], True), (["key-one-123", "key-two-123"], False), ("from-client", True)):
        with upstream([http(200, CHAT_BODY, **left)]) as up:
            with proxy(behind(up, "openai-chat", keys=keys)) as served:
                answer = ask(served.port, "/v1/chat/completions", CHAT_ASK, authorization="Bearer client-key-9")
        assert [name.replace("_", "-") in answer.headers for name in left] == [shown, shown]


# ---------------------------------------------------------------- the log


def test_a_request_with_an_error_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", LOGGER)
    with upstream([http(400, {"error": {"message": "no"}})], [http(200, CHAT_BODY)]) as up:
        with proxy({**behind(up, "openai-chat"), "retries": 0}) as served:
            ask(served.port, "/v1/chat/completions", CHAT_ASK)
            ask(served.port, "/v1/chat/completions", CHAT_ASK)
            ask(served.port, "/nope", {})
            ask(served.port, "/v1/chat/completions", {**CHAT_ASK, "model": 1})
    assert [level for level, _ in logged(caplog)] == ["WARNING", "INFO", "WARNING", "WARNING"], logged(caplog)
    caplog.clear()
    answer = cut_in_two("openai-chat", "openai-chat", WIRES["openai-chat"].begun, [CLOSE])
    ((level, line),) = logged(caplog)
    assert answer.status == 200 and level == "WARNING" and "closed the connection" in line


# ---------------------------------------------------------------- a target that is away


def test_an_upstream_that_cannot_be_reached_is_tried_last_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", LOGGER)
    with upstream([http(200, CHAT_BODY)]) as up:
        config: dict[str, Any] = behind(up, "openai-chat")
        away = {"format": "openai-chat", "base_url": f"http://127.0.0.1:{free_port()}/v1", "keys": ["upstream-key-two"]}
        config["upstreams"] = {"away": away, **config["upstreams"]}
        config["models"] = {"m": ["away/m", "up/m"]}
        with proxy(config) as served:
            for _ in range(3):
                assert ask(served.port, "/v1/chat/completions", CHAT_ASK).headers["x-ccproxy-upstream"] == "up/m"
            state = ask(served.port, "/status", method="GET").json
    attempts = [entry.attempts for record in caplog.records if (entry := record.__dict__.get("entry"))]
    assert [len(tried) for tried in attempts] == [2, 1, 1]
    warnings = [text for level, text in logged(caplog) if level == "WARNING"]
    assert (
        len(warnings) == 1
        and warnings[0].startswith("away: ")
        and "refused the connection; other targets" in warnings[0]
    )
    assert state["upstreams"]["away"]["unreachable_s"] >= 0 and state["upstreams"]["up"]["unreachable_s"] is None
    assert any("unreachable for" in line for line in lines(state))


@contextlib.contextmanager
def full_queue() -> Iterator[int]:
    """A port where connections are neither accepted nor refused."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def with_away(up: Scripted, port: int, connect_s: float) -> dict[str, Any]:
    config: dict[str, Any] = behind(up, "anthropic")
    away = {"format": "anthropic", "base_url": f"http://127.0.0.1:{port}", "keys": ["upstream-key-two"]}
    config["upstreams"] = {"away": away, **config["upstreams"]}
    return {**config, "models": {"m": ["away/m", "up/m"]}, "timeouts": {"connect_s": connect_s}}


def test_an_upstream_that_does_not_answer_the_connection_delays_one_request_only() -> None:
    """The time-out of connecting is paid once, also by those who count and list."""
    with full_queue() as port, upstream([http(200, ANTHROPIC_BODY)]) as up, proxy(with_away(up, port, 1.5)) as served:
        times = []
        for path in ("/v1/messages", "/v1/messages", "/v1/messages/count_tokens"):
            started = time.monotonic()
            assert ask(served.port, path, ANTHROPIC_ASK).status == 200
            times.append(time.monotonic() - started)
        started = time.monotonic()
        assert ask(served.port, "/v1/models", method="GET").status == 200
        times.append(time.monotonic() - started)
    assert times[0] >= 1.4 and max(times[1:]) < 1.2, times


def test_a_client_with_less_patience_than_a_connection_finds_the_other_target_next_time() -> None:
    with full_queue() as port, upstream([http(200, ANTHROPIC_BODY)]) as up, proxy(with_away(up, port, 30)) as served:
        with connect(served.port) as sock:
            sock.sendall(request_bytes("/v1/messages", ANTHROPIC_ASK))
            sock.settimeout(1.5)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        assert eventually(lambda: served.parts.relay.outages.of("away") is not None)
        assert ask(served.port, "/v1/messages", ANTHROPIC_ASK).headers["x-ccproxy-upstream"] == "up/m"
