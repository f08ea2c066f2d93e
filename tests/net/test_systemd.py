"""What systemd hands over and hears, without a process of ours."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from ccproxy_lite.errors import ConfigError
from ccproxy_lite.net import systemd
from tests.ports import listening


def test_what_is_not_meant_for_this_process_is_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "KEPT": "x"}
    assert systemd.inherited(environ) == []
    assert environ == {"KEPT": "x"}, "no child takes them for its own"
    for number in ("", "x", "-1"):
        assert systemd.inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": number}) == []
    assert systemd.inherited({}) == []


def test_what_does_not_listen_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        monkeypatch.setattr(systemd, "_FIRST", sock.fileno())
        with pytest.raises(ConfigError, match="is not a listening stream socket"):
            systemd.inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
        sock.detach()


def test_nobody_to_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in ("", "/nonexistent/socket", "relative", str(tmp_path)):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        systemd.notify("READY=1")
    name = f"@ccproxy-lite-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:])
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        systemd.notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_addresses() -> None:
    with listening() as sock:
        assert systemd.address_of(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        assert systemd.address_of(sock) == f"[::1]:{sock.getsockname()[1]}"
