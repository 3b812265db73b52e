"""Calls that begin with an invoice number: what the caller keys and hears, what the shop and the dialplan are told."""

import asyncio

import pytest
from line import CARD, SEQUENCE, open_line, until
from process import Serving

from ivr_agi import outcomes, prompts
from ivr_agi.model import Secret
from ivr_agi.orders import Orders
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, GatewaySimulator, Outcome, Rule
from ivr_agi.simulator.orders import Asked, OrdersSimulator
from ivr_agi.simulator.wire import Reply

ASK = "order_id=ask"
SHARED = "a secret of the shop"
PAYABLE = {"status": "payable", "order_id": "A-17", "amount": 50000}
INVOICES = {"10234": PAYABLE, "10233": {"status": "paid"}, "10232": {"status": "closed"}, "007": PAYABLE}


def connect(line, shop):
    """Have the line's server ask the shop, as `serve` does by its settings."""
    found = line.server._settings
    line.server._orders = Orders(
        shop.url,
        [Secret(SHARED)],
        timeout=found.orders_timeout,
        amounts=found.amounts,
    )


@pytest.fixture
async def shop():
    async with OrdersSimulator(SHARED, INVOICES) as simulator:
        simulator.arrived = asyncio.Event()
        yield simulator


@pytest.fixture
async def line(line, shop):
    """A payment line whose callers key invoice numbers."""
    connect(line, shop)
    return line


def nothing_happened(line):
    """The gateway was not asked, and no attempt stands in the journal."""
    return not line.gateway.requests and not line.attempts()


# -- payable ------------------------------------------------------------------------------------------


async def test_paid(line, shop):
    """Number and `#`, then the amount that the shop says, confirmed and paid, under the shop's order."""
    ended = await line.call(line.buyer(enter_invoice="10234#"), ASK)
    assert ended.status == "PAID"
    assert (ended.variables["PAYORDERID"], ended.variables["PAYAMOUNT"]) == ("A-17", "50000")
    (charge,) = line.gateway.charges
    assert (charge.order_id, charge.amount) == ("A-17", 50000)
    assert line.attempts()[0]["order_id"] == "A-17"
    assert shop.asked == [Asked("10234", "+989123456789")]
    assert ended.heard[:8] == [
        "welcome",
        "enter-invoice",
        "please-wait",
        "amount-is",
        "numbers/50",
        "numbers/thousand",
        "rial",
        "confirm-amount",
    ]


async def test_not_asked_without_ask(line, shop):
    """An order from the dialplan, or none: nobody is asked for an invoice, and the shop for nothing."""
    for query in ("amount=50000&order_id=A-1", "amount=50000", "amount=50000&order_id=Ask"):
        ended = await line.call(line.buyer(), query)
        assert ended.status == "PAID"
        assert "enter-invoice" not in ended.heard
    assert not shop.asked


@pytest.mark.parametrize("how", [{"query": "order_id=ask&amount=ask"}, {"query": "", "arguments": [ASK]}])
async def test_other_ways_to_say_it(line, how):
    """amount=ask is no amount (the shipped dialplan says it); arguments do as well as the address."""
    ended = await line.call(line.buyer(enter_invoice="10234#"), **how)
    assert ended.status == "PAID"
    assert "enter-amount" not in ended.heard


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        ("007#", "007"),
        ("10234", "10234"),
        ("99*10234#", "10234"),
        ("*10234#", "10234"),
        (["#", "10234#"], "10234"),
    ],
)
async def test_keys(line, shop, keys, asked):
    """Leading zeros stay; silence ends it like `#`; `*` starts over; a stray `#` is no try."""
    ended = await line.call(line.buyer(enter_invoice=keys), ASK)
    assert ended.status == "PAID"
    assert [question.invoice for question in shop.asked] == [asked]
    assert not [name for name in ended.heard if name.startswith(("no-", "invalid-"))]


