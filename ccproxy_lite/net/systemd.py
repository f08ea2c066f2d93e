"""systemd's socket activation (sockets that it has opened) and readiness notification.

Both do nothing elsewhere. See sd_listen_fds(3) and sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

from ccproxy_lite.errors import ConfigError

_FIRST = 3


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that were handed over, if they are meant for this process. Raises ConfigError.

    The variables are taken away, so that no child process uses them.
    """
    named = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if named["LISTEN_PID"] != str(os.getpid()) or not named["LISTEN_FDS"].isdigit():
        return []
    sockets = []
    for number in range(_FIRST, _FIRST + int(named["LISTEN_FDS"])):
        try:
            sock = socket.socket(fileno=number)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ConfigError([f"LISTEN_FDS: file descriptor {number}: {error.strerror}"]) from None
        if not listens or sock.type != socket.SOCK_STREAM:
            sock.detach()
            raise ConfigError([f"LISTEN_FDS: file descriptor {number} is not a listening stream socket"])
        sock.set_inheritable(False)
        sockets.append(sock)
    return sockets


def address_of(sock: socket.socket) -> str:
    """Where a socket listens, as ``listen`` would say it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}" if isinstance(name, str) else f"unix:@{name[1:].decode()}"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def notify(state: str) -> None:
    """Tell the service manager, if there is one that wants to know; ``READY=1``, ``STOPPING=1``, ``STATUS=...``."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)
