"""Taking a payment at the desk: once, whatever is clicked, and shown as it is."""

import asyncio
import re

import pytest
from line import CARD, sample_card, until
from panel.office import open_office

from ivr_agi import payments
from ivr_agi.journal import JournalError
from ivr_agi.panel import desk as desks
from ivr_agi.simulator.gateway import Fault, Outcome, Rule


async def settled(browser, sale):
    """The page of a sale once it waits for the bank no more."""
    async with asyncio.timeout(20):
        while True:
            got = await browser.get(sale)
            if 'http-equiv="refresh"' not in got.text:
                return got
            await asyncio.sleep(0.02)


async def paid_with(office, card=CARD, order="A-1", who="sara"):
    """One whole payment; the page that says how it ended, and the browser."""
    browser = await office.signed_in(who)
    got = await browser.begin(order=order, card=card)
    sale = got.url.path
    await browser.post(f"{sale}/pin", pin=office.pin(card))
    return await settled(browser, sale), browser


def pays(office):
    return office.line.services().count("pay")


async def test_paid(office):
    """Order, amount, mobile, card; the PIN; paid: method 2.2, and the journal, the audit log and the page agree."""
    got, _ = await paid_with(office)
    (charge,) = office.line.gateway.charges
    (row,) = office.line.attempts()
    assert (row["state"], row["method"], row["ref_id"]) == ("paid", "web", charge.ref_id)
    assert "پرداخت انجام شد" in got.text
    assert charge.ref_id.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")) in got.text
    (request,) = [each for each in office.line.gateway.requests if each.service == "pay"]
    assert (request.body["ivr"], request.body["invoice_id"]) == (0, "A-1")
    assert not {"order_id", "amount"} & request.body.keys()
    mina = await office.signed_in("mina")
    log = (await mina.get("/audit")).text
    assert "آغاز دریافت وجه" in log
    assert f'href="/panel/payments/{row["id"]}"' in log


async def test_history_says_how_long_the_gateway_took(office):
    """Each answer of the gateway's is in the journal with its milliseconds, nothing else is."""
    await paid_with(office)
    _, history = office.line.journal.attempt(1)
    assert [(step["state"], step["ms"] is not None) for step in history] == [
        ("created", False),
        ("otp_sent", True),
        ("sent", False),
        ("paid", True),
    ]


@pytest.mark.parametrize("language", ["fa", "en"])
async def test_each_code_is_told(office, language):
    """Every code of the bank's has its sentence; the two that may have been charged hold the order, and say so."""
    sara = await office.signed_in("sara")
    await sara.post("/language", language=language, back="/panel/charge")
    for place, code in enumerate(["3", "14", "20", "51", "55", "80", "91", "94"]):
        card = sample_card(code)
        got = await sara.begin(order=f"C-{place}", card=card)
        sale = got.url.path
        await sara.post(f"{sale}/pin", pin=office.pin(card))
        got = await settled(sara, sale)
        assert (">" + code + "<" in got.text) or (
            code.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")) in got.text
        )
        held = {"fa": "نباید دوباره پرداخت شود", "en": "must not be paid again"}[language] in got.text
        assert held == (code in ("20", "94"))


async def test_double_click_on_begin(office):
    """The form sent twice at once, with one ticket: one attempt, one PIN, and both get the same page."""
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    fields = {"order_id": "", "amount": "50000", "mobile": "09123456789", "card": CARD}
    fields |= {"ticket": sara.hidden("ticket"), "csrf": sara.token}
    first, second = await asyncio.gather(*(sara.post("/charge", **fields) for _ in range(2)))
    assert first.url == second.url
    third = await sara.post("/charge", **fields | {"csrf": sara.token})
    assert third.url == first.url
    assert office.line.services() == ["otp-v2"]
    assert len(office.line.attempts()) == 1


