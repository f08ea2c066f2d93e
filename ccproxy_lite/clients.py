"""How each client finds a proxy: the variables and flags that it reads, and what would lead it around. Pure.

>>> variables("http://127.0.0.1:8317", "KEY")["OPENAI_BASE_URL"]
'http://127.0.0.1:8317/v1'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Client(NamedTuple):
    """A client: what it is, and which variables it reads. ``flags``: it takes the rest on its command line only."""

    about: str
    reads: tuple[str, ...]
    flags: bool = False


_ANTHROPIC = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN")
_OPENAI = ("OPENAI_BASE_URL", "OPENAI_API_KEY")
_GOOGLE = ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY")

CLIENTS: dict[str, Client] = {
    "claude": Client("Claude Code", _ANTHROPIC),
    "codex": Client("Codex", ("OPENAI_API_KEY",), flags=True),
    "gemini": Client("Gemini CLI", _GOOGLE),
    "qwen": Client("Qwen Code", _OPENAI),
    "opencode": Client("opencode", ("OPENCODE_CONFIG_CONTENT",)),
    "aider": Client("aider", ("OPENAI_API_BASE", "OPENAI_API_KEY", "ANTHROPIC_API_BASE", "ANTHROPIC_API_KEY")),
    "llm": Client("llm", _OPENAI),
    "anthropic": Client("the anthropic SDK", _ANTHROPIC),
    "openai": Client("the openai SDK and most tools", _OPENAI),
    "google-genai": Client("the google-genai SDK", _GOOGLE),
}

REDIRECTING = (
    "ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_UNIX_SOCKET ANTHROPIC_CUSTOM_HEADERS "
    "CLAUDE_CODE_USE_BEDROCK CLAUDE_CODE_USE_VERTEX CLAUDE_CODE_OAUTH_TOKEN OPENAI_API_KEY OPENAI_BASE_URL "
    "OPENAI_API_BASE OPENAI_ORG_ID OPENAI_PROJECT_ID GEMINI_API_KEY GOOGLE_API_KEY GOOGLE_GEMINI_BASE_URL "
    "GOOGLE_GENAI_USE_VERTEXAI"
).split()
"""Variables that name another service, another login or another key."""


def variables(url: str, key: str) -> dict[str, str]:
    """What clients read from the environment, for a proxy at a base URL and a key that it accepts."""
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": key,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",
        "OPENAI_API_KEY": key,
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": key,
    }


def environment(environ: Mapping[str, str], url: str, key: str) -> dict[str, str]:
    """A child's environment: every client finds the proxy, and nothing that would lead it elsewhere."""
    child = {name: value for name, value in environ.items() if name not in REDIRECTING}
    child |= variables(url, key)
    for name in ("NO_PROXY", "no_proxy"):
        child[name] = with_local(environ.get(name, ""))
    return child


def with_local(no_proxy: str) -> str:
    """``NO_PROXY`` with this machine in it: clients would ask a corporate proxy for us else."""
    return ",".join(filter(None, [no_proxy, "127.0.0.1,localhost"]))


def flags(program: str, url: str) -> list[str]:
    """The flags that a program needs; Codex takes its provider from them only."""
    if program != "codex":
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
    program = words[0].rpartition("/")[2]
    return [words[0], *flags(program, url), *words[1:]]
