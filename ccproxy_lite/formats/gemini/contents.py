"""Gemini generateContent: contents and their parts, read and written. Source: the SDK's ``types.Content`` and ``Part``.

A signature of thoughts may sit on any part. Neutrally it is a thought: one without text, right before the part that it
stands on; or that of the reasoning on which it stands.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ccproxy_lite.formats import fields, media
from ccproxy_lite.formats.format import Target
from ccproxy_lite.formats.gemini import models, web
from ccproxy_lite.formats.neutral import names, thinking, turns
from ccproxy_lite.formats.neutral.events import Extra
from ccproxy_lite.formats.neutral.losses import Losses
from ccproxy_lite.formats.neutral.request import (
    Audio,
    File,
    Foreign,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    SearchCall,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ccproxy_lite.jsontext import dumps_text, loads

NAME = "gemini"
NAME_LIMITS = names.Limits(re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*\Z"), 128, names.PRINTABLE, 512)

# ---------------------------------------------------------------- spelling

# Values of the user, in which a key such as "first_name" must stay as it is.
_OPAQUE = frozenset(
    "args response parameters parametersJsonSchema responseSchema responseJsonSchema labels partMetadata".split()
)


_LISTS = frozenset(("contents", "parts", "tools", "functionDeclarations"))


_NUMBERS = frozenset(
    "temperature topP topK candidateCount maxOutputTokens seed presencePenalty frequencyPenalty logprobs "
    "thinkingBudget".split()
)
"""The mapping of protocol buffers to JSON allows numbers as text."""


def _number(text: str) -> Any:
    try:
        value = loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


def camel(value: Any) -> Any:
    """The same in camelCase; the service reads snake_case too. Values of the user are left alone."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    spelled = {}
    for key, inner in value.items():
        head, *tail = key.split("_")
        key = head + "".join(word.capitalize() for word in tail) if head else key
        if key in _LISTS and isinstance(inner, dict):  # one of them may stand without a list
            inner = [inner]
        if key in _NUMBERS and isinstance(inner, str):
            inner = _number(inner)
        spelled[key] = inner if key in _OPAQUE else camel(inner)
    return spelled


def standard(data: str) -> str:
    """Standard base64 with its padding, from the URL-safe kind that the SDK sends.

    >>> standard("-_-_-w")
    '+/+/+w=='
    """
    # The SDK encodes bytes URL-safe and without padding.
    data = data.replace("-", "+").replace("_", "/").rstrip("=")
    return data + "=" * (-len(data) % 4)


# ---------------------------------------------------------------- opaque values


# Clients store the placeholder as text or as base64.
_SENTINEL_BASE64 = base64.b64encode(models.SENTINEL.encode()).decode()
_MARK_BASE64 = base64.b64encode(thinking.tag("", "").encode()[:3]).decode()


def read_signature(value: str) -> tuple[str, str, str]:
    """Signature, hidden text and origin of a ``thoughtSignature``; empty for the placeholder."""
    if models.SENTINEL in value:
        return "", "", NAME
    value = standard(value)
    if value == _SENTINEL_BASE64:
        return "", "", NAME
    if not value.startswith(_MARK_BASE64):  # a signature of Gemini, which may be long
        return value, "", NAME
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return value, "", NAME
    return thinking.unseal(text, NAME) if thinking.untag(text) else (value, "", NAME)


def write_signature(signature: str, redacted: str, origin: str) -> str:
    """What stands in a client's ``thoughtSignature``, which must be base64."""
    sealed = thinking.seal(signature, redacted, origin, NAME)
    return (
        sealed if origin == NAME or not sealed else base64.b64encode(sealed.encode("utf-8", "surrogatepass")).decode()
    )


# ---------------------------------------------------------------- reading


