"""Which column of a settlement list is which: by the merchant's mapping, or by usual headings.

Where two columns could be meant, neither is taken: a trace number read as a tracking number would match
nothing, or the wrong thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ivr_agi.settlement.cells import RIAL, TOMAN
from ivr_agi.settlement.letters import key, plain, shown
from ivr_agi.settlement.notes import Note, Telling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_LISTED: Final = 30  # headings in a message

USUAL: Final[dict[str, tuple[str, ...]]] = {
    "order": (
        "شماره سفارش", "کد سفارش", "شناسه سفارش", "سفارش", "شماره فاکتور", "شناسه فاکتور",
        "order", "order id", "order no", "order number", "invoice", "invoice id", "invoice number",
    ),
    "amount": (
        "مبلغ", "مبلغ تراکنش", "مبلغ پرداخت", "مبلغ پرداختی", "مبلغ واریز",
        "amount", "transaction amount", "paid amount",
    ),
    "ref": (
        "شماره پیگیری", "کد پیگیری", "شماره رهگیری", "کد رهگیری", "شماره ارجاع", "شماره مرجع", "کد مرجع",
        "ref id", "ref", "ref no", "ref num", "reference", "reference id", "reference number",
        "tracking number", "tracking no", "tracking code", "rrn",
    ),
    "card": (
        "شماره کارت", "کارت", "شماره کارت پرداخت کننده", "کارت پرداخت کننده", "چهار رقم آخر کارت",
        "card", "card number", "card no", "card mask", "masked card", "pan", "masked pan", "last four",
    ),
    "date": (
        "تاریخ", "تاریخ تراکنش", "تاریخ پرداخت", "زمان تراکنش", "زمان پرداخت", "تاریخ و زمان", "تاریخ و ساعت",
        "date", "datetime", "date and time", "date time", "transaction date", "payment date", "paid at",
    ),
    "status": (
        "وضعیت", "وضعیت تراکنش", "وضعیت پرداخت", "نتیجه", "نتیجه تراکنش",
        "status", "state", "transaction status", "payment status", "result",
    ),
}  # fmt: skip
_KINDS_BY_KEY: Final = {key(heading): kind for kind, headings in USUAL.items() for heading in headings}


class UnreadableList(Telling):
    """The file cannot be read as a settlement list; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each kind of column stands, and under which heading. width: cells of the heading's row."""

    places: Mapping[str, int]
    headings: Mapping[str, str]
    width: int

    def cell(self, row: Sequence[str], kind: str) -> str:
        """That kind's cell of a row; empty if the list has no such column, or the row ends before."""
        place = self.places.get(kind, self.width)
        return row[place] if place < min(len(row), self.width) else ""


def check_mapping(given: Mapping[str, str]) -> None:
    """Raise UnreadableList for a mapping that names no column of ours."""
    for kind in given:
        if kind not in USUAL:
            raise UnreadableList(
                Note(
                    "no_such_column",
                    "column {kind!r}: the columns are {columns}",
                    kind=shown(kind),
                    columns=", ".join(USUAL),
                )
            )


def candidates(row: Sequence[str], given: Mapping[str, str]) -> dict[str, list[int]]:
    """For each kind, the places in a row whose text may be its heading. given: kind -> heading, or empty."""
    found: dict[str, list[int]] = {}
    for kind, heading in given.items():
        if not heading.strip():
            continue  # `status=`: there is such a heading, but it is not meant
        places = [place for place, cell in enumerate(row) if key(cell) == key(heading)]
        places = places or [
            place for place, cell in enumerate(row) if _without_currency(cell) == _without_currency(heading)
        ]
        if places:
            found[kind] = places
    named = {place for places in found.values() for place in places}
    for place, cell in enumerate(row):
        usual = _KINDS_BY_KEY.get(_without_currency(cell)) or _KINDS_BY_KEY.get(key(cell))
        # What the merchant has named is that, and not what it is usually.
        if usual is not None and usual not in given and place not in named:
            found.setdefault(usual, []).append(place)
    return found


def missing(found: Mapping[str, Sequence[int]], given: Mapping[str, str]) -> list[str]:
    """Which columns a heading's row still lacks: the amount, the order or the tracking number, the given."""
    wanted = [kind for kind, heading in given.items() if heading.strip() and kind not in found]
    if "amount" not in found and "amount" not in wanted:
        wanted.append("amount")
    if not {"order", "ref"} & (found.keys() | set(wanted)):
        wanted.append("order or ref")
    return wanted


def columns(row: Sequence[str], found: Mapping[str, Sequence[int]], *, toman: bool) -> Columns:
    """Settle on the columns of the heading's row. Raises UnreadableList if two may be meant."""
    for kind, several_places in found.items():
        if len(several_places) > 1:
            several = ", ".join(f"«{shown(row[place])}»" for place in several_places)
            raise UnreadableList(
                Note(
                    "several_columns",
                    "several columns may be the {kind}: {headings}; say which by --column {kind}=HEADING",
                    kind=kind,
                    headings=several,
                )
            )
    one: dict[int, str] = {}
    for kind, (place,) in found.items():
        if place in one:
            raise UnreadableList(
                Note(
                    "column_twice",
                    "one column cannot be {kind} and {other_kind}: «{heading}»",
                    kind=one[place],
                    other_kind=kind,
                    heading=shown(row[place]),
                )
            )
        one[place] = kind
    _check_currency(row[found["amount"][0]], toman=toman)
    places = {kind: places[0] for kind, places in found.items()}
    return Columns(places, {kind: shown(row[place]) for kind, place in places.items()}, len(row))


def _check_currency(heading: str, *, toman: bool) -> None:
    if TOMAN.search(plain(heading).casefold()) and not toman:
        note = Note(
            "heading_toman", "the heading «{heading}» says toman: give --toman", heading=shown(heading)
        )
        raise UnreadableList(note)
    if RIAL.search(plain(heading).casefold()) and toman:
        note = Note(
            "heading_rial", "the heading «{heading}» says rial: leave --toman out", heading=shown(heading)
        )
        raise UnreadableList(note)


def listed(row: Sequence[str]) -> str:
    """The headings of a row, for a message."""
    headings = [f"«{shown(cell)}»" for cell in row if cell.strip()]
    more = ["…"] if len(headings) > MAX_LISTED else []
    return ", ".join(headings[:MAX_LISTED] + more)


def _without_currency(heading: str) -> str:
    text = RIAL.sub(" ", TOMAN.sub(" ", plain(heading).casefold()))
    return key(" ".join(word for word in text.replace("_", " ").split() if word not in ("به", "in")))
