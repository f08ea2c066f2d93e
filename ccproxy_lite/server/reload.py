"""Reading the configuration again, when SIGHUP or a change of the file says so. A broken one changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.to_thread

from ccproxy_lite.config.model import Config
from ccproxy_lite.errors import CcproxyError, ConfigError
from ccproxy_lite.log import bug, log
from ccproxy_lite.server.lifecycle import Running

_LOOK_S = 1.0
Signature = tuple[str, int, int, int] | None


async def reloading(
    proxy: Running,
    hangups: AsyncIterator[signal.Signals],
    read: Callable[[], tuple[Config, str]],
    find: Callable[[], Path | None],
    known: Signature,
    logging: Callable[[Config], Callable[[], None]],
) -> None:
    """Reload until cancelled.

    :param hangups: SIGHUP, received since before anybody knew that the proxy serves
    :param read: gives the configuration and its source; raises ConfigError
    :param find: gives the file that would be read now, if there is one
    :param known: the file's signature from before the configuration in use was read
    :param logging: prepares the log of a configuration; raises ConfigError
    """
    lock = anyio.Lock()

    async def again() -> None:
        async with lock:  # a file that was named and is gone is an error by itself; the usual one would be none
            await _reload(proxy, read, logging, is_gone=os.path.isabs(proxy.history.source) and find() is None)

    async def on_hangup() -> None:
        async for _ in hangups:
            await again()

    async def on_change() -> None:
        nonlocal known
        before = known
        while True:
            await anyio.sleep(_LOOK_S)
            seen = await anyio.to_thread.run_sync(signature, find)
            if seen != known and seen == before:  # and whoever writes it has finished
                known = seen
                if seen is not None:
                    await again()
            before = seen

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(on_hangup)
        tasks.start_soon(on_change)


async def _reload(
    proxy: Running,
    read: Callable[[], tuple[Config, str]],
    logging: Callable[[Config], Callable[[], None]],
    *,
    is_gone: bool,
) -> None:
    try:
        config, source = await anyio.to_thread.run_sync(read)
        if is_gone:  # what a machine without a file would serve is not what was asked for
            raise ConfigError([f"{proxy.history.source} is gone"])
        log_anew = logging(config)
        await proxy.use(config)
        log_anew()
    except Exception as error:  # whatever it is, what serves goes on serving
        known = isinstance(error, CcproxyError)
        problems = error.problems if isinstance(error, ConfigError) else [str(error) if known else f"bug {bug(error)}"]
        proxy.history.failed_at, proxy.history.problems = proxy.parts.clock.wall(), tuple(problems)
        for problem in problems:
            log.error("not reloaded: %s", problem)
    else:
        proxy.history.source = source
        log.info("reloaded from %s", source)
        for note in config.notes:
            log.warning("%s", note)


def signature(find: Callable[[], Path | None]) -> Signature:
    """What changes when a file does; None if there is none."""
    try:
        path = find()
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return None if found is None else (str(path), found.st_ino, found.st_mtime_ns, found.st_size)
