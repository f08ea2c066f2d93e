"""The embedded service: every format, at the path of its base URL."""

from __future__ import annotations

import pytest

from ccproxy_lite.formats import FORMATS
from ccproxy_lite.formats.format import PathInfo
from ccproxy_lite.providers import provider_of
from ccproxy_lite.providers.provider import Ask, Place


@pytest.mark.parametrize("kind", FORMATS)
def test_the_embedded_service_speaks_every_format(kind: str) -> None:
    provider = provider_of("echo")
    assert provider.embedded
    assert provider.speaks("echo", kind) == kind
    sent = provider.message(
        Place("http://127.0.0.1:9"), FORMATS[kind], Ask("m", PathInfo(streams=False), body=b"{}"), ""
    )
    assert FORMATS[kind].read_path(sent.target, "") is not None
    assert sent.headers == []
