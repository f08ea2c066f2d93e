"""Upstreams of known services and clouds: what a name, a host and the environment fill in, and every mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ccproxy_lite.config import file
from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import ConfigError
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.providers import HOSTS, bedrock, direct, vertex

KEY = "a-real-looking-key-0123456789"
ADC = "/home/me/.config/gcloud/application_default_credentials.json"
LOGIN = json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"})
AWS = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}


def read(entry: Mapping[str, Any], environ: Mapping[str, str], files: Mapping[str, str]) -> Any:
    def read_text(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    text = json.dumps({"upstreams": {"up": entry}})
    return file.read(text, "c.json", {"HOME": "/home/me", **environ}, read_text)


def upstream(
    environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None, **entry: Any
) -> Upstream:
    found: Upstream = read(entry, environ or {}, files or {}).upstreams[0]
    return found


def problems(
    environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None, **entry: Any
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(entry, environ or {}, files or {})
    return [line.split(": ", 1)[1] for line in caught.value.problems]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_every_known_service_by_name(host: Any) -> None:
    fields: dict[str, Any] = {"project": "p-1", "location": "us-east5"} if host.name == "vertex" else {}
    fields |= {"region": "eu-west-1"} if host.signs else {}
    fields |= {"headers": {host.header: "wrkspc-1"}} if host.header else {}
    for kind in host.urls:
        if not host.usable(kind):
            assert f"{host.name} needs its address" in problems(format=kind, base_url=host.name, keys=[KEY])[0]
            continue
        for name in (host.name, *host.aliases):
            found = upstream(format=kind, base_url=name, keys=[KEY], **fields)
            assert "{" not in found.base_url and found.base_url.startswith("http")
            assert set(host.quirks) <= found.quirks and found.lists == host.lists_in(kind)
        if host.variables:
            assert (
                upstream({host.variables[0]: KEY}, format=kind, base_url=host.name, **fields).keys[0].label
                == f"${host.variables[0]}"
            )


def test_a_format_may_be_left_out_where_there_is_one() -> None:
    assert upstream(base_url="cerebras", keys=[KEY]).format == "openai-chat"
    assert problems(base_url="openrouter", keys=[KEY]) == [
        'upstreams.up: missing "format" (one of openai-chat, openai-responses, anthropic)'
    ]


def test_a_variable_goes_to_its_own_host_only() -> None:
    assert upstream({"OPENROUTER_API_KEY": KEY}, format="openai-chat", base_url="https://openrouter.ai/api/v1").keys
    for url in ("https://openrouter.ai.example.com/v1", "https://gateway.example.com/v1"):
        assert (
            "no API key"
            in problems({"OPENROUTER_API_KEY": KEY, "OPENAI_API_KEY": KEY}, format="openai-chat", base_url=url)[0]
        )
    told = problems(
        {"AWS_BEARER_TOKEN_BEDROCK": KEY, **AWS},
        format="anthropic",
        provider="bedrock",
        region="us-east-1",
        base_url="https://gateway.example.com",
    )
    assert "no API key" in told[0]


@pytest.mark.parametrize(
    ("entry", "environ", "expected"),
    [
        ({"provider": "vertex", "project": "p"}, {}, {"base_url": "https://aiplatform.googleapis.com", "location": "global"}),
        ({"provider": "vertex"}, {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "eu"}, {"base_url": "https://aiplatform.eu.rep.googleapis.com", "project": "p"}),
        ({"base_url": "https://us-east5-aiplatform.googleapis.com/v1", "project": "p"}, {}, {"base_url": "https://us-east5-aiplatform.googleapis.com", "location": "us-east5"}),
        ({"provider": "bedrock"}, {"AWS_REGION": "us-gov-west-1"}, {"base_url": "https://bedrock-runtime.us-gov-west-1.amazonaws.com", "region": "us-gov-west-1"}),
        ({"provider": "bedrock", "region": "cn-north-1"}, {}, {"base_url": "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"}),
        ({"base_url": "https://vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com"}, {}, {"region": "eu-west-1"}),
        ({"base_url": "bedrock-mantle"}, {"AWS_DEFAULT_REGION": "us-west-2"}, {"base_url": "https://bedrock-mantle.us-west-2.api.aws/anthropic"}),
        ({"base_url": "https://r.services.ai.azure.com/"}, {}, {"base_url": "https://r.services.ai.azure.com/anthropic"}),
        ({"base_url": "https://llm.example.com", "auth": "api-key"}, {}, {"auth": ("api-key",)}),
        ({"base_url": "https://openrouter.ai/api"}, {}, {"auth": ("bearer",)}),
        ({"base_url": "https://bedrock-mantle.us-east-1.api.aws"}, {}, {"base_url": "https://bedrock-mantle.us-east-1.api.aws/anthropic"}),
        ({"base_url": "https://bedrock-runtime.us-east-1.api.aws"}, {}, {"region": "us-east-1"}),
        ({"base_url": "https://MYRESOURCE-test.example.com"}, {}, {"base_url": "https://MYRESOURCE-test.example.com"}),
    ],
)  # fmt: skip
def test_what_is_filled_in(entry: dict[str, Any], environ: dict[str, str], expected: dict[str, Any]) -> None:
    found = upstream(environ, format="anthropic", keys=[KEY], **entry)
    assert {name: getattr(found, name) for name in expected} == expected


def test_which_provider_a_host_gets() -> None:
    assert (
        upstream(format="anthropic", provider="bedrock", region="us-east-1", keys=[KEY]).provider.framing
        is bedrock.FRAMING
    )
    assert upstream(format="gemini", provider="vertex", project="p", keys=[KEY]).provider is vertex.PROVIDER
    assert (
        upstream(
            format="anthropic",
            base_url="https://bedrock-runtime.us-east-1.amazonaws.com",
            provider="direct",
            keys=[KEY],
        ).provider
        is direct.PROVIDER
    )


@pytest.mark.parametrize(
    ("entry", "environ", "files", "expected"),
    [
        ({"base_url": "openroutr", "format": "openai-chat"}, {}, {}, ['upstreams.up.base_url: neither a URL nor the name of a known service; did you mean "openrouter"?']),
        ({"provider": "bedrock", "format": "anthropic"}, {}, {}, ['upstreams.up: missing "region": set AWS_REGION, or add it to the upstream', "upstreams.up: no API key: set AWS_BEARER_TOKEN_BEDROCK, run"]),
        ({"provider": "bedrock", "format": "anthropic", "region": "Frankfurt", "keys": [KEY]}, {}, {}, ["upstreams.up.region: not a region, such as us-east-1"]),
        ({"provider": "vertex", "format": "anthropic"}, {}, {}, ['upstreams.up: missing "project": set GOOGLE_CLOUD_PROJECT', 'upstreams.up: no API key: run "gcloud auth application-default login"']),
        ({"provider": "vertex", "format": "gemini", "keys": ["cmd:gcloud auth print-access-token"]}, {}, {}, ['upstreams.up: missing "project"']),
        ({"provider": "vertex", "format": "gemini", "project": "p"}, {}, {ADC: '{"type": "service_account"}'}, ['upstreams.up: no API key (/home/me/.config/gcloud/application_default_credentials.json is of type "service_account"; only']),
        ({"provider": "vertex", "format": "gemini", "project": "p", "keys": ["google:/nowhere"]}, {}, {}, ["upstreams.up.keys[0]: /nowhere cannot be read"]),
        ({"base_url": "https://bedrock-runtime.us-east-1.amazonaws.com", "format": "gemini", "keys": [KEY]}, {}, {}, ["upstreams.up.format: bedrock does not speak gemini; it speaks anthropic, openai-chat, openai-responses"]),
        ({"base_url": "https://bedrock-mantle.us-east-1.api.aws/v1", "format": "gemini", "keys": [KEY]}, {}, {}, ["upstreams.up.format: bedrock-mantle does not speak gemini"]),
        ({"base_url": "https://r.openai.azure.com", "format": "openai-chat", "provider": "vertex", "keys": [KEY]}, {}, {}, ['upstreams.up.provider: azure is of provider "azure"']),
        ({"base_url": "https://llm.example.com", "format": "anthropic", "region": "us-east-1", "keys": [KEY]}, {}, {}, ['upstreams.up.region: only for provider "bedrock"']),
        ({"format": "gemini", "provider": "azure", "keys": [KEY]}, {}, {}, ['upstreams.up.format: provider "azure" does not speak gemini; it speaks openai-chat']),
        ({"base_url": "bedrock", "format": "anthropic", "keys": [KEY]}, {"AWS_REGION": "evil.example/"}, {}, ['upstreams.up: missing "region"', 'upstreams.up: region "evil.example/", which the environment names, is not']),
        ({"base_url": "https://bedrock-runtime.us-east-1.amazonaws.com", "format": "anthropic", "region": "eu-west-1", "keys": [KEY]}, {}, {}, ["upstreams.up.region: the host of base_url is in us-east-1"]),
        ({"format": "anthropic", "keys": ["google:"]}, {"K_SERVICE": "x"}, {}, ["upstreams.up.keys[0]: this host takes no such tokens"]),
        ({"base_url": "https://aiplatform.googleapis.com/v1/projects/p/locations/l", "format": "gemini", "project": "p", "keys": [KEY]}, {}, {}, ["upstreams.up.base_url: must not include the project"]),
        ({"base_url": "https://r.openai.azure.com/openai/deployments/gpt", "format": "openai-chat", "keys": [KEY]}, {}, {}, ["upstreams.up.base_url: must not include a deployment"]),
        ({"base_url": "https://r.openai.azure.com/openai/deployments/gpt", "format": "openai-chat", "api_version": "v", "keys": [KEY]}, {}, {}, ["upstreams.up.base_url: must be the resource's root"]),
        ({"base_url": "https://llm.example.com", "format": "anthropic", "keys": ["aws:"]}, AWS, {}, ["upstreams.up.keys[0]: this host takes no AWS signatures"]),
        ({"provider": "bedrock", "format": "anthropic", "region": "us-east-1", "keys": ["aws:nobody"]}, {}, {}, ['upstreams.up.keys[0]: AWS profile "nobody" does not exist']),
        ({"provider": "azure", "format": "openai-chat", "keys": [KEY]}, {}, {}, ['upstreams.up: azure needs its address: "base_url": "https://RESOURCE.openai.azure.com/openai/v1"']),
        ({"base_url": "https://RESOURCE.openai.azure.com", "format": "openai-chat", "keys": [KEY]}, {}, {}, ["upstreams.up.base_url: RESOURCE stands for a name of yours; replace it"]),
        ({"base_url": "https://r.openai.azure.com", "format": "openai-chat", "api_version": "a b", "keys": [KEY]}, {}, {}, ["upstreams.up.api_version: not a version, such as 2024-10-21"]),
        ({"format": "echo", "provider": "cloud"}, {}, {}, ["upstreams.up.provider: must be one of direct, azure, vertex, bedrock"]),
        ({"format": "claude-cli", "auth": "none", "project": "p"}, {}, {}, ["upstreams.up.auth: a local program has none", "upstreams.up.project: a local program has none"]),
    ],
)  # fmt: skip
def test_mistakes(entry: dict[str, Any], environ: dict[str, str], files: dict[str, str], expected: list[str]) -> None:
    told = problems(environ, files, **entry)
    assert len(told) == len(expected), told
    for line, begin in zip(told, expected, strict=True):
        assert line.startswith(begin), line


def test_credentials_that_only_asking_would_show_are_a_note() -> None:
    config = read({"provider": "bedrock", "format": "anthropic", "region": "us-east-1", "keys": ["aws:"]}, {}, {})
    assert config.notes == (
        "upstreams.up: aws: finds no keys and will ask the instance's metadata; elsewhere run: aws configure",
    )
    config = read({"format": "gemini", "base_url": "https://api.deepseek.com", "keys": [KEY]}, {}, {})
    assert config.notes == (
        "upstreams.up: deepseek does not speak gemini; it speaks openai-chat, openai-responses, anthropic, as far as is known",
    )


@pytest.mark.parametrize(
    ("entry", "environ", "files", "source"),
    [
        ({"provider": "vertex", "format": "anthropic", "project": "p"}, {}, {ADC: LOGIN}, "application default credentials"),
        ({"provider": "vertex", "format": "gemini", "project": "p"}, {"K_SERVICE": "s"}, {}, "the metadata server"),
        ({"provider": "vertex", "format": "gemini", "project": "p"}, {}, {"/sys/class/dmi/id/product_name": "Google Compute Engine\n"}, "the metadata server"),
        ({"provider": "bedrock", "format": "anthropic", "region": "us-east-1"}, AWS, {}, "access keys"),
        ({"provider": "bedrock", "format": "anthropic", "region": "us-east-1"}, {"AWS_BEARER_TOKEN_BEDROCK": KEY, **AWS}, {}, "environment variable AWS_BEARER_TOKEN_BEDROCK"),
        ({"provider": "bedrock", "format": "openai-chat", "region": "us-east-1"}, {}, {"/sys/class/dmi/id/sys_vendor": "Amazon EC2"}, "the instance's metadata"),
        ({"provider": "bedrock", "format": "anthropic", "region": "us-east-1"}, {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/x"}, {}, "the container's credentials"),
        ({"base_url": "claude-aws", "format": "anthropic", "region": "us-east-1", "headers": {"anthropic-workspace-id": "w"}}, AWS, {}, "access keys"),
    ],
)  # fmt: skip
def test_where_keys_come_from_that_the_file_leaves_out(
    entry: dict[str, Any], environ: dict[str, str], files: dict[str, str], source: str
) -> None:
    assert upstream(environ, files, **entry).source == source


def test_an_express_key_counts_more_than_a_project_of_the_environment() -> None:
    environ = {"GOOGLE_CLOUD_PROJECT": "p"}
    assert upstream(environ, format="gemini", provider="vertex", keys=["AIzaSyA-key-0123456789"]).project == ""
    assert (
        upstream({**environ, "K": "AQ.key-0123456789"}, format="gemini", provider="vertex", keys=["$K"]).project == ""
    )
    assert upstream(environ, format="gemini", provider="vertex", keys=["ya29.a-token-0123456789"]).project == "p"
    assert upstream(environ, format="gemini", provider="vertex", keys=["cmd:token"]).project == "p"
    assert upstream(environ, format="gemini", provider="vertex", keys=[KEY], project="q").project == "q"


def test_every_format_of_the_table_exists() -> None:
    assert {kind for host in HOSTS for kind in host.urls} == set(FORMATS)


def test_the_variable_of_the_format_s_maker_comes_first() -> None:
    environ = {"ANTHROPIC_FOUNDRY_API_KEY": KEY, "AZURE_OPENAI_API_KEY": KEY}
    for kind, name in (("anthropic", "ANTHROPIC_FOUNDRY_API_KEY"), ("openai-chat", "AZURE_OPENAI_API_KEY")):
        assert upstream(environ, format=kind, base_url="https://r.services.ai.azure.com").keys[0].label == f"${name}"


def test_the_region_of_the_profile_that_is_named() -> None:
    files = {
        "/home/me/.aws/config": "[default]\nregion = us-east-1\n[profile work]\nregion = eu-west-1\naws_access_key_id = A\naws_secret_access_key = S\n"
    }
    assert upstream({}, files, format="anthropic", provider="bedrock", keys=["aws:work"]).region == "eu-west-1"


def test_credentials_of_clouds_are_for_upstreams_only() -> None:
    def told(**settings: Any) -> str:
        text = json.dumps({"upstreams": {"echo": {"format": "echo"}}, **settings})
        with pytest.raises(ConfigError) as caught:
            file.read(text, "c.json", {"HOME": "/home/me"}, lambda path: "")
        return str(caught.value)

    assert "the credentials of a cloud are for keys of upstreams only" in told(client_keys=["google:"])
    assert "requests of mounts are not signed" in told(mounts={"/api/": {"to": "https://a.example", "keys": ["aws:"]}})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"base_url": "https://bedrock-runtime.{region}.amazonaws.com", "format": "anthropic"}, "base_url: {region} stands for a name of yours"),
        ({"base_url": "https://<resource>.openai.azure.com", "format": "openai-chat"}, "base_url: <resource> stands for"),
        ({"base_url": "vertex", "format": "gemini", "project": "p", "region": "us-east5"}, 'region: vertex calls this "location"'),
        ({"base_url": "bedrock", "format": "anthropic", "region": "us-east-1", "location": "x"}, 'location: bedrock calls this "region"'),
        ({"base_url": "https://r.services.ai.azure.com", "format": "anthropic", "api_version": "v"}, "api_version: has no effect with format anthropic"),
        ({"base_url": "vertex", "format": "gemini", "project": "TO-BE-SET"}, "project: to be set: a project's id"),
        ({"base_url": "bedrock", "format": "anthropic", "region": "r-1", "keys": ["AKIAIOSFODNN7EXAMPLE"]}, 'keys[0]: an access key id is no key; use "aws:"'),
        ({"base_url": "claude-aws", "format": "anthropic", "region": "r-1"}, ': missing "headers": {"anthropic-workspace-id": ...}'),
        ({"base_url": "bedrok", "region": "us-east-1"}, 'base_url: neither a URL nor the name of a known service; did you mean "bedrock"?'),
    ],
)  # fmt: skip
def test_slips_of_newcomers(entry: dict[str, Any], expected: str) -> None:
    told = problems(**{"keys": [KEY], **entry})
    assert len(told) == 1 and expected in told[0], told


def test_a_server_without_keys() -> None:
    for entry in ({"keys": []}, {"auth": "none"}):
        found = upstream(format="openai-chat", base_url="https://gpu-box.example.com/v1", **entry)
        assert (found.keys, found.source) == ((), "not required")
