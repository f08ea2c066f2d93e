"""Gemini generateContent: its paths, which hold the model and the method.

>>> read_path("/v1beta/models/google%2Fgemini-3:streamGenerateContent", "alt=sse").model
'google/gemini-3'
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote

from ccproxy_lite.formats.format import PathInfo

_METHOD = "(?::|%3[Aa])(generateContent|streamGenerateContent|countTokens)"
_PATH = re.compile(rf"/(v1(?:beta|alpha)?)/models/(.+){_METHOD}\Z")
_PUBLISHED = re.compile(rf"/v1(?:beta1)?/(?:projects/[^/]+/locations/[^/]+/)?publishers/google/models/(.+){_METHOD}\Z")
"""The same as clients of Google's cloud spell it."""


def read_path(path: str, query: str) -> PathInfo | None:
    """What a URL asks for: the model is everything up to the last colon, its percent escapes resolved."""
    matched, published = _PATH.match(path), _PUBLISHED.match(path)
    if matched is not None:
        version, model, method = matched.groups()
    elif published is not None:
        version, (model, method) = "", published.groups()
    else:
        return None
    streams = method == "streamGenerateContent"
    return PathInfo(
        "count" if method == "countTokens" else "message",
        unquote(model).removeprefix("models/"),
        streams,
        streams and not {("alt", "sse"), ("$alt", "sse")} & set(parse_qsl(query)),
        version,
    )


def write_path(model: str, path: PathInfo) -> str:
    """The path and query for an upstream. A stream is always requested as server-sent events."""
    method = "streamGenerateContent?alt=sse" if path.streams else "generateContent"
    return _with_method(model, path, method)


def count_path(model: str, path: PathInfo) -> str:
    """The path of the counting endpoint."""
    return _with_method(model, path, "countTokens")


def _with_method(model: str, path: PathInfo, method: str) -> str:
    safe = "" if ".." in model.split("/") else "/"  # a name must not climb out of its folder
    return f"/{path.version or 'v1beta'}/models/{quote(model, safe=safe)}:{method}"
