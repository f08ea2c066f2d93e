"""Running things for tests: a proxy in a thread, a proxy as a process, and an upstream that follows a script."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from ccproxy_lite.cli.load import read_text
from ccproxy_lite.clock import Clock
from ccproxy_lite.config import file as configfile
from ccproxy_lite.config.model import Config
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.server.lifecycle import Running, running
from tests.ports import free_port, listening

ROOT = Path(__file__).parent.parent
ECHO = {"upstreams": {"echo": {"format": "echo"}}}
PATIENCE_S = 60.0
"""The longest that one event is waited for: only what hangs takes so long, even on a busy machine."""
PROGRAM_S = 150.0
"""The same for a whole program that a test runs."""


# ---------------------------------------------------------------- a proxy in a thread


@dataclass
class Proxy:
    """A proxy that runs in a thread of this process."""

    port: int
    parts: Running
    call: Callable[[Callable[[], Any]], Any]
    run: Callable[..., Any]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connections(self) -> list[Any]:
        """The open connections; to be looked at in the proxy's own thread."""
        return list(self.parts.listener._shared.connections)


class FakeClock(Clock):
    """A clock that stands still, and runs ahead instead of waiting; ``waits`` tells how long it would have been."""

    def __init__(self) -> None:
        self.time = 1_000_000.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_795_000_000.0 + self.time

    async def wait(self, seconds: float, sooner: anyio.Event | None = None) -> None:
        await anyio.lowlevel.checkpoint()
        self.waits.append(seconds)
        self.time += seconds


def settings_of(config: dict[str, Any], environ: dict[str, str] | None = None) -> Config:
    """A configuration as it would be read from a file."""
    text = json.dumps({"listen": f"127.0.0.1:{free_port()}", **config})
    return configfile.read(text, "test.json", {"HOME": "/nonexistent", **(environ or {})}, read_text)


