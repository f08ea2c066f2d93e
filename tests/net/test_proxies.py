"""Proxies as text: which one, and what NO_PROXY exempts. The expected values are curl's, and Go's for this machine."""

from __future__ import annotations

import pytest

from ccproxy_lite.net.proxies import Proxy, bypasses, usual

OPENAI = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "exempt"),
    [
        ("*", "api.openai.com", 443, True),
        ("a.b, *", "api.openai.com", 443, True),
        ("", "api.openai.com", 443, False),
        ("openai.com", "api.openai.com", 443, True),
        (".openai.com", "api.openai.com", 443, True),
        ("*.openai.com", "api.openai.com", 443, True),
        (".openai.com", "openai.com", 443, True),
        ("penai.com", "api.openai.com", 443, False),
        ("api.openai.com.", "api.openai.com", 443, True),
        ("API.OpenAI.com", "api.openai.com.", 443, True),
        ("openai.com:443", "api.openai.com", 443, True),
        ("openai.com:8443", "api.openai.com", 443, False),
        ("one.example two.example", "two.example", 443, True),
        ("one.example,,two.example", "two.example", 443, True),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3", "10.1.2.30", 443, False),
        ("10.1.2.3:8000", "10.1.2.3", 8000, True),
        ("10.1.2.3:8000", "10.1.2.3", 443, False),
        ("10.0.0.0/8", "10.9.9.9", 443, True),
        ("10.0.0.0/8", "11.0.0.1", 443, False),
        ("10.0.0.0/8", "ten.example", 443, False),
        ("fd00::/8", "fd12::1", 443, True),
        ("[fd12::1]", "fd12::1", 443, True),
        ("[fd12::1]:8000", "fd12::1", 8000, True),
        ("[fd12::1]:8000", "fd12::1", 443, False),
        ("fd12::1", "[fd12::1]", 443, True),
        (".", "api.openai.com", 443, False),
        ("nonsense/99", "nonsense", 443, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, exempt: bool) -> None:
    assert bypasses(no_proxy, host, port) is exempt


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        (OPENAI, {}, (None, "")),
        (OPENAI, {"HTTPS_PROXY": "http://p:1"}, ("http://p:1", "HTTPS_PROXY")),
        (OPENAI, {"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, ("http://low:1", "https_proxy")),
        (OPENAI, {"HTTP_PROXY": "http://p:1"}, (None, "")),
        (OPENAI, {"ALL_PROXY": "http://p:1"}, ("http://p:1", "ALL_PROXY")),
        (OPENAI, {"ALL_PROXY": "http://all:1", "https_proxy": "http://p:1"}, ("http://p:1", "https_proxy")),
        (OPENAI, {"HTTPS_PROXY": " "}, (None, "")),
        (OPENAI, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "openai.com"}, (None, "")),
        (OPENAI, {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.b", "NO_PROXY": "openai.com"}, ("http://p:1", "HTTPS_PROXY")),
        ("http://llm.corp:8000", {"HTTP_PROXY": "http://p:1"}, ("http://p:1", "HTTP_PROXY")),
        ("http://llm.corp:8000", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "llm.corp:8000"}, (None, "")),
        ("http://localhost:11434/v1", {"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, (None, "")),
        ("http://127.0.0.2:11434/v1", {"HTTP_PROXY": "http://p:1"}, (None, "")),
        ("http://[::1]:11434/v1", {"HTTP_PROXY": "http://p:1"}, (None, "")),
        ("", {"HTTP_PROXY": "http://p:1"}, (None, "")),
    ],
)  # fmt: skip
def test_which_proxy(url: str, environ: dict[str, str], expected: tuple[str | None, str]) -> None:
    found, variable = usual(url, environ)
    assert (str(found) if found else None, variable) == expected


@pytest.mark.parametrize(
    ("text", "shown", "host", "port", "authorization"),
    [
        ("http://p.corp:3128", "http://p.corp:3128", "p.corp", 3128, ""),
        ("p.corp:3128", "http://p.corp:3128", "p.corp", 3128, ""),
        ("http://p.corp", "http://p.corp:80", "p.corp", 80, ""),
        ("https://p.corp/", "https://p.corp:443", "p.corp", 443, ""),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128", "fd00::1", 3128, ""),
        ("http://me:secret@p.corp:3128", "http://***@p.corp:3128", "p.corp", 3128, "Basic bWU6c2VjcmV0"),
        ("http://me%40corp:s%3Acret@p:1", "http://***@p:1", "p", 1, "Basic bWVAY29ycDpzOmNyZXQ="),
    ],
)
def test_reading_a_proxy(text: str, shown: str, host: str, port: int, authorization: str) -> None:
    proxy = Proxy.parse(text)
    assert (str(proxy), proxy.host, proxy.port, proxy.authorization) == (shown, host, port, authorization)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("socks5://p:1080", "socks5:// proxies are not supported; http://host:port is"),
        ("http://", "a proxy is http://host:port"),
        ("http://p:1/path", "a proxy is http://host:port"),
        ("http://p:99999", "a proxy is http://host:port"),
        ("http://me:hunter2#x@p:1", "a proxy is http://host:port or .* \\(%23 for #"),
        ("http://me:12345#x@p:1", "a proxy is http://host:port"),
        ("http://p:1 2", "a proxy is http://host:port"),
    ],
)
def test_what_is_no_proxy(text: str, trouble: str) -> None:
    with pytest.raises(ValueError, match=trouble):
        Proxy.parse(text)
    with pytest.raises(ValueError, match=f"HTTPS_PROXY: .*{trouble}"):
        usual(OPENAI, {"HTTPS_PROXY": text})
