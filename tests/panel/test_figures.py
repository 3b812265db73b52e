"""How the panel writes figures, in Persian and in English."""

import calendar
import math
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import jdatetime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr_agi.panel import figures

LANGUAGES = ("fa", "en")
TEHRAN = ZoneInfo("Asia/Tehran")
DAYS = st.dates(date(1925, 1, 1), date(2098, 12, 31))


@given(st.integers(-(10**18), 10**18), st.sampled_from(LANGUAGES))
@settings(max_examples=60, deadline=None)
def test_a_number_is_still_that_number(n, language):
    """Python itself reads Persian digits, so it is the judge; groups have three digits each."""
    text = figures.number(n, language)
    separator = "٬" if language == "fa" else ","
    assert int(text.replace(separator, "").replace("\u200e−", "-")) == n
    first, *others = text.lstrip("\u200e−-").split(separator)
    assert 1 <= len(first) <= 3
    assert all(len(group) == 3 for group in others)


@given(st.text(st.sampled_from("0123456789۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩*-ab "), max_size=30))
@settings(max_examples=60, deadline=None)
def test_digits_change_their_script_alone(text):
    """There and back again is the text in ASCII digits, and nothing but digits changes."""
    persian, english = figures.digits(text, "fa"), figures.digits(text, "en")
    assert figures.digits(persian, "en") == english
    assert [c for c in persian if not c.isdecimal()] == [c for c in text if not c.isdecimal()]
    assert not set(persian) & set("0123456789٠١٢٣٤٥٦٧٨٩")
    assert not set(english) - set("0123456789*-ab ")


SAID = [
    ("card", lambda say: figures.digits("603799******7893", say), "۶۰۳۷۹۹******۷۸۹۳", "603799******7893"),
    ("zero", lambda say: figures.number(0, say), "۰", "0"),
    ("number", lambda say: figures.number(12_345, say), "۱۲٬۳۴۵", "12,345"),
    ("fraction", lambda say: figures.number(1234.5, say), "۱٬۲۳۴٫۵", "1,234.5"),
    ("whole", lambda say: figures.number(120.0, say), "۱۲۰", "120"),
    ("negative", lambda say: figures.number(-7, say), "\u200e−۷", "-7"),
    ("hardly-negative", lambda say: figures.number(-0.001, say), "۰", "0"),
    ("nan", lambda say: figures.number(math.nan, say), "—", "—"),
    ("money", lambda say: figures.money(12_345, say), "۱۲٬۳۴۵ ریال", "12,345 rials"),
    ("rial", lambda say: figures.money(1, say), "۱ ریال", "1 rial"),
    ("no-money", lambda say: figures.money(0, say), "۰ ریال", "0 rials"),
    ("percent", lambda say: figures.percent(985, 1000, say), "۹۸٫۵٪", "98.5%"),
    ("half", lambda say: figures.percent(1, 2, say), "۵۰٪", "50%"),
    ("all", lambda say: figures.percent(7, 7, say), "۱۰۰٪", "100%"),
    ("none", lambda say: figures.percent(0, 7, say), "۰٪", "0%"),
    ("not-quite-all", lambda say: figures.percent(99_999, 100_000, say), "۹۹٫۹٪", "99.9%"),
    ("hardly-any", lambda say: figures.percent(1, 100_000, say), "۰٫۱٪", "0.1%"),
    ("of-nothing", lambda say: figures.percent(0, 0, say), "—", "—"),
    ("mobile", lambda say: figures.mobile("+989123456789", say), "۰۹۱۲ ۳۴۵ ۶۷۸۹", "0912 345 6789"),
    ("foreign", lambda say: figures.mobile("+442012345678", say), "+۴۴۲۰۱۲۳۴۵۶۷۸", "+442012345678"),
    ("withheld", lambda say: figures.mobile("", say), "", ""),
    ("days", lambda say: figures.duration(3 * 86_400 + 4 * 3600 + 59, say), "۳ روز و ۴ ساعت", "3 d 4 h"),
    ("hours", lambda say: figures.duration(3600 + 59, say), "۱ ساعت", "1 h"),
    ("minutes", lambda say: figures.duration(125, say), "۲ دقیقه و ۵ ثانیه", "2 min 5 s"),
    ("seconds", lambda say: figures.duration(59.9, say), "۵۹ ثانیه", "59 s"),
    ("no-time", lambda say: figures.duration(0, say), "۰ ثانیه", "0 s"),
    ("clocks-differ", lambda say: figures.duration(-5, say), "۰ ثانیه", "0 s"),
    ("long", lambda say: figures.duration(86_400 * 1500, say), "۱٬۵۰۰ روز", "1,500 d"),
    ("unknown-time", lambda say: figures.duration(math.nan, say), "—", "—"),
    ("ms", lambda say: figures.milliseconds(340.4, say), "۳۴۰ میلی‌ثانیه", "340 ms"),
    ("nearly-a-second", lambda say: figures.milliseconds(999.6, say), "۱ ثانیه", "1 s"),
    ("ms-seconds", lambda say: figures.milliseconds(1234, say), "۱٫۲ ثانیه", "1.2 s"),
    ("ms-unknown", lambda say: figures.milliseconds(math.nan, say), "—", "—"),
    ("moment", lambda say: figures.moment("2026-11-28T09:04:00.000+00:00", say), "۱۴۰۵/۰۹/۰۷ ۱۲:۳۴", "2026-11-28 12:34"),
    ("moment-z", lambda say: figures.moment("2026-11-28T20:30:00Z", say), "۱۴۰۵/۰۹/۰۸ ۰۰:۰۰", "2026-11-29 00:00"),
    ("moment-bare", lambda say: figures.moment("2026-11-28T20:29:59", say), "۱۴۰۵/۰۹/۰۷ ۲۳:۵۹", "2026-11-28 23:59"),
    ("no-moment", lambda say: figures.moment("", say), "", ""),
    ("day", lambda say: figures.day(date(2026, 11, 28), say), "۱۴۰۵/۰۹/۰۷", "2026-11-28"),
    ("long-day", lambda say: figures.long_day(date(2026, 11, 28), say), "شنبه ۷ آذر ۱۴۰۵", "Saturday 28 November 2026"),
    ("friday", lambda say: figures.long_day(date(2025, 3, 21), say), "جمعه ۱ فروردین ۱۴۰۴", "Friday 21 March 2025"),
    ("short-day", lambda say: figures.short_day(date(2026, 11, 28), say), "۷ آذر", "28 Nov"),
]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("case", [pytest.param(case[1:], id=case[0]) for case in SAID])
def test_said(case, language):
    """Each kind of figure, word for word; a mobile number does not break (U+00A0)."""
    say, *expected = case
    assert say(language).replace("\u00a0", " ") == expected[language == "en"]
    assert "\u00a0" in figures.mobile("+989123456789", language)


