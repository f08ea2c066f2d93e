"""The endpoints: who may ask, what is asked, and in which dialect the answer is.

Everything is refused as early as it can be: a wrong Host, a browser's foreign Origin, a wrong key or a wrong type of
body before the body is read.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl

from ccproxy_lite.errors import ClientError, kind_of
from ccproxy_lite.formats import FORMATS, Format, asked_for
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.log import bug, log
from ccproxy_lite.net.address import Address, bracketed
from ccproxy_lite.net.connection import Connection, OutHeaders, Response
from ccproxy_lite.net.heads import RequestHead
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.catalog import Catalog
from ccproxy_lite.relay.counting import count
from ccproxy_lite.relay.record import Record
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.server import accesslog
from ccproxy_lite.server.metrics import CONTENT_TYPE
from ccproxy_lite.server.status import History, metrics, overview, reset

_STARTED = int(time.time())
_UNLOGGED = ("/", "/healthz", "/status", "/metrics")
_JSON: OutHeaders = [("content-type", "application/json")]
_COMMON: OutHeaders = [("x-content-type-options", "nosniff")]


class Endpoint(NamedTuple):
    """One thing that can be asked: the methods, the dialect of its errors, and who answers."""

    methods: tuple[str, ...]
    form: str
    answer: Callable[[App, Asked], Awaitable[None]]
    open: bool = False
    path: PathInfo = PathInfo()
    rest: str = ""


@dataclass(slots=True)
class Asked:
    """One request for an endpoint."""

    form: Format
    head: RequestHead
    body: bytes
    client: Connection
    record: Record
    pinned: str = ""
    session: str = ""
    rest: str = ""
    path: PathInfo = field(default_factory=PathInfo)


class App:
    """Implements ``net.connection.Application`` for one configuration."""

    def __init__(self, relay: Relay, catalog: Catalog, client_keys: tuple[str, ...], history: History) -> None:
        self.relay = relay
        self.catalog = catalog
        self.history = history
        self.is_draining: Callable[[], bool] = lambda: False
        self.connections: Callable[[], int] = lambda: 0
        self.use_keys(client_keys)
        config = relay.config
        self._address = Address.parse(config.listen)
        self._hosts = {"localhost", "127.0.0.1", "[::1]", *(name.lower() for name in config.allowed_hosts)}
        if self._address.host not in ("0.0.0.0", "::"):
            host = self._address.host.lower()
            self._hosts.add(bracketed(host))

    def use_keys(self, client_keys: tuple[str, ...]) -> None:
        """From now on clients must show one of these."""
        self._keys = [key.encode() for key in client_keys]

    # --- net.connection.Application

    def admit(self, head: RequestHead) -> Response | None:
        """Refuse a request before its body is read, or return None."""
        try:
            if self._is_preflight(head) or head.raw_path == "*":
                return Response(204, self._cors(head) + _COMMON)
            self._check_source(head)
            endpoint = self._checked(head, _found(head))
            if not endpoint.open:
                self._check_key(head)
            if head.method == "POST":
                _check_body_type(head)
        except ClientError as error:
            return self._refusal(head, error)
        return None

    def refuse(self, head: RequestHead | None, status: int, message: str) -> Response:
        """The answer to a request that broke the protocol or a limit."""
        return self._refusal(head, ClientError(status, message))

    async def serve(self, head: RequestHead, body: bytes, client: Connection) -> None:
        """Answer a request; whatever goes wrong, the client hears it in its own format."""
        record = Record(method=head.method, path=head.path, started_s=self.relay.clock.now())
        is_own = head.path in _UNLOGGED
        if not is_own:
            self.history.metrics.begin(record)
        client.extra_headers = self._cors(head) + _COMMON
        found = _found(head)
        form = _dialect(head, found)
        try:
            endpoint = self._checked(head, found)
            if not endpoint.open:  # once more: while the body came, the keys may have changed
                self._check_key(head)
            record.format = form.name if endpoint.form else ""
            asked = Asked(form, head, body, client, record, found.pinned, found.session, endpoint.rest, endpoint.path)
            await endpoint.answer(self, asked)
        except ClientError as error:
            record.status, record.error = error.status, error.message
            failed = Failed(error.status, error.kind, error.message, param=error.param or "")
            self._tell(client, form, failed)
        except RecursionError:
            record.status, record.error = 400, "nested too deep"
            self._tell(client, form, Failed(400, "bad_request", "the body is nested too deep"))
        except Exception as error:
            mark = bug(error)
            record.status, record.error = 500, f"bug {mark}"
            self._tell(client, form, Failed(500, "server", f"an error inside the proxy; its log calls it {mark}"))
        finally:
            if not record.status and client.cut:
                record.status, record.error = 503, "cut at the end of draining"
                self._tell(client, form, Failed(503, "overloaded", "the proxy is shutting down"))
            elif not record.status:
                record.status, record.error = 499, "the client went away"
            now = self.relay.clock.now()
            if not is_own:
                self.history.metrics.end(record, now, self.relay.clock.wall())
            accesslog.access(record, now, is_quiet=is_own and record.status < 400)

    # --- who may ask

    def _check_source(self, head: RequestHead) -> None:
        """Loopback is no protection against a page in the user's browser; the Host and Origin headers are."""
        if not self._address.path and not self._knows_host(head.host):
            raise ClientError(403, "this Host is not allowed; name it in allowed_hosts", kind="permission")
        origin = head.get("origin")
        allowed = _is_same(origin, head.host) or origin in self.relay.config.cors_origins  # the dashboard's own
        if origin is not None and not allowed:
            raise ClientError(403, "this Origin is not allowed; name it in cors_origins", kind="permission")
        is_link = head.path == "/" and head.get("sec-fetch-mode") == "navigate"  # to a page that holds no data
        if not allowed and not is_link and head.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise ClientError(403, "requests from other sites are not allowed", kind="permission")

    def _knows_host(self, value: str) -> bool:
        host = value.lower()
        if not host.endswith("]"):
            host = host.rpartition(":")[0] if ":" in host else host
        host = host.removesuffix(".")
        if host in self._hosts or (host.startswith("127.") and host.replace(".", "").isdigit()):
            return True
        everywhere = self._address.host in ("0.0.0.0", "::")
        is_number = host.replace(".", "").isdigit() or host.startswith("[")
        return everywhere and is_number and host not in ("0.0.0.0", "[::]")

    def _is_preflight(self, head: RequestHead) -> bool:
        asked = head.method == "OPTIONS" and head.get("access-control-request-method")
        return bool(asked) and head.get("origin") in self.relay.config.cors_origins

    def _cors(self, head: RequestHead) -> OutHeaders:
        origin = head.get("origin")
        if origin is None or origin not in self.relay.config.cors_origins:
            return []
        allowed = head.get("access-control-request-headers") or "*"
        return [
            ("access-control-allow-origin", origin),
            ("access-control-allow-headers", allowed),
            ("access-control-allow-methods", "GET, POST, OPTIONS"),
            ("vary", "origin"),
        ]

    def _check_key(self, head: RequestHead) -> None:
        """Any of the usual places, but one value; compared in constant time with every key."""
        if not self._keys:
            return
        import hmac  # which brings all of OpenSSL's hashes, and is needed for keys only

        given = set(presented_keys(head))
        attempt = given.pop().encode("utf-8", "replace") if len(given) == 1 else b""
        matches = [hmac.compare_digest(attempt, key) for key in self._keys]
        if not any(matches):
            raise ClientError(401, "a valid client key is needed: Authorization: Bearer, x-api-key or x-goog-api-key")

    # --- what is asked

    def _checked(self, head: RequestHead, found: Found) -> Endpoint:
        """The endpoint, if it is there and may be asked so. Raises ClientError."""
        endpoint = found.endpoint
        if found.pinned and self.relay.config.upstream(found.pinned) is None:
            raise ClientError(404, f"there is no upstream {found.pinned}")
        if endpoint is None:
            hint = "; leave /v1 out of the base URL" if found.path.startswith("/v1/v1/") else ""
            raise ClientError(404, f"there is nothing at {head.method} {head.path}{hint}")
        if head.method not in endpoint.methods:
            if endpoint.rest:  # which may be a method of Google's that is not served here
                raise ClientError(404, f"there is nothing at {head.method} {head.path}")
            if head.get("upgrade") is not None:
                raise ClientError(426, "WebSockets are not spoken here; use HTTP")
            raise ClientError(405, f"use {' or '.join(endpoint.methods)} here")
        return endpoint

    def _refusal(self, head: RequestHead | None, error: ClientError) -> Response:
        found = _found(head) if head else None
        form = _dialect(head, found) if head and found else FORMATS["openai-chat"]
        failed = Failed(error.status, kind_of(error.status), error.message)
        status, body = form.write_error(failed)
        extra: OutHeaders = [("retry-after", "1")] if status == 503 else []
        extra += [("upgrade", "HTTP/1.1")] if status == 426 else []
        if status == 405 and found is not None and found.endpoint is not None:
            extra.append(("allow", ", ".join(found.endpoint.methods)))
        self.history.metrics.refused[error.status] += 1
        if head is not None:
            log.info("%d %s %s: %s", error.status, head.method, head.path, error.message)
        return Response(status, _JSON + _COMMON + extra, dumps(body).encode())

    def _tell(self, client: Connection, form: Format, failed: Failed) -> None:
        if client.began:
            client.abort()
            return
        status, body = form.write_error(failed)
        client.respond(Response(status, _JSON, self.relay.vault.redact(dumps(body)).encode()))


