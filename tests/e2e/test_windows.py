"""When real clients compact behind the proxy, and what they are told for it, in a namespace with loopback only.

Needs root, ``unshare`` and the programs, as ``test_clis`` does.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.searching import Body, encoded
from tests.e2e.test_clis import home
from tests.e2e.windows import (
    AGENT,
    CLAUDE_ITS_OWN,
    CLAUDE_SMALL,
    CLAUDES,
    CODER,
    CODEX_ITS_OWN,
    CODEXES,
    MODEL,
    TOLD,
    Case,
    Run,
    environment,
    run,
)
from tests.support import PROGRAM_S

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a network namespace"
    ),
]
__all__ = ["home"]

BILLING = "x-anthropic-billing-header"
SWITCH = "CLAUDE_CODE_ATTRIBUTION_HEADER"
ONE_TURN = (1000,)
"""For what is seen at once."""
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")


def ran(case: Case, home: Path) -> Run:
    """A run in which nothing failed, and after which nothing runs."""
    if not case.client.path:
        pytest.skip(f"{case.client.program} is not installed")
    result = run(case, home)
    assert result.code == (143 if case.ends_after else 0), (result.out[-3000:], result.err[-3000:])
    assert result.others == []
    return result


def check_limit(case: Case, result: Run) -> None:
    """The client compacted as soon as so much was reported, and not before."""
    expected = next(reported for reported in case.reported if reported >= case.limit)
    assert result.compacted[1] == expected, f"compacted at {result.compacted[1]:,}, not at {result.before:,}"
    assert [call["kind"] for call in result.calls][-2:] == ["summary", "over"], "and went on"


def longest(body: Body) -> int:
    """The longest answer that a request asks for, in whatever format."""
    settings = body.get("generationConfig", body)
    return next(int(settings[name]) for name in _LIMITS if name in settings)


# ---------------------------------------------------------------- Claude Code


@pytest.mark.parametrize("name", CLAUDES)
def test_claude_code_compacts_before_the_window_is_full(name: str, home: Path) -> None:
    case = CLAUDES[name]
    result = ran(case, home)
    check_limit(case, result)
    assert {body["max_tokens"] for body in result.sent()} == {case.answer}
    assert {longest(body) for body in result.asked()} == {case.answer}
    if case.window:
        assert case.limit + case.answer <= case.window, "an answer still fits"


def test_claude_code_compacts_with_a_small_window_behind_its_own_names(home: Path) -> None:
    result = ran(CLAUDE_SMALL, home)
    assert 0 < result.compacted[1] <= CLAUDE_SMALL.window - CLAUDE_SMALL.answer, result.compacted


@pytest.mark.parametrize(("name", "asked"), [("claude-*", ""), ("zork", "zork")], ids=["known", "unknown"])
def test_claude_code_is_told_of_the_longest_answer_alone(name: str, asked: str, home: Path) -> None:
    """Where nobody knows the window."""
    case = Case(AGENT, "openai-chat", 0, output=8000, name=name, asked=asked, in_config=True, reports=ONE_TURN)
    assert {longest(body) for body in ran(case, home).asked()} == {8000}


def test_claude_code_is_told_nothing_of_its_own_models(home: Path) -> None:
    result = ran(CLAUDE_ITS_OWN, home)
    assert result.set(*TOLD) == {}
    check_limit(CLAUDE_ITS_OWN, result)
    assert {body["max_tokens"] for body in result.asked()} == {CLAUDE_ITS_OWN.answer}


def system_texts(body: Body) -> str:
    return encoded(body["system"])


def test_the_text_for_billing_stays_away_from_other_services(home: Path) -> None:
    result = ran(Case(AGENT, "openai-chat", 0, asked=MODEL, reports=ONE_TURN), home)
    assert result.set(SWITCH) == {SWITCH: "0"}
    assert all(BILLING not in encoded(body) for body in [*result.sent(), *result.asked()])


def test_the_text_for_billing_reaches_its_own_service(home: Path) -> None:
    result = ran(replace(CLAUDE_ITS_OWN, reports=ONE_TURN), home)
    assert BILLING in system_texts(result.sent()[0])
    assert BILLING in system_texts(result.asked()[0])


def test_a_user_may_want_the_text_for_billing(home: Path) -> None:
    result = ran(Case(AGENT, "openai-chat", 0, asked=MODEL, environ=((SWITCH, "1"),), reports=ONE_TURN), home)
    assert BILLING in system_texts(result.sent()[0])


def test_claude_code_offers_aliases_by_their_display_names(home: Path) -> None:
    case = Case(AGENT, "openai-chat", 0, 64_000, name="claude-zork", reports=ONE_TURN, words=("--model", "claude-zork"))
    result = ran(case, home)
    assert '"request":"GET /v1/models","status":200' in (home / ".local/state/ccproxy-lite/run.log").read_text()
    found = json.loads((home / ".claude/cache/gateway-models.json").read_text())
    assert found["baseUrl"] == result.program["environ"]["ANTHROPIC_BASE_URL"]
    # The service also lists a name that does not look like Claude's.
    assert found["models"] == [{"id": "claude-zork", "display_name": "Zork the Great"}]


def test_a_user_may_not_want_the_list(home: Path) -> None:
    environ = (("CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY", "0"),)
    case = Case(AGENT, "openai-chat", 0, 64_000, name="claude-zork", reports=ONE_TURN, environ=environ)
    ran(case, home)
    assert not (home / ".claude/cache/gateway-models.json").exists()


def test_variables_of_the_user_stay(home: Path) -> None:
    """All of them, whatever the configuration says."""
    environ = {
        "ANTHROPIC_MODEL": "zork-mine", "ANTHROPIC_DEFAULT_OPUS_MODEL": "zork-o",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "zork-s", "ANTHROPIC_DEFAULT_HAIKU_MODEL": "zork-h",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "120000", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "3000",
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "110000", SWITCH: "1",
    }  # fmt: skip
    case = Case(AGENT, "openai-chat", 94_000, 64_000, asked=MODEL, environ=tuple(environ.items()))
    result = ran(case, home)
    assert result.set(*TOLD) == dict(sorted(environ.items()))
    assert {body["model"] for body in result.sent()} == {"zork-mine"}
    check_limit(case, result)


# ---------------------------------------------------------------- Codex


@pytest.mark.parametrize("name", CODEXES)
def test_codex_compacts_before_the_window_is_full(name: str, home: Path) -> None:
    check_limit(CODEXES[name], ran(CODEXES[name], home))


def test_codex_is_told_nothing_of_its_own_models(home: Path) -> None:
    result = ran(CODEX_ITS_OWN, home)
    assert result.flags() == []
    assert "model_providers.ccproxy.supports_websockets=false" in result.program["words"]
    check_limit(CODEX_ITS_OWN, result)


_OF_ITS_LIST = ("- If you create a checklist or task list", "- `gpt-")
"""Codex takes the first out of its own catalogue only; the other lines name the models for agents of the agent."""


def token(claims: Body) -> str:
    """A token of a login that nobody has signed."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)
    ]
    return ".".join([*parts, "unsigned"])


