"""Periods of the panel's figures: whole days in Tehran, cut so that a chart can show them."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr_agi.panel import periods
from ivr_agi.panel.periods import Period

TEHRAN = timezone(timedelta(hours=3, minutes=30))
NOW = datetime(2026, 11, 28, 9, 0, tzinfo=TEHRAN)  # Saturday, 7 Azar 1405

DAYS = {
    "today": (date(2026, 11, 28), date(2026, 11, 28)),
    "yesterday": (date(2026, 11, 27), date(2026, 11, 27)),
    "7-days": (date(2026, 11, 22), date(2026, 11, 28)),
    "30-days": (date(2026, 10, 30), date(2026, 11, 28)),
    "this-month": (date(2026, 11, 22), date(2026, 11, 28)),  # 1 Azar
    "last-month": (date(2026, 10, 23), date(2026, 11, 21)),  # Aban
}


@pytest.mark.parametrize("name", DAYS)
def test_named_periods(name):
    """What each name stands for on a day of November; months are Jalali ones."""
    period = periods.named(name, NOW)
    assert (period.first, period.last) == DAYS[name]


def test_every_name_has_its_days():
    """There is no other name, and none of another kind."""
    assert set(periods.NAMES) == set(DAYS)
    assert periods.named("tomorrow", NOW) is None


@pytest.mark.parametrize(
    ("utc", "day"),
    [
        pytest.param(datetime(2026, 11, 27, 20, 29, 59, tzinfo=UTC), 27, id="before-midnight"),
        pytest.param(datetime(2026, 11, 27, 20, 30, tzinfo=UTC), 28, id="midnight"),
    ],
)
def test_a_day_begins_at_midnight_in_tehran(utc, day):
    """Not at midnight UTC, by which the journal writes times."""
    assert periods.named("today", utc).first == date(2026, 11, day)


BEFORE = {  # name -> the bounds of what it is compared with, as Tehran's clocks had them
    "today": ("2026-11-27 00:00", "2026-11-27 09:00"),
    "yesterday": ("2026-11-26 00:00", "2026-11-27 00:00"),
    "7-days": ("2026-11-15 00:00", "2026-11-21 09:00"),
    "30-days": ("2026-09-30 00:00", "2026-10-29 09:00"),
    "this-month": ("2026-10-23 00:00", "2026-10-29 09:00"),
    "last-month": ("2026-09-23 00:00", "2026-10-23 00:00"),
}


@pytest.mark.parametrize("name", BEFORE)
def test_what_a_period_is_compared_with(name):
    """As many days right before it, a month with a month; what is not over with as much of the one before."""
    found = periods.named(name, NOW).before(NOW)
    clocks = [datetime.fromisoformat(edge).astimezone(TEHRAN).strftime("%Y-%m-%d %H:%M") for edge in found]
    assert tuple(clocks) == BEFORE[name]


def test_a_month_is_compared_with_no_more_than_the_one_before():
    """On the 31st of a month after one of 30 days, there is no 31st to compare with."""
    now = datetime(2027, 4, 20, 23, 0, tzinfo=TEHRAN)  # 31 Farvardin 1406; Esfand had 29 days
    period = periods.named("this-month", now)
    assert (period.first, period.days) == (date(2027, 3, 21), 31)
    assert period.before(now)[1] == period.bounds[0]


def test_what_is_over_is_compared_as_a_whole():
    """On the first morning of a year, Esfand's 29 days with all of Bahman's 30, not with as much as has gone by."""
    now = datetime(2027, 3, 21, 0, 30, tzinfo=TEHRAN)  # 1 Farvardin 1406
    period = periods.named("last-month", now)
    assert period.days == 29
    assert period.before(now) == (Period(date(2027, 1, 21), date(2027, 2, 19)).bounds)


def test_what_has_not_begun_is_compared_with_nothing():
    """Of tomorrow nobody knows."""
    tomorrow = Period(date(2026, 11, 29), date(2026, 11, 29))
    assert tomorrow.before(NOW) is None
    assert not tomorrow.under_way(NOW)


CUTS = {  # days from 21 March 2026 (1 Farvardin 1405, a Saturday) -> spans, the second label in fa and en
    1: (24, "۰۱:۰۰", "01:00"),
    2: (2, "۲ فروردین", "22 Mar"),
    62: (62, "۲ فروردین", "22 Mar"),
    63: (9, "۸ فروردین", "28 Mar"),
    434: (62, "۸ فروردین", "28 Mar"),
    435: (15, "۱۴۰۵/۰۲", "2026-04"),
}


@pytest.mark.parametrize("days", CUTS)
@pytest.mark.parametrize("language", ["fa", "en"])
def test_how_a_period_is_cut(days, language):
    """Hours of a day, days, weeks from Saturday on, months of the language's calendar."""
    spans = periods.cut(Period(date(2026, 3, 21), date(2026, 3, 21) + timedelta(days - 1)), language)
    count, persian, english = CUTS[days]
    assert len(spans) == count if days != 435 else len(spans) in (15, 16)
    assert spans[1].label == (persian if language == "fa" else english)


def test_names_of_spans():
    """A span's name says where it begins and ends, in the page's language."""
    hours = periods.cut(Period(date(2026, 11, 28), date(2026, 11, 28)), "fa")
    assert (hours[0].name, hours[-1].name) == ("۰۰:۰۰ تا ۰۱:۰۰", "۲۳:۰۰ تا ۰۰:۰۰")
    days = periods.cut(Period(date(2026, 11, 27), date(2026, 11, 28)), "en")
    assert days[1].name == "Saturday 28 November 2026"
    weeks = periods.cut(Period(date(2026, 3, 22), date(2026, 6, 30)), "fa")
    assert weeks[0].name == "۱۴۰۵/۰۱/۰۲ تا ۱۴۰۵/۰۱/۰۷"


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2021, 3, 22), 23), (date(2021, 9, 21), 25), (date(1977, 10, 20), 25)]
)
def test_days_when_the_clocks_were_changed(day, hours):
    """A day of 23 hours, of 25, and of 24 and a half: no time is left out, none is of the next day."""
    period = Period(day, day)
    spans = periods.cut(period, "en")
    assert len(spans) == hours
    assert (spans[0].since, spans[-1].until) == period.bounds


some_day = st.dates(date(1921, 3, 21), date(2099, 12, 31))


@settings(deadline=None, max_examples=60)
@given(some_day, some_day, st.sampled_from(["fa", "en"]))
def test_no_gap_and_no_more_than_62(one, other, language):
    """Whatever the period, its spans follow one another from its first moment to its last, and fit in a chart."""
    period = Period(min(one, other), max(one, other))
    spans = periods.cut(period, language)
    assert len(spans) <= periods.MOST
    edges = [spans[0].since, *(span.until for span in spans)]
    assert [span.since for span in spans] == edges[:-1]
    assert (edges[0], edges[-1]) == period.bounds
    assert edges == sorted(set(edges))
