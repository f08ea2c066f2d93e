"""The embedded service on a loopback socket: it speaks every format, and repeats what was sent (``echo_answers``).

It also counts tokens and lists its models. ``demo`` and the tests run on it. Its URLs are in ``providers.echo``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ccproxy_lite.errors import ClientError, kind_of
from ccproxy_lite.formats import Format, detect_format, formats_at
from ccproxy_lite.formats.format import ReplyInfo
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.net.address import Address
from ccproxy_lite.net.application import Limits, Response
from ccproxy_lite.net.bodies import IncomingBody
from ccproxy_lite.net.connection import Connection
from ccproxy_lite.net.heads import RequestHead
from ccproxy_lite.net.listener import serve
from ccproxy_lite.relay.headers import JSON_HEADERS

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Request

MODELS = ["echo", "echo-thinking"]


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """The address of an embedded service, until the block ends."""
    async with serve(Echo(), Limits(), [Address("127.0.0.1", 0)]) as listener:
        yield f"http://127.0.0.1:{listener.port}"


class Echo:
    """Implements ``net.connection.Application``."""

    def admit(self, head: RequestHead) -> Any:
        return None

    def reject(self, head: RequestHead | None, status: int, message: str) -> Response:
        return Response(status, JSON_HEADERS, dumps({"error": {"message": message}}).encode())

    async def serve(self, head: RequestHead, admitted: Any, body: bytes | IncomingBody, client: Connection) -> None:
        assert isinstance(body, bytes), "nothing is streamed to the echo"
        if head.method == "GET" and head.path.endswith("/models"):
            lister = detect_format(head.get, head.query, head.path)
            listed = lister.write_models([ModelInfo(model) for model in MODELS], 1_700_000_000)
            client.respond(Response(200, JSON_HEADERS, dumps(listed).encode()))
            return
        readings = ((form, form.read_path(head.raw_path, head.query)) for form in formats_at(head.path))
        reading = next(((form, path) for form, path in readings if path is not None), None)
        form = reading[0] if reading else detect_format(head.get, head.query, head.path)
        try:
            if reading is None or reading[1].action == "compact":
                raise ClientError(404, f"unknown endpoint: {head.path}")
            request = form.read_request(loads(body), reading[1])
            if reading[1].action == "count":
                from ccproxy_lite.formats.neutral.tokens import estimate

                client.respond(Response(200, JSON_HEADERS, dumps(form.write_count(estimate(request))).encode()))
            else:
                self._send_answer(form, request, client)
        except (ClientError, ValueError) as error:
            status = error.status if isinstance(error, ClientError) else 400
            status, answer = form.write_error(Failed(status, kind_of(status), str(error)))
            client.respond(Response(status, JSON_HEADERS, dumps(answer).encode()))

    def _send_answer(self, form: Format, request: Request, client: Connection) -> None:
        from ccproxy_lite.server.echo_answers import answer  # which needs all that converters need

        reply = ReplyInfo(request, os.urandom(12).hex(), int(time.time()))
        events = answer(request, form.name)
        if not request.stream:
            client.respond(Response(200, JSON_HEADERS, dumps(form.write_body(events, reply)).encode()))
            return
        writer = form.writer(reply)
        client.begin(200, [("content-type", "text/event-stream")])
        for event in events:
            client.write(writer.write(event))
        client.finish()
