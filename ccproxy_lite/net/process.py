"""A local program as an upstream: it is run for one exchange, and its lines become the response.

What is said to it, and what its lines mean, a ``Dialogue`` decides (a pure value of the provider); here are the pipes.
The program gets a process group of its own, an environment of its own, and a folder of its own; when the exchange is
over, however that came, nothing of the group is left.

    running    lines go in and come out; the sink is called as the dialogue says
    closing    the answer is complete: the program has ``_CLOSING_S`` to end by itself (``Closing``)
    ending     it must not go on, or nobody wants its answer: SIGTERM, and after ``_TERM_S`` SIGKILL

In the end nothing is left of its group, nor of what it has started in groups of their own: that is found by a mark in
its environment, which is inherited, where the system shows environments (Linux).

Back pressure: while the client does not keep up, the pipe is not read, and the program waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import anyio
import anyio.abc
import anyio.to_thread

from ccproxy_lite.errors import NO_PROGRAM, UpstreamError
from ccproxy_lite.log import internal_error
from ccproxy_lite.net.heads import AnswerHead
from ccproxy_lite.net.upstream import Sink, Timeouts

_CLOSING_S = 5.0
_TERM_S = 0.5
_MARK = "CCPROXY_RUN"
_SILENCE_S = 0.5
"""How long nothing may come from a program that is gone, until that is the end of its output."""
_MAX_STDERR_BYTES = 65_536


class Move(Protocol):
    """What is to be done: bytes for the program, and the next part of the response (see ``providers.provider``)."""

    @property
    def write(self) -> bytes: ...
    @property
    def close_input(self) -> bool: ...
    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def data(self) -> bytes: ...
    @property
    def done(self) -> bool: ...
    @property
    def kill(self) -> bool: ...


class Dialogue(Protocol):
    """What is said to the program."""

    def begin(self) -> Move: ...
    def feed(self, line: bytes) -> Move: ...
    def ended(self, status: int, stderr: str) -> Move: ...


class Command(NamedTuple):
    """What is run, where, and with which environment; ``max_line_bytes`` is the longest line that it may print."""

    argv: list[str]
    env: Mapping[str, str]
    folder: str
    max_line_bytes: int


class Link:
    """Stands for the connection to an upstream: what a sink may pause.

    :ivar is_over: the answer is complete
    """

    def __init__(self) -> None:
        self.is_over = False
        self._may_read = anyio.Event()
        self._may_read.set()

    def pause(self, paused: bool) -> None:
        if paused:
            self._may_read = anyio.Event()
        else:
            self._may_read.set()

    def drop(self, sink: Sink) -> None:
        """The task that runs the program ends it."""

    async def ready(self) -> None:
        """Wait until the sink may be given more."""
        await self._may_read.wait()


class Closing:
    """A program whose answer is complete."""

    def __init__(self, process: anyio.abc.Process, mark: str) -> None:
        self._process = process
        self._mark = mark

    async def close(self) -> bool:
        """Wait until it has ended; whether it has done so by itself. Cancelled, it ends it at once."""
        try:
            with anyio.move_on_after(_CLOSING_S):
                await self._process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                is_clean = await _end(self._process, self._mark)
        return is_clean


async def run(command: Command, dialogue: Dialogue, sink: Sink, timeouts: Timeouts, link: Link) -> Closing | None:
    """Run a program for one exchange; returns when its answer is complete: a program that may end by itself, or None.

    Raises UpstreamError if it cannot be run (then nothing has reached the sink) or has failed.

    :param link: what the sink may pause
    """
    mark = os.urandom(8).hex()
    try:
        process = await anyio.open_process(
            command.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=command.folder,
            env={**command.env, _MARK: ":".join(filter(None, (os.environ.get(_MARK), mark)))},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        # To try again is no use, to try another target is.
        raise UpstreamError(f"cannot run {command.argv[0]}: {reason}", code=NO_PROGRAM) from None
    exchange, closing = _Exchange(process, dialogue, sink, link), None
    try:
        await exchange.run(command.max_line_bytes, timeouts)
        closing = Closing(process, mark) if exchange.may_close else None
    finally:
        if closing is None:
            with anyio.CancelScope(shield=True):
                await _end(process, mark)
    return closing


class _Exchange:
    """One run of a program.

    :ivar may_close: the answer is complete, and the program may end by itself
    """

    def __init__(self, process: anyio.abc.Process, dialogue: Dialogue, sink: Sink, link: Link) -> None:
        self.may_close = False
        self._process = process
        self._dialogue = dialogue
        self._sink = sink
        self._link = link
        self._stderr = bytearray()
        self._begun = self._over = self._has_exited = False
        self._reading: anyio.CancelScope | None = None

    async def run(self, max_line_bytes: int, timeouts: Timeouts) -> None:
        to_write, written = anyio.create_memory_object_stream[bytes](inf)
        self._to_write = to_write
        problem: UpstreamError | None = None
        async with anyio.create_task_group() as tasks, to_write, written:
            tasks.start_soon(self._write, written)
            tasks.start_soon(self._collect_stderr)
            tasks.start_soon(self._watch_exit)
            try:
                self._do(self._dialogue.begin())
                await self._read_lines(max_line_bytes, timeouts)
            except UpstreamError as error:
                problem = error
            except Exception as error:  # whatever it has printed, another target may still respond
                problem = UpstreamError(internal_error(error))
            tasks.cancel_scope.cancel()
        if problem is not None:
            raise problem

    async def _read_lines(self, max_line_bytes: int, timeouts: Timeouts) -> None:
        buffer, searched, begin_by = bytearray(), 0, anyio.current_time() + timeouts.first_byte_s
        while not self._over:
            await self._link.ready()
            deadline = anyio.current_time() + timeouts.idle_s if self._begun else begin_by
            data = await self._receive(deadline)
            if not data:
                if not self._has_exited and anyio.current_time() >= deadline:
                    seconds = timeouts.idle_s if self._begun else timeouts.first_byte_s
                    what = "no output from the CLI" if self._begun else "no answer from the CLI"
                    raise UpstreamError(f"{what} for {seconds:g} s", status=504, kind="timeout")
                await self._ended(bytes(buffer))
                return
            buffer += data
            while not self._over and (at := buffer.find(b"\n", searched)) >= 0:
                line = bytes(buffer[:at])
                del buffer[: at + 1]
                searched = 0
                self._do(self._dialogue.feed(line))
            searched = len(buffer)
            if len(buffer) > max_line_bytes:
                raise UpstreamError(f"the CLI printed a line of more than {max_line_bytes} bytes")

    async def _receive(self, deadline: float) -> bytes:
        """What comes next; nothing at the end of the output or of the time.

        What it has started may hold its output open: when the program is gone, nothing for a moment is the end, too.
        """
        stdout = cast(anyio.abc.ByteReceiveStream, self._process.stdout)
        with anyio.CancelScope(deadline=deadline) as self._reading:
            if self._has_exited:
                self._reading.deadline = min(deadline, anyio.current_time() + _SILENCE_S)
            try:
                return await stdout.receive()
            except (anyio.EndOfStream, anyio.ClosedResourceError):
                pass
        return b""

    async def _watch_exit(self) -> None:
        await self._process.wait()
        self._has_exited = True
        if self._reading is not None:
            self._reading.deadline = min(self._reading.deadline, anyio.current_time() + _SILENCE_S)

    async def _ended(self, rest: bytes) -> None:
        """There is no more output."""
        if rest:
            self._do(self._dialogue.feed(rest))
        if not self._over:
            with anyio.move_on_after(_CLOSING_S):
                await self._process.wait()
            status = self._process.returncode
            self._do(self._dialogue.ended(0 if status is None else status, self._stderr.decode("utf-8", "replace")))

    def _do(self, move: Move) -> None:
        if move.status and not self._begun:
            self._begun = True
            headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in move.headers]
            self._sink.head(AnswerHead(move.status, headers))
        if move.done:
            self._over = self._link.is_over = True
            self.may_close = not move.kill
        if move.data:
            self._sink.data(move.data)
        if move.write:
            self._to_write.send_nowait(move.write)
        if move.close_input:
            self._to_write.send_nowait(b"")
        if move.done:
            self._sink.end()

    async def _write(self, written: anyio.abc.ObjectReceiveStream[bytes]) -> None:
        """Standard input; the program may be gone before it has read all of it."""
        stdin = cast(anyio.abc.ByteSendStream, self._process.stdin)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            async for data in written:
                if data:
                    await stdin.send(data)
                else:
                    await stdin.aclose()

    async def _collect_stderr(self) -> None:
        """The last of what it says there."""
        stderr = cast(anyio.abc.ByteReceiveStream, self._process.stderr)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in stderr:
                self._stderr += data
                del self._stderr[:-_MAX_STDERR_BYTES]


async def _end(process: anyio.abc.Process, mark: str) -> bool:
    """End what is left of a program; whether it has ended by itself."""
    is_clean = process.returncode is not None
    if not is_clean:
        _signal_group(process.pid, signal.SIGTERM)
        with anyio.move_on_after(_TERM_S):
            await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    await anyio.to_thread.run_sync(_kill_marked, mark.encode())
    with anyio.move_on_after(_TERM_S):
        await process.wait()
    with contextlib.suppress(ProcessLookupError):  # it is gone, though nobody has noticed yet
        await process.aclose()
    return is_clean


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def _kill_marked(mark: bytes) -> None:
    """End every process that has inherited a mark; in one of them, a proxy may have added marks of its own."""
    prefix = f"{_MARK}=".encode()
    with contextlib.suppress(OSError):
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                variables = path.read_bytes().split(b"\0")
                marks = next((one for one in variables if one.startswith(prefix)), b"")[len(prefix) :]
                if mark in marks.split(b":"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
