"""Periods of whole days in Tehran, and how one is cut into the spans of a chart. Pure: `now` is given.

Months are those of the page's language, Jalali or Gregorian; `this-month` and `last-month` are always Jalali,
as the books of a shop in Iran are. Weeks begin on Saturday.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ivr_agi.panel import figures
from ivr_agi.settlement.dates import jalali, tehran, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST: Final = 62  # spans of a chart
NAMES: Final = ("today", "yesterday", "7-days", "30-days", "this-month", "last-month")

_DAY: Final = timedelta(days=1)
_SATURDAY: Final = 5  # date.weekday()'s
_MONTHS: Final = (1, 2, 3, 6, 12, 24, 60)  # in one span


@dataclass(frozen=True, slots=True)
class Period:
    """From a day to a day, both included. monthly: a Jalali month, or the beginning of one."""

    first: date
    last: date
    monthly: bool = False

    @property
    def days(self) -> int:
        """How many."""
        return (self.last - self.first).days + 1

    @property
    def bounds(self) -> tuple[str, str]:
        """From when on, and before when, as the journal writes times."""
        return figures.bounds(self.first, self.last)

    def under_way(self, now: datetime) -> bool:
        """Whether it has begun and is not over."""
        since, until = self.bounds
        return since <= _text(now) < until

    def before(self, now: datetime) -> tuple[str, str] | None:
        """The bounds of what it is compared with, right before it; as far as it has come itself if not over.

        None if it has not begun.
        """
        since, _ = self.bounds
        if _text(now) < since:
            return None
        begins = utc_text(month_begins(self.first - _DAY) if self.monthly else self.first - self.days * _DAY)
        if not self.under_way(now):
            return begins, since
        so_far = now - datetime.fromisoformat(since)
        return begins, min(_text(datetime.fromisoformat(begins) + so_far), since)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a period. label: short, for an axis; name: in full."""

    since: str
    until: str
    label: str
    name: str


def named(name: str, now: datetime) -> Period | None:
    """One of NAMES; None for another name."""
    today = now.astimezone(tehran()).date()
    month = month_begins(today)
    return {
        "today": Period(today, today),
        "yesterday": Period(today - _DAY, today - _DAY),
        "7-days": Period(today - 6 * _DAY, today),
        "30-days": Period(today - 29 * _DAY, today),
        "this-month": Period(month, today, monthly=True),
        "last-month": Period(month_begins(month - _DAY), month - _DAY, monthly=True),
    }.get(name)


def month_begins(day: date, language: str = "fa") -> date:
    """The first day of its month: a Jalali one, or a Gregorian one in `en`."""
    text = jalali(day) if language == "fa" else day.isoformat()
    return day - (int(text[-2:]) - 1) * _DAY


def cut(period: Period, language: str) -> list[Span]:
    """Hours of one day, days, weeks or months: what makes MOST spans or fewer, without a gap between."""
    if period.days == 1:
        return list(_hours(period, language))
    starts = [period.first + number * _DAY for number in range(min(period.days, MOST + 1))]
    if len(starts) <= MOST:
        return [_of_days(day, day, figures.short_day, language) for day in starts]
    starts = list(_weeks(period))
    if len(starts) <= MOST:
        return _of_starts(starts, period, figures.short_day, language)
    months = list(_months(period, language))
    for size in _MONTHS:
        starts = [day for number, day in months if day == period.first or (number - 1) % size == 0]
        if len(starts) <= MOST:
            return _of_starts(starts, period, _month, language)
    raise ValueError("the period is longer than a calendar")


def _weeks(period: Period) -> Iterator[date]:
    """Its first day and each Saturday after it."""
    day = period.first
    while day <= period.last:
        yield day
        day += ((_SATURDAY - day.weekday() - 1) % 7 + 1) * _DAY


def _months(period: Period, language: str) -> Iterator[tuple[int, date]]:
    """Its first day and the first of each month after it; with the month's number, counted through the years.

    By that number a span of several months begins with a year, or divides one.
    """
    day = period.first
    while day <= period.last:
        text = jalali(day) if language == "fa" else day.isoformat()
        yield int(text[:4]) * 12 + int(text[5:7]), day
        day = month_begins(month_begins(day, language) + 31 * _DAY, language)  # no month is longer


def _hours(period: Period, language: str) -> Iterator[Span]:
    """24 of them, but on a day when the clocks are changed."""
    since, until = (datetime.fromisoformat(edge) for edge in period.bounds)
    while since < until:
        after = min(since + timedelta(hours=1), until)
        begins, ends = (f"{edge.astimezone(tehran()):%H:%M}" for edge in (since, after))
        begins, ends = figures.digits(begins, language), figures.digits(ends, language)
        yield Span(_text(since), _text(after), begins, _from_to(begins, ends, language))
        since = after


def _of_starts(
    starts: list[date], period: Period, label: Callable[[date, str], str], language: str
) -> list[Span]:
    ends = [*(start - _DAY for start in starts[1:]), period.last]
    return [_of_days(first, last, label, language) for first, last in zip(starts, ends, strict=True)]


def _of_days(first: date, last: date, label: Callable[[date, str], str], language: str) -> Span:
    since, until = figures.bounds(first, last)
    return Span(since, until, label(first, language), day_names(first, last, language))


def day_names(first: date, last: date, language: str) -> str:
    """One day in words, several by their first and last one."""
    if first == last:
        return figures.long_day(first, language)
    return _from_to(figures.day(first, language), figures.day(last, language), language)


def _from_to(begins: str, ends: str, language: str) -> str:
    return f"{begins} {'تا' if language == 'fa' else 'to'} {ends}"


def _month(day: date, language: str) -> str:
    return figures.day(day, language)[:7]


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