async def test_double_click_on_pay(office):
    """The PIN sent five times at once: one `pay`, one charge."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    fields = {"pin": office.pin(), "csrf": sara.token}
    await asyncio.gather(*(sara.post(f"{sale}/pin", **fields) for _ in range(5)))
    got = await settled(sara, sale)
    await sara.post(f"{sale}/pin", **fields)
    await sara.get(sale)
    assert (pays(office), len(office.line.gateway.charges)) == (1, 1)
    assert "پرداخت انجام شد" in got.text


async def test_two_operators_one_order(office):
    """Both begin at once: one gets the PIN page, the other is told that somebody is paying; one charge."""
    sara, omid = await office.signed_in("sara"), await office.signed_in("omid")
    one, other = await asyncio.gather(sara.begin(order="X-7"), omid.begin(order="X-7"))
    winner, loser = (sara, omid) if one.status_code == 200 else (omid, sara)
    assert sorted([one.status_code, other.status_code]) == [200, 409]
    assert "همین حالا کس دیگری در حال پرداخت این سفارش است" in loser.page.text
    sale = winner.page.url.path
    await winner.post(f"{sale}/pin", pin=office.pin())
    await settled(winner, sale)
    again = await loser.begin(order="X-7")
    assert again.status_code == 409
    assert "پیش‌تر پرداخت شده" in again.text
    assert len(office.line.gateway.charges) == 1


async def test_a_caller_has_the_order(office):
    """An order that is being paid by phone is not taken at the desk."""
    await office.line.call(office.line.buyer(), "amount=50000&order_id=P-1")
    sara = await office.signed_in("sara")
    assert (await sara.begin(order="P-1")).status_code == 409
    assert pays(office) == 1


async def test_unknown_is_shown_as_such(tmp_path):
    """No answer from the bank: the page says what to do, never that nothing was charged; the order stays held."""
    async with open_office(tmp_path, pay_timeout=0.2, late_limit=0) as office:
        office.line.gateway.rules.append(Rule(Outcome(fault=Fault.SILENCE), "pay"))
        got, sara = await paid_with(office)
        assert "نتیجه روشن نیست" in got.text
        assert "همین سفارش را دوباره نگیرید" in got.text
        assert "برداشت نشد" not in got.text
        assert office.line.attempts()[0]["state"] == "unknown"
        assert "شاید پول برداشت شده باشد" in (await sara.begin()).text
        assert pays(office) == 1


async def test_failed_says_that_nothing_was_charged(office):
    """The gateway refuses the request itself: certainly not charged."""
    office.line.gateway.rules.append(Rule(Outcome(status=403, body=b"no"), "pay"))
    got, _ = await paid_with(office)
    assert "از کارت چیزی برداشت نشد" in got.text
    assert office.line.attempts()[0]["state"] == "failed"


async def test_wrong_pin_then_a_new_one(office):
    """Code 55: a new PIN for the same card without keying it again, in an attempt of its own."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    await sara.post(f"{sale}/pin", pin="00000")
    got = await settled(sara, sale)
    assert "رمز نادرست بود" in got.text
    await sara.post(f"{sale}/send")
    await sara.post(f"{sale}/pin", pin=office.pin())
    assert "پرداخت انجام شد" in (await settled(sara, sale)).text
    assert [row["state"] for row in office.line.attempts()] == ["declined", "paid"]
    assert len(office.line.gateway.charges) == 1


async def test_another_card(office):
    """Insufficient funds: the form comes back with the order filled in, and no card."""
    got, sara = await paid_with(office, sample_card("51"))
    (link,) = re.findall(r'href="(/panel/charge\?after=[^"]+)"', got.text)
    form = (await sara.get(link)).text
    assert 'value="A-1"' in form
    assert 'value="50000"' in form
    assert re.search(r'name="card"[^>]*value=""', form)


