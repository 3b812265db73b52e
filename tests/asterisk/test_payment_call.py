"""A caller pays by phone: a real Asterisk, the shipped dialplan, the real server, real DTMF.

Only the bank is simulated. Each test is one call, told as the caller meets it; what the merchant
is told is read where merchants read it: in the `h` extension, in the journal, in the ledger.
"""

from __future__ import annotations

import asyncio

import pytest
from harness import free_port
from robot import Call
from serving import SEQUENCE, PaymentServer

from ivr_agi.simulator.gateway import Outcome, Rule, sample_card

pytestmark = pytest.mark.asterisk

CARD = sample_card("paid")
LINE = "s@ivr-agi"
ORDER = {"AMOUNT": "50000", "ORDER": "A-1"}


def answers(gateway, **more):
    """What a caller keys who knows the way: he cuts the amount short, and pays."""
    pin = lambda: gateway.pin_for(CARD) + "#"  # noqa: E731
    usual = {"numbers/50": "1", "enter-card": CARD, "enter-pin": pin}
    return usual | {name.replace("_", "-"): keys for name, keys in more.items()}


def caller(asterisk, server, to=LINE, keys=None, **more):
    """A call to the payment line of this server."""
    variables = {"IVR_AGI_URL": server.url, **more.pop("variables", ORDER)}
    return Call(asterisk, to, keys, variables=variables, **more)


async def asked(gateway):
    """Wait until the bank has been asked to pay, and is thinking."""
    async with asyncio.timeout(60):
        await gateway.arrived.wait()


async def test_paid(asterisk, gateway, server, tmp_path):
    """Keys 1, card and PIN, hears the tracking number; the merchant is told PAID with that number, once."""
    keys = answers(gateway, confirm_amount="1", repeat_reference="2") | {"numbers/50": ""}
    async with caller(asterisk, server, keys=keys) as call:
        record = await call.ended()

    (charge,) = gateway.charges
    assert (charge.order_id, charge.amount, charge.pan) == ("A-1", 50000, CARD)
    assert [request.service for request in gateway.requests] == ["otp-v2", "pay"]
    assert gateway.requests[-1].body["merchant_cid"] == "+989123456789"
    assert record.at_h["PAYSTATUS"] == "PAID"
    assert record.at_h["PAYREFID"] == charge.ref_id
    assert record.at_h["PAYCARD"] == f"{CARD[:6]}******{CARD[-4:]}"
    (row,) = await server.journal()
    assert (row["state"], row["ref_id"], row["order_id"]) == ("paid", charge.ref_id, "A-1")
    assert record.at_h["PAYID"] == str(row["id"])
    assert record.prompts[-2:] == ["repeat-reference", "goodbye"]
    assert set(record.music) == {"ivr-agi"}
    told = f"PAID order A-1 rials 50000 ref {charge.ref_id} card {record.at_h['PAYCARD']} id {row['id']}"
    assert record.ran("h", "Log") == [f"NOTICE,ivr-agi {told}"]
    assert CARD not in asterisk.log + server.output
    assert CARD.encode() not in (tmp_path / "journal.db").read_bytes()


async def test_token_goes_along(asterisk, gateway, tmp_path):
    """IVR_AGI_TOKEN in [globals]: the shipped dialplan gives it, and pays; without it the server refuses."""
    token = "between-these-two-hosts"  # noqa: S105 - made up
    async with PaymentServer(tmp_path, gateway.url, SEQUENCE, token=token) as server:
        async with caller(asterisk, server, variables=ORDER) as call:
            refused = await call.ended()
        given = ORDER | {"IVR_AGI_TOKEN": token}
        async with caller(
            asterisk, server, keys=answers(gateway), variables=given, hang_up_at="paid"
        ) as call:
            paid = await call.ended()
        assert token not in server.output

    assert (refused.at_h["PAYSTATUS"], refused.at_h["PAYREASON"]) == ("REFUSED", "bad-token")
    assert paid.at_h["PAYSTATUS"] == "PAID"


async def test_wrong_pin_then_paid(asterisk, gateway, server):
    """Mistypes the PIN, hears so, keys the one of a second SMS; paid once, and each PIN was tried once."""
    pin = answers(gateway)["enter-pin"]
    keys = answers(gateway, enter_pin=[lambda: f"{(int(pin()[:-1]) + 1) % 1_000_000:06}#", pin])
    async with caller(asterisk, server, keys=keys, hang_up_at="paid") as call:
        record = await call.ended()

    assert [request.service for request in gateway.requests] == ["otp-v2", "pay", "otp-v2", "pay"]
    assert "error-55" in record.prompts
    assert record.at_h["PAYSTATUS"] == "PAID"
    assert record.at_h["PAYREFID"] == gateway.charges[0].ref_id
    assert [row["state"] for row in await server.journal()] == ["declined", "paid"]


