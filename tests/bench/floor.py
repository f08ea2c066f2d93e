"""The least that a proxy on h11 and asyncio can cost: a yardstick, not a product.

``python -m tests.bench.floor relay|conv PORT UPSTREAM_PORT``

``relay``
    heads by h11, the body of a streamed answer passed on as it comes (same format)
``conv``
    heads by h11, chunked framing by hand, one conversion and one write for each read: ``/v1/messages`` to Chat,
    ``/v1/chat/completions`` to Anthropic, ``/v1/responses`` to Chat, Gemini's path to Anthropic

The happy path and text only: no errors, keys, routes, limits or logs.
"""

import asyncio
import json
import sys

import h11

HOP = {b"connection", b"transfer-encoding", b"content-length", b"host", b"keep-alive"}
POOL: dict = {}
enc = json.encoder.encode_basestring_ascii
loads, dumps = json.loads, json.dumps


async def next_ev(c, r):
    while True:
        e = c.next_event()
        if e is not h11.NEED_DATA:
            return e
        c.receive_data(await r.read(65536))


async def serve(r, w, conv):
    c = h11.Connection(h11.SERVER)
    while True:
        req = await next_ev(c, r)
        if type(req) is not h11.Request:
            return
        parts = []
        while type(e := await next_ev(c, r)) is h11.Data:
            parts.append(bytes(e.data))
        body, target, port, sse_conv, back = b"".join(parts), req.target, UP, None, None
        if conv:
            if target == b"/v1/messages":
                a = loads(body)
                body, target, sse_conv, back = anth_to_chat(a), b"/v1/chat/completions", ChatToAnth, chat_to_anth
            elif target == b"/v1/chat/completions":
                body, target, sse_conv = chat_to_anth_request(loads(body)), b"/v1/messages", AnthToChat
            elif target == b"/v1/responses":
                body, target, sse_conv = resp_to_chat(loads(body)), b"/v1/chat/completions", ChatToResp
            else:
                body, target, sse_conv = gem_to_anth(loads(body)), b"/v1/messages", AnthToGem
        hs = [(k, v) for k, v in req.headers if k not in HOP] + [
            (b"host", b"127.0.0.1"),
            (b"content-length", b"%d" % len(body)),
        ]
        pool = POOL.setdefault(port, [])
        ur, uw = pool.pop() if pool else await asyncio.open_connection("127.0.0.1", port)
        u = h11.Connection(h11.CLIENT)
        uw.write(
            u.send(h11.Request(method="POST", target=target, headers=hs))
            + u.send(h11.Data(data=body))
            + u.send(h11.EndOfMessage())
        )
        await uw.drain()
        resp = await next_ev(u, ur)
        rh = [(k, v) for k, v in resp.headers if k not in HOP]
        if not any(k == b"content-type" and v.startswith(b"text/event-stream") for k, v in resp.headers):
            parts = []
            while type(e := await next_ev(u, ur)) is h11.Data:
                parts.append(bytes(e.data))
            out = b"".join(parts)
            if back:
                out = back(loads(out))
            w.write(
                c.send(h11.Response(status_code=resp.status_code, headers=rh + [(b"content-length", b"%d" % len(out))]))
                + c.send(h11.Data(data=out))
                + c.send(h11.EndOfMessage())
            )
            await w.drain()
            pool.append((ur, uw))
            c.start_next_cycle()
            continue
        w.write(c.send(h11.Response(status_code=resp.status_code, headers=rh + [(b"transfer-encoding", b"chunked")])))
        await w.drain()
        data = u.trailing_data[0]
        if conv:
            st, dec = sse_conv(), Dechunk()
            while True:
                raw, end = dec.feed(data)
                out = st.feed(raw)
                if out:
                    w.write(b"%x\r\n%s\r\n" % (len(out), out))
                    await w.drain()
                if end:
                    break
                data = await ur.read(65536)
            w.write(b"0\r\n\r\n")
            await w.drain()
        else:
            tail = b""
            while True:
                if data:
                    w.write(data)
                    await w.drain()
                    tail = data[-5:] if len(data) >= 5 else (tail + data)[-5:]
                if tail == b"0\r\n\r\n":
                    break
                data = await ur.read(65536)
        pool.append((ur, uw))
        c = h11.Connection(h11.SERVER)  # the h11 object has not seen the body: start afresh