async def test_pins_have_a_cool_down_and_a_cap(tmp_path):
    """A new PIN too soon is refused with a sentence; beyond the cap there is no button for one."""
    async with open_office(tmp_path, otp_cooldown=60.0) as office:
        sara = await office.signed_in("sara")
        sale = (await sara.begin()).url.path
        got = await sara.post(f"{sale}/send")
        assert got.status_code == 429
        assert "data-countdown-until" in got.text
        assert office.line.services() == ["otp-v2"]
    (tmp_path / "b").mkdir()
    async with open_office(tmp_path / "b", max_pins=2) as office:
        sara = await office.signed_in("sara")
        sale = (await sara.begin()).url.path
        await sara.post(f"{sale}/send")
        got = await sara.post(f"{sale}/send")
        assert "رمز دیگری فرستاده نمی‌شود" in got.text
        assert office.line.services() == ["otp-v2", "otp-v2"]


async def test_pin_that_could_not_be_sent(office):
    """The gateway refuses to send one: the page says so, offers another try, and takes no PIN."""
    office.line.gateway.rules.append(Rule(Outcome(code="80"), "otp-v2", times=1))
    sara = await office.signed_in("sara")
    got = await sara.begin()
    assert "رمز پویا فرستاده نشد" in got.text
    assert 'name="pin"' not in got.text
    await sara.post(f"{got.url.path}/pin", pin="12345")
    got = await sara.post(f"{got.url.path}/send")
    assert 'name="pin"' in got.text
    assert pays(office) == 0


async def test_cancel(office):
    """Cancelled before the PIN: the order is free again, and the card is forgotten."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    got = await sara.post(f"{sale}/cancel")
    assert "لغو شد" in got.text
    assert office.line.attempts()[0]["state"] == "failed"
    assert office.panel.desk.find("sara", sale.rsplit("/", 1)[1]).pan is None
    assert (await sara.begin()).status_code == 200


async def test_left_alone(office):
    """No PIN within the limit: the order is let go of, card and all."""
    office.panel.desk._settings = office.panel.settings.model_copy(update={"call_limit": 0.05})
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    found = office.panel.desk.find("sara", sale.rsplit("/", 1)[1])
    await until(lambda: found.stage is desks.Stage.OVER and office.line.attempts()[0]["state"] == "failed")
    assert found.pan is None
    assert office.line.attempts()[0]["reason"] == "no-input"


async def test_somebody_elses_sale(office):
    """A sale's address is its operator's alone."""
    sara, omid = await office.signed_in("sara"), await office.signed_in("omid")
    sale = (await sara.begin()).url.path
    assert (await omid.get(sale)).status_code == 404
    assert (await omid.post(f"{sale}/pin", pin=office.pin())).status_code == 404
    assert pays(office) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "12.5"),
        ("amount", "0"),
        ("amount", "99999999999999"),
        ("mobile", "02188776655"),
        ("card", "6037991234567890"),
        ("card", "1234"),
        ("order", "x" * 51),
        ("order", f"card {CARD}"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field(office, field, value):
    """Nothing is sent, the other fields keep what was keyed, and no card comes back."""
    sara = await office.signed_in("sara")
    got = await sara.begin(**{field: value})
    assert got.status_code == 422
    assert 'aria-invalid="true"' in got.text
    assert CARD not in got.text
    assert "6037991234567890" not in got.text
    assert office.line.services() == []
    assert office.line.attempts() == []


async def test_persian_digits(office):
    """Keyed in Persian digits, with separators, it is the same payment."""
    persian = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
    sara = await office.signed_in("sara")
    card = " ".join(CARD.translate(persian)[place : place + 4] for place in range(0, 16, 4))
    got = await sara.begin(amount="۵۰٬۰۰۰", mobile="۰۹۱۲۳۴۵۶۷۸۹", card=card)
    await sara.post(f"{got.url.path}/pin", pin=office.pin().translate(persian))
    await settled(sara, got.url.path)
    assert office.line.attempts()[0]["amount"] == 50_000
    assert office.line.attempts()[0]["state"] == "paid"


async def test_an_order_in_other_digits(office):
    """One invoice is one order, whichever digits it is written in, here or by another system."""
    await office.line.call(office.line.buyer(), "amount=50000&order_id=F-123")
    await office.line.call(office.line.buyer(), "amount=50000&order_id=F-%DB%B4%DB%B5")
    sara = await office.signed_in("sara")
    for order in ("F-۱۲۳", "F-123", "F-45", "F-۴۵", "F-٤٥"):
        assert (await sara.begin(order=order)).status_code == 409
    await sara.begin(order="F-۶۷")
    assert office.line.attempts()[-1]["order_id"] == "F-67"
    assert office.line.services().count("otp-v2") == 3


async def test_limits_count_here_too(tmp_path):
    """A limit that callers have is the desk's as well."""
    async with open_office(tmp_path, limit_card="1 declines/hour") as office:
        _, sara = await paid_with(office, sample_card("51"))
        got = await sara.begin(order="A-2", card=sample_card("51"))
        assert got.status_code == 409
        assert office.line.services() == ["otp-v2", "pay"]


