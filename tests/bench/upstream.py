"""A fast service that does not exist: Anthropic Messages and OpenAI Chat Completions on one port.

``python -m tests.bench.upstream PORT``

    POST .../messages            Anthropic, whole or streamed
    POST .../chat/completions    OpenAI Chat, whole or streamed (with usage if asked for)
    GET  .../models              a list of models
    POST /_ctl                   JSON that replaces the settings

Settings: ``chunks`` (pieces of text in a stream), ``size`` (characters of each), ``delay_ms`` (between two writes; 0: as
fast as the connection takes them), ``burst`` (pieces in each write). A piece begins with ``T<nanoseconds>Z`` of the
machine's monotonic clock, so that a client can tell its delay whatever was done to the envelope. One HTTP chunk for
each event, keep-alive.
"""

import asyncio
import json
import re
import sys
import time

DEFAULTS = dict(chunks=20, size=20, delay_ms=0.0, burst=1)
S = dict(DEFAULTS)
NOW = time.monotonic_ns
RE_STREAM = re.compile(rb'"stream"\s*:\s*true')
RE_USAGE = re.compile(rb'"include_usage"\s*:\s*true')
MARK = "\x01MARK\x01"
MODEL = "fake-model-1"


def dumps(o):
    return json.dumps(o, separators=(",", ":"), ensure_ascii=False)


def text():
    return ("x" * (S["size"] - 1) + " ") * S["chunks"]


