"""A sale at the desk where something breaks, is late, or comes twice: no order stays held, no card is kept, no page lies."""

import asyncio

import pytest
from line import CARD, MOBILE, sample_card, until
from panel.office import open_office
from panel.test_charge import paid_with, pays, settled

from ivr_agi.journal.steps import IllegalStep
from ivr_agi.model import Msisdn, Pan, Pin
from ivr_agi.panel import desk as desks
from ivr_agi.payments import Refused
from ivr_agi.simulator.gateway import Outcome, Rule

WRONG = "00000"


async def operator(office, name="sara"):
    """Somebody signed in who reads English."""
    browser = await office.signed_in(name)
    browser.client.cookies.set("ivr-agi-language", "en")
    return browser


def sale_at(office, address, owner="sara"):
    return office.panel.desk.find(owner, address.rsplit("/", 1)[1])


async def waiting(office, **fields):
    """An operator, and a sale of his that waits for its PIN: browser, address, sale."""
    sara = await operator(office)
    address = (await sara.begin(**fields)).url.path
    return sara, address, sale_at(office, address)


async def declined(office, **fields):
    """The same after a wrong PIN: it may have a new one."""
    sara, address, sale = await waiting(office, **fields)
    await sara.post(f"{address}/pin", pin=WRONG)
    await settled(sara, address)
    return sara, address, sale


def pin_is_refused(office, code="80"):
    """The gateway sends the next one-time PIN not."""
    office.line.gateway.rules.append(Rule(Outcome(code=code), "otp-v2", times=1))


def held_back(office, service):
    """The gateway's next answer, until the event is set."""
    release = asyncio.Event()
    office.line.gateway.rules.append(Rule(Outcome(wait=release), service, times=1))
    return release


def breaks_at_otp_sent(office, patch):
    """A bug of ours right after a PIN has been asked for."""
    step = office.line.journal.step

    async def illegal(attempt_id, state, *args, **options):
        if state == "otp_sent":
            raise IllegalStep("boom")
        await step(attempt_id, state, *args, **options)

    patch.setattr(office.line.journal, "step", illegal)


def states(office):
    return [row["state"] for row in office.line.attempts()]


# -- bugs and refusals on the way -------------------------------------------------------------------------


async def test_a_bug_while_the_first_pin_is_asked_for(office, monkeypatch):
    """500, and nothing is left of it: no card, no held order; the same form may be sent again."""
    sara = await operator(office)
    await sara.get("/charge")
    ticket = sara.hidden("ticket")
    with monkeypatch.context() as patch:
        breaks_at_otp_sent(office, patch)
        assert (await sara.begin(ticket=ticket)).status_code == 500
    assert office.panel.desk.find("sara", ticket) is None
    assert states(office) == ["failed"]
    assert (await sara.begin(ticket=ticket)).status_code == 200


async def test_a_bug_while_a_new_pin_is_asked_for(office, monkeypatch):
    """After a decline: the sale ends, its new attempt holds the order no longer, the card is forgotten."""
    sara, address, sale = await declined(office)
    with monkeypatch.context() as patch:
        breaks_at_otp_sent(office, patch)
        assert (await sara.post(f"{address}/send")).status_code == 500
    assert (sale.stage, sale.pan) == (desks.Stage.OVER, None)
    assert states(office) == ["declined", "failed"]
    assert "nothing was charged" in (await sara.get(address)).text


async def test_nobody_waits_and_it_is_refused(office, monkeypatch):
    """The request is dropped while the sale opens, and then it is refused: neither sale nor card stays."""
    go_on = asyncio.Event()

    async def refused(*_args):
        await go_on.wait()
        raise Refused("already-paid")

    async def begun(_attempt_id):
        """Never reached."""

    monkeypatch.setattr(office.line.payments, "check_order", refused)
    desk, mobile = office.panel.desk, Msisdn.parse(MOBILE)
    asking = asyncio.create_task(desk.begin("sara", "t", "A-9", 50_000, mobile, Pan(CARD), begun))
    await until(lambda: desk.find("sara", "t"))
    sale = desk.find("sara", "t")
    asking.cancel()
    await asyncio.wait({asking})
    go_on.set()
    await until(sale.opening.done)
    sale.opening.exception()
    assert (desk.find("sara", "t"), sale.pan) == (None, None)


