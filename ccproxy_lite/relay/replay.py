"""A captured exchange run again, offline: the recorded client asks, and the recorded upstreams answer.

It is the program itself that runs (routing, failover, conversions), with three things in the place of sockets and time:
``Recorded`` upstreams, which note what they are sent and play back what they once said; a ``Collector`` as the client's
connection; and a clock that does not wait. What comes out must be what came out then, unless a conversion has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, cast

import anyio
import anyio.lowlevel

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import Config, Key, Upstream
from ccproxy_lite.errors import ClientError, ConfigError, UpstreamError, kind_of
from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.net.application import Response
from ccproxy_lite.net.connection import Connection
from ccproxy_lite.net.heads import AnswerHead, OutHeaders, RequestHead, read_head
from ccproxy_lite.net.upstream import Pool
from ccproxy_lite.net.watchdog import Watchdog
from ccproxy_lite.providers import FIELDS, cloud
from ccproxy_lite.providers.provider import Outbound
from ccproxy_lite.relay import messages
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.capture import VERSION, as_bytes
from ccproxy_lite.relay.programs import Receiver
from ccproxy_lite.relay.record import Record
from ccproxy_lite.relay.relay import Relay
from ccproxy_lite.relay.upstreams import Upstreams
from ccproxy_lite.relay.vault import Vault
from ccproxy_lite.routing.routes import Route

Document = Mapping[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a replay has brought: each request as it was sent, and to whom; the answer; and what was dropped."""

    sent: list[tuple[str, Outbound]] = field(default_factory=list)
    status: int = 0
    body: bytes = b""
    dropped: tuple[str, ...] = ()


class Collector:
    """The connection of a client that is not there."""

    blocked = cut = gone = False

    def __init__(self, outcome: Outcome, keep_alive: bytes) -> None:
        self.on_blocked: Any = None
        self._outcome = outcome
        self._keep_alive = keep_alive

    def cancel_on_eof(self) -> None:
        """It never leaves."""

    def respond(self, response: Response) -> None:
        self._outcome.status, self._outcome.body = response.status, response.body

    def begin(self, status: int, headers: OutHeaders, length: int | None = None) -> None:
        self._outcome.status = status

    def write(self, data: bytes) -> None:
        if data is not self._keep_alive:
            self._outcome.body += data

    def finish(self, data: bytes = b"") -> None:
        self.write(data)

    def abort(self) -> None:
        """Nothing to break off."""


class _ClientLeftError(Exception):
    """Here the client had left."""


class ReplayClock(Clock):
    """Time that passes only where somebody waits."""

    def __init__(self, wall: float) -> None:
        self._now, self._wall = 0.0, wall

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall + self._now

    async def wait(self, seconds: float, sooner: anyio.Event | None = None) -> None:
        await anyio.lowlevel.checkpoint()
        self._now += seconds


class Recorded(Upstreams):
    """Upstreams that say what they have said before, attempt by attempt."""

    def __init__(self, config: Config, clock: Clock, document: Document, outcome: Outcome) -> None:
        super().__init__(config, Pool(Watchdog()), Vault({}), clock)
        self._attempts = iter(document["attempts"])
        early_s = (document["answer"] or {}).get("early_s")
        self._early_s = inf if early_s is None else early_s
        self._outcome = outcome

    async def secret_of(self, upstream: Upstream, reference: str, client_key: str = "") -> str:
        return ""

    async def send(
        self, upstream: Upstream, outbound: Outbound, receiver: Receiver, head: RequestHead | None = None
    ) -> None:
        self._outcome.sent.append((upstream.name, outbound))
        attempt = next(self._attempts, None)
        if attempt is not None and attempt["response"] is not None and attempt["response"]["after_s"] > self._early_s:
            for reply in list(self.pool.watchdog.watched):  # its keep-alive came before this response
                reply.expire()
        await anyio.lowlevel.checkpoint()
        if attempt is None:
            raise UpstreamError("the capture has no further attempt")
        response, failed = attempt["response"], attempt["failed"] or {}
        error = UpstreamError(
            failed.get("message") or "the response was not recorded to its end",
            status=failed.get("status", 502),
            kind=failed.get("kind") or kind_of(502),
            code=failed.get("code", ""),
        )
        is_whole = response is not None and response["ended"]
        has_left = not failed and not is_whole
        if response is None and has_left:
            raise _ClientLeftError
        if response is None:
            raise error
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response["headers"]]
        receiver.head(AnswerHead(response["status"], headers))
        for _, piece in response["pieces"]:
            receiver.data(as_bytes(piece))
        if is_whole:
            receiver.end()
        elif has_left and not receiver.done.is_set():
            raise _ClientLeftError
        elif not receiver.done.is_set():
            receiver.failed_upstream(error)


