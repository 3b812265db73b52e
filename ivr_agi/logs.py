"""Logging: structlog on standard error, for a person or for a machine.

Card numbers and PINs are never handed to a log call. As a second net, whatever looks like a card
number is masked here; control characters are escaped, so that no caller name can forge a line;
and tracebacks come without the values of local variables.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import time
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

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
CARD_DIGITS: Final = 16
_APART: Final = bytes(byte for byte in range(128) if not chr(byte).isalnum())  # as in model's pattern: [\W_]
_AS_ZERO: Final = bytes.maketrans(b"123456789", b"0" * 9)
_AS_A_CARD: Final = b"0" * CARD_DIGITS
_NUMBERS: Final = frozenset({bool, int, float})
_QUOTED_FOR = re.compile(r"""[ \t=\r\n"']""")
_COLUMNS: Final = ("timestamp", "level", "message")  # of a line for a person
_ELSEWHERE: Final = frozenset(
    {"exception", "stack", "exc_info", "logger", "logger_name"}
)  # no value beside others
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def configure(level: str, form: str) -> None:
    """Set up structlog and the standard library's logging alike. form: `console` or `json`."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        Seldom(),
        stamp,
        structlog.processors.format_exc_info,
        # A line's own name is its `message`; a call's step has an `event` (logged as `_event`).
        structlog.processors.EventRenamer("message", "_event"),
        clean,
    ]
    renderer: Processor = in_json if form == "json" else InColumns(colors=sys.stderr.isatty())
    sink = _Unbreakable()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_args: sink,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sink)
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
    """Standard error that never fails: a full disk or a closed pipe behind the log stops no payment.

    Each line is handed to the operating system by itself, whole, before the call that logs it returns:
    whatever kills the process afterwards, the line is out.
    """

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()

    def write(self, text: str) -> int:
        try:
            with self._one_at_a_time:
                sys.stderr.write(text)
                sys.stderr.flush()
        except (OSError, ValueError):
            pass
        return len(text)

    def line(self, text: str) -> None:
        """Write one line: the method of structlog's logger for each level."""
        self.write(text + "\n")

    debug = info = warning = error = critical = line

    def flush(self) -> None:
        """Nothing is held back."""


def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the time in UTC, ISO 8601: what structlog's TimeStamper does, in a quarter of its time."""
    second, micros = divmod(time.time_ns() // 1000, 1_000_000)
    event["timestamp"] = f"{_stamp_of(second)}.{micros:06}Z" if micros else f"{_stamp_of(second)}Z"
    return event


@lru_cache(1)  # most lines are of the second of the line before
def _stamp_of(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def in_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """A line for a machine."""
    return _ENCODE(event)


class InColumns:
    """A line for a person: what structlog's ConsoleRenderer makes of it.

    A line without colors, exception or the like is put together here, in a tenth of its time.
    """

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors
        self._renderer = structlog.dev.ConsoleRenderer(
            colors=colors, event_key="message", exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Values are clean already."""
        if self._colors or not _ELSEWHERE.isdisjoint(event):
            return self._renderer(logger, method, event)
        timestamp, level, message = map(event.pop, _COLUMNS)
        said = [f"{key}={_shown(event[key])}" for key in sorted(event)]
        return " ".join((f"{timestamp} [{level:9}] {message:30}", *said)).rstrip(" ")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and not _QUOTED_FOR.search(value) else repr(value)


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters and mask card numbers in every value."""
    for key, value in event.items():
        if not is_harmless(value):
            event[key] = cleaned(value, multiline=key == "exception")
    return event


def is_harmless(value: object) -> bool:
    """Whether it is seen at a glance that `cleaned` would change nothing. Most values are."""
    if value.__class__ is not str:
        return value is None or value.__class__ in _NUMBERS
    if not value.isprintable():
        return False
    if len(value) < CARD_DIGITS:
        return True
    # No letter stands between the digits of a card. Where not all is ASCII, there are more digits than ten.
    return (
        len(value) <= MOST_OF_VALUE
        and value.isascii()
        and _AS_A_CARD not in value.encode().translate(_AS_ZERO, _APART)
    )


def cleaned(value: Any, *, multiline: bool) -> Any:
    """The value as a line of the log may have it. multiline: line breaks stay."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)  # also of a str: Keys show their mask
    if not multiline and len(text) > MOST_OF_VALUE:
        text = _LAST_NUMBER.sub("", text[:MOST_OF_VALUE]) + "…"  # part of a card, it would not be masked
    if len(text) >= CARD_DIGITS:
        text = _CARD.sub(lambda found: mask_pan(found[0]) if luhn(found[0]) else found[0], text)
        text = mask_cards(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (multiline and c == "\n") else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
