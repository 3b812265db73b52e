"""The FastAGI listener: accepts, runs one task for each call, and drains.

Who gets in, and how many, is `door.py`'s. A call's failure is its own: it never reaches the listener
or another call.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ivr_agi import metrics
from ivr_agi.agi import Agi, BadEnvironment, parse_environment
from ivr_agi.call import Call
from ivr_agi.conversation import converse
from ivr_agi.door import Door, Full
from ivr_agi.listener import Listener, open_sockets
from ivr_agi.model import Hangup, mask_caller, mask_cards, name_caller
from ivr_agi.request import BadRequest, read_request
from ivr_agi.session import Payment, Rules

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from ivr_agi.agi import Wire
    from ivr_agi.door import Roll
    from ivr_agi.model import Secret
    from ivr_agi.orders import Orders
    from ivr_agi.payments import Payments
    from ivr_agi.settings import Settings

log = structlog.get_logger()

GOODBYE_SECONDS = 2.0  # after the drain limit


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call in progress, as others may see it. seconds: since it began; amount in rials, 0 until known.

    caller and card are masked, '' where there is none; state is one of flow.State.
    """

    state: str
    seconds: float
    order_id: str
    amount: int
    caller: str
    card: str
    language: str


class Server:
    """One listening FastAGI server."""

    def __init__(
        self,
        settings: Settings,
        payments: Payments,
        orders: Orders | None = None,
        tokens: Sequence[Secret] = (),
        roll: Roll | None = None,
    ) -> None:
        """orders: the merchant's endpoint; without one, `order_id=ask` is refused.

        tokens: one of them must stand in the agi:// address; none: no token is asked for. roll: of the calls
        of several servers, whose limits hold for all together.
        """
        self._settings = settings
        self._payments = payments
        self._orders = orders
        self._rules = Rules(**{name: getattr(settings, name) for name in Rules.__slots__})
        self._door = Door(settings, tokens, roll)
        self._connections: dict[asyncio.Task[None], Wire] = {}
        self._conversations: dict[Payment, tuple[Call, float]] = {}  # and the loop's time when each began
        self._listener: Listener | None = None
        self._shares_sockets = False
        self._draining = False

    async def start(self, sockets: Sequence[socket.socket] | None = None) -> int:
        """Listen; returns the port. Raises OSError when the address cannot be had.

        sockets: those that somebody else keeps open, in place of HOST and PORT.
        """
        host = self._settings.host
        self._shares_sockets = sockets is not None
        listener = Listener(sockets or await open_sockets(host, self._settings.port), self._accept)
        await listener.start()
        self._listener = listener
        log.info("server.listening", host=host, port=listener.port)
        return listener.port

    @property
    def port(self) -> int:
        """Where it listens; 0 before it does."""
        return self._listener.port if self._listener else 0

    @property
    def accepting(self) -> bool:
        """Whether it listens, and does not drain."""
        return self._listener is not None and not self._draining

    @property
    def calls(self) -> int:
        """How many calls are in progress."""
        return self._door.calls

    async def live(self) -> list[LiveCall]:
        """The calls in progress."""
        now = asyncio.get_running_loop().time()
        return [
            LiveCall(
                payment.state or "welcome",
                now - since,
                payment.order_id,
                payment.amount,
                mask_caller(name_caller(payment.caller_id)),
                payment.card,
                call.language,
            )
            for payment, (call, since) in self._conversations.items()
        ]

    async def drain(
        self,
        hurry: asyncio.Event | None = None,
        others: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Stop accepting, let calls end, up to the limit; every `pay` under way is carried through.

        hurry: when set, the limit counts as reached. others: waits for payments that are no calls, likewise.
        """
        hurry = hurry or asyncio.Event()
        self._draining = True
        if self._listener:
            await self._listener.stop(alone=not self._shares_sockets)
        log.info("server.draining", calls=self._door.calls, seconds=self._settings.drain_limit)
        hurried = asyncio.create_task(hurry.wait())
        ended = asyncio.create_task(self._all_ended(others))
        await asyncio.wait(
            (hurried, ended), timeout=self._settings.drain_limit, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        ended.cancel()
        self._payments.close()
        await self._payments.finish()
        if self._connections:  # those whose `pay` has just ended tell the dialplan
            await asyncio.wait(self._connections, timeout=GOODBYE_SECONDS)
        for wire in self._connections.values():
            log.warning("server.cut_off", peer=wire.peer, cure="raise IVR_AGI_DRAIN_LIMIT")
            wire.abort()
        while self._connections:
            await asyncio.wait(self._connections)
        await self._payments.finish()
        log.info("server.stopped")

    async def _all_ended(self, others: Callable[[], Awaitable[None]] | None) -> None:
        """Until no call is left, and nothing of their payments: outcomes that are late, or to be written."""
        if others:
            await others()
        while self._connections:
            await asyncio.wait(self._connections)
        await self._payments.quiet()

    def _accept(self, wire: Wire) -> None:
        """Let a connection speak, or close it at once."""
        admitted = False
        try:
            admitted = self._door.admits(wire)
        except Exception:
            log.exception("call.broken")
        if not admitted:
            wire.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(wire))
        self._connections[task] = wire
        task.add_done_callback(self._connections.pop)

    async def _serve(self, wire: Wire) -> None:
        """One call, from the first line of its environment to the closed connection."""
        try:
            structlog.contextvars.bind_contextvars(call=f"{random.getrandbits(32):08x}")
            payment = await self._begin(wire)
            now = asyncio.get_running_loop().time()
            overdue = now + self._settings.call_limit
            call = Call(
                Agi(wire),
                tries=self._settings.tries,
                max_unanswered=self._settings.max_unanswered,
                digit_timeout=self._settings.digit_timeout,
                music_class=self._settings.music_class,
                language_codes=self._settings.language_codes,
                overdue=overdue,
            )
            self._conversations[payment] = call, now
            try:
                await converse(call, payment)
            finally:
                del self._conversations[payment]
        except Full:
            wire.abort()
        except Hangup as gone:  # before it was a call
            if self._door.has(wire):  # not let go for others
                metrics.connections_refused.labels("environment").inc()
                log.info("call.lost", peer=wire.peer, why=str(gone))
        except Exception:
            log.exception("call.broken")
        finally:
            self._door.left(wire)
            wire.close()

    async def _begin(self, wire: Wire) -> Payment:
        """Read what Asterisk says of the call, and what the dialplan asks for."""
        environment: dict[str, str] = {}
        payment = Payment(self._payments, self._rules, orders=self._orders)
        try:
            lines = await wire.environment()
            if not lines or not lines[0].startswith("agi_"):
                raise Hangup("what came is no AGI environment")
            self._door.begins(wire)
            environment = parse_environment(lines)
            payment.request = read_request(
                environment, self._rules.amounts, self._door, look_up=self._orders is not None
            )
        except BadEnvironment as bad:
            payment.refusal = BadRequest("bad-environment", str(bad))
        except BadRequest as bad:
            payment.refusal = bad
        payment.caller_id = environment.get("callerid", "")
        payment.call_id = mask_cards(environment.get("uniqueid", ""))[:64]
        payment.order_id = payment.request.order_id or ""
        payment.amount = payment.request.amount or 0
        structlog.contextvars.bind_contextvars(
            uniqueid=payment.call_id, channel=environment.get("channel", "")[:80], order=payment.order_id
        )
        log.info("call.begun", peer=wire.peer, amount=payment.amount)
        if payment.refusal:
            log.error(
                "request.refused",
                reason=payment.refusal.reason,
                detail=payment.refusal.detail,
                cure=payment.refusal.cure,
            )
        elif not self._door.knows(wire, name_caller(payment.caller_id)):
            log.warning("caller.full", cure="raise IVR_AGI_MAX_CALLS_PER_CALLER")
            payment.crowded = True
        return payment