def _is_same(origin: str | None, host: str) -> bool:
    """Whether an Origin is the host that was asked, whose name has been checked before."""
    return origin is not None and host != "" and origin.partition("://")[2].lower() == host.lower()


def presented_keys(head: RequestHead) -> list[str]:
    """Every key that a request shows, in the order of their weight."""
    found = [*head.all("x-api-key"), *head.all("x-goog-api-key")]
    for value in head.all("authorization"):
        scheme, _, token = value.partition(" ")
        found.append(token.strip() if scheme.lower() == "bearer" else "")
    found += [value for name, value in parse_qsl(head.query, keep_blank_values=True) if name == "key"]
    return found


def _dialect(head: RequestHead, found: Found) -> Format:
    """The format of whoever asks; where the path does not tell, Anthropic's and Google's own headers do."""
    if found.endpoint is not None and found.endpoint.form:
        return FORMATS[found.endpoint.form]
    if head.get("anthropic-version") is not None:
        return FORMATS["anthropic"]
    google = head.get("x-goog-api-key") is not None or head.get("x-goog-api-client") is not None
    keyed = any(name == "key" for name, _ in parse_qsl(head.query, keep_blank_values=True))
    return FORMATS["gemini" if google or keyed or found.path.startswith("/v1beta/") else "openai-chat"]


