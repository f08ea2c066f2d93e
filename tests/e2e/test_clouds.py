"""Every known host, at its true address, through the proxy: what it refuses is not sent, what it answers arrives.

The hosts are those of ``tests.clouds``: strict about paths, versions, credentials, fields and framing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ccproxy_lite.providers.hosts import HOSTS, Host
from tests.clouds import AWS, KEY, TOKEN, Sky, clouds
from tests.support import PROGRAM_S, ROOT, ask, proxy

pytest.importorskip("trustme", reason="trustme is not installed")
pytest.importorskip("botocore", reason="botocore is not installed: it judges signatures")

CLIENTS = ("anthropic", "openai-chat", "openai-responses", "gemini")
HELPER = f"cmd:echo '{json.dumps(AWS)}'"
PATHS = {
    "anthropic": "/v1/messages",
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "gemini": "/v1beta/models/{model}:{method}",
}
BETAS = (
    "claude-code-20250219,oauth-2025-04-20,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "prompt-caching-scope-2026-01-05,advanced-tool-use-2025-11-20,fine-grained-tool-streaming-2025-05-14"
)


@pytest.fixture(scope="module")
def sky() -> Iterator[Sky]:
    with clouds() as made:
        yield made


def keys_of(host: Host) -> list[str]:
    return [f"cmd:echo {TOKEN}" if host.tokens else KEY]


def entry(host: Host, kind: str, sky: Sky, **more: Any) -> dict[str, Any]:
    """An upstream by the host's name, or by the address that only its user knows."""
    found: dict[str, Any] = {"format": kind, "keys": keys_of(host), **sky.reach}
    if host.usable(kind):
        found["base_url"] = host.name
    else:
        url = host.urls[kind]
        for word in ("RESOURCE", "ACCOUNT", "WORKSPACE"):
            url = url.replace(word, "contoso")
        found["base_url"] = url.replace("{project}", "p-1").replace("{location}", "global")
    if host.signs:
        found["region"] = "us-east-1"
    if host.header:
        found["headers"] = {host.header: "wrkspc-1"}
    if host.name == "vertex":
        found |= {"project": "p-1", "location": "us-east5"}
    return {**found, **more}


def body_of(client: str, text: str, stream: bool, **more: Any) -> dict[str, Any]:
    if client == "gemini":
        return {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}
    if client == "openai-responses":
        return {"model": "some-model", "input": text, "stream": stream, **more}
    said = [{"role": "user", "content": text}]
    limit = {"max_tokens": 500} if client == "anthropic" else {}
    return {"model": "some-model", "messages": said, "stream": stream, **limit, **more}


def asked(port: int, client: str, stream: bool, text: str = "hello over there", **more: Any) -> Any:
    """An answer of the proxy; headers are named with underscores."""
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = PATHS[client].format(model="some-model", method=method)
    headers = {name: value for name, value in more.items() if isinstance(value, str)}
    fields = {name: value for name, value in more.items() if not isinstance(value, str)}
    answer = ask(port, path, body_of(client, text, stream, **fields), **headers)
    assert answer.status == 200, (answer.status, answer.body)
    return answer


EVERY = [(host, kind) for host in HOSTS if not host.is_local for kind in host.urls]


@pytest.mark.parametrize(("host", "kind"), EVERY, ids=[f"{host.name}-{kind}" for host, kind in EVERY])
def test_every_host_answers_every_client(host: Host, kind: str, sky: Sky) -> None:
    sky.refused.clear()
    with proxy({"upstreams": {"up": entry(host, kind, sky)}}) as served:
        # Beside the clouds, hosts differ in the address and the key alone.
        clients = CLIENTS if host.provider != "direct" else dict.fromkeys((kind, "anthropic", "openai-chat"))
        for client in clients:
            for stream in (False, True):
                answer = asked(served.port, client, stream)
                assert b"over" in answer.body, (client, stream, answer.body)
                assert (b"data:" in answer.body) == stream
    assert sky.refused == []


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare: usual ports")
def test_local_servers_are_found_by_their_names() -> None:
    command = ["unshare", "-n", sys.executable, "-m", "tests.e2e.inside", "local"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PROGRAM_S)
    assert done.returncode == 0, done.stderr
    expected = {f"{host.name} {kind}": [200, "up/m"] for host in HOSTS if host.is_local for kind in host.urls}
    assert json.loads(done.stdout.splitlines()[-1]) == expected


ANTHROPIC = [host for host in HOSTS if "anthropic" in host.urls and not host.is_local]


@pytest.mark.parametrize("host", ANTHROPIC, ids=lambda host: host.name)
def test_what_a_host_refuses_is_left_out_and_named(host: Host, sky: Sky) -> None:
    """What Claude Code sends: betas, scopes, deferred tools; on the makers' own hosts all of it passes."""
    sky.refused.clear()
    tool = {"name": "t", "input_schema": {"type": "object"}, "defer_loading": True, "eager_input_streaming": True}
    marker = {"type": "ephemeral", "scope": "global"}
    more: dict[str, Any] = {
        "anthropic_beta": BETAS,
        "tools": [tool],
        "system": [{"type": "text", "text": "Be kind.", "cache_control": marker}],
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    }
    with proxy({"upstreams": {"up": entry(host, "anthropic", sky)}}) as served:
        for stream in (False, True):
            answer = asked(served.port, "anthropic", stream, **more)
            dropped = answer.headers.get("x-ccproxy-dropped", "")
            sent = sky.seen[-1]
            if host.quirks and any(quirk.endswith("_subset") for quirk in host.quirks):
                assert "system[0].cache_control.scope" in dropped and "scope" not in str(sent.json.get("system"))
            else:
                assert dropped == "" and sent.get("anthropic-beta") == BETAS and sent.json["tools"] == [tool]
            if host.name == "bedrock":
                assert "anthropic-beta:oauth-2025-04-20" in dropped and not sent.get("anthropic-beta")
                assert sent.json["anthropic_beta"] == [
                    "interleaved-thinking-2025-05-14", "context-management-2025-06-27", "tool-search-tool-2025-10-19",
                    "fine-grained-tool-streaming-2025-05-14",
                ]  # fmt: skip
                assert sent.json["tools"] == [{"name": "t", "input_schema": {"type": "object"}, "defer_loading": True}]
        strict = ask(
            served.port,
            "/v1/messages",
            body_of("anthropic", "hi", False, **{k: v for k, v in more.items() if k != "anthropic_beta"}),
            x_ccproxy_strict="1",
        )
        assert strict.status == (400 if dropped else 200)
        if dropped:
            assert "not supported by this upstream: " in strict.json["error"]["message"]
    assert sky.refused == []
