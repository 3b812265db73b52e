"""Numbers, money, days and times as a person reads them, in `"fa"` and `"en"`.

Persian has its own digits, separators and calendar; English has ASCII and the Gregorian one. Every time is
Tehran's in both. Pure: no clock, no locale, no setting, and nothing here is HTML. It must never guess: what
is not there is "" or a dash, what cannot be read is a ValueError.

The separators are chosen so that a figure stays in one piece and in order also inside right-to-left text:
no line breaks within a mobile number, and the sign of a negative number stays before it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from ivr_agi.model import ascii_digits
from ivr_agi.settlement.dates import jalali, read_day, tehran, utc_text

NONE: Final = "—"  # a figure that does not exist

_DIGITS: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
# U+066C and U+066B between digits. The sign has a left-to-right mark before it, as CLDR's fa has: without
# it a browser puts the sign behind the number.
_PERSIAN: Final = _DIGITS | str.maketrans({",": "٬", ".": "٫", "-": "\u200e−"})
_MOBILE: Final = re.compile(r"\+98(9\d{2})(\d{3})(\d{4})", re.ASCII)
_GAP: Final = "\u00a0"  # unlike a blank it joins two groups of digits to one number, in both directions

_UNITS: Final = (
    (86_400, "روز", "d"),
    (3_600, "ساعت", "h"),
    (60, "دقیقه", "min"),
    (1, "ثانیه", "s"),
)
# Monday first, as date.weekday() counts.
_WEEKDAYS: Final = {
    "fa": ("دوشنبه", "سه‌شنبه", "چهارشنبه", "پنج‌شنبه", "جمعه", "شنبه", "یک‌شنبه"),
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
}
_MONTHS: Final = {
    "fa": (
        "فروردین", "اردیبهشت", "خرداد", "تیر", "مرداد", "شهریور",
        "مهر", "آبان", "آذر", "دی", "بهمن", "اسفند",
    ),
    "en": (
        "January", "February", "March", "April", "May", "June",
        "July", "August", "September", "October", "November", "December",
    ),
}  # fmt: skip


# -- numbers ------------------------------------------------------------------------------------------


def digits(text: str, language: str) -> str:
    """The same text with its digits, of whatever script, in the language's; nothing else changes."""
    if not text.isascii():
        text = ascii_digits(text)
    return text.translate(_DIGITS) if language == "fa" else text


def number(value: float, language: str, decimals: int = 2) -> str:
    """A number in groups of three, so many decimals at most: `۱۲٬۳۴۵`, `12,345`; "—" for NaN and infinity."""
    if isinstance(value, int):
        text = f"{value:,}"
    elif math.isfinite(value):
        text = _trimmed(f"{round(value, decimals) + 0.0:,.{decimals}f}")  # + 0.0: no -0
    else:
        return NONE
    return text.translate(_PERSIAN) if language == "fa" else text


def money(rials: int, language: str) -> str:
    """An amount with its currency: `۱۲٬۳۴۵ ریال`, `12,345 rials`."""
    if language == "fa":
        return f"{number(rials, language)} ریال"
    return f"{number(rials, language)} {'rial' if abs(rials) == 1 else 'rials'}"


def percent(part: float, whole: float, language: str) -> str:
    """A share with one decimal at most: `۹۸٫۵٪`, `98.5%`; "—" of a whole of 0.

    Nearly all is 99.9 and hardly any 0.1: 100 says all of them, and 0 none.
    """
    if not whole:
        return NONE
    share = part / whole * 100
    if 0 < share < 100:  # noqa: PLR2004 - per cent
        share = min(max(share, 0.1), 99.9)
    text = _trimmed(f"{share:.1f}")
    return f"{text.translate(_PERSIAN)}٪" if language == "fa" else f"{text}%"


def mobile(msisdn: str, language: str) -> str:
    """`+989123456789` as people write it: `0912 345 6789`, with no-break spaces. Others as they are."""
    found = _MOBILE.fullmatch(msisdn)
    return digits(_GAP.join(("0" + found[1], found[2], found[3])) if found else msisdn, language)


