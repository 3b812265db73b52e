"""A settlement list, read: scripts, encodings, calendars, amounts, cards, and what is refused."""

import csv
import io
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from line import CARD

from ivr_agi.settlement import dates
from ivr_agi.settlement.cells import Standing, Unclear, cards_agree, read_amount, read_card, read_name
from ivr_agi.settlement.dates import NoDate, day_of, jalali, read_day, read_moment, utc_text
from ivr_agi.settlement.letters import order_key, plain, ref_key
from ivr_agi.settlement.reading import Settled, Unreadable, UnreadableList, read

TEHRAN = ZoneInfo("Asia/Tehran")
PERSIAN = (
    "شماره سفارش,مبلغ (ریال),شماره پیگیری,شماره کارت,تاریخ,وضعیت\n"
    "A-17,۵۰٬۰۰۰,۱۲۳۴۵۶,۶۰۳۷۹۹******۷۸۹۳,۱۴۰۳/۹/۴ ۱۲:۳۰,موفق\n"
)
SETTLED = Settled(
    2, "A-17", 50_000, "123456", "603799******7893", datetime(2024, 11, 24, 12, 30, tzinfo=TEHRAN), "موفق"
)


def only(content, **options):
    """The one line of a list."""
    listing = read(content.encode() if isinstance(content, str) else content, **options)
    (line,) = listing.lines
    return line


# -- the file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "windows-1256"]
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_delimiters(encoding, delimiter, end):
    """The same list in each encoding, with each delimiter and end of line, is the same list."""
    text = PERSIAN.replace(",", delimiter).replace("\n", end)
    if encoding == "windows-1256":  # has Arabic ye and kaf alone, and no Persian digits
        text = plain_digits(text).replace("ی", "ي")
    assert only(text.encode(encoding)) == SETTLED


def plain_digits(text):
    return text.translate(str.maketrans("۰۱۲۳۴۵۶۷۸۹٬", "0123456789'"))


def test_titles_totals_and_repeated_headings():
    """Titles above, headings again on the next page, a total below: named as passed over, none in silence."""
    head = "شماره سفارش;مبلغ;تاریخ\n"
    listing = read(
        f"گزارش تسویه\n\nپذیرنده;۱۲۳\n{head}A;1000;1403/09/04\n{head}B;2000;1403/09/05\nجمع کل;3000;\n".encode()
    )
    assert [(line.line, line.order_id) for line in listing.lines] == [(5, "A"), (7, "B")]
    assert listing.passed_over == (1, 3, 4, 6, 8)
    assert listing.headings == {"order": "شماره سفارش", "amount": "مبلغ", "date": "تاریخ"}


def test_an_order_that_is_called_total():
    """A line with a date or a tracking number is a payment, whatever it is called."""
    listing = read(b"order,amount,ref\nTotal,1000,77\n")
    assert [line.order_id for line in listing.lines] == ["Total"]


def test_line_numbers_count_the_files_lines():
    """A cell of two lines and a blank line do not shift the numbers."""
    listing = read(b'order,amount,note\nA,1000,"two\nlines"\n\nB,2000,\n')
    assert [(line.line, line.order_id) for line in listing.lines] == [(2, "A"), (5, "B")]


@pytest.mark.parametrize(
    "heading",
    ["order_id", "Order ID", "orderId", "شماره سفارش", "شماره\u200cسفارش", "شمارهٔ سفارش ".replace("ٔ", ""), "شماره سفارش:", "\u202bشماره سفارش\u202c"],
)  # fmt: skip
def test_headings_by_whatever_hand(heading):
    """Blanks, joiners, marks, case and punctuation do not make another heading."""
    assert only(f"{heading},amount\nA,1000\n").order_id == "A"


