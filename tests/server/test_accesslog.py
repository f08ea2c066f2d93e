"""The log: one line, whatever is in it; and never a secret."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccproxy_lite.config.model import Key, Log, Upstream
from ccproxy_lite.formats.neutral.events import Failed, Usage
from ccproxy_lite.log import bug, log
from ccproxy_lite.relay.record import Record
from ccproxy_lite.routing.failover import Attempt
from ccproxy_lite.routing.keys import Lease
from ccproxy_lite.routing.routes import Route
from ccproxy_lite.server import accesslog

SECRET = "secret-value-0123456789"


@pytest.fixture(params=["text", "json"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "log"
    accesslog.configure(Log("debug", request.param, str(path)), lambda text: text.replace(SECRET, "[redacted]"), {})
    yield path
    accesslog.close()


def test_nothing_breaks_the_line(written: Path) -> None:
    record = Record(method="POST", path="/a\nb\x1b[31m", model="m\r\n2026 forged", status=200, error="x" * 10_000)
    accesslog.access(record, 1.0)
    text = written.read_text()
    assert text.count("\n") == 1
    assert "\x1b" not in text and len(text) < 6000
    if text.startswith("{"):
        assert json.loads(text)["model"] == "m\r\n2026 forged"


def test_secrets_are_blotted_out_wherever_they_stand(written: Path) -> None:
    for position in (0, 1990, 5000):
        accesslog.access(Record(status=500, error="x" * position + SECRET), 1.0)
    log.warning("a %s", SECRET)
    assert SECRET[:8] not in written.read_text()


def test_a_bug_has_a_name_and_a_place(written: Path) -> None:
    try:
        raise ZeroDivisionError(SECRET)
    except ZeroDivisionError as error:
        mark = bug(error)
    text = written.read_text()
    assert mark in text and "ZeroDivisionError" in text and "test_accesslog.py:" in text
    assert SECRET not in text and text.count("\n") == 1


def test_fields() -> None:
    record = Record(
        "anthropic", "POST", "/v1/messages", "m", "up/m", "work", 200, 10.0, 10.5, Usage(5, 7, 2, 1), ("top_k",)
    )
    upstream = Upstream("up", "anthropic", "")
    first = Attempt(Route(upstream, "m"), Lease(Key("k", "work"), "m"))
    record.attempts = [(first, Failed(500, "server", "broken")), (first, None)]
    assert record.fields(11.0) == {
        "format": "anthropic", "request": "POST /v1/messages", "model": "m", "upstream": "up/m", "key": "work", "status": 200,
        "first_byte_s": 10.5, "total_s": 1.0, "input_tokens": 8, "output_tokens": 7, "dropped": "top_k",
        "attempts": "up/m [work] 500 server: broken; up/m [work] ok",
    }  # fmt: skip
    assert record.line(11.0).startswith("200 POST /v1/messages anthropic m -> up/m 1.0s (first byte 10.5s) 8/7 tokens")


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "0"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"NO_COLOR": "", "FORCE_COLOR": "1"}, True),
    ],
)
def test_colour(environ: dict[str, str], coloured: bool, tmp_path: Path) -> None:
    path = tmp_path / "log"
    accesslog.configure(Log("info", "text", str(path)), lambda text: text, environ)
    try:
        log.error("broken")
        log.debug("not shown")
    finally:
        accesslog.close()
    assert ("\x1b[31merror\x1b[0m" in path.read_text()) is coloured
    assert path.read_text().count("\n") == 1
    assert logging.getLogger("ccproxy_lite").handlers == []


def test_one_warning_and_not_a_thousand(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    if hasattr(time, "time_ns"):  # what Python 3.13 stamps records with
        monkeypatch.setattr("time.time_ns", lambda: int(now * 1e9))
    for n in range(1000):
        log.warning("the key %s cannot be read again", "file:/x")
        log.warning("up cools down %d s", n, extra={"subject": "up"})
        log.info("each time")
        accesslog.access(Record(status=500), 1.0)
    assert written.read_text().count("cannot be read again") == written.read_text().count("cools down") == 1
    assert written.read_text().count("each time") == written.read_text().count("500") == 1000
    now += 61
    log.warning("the key %s cannot be read again", "file:/x")
    log.warning("the key %s cannot be read again", "file:/y")
    assert "file:/x cannot be read again (and 999 times more in between)" in written.read_text()
    assert written.read_text().splitlines()[-1].rstrip('"}').endswith("file:/y cannot be read again")
