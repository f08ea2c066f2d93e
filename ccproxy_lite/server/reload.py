"""Reading the configuration again, at SIGHUP or when the file changes. An invalid one changes nothing.

The file is looked at every second. A change is acted on once the file has stayed the same for one more second, because
editors write in several steps. Everything that can fail (reading, opening the log, resolving client keys) happens
before the first thing is replaced; requests in flight keep the configuration that they began with.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from ccproxy_lite.config.model import Config
from ccproxy_lite.errors import CcproxyError, ConfigError
from ccproxy_lite.log import internal_error, log
from ccproxy_lite.server.lifecycle import Running

_LOOK_S = 1.0
Signature = tuple[str, int, int, int] | None


class Source(Protocol):
    """Where the configuration comes from."""

    def find(self) -> Path | None:
        """The file that would be read now, if there is one."""

    def read(self) -> tuple[Config, str]:
        """The configuration, and the name of its source. Raises ConfigError."""

    def prepare_log(self, config: Config) -> Callable[[], None]:
        """Do all of a change of logging that may fail; the returned function does the rest. Raises ConfigError."""


async def reloading(proxy: Running, hangups: AsyncIterator[signal.Signals], source: Source, before: Signature) -> None:
    """Reload until cancelled.

    :param hangups: SIGHUP, received since before the start was announced
    :param before: the file's signature from before the configuration in use was read
    """
    lock = anyio.Lock()

    async def again() -> None:
        async with lock:
            await _reload_once(proxy, source)

    async def on_hangup() -> None:
        async for _ in hangups:
            await again()

    async def on_change() -> None:
        read = last = before
        while True:
            await anyio.sleep(_LOOK_S)
            now = await anyio.to_thread.run_sync(signature, source)
            if now != read and now == last:  # unchanged for a second: it was written completely
                read = now
                if now is not None:
                    await again()
            last = now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(on_hangup)
        tasks.start_soon(on_change)


async def _reload_once(proxy: Running, source: Source) -> None:
    server_state = proxy.server_state
    # A file that was deleted by mistake must not switch to other upstreams.
    is_gone = os.path.isabs(server_state.source) and source.find() is None
    try:
        config, name = await anyio.to_thread.run_sync(source.read)
        if is_gone:  # without this, a deleted file would mean: use the environment
            raise ConfigError([f"{server_state.source} was deleted"])
        log_anew = source.prepare_log(config)
        await proxy.use(config)
        log_anew()
    except Exception as error:  # whatever it is, the proxy keeps serving
        problems = [str(error) if isinstance(error, CcproxyError) else internal_error(error)]
        if isinstance(error, ConfigError):
            problems = error.problems
        server_state.failed_at, server_state.problems = proxy.parts.clock.wall(), tuple(problems)
        for problem in problems:
            log.error("reload failed, keeping the previous configuration: %s", problem)
    else:
        server_state.source = name
        log.info("reloaded from %s", name)
        for note in config.notes:
            log.warning("%s", note)


def signature(source: Source) -> Signature:
    """A value that changes when the file does; None if there is no file."""
    try:
        path = source.find()
        stat = os.stat(path) if path is not None else None
    except OSError:
        return None
    return None if stat is None else (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_size)
