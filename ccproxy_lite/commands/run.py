"""``ccproxy-lite run -- CMD``: a private proxy on a free port, with a one-time key, for one command."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe

import anyio

from ccproxy_lite import accesslog, clients
from ccproxy_lite.commands.load import load, with_options
from ccproxy_lite.config import Config
from ccproxy_lite.errors import CcproxyError, ClientError, ConfigError
from ccproxy_lite.log import log
from ccproxy_lite.routing import resolve
from ccproxy_lite.secrets import Vault
from ccproxy_lite.server import running


def main(arguments: argparse.Namespace) -> int:
    """The exit code of the command; 127 if there is no such command."""
    words = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not words:
        raise ConfigError(["ccproxy-lite run: a command is needed: ccproxy-lite run -- claude"])
    config, source = load(arguments.config)
    config = with_options(config, arguments)
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


async def _run(config: Config, words: list[str]) -> int:
    vault = Vault()
    log_file = config.log.file or _log_path()
    accesslog.configure(replace(config.log, file=log_file), vault.redact, dict(os.environ))
    key = token_urlsafe(24)
    vault.remember(key)
    with (
        _files(words[0]) as folder,
        anyio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP, signal.SIGINT) as signals,
    ):
        async with running(replace(config, client_keys=(key,)), vault) as proxy:
            child = clients.environment(os.environ, words[0], proxy.url, key)
            if folder is not None:
                child |= _variables_of(words[0], folder, proxy.url, key)
            try:
                process = await anyio.open_process(
                    clients.with_flags(words, proxy.url), stdin=None, stdout=None, stderr=None, env=child
                )
            except OSError as error:
                raise CcproxyError(f"{words[0]} cannot be started: {error.strerror}") from None
            async with process, anyio.create_task_group() as tasks:
                tasks.start_soon(_pass_signals, process, signals)
                status = await process.wait()
                tasks.cancel_scope.cancel()
    return status if status >= 0 else 128 - status


async def _pass_signals(process: anyio.abc.Process, signals: AsyncIterator[signal.Signals]) -> None:
    """What Ctrl-C does, the terminal tells the child itself; what is sent to this process alone is passed on."""
    async for number in signals:
        if number != signal.SIGINT or not _has_the_terminal():
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _has_the_terminal() -> bool:
    """Whether keys of a terminal become signals of this process, and so of its child."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@contextmanager
def _files(program: str) -> Iterator[Path | None]:
    """A folder for the files of a client that needs some, gone with the block; None if there can be no folder."""
    if not _needs_folder(program):
        yield None
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="ccproxy-lite-")
    except OSError as error:
        log.warning("no folder for settings of %s: %s", program, error.strerror)
        yield None
        return
    with folder as name:
        yield Path(name)


def _variables_of(program: str, folder: Path, url: str, key: str) -> dict[str, str]:
    """Write a client's settings file, with what the user's file of that kind says in it; the variable that names it."""
    variable = clients.file_of(program)
    if not variable:  # llm, which takes a stored key before the environment's: its own folder without that
        for entry in _llm_folder(os.environ).iterdir():
            if entry.name != "keys.json":
                (folder / entry.name).symlink_to(entry)
        return {"LLM_USER_PATH": str(folder)}
    theirs = Path(os.environ.get(variable) or os.devnull)
    path = folder / "settings"
    path.touch(mode=0o600)
    path.write_text(clients.content_of(program, url, key, theirs.read_text() if theirs.exists() else ""))
    return {variable: str(path)}


def _needs_folder(program: str) -> bool:
    stored = _llm_folder(os.environ) / "keys.json"
    return bool(clients.file_of(program)) or (Path(program).name == "llm" and stored.exists())


def _llm_folder(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("LLM_USER_PATH") or Path(environ.get("HOME", "/"), ".config", "io.datasette.llm"))


def _log_path() -> str:
    """Where the log goes while the command has the terminal."""
    state = os.environ.get("XDG_STATE_HOME") or (f"{os.environ['HOME']}/.local/state" if os.environ.get("HOME") else "")
    folder = Path(state) / "ccproxy-lite" if state else Path(tempfile.gettempdir())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.log").open("a"):
            pass
    except OSError:
        return os.devnull
    return str(folder / "run.log")
