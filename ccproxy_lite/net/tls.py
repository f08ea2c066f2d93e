"""TLS towards upstreams: trust roots, versions, and what a failure means in words. Verification is always on.

The roots of certifi are read from memory, because ``certifi.where()`` writes a file when the program runs from a zip.
"""

from __future__ import annotations

import os
import socket
import ssl
from functools import lru_cache

from ccproxy_lite.errors import ConfigError

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
"""Where other programs on this machine find the roots of a company."""

_SYSTEM_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


@lru_cache(maxsize=32)
def client_context(ca_file: str = "", client_cert: str = "", more: tuple[tuple[str, str], ...] = ()) -> ssl.SSLContext:
    """A verifying client context, TLS 1.2 or newer. Raises ConfigError for a file that cannot be used.

    :param ca_file: PEM file with roots that are trusted beside certifi's
    :param client_cert: PEM file with certificate and key for mutual TLS
    :param more: further files and folders of roots, and what to call each: a variable's name
    """
    import certifi

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cadata=certifi.contents())
    for name, path in (*more, *((("ca_file", ca_file),) if ca_file else ())):
        try:
            is_folder = os.path.isdir(path)  # one whose files are named by hash, as c_rehash does
            context.load_verify_locations(*((None, path) if is_folder else (path, None)))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError([f"{name}: {path}: {_file_problem(error)}"]) from None
    if client_cert:
        try:
            # Without a password function, OpenSSL would prompt at the terminal.
            context.load_cert_chain(client_cert, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigError([f"client_cert: {client_cert}: {_file_problem(error)}"]) from None
    return context


def _file_problem(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    if any(word in reason for word in ("NO_CERTIFICATE_OR_CRL_FOUND", "NO_START_LINE", "PEM lib", "BAD_BASE64")):
        return "holds no usable PEM certificate (with its unencrypted key, where it is the client's)"
    if reason == "KEY_VALUES_MISMATCH":
        return "its key does not belong to its certificate"
    if isinstance(error, ssl.SSLError | ValueError):
        return f"cannot be used: {reason}; a PEM file with certificate and unencrypted key is needed"
    return getattr(error, "strerror", None) or str(error)


def context_for(ca_file: str, client_cert: str) -> ssl.SSLContext:
    """The context of an upstream, with the roots that the environment names."""
    by_path: dict[str, str] = {}  # most machines that have them name one file in all of them
    for name in VARIABLES:
        for path in filter(None, os.environ.get(name, "").split(os.pathsep)):
            by_path.setdefault(path, name)
    return client_context(ca_file, client_cert, tuple((name, path) for path, name in by_path.items()))


def named_roots() -> list[str]:
    """The variables of this environment that name more roots."""
    return [name for name in VARIABLES if os.environ.get(name)]


_VERIFY = {
    9: "its certificate is not valid yet; is this machine's clock right?",
    10: "its certificate has expired (or this machine's clock is wrong)",
    18: "its certificate is self-signed; name it in ca_file if you trust it",
    19: "its certificate chain ends in an unknown root",
    20: "its certificate comes from an unknown authority",
    62: "its certificate is for another host name; is base_url right?",
    64: "its certificate is for another IP address; is base_url right?",
}


def _untrusted(code: int, message: str) -> str:
    """What a verification error of OpenSSL's means (the numbers of x509_vfy.h), and what to do."""
    if code not in (19, 20):
        return _VERIFY.get(code, message)
    system_roots = next((path for path in _SYSTEM_ROOTS if os.path.exists(path)), "")
    hint = f"; if programs of this machine trust it: SSL_CERT_FILE={system_roots}" if system_roots else ""
    return f"{_VERIFY[code]} (a proxy that inspects TLS?); name its root in ca_file or SSL_CERT_FILE{hint}"


def describe(error: BaseException, host: str, port: int) -> str:
    """Why a connection could not be made, in one line that says what to do.

    >>> describe(ConnectionRefusedError(), "localhost", 9)
    'localhost:9 refused the connection'
    """
    where = f"{host}:{port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{where} is not trusted: {_untrusted(error.verify_code, error.verify_message)}"
    if isinstance(error, ssl.SSLError):
        # OpenSSL's words for a server that answers in plain text.
        plain = "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error)
        reason = error.reason or "handshake failed"
        hint = "server does not speak TLS on this port; did you mean http://?" if plain else reason
        if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
            hint = f"{reason}; server may require a client certificate; set client_cert"
        return f"TLS with {where} failed: {hint}"
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"cannot resolve host {host}"
    if isinstance(error, TimeoutError):
        return f"connection to {where} timed out"
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused the connection"
    if isinstance(error, ConnectionResetError):
        return f"{where} reset the connection"
    if isinstance(error, OSError):
        return f"{where} cannot be reached: {error.strerror or error}"
    return f"{where} cannot be reached"