@pytest.mark.parametrize(
    ("jalali", "gregorian"),
    [
        pytest.param("1403/12/30", date(2025, 3, 20), id="leap-year-ends"),
        pytest.param("1404/01/01", date(2025, 3, 21), id="new-year-after-a-leap-year"),
        pytest.param("1404/12/29", date(2026, 3, 20), id="year-ends"),
        pytest.param("1405/01/01", date(2026, 3, 21), id="new-year"),
        pytest.param("1399/12/30", date(2021, 3, 20), id="leap-year-1399"),
        pytest.param("1408/12/30", date(2030, 3, 20), id="leap-year-after-five"),
        pytest.param("1405/06/31", date(2026, 9, 22), id="half-a-year"),
        pytest.param("1405/07/01", date(2026, 9, 23), id="autumn"),
        pytest.param("1357/11/22", date(1979, 2, 11), id="known-of-old"),
    ],
)
def test_known_days(jalali, gregorian):
    """Days that a calendar on the wall has, in both directions."""
    assert figures.digits(figures.day(gregorian, "fa"), "en") == jalali
    assert figures.parse_day(jalali) == gregorian


@given(DAYS, st.sampled_from(LANGUAGES))
@settings(max_examples=60, deadline=None)
def test_a_day_is_read_as_it_is_written(day, language):
    """What the page shows can be keyed into its form, with slashes, dashes and either script of digits."""
    text = figures.day(day, language)
    separator = "/" if language == "fa" else "-"
    for other in "/-":
        assert figures.parse_day(text.replace(separator, other)) == day
        assert figures.parse_day(figures.digits(text.replace(separator, other), "en")) == day


@pytest.mark.parametrize(
    "text", ["", "1404/12/30", "1405/13/01", "05/09/07", "28/11/2026", "۷ آذر ۱۴۰۵", "1405/09"]
)
def test_what_is_no_day_is_refused(text):
    """1404 is no leap year, and nobody guesses which of two digits is the year; the message has no text in it."""
    with pytest.raises(ValueError, match=r"date|day|year") as refused:
        figures.parse_day(text)
    assert not text or text not in str(refused.value)


@given(DAYS)
@settings(max_examples=60, deadline=None)
def test_a_year_s_days_have_words(day):
    """The words of a day name the same day as its figures, in both calendars."""
    for language in LANGUAGES:
        said = figures.digits(figures.long_day(day, language), "en").split()
        year, month, of_month = figures.digits(figures.day(day, language), "en").replace("/", "-").split("-")
        assert (int(said[1]), said[3]) == (int(of_month), year)
        assert said[2] == figures._MONTHS[language][int(month) - 1]
        assert said[0] == figures._WEEKDAYS[language][day.isoweekday() - 1]


@pytest.mark.parametrize("month", range(12))
def test_months_have_their_names(month):
    """Held against the calendar modules' own lists."""
    persian = figures.parse_day(f"1405/{month + 1}/15")
    english = date(2026, month + 1, 15)
    assert figures.long_day(persian, "fa").split()[2] == jdatetime.date.j_months_fa[month]
    assert figures.long_day(english, "en").split()[2] == calendar.month_name[month + 1]
    assert figures.long_day(english, "en").split()[0] == calendar.day_name[english.weekday()]


@given(DAYS, st.integers(0, 62))
@settings(max_examples=60, deadline=None)
def test_bounds_are_tehran_s_midnights(first, more):
    """The first millisecond of the first day is in, that of the day after the last is not, as texts compare."""
    last = first + timedelta(days=more)
    begin, end = figures.bounds(first, last)
    midnight = datetime(last.year, last.month, last.day, tzinfo=TEHRAN) + timedelta(days=1)
    for moment, inside in (
        (datetime(first.year, first.month, first.day, tzinfo=TEHRAN), True),
        (midnight, False),
    ):
        for delta in (timedelta(0), timedelta(milliseconds=-1)):
            text = (moment.astimezone(UTC) + delta).isoformat(timespec="milliseconds")
            assert (begin <= text < end) is (inside if not delta else not inside)


def test_bounds_of_a_day():
    """A day of Tehran begins at half past eight of UTC's evening, written as the journal writes times."""
    assert figures.bounds(date(2026, 11, 28), date(2026, 11, 28)) == (
        "2026-11-27T20:30:00.000+00:00",
        "2026-11-28T20:30:00.000+00:00",
    )


def test_bounds_the_wrong_way_round():
    """Nothing lies between a day and one before it."""
    begin, end = figures.bounds(date(2026, 11, 28), date(2026, 11, 27))
    assert begin >= end