class Dechunk:
    """Incremental chunked decoder; feed() returns (bytes decoded, ended)."""

    def __init__(self):
        self.b = b""

    def feed(self, d):
        b = self.b + d if self.b else d
        out, pos, n = [], 0, len(b)
        while True:
            i = b.find(b"\r\n", pos)
            if i < 0:
                break
            size = int(b[pos:i], 16)
            if size == 0:
                if n < i + 4:
                    break
                return b"".join(out), True
            e = i + 2 + size
            if e + 2 > n:
                break
            out.append(b[i + 2 : e])
            pos = e + 2
        self.b = b[pos:]
        return b"".join(out), False


# ---- requests and plain answers ---------------------------------------------------------------------
def anth_to_chat(a):
    ms = []
    if s := a.get("system"):
        ms.append({"role": "system", "content": s if isinstance(s, str) else "".join(x["text"] for x in s)})
    for m in a["messages"]:
        ct = m["content"]
        if isinstance(ct, str):
            ms.append({"role": m["role"], "content": ct})
            continue
        text, calls = [], []
        for b in ct:
            if b["type"] == "text":
                text.append(b["text"])
            elif b["type"] == "tool_use":
                calls.append(
                    {"id": b["id"], "type": "function", "function": {"name": b["name"], "arguments": dumps(b["input"])}}
                )
            elif b["type"] == "tool_result":
                x = b.get("content") or ""
                ms.append(
                    {
                        "role": "tool",
                        "tool_call_id": b["tool_use_id"],
                        "content": x if isinstance(x, str) else "".join(y.get("text", "") for y in x),
                    }
                )
        if text or calls:
            o = {"role": m["role"], "content": "".join(text) or None}
            if calls:
                o["tool_calls"] = calls
            ms.append(o)
    o = {"model": "gpt-x", "messages": ms, "max_tokens": a["max_tokens"]}
    if a.get("tools"):
        o["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": t["name"],
                    "description": t.get("description", ""),
                    "parameters": t["input_schema"],
                },
            }
            for t in a["tools"]
        ]
    if a.get("stream"):
        o["stream"], o["stream_options"] = True, {"include_usage": True}
    return dumps(o).encode()


def chat_to_anth(o):
    u, m = o["usage"], o["choices"][0]["message"]
    return dumps(
        {
            "id": o["id"],
            "type": "message",
            "role": "assistant",
            "model": o["model"],
            "content": [{"type": "text", "text": m["content"]}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": u["prompt_tokens"], "output_tokens": u["completion_tokens"]},
        }
    ).encode()


def chat_to_anth_request(o):
    sysm = [m["content"] for m in o["messages"] if m["role"] == "system"]
    return dumps(
        {
            "model": "claude-x",
            "max_tokens": o.get("max_tokens", 8192),
            "system": "\n".join(sysm),
            "stream": True,
            "messages": [m for m in o["messages"] if m["role"] != "system"],
        }
    ).encode()


def resp_to_chat(o):
    return dumps(
        {
            "model": "gpt-x",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "system", "content": o["instructions"]}, {"role": "user", "content": o["input"]}],
        }
    ).encode()


def gem_to_anth(o):
    return dumps(
        {
            "model": "claude-x",
            "max_tokens": 8192,
            "stream": True,
            "system": "".join(p["text"] for p in o["systemInstruction"]["parts"]),
            "messages": [
                {
                    "role": "assistant" if m["role"] == "model" else "user",
                    "content": [{"type": "text", "text": p["text"]} for p in m["parts"]],
                }
                for m in o["contents"]
            ],
        }
    ).encode()


# ---- streams -------------------------------------------------------------------------------------------
class Sse:
    """Splits SSE into data lines, hands each to one() as a parsed object (None for [DONE])."""

    def __init__(self):
        self.b, self.first = b"", True

    def feed(self, d):
        lines = (self.b + d if self.b else d).split(b"\n")
        self.b = lines.pop()
        out = []
        for ln in lines:
            if ln.startswith(b"data: "):
                self.one(None if ln.startswith(b"data: [DONE]") else loads(ln[6:]), out.append)
        return b"".join(out)


def ev(o):
    return b"event: %s\ndata: %s\n\n" % (o["type"].encode(), dumps(o).encode())


