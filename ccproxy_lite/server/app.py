"""Requests in, responses out: what is rejected at once, and which handler responds to the others.

``access`` decides who may send a request, ``paths`` what a URL stands for. Here both are put together, and whatever
goes wrong becomes a response in the client's format, a line of the log and a number in the metrics.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable

from ccproxy_lite.errors import DISCONNECTED, ClientError, kind_of
from ccproxy_lite.formats import DEFAULT_FORMAT, FORMATS, Format, owner_of
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.log import internal_error, log
from ccproxy_lite.net.application import Response, Streamed
from ccproxy_lite.net.bodies import IncomingBody
from ccproxy_lite.net.connection import Connection
from ccproxy_lite.net.heads import OutHeaders, RequestHead
from ccproxy_lite.net.listener import Listener
from ccproxy_lite.relay import counting, messages, mounts, raw, stored
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.headers import JSON_HEADERS, REQUEST_ID
from ccproxy_lite.relay.record import Record
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.streams import failed_of
from ccproxy_lite.routing.routes import pinned, suggestion
from ccproxy_lite.server import accesslog
from ccproxy_lite.server.access import Access, check_body_type
from ccproxy_lite.server.metrics import PROMETHEUS_CONTENT_TYPE
from ccproxy_lite.server.paths import STREAMED, Action, Endpoint, Match, endpoint_for, match
from ccproxy_lite.server.status import ServerState, clear_cooldowns, overview, render_metrics

_STARTED = int(time.time())
_UNLOGGED: tuple[Action, ...] = ("root", "health", "status", "metrics")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_NO_RETRY: OutHeaders = [("x-should-retry", "false")]
"""A client would go on with a wrong key for minutes."""
_NOSNIFF: OutHeaders = [("x-content-type-options", "nosniff")]


class App:
    """Implements ``net.connection.Application`` for one configuration.

    :ivar listener: where it is served, once it is
    """

    def __init__(self, relay: Relay, access: Access, server_state: ServerState) -> None:
        self.relay = relay
        self.access = access
        self.server_state = server_state
        self.listener: Listener | None = None
        self._id_prefix, self._requests = os.urandom(6).hex(), 0

    # --- net.connection.Application

    def admit(self, head: RequestHead) -> Response | Streamed | Match:
        """Reject a request before its body is read, or return what its URL stands for."""
        matched = self._match(head)
        try:
            # Browsers ask before they send; an allowed origin needs no key for that.
            if (self.access.is_preflight(head) and matched.mount is None) or head.raw_path == "*":
                return Response(204, [*self.access.cors(head), *_NOSNIFF, (REQUEST_ID, self._request_id(head))])
            self.access.check_source(head)
            if self._find_endpoint(head, matched).action in STREAMED:
                return Streamed(matched)
            if head.method == "POST":
                check_body_type(head)
        except ClientError as error:
            return self._error_response(head, matched, error)
        return matched

    def reject(self, head: RequestHead | None, status: int, message: str) -> Response:
        """The response to a request that broke the protocol or a limit."""
        matched = self._match(head) if head else None
        return self._error_response(head, matched, ClientError(status, message))

    async def serve(self, head: RequestHead, matched: Match, body: bytes | IncomingBody, client: Connection) -> None:
        """Respond to a request; whatever goes wrong, the client gets it in its own format."""
        record = Record(method=head.method, path=head.path, started_at=self.relay.clock.now())
        record.request_id = self._request_id(head)
        is_unlogged = matched.endpoint is not None and matched.endpoint.action in _UNLOGGED
        if not is_unlogged:
            self.server_state.metrics.begin(record)
        client.extra_headers = [*_NOSNIFF, (REQUEST_ID, record.request_id)]
        if matched.mount is None:
            client.extra_headers += self.access.cors(head)
        form = self._client_format(head, matched)
        try:
            endpoint = self._find_endpoint(head, matched)  # once more: while the body came, the keys may have changed
            record.format = form.name if endpoint.format else ""
            call = Call(form, head, b"", client, record, self.relay.vault, endpoint.path_info)
            call.pinned_upstream, call.named_session = matched.pinned_upstream, matched.session
            if isinstance(body, IncomingBody):
                call.incoming, call.raw_path = body, matched.raw_path
            else:
                call.raw_body = body
            if matched.mount is not None:
                await mounts.through_mount(self.relay, call, matched.mount)
            else:
                await _HANDLERS[endpoint.action](self, call)
        except ClientError as error:
            # Log and metrics keep this status even where the client's format has another for it (Gemini: 400 for 413).
            record.status, record.error = error.status, error.message
            self._send_error(client, form, failed_of(error))
        except RecursionError:
            record.status, record.error = 400, "nested too deep"
            self._send_error(client, form, Failed(400, "bad_request", "the body is nested too deep"))
        except Exception as error:
            record.status, record.error = 500, internal_error(error)
            self._send_error(client, form, Failed(500, "server", record.error))
        finally:
            # Cancelled: by a shutdown, or because the client has disconnected.
            if not record.status and client.cut:
                record.status, record.error = 503, "interrupted by shutdown"
                self._send_error(client, form, Failed(503, "overloaded", "the proxy is shutting down"))
            elif not record.status:
                record.status, record.error = DISCONNECTED, "client disconnected"
            now = self.relay.clock.now()
            if not is_unlogged:
                self.server_state.metrics.end(record, now, self.relay.clock.wall())
            accesslog.access(record, now, is_quiet=is_unlogged and record.status < 400)

    # ---

    def _match(self, head: RequestHead) -> Match:
        return match(head.path, head.raw_path, head.query, self.relay.config.mounts)

    def _client_format(self, head: RequestHead, matched: Match) -> Format:
        """The format of the endpoint, or, where it serves all of them, the one that the request looks like."""
        endpoint = matched.endpoint
        if endpoint is not None and endpoint.format:
            return FORMATS[endpoint.format]
        # Below a vendor's name, its models are listed as the vendor lists them.
        theirs = self.relay.config.vendors.get(matched.pinned_upstream)
        if theirs is not None and endpoint is not None and endpoint.action in ("models", "model"):
            return FORMATS[theirs[-1]]
        return FORMATS[owner_of(matched.path, head.query, head.get).format]

    def _find_endpoint(self, head: RequestHead, matched: Match) -> Endpoint:
        """The endpoint, if it exists and the client may use it. Raises ClientError."""
        if matched.pinned_upstream:
            pinned(self.relay.config, matched.pinned_upstream, "")
        endpoint = endpoint_for(
            matched, head.method, head.path, upgrades=(head.get("upgrade") or "").lower() == "websocket"
        )
        if not endpoint.open:
            self.access.check_key(head)
        return endpoint

    def _error_response(self, head: RequestHead | None, matched: Match | None, error: ClientError) -> Response:
        form = self._client_format(head, matched) if head and matched else FORMATS[DEFAULT_FORMAT]
        status, body = form.write_error(Failed(error.status, kind_of(error.status), error.message))
        request_id = self._request_id(head)
        extra: OutHeaders = [(REQUEST_ID, request_id), *(_NO_RETRY if status == 401 else [])]
        extra += [("retry-after", "1")] if status == 503 else []
        extra += [("upgrade", "HTTP/1.1")] if status == 426 else []
        if status == 405 and matched is not None and matched.endpoint is not None:
            extra.append(("allow", ", ".join(matched.endpoint.methods)))
        where = f"{head.method} {head.path}" if head is not None else ""
        self.server_state.metrics.reject(error.status, where, error.message)
        if head is not None:
            extra_fields = {"subject": f"{error.status} {head.method} {head.path}: {error.message}"}
            words = (error.status, head.method, head.path, error.message, request_id)
            log.warning("%d %s %s: %s (request_id=%s)", *words, extra=extra_fields)
        return Response(status, JSON_HEADERS + _NOSNIFF + extra, dumps(body).encode())

    def _request_id(self, head: RequestHead | None) -> str:
        """The client's own id of the request, or a new one."""
        given = head.get(REQUEST_ID) if head is not None else None
        if given and _REQUEST_ID.fullmatch(given):
            return given
        self._requests += 1
        return f"{self._id_prefix}-{self._requests}"

    def _send_error(self, client: Connection, form: Format, failed: Failed) -> None:
        if client.response_started:
            client.abort()
            return
        status, body = form.write_error(failed)
        headers = JSON_HEADERS + _NO_RETRY if status == 401 else JSON_HEADERS
        client.respond(Response(status, headers, self.relay.vault.redact(dumps(body)).encode()))


