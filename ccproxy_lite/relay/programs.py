"""Local programs as upstreams: how many run at once, where, with which environment, and which session they go on with.

A program is run anew for each exchange. So that it need not be told the whole conversation each time, it keeps a
session for each conversation that its client has named; here stands which turns that session knows. A request goes on
with it only if it begins with exactly these turns. If it does not (the user has edited one, another upstream has
answered in between, the program has forgotten), a new session is begun with all of the history: a session saves work,
and is never relied upon.

    free -> running -> closing -> free

``running``: another request of the conversation gets no session. ``closing``: the answer is complete and the program
about to end, which is waited for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import anyio
import anyio.abc
import anyio.to_thread

from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import NO_PROGRAM, UNKNOWN_SESSION, UpstreamError
from ccproxy_lite.log import bug
from ccproxy_lite.net import process
from ccproxy_lite.net.upstream import Connection, Sink, Timeouts
from ccproxy_lite.providers.provider import Dialogue, Launch, Program, Resume

_INHERITED = ("PATH", "HOME", "LANG", "TERM")
"""All that a program sees of the proxy's environment, which may hold keys."""
_MAX_SESSIONS = 1000


class Receiver(Sink, Protocol):
    """What receives a response, and tells when there is something to do.

    :ivar done: set when the waiting task has something to do
    :ivar ended: set when the HTTP body is complete
    """

    done: asyncio.Event
    ended: asyncio.Event

    @property
    def is_early(self) -> bool:
        """Whether it is done although the HTTP body is not complete."""

    def release(self) -> None:
        """The request is over: close the connection, unless its response was complete."""


