"""The gateway's stand-in: PayStar's telephone payment API (gateway-api.md) over real HTTP on loopback.

It checks each request to the letter, sends one-time PINs, charges, and keeps a ledger of what it
charged, so that a test or a person can compare. Like the real one it does not care whether an order was
paid before: asked twice, it charges twice, and the ledger shows it. It must never share code with the
client, and what it shows over HTTP has cards masked, PINs apart.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from ivr_agi.simulator import control
from ivr_agi.simulator.checks import Fields, MalformedError, complaints, read_object
from ivr_agi.simulator.outcomes import (
    CARDS,
    CODES,
    OTP,
    PAY,
    Card,
    Fault,
    Outcome,
    Rule,
    mask_card,
    outcome_of_card,
    sample_card,
)
from ivr_agi.simulator.wire import HttpServer, Reply, Request

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable

__all__ = [
    "BASE", "CARDS", "CODES", "Card", "Charge", "Fault", "GatewaySimulator", "Outcome", "Received",
    "Rule", "Sms", "run_gateway", "sample_card",
]  # fmt: skip

BASE: Final = "/api/ivr/bpm"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Sms:
    """The message with a one-time PIN on its way to the card holder's phone. amount in rial; card masked."""

    order_id: str
    amount: int
    card: str
    pin: str = field(repr=False)
    at: datetime = field(default_factory=_now)

    @property
    def text(self) -> str:
        """The message as the phone shows it."""
        return (
            f"رمز پویا: {self.pin}\nمبلغ: {self.amount:,} ریال\nکارت: {self.card}\n"
            "این رمز را به هیچ‌کس نگویید."
        )


@dataclass(frozen=True, slots=True)
class Received:
    """A request that reached one of the two services, right or wrong; no JSON object leaves body empty."""

    service: str
    body: Fields = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    at: datetime = field(default_factory=_now)


@dataclass(frozen=True, slots=True)
class Charge:
    """An entry of the ledger: money taken. amount in rial; ivr 1 by phone, 0 from the merchant's panel."""

    order_id: str
    amount: int
    card: str
    pan: str = field(repr=False)
    ref_id: str
    ivr: int
    mobile: str = field(repr=False)
    at: datetime = field(default_factory=_now)


@dataclass(slots=True)
class _Issued:
    pin: str
    amount: int
    used: bool = False


