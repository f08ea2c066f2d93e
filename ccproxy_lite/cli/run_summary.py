"""What ``run`` says when its command has ended: which of its requests have failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ccproxy_lite.errors import DISCONNECTED, printable
from ccproxy_lite.server.metrics import Metrics

_SHOWN = 3
_MAX_CHARS = 300


def failures(metrics: Metrics, log_file: str) -> Iterator[str]:
    """The failed requests of a command, in a few lines; nothing if there are none."""
    records = [record for _, record in metrics.errors if record.status != DISCONNECTED]
    if not records:
        return
    total = sum(tally.requests.total() for tally in metrics.tallies.values())
    failed = sum(tally.errors for tally in metrics.tallies.values())
    yield f"{max(failed, len(records)):,} of {max(total, len(records)):,} requests failed; the log is {log_file}"
    kinds = Counter((record.status, record.route or record.model, record.error[:_MAX_CHARS]) for record in records)
    for (status, where, message), count in kinds.most_common(_SHOWN):
        times = f"{count} times " if count > 1 else ""
        yield f"  {times}{status} {where}: {printable(message)}"
