"""What runs inside a network namespace of its own: a service, and a real client behind the proxy in front of it.

``python -m tests.e2e.inside loop FORMAT HOME CMD ...``; the result is one line of JSON. Also ``limited FORMAT HOME HINT
CMD ...``, a service that refuses everything for a minute, ``slow HOME CMD ...``, one that thinks before it speaks,
``chosen HOME CMD ...``, the example that chooses by request, ``hosted ENTRY HOME CMD ...``, a cloud's host, ``local``, servers at their usual ports, and ``typed HOME CMD ...``, a terminal with somebody who
types.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ccproxy_lite.net.connection import Connection
from ccproxy_lite.net.heads import RequestHead
from ccproxy_lite.providers import HOSTS
from ccproxy_lite.server import echo
from tests.clouds import clouds
from tests.services import service, slowly
from tests.support import ECHO, ROOT, Seen, ask, eventually, proxy
from tests.terminals import terminal


def behind(form: str, url: str, home: str, words: list[str], timeout_s: float = 50, **settings: Any) -> dict[str, Any]:
    """Run a command with a proxy in front of a service; its status, and what it wrote."""
    base_url = url + ("/v1" if form.startswith("openai") else "")
    upstream = {"format": form, "base_url": base_url, "keys": ["upstream-key"]}
    return ran({"upstreams": {"up": upstream}, **settings}, home, words, timeout_s)


def ran(settings: dict[str, Any], home: str, words: list[str], timeout_s: float = 50) -> dict[str, Any]:
    """Run a command behind a proxy with a configuration; its status, and what it wrote."""
    config = Path(home, "proxy.json")
    config.write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "ccproxy_lite", "run", "--config", str(config), "--", *words],
        cwd=Path(home, "work"),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def loop(form: str, home: str, *words: str) -> dict[str, Any]:
    """An echo that speaks one format, and the paths that it was asked for."""
    seen: list[str] = []
    serve = echo.Echo.serve

    async def watched(self: echo.Echo, head: RequestHead, admitted: Any, body: bytes, client: Connection) -> None:
        seen.append(head.path)
        await serve(self, head, admitted, body, client)

    echo.Echo.serve = watched  # type: ignore[method-assign]
    with proxy(ECHO) as inner:
        result = behind(form, inner.parts.parts.echo_url, home, list(words))
    return {**result, "seen": seen}


def chosen(home: str, *words: str) -> dict[str, Any]:
    """The example that chooses by request, in front of an echo that speaks all formats; and whom it has asked."""
    asked: list[dict[str, str]] = []
    serve = echo.Echo.serve

    async def watched(self: echo.Echo, head: RequestHead, admitted: Any, body: bytes, client: Connection) -> None:
        if head.method == "POST":
            told = json.loads(body)
            in_path = re.search(r"/models/([^:]+):", head.path)
            form = "gemini" if in_path else "openai-responses" if "responses" in head.path else "openai-chat"
            effort = (told.get("reasoning") or {}).get("effort") or ""
            asked.append({"form": form, "model": in_path[1] if in_path else told["model"], "effort": effort})
        await serve(self, head, admitted, body, client)

    echo.Echo.serve = watched  # type: ignore[method-assign]
    with proxy(ECHO) as inner:
        settings = json.loads((ROOT / "examples/claude-code-by-request.json").read_text())
        for upstream in settings["upstreams"].values():
            suffix = "/v1" if upstream["format"].startswith("openai") else ""
            upstream |= {"base_url": inner.parts.parts.echo_url + suffix, "keys": ["upstream-key"]}
        return {**ran(settings, home, list(words)), "asked": asked}


def hosted(entry: str, home: str, *words: str) -> dict[str, Any]:
    """A cloud's host, as strict as it is; what it was asked, and what it refused."""
    with clouds() as sky:
        result = ran({"upstreams": {"up": {**json.loads(entry), **sky.reach}}}, home, list(words))
        asked = [one for one in sky.seen if one.method == "POST"]
        return {
            **result,
            "seen": [one.target for one in asked],
            "betas": [one.get("anthropic-beta") for one in asked],
            "bodies": [one.json for one in asked],
            "refused": [[one.status, one.body] for one in sky.refused],
        }