class Found(NamedTuple):
    """What is at a request's path: the upstream and the session that the path names, and what stands behind them."""

    endpoint: Endpoint | None
    pinned: str
    session: str
    path: str


def _found(head: RequestHead) -> Found:
    path, raw_path, pinned, session = head.path, head.raw_path, "", ""
    if path.startswith(_PINNED):
        pinned, _, path = path[len(_PINNED) :].partition("/")
        path, raw_path = f"/{path}", "/" + raw_path[len(_PINNED) :].partition("/")[2]
    named = _SESSION.match(path)
    if named is not None and raw_path.startswith(named[0]):
        session, path, raw_path = named[1], path[named.end() :], raw_path[named.end() :]
    return Found(find(path, raw_path, head.query), pinned, session, path)


def _check_body_type(head: RequestHead) -> None:
    """JSON only: a web page could send anything else without asking first."""
    kind, _, parameters = (head.get("content-type") or "").lower().partition(";")
    if kind.strip() != "application/json":
        raise ClientError(415, "Content-Type must be application/json")
    if "charset" in parameters and "utf-8" not in parameters and "utf8" not in parameters:
        raise ClientError(415, "JSON is UTF-8")
    if (head.get("content-encoding") or "identity").lower() != "identity":
        raise ClientError(415, "compressed request bodies are not supported")


# ---------------------------------------------------------------- endpoints


def _call(app: App, asked: Asked) -> Call:
    given = [key for key in presented_keys(asked.head) if key]
    return Call(
        form=asked.form,
        head=asked.head,
        raw=asked.body,
        pinned=asked.pinned,
        named_session=asked.session,
        client_key=given[0] if given else "",
        id=os.urandom(12).hex(),
        created=int(time.time()),
        strict=asked.head.get("x-ccproxy-strict") == "1",
        path=asked.path,
    )


