"""The dashboard in a real browser: empty, busy and failing, at the width of a phone and of a desk, light and dark.

Needs playwright and Chromium. ``CCPROXY_TEST_SCREENSHOTS=FOLDER`` keeps the pictures for a look.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import service
from tests.support import (
    ANTHROPIC_ASK,
    ANTHROPIC_BODY,
    CHAT_ASK,
    CHAT_STREAM,
    STALL,
    Proxy,
    ask,
    behind,
    connect,
    eventually,
    http,
    proxy,
    request_bytes,
    upstream,
)

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("browser")]

CHROMIUM = os.environ.get("CCPROXY_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SIZES = {"phone": (390, 844), "desk": (1280, 900)}
XSS = "<img src=x onerror=document.title='broken'>"
WORK = {"key": "sk-first-0123456789-abcd", "label": "work"}
SPARE = {"key": "sk-second-0123456789-wxyz", "label": "spare"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page that must not complain, and must ask nobody but the proxy."""
    size, scheme = request.param
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    page.set_default_timeout(30_000)
    yield page
    name = request.node.name.replace("[", "-").rstrip("]")
    if os.environ.get("CCPROXY_TEST_SCREENSHOTS"):
        page.screenshot(path=str(Path(os.environ["CCPROXY_TEST_SCREENSHOTS"], f"{name}.png")), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing to scroll sideways"
    assert page.title() == "ccproxy-lite"
    page.close()
    assert [text for text in said if not text.startswith("Failed to load resource")] == []
    assert all(url.startswith(("http://127.0.0.1:", "data:")) for url in asked)


def see(page: Any, served: Proxy, *texts: str) -> None:
    if not page.url.startswith(served.url):
        page.goto(served.url)
    for text in texts:
        page.wait_for_function("text => document.body.innerText.includes(text)", arg=text)


def test_empty(page: Any) -> None:
    with service("openai-chat") as (_, up), proxy(behind(up, "openai-chat", keys=[WORK])) as served:
        see(page, served, "running", "no request yet", "ready", "not used yet", "Claude Code")
        see(page, served, f"ANTHROPIC_BASE_URL={served.url}", "ccproxy-lite run -- codex")
        assert "0123456789" not in page.content()


def test_busy(page: Any) -> None:
    with service("openai-chat") as (_, up), upstream([CHAT_STREAM[0], STALL]) as slow:
        config = behind(up, "openai-chat", keys=[WORK])
        config["upstreams"]["slow"] = behind(slow, "openai-chat")["upstreams"]["up"]
        with proxy(config) as served:
            for n in range(12):
                body = {**ANTHROPIC_ASK, "model": f"up/claude-sonnet-4-5-{n % 3}"}
                assert ask(served.port, "/v1/messages", body).status == 200
            with connect(served.port) as sock:
                sock.sendall(
                    request_bytes("/v1/chat/completions", {**CHAT_ASK, "model": f"slow/{XSS}", "stream": True})
                )
                assert eventually(lambda: bool(slow.seen))
                see(page, served, XSS, "claude-sonnet-4-5-2", "36", "12 / 0")
                assert page.inner_text("#live").count("openai-chat") == 1


def test_the_share_of_input_that_caches_have_had(page: Any) -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 80, "cache_creation_input_tokens": 10, "output_tokens": 5}
    with upstream([http(200, {**ANTHROPIC_BODY, "usage": usage})]) as up, proxy(behind(up, "anthropic")) as served:
        assert ask(served.port, "/v1/chat/completions", CHAT_ASK).status == 200
        see(page, served, "80 %")


def test_failing(page: Any) -> None:
    with service("openai-chat") as (scripted, up):
        scripted.say("", "", ["429 retry-after=3000", "401", "500"])
        with proxy({**behind(up, "openai-chat", keys=[WORK, SPARE]), "retries": 0}) as served:
            for _ in range(4):
                ask(served.port, "/v1/messages", {**ANTHROPIC_ASK, "model": f"up/m-{XSS}"})
            served.parts.server_state.problems = (
                'proxy.json:3:5: upstreams.qwen.base_ur: unknown key (did you mean "base_url"?)',
            )
            served.parts.server_state.failed_at = 1_795_000_000.0
            see(
                page,
                served,
                "2 keys cooling down",
                "left (rate limit, from retry-after)",
                "left (invalid key, estimated)",
                "still using the previous configuration",
                "base_ur: unknown key",
            )
            assert page.inner_text("#errors").count("POST /v1/messages") == 4
            buttons = page.get_by_role("button", name="clear cooldowns of up/work")
            buttons.click()
            see(page, served, "1 key cooling down")
            assert buttons.count() == 0


def test_a_key_is_asked_for_and_kept_for_the_session(page: Any) -> None:
    with service("openai-chat") as (_, up):
        with proxy({**behind(up, "openai-chat"), "client_keys": ["the-client-key"]}) as served:
            see(page, served, "Enter a client key")
            page.get_by_label("Key").fill("wrong")
            page.get_by_role("button", name="Unlock").click()
            see(page, served, "Invalid key")
            page.get_by_label("Key").fill("the-client-key")
            page.keyboard.press("Enter")
            see(page, served, "running", "ANTHROPIC_AUTH_TOKEN=<client key>")
            page.reload()
            see(page, served, "running", "no request yet")
            assert not page.is_visible("#login")


def test_a_proxy_that_is_gone_is_said(page: Any) -> None:
    with service("openai-chat") as (_, up), proxy(behind(up, "openai-chat")) as served:
        see(page, served, "running")
        page.route("**/status", lambda route: route.fulfill(status=503, body="{}"))
        see(page, served, "the proxy returned 503")
        page.unroute("**/status")
        see(page, served, "running")


def test_a_link_from_elsewhere_leads_to_it_and_a_frame_does_not(browser: Any) -> None:
    with service("openai-chat") as (_, up), proxy(behind(up, "openai-chat")) as served, upstream() as other:
        link = f'<a href="{served.url}">there</a><iframe src="{served.url}"></iframe>'.encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(
            link
        )
        other.scripts[0] = [head + link]
        page = browser.new_page()
        page.goto(f"http://localhost:{other.port}/")
        assert "running" not in (
            page.frames[1].evaluate("document.body ? document.body.innerText : ''") if len(page.frames) > 1 else ""
        )
        page.get_by_role("link").click()
        see(page, served, "running")
        page.close()
