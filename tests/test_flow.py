"""The call, from the caller's keys to the dialplan's variables and the merchant's journal."""

import pytest
from line import CARD


async def test_paid(line):
    """1, card, PIN: two requests leave, the caller hears the tracking number, the dialplan is told."""
    ended = await line.call(line.buyer())
    (charge,) = line.gateway.charges
    assert ended.variables == {
        "PAYSTATUS": "PAID",
        "PAYREFID": charge.ref_id,
        "PAYCODE": "",
        "PAYREASON": "",
        "PAYORDERID": "A-1",
        "PAYAMOUNT": "50000",
        "PAYCARD": "603799******7893",
        "PAYID": "1",
    }
    assert line.services() == ["otp-v2", "pay"]
    print(ended.heard)
