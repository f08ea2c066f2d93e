"""``ccproxy-lite run -- CMD``: a private proxy on a free port, with a one-time key, for one command."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe

import anyio

from ccproxy_lite import accesslog
from ccproxy_lite.commands.load import load, with_options
from ccproxy_lite.config import Config
from ccproxy_lite.errors import CcproxyError, ClientError, ConfigError
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.routing import resolve
from ccproxy_lite.secrets import Vault
from ccproxy_lite.server import running

_CLEARED = (
    "ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_UNIX_SOCKET ANTHROPIC_CUSTOM_HEADERS "
    "CLAUDE_CODE_USE_BEDROCK CLAUDE_CODE_USE_VERTEX CLAUDE_CODE_OAUTH_TOKEN OPENAI_API_KEY OPENAI_BASE_URL "
    "OPENAI_API_BASE OPENAI_ORG_ID OPENAI_PROJECT_ID GEMINI_API_KEY GOOGLE_API_KEY GOOGLE_GEMINI_BASE_URL "
    "GOOGLE_GENAI_USE_VERTEXAI"
).split()


def main(arguments: argparse.Namespace) -> int:
    """The exit code of the command; 127 if there is no such command."""
    words = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not words:
        raise ConfigError(["ccproxy-lite run: a command is needed: ccproxy-lite run -- claude"])
    config, source = load(arguments.config)
    config = with_options(config, None, arguments.log_level, arguments.log_format)
    if arguments.model:
        config = _with_model(config, arguments.model)
    if any(upstream.from_client for upstream in config.upstreams):
        raise ConfigError(["ccproxy-lite run: keys from the client are unknown here: name them in the configuration"])
    if shutil.which(words[0]) is None:
        print(f"ccproxy-lite: {words[0]}: command not found", file=sys.stderr)
        return 127
    if [upstream.format for upstream in config.upstreams] == ["echo"] and "no key" in source:
        print(f"ccproxy-lite: {source}: only the embedded echo answers", file=sys.stderr)
    return anyio.run(_run, config, words)


def _with_model(config: Config, model: str) -> Config:
    """Every model goes to this one. Raises ConfigError if it goes nowhere."""
    try:
        routes = resolve(config, model, "")
    except ClientError as error:
        raise ConfigError([f"--model {model}: {error.message}"]) from None
    return replace(config, models=(("*", tuple(str(route) for route in routes)),))


def environment(environ: Mapping[str, str], url: str, key: str) -> dict[str, str]:
    """The child's environment: every client finds the proxy, and nothing that would lead it elsewhere."""
    child = {name: value for name, value in environ.items() if name not in _CLEARED}
    child |= {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": key,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",
        "OPENAI_API_KEY": key,
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": key,
    }
    local = "127.0.0.1,localhost"
    for name in ("NO_PROXY", "no_proxy"):
        child[name] = f"{environ[name]},{local}" if environ.get(name) else local
    return child


def with_flags(words: list[str], url: str) -> list[str]:
    """The command itself; Codex takes its provider from flags only."""
    if Path(words[0]).name != "codex":
        return words
    flags = {
        "model_provider": '"ccproxy"',
        "model_providers.ccproxy.name": '"ccproxy-lite"',
        "model_providers.ccproxy.base_url": f'"{url}/v1"',
        "model_providers.ccproxy.env_key": '"OPENAI_API_KEY"',
        "model_providers.ccproxy.wire_api": '"responses"',
    }
    extra = [word for name, value in flags.items() for word in ("-c", f"{name}={value}")]
    return [words[0], *extra, *words[1:]]


def _gemini_settings(words: list[str], folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Gemini CLI takes a base URL for a login that it then refuses; a settings file of our own says which it is."""
    variable = "GEMINI_CLI_SYSTEM_SETTINGS_PATH"
    if Path(words[0]).name != "gemini" or variable in environ:
        return {}
    path = folder / "gemini-settings.json"
    try:
        path.write_text(dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}}))
    except OSError:
        return {}
    return {variable: str(path)}


async def _run(config: Config, words: list[str]) -> int:
    vault = Vault()
    path = Path(config.log.file) if config.log.file else _log_path()
    accesslog.configure(replace(config.log, file=str(path)), vault.redact, dict(os.environ))
    key = token_urlsafe(24)
    vault.remember(key)
    config = replace(config, listen="127.0.0.1:0", client_keys=(key,))
    async with running(config, vault) as proxy:
        child = environment(os.environ, proxy.url, key)
        child.update(_gemini_settings(words, path.parent, os.environ))
        try:
            process = await anyio.open_process(
                with_flags(words, proxy.url), stdin=None, stdout=None, stderr=None, env=child
            )
        except OSError as error:
            raise CcproxyError(f"{words[0]} cannot be started: {error.strerror}") from None
        async with process, anyio.create_task_group() as tasks:
            tasks.start_soon(_pass_signals, process)
            status = await process.wait()
            tasks.cancel_scope.cancel()
    return status if status >= 0 else 128 - status


async def _pass_signals(process: anyio.abc.Process) -> None:
    """The terminal sends SIGINT to the child itself; what is sent to this process alone is passed on."""
    wanted = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    with anyio.open_signal_receiver(*wanted) as signals:
        async for number in signals:
            if number != signal.SIGINT or not sys.stdin.isatty():
                with suppress(ProcessLookupError):
                    process.send_signal(number)


def _log_path() -> Path:
    """Where the log goes while the command has the terminal."""
    state = os.environ.get("XDG_STATE_HOME") or (f"{os.environ['HOME']}/.local/state" if os.environ.get("HOME") else "")
    folder = Path(state) / "ccproxy-lite" if state else Path(tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.log").open("a"):
            pass
    except OSError:
        return Path(os.devnull)
    return folder / "run.log"
