"""TLS towards upstreams: trust roots, versions, and what a failure means in words. Verification is always on.

The roots of certifi are read from memory, because ``certifi.where()`` writes a file when the program runs from a zip.
"""

from __future__ import annotations

import os
import socket
import ssl
from functools import lru_cache

from ccproxy_lite.errors import ConfigError


@lru_cache(maxsize=32)
def client_context(ca_file: str = "", client_cert: str = "", env_ca_file: str = "") -> ssl.SSLContext:
    """A verifying client context, TLS 1.2 or newer. Raises ConfigError for a file that cannot be used.

    :param ca_file: PEM file with roots that are trusted beside certifi's
    :param client_cert: PEM file with certificate and key for mutual TLS
    :param env_ca_file: the value of ``SSL_CERT_FILE``: roots that are trusted as well
    """
    import certifi

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cadata=certifi.contents())
    for name, path in (("SSL_CERT_FILE", env_ca_file), ("ca_file", ca_file)):
        if path:
            try:
                context.load_verify_locations(cafile=path)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError([f"{name}: {path}: {error.strerror or error}"]) from None
    if client_cert:
        try:
            context.load_cert_chain(client_cert)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f"client_cert: {client_cert}: {error.strerror or error}"]) from None
    return context


def context_for(ca_file: str, client_cert: str) -> ssl.SSLContext:
    """The context of an upstream, with the roots that the environment names."""
    return client_context(ca_file, client_cert, os.environ.get("SSL_CERT_FILE", ""))


_VERIFY = {
    10: "its certificate has expired",
    18: "its certificate is self-signed; name it in ca_file if you trust it",
    19: "its certificate chain ends in an unknown root; name the root in ca_file or SSL_CERT_FILE",
    20: "its certificate comes from an unknown authority; name its root in ca_file or SSL_CERT_FILE",
    62: "its certificate is for another host name",
    64: "its certificate is for another IP address",
}


def describe(error: BaseException, host: str, port: int) -> str:
    """Why a connection could not be made, in one line that says what to do.

    >>> describe(ConnectionRefusedError(), "localhost", 9)
    'localhost:9 refused the connection'
    """
    where = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{where} is not trusted: {_VERIFY.get(error.verify_code, error.verify_message)}"
    if isinstance(error, ssl.SSLError):
        plain = "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error)
        hint = "it answers without TLS; is its base_url http://?" if plain else (error.reason or "handshake failed")
        return f"TLS with {where} failed: {hint}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"the name {host} does not resolve"
    if isinstance(error, TimeoutError):
        return f"{where} did not accept a connection in time"
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused the connection"
    if isinstance(error, ConnectionResetError):
        return f"{where} reset the connection"
    if isinstance(error, OSError):
        return f"{where} cannot be reached: {error.strerror or error}"
    return f"{where} cannot be reached"