@dataclass(slots=True)
class _Session:
    """A session of a program, and the turns that it knows."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    turns: tuple[str, ...] = ()
    is_running: bool = False
    closing: anyio.Event | None = None

    def knows(self, turns: tuple[str, ...]) -> bool:
        """Whether these turns go on where the session has ended."""
        return len(self.turns) < len(turns) and turns[: len(self.turns)] == self.turns


class Settings(NamedTuple):
    """How long a program may be silent, the longest line that it may print, and what its environment has besides."""

    timeouts: Timeouts
    max_line_bytes: int
    env: Mapping[str, str]


class Programs:
    """The local programs of all upstreams; they outlive a configuration.

    :param environ: the proxy's environment
    :param tasks: where programs end whose answer is complete; without it, requests wait for that
    """

    def __init__(self, environ: Mapping[str, str] | None = None, tasks: anyio.abc.TaskGroup | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._environ = {name: environ[name] for name in _INHERITED if name in environ}
        self._tasks = tasks
        self._slots: dict[str, anyio.CapacityLimiter] = {}
        self._sessions: dict[tuple[str, str], _Session] = {}

    async def run(self, upstream: Upstream, program: Program, receiver: Receiver, settings: Settings) -> None:
        """Run a program for one exchange, when it is its turn. Raises UpstreamError if it cannot be run."""
        slots = self._slots.setdefault(upstream.name, anyio.CapacityLimiter(upstream.max_parallel))
        slots.total_tokens = upstream.max_parallel
        link = process.Link()
        receiver.connected(cast(Connection, link))  # whoever waits for a slot does not wait for a connection
        run = _Run(program, receiver, settings, self._environ, link)
        try:
            await slots.acquire_on_behalf_of(run)
            closing: _Closing | None = None
            try:
                closing = await self._run_in_session(run, await self._session_for(upstream.name, program))
            except UpstreamError as error:
                if error.code == NO_PROGRAM:
                    raise
                receiver.failed_upstream(error)
            finally:
                if closing is None:
                    slots.release_on_behalf_of(run)
            if closing is not None and self._tasks is not None:
                self._tasks.start_soon(_close, closing, slots, run)
            elif closing is not None:
                await _close(closing, slots, run)
        finally:
            receiver.release()

    async def _run_in_session(self, run: _Run, session: _Session | None) -> _Closing | None:
        if session is None:
            return await run.once(None)
        session.is_running, session.closing = True, None
        closing: _Closing | None = None
        try:
            try:
                closing = await run.once(Resume(session.id, len(session.turns)))
            except UpstreamError as error:
                if error.code != UNKNOWN_SESSION:
                    raise
                session.id = str(uuid.uuid4())
                closing = await run.once(Resume(session.id))
        finally:
            session.is_running = False
            if closing is None:  # it may know half a turn
                session.id, session.turns = str(uuid.uuid4()), ()
        if closing is not None:
            session.turns = (*run.program.turns, run.program.turn_of(closing.answer))
            session.closing = closing.over
            closing.session = session
        return closing

    # --- sessions

    async def _session_for(self, upstream: str, program: Program) -> _Session | None:
        """A session that knows the beginning of the conversation, if only nothing of it; None if it is taken."""
        if not program.session:
            return None
        place = (upstream, program.session)
        known = self._sessions.get(place)
        if known is not None and known.closing is not None:
            await known.closing.wait()
            known = self._sessions.get(place)
        if known is not None and known.is_running:
            return None
        session = known if known is not None and known.knows(program.turns) else _Session()
        self._sessions.pop(place, None)
        self._sessions[place] = session  # the most recently used last
        if len(self._sessions) > _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session


@dataclass(slots=True)
class _Closing:
    """A program whose answer is complete, and what is to be done when it has ended."""

    program: process.Closing
    folder: str
    answer: str
    over: anyio.Event = field(default_factory=anyio.Event)
    session: _Session | None = None


async def _close(closing: _Closing, slots: anyio.CapacityLimiter, run: _Run) -> None:
    """Wait until a program has ended, and forget a session that it may not have written."""
    is_clean = False
    try:
        is_clean = await closing.program.close()
    except Exception as error:  # this task is nobody's: nothing may come of it but a line of the log
        bug(error)
    finally:
        slots.release_on_behalf_of(run)
        if closing.session is not None:
            closing.session.closing = None
            if not is_clean:
                closing.session.id, closing.session.turns = str(uuid.uuid4()), ()
        closing.over.set()
        shutil.rmtree(closing.folder, ignore_errors=True)  # a few files: not worth a thread that may not be had


@dataclass(eq=False, slots=True)
class _Run:
    """One exchange with a program, which may have to be run twice."""

    program: Program
    receiver: Receiver
    settings: Settings
    environ: Mapping[str, str]
    link: process.Link

    async def once(self, resume: Resume | None) -> _Closing | None:
        """Run it, in a folder that is its own; returns the program that may end by itself, or None."""
        launch, settings = self.program.launch(resume), self.settings
        folder, closing = "", None
        try:
            folder = await anyio.to_thread.run_sync(_make_folder, launch)
            environ = {**self.environ, **launch.env, **settings.env}
            command = process.Command(launch.argv, environ, folder, settings.max_line_bytes)
            closing = await self._until_done(command, launch.dialogue)
        except OSError as error:
            raise UpstreamError(f"no folder for the CLI: {error.strerror or error}") from None
        finally:
            if closing is None and folder:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(shutil.rmtree, folder, True)
        return None if closing is None else _Closing(closing, folder, launch.dialogue.answer)

    async def _until_done(self, command: process.Command, dialogue: Dialogue) -> process.Closing | None:
        """Run it, but not for longer than somebody wants its answer."""
        closing: process.Closing | None = None
        problem: UpstreamError | None = None
        async with anyio.create_task_group() as tasks:

            async def end_with_receiver() -> None:
                await self.receiver.done.wait()
                if not self.link.is_over:
                    tasks.cancel_scope.cancel()

            tasks.start_soon(end_with_receiver)
            try:
                closing = await process.run(command, dialogue, self.receiver, self.settings.timeouts, self.link)
            except UpstreamError as error:
                problem = error
            tasks.cancel_scope.cancel()
        if problem is not None:
            raise problem
        return closing


def _make_folder(launch: Launch) -> str:
    folder = tempfile.mkdtemp(prefix="ccproxy-")  # mode 0700
    try:
        for name, text in launch.files.items():
            Path(folder, name).write_text(text, encoding="utf-8", errors="replace")
    except OSError:
        shutil.rmtree(folder, True)
        raise
    return folder
