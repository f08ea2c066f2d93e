"""The logger of the program, and how it speaks of what should never happen. Nothing here knows what is logged."""

from __future__ import annotations

import logging
import os

log = logging.getLogger("ccproxy_lite")


def bug(error: BaseException) -> str:
    """Log an error that should not be, with its innermost place; returns the name by which the log knows it."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}" if place else ""
    mark = os.urandom(4).hex()
    log.error("bug %s: %s: %s%s", mark, type(error).__name__, error, where)
    return mark


def internal_error(error: BaseException) -> str:
    """Log an error that should not happen; returns the message that is sent instead of it."""
    return f'internal error in ccproxy-lite (see "bug {bug(error)}" in its log)'
