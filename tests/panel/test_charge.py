"""Taking a payment at the desk: once, whatever is clicked, and shown as it is."""

import asyncio

from line import until


async def test_paid(office):
    """Order, amount, mobile, card; the PIN; paid: method 2.2, the journal and the page agree."""
    sara = await office.signed_in("sara")
    got = await sara.begin()
    assert "رمز پویا به تلفن دارنده‌ی کارت پیامک شد" in got.text
    sale = got.url.path
    await sara.post(f"{sale}/pin", pin=office.pin())
    await until(lambda: office.line.gateway.charges)
    got = await settled(sara, sale)
    (charge,) = office.line.gateway.charges
    (row,) = office.line.attempts()
    assert (row["state"], row["method"], row["ref_id"]) == ("paid", "web", charge.ref_id)
    assert "پرداخت انجام شد" in got.text
    (request,) = [each for each in office.line.gateway.requests if each.service == "pay"]
    assert (request.body["ivr"], request.body["invoice_id"]) == (0, "A-1")
    assert "order_id" not in request.body


async def settled(browser, sale):
    """The page of a sale once it waits for the bank no more."""
    async with asyncio.timeout(10):
        while True:
            got = await browser.get(sale)
            if 'http-equiv="refresh"' not in got.text:
                return got
            await asyncio.sleep(0.02)