async def test_paused(office):
    """`ivr-agi pause` stops the desk, too."""
    office.line.journal.pause("admin", "")
    sara = await office.signed_in("sara")
    assert (await sara.begin()).status_code == 409
    assert office.line.services() == []


async def test_stopping_lets_a_payment_end(office):
    """The server drains: no new sale begins, one that waits for its PIN may still be paid, and then it is quiet."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    quiet = asyncio.create_task(office.panel.quiet())
    await asyncio.sleep(0)
    assert (await sara.begin(order="A-2")).status_code == 409
    await sara.get(sale)
    await sara.post(f"{sale}/pin", pin=office.pin())
    await asyncio.wait_for(quiet, 10)
    assert office.line.attempts()[0]["state"] == "paid"


async def test_closing_lets_go_of_what_was_not_sent(office):
    """The panel closes: what waits for a PIN holds its order no longer."""
    sara = await office.signed_in("sara")
    await sara.begin()
    await office.panel.close()
    row = office.line.attempts()[0]
    assert (row["state"], row["reason"]) == ("failed", "shutting-down")


async def test_browser_gone_while_the_pin_is_asked_for(office):
    """The request is dropped in the middle: the attempt is there, held, and found under its address."""
    office.line.gateway.rules.append(Rule(Outcome(delay=0.3), "otp-v2", times=1))
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    ticket = sara.hidden("ticket")
    going = asyncio.create_task(sara.begin(ticket=ticket))
    await until(lambda: "otp-v2" in office.line.services())
    going.cancel()
    sale = f"/panel/charge/{ticket}"
    got = await settled(sara, sale)
    await sara.post(f"{sale}/pin", pin=office.pin())
    await settled(sara, sale)
    assert got.status_code == 200
    assert office.line.attempts()[0]["state"] == "paid"


@pytest.mark.parametrize("step", ["may_begin", "reserve", "write"])
async def test_journal_fails_before_a_pin(office, monkeypatch, step):
    """The journal takes nothing: 503, no PIN is asked for, no card is kept, and the same form works once it is back."""

    async def fails(*_args, **_options):
        raise JournalError("no space left")

    sara = await office.signed_in("sara")
    await sara.get("/charge")
    ticket = sara.hidden("ticket")
    with monkeypatch.context() as broken:
        broken.setattr(office.line.journal, step, fails)
        got = await sara.begin(ticket=ticket)
        assert got.status_code == 503
        assert office.line.services() == []
        assert office.panel.desk.find("sara", ticket) is None
    assert (await sara.begin(ticket=ticket)).status_code == 200
    assert office.line.services() == ["otp-v2"]


async def test_journal_fails_at_sent(office, monkeypatch):
    """`sent` cannot be written: nothing leaves, the page says that nothing was charged, and the order is free."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    step = office.line.journal.step

    async def fails(attempt_id, state, *args, **options):
        if state == "sent":
            raise JournalError("no space left")
        await step(attempt_id, state, *args, **options)

    with monkeypatch.context() as broken:
        broken.setattr(office.line.journal, "step", fails)
        await sara.post(f"{sale}/pin", pin=office.pin())
        got = await settled(sara, sale)
    assert "از کارت چیزی برداشت نشد" in got.text
    assert pays(office) == 0
    assert (await sara.begin()).status_code == 200