# -- lengths of time ----------------------------------------------------------------------------------


def duration(seconds: float, language: str) -> str:
    """A length of time in its two greatest units, rounded down: `۳ روز و ۴ ساعت`, `3 d 4 h`.

    The second one is left out where it is 0. Below 0 (two clocks that differ) is 0; "—" for NaN and infinity.
    """
    if not math.isfinite(seconds):
        return NONE
    left = max(int(seconds), 0)
    place = next((at for at, unit in enumerate(_UNITS) if left >= unit[0]), len(_UNITS) - 1)
    said: list[str] = []
    for size, persian, english in _UNITS[place : place + 2]:
        count, left = divmod(left, size)
        if count or not said:
            said.append(f"{number(count, language)} {persian if language == 'fa' else english}")
    return (" و " if language == "fa" else " ").join(said)


def milliseconds(ms: float, language: str) -> str:
    """How long a machine took: `۳۴۰ میلی‌ثانیه`, `340 ms`; from 1000 on `۱٫۲ ثانیه`, `1.2 s`; "—" for NaN."""
    if not math.isfinite(ms):
        return NONE
    if round(ms) < 1000:  # noqa: PLR2004 - a second
        return f"{number(round(ms), language)} {'میلی‌ثانیه' if language == 'fa' else 'ms'}"
    return f"{number(round(ms / 1000, 1), language)} {'ثانیه' if language == 'fa' else 's'}"


# -- days and moments ---------------------------------------------------------------------------------


def moment(iso_utc: str, language: str) -> str:
    """A journal's time as Tehran's: `۱۴۰۵/۰۹/۰۷ ۱۲:۳۴`, `2026-11-28 12:34`; "" for "".

    Without an offset it is taken as UTC. Raises ValueError for what is no time.
    """
    if not iso_utc:
        return ""
    at = datetime.fromisoformat(iso_utc)
    at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(tehran())
    text = f"{day(at.date(), language)} {at.hour:02}:{at.minute:02}"
    return text.translate(_DIGITS) if language == "fa" else text


def day(date: date, language: str) -> str:
    """A day in figures: `۱۴۰۵/۰۹/۰۷`, `2026-11-28`."""
    return jalali(date).translate(_DIGITS) if language == "fa" else date.isoformat()


def long_day(date: date, language: str) -> str:
    """A day in words: `شنبه ۷ آذر ۱۴۰۵`, `Saturday 28 November 2026`."""
    year, month, of_month = _parts(date, language)
    said = f"{_WEEKDAYS[language][date.weekday()]} {of_month} {_MONTHS[language][month - 1]} {year}"
    return digits(said, language)


def short_day(date: date, language: str) -> str:
    """A day of a year that is known, for an axis: `۷ آذر`, `28 Nov`."""
    _, month, of_month = _parts(date, language)
    name = _MONTHS[language][month - 1]
    return digits(f"{of_month} {name if language == 'fa' else name[:3]}", language)


def parse_day(text: str) -> date:
    """Read a day as somebody keys it: Jalali or Gregorian (the year tells), digits of any script, `/` or `-`.

    Raises NoDate, a ValueError whose message does not quote the text.
    """
    return read_day(text)


def bounds(first: date, last: date) -> tuple[str, str]:
    """From when, inclusive, until when, exclusive, these days of Tehran last, as the journal writes times.

    Such texts compare as the times do. With `last` before `first` no time lies between.
    """
    return utc_text(first), utc_text(last + timedelta(days=1))


def _parts(date: date, language: str) -> tuple[int, int, int]:
    year, month, of_month = jalali(date).split("/") if language == "fa" else date.isoformat().split("-")
    return int(year), int(month), int(of_month)


def _trimmed(text: str) -> str:
    """Without zeros behind the point."""
    return text.rstrip("0").rstrip(".") if "." in text else text
