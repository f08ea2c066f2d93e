"""Who may ask: a wrong Host, a browser's foreign Origin, a wrong key and a wrong type of body are rejected early. Pure.

Loopback is no protection against a page in the user's browser: it can send requests to any address, and make its own
name mean 127.0.0.1. The Host header shows the latter, Origin and ``Sec-Fetch-Site`` the former, and a browser asks
before it sends JSON to another site.
"""

from __future__ import annotations

from ccproxy_lite.config.model import Config
from ccproxy_lite.errors import ClientError, printable
from ccproxy_lite.formats import KEY_HEADERS
from ccproxy_lite.net.address import Address, bracketed
from ccproxy_lite.net.heads import OutHeaders, RequestHead
from ccproxy_lite.net.inflate import CODINGS
from ccproxy_lite.relay.headers import presented_keys

_MAX_SHOWN_CHARS = 100
_WITHOUT_ZSTD = "for Codex, set features.enable_request_compression = false in its config.toml"

_PLACES = ["Authorization: Bearer", *KEY_HEADERS]
_NO_KEY = f"missing client key; send it as {', '.join(_PLACES[:-1])} or {_PLACES[-1]}"
_WRONG_KEY = "invalid client key; it is not one of the proxy's client_keys"
_TWO_KEYS = "several different client keys; send only one"


class Access:
    """What one configuration allows.

    :param client_keys: one of these must be sent; without any, no key is required
    """

    def __init__(self, config: Config, client_keys: tuple[str, ...]) -> None:
        self.use_keys(client_keys)
        self._origins = config.cors_origins
        self._address = Address.parse(config.listen)
        self._hosts = {"localhost", "127.0.0.1", "[::1]", *(name.lower() for name in config.allowed_hosts)}
        if not self._address.is_everywhere:
            self._hosts.add(bracketed(self._address.host.lower()))

    def use_keys(self, client_keys: tuple[str, ...]) -> None:
        """From now on clients must send one of these."""
        self._keys = [key.encode() for key in client_keys]

    def check_source(self, head: RequestHead) -> None:
        """Refuse what a page in a browser might send. Raises ClientError."""
        # DNS rebinding: the name of a web page may resolve to this machine.
        if not self._address.path and not self._knows_host(head.host):
            raise _not_allowed("Host", head.host, "allowed_hosts")
        origin = head.get("origin")
        allowed = _is_same_origin(origin, head.host) or origin in self._origins  # the dashboard's own
        if origin is not None and not allowed:
            raise _not_allowed("Origin", origin, "cors_origins")
        is_link = head.path == "/" and head.get("sec-fetch-mode") == "navigate"  # to a page that holds no data
        if not allowed and not is_link and head.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise ClientError(403, "requests from other sites are not allowed", kind="permission")

    def check_key(self, head: RequestHead) -> None:
        """Any of the usual places, but one value; compared in constant time with every key. Raises ClientError."""
        if not self._keys:
            return
        import hmac  # which brings all of OpenSSL's hashes, and is needed for keys only

        # The same key in two headers is fine, two different ones are not.
        given = set(presented_keys(head))
        one = next(iter(given)).encode("utf-8", "replace") if len(given) == 1 else b""
        matches = [hmac.compare_digest(one, key) for key in self._keys]
        if not any(matches):
            raise ClientError(401, _WRONG_KEY if one else _TWO_KEYS if given - {""} else _NO_KEY)

    def is_preflight(self, head: RequestHead) -> bool:
        """Whether a browser asks what it may send from an origin that is allowed."""
        preflighted = head.method == "OPTIONS" and head.get("access-control-request-method")
        return bool(preflighted) and head.get("origin") in self._origins

    def cors(self, head: RequestHead) -> OutHeaders:
        """The CORS headers for a browser; none if its origin is not allowed."""
        origin = head.get("origin")
        if origin is None or origin not in self._origins:
            return []
        allowed = head.get("access-control-request-headers") or "*"
        return [
            ("access-control-allow-origin", origin),
            ("access-control-allow-headers", allowed),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            ("vary", "origin"),
        ]

    def _knows_host(self, value: str) -> bool:
        host = value.lower()
        if not host.endswith("]"):
            host = host.rpartition(":")[0] if ":" in host else host
        host = host.removesuffix(".")
        if host in self._hosts or (host.startswith("127.") and host.replace(".", "").isdigit()):
            return True
        is_number = host.replace(".", "").isdigit() or host.startswith("[")
        return self._address.is_everywhere and is_number and host not in ("0.0.0.0", "[::]")


def _is_same_origin(origin: str | None, host: str) -> bool:
    """Whether an Origin is the request's host, whose name has been checked before."""
    return origin is not None and host != "" and origin.partition("://")[2].lower() == host.lower()


def _not_allowed(header: str, value: str, setting: str) -> ClientError:
    shown = printable(value[:_MAX_SHOWN_CHARS])
    return ClientError(403, f'{header} "{shown}" is not allowed; add it to {setting}', kind="permission")


def check_body_type(head: RequestHead) -> None:
    """JSON only: a web page could send anything else without asking first. Raises ClientError."""
    kind, _, parameters = (head.get("content-type") or "").lower().partition(";")
    if kind.strip() != "application/json":
        raise ClientError(415, "Content-Type must be application/json")
    if "charset" in parameters and "utf-8" not in parameters and "utf8" not in parameters:
        raise ClientError(415, "request body must be UTF-8")
    if head.coding and head.coding not in CODINGS:
        shown = printable(head.coding[:_MAX_SHOWN_CHARS])
        hint = f"; {_WITHOUT_ZSTD}" if head.coding == "zstd" else ""
        raise ClientError(415, f'Content-Encoding "{shown}" is not supported; use gzip, deflate or none{hint}')