async def test_hang_up_while_the_bank_is_asked(asterisk, gateway, server):
    """Hangs up in the music, before the bank's answer: carried through, and `h` is told PAID."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with caller(asterisk, server, keys=answers(gateway)) as call:
        await asked(gateway)
        await call.hang_up()
        answer.set()
        record = await call.ended()

    assert record.at_h["PAYSTATUS"] == "PAID"
    assert record.at_h["PAYREFID"] == gateway.charges[0].ref_id
    assert len(record.ran("h", "Log")) == 1
    (row,) = await server.journal()
    assert (row["state"], row["ref_id"]) == ("paid", gateway.charges[0].ref_id)


async def test_hang_up_before_paying(asterisk, gateway, server):
    """Hangs up when asked for the PIN: nothing is charged, the merchant is told HANGUP."""
    async with caller(asterisk, server, keys=answers(gateway), hang_up_at="enter-pin") as call:
        record = await call.ended()

    assert record.at_h["PAYSTATUS"] == "HANGUP"
    assert [request.service for request in gateway.requests] == ["otp-v2"]
    assert gateway.charges == []
    assert [row["state"] for row in await server.journal()] == ["failed"]


async def test_cancelled(asterisk, gateway, server):
    """Keys the amount, then 2, in a merchant's own dialplan: it goes on behind Gosub(), and knows."""
    keys = answers(gateway, enter_amount="50000#", rial="2") | {"numbers/50": ""}
    async with caller(asterisk, server, "s@shop", keys, variables={}) as call:
        record = await call.ended()

    assert record.prompts[-2:] == ["cancelled", "goodbye"]
    assert record.ran("s", "NoOp") == ["back with CANCELLED"]
    assert record.at_h["PAYAMOUNT"] == "50000"
    assert record.ran("h", "Log") == [f"NOTICE,ivr-agi CANCELLED order {record.at_h['PAYORDERID']} id "]
    assert gateway.requests == []


async def test_order_with_odd_characters(asterisk, gateway, server):
    """Pays an order whose name would break an address: the gateway gets it letter by letter."""
    variables = {"AMOUNT": "50000", "ORDER": "سفارش 7, a&b=c#1 100%?"}
    keys = answers(gateway)
    async with caller(asterisk, server, keys=keys, variables=variables, hang_up_at="enter-pin") as call:
        record = await call.ended()

    assert gateway.requests[0].body["order_id"] == variables["ORDER"]
    assert record.at_h["PAYORDERID"] == variables["ORDER"]


async def test_server_killed_in_mid_call(asterisk, gateway, server):
    """The server dies at the PIN: he hears "we could not confirm", the merchant is told `lost`."""
    keys = answers(gateway) | {"enter-pin": ""}
    async with caller(asterisk, server, keys=keys, hang_up_at="unknown") as call:
        await call.heard("enter-pin")
        await server.kill()
        record = await call.ended()

    assert record.at_h["PAYSTATUS"] == ""
    (row,) = await server.journal()
    told = f'lost order A-1 id {row["id"]} status "" may have been charged'
    assert record.ran("h", "Log") == [f"ERROR,ivr-agi {told}"]


async def test_server_killed_while_the_bank_is_asked(asterisk, gateway, tmp_path, server):
    """The server dies when the bank has charged: `lost`, then `unknown`, and the order is not paid twice."""
    gateway.rules.append(Rule(Outcome(wait=asyncio.Event()), service="pay"))
    async with caller(asterisk, server, keys=answers(gateway), hang_up_at="unknown") as call:
        await asked(gateway)
        await server.kill()
        record = await call.ended()
    assert record.at_h["PAYSTATUS"] == ""
    assert len(gateway.charges) == 1

    async with PaymentServer(tmp_path, gateway.url, SEQUENCE) as again:
        assert [row["state"] for row in await again.journal()] == ["unknown"]
        async with caller(asterisk, again, keys=answers(gateway), hang_up_at="under-review") as call:
            record = await call.ended()
    assert (record.at_h["PAYSTATUS"], record.at_h["PAYREASON"]) == ("REFUSED", "under-review")
    assert len(gateway.charges) == 1


async def test_no_server(asterisk):
    """Nobody listens at the address: the caller hears that it is out of order, and it is no success."""
    variables = {"IVR_AGI_URL": f"agi://127.0.0.1:{free_port()}/pay", **ORDER}
    async with Call(asterisk, LINE, variables=variables) as call:
        record = await call.ended()

    assert record.prompts == ["out-of-order", "goodbye"]
    assert record.at_h["PAYSTATUS"] == ""
    assert record.ran("h", "Log")[0].startswith("ERROR,ivr-agi lost order A-1")


async def test_missing_clip(asterisk, gateway, server):
    """A question's recording is missing: a beep asks in its place, he pays, and the log names the clip."""
    with asterisk.without_sound("enter-card"):
        async with caller(asterisk, server, keys=answers(gateway), hang_up_at="paid") as call:
            record = await call.ended()

    assert record.at_h["PAYSTATUS"] == "PAID"
    assert any(command.startswith('GET DATA "beep"') for command in record.commands)
    assert [line["sound"] for line in server.logged("sound.missing")] == ["enter-card"]