class ChatToAnth(Sse):
    PRE = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
    usage: dict | None = None

    def one(self, o, out):
        if o is None:
            return out(
                ev({"type": "content_block_stop", "index": 0})
                + ev(
                    {
                        "type": "message_delta",
                        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                        "usage": {"output_tokens": (self.usage or {}).get("completion_tokens", 0)},
                    }
                )
                + ev({"type": "message_stop"})
            )
        if self.first:
            self.first = False
            out(
                ev(
                    {
                        "type": "message_start",
                        "message": {
                            "id": o["id"],
                            "type": "message",
                            "role": "assistant",
                            "model": o["model"],
                            "content": [],
                            "stop_reason": None,
                            "stop_sequence": None,
                            "usage": {"input_tokens": 0, "output_tokens": 0},
                        },
                    }
                )
                + ev({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            )
        if o.get("usage"):
            self.usage = o["usage"]
        for ch in o["choices"]:
            if t := ch["delta"].get("content"):
                out(self.PRE + enc(t).encode() + b"}}\n\n")


class AnthToChat(Sse):
    def one(self, o, out):
        t = o["type"]
        if t == "content_block_delta":
            out(self.pre + enc(o["delta"]["text"]).encode() + b'},"finish_reason":null}]}\n\n')
        elif t == "message_start":
            m = o["message"]
            head = dumps(
                {"id": m["id"], "object": "chat.completion.chunk", "created": 1700000000, "model": m["model"]}
            )[:-1]
            self.pre = b"data: " + head.encode() + b',"choices":[{"index":0,"delta":{"content":'
            self.head = head
            out(
                b"data: "
                + head.encode()
                + b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
            )
        elif t == "message_delta":
            out(b"data: " + self.head.encode() + b',"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
        elif t == "message_stop":
            out(b"data: [DONE]\n\n")


class AnthToGem(Sse):
    def one(self, o, out):
        t = o["type"]
        if t == "content_block_delta":
            out(b'data: {"candidates":[{"content":{"parts":[{"text":' + enc(o["delta"]["text"]).encode() + self.suf)
        elif t == "message_start":
            m = o["message"]
            self.suf = (
                b'}],"role":"model"},"index":0}],"modelVersion":'
                + enc(m["model"]).encode()
                + b',"responseId":'
                + enc(m["id"]).encode()
                + b"}\r\n\r\n"
            )
        elif t == "message_delta":
            out(
                b"data: "
                + dumps(
                    {
                        "candidates": [
                            {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0}
                        ],
                        "usageMetadata": {"candidatesTokenCount": o["usage"]["output_tokens"]},
                    }
                ).encode()
                + b"\r\n\r\n"
            )


class ChatToResp(Sse):
    PRE = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":'
    MID = b',"item_id":"msg_1","output_index":0,"content_index":0,"logprobs":[],"delta":'
    usage: dict | None = None

    def e(self, t, **kw):
        self.seq += 1
        return ev({"type": t, "sequence_number": self.seq, **kw})

    def resp(self, status, output):
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1700000000,
            "status": status,
            "model": self.model,
            "output": output,
            "usage": None,
        }

    def one(self, o, out):
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        if o is None:
            text = "".join(self.text)
            part = {"type": "output_text", "text": text, "annotations": []}
            item = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}
            return out(
                self.e("response.output_text.done", **at, text=text)
                + self.e("response.content_part.done", **at, part=part)
                + self.e("response.output_item.done", output_index=0, item=item)
                + self.e("response.completed", response=self.resp("completed", [item]))
            )
        if self.first:
            self.first, self.seq, self.model, self.text = False, -1, o["model"], []
            out(
                self.e("response.created", response=self.resp("in_progress", []))
                + self.e("response.in_progress", response=self.resp("in_progress", []))
                + self.e(
                    "response.output_item.added",
                    output_index=0,
                    item={
                        "type": "message",
                        "id": "msg_1",
                        "status": "in_progress",
                        "role": "assistant",
                        "content": [],
                    },
                )
                + self.e(
                    "response.content_part.added", **at, part={"type": "output_text", "text": "", "annotations": []}
                )
            )
        for ch in o["choices"]:
            if t := ch["delta"].get("content"):
                self.text.append(t)
                self.seq += 1
                out(self.PRE + b"%d" % self.seq + self.MID + enc(t).encode() + b"}\n\n")


async def main(conv, port):
    async def client(r, w):
        try:
            await serve(r, w, conv)
        except (OSError, h11.ProtocolError):
            pass
        finally:
            w.close()

    srv = await asyncio.start_server(client, "127.0.0.1", port, backlog=2048)
    async with srv:
        await srv.serve_forever()


if __name__ == "__main__":
    PORT, UP = map(int, sys.argv[2:4])
    try:
        asyncio.run(main(sys.argv[1] == "conv", PORT))
    except KeyboardInterrupt:
        pass