def test_mapping():
    """The merchant's own headings, against the usual meaning; an empty one switches a column off."""
    content = "شماره پیگیری,مرجع,کل,status\nA,77,1000,odd\n"
    mapping = {"order": "شماره پیگیری", "ref": "مرجع", "amount": "کل", "status": ""}
    assert only(content, mapping=mapping) == Settled(2, "A", 1000, "77")
    assert only("شماره پیگیری,مبلغ\nA,1000\n", mapping={"order": "شماره پیگیری"}) == Settled(2, "A", 1000)
    assert only("order,Material\nA,100\n", mapping={"amount": "material"}, toman=True).amount == 1000


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", {}, "the file is empty"),
        ("order,total\nA,1\n", {}, "no heading for: amount. Headings found: «order», «total»"),
        ("name;amount\nA;1\n", {}, "no heading for: order or ref. Headings found: «name», «amount»"),
        ("order,amount\nA,1\n", {"mapping": {"ref": "پیگیری"}}, "no heading for: ref"),
        ("order,amount\nA,1\n", {"mapping": {"sum": "x"}}, "column 'sum': the columns are order, amount"),
        ("order,amount,rrn,tracking code\nA,1,2,3\n", {}, "several columns may be the ref: «rrn», «tracking code»"),
        ("order,amount,amount\nA,1,2\n", {}, "several columns may be the amount"),
        ("order,amount\nA,1\n", {"mapping": {"ref": "order", "order": "order"}}, "one column cannot be"),
        ("order,مبلغ (تومان)\nA,1\n", {}, "give --toman"),
        ("order,amount (IRR)\nA,1\n", {"toman": True}, "leave --toman out"),
        ('order,amount\nA,"1\nB,2\n', {}, "line 2: a quotation mark"),
        ('order,amount\n"A"x,1\n', {}, "line 2: a quotation mark"),
        (b"PK\x03\x04xlsx", {}, "this is a spreadsheet"),
        (b"\xd0\xcf\x11\xe0xls", {}, "this is a spreadsheet"),
        (b"%PDF-1.7", {}, "this is a PDF"),
        (" <html><table>", {}, "this is a web page"),
        (PERSIAN.encode() + b"\xd8,", {}, "line 3 is not UTF-8-SIG"),
        (PERSIAN.encode("utf-16")[:-1], {}, "is not UTF-16"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_read(content, options, said):
    """What is wrong with the whole file is said, with the headings that were found."""
    with pytest.raises(UnreadableList) as error:
        read(content.encode() if isinstance(content, str) else content, **options)
    assert said in str(error.value)


def test_two_amounts_and_one_named():
    """Of two amounts the merchant's is taken, by its whole heading."""
    content = "order,مبلغ (ریال),مبلغ (تومان)\nA,1000,100\n"
    assert only(content, mapping={"amount": "مبلغ (تومان)"}, toman=True).amount == 1000
    assert only(content, mapping={"amount": "مبلغ (ریال)"}).amount == 1000


@pytest.mark.parametrize(
    ("row", "reason", "order", "ref"),
    [
        ("A,x,7,7893,1403/09/04,paid", "no amount", "A", "7"),
        ("A,0,7,7893,1403/09/04,paid", "the amount is zero", "A", "7"),
        ("A,-1000,7,7893,1403/09/04,paid", "negative", "A", "7"),
        (",1000,,7893,1403/09/04,paid", "neither an order id nor a tracking number", "", ""),
        ("-,1000,0,7893,1403/09/04,paid", "neither an order id nor a tracking number", "", ""),
        ("A,1000,1.23E+11,7893,1403/09/04,paid", "a spreadsheet has rounded", "A", ""),
        ("A,1000,7,789,1403/09/04,paid", "the card is neither", "A", "7"),
        ("A,1000,7,7893,1404/12/30,paid", "no such day", "A", "7"),
        ("A,1000,7,7893,,paid", "no date", "A", "7"),
        ("A,1000,7,7893,1403/09/04,Odd 6037991234567893", "not known; --paid-status TEXT says which ones mean paid (here «Odd [masked]»)", "A", "7"),
        ("A,1000,7,7893,1403/09/04,", "no status", "A", "7"),
        ("A,1000,7,7893,1403/09/04", "no status", "A", "7"),
        ("A,1,000,7,7893,1403/09/04,paid", "more cells than headings", "A", ""),
        ("A\x1b[2J,1000,7,7893,1403/09/04,paid", "cannot be one of ours", "", "7"),
        (f"A,1000,{CARD},7893,1403/09/04,paid", "a card number stands", "A", ""),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_read(row, reason, order, ref):
    """Each has its number and its reason, and what could be read of its names."""
    line = only(f"order,amount,ref,card,date,status\n{row}\n")
    assert isinstance(line, Unreadable)
    assert (line.line, line.order_id, line.ref_id) == (2, order, ref)
    assert reason in line.reason


# -- statuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ("موفق", Standing.PAID),
        ("پرداخت\u200cشده", Standing.PAID),
        ("تسويه شده", Standing.PAID),
        ("Successful", Standing.PAID),
        ("ناموفق", Standing.NOT_PAID),
        ("Failed", Standing.NOT_PAID),
        ("برگشت خورده", Standing.RETURNED),
        ("تراکنش موفق - برگشت وجه", Standing.RETURNED),
        ("Reversed", Standing.RETURNED),
    ],
)
def test_usual_statuses(status, standing):
    """A failed payment, or one given back, is not paid there."""
    assert only(f"order,amount,status\nA,1000,{status}\n").standing is standing


def test_own_statuses():
    """--paid-status replaces the usual ones: the others are not paid; a return stays a return; blank is unclear."""
    content = b"order,amount,status\nA,1000,OK 2\nB,1000,paid\nC,1000,refunded\nD,1000,\n"
    lines = read(content, paid_status=["ok-2"]).lines
    assert [line.standing for line in lines[:3]] == [Standing.PAID, Standing.NOT_PAID, Standing.RETURNED]
    assert isinstance(lines[3], Unreadable)


def test_without_statuses_all_are_paid():
    """A list without a status column is a list of payments."""
    assert only("order,amount\nA,1000\n").standing is Standing.PAID


# -- amounts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rials"),
    [
        ("50000", 50000),
        ("50,000", 50000),
        ("۵۰٬۰۰۰", 50000),
        ("٥٠،٠٠٠", 50000),
        ("1 250 000", 1_250_000),
        ("1\u00a0250\u202f000", 1_250_000),
        ("50,000.00", 50000),
        ("۵۰۰۰۰٫۰", 50000),
        ("۵۰٬۰۰۰ ریال", 50000),
        ("50000 IRR", 50000),
        ("'50000", 50000),
        ("\u200f۵۰۰۰۰\u200f", 50000),
        ("000000050000", 50000),
    ],
)
def test_amounts(text, rials):
    """Digits of three scripts, separators, currencies, marks."""
    assert read_amount(text, toman=False) == rials


