"""``GET /status`` and ``ccproxy-lite status``: what they show, to whom, and what they never show."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.cli.status import lines
from tests.services import service
from tests.support import ANTHROPIC_ASK, ask, behind, clean_environment, http, process, proxy, upstream

LONG = "sk-long-secret-0123456789-wxyz"


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ccproxy_lite", "status", *words],
        capture_output=True,
        text=True,
        env=clean_environment(home),
        cwd=home,
    )


def test_what_asks_for_it_is_not_in_it() -> None:
    with proxy({"upstreams": {"echo": {"format": "echo"}}}) as served:
        for path in ("/status", "/status/", "/api/provider/echo/status"):
            assert ask(served.port, path, method="GET").json["live"] == [], path


def test_what_it_tells() -> None:
    with service("anthropic") as (scripted, up):
        keys: list[Any] = [LONG, {"key": "short", "label": "work", "weight": 2}]
        scripted.say("", "", ["429 retry-after=50", "ok"])
        with proxy(behind(up, "anthropic", keys=keys)) as served:
            ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_session_id="s1")
            answer = ask(served.port, "/status", method="GET")
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json
    assert set(body) == {
        "version", "started_at", "configuration", "sessions", "kept_responses", "upstreams", "live", "models", "errors",
        "connect",
    }  # fmt: skip
    assert body["live"] == [] and body["models"] == [
        {
            "upstream": "up",
            "model": "m",
            "requests": 1,
            "errors": 0,
            "input_tokens": 3,
            "cached_tokens": 0,
            "output_tokens": 1,
        }
    ]
    assert body["sessions"] == 1
    assert body["configuration"]["problems"] == [] and body["configuration"]["failed_at"] is None
    upstream = body["upstreams"]["up"]
    assert (upstream["format"], upstream["from_client"]) == ("anthropic", False)
    first, second = sorted(upstream["keys"], key=lambda key: key["label"])
    assert (first["label"], second["label"], second["key"], second["weight"]) == ("...wxyz", "work", "***", 2)
    cooling = [key for key in (first, second) if key["cooldowns"]]
    assert len(cooling) == 1
    cooldown = cooling[0]["cooldowns"][0]
    assert (cooldown["model"], cooldown["reason"], cooldown["source"]) == ("m", "rate_limit", "retry_after")
    assert 49 < cooldown["left_s"] <= 50 and cooldown["message"] == "429 the service says 429"
    good = next(key for key in (first, second) if not key["cooldowns"])
    assert good["models"] == {"m": {"requests": 1, "failures": 0, "input_tokens": 3, "output_tokens": 1}}
    assert (good["requests"], good["failures"], good["last"], good["sessions"]) == (1, 0, "ok", 1)
    assert LONG not in answer.body.decode() and "short" not in answer.body.decode()


def test_a_secret_in_the_upstreams_words_is_not_told() -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("", "", [f'401 "the key {LONG} is not known"'])
        with proxy(behind(up, "anthropic", keys=[LONG])) as served:
            ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            body = ask(served.port, "/status", method="GET").body.decode()
    assert LONG not in body and "the key [redacted] is not known" in body


def test_it_needs_the_client_key() -> None:
    with service("anthropic") as (_, up):
        with proxy({**behind(up, "anthropic"), "client_keys": ["the-client-key"]}) as served:
            assert ask(served.port, "/status", method="GET").status == 401
            assert ask(served.port, "/status", {"reset": "all"}).status == 401
            assert ask(served.port, "/status", method="GET", x_api_key="the-client-key").status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"reset": 5}', b'{"reset": ""}', b"null"])
def test_a_reset_that_names_no_key(body: bytes) -> None:
    with service("anthropic") as (_, up), proxy(behind(up, "anthropic")) as served:
        assert ask(served.port, "/status", body).status == 400


def test_a_page_in_the_browser_cannot_reset() -> None:
    with service("anthropic") as (_, up), proxy(behind(up, "anthropic")) as served:
        assert ask(served.port, "/status", {"reset": "all"}, origin="https://evil.example").status == 403
        assert ask(served.port, "/status?reset=all", method="GET").json.get("cleared") is None
        assert (
            ask(served.port, "/status", {"reset": "all"}, origin="http://localhost").status == 200
        )  # its own page may
        assert ask(served.port, "/status", {"reset": "all"}, origin="null").status == 403
        elsewhere = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
        assert ask(served.port, "/", method="GET", **elsewhere).status == 200  # a link; the page holds no data
        assert ask(served.port, "/status", method="GET", **elsewhere).status == 403


def test_the_page_and_its_policy() -> None:
    with (
        service("anthropic") as (_, up),
        proxy({**behind(up, "anthropic"), "client_keys": ["the-client-key"]}) as served,
    ):
        page = ask(served.port, "/", method="GET", accept="text/html,*/*")
        plain = ask(served.port, "/", method="GET")
    assert plain.body == b"ccproxy-lite is running.\n" and plain.headers["vary"] == "accept"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    text = page.body.decode()
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy
    assert not re.search(r"https?://|//cdn| on[a-z]+=|style=", text), "nothing from elsewhere, nothing inline"


@pytest.mark.parametrize("name", ["...wxyz", "wxyz", "up/...wxyz", "up", "all"])
def test_the_names_of_a_key(name: str) -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("", "", ["402", "ok"])
        with proxy({**behind(up, "anthropic", keys=[LONG])}) as served:
            ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            answer = ask(served.port, "/status", {"reset": name})
            assert answer.json["cleared"] == ["up/...wxyz"]
            assert answer.json["upstreams"]["up"]["keys"][0]["cooldowns"] == []
            assert ask(served.port, "/status", {"reset": name}).json["cleared"] == []
            unknown = ask(served.port, "/status", {"reset": "nobody"})
            assert unknown.status == 404 and "up/...wxyz" in unknown.json["error"]["message"]


def test_the_command() -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("", "", ["401", "ok"])
        config = {**behind(up, "anthropic", keys=["$UP_KEY"]), "client_keys": ["$CLIENT_KEY"]}
        with process(config, UP_KEY=LONG, CLIENT_KEY="the-client-key") as served:
            config = {**config, "listen": f"127.0.0.1:{served.port}", "client_keys": ["the-client-key"]}
            config["upstreams"]["up"]["keys"] = [LONG]
            path = served.home / "look.json"
            path.write_text(json.dumps(config))
            ask(served.port, "/v1/messages", ANTHROPIC_ASK, x_api_key="the-client-key")
            shown = command(served.home, "--config", str(path))
            assert shown.returncode == 0, shown.stderr
            assert "up: anthropic at http://127.0.0.1:" in shown.stdout
            assert "$UP_KEY (...wxyz): cooling down, 1 attempt, 1 failed, last: invalid key" in shown.stdout
            assert (
                "all models: " in shown.stdout
                and "left (invalid key, estimated" in shown.stdout
                and "401 the service says 401" in shown.stdout
            )
            assert LONG not in shown.stdout
            ended = command(served.home, "--config", str(path), "--reset", "$UP_KEY")
            assert ended.stdout.startswith("cleared cooldowns: up/$UP_KEY\n")
            as_json = command(served.home, "--config", str(path), "--json")
            assert json.loads(as_json.stdout)["upstreams"]["up"]["keys"][0]["cooldowns"] == []
            nobody = command(served.home, "--config", str(path), "--reset", "nobody")
            assert (nobody.returncode, nobody.stdout) == (1, "") and 'unknown key "nobody"' in nobody.stderr
            assert command(served.home, "--listen", f"127.0.0.1:{served.port}").returncode == 1, "it shows no key"
            assert served.stop() == 0
            gone = command(served.home, "--config", str(path))
            assert (gone.returncode, gone.stderr.count("\n")) == (1, 1) and "no proxy is running at" in gone.stderr


def test_the_command_through_a_unix_socket(tmp_path: Path) -> None:
    config = {"upstreams": {"echo": {"format": "echo"}}, "listen": f"unix:{tmp_path}/socket"}
    with process(config):
        shown = command(tmp_path, "--listen", f"unix:{tmp_path}/socket")
    assert "echo: echo" in shown.stdout


@pytest.mark.parametrize(
    ("words", "code"), [(["--listen", "nonsense"], 2), (["--listen", "127.0.0.1:0"], 1), (["--what"], 2)]
)
def test_what_the_command_cannot_do(tmp_path: Path, words: list[str], code: int) -> None:
    shown = command(tmp_path, *words)
    assert shown.returncode == code and "Traceback" not in shown.stderr


def test_what_a_service_says_steers_no_terminal() -> None:
    with service("anthropic") as (_, up):
        body = {"type": "error", "error": {"type": "authentication_error", "message": "\x1b]0;owned\x07\nforged: line"}}
        with upstream([http(401, body)]) as bad:
            config = behind(bad, "anthropic")
            with process(config) as served:
                ask(served.port, "/v1/messages", ANTHROPIC_ASK)
                shown = command(served.home, "--listen", f"127.0.0.1:{served.port}")
        assert up.seen == []
    assert "\x1b" not in shown.stdout and "\nforged" not in shown.stdout and "forged: line" in shown.stdout


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"5", b"nonsense", b'{"upstreams": {}}', b'{"upstreams": {}, "configuration": {}}']
)
def test_the_command_before_something_else(tmp_path: Path, body: bytes) -> None:
    with upstream([http(200, body)]) as other:
        shown = command(tmp_path, "--listen", f"127.0.0.1:{other.port}", "--reset", "a")
    assert shown.stdout == ""
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1) and "not ccproxy-lite" in shown.stderr


def test_a_long_message_is_cut() -> None:
    with service("anthropic") as (scripted, up):
        scripted.say("", "", [f'401 "{"x" * 100_000}"'])
        with proxy(behind(up, "anthropic")) as served:
            ask(served.port, "/v1/messages", ANTHROPIC_ASK)
            assert len(ask(served.port, "/status", method="GET").body) < 3000


def test_a_configuration_that_was_not_reloaded_is_shown() -> None:
    found = {
        "version": "1", "sessions": 0, "upstreams": {},
        "configuration": {"source": "a.json", "loaded_at": "T1", "failed_at": "T2", "problems": ["a.json:1:2: no"]},
    }  # fmt: skip
    assert "reload failed at T2, keeping the previous configuration: a.json:1:2: no" in list(lines(found))
