"""The official SDKs' own clients for clouds, and their usual clients through the proxy: the same service, the same result.

Both sides meet the hosts of ``tests.clouds``, at their true addresses. What reaches a host is compared, too: the path,
the body, how the key is carried.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clouds import AWS, ENTRA, KEY, TOKEN, Request, Sky, clouds
from tests.support import proxy

anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
openai = pytest.importorskip("openai", reason="the openai SDK is not installed")
genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")
httpx2 = pytest.importorskip("httpx2", reason="these SDKs have no httpx2")
pytest.importorskip("boto3", reason="boto3 is not installed: AnthropicBedrock signs with it")
pytest.importorskip("trustme", reason="trustme is not installed")

HELPER = f"cmd:echo '{json.dumps(AWS)}'"
TEXT = "hello over there"


@pytest.fixture(scope="module")
def sky() -> Iterator[Sky]:
    with clouds() as made:
        yield made


@contextlib.contextmanager
def http_client(sky: Sky) -> Iterator[Any]:
    with httpx2.Client(proxy=sky.proxy, verify=sky.context) as client:
        yield client


# ---------------------------------------------------------------- what is asked, and what comes of it


def messages(client: Any, model: str, stream: bool) -> Any:
    body = {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": TEXT}]}
    if not stream:
        return client.messages.create(**body).content
    with client.messages.stream(**body) as events:
        return events.get_final_message().content


def completions(client: Any, model: str, stream: bool) -> Any:
    said = [{"role": "user", "content": TEXT}]
    if not stream:
        return client.chat.completions.create(model=model, messages=said).choices[0].message.content
    chunks = client.chat.completions.create(model=model, messages=said, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def responses(client: Any, model: str, stream: bool) -> Any:
    if not stream:
        return client.responses.create(model=model, input=TEXT).output_text
    with client.responses.stream(model=model, input=TEXT) as events:
        return events.get_final_response().output_text


def generated(client: Any, model: str, stream: bool) -> Any:
    if not stream:
        return client.models.generate_content(model=model, contents=TEXT).text
    return "".join(chunk.text or "" for chunk in client.models.generate_content_stream(model=model, contents=TEXT))


def same(theirs: Request, ours: Request) -> None:
    assert (ours.method, ours.host, ours.target) == (theirs.method, theirs.host, theirs.target)
    assert ours.json == theirs.json
    carried, expected = ours.carried(), theirs.carried()
    if expected.get("authorization", "").startswith("AWS4"):  # at another second, of other headers
        assert carried["authorization"].split("/")[:4] == carried["authorization"].split("/")[:4]
        assert [*carried] == ["authorization"] and carried["authorization"].startswith("AWS4")
        assert ours.get("x-amz-security-token") == theirs.get("x-amz-security-token")
    else:
        assert carried == expected


def compared(sky: Sky, native: Any, usual: Any, ask: Callable[[Any, str, bool], Any], model: str) -> None:
    """Ask both, whole and streamed."""
    for stream in (False, True):
        sky.seen.clear()
        theirs, ours = ask(native, model, stream), ask(usual, model, stream)
        assert str(theirs) == str(ours) and "over there" in str(ours), (theirs, ours)
        same(*sky.seen)


def through(served: Any, kind: str) -> Any:
    """The usual client of a format."""
    if kind == "anthropic":
        return anthropic.Anthropic(base_url=served.url, api_key="any-key", max_retries=0)
    if kind == "gemini":
        return genai.Client(api_key="any-key", vertexai=False, http_options={"base_url": served.url})
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any-key", max_retries=0)


@contextlib.contextmanager
def behind(sky: Sky, **entry: Any) -> Iterator[Any]:
    with (
        proxy({"upstreams": {"up": {**entry, **sky.reach}}}) as served,
        contextlib.closing(through(served, entry["format"])) as client,
    ):
        yield client


def aws_credentials(key: str, *names: str) -> dict[str, str]:
    """What an SDK is given: the parts of the keys by its own names, or Bedrock's key."""
    return dict(zip(names, AWS.values(), strict=True)) if key is HELPER else {"api_key": KEY}


# ---------------------------------------------------------------- the clouds


@pytest.mark.parametrize("location", ["global", "us-east5", "eu"])
def test_anthropic_vertex(location: str, sky: Sky) -> None:
    entry = {"format": "anthropic", "provider": "vertex", "project": "p-1", "location": location}
    with http_client(sky) as http, behind(sky, keys=[f"cmd:echo {TOKEN}"], **entry) as usual:
        native = anthropic.AnthropicVertex(region=location, project_id="p-1", access_token=TOKEN, http_client=http)
        compared(sky, native, usual, messages, "claude-sonnet-4-5@20250929")
        body = {"model": "claude-sonnet-4-5@20250929", "messages": [{"role": "user", "content": TEXT}]}
        sky.seen.clear()
        counted = [client.messages.count_tokens(**body).input_tokens for client in (native, usual)]
        assert counted == [41, 41]
        same(*sky.seen)


