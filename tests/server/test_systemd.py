"""What systemd hands over and hears, with a real process; and by its own programs where they are installed."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import listening
from tests.support import (
    ANTHROPIC_ASK,
    ECHO,
    PATIENCE_S,
    ROOT,
    ask,
    clean_environment,
    connect,
    eventually,
    read_answer,
)

_HAND_OVER = """
import os, sys
for at, number in enumerate(sys.argv[1].split(",")):
    os.dup2(int(number), 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(at + 1), LISTEN_FDNAMES="x")
os.execv(sys.executable, [sys.executable, "-m", "ccproxy_lite", *sys.argv[2:]])
"""


@contextlib.contextmanager
def activated(
    home: Path, sockets: list[socket.socket], *options: str, **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """``serve`` as a service manager starts it, with these sockets."""
    numbers = [sock.fileno() for sock in sockets]
    child = subprocess.Popen(
        [sys.executable, "-c", _HAND_OVER, ",".join(map(str, numbers)), "serve", *options],
        pass_fds=numbers, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=clean_environment(home, **environ), cwd=home,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            assert pipe is not None
            pipe.close()


def config(home: Path, **more: object) -> str:
    path = home / "proxy.json"
    path.write_text(json.dumps({**ECHO, **more}))
    return str(path)


def test_sockets_that_are_handed_over_are_served_and_the_manager_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with (
        listening() as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        unix.bind(str(path))
        unix.listen()
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        port = tcp.getsockname()[1]
        options = ["--config", config(tmp_path, listen="127.0.0.1:1")]
        with activated(tmp_path, [tcp, unix], *options, NOTIFY_SOCKET=str(tmp_path / "notify")) as child:
            assert manager.recv(1000).decode().startswith("READY=1\nSTATUS=listening on ")
            assert ask(port, "/v1/messages", ANTHROPIC_ASK).status == 200
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert read_answer(sock, method="GET").status == 200
            child.send_signal(signal.SIGHUP)
            child.send_signal(signal.SIGTERM)
            assert manager.recv(1000) == b"STOPPING=1"
            assert child.wait(PATIENCE_S) == 0
        assert path.exists(), "the address belongs to who has opened it"
        tcp.settimeout(PATIENCE_S)
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S):
            tcp.accept()[0].close()  # and so does the socket: it listens on


def test_a_unix_socket_beside_it_does_not_open_the_other_one_to_every_name(tmp_path: Path) -> None:
    with listening() as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0ccproxy-lite-test")
        unix.listen()
        port = tcp.getsockname()[1]
        with activated(tmp_path, [tcp, unix], "--config", config(tmp_path)) as child:
            assert child.stdout is not None and child.stdout.readline() == f"listening on http://127.0.0.1:{port}\n"
            evil = {"host": "evil.example", "origin": "http://evil.example"}
            with connect(port) as sock:
                lines = [f"{name}: {value}\r\n" for name, value in evil.items()]
                sock.sendall(f"GET /status HTTP/1.1\r\n{''.join(lines)}\r\n".encode())
                assert read_answer(sock, method="GET").status == 403


def test_a_public_socket_needs_client_keys(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as tcp:
        with activated(tmp_path, [tcp], "--config", config(tmp_path)) as child:
            assert child.wait(PATIENCE_S) == 2
            assert child.stderr is not None and "client_keys is required" in child.stderr.read()
        with activated(tmp_path, [tcp], "--config", config(tmp_path, client_keys=["the-client-key"])) as child:
            assert child.stdout is not None and child.stdout.readline().startswith("listening on http://")


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed")
def test_started_by_the_first_connection(tmp_path: Path) -> None:
    with listening() as free:
        port = free.getsockname()[1]
    child = subprocess.Popen(
        ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "-E", "PYTHONPATH", "-E", "HOME", sys.executable,
         "-m", "ccproxy_lite", "--config", config(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    try:
        assert eventually(lambda: _answer(port) == 200, PATIENCE_S)
        child.terminate()  # the same process by now
        assert child.wait(PATIENCE_S) == 0
    finally:
        child.kill()
        child.wait()
        assert child.stderr is not None
        child.stderr.close()


def _answer(port: int) -> int:
    try:
        return ask(port, "/v1/messages", ANTHROPIC_ASK).status
    except OSError:
        return 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_example_unit(tmp_path: Path) -> None:
    for name in ("ccproxy-lite.service", "ccproxy-lite.socket"):
        text = (ROOT / "examples/systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/bin/python3", sys.executable))
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "ccproxy" in line]) == (0, [])
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", units[0]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]
