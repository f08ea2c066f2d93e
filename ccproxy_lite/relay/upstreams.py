"""Requests to the upstreams of one configuration: which secret is sent, where to, over which connection.

How a request looks is the provider's business, what happens to the response the ``Delivery``'s. ``send``
delivers a response as it arrives; ``collect`` waits for a small one, and is for requests of the proxy itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import anyio

from ccproxy_lite.cached import cached_property
from ccproxy_lite.clock import Clock
from ccproxy_lite.config.model import Config, Upstream
from ccproxy_lite.config.secrets import SECRET_NAME, is_literal
from ccproxy_lite.errors import NO_SECRET, UpstreamError
from ccproxy_lite.formats import FORMATS, Format
from ccproxy_lite.formats.neutral.catalog import ModelInfo
from ccproxy_lite.jsontext import loads
from ccproxy_lite.net.heads import RequestHead
from ccproxy_lite.net.origin import Origin
from ccproxy_lite.net.tls import client_context, context_for, named_roots
from ccproxy_lite.net.upstream import Pool, Timeouts
from ccproxy_lite.providers.credentials import Secret, is_sendable
from ccproxy_lite.providers.provider import Outbound, Question
from ccproxy_lite.relay.delivery import Delivery
from ccproxy_lite.relay.headers import configured, merged
from ccproxy_lite.relay.programs import Programs, Receiver, Settings
from ccproxy_lite.relay.vault import Fetch, Vault

if TYPE_CHECKING:
    from ccproxy_lite.relay.offload import Offload

Answer = TypeVar("Answer")

_GRACE_S = 0.25
"""How long to wait for the end of the HTTP body after the last event, so that the connection can be used again."""

_PATIENCE_S = 10.0
"""How long a request of the proxy itself (counting, listing) may take."""


def wire_format(upstream: Upstream, client_format: str = "") -> Format:
    """The wire format for requests to an upstream: its own, or that of the client's endpoint if it has it, too."""
    form = FORMATS[upstream.provider.speaks(upstream.format, client_format)]
    if client_format in ("", form.name):
        return form
    endpoint = FORMATS[client_format]
    return endpoint if endpoint.quirk in upstream.quirks else form


class Upstreams:
    """The upstreams of one configuration.

    :ivar refused: by upstream and model, the fields which only serve a prompt cache, and which it has rejected
    :ivar lists: by upstream, the models that it lists itself by their names, once it has been asked
    """

    def __init__(
        self, config: Config, pool: Pool, vault: Vault, clock: Clock, programs: Programs | None = None
    ) -> None:
        self.config = config
        self.pool = pool
        self.vault = vault
        self.clock = clock
        t = config.timeouts
        self._timeouts = Timeouts(t.connect_s, t.first_byte_s, t.idle_s)
        self.programs = programs or Programs()
        self.refused: dict[tuple[str, str], frozenset[str]] = {}
        self.lists: dict[str, dict[str, ModelInfo]] = {}

    @cached_property
    def offload(self) -> Offload:
        """Where large bodies are read and written; it is loaded with the first."""
        from ccproxy_lite.relay.offload import Offload

        return Offload(self.config.limits.max_converting_bytes)

    def close(self) -> None:
        """End what stands ready for the next large body."""
        if "offload" in self.__dict__:
            self.offload.close()

    async def secret_of(self, upstream: Upstream, reference: str, client_key: str = "") -> str:
        """The secret to send. Raises UpstreamError when its source fails."""
        if upstream.from_client:
            if not is_sendable(client_key):
                raise UpstreamError(
                    "API key contains characters not allowed in an HTTP header",
                    status=401,
                    kind="auth",
                    code=NO_SECRET,
                )
            return client_key
        return await self.vault.value(reference, self.clock.now())

    async def send(
        self, upstream: Upstream, outbound: Outbound, receiver: Receiver, head: RequestHead | None = None
    ) -> None:
        """Send, and wait until the receiver is done. Cancelling the wait closes the upstream connection at once.

        :param head: the client's, for the configured headers that copy one of it
        """
        if outbound.program is not None:
            env = {name: await self._variable(name, value) for name, value in upstream.env}
            settings = Settings(self._timeouts, self.config.limits.max_event_bytes, env)
            await self.programs.run(upstream, outbound.program, receiver, settings)
            return
        origin = Origin.of(outbound.base_url, upstream.ca_file, upstream.client_cert, upstream.proxy)
        headers = merged(outbound.headers, configured(upstream, head))
        if outbound.sign is not None:
            headers = merged(headers, outbound.sign(outbound, origin.authority, self.clock.wall()))
        try:
            await self.pool.fetch(origin, outbound._replace(headers=headers), receiver, self._timeouts)
            await receiver.done.wait()
            # The last event came; the final chunk of the body usually follows at once.
            if receiver.is_early and not receiver.ended.is_set():
                with anyio.move_on_after(_GRACE_S):
                    await receiver.ended.wait()
        finally:
            receiver.release()

    async def _variable(self, name: str, value: str) -> str:
        """The value of an environment variable; what may be a secret is known to the vault. Raises UpstreamError."""
        is_secret = not is_literal(value) or (value and SECRET_NAME.search(name))
        return await self.vault.value(value, self.clock.now()) if is_secret else value

    async def collect(
        self, upstream: Upstream, question: Question[Answer], max_body_bytes: int, head: RequestHead | None = None
    ) -> Answer:
        """The response to a request of the proxy itself; it does not affect the state of any key.

        Raises UpstreamError for everything but a 200 with a body of JSON.
        """
        delivery = Delivery(None, None, max_body_bytes, upstream.provider.framing, self.clock)
        with anyio.move_on_after(_PATIENCE_S) as scope:
            await self.send(upstream, question.outbound, delivery, head)
        if scope.cancelled_caught:
            raise UpstreamError(f"{upstream.name} did not respond within {_PATIENCE_S:g} s")
        if delivery.failed or delivery.answer is None:
            failed = delivery.failed
            raise UpstreamError(failed.message, code=failed.code) if failed else UpstreamError("no response")
        if delivery.answer.status != 200:
            raise UpstreamError(f"{upstream.name} returned {delivery.answer.status}", status=delivery.answer.status)
        try:
            return question.read(loads(delivery.body))
        except ValueError:
            raise UpstreamError(f"{upstream.name} did not return JSON") from None


def fetching(pool: Pool, clock: Clock, environ: Mapping[str, str]) -> Fetch:
    """How secrets are fetched from clouds (see ``Vault.fetch``); what knows that is loaded when one is."""

    async def fetch(reference: str) -> Secret:
        from ccproxy_lite.relay.credentials import Credentials

        return await Credentials(pool, clock, environ).fetch(reference)

    return fetch


def check_trust(config: Config) -> None:
    """Read the configured roots and certificates again. Raises ConfigError for one that cannot be used."""
    client_context.cache_clear()  # certificates are renewed in place
    for upstream in config.upstreams:
        if upstream.ca_file or upstream.client_cert or (named_roots() and upstream.base_url.startswith("https:")):
            context_for(upstream.ca_file, upstream.client_cert)