async def test_journal_fails_at_the_outcome(office, monkeypatch):
    """The outcome cannot be written at first: the page shows it all the same, and it is written once it can be."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    step = office.line.journal.step
    monkeypatch.setattr(payments, "SETTLE_WAITS", (0.01,))
    monkeypatch.setattr(payments, "CALLER_WAITS", 0.05)
    broken = True

    async def fails(attempt_id, state, *args, **options):
        if broken and state == "paid":
            raise JournalError("no space left")
        await step(attempt_id, state, *args, **options)

    monkeypatch.setattr(office.line.journal, "step", fails)
    await sara.post(f"{sale}/pin", pin=office.pin())
    assert "پرداخت انجام شد" in (await settled(sara, sale)).text
    assert office.line.attempts()[0]["state"] == "sent"
    broken = False
    await until(lambda: office.line.attempts()[0]["state"] == "paid")


async def test_journal_fails_while_a_new_pin_is_asked_for(office, monkeypatch):
    """A new PIN cannot be counted: the sale ends, nothing was charged, the card is forgotten."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path

    async def fails(*_args, **_options):
        raise JournalError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(office.line.journal, "ask_pin", fails)
        assert (await sara.post(f"{sale}/send")).status_code == 503
    got = await sara.get(sale)
    assert "از کارت چیزی برداشت نشد" in got.text
    assert office.panel.desk.find("sara", sale.rsplit("/", 1)[1]).pan is None
    assert office.line.attempts()[0]["state"] == "failed"


async def test_a_bug_after_sent_is_in_doubt(office, monkeypatch):
    """A bug of ours while the bank is asked: unknown, and said so."""

    async def broken(*_args, **_options):
        raise RuntimeError("boom")

    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    monkeypatch.setattr(office.line.payments, "pay", broken)
    await sara.post(f"{sale}/pin", pin=office.pin())
    assert "نتیجه روشن نیست" in (await settled(sara, sale)).text


async def test_too_many_sales_of_one_operator(office, monkeypatch):
    """Sales that are begun and left open have a cap; the page says so."""
    monkeypatch.setattr(desks, "MOST_OPEN", 1)
    sara = await office.signed_in("sara")
    await sara.begin()
    got = await sara.begin(order="A-2")
    assert got.status_code == 429
    assert "پرداخت‌های باز شما زیاد است" in got.text
    assert office.line.services() == ["otp-v2"]


async def test_old_sales_are_forgotten_and_open_ones_are_not(office, monkeypatch):
    """Only so many are remembered: those that are over go first."""
    monkeypatch.setattr(desks, "MOST", 2)
    sara = await office.signed_in("sara")
    first = (await sara.begin()).url.path
    await sara.post(f"{first}/cancel")
    second = (await sara.begin(order="A-2")).url.path
    third = (await sara.begin(order="A-3")).url.path
    assert (await sara.get(first)).status_code == 404
    assert (await sara.get(second)).status_code == 200
    assert (await sara.get(third)).status_code == 200


async def test_a_pin_is_not_taken_while_another_is_asked_for(office):
    """PIN and "send a new one" at the same moment: the attempt stays whole, whichever comes first."""
    sara = await office.signed_in("sara")
    sale = (await sara.begin()).url.path
    release = asyncio.Event()
    office.line.gateway.rules.append(Rule(Outcome(wait=release), "otp-v2", times=1))
    pin, token = office.pin(), sara.token
    sending = asyncio.create_task(sara.post(f"{sale}/send", csrf=token))
    await until(lambda: office.line.services().count("otp-v2") == 2)
    await sara.post(f"{sale}/pin", pin=pin, csrf=token)
    release.set()
    assert (await sending).status_code == 200
    assert pays(office) == 0
    await sara.post(f"{sale}/pin", pin=office.pin())
    assert "پرداخت انجام شد" in (await settled(sara, sale)).text
    assert len(office.line.gateway.charges) == 1