def read(text: str, path: str) -> Document:
    """A capture out of a file's text. Raises ConfigError for anything else."""
    try:
        document = loads(text)
    except ValueError as error:
        raise ConfigError([f"ccproxy-lite: {path} is not JSON: {error}"]) from None
    if not isinstance(document, dict) or "capture" not in document:
        raise ConfigError([f"ccproxy-lite: {path} is not a capture"])
    if document["capture"] != VERSION:
        other = f"version {document['capture']}; this program reads version {VERSION}"
        raise ConfigError([f"ccproxy-lite: {path} is a capture of {other}"])
    if not document.get("targets"):
        raise ConfigError([f"ccproxy-lite: {path}: the request had no target, so there is nothing to run again"])
    return cast(Document, document)


async def run(document: Document, path_info: PathInfo) -> Outcome:
    """Run a capture's exchange again.

    :param path_info: what its URL says
    """
    outcome, settings = Outcome(), document["settings"]
    call = _call(document, path_info, Collector(outcome, FORMATS[document["client"]["format"]].keep_alive))
    clock = ReplayClock(settings["created"])
    config = _config(document)
    relay = Relay(Recorded(config, clock, document, outcome))
    upstreams = {upstream.name: upstream for upstream in config.upstreams}
    # First those that were tried, in this order: others may have been cooling down, or out of reach.
    targets = [
        Route(
            upstreams[one["upstream"]["name"]],
            one["model"],
            one.get("effort", ""),
            one.get("overlay", ""),
            unmet=one.get("unmet", ""),
        )
        for one in document["targets"]
    ]
    tried = [
        targets[attempt["target"]] if "target" in attempt else Route(upstreams[attempt["upstream"]], attempt["model"])
        for attempt in document["attempts"]
    ]
    routes = list(dict.fromkeys([*tried, *targets]))
    try:
        await messages.answer(relay, call, routes)
    except _ClientLeftError:
        pass
    except ClientError as error:
        outcome.status, outcome.body = error.status, dumps({"error": error.message}).encode()
    relay.upstreams.pool.watchdog.stop()
    outcome.dropped = call.record.dropped
    return outcome


def head_of(document: Document) -> RequestHead:
    """The head of the client's request."""
    client = document["client"]
    headers = [f"{name}: {value}" for name, value in client["headers"]]
    return read_head("\r\n".join([f"{client['request']} HTTP/1.1", *headers, "", ""]).encode("latin-1"))


def _call(document: Document, path_info: PathInfo, client: Collector) -> Call:
    asked, settings = document["client"], document["settings"]
    call = Call(
        FORMATS[asked["format"]],
        head_of(document),
        as_bytes(asked["body"]),
        cast(Connection, client),
        Record(),
        Vault({}),
        path_info,
    )
    call.pinned_upstream, call.named_session = asked["pinned_upstream"], asked["session"]
    call.previous, call.is_kept = asked.get("previous", ""), asked.get("is_kept", False)
    call.__dict__.update(id=settings["seed"], created=settings["created"])
    return call


def upstreams_of(document: Document) -> dict[str, Upstream]:
    """The upstreams of the targets, by name."""
    return {
        entry["name"]: Upstream(
            entry["name"],
            entry["format"],
            entry["base_url"],
            tuple(Key(f"replay {label}", label) for label in entry["keys"]),
            entry["from_client"],
            quirks=frozenset(entry["quirks"]),
            command=tuple(entry["command"]),
            prompt_cache=entry.get("prompt_cache", "off"),
            models=tuple(entry.get("models", ())),
            provider=cloud(entry.get("provider", ""), entry["format"], entry["base_url"], entry.get("api_version", "")),
            auth=tuple(entry.get("auth", ())),
            **{name: entry[name] for name in FIELDS if name in entry},
        )
        for entry in (target["upstream"] for target in document["targets"])
    }


def _config(document: Document) -> Config:
    """Just enough of a configuration."""
    settings = document["settings"]
    return Config(
        tuple(upstreams_of(document).values()),
        strict=settings["strict"],
        retries=settings["retries"],
        max_wait_s=settings["max_wait_s"],
        default_max_tokens=settings["default_max_tokens"],
        thinking_budgets=settings["thinking_budgets"],
        sticky_sessions=False,
        keepalive_s=1e9,
    )
