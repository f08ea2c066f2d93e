"""Target objects in the configuration: what they come to, every mistake with its place, and how ``check`` shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ccproxy_lite.cli.load import read_text
from ccproxy_lite.config import file as configfile
from ccproxy_lite.config.model import EFFORTS, Condition, Config, ModelTarget
from ccproxy_lite.errors import ConfigError
from tests.cli.test_cli import cli, config_file

KNOWN_EFFORTS = f"known: {', '.join(EFFORTS)}"
CONTENTS = "image, file, audio, tools, web_search, thinking"
UP = '"upstreams": {"up": {"format": "echo"}}'


def read(models: str) -> Config:
    """The target is on the third line, so that places show."""
    return configfile.read("{" + UP + ',\n "models":\n' + models + "}", "c.json", {"HOME": "/nonexistent"}, read_text)


def problems(models: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(models)
    return caught.value.problems


def target(members: str) -> str:
    return '{"m": {' + members + "}}"


TO = '"to": "up/x"'
MISTAKES = [
    ('{"m": {}}', '3:7: models.m: missing "to" (upstream/model)'),
    ('{"m": [{}]}', '3:8: models.m[0]: missing "to" (upstream/model)'),
    (target('"to": 5'), "3:14: models.m.to: expected a string"),
    (target('"to": ""'), '3:14: models.m.to: expected "upstream/model"'),
    (target('"to": "up"'), '3:14: models.m.to: expected "upstream/model"'),
    (target('"to": "up/"'), '3:14: models.m.to: expected "upstream/model"'),
    (target('"to": "upp/x"'), '3:14: models.m.to: unknown upstream "upp" (did you mean "up"?)'),
    ('{"m": ["up/a", {"to": "nope/x"}]}', '3:23: models.m[1].to: unknown upstream "nope"; known: up'),
    (target('"to": "up/x(hihg)"'), '3:14: models.m.to: unknown effort "hihg" (did you mean "high"?)'),
    (target('"to": "up/x(turbo)"'), f'3:14: models.m.to: unknown effort "turbo"; {KNOWN_EFFORTS}'),
    ('{"m": "up/x(hihg)"}', '3:7: models.m: unknown effort "hihg" (did you mean "high"?)'),
    (target(TO + ', "wen": {}'), '3:22: models.m.wen: unknown key (did you mean "when"?)'),
    (target(TO + ', "to": "up/y"'), '3:22: models.m.to: duplicate key "to"'),
    (target(TO + ', "when": {}'), "3:30: models.m.when: at least one condition is required"),
    (target(TO + ', "when": null'), "3:30: models.m.when: expected an object"),
    (target(TO + ', "when": ["image"]'), "3:30: models.m.when: expected an object"),
    (target(TO + ', "when": {"tokens_ovr": 1}'), '3:31: models.m.when.tokens_ovr: unknown key (did you mean "tokens_over"?)'),
    (target(TO + ', "when": {"zzz": 1}'), "3:31: models.m.when.zzz: unknown key"),
    (target(TO + ', "when": {"has": "image", "has": "file"}'), '3:47: models.m.when.has: duplicate key "has"'),
    (target(TO + ', "when": {"has": "imgae"}'), f'3:38: models.m.when.has: must be one of {CONTENTS} (did you mean "image"?)'),
    (target(TO + ', "when": {"has": ["image", "vidoe"]}'), f"3:48: models.m.when.has[1]: must be one of {CONTENTS}"),
    (target(TO + ', "when": {"has": []}'), f"3:38: models.m.when.has: expected one or several of {CONTENTS}"),
    (target(TO + ', "when": {"has": 1}'), "3:38: models.m.when.has: expected a string"),
    (target(TO + ', "when": {"has": [1]}'), "3:39: models.m.when.has[0]: expected a string"),
    (target(TO + ', "when": {"tokens_over": -1}'), "3:46: models.m.when.tokens_over: must be at least 0"),
    (target(TO + ', "when": {"tokens_over": "1"}'), "3:46: models.m.when.tokens_over: expected an integer"),
    (target(TO + ', "when": {"tokens_over": 1.5}'), "3:46: models.m.when.tokens_over: expected an integer"),
    (target(TO + ', "when": {"tokens_under": 0}'), "3:47: models.m.when.tokens_under: must be at least 1"),
    (target(TO + ', "when": {"tokens_under": true}'), "3:47: models.m.when.tokens_under: expected an integer"),
    (target(TO + ', "when": {"header": "x-a"}'), "3:41: models.m.when.header: expected an object"),
    (target(TO + ', "when": {"header": {"x-a": 1}}'), "3:49: models.m.when.header.x-a: expected a string"),
    (target(TO + ', "when": {"header": {"x-a": "1", "x-a": "2"}}'), 'models.m.when.header.x-a: duplicate key "x-a"'),
    (target(TO + ', "when": {"system": ["a"]}'), "3:41: models.m.when.system: expected a string"),
    (target(TO + ', "set": []'), "3:29: models.m.set: expected an object"),
    (target(TO + ', "set": null'), "3:29: models.m.set: expected an object"),
    (target(TO + ', "set": "temperature=1"'), "3:29: models.m.set: expected an object"),
    (target(TO + ', "set": {"model": "y"}'), '3:30: models.m.set.model: "set" must not change model'),
    (target(TO + ', "set": {"stream": null}'), '3:30: models.m.set.stream: "set" must not change stream'),
    (target(TO + ', "set": {"a": {"b": 1, "b": 2}}'), 'models.m.set.a.b: duplicate key "b"'),
    (target(TO + ', "name": 1'), "3:30: models.m.name: expected a string"),
    (target(TO + ', "context_tokens": 0'), "3:40: models.m.context_tokens: must be at least 1"),
    (target(TO + ', "context_tokens": "64k"'), "3:40: models.m.context_tokens: expected an integer"),
    (target(TO + ', "output_tokens": 1.5'), "3:39: models.m.output_tokens: expected an integer"),
]  # fmt: skip


@pytest.mark.parametrize(("models", "expected"), MISTAKES)
def test_one_mistake_is_one_line(models: str, expected: str) -> None:
    found = problems(models)
    assert len(found) == 1, found
    assert found[0].startswith("c.json:3:")
    assert expected in found[0]


NEVER = [
    (target(TO + ', "when": {"header": {}}'), "header"),
    (target(TO + ', "when": {"tokens_over": 5, "tokens_under": 3}'), "tokens"),
    (target(TO + ', "when": {"header": {"x-a": "1", "X-A": "2"}}'), "header"),
    (target(TO + ', "when": {"header": {"a b": "1"}}'), "invalid header name"),
]


@pytest.mark.parametrize(("models", "word"), NEVER)
def test_a_condition_that_says_nothing_or_can_never_be_is_a_mistake(models: str, word: str) -> None:
    assert [word in line for line in problems(models)] == [True]


def test_all_mistakes_of_all_targets_at_once() -> None:
    text = (
        '{"a": [{"to": "nope/x", "when": {"has": "imgae", "tokens_over": -1}},\n'
        '  {"set": {"model": 1, "stream": 2}}],\n "b": {"to": "up/x(hihg)", "nme": ""}}'
    )
    assert [line.split(": ")[1] for line in problems(text)] == [
        "models.a[0].to", "models.a[0].when.has", "models.a[0].when.tokens_over", "models.a[1]",
        "models.a[1].set.model", "models.a[1].set.stream", "models.b.to", "models.b.nme",
    ]  # fmt: skip


def test_what_a_target_object_comes_to() -> None:
    found = read(
        '{"m": ["up/a", {"to": "up/b", "name": "B", "context_tokens": 64000, "output_tokens": 8000,'
        ' "set": {"a": null, "b": {"c": 1.5}},'
        ' "when": {"has": "image", "tokens_over": 0, "header": {"User-Agent": "x*"}, "system": "*"}}, {"to": "up/c"}]}'
    )
    name, (plain, full, short) = found.models[0]
    assert (name, plain, short) == ("m", ModelTarget("up/a"), ModelTarget("up/c"))
    assert full.when == Condition(("image",), 0, None, (("user-agent", "x*"),), "*")
    assert json.loads(full.overlay) == {"a": None, "b": {"c": 1.5}}
    assert (full.name, full.context_tokens, full.output_tokens) == ("B", 64000, 8000)


def test_every_effort_is_known_and_other_brackets_are_names() -> None:
    for effort in EFFORTS:
        assert read(f'{{"m": "up/x({effort})"}}').models[0][1] == (ModelTarget(f"up/x({effort})"),)
    assert read('{"m": "up/x(a) y"}').models[0][1] == (ModelTarget("up/x(a) y"),)


# ---------------------------------------------------------------- check

RULES: dict[str, Any] = {
    "upstreams": {"up": {"format": "echo"}},
    "models": {
        "fast": "up/quick",
        "list": ["up/a", {"to": "up/b"}],
        "m": [
            {"to": "up/eye", "when": {"has": ["image", "file"], "tokens_over": 100000}, "set": {"top_k": None}},
            {"to": "up/large(high)", "when": {"tokens_under": 5, "header": {"X-A": "b*"}, "system": '"You*"'}},
            {"to": "up/rest", "name": "The Rest", "context_tokens": 64000},
        ],
    },
}


def test_check_prints_a_table_of_rules(tmp_path: Path) -> None:
    done = cli("check", "--config", config_file(tmp_path, RULES), home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "model fast -> up/quick" in lines and "model list -> up/a, then up/b" in lines
    at = lines.index("model m:")
    first, second, third = lines[at + 1 : at + 4]
    for word in ("image or file", "over 100,000", "-> up/eye", '"top_k":null'):
        assert word in first
    for word in ("under 5", 'x-a "b*"', '"You*"', "-> up/large(high)"):
        assert word in second
    assert "-> up/rest" in third and "otherwise" in third


def test_check_prints_the_rules_as_json(tmp_path: Path) -> None:
    told = json.loads(cli("check", "--json", "--config", config_file(tmp_path, RULES), home=tmp_path).stdout)
    assert told["models"]["fast"] == ["up/quick"]
    assert told["models"]["list"] == ["up/a", "up/b"]
    eye, large, rest = told["models"]["m"]
    assert (eye["to"], eye["set"]) == ("up/eye", {"top_k": None}) and "image" in eye["when"]
    assert large["to"] == "up/large(high)" and "set" not in large
    assert rest == {"to": "up/rest", "name": "The Rest", "context_tokens": 64000}


def test_check_tells_mistakes_in_targets(tmp_path: Path) -> None:
    wrong = {**RULES, "models": {"m": {"to": "upp/x", "when": {"has": "imgae"}}}}
    done = cli("check", "--config", config_file(tmp_path, wrong), home=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("did you mean") == 2
    told = json.loads(cli("check", "--json", "--config", config_file(tmp_path, wrong), home=tmp_path).stdout)
    assert told["ok"] is False and len(told["problems"]) == 2
