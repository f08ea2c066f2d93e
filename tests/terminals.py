"""Pseudo-terminals, for programs that want to be typed at."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support import PATIENCE_S


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, number: int, pid: int) -> None:
        self.number = number
        self.pid = pid
        self.seen = ""

    def send(self, text: str) -> None:
        os.write(self.number, text.encode())

    def _more(self, wait_s: float) -> bool:
        if not select.select([self.number], [], [], wait_s)[0]:
            return False
        try:
            self.seen += os.read(self.number, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            return False
        return True

    def until(self, text: str, patience_s: float = PATIENCE_S) -> str:
        """Everything that is shown up to a text."""
        ends = time.monotonic() + patience_s
        while text not in self.seen:
            assert time.monotonic() < ends, self.seen
            self._more(0.2)
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def resize(self, rows: int, columns: int) -> None:
        """The size of the terminal, in characters."""
        fcntl.ioctl(self.number, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until_quiet(self, quiet_s: float = 0.7) -> str:
        """What is shown until nothing more is."""
        assert self._more(PATIENCE_S)
        while self._more(quiet_s):
            pass
        shown, self.seen = self.seen, ""
        return shown

    def status(self, patience_s: float = PATIENCE_S) -> int:
        """The exit status of the program."""
        ends = time.monotonic() + patience_s
        while time.monotonic() < ends:
            self._more(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"still running: {self.seen}")


@contextlib.contextmanager
def terminal(words: list[str], environ: dict[str, str], folder: Path) -> Iterator[Terminal]:
    pid, number = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(words[0], words, environ)
    shown = Terminal(number, pid)
    try:
        yield shown
    finally:
        if shown.pid:
            os.kill(shown.pid, signal.SIGKILL)
            os.waitpid(shown.pid, 0)
        os.close(number)
