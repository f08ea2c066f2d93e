"""The configuration file: every mistake with its place, all in one run; and the defaults."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ccproxy_lite.cli.load import find, load, read_text, with_options
from ccproxy_lite.config import file as configfile
from ccproxy_lite.config.model import Config, Key, Limits, Log, Timeouts, from_environment
from ccproxy_lite.errors import ConfigError

ENVIRON = {"HOME": "/nonexistent", "GOOD": "a-good-key", "EMPTY": "", "PLACEHOLDER": "changeme"}
UP = '"upstreams": {"up": {"format": "openai-chat", "base_url": "http://127.0.0.1:1/v1"}}'


def read(text: str, environ: dict[str, str] | None = None) -> Config:
    return configfile.read(text, "c.json", {**ENVIRON, **(environ or {})}, read_text)


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, environ)
    return caught.value.problems


def upstream(members: str) -> str:
    return '{"upstreams": {"up": {' + members + "}}}"


MISTAKES = [
    ("{", "c.json:1:2: Expecting property name enclosed in double quotes"),
    ("", "c.json:1:1: the file is empty"),
    ("[]", "c.json:1:1: expected an object"),
    ("{}", "c.json:1:1: upstreams: at least one upstream is required"),
    ('{"upstreams": {}}', "c.json:1:15: upstreams: at least one upstream is required"),
    ('{"upstreams": []}', "c.json:1:15: upstreams: expected an object"),
    ("{" + UP + ', "lisen": 1}', 'lisen: unknown key (did you mean "listen"?)'),
    ("{" + UP + ', "listen": "nope"}', "listen: must be host:port, [::1]:port or unix:/path"),
    ("{" + UP + ', "listen": "::1:80"}', "listen: an IPv6 address needs brackets: [::1]:8317"),
    ("{" + UP + ', "listen": ":80"}', "listen: missing host; use 0.0.0.0 or [::] for all interfaces"),
    ("{" + UP + ', "listen": 80}', "listen: expected a string"),
    ("{" + UP + ', "listen": "0.0.0.0:80"}', "listen: client_keys is required when listening on a non-loopback address"),
    ("{" + UP + ', "client_keys": [""]}', "client_keys[0]: the key is empty"),
    ("{" + UP + ', "client_keys": ["$EMPTY"]}', "client_keys[0]: environment variable EMPTY is empty"),
    ("{" + UP + ', "client_keys": ["$NONE"]}', "client_keys[0]: environment variable NONE is unset"),
    ("{" + UP + ', "strict": 1}', "strict: expected true or false"),
    ("{" + UP + ', "retries": -1}', "retries: must be at least 0"),
    ("{" + UP + ', "retries": 1.5}', "retries: expected an integer"),
    ("{" + UP + ', "retries": true}', "retries: expected an integer"),
    ("{" + UP + ', "strategy": "robin"}', "strategy: must be one of round-robin, fill-first"),
    ("{" + UP + ', "timeouts": {"conect_s": 1}}', 'timeouts.conect_s: unknown key (did you mean "connect_s"?)'),
    ("{" + UP + ', "timeouts": {"connect_s": 0}}', "timeouts.connect_s: must be at least 0.001"),
    ("{" + UP + ', "limits": {"max_connections": 0}}', "limits.max_connections: must be at least 1"),
    ("{" + UP + ', "log": {"level": "loud"}}', "log.level: must be one of debug, info, warning, error"),
    ("{" + UP + ', "cors_origins": ["*"]}', "cors_origins[0]: expected an exact origin such as http://localhost:3000"),
    ("{" + UP + ', "cors_origins": ["http://[::1"]}', "cors_origins[0]: expected an exact origin such as http://localhost:3000"),
    ("{" + UP + ', "thinking_budgets": {"hihg": 1}}', 'thinking_budgets.hihg: unknown key (did you mean "high"?)'),
    ("{" + UP + ', "models": {"a": "nope/x"}}', 'models.a: unknown upstream "nope"'),
    ("{" + UP + ', "models": {"a": "upp/x"}}', 'models.a: unknown upstream "upp" (did you mean "up"?)'),
    ("{" + UP + ', "models": {"a": "up"}}', 'models.a: expected "upstream/model"'),
    ("{" + UP + ', "models": {"a": ["up/x", 1]}}', "models.a[1]: expected a string"),
    ("{" + UP + ', "models": {"a": []}}', "models.a: at least one target is required"),
    ("{" + UP + ', "models": {"a": "up/x", "a": "up/y"}}', "models.a: duplicate key \"a\""),
    (upstream(""), 'upstreams.up: missing "format" (one of anthropic, openai-responses, openai-chat, gemini, echo, claude-cli)'),
    (upstream('"format": "openai"'), 'upstreams.up.format: must be one of anthropic, openai-responses, openai-chat, gemini, echo, claude-cli (did you mean "openai-chat"?)'),
    (upstream('"format": "anthropic"'), "upstreams.up: no API key: set ANTHROPIC_API_KEY"),
    (upstream('"format": "echo", "base_ur": ""'), 'upstreams.up.base_ur: unknown key (did you mean "base_url"?)'),
    (upstream('"format": "anthropic", "base_url": "ftp://x", "keys": ["$GOOD"]'), "base_url: must start with https://"),
    (upstream('"format": "anthropic", "base_url": "http://x.de", "keys": ["$GOOD"]'), "base_url: keys and conversations would be sent unencrypted"),
    (upstream('"format": "anthropic", "base_url": "https://u:p@x.de", "keys": ["$GOOD"]'), "base_url: must contain only scheme, host, port and path"),
    (upstream('"format": "anthropic", "base_url": "https://x.de?a=1", "keys": ["$GOOD"]'), "base_url: must contain only scheme, host, port and path"),
    (upstream('"format": "anthropic", "base_url": "https://x.de:99999", "keys": ["$GOOD"]'), "base_url: not a URL"),
    (upstream('"format": "anthropic", "base_url": "https://x\\\\y.de", "keys": ["$GOOD"]'), "base_url: must contain only scheme"),
    (upstream('"format": "anthropic", "keys": ["$PLACEHOLDER"]'), "keys[0]: environment variable PLACEHOLDER contains a placeholder"),
    (upstream('"format": "anthropic", "keys": ["sk-xxx"]'), "keys[0]: the key contains a placeholder instead of an API key"),
    (upstream('"format": "anthropic", "keys": ["a b"]'), "keys[0]: the key contains characters not allowed in an HTTP header"),
    (upstream('"format": "anthropic", "keys": ["file:/nonexistent/k"]'), "keys[0]: /nonexistent/k cannot be read: No such file or directory"),
    (upstream('"format": "anthropic", "keys": ["cmd:"]'), "keys[0]: the command is empty"),
    (upstream('"format": "anthropic", "keys": [{"label": "x"}]'), 'keys[0]: expected a secret string or {"key": ...}'),
    (upstream('"format": "anthropic", "keys": [{"key": "$GOOD", "weight": 0}]'), "keys[0].weight: must be at least 1"),
    (upstream('"format": "anthropic", "keys": "$GOOD"'), "keys: expected an array"),
    (upstream('"format": "echo", "quirks": ["max_tokens"]'), 'quirks[0]: must be one of'),
    (upstream('"format": "echo", "headers": {"a b": "x"}'), "headers.a b: not a header name"),
    (upstream('"format": "echo", "headers": {"a": "x\\ny"}'), "headers.a: not a header value"),
    (upstream('"format": "anthropic", "keys": ["ANTHROPIC_API_KEY"]'), "looks like a variable name; did you mean \"$ANTHROPIC_API_KEY\"?"),
    (upstream('"format": "anthropic", "keys": ["~/.key"]'), "not a valid secret; use \"$NAME\", \"file:/path\" or \"cmd:...\""),
    (upstream('"format": "anthropic", "base_url": "https://x.de/v1/messages", "keys": ["$GOOD"]'), "must not include the endpoint path; use https://x.de/v1"),
    (upstream('"format": "echo", "ca_file": "/nonexistent.pem"'), "ca_file: /nonexistent.pem cannot be read: No such file or directory"),
    (upstream('"format": "echo", "headers": {"x-org": "$ORG"}'), "headers.x-org: only $header:Name can be referred to here"),
    ('{"client_keys": ["$GOOD"], "upstreams": {"up": {"format": "anthropic", "keys": "from-client"}}}',
     "client_keys cannot be combined with \"from-client\" upstreams"),
    ('{"upstreams": {"a/b": {"format": "echo"}}}', "upstreams.a/b: a name has letters, digits, '-', '_' and '.' only"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_one_mistake_is_one_line(text: str, expected: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert expected in found[0]
    assert found[0].startswith("c.json:1:")


def test_all_mistakes_at_once_in_the_order_of_their_places() -> None:
    text = (
        '{\n  "lisen": 1,\n  "upstreams": {\n    "a": {"format": "nope"},\n    "b": {"format": "echo", "x": 1}\n  }\n}'
    )
    found = problems(text)
    assert [line.split(": ")[0] for line in found] == ["c.json:2:3", "c.json:4:21", "c.json:5:29"]


def test_an_invalid_base_url_has_no_proxy_that_could_be_wrong_too() -> None:
    text = upstream('"format": "anthropic", "base_url": "ftp://x", "keys": ["$GOOD"]')
    assert len(problems(text, {"HTTPS_PROXY": "socks5://x"})) == 1


def test_defaults() -> None:
    config = read("{" + UP + "}")
    assert config.listen == "127.0.0.1:8317"
    assert (config.retries, config.max_wait_s, config.default_max_tokens) == (2, 20, 8192)
    assert config.timeouts == Timeouts(10, 600, 300, 10, 30, 75, 60, 30)
    assert config.limits == Limits(512, 67108864, 33554432)
    assert config.strict is False


def test_keys_labels_and_weights() -> None:
    text = upstream('"format": "anthropic", "keys": ["$GOOD", {"key": "${GOOD}", "label": "work", "weight": 3}]')
    assert read(text).upstreams[0].keys == (Key("$GOOD", "$GOOD", 1), Key("${GOOD}", "work", 3))


def test_keys_from_the_client() -> None:
    found = read(upstream('"format": "anthropic", "keys": "from-client"')).upstreams[0]
    assert found.from_client and found.keys == ()


def test_where_keys_come_from_without_a_word(tmp_path: Path) -> None:
    plain = upstream('"format": "anthropic"')
    assert read(plain, {"ANTHROPIC_API_KEY": "sk-real-key"}).upstreams[0].keys[0].reference == "$ANTHROPIC_API_KEY"
    folder = tmp_path / "ccproxy-lite" / "keys"
    folder.mkdir(parents=True)
    (folder / "up").write_text("a-key\n")
    found = read(plain, {"XDG_CONFIG_HOME": str(tmp_path)}).upstreams[0]
    assert found.keys[0].reference == f"file:{folder}/up"
    assert found.source == f"{folder}/up"


def test_an_official_key_never_goes_to_another_host() -> None:
    text = upstream('"format": "anthropic", "base_url": "https://other.example"')
    with pytest.raises(ConfigError, match="no API key"):
        read(text, {"ANTHROPIC_API_KEY": "sk-real-key"})


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("anthropic", "https://api.x.de/", "https://api.x.de"),
        ("anthropic", "https://api.x.de/v1", "https://api.x.de"),
        ("anthropic", "https://api.x.de/v1/", "https://api.x.de"),
        ("anthropic", "https://api.x.de/anthropic", "https://api.x.de/anthropic"),
        ("openai-chat", "https://api.x.de/v1/", "https://api.x.de/v1"),
    ],
)
def test_base_urls_are_forgiving(kind: str, given: str, expected: str) -> None:
    text = upstream(f'"format": "{kind}", "base_url": "{given}", "keys": ["$GOOD"]')
    assert read(text).upstreams[0].base_url == expected


def test_a_byte_order_mark_is_forgiven() -> None:
    assert read("\ufeff{" + UP + "}").upstreams[0].name == "up"


def test_what_has_no_effect_yet_is_said() -> None:
    assert read("{" + UP + ', "workers": 2}').notes == ("workers: has no effect in this version",)


def test_the_environment_alone() -> None:
    config, source = from_environment({"ANTHROPIC_API_KEY": "a-key", "OPENAI_API_KEY": "b-key"})
    assert source == "environment"
    assert [(u.name, u.format, u.keys[0].reference) for u in config.upstreams] == [
        ("anthropic", "anthropic", "$ANTHROPIC_API_KEY"),
        ("openai-responses", "openai-responses", "$OPENAI_API_KEY"),
        ("openai-chat", "openai-chat", "$OPENAI_API_KEY"),
    ]
    config, _ = from_environment({"GOOGLE_API_KEY": "g-key"})
    assert [(u.name, u.keys[0].reference) for u in config.upstreams] == [("gemini", "$GOOGLE_API_KEY")]
    config, _ = from_environment({"GOOGLE_API_KEY": "g-key", "GEMINI_API_KEY": "h-key"})
    assert [u.keys[0].reference for u in config.upstreams] == ["$GEMINI_API_KEY"]
    config, source = from_environment({"OPENAI_API_KEY": "changeme"})
    assert (source, config.upstreams[0].format) == ("nothing", "echo")


def test_the_file_is_found_and_never_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "ccproxy.json").write_text("{}")
    assert find(None, {"HOME": str(tmp_path)}) is None
    usual = tmp_path / ".config" / "ccproxy-lite" / "config.json"
    usual.parent.mkdir(parents=True)
    usual.write_text("{}")
    assert find(None, {"HOME": str(tmp_path)}) == usual
    assert find(None, {"HOME": str(tmp_path), "CCPROXY_CONFIG": "/x"}) == Path("/x")
    assert find("/y", {"CCPROXY_CONFIG": "/x"}) == Path("/y")
    assert find(None, {}) is None


@pytest.mark.parametrize(
    ("make", "message"), [("missing", "No such file"), ("folder", "Is a directory"), ("binary", "not UTF-8")]
)
def test_files_that_cannot_be_read(tmp_path: Path, make: str, message: str) -> None:
    path = tmp_path / "c.json"
    if make == "folder":
        path.mkdir()
    elif make == "binary":
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=message):
        load(str(path), {})


def test_options_override_and_keep_the_rules() -> None:
    config = read("{" + UP + "}")
    given = argparse.Namespace(listen="[::1]:2", log_level="debug", log_format=None, log_file="there")
    assert with_options(config, given).log == Log("debug", "auto", "there")
    for listen in ("nope", "0.0.0.0:80", "127.0.0.1:99999", "127.0.0.1:1", "localhost:1", "[::1]:1"):
        with pytest.raises(ConfigError):
            with_options(config, argparse.Namespace(listen=listen))
