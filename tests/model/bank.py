"""The bank behind the gateway, with a ledger of its own: what it charged is the truth of this world.

It speaks HTTP to the real client, over a transport in memory. What it does with a request is an `Answer`
of the table below: whether it charges the card and when, what it answers and when, and what an honest
reader must make of that. It never checks that an order is unique, as PayStar does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx

from ivr_agi.exchange import LEAVING
from ivr_agi.model import Verdict

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from model.callers import Line
    from model.clockwork import Process, World

SEQUENCE: Final = "acd54b56ddd651a5cc3v"
HTML: Final = "<html><body>Bad Gateway</body></html>"
REACHES, WRITES = 0.05, 0.02  # seconds until a request has arrived, or been cut in the writing
P, D, F, U = Verdict.PAID, Verdict.DECLINED, Verdict.FAILED, Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bank does with one `pay`.

    charged: seconds until the card is charged, None for never. after: seconds until it answers, None for
    never. means: the verdict on that answer. code: the bank's, when declined. cut: only half of the body
    comes. unwritten: no connection; half_written: it breaks while the request leaves.
    """

    means: Verdict
    charged: float | None = None
    after: float | None = 1.5
    status: int = 200
    body: Any = None
    code: str = ""
    cut: bool = False
    reset: bool = False
    unwritten: bool = False
    half_written: bool = False


def _paid(charged: float = 0.5, after: float = 1.5, status: Any = 1, *, listed: bool = False) -> Answer:
    fields = {"refID": "{ref}"}
    return Answer(
        P, charged, after, body={"status": status, "data": [fields] if listed else fields, "errors": []}
    )


def _declined(code: str, after: float = 1.5, status: int = 200, charged: float | None = None) -> Answer:
    fields = {"refID": "0", "transactionStatus": code}
    reply = {"status": 0, "data": fields, "errors": ["no"]}
    return Answer(D, charged, after, status, reply, code.lstrip("0"))


def _odd(reply: Any, charged: float | None = 0.5, status: int = 200, after: float = 1.5) -> Answer:
    return Answer(U, charged, after, status, reply)


# The first one is the simplest: what shrinking leads to. Late is after PAY_TIMEOUT, 60 s; late within the
# late limit, 300 s more, settles; later than that nobody listens.
ANSWERS: Final[dict[str, Answer]] = {
    "paid": _paid(),
    "paid, as text": _paid(status="1"),
    "paid, in a list": _paid(listed=True),
    "paid, slowly": _paid(3, 40),
    "paid, late": _paid(50, 100),
    "paid, charged late": _paid(90, 200),
    "paid, too late": _paid(10, 500),
    "declined: funds": _declined("51"),
    "declined: PIN": _declined("55"),
    "declined: card": _declined("14"),
    "declined: merchant": _declined("03"),
    "declined: issuer": _declined("91"),
    "declined: no such code": _declined("77"),
    "declined: late": _declined("51", 120),
    "declined in a 500": _declined("51", status=500),
    "duplicate, charged": _declined("94", charged=0.5),
    "duplicate, not charged": _declined("94"),
    "invalid response, charged": _declined("20", charged=0.5),
    "refused": Answer(F, status=403, body=HTML),
    "too many requests": Answer(F, status=429, body=HTML),
    "unreachable": Answer(F, unwritten=True),
    "cut while written": Answer(U, half_written=True),
    "charged, then cut": Answer(U, 0.5, body={"status": 1, "data": {"refID": "{ref}"}}, cut=True),
    "charged, then reset": Answer(U, 0.5, reset=True),
    "reset": Answer(U, reset=True),
    "charged, then 502": _odd(HTML, status=502),
    "502": _odd(HTML, None, 502),
    "charged, then silence": Answer(U, 0.5, None),
    "charged late, in silence": Answer(U, 100.0, None),
    "silence": Answer(U, None, None),
    "charged, garbage late": _odd(HTML, after=100),
    "charged, no reference": _odd({"status": 1, "data": {"refID": "0"}, "errors": []}),
    "charged, and declined with a reference": _odd(
        {"status": 0, "data": {"refID": "{ref}", "transactionStatus": "51"}, "errors": []}
    ),
    "charged, in a 403": _odd({"status": 1, "data": {"refID": "{ref}"}, "errors": []}, status=403),
    "another status": _odd({"status": 2, "data": [], "errors": []}, None),
}

# What it does when a PIN is asked for: whether an SMS leaves, and the answer, as above.
PINS: Final[dict[str, tuple[bool, Answer]]] = {
    "sent": (True, Answer(P, body={"status": 1, "data": [], "errors": []})),
    "refused": (False, Answer(F, body={"status": 0, "data": [], "errors": ["no"]})),
    "sent, then silence": (True, Answer(U, after=None)),
    "unreachable": (False, Answer(F, unwritten=True)),
    "sent, then 500": (True, Answer(U, status=500, body=HTML)),
}