def local() -> dict[str, Any]:
    """Local model servers at their usual ports, by their names; which answered what."""
    answered: dict[str, Any] = {}
    for host in (one for one in HOSTS if one.is_local):
        for kind, url in host.urls.items():
            with (
                proxy({**ECHO, "listen": urlsplit(url).netloc}),
                proxy({"upstreams": {"up": {"format": kind, "base_url": host.name}}}) as served,
            ):
                body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "over there"}]}
                answer = ask(served.port, "/v1/messages", body)
                answered[f"{host.name} {kind}"] = [answer.status, answer.headers["x-ccproxy-upstream"]]
    return answered


def limited(form: str, home: str, hint: str, *words: str) -> dict[str, Any]:
    """A service without any room for a minute, and what it said when."""
    began = time.monotonic()
    told: list[tuple[float, int]] = []
    with service(form) as (scripted, up):
        choose = scripted.choose

        def chosen(seen: Seen) -> Any:
            is_limited = time.monotonic() - began < 60
            scripted.say("", "", [f"429 {hint}" if is_limited else "ok"])
            told.append((round(time.monotonic() - began, 1), 429 if is_limited else 200))
            return choose(seen)

        up.choose = chosen
        result = behind(form, f"http://127.0.0.1:{up.port}", home, list(words), 170)
    return {**result, "told": told}


def slow(home: str, *words: str) -> dict[str, Any]:
    """A service that is silent for two seconds, twice, and how often it was asked."""
    form = "openai-chat"
    with service(form) as (scripted, up):
        slowly(scripted, up, 2)
        result = behind(form, f"http://127.0.0.1:{up.port}", home, list(words), keepalive_s=0.1)
    return {**result, "calls": len(scripted.calls)}


def typed(home: str, *words: str) -> dict[str, Any]:
    """A program in a terminal, and somebody who types."""
    work, config = Path(home, "work"), Path(home, "proxy.json")
    with service("openai-chat") as (scripted, up):
        slow = threading.Event()
        scripted.say("", "", ["ok"])
        choose = scripted.choose

        def chosen(seen: Seen) -> Any:
            steps = choose(seen)
            return [lambda _: slow.wait(30), *steps] if b"take your time" in seen.body else steps

        up.choose = chosen
        upstream = {"format": "openai-chat", "base_url": f"http://127.0.0.1:{up.port}/v1", "keys": ["upstream-key"]}
        config.write_text(json.dumps({"upstreams": {"up": upstream}}))
        command = [sys.executable, "-m", "ccproxy_lite", "run", "--config", str(config), "--", *words]
        out = ""
        with terminal(
            command, {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}, work
        ) as shown:
            shown.resize(40, 120)
            out += shown.until_quiet(2)
            answered = interrupted = False
            shown.send("say something")
            out += shown.until_quiet()
            shown.send("\r")
            out += shown.until("hello", 20)
            answered = True
            out += shown.until_quiet()
            shown.send("take your time")
            out += shown.until_quiet()
            asked = len(up.seen)
            shown.send("\r")
            assert eventually(lambda: len(up.seen) > asked, 10), out
            shown.send("\x03")
            log = Path(home, ".local/state/ccproxy-lite/run.log")
            interrupted = eventually(lambda: '"status":499' in log.read_text(), 10)
            slow.set()
            out += shown.until_quiet()
            for _ in range(3):  # what was typed is back, and is cleared first
                shown.send("\x03")
                with contextlib.suppress(AssertionError):
                    out += shown.until("Ctrl-C again", 2)
                    break
            shown.send("\x03")
            code = shown.status(20)
    return {"code": code, "out": out, "answered": answered, "interrupted": interrupted}


if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    what = {
        "loop": loop,
        "limited": limited,
        "slow": slow,
        "typed": typed,
        "chosen": chosen,
        "hosted": hosted,
        "local": local,
    }[sys.argv[1]]
    print(json.dumps(what(*sys.argv[2:])))
