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

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio
import anyio.to_thread

from ccproxy_lite.config.model import Upstream
from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.net import process
from ccproxy_lite.net.upstream import Sink, Timeouts
from ccproxy_lite.providers.provider import Launch, Program, Resume

_INHERITED = ("PATH", "HOME", "LANG", "TERM")
"""All that a program sees of the proxy's environment, which may hold keys."""
_MAX_SESSIONS = 1000


class Receiver(Sink, Protocol):
    """What receives a response, and tells when there is something to do.

    :ivar done: set when the waiting task has something to do
    :ivar ended: set when the HTTP body is complete
    """

    done: anyio.Event
    ended: anyio.Event

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


class Limits(NamedTuple):
    """How long a program may be silent, and the longest line that it may print."""

    timeouts: Timeouts
    max_line_bytes: int


class _Run(NamedTuple):
    """One exchange with a program, which may have to be run twice."""

    program: Program
    receiver: Receiver
    limits: Limits
    environ: Mapping[str, str]

    async def once(self, resume: Resume | None, answered: Callable[[str, bool], None] | None = None) -> None:
        """Run it, in a folder that is its own.

        :param answered: told the answer when it is complete, and whether the program has ended its turn itself
        """
        launch = self.program.launch(resume)
        folder = await anyio.to_thread.run_sync(_make_folder, launch)
        command = process.Command(launch.argv, {**self.environ, **launch.env}, folder, self.limits.max_line_bytes)

        def done(is_whole: bool) -> None:
            if answered is not None:
                answered(launch.dialogue.answer, is_whole)

        try:
            await process.run(command, launch.dialogue, self.receiver, self.limits.timeouts, done)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(shutil.rmtree, folder, True)


def _make_folder(launch: Launch) -> str:
    folder = tempfile.mkdtemp(prefix="ccproxy-")  # mode 0700
    for name, text in launch.files.items():
        Path(folder, name).write_text(text, encoding="utf-8", errors="replace")
    return folder


class Programs:
    """The local programs of all upstreams; they outlive a configuration.

    :param environ: the proxy's environment
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._environ = {name: environ[name] for name in _INHERITED if name in environ}
        self._slots: dict[str, anyio.CapacityLimiter] = {}
        self._sessions: dict[tuple[str, str], _Session] = {}

    async def run(self, upstream: Upstream, program: Program, receiver: Receiver, limits: Limits) -> None:
        """Run a program for one exchange, when it is its turn. Raises UpstreamError if it cannot be run."""
        slots = self._slots.setdefault(upstream.name, anyio.CapacityLimiter(upstream.max_parallel))
        slots.total_tokens = upstream.max_parallel
        try:
            async with slots:
                session = await self._session_for(upstream.name, program)
                run = _Run(program, receiver, limits, self._environ)
                try:
                    await (run.once(None) if session is None else self._run_in_session(run, session))
                except UpstreamError as error:
                    if error.code == "unreachable":
                        raise
                    receiver.failed_upstream(error)
        finally:
            receiver.release()

    async def _run_in_session(self, run: _Run, session: _Session) -> None:
        session.is_running, session.closing = True, None
        program = run.program

        def answered(answer: str, is_whole: bool) -> None:
            session.turns = (*program.turns, program.turn_of(answer)) if is_whole else ()
            session.closing = anyio.Event()

        try:
            try:
                await run.once(Resume(session.id, len(session.turns)), answered)
            except UpstreamError as error:
                if error.code != "unknown_session":
                    raise
                session.id = str(uuid.uuid4())
                await run.once(Resume(session.id), answered)
        finally:
            if session.closing is None or not session.turns:  # it may know half a turn
                session.id, session.turns = str(uuid.uuid4()), ()
            session.is_running = False
            if session.closing is not None:
                session.closing.set()
            session.closing = None

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