@pytest.mark.parametrize(
    ("query", "caller_id", "mobile"),
    [
        (ASK, "", None),
        (ASK, "02188888888", None),
        (f"{ASK}&mobile=09351112233", "", "+989351112233"),
        (f"{ASK}&mobile=09351112233", "09123456789", "+989351112233"),
    ],
)
async def test_who_is_calling(line, shop, query, caller_id, mobile):
    """The shop is told the mobile number that is known by then: the dialplan's, the caller ID, or none."""
    script = line.buyer(enter_invoice="10234#", enter_mobile="09123456789")
    assert (await line.call(script, query, caller_id=caller_id)).status == "PAID"
    assert shop.asked == [Asked("10234", mobile)]


async def test_music_while_the_shop_is_asked(line, shop):
    """The caller is told to wait, hears music during the look-up, and none at the next question."""
    shop.hold = asyncio.Event()
    channel = await line.dial(line.buyer(enter_invoice="10234#"), ASK)
    running = asyncio.create_task(channel.run())
    await shop.arrived.wait()
    assert (channel.heard[-1], channel.music) == ("ivr-agi/please-wait", True)
    shop.hold.set()
    await running
    music = [command[:12] for command in channel.commands if command.startswith(("SET MUSIC", "GET DATA"))]
    assert music[:4] == ['GET DATA "iv', "SET MUSIC ON", "SET MUSIC OF", 'GET DATA "iv']


# -- not to be paid -----------------------------------------------------------------------------------


async def test_not_found_then_found(line, shop):
    """A number that is not found has its own word, more help, and is asked again."""
    ended = await line.call(line.buyer(enter_invoice=["1#", "2#", "10234#"]), ASK)
    assert ended.status == "PAID"
    assert ended.heard[1:11] == [
        "enter-invoice",
        "please-wait",
        "invoice-not-found",
        "help-invoice",
        "enter-invoice",
        "please-wait",
        "invoice-not-found",
        "help-invoice",
        "enter-invoice",
        "please-wait",
    ]
    assert [question.invoice for question in shop.asked] == ["1", "2", "10234"]


@pytest.mark.parametrize("reply", [None, Reply(404, b"<html>", "text/html")])
async def test_never_found(line, shop, reply):
    """As many numbers as there are tries, then an end: REFUSED, nothing sent."""
    shop.replies = [reply] * 3 if reply else []
    ended = await line.call(line.buyer(enter_invoice=["1#", ...]), ASK)
    assert (ended.status, ended.reason) == ("REFUSED", "order-not-found")
    assert ended.heard[-3:] == ["please-wait", "order-not-found", "goodbye"]
    assert len(shop.asked) == 3
    assert nothing_happened(line)
    assert (ended.variables["PAYORDERID"], ended.variables["PAYAMOUNT"]) == ("", "")


@pytest.mark.parametrize(
    ("invoice", "reason", "said"),
    [("10233", "already-paid", "already-paid"), ("10232", "order-closed", "order-closed")],
)
async def test_not_payable(line, shop, invoice, reason, said):
    """Paid, or closed: said so, REFUSED, and nothing more is asked of anybody."""
    ended = await line.call(line.buyer(enter_invoice=f"{invoice}#"), ASK)
    assert (ended.status, ended.reason) == ("REFUSED", reason)
    assert ended.heard[-2:] == [said, "goodbye"]
    assert len(shop.asked) == 1
    assert nothing_happened(line)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, b""),
        Reply(200, b"<html>", "text/html"),
        Reply(200, b'{"status": "payable", "order_id": "A-17", "amount": "50000"}'),
        Reply(200, b'{"status": "payable", "order_id": "A-17", "amount": 1}'),
        Reply(200, b"", fault=Fault.SILENCE),
    ],
)
async def test_not_reachable(tmp_path, shop, reply):
    """No answer of the contract: FAILED, "call later", and no amount is guessed."""
    async with open_line(tmp_path, orders_timeout=0.5 if reply.fault else 10) as line:
        connect(line, shop)
        shop.replies = [reply]
        ended = await line.call(line.buyer(enter_invoice="10234#"), ASK)
        assert (ended.status, ended.reason) == ("FAILED", "order-lookup-failed")
        assert ended.heard[-3:] == ["order-lookup-failed", "try-later", "goodbye"]
        assert nothing_happened(line)


