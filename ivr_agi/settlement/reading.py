"""Read a settlement list: a CSV file as banks, payment companies and spreadsheets write it.

Every line becomes `Settled` or, where anything in it cannot be read for certain, `Unreadable` with the
reason; titles above the headings, repeated headings and totals are `passed_over`, by number. Nothing is
skipped in silence and nothing is guessed. A card number is a mask as soon as its cell is read: no value,
message or error of this module holds a whole one.
"""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ivr_agi.settlement.cells import Standing, Unclear, read_amount, read_card, read_name, read_standing
from ivr_agi.settlement.dates import NoDate, read_moment
from ivr_agi.settlement.headings import (
    Columns,
    UnreadableList,
    candidates,
    check_mapping,
    columns,
    listed,
    missing,
)
from ivr_agi.settlement.letters import key, shown
from ivr_agi.settlement.notes import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

__all__ = ["Line", "Listing", "Settled", "Standing", "Unreadable", "UnreadableList", "read"]

DELIMITERS: Final = (",", ";", "\t")
SEARCHED: Final = 60  # rows within which the headings stand
TOTALS: Final = frozenset(map(key, ("جمع", "جمع کل", "مجموع", "مجموع کل", "total", "grand total", "sum")))
_SPREADSHEET: Final = Note(
    "spreadsheet", "this is a spreadsheet, no CSV file; open it and save it as CSV (UTF-8)"
)
_PDF: Final = Note("pdf", "this is a PDF, no CSV file; open it and save it as CSV (UTF-8)")
_WEB_PAGE: Final = Note("web_page", "this is a web page, no CSV file; open it and save it as CSV (UTF-8)")
_NO_TEXT: Final = {b"PK\x03\x04": _SPREADSHEET, b"\xd0\xcf\x11\xe0": _SPREADSHEET, b"%PDF": _PDF}
_LETTERS: Final = 4  # Persian letters in a row of bytes that are no accident


@dataclass(frozen=True, slots=True)
class Settled:
    """One line of the list. amount in rials; card a mask of 16 characters; what the list lacks is empty.

    at: Tehran's time; midnight where the list has a date alone. status: the list's own words.
    """

    line: int
    order_id: str
    amount: int
    ref_id: str = ""
    card: str = ""
    at: datetime | None = None
    status: str = ""
    standing: Standing = Standing.PAID


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that cannot be read for certain, and why. order_id, ref_id: what could be read of them.

    notes: the reasons one by one.
    """

    line: int
    reason: str
    order_id: str = ""
    ref_id: str = ""
    notes: tuple[Note, ...] = ()


Line = Settled | Unreadable


@dataclass(frozen=True, slots=True)
class Listing:
    """A whole list. headings: kind of column -> the heading under which it was found.

    passed_over: numbers of lines that are no payments: titles, headings, totals. Blank lines are not counted.
    """

    lines: tuple[Line, ...]
    headings: Mapping[str, str]
    passed_over: tuple[int, ...]
    encoding: str


def read(
    content: bytes,
    *,
    mapping: Mapping[str, str] | None = None,
    toman: bool = False,
    paid_status: Iterable[str] = (),
) -> Listing:
    """Read the bytes of a CSV file. Raises UnreadableList.

    mapping: kind of column (order, amount, ref, card, date, status) -> its heading, where it is not a usual
    one; an empty heading for a column that is not to be used. toman: amounts are in toman, not rial.
    paid_status: the status texts that mean paid, in place of the usual ones.
    """
    given = dict(mapping or {})
    check_mapping(given)
    text, encoding = _decode(content)
    delimiter, place, found = _find_headings(text, given)
    paid = frozenset(map(key, paid_status))
    lines: list[Line] = []
    passed_over: list[int] = []
    heading: list[str] = []
    for number, (line, row) in enumerate(_rows(text, delimiter)):
        if number < place:
            passed_over.append(line)
        elif number == place:
            heading = row
            wanted = columns(row, found, toman=toman)
            passed_over.append(line)
        elif row == heading or _is_total(row, wanted):
            passed_over.append(line)
        else:
            lines.append(_read_line(line, row, wanted, toman=toman, paid_status=paid))
    return Listing(tuple(lines), wanted.headings, tuple(passed_over), encoding)


# -- bytes to rows ----------------------------------------------------------------------------------


def _decode(content: bytes) -> tuple[str, str]:
    for magic, what in _NO_TEXT.items():
        if content.startswith(magic):
            raise UnreadableList(what)
    encoding = _encoding(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        damaged = content.count(b"\n", 0, error.start) + 1
    else:
        if text.lstrip()[:1] == "<":
            raise UnreadableList(_WEB_PAGE)
        return text, encoding
    # Outside of `except`: the decoder's error holds the whole file.
    note = "line {line} is not {encoding}: the file is damaged; export it again"
    raise UnreadableList(Note("damaged", note, line=damaged, encoding=encoding.upper()))


def _encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    head = content[:4096]
    if b"\0" in head:  # digits and separators in UTF-16 have a zero byte each
        return "utf-16-be" if head[::2].count(0) > head[1::2].count(0) else "utf-16-le"
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        valid = content[: error.start].decode("utf-8-sig", "ignore")
    else:
        return "utf-8-sig"
    # Windows-1256 is never refused by its decoder: a UTF-8 file with one damaged byte must not become it.
    persian = sum("\u0600" <= letter <= "\u06ff" for letter in valid)
    return "utf-8-sig" if persian >= _LETTERS else "windows-1256"


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line. Raises UnreadableList."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error:
            row = None
            damaged = True
        else:
            damaged = False
        if damaged:
            note = "line {line}: a quotation mark is opened and not closed as CSV wants it; mend the line"
            raise UnreadableList(Note("quotation_mark", note, line=line))
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield line, row


def _find_headings(text: str, given: Mapping[str, str]) -> tuple[str, int, dict[str, list[int]]]:
    """Find the delimiter, the headings' row (counted without blank ones), and what stands in it."""
    best: tuple[tuple[int, int], list[str], list[str]] = ((-1, -1), [], ["amount", "order or ref"])
    whole: list[tuple[int, str, int, dict[str, list[int]]]] = []
    for delimiter in DELIMITERS:
        for place, row in enumerate(_head(text, delimiter)):
            found = candidates(row, given)
            lacking = missing(found, given)
            if not lacking:
                whole.append((len(found), delimiter, place, found))
                break
            rank = (len(found), sum(bool(cell.strip()) for cell in row))
            if rank > best[0]:
                best = (rank, row, lacking)
    if whole:
        _, delimiter, place, found = max(whole, key=lambda one: one[0])
        return delimiter, place, found
    _, row, lacking = best
    if not row:
        raise UnreadableList(Note("empty", "the file is empty"))
    raise UnreadableList(
        Note(
            "no_heading",
            "no heading for: {kinds}. Headings found: {headings}. Say which is which: {examples}",
            kinds=", ".join(lacking),
            headings=listed(row),
            examples="; ".join(f"--column {kind.split(' or ')[0]}=HEADING" for kind in lacking),
        )
    )


