"""How each client finds a proxy: the variables and flags that it reads, and what would lead it around. Pure.

>>> variables("claude", "http://127.0.0.1:8317", "KEY")["ANTHROPIC_BASE_URL"]
'http://127.0.0.1:8317'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

NO_KEY = "none-needed"
"""What a client shows to a proxy without client keys: most clients insist on a key."""


class Client(NamedTuple):
    """What a client is, and the variables that it reads."""

    about: str
    reads: tuple[str, ...]
    redirected_by: tuple[str, ...] = ()


_ANTHROPIC = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN")
_OPENAI = ("OPENAI_BASE_URL", "OPENAI_API_KEY")
_GOOGLE = ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY")
_NOT_ANTHROPIC = ("ANTHROPIC_API_KEY", "ANTHROPIC_UNIX_SOCKET", "ANTHROPIC_CUSTOM_HEADERS")
_NOT_CLAUDE = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_OAUTH_TOKEN")
_NOT_OPENAI = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_NOT_GOOGLE = ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI")

CLIENTS: dict[str, Client] = {
    "claude": Client("Claude Code", _ANTHROPIC, (*_NOT_ANTHROPIC, *_NOT_CLAUDE)),
    "codex": Client("Codex", ("OPENAI_API_KEY",), _NOT_OPENAI),
    "gemini": Client("Gemini CLI", _GOOGLE, _NOT_GOOGLE),
    "qwen": Client("Qwen Code", _OPENAI, _NOT_OPENAI),
    "opencode": Client("opencode", (*_ANTHROPIC, *_OPENAI, *_GOOGLE), ()),
    "aider": Client("aider", ("OPENAI_API_BASE", *_OPENAI, *_ANTHROPIC), ()),
    "llm": Client("llm", _OPENAI, _NOT_OPENAI),
    "anthropic": Client("the anthropic SDK", _ANTHROPIC, _NOT_ANTHROPIC),
    "openai": Client("the openai SDK and most tools", (*_OPENAI, "OPENAI_API_BASE"), _NOT_OPENAI),
    "google-genai": Client("the google-genai SDK", _GOOGLE, _NOT_GOOGLE),
}


def _values(url: str, key: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": key,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",
        "OPENAI_API_KEY": key,
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": key,
    }


def variables(client: str | None, url: str, key: str) -> dict[str, str]:
    """What a client (or any) reads from the environment, for a proxy at a base URL and a key that it accepts."""
    values = _values(url, key)
    known = CLIENTS.get(client or "")
    return {name: values[name] for name in known.reads} if known else values


def redirecting(client: str | None) -> list[str]:
    """The variables that would lead a client (or any) to another service, with another login or key."""
    known = [CLIENTS[client]] if client in CLIENTS else list(CLIENTS.values())
    return list(dict.fromkeys(name for one in known for name in one.redirected_by))


def environment(environ: Mapping[str, str], program: str, url: str, key: str) -> dict[str, str]:
    """A child's environment: every client finds the proxy, and nothing that would lead it elsewhere."""
    client = _name(program)
    cleared = {*redirecting(None), *_values("", "")}
    child = {name: value for name, value in environ.items() if name not in cleared}
    child |= variables(client, url, key)
    for name in ("NO_PROXY", "no_proxy"):  # else a client would ask a company's proxy for this machine
        child[name] = ",".join(filter(None, [environ.get(name), "127.0.0.1,localhost"]))
    return child


def flags(client: str, url: str) -> list[str]:
    """The flags that a client needs; Codex takes its provider from them only."""
    if client != "codex":
        return []
    settings = {
        "model_provider": '"ccproxy"',
        "model_providers.ccproxy.name": '"ccproxy-lite"',
        "model_providers.ccproxy.base_url": f'"{url}/v1"',
        "model_providers.ccproxy.env_key": '"OPENAI_API_KEY"',
        "model_providers.ccproxy.wire_api": '"responses"',
    }
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def with_flags(words: Sequence[str], url: str) -> list[str]:
    """A command with the flags that its program needs."""
    return [words[0], *flags(_name(words[0]), url), *words[1:]]


def instructions(url: str, key: str) -> list[dict[str, str]]:
    """How people connect each client by hand: a line for a shell, or the command that does it."""
    told = []
    for name, client in CLIENTS.items():
        line = "export " + " ".join(f"{key}={value}" for key, value in variables(name, url, key).items())
        told.append({"client": client.about, "line": line if not flags(name, url) else f"ccproxy-lite run -- {name}"})
    return told


def settings(program: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """A settings file that a client needs: the variable that names it, and its content.

    Gemini CLI takes a base URL for a login that it then refuses; only settings say which login it is.
    """
    variable = "GEMINI_CLI_SYSTEM_SETTINGS_PATH"
    if _name(program) != "gemini" or variable in environ:
        return None
    return variable, '{"security": {"auth": {"selectedType": "gemini-api-key"}}}'


def _name(program: str) -> str:
    return program.rpartition("/")[2]
