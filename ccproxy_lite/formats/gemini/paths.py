"""Gemini generateContent: its paths, which hold the model and the method.

>>> read_path("/v1beta/models/google%2Fgemini-3:streamGenerateContent", "alt=sse").model
'google/gemini-3'
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote

from ccproxy_lite.formats.format import PathInfo

_PATH = re.compile(r"/(v1(?:beta|alpha)?)/models/(.+)(?::|%3[Aa])(generateContent|streamGenerateContent|countTokens)\Z")


def read_path(path: str, query: str) -> PathInfo | None:
    """What a URL asks for: the model is everything up to the last colon, its percent escapes resolved."""
    matched = _PATH.match(path)
    if matched is None:
        return None
    streams = matched[3] == "streamGenerateContent"
    return PathInfo(
        "count" if matched[3] == "countTokens" else "message",
        unquote(matched[2]).removeprefix("models/"),
        streams,
        streams and not {("alt", "sse"), ("$alt", "sse")} & set(parse_qsl(query)),
        matched[1],
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
