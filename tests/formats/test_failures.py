"""Errors of any shape: what they say, and what is no error although it looks like one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.formats.failures import event_object, said, states_error
from ccproxy_lite.formats.sse import Event

BUSY = "The queue is full."
NESTED: Any = BUSY
for _ in range(500):
    NESTED = [NESTED] if len(str(NESTED)) % 2 else {"error": NESTED}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (BUSY, BUSY),
        ([], ""),
        ([BUSY], BUSY),
        ({}, ""),
        (None, ""),
        ({"error": None}, ""),
        ({"error": BUSY}, BUSY),
        ({"error": {"message": BUSY}}, BUSY),
        ({"error": {"error": {"message": BUSY}}}, BUSY),
        ({"error": "server_error", "message": BUSY}, BUSY),
        ({"detail": BUSY, "message": "Busy"}, BUSY),
        ({"errors": [{"message": BUSY}, {"message": "And more."}]}, f"{BUSY}; And more."),
        ({"detail": [{"loc": ["body", 0, "n"], "msg": BUSY}]}, f"body.0.n: {BUSY}"),
        ({"Message": BUSY}, BUSY),
        ({"error_msg": BUSY}, BUSY),
        ({"base_resp": {"status_code": 1002, "status_msg": BUSY}}, BUSY),
        ({"error": {"message": json.dumps({"error": {"message": BUSY}})}}, BUSY),
        ({"error": {"message": json.dumps({"detail": BUSY})}}, BUSY),
        ({"error": {"message": '{"n": 1} is no schema'}}, '{"n": 1} is no schema'),
        ({"error": {"message": '{"n": 1}'}}, '{"n": 1}'),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": BUSY}}}, BUSY),
        ({"error": {"message": 5}}, ""),
        ({"errors": {"model": ["is not available"]}, "message": BUSY}, BUSY),
        ({"error": {"message": BUSY, "detail": {"foo": 1}}}, BUSY),
        ({"error": {"code": "unauthorized"}, "message": BUSY}, BUSY),
        ({"statusCode": 400, "error": "Bad Request", "message": [BUSY]}, BUSY),
        ({"error": {"message": BUSY, "metadata": {"raw": {"a": 1}}}}, BUSY),
        ({"error": "invalid_request", "error_description": BUSY}, BUSY),
    ],
)
def test_the_words(body: Any, words: str) -> None:
    assert said(body).get("message", "") == words


def test_the_members_of_all_layers_are_kept() -> None:
    outer = {"error": {"code": 503, "message": json.dumps({"error": {"type": "overloaded_error", "message": BUSY}})}}
    assert said(outer) == {"code": 503, "type": "overloaded_error", "message": BUSY}


def test_depth_is_bounded() -> None:
    assert isinstance(said(NESTED), dict)
    assert isinstance(said([[{"errors": [[[{"detail": [[[[BUSY]]]]}]]]}]]), dict)


@pytest.mark.parametrize(
    ("data", "is_error"),
    [
        ({"error": "x"}, True),
        ({"object": "error"}, True),
        ({"detail": "x"}, True),
        ({"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": [{}]}, False),
        ({"choices": [{}], "message": "x"}, False),
        ({"choices": [], "usage": {"prompt_tokens": 1}}, False),
        ({"choices": [], "error": None, "message": ""}, False),
        ({"id": "x", "object": "chat.completion.chunk"}, False),
        ({"choices": [], "code": 0, "message": "Success", "usage": {}}, False),
        ({"code": 0, "message": "success"}, False),
        ({"choices": [{}], "error": {"code": "0", "message": "success"}}, False),
        ({"type": "notice", "message": "Another model was used."}, False),
        ({"type": "new_event", "message": {"id": 1}}, False),
        ({"type": "BadRequestError", "message": "x"}, True),
        ({"type": "error", "message": "x"}, True),
    ],
)
def test_what_states_an_error(data: dict[str, Any], is_error: bool) -> None:
    assert states_error(data, data.get("choices")) is is_error


def test_an_event_with_a_name_of_its_own_is_no_error() -> None:
    assert not states_error({"detail": "50%"}, name="progress")
    assert not states_error({"message": "You are near your limit."}, name="notice")
    assert states_error({"message": "x"}, name="error") and states_error({}, name="error")
    assert states_error({"error": "x"}, name="progress")


@pytest.mark.parametrize(
    "data", ["ping", "PING", " keep-alive ", '"ping"', "ok", "DONE", "[HEARTBEAT]", "null", "5", "true"]
)
def test_what_says_nothing(data: str) -> None:
    assert event_object(Event("", data)) == {}


@pytest.mark.parametrize("data", ["hello there", '{"message": "alive"}', "{"])
def test_what_keeps_a_connection_alive_says_nothing(data: str) -> None:
    assert event_object(Event("ping", data)) == {}


def test_sentences_and_broken_json() -> None:
    assert event_object(Event("", BUSY)) == event_object(Event("", json.dumps(BUSY))) == {"error": BUSY}
    assert event_object(Event("", "error")) == event_object(Event("error", "error")) == {"error": "error"}
    assert event_object(Event("error", "overloaded")) == {"error": "overloaded"}
    for data in ('{"a":', "[1", "[1]"):
        with pytest.raises(UpstreamError):
            event_object(Event("", data))