async def test_a_limit_refuses_a_new_pin(tmp_path):
    """A new PIN that a limit forbids ends the sale and lets go of its order."""
    async with open_office(tmp_path, limit_card="1 pins/hour") as office:
        sara, address, sale = await waiting(office)
        got = await sara.post(f"{address}/send")
        assert "nothing was charged" in got.text
        assert (sale.pan, sale.refusal, states(office)) == (None, "limit-card", ["failed"])


async def test_no_pin_can_be_sent_at_all(tmp_path):
    """The only PIN that is allowed is refused: the sale ends, says so, and holds nothing."""
    async with open_office(tmp_path, max_pins=1) as office:
        pin_is_refused(office)
        sara, _, sale = await waiting(office)
        assert "nothing was charged" in sara.page.text
        assert (sale.stage, sale.pan, states(office)) == (desks.Stage.OVER, None, ["failed"])


async def test_the_order_is_paid_by_another_meanwhile(office):
    """A new PIN for an order that somebody else has paid by now: refused, said, and the card is forgotten."""
    sara, address, sale = await declined(office)
    await paid_with(office, who="omid")
    got = await sara.post(f"{address}/send")
    assert "This payment went no further" in got.text
    assert (sale.stage, sale.pan, sale.refusal) == (desks.Stage.OVER, None, "already-paid")


# -- a form that comes again ------------------------------------------------------------------------------


async def test_an_old_form_filled_in_anew(office):
    """Its ticket has begun another payment: 409, a new ticket, and never that payment's outcome."""
    sara, address, _ = await waiting(office)
    ticket = address.rsplit("/", 1)[1]
    await sara.post(f"{address}/pin", pin=office.pin())
    await settled(sara, address)
    for name, other in (
        ("order", "B-2"),
        ("order", ""),
        ("amount", "990000"),
        ("mobile", "09351234567"),
        ("card", sample_card("51")),
    ):
        got = await sara.begin(**{"order": "A-1", "ticket": ticket} | {name: other})
        assert (got.status_code, name) == (409, name)
        assert "This form has begun another payment already" in got.text
        assert sara.hidden("ticket") != ticket
    assert (office.line.services().count("otp-v2"), pays(office)) == (1, 1)


# -- what a page says -------------------------------------------------------------------------------------


async def test_opening_is_not_paying(office):
    """While the PIN is asked for the page says that no money has moved, and looks again by itself."""
    release = held_back(office, "otp-v2")
    sara = await operator(office)
    await sara.get("/charge")
    ticket = sara.hidden("ticket")
    beginning = asyncio.create_task(sara.begin(ticket=ticket))
    await until(lambda: "otp-v2" in office.line.services())
    tab = office.browser()
    tab.client.cookies = sara.client.cookies
    got = await tab.get(f"/charge/{ticket}")
    release.set()
    await beginning
    assert "No money has moved yet" in got.text
    assert "has been sent once" not in got.text
    assert 'http-equiv="refresh"' in got.text


@pytest.mark.parametrize("fault", ["refused", "unclear"])
async def test_a_new_pin_that_was_not_sent(office, fault):
    """The page says so; the PIN of before is still taken, and pays."""
    sara, address, _ = await waiting(office)
    pin = office.pin()
    outcome = Outcome(code="80") if fault == "refused" else Outcome(status=500, body=b"no")
    office.line.gateway.rules.append(Rule(outcome, "otp-v2", times=1))
    got = await sara.post(f"{address}/send")
    said = {"refused": "The new PIN could not be sent", "unclear": "whether the new PIN was sent"}[fault]
    assert said in got.text
    await sara.post(f"{address}/pin", pin=pin)
    assert "The payment has been made" in (await settled(sara, address)).text


async def test_no_pin_of_a_new_attempt_was_sent(office):
    """After a decline the PIN of before is no use: while no new one was sent, none is asked for."""
    sara, address, sale = await declined(office)
    pin_is_refused(office)
    got = await sara.post(f"{address}/send")
    assert "The one-time PIN could not be sent" in got.text
    assert 'name="pin"' not in got.text
    assert not office.panel.desk.submit(sale, Pin("12345"))


