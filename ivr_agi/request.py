"""What the dialplan asked for: the query of the agi:// address, or AGI arguments `key=value`.

Strict: anything unknown or malformed raises BadRequest with the word that becomes PAYREASON, and
nothing is sent to the gateway.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast
from urllib.parse import unquote

from ivr_agi.model import Msisdn, holds_card

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

ORDER_ID_LENGTH = 50  # gateway-api.md: elsewhere in PayStar's documents, 1 to 50 characters
KNOWN: Final = ("amount", "order_id", "language", "mobile", "token")
LanguageChoice = Literal["fa", "en", "ask"]


class BadRequest(Exception):  # noqa: N818 - named for what it is
    """What the dialplan asked cannot be done. reason: the word for PAYREASON; cure: what the admin does."""

    def __init__(self, reason: str, detail: str, cure: str = "mend the AGI() line in the dialplan") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.cure = cure


@dataclass(frozen=True, slots=True)
class PayRequest:
    """One payment as the dialplan asked for it; None where the caller, or we, fill it in."""

    amount: int | None = None  # whole rials
    order_id: str | None = None
    ask_invoice: bool = False  # the caller keys an invoice number, the merchant says order and amount
    language: LanguageChoice | None = None
    mobile: Msisdn | None = None


class Lock(Protocol):
    """What a token opens."""

    def opens(self, token: str) -> bool:
        """Whether this one does; '' for none given."""


def read_request(
    environment: Mapping[str, str], amounts: range, lock: Lock, *, look_up: bool = False
) -> PayRequest:
    """Read the AGI environment's address and arguments. Raises BadRequest.

    amounts: the rials that we take. look_up: whether the merchant's endpoint can be asked, so that
    `order_id=ask` can be done.
    """
    given: dict[str, str] = {}
    for key, value in _pairs(environment):
        if "\ufffd" in value:  # what was no UTF-8: two orders could look like one
            raise BadRequest("bad-encoding", f"{_shown(key, 15)} is not UTF-8")
        if key not in KNOWN:
            raise BadRequest("unknown-argument", f"{_shown(key, 15)} (known: {', '.join(KNOWN)})")
        if key in given:
            raise BadRequest("duplicate-argument", f"{key} comes twice")
        given[key] = value
    if not lock.opens(given.get("token", "")):
        raise BadRequest(
            "bad-token", "no token, or a wrong one", cure="put token=… of IVR_AGI_TOKEN into the AGI() line"
        )
    amount, order_id = given.get("amount", "ask"), given.get("order_id")
    if order_id == "ask" and not look_up:
        raise BadRequest(
            "no-order-lookup",
            "order_id=ask, and no endpoint to ask",
            cure="set IVR_AGI_ORDERS_URL (docs/orders.md), or name the order in the dialplan",
        )
    if order_id == "ask" and amount != "ask":
        raise BadRequest("bad-amount", "with order_id=ask the merchant's endpoint says the amount")
    return PayRequest(
        amount=None if amount == "ask" else read_amount(amount, amounts),
        order_id=None if order_id in (None, "ask") else read_order_id(order_id),
        ask_invoice=order_id == "ask",
        language=_language(given["language"]) if "language" in given else None,
        mobile=_mobile(given["mobile"]) if "mobile" in given else None,
    )


def _pairs(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    # By hand, not by urlsplit: it would cut an order id at `#`, and parse_qsl would take `+` for a blank.
    _scheme, _, rest = environment.get("request", "").partition("://")
    path, _, query = rest.partition("/")[2].partition("?")
    if path != "pay":
        raise BadRequest("unknown-path", f"/{path[:15]} (the address is agi://HOST:PORT/pay)")
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not equals:
            raise BadRequest("unknown-argument", "a part of the address has no value: key=value")
        try:
            yield unquote(key, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise BadRequest("bad-encoding", f"{_shown(key, 15)} is not UTF-8") from None
    number = 1
    while (argument := environment.get(f"arg_{number}")) is not None:
        number += 1
        if not argument:
            continue  # AGI(agi://…,) passes an empty one
        key, equals, value = argument.partition("=")
        if not equals:
            raise BadRequest("unknown-argument", "an argument is not key=value")
        yield key.strip(), value


def read_amount(text: str, amounts: range) -> int:
    """Whole rials in ASCII digits, one of `amounts`. Raises BadRequest."""
    if not re.fullmatch(r"[1-9][0-9]{0,12}", text):
        raise BadRequest("bad-amount", f"{_shown(text, 13)} is no whole number of rials")
    amount = int(text)
    if amount not in amounts:
        steps = f" in steps of {amounts.step}" if amounts.step > 1 else ""
        raise BadRequest("bad-amount", f"{amount} is not within {amounts[0]} to {amounts[-1]} rials{steps}")
    return amount


def read_order_id(text: str) -> str:
    """The merchant's order: 1 to 50 printable characters, no card number in it. Raises BadRequest."""
    if not 1 <= len(text) <= ORDER_ID_LENGTH or not text.isprintable() or text != text.strip():
        raise BadRequest("bad-order-id", f"1 to {ORDER_ID_LENGTH} printable characters, not {len(text)}")
    if holds_card(text):  # it would be written down, and told to everybody
        raise BadRequest("bad-order-id", "it has a card number in it")
    return text


def _language(text: str) -> LanguageChoice:
    if text not in ("fa", "en", "ask"):
        raise BadRequest("bad-language", f"{_shown(text, 9)} (known: fa, en, ask)")
    return cast("LanguageChoice", text)


def _shown(text: str, most: int) -> str:
    """A value in an error; one that is longer than it can be may be something else, and secret."""
    return repr(text) if len(text) <= most else f"a value of {len(text)} characters"


def _mobile(text: str) -> Msisdn:
    mobile = Msisdn.parse(text)
    if mobile is None:
        raise BadRequest("bad-mobile", "no Iranian mobile number")
    return mobile


def make_order_id(now: datetime) -> str:
    """An order id of our own where the dialplan gave none: `IVR20261124-130502-K7Q2M9XB`."""
    alphabet = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # no 0 and O, 1 and I and L: it is read out and typed
    return f"IVR{now:%Y%m%d-%H%M%S}-" + "".join(secrets.choice(alphabet) for _ in range(8))
