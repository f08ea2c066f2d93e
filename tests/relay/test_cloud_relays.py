"""Clouds as upstreams like any other: how keys are carried, captures, failover, keep-alives, raw paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.providers import AUTHS
from tests.clouds import AWS, KEY, TOKEN, Plain, Refused, Request, Sky, clouds
from tests.support import ask, eventually, http, proxy, upstream

pytest.importorskip("trustme", reason="trustme is not installed")
pytest.importorskip("botocore", reason="botocore is not installed: it judges signatures")

HELPER = f"cmd:echo '{json.dumps(AWS)}'"
BEDROCK = {"format": "anthropic", "provider": "bedrock", "region": "us-east-1", "keys": [HELPER]}
VERTEX = {"format": "anthropic", "provider": "vertex", "project": "p-1", "keys": [f"cmd:echo {TOKEN}"]}
GEMINI = {
    "format": "gemini",
    "provider": "vertex",
    "project": "p-1",
    "location": "us-east5",
    "keys": [f"cmd:echo {TOKEN}"],
}
OLDER = {
    "format": "openai-chat",
    "base_url": "https://contoso.openai.azure.com",
    "api_version": "2024-10-21",
    "keys": [KEY],
}
HELLO = [{"role": "user", "content": "hello over there"}]


@pytest.fixture(scope="module")
def sky() -> Iterator[Sky]:
    with clouds() as made:
        yield made


@pytest.mark.parametrize("kind", ["anthropic", "openai-chat", "gemini"])
@pytest.mark.parametrize("auth", AUTHS)
def test_where_the_key_goes_is_the_file_s_to_say(auth: str, kind: str) -> None:
    with upstream([http(404, {"error": {"message": "no"}})]) as up:
        entry = {"format": kind, "base_url": f"http://127.0.0.1:{up.port}", "keys": [KEY], "auth": auth}
        with proxy({"upstreams": {"up": entry}}) as served:
            ask(served.port, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": HELLO})
        head = up.seen[0]
    names = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
    expected = {"bearer": {"authorization": f"Bearer {KEY}"}, "none": {}}.get(auth, {auth: KEY})
    assert {name: value for name in names if (value := head.header(name))} == expected


@pytest.mark.parametrize(("name", "value"), [("authorization", "Bearer an-account-token-0123"), ("x-api-key", KEY)])
def test_a_client_s_own_key_reaches_the_maker_as_the_client_sends_it(name: str, value: str, sky: Sky) -> None:
    def script(request: Request) -> Plain:
        return Plain("/v1/messages", request.body)

    with proxy({"upstreams": {"up": {"format": "anthropic", "keys": "from-client", **sky.reach}}}) as served:
        sky.scripts[:] = [script]
        body = {"model": "claude-opus-5", "max_tokens": 9, "messages": HELLO}
        assert ask(served.port, "/v1/messages", body, **{name.replace("-", "_"): value}).status == 200
    assert sky.seen[-1].carried() == {name: value}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("entry", [BEDROCK, VERTEX, OLDER], ids=["bedrock", "vertex", "azure"])
def test_a_captured_exchange_runs_again_and_holds_no_secret(entry: Any, stream: bool, sky: Sky, tmp_path: Path) -> None:
    from ccproxy_lite.cli.main import main

    with proxy({"upstreams": {"up": {**entry, **sky.reach}}, "capture": {"dir": str(tmp_path)}}) as served:
        body = {"model": "claude-sonnet-5", "max_tokens": 9, "stream": stream, "messages": HELLO}
        assert ask(served.port, "/v1/messages", body, anthropic_beta="oauth-2025-04-20").status == 200
        assert eventually(lambda: list(tmp_path.glob("*.json")))
    path = next(iter(tmp_path.glob("*.json")))
    text = path.read_text()
    assert not [secret for secret in (AWS["SecretAccessKey"], AWS["SessionToken"], TOKEN, KEY) if secret in text]
    assert main(["replay", str(path)]) == 0


@pytest.mark.parametrize("stream", [True, False])
def test_the_next_target_gets_what_the_client_has_sent(stream: bool, sky: Sky) -> None:
    """A cloud that has no room, and behind it the maker's own service."""

    def busy(request: Request) -> Plain:
        raise Refused(503, {"message": "busy"}, **{"x-amzn-errortype": "ServiceUnavailableException:"})

    own = {"format": "anthropic", "keys": [KEY], **sky.reach}
    settings = {
        "upstreams": {"cloud": {**BEDROCK, **sky.reach}, "own": own},
        "models": {"*": ["cloud/us.claude", "own/claude-opus-5"]},
    }
    tool = {"name": "t", "input_schema": {"type": "object"}, "eager_input_streaming": True}
    body = {"model": "m", "max_tokens": 9, "stream": stream, "messages": HELLO, "tools": [tool], "speed": "fast"}
    with proxy(settings) as served:
        sky.seen.clear()
        sky.scripts[:] = [busy]
        answer = ask(served.port, "/v1/messages", body, anthropic_beta="fast-mode-2026-02-01,oauth-2025-04-20")
    assert answer.status == 200 and "x-ccproxy-dropped" not in answer.headers
    cloud, maker = sky.seen
    assert cloud.path.startswith("/model/us.claude/") and "speed" not in cloud.json
    assert maker.json == {**body, "model": "claude-opus-5"}
    assert maker.get("anthropic-beta") == "fast-mode-2026-02-01,oauth-2025-04-20"


