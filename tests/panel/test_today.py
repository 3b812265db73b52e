"""How it goes, in figures: each one that the page shows is the journal's, counted as the page says."""

import html
import random
import re
from datetime import UTC, datetime, timedelta

import pytest
from line import until
from panel import crowd
from panel.test_statistics import answered, called

from ivr_agi.flow import State
from ivr_agi.journal.statistics import KINDS, Calls
from ivr_agi.model import PayStatus
from ivr_agi.outcomes import DECLINES
from ivr_agi.panel import counts
from ivr_agi.panel.pages import today
from ivr_agi.panel.showing import words
from ivr_agi.simulator.channel import HANG_UP

NOW = datetime(2026, 11, 28, 8, 30, tzinfo=UTC)  # noon in Tehran, 7 Azar 1405
MIDNIGHT, JUST_BEFORE = "2026-11-27T20:30:00.000+00:00", "2026-11-27T20:29:59.999+00:00"
MORNING, YESTERDAY = "2026-11-28T05:00:00.000+00:00", "2026-11-27T05:00:00.000+00:00"


@pytest.fixture
def shop(office, monkeypatch):
    """An office at noon."""
    monkeypatch.setattr(today, "clock", lambda: NOW)
    return office


def put(office, number, state="paid", at=MORNING, amount=1000, **given):
    """An attempt for an order of its own."""
    return crowd.add(
        office.line.journal, order_id=f"A-{number}", state=state, created_at=at, amount=amount, **given
    )


async def opened(office, query="", name="reza", language="en"):
    """The page, as somebody sees it."""
    browser = await office.signed_in(name)
    browser.client.cookies.set("ivr-agi-language", language)
    return await browser.get(f"/today?{query}")


def tiles(page):
    """The big figures: label -> figure."""
    found = re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span>', page.text)
    return {html.unescape(label): html.unescape(figure) for figure, label in found}


def table(page, heading):
    """The rows of the first table of a section, as cells without their marks."""
    section = page.text.split(f'id="{heading}-heading"')[1].split("</section>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", section.split("</table>")[0], re.DOTALL)
    return [
        [
            html.unescape(re.sub(r"<[^>]+>", "", cell))
            for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in rows
    ]


async def test_tiles(shop):
    """Paid with its sum, also what a person found paid; in doubt beside it, and never in it; declines; the rate."""
    for number in range(3):
        put(shop, number, amount=1000)
    put(shop, 3, "resolved", amount=200, resolution="paid", ref_id="7")
    put(shop, 4, "resolved", amount=10_000)
    put(shop, 5, "unknown", amount=7_000_000)
    put(shop, 6, "declined", code="51")
    put(shop, 7, "declined", code="55")
    put(shop, 8, "failed")
    put(shop, 9, "sent")
    answered(shop.line.journal, put(shop, 10, "failed"), "failed", 20, at=MORNING)
    found = tiles(await opened(shop))
    assert found["Paid"] == "4"
    assert found["Sum received"] == "3,200 rials"
    assert (found["In doubt"], found["Sum in doubt"]) == ("1", "7,000,000 rials")
    assert found["Declined by the bank"] == "2"
    # 4 of: 4 paid, 1 found not paid, 1 in doubt, 2 declined, 1 failed after `pay`
    assert found["Success rate"] == "44.4%"


async def test_in_persian(shop):
    """Persian digits, rials, the day in words and its date."""
    put(shop, 1, amount=1_234_000)
    put(shop, 2, "declined", code="51")
    page = await opened(shop, language="fa")
    found = tiles(page)
    assert found["جمع دریافتی"] == "۱٬۲۳۴٬۰۰۰ ریال"
    assert found["نرخ موفقیت"] == "۵۰٪"
    assert "شنبه ۷ آذر ۱۴۰۵" in page.text
    assert "آمار تا ۱۴۰۵/۰۹/۰۷ ۱۲:۰۰" in page.text
    assert "۵۱: موجودی کم بود" in page.text


async def test_a_day_is_tehrans(shop):
    """What began at midnight is of today, what began a millisecond earlier of yesterday."""
    put(shop, 1, at=MIDNIGHT, amount=1)
    put(shop, 2, at=JUST_BEFORE, amount=20)
    assert tiles(await opened(shop))["Sum received"] == "1 rial"
    assert tiles(await opened(shop, "period=yesterday"))["Sum received"] == "20 rials"
    assert tiles(await opened(shop, "period=7-days"))["Sum received"] == "21 rials"


@pytest.mark.parametrize(
    "query", ["from=1405/09/06&to=1405/09/06", "from=2026-11-27", "to=%DB%B1%DB%B4%DB%B0%DB%B5/9/6"]
)
async def test_a_period_of_ones_own(shop, query):
    """Jalali or Gregorian, digits of either script; one day alone is that day."""
    put(shop, 1, at=MIDNIGHT, amount=1)
    put(shop, 2, at=JUST_BEFORE, amount=20)
    page = await opened(shop, query)
    assert tiles(page)["Sum received"] == "20 rials"
    assert "Friday 27 November 2026" in page.text
    assert 'aria-current="true"' not in page.text


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("from=x&to=1405/09/06", "from", "The year comes first"),
        ("from=1405/09/06&to=1405/13/01", "to", "The year comes first"),
        ("from=1405/09/06&to=1405/09/05", "to", "ends before it begins"),
        ("from=%3Cscript%3E", "from", "The year comes first"),
    ],
    ids=["from", "to", "order", "hostile"],
)
async def test_wrong_days(shop, query, field, says):
    """What is wrong is said at its field; what was keyed stands there still, and no figure is shown."""
    page = await opened(shop, query)
    assert page.status_code == 422
    error = re.search(rf'id="{field}-error">(.*?)<', page.text)
    assert says in error[1]
    assert page.text.count("-error") == 2  # the message, and the field that points at it
    assert 'class="tile"' not in page.text
    assert "<script>" not in page.text.replace("<script src", "")


