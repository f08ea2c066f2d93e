"""What a request has, for the conditions of targets; and which models the upstreams have said that they have.

The body is read only when a condition asks for it, and once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ccproxy_lite.cached import cached_property
from ccproxy_lite.config.model import Condition
from ccproxy_lite.errors import ClientError
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.upstreams import Upstreams
from ccproxy_lite.routing.conditions import holds
from ccproxy_lite.routing.routes import Lists, Route, lists_wanted, resolve

if TYPE_CHECKING:
    from ccproxy_lite.formats.neutral.request import Request
    from ccproxy_lite.relay.relay import Relay


_BYTES_PER_TOKEN = 4
"""Of a body that cannot be read, about."""


async def routes_for(relay: Relay, call: Call) -> list[Route]:
    """The targets of a call in failover order. Raises ClientError."""
    config, form = relay.config, call.form.base or call.form.name
    wanted = lists_wanted(config, call.model, call.pinned_upstream, form)
    if wanted:
        await relay.catalog.hurry(wanted)
    return resolve(config, call.model, form, call.pinned_upstream, RequestFacts(call, relay.upstreams))


class RequestFacts:
    """What is known of one call."""

    repeats = False

    def __init__(self, call: Call, upstreams: Upstreams) -> None:
        self._call = call
        self._known = call.digest.facts if call.digest is not None else None
        self._upstreams = upstreams

    @property
    def lists(self) -> Lists:
        return self._upstreams.lists

    def fit(self, condition: Condition, effort: str) -> bool:
        return holds(condition, self, effort)

    def header(self, name: str) -> str | None:
        return self._call.head.get(name)

    @cached_property
    def _request(self) -> Request | None:
        """The request as far as it can be read; what is passed on untouched may be more than is known here."""
        try:
            return self._call.request
        except ClientError:
            return None

    @cached_property
    def contents(self) -> Collection[str]:
        if self._known is not None:
            return self._known[0]
        from ccproxy_lite.formats.neutral.contents import contents_of  # a large module that is seldom needed

        return contents_of(self._request) if self._request is not None else ()

    @cached_property
    def tokens(self) -> int:
        if self._known is not None:
            return self._known[1]
        from ccproxy_lite.formats.neutral.tokens import estimate

        return estimate(self._request) if self._request is not None else len(self._call.raw_body) // _BYTES_PER_TOKEN

    @cached_property
    def system(self) -> str:
        if self._known is not None:
            return self._known[2]
        return "\n".join(part.text for part in self._request.system) if self._request is not None else ""
