"""The values that the whole program speaks in.

Frozen, small, and free of I/O. A card number, a PIN and the gateway's `sequence` are types that
show only a mask however they are printed; what is inside comes out by `reveal()` alone, and only
`gateway.py`, which sends it, has a reason to call that.

Amounts are whole rials everywhere. Toman exists only in speech.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn, Self


class Secret:
    """Text that never shows itself: not in repr, str, format, pickles or tracebacks."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = str.__str__(text)  # plain, also of Keys, which would go out as their mask

    def reveal(self) -> str:
        """Return what is hidden; for the gateway's request body only."""
        return self.__text

    @property
    def masked(self) -> str:
        """What may be shown in place of the text."""
        return "***"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.masked})"

    def __str__(self) -> str:
        return self.masked

    def __format__(self, spec: str) -> str:
        return format(self.masked, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and other.reveal() == self.__text

    def __hash__(self) -> int:
        return hash((type(self), self.__text))

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not to be pickled or copied out of memory")


class Keys(str):
    """What a caller has keyed: text that shows itself no more than a Secret, should a message quote it."""

    __slots__ = ()

    def __new__(cls, text: str = "") -> Self:
        """Also of Keys, which would show a mask."""
        return super().__new__(cls, str.__str__(text))

    def __repr__(self) -> str:
        return "Keys(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)


class Pan(Secret):
    """A card number (PAN): 16 digits that pass the Luhn check and bear a known bank's prefix.

    Raises ValueError, without the digits in its message, for anything else.
    """

    __slots__ = ()

    def __init__(self, digits: str) -> None:
        if not (re.fullmatch(r"[0-9]{16}", digits) and luhn(digits) and digits[:6] in BANKS):
            raise ValueError("not a card number of an Iranian bank")
        super().__init__(digits)

    @property
    def masked(self) -> str:
        """First six and last four digits, as PCI DSS 3.4.1 allows: `603799******7893`."""
        return mask_pan(Keys(self.reveal()))


class Pin(Secret):
    """The one-time PIN: 5 to 12 digits, leading zeros kept."""

    __slots__ = ()

    def __init__(self, digits: str) -> None:
        if not re.fullmatch(r"[0-9]{5,12}", digits):
            raise ValueError("a one-time PIN has 5 to 12 digits")
        super().__init__(digits)


def mask_pan(digits: str) -> str:
    """Mask a card number given as text."""
    return f"{digits[:6]}******{digits[-4:]}"


MASKED: Final = "[masked]"
_APART = r"[\W_]{0,4}"  # what may stand between two digits of one number: "6037", "9912", …
_DIGITS = re.compile(rf"\d(?:{_APART}\d){{4,}}")  # \d: Persian digits, too
# Looked for from each group of digits on, since one number may follow another.
_CARD = re.compile(rf"(?<!\d)(?=(\d(?:{_APART}\d){{15}})(?!\d))")
_ESCAPED = re.compile(r"\\u00(3[0-9])")  # a digit as JSON may have it
# From the beginning of a word on: from each place of it, a long one would take for ever.
_ENCODED = re.compile(
    r"(?<![A-Za-z0-9+/_=-])(?=[A-Za-z+/_=-]*[0-9])(?=[0-9+/_=-]*[A-Za-z])[A-Za-z0-9+/_=-]{12,}"
)


def ascii_digits(text: str) -> str:
    """The same text with the digits of every script as 0 to 9."""
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def mask_digits(text: str) -> str:
    """Mask whatever could be a card number or a PIN inside somebody else's text (a gateway's message)."""
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return _DIGITS.sub(MASKED, _ENCODED.sub(MASKED, text))


def mask_cards(text: str) -> str:
    """Mask the card numbers of known banks in a text that is kept, however their digits are set apart.

    Other numbers stay: a tracking number must not be lost because it is long.
    """
    for found in tuple(_CARD.finditer(text)):
        digits = "".join(c for c in ascii_digits(found[1]) if c in "0123456789")
        if digits[:6] in BANKS and luhn(digits):
            text = text.replace(found[1], mask_pan(digits))
    return text


def holds_card(text: str) -> bool:
    """Whether a card number of a known bank stands in a text, however it is written."""
    return mask_cards(text) != text


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004 - the digits of 10 to 18 add up to it less 9
    return total % 10 == 0


class Msisdn(str):
    """An Iranian mobile number as the gateway wants it: `+989123456789`.

    `parse` takes the forms in which trunks, dialplans and thumbs deliver one; None if it is no Iranian
    mobile (a landline, a withheld or foreign number, garbage). The national number is only asked to
    begin with 9: number-range tables lag behind the operators, and a caller must not be turned
    away because his range is new.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Msisdn | None:
        """`09…`, `9…`, `989…`, `+989…`, `00989…`, and the trunk forms `2109…`, `21098…`, `0000989…`."""
        compact = re.sub(r"[\s\-().]", "", text)
        found = re.fullmatch(r"(?:\+98|00(?:00)?98|(?:0?21)?(?:0?98)?)0?(9[0-9]{9})", compact, re.ASCII)
        return cls(f"+98{found[1]}") if found else None


def name_caller(caller_id: str) -> str:
    """One name for one caller, in whatever form a trunk gives his number; '' where it is withheld."""
    compact = "".join(c for c in caller_id if c.isalnum() or c in "+*#@.")[:40]
    if national := re.fullmatch(r"(?:\+98|0098|98|0)?([1-9][0-9]{9})", compact, re.ASCII):
        compact = f"+98{national[1]}"
    enough = sum(c.isdigit() for c in compact) >= 3  # noqa: PLR2004 - "unknown", "anonymous", "0" name nobody
    return Msisdn.parse(caller_id) or (mask_cards(compact.lower()) if enough else "")


def mask_caller(name: str) -> str:
    """A caller's number (name_caller's) for those who need not know it: `+98912***6789`; '' for ''."""
    ends = 4 if len(name) > 10 else 2  # noqa: PLR2004 - of a short number less is shown
    return f"{name[: ends + 2]}***{name[-ends:]}" if name else ""


class Language(StrEnum):
    """A language of the prompts, named as Asterisk names it, but for PERSIAN_CODE."""

    FA = "fa"
    EN = "en"


class Method(StrEnum):
    """How the payer's details arrive: gateway-api.md §2.1 (the phone) or §2.2 (the merchant's panel)."""

    IVR = "ivr"
    WEB = "web"


class Verdict(StrEnum):
    """What became of one `pay` request (gateway-api.md, "what the document leaves open")."""

    PAID = "paid"
    DECLINED = "declined"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PayAnswer:
    """The verdict on one `pay`, with what came along.

    ref_id: the tracking number, when paid. code: the bank's code, when declined, without leading
    zeros; empty if none came. detail: a short note for the journal, free of secrets.
    """

    verdict: Verdict
    ref_id: str = ""
    code: str = ""
    detail: str = ""


class OtpVerdict(StrEnum):
    """What became of one `otp-v2` request: no money hangs on it, an SMS does."""

    SENT = "sent"
    REFUSED = "refused"  # the gateway said no
    FAILED = "failed"  # not one byte left: certainly no SMS
    UNCLEAR = "unclear"  # an SMS may be on its way


@dataclass(frozen=True, slots=True)
class OtpAnswer:
    """The verdict on one `otp-v2`, and a note for the journal, free of secrets."""

    verdict: OtpVerdict
    detail: str = ""


class PayStatus(StrEnum):
    """PAYSTATUS, as the dialplan branches on it (product.md)."""

    PAID = "PAID"
    DECLINED = "DECLINED"
    UNKNOWN = "UNKNOWN"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    NOINPUT = "NOINPUT"
    HANGUP = "HANGUP"
    REFUSED = "REFUSED"
    OPERATOR = "OPERATOR"


class Hangup(Exception):  # noqa: N818 - an end, not an error
    """The caller has gone, or the line to Asterisk has."""


# Bank identification numbers of the Iranian network (Shetab), as of November 2026.
BANKS: Final[dict[str, str]] = {
    "603799": "Melli", "170019": "Melli",
    "589210": "Sepah", "627381": "Sepah (Ansar)", "636949": "Sepah (Hekmat)",
    "639370": "Sepah (Mehr Eghtesad)", "639599": "Sepah (Ghavamin)", "505801": "Sepah (Kosar)",
    "603769": "Saderat",
    "603770": "Keshavarzi", "639217": "Keshavarzi",
    "610433": "Mellat", "991975": "Mellat",
    "627353": "Tejarat", "585983": "Tejarat",
    "589463": "Refah",
    "628023": "Maskan",
    "627760": "Post Bank",
    "627648": "Tosee Saderat", "207177": "Tosee Saderat",
    "627961": "Sanat va Madan",
    "502908": "Tosee Taavon",
    "627412": "Eghtesad Novin",
    "622106": "Parsian", "639194": "Parsian", "627884": "Parsian",
    "502229": "Pasargad", "639347": "Pasargad",
    "627488": "Karafarin", "502910": "Karafarin",
    "621986": "Saman",
    "639346": "Sina",
    "639607": "Sarmayeh",
    "636214": "Ayandeh",
    "502806": "Shahr", "504706": "Shahr",
    "502938": "Day",
    "505785": "Iran Zamin",
    "505416": "Gardeshgari",
    "606373": "Mehr Iran",
    "504172": "Resalat",
    "606256": "Melal",
    "628157": "Tosee",
    "507677": "Noor",
    "505809": "Khavarmianeh", "585947": "Khavarmianeh",
    "581874": "Iran-Venezuela",
    "636795": "Central Bank",
}  # fmt: skip