async def test_shop_is_down(line, shop):
    """Nobody listens at all."""
    await shop.stop()
    ended = await line.call(line.buyer(enter_invoice="10234#"), ASK)
    assert (ended.status, ended.reason) == ("FAILED", "order-lookup-failed")


# -- the journal has the last word --------------------------------------------------------------------


async def test_paid_here_already(line):
    """The shop says payable, the journal says paid: refused before anything is asked of the caller."""
    await line.call(line.buyer(enter_invoice="10234#"), ASK)
    again = await line.call(line.buyer(enter_invoice="007#"), ASK)  # another number for the same order
    assert (again.status, again.reason) == ("REFUSED", "already-paid")
    assert again.variables["PAYORDERID"] == "A-17"
    assert "amount-is" not in again.heard
    assert len(line.gateway.charges) == 1


async def test_in_doubt_here(line):
    """The shop says payable, the journal does not know: under review, and no second `pay`."""
    line.gateway.rules.append(Rule(Outcome(fault=Fault.RESET_AFTER_READ, charge=True), service="pay"))
    first = await line.call(line.buyer(enter_invoice="10234#"), ASK)
    again = await line.call(line.buyer(enter_invoice="10234#"), ASK)
    assert (first.status, again.status, again.reason) == ("UNKNOWN", "REFUSED", "under-review")
    assert line.services().count("pay") == 1


async def test_two_callers_with_one_invoice(line):
    """Both hear that it is payable; one pays, and the other is refused."""
    barrier = asyncio.Barrier(2)

    async def card_in_step():
        await barrier.wait()
        return CARD

    script = {"enter_card": [card_in_step], "enter_invoice": "10234#"}
    calls = await asyncio.gather(*(line.call(line.buyer(**script), ASK) for _ in range(2)))
    assert sorted(call.status for call in calls) == ["PAID", "REFUSED"]
    assert len(line.gateway.charges) == 1


# -- the caller's answers, and his leaving ------------------------------------------------------------


async def test_nothing_keyed(line, shop):
    """Three silences: its own word, help with it, an end; the shop is not asked."""
    ended = await line.call(line.buyer(), ASK)
    assert (ended.status, ended.reason) == ("NOINPUT", "no-input")
    assert ended.heard[1:] == [
        "enter-invoice",
        "no-invoice",
        "help-invoice",
        "enter-invoice",
        "no-invoice",
        "help-invoice",
        "enter-invoice",
        "no-invoice",
        "gave-up",
        "goodbye",
    ]
    assert not shop.asked
    assert nothing_happened(line)


@pytest.mark.parametrize("wrong", ["1234567890123#", CARD + "#", CARD])
async def test_no_invoice_number(line, shop, wrong):
    """Too long, or a card number keyed too soon: its own word, and it goes nowhere."""
    ended = await line.call(line.buyer(enter_invoice=[wrong, "10234#"]), ASK)
    assert ended.status == "PAID"
    assert ended.heard[1:4] == ["enter-invoice", "invalid-invoice", "help-invoice"]
    assert [question.invoice for question in shop.asked] == ["10234"]


async def test_most_of_a_card_number(tmp_path, shop):
    """With long invoice numbers allowed, a card that lost a digit on the line is still none."""
    async with open_line(tmp_path, invoice_digits=15) as line:
        connect(line, shop)
        script = line.buyer(enter_invoice=[CARD[:15] + "#", CARD[:13] + "#", "100000000010234#"])
        assert (await line.call(script, ASK)).reason == "no-input"
        assert [question.invoice for question in shop.asked] == ["100000000010234"]


