"""The bank of the torture: the gateway's stand-in with a plan for each order, and a memory of its decisions.

`decisions` has each `pay` request that arrived, in order, with what was charged for it: the truth that the
journal is compared with. It must decide and remember in one go, so that nothing is charged and forgotten.
"""

from dataclasses import dataclass, field

from ivr_agi.simulator.gateway import Charge, Fault, GatewaySimulator, Outcome, sample_card
from ivr_agi.simulator.outcomes import PAY, mask_card

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>\n"
REFUSAL = b'{"status": 0, "data": [], "errors": ["no"]}'
FAST, SLOW, LATE = 0.0, 0.12, 0.9  # seconds; pay_timeout is between the last two

PAN, OTHER_PAN = sample_card("paid"), sample_card("paid", "502229")

# What becomes of an order: (weight, what `otp-v2` does, what each `pay` does; after the last one, paid).
PLANS = {
    "paid": (30, [], []),
    "paid-slowly": (14, [], [Outcome(delay=SLOW)]),
    "paid-late": (6, [], [Outcome(delay=LATE)]),
    "declined-late": (3, [], [Outcome("51", delay=LATE)]),
    "charged-cut": (4, [], [Outcome(fault=Fault.CUT_BODY, charge=True)]),
    "charged-cut-head": (2, [], [Outcome(fault=Fault.CUT_HEADERS, charge=True, delay=SLOW)]),
    "charged-reset": (4, [], [Outcome(fault=Fault.RESET_AFTER_READ, charge=True)]),
    "charged-silence": (2, [], [Outcome(fault=Fault.SILENCE, charge=True)]),
    "charged-html": (3, [], [Outcome(status=502, body=HTML, content_type="text/html", charge=True)]),
    "html": (2, [], [Outcome(status=502, body=HTML, content_type="text/html")]),
    "reset": (3, [], [Outcome(fault=Fault.RESET_AFTER_READ)]),
    "refused-422": (2, [], [Outcome(status=422, body=REFUSAL.replace(b'"data": []', b'"data": 7'))]),
    "refused-403": (2, [], [Outcome(status=403, body=HTML, content_type="text/html")]),
    "wrong-pin-then-paid": (6, [], [Outcome("55")]),
    "no-money-then-paid": (6, [], [Outcome("51", delay=SLOW)]),
    **{f"declined-{code}": (2, [], [Outcome(code)] * 9) for code in ("3", "5", "20", "80", "91", "94", "99")},
    "no-pin": (3, [Outcome("78")] * 9, []),
    "pin-lost": (3, [Outcome(fault=Fault.CLOSE_AFTER_READ, charge=True)], []),
}


@dataclass(frozen=True)
class Decision:
    """What became of one `pay`. charge: None if nothing was taken. code: the bank's no, if it said one."""

    order: str
    mobile: str
    card: str
    charge: Charge | None
    code: str


@dataclass
class Planned:
    """What is still to come for one order."""

    otp: list[Outcome] = field(default_factory=list)
    pay: list[Outcome] = field(default_factory=list)


class Bank(GatewaySimulator):
    """The stand-in by plans. faulty: which share of the connections it resets before it has read anything."""

    def __init__(self, sequence, rng, *, faulty=0.01):
        super().__init__(sequence)
        self._rng, self._faulty = rng, faulty
        self._plans = {}
        self.decisions = []
        self.pays = 0  # `pay` requests that were read, also those that were not understood

    def plan(self, order, name):
        """Say what is to become of an order."""
        _weight, otp, pay = PLANS[name]
        self._plans[order] = Planned(list(otp), list(pay))

    def pin_of(self, pan, order):
        """The last PIN sent for this card and order; one that is wrong if there was none."""
        issued = self._issued.get((pan, order))
        return issued.pin if issued else "00000"

    def _on_accept(self):
        return Fault.RESET_ON_ACCEPT if self._rng.random() < self._faulty else None

    def _outcome(self, service, order_id, pan):
        del pan
        planned = self._plans.get(order_id, Planned())
        coming = planned.pay if service == PAY else planned.otp
        return coming.pop(0) if coming else Outcome()

    async def _serve(self, service, request):
        self.pays += service == PAY
        self.requests.clear()  # `decisions` remembers what counts
        return await super()._serve(service, request)

    def _pay(self, fields, order_id, outcome):
        before = len(self.charges)
        answer, left = super()._pay(fields, order_id, outcome)
        charge = self.charges[before] if len(self.charges) > before else None
        code = "" if left.hides else str(answer["data"].get("transactionStatus", ""))
        self.decisions.append(
            Decision(order_id, str(fields["merchant_cid"]), mask_card(str(fields["pan"])), charge, code)
        )
        return answer, left