async def test_spans_of_time(shop):
    """Each hour's row has what began in it, and the last row all."""
    put(shop, 1, at="2026-11-28T05:29:59.999+00:00", amount=10)
    put(shop, 2, at="2026-11-28T05:30:00.000+00:00", amount=200)
    put(shop, 3, "unknown", at="2026-11-28T05:30:00.000+00:00", amount=3000)
    head, *rows, total = table(await opened(shop), "over_time")
    assert head == ["Time", "Paid", "Declined", "In doubt", "Not completed", "Sum received", "Sum in doubt"]
    assert len(rows) == 24
    assert rows[8] == ["08:00 to 09:00", "1", "0", "0", "0", "10 rials", "0 rials"]
    assert rows[9] == ["09:00 to 10:00", "1", "0", "1", "0", "200 rials", "3,000 rials"]
    assert total == ["Total", "2", "0", "1", "0", "210 rials", "3,000 rials"]


async def test_codes(shop):
    """Each code with its meaning in words, its number and share; one that nobody knows is shown as it came."""
    for number, code in enumerate(("51", "51", "<b>", "")):
        put(shop, number, "declined", code=code)
    page = await opened(shop)
    assert table(page, "codes")[1:] == [
        ["51", "not enough money", "2", "50%"],
        ["—", "no code given", "1", "25%"],
        ["<b>", "a code that is not in the list", "1", "25%"],
    ]
    assert "<b><" not in page.text.replace('<div class="tile"><b>', "")


async def test_many_codes(shop):
    """The chart has the most frequent ones and the rest as one bar; the table has all."""
    for number in range(20):
        put(shop, number, "declined", code=str(number))
    page = await opened(shop)
    assert len(table(page, "codes")) == 21
    assert page.text.count("All other codes") >= 1
    assert "All other codes: 11 (55%)" in html.unescape(page.text)


async def test_gateway(shop):
    """For each request how many answers, and within which time half, 95 and 99 of 100 came, to within a tenth."""
    attempt_id = put(shop, 1)
    for number in range(100):
        answered(shop.line.journal, attempt_id, "otp_sent", 10 * number + 10, at=MORNING)
    answered(shop.line.journal, attempt_id, "paid", 2345, at=MORNING)
    answered(shop.line.journal, attempt_id, "paid", 9999, at=YESTERDAY)
    (head, otp, pay) = table(await opened(shop), "latency")
    assert head == ["Request", "Answers", "p50 (median)", "p95", "p99"]
    assert otp[:2] == ["Sending a one-time PIN", "100"]
    assert 450 <= int(otp[2].removesuffix(" ms")) <= 550
    assert 855 <= int(otp[3].removesuffix(" ms")) <= 1045
    assert pay[:2] == ["Paying", "1"]


async def test_the_gateways_times_of_several_days_are_kept_for_a_minute(shop, monkeypatch):
    """A reload does not count them anew, a minute later they are; those of one day are never kept."""
    attempt_id = put(shop, 1)
    reza = await shop.signed_in("reza")
    reza.client.cookies.set("ivr-agi-language", "en")
    seen = []
    for seconds in (0, 59, 61):
        answered(shop.line.journal, attempt_id, "paid", 100, at=MORNING)
        monkeypatch.setattr(today, "clock", lambda later=seconds: NOW + timedelta(seconds=later))
        several = await reza.get("/today?period=7-days")
        one = await reza.get("/today?period=today")
        seen.append((table(several, "latency")[1][1], table(one, "latency")[1][1]))
    assert seen == [("1", "1"), ("1", "2"), ("3", "3")]


