"""Credential helpers: programs whose standard output is a secret."""

from __future__ import annotations

import anyio

from ccproxy_lite.log import log

_TIMEOUT_S = 20.0


async def run_helper(command: list[str]) -> str:
    """The standard output of a credential helper; no shell, no input, a time limit. Raises OSError."""
    from subprocess import DEVNULL

    try:
        with anyio.fail_after(_TIMEOUT_S):
            done = await anyio.run_process(command, stdin=DEVNULL, check=False)
    except TimeoutError:
        raise OSError(f"{command[0]} did not finish in {_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
        log.warning("%s exited with status %d: %s", command[0], done.returncode, said[:200])
        raise OSError(f"{command[0]} exited with status {done.returncode}")
    token = done.stdout.decode("ascii", "replace").strip()
    if not token:
        raise OSError(f"{command[0]} printed nothing")
    return token
