"""Reasoning in Chat Completions: the format has no field for it, so there are conventions, and all of them are read.

    reasoning_content, reasoning      text (DeepSeek, vLLM and most others; a list or an object at some)
    content: [{"type": "thinking"}]   text between the texts of the answer (Mistral)
    thinking_blocks                   Anthropic's blocks, signed (LiteLLM)
    reasoning_details                 a list of items, some of them sealed (OpenRouter, Vercel's gateway, Snowflake)

``reasoning_details`` must come back to the service on the assistant's message, or it rejects the second turn of a tool
loop. So the list travels as one opaque value in the slot that the client's format has for signatures: ``seal`` makes
it, ``unseal`` gives the list back. In a stream the items come in fragments, which ``Details`` puts together.

>>> unseal(seal([{"type": "reasoning.text", "text": "Hm", "signature": "s"}], "Hm"), "Hm")
[{'type': 'reasoning.text', 'signature': 's', 'text': 'Hm'}]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ccproxy_lite.formats import fields
from ccproxy_lite.formats.neutral import thinking
from ccproxy_lite.formats.neutral.request import Thinking
from ccproxy_lite.jsontext import dumps_text, loads

NAME = "openai-chat"
DETAILS = "reasoning_details"
BLOCKS = "thinking_blocks"
SEALED = (DETAILS, BLOCKS)
"""The lists that come back to the service; they travel as one, their items' types tell them apart."""
_TEXTS = {"reasoning.text": "text", "reasoning.summary": "summary", "thinking": "thinking"}
_BLOCK_TYPES = ("thinking", "redacted_thinking")
_GROWING = ("text", "summary", "thinking", "data")
_PLAIN = ("reasoning_content", "reasoning")


def text_of(value: Any) -> str:
    """A text; some servers send a list of parts, or an object."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(text_of(part) for part in value)
    return fields.lenient(value, "text")


def plain_text(message: Mapping[str, Any]) -> str:
    """The reasoning of a message, or of a delta, as far as it is plain text; several fields repeat each other."""
    for key in _PLAIN:
        value = message.get(key)
        if value:
            text = value if isinstance(value, str) else text_of(value)
            if text:
                return text
    return ""


# ---------------------------------------------------------------- reasoning_details


def seal(details: list[dict[str, Any]], text: str) -> str:
    """A list of details as one opaque value; a text that the reasoning shows anyway is left out of it."""
    shown = [item for item in details if _text_in(item)]
    if len(shown) == 1 and _text_in(shown[0]) == text:
        field = _TEXTS[shown[0]["type"]]
        details = [{k: v for k, v in item.items() if item is not shown[0] or k != field} for item in details]
    return dumps_text(details)


def is_sealed(signature: str) -> bool:
    """Whether a signature is such a value."""
    return signature.startswith("[{")


def unseal(value: str, text: str) -> list[dict[str, Any]]:
    """The details in an opaque value; empty for any other signature."""
    details = _list_in(value) if is_sealed(value) else []
    for item in details:
        field = _TEXTS.get(str(item.get("type")))
        if field is not None and field not in item and text:
            item[field] = text
    return details


def _list_in(value: str) -> list[dict[str, Any]]:
    try:
        items = loads(value)
    except ValueError:  # the client has changed it
        return []
    return [item for item in items if isinstance(item, dict)]


def _text_in(item: Mapping[str, Any]) -> str:
    return fields.lenient(item, _TEXTS.get(str(item.get("type")), ""))


class Details:
    """The details of an answer, as far as their fragments have arrived and no part has carried them away."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def add(self, fragments: Any) -> str:
        """More of the details; returns the text in them."""
        text = ""
        for fragment in fragments if isinstance(fragments, list) else ():
            if isinstance(fragment, dict):
                text += _text_in(fragment)
                self._merge(fragment)
        return text

    def take(self, text: str) -> str:
        """All of them as an opaque value, for the part that shows ``text``; empty if there are none."""
        items, self.items = self.items, []
        return seal(items, text) if items else ""

    def _merge(self, fragment: dict[str, Any]) -> None:
        grown = next((item for item in reversed(self.items) if _continues(fragment, item)), None)
        if grown is None:
            self.items.append(dict(fragment))
            return
        for key, value in fragment.items():
            if key in _GROWING and isinstance(value, str):
                before = str(grown.get(key) or "")
                # Some services say all of it once more, together with the signature.
                is_repeated = bool(before) and bool(fragment.get("signature")) and value.startswith(before)
                grown[key] = value if is_repeated else before + value
            elif value is not None:
                grown[key] = value


def write_sealed(message: dict[str, Any], details: list[dict[str, Any]]) -> None:
    """Put details of earlier parts into a message, each in its list; what belongs together is joined."""
    joined = Details()
    joined.add(details)
    for key, is_block in ((BLOCKS, True), (DETAILS, False)):
        items = [item for item in joined.items if (item.get("type") in _BLOCK_TYPES) is is_block]
        if items:
            message[key] = items


def _continues(fragment: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Whether a fragment is more of an item: same type and index; behind its signature begins another."""
    if any(fragment.get(key) != item.get(key) for key in ("type", "index")):
        return False
    if fragment.get("type") not in _TEXTS:
        # A sealed item comes whole, unless it has an id by which its pieces are known.
        return fragment.get("id") is not None and fragment.get("id") == item.get("id")
    return not (item.get("signature") and _text_in(fragment))


# ---------------------------------------------------------------- history


def read_history(message: fields.Object, at: str) -> Iterable[Thinking]:
    """The reasoning of an assistant's message; the signed forms win, because they can be sent back."""
    text = plain_text(message)
    blocks = [_read_block(block, inner) for block, inner in fields.objects(message, BLOCKS, at)]
    details = [dict(item) for item, _ in fields.objects(message, DETAILS, at)]
    # Claude's signatures are good at Anthropic too.
    if not blocks and any(str(item.get("format")).startswith("anthropic") for item in details):
        blocks += [_read_block(item, f"{at}.{DETAILS}[{number}]") for number, item in enumerate(details)]
    if any(block.signature or block.redacted for block in blocks):
        yield from blocks
    elif details:
        text = text or "".join(map(_text_in, details))
        yield Thinking(text, seal(details, text), origin=NAME, at=f"{at}.{DETAILS}")
    elif text:
        yield Thinking(text, origin=NAME, at=f"{at}.{next(key for key in _PLAIN if message.get(key))}")


def _read_block(block: fields.Object, at: str) -> Thinking:
    if block.get("type") in ("redacted_thinking", "reasoning.encrypted"):
        data = fields.text(block, "data", at, "")
        origin, value = thinking.untag(data) or ("anthropic", data)
        return Thinking(redacted=value, origin=origin, at=at)
    text = fields.text(block, "thinking", at, "") or fields.text(block, "text", at, "")
    signature = fields.text(block, "signature", at, "")
    origin, value = thinking.untag(signature) or ("anthropic", signature)
    return Thinking(text, value, origin=origin, at=at)
