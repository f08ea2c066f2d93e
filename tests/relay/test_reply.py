"""The client's end of a streamed answer: whom it pauses. The rest is heard through sockets (``test_keepalive``)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import anyio

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.net.watchdog import Watchdog
from ccproxy_lite.relay.call import Call
from ccproxy_lite.relay.reply import Reply


class Connection:
    def pause(self, paused: bool) -> None: ...


def test_only_its_own_upstream_is_let_go() -> None:
    """The connection to the upstream may be in the next request's hands already."""

    async def play() -> None:
        client: Any = SimpleNamespace(on_blocked=None)
        call = cast(Call, SimpleNamespace(client=client, form=FORMATS["anthropic"], path_info=PathInfo()))
        shared, watchdog = Connection(), Watchdog()
        first, second = Reply(call, watchdog, 0, None), Reply(call, watchdog, 0, None)
        first.pause_upstream_with(shared.pause)
        second.pause_upstream_with(shared.pause)
        first.pause_nobody()
        assert client.on_blocked is not None
        second.pause_nobody()
        assert client.on_blocked is None
        watchdog.stop()

    anyio.run(play)
