"""Secrets that a cloud gives: its tokens and access keys. Where they come from, ``providers.clouds`` decides.

A source is asked a question or two: a token service over HTTPS, a metadata server over plain HTTP and never through a
proxy, a command. Each answer says when it expires, and the ``Vault`` keeps it until then. Nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from ccproxy_lite.clock import Clock
from ccproxy_lite.config.secrets import words
from ccproxy_lite.errors import UpstreamError
from ccproxy_lite.net import proxies
from ccproxy_lite.net.origin import Origin
from ccproxy_lite.net.upstream import Pool, Timeouts
from ccproxy_lite.providers import clouds
from ccproxy_lite.providers.credentials import Secret
from ccproxy_lite.providers.provider import SERVER_SENT_EVENTS, Outbound
from ccproxy_lite.relay.delivery import Delivery
from ccproxy_lite.relay.helpers import run_helper
from ccproxy_lite.relay.streams import failed_of

_PATIENCE_S = 10.0
_PAUSE_S = 0.5
_TIMEOUTS = Timeouts(connect_s=3.0, first_byte_s=_PATIENCE_S, idle_s=_PATIENCE_S)
_MAX_BYTES = 262_144


class Credentials:
    """Fetches secrets by reference (see ``Vault.fetch``).

    :param environ: what the clouds' own tools would look at
    """

    def __init__(self, pool: Pool, clock: Clock, environ: Mapping[str, str]) -> None:
        self._pool = pool
        self._clock = clock
        self._environ = environ

    async def fetch(self, reference: str) -> Secret:
        """The secret of a reference. Raises ValueError, OSError or UpstreamError, which say why there is none."""
        read = partial(clouds.source_of, reference, self._environ, lambda path: Path(path).read_text("utf-8"))
        source = await anyio.to_thread.run_sync(read)
        asking = clouds.questions(source, await _own(source), self._clock.wall())
        try:
            question = next(asking)
            while True:
                try:
                    answer = await self._ask_patiently(question)
                except UpstreamError as error:
                    question = asking.throw(error)
                else:
                    question = asking.send(answer)
        except StopIteration as end:
            secret: Secret = end.value
            return secret
        except UpstreamError as error:
            remedy = clouds.remedy(source) if error.status in (400, 401) else ""
            raise UpstreamError(remedy or error.message, status=error.status) from None

    async def _ask_patiently(self, question: clouds.Question) -> str:
        """The same, once more after a failure that may pass. Raises UpstreamError."""
        try:
            return await self._ask(question)
        except UpstreamError as error:
            if error.status < 500:
                raise
        await self._clock.wait(_PAUSE_S)
        return await self._ask(question)

    async def _ask(self, question: clouds.Question) -> str:
        """The text of a response. Raises UpstreamError for any other than a success, with its status."""
        parts = urlsplit(question.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        proxy = None if question.is_local else proxies.usual(question.url, self._environ)[0]
        headers = [*question.headers, ("accept", "*/*")]
        outbound = Outbound(question.method, question.url, target, headers, question.body)
        delivery = Delivery(None, None, _MAX_BYTES, SERVER_SENT_EVENTS, self._clock)
        try:
            with anyio.move_on_after(_PATIENCE_S):
                await self._pool.fetch(Origin.of(question.url, proxy=proxy), outbound, delivery, _TIMEOUTS)
                await delivery.done.wait()
        except UpstreamError as error:
            delivery.fail(failed_of(error))
        finally:
            delivery.release()
        if delivery.failed is not None or delivery.answer is None or not delivery.done.is_set():
            why = delivery.failed.message if delivery.failed else "no response"
            how = "" if question.is_local else " (HTTPS_PROXY and SSL_CERT_FILE say how it is reached)"
            raise UpstreamError(f"{parts.netloc}: {why}{how}")
        status = delivery.answer.status
        if not 200 <= status < 300:
            raise UpstreamError(f"{parts.netloc} returned {status}", status=status)
        return delivery.body.decode("utf-8", "replace")


async def _own(source: clouds.GoogleSource | clouds.AwsSource) -> str:
    """What lies or runs on this machine: a command's output, a file's text. Raises OSError and ValueError."""
    if isinstance(source, clouds.Process):
        return await run_helper(words(f"cmd:{source.command}"))
    if isinstance(source, clouds.Container) and source.token_file:
        return (await anyio.Path(source.token_file).read_text()).strip()
    return ""
