"""Payments as a workbook for Excel, written row by row, so that nobody on the line waits for it.

Text is written as text and nothing else: no order id becomes a formula or a link. What was written lies in a
folder of its own until the workbook is whole, and is not kept in memory.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

import xlsxwriter  # type: ignore[import-untyped]

from ivr_agi.panel import states
from ivr_agi.panel.showing import DIRECTION, say
from ivr_agi.settlement.dates import jalali, tehran

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# heading, of words/payments.toml -> width in characters
COLUMNS: Final = {
    "number": 10, "day_jalali": 13, "day_gregorian": 13, "time": 10, "order": 24, "amount_rials": 16,
    "state": 24, "ref_id": 20, "card_mask": 20, "mobile": 16, "method": 14, "code": 10, "reason": 44,
    "review": 30, "resolved_by": 18, "evidence": 44, "call": 20,
}  # fmt: skip
OPTIONS: Final = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


class Sheet:
    """A workbook of one sheet; `close` writes the file."""

    def __init__(self, folder: Path, language: str) -> None:
        """folder: for the file and what it is made of. language: of the page."""
        self.file = folder / "payments.xlsx"
        self._language = language
        self._book = xlsxwriter.Workbook(str(self.file), OPTIONS | {"tmpdir": str(folder)})
        self._sheet = self._book.add_worksheet(say("payments.sheet", language))
        self._day = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self._time = self._book.add_format({"num_format": "hh:mm:ss"})
        self._money = self._book.add_format({"num_format": "#,##0"})
        heading = self._book.add_format({"bold": True})
        if DIRECTION[language] == "rtl":
            self._sheet.right_to_left()
        self._sheet.freeze_panes(1, 0)
        for column, (name, width) in enumerate(COLUMNS.items()):
            self._sheet.set_column(column, column, width)
            self._sheet.write_string(0, column, say(f"payments.{name}", language), heading)
        self._next = 1

    def add(self, row: Mapping[str, Any]) -> Self:
        """Add an attempt, a dictionary of the table's columns."""
        at = datetime.fromisoformat(row["created_at"]).astimezone(tehran())
        sheet, place, language = self._sheet, self._next, self._language
        sheet.write_number(place, 0, row["id"])
        sheet.write_string(place, 1, jalali(at.date()))
        sheet.write_datetime(place, 2, at.date(), self._day)
        sheet.write_datetime(place, 3, at.time().replace(microsecond=0), self._time)
        sheet.write_string(place, 4, row["order_id"])
        sheet.write_number(place, 5, row["amount"], self._money)
        texts = (
            states.badge(row, language).text,
            row["ref_id"],
            row["card"],
            row["mobile"],
            states.method(row["method"], language),
            row["code"],
            states.bank_says(row["code"], language) or states.reason(row["reason"], language),
            states.review(row["review"], language),
            row["resolved_by"],
            row["evidence"],
            row["call"],
        )
        for column, text in enumerate(texts, 6):
            if text:
                sheet.write_string(place, column, text)
        self._next += 1
        return self

    def close(self) -> bytes:
        """Put the file together: for a thread. Returns what is in it."""
        self._book.close()
        return self.file.read_bytes()
