"""One cell of a settlement list at a time: amounts, cards, statuses.

A cell that can be read in two ways is not read: `Unclear` says why, without quoting it. A card number
is a mask before this module returns it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ivr_agi.model import holds_card, mask_pan
from ivr_agi.settlement.letters import key, plain
from ivr_agi.settlement.notes import Note, Telling

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


class Unclear(Telling):
    """The cell cannot be read for certain. The message does not quote it."""


class Standing(StrEnum):
    """What the list says of a payment."""

    PAID = "paid"
    NOT_PAID = "not paid"  # failed, refused, cancelled
    RETURNED = "returned"  # paid, and given back


# -- amounts ----------------------------------------------------------------------------------------

TOMAN: Final = re.compile(r"تومان|(?<![a-z])(?:tomans?|irt)(?![a-z])")
RIAL: Final = re.compile(r"ریال|(?<![a-z])(?:rials?|irr)(?![a-z])")  # not that of "serial"
_AMOUNT: Final = re.compile(r"(?:[0-9]{1,3}(?:([, '])[0-9]{3}(?:\1[0-9]{3})*)|[0-9]{1,15})(?:[.٫]0{1,2})?")
RIALS_A_TOMAN: Final = 10


def read_amount(text: str, *, toman: bool) -> int:
    """Read a whole amount as rials: `50000`, `50,000`, `۵۰٬۰۰۰ ریال`, `50 000.00`. Raises Unclear.

    `50.000` is not read: fifty, or fifty thousand?
    """
    text = plain(text).casefold()
    if not toman and TOMAN.search(text):
        raise Unclear(Note("amount_toman", "the amount says toman, the option --toman was not given"))
    if toman and RIAL.search(text):
        raise Unclear(Note("amount_rial", "the amount says rial, the option --toman was given"))
    text = RIAL.sub("", TOMAN.sub("", text)).translate({0x66C: ",", 0x60C: ","})
    text = text.strip().removeprefix("'")
    if re.search(r"[-−(]", text) and re.search(r"[0-9]", text):
        raise Unclear(Note("amount_negative", "the amount is negative: a return?"))
    if len(text) > 20 or not _AMOUNT.fullmatch(text):  # noqa: PLR2004 - 15 digits and their separators
        raise Unclear(Note("no_amount", "no amount that can be read for certain"))
    amount = int(re.sub(r"[^0-9]", "", re.split(r"[.٫]", text)[0]))
    return amount * RIALS_A_TOMAN if toman else amount


# -- cards ------------------------------------------------------------------------------------------

PAN_LENGTH: Final = 16
_STARS: Final = re.compile(r"[*x×#•.…_\-/ ]+")


def read_card(text: str) -> str:
    """Read a card's mask as 16 characters, `*` for what the list does not tell; empty if it tells nothing.

    Read: first six or four and last four digits in whatever mask, also turned round as right-to-left
    programs do; the last four alone; a whole number, which is masked here. Raises Unclear.
    """
    words = [word for word in plain(text).casefold().split() if re.search(r"[0-9]", word)]  # no bank's name
    groups = [group for group in _STARS.split(" ".join(words)) if group]
    if not groups:
        return ""
    if all(re.fullmatch(r"[0-9]+", group) for group in groups):
        match [len(group) for group in groups]:
            case [16] | [4, 4, 4, 4]:
                return mask_pan("".join(groups))
            case [4]:
                return _mask("", groups[0])
            case [4, 4]:
                return _mask(groups[0], groups[1])
            case [6 | 8, 4] | [4, 2 | 4, 4]:  # 6037-99**-****-7893
                return _mask("".join(groups[:-1])[:6], groups[-1])
            case [4, 6]:
                return _mask(groups[1], groups[0])
    raise Unclear(Note("no_card", "the card is neither a mask nor the last four digits"))


def _mask(first: str, last: str) -> str:
    return first + last.rjust(PAN_LENGTH - len(first), "*")


def cards_agree(one: str, other: str) -> bool:
    """Whether two masks may be of one card: no place where both show a digit and not the same one."""
    if len(one) != len(other):
        return True  # one of them tells nothing
    return all(a == b or "*" in (a, b) for a, b in zip(one, other, strict=True))


# -- order ids and tracking numbers -----------------------------------------------------------------

_ROUNDED: Final = re.compile(r"[0-9](?:[.,][0-9]+)?e\+[0-9]{1,3}")
MAX_NAME: Final = 64  # the journal's longest column for either


def read_name(text: str) -> str:
    """Read an order id or a tracking number. Raises Unclear."""
    text = plain(text)
    if found := re.fullmatch(r'="(.*)"', text):  # a spreadsheet's way to keep leading zeros
        text = found[1]
    if _ROUNDED.fullmatch(text.casefold()):
        raise Unclear(
            Note("rounded", "a spreadsheet has rounded the number (1.2E+15): export the list again")
        )
    if holds_card(text):
        raise Unclear(
            Note("card_as_name", "a card number stands where an order id or tracking number should")
        )
    if len(text) > MAX_NAME or not text.isprintable():
        raise Unclear(Note("bad_name", "an order id or tracking number that cannot be one of ours"))
    text = text.removeprefix("'")
    return "" if set(text) <= set("-0 ") else text


# -- statuses ---------------------------------------------------------------------------------------

_PAID: Final = frozenset(map(key, (
    "موفق", "پرداخت موفق", "تراکنش موفق", "پرداخت شده", "تسویه شده", "واریز شده",
    "success", "successful", "succeeded", "paid", "settled",
)))  # fmt: skip
_NOT_PAID: Final = frozenset(map(key, (
    "ناموفق", "پرداخت ناموفق", "تراکنش ناموفق", "پرداخت نشده", "لغو شده", "رد شده", "خطا",
    "failed", "failure", "unsuccessful", "unpaid", "cancelled", "canceled", "declined", "rejected",
)))  # fmt: skip
_RETURNED: Final = re.compile("برگشت|عودت|استرداد|مرجوع|revers|return|refund|chargeback")


def read_standing(text: str, paid_status: AbstractSet[str]) -> Standing:
    """What a status text means. paid_status: keys (`letters.key`) that count as paid; empty: usual ones.

    Raises Unclear for a text of which only the merchant can know.
    """
    found = key(text)
    if found in (paid_status or _PAID):
        return Standing.PAID
    if not found:
        raise Unclear(Note("no_status", "no status"))
    if _RETURNED.search(found):
        return Standing.RETURNED
    if found in _NOT_PAID or paid_status:
        return Standing.NOT_PAID
    raise Unclear(
        Note("unknown_status", "a status that is not known; --paid-status TEXT says which ones mean paid")
    )