@pytest.mark.parametrize("sighup", [True, False])
@pytest.mark.parametrize("where", ["enter-invoice", "please-wait", "invoice-not-found", "help-invoice"])
async def test_hang_up(line, where, sighup):
    """Whoever leaves here has been charged nothing, and holds no order."""
    script = line.buyer(enter_invoice=["1#", "2#", "10234#"]) | {where: HANG_UP}
    ended = await line.call(script, ASK, sighup=sighup)
    assert (ended.status, ended.reason) == ("HANGUP", "hangup")
    assert nothing_happened(line)


@pytest.mark.parametrize("invoice", ["10234", "10233", "1"])
async def test_hang_up_in_mid_look_up(line, shop, logged, invoice):
    """Gone while the shop is asked: HANGUP in the state INVOICE, whatever the shop says then."""
    shop.hold = asyncio.Event()
    channel = await line.dial(line.buyer(enter_invoice=f"{invoice}#"), ASK)
    running = asyncio.create_task(channel.run())
    await shop.arrived.wait()
    channel.hang_up()
    await until(next(iter(line.server._connections.values())).hung_up.is_set)
    shop.hold.set()
    variables = await running
    assert (variables["PAYSTATUS"], variables["PAYREASON"]) == ("HANGUP", "hangup")
    assert nothing_happened(line)
    (end,) = [entry for entry in logged if entry["event"] == "call.ended"]
    assert end["state"] == "invoice"
    assert channel.heard[-1] == "ivr-agi/please-wait"


async def test_what_is_keyed_is_not_logged(line, logged):
    """What callers key at this question is in no line of the log, found or not."""
    await line.call(line.buyer(enter_invoice=["4711", "10234#"]), ASK)
    assert "order.looked_up" in [entry["event"] for entry in logged]
    assert not [number for number in ("4711", "10234") if number in str(logged)]


# -- what the dialplan asks for is wrong --------------------------------------------------------------


async def test_no_endpoint(tmp_path, logged):
    """order_id=ask without ORDERS_URL: refused, and the log says what to set."""
    async with open_line(tmp_path) as line:
        for query in (ASK, f"{ASK}&amount=50000"):
            ended = await line.call(line.buyer(enter_invoice="10234#"), query)
            assert (ended.status, ended.reason) == ("REFUSED", "no-order-lookup")
            assert ended.heard == ["out-of-order", "goodbye"]
            assert nothing_happened(line)
    cures = [entry["cure"] for entry in logged if entry["event"] == "request.refused"]
    assert len(cures) == 2
    assert all("IVR_AGI_ORDERS_URL" in cure for cure in cures)


@pytest.mark.parametrize("amount", ["50000", "", "x"])
async def test_amount_with_ask(line, shop, amount):
    """The shop says the amount; one from the dialplan as well is a contradiction."""
    ended = await line.call(line.buyer(enter_invoice="10234#"), f"{ASK}&amount={amount}")
    assert (ended.status, ended.reason) == ("REFUSED", "bad-amount")
    assert not shop.asked
    assert nothing_happened(line)


# -- put together -------------------------------------------------------------------------------------


def test_each_ending_can_be_said():
    """Each prompt of each ending is in the catalogue, in both languages."""
    said = {name for ending in outcomes.ENDINGS.values() for name in ending.prompts}
    assert not [name for name in said for language in prompts.LANGUAGES if not prompts.exists(name, language)]
    assert {"order-not-found", "order-closed", "order-lookup-failed"} <= said
    assert set(outcomes.NOT_PAYABLE.values()) <= set(outcomes.ENDINGS)


async def test_serve_asks_the_shop(shop):
    """`ivr-agi serve` with ORDERS_URL and ORDERS_SECRET: a whole paid call, and no secret in its log."""
    async with GatewaySimulator(SEQUENCE) as gateway:
        given = {"gateway_url": gateway.url, "orders_url": shop.url, "orders_secret": f"old,{SHARED}"}
        async with Serving(**given) as server:
            variables = await server.call(gateway, {"enter-invoice": "10234#"}, ASK)
    assert (variables["PAYSTATUS"], variables["PAYORDERID"]) == ("PAID", "A-17")
    assert not shop.wrong
    assert SHARED not in str(server.lines)