@pytest.mark.parametrize("window", [64_000, 400_000])
def test_a_login_to_codex_is_not_used_behind_the_back_of_the_proxy(window: int, home: Path) -> None:
    """With such a login Codex would ask its maker's service for a list of models; here that is the fake one."""
    account = {"chatgpt_plan_type": "pro", "chatgpt_account_id": "account", "chatgpt_user_id": "user"}
    mine = token({"email": "me@example.com", "exp": 4_000_000_000, "https://api.openai.com/auth": account})
    tokens = {"id_token": mine, "access_token": mine, "refresh_token": "refresh", "account_id": "account"}
    now = datetime.now(timezone.utc).isoformat()
    login = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens, "last_refresh": now}
    service = "http://127.0.0.1:PORT"
    urls = f'openai_base_url = "{service}/v1"\nchatgpt_base_url = "{service}/backend-api"\n'
    files = ((".codex/auth.json", json.dumps(login)), (".codex/config.toml", urls))
    result = ran(Case(CODER, "anthropic", 0, window, asked=MODEL, files=files, reports=ONE_TURN), home)
    assert [target for target in result.lists if "client_version" in target] == []


def lines(item: Body, home: Path) -> str:
    """An item of a request, without what differs from one run to the next, or with the list of models."""
    text = json.dumps({name: one for name, one in item.items() if name != "id"}).replace(str(home), "~")
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "", text)
    return "\n".join(line for line in text.split("\\n") if not line.startswith(_OF_ITS_LIST))