async def _messages(app: App, asked: Asked) -> None:
    await app.relay.answer(_call(app, asked), asked.client, asked.record)


async def _count(app: App, asked: Asked) -> None:
    await count(app.relay, _call(app, asked), asked.client, asked.record)


async def _models(app: App, asked: Asked) -> None:
    names = await app.catalog.names(asked.pinned)
    asked.record.status = 200
    body = asked.form.write_models(names, _STARTED)
    asked.client.respond(Response(200, _JSON, dumps(body).encode()))


async def _one_model(app: App, asked: Asked) -> None:
    if asked.rest not in await app.catalog.names(asked.pinned):
        raise ClientError(404, f"the model {asked.rest} does not exist here")
    asked.record.status = 200
    body = asked.form.write_model(asked.rest, _STARTED)
    asked.client.respond(Response(200, _JSON, dumps(body).encode()))


async def _health(app: App, asked: Asked) -> None:
    asked.record.status = 503 if app.is_draining() else 200
    word = "draining" if app.is_draining() else "ok"
    asked.client.respond(Response(asked.record.status, _JSON, dumps({"status": word}).encode()))


async def _root(app: App, asked: Asked) -> None:
    """The dashboard for browsers, a line for everybody else."""
    asked.record.status = 200
    if "text/html" in (asked.head.get("accept") or ""):
        from ccproxy_lite.server import dashboard  # which brings all of OpenSSL's hashes

        asked.client.respond(Response(200, dashboard.headers(), dashboard.page()))
        return
    kind: OutHeaders = [("content-type", "text/plain; charset=utf-8"), ("vary", "accept")]
    asked.client.respond(Response(200, kind, b"ccproxy-lite is running.\n"))


async def _metrics(app: App, asked: Asked) -> None:
    asked.record.status = 200
    text = metrics(app.relay, app.history, app.connections())
    kind: OutHeaders = [("content-type", CONTENT_TYPE), ("cache-control", "no-store")]
    asked.client.respond(Response(200, kind, text.encode()))


async def _status(app: App, asked: Asked) -> None:
    """What is known of the keys; a POST ends the rests of one."""
    asked.record.status = 200
    answer = {"ended": reset(app.relay, _named_key(asked.body))} if asked.head.method == "POST" else {}
    body = dumps({**overview(app.relay, app.history, f"http://{asked.head.host}"), **answer}).encode()
    asked.client.respond(Response(200, [*_JSON, ("cache-control", "no-store")], body))


def _named_key(body: bytes) -> str:
    try:
        name = loads(body)["reset"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise ClientError(400, 'the body must be {"reset": "KEY"}', param="reset")
    return name


_GET = ("GET", "HEAD")
_SESSION = re.compile(r"/(?!(?:v1|v1beta|v1alpha|api|\.\.?)/)([\w.~:@=+-]{1,256})(?=/v1(?:beta|alpha)?/)", re.ASCII)
_PINNED = "/api/provider/"
_MODELS = re.compile(r"/v1(?:beta|alpha)?/models/(.+)")

ENDPOINTS: dict[str, Endpoint] = {
    "/": Endpoint(_GET, "", _root, open=True),
    "/healthz": Endpoint(_GET, "", _health, open=True),
    "/status": Endpoint((*_GET, "POST"), "", _status),
    "/metrics": Endpoint(_GET, "", _metrics),
    "/v1/models": Endpoint(_GET, "", _models),
    "/models": Endpoint(_GET, "", _models),
    "/v1beta/models": Endpoint(_GET, "gemini", _models),
    "/v1alpha/models": Endpoint(_GET, "gemini", _models),
}


def find(path: str, raw_path: str, query: str) -> Endpoint | None:
    """What is at a path; an escaped slash separates nothing, but may stand in a model's name."""
    for form in asked_for(path):
        asked = form.read_path(raw_path, query)
        if asked is not None:
            return Endpoint(("POST",), form.name, _count if asked.action == "count" else _messages, path=asked)
    known = ENDPOINTS.get(path) if "%2f" not in raw_path.lower() else None
    model = _MODELS.fullmatch(path)
    if known is None and model is not None:
        dialect = "" if path.startswith("/v1/") else "gemini"
        return Endpoint(_GET, dialect, _one_model, rest=model[1].removeprefix("models/"))
    return known
