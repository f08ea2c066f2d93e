"""What proves to a service who asks: a key or token in a header, or access keys with which a request is signed. Pure.

A secret is a text. Most are sent as they are. Those with several parts are JSON behind a mark that nobody can type, so
that no user's text is taken for one:

    {"AccessKeyId": ..., "SecretAccessKey": ..., "SessionToken": ...}     AWS: the request is signed, nothing is sent
    {"token": ..., "quota_project": ...}                                  Google: a token, and who pays for the request

``secret_of`` makes one from what helpers, token services and metadata servers answer. Where it goes is said by words,
one for each header that carries it: ``bearer``, the header's name, or ``none``.

>>> key_headers(("x-api-key", "bearer"), "K")
[('x-api-key', 'K'), ('authorization', 'Bearer K')]

Sources: "Sourcing credentials with an external process" in the AWS CLI's guide; RFC 6749; ``az account
get-access-token``; the metadata servers of both clouds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from ccproxy_lite.errors import NO_SECRET, UpstreamError
from ccproxy_lite.jsontext import dumps, loads
from ccproxy_lite.providers.provider import Headers, Outbound

if TYPE_CHECKING:
    from ccproxy_lite.providers.sigv4 import AwsKeys

ReadText = Callable[[str], str]
"""The text of the file at a path. Raises OSError, or ValueError for what is no text."""
GOOGLE, AWS = "google:", "aws:"
"""How the references begin whose secrets a cloud gives (see ``clouds``)."""
AUTHS = ("bearer", "x-api-key", "api-key", "x-goog-api-key", "none")
"""How a service may want its key."""
KEY_HEADERS = tuple(auth for auth in AUTHS if auth not in ("bearer", "none"))
"""The headers that carry nothing but a key."""
_MARK = "\x1f"
_TOKEN_NAMES = ("access_token", "accessToken", "token", "id_token")
_SECRET_PARTS = ("token", "SecretAccessKey", "SessionToken")
_MAX_SECONDS = 1e11
"""Since 1970, or from now; what is more is no time."""


def is_sendable(secret: str) -> bool:
    """Whether a key can stand in a header."""
    return secret.isascii() and secret.isprintable() and " " not in secret


class Secret(NamedTuple):
    """A secret, and when it expires in seconds since 1970; None where that is unknown."""

    text: str
    expires_at: float | None = None


def secret_of(text: str, wall: float, quota_project: str = "") -> Secret:
    """The secret in what a helper has printed: a token, or JSON that holds a token or access keys.

    Raises ValueError for JSON without any.

    :param wall: now, in seconds since 1970
    :param quota_project: of a Google token
    """
    text = text.strip()
    if not text.startswith("{") and "\n" in text:
        raise ValueError(f"its output has {len(text.splitlines())} lines; a token is one")
    found = secret_in(text, wall, quota_project) if text.startswith("{") else Secret(text)
    if found.expires_at is not None and found.expires_at < wall:
        raise ValueError("its output has expired already; log in again")
    return found


def secret_in(text: str, wall: float, quota_project: str = "") -> Secret:
    """The same where only JSON is an answer, as services give it. Raises ValueError."""
    try:
        told = loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ValueError("its output is no JSON object")
    keys = {"AccessKeyId": told.get("AccessKeyId"), "SecretAccessKey": told.get("SecretAccessKey")}
    if any(keys.values()):
        if not all(isinstance(value, str) and value for value in keys.values()):
            raise ValueError("its output needs AccessKeyId and SecretAccessKey")
        token = told.get("SessionToken") or told.get("Token")  # as the metadata servers call it
        found = _MARK + dumps({**keys, **({"SessionToken": str(token)} if token else {})})
    else:
        found = next((told[name] for name in _TOKEN_NAMES if isinstance(told.get(name), str) and told[name]), "")
        if not found:
            raise ValueError("its output is JSON without a token and without access keys")
        project = quota_project or str(told.get("quota_project") or "")
        found = _MARK + dumps({"token": found, "quota_project": project}) if project else found
    if not all(is_sendable(part) for part in _members(found).values()):
        raise ValueError("its output contains characters not allowed in an HTTP header")
    return Secret(found, _expires_at(told, wall))


def _expires_at(told: Mapping[str, Any], wall: float) -> float | None:
    seconds, stamp = told.get("expires_in"), told.get("expires_on")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and abs(seconds) < _MAX_SECONDS:
        return wall + seconds
    if isinstance(stamp, int | str) and str(stamp).isdigit() and int(stamp) < _MAX_SECONDS:
        return float(stamp)
    try:
        when = datetime.fromisoformat(str(told.get("Expiration")).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()


def is_structured(secret: str) -> bool:
    """Whether a secret has several parts."""
    return secret.startswith(_MARK)


def _members(secret: str) -> dict[str, str]:
    """The parts of a secret by their names; a plain one has no name."""
    members: dict[str, str] = loads(secret[1:]) if is_structured(secret) else {"": secret}
    return members


def parts(secret: str) -> tuple[str, ...]:
    """The values in a secret that must not be shown.

    >>> parts("K"), parts(secret_of('{"AccessKeyId": "A", "SecretAccessKey": "S"}', 0).text)
    (('K',), ('S',))
    """
    return tuple(value for name, value in _members(secret).items() if name in ("", *_SECRET_PARTS))


def identity(secret: str) -> str:
    """The part of a secret by which users tell keys apart."""
    members = _members(secret)
    return members.get("AccessKeyId") or members.get("token") or secret


def aws_keys(secret: str) -> AwsKeys | None:
    """The access keys in a secret, or None if it is none of AWS."""
    members = _members(secret)
    if "AccessKeyId" not in members:
        return None
    from ccproxy_lite.providers.sigv4 import AwsKeys  # most proxies never sign

    return AwsKeys(members["AccessKeyId"], members["SecretAccessKey"], members.get("SessionToken", ""))


def is_token(secret: str) -> bool:
    """Whether a secret is a JSON Web Token, as Entra issues them, and no key."""
    return re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", secret) is not None


def key_headers(auths: Iterable[str], secret: str) -> Headers:
    """The headers that carry a key, and Google's project beside a token; none for access keys, which sign."""
    project = ""
    if is_structured(secret):
        members = _members(secret)
        secret, project = members.get("token", ""), members.get("quota_project", "")
    if not secret:
        return []
    headers = [
        ("authorization", f"Bearer {secret}") if auth == "bearer" else (auth, secret)
        for auth in auths
        if auth != "none"
    ]
    return [*headers, ("x-goog-user-project", project)] if project and headers else headers


def signed(outbound: Outbound, secret: str, service: str, region: str) -> Outbound:
    """A request that will be signed, if the secret is of AWS; else the same. Raises UpstreamError.

    :param service: its name in signatures; empty for a host that takes none
    """
    keys = aws_keys(secret) if is_structured(secret) else None
    if keys is None:
        return outbound
    if not service or not region:
        what = "needs a region" if service else "takes no AWS signatures; use an API key"
        raise UpstreamError(f"{outbound.base_url} {what}", kind="auth", code=NO_SECRET)
    from ccproxy_lite.providers.sigv4 import Scope, Signable, sign

    def headers(sent: Outbound, authority: str, wall: float) -> Headers:
        request = Signable(sent.method, authority, sent.target, (), sent.body)
        return sign(request, keys, Scope(service, region), wall)

    return outbound._replace(sign=headers)
