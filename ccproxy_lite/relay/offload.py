"""Work that would hold the event loop for too long is done in a copy of the process.

Parsing and converting a body of some megabytes takes a tenth of a second, and a body of a million tiny values seconds.
All other streams would stand still meanwhile; in a thread, too, because the JSON parser keeps the interpreter to itself
while it runs. So the process forks. The child finds everything in its memory, the configuration as well as the
code, and sends back what has come of it, which is small or plain bytes.

    waiting -> running -> idle -> running ... -> over

``waiting``
    in order of arrival, while as many run as there are processors, or while the bytes that are being converted would
    exceed ``limits.max_converting_bytes`` (a larger body runs alone)
``running``
    the child works, or waits for a command; the parent reads what it sends
``idle``
    a resident child waits for the next body: what it touches of the memory that it shares with the parent is copied
    page by page, which for a body of a megabyte costs more than converting it, and is done once
``over``
    it has ended, or was killed because its client has left; its place is given to the next

The child closes all descriptors but its two pipes, because a socket that it holds would not be closed when the parent
closes it, resets what the parent does at signals, and leaves with ``_exit``: nothing of the parent's is cleaned up
twice. It never touches the event loop. Where there is no ``fork``, callers do the work themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import copyreg
import gc
import os
import pickle
import signal
import struct
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import MappingProxyType
from typing import Any, TypeVar

from ccproxy_lite.errors import CcproxyError

_IDLE_S = 30.0
"""A resident child ends when it has had nothing to do for so long,"""
_KEPT_BYTES = 8_388_608
"""or has read more than this: its memory would stay large."""
_READ_BYTES = 1_048_576
_LENGTH = struct.Struct("!Q")

Result = TypeVar("Result")


def _proxy(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


copyreg.pickle(MappingProxyType, lambda proxy: (_proxy, (dict(proxy),)))  # the empty slots of requests


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


class Peer:
    """The child's end: values in, outcomes out. Blocking."""

    def __init__(self, commands: int, outcomes: int) -> None:
        self._commands = os.fdopen(commands, "rb")
        self._outcomes = os.fdopen(outcomes, "wb")

    def receive(self) -> Any:
        """The next command. Raises EOFError when there is none any more."""
        return pickle.load(self._commands)

    def answer(self, function: Callable[[], Any]) -> bool:
        """Send what a function returns or raises; returns whether it has returned."""
        has_value = False
        try:
            packed = _pickled((True, function()))
            has_value = True
        except (CcproxyError, RecursionError, ValueError) as error:
            packed = _pickled((False, (type(error), error.args, vars(error))))
        except Exception as error:
            packed = _pickled((False, (RuntimeError, (f"{type(error).__name__}: {error}",), {})))
        self._outcomes.write(_LENGTH.pack(len(packed)))
        self._outcomes.write(packed)
        self._outcomes.flush()
        return has_value


class Child:
    """The parent's end of a copy of this process."""

    def __init__(self, pid: int, commands: int, outcomes: int) -> None:
        self._pid = pid
        self._commands = commands
        self._outcomes = outcomes
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._arrived: asyncio.Future[None] | None = None
        self.is_over = False
        self.expiry: asyncio.TimerHandle | None = None  # while it is idle
        os.set_blocking(commands, False)
        self._loop.add_reader(outcomes, self._read)

    async def send(self, command: Any) -> None:
        """A value, of any size; one that a child does not live to read is lost."""
        left = memoryview(_pickled(command))
        while left and not self.is_over:
            try:
                left = left[os.write(self._commands, left) :]
            except BlockingIOError:
                await self._until_writable()
            except OSError:
                return

    async def _until_writable(self) -> None:
        writable = asyncio.Event()
        self._loop.add_writer(self._commands, writable.set)
        try:
            await writable.wait()
        finally:
            if not self.is_over:
                self._loop.remove_writer(self._commands)

    async def receive(self) -> Any:
        """The next outcome; raises what was raised in the child, and RuntimeError if it has died."""
        while not self._is_complete():
            if self.is_over:
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
        if self.is_over:
            return
        self.is_over = True
        if self.expiry is not None:
            self.expiry.cancel()
        self._loop.remove_writer(self._commands)
        self._loop.remove_reader(self._outcomes)
        os.close(self._commands)
        os.close(self._outcomes)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
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
        self._idle: list[Child] = []
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def run(self, function: Callable[[], Result], size: int) -> Result:
        """What a function returns or raises, which is done in a child; ``size`` is that of the body that it is for."""
        async with self.forked(lambda peer: peer.answer(function), size) as child:
            result: Result = await child.receive()
            return result

    @contextlib.asynccontextmanager
    async def forked(self, work: Callable[[Peer], object], size: int) -> AsyncIterator[Child]:
        """A child that does the work, until the block ends."""
        await self._wait_for_place(size)
        try:
            child = _fork(work)
            try:
                yield child
            finally:
                child.close()
        finally:
            self._free(size)

    @contextlib.asynccontextmanager
    async def resident(self, work: Callable[[Peer], None], size: int) -> AsyncIterator[Child]:
        """A child that does the work again and again, for as long as it is needed: one that is idle, or a new one.

        ``work`` is the same for all. A block that ends with an exception leaves the child in the middle of its work, so
        that is killed.
        """
        await self._wait_for_place(size)
        try:
            child = self._idle_child() or _fork(lambda peer: _again_and_again(work, peer))
            try:
                yield child
            except BaseException:
                child.close()
                raise
            if size > _KEPT_BYTES or len(self._idle) >= self._max_children:
                child.close()
            elif not child.is_over:
                child.expiry = asyncio.get_running_loop().call_later(_IDLE_S, child.close)
                self._idle.append(child)
        finally:
            self._free(size)

    def _idle_child(self) -> Child | None:
        while self._idle:
            child = self._idle.pop()
            if not child.is_over:
                assert child.expiry is not None
                child.expiry.cancel()
                return child
        return None

    def close(self) -> None:
        """End the idle children."""
        while self._idle:
            self._idle.pop().close()

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


def _again_and_again(work: Callable[[Peer], None], peer: Peer) -> None:
    while True:
        work(peer)


def _fork(work: Callable[[Peer], object]) -> Child:
    commands, commands_end = _pipe()
    outcomes, outcomes_end = _pipe()
    with warnings.catch_warnings():
        # Python warns where there are threads: one might hold a lock that the child needs. Converters need none.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        _be_child(work, commands, outcomes_end)
    os.close(commands)
    os.close(outcomes_end)
    return Child(pid, commands_end, outcomes)


def _pipe() -> tuple[int, int]:
    """A pipe that takes a large body in few pieces, where the system allows it."""
    ends = os.pipe()
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, _READ_BYTES)
    return ends


def _be_child(work: Callable[[Peer], object], commands: int, outcomes: int) -> None:
    """Do the work and leave, whatever happens."""
    try:
        gc.freeze()  # a collection would write to all memory, which is shared until somebody does
        gc.set_threshold(50_000, 20, 50)
        signal.set_wakeup_fd(-1)
        for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(stop, signal.SIG_DFL)
        for number in map(int, os.listdir("/dev/fd")):
            if number > 2 and number not in (commands, outcomes):
                with contextlib.suppress(OSError):
                    os.close(number)
        work(Peer(commands, outcomes))
    except EOFError:
        pass
    finally:
        os._exit(0)
