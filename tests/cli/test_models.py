"""Models on the command line: ``models NAME``, the check of ``run --model``, where it leads, and what ``run`` sums up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.cli.run_summary import failures
from ccproxy_lite.errors import DISCONNECTED
from ccproxy_lite.relay.record import Record
from ccproxy_lite.server.metrics import Metrics
from tests.cli.test_cli import cli, config_file
from tests.support import ANTHROPIC_BODY, CHAT_BODY, ECHO, WIRES, Scripted, Seen, Step, behind, http, proxy, upstream
from tests.targets import say

POST = """
import json, os, sys, urllib.error, urllib.request
failures = 0
for model in sys.argv[2:]:
    body = json.dumps({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"content-type": "application/json", "x-api-key": os.environ["ANTHROPIC_AUTH_TOKEN"]}
    request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            print(answer.status, answer.headers["x-ccproxy-upstream"])
    except urllib.error.HTTPError as error:
        print(error.code)
sys.exit(int(sys.argv[1]))
"""
"""A command that asks for models, and ends with the status that it is told."""


def listing(*names: str, answer: list[Step] | None = None) -> Any:
    """A service with a list of models; without names it has none."""

    def choose(seen: Seen) -> list[Step]:
        if seen.head.startswith("GET"):
            return [http(200, {"data": [{"id": name} for name in names]}) if names else http(404, {})]
        return answer or [http(200, CHAT_BODY)]

    return upstream(choose=choose)


def asked(up: Scripted) -> list[str]:
    """The models that messages were sent to."""
    return [one.json["model"] for one in up.seen if one.head.startswith("POST")]


def run(up: Scripted, tmp_path: Path, *words: str, model: str = "", status: int = 0, **more: Any) -> Any:
    """``run`` with the command that asks for the models that are named."""
    kind = more.pop("format", "openai-chat")
    path = config_file(tmp_path, {**behind(up, kind, **more.pop("settings", {})), **more})
    option = ["--model", model] if model else []
    return cli("run", "--config", path, *option, "--", sys.executable, "-c", POST, str(status), *words, home=tmp_path)


def explained(tmp_path: Path, config: dict[str, Any], name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return cli("models", "--config", config_file(tmp_path, config), name, *options, home=tmp_path)


# ---------------------------------------------------------------- models NAME

ECHOES: dict[str, Any] = {
    "upstreams": {"e": {"format": "echo"}, "closed": {"format": "echo", "models": ["mine"]}},
    "models": {
        "fast": [{"to": "e/echo(low)", "set": {"a": 1}, "context_tokens": 64000, "output_tokens": 8000}, "e/gone"],
        "sees": [{"to": "closed/eye", "when": {"has": "image"}}, "e/echo"],
        "claude-*": "e/*",
    },
}


def test_a_name_is_explained_in_text(tmp_path: Path) -> None:
    done = explained(tmp_path, ECHOES, "fast")
    first, second, hint, tokens = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("e/echo", "effort low", '{"a":1}', 'models "fast"', "target 1"):
        assert part in first
    assert second.startswith("if that fails: e/gone") and "does not list this name" in hint
    assert "64,000" in tokens and "8,000" in tokens


def test_what_happens_to_other_requests(tmp_path: Path) -> None:
    first, _, second, *_ = explained(tmp_path, ECHOES, "sees").stdout.splitlines()
    assert first.startswith("when has image: closed/eye") and second.startswith("otherwise: e/echo")
    models = {
        "only": [{"to": "e/eye", "when": {"has": "image"}}],
        "on*": "e/next",
        "alone": {"to": "e/x", "when": {"tokens_over": 9}},
    }
    told = explained(tmp_path, {**ECHOES, "models": models}, "only").stdout
    assert "otherwise: e/next" in told
    told = explained(
        tmp_path, {"upstreams": {"e": {"format": "echo", "models": ["x"]}}, "models": models}, "alone"
    ).stdout
    assert "when tokens over 9: e/x" in told and "otherwise: 404" in told
    models = {"sees": [{"to": "e/eye", "when": {"has": "image"}}, "e/echo", "e/eye"]}
    told = explained(tmp_path, {**ECHOES, "models": models}, "sees").stdout
    assert "otherwise: e/echo" in told and "if that fails: e/eye" in told
    models = {"mid": ["e/a", {"to": "e/b", "when": {"tokens_over": 9}}, "e/c"]}
    told = explained(tmp_path, {**ECHOES, "models": models}, "mid").stdout
    assert told.index("e/a") < told.index("e/b") < told.index("e/c"), "the order of the file is that of failover"


def test_a_name_is_explained_as_json(tmp_path: Path) -> None:
    told = json.loads(explained(tmp_path, ECHOES, "fast", "--json").stdout)
    assert (told["model"], told["context_tokens"], told["output_tokens"]) == ("fast", 64000, 8000)
    first, second = told["targets"]
    assert (first["target"], first["effort"], first["listed"]) == ("e/echo", "low", True)
    assert json.loads(first["set"]) if isinstance(first["set"], str) else first["set"] == {"a": 1}
    assert (second["target"], second["listed"]) == ("e/gone", False)
    assert "effort" not in second and "set" not in second


@pytest.mark.parametrize(
    ("name", "target", "rule"),
    [
        ("sees", "closed/eye", 'models "sees"'),
        ("claude-opus-5", "e/claude-opus-5", 'models "claude-*"'),
        ("e/anything", "e/anything", "names the upstream"),
        ("mine", "closed/mine", "lists the model"),
        ("unheard-of", "e/unheard-of", 'without "models"'),
        ("fast(high)", "e/echo", 'models "fast"'),
        ("fast-high", "e/echo", 'models "fast"'),
        ("fast[1m]", "e/echo", 'models "fast"'),
    ],
)
def test_each_rule_is_named(tmp_path: Path, name: str, target: str, rule: str) -> None:
    first = json.loads(explained(tmp_path, ECHOES, name, "--json").stdout)["targets"][0]
    assert first["target"] == target and rule in first["rule"]
    assert first.get("effort", "") == ("high" if "high" in name else "low" if name.startswith("fast") else "")


@pytest.mark.parametrize("name", ["fast(high)", "fast:high", "fast-high", "fast[1m]", "fast(high)[1m]"])
def test_an_effort_in_the_name_hides_no_numbers(tmp_path: Path, name: str) -> None:
    told = json.loads(explained(tmp_path, ECHOES, name, "--json").stdout)
    assert (told.get("context_tokens"), told.get("output_tokens")) == (64000, 8000)


def test_an_unknown_name(tmp_path: Path) -> None:
    closed = {"upstreams": {"closed": {"format": "echo", "models": ["zork-1", "zork-2"]}}}
    done = explained(tmp_path, closed, "zork-3")
    assert (done.returncode, done.stdout) == (1, "")
    assert "zork-3" in done.stderr and "did you mean zork-2 or zork-1" in done.stderr.replace(
        "zork-1 or zork-2", "zork-2 or zork-1"
    )
    assert done.stderr.count("\n") == 1
    done = explained(tmp_path, closed, "nothing", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "available: zork-1, zork-2" in done.stderr


def test_a_service_that_cannot_be_asked_does_not_matter(tmp_path: Path) -> None:
    with upstream([http(500, {})]) as up:
        done = explained(tmp_path, behind(up, "openai-chat"), "m", "--json")
    assert json.loads(done.stdout)["targets"] == [
        {"target": "up/m", "rule": 'the first upstream without "models" in the configuration'}
    ]


def test_the_list_shows_rules_and_windows(tmp_path: Path) -> None:
    done = cli("models", "--config", config_file(tmp_path, ECHOES), home=tmp_path)
    lines = dict(line.split(" -> ", 1) for line in done.stdout.splitlines())
    assert "64,000" in lines["fast"] and "e/echo(low), then e/gone" in lines["fast"]
    assert "closed/eye (when has image), then e/echo" in lines["sees"]
    assert lines["claude-*"] == "e/*"
    rows = json.loads(cli("models", "--json", "--config", config_file(tmp_path, ECHOES), home=tmp_path).stdout)
    assert next(row for row in rows if row["model"] == "fast")["context_tokens"] == 64000


# ---------------------------------------------------------------- run --model: is it there?


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("zork-1", ["zork-1"]),
        ("up/zork-1", ["other", "zork-1"]),
        ("zork-1(high)", ["zork-1"]),
        ("zork-1[1m]", ["zork-1"]),
        ("zork-1", ["zork-1:latest"]),
        ("zork-1", ["zork-1-20251101"]),
        ("zork-1", ["zork-1@20251101"]),
        ("zork-1", ["zork-1-2025-11-01"]),
        ("zork-1:latest", ["zork-1"]),
        ("zork-1-20251101", ["zork-1"]),
        ("zork-1-latest", ["zork-1-20251101"]),
        ("vendor/zork-1:nitro", ["vendor/zork-1"]),
        ("vendor/zork-1:online", ["vendor/zork-1", "vendor/zork-1:free"]),
    ],
)
def test_a_model_that_is_there_by_some_name(tmp_path: Path, model: str, names: list[str]) -> None:
    with listing(*names) as up:
        done = run(up, tmp_path, "claude-haiku-4-5", model=model)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["200"]), done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("model", "names", "close"),
    [
        ("zork-2", ["zork-1", "quite-else"], "did you mean zork-1?"),
        ("up/zork-2", ["zork-1"], "did you mean zork-1?"),
        ("nothing", ["alpha", "beta"], "available: alpha, beta"),
        ("zork-4", ["zork-4.1"], "did you mean zork-4.1?"),
        ("zork-4", ["zork-4-5"], "did you mean zork-4-5?"),
        ("zork3", ["zork3.1"], "did you mean zork3.1?"),
        ("zork", ["zork-70"], "did you mean zork-70?"),
        ("zork-2(high)", ["zork-1"], "did you mean zork-1?"),
    ],
)
def test_a_model_that_is_not_there(tmp_path: Path, model: str, names: list[str], close: str) -> None:
    with listing(*names) as up:
        done = run(up, tmp_path, "claude-haiku-4-5", model=model)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"--model {model}" in done.stderr and close in done.stderr
    assert "upstream" in done.stderr and '"models"' in done.stderr, "the way out"
    assert asked(up) == []


def test_what_the_configuration_lists_counts(tmp_path: Path) -> None:
    with listing("zork-1") as up:
        done = run(up, tmp_path, "x", model="up/mine", settings={"models": ["mine"]})
        assert (done.returncode, asked(up)) == (0, ["mine"])
        done = run(up, tmp_path, "x", model="up/zork-1", settings={"models": ["mine"]})
        assert done.returncode == 2
    assert [one for one in up.seen if one.head.startswith("GET")] == []


def test_a_service_without_a_list_is_not_checked(tmp_path: Path) -> None:
    with listing() as up:
        done = run(up, tmp_path, "x", model="up/zork-1")
    assert (done.returncode, asked(up)) == (0, ["zork-1"])
    assert done.stderr.count("\n") == 1 and '"zork-1" is not checked' in done.stderr


def test_nothing_is_checked_without_a_model(tmp_path: Path) -> None:
    with listing("zork-1") as up:
        done = run(up, tmp_path, "anything")
    assert (done.returncode, done.stderr, asked(up)) == (0, "", ["anything"])


# ---------------------------------------------------------------- run --model: where does it lead?

ASKS = ["claude-haiku-4-5", "gpt-5", "zork-9"]


@pytest.mark.parametrize(
    "models",
    [
        {},
        {"*": "up/other"},
        {"zork-*": "up/*"},
        {"claude-*": "up/other", "up/*": "up/other", "zork-*": ["up/*", "up/other"]},
    ],
)
@pytest.mark.parametrize("model", ["up/zork-1", "up/zork-1(high)", "up/zork-1[1m]"])
def test_every_model_leads_to_the_one_that_is_named(tmp_path: Path, models: dict[str, Any], model: str) -> None:
    with listing("zork-1", "other", "zork-9", "gpt-5") as up:
        done = run(up, tmp_path, *ASKS, model, model=model, models=models)
    assert done.returncode == 0, done.stderr
    assert asked(up) == ["zork-1"] * 4
    efforts = [one.json.get("reasoning_effort") for one in up.seen if one.head.startswith("POST")]
    assert efforts == ["high" if "high" in model else None] * 4


@pytest.mark.parametrize("model", ["zork-1", "zork-1(high)", "zork-1[1m]"])
def test_a_model_that_a_glob_catches_leads_nowhere_else(tmp_path: Path, model: str) -> None:
    with listing("zork-1", "zork-9", "claude-haiku-4-5", "gpt-5") as up:
        done = run(up, tmp_path, *ASKS, model, model=model, models={"zork-*": "up/*", "claude-*": "up/*"})
    assert done.returncode == 0, done.stderr
    assert asked(up) == ["zork-1"] * 4
    efforts = [one.json.get("reasoning_effort") for one in up.seen if one.head.startswith("POST")]
    assert efforts == ["high" if "high" in model else None] * 4


@pytest.mark.parametrize("model", ["fast", "fast(high)", "fast-high", "fast[1m]"])
def test_an_alias_leads_where_it_does_with_all_that_it_sets(tmp_path: Path, model: str) -> None:
    target = {"to": "up/quick", "set": {"seed": 7}}
    models = {"fast": [{"to": "up/eye", "when": {"has": "image"}}, target], "f*": "up/other"}
    with listing("quick", "other", "eye") as up:
        done = run(up, tmp_path, *ASKS, model, model=model, models=models)
    assert done.returncode == 0, done.stderr
    sent = [one.json for one in up.seen if one.head.startswith("POST")]
    assert [(one["model"], one.get("seed")) for one in sent] == [("quick", 7)] * 4
    assert [one.get("reasoning_effort") for one in sent] == ["high" if "high" in model else None] * 4


@pytest.mark.parametrize("model", ["fast", "fast(high)", "fast[1m]"])
def test_the_client_is_told_the_window_of_an_alias(tmp_path: Path, model: str) -> None:
    program = tmp_path / "claude"
    program.write_text('#!/bin/sh\necho "$CLAUDE_CODE_MAX_CONTEXT_TOKENS $CLAUDE_CODE_MAX_OUTPUT_TOKENS"\n')
    program.chmod(0o755)
    target = {"to": "e/echo", "context_tokens": 64000, "output_tokens": 8000}
    path = config_file(tmp_path, {"upstreams": {"e": {"format": "echo"}}, "models": {"fast": target}})
    done = cli("run", "--config", path, "--model", model, "--", str(program), home=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["64000", "8000"]), done.stderr


# ---------------------------------------------------------------- the summary

REFUSED = {"type": "error", "error": {"type": "not_found_error", "message": "model: zork-1 for upstream-key-one"}}


def test_the_summary_of_requests_that_failed(tmp_path: Path) -> None:
    with upstream([http(404, REFUSED)]) as up:
        done = run(up, tmp_path, "a", "a", "b", format="anthropic")
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and done.stdout.split() == ["404"] * 3
    assert len([line for line in lines if "requests failed" in line]) == 1
    assert "3 of 3 requests failed" in lines[0]
    assert any("2 times 404 up/a" in line for line in lines) and any("404 up/b" in line for line in lines)
    assert "upstream-key-one" not in done.stderr
    assert all(line.startswith("ccproxy-lite: ") for line in lines)


@pytest.mark.parametrize("status", [0, 3, 130])
def test_the_status_of_the_command_is_kept(tmp_path: Path, status: int) -> None:
    with upstream([http(404, REFUSED)]) as up:
        assert run(up, tmp_path, "a", format="anthropic", status=status).returncode == status


def test_no_summary_where_nothing_failed(tmp_path: Path) -> None:
    with upstream(
        [
            http(500, {}),
        ],
        [http(200, ANTHROPIC_BODY)],
    ) as up:  # mended by a second attempt
        done = run(up, tmp_path, "a", format="anthropic")
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["200", "up/a"])
    with upstream([http(200, ANTHROPIC_BODY)]) as up:
        done = run(up, tmp_path, format="anthropic", status=4)  # it asks nothing at all
    assert (done.returncode, done.stderr) == (4, "")


def test_some_of_many_failed(tmp_path: Path) -> None:
    def choose(seen: Seen) -> list[Step]:
        return [http(200, ANTHROPIC_BODY) if seen.json["model"] == "fine" else http(400, REFUSED)]

    with upstream(choose=choose) as up:
        done = run(up, tmp_path, "fine", "w", "fine", "x", "y", "z", format="anthropic")
    lines = done.stderr.splitlines()
    assert "4 of 6 requests failed" in lines[0] and len(lines) <= 4


def test_a_wrong_key_and_failures_among_many_are_summed_up(tmp_path: Path) -> None:
    code = POST.replace('"x-api-key": ', '"x-api-key": "wrong" + ')
    assert code != POST
    path = config_file(tmp_path, ECHO)
    done = cli("run", "--config", path, "--", sys.executable, "-c", code, "0", "m", "m", home=tmp_path)
    assert "2 of 2 requests failed" in done.stderr and "2 times 401" in done.stderr, done


def test_more_failures_than_the_dashboard_shows() -> None:
    metrics = Metrics()
    for status in [400, *[DISCONNECTED] * 60, *[500] * 60]:
        metrics.end(Record(status=status, error="no", route="up/m"), 0.0, 0.0)
    lines = list(failures(metrics, "the log"))
    assert "61 of 121 requests failed" in lines[0] and "60 times 500" in lines[1] and "400" in lines[2]


def test_a_long_message_with_line_breaks_is_one_short_line(tmp_path: Path) -> None:
    said = {"type": "error", "error": {"type": "api_error", "message": "a\r\nb\x1b[31m" + "x" * 5000}}
    with upstream([http(400, said)]) as up:
        done = run(up, tmp_path, "m", format="anthropic")
    assert len(done.stderr.splitlines()) == 2 and "\x1b" not in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 500


def test_the_summary_says_where_the_log_is(tmp_path: Path) -> None:
    with upstream([http(404, REFUSED)]) as up:
        done = run(up, tmp_path, "m", format="anthropic", log={"file": str(tmp_path / "my.log")})
    assert str(tmp_path / "my.log") in done.stderr


def test_a_command_that_is_killed_has_a_summary_too(tmp_path: Path) -> None:
    code = POST.replace("sys.exit(int(sys.argv[1]))", "os.kill(os.getpid(), 9)")
    with upstream([http(404, REFUSED)]) as up:
        path = config_file(tmp_path, behind(up, "anthropic"))
        done = cli("run", "--config", path, "--", sys.executable, "-c", code, "0", "m", home=tmp_path)
    assert done.returncode == 137 and "1 of 1 requests failed" in done.stderr


def test_requests_that_the_proxy_itself_refuses_are_summed_up(tmp_path: Path) -> None:
    closed = {"upstreams": {"closed": {"format": "echo", "models": ["mine"]}}}
    path = config_file(tmp_path, closed)
    done = cli("run", "--config", path, "--", sys.executable, "-c", POST, "0", "other", home=tmp_path)
    assert done.stdout.split() == ["404"]
    assert "1 of 1 requests failed" in done.stderr and 'unknown model "other"' in done.stderr
    done = cli(
        "run", "--config", config_file(tmp_path, ECHO), "--", sys.executable, "-c", POST, "0", "m", home=tmp_path
    )
    assert (done.stdout.split(), done.stderr) == (["200", "echo/m"], "")


# ---------------------------------------------------------------- replay


@pytest.mark.parametrize("to", ["anthropic", "openai-chat"])
def test_what_a_target_sets_and_an_effort_are_replayed(tmp_path: Path, to: str) -> None:
    """Both came from the name and the configuration, not from the client's body."""
    target = {"to": "up/gpt-5", "set": {"seed": 5, "temperature": None}, "when": {"tokens_over": 0}}
    captures = tmp_path / "captures"
    with upstream([http(200, WIRES[to].body)]) as up:
        with proxy({**behind(up, to), "models": {"m": target}, "capture": {"dir": str(captures)}}) as served:
            assert say(served, "anthropic", "m(high)", {"temperature": 0.4}).status == 200
    (file,) = captures.iterdir()
    done = cli("replay", str(file), home=tmp_path)
    assert "differs" not in done.stdout, done.stdout


# ---------------------------------------------------------------- windows that a service lists


def telling(tmp_path: Path, name: str) -> Path:
    """A program of a client's name that prints what it is told of a window."""
    program = tmp_path / name
    program.write_text(
        '#!/bin/sh\necho "$CLAUDE_CODE_MAX_CONTEXT_TOKENS $CLAUDE_CODE_AUTO_COMPACT_WINDOW $ANTHROPIC_MODEL"\n'
    )
    program.chmod(0o755)
    return program


SMALL = {"data": [{"id": "llama3.2", "max_model_len": 16384}]}


def test_a_model_with_an_effort_is_told_how_to_be_written(tmp_path: Path) -> None:
    with upstream(choose=lambda seen: [http(200, SMALL)]) as up:
        path = config_file(tmp_path, behind(up, "openai-chat"))
        words = ("run", "--config", path, "--model")
        for name in ("llama3.2-high", "llama3.2:high"):
            done = cli(*words, name, "--", str(telling(tmp_path, "claude")), home=tmp_path)
            assert done.returncode == 2 and 'with an effort, write "llama3.2(high)"' in done.stderr, done
        done = cli(*words, "llama3.2(high)", "--", str(telling(tmp_path, "claude")), home=tmp_path)
    assert done.stdout.split()[0] == "16384", done


def test_what_the_service_lists_counts_more_than_the_name(tmp_path: Path) -> None:
    """A table of names says 131,072."""
    with upstream([http(200, SMALL)]) as up:
        path = config_file(tmp_path, {**behind(up, "openai-chat"), "models": {"claude-*": "up/llama3.2"}})
        done = cli("run", "--config", path, "--", str(telling(tmp_path, "claude")), home=tmp_path)
    assert done.stdout.split()[:2] == ["16384", "16384"], done


def test_a_familiar_name_is_not_used_for_a_small_window(tmp_path: Path) -> None:
    target = {"to": "e/echo", "context_tokens": 64000}
    path = config_file(tmp_path, {"upstreams": {"e": {"format": "echo"}}, "models": {"my-claude-sonnet-4-6": target}})
    words = ("run", "--config", path, "--model", "my-claude-sonnet-4-6", "--", str(telling(tmp_path, "claude")))
    done = cli(*words, home=tmp_path)
    assert done.stdout.split() == ["64000", "64000", "proxied-model"], done


def test_a_window_that_nobody_knows_is_said(tmp_path: Path) -> None:
    program = str(telling(tmp_path, "claude"))
    with upstream(choose=lambda seen: [http(200, {"data": [{"id": "mine"}]})]) as up:
        path = config_file(tmp_path, behind(up, "openai-chat"))
        done = cli("run", "--config", path, "--model", "mine", "--", program, home=tmp_path)
        assert "the context window of up/mine is unknown, so claude assumes its own default" in done.stderr
        given = cli(
            *("run", "--config", path, "--model", "mine", "--", program), home=tmp_path,
            CLAUDE_CODE_MAX_CONTEXT_TOKENS="50000",
        )  # fmt: skip
        assert given.stderr == ""
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in done.stdout
    for config in ({**behind(up, "anthropic")}, ECHO):  # models that it knows, and one that is built in
        path = config_file(tmp_path, config)
        assert "window" not in cli("env", "claude", "--config", path, home=tmp_path).stderr


def test_env_is_told_by_the_running_proxy(tmp_path: Path) -> None:
    with upstream([http(200, SMALL)]) as up:
        config = {**behind(up, "openai-chat"), "models": {"claude-*": "up/llama3.2"}, "client_keys": ["a-client-key-1"]}
        with proxy(config) as served:
            path = config_file(tmp_path, {**config, "listen": f"127.0.0.1:{served.port}"})
            told = json.loads(cli("env", "claude", "--json", "--config", path, home=tmp_path).stdout)
        assert told["set"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "16384"
        # No proxy runs: the name says what it can.
        told = json.loads(cli("env", "claude", "--json", "--config", path, home=tmp_path).stdout)
        assert told["set"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "131072"


@pytest.mark.parametrize("said", [{}, [], None, "x", {"data": []}, {"id": 5}, {"id": "another", "max_input_tokens": 1}])
def test_env_while_something_else_listens(said: Any, tmp_path: Path) -> None:
    target = {"to": "e/echo", "context_tokens": 64000}
    with upstream(choose=lambda seen: [http(200, said)]) as up:
        config = {"upstreams": {"e": {"format": "echo"}}, "models": {"claude-*": target}}
        path = config_file(tmp_path, {**config, "listen": f"127.0.0.1:{up.port}"})
        done = cli("env", "claude", "--json", "--config", path, home=tmp_path)
    assert json.loads(done.stdout)["set"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "64000", done


def test_env_knows_what_the_proxy_does_not_tell(tmp_path: Path) -> None:
    """The numbers of the file, also where the one who answers says no more than the name."""
    target = {"to": "e/echo", "context_tokens": 64000}

    def choose(seen: Any) -> list[Any]:
        return [http(200, {"id": seen.head.split()[1].rpartition("/")[2]})]

    with upstream(choose=choose) as up:
        config = {"upstreams": {"e": {"format": "echo"}}, "models": {"claude-*": target}}
        path = config_file(tmp_path, {**config, "listen": f"127.0.0.1:{up.port}"})
        done = cli("env", "claude", "--json", "--config", path, home=tmp_path)
        assert up.seen
    assert json.loads(done.stdout)["set"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "64000", done
