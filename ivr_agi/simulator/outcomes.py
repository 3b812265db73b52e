"""What the gateway's stand-in can be told to do, and the table of cards that tell it.

Data only. The codes and messages are PayStar's (gateway-api.md §3), written down here a second time on
purpose: the stand-in must never read them from the client's table, or a slip there would go unseen.
"""

from __future__ import annotations

import asyncio  # noqa: TC003 - part of a dataclass that tests read by its annotations
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

PAY: Final = "pay"
OTP: Final = "otp-v2"

# code: (PayStar's message, what it means)
CODES: Final[dict[str, tuple[str, str]]] = {
    "3": ("پذیرنده کارت نامعتبر است", "merchant invalid"),
    "5": ("تراکنش نامعتبر است", "transaction invalid"),
    "13": ("مبلغ نامعتبر است", "amount invalid"),
    "14": ("کارت نامعتبر است", "card invalid"),
    "20": ("پاسخ نامعتبر است", "invalid response"),
    "21": ("تراکنش نامعتبر است", "transaction invalid"),
    "42": ("حساب کارت نامعتبر است", "account of the card invalid"),
    "51": ("موجودی کافی نیست", "insufficient funds"),
    "54": ("تاریخ انقضا کارت گذشته است", "card expired"),
    "55": ("رمز نادرست است", "wrong PIN, whatever is keyed"),
    "57": ("دارنده کارت مجاز به انجام تراکنش نیست", "holder not permitted"),
    "61": ("سقف تراکنش تکمیل شده است", "limit reached"),
    "62": ("کارت محدود شده است", "card restricted"),
    "63": ("پایانه نامعتبر است", "terminal invalid"),
    "75": ("تعداد دفعات وارد کردن رمز بیش از حد مجاز است", "too many PIN tries"),
    "78": ("کارت غیرفعال است", "card inactive"),
    "80": ("خطای سیستمی رخ داده است", "system error"),
    "90": ("عملیات پایان روز کاری در حال انجام است", "end-of-day running"),
    "91": ("صادر کننده در وضعیت عملیاتی نمی باشد", "issuer not in operation"),
    "94": ("تراکنش تکراری است", "duplicate transaction"),
}


class Fault(StrEnum):
    """How an answer goes wrong on the wire."""

    CLOSE_ON_ACCEPT = "close-on-accept"  # the connection is closed before a byte is read
    RESET_ON_ACCEPT = "reset-on-accept"  # the same, with a TCP reset
    RESET_AFTER_READ = "reset-after-read"
    CLOSE_AFTER_READ = "close-after-read"  # no answer at all
    SILENCE = "silence"  # no answer, and the connection stays open until the client gives up
    CUT_HEADERS = "cut-headers"
    CUT_BODY = "cut-body"  # Content-Length promises more than is sent
    DRIP = "drip"  # the whole answer, a byte at a time
    REDIRECT = "redirect"  # 307 to the same address: whoever follows it asks twice

    @property
    def on_accept(self) -> bool:
        """Whether it strikes before anything is read, when nobody knows what is being asked."""
        return self in {Fault.CLOSE_ON_ACCEPT, Fault.RESET_ON_ACCEPT}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one request. The default: done and answered as documented.

    code: declined with this `transactionStatus`; for `otp-v2`, refused. delay: seconds before the answer,
    with `drip` before each byte. wait: no answer before this event is set. status, body, content_type: an
    answer of one's own, byte for byte. charge: it is done (`pay` charged, `otp-v2`'s SMS sent) although a
    fault or an own answer hides it; without this, a fault or an own answer leaves it undone.
    """

    code: str = ""
    delay: float = 0.0
    status: int = 200
    body: bytes | None = None
    content_type: str = "application/json"
    fault: Fault | None = None
    charge: bool = False
    wait: asyncio.Event | None = None

    def __post_init__(self) -> None:
        if self.code and self.charge:
            raise ValueError("declined and charged: no gateway says both")
        if self.fault is not None:
            object.__setattr__(self, "fault", Fault(self.fault))

    @property
    def hides(self) -> bool:
        """Whether the documented answer does not reach the client whole."""
        return self.body is not None or self.fault not in {None, Fault.DRIP}


@dataclass(slots=True)
class Rule:
    """An outcome for the requests that match: service (`"pay"`, `"otp-v2"`), order, card. None matches all.

    times: for so many requests, then the rule is gone; None: for ever.
    """

    outcome: Outcome
    service: str | None = None
    order_id: str | None = None
    pan: str | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        if self.service not in {None, PAY, OTP}:
            raise ValueError(f"service: {PAY} or {OTP}")
        if self.times is not None and self.times < 1:
            raise ValueError("times: 1 or more")
        if self._on_accept and (self.service or self.order_id or self.pan):
            raise ValueError(
                "a fault on accept strikes before the request is known: no service, order_id or pan"
            )

    @property
    def _on_accept(self) -> bool:
        return self.outcome.fault is not None and self.outcome.fault.on_accept

    def matches(self, service: str, order_id: str, pan: str) -> bool:
        """Whether a request that has been read is one of this rule's."""
        wanted = ((self.service, service), (self.order_id, order_id), (self.pan, pan))
        return not self._on_accept and all(mine in {None, theirs} for mine, theirs in wanted)

    def matches_accept(self) -> bool:
        """Whether this rule strikes a connection that has just been accepted."""
        return self._on_accept


