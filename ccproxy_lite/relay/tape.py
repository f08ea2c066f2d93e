"""What is recorded of one exchange while it runs, for a bug report; ``capture`` writes it to a file. Pure.

Nothing is written or converted while a response is under way: bytes are only noted, with the seconds since the request
came. An exchange that is larger than ``MAX_BYTES`` is noted up to there, and says so (``is_cut``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ccproxy_lite.formats.neutral.events import Failed
from ccproxy_lite.net.heads import AnswerHead, OutHeaders
from ccproxy_lite.providers.provider import Outbound
from ccproxy_lite.routing.failover import Attempt
from ccproxy_lite.routing.routes import Route

MAX_BYTES = 33_554_432


@dataclass(slots=True)
class AttemptTape:
    """One attempt: what was sent when, and what came back.

    :ivar ended: the HTTP body was complete
    """

    tape: Tape
    attempt: Attempt
    outbound: Outbound
    dropped: tuple[str, ...]
    began_s: float
    head: AnswerHead | None = None
    head_s: float = 0.0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: bool = False
    failed: Failed | None = None

    def note_head(self, head: AnswerHead, now: float) -> None:
        self.head, self.head_s = head, self.tape.since(now)

    def note_data(self, data: bytes, now: float) -> None:
        self.tape.add(self.pieces, data, now)


@dataclass(slots=True)
class Tape:
    """One exchange.

    :ivar routes: the targets that could serve it, tried or not
    :ivar answer: status and headers of the client's response
    :ivar early_s: when a keep-alive has begun the response, before any content
    :ivar complete: the client has got all of it
    """

    started_at: float
    routes: list[Route] = field(default_factory=list)
    attempts: list[AttemptTape] = field(default_factory=list)
    answer: tuple[int, OutHeaders] | None = None
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    complete: bool = False
    early_s: float | None = None
    is_cut: bool = False
    _bytes: int = 0

    def since(self, now: float) -> float:
        """Seconds since the request came."""
        return round(now - self.started_at, 4)

    @property
    def last_s(self) -> float:
        """When the client got the last piece."""
        return self.pieces[-1][0] if self.pieces else 0.0

    def begin_attempt(
        self, attempt: Attempt, outbound: Outbound, dropped: tuple[str, ...], began_at: float
    ) -> AttemptTape:
        """Note a request; what comes back is noted on the value that is returned."""
        noted = outbound if self.has_room(outbound.body) else outbound._replace(body=b"")
        self.attempts.append(AttemptTape(self, attempt, noted, dropped, self.since(began_at)))
        return self.attempts[-1]

    def has_room(self, data: bytes) -> bool:
        """Whether these bytes can be noted, too."""
        self._bytes += len(data)
        self.is_cut = self.is_cut or self._bytes > MAX_BYTES
        return not self.is_cut

    def add(self, pieces: list[tuple[float, bytes]], data: bytes, now: float) -> None:
        """Note bytes, as long as there is room."""
        if self.has_room(data):
            pieces.append((self.since(now), data))
