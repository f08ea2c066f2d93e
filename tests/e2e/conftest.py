"""What the tests with real clients share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ccproxy_lite.formats import FORMATS
from tests.e2e.sdks import CLIENTS, through_the_echo
from tests.support import Proxy


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """The SDKs keep connections open until they are told."""
    yield
    while CLIENTS:
        CLIENTS.pop().close()


@pytest.fixture(params=FORMATS)
def echoing(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A proxy whose upstream is an echo that speaks one of the formats."""
    with through_the_echo(request.param) as served:
        yield served