def chat_usage():
    n = S["chunks"]
    return {
        "prompt_tokens": 25,
        "completion_tokens": n,
        "total_tokens": 25 + n,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def anth_usage():
    return {
        "input_tokens": 25,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": S["chunks"],
    }


def full(fmt):
    if fmt == "anth":
        return {
            "id": "msg_01fake",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [{"type": "text", "text": text()}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": anth_usage(),
        }
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text(), "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": chat_usage(),
        "system_fingerprint": "fp_fake",
    }


def stream_events(fmt, include_usage):
    """(events before, the text event with MARK in it, events after)"""
    if fmt == "anth":

        def ev(obj):
            return f"event: {obj['type']}\ndata: {dumps(obj)}\n\n"

        head = [
            ev(
                {
                    "type": "message_start",
                    "message": {
                        **full("anth"),
                        "content": [],
                        "stop_reason": None,
                        "usage": {**anth_usage(), "output_tokens": 1},
                    },
                }
            ),
            ev({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ev({"type": "ping"}),
        ]
        tail = [
            ev({"type": "content_block_stop", "index": 0}),
            ev(
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": anth_usage(),
                }
            ),
            ev({"type": "message_stop"}),
        ]
        return (
            head,
            ev({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": MARK}}),
            tail,
        )

    def chunk(delta, finish=None, **kw):
        d = {
            "id": "chatcmpl-fake",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": MODEL,
            "system_fingerprint": "fp_fake",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }
        if include_usage:
            d["usage"] = None
        return "data: " + dumps({**d, **kw}) + "\n\n"

    tail = (
        [chunk({}, "stop")]
        + ([chunk({}, choices=[], usage=chat_usage())] if include_usage else [])
        + ["data: [DONE]\n\n"]
    )
    return [chunk({"role": "assistant", "content": ""})], chunk({"content": MARK}), tail


def hchunk(b):
    return b"%x\r\n%s\r\n" % (len(b), b)


class Plan:
    def __init__(self, fmt, include_usage):
        head, item, tail = stream_events(fmt, include_usage)
        self.head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
            b"x-request-id: req_fake\r\nTransfer-Encoding: chunked\r\n\r\n"
        ) + b"".join(hchunk(h.encode()) for h in head)
        a, b = item.split(dumps(MARK)[1:-1])
        self.pre, self.suf = a.encode(), b.encode()
        self.tail = b"".join(hchunk(t.encode()) for t in tail) + b"0\r\n\r\n"
        self.n, self.burst = S["chunks"], S["burst"]
        self.filler = b"x" * (S["size"] - 1) + b" "

    def chunk(self):
        m = b"T%dZ" % NOW()
        return hchunk(self.pre + m + self.filler[len(m) :] + b" " + self.suf)


_cache: dict = {}


def plan(fmt, include_usage):
    k = (fmt, include_usage)
    if k not in _cache:
        _cache[k] = Plan(fmt, include_usage)
    return _cache[k]


def response(obj, status=200):
    b = dumps(obj).encode()
    return (
        b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nx-request-id: req_fake\r\nContent-Length: %d\r\n\r\n%s"
        % (status, len(b), b)
    )


def full_response(fmt):
    if fmt not in _cache:
        _cache[fmt] = response(full(fmt))
    return _cache[fmt]


class Upstream(asyncio.Protocol):
    def __init__(self, loop):
        self.loop, self.buf, self.busy, self.hdr, self.timer = loop, bytearray(), False, None, None
        self.paused = self.closed = False
        self.job = None

    def connection_made(self, t):
        self.t = t
        t.set_write_buffer_limits(high=256 * 1024)

    def connection_lost(self, exc):
        self.closed = True
        if self.timer:
            self.timer.cancel()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        if self.job and not S["delay_ms"]:
            self.pump()

    def data_received(self, data):
        self.buf += data
        if not self.busy:
            self.parse()

    def parse(self):
        buf = self.buf
        if self.hdr is None:
            i = buf.find(b"\r\n\r\n")
            if i < 0:
                return
            lines = bytes(buf[:i]).split(b"\r\n")
            del buf[: i + 4]
            method, path, _ = lines[0].decode("latin-1").split(" ", 2)
            h = {}
            for ln in lines[1:]:
                k, _, v = ln.partition(b":")
                h[k.decode("latin-1").lower()] = v.strip().decode("latin-1")
            self.hdr = (method, path, h)
            self.chunked = "chunked" in h.get("transfer-encoding", "").lower()
            self.need = int(h.get("content-length") or 0)
            self.parts = []
            if h.get("expect", "").lower() == "100-continue":
                self.t.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.chunked:
            body = self.dechunk()
            if body is None:
                return
        else:
            if len(buf) < self.need:
                return
            body = bytes(buf[: self.need])
            del buf[: self.need]
        (method, path, h), self.hdr = self.hdr, None
        self.busy = True
        self.keep = h.get("connection", "").lower() != "close"
        self.handle(method, path, h, body)

    def dechunk(self):
        buf, pos = self.buf, 0
        while True:
            i = buf.find(b"\r\n", pos)
            if i < 0:
                break
            n = int(bytes(buf[pos:i]).split(b";")[0], 16)
            if n == 0:
                j = buf.find(b"\r\n", i + 2)
                if j < 0:
                    break
                del buf[: j + 2]
                return b"".join(self.parts)
            if len(buf) < i + n + 4:
                break
            self.parts.append(bytes(buf[i + 2 : i + 2 + n]))
            pos = i + n + 4
        del buf[:pos]
        return None

    def done(self):
        self.busy = False
        self.job = None
        if not self.keep:
            self.t.close()
        elif self.buf:
            self.parse()

    def reply(self, raw):
        self.t.write(raw)
        self.done()

    def handle(self, method, path, h, body):
        p = path.partition("?")[0]
        if p == "/_ctl":
            new = json.loads(body or b"{}")
            S.clear()
            S.update({**DEFAULTS, **new})
            _cache.clear()
            return self.reply(response(S))
        if method == "GET" and p.endswith("/models"):
            return self.reply(
                response(
                    {
                        "object": "list",
                        "has_more": False,
                        "data": [{"id": "gpt-x", "object": "model", "created": 1700000000, "owned_by": "fake"}],
                    }
                )
            )
        if p.endswith("/messages"):
            fmt = "anth"
        elif p.endswith("/chat/completions"):
            fmt = "chat"
        else:
            return self.reply(response({"error": {"message": "no such path " + p, "type": "not_found_error"}}, 404))
        if not RE_STREAM.search(body):
            return self.reply(full_response(fmt))
        self.job = [plan(fmt, fmt == "chat" and bool(RE_USAGE.search(body))), 0]
        self.t.write(self.job[0].head)
        if S["delay_ms"]:
            self.timer = self.loop.call_later(S["delay_ms"] / 1e3, self.tick, self.loop.time())
        else:
            self.pump()

    def some(self, job):
        pl, i = job
        k = min(pl.burst, pl.n - i)
        job[1] = i + k
        return pl.chunk() if k == 1 else b"".join([pl.chunk() for _ in range(k)])

    def tick(self, due):
        job = self.job
        if self.closed or job is None:
            return
        if job[1] < job[0].n:
            self.t.write(self.some(job))
            due += S["delay_ms"] / 1e3  # keeps the cadence against drift
            self.timer = self.loop.call_at(max(due + S["delay_ms"] / 1e3, self.loop.time()), self.tick, due)
        else:
            self.t.write(job[0].tail)
            self.done()

    def pump(self):
        job = self.job
        pl, w = job[0], self.t.write
        while not self.paused and not self.closed:
            if job[1] >= pl.n:
                w(pl.tail)
                return self.done()
            w(self.some(job))


async def main(port):
    loop = asyncio.get_running_loop()
    srv = await loop.create_server(lambda: Upstream(loop), "127.0.0.1", port, backlog=2048)
    async with srv:
        await srv.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1])))
    except KeyboardInterrupt:
        pass
