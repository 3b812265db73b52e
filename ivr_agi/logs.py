"""Logging: structlog on standard error, for a person or for a machine.

Card numbers and PINs are never handed to a log call. As a second net, whatever looks like a card
number is masked here; control characters are escaped, so that no caller name can forge a line;
and tracebacks come without the values of local variables.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import structlog

from ivr_agi.model import luhn, mask_cards, mask_pan

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor, WrappedLogger

# Libraries that would show addresses, headers or statements when they talk at DEBUG.
QUIET = ("httpx", "httpcore", "sqlalchemy", "alembic", "asyncio")

# What anybody who can connect could have us say without end; the metrics count each.
CROWDED: Final = frozenset(
    {
        "peer.refused",
        "peer.full",
        "server.full",
        "server.crowded",
        "caller.full",
        "call.lost",
        "agi.flooded",
        "agi.refused",
        "panel.peer_refused",
        "panel.host_refused",
        "panel.csrf_refused",
        "panel.origin_refused",
        "panel.sign_in_failed",
    }
)
MOST_OF_VALUE: Final = 4000  # characters; but for a traceback
PER_SECOND: Final = 5  # lines of each

_LAST_NUMBER = re.compile(r"(?<![\d\W_])[\d\W_]+\Z")
_CARD = re.compile(r"(?<![0-9])[0-9]{16}(?![0-9])")


def configure(level: str, form: str) -> None:
    """Set up structlog and the standard library's logging alike. form: `console` or `json`."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        Seldom(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        # A line's own name is its `message`; a call's step has an `event` (logged as `_event`).
        structlog.processors.EventRenamer("message", "_event"),
        clean,
    ]
    renderer: Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), event_key="message", exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unbreakable())),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(_Unbreakable())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class Seldom:
    """Lets a crowd at the door fill no disk: of each of CROWDED a few lines a second, then how many more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._second: dict[str, int] = {}
        self._lines: Counter[str] = Counter()  # within that second
        self._more: Counter[str] = Counter()  # left out since the last line

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Add `more` to a line that stands for others. Raises DropEvent."""
        name = event["event"]
        if name not in CROWDED:
            return event
        second = int(self._clock())
        if self._second.get(name) != second:
            self._second[name], self._lines[name] = second, 0
        self._lines[name] += 1
        if self._lines[name] > PER_SECOND:
            self._more[name] += 1
            raise structlog.DropEvent
        if more := self._more.pop(name, 0):
            event["more"] = more
        return event


class _Unbreakable(io.TextIOBase):
    """Standard error that never fails: a full disk or a closed pipe behind the log stops no payment."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters and mask card numbers in every value."""
    return {key: _clean(value, multiline=key == "exception") for key, value in event.items()}


def _clean(value: Any, *, multiline: bool) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else str(value)
    if not multiline and len(text) > MOST_OF_VALUE:
        text = _LAST_NUMBER.sub("", text[:MOST_OF_VALUE]) + "…"  # part of a card, it would not be masked
    if len(text) >= 16:  # noqa: PLR2004 - digits of a card
        text = _CARD.sub(lambda found: mask_pan(found[0]) if luhn(found[0]) else found[0], text)
        text = mask_cards(text)
    return "".join(c if c.isprintable() or (multiline and c == "\n") else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
