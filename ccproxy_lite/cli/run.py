"""``ccproxy-lite run -- CMD``: a private proxy on a free port, with a one-time key, for one command."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_urlsafe

import anyio

from ccproxy_lite.cli.load import load, with_options
from ccproxy_lite.cli.model_facts import check_listed, model_facts, window_flags
from ccproxy_lite.cli.run_summary import failures
from ccproxy_lite.config.model import Config
from ccproxy_lite.errors import CcproxyError, ClientError, ConfigError
from ccproxy_lite.log import log
from ccproxy_lite.providers import key_variables
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.routing.routes import targets_for
from ccproxy_lite.server import accesslog, clients
from ccproxy_lite.server.clients import File
from ccproxy_lite.server.lifecycle import running

_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main(arguments: argparse.Namespace) -> int:
    """The exit code of the command; 127 if there is no such command."""
    words = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if not words:
        raise ConfigError(["ccproxy-lite run: no command given; example: ccproxy-lite run -- claude"])
    config, source = load(arguments.config)
    config = with_options(config, arguments)
    if arguments.model:
        config = models_to(config, arguments.model)
    # The command would have to know a real key, which is what a one-time key avoids.
    if any(upstream.from_client for upstream in config.upstreams):
        raise ConfigError(['ccproxy-lite run: cannot be used with "keys": "from-client"'])
    # The exit codes of a shell: 126 and 127.
    if shutil.which(words[0]) is None:
        exists = os.path.exists(words[0]) and "/" in words[0]
        print(
            f"ccproxy-lite: {words[0]}: {'permission denied (not executable)' if exists else 'command not found'}",
            file=sys.stderr,
        )
        return 126 if exists else 127
    if config.is_embedded and "no API key" in source:
        remedy = f'Set one of {", ".join(key_variables())}, or run "ccproxy-lite init"'
        print(f"ccproxy-lite: {source}; requests will only be echoed back. {remedy}", file=sys.stderr)
    return anyio.run(_run_behind_proxy, config, words, arguments.model or "")


def _inherited() -> list[int]:
    """The open files beyond the standard ones that are meant for the command: ``<(...)`` is one."""
    descriptors = []
    for number in range(3, 256):
        with suppress(OSError):
            descriptors += [number] if os.get_inheritable(number) else []
    return descriptors


def models_to(config: Config, model: str) -> Config:
    """The configuration with every model name leading where this one does. Raises ConfigError if that is nowhere."""
    try:
        targets = targets_for(config, model)
    except ClientError as error:
        raise ConfigError([f"--model {model}: {error.message}"]) from None
    return replace(config, models=(("*", targets),))


async def _run_behind_proxy(config: Config, words: list[str], model: str) -> int:
    vault = Vault()
    log_file = config.log.file or _log_path()
    accesslog.configure(config.log._replace(file=log_file), vault.redact, dict(os.environ))
    key, file = f"{clients.ONE_TIME}{token_urlsafe(24)}", clients.file_of(words[0])
    # Redacted like any other key, although it is worthless once this ends.
    vault.remember(key)
    wanted = [number for number in _PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores one
    with (
        _settings_folder() if file or clients.catalogue_of(words[0]) else nullcontext() as folder,
        anyio.open_signal_receiver(*wanted) as signals,
    ):
        async with running(replace(config, client_keys=(key,)), vault) as proxy:
            if proxy.relay.captures is not None and proxy.relay.captures.problem:  # the log is in a file
                print(f"ccproxy-lite: {proxy.relay.captures.problem}", file=sys.stderr)
            if model:
                await check_listed(proxy.relay.catalog, model)
            facts = await model_facts(proxy.relay.catalog, words, model)
            child = clients.environment(os.environ, words[0], proxy.url, key)
            child |= clients.about_model(clients.program_name(words[0]), facts, os.environ)
            if file is not None and folder is not None:
                child |= _with_file(file, folder, proxy.url, key)
            flags = await window_flags(words, facts, folder)
            unknown = clients.unknown_window(words[0], facts, words, os.environ)
            if unknown:
                print(f"ccproxy-lite: {unknown}", file=sys.stderr)
            try:
                process = await anyio.open_process(
                    [*clients.with_flags(words[:1], proxy.url), *flags, *words[1:]],
                    stdin=None, stdout=None, stderr=None, env=child, pass_fds=_inherited(),
                )  # fmt: skip
            except OSError as error:
                raise CcproxyError(f"{words[0]} cannot be started: {error.strerror}") from None
            async with process, anyio.create_task_group() as tasks:
                tasks.start_soon(_pass_signals, process, signals)
                status = await process.wait()
                # Nothing is left to pass signals to.
                tasks.cancel_scope.cancel()
            for line in failures(proxy.server_state.metrics, log_file):
                print(f"ccproxy-lite: {vault.redact(line)}", file=sys.stderr)
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
        # The controlling terminal, even if the standard streams are redirected.
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
def _settings_folder() -> Iterator[Path | None]:
    """A folder for the settings of a client, gone with the block; None if there can be none."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="ccproxy-lite-")
    except OSError as error:
        log.warning("no folder for settings: %s", error.strerror)
        yield None
        return
    with folder as name:
        yield Path(name)


def _with_file(file: File, folder: Path, url: str, key: str) -> dict[str, str]:
    """Write a client's settings file, with what the user's own says in it; the variable that leads there."""
    given = os.environ.get(file.variable)
    theirs = Path(given or (Path(os.environ.get("HOME") or "/", file.usual) if file.at or file.usual else os.devnull))
    # There is no file that would have to be left out.
    if not file.content and not theirs.is_dir():
        return {}
    path = folder / (file.at or "settings")
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.at:
        beside, theirs = (theirs / file.at).parent, theirs / file.at
        # Everything else in that folder (history, credentials, extensions) stays the user's own.
        for entry in beside.iterdir() if beside.is_dir() else ():
            if entry.name != path.name:
                (path.parent / entry.name).symlink_to(entry)
    if file.content:
        # Before anything is written: it holds the key.
        path.touch(mode=0o600)
        theirs_before = theirs.read_text(errors="replace") if theirs.is_file() else ""
        if theirs_before.strip() and file.content.startswith("{") and not clients.is_json(theirs_before):
            print(f"ccproxy-lite: {theirs} is not plain JSON; ignoring it for this run", file=sys.stderr)
        path.write_text(clients.content_of(file, url, key, theirs_before))
    return {file.variable: str(folder if file.at else path)}


def _log_path() -> str:
    """Where the log goes while the command has the terminal; nowhere, if there is no home for it."""
    home = os.environ.get("HOME", "")
    state = os.environ.get("XDG_STATE_HOME") or (f"{home}/.local/state" if home and os.path.isdir(home) else "")
    if not state:
        return os.devnull
    folder = Path(state) / "ccproxy-lite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "run.log").open("a"):
            pass
    except OSError:
        return os.devnull
    return str(folder / "run.log")