class GatewaySimulator:
    """The stand-in as an HTTP server; `async with` starts it on a free port of loopback.

    sequence: the only one accepted; None accepts any. on_sms is called with each PIN sent.
    rules come before the card's own outcome, the first that matches wins. arrived is set when a `pay`
    has been read, before it is answered; whoever waits for the next one clears it.
    requests, charges and pins are in the clear, in memory only.
    """

    def __init__(
        self,
        sequence: str | None = None,
        *,
        on_sms: Callable[[Sms], None] | None = None,
        pin_length: int = 6,
    ) -> None:
        self.rules: list[Rule] = []
        self.requests: list[Received] = []
        self.charges: list[Charge] = []
        self.arrived = asyncio.Event()
        self.url = ""
        self._sequence = sequence
        self._on_sms = on_sms
        self._pin_length = pin_length
        self._issued: dict[tuple[str, str], _Issued] = {}
        self._http = HttpServer(self._respond, self._on_accept)

    async def start(self, host: str = "127.0.0.1", port: int = 0, ssl: tls.SSLContext | None = None) -> None:
        """Listen; `url` is then the base address of the API."""
        chosen = await self._http.start(host, port, ssl)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if ssl else 'http'}://{shown}:{chosen}{BASE}"

    async def stop(self) -> None:
        """Stop listening and drop what is under way."""
        await self._http.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    @property
    def pins(self) -> dict[tuple[str, str], str]:
        """The last PIN sent, by card number and order."""
        return {key: issued.pin for key, issued in self._issued.items()}

    def pin_for(self, pan: str) -> str:
        """Return the last PIN sent for this card; KeyError if there was none."""
        for (card, _), issued in reversed(self._issued.items()):
            if card == pan:
                return issued.pin
        raise KeyError(mask_card(pan))

    def _on_accept(self) -> Fault | None:
        rule = next((rule for rule in self.rules if rule.matches_accept()), None)
        return self._use(rule).fault if rule else None

    def _use(self, rule: Rule) -> Outcome:
        if rule.times is not None:
            rule.times -= 1
            if not rule.times:
                self.rules.remove(rule)
        return rule.outcome

    def _outcome(self, service: str, order_id: str, pan: str) -> Outcome:
        rule = next((rule for rule in self.rules if rule.matches(service, order_id, pan)), None)
        return self._use(rule) if rule else outcome_of_card(service, pan)

    async def _respond(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if path.startswith(control.ROOT):
            return control.respond(self, request.method, path, request.body)
        service = path.removeprefix(f"{BASE}/")
        if path not in {f"{BASE}/{OTP}", f"{BASE}/{PAY}"}:
            return _refusal(404, "no such service")
        if request.method != "POST":
            return _refusal(405, f"{service} is called with POST")
        return await self._serve(service, request)

    async def _serve(self, service: str, request: Request) -> Reply:
        try:
            fields, wrong = read_object(request.body), []
        except MalformedError as error:
            fields, wrong = {}, [str(error)]
        self.requests.append(Received(service, fields, request.headers))
        if service == PAY:
            self.arrived.set()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            wrong.append("content-type: must be application/json")
        wrong = wrong or complaints(service, fields)
        if wrong:
            return _refusal(422, *wrong)
        if self._sequence is not None and fields["sequence"] != self._sequence:
            return _refusal(403, "sequence: no telephone gateway of this name")
        order_id = str(fields.get("order_id") or fields.get("invoice_id"))
        outcome = self._outcome(service, order_id, str(fields["pan"]))
        answer, outcome = (self._pay if service == PAY else self._otp)(fields, order_id, outcome)
        return await _deliver(answer, outcome, request.path)

    def _otp(self, fields: Fields, order_id: str, outcome: Outcome) -> tuple[Fields, Outcome]:
        if outcome.code:
            return {"status": 0, "data": [], "errors": [_message(outcome.code)]}, outcome
        if outcome.charge or not outcome.hides:
            pan, amount = str(fields["pan"]), int(float(str(fields["amount"])))
            pin = "".join(secrets.choice("0123456789") for _ in range(self._pin_length))
            self._issued.pop((pan, order_id), None)  # so that the last PIN sent stands last
            self._issued[pan, order_id] = _Issued(pin, amount)
            if self._on_sms is not None:
                self._on_sms(Sms(order_id, amount, mask_card(pan), pin))
        return {"status": 1, "data": [], "errors": []}, outcome

    def _pay(self, fields: Fields, order_id: str, outcome: Outcome) -> tuple[Fields, Outcome]:
        """Decide like the bank: the PIN first, then the amount, then the rest.

        The second value is what is left to go wrong: what the bank turns down is answered as documented.
        """
        if outcome.hides and not outcome.charge:
            return _declined(outcome.code or "80"), outcome
        pan = str(fields["pan"])
        issued = self._issued.get((pan, order_id))
        if issued is None or issued.used or issued.pin != fields["pin"]:
            return _declined("55"), Outcome()
        issued.used = True
        if fields.get("amount", issued.amount) != issued.amount:
            return _declined("13"), Outcome()
        if outcome.code:
            return _declined(outcome.code), outcome
        ref_id = "".join(secrets.choice("0123456789") for _ in range(12))
        ivr, mobile = int(str(fields["ivr"])), str(fields["merchant_cid"])
        self.charges.append(Charge(order_id, issued.amount, mask_card(pan), pan, ref_id, ivr, mobile))
        return {"status": 1, "data": {"refID": ref_id}, "errors": []}, outcome


def _message(code: str) -> str:
    return CODES[code][0] if code in CODES else "خطای ناشناخته"


def _declined(code: str) -> Fields:
    return {"status": 0, "data": {"refID": "0", "transactionStatus": code}, "errors": [_message(code)]}


def _refusal(status: int, *errors: str) -> Reply:
    return Reply(status, json.dumps({"status": 0, "data": [], "errors": errors}).encode())


async def _deliver(answer: Fields, outcome: Outcome, path: str) -> Reply:
    if outcome.wait is not None:
        await outcome.wait.wait()
    drips = outcome.fault is Fault.DRIP
    if outcome.delay and not drips:
        await asyncio.sleep(outcome.delay)
    body = json.dumps(answer, ensure_ascii=False).encode() if outcome.body is None else outcome.body
    if outcome.fault is Fault.REDIRECT:
        return Reply(307, b"", "text/plain", location=path)
    pause = outcome.delay if drips else 0.0
    return Reply(outcome.status, body, outcome.content_type, outcome.fault, pause)


async def run_gateway(host: str, port: int, sequence: str | None, say: Callable[[str], None] = print) -> None:
    """Serve until cancelled; say the address first, then each SMS. Raises OSError if the port is taken."""

    def show(sms: Sms) -> None:
        at = f"{sms.at.astimezone():%H:%M:%S}"
        say(f"{at}  SMS  order {sms.order_id}  {sms.amount:,} rial  card {sms.card}  PIN {sms.pin}")

    simulator = GatewaySimulator(sequence, on_sms=show)
    await simulator.start(host, port)
    try:
        say(f"gateway simulator: {simulator.url} (rules, ledger: {control.ROOT} on the same port)")
        await asyncio.Event().wait()
    finally:
        await simulator.stop()
