"""What is recorded about one request: for the access log, the metrics and the dashboard. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ccproxy_lite.formats.neutral.events import Failed, Usage
from ccproxy_lite.routing.failover import Attempt


@dataclass(slots=True)
class Record:
    """What the access log says about one request; filled in as it proceeds."""

    format: str = ""
    method: str = ""
    path: str = ""
    model: str = ""
    route: str = ""
    key: str = ""
    status: int = 0
    started_at: float = 0.0
    first_byte_s: float | None = None
    usage: Usage | None = None
    dropped: tuple[str, ...] = ()
    attempts: list[tuple[Attempt, Failed | None]] = field(default_factory=list)
    error: str = ""
    is_count: bool = False
    request_id: str = ""
    session: str = ""

    def fields(self, now: float) -> dict[str, object]:
        """The members of a JSON log line; empty ones are left out."""
        usage = self.usage
        fields: dict[str, object] = {
            "format": self.format,
            "request": f"{self.method} {self.path}",
            "model": self.model,
            "upstream": self.route,
            "key": self.key,
            "status": self.status,
            "first_byte_s": None if self.first_byte_s is None else round(self.first_byte_s, 4),
            "total_s": round(now - self.started_at, 4),
            "input_tokens": usage.total_input if usage else None,
            "output_tokens": usage.output if usage else None,
            "dropped": ", ".join(self.dropped),
            "attempts": "; ".join(describe(*one) for one in self.attempts) if len(self.attempts) > 1 else "",
            "error": self.error,
            "session": self.session,
            "request_id": self.request_id,
        }
        return {name: value for name, value in fields.items() if value not in (None, "")}

    def line(self, now: float) -> str:
        """The text log line."""
        left = self.fields(now)
        route = f"{left.pop('format', '-')} {left.pop('model', '')} -> {left.pop('upstream', '-')}"
        head = f"{left.pop('status')} {left.pop('request')} {route}"
        first = left.pop("first_byte_s", None)
        times = f"{left.pop('total_s')}s" + (f" (first byte {first}s)" if first is not None else "")
        tokens = f"{left.pop('input_tokens', '-')}/{left.pop('output_tokens', '-')} tokens"
        others = [f"{name}={value}" for name, value in left.items()]
        return " ".join([head, times, tokens, *others])


def describe(attempt: Attempt, failed: Failed | None) -> str:
    """An attempt in the log: its route, its key, and its outcome."""
    label = f" [{attempt.key.label}]" if attempt.key.label else ""
    what = "ok" if failed is None else f"{failed.status} {failed.kind}: {failed.message[:100]}"
    hint = f" (retry after {failed.retry_after_s:g} s)" if failed and failed.retry_after_s is not None else ""
    return f"{attempt.route}{label} {what}{hint}"
