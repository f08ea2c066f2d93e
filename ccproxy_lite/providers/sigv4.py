"""AWS Signature Version 4, with the standard library. Pure: the time is passed in.

A signature covers the method, the path, the query, some headers and the whole body, so a signed request must be sent as
it is; the headers that are not signed may still change. Only ``host`` and AWS' own headers are signed here, as
``botocore`` does.

The path is escaped once more than it is sent: the ``%3A`` of a model's ARN counts as ``%253A``.

Source: "Create a signed AWS API request" in the IAM User Guide, and its test suite.

>>> request = Signable("GET", "example.amazonaws.com", "/")
>>> keys = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
>>> dict(sign(request, keys, Scope("service", "us-east-1"), 1440938160))["authorization"][-10:]
'1d763fbf31'
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import quote

from ccproxy_lite.providers.provider import Headers

_ALGORITHM = "AWS4-HMAC-SHA256"
_SPACES = re.compile(r"\s+")


class AwsKeys(NamedTuple):
    """An access key; the session token is empty for one that does not expire."""

    access_key: str
    secret_key: str
    session_token: str = ""


class Scope(NamedTuple):
    """What a signature is good for, beside its day: the service, by its signing name, and the region."""

    service: str
    region: str


class Signable(NamedTuple):
    """A request: ``target`` is its path and query as they are sent, ``headers`` what is signed beside the usual."""

    method: str
    authority: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def sign(request: Signable, keys: AwsKeys, scope: Scope, wall: float) -> Headers:
    """The headers that sign a request.

    :param wall: seconds since 1970; the service accepts it for five minutes
    """
    stamp = datetime.fromtimestamp(wall, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    added = [("x-amz-date", stamp)]
    if keys.session_token:
        added.append(("x-amz-security-token", keys.session_token))
    day = f"{stamp[:8]}/{scope.region}/{scope.service}/aws4_request"
    canonical, names = canonical_request(request._replace(headers=(*request.headers, *added)))
    text = f"{_ALGORITHM}\n{stamp}\n{day}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{keys.secret_key}".encode()
    for part in day.split("/"):
        key = _hmac(key, part)
    credential = f"Credential={keys.access_key}/{day}"
    signature = _hmac(key, text).hex()
    value = f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
    return [*added, ("authorization", value)]


def canonical_request(request: Signable) -> tuple[str, str]:
    """The text that is signed, and the names of the headers in it."""
    path, _, query = request.target.partition("?")
    values: dict[str, list[str]] = {"host": [request.authority]}
    for name, value in request.headers:
        values.setdefault(name.lower(), []).append(_SPACES.sub(" ", value.strip()))
    names = sorted(values)
    lines = [f"{name}:{','.join(values[name])}" for name in names]
    body = hashlib.sha256(request.body).hexdigest()
    canonical = [request.method, _canonical_path(path), _canonical_query(query), *lines, "", ";".join(names), body]
    return "\n".join(canonical), ";".join(names)


def _canonical_path(path: str) -> str:
    """The path without empty and dot segments, escaped once more."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    return quote(f"/{'/'.join(kept)}{end}", safe="/~")


def _canonical_query(query: str) -> str:
    pairs = [quote(part, safe="=-_.~%").partition("=") for part in query.split("&") if part]
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