async def test_real_calls(office):
    """One who pays, one who hangs up at the card, one who keys nothing at the PIN: each ends where he was."""
    line = office.line
    await line.call(line.buyer(), "amount=50000&order_id=A-1")
    await line.call(line.buyer() | {"enter-card": HANG_UP}, "amount=50000&order_id=A-2")
    await line.call(line.buyer() | {"enter-pin": ["", "", ""]}, "amount=50000&order_id=A-3")
    await until(lambda: not line.payments._calls)
    page = await opened(office)
    head, *rows = table(page, "funnel")
    assert head == ["Step", "Came to it", "Paid", "Hung up", "Gave no valid answer"]
    ended = {row[0]: row[1:] for row in rows}
    assert len(rows) == len(counts.STATES)
    assert ended["Mobile number"] == ["3", "0", "0", "0"]
    assert ended["Card number"] == ["3", "0", "1", "0"]
    assert ended["PIN being sent"] == ["2", "0", "0", "0"]
    assert ended["PIN"] == ["2", "0", "0", "1"]
    assert ended["Payment"] == ["1", "1", "0", "0"]
    found = tiles(page)
    assert (found["Calls"], found["Paid, of callers who came to the card"]) == ("3", "33.3%")
    assert (found["Paid"], found["Success rate"]) == ("1", "100%")
    assert [row[:2] for row in table(page, "latency")[1:]] == [
        ["Sending a one-time PIN", "2"],
        ["Paying", "1"],
    ]


async def test_average_call(shop):
    """How long calls took, on average, by when they ended."""
    for ms, at in ((60_000, MORNING), (120_000, MORNING), (9_000_000, YESTERDAY)):
        called(shop.line.journal, at=at, ms=ms)
    page = await opened(shop)
    assert "Average call: 1 min 30 s" in page.text
    assert tiles(page)["Calls"] == "2"


async def test_compared_with_the_day_before(shop):
    """So far today with yesterday until the same time: later payments of yesterday are no part of it."""
    for number in range(15):
        put(shop, number, amount=100)
    for number in range(15, 25):
        put(shop, number, at=YESTERDAY, amount=200)
    put(shop, 25, at="2026-11-27T08:30:00.000+00:00", amount=10**9)
    put(shop, 26, "declined", code="51")
    put(shop, 27, "failed")  # before `pay`: no part of the rate
    text = html.unescape((await opened(shop)).text)
    assert "Paid: 50% more than yesterday until this time (15 against 10)" in text
    assert "Sum received: 25% less than yesterday until this time (1,500 rials against 2,000 rials)" in text
    assert "Success rate: 93.8%; yesterday until this time: 100%" in text


async def test_few_are_not_compared_in_per_cent(shop):
    """Three after one is no rise by 200 %: both numbers stand side by side."""
    for number in range(3):
        put(shop, number)
    put(shop, 3, at=YESTERDAY)
    text = (await opened(shop)).text
    assert "Paid: 3; yesterday until this time: 1" in text
    assert "more than" not in text


async def test_nothing_before_nothing_compared(shop):
    """Where there was nothing before, nothing is said of it."""
    put(shop, 1)
    assert "yesterday until this time" not in (await opened(shop)).text


@pytest.mark.parametrize("language", ["fa", "en"])
async def test_empty(office, language):
    """A shop that has just begun reads a sentence, not empty charts; every period can be asked for."""
    browser = await office.signed_in("reza")
    browser.client.cookies.set("ivr-agi-language", language)
    for name in today.NAMES:
        page = await browser.get(f"/today?period={name}")
        assert page.status_code == 200
        assert words()["today.nothing"][language] in html.unescape(page.text)
        assert "<svg" not in page.text
        assert page.text.count('aria-current="true"') == 1


async def test_calls_without_payments(shop):
    """Where there is no payment yet, a sentence stands for each chart of payments; calls have theirs."""
    called(shop.line.journal, at=MORNING)
    text = (await opened(shop)).text
    for word in ("no_payments", "no_codes", "no_answers"):
        assert words()[f"today.{word}"]["en"] in text
    assert text.count('role="img"') == 1


