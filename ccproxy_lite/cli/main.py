"""The program: it runs one command, and ends with an exit code.

0 success, 1 failure at run time, 2 usage or configuration error, 130 interrupted. What a command needs is imported
when it runs, so that ``--version`` and ``--help`` are instant.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from errno import EBADF, EFBIG, EIO, ENOSPC
from typing import TextIO

from ccproxy_lite.cli.arguments import parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _open_standard_streams()
    try:
        try:
            code = _run_command(parsed(list(sys.argv[1:] if argv is None else argv)))
        except SystemExit as done:  # argparse is done with --help, or with a mistake
            code = int(done.code or 0)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except OSError as error:  # standard output: closed by its reader, or the disk is full
        _discard_output(sys.stdout)
        where = "standard output: " if error.errno in (ENOSPC, EFBIG, EIO, EBADF) else ""
        if not isinstance(error, BrokenPipeError):
            _print_error(f"ccproxy-lite: {where}{error.strerror or error}")
        code = 1
    try:
        sys.stderr.flush()
    except OSError:
        _discard_output(sys.stderr)
    return code


def _discard_output(stream: TextIO) -> None:
    """Nothing more is written there, also not when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_standard_streams() -> None:
    """What a shell has closed (``>&-``) is the null device: nothing else may get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _run_command(arguments: argparse.Namespace) -> int:
    from importlib import import_module

    from ccproxy_lite.errors import CcproxyError, ConfigError

    try:
        gc.disable()  # nothing that is imported is ever garbage
        command = import_module(f"ccproxy_lite.cli.{arguments.command}")
        gc.freeze()
        gc.enable()
        code: int = command.main(arguments)
        return code
    except BaseException as error:
        inner = _unwrapped(error)
        if isinstance(inner, ConfigError):
            _print_error(*inner.problems)
            return 2
        if isinstance(inner, CcproxyError):
            _print_error(f"ccproxy-lite: {inner}")
            return 1
        if isinstance(inner, OSError) and inner.filename:
            _print_error(f"ccproxy-lite: {inner.filename}: {inner.strerror}")
            return 1
        raise inner from None


def _print_error(*lines: str) -> None:
    try:
        for line in lines:
            print(line, file=sys.stderr)
    except OSError:
        _discard_output(sys.stderr)


def _unwrapped(error: BaseException) -> BaseException:
    """The one exception in a task group's wrapping."""
    inner: Sequence[BaseException] = getattr(error, "exceptions", ())
    return _unwrapped(inner[0]) if len(inner) == 1 else error