@dataclass(slots=True)
class Request:
    """One `pay` that the client let go."""

    attempt: int
    order: str
    line: Line
    process: Process
    answer: Answer
    ref: str
    at: float
    deciding: bool = False  # the card may still be charged
    charged: bool = False


@dataclass
class Bank:
    """The bank. look: asks the journal's file, by a connection of its own, which attempt is `sent`."""

    world: World
    look: Callable[[str], list[tuple[int, str]]]
    requests: list[Request] = field(default_factory=list)
    charges: dict[str, list[Request]] = field(default_factory=dict)  # by order
    by_attempt: dict[int, Request] = field(default_factory=dict)
    cards: dict[str, Line] = field(default_factory=dict)  # by card number
    pins: set[str] = field(default_factory=set)
    answered: int = 0

    def transport(self, _tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
        """What all requests go over in this world."""
        return _Wire(self)

    def charge(self, request: Request) -> None:
        """Take the money."""
        request.charged, request.deciding = True, False
        paid = self.charges.setdefault(request.order, [])
        paid.append(request)
        if len(paid) > 1:
            self.world.mishaps.append(f"order {request.order} is charged {len(paid)} times")

    def take(self, process: Process, fields: dict[str, Any]) -> Request:
        """A `pay` begins to leave: what must be true by now."""
        line = self.cards[fields["pan"]]
        found = self.look(fields["order_id"])
        if len(found) != 1:
            self.world.mishaps.append(f"`pay` leaves while not one attempt of its order is `sent`: {found}")
            found = [(-1 - len(self.requests), "")]
        attempt, call = found[0]
        if attempt in self.by_attempt:
            self.world.mishaps.append(f"a second `pay` leaves for attempt {attempt}")
        if call != line.uniqueid:
            self.world.mishaps.append(f"`pay` leaves for attempt {attempt}, which another call has `sent`")
        line.check_told_attempt(attempt)
        answer = ANSWERS[line.next_answer()]
        ref = str(700_000_000_000 + 123_456_791 * (len(self.requests) + 1))  # like nothing that was keyed
        request = Request(attempt, fields["order_id"], line, process, answer, ref, self.world.now)
        self.requests.append(request)
        self.by_attempt[attempt] = request
        line.payments.append(request)
        return request

    def send_pin(self, line: Line) -> None:
        """The SMS."""
        pin = str(4_100_000_000 + 7_919 * (len(self.pins) + 1))
        self.pins.add(pin)
        line.pin = pin


class _Wire(httpx.AsyncBaseTransport):
    """The connections between a client and the bank."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        bank, world = self._bank, self._bank.world
        process: Process = world.running  # type: ignore[assignment]
        fields = json.loads(request.content)
        if request.url.path.endswith("/otp-v2"):
            line = bank.cards[fields["pan"]]
            line.pins_asked += 1
            line.check_told_attempt(None)
            sent, answer = PINS[line.next_pin()]
            if sent:
                world.after(0.3, lambda: bank.send_pin(line))
            return await self._exchange(process, request, answer, None)
        taken = bank.take(process, fields)
        if taken.answer.charged is not None:
            taken.deciding = True
            world.after(taken.answer.charged + REACHES, lambda: bank.charge(taken))
        return await self._exchange(process, request, taken.answer, taken)

    async def _exchange(
        self, process: Process, request: httpx.Request, answer: Answer, taken: Request | None
    ) -> httpx.Response:
        if answer.unwritten:
            await self._pass(process, REACHES)
            raise httpx.ConnectError("no route", request=request)
        request.extensions[LEAVING]()
        if answer.half_written:
            await self._pass(process, WRITES)
            raise httpx.WriteError("broken pipe", request=request)
        await self._pass(process, REACHES + answer.after if answer.after is not None else None)
        if answer.reset:
            raise httpx.ReadError("connection reset", request=request)
        self._bank.answered += taken is not None
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        body = text.replace("{ref}", taken.ref if taken else "").encode()
        return httpx.Response(answer.status, stream=_Body(body, cut=answer.cut))

    async def _pass(self, process: Process, seconds: float | None) -> None:
        """Wait for the world, which goes on whether this process does or not."""
        loop = process.loop
        came = loop.create_future()

        def come() -> None:
            if process.alive:
                loop.call_soon(lambda: came.done() or came.set_result(None))

        if seconds is not None:
            self._bank.world.after(seconds, come)
        await came


class _Body(httpx.AsyncByteStream):
    """A body, whole or cut."""

    def __init__(self, body: bytes, *, cut: bool) -> None:
        self._body, self._cut = body, cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._cut:
            yield self._body[: len(self._body) // 2]
            raise httpx.ReadError("cut")
        yield self._body
