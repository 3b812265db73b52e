"""Dates of settlement lists: Jalali or Gregorian, told apart by the year; times are Tehran's.

Read: `1403/09/04`, `1403-9-4`, `1403.09.04`, `14030904`, `2024-11-24` and so on, and `24.11.2024` (with dots
and the year last the day is first everywhere), each alone, before or after a time (`12:30`, `12:30:59`), or
with an offset (`2024-11-24T09:00:00Z`). Not read: a year of two digits, and slashes or dashes with the
year last: nobody can tell which is the day. Years 1300 to 1499 are Jalali, 1900 to 2099 Gregorian.

Without a time zone database (no system's and no `tzdata` package) Tehran is taken as UTC+3:30 throughout.
That is the law since the autumn of 1401 (2022); for summers before it times would be an hour off.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jdatetime  # type: ignore[import-untyped]

from ivr_agi.settlement.letters import plain
from ivr_agi.settlement.notes import Note, Telling

_DATE = (
    r"(?:(?P<y>\d{4})(?P<s>[/.\-])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})"
    r"|(?P<cy>\d{4})(?P<cm>\d{2})(?P<cd>\d{2})"
    r"|(?P<dd>\d{1,2})\.(?P<dm>\d{1,2})\.(?P<dy>\d{4}))"
)
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d{1,9})?)?"
_ZONE = r"(?: ?(?P<zone>Z|[+\-]\d{2}:?\d{2}))?"
_BETWEEN = r"(?:T| ?[,\-] ?| )"
_DATE_FIRST: Final = re.compile(f"{_DATE}(?:{_BETWEEN}{_TIME}{_ZONE})?", re.ASCII)
_TIME_FIRST: Final = re.compile(f"{_TIME}{_BETWEEN}{_DATE}", re.ASCII)
_JALALI: Final = range(1300, 1500)
_GREGORIAN: Final = range(1900, 2100)

FORMS: Final = "year first, as in 1403/09/04 or 2024-11-24"


class NoDate(Telling):
    """The text is no date that we read. The message does not quote it."""


@cache
def tehran() -> tzinfo:
    """Tehran's time zone; see above for where there is no time zone database."""
    try:
        return ZoneInfo("Asia/Tehran")
    except ZoneInfoNotFoundError:
        return timezone(timedelta(hours=3, minutes=30), "Tehran")


def read_moment(text: str) -> datetime:
    """Read a date, with or without a time (then midnight), as Tehran's time. Raises NoDate."""
    text = plain(text)
    found = _DATE_FIRST.fullmatch(text) or _TIME_FIRST.fullmatch(text)
    if found is None:
        raise NoDate(Note("no_date", f"no date that can be read ({FORMS})"))
    part = found.groupdict()
    year, month, day = (int(part[a] or part[b] or part[c]) for a, b, c in (
        ("y", "cy", "dy"), ("m", "cm", "dm"), ("d", "cd", "dd")
    ))  # fmt: skip
    if part["dy"] and year in _JALALI:
        raise NoDate(Note("year_last", f"the year comes last ({FORMS})"))
    whole = _day(year, month, day)
    try:
        moment = datetime(
            whole.year, whole.month, whole.day,
            int(part["hour"] or 0), int(part["minute"] or 0), int(part["second"] or 0),
            tzinfo=_zone(part.get("zone")),
        )  # fmt: skip
        return moment.astimezone(tehran())
    except (ValueError, OverflowError):
        raise NoDate(Note("no_such_time", "there is no such time of day")) from None


def read_day(text: str) -> date:
    """Read a date alone. Raises NoDate."""
    return read_moment(text).date()


def day_of(moment: str) -> date:
    """Tehran's date of a journal's time (UTC, ISO 8601)."""
    return datetime.fromisoformat(moment).astimezone(tehran()).date()


def utc_text(day: date) -> str:
    """The moment at which a day begins in Tehran, as the journal writes times."""
    begins = datetime(day.year, day.month, day.day, tzinfo=tehran())
    return begins.astimezone(UTC).isoformat(timespec="milliseconds")


@lru_cache(maxsize=4096)
def jalali(day: date) -> str:
    """A Gregorian date as the Jalali calendar has it: `1403/09/04`."""
    found = jdatetime.date.fromgregorian(date=day)
    return f"{found.year:04}/{found.month:02}/{found.day:02}"


@lru_cache(maxsize=4096)
def _day(year: int, month: int, day: int) -> date:
    try:
        if year in _JALALI:
            found: date = jdatetime.date(year, month, day).togregorian()
            return found
        if year in _GREGORIAN:
            return date(year, month, day)
    except ValueError:
        raise NoDate(Note("no_such_day", "there is no such day in that calendar")) from None
    raise NoDate(Note("no_year", f"a year that is neither Jalali nor Gregorian ({FORMS})"))


def _zone(text: str | None) -> tzinfo:
    if not text:
        return tehran()
    if text == "Z":
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-offset if text[0] == "-" else offset)
