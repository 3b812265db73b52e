"""Letters as people and spreadsheets write them, made comparable.

Persian and Arabic digits, two kinds of ye and kaf, joiners and marks that nobody sees: one list has
them so, the next one otherwise. Also finds card numbers where none should be. It must never guess what
a text means.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from ivr_agi.model import mask_digits

_SAME: Final = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩يىك", "01234567890123456789ییک", "\u0640")  # and no tatweel
SHOWN: Final = 40  # characters of somebody else's text in a message


def plain(text: str) -> str:
    """One form of many: ASCII digits, Persian letters, single blanks, nothing invisible."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_SAME)
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(text.split())


def key(text: str) -> str:
    """Letters and digits alone: `Order_ID`, `order id`, `شماره‌سفارش`, `شماره سفارش` by pairs alike."""
    return "".join(letter for letter in plain(text).casefold() if letter.isalnum())


def order_key(order_id: str) -> str:
    """What two order ids that mean the same have in common. A' A and a are different orders."""
    return plain(order_id).removeprefix("'")  # the sign by which a spreadsheet takes a text for a text


def ref_key(ref_id: str) -> str:
    """Likewise for tracking numbers: banks pad them with zeros or do not. Empty: none ("0" means none)."""
    return plain(ref_id).removeprefix("'").casefold().lstrip("0")


def shown(text: str) -> str:
    """Somebody else's text as a message may have it: printable, short, without numbers."""
    return mask_digits(printable(plain(text)))[:SHOWN]


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor or turn its direction."""
    return "".join(letter for letter in text if letter.isprintable())
