"""Who calls in a preview: what each of them keys, prompt by prompt, and what becomes of his call.

Data only. A card is one of the gateway simulator's, or one of them mistyped: tones in a sound file can
be turned back into the number by anybody who has the file, so no other card must ever come in here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ivr_agi.simulator.gateway import CARDS, sample_card

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBERS: Final = "numbers"  # in a caller's answers: any clip of a number
PAYS: Final = sample_card("paid")
_WRONG: Final = PAYS[:-1] + str((int(PAYS[-1]) + 1) % 10)  # no card at all: its check digit is another

Answers = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls. en, fa: what becomes of his call.

    answers: prompt -> keys, a text for each time it is asked, the last one for all times after; `{pin}` is
    the one-time PIN sent last, `{amount}` and `{choice}` the amount and the key of the language.
    cuts: prompt -> milliseconds of it after which he keys, where he does not wait for its end.
    query: what the dialplan asks for beside the amount. quicker: settings that shorten a wait, no more.
    """

    name: str
    en: str
    fa: str
    answers: Mapping[str, tuple[str, ...]] = field(repr=False)
    cuts: Mapping[str, int] = field(default_factory=dict)
    query: str = ""
    knows_amount: bool = True  # the dialplan gives it
    caller_id: str = "09123456789"
    quicker: Mapping[str, float] = field(default_factory=dict)


_READY: Final[Answers] = {
    "choose-language": ("{choice}",),
    "enter-amount": ("{amount}#",),
    "confirm-amount": ("1",),
    "enter-mobile": ("09123456789",),
    "enter-card": (PAYS,),
    "enter-pin": ("{pin}#",),
    "otp-failed": ("1",),
}


# To hear what comes after a time limit nobody has to wait for the whole of it.
_QUICKER: Final[Mapping[str, Mapping[str, float]]] = {"late": {"pay_timeout": 1.0}}

_CALLERS: Final = (
    Caller("paid", "paid", "پرداخت موفق", _READY),
    # A card that is turned down is followed by one that pays, wherever another may be keyed.
    *(
        Caller(
            card.name, card.en, card.fa,
            _READY | {"enter-card": (card.number, PAYS)}, quicker=_QUICKER.get(card.name, {}),
        )
        for card in CARDS
        if card.number != PAYS
    ),
    Caller(
        "unknown", "may have been charged: the connection is reset", "شاید برداشت شده باشد: اتصال قطع شد",
        _READY | {"enter-card": (sample_card("reset-paid"),)},
    ),
    Caller(
        "cancelled", "cancelled at the amount", "انصراف پس از شنیدن مبلغ",
        _READY | {"confirm-amount": ("2",)},
    ),
    Caller(
        "operator", "asked for a person", "درخواست گفت‌وگو با همکار فروشگاه",
        _READY | {"confirm-amount": ("0",)},
    ),
    Caller("no-input", "keyed nothing", "بدون وارد کردن هیچ کلیدی", _READY | {"confirm-amount": ("",)}),
    Caller(
        "invalid-card", "a wrong digit in the card's number, then paid",
        "یک رقم اشتباه در شماره کارت، سپس پرداخت موفق",
        _READY | {"enter-card": (_WRONG, PAYS)},
    ),
    Caller(
        "too-many-cards", "declined with 51, card after card", "موجودی ناکافی، کارت پس از کارت",
        _READY | {"enter-card": (sample_card("51"),)},
    ),
    Caller(
        "new-pin", "another one-time PIN asked for, then paid", "درخواست رمز پویای تازه، سپس پرداخت موفق",
        _READY | {"enter-pin": ("*#", "{pin}#")},
    ),
    Caller(
        "repeat", "paid, the tracking number heard twice", "پرداخت موفق، شنیدن دوباره شماره پیگیری",
        _READY | {"repeat-reference": ("1", "")},
    ),
    Caller(
        "impatient", "paid, without hearing anything out", "پرداخت موفق، بدون شنیدن پیام‌ها تا پایان",
        _READY | {NUMBERS: ("1", "")}, cuts={NUMBERS: 250, "enter-card": 900, "enter-pin": 1200},
    ),
    Caller(
        "every-question", "language, amount and mobile asked, too; paid",
        "پرسش زبان، مبلغ و شماره همراه؛ پرداخت موفق",
        _READY, query="&language=ask", knows_amount=False, caller_id="",
    ),
)  # fmt: skip

CALLERS: Final = {caller.name: caller for caller in _CALLERS}