@pytest.mark.parametrize("code", ["51", "55"])
async def test_a_decline_that_is_kept_back(tmp_path, code):
    """One more than is explained: neither the code nor its sentence is on the page, and no new PIN is offered."""
    async with open_office(tmp_path, declines_explained=1) as office:
        card = sample_card(code)
        for place, told in enumerate((True, False)):
            sara, address, sale = await waiting(office, order=f"N-{place}", card=card)
            await sara.post(f"{address}/pin", pin=office.pin(card))
            got = await settled(sara, address)
            assert (f">{code}<" in got.text, sale.explained) == (told, told)
        assert (sale.stage, sale.pan) == (desks.Stage.OVER, None)
        assert f"{address}/send" not in got.text


@pytest.mark.parametrize("code", ["20", "94"])
async def test_what_must_not_be_paid_again_is_never_kept_back(tmp_path, code):
    """However many declines there were: the page says that the order is held."""
    async with open_office(tmp_path, declines_explained=1) as office:
        for place, card in enumerate((sample_card("51"), sample_card(code))):
            sara, address, _ = await waiting(office, order=f"H-{place}", card=card)
            await sara.post(f"{address}/pin", pin=office.pin(card))
            got = await settled(sara, address)
        assert "must not be paid again" in got.text


async def test_a_late_answer_leads_to_the_payment(tmp_path):
    """Unknown at first; once the late answer is written, the sale's address leads to what became of it."""
    async with open_office(tmp_path, pay_timeout=0.2, late_limit=20) as office:
        release = held_back(office, "pay")
        sara, address, _ = await waiting(office)
        await sara.post(f"{address}/pin", pin=office.pin())
        got = await settled(sara, address)
        assert (got.url.path, "Do not take this order again" in got.text) == (address, True)
        release.set()
        await until(lambda: states(office) == ["paid"])
        assert (await sara.get(address)).url.path == f"/panel/payments/{office.line.attempts()[0]['id']}"


async def test_stopped_after_a_decline(office):
    """The card is forgotten, and the page is that of the decline, without the offer of a new PIN."""
    sara, address, sale = await declined(office)
    got = await sara.post(f"{address}/cancel")
    assert (sale.stage, sale.pan) == (desks.Stage.OVER, None)
    assert "<h1>Declined</h1>" in got.text
    assert "have a new one sent" not in got.text
    assert f"{address}/send" not in got.text


@pytest.mark.parametrize("most", [{"max_pins": 1}, {"max_payments": 1}], ids=["pins", "payments"])
async def test_no_more_tries(tmp_path, most):
    """A wrong PIN, and no more of them are allowed: it is over, and no card is kept."""
    async with open_office(tmp_path, **most) as office:
        sara, address, sale = await declined(office)
        assert (sale.stage, sale.pan) == (desks.Stage.OVER, None)
        assert f"{address}/send" not in sara.page.text


# -- time, and the end of the server ----------------------------------------------------------------------


async def test_a_pin_in_the_last_moment(office):
    """The limit passes, and the PIN comes before the sale is let go of: what is declined then has a limit again."""
    _, _, sale = await waiting(office)
    desk = office.panel.desk
    desk._timers[sale].cancel()
    desk._overdue(sale)
    assert desk.submit(sale, Pin(WRONG))
    await until(lambda: sale.stage is desks.Stage.AGAIN)
    timer = desk._timers[sale]
    assert not timer.cancelled()
    assert timer.when() > asyncio.get_running_loop().time()
    desk._overdue(sale)
    await until(lambda: sale.pan is None)


async def test_an_answer_of_before_is_not_kept(office):
    """While a second PIN is being paid, the decline of the first one is no answer of it."""
    sara, address, sale = await declined(office)
    await sara.post(f"{address}/send")
    release = held_back(office, "pay")
    assert office.panel.desk.submit(sale, Pin(office.pin()))
    meanwhile = sale.stage, sale.answer
    release.set()
    assert meanwhile == (desks.Stage.PAYING, None)
    assert "The payment has been made" in (await settled(sara, address)).text


