"""The client, the fault proxy and the gateway's stand-in in a row, for the fault matrix.

Each payment is a new order with a PIN of its own, had without the proxy, so that a fault strikes `pay` alone.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faultproxy import Carried, Fault, FaultProxy

from ivr_agi.gateway import Gateway
from ivr_agi.model import Method, Msisdn, OtpVerdict, Pan, PayAnswer, Pin, Secret
from ivr_agi.simulator.gateway import GatewaySimulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SEQUENCE = "acd54b56ddd651a5cc3v"
PAN = Pan("6037991234567893")
MOBILE = Msisdn("+989123456789")
IN_TIME = 10  # seconds: for what must not run into the limit, however slow the machine
LIMITS = (0.1, 0.5, 2, IN_TIME)  # for what must: the next one if the fault did not even strike within this
UNREAD = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody; spares plain HTTP the reading of CAs


@dataclass(slots=True)
class Bench:
    """The client, the proxy and the stand-in in a row.

    tls: what the client trusts. orders: paid so far, `A-1` first. carried: the last one's connection, or
    an empty record if it had none.
    """

    gateway: GatewaySimulator
    proxy: FaultProxy
    tls: ssl.SSLContext = UNREAD
    orders: int = 0
    carried: Carried = field(default_factory=Carried)

    async def pay(self, url: str = "", *, limit: float = IN_TIME) -> PayAnswer:
        """Pay a new order through the proxy, or at `url`; its PIN is had without the proxy."""
        self.orders += 1
        order = f"A-{self.orders}"
        direct = self._client(self.gateway.url, limit=IN_TIME)
        assert (await direct.request_pin(PAN, 50000, order)).verdict is OtpVerdict.SENT
        pin = Pin(self.gateway.pins[PAN.reveal(), order])
        self.gateway.arrived.clear()
        before = len(self.proxy.connections)
        ours = self._client(url or self.proxy.url, limit)
        answer = await ours.pay(Method.IVR, PAN, pin, 50000, order, MOBILE)
        self.carried = [Carried(), *self.proxy.connections[before:]][-1]
        return answer

    async def pay_until_struck(self, fault: Fault) -> PayAnswer:
        """Pay with a fault that only the time limit ends, and let the limit not be the first to strike."""
        for limit in LIMITS:
            self.proxy.arm(fault)
            answer = await self.pay(limit=limit)
            if self.carried.struck:
                break
        return answer

    def _client(self, url: str, limit: float) -> Gateway:
        return Gateway(url, Secret(SEQUENCE), otp_timeout=IN_TIME, pay_timeout=limit, tls=self.tls)

    @property
    def payments(self) -> int:
        """How often the stand-in was asked to `pay`."""
        return [request.service for request in self.gateway.requests].count("pay")


@asynccontextmanager
async def open_bench(**given: Any) -> AsyncIterator[Bench]:
    """Put up a bench on plain HTTP; `given` is the proxy's."""
    async with GatewaySimulator(SEQUENCE) as gateway, FaultProxy(gateway.url, **given) as proxy:
        yield Bench(gateway, proxy)
