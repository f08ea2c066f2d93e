"""What models there are: aliases and the upstreams' lists, remembered."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from tests.support import (
    ECHO,
    ask,
    behind,
    connect,
    http,
    proxy,
    read_answer,
    request_bytes,
    upstream,
)


def get(port: int, path: str, **headers: str) -> Any:
    return ask(port, path, method="GET", **headers)


def test_model_lists_in_two_dialects_and_with_aliases() -> None:
    with proxy({**ECHO, "models": {"fast": "echo/echo", "claude-*": "echo/echo"}}) as served:
        chat = get(served.port, "/v1/models").json
        assert [model["id"] for model in chat["data"]] == ["fast", "echo", "echo-thinking"]
        assert chat["object"] == "list" and chat["data"][0]["object"] == "model"
        anthropic = get(served.port, "/v1/models?limit=1000", anthropic_version="2023-06-01").json
        assert [model["id"] for model in anthropic["data"]] == ["fast", "echo", "echo-thinking"]
        assert (anthropic["has_more"], anthropic["first_id"], anthropic["last_id"]) == (False, "fast", "echo-thinking")
        assert get(served.port, "/v1/models/echo").json["id"] == "echo"
        assert get(served.port, "/v1/models/echo", anthropic_version="x").json["type"] == "model"
        assert get(served.port, "/v1/models/nope").status == 404


def test_model_lists_are_remembered_and_survive_an_upstream_that_fails() -> None:
    listing = {"object": "list", "data": [{"id": "one"}, {"id": "two/three"}]}
    with upstream([http(200, listing)], [http(500, {})]) as up:
        config = behind(up, "openai-chat")
        config["upstreams"]["listed"] = {"format": "echo", "models": ["mine"]}
        with proxy(config) as served:
            for _ in range(3):
                assert [m["id"] for m in get(served.port, "/v1/models").json["data"]] == ["mine", "one", "two/three"]
            assert get(served.port, "/v1/models/two/three").json["id"] == "two/three"
    assert len(up.seen) == 1
    assert up.seen[0].header("authorization") == "Bearer upstream-key-one"


def test_lists_that_are_asked_for_at_once_are_asked_for_once() -> None:
    with upstream([lambda _: time.sleep(0.2), http(200, {"data": [{"id": "m1"}]})]) as up:
        with proxy(behind(up, "openai-chat")) as served, contextlib.ExitStack() as stack:
            socks = [stack.enter_context(connect(served.port)) for _ in range(10)]
            for sock in socks:
                sock.sendall(request_bytes("/v1/models", method="GET"))
            assert [read_answer(sock, method="GET").json["data"][0]["id"] for sock in socks] == ["m1"] * 10
    assert len(up.seen) == 1


def test_a_list_that_is_no_json_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with upstream([http(200, b"<html>", "text/html")]) as up, proxy(behind(up, "openai-chat")) as served:
        assert get(served.port, "/v1/models").json["data"] == []
    assert "up did not return JSON" in caplog.text