@pytest.mark.parametrize("language", ["fa", "en"])
async def test_whatever_is_counted_is_explained(shop, language):
    """Each figure has its line, each chart a table of the same figures."""
    attempt_id = put(shop, 1, "declined", code="51")
    answered(shop.line.journal, attempt_id, "declined", 900, at=MORNING)
    called(shop.line.journal, at=MORNING)
    page = await opened(shop, language=language)
    text = html.unescape(page.text)
    explained = {key: texts[language] for key, texts in words().items() if key.startswith("today.explain_")}
    assert len(explained) == 11
    for sentence in explained.values():
        assert sentence.split("{")[0] in text
    assert text.count('role="img"') == 4
    assert all(part.count("<table") >= 1 for part in text.split('role="img"')[1:])


@pytest.mark.parametrize(("name", "status"), [("sara", 403), ("reza", 200), ("mina", 200)])
async def test_who_may_see_it(office, name, status):
    """Operators may not; accountants and administrators may."""
    assert (await opened(office, name=name)).status_code == status


async def test_those_in_doubt_lead_to_review(shop):
    """From what is in doubt a link leads to where it is settled; there is none where nothing is."""
    put(shop, 1)
    link = 'href="/panel/review">Review those in doubt'
    assert link not in (await opened(shop)).text
    put(shop, 2, "unknown")
    assert link in (await opened(shop)).text


# -- what the figures come to ----------------------------------------------------------------------------


def test_every_kind_is_one_outcome():
    """Each kind of payment, and each end of a call, is counted once: columns and rows add up."""
    kinds = [kind for each in counts.OUTCOMES.values() for kind in each]
    assert sorted(kinds) == sorted(KINDS)
    ends = [status for each in counts.ENDS.values() for status in each]
    assert sorted(ends) == sorted(PayStatus)


def test_callers_add_up():
    """Who came to a step either ended there or came to the next one; of an unknown step is the first."""
    callers = counts.Callers.of(
        {
            ("pay", "PAID"): Calls(5, 50),
            ("card", "HANGUP"): Calls(3, 3),
            ("mobile", "NOINPUT"): Calls(4, 0),
            ("fortune", "FAILED"): Calls(2, 2),
        }
    )
    reached = [step.reached for step in callers.steps]
    assert [step.state for step in callers.steps] == [state for state in State if state is not State.END]
    assert (reached[0], reached[1], reached[-1]) == (14, 12, 5)
    for step, after in zip(callers.steps, [*reached[1:], 0], strict=True):
        assert step.reached == sum(step.ended.values()) + after
    assert (callers.calls, callers.to_card, callers.paid) == (Calls(14, 55), 8, 5)


@pytest.mark.parametrize("seed", range(8))
def test_quantiles_are_within_a_tenth(seed):
    """However answers spread, p50, p95 and p99 of the chart are the true ones to within a tenth."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    middle, spread = draw.uniform(4, 9), draw.uniform(0.05, 1.2)
    true = sorted(min(round(draw.lognormvariate(middle, spread)) + 12, 300_000) for _ in range(2000))
    histogram = {}
    for ms in true:
        least = ms if ms < 100 else int(f"{str(ms)[:2]}{'0' * (len(str(ms)) - 2)}")
        histogram[least] = histogram.get(least, 0) + 1
    (service,) = counts.latencies({"pay": histogram}, {"pay": "Paying"})
    assert sum(service.counts) == len(true)
    for share in (0.5, 0.95, 0.99):
        exact = true[round(share * len(true)) - 1] / 1000
        assert exact / 1.1 <= service.quantile(share) <= exact * 1.1


@pytest.mark.parametrize("ms", [0, 9, 10, 930_000, 5_000_000])
def test_extremes_of_the_gateway(ms):
    """An answer at once, or after an hour, is in the chart and in the table."""
    (service,) = counts.latencies({"pay": {ms: 3}, "otp-v2": {}}, {"pay": "Paying", "otp-v2": "PIN"})
    assert sum(service.counts) == 3
    assert service.quantile(0.5) is not None
    ((low, high, by_service),) = counts.spans_of_time({"pay": {ms: 3}})
    assert by_service == {"pay": 3}
    assert low <= ms
    assert high is None or ms < high


@pytest.mark.parametrize("code", [*DECLINES, "other", "none"])
def test_every_code_has_words(code):
    """Each of the bank's codes has its meaning in both languages, and no other has words."""
    assert set(words()[f"codes.{code}"]) == {"fa", "en"}
    known = {key.removeprefix("codes.") for key in words() if key.startswith("codes.")}
    assert known == {*DECLINES, "other", "none"}
