"""Lines and attempts for the tests of reconciliation: one payment, unless said otherwise."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from ivr_agi.settlement.matching import Period
from ivr_agi.settlement.reading import Settled, Standing

TEHRAN = ZoneInfo("Asia/Tehran")
NOON = datetime(2024, 11, 24, 12, 0, tzinfo=TEHRAN)
CARD = "603799******7893"
OTHER_CARD = "610433******1234"
RETURNED = {"standing": Standing.RETURNED, "status": "برگشت خورده"}
FAILED = {"standing": Standing.NOT_PAID, "status": "ناموفق"}
PERIOD = Period(NOON.date(), NOON.date())


def line(number=2, order="A", ref="77", amount=1000, *, at=NOON, card="", **rest):
    return Settled(number, order, amount, ref, card, at, **rest)


def attempt(
    number=1, order="A", state="unknown", *, ref=None, amount=1000, card=CARD, at=NOON, resolution=""
):
    charged = state == "paid" or resolution == "paid"
    return {
        "id": number,
        "order_id": order,
        "state": state,
        "resolution": resolution,
        "amount": amount,
        "card": card,
        "ref_id": ref if ref is not None else "77" * charged,
        "code": "",
        "created_at": at.isoformat(),
    }


def section(output, title):
    """One part of the summary: its title, and what is indented below."""
    rest = output[output.index(f"\n{title} (") + 1 :]
    return re.match(r".*\n(?:(?: .*)?\n)*", rest)[0]