@pytest.mark.parametrize(
    "text",
    ["", "-", "50.000", "5,00", "1,0000", "1,000 000", "50000.5", "-50000", "50000-", "(50000)", "5e4", "½", "1234567890123456", "50000 تومان", "12 34"],
)  # fmt: skip
def test_amounts_that_are_not_read(text):
    """What can be read in two ways, or not as a whole amount of rials, is not read."""
    with pytest.raises(Unclear):
        read_amount(text, toman=False)


def test_toman():
    """Toman are ten rials, by the option alone; an amount that says otherwise is refused."""
    assert read_amount("5,000 تومان", toman=True) == read_amount("5000", toman=True) == 50000
    with pytest.raises(Unclear, match="says rial"):
        read_amount("5000 ریال", toman=True)


# -- dates ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["1403/09/04", "۱۴۰۳/۹/۴", "1403-09-04", "1403.9.4", "14030904", "١٤٠٣/٠٩/٠٤", "2024-11-24", "2024/11/24", "20241124", "24.11.2024", "\u200e1403/09/04", "1403/09/04 23:59", "2024-11-24T00:00:00", "12:30:59 1403/09/04", "1403/09/04-12:30", "1403/09/04 - 12:30:15", "1403/09/04, 12:30:15.250", "2024-11-23T20:30:00Z", "2024-11-24 23:59:59+03:30"],
)  # fmt: skip
def test_dates(text):
    """One day in both calendars and three scripts, with a time or without."""
    assert read_day(text).isoformat() == "2024-11-24"


@pytest.mark.parametrize(
    "text",
    ["", "03/09/04", "04/09/1403", "24/11/2024", "11-24-2024", "04.09.1403", "1403/9-4", "1404/12/30", "1403/7/31", "1403/13/01", "2024-02-30", "1250/01/01", "2100-01-01", "1403/09/04 25:00", "1403/09/04 12:60", "1403/09/04 noon", "2024-11-24T00:00:00+99:00", "45620"],
)  # fmt: skip
def test_dates_that_are_not_read(text):
    """Two-digit years, the year last with slashes, days that do not exist, a spreadsheet's day number."""
    with pytest.raises(NoDate):
        read_day(text)


def test_leap_days():
    """30 Esfand exists in 1403, a leap year, and in 1399; not in 1404."""
    assert read_day("1403/12/30").isoformat() == "2025-03-20"
    assert read_day("1399/12/30").isoformat() == "2021-03-20"


@given(st.dates(date(1921, 3, 21), date(2099, 12, 31)))
def test_jalali_there_and_back(day):
    """Every day has one Jalali date, and is found again by it."""
    assert read_day(jalali(day)) == day


def test_tehran_in_summer():
    """Clocks went forward until 1401, and have not since."""
    assert read_moment("1400/05/01 12:00").utcoffset() == timedelta(hours=4, minutes=30)
    assert read_moment("1403/05/01 12:00").utcoffset() == timedelta(hours=3, minutes=30)