def essence(body: Body, home: Path) -> dict[str, Any]:
    """What makes a request Codex's: instructions, tools and settings, and what stands before the prompt."""
    kept = ("instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "include", "store")
    items = [lines(item, home) for item in body["input"] if item.get("role") in ("developer", "user")]
    return {**{name: body.get(name) for name in kept}, "items": items}


@pytest.mark.parametrize("name", ["gpt-5.5", "gpt-6-sol"])
def test_a_catalogue_keeps_instructions_and_tools(name: str, home: Path) -> None:
    requests = []
    for window in (0, 400_000):
        place = home / str(window)
        place.mkdir()
        case = Case(CODER, "anthropic", 0, window, name="gpt-*", words=("-m", name), reports=ONE_TURN)
        result = ran(case, place)
        assert bool(result.program["catalogue"]) is bool(window)
        requests.append(essence(result.sent()[0], place))
    assert requests[0] == requests[1]


def test_a_model_of_no_name_gets_the_instructions_of_a_known_one(home: Path) -> None:
    requests = []
    for asked in ("", MODEL):
        place = home / (asked or "known")
        place.mkdir()
        words = () if asked else ("-m", "gpt-5.5")
        case = Case(CODER, "anthropic", 0, 400_000, name="gpt-*", asked=asked, words=words, reports=ONE_TURN)
        requests.append(essence(ran(case, place).sent()[0], place))
    assert requests[0] == requests[1]


# ---------------------------------------------------------------- all


@pytest.mark.parametrize("ends_after", [0, 1], ids=["at its end", "when it is told to end"])
@pytest.mark.parametrize("case", [CLAUDES["unknown name"], CODEXES["large"]], ids=["claude", "codex"])
def test_nothing_is_left_behind(case: Case, ends_after: int, home: Path) -> None:
    result = ran(replace(case, reports=ONE_TURN, ends_after=ends_after), home)
    environ = result.program["environ"]
    key = environ.get("ANTHROPIC_AUTH_TOKEN") or environ["OPENAI_API_KEY"]
    assert not result.program["file"] or not Path(result.program["file"]).exists()
    assert [path.name for path in (home / "tmp").iterdir() if path.name.startswith("ccproxy")] == []
    theirs = {".claude", ".claude.json", ".codex", ".gemini", "work", "tmp"}
    assert {path.name for path in home.iterdir()} - theirs == {".local", "captures", "proxy.json"}
    assert [path.name for path in (home / ".local/state/ccproxy-lite").iterdir()] == ["run.log"]
    # When it is interrupted, Codex itself leaves the variables of its shell behind; the key is worthless by then.
    files = [path for path in home.rglob("*") if path.is_file() and path.parent.name != "shell_snapshots"]
    assert [path for path in files if key.encode() in path.read_bytes()] == []
    if case.client.program == "codex":
        settings = (home / ".codex/config.toml").read_text()
        assert settings == "check_for_update_on_startup = false\n[analytics]\nenabled = false\n"


def told_by_env(case: Case, home: Path, *options: str) -> str:
    """What ``env`` prints for the configuration of a run that is over."""
    command = [sys.executable, "-m", "ccproxy_lite", "env", case.client.program, "--config", str(home / "proxy.json")]
    environ = environment(case.client, home)
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=environ, timeout=PROGRAM_S, check=True
    )
    return done.stdout


def test_env_prints_the_same_numbers_for_claude_code(home: Path) -> None:
    case = replace(CLAUDES["known names, in the configuration"], reports=ONE_TURN)
    result = ran(case, home)
    printed = json.loads(told_by_env(case, home, "--json"))["set"]
    expected = result.set(*TOLD)
    assert expected and {name: text for name, text in printed.items() if name.startswith(TOLD)} == expected
    lines = told_by_env(case, home).splitlines()
    assert {f"export {name}={text}" for name, text in expected.items()} <= set(lines)


def test_env_prints_the_same_numbers_for_codex(home: Path) -> None:
    case = replace(CODEXES["in the configuration"], reports=ONE_TURN)
    result = ran(case, home)
    words = json.loads(told_by_env(case, home, "--json"))["flags"]["codex"]
    given = [word for word in words if word != "-c" and not word.startswith("model_provider")]
    assert given == ["model_context_window=64000"]
    assert result.window == case.window


def test_env_says_that_a_large_window_needs_run(home: Path) -> None:
    case = Case(CODER, "anthropic", 0, 400_000, name="gpt-*", in_config=True, reports=ONE_TURN)
    result = ran(case, home)
    assert result.program["catalogue"] and result.window == case.window
    assert "model_context_window" not in told_by_env(case, home)
    [hint] = json.loads(told_by_env(case, home, "--json"))["hints"]
    assert "400,000" in hint and "ccproxy-lite run -- codex" in hint
