"""The log: one line per request and a few about the process, as text or JSON, never with a secret in it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from ccproxy_lite.config.model import Log
from ccproxy_lite.errors import DISCONNECTED, ConfigError, printable
from ccproxy_lite.jsontext import dumps
from ccproxy_lite.log import log
from ccproxy_lite.relay.record import Record

_MAX_VALUE_CHARS = 2000
_SAME_S = 60.0
_MAX_SUBJECTS = 1000


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool, colour: bool, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._json = as_json
        self._colour = colour
        self._redact = redact

    def _redacted(self, value: object) -> object:
        return self._redact(value) if isinstance(value, str) else value

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        entry = getattr(record, "entry", None)
        level = record.levelname.lower()
        if self._json:
            fields = {"time": when, "level": level}
            fields |= entry.fields(record.__dict__["now"]) if entry else {"message": record.getMessage()}
            return dumps({name: _shortened(self._redacted(value)) for name, value in fields.items()})
        text = entry.line(record.__dict__["now"]) if entry else record.getMessage()
        # Control characters in names that clients choose could forge lines or colours.
        text = str(_shortened(printable(self._redact(text))))
        mark = level if level != "info" else ""
        if self._colour and mark:
            mark = f"\x1b[{31 if level == 'error' else 33}m{mark}\x1b[0m"
        return " ".join(filter(None, [time.strftime("%H:%M:%S", time.localtime(record.created)), mark, text]))


def _shortened(value: object) -> object:
    return value[:_MAX_VALUE_CHARS] + "..." if isinstance(value, str) and len(value) > _MAX_VALUE_CHARS else value


class _Repeats(logging.Filter):
    """A repeated warning is logged once a minute, with the number of repetitions.

    Warnings are the same if their records have the same ``subject``, or else the same text.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        # Requests are never suppressed.
        if record.levelno < logging.WARNING or hasattr(record, "entry"):
            return True
        subject = getattr(record, "subject", record.getMessage())
        since, count = self._seen.pop(subject, (-_SAME_S, 0))
        if record.created - since < _SAME_S:
            self._seen[subject] = (since, count + 1)
            return False
        self._seen[subject] = (record.created, 0)
        if len(self._seen) > _MAX_SUBJECTS:
            del self._seen[next(iter(self._seen))]
        if count:
            record.msg, record.args = f"{record.getMessage()} (and {count} times more in between)", ()
        return True


class _Quiet(logging.StreamHandler):  # type: ignore[type-arg]  # no subscript before Python 3.11
    """A full disk or a closed terminal must not disturb a request."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def _file_handler(path: str) -> logging.Handler:
    """The same for a file, which may be rotated or disappear while the proxy runs. Raises OSError."""
    from logging.handlers import WatchedFileHandler

    class QuietFile(WatchedFileHandler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(OSError, ValueError):
                super().emit(record)

        def handleError(self, record: logging.LogRecord) -> None:
            pass

    return QuietFile(path)


def configure(settings: Log, redact: Callable[[str], str], environ: dict[str, str]) -> None:
    """Log as the configuration says. Raises ConfigError for a file that cannot be written."""
    prepared(settings, redact, environ)()


def prepared(settings: Log, redact: Callable[[str], str], environ: dict[str, str]) -> Callable[[], None]:
    """The same in two steps: the returned function does what cannot fail. Raises ConfigError."""
    try:
        handler: logging.Handler = _file_handler(settings.file) if settings.file else _Quiet(sys.stderr)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError([f"the log file {settings.file} cannot be written: {reason}"]) from None
    terminal = not settings.file and sys.stderr.isatty()
    as_json = settings.format == "json" or (settings.format == "auto" and not terminal)
    handler.setFormatter(_Formatter(as_json, _is_coloured(terminal, environ), redact))
    handler.addFilter(_Repeats())

    # Only after the new file could be opened is the old one closed.
    def install() -> None:
        close()
        log.addHandler(handler)
        log.setLevel(settings.level.upper())

    # The root logger belongs to whoever embeds this program.
    log.propagate = False
    logging.getLogger("asyncio").addHandler(logging.NullHandler())  # its messages come through the loop's handler
    return install


def _is_coloured(terminal: bool, environ: dict[str, str]) -> bool:
    """no-color.org, and force-color.org."""
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR", "")
    return forced not in ("0", "false") if forced else terminal and environ.get("TERM") != "dumb"


def close() -> None:
    """Remove all handlers."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def access(record: Record, now: float, *, is_quiet: bool = False) -> None:
    """Log a request that is over: one with an error as a warning, a quiet one (a health check) at debug level only."""
    has_failed = (bool(record.error) or record.status >= 400) and record.status != DISCONNECTED
    level = logging.DEBUG if is_quiet else logging.WARNING if has_failed else logging.INFO
    log.log(level, "", extra={"entry": record, "now": now})
