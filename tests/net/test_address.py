"""Where to listen, as text and as a value."""

from __future__ import annotations

import pytest

from ccproxy_lite.net.address import Address


@pytest.mark.parametrize(
    ("text", "url", "local"),
    [
        ("127.0.0.1:8317", "http://127.0.0.1:9", True),
        ("127.0.0.2:0", "http://127.0.0.2:9", True),
        ("localhost:1", "http://localhost:9", True),
        ("[::1]:1", "http://[::1]:9", True),
        ("[::]:1", "http://[::1]:9", False),
        ("0.0.0.0:1", "http://127.0.0.1:9", False),
        ("proxy.internal:1", "http://proxy.internal:9", False),
        ("unix:/run/x.sock", "unix:/run/x.sock", True),
    ],
)
def test_addresses(text: str, url: str, local: bool) -> None:
    address = Address.parse(text)
    assert (address.url(9), address.is_local) == (url, local)


@pytest.mark.parametrize("text", ["", "8317", ":8317", "::1:80", "a:b", "a:-1", "a:99999", "unix:", "a:１"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


@pytest.mark.parametrize(
    ("listen", "url", "expected"),
    [
        ("127.0.0.1:80", "http://localhost:80/v1", True),
        ("0.0.0.0:80", "http://127.0.0.1:80", True),
        ("127.0.0.1:80", "http://127.0.0.1:81", False),
        ("127.0.0.1:0", "http://127.0.0.1:8317", False),
        ("proxy.internal:80", "http://proxy.internal:80", True),
        ("unix:/x", "http://127.0.0.1:80", False),
    ],
)
def test_whether_a_url_leads_here(listen: str, url: str, expected: bool) -> None:
    assert Address.parse(listen).answers(url) is expected
