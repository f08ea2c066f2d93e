"""Media types and base64 of images, documents and audio. Pure.

>>> data_url("data:image/png;base64,aGk=", "")
('image/png', 'aGk=')
"""

from __future__ import annotations

import base64
import binascii

from ccproxy_lite.errors import ClientError
from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral.events import Extra
from ccproxy_lite.formats.neutral.request import File, Image


def data_url(url: str, at: str) -> tuple[str, str]:
    """Media type and standard base64 of a data URL. Raises ClientError."""
    head, comma, data = url[5:].partition(",")
    media_type, *parameters = [word.strip() for word in head.split(";")]
    if not comma or "base64" not in parameters:
        raise ClientError(400, f"{at} must be a base64 data URL", param=at)
    return media_type.lower() or sniffed(data), data


_MAGIC = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"%PDF": "application/pdf",
}


def sniffed(data: str) -> str:
    """The media type that the first bytes show; empty if they show none."""
    try:
        start = base64.b64decode(data[:16])
    except (binascii.Error, ValueError):
        return ""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")


def image(url: str, detail: str, extra: Extra, at: str) -> Image:
    """An image that is a data URL or an http(s) URL, as in OpenAI's formats. Raises ClientError."""
    if url.startswith("data:"):
        media_type, data = data_url(url, at)
        return Image(media_type.replace("image/jpg", "image/jpeg"), data, detail=detail, extra=extra, at=at)
    return Image(url=web_url(url, at), detail=detail, extra=extra, at=at)


def web_url(url: str, at: str) -> str:
    """An address that a service may fetch. Raises ClientError for any other."""
    if not url.lower().startswith(("http://", "https://")):
        raise ClientError(400, f"{at} must be an http(s) or data URL", param=at)
    return url


_MAX_SCHEME_CHARS = 20


def file(value: str, name: str, extra: Extra, at: str, where: str) -> File:
    """A file that is a data URL, bare base64 or an address; it stands at the path ``where``. Raises ClientError."""
    if "://" in value[:_MAX_SCHEME_CHARS]:
        url = web_url(value.strip(), where)
        return File(type_of_url(url, "application/pdf"), url=url, name=name, extra=extra, at=at)
    if value.startswith("data:"):
        media_type, data = data_url(value, where)
    else:
        media_type, data = sniffed(value) or "application/pdf", value
    if media_type.startswith("text/plain"):
        return File("text/plain", text=plain(data, where), name=name, extra=extra, at=at)
    return File(media_type, data, name=name, extra=extra, at=at)


def plain(data: str, where: str) -> str:
    """The text that base64 stands for. Raises ClientError."""
    try:
        return base64.b64decode(data).decode()
    except ValueError:
        raise fields.wrong(where, "base64 of UTF-8 text") from None


def is_text(part: File) -> bool:
    """Whether a document's text is known, so that it can be sent as text."""
    return bool(part.text) or (part.media_type == "text/plain" and not part.url and not part.file_id)


def as_text(part: File) -> str:
    """A text document as plain text, its name first."""
    return f"{part.name}\n{part.text}" if part.name else part.text


_EXTENSIONS = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
    "heic": "image/heic", "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown", "csv": "text/csv",
}  # fmt: skip


def type_of_url(url: str, default: str) -> str:
    """The media type that the extension in a URL's path stands for."""
    name = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return _EXTENSIONS.get(name.rpartition(".")[2].lower(), default)