@dataclass(frozen=True, slots=True)
class Card:
    """A card to try. `number[11:15]`, the four digits before the check digit, chooses the outcome."""

    name: str
    number: str = field(repr=False)
    en: str
    fa: str


@dataclass(frozen=True, slots=True)
class _Ending:
    name: str
    ending: str
    service: str
    outcome: Outcome
    en: str
    fa: str


_PAID: Final = _Ending(
    "paid", "1234", PAY, Outcome(),
    "paid, like every card not listed", "پرداخت موفق، مثل هر کارت دیگر",
)  # fmt: skip
_HTML: Final = (
    b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
)
_NO_REF: Final = json.dumps({"status": 1, "data": {}, "errors": []}).encode()

_FAULTS: Final = (
    _Ending("slow", "9001", PAY, Outcome(delay=4.0), "paid after 4 seconds", "پرداخت موفق پس از ۴ ثانیه"),
    _Ending(
        "reset", "9002", PAY, Outcome(fault=Fault.RESET_AFTER_READ),
        "connection reset, not charged", "قطع ناگهانی اتصال، بدون برداشت",
    ),
    _Ending(
        "no-answer", "9003", PAY, Outcome(fault=Fault.CLOSE_AFTER_READ),
        "connection closed without an answer, not charged", "پایان اتصال بدون پاسخ، بدون برداشت",
    ),
    _Ending(
        "cut", "9004", PAY, Outcome(fault=Fault.CUT_BODY, charge=True),
        "charged, the answer is cut", "برداشت شد، پاسخ ناقص رسید",
    ),
    _Ending(
        "html", "9005", PAY, Outcome(status=502, body=_HTML, content_type="text/html"),
        "HTTP 502 with an HTML page, not charged", "خطای ۵۰۲ با صفحه HTML، بدون برداشت",
    ),
    _Ending(
        "late", "9006", PAY, Outcome(fault=Fault.SILENCE, charge=True),
        "charged, the answer never comes", "برداشت شد، پاسخ هرگز نرسید",
    ),
    _Ending(
        "no-ref", "9007", PAY, Outcome(body=_NO_REF, charge=True),
        "charged, status 1 without refID", "برداشت شد، بدون شناسه پیگیری",
    ),
    _Ending(
        "odd-code", "9008", PAY, Outcome(code="99"),
        "declined with an unknown code, 99", "کد خطای ناشناخته ۹۹",
    ),
    _Ending(
        "no-otp", "9009", OTP, Outcome(code="78"),
        "no PIN is sent: otp-v2 refuses", "رمز پویا فرستاده نمی‌شود",
    ),
    _Ending(
        "reset-paid", "9010", PAY, Outcome(fault=Fault.RESET_AFTER_READ, charge=True),
        "charged, connection reset", "برداشت شد، قطع ناگهانی اتصال",
    ),
    _Ending(
        "redirect", "9011", PAY, Outcome(fault=Fault.REDIRECT),
        "redirected, not charged", "هدایت به نشانی دیگر، بدون برداشت",
    ),
    _Ending(
        "drip", "9012", PAY, Outcome(fault=Fault.DRIP),
        "paid, the answer comes a byte at a time", "پرداخت موفق، پاسخ ذره‌ذره",
    ),
    _Ending(
        "otp-lost", "9013", OTP, Outcome(fault=Fault.CLOSE_AFTER_READ, charge=True),
        "the PIN is sent, otp-v2's answer is lost", "رمز پویا فرستاده شد، پاسخ گم شد",
    ),
)  # fmt: skip

_DECLINES: Final = tuple(
    _Ending(code, f"{int(code):04}", PAY, Outcome(code=code), f"declined with {code}: {en}", message)
    for code, (message, en) in CODES.items()
)

_BY_NAME: Final = {entry.name: entry for entry in (_PAID, *_DECLINES, *_FAULTS)}
_BY_ENDING: Final = {(entry.service, entry.ending): entry.outcome for entry in (*_DECLINES, *_FAULTS)}


def outcome_of_card(service: str, pan: str) -> Outcome:
    """Return what the card's own number chooses for this service."""
    return _BY_ENDING.get((service, pan[11:15]), Outcome())


def sample_card(code_or_name: str, bank: str = "603799") -> str:
    """Return a valid card number (Luhn) of this bank for an outcome: a code (`"51"`) or a name of `CARDS`."""
    body = f"{bank}12345{_BY_NAME[code_or_name].ending}"
    return body + _check_digit(body)


def _check_digit(body: str) -> str:
    # ISO/IEC 7812-1: from the right, every other digit is doubled, beginning beside the check digit
    doubled = "".join(str(2 * int(digit)) for digit in body[::-2])
    plain = body[-2::-2]
    return str(-sum(map(int, doubled + plain)) % 10)


CARDS: Final = tuple(Card(name, sample_card(name), known.en, known.fa) for name, known in _BY_NAME.items())


def mask_card(pan: str) -> str:
    """Return a card number with its first six and last four digits; stars alone for what is none."""
    return f"{pan[:6]}******{pan[-4:]}" if re.fullmatch(r"[0-9]{16}", pan) else "***"
