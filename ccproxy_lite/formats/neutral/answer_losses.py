"""What an answer loses on its way to a client of another format: the second half of the table of losses. Pure.

Losses of a request are in ``losses``. Those of an answer are never an error, not even in strict mode, for it is paid
for: they are named in ``x-ccproxy-dropped`` as long as the head has not been sent, and in the log. Readers name what
the neutral model has no place for (``Lost``); here stands what the client's format has no place for.

>>> losses = AnswerLosses("anthropic")
>>> losses.note(Lost("audio")); losses.note(PartStart("image", media_type="image/png")); losses.dropped
['answer.audio', 'answer.image']
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ccproxy_lite.formats.neutral.events import End, Event, Lost, PartEnd, PartStart

FROM: Mapping[str, Mapping[str, str]] = {
    "anthropic": {
        "TYPE": "a block of any other type, such as the use and the result of another server tool",
        "citations": "citations of documents; elsewhere only web pages can be cited",
        "stop_reason=REASON": "an unknown stop reason counts as a normal end",
    },
    "openai-chat": {
        "TYPE": "a content part of any other type",
        "audio": "no audio in other formats' answers",
        "image": "an image by URL; other formats have the data in their answers",
        "citations": "sources that belong to no text, or are no web pages",
        "finish_reason=REASON": "an unknown finish reason counts as a normal end",
    },
    "openai-responses": {
        "TYPE": "an output item of any other type, such as the call of another server tool",
        "citations": "citations of files; elsewhere only web pages can be cited",
        "incomplete_details=REASON": "an unknown reason counts as the length limit",
    },
    "gemini": {
        "MEMBER": "a part with any other member, such as `executableCode` or `codeExecutionResult`",
        "inlineData": "media other than images",
        "groundingMetadata": "sources that belong to no text, or have no address",
        "citationMetadata": "sources of recited texts",
        "finishReason=REASON": "an unknown finish reason counts as a normal end",
    },
}
"""By origin: what the neutral model has no place for, as the readers name it."""

TO: Mapping[str, Mapping[str, str]] = {
    "anthropic": {
        "image": "no images in answers: a note stands in the text",
        "web_fetch": "which pages were fetched: their content is not told elsewhere",
    },
    "openai-chat": {
        "pause_turn": "no such finish reason: `stop`",
        "web_search": "no searches in answers; citations are kept",
        "web_fetch": "which pages were fetched",
        "redacted": "reasoning that only its service can read has no field",
    },
    "openai-completions": {
        "thinking": "no reasoning in text completions",
        "image": "no images in text completions",
        "citations": "no citations in text completions",
        "web_search": "no searches in text completions",
        "web_fetch": "no searches in text completions",
        "pause_turn": "no such finish reason: `stop`",
    },
    "openai-responses": {"pause_turn": "no such status: `completed`"},
    "gemini": {"pause_turn": "no such finish reason: `STOP`"},
}
"""By target: what of the neutral model the client's format has no place for."""

_MAX_NAMES = 20
_MAX_NAME_CHARS = 80
_UNSAFE = re.compile(r"[^\x21-\x7e]|,")


class AnswerLosses:
    """Collects what one answer loses.

    :param target: the client's format
    :ivar dropped: the names, in the order of the answer
    """

    def __init__(self, target: str) -> None:
        self.dropped: list[str] = []
        self._missing = TO[target]

    def note(self, event: Event) -> None:
        """An event on its way to the client; all but deltas."""
        if isinstance(event, Lost):
            self._name(event.what)
        elif isinstance(event, PartStart):
            self._miss(event.name if event.kind == "search" else event.kind)
        elif isinstance(event, PartEnd):
            if event.citations:
                self._miss("citations")
        elif isinstance(event, End) and event.reason == "pause":
            self._miss("pause_turn")

    def without_lost(self, events: list[Event]) -> list[Event]:
        """The events of a whole answer for the client's writer, which knows no ``Lost``."""
        for event in events:
            self.note(event)
        return [event for event in events if type(event) is not Lost]

    def _miss(self, what: str) -> None:
        if what in self._missing:
            self._name(what)

    def _name(self, what: str) -> None:
        """The name comes from the upstream, and goes into a header."""
        name = "answer." + _UNSAFE.sub("_", what[:_MAX_NAME_CHARS])
        if name not in self.dropped and len(self.dropped) < _MAX_NAMES:
            self.dropped.append(name)
