"""Work that would hold the event loop for too long is done in a copy of the process.

Parsing and converting a body of some megabytes takes a tenth of a second, and a body of a million tiny values seconds.
All other streams would stand still meanwhile; in a thread, too, because the JSON parser keeps the interpreter to itself
while it runs. So the process forks. The child finds everything in its memory, the request as well as the
configuration, and sends back what has come of it, which is small or plain bytes.

    waiting -> running -> over

``waiting``
    in order of arrival, while as many run as there are processors, or while the bytes that are being converted would
    exceed ``limits.max_converting_bytes`` (a larger body runs alone)
``running``
    the child works, or waits for a command; the parent reads what it sends
``over``
    it has ended, or was killed because its client has left; its place is given to the next

The child closes all descriptors but its two pipes, because a socket that it holds would not be closed when the parent
closes it, resets what the parent does at signals, and leaves with ``_exit``: nothing of the parent's is cleaned up
twice. It never touches the event loop. Where there is no ``fork``, callers do the work themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import struct
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from ccproxy_lite.errors import CcproxyError

LARGE_BYTES = 262_144
"""What is larger leaves the event loop."""
CAN_FORK = hasattr(os, "fork") and os.path.isdir("/dev/fd")

_NICE = 5
"""The loop goes first."""
_READ_BYTES = 1_048_576
_LENGTH = struct.Struct("!Q")

Result = TypeVar("Result")


class Peer:
    """The child's end: values in, outcomes out. Blocking."""

    def __init__(self, commands: int, outcomes: int) -> None:
        self._commands = os.fdopen(commands, "rb")
        self._outcomes = os.fdopen(outcomes, "wb")

    def receive(self) -> Any:
        """The next command. Raises EOFError when there is none any more."""
        return pickle.load(self._commands)

    def answer(self, function: Callable[[], Any]) -> None:
        """Send what a function returns or raises."""
        try:
            outcome: tuple[bool, Any] = True, function()
        except (CcproxyError, RecursionError, ValueError) as error:
            outcome = False, (type(error), error.args, vars(error))
        except Exception as error:
            outcome = False, (RuntimeError, (f"{type(error).__name__}: {error}",), {})
        packed = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        self._outcomes.write(_LENGTH.pack(len(packed)) + packed)
        self._outcomes.flush()


class Child:
    """The parent's end of a copy of this process."""

    def __init__(self, pid: int, commands: int, outcomes: int, on_over: Callable[[], None]) -> None:
        self._pid = pid
        self._commands = commands
        self._outcomes = outcomes
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._arrived: asyncio.Future[None] | None = None
        self._is_over = False
        self._loop.add_reader(outcomes, self._read)

    def send(self, command: Any) -> None:
        """A small value."""
        with contextlib.suppress(OSError):
            os.write(self._commands, pickle.dumps(command))

    async def receive(self) -> Any:
        """The next outcome; raises what was raised in the child, and RuntimeError if it has died."""
        while not self._is_complete():
            if self._is_over:
                raise RuntimeError("the process that converts a large body has died")
            self._arrived = self._loop.create_future()
            await self._arrived
        packed = b"".join(self._pieces)
        self._pieces, self._bytes = [], 0
        is_value, outcome = pickle.loads(memoryview(packed)[_LENGTH.size :])
        if is_value:
            return outcome
        kind, arguments, attributes = outcome
        error = kind.__new__(kind, *arguments)
        error.__dict__.update(attributes)
        raise error

    def close(self) -> None:
        """It is not needed any more, whatever it does."""
        if self._is_over:
            return
        self._is_over = True
        self._loop.remove_reader(self._outcomes)
        os.close(self._commands)
        os.close(self._outcomes)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._on_over()
        self._wake()

    def _is_complete(self) -> bool:
        if self._bytes < _LENGTH.size:
            return False
        if len(self._pieces[0]) < _LENGTH.size:
            self._pieces = [b"".join(self._pieces)]
        length: int = _LENGTH.unpack_from(self._pieces[0])[0]
        return self._bytes >= _LENGTH.size + length

    def _read(self) -> None:
        data = os.read(self._outcomes, _READ_BYTES)
        if not data:
            self.close()
            return
        self._pieces.append(data)
        self._bytes += len(data)
        if self._is_complete():
            self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class Offload:
    """Copies of the process, so many at once.

    :param max_bytes: the most bytes of bodies that are converted at the same time
    """

    def __init__(self, max_bytes: int, max_children: int | None = None) -> None:
        self.max_bytes = max_bytes
        self._max_children = max_children or len(_processors())
        self._children = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def run(self, function: Callable[[], Result], size: int) -> Result:
        """What a function returns or raises, which is done in a child; ``size`` is that of the body that it is for."""
        async with self.forked(lambda peer: peer.answer(function), size) as child:
            result: Result = await child.receive()
            return result

    @contextlib.asynccontextmanager
    async def forked(self, work: Callable[[Peer], None], size: int) -> AsyncIterator[Child]:
        """A child that does the work, until the block ends."""
        await self._wait_for_place(size)
        try:
            child = _fork(work, lambda: self._free(size))
        except BaseException:
            self._free(size)
            raise
        try:
            yield child
        finally:
            child.close()

    async def _wait_for_place(self, size: int) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, place))
        self._admit()
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self._free(size)
            else:
                self._waiting.remove((size, place))
                self._admit()
            raise

    def _free(self, size: int) -> None:
        self._children -= 1
        self._bytes -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._children < self._max_children:
            size, place = self._waiting[0]
            if self._children and self._bytes + size > self.max_bytes:
                return
            self._waiting.popleft()
            if not place.done():
                self._children += 1
                self._bytes += size
                place.set_result(None)


def _processors() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _fork(work: Callable[[Peer], None], on_over: Callable[[], None]) -> Child:
    commands, commands_end = os.pipe()
    outcomes, outcomes_end = os.pipe()
    with warnings.catch_warnings():
        # Python warns where there are threads: one might hold a lock that the child needs. Converters need none.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        _be_child(work, commands, outcomes_end)
    os.close(commands)
    os.close(outcomes_end)
    return Child(pid, commands_end, outcomes, on_over)


def _be_child(work: Callable[[Peer], None], commands: int, outcomes: int) -> None:
    """Do the work and leave, whatever happens."""
    try:
        gc.disable()  # it would write to all memory, which is shared until somebody does
        signal.set_wakeup_fd(-1)
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(stop, signal.SIG_DFL)
        for number in map(int, os.listdir("/dev/fd")):
            if number > 2 and number not in (commands, outcomes):
                with contextlib.suppress(OSError):
                    os.close(number)
        os.nice(_NICE)
        work(Peer(commands, outcomes))
    finally:
        os._exit(0)
