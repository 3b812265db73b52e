"""Two servers under one name: hagi:// finds the one that lives, by the SRV records of a name server."""

from __future__ import annotations

import pytest
from harness import Asterisk
from nameserver import own_address, serving
from robot import Call
from rootfs import rootfs
from serving import SEQUENCE, PaymentServer

from ivr_agi.simulator.gateway import sample_card

pytestmark = pytest.mark.asterisk

CARD = sample_card("paid")


def port(server):
    """The port of a server's address."""
    return int(server.url.split(":")[2].partition("/")[0])


async def test_hagi_goes_to_the_server_that_lives(asterisk, gateway, tmp_path):
    """The first of two servers dies; the next call is taken and led to its payment by the second."""
    del asterisk  # its fixture has seen to it that there can be one
    address = own_address()
    running = Asterisk(rootfs(), tmp_path / "asterisk", nameserver=address)
    running.start()
    try:
        async with (
            PaymentServer(tmp_path, gateway.url, SEQUENCE) as first,
            PaymentServer(tmp_path, gateway.url, SEQUENCE) as second,
            serving(address, {"_agi._tcp.pay.test": [(10, port(first)), (20, port(second))]}) as zone,
        ):
            for order in ("first", "second"):
                keys = {
                    "numbers/50": "1",
                    "enter-card": CARD,
                    "enter-pin": lambda order=order: gateway.pins[CARD, order] + "#",
                }
                variables = {"IVR_AGI_URL": "hagi://pay.test/pay", "AMOUNT": "50000", "ORDER": order}
                async with Call(running, "s@ivr-agi", keys, variables=variables, hang_up_at="paid") as call:
                    record = await call.ended()
                assert record.at_h["PAYSTATUS"] == "PAID"
                if order == "first":
                    await first.kill()
            assert "_agi._tcp.pay.test" in zone.asked
            assert [len(server.logged("call.ended")) for server in (first, second)] == [1, 1]
    finally:
        running.stop()
    assert [charge.order_id for charge in gateway.charges] == ["first", "second"]
