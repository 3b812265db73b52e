"""The client of the merchant's own order endpoint, which says what an invoice number stands for.

A caller has keyed the number in; the merchant's system knows the order, its amount, and whether it is
still to be paid. docs/orders.md is the contract. Whatever is not the contract to the letter is *not
reachable*: an amount that was guessed would be charged. Answers are values, nothing raises. What the
caller has keyed is never logged, and neither is what the endpoint says.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog

from ivr_agi import https, signature
from ivr_agi.request import BadRequest, read_order_id

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from ivr_agi.model import Msisdn, Secret

log = structlog.get_logger()

MAX_BODY: Final = 16_384  # bytes; an answer of the contract has about a hundred
AGAIN_AFTER: Final = 0.2  # seconds; a look-up changes nothing, so a broken connection is tried once more
NOT_FOUND: Final = 404


class Standing(StrEnum):
    """How an invoice stands with the merchant."""

    PAYABLE = "payable"
    PAID = "paid"
    CLOSED = "closed"  # no longer payable: cancelled, expired
    NOT_FOUND = "not-found"
    UNREACHABLE = "unreachable"  # nobody could say


@dataclass(frozen=True, slots=True)
class Order:
    """What the endpoint has said.

    order_id and amount (rials): of a payable one. why: a word of ours, for the log.
    """

    standing: Standing
    order_id: str = ""
    amount: int = 0
    why: str = ""


class Orders:
    """The endpoint at one address."""

    def __init__(
        self,
        url: str,
        secrets: Sequence[Secret],
        *,
        timeout: float,
        amounts: range,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """secrets: each signs each request; none: unsigned. timeout: seconds for a whole look-up.

        amounts: the rials that we take.
        """
        self._url = url
        self._secrets = secrets
        self._timeout = timeout
        self._amounts = amounts
        self._tls = tls or https.verified_tls()

    async def look_up(self, invoice: str, mobile: Msisdn | None) -> Order:
        """Ask for an invoice number; mobile: the caller's, if known."""
        since = time.perf_counter()
        body = json.dumps({"invoice": invoice, "mobile": mobile}).encode()
        try:
            async with asyncio.timeout(self._timeout):
                order = await self._ask(body)
        except TimeoutError:
            order = _unreachable("timeout")
        spent = {"why": order.why, "ms": round((time.perf_counter() - since) * 1000)}
        if order.standing is Standing.UNREACHABLE:
            log.error(
                "order.not_looked_up",
                **spent,
                endpoint=urlsplit(self._url).hostname,
                cure="docs/orders.md says what each `why` means",
            )
        else:
            log.info("order.looked_up", standing=order.standing, **spent)
        return order

    async def _ask(self, body: bytes) -> Order:
        headers = {"Content-Type": "application/json"}
        if self._secrets:
            headers[signature.HEADER] = signature.sign(body, self._secrets, int(time.time()))
        try:
            return await self._post(body, headers)
        except https.BROKEN:
            await asyncio.sleep(AGAIN_AFTER)
        try:
            return await self._post(body, headers)
        except https.BROKEN as error:
            return _unreachable(https.trouble(error))

    async def _post(self, body: bytes, headers: dict[str, str]) -> Order:
        """Post once, on a fresh connection."""
        client = https.client(self._tls)
        async with client, client.stream("POST", self._url, content=body, headers=headers) as response:
            received = bytearray()
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > MAX_BODY:
                    return _unreachable("too-long")
        return read(response.status_code, bytes(received), self._amounts)


def read(status: int, body: bytes, amounts: range) -> Order:
    """An answer of docs/orders.md; whatever is none is UNREACHABLE. amounts: the rials that we take."""
    reply = https.read_object(body)
    said = reply.get("status") if reply is not None else None
    if status == NOT_FOUND and said not in ("payable", "paid", "closed"):  # with whatever page comes along
        return Order(Standing.NOT_FOUND, why="http-404")
    if status not in https.OK:
        return _unreachable(f"http-{status}")
    if reply is None:
        return _unreachable("no-json")
    match said:
        case "payable":
            return _payable(reply, amounts)
        case "paid" | "closed" | "not-found":
            return Order(Standing(said))
        case _:
            return _unreachable("unknown-status")


def _payable(reply: dict[str, Any], amounts: range) -> Order:
    order_id, amount = reply.get("order_id"), reply.get("amount")
    if type(amount) is not int or amount not in amounts:  # True is an int to Python, and 5e4 is none
        return _unreachable("bad-amount")
    try:
        return Order(Standing.PAYABLE, read_order_id(order_id if isinstance(order_id, str) else ""), amount)
    except BadRequest as bad:
        return _unreachable(bad.reason)


def _unreachable(why: str) -> Order:
    return Order(Standing.UNREACHABLE, why=why)