def read_contents(body: fields.Object) -> tuple[Message, ...]:
    """The turns. Raises ClientError."""
    calls = _Calls()
    messages: list[Message] = []
    for content, at in fields.objects(body, "contents", ""):
        role = fields.text(content, "role", at, "user")
        if role not in ("user", "model", "function"):
            raise fields.wrong(f"{at}.role", "user or model")
        last = messages[-1] if messages else None
        # A new turn of the model: calls that were not answered never will be.
        if role == "model" and last is not None and last.role == "user":
            calls.forget()
        given = fields.objects(content, "parts", at)
        parts = tuple(read for part, inner in given for read in _read_part(part, inner, calls))
        extra = fields.extra_of(content, frozenset(("role", "parts")))
        turn = Message("assistant" if role == "model" else "user", parts, extra, at)
        # The SDK sends parallel results as several contents.
        if last is not None and last.role == turn.role and not extra:
            messages[-1] = replace(last, parts=last.parts + parts)
        else:
            messages.append(turn)
    return tuple(replace(turn, parts=_without_seams(turn)) for turn in messages)


def _without_seams(turn: Message) -> tuple[Part, ...]:
    """A model's turn without the seams of a stream: adjacent texts joined, and reasoning up to its signature."""
    if turn.role != "assistant":
        return turn.parts
    parts: list[Part] = []
    for part in turn.parts:
        last = parts[-1] if parts else None
        if isinstance(part, Text) and isinstance(last, Text) and not part.extra and not last.extra:
            parts[-1] = replace(last, text=last.text + part.text)
        elif _continues(part, last):
            assert isinstance(part, Thinking) and isinstance(last, Thinking)
            parts[-1] = replace(part, text=last.text + part.text, at=last.at)
        elif not isinstance(part, Text) or part.text:
            parts.append(part)
    return tuple(parts)


def _continues(part: Part, last: Part | None) -> bool:
    if not isinstance(part, Thinking) or not isinstance(last, Thinking) or last.signature or last.redacted:
        return False
    return "thought" in part.extra or bool(part.text)


def detail_of(resolution: str) -> str:
    """The image detail that Gemini's ``MediaResolution`` stands for; empty for levels between."""
    level = resolution.rpartition("_")[2].lower()
    return level if level in ("low", "high") else ""


def with_detail(messages: tuple[Message, ...], detail: str) -> tuple[Message, ...]:
    """The turns with a detail level on every image that has none."""

    def detailed(part: Part) -> Part:
        return replace(part, detail=detail) if isinstance(part, Image) and not part.detail else part

    return tuple(replace(turn, parts=tuple(map(detailed, turn.parts))) for turn in messages)