def test_days_begin_in_tehran():
    """20:30 UTC is the next day there; the journal's texts are made and read so."""
    assert day_of("2024-11-23T20:30:00.000+00:00").isoformat() == "2024-11-24"
    assert day_of("2024-11-23T20:29:59.999+00:00").isoformat() == "2024-11-23"
    assert utc_text(read_day("1403/09/04")) == "2024-11-23T20:30:00.000+00:00"


def test_without_a_time_zone_database(monkeypatch):
    """Without one Tehran is UTC+3:30: today's law."""

    def none(name):
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(dates, "ZoneInfo", none)
    dates.tehran.cache_clear()
    try:
        moment = read_moment("1403/05/01 12:00")
    finally:
        dates.tehran.cache_clear()
    assert moment == datetime(2024, 7, 22, 8, 30, tzinfo=UTC)
    assert moment.tzinfo == timezone(timedelta(hours=3, minutes=30))


# -- cards ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("603799******7893", "603799******7893"),
        ("603799xxxxxx7893", "603799******7893"),
        ("6037-99**-****-7893", "603799******7893"),
        ("6037 99## #### 7893", "603799******7893"),
        ("60379912****7893", "603799******7893"),
        ("7893******603799", "603799******7893"),
        ("6037********7893", "6037********7893"),
        ("6037-****-****-7893", "6037********7893"),
        ("۷۸۹۳", "************7893"),
        ("****7893", "************7893"),
        ("**** **** **** 7893", "************7893"),
        ("603799******7893 بانک ملی", "603799******7893"),
        (CARD, "603799******7893"),
        ("۶۰۳۷ ۹۹۹۹ ۹۹۹۹ ۷۸۹۳", "603799******7893"),
        ("6037-9912-3456-7893", "603799******7893"),
        ("", ""),
        ("-", ""),
        ("نامشخص", ""),
    ],
)  # fmt: skip
def test_cards(text, mask):
    """Masks of many kinds, also turned round by a right-to-left program; a whole number is masked at once."""
    assert read_card(text) == mask


@pytest.mark.parametrize(
    "text", ["789", "12345", "IR820540102680020817909002", "603799123456", "6037991234567893123"]
)
def test_cards_that_are_not_read(text):
    """Anything else is refused, without the digits in the message."""
    with pytest.raises(Unclear) as error:
        read_card(text)
    assert text not in str(error.value)


def test_cards_agree():
    """Two masks agree unless both show a digit and not the same one."""
    assert cards_agree("************7893", "603799******7893")
    assert cards_agree("", "603799******7893")
    assert not cards_agree("************7894", "603799******7893")
    assert not cards_agree("610433******7893", "603799******7893")


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("form", [CARD, "6037-9912-3456-7893", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳", f"n. {CARD} x"])
def test_no_card_number_survives(place, form):
    """A whole card number in any cell of a list, or among its headings, is in no value and no message."""
    digits = plain(form).replace("-", "")
    cells = ["A", "1000", "77", "7893", "1403/09/04", "paid"]
    cells[place] = form
    for rows in (
        [["order", "amount", "ref", "card", "date", "status", "note"], [*cells, form]],
        [["a", "b", form], cells],
        [["order", "amount", "ref", "card", "date", "status", form], [*cells, form], ["B"]],
    ):
        written = io.StringIO()
        csv.writer(written).writerows(rows)
        try:
            told = repr(read(written.getvalue().encode()))
        except UnreadableList as error:
            told = f"{error!r} {error.__context__!r} {error.__cause__!r}"
        assert digits not in plain(told).replace("-", "").replace(" ", "")
        assert CARD not in told


# -- names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [("  A-1 ", "A-1"), ('="00123"', "00123"), ("'00123", "00123"), ("۱۲۳", "123"), ("0", ""), ("000", ""), ("-", ""), ("\u200fA\u200c-1", "A-1")],
)  # fmt: skip
def test_names(text, name):
    """Order ids and tracking numbers as spreadsheets guard them; the gateway's "0" is none."""
    assert read_name(text) == name


def test_what_is_the_same_name():
    """Scripts and a tracking number's leading zeros do not tell orders apart; case and an order's zeros do."""
    assert order_key("سفارش كي ۱۲") == order_key("سفارش کی 12")
    assert order_key("a") != order_key("A")
    assert order_key("007") != order_key("7")
    assert ref_key("000123") == ref_key("۱۲۳") == "123"
