"""What ``run`` says when its command has ended: which of its requests have failed."""

from __future__ import annotations

from collections.abc import Iterator

from ccproxy_lite.errors import printable
from ccproxy_lite.server.metrics import NO_ACCESS, Metrics

_SHOWN = 3
_MAX_CHARS = 300


def failures(metrics: Metrics, log_file: str) -> Iterator[str]:
    """The failed requests of a command, in a few lines; nothing if there are none."""
    failed = metrics.failures.total()
    if not failed:
        return
    total = sum(tally.requests.total() for tally in metrics.tallies.values())
    total += sum(metrics.rejected[status] for status in NO_ACCESS)
    yield f"{failed:,} of {total:,} requests failed; the log is {log_file}"
    for (status, where, message), count in metrics.failures.most_common(_SHOWN):
        times = f"{count:,} times " if count > 1 else ""
        yield f"  {times}{status}{' ' if where else ''}{where}: {printable(message[:_MAX_CHARS])}"