@pytest.mark.parametrize("key", [HELPER, KEY], ids=["signed", "key"])
@pytest.mark.parametrize("model", ["us.anthropic.claude-sonnet-5", "anthropic.claude-sonnet-4-5-20250929-v1:0"])
def test_anthropic_bedrock(key: str, model: str, sky: Sky) -> None:
    entry = {"format": "anthropic", "provider": "bedrock", "region": "us-east-1", "keys": [key]}
    credentials = aws_credentials(key, "aws_access_key", "aws_secret_key", "aws_session_token")
    with http_client(sky) as http, behind(sky, **entry) as usual:
        native = anthropic.AnthropicBedrock(aws_region="us-east-1", http_client=http, **credentials)
        for stream in (False, True):
            sky.seen.clear()
            theirs, ours = messages(native, model, stream), messages(usual, model, stream)
            assert theirs == ours
            asked, sent = sky.seen
            # The SDK leaves colons as they are; both spellings are signed right.
            assert sent.target == asked.target.replace(":", "%3A") and sent.json == asked.json
            assert list(sent.carried()) == list(asked.carried()) == ["authorization"]


@pytest.mark.parametrize("key", [HELPER, KEY], ids=["signed", "key"])
def test_anthropic_bedrock_mantle(key: str, sky: Sky) -> None:
    entry = {"format": "anthropic", "base_url": "bedrock-mantle", "region": "us-west-2", "keys": [key]}
    credentials = aws_credentials(key, "aws_access_key", "aws_secret_key", "aws_session_token")
    with http_client(sky) as http, behind(sky, **entry) as usual:
        native = anthropic.AnthropicBedrockMantle(aws_region="us-west-2", http_client=http, **credentials)
        compared(sky, native, usual, messages, "anthropic.claude-opus-4-8")


@pytest.mark.parametrize("key", [KEY, ENTRA], ids=["key", "entra"])
def test_anthropic_foundry(key: str, sky: Sky) -> None:
    entry = {"format": "anthropic", "base_url": "https://contoso.services.ai.azure.com/anthropic", "keys": [key]}
    credential = {"api_key": KEY} if key == KEY else {"azure_ad_token_provider": lambda: ENTRA}
    with http_client(sky) as http, behind(sky, **entry) as usual:
        native = anthropic.AnthropicFoundry(resource="contoso", http_client=http, **credential)
        compared(sky, native, usual, messages, "my-claude")


@pytest.mark.parametrize("key", [KEY, ENTRA], ids=["key", "entra"])
@pytest.mark.parametrize(("kind", "ask"), [("openai-chat", completions), ("openai-responses", responses)])
def test_azure_openai_of_older_versions(kind: str, ask: Any, key: str, sky: Sky) -> None:
    endpoint, version = "https://contoso.openai.azure.com", "2024-10-21"
    entry = {"format": kind, "base_url": endpoint, "api_version": version, "keys": [key]}
    credential = {"api_key": KEY} if key == KEY else {"azure_ad_token": ENTRA}
    with http_client(sky) as http, behind(sky, **entry) as usual:
        native = openai.AzureOpenAI(azure_endpoint=endpoint, api_version=version, http_client=http, **credential)
        compared(sky, native, usual, ask, "my-gpt")


@pytest.mark.parametrize(("kind", "ask"), [("openai-chat", completions), ("openai-responses", responses)])
def test_azure_openai_v1(kind: str, ask: Any, sky: Sky) -> None:
    entry = {"format": kind, "base_url": "https://contoso.openai.azure.com", "keys": [ENTRA]}
    with http_client(sky) as http, behind(sky, **entry) as usual:
        native = openai.OpenAI(base_url="https://contoso.openai.azure.com/openai/v1", api_key=ENTRA, http_client=http)
        compared(sky, native, usual, ask, "my-gpt")


@pytest.mark.parametrize("location", ["global", "us-central1", "us"])
def test_genai_on_vertex(location: str, sky: Sky) -> None:
    from google.oauth2.credentials import Credentials

    entry = {"format": "gemini", "provider": "vertex", "project": "p-1", "location": location}
    options = {"client_args": {"proxy": sky.proxy, "verify": sky.context}}
    with behind(sky, keys=[f"cmd:echo {TOKEN}"], **entry) as usual:
        with contextlib.closing(
            genai.Client(
                vertexai=True, project="p-1", location=location, credentials=Credentials(TOKEN), http_options=options
            )
        ) as native:
            compared(sky, native, usual, generated, "gemini-3.5-flash")
            sky.seen.clear()
            counted = [
                client.models.count_tokens(model="gemini-3.5-flash", contents=TEXT) for client in (native, usual)
            ]
            assert [one.total_tokens for one in counted] == [42, 42]
            same(*sky.seen)


def test_genai_on_vertex_with_an_express_key(sky: Sky) -> None:
    options = {"client_args": {"proxy": sky.proxy, "verify": sky.context}}
    with behind(sky, format="gemini", provider="vertex", keys=[KEY]) as usual:
        with contextlib.closing(genai.Client(vertexai=True, api_key=KEY, http_options=options)) as native:
            compared(sky, native, usual, generated, "gemini-3.5-flash")


@pytest.mark.parametrize("surface", ["mantle", "runtime"])
@pytest.mark.parametrize("key", [HELPER, KEY], ids=["signed", "key"])
def test_openai_on_bedrock(surface: str, key: str, sky: Sky) -> None:
    bedrock = pytest.importorskip("openai.providers.bedrock", reason="this openai SDK has no providers").bedrock
    name = "bedrock-mantle" if surface == "mantle" else "bedrock"
    entry = {"format": "openai-responses", "base_url": name, "region": "us-east-1", "keys": [key]}
    credentials = aws_credentials(key, "access_key_id", "secret_access_key", "session_token")
    with http_client(sky) as http, behind(sky, **entry) as usual:
        provider = bedrock(endpoint=surface, region="us-east-1", **credentials)
        native = openai.OpenAI(provider=provider, http_client=http, max_retries=0)
        compared(sky, native, usual, responses, "openai.gpt-5.6-sol")