def _head(text: str, delimiter: str) -> list[list[str]]:
    """The first rows, as far as they can be read with this delimiter."""
    rows: list[list[str]] = []
    try:
        rows.extend(row for _, row in itertools.islice(_rows(text, delimiter), SEARCHED))
    except UnreadableList:
        return rows  # what is wrong shows when the rest is read
    return rows


# -- rows to lines ----------------------------------------------------------------------------------


def _is_total(row: Sequence[str], wanted: Columns) -> bool:
    """Whether a row is a total: it says so, and names no order, tracking number or date."""
    names = [wanted.cell(row, kind) for kind in ("order", "ref", "date")]
    # Names first: nearly every row has one, and then no other cell is looked at.
    return all(key(name) in TOTALS | {""} for name in names) and any(key(cell) in TOTALS for cell in row)


def _read_line(
    line: int, row: list[str], wanted: Columns, *, toman: bool, paid_status: frozenset[str]
) -> Line:
    reasons: list[Note] = []
    names = {"order": "", "ref": ""}
    for kind in names:
        try:
            names[kind] = read_name(wanted.cell(row, kind))
        except Unclear as why:
            reasons.append(why.note)
    if not any(names.values()) and not reasons:
        reasons.append(Note("no_name", "neither an order id nor a tracking number"))
    if any(cell.strip() for cell in row[wanted.width :]):
        reasons.append(Note("more_cells", "more cells than headings: a separator that is not quoted?"))
    amount, card, at, status, standing = 0, "", None, wanted.cell(row, "status"), Standing.PAID
    try:
        if "status" in wanted.places:
            standing = _standing(status, paid_status)
        card = read_card(wanted.cell(row, "card"))
        amount = read_amount(wanted.cell(row, "amount"), toman=toman)
        if amount == 0 and standing is Standing.PAID:
            reasons.append(Note("zero", "paid, but the amount is zero"))
        if "date" in wanted.places:
            at = read_moment(wanted.cell(row, "date"))
    except (Unclear, NoDate) as why:
        reasons.append(why.note)
    if reasons:
        return Unreadable(line, "; ".join(reasons), names["order"], names["ref"], tuple(reasons))
    return Settled(line, names["order"], amount, names["ref"], card, at, shown(status), standing)


def _standing(status: str, paid_status: frozenset[str]) -> Standing:
    try:
        return read_standing(status, paid_status)
    except Unclear as why:
        raise Unclear(Note(why.note.key, f"{why} (here «{{status}}»)", status=shown(status))) from None