# ---------------------------------------------------------------- endpoints


async def _handle_message(app: App, call: Call) -> None:
    await messages.answer(app.relay, call)


async def _handle_count(app: App, call: Call) -> None:
    await counting.count(app.relay, call)


async def _handle_models(app: App, call: Call) -> None:
    models = await _models(app, call)
    call.record.status = 200
    call.client.respond(Response(200, JSON_HEADERS, dumps(call.form.write_models(models, _STARTED)).encode()))


async def _models(app: App, call: Call) -> list[ModelInfo]:
    one = pinned(app.relay.config, call.pinned_upstream, call.form.name) if call.pinned_upstream else None
    return await app.relay.catalog.models(one.name if one is not None else "")


async def _handle_model(app: App, call: Call) -> None:
    name, models = call.path_info.model, await _models(app, call)
    found = next((model for model in models if model.id == name), None)
    found = found or (None if call.pinned_upstream else app.relay.catalog.retrieved(name))
    if found is None:
        raise ClientError(404, f'unknown model "{name}"; {suggestion(name, [model.id for model in models])}')
    call.record.status = 200
    call.client.respond(Response(200, JSON_HEADERS, dumps(call.form.write_model(found, _STARTED)).encode()))


async def _handle_raw(app: App, call: Call) -> None:
    if not stored.answer(app.relay, call):
        await raw.relay_untouched(app.relay, call)