async def test_an_old_sale_is_forgotten(office, monkeypatch):
    """Its outcome is at its address for a while, then in the payments alone."""
    sara, address, _ = await waiting(office)
    monkeypatch.setattr(desks, "KEPT", 0.0)
    await sara.post(f"{address}/cancel", follow=False)
    await until(lambda: sale_at(office, address) is None)
    assert (await sara.get(address)).status_code == 404
    assert office.panel.desk._timers == {}


async def test_browser_gone_while_a_new_pin_is_sent(office):
    """It is sent all the same, once, and the sale is as it says."""
    _, _, sale = await declined(office)
    release = held_back(office, "otp-v2")
    asking = asyncio.create_task(office.panel.desk.send_pin(sale))
    await until(lambda: office.line.services().count("otp-v2") == 2)
    asking.cancel()
    await asyncio.wait({asking})
    release.set()
    await until(lambda: sale.stage is desks.Stage.PIN)
    assert (sale.pin_sent, states(office)) == (True, ["declined", "otp_sent"])


async def test_open_sales_count_for_their_operator(office, monkeypatch):
    """One's own that are open have a cap, nobody else's and none that are over."""
    monkeypatch.setattr(desks, "MOST_OPEN", 1)
    sara, address, _ = await waiting(office)
    omid = await operator(office, "omid")
    assert (await omid.begin(order="A-2")).status_code == 200
    await sara.post(f"{address}/cancel")
    assert (await sara.begin(order="A-3")).status_code == 200


@pytest.mark.parametrize("how", ["pin-not-sent", "declined"])
async def test_stopping_waits_for_nothing_that_cannot_end(office, how):
    """While the server drains no PIN is sent: a sale that needs one is let go of at once."""
    if how == "pin-not-sent":
        pin_is_refused(office)
    _, _, sale = await (waiting if how == "pin-not-sent" else declined)(office)
    await asyncio.wait_for(office.panel.quiet(), 10)
    assert (sale.stage, sale.pan) == (desks.Stage.OVER, None)
    assert "created" not in states(office)


async def test_no_new_pin_while_stopping(office):
    """The page says so, and the PIN that has arrived is still taken."""
    sara, address, _ = await waiting(office)
    quiet = asyncio.create_task(office.panel.quiet())
    await asyncio.sleep(0)
    got = await sara.post(f"{address}/send")
    assert (got.status_code, "sends no new PIN" in got.text) == (503, True)
    assert office.line.services() == ["otp-v2"]
    await sara.post(f"{address}/pin", pin=office.pin())
    await asyncio.wait_for(quiet, 10)
    assert states(office) == ["paid"]


async def test_declined_while_stopping(office):
    """A wrong PIN of a server that drains: no other can be had, so the sale is over, card and all."""
    sara, address, sale = await waiting(office)
    quiet = asyncio.create_task(office.panel.quiet())
    await asyncio.sleep(0)
    await sara.post(f"{address}/pin", pin=WRONG)
    await asyncio.wait_for(quiet, 10)
    assert (sale.stage, sale.pan, states(office)) == (desks.Stage.OVER, None, ["declined"])


async def test_closing_waits_for_what_was_sent(office):
    """A payment that is with the bank when the panel closes is settled by then."""
    _, _, sale = await waiting(office)
    release = held_back(office, "pay")
    office.panel.desk.submit(sale, Pin(office.pin()))
    await until(lambda: pays(office) == 1)
    release.set()
    await office.panel.desk.close()
    assert (states(office), sale.pan) == (["paid"], None)


# -- a card in the wrong field ----------------------------------------------------------------------------


async def test_a_card_and_more_as_an_order(office):
    """A digit more, or set apart as no card is written: neither journalled nor shown again."""
    sara = await operator(office)
    for order in (f"{CARD}0", f"1{CARD}", f"12345 {CARD}", "6037......9912......3456......7893"):
        got = await sara.begin(order=order)
        assert (got.status_code, order in got.text) == (422, False)
    assert states(office) == []