@contextlib.contextmanager
def proxy(config: dict[str, Any], environ: dict[str, str] | None = None, clock: Clock | None = None) -> Iterator[Proxy]:
    """The proxy of a configuration, on a free port, until the block ends."""
    settings = settings_of(config, environ)
    ready: list[Any] = []
    started = threading.Event()

    async def main() -> None:
        stop = anyio.Event()
        token = anyio.lowlevel.current_token()
        try:
            async with running(settings, Vault(environ or {}), clock) as parts:
                ready.extend([parts, token, stop])
                started.set()
                await stop.wait()
        except BaseException as error:
            ready.append(error)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=lambda: anyio.run(main), daemon=True)
    thread.start()
    assert started.wait(PATIENCE_S), "the proxy did not start"
    if len(ready) < 3:
        raise ready[-1]
    parts, token, stop = ready[:3]

    def call(function: Callable[[], Any]) -> Any:
        return anyio.from_thread.run_sync(function, token=token)

    def run(function: Callable[..., Any], *args: Any) -> Any:
        return anyio.from_thread.run(function, *args, token=token)

    try:
        yield Proxy(parts.listener.port, parts, call, run)
    finally:
        call(stop.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the proxy did not stop"


# ---------------------------------------------------------------- a proxy as a process


@dataclass
class Process:
    """A proxy that runs as a process of its own."""

    process: subprocess.Popen[str]
    port: int
    home: Path
    stderr_path: Path

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text()

    def rss_kb(self) -> int:
        """Resident memory, from the kernel."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def files(self) -> int:
        """How many file descriptors are open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment without anybody's keys or settings."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "VIRTUAL_ENV")}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


@contextlib.contextmanager
def process(config: dict[str, Any], *options: str, usual: bool = False, **environ: str) -> Iterator[Process]:
    """``ccproxy-lite serve`` with a configuration (or the ``usual`` one), ended by its own id whatever happens."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        path = home / "proxy.json"
        path.write_text(json.dumps({"listen": f"127.0.0.1:{free_port()}", **config}))
        path.chmod(0o600)
        stderr_path = home / "stderr"
        with stderr_path.open("w") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-m", "ccproxy_lite", "serve", *([] if usual else ["--config", str(path)]), *options],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=clean_environment(home, **environ),
                cwd=home,
            )
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line.startswith("listening on "), (line, stderr_path.read_text())
            port = 0 if "unix:" in line else int(line.rpartition(":")[2])
            yield Process(child, port, home, stderr_path)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait(PATIENCE_S)
            if child.stdout is not None:
                child.stdout.close()


# ---------------------------------------------------------------- raw HTTP


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def request_bytes(path: str, body: Any = None, method: str = "POST", **headers: str) -> bytes:
    """One HTTP/1.1 request; ``body`` as JSON unless it is bytes."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + raw


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    rest: bytes = b""
    interim: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(sock: socket.socket, buffered: bytes = b"", method: str = "POST") -> Answer:
    """One answer from a socket, by a parser that is not ours. Raises EOFError if the connection ends before it."""
    import h11

    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    if buffered:
        connection.receive_data(buffered)
    head, pieces, interim = None, [], 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = sock.recv(1_048_576)
            if not data and head is None:
                raise EOFError("the connection ended before an answer")
            connection.receive_data(data)
        elif isinstance(event, h11.InformationalResponse):
            interim += 1
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            pieces.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            break
    headers = {name.decode(): value.decode() for name, value in head.headers}
    return Answer(head.status_code, headers, b"".join(pieces), connection.trailing_data[0], interim)


def ask(port: int, path: str, body: Any = None, method: str = "POST", **headers: str) -> Answer:
    """One request on a connection of its own."""
    with connect(port) as sock:
        sock.sendall(request_bytes(path, body, method, **headers))
        return read_answer(sock, method=method)


def is_closed(sock: socket.socket, timeout_s: float = PATIENCE_S) -> bool:
    """Whether the peer closes the connection within the time; whatever it still sends is passed over."""
    sock.settimeout(timeout_s)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def eventually(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether a condition comes true; asked again at short intervals."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


# ---------------------------------------------------------------- an upstream that follows a script

RESET = "reset"
CLOSE = "close"
STALL = "stall"
Step = bytes | str | Callable[["Scripted"], None]


@dataclass
class Seen:
    """One request that the scripted upstream got."""

    head: str
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None


@dataclass
class Scripted:
    """Answers the n-th request with the n-th list of steps (the last one again and again), or as ``choose`` says.

    A step is bytes to send, RESET, CLOSE, STALL (until the peer goes away), or a function to wait for something.
    """

    scripts: list[list[Step]]
    choose: Callable[[Seen], list[Step]] | None = None
    seen: list[Seen] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    connections: int = 0
    port: int = 0
    _sockets: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tls: Any = None

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._connection, args=(sock, self.connections), daemon=True).start()

    def _connection(self, raw: socket.socket, number: int) -> None:
        sock = raw
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(raw, server_side=True)
            self._sockets.add(sock)
            self._requests(sock, number)
        except (OSError, ValueError):
            pass
        finally:
            sock.close()
            raw.close()

    def _requests(self, sock: socket.socket, number: int) -> None:
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = sock.recv(65536)
                if not data:
                    return
                buffer += data
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n")[1:]:
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            while len(buffer) < length:
                data = sock.recv(65536)
                if not data:
                    return
                buffer += data
            body, buffer = buffer[:length], buffer[length:]
            with self._lock:
                index = len(self.seen)
                self.seen.append(Seen(head.decode("latin-1"), body, number))
                chosen = self.choose(self.seen[-1]) if self.choose else self.scripts[min(index, len(self.scripts) - 1)]
            if not self._follow(sock, chosen):
                return

    def _follow(self, sock: socket.socket, steps: list[Step]) -> bool:
        for step in steps:
            if callable(step):
                step(self)
            elif step == RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                return False
            elif step == CLOSE:
                sock.close()
                return False
            elif step == STALL:
                with contextlib.suppress(OSError):
                    while sock.recv(65536):
                        pass
                self.gone.set()
                sock.close()
                return False
            else:
                assert isinstance(step, bytes)
                sock.sendall(step)
        return True


@contextlib.contextmanager
def upstream(
    *scripts: list[Step], tls: Any = None, choose: Callable[[Seen], list[Step]] | None = None
) -> Iterator[Scripted]:
    """A scripted upstream on a free loopback port."""
    scripted = Scripted(list(scripts) or [[]], choose, _tls=tls)
    with listening() as listener:
        scripted.port = listener.getsockname()[1]
        thread = threading.Thread(target=scripted._serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield scripted
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            for sock in list(scripted._sockets):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sock.close()


def http(status: int, body: Any, kind: str = "application/json", **headers: str) -> bytes:
    """A sized HTTP answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + raw


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sse(data: Any, name: str = "") -> bytes:
    """One server-sent event in one chunk."""
    text = data if isinstance(data, str) else json.dumps(data)
    return chunk((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode())


def chat_delta(**delta: Any) -> bytes:
    return sse({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]})


CHAT_FINISH = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
CHAT_END = CHAT_FINISH + sse("[DONE]")
CHAT_BODY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
CHAT_STREAM: list[Step] = [
    STREAM_HEAD,
    chat_delta(role="assistant", content="") + chat_delta(content="hel"),
    chat_delta(content="lo"),
    CHAT_END + LAST,
]
ANTHROPIC_BODY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


def anthropic_event(kind: str, **data: Any) -> bytes:
    return sse({"type": kind, **data}, kind)


ANTHROPIC_START = anthropic_event(
    "message_start",
    message={**ANTHROPIC_BODY, "content": [], "stop_reason": None, "usage": {"input_tokens": 3, "output_tokens": 1}},
)
ANTHROPIC_TEXT = (
    anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"})
    + anthropic_event("content_block_stop", index=0)
)
ANTHROPIC_END = anthropic_event(
    "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 1}
) + anthropic_event("message_stop")
ANTHROPIC_STREAM: list[Step] = [STREAM_HEAD, ANTHROPIC_START, ANTHROPIC_TEXT + ANTHROPIC_END + LAST]


def response_event(kind: str, **data: Any) -> bytes:
    return sse({"type": f"response.{kind}", **data}, f"response.{kind}")


_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
_SAID = {"type": "output_text", "text": "hello", "annotations": []}
RESPONSES_BODY = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "m",
    "output": [{**_MESSAGE, "content": [_SAID]}],
    "usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
}
RESPONSES_START = response_event(
    "created", response={**RESPONSES_BODY, "status": "in_progress", "output": [], "usage": None}
)
RESPONSES_TEXT = (
    response_event("output_item.added", output_index=0, item={**_MESSAGE, "status": "in_progress", "content": []})
    + response_event("content_part.added", item_id="msg_1", output_index=0, content_index=0, part={**_SAID, "text": ""})
    + response_event("output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta="hello", logprobs=[])
)
RESPONSES_END = (
    response_event("output_text.done", item_id="msg_1", output_index=0, content_index=0, text="hello", logprobs=[])
    + response_event("content_part.done", item_id="msg_1", output_index=0, content_index=0, part=_SAID)
    + response_event("output_item.done", output_index=0, item={**_MESSAGE, "content": [_SAID]})
    + response_event("completed", response=RESPONSES_BODY)
)
RESPONSES_STREAM: list[Step] = [STREAM_HEAD, RESPONSES_START, RESPONSES_TEXT, RESPONSES_END + LAST]


def gemini_chunk(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}]}


_USED = {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1, "totalTokenCount": 4}}
GEMINI_BODY = {**gemini_chunk({"text": "hello"}, finishReason="STOP"), **_USED}
GEMINI_TEXT = sse(gemini_chunk({"text": "hel"}))
GEMINI_STREAM: list[Step] = [
    STREAM_HEAD,
    GEMINI_TEXT,
    sse({**gemini_chunk({"text": "lo"}, finishReason="STOP"), **_USED}) + LAST,
]

RESPONSES_ASK = {"model": "m", "input": "hi"}
GEMINI_ASK = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
ANTHROPIC_ASK = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
CHAT_ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def behind(scripted: Scripted, form: str, **more: Any) -> dict[str, Any]:
    """A configuration with one upstream of that format: the scripted one."""
    suffix = "/v1" if form.startswith("openai") else ""
    entry = {"format": form, "base_url": f"http://127.0.0.1:{scripted.port}{suffix}", "keys": ["upstream-key-one"]}
    return {"upstreams": {"up": {**entry, **more}}}


@dataclass(frozen=True)
class Wire:
    """One format as raw HTTP: where a client asks, what it asks, how an upstream answers, and begins to answer."""

    path: str
    stream_path: str
    ask: dict[str, Any]
    body: dict[str, Any]
    stream: list[Step]
    begun: list[Step]
    options: dict[str, Any] = field(default_factory=dict)

    def asked(self, stream: bool) -> tuple[str, dict[str, Any]]:
        """Path and body of a question."""
        if not stream:
            return self.path, self.ask
        return self.stream_path, {**self.ask, **self.options}


_CHAT_USED = sse({"choices": [], "usage": CHAT_BODY["usage"]})
WIRES = {
    "anthropic": Wire(
        "/v1/messages",
        "/v1/messages",
        ANTHROPIC_ASK,
        ANTHROPIC_BODY,
        ANTHROPIC_STREAM,
        [STREAM_HEAD, ANTHROPIC_START + ANTHROPIC_TEXT],
        {"stream": True},
    ),
    "openai-responses": Wire(
        "/v1/responses",
        "/v1/responses",
        RESPONSES_ASK,
        RESPONSES_BODY,
        RESPONSES_STREAM,
        [STREAM_HEAD, RESPONSES_START + RESPONSES_TEXT],
        {"stream": True},
    ),
    "openai-chat": Wire(
        "/v1/chat/completions",
        "/v1/chat/completions",
        CHAT_ASK,
        CHAT_BODY,
        [*CHAT_STREAM[:-1], CHAT_FINISH + _CHAT_USED + sse("[DONE]") + LAST],
        [STREAM_HEAD, chat_delta(role="assistant", content="hel")],
        {"stream": True, "stream_options": {"include_usage": True}},
    ),
    "gemini": Wire(
        "/v1beta/models/m:generateContent",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        GEMINI_ASK,
        GEMINI_BODY,
        GEMINI_STREAM,
        [STREAM_HEAD, GEMINI_TEXT],
    ),
}