async def _handle_health(app: App, call: Call) -> None:
    draining = app.listener is not None and app.listener.draining
    call.record.status = 503 if draining else 200
    body = dumps({"status": "draining" if draining else "ok"}).encode()
    call.client.respond(Response(call.record.status, JSON_HEADERS, body))


async def _handle_root(app: App, call: Call) -> None:
    """The dashboard for browsers, plain text for other clients."""
    call.record.status = 200
    if "text/html" in (call.head.get("accept") or ""):
        from ccproxy_lite.server import dashboard  # imported late: it loads hashlib and with it OpenSSL

        call.client.respond(Response(200, dashboard.headers(), dashboard.page()))
        return
    headers: OutHeaders = [("content-type", "text/plain; charset=utf-8"), ("vary", "accept")]
    call.client.respond(Response(200, headers, b"ccproxy-lite is running.\n"))


async def _handle_metrics(app: App, call: Call) -> None:
    call.record.status = 200
    text = render_metrics(app.relay, app.server_state, app.listener.connections if app.listener is not None else 0)
    headers: OutHeaders = [("content-type", PROMETHEUS_CONTENT_TYPE), ("cache-control", "no-store")]
    call.client.respond(Response(200, headers, text.encode()))


async def _handle_status(app: App, call: Call) -> None:
    """The state of the keys; a POST clears the cooldowns of those that its body names."""
    call.record.status = 200
    cleared = (
        {"cleared": clear_cooldowns(app.relay, _key_selector(call.raw_body))} if call.head.method == "POST" else {}
    )
    body = dumps({**overview(app.relay, app.server_state, f"http://{call.head.host}"), **cleared}).encode()
    call.client.respond(Response(200, [*JSON_HEADERS, ("cache-control", "no-store")], body))


def _key_selector(body: bytes) -> str:
    try:
        name = loads(body)["reset"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise ClientError(400, 'the body must be {"reset": "KEY"}', param="reset")
    return name


_HANDLERS: dict[Action, Callable[[App, Call], Awaitable[None]]] = {
    "message": _handle_message,
    "count": _handle_count,
    "models": _handle_models,
    "model": _handle_model,
    "raw": _handle_raw,
    "root": _handle_root,
    "health": _handle_health,
    "status": _handle_status,
    "metrics": _handle_metrics,
}