def test_other_paths_of_an_api(sky: Sky) -> None:
    seen: list[str] = []

    def script(request: Request) -> Plain:
        seen.append(request.target)
        return Plain("", b"", answer={"embedding": {"values": [1]}})

    with proxy({"upstreams": {"google": {**GEMINI, **sky.reach}, "claude": {**BEDROCK, **sky.reach}}}) as served:
        sky.scripts[:] = [script]
        answer = ask(served.port, "/v1beta/models/text-embedding-5:embedContent", {"content": {}})
        assert answer.json == {"embedding": {"values": [1]}}
        refused = ask(served.port, "/v1/messages/batches", {"requests": []})
        assert refused.status == 404 and "InvokeModel has no /v1/messages/batches" in refused.json["error"]["message"]
    assert seen == ["/v1beta1/projects/p-1/locations/us-east5/publishers/google/models/text-embedding-5:embedContent"]


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/embeddings"])
def test_other_paths_are_signed_as_they_are_sent(path: str, sky: Sky) -> None:
    kind = "anthropic" if "messages" in path else "openai-chat"
    entry = {"format": kind, "base_url": "bedrock-mantle", "region": "us-east-1", "keys": [HELPER], **sky.reach}
    body = {"model": "m", "requests": ["x" * 1000]}
    with proxy({"upstreams": {"up": entry}}) as served:
        answer = ask(served.port, path, body)
        assert answer.json == {"length": len(json.dumps(body))}
        large = ask(served.port, path, {"requests": ["x" * 1_100_000]})
        assert large.status == 413 and "cannot be signed" in large.json["error"]["message"]


def test_a_denial_of_one_model_says_nothing_about_the_others(sky: Sky) -> None:
    def denied(request: Request) -> Plain:
        message = "User: arn is not authorized to perform: bedrock:InvokeModel on resource: foundation-model/m"
        raise Refused(403, {"message": message}, **{"x-amzn-errortype": "AccessDeniedException:"})

    with proxy({"upstreams": {"up": {**BEDROCK, **sky.reach}}}) as served:
        sky.scripts[:] = [denied]
        body = {"model": "one", "max_tokens": 9, "messages": HELLO}
        assert ask(served.port, "/v1/messages", body).status == 403
        assert ask(served.port, "/v1/messages", {**body, "model": "two"}).status == 200


def test_models_of_a_service_without_a_list(sky: Sky) -> None:
    with proxy(
        {"upstreams": {"cloud": {**BEDROCK, **sky.reach}}, "models": {"fast": "cloud/us.anthropic.claude-haiku-4-5"}}
    ) as served:
        sky.seen.clear()
        listed = ask(served.port, "/v1/models", method="GET").json["data"]
        assert [one["id"] for one in listed] == ["fast"]
        assert ask(served.port, "/v1/messages", {"model": "anything", "max_tokens": 9, "messages": HELLO}).status == 200
        assert [one.method for one in sky.seen] == ["POST"], "nobody was asked for a list"