class _Calls:
    """The calls of the model's last turn that wait for their results, which may come without an id."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str]] = []

    def add(self, call_id: str, name: str) -> None:
        self._waiting.append((call_id, name))

    def forget(self) -> None:
        """The model has gone on: what was not answered never will be."""
        self._waiting.clear()

    def answer(self, call_id: str, name: str, at: str) -> str:
        """The id of the call that a result belongs to: by its id, else the first of that name."""
        match = next((call for call in self._waiting if call_id and call[0] == call_id), None)
        match = match or next((call for call in self._waiting if call[1] == name), None)
        if match is not None:
            self._waiting.remove(match)
            return match[0]
        return call_id or names.made_up_id("nobody's", at)


_META = frozenset(("thought", "thoughtSignature"))
_KINDS = (
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult",
    "toolCall", "toolResponse",
)  # fmt: skip


def _read_part(part: fields.Object, at: str, calls: _Calls) -> Iterable[Part]:
    kind = next((kind for kind in _KINDS if part.get(kind) is not None), "")
    extra = fields.extra_of(part, _META | {kind})
    signature, redacted, origin = read_signature(fields.text(part, "thoughtSignature", at, ""))
    # Reasoning; a signature on any other part stands for reasoning that is not shown.
    if part.get("thought") is True and kind in ("text", ""):
        text = fields.text(part, "text", at, "")
        if text or signature or redacted:
            yield Thinking(text, signature, redacted, origin, {"thought": True}, at)
        return
    if signature or redacted:
        yield Thinking("", signature, redacted, origin, at=f"{at}.thoughtSignature")
    match kind:
        case "text":
            yield Text(fields.text(part, "text", at), extra, at)
        case "inlineData":
            detail = detail_of(fields.lenient(part.get("mediaResolution"), "level"))
            if detail:
                extra = {key: value for key, value in extra.items() if key != "mediaResolution"}
            yield _read_blob(fields.as_object(part[kind], f"{at}.{kind}"), detail, extra, at)
        case "fileData":
            yield _read_file(fields.as_object(part[kind], f"{at}.{kind}"), extra, at)
        case "functionCall":
            yield _read_call(fields.as_object(part[kind], f"{at}.{kind}"), extra, at, calls)
        case "functionResponse":
            yield _read_result(fields.as_object(part[kind], f"{at}.{kind}"), extra, at, calls)
        case _ if part.keys() - _META:
            yield Foreign(kind or next(iter(part.keys() - _META)), dict(part), at)


def _read_blob(blob: fields.Object, detail: str, extra: Extra, at: str) -> Image | File | Audio | Foreign:
    where = f"{at}.inlineData"
    data = standard(fields.text(blob, "data", where))
    media_type = _media_type(blob, where) or media.sniffed(data)
    if not media_type:
        raise fields.wrong(f"{where}.mimeType", "a media type")
    name = fields.text(blob, "displayName", where, "")
    extra = {**extra, **fields.extra_of(blob, frozenset(("mimeType", "data", "displayName")), "inlineData")}
    if media_type.startswith("image/"):
        return Image(media_type.replace("image/jpg", "image/jpeg"), data, detail=detail, extra=extra, at=at)
    if media_type.startswith("audio/"):
        return Audio(data, _AUDIO.get(media_type, media_type[6:]), extra, at)
    if media_type.startswith("video/"):
        return Foreign("video", {"inlineData": dict(blob)}, at)
    if media_type.startswith("text/plain"):
        return File("text/plain", text=media.plain(data, f"{where}.data"), name=name, extra=extra, at=at)
    return File(media_type, data, name=name, extra=extra, at=at)


def _media_type(holder: fields.Object, at: str) -> str:
    return fields.text(holder, "mimeType", at, "").lower().partition(";")[0].strip()


_AUDIO = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}
_PROVIDER = "https://generativelanguage.googleapis.com/"


def _read_file(file: fields.Object, extra: Extra, at: str) -> Image | File | Foreign:
    uri = fields.text(file, "fileUri", f"{at}.fileData")
    implied = media.type_of_url(uri, "")
    media_type = _media_type(file, f"{at}.fileData") or implied
    name = fields.text(file, "displayName", f"{at}.fileData", "")
    extra = {**extra, **fields.extra_of(file, frozenset(("mimeType", "fileUri", "displayName")), "fileData")}
    # Videos cannot be expressed elsewhere; audio by URL neither.
    if media_type.startswith(("video/", "audio/")) or "youtube.com/" in uri or "youtu.be/" in uri:
        return Foreign("video", {"fileData": dict(file)}, at)
    # Files that were uploaded to Google, or lie in its storage (gs://).
    is_stored = uri.startswith(_PROVIDER) or not uri.startswith(("http://", "https://"))
    if media_type.startswith("image/"):
        image = Image(file_id=uri, extra=extra, at=at) if is_stored else Image(url=uri, extra=extra, at=at)
        return image if media_type == implied or not is_stored else replace(image, media_type=media_type)
    known_file = File(media_type or "application/pdf", name=name, extra=extra, at=at)
    return replace(known_file, file_id=uri) if is_stored else replace(known_file, url=uri)


def _read_call(call: fields.Object, extra: Extra, at: str, calls: _Calls) -> ToolCall:
    where = f"{at}.functionCall"
    name = fields.text(call, "name", where)
    call_id = fields.text(call, "id", where, "") or names.made_up_id(at, name)
    calls.add(call_id, name)
    arguments = dumps_text(fields.optional_object(call, "args", where) or {})
    extra = {**extra, **fields.extra_of(call, frozenset(("id", "name", "args")), "functionCall")}
    return ToolCall(call_id, name, arguments, extra=extra, at=at)


_RESPONSE = frozenset(("id", "name", "response", "parts"))


def _read_result(result: fields.Object, extra: Extra, at: str, calls: _Calls) -> ToolResult:
    where = f"{at}.functionResponse"
    name = fields.text(result, "name", where, "")
    call_id = calls.answer(fields.text(result, "id", where, ""), name, at)
    response = fields.optional_object(result, "response", where) or {}
    is_error = response.get("error") is not None
    value: Any = response
    # The usual wrappings of a plain text.
    if response.keys() in ({"output"}, {"error"}, {"result"}):
        value = next(iter(response.values()))
    text = value if isinstance(value, str) else dumps_text(value)
    content: list[Any] = [Text(text, at=f"{where}.response")] if text and response else []
    for part, inner in fields.objects(result, "parts", where):
        content += [read for read in _read_part(part, inner, calls) if isinstance(read, Image | File | Audio | Foreign)]
    extra = {**extra, **fields.extra_of(result, _RESPONSE, "functionResponse")}
    return ToolResult(call_id, tuple(content), is_error, name, extra, at)


# ---------------------------------------------------------------- writing


def write_contents(request: Request, target: Target, losses: Losses) -> list[dict[str, Any]]:
    """All turns, each role in its turn, results right after their calls. Raises ClientError."""
    rules = turns.Rules(
        lambda thought: thought.origin == NAME and bool(thought.signature),
        media=True,
        searches=web.can_return,
        drops_unsealed=True,
    )
    paired = turns.paired(turns.fitting(turns.in_place(request.messages, target.quirks), rules, losses), losses)
    called: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    if paired and paired[0].role == "assistant":  # Gemini wants a user turn first
        written.append({"role": "user", "parts": [{"text": " "}]})
    # Gemini 3 requires a signature on the first call of each step since the user's last question; so that a turn stays
    # as it is when the next question comes, and its beginning in the cache, older steps keep theirs.
    sentinel = models.wants_sentinel(target.model, target.quirks)
    for turn in paired:
        called.update((part.id, part.name) for part in turn.parts if isinstance(part, ToolCall))
        parts = list(_write_turn(turn, called, target, losses, sentinel))
        written.append({"role": "model" if turn.role == "assistant" else "user", "parts": parts})
    turns.name_prefill(paired, losses)
    return written


def _write_turn(
    turn: Message, called: Mapping[str, str], target: Target, losses: Losses, sentinel: bool
) -> Iterable[dict[str, Any]]:
    """The parts of a turn; a signature without text sits on what follows it, or on an empty text at the end."""
    signature = ""
    for part in turn.parts:
        if isinstance(part, Thinking) and not part.text and "thought" not in part.extra:
            signature = part.signature
            continue
        for written in _write_part(part, called, target, losses):
            # A signature belongs to the first part behind it, a call before all.
            if "functionCall" in written:
                # The call of another provider has none: the placeholder switches the check off.
                seal = signature or (models.SENTINEL if sentinel else "")
                sentinel = False
                yield {**written, "thoughtSignature": seal} if seal else written
            else:
                yield {**written, "thoughtSignature": signature} if signature else written
            signature = ""
    if signature:
        yield {"text": "", "thoughtSignature": signature}


def _write_part(part: Part, called: Mapping[str, str], target: Target, losses: Losses) -> Iterable[dict[str, Any]]:
    losses.lose_extra(part.extra, part.at)
    match part:
        case Text():
            yield {"text": part.text}
        case Refusal():  # it was a text for the user
            yield {"text": part.text}
        case Thinking():
            seal = {"thoughtSignature": part.signature} if part.signature else {}
            yield {"text": part.text, "thought": True, **seal}
        case Image() | File() | Audio():
            yield _write_media(part, losses)
        case SearchCall():
            yield from web.write_history(part)
        case ToolCall():
            call_id, name = names.fit_id(part.id, NAME_LIMITS), names.fit_name(part.name, NAME_LIMITS)
            yield {"functionCall": {"id": call_id, "name": name, "args": names.call_arguments(part)}}
        case ToolResult():
            yield from _write_result(part, called, target, losses)


def _write_media(part: Image | File | Audio, losses: Losses) -> dict[str, Any]:
    if isinstance(part, Audio):
        return {"inlineData": {"mimeType": f"audio/{part.format}", "data": part.data}}
    if isinstance(part, File) and media.is_text(part):
        return {"text": media.as_text(part)}
    if isinstance(part, File) and part.name:
        losses.lose_name(part.at)
    if part.data:
        return {"inlineData": {"mimeType": part.media_type or "application/octet-stream", "data": part.data}}
    if part.file_id:
        raise losses.rejection("file_id", part.at)
    default = "image/jpeg" if isinstance(part, Image) else "application/pdf"
    return {"fileData": {"mimeType": part.media_type or media.type_of_url(part.url, default), "fileUri": part.url}}


def _write_result(
    part: ToolResult, called: Mapping[str, str], target: Target, losses: Losses
) -> Iterable[dict[str, Any]]:
    """The result as an object, and its images: inside it from Gemini 3 on, behind it before."""
    texts, others = [], []
    for inner in part.content:
        if isinstance(inner, Foreign):
            losses.lose_foreign(inner)
            continue
        for one in _write_part(inner, called, target, losses):
            if "text" in one:
                texts.append(one["text"])
            else:
                others.append(one)
    name = names.fit_name(called.get(part.call_id) or part.name, NAME_LIMITS)
    response: dict[str, Any] = {"id": names.fit_id(part.call_id, NAME_LIMITS), "name": name}
    response["response"] = {"error" if part.is_error else "output": "\n".join(texts)}
    # Gemini 2.5 ignores media inside a result.
    within = (models.gemini_version(target.model) or (0, 0)) >= (3, 0)
    if others and within:
        response["parts"] = others
    yield {"functionResponse": response}
    if not within:
        yield from others


# ---------------------------------------------------------------- the same format on both sides


def without_foreign(body: fields.Object) -> dict[str, Any] | None:
    """The body without reasoning of other providers; None if there is none."""
    inner = body.get("generateContentRequest")
    if isinstance(inner, dict):
        mended = without_foreign(inner)
        return None if mended is None else {**body, "generateContentRequest": mended}
    changed = False

    def cleaned(part: Any) -> Any:
        nonlocal changed
        key = "thoughtSignature" if isinstance(part, dict) and "thoughtSignature" in part else "thought_signature"
        value = part.get(key) if isinstance(part, dict) else None
        if not isinstance(value, str) or read_signature(value)[2] == NAME:
            return part
        changed = True
        if part.get("thought") is True:
            return None
        # A call needs some signature, any other part none.
        without_signature = {name: inner for name, inner in part.items() if name != key}
        is_call = "functionCall" in part or "function_call" in part
        return {**without_signature, key: models.SENTINEL} if is_call else without_signature

    contents = []
    for content in fields.lenient_list(body, "contents"):
        if isinstance(content, dict) and isinstance(content.get("parts"), list):
            parts = [part for part in map(cleaned, content["parts"]) if part]
            if content["parts"] and not parts:
                continue
            content = {**content, "parts": parts}
        contents.append(content)
    return {**body, "contents": contents} if changed else None
