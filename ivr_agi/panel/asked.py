"""What somebody has typed into the search form of payments: read, or said to be wrong at its field.

A whole card number is looked for by nobody: it leads to a sentence, and neither the page nor our log has it.
It has been in the address of the request by then; the page's own script (search.js) keeps it from being sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date  # noqa: TC003 - a dataclass's field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus, urlencode

from ivr_agi.journal.search import STATES, Filter
from ivr_agi.model import Method, Msisdn, ascii_digits, holds_card
from ivr_agi.panel import figures
from ivr_agi.panel.guard import without_nul
from ivr_agi.panel.showing import say
from ivr_agi.settlement.dates import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS: Final = ("order", "mobile", "ref", "last_four", "from", "to", "state", "method")
MOST: Final = {"order": 50, "ref": 64}  # characters; what is longer is in no journal
MOST_OF_OTHERS: Final = 32
MOST_DIGITS_OF_ID: Final = 15


@dataclass(frozen=True, slots=True)
class Asked:
    """given: what the fields show; errors: field -> a word of words/payments.toml.

    card: a whole card number was among it. before: the id of the attempt that the last page ended with.
    first, last: the days, both included.
    """

    given: Mapping[str, str]
    errors: Mapping[str, str]
    wanted: Filter
    first: date | None
    last: date | None
    before: int | None
    card: bool

    @property
    def address(self) -> str:
        """The query of an address that asks the same, from the first page on; '' for no filter."""
        return urlencode({name: self.given[name] for name in FIELDS if self.given[name]})

    def in_words(self, language: str) -> list[tuple[str, str]]:
        """What is asked for: each field's label, and its value."""
        found = []
        for name in FIELDS:
            if value := self.given[name]:
                if name in ("state", "method"):
                    value = say(f"states.{value if name == 'state' else f'method_{value}'}", language)
                elif day := {"from": self.first, "to": self.last}.get(name):
                    value = figures.day(day, language)
                found.append((say(f"payments.field_{name}", language), value))
        return found


def read(query: Mapping[str, str], whole: str) -> Asked:
    """Read the fields. query: the parameters; whole: the query of the address as it is, unread."""
    if holds_card(unquote_plus(whole)) or any(holds_card(value) for value in query.values()):
        return replace(_read({}), card=True)
    return _read(query)


def number(text: str) -> int | None:
    """The id of an attempt, as somebody writes it; None if it is none."""
    text = ascii_digits(text)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS_OF_ID else None


def _read(query: Mapping[str, str]) -> Asked:
    given = {
        name: without_nul(query.get(name, "")).strip()[: MOST.get(name, MOST_OF_OTHERS)] for name in FIELDS
    }
    errors: dict[str, str] = {}
    mobile = Msisdn.parse(ascii_digits(given["mobile"]))
    if given["mobile"] and mobile is None:
        errors["mobile"] = "bad_mobile"
    last_four = ascii_digits(given["last_four"])
    if last_four and not (len(last_four) == 4 and last_four.isascii() and last_four.isdecimal()):  # noqa: PLR2004
        errors["last_four"] = "bad_last_four"
    first, last = (_day(given, name, errors) for name in ("from", "to"))
    if first and last and last < first:
        errors["to"] = "bad_span"
    for name, known in (("state", STATES), ("method", tuple(Method))):
        if given[name] not in ("", *known):
            given[name] = ""  # of no form of ours
    wanted = Filter(
        order=given["order"],
        mobile=mobile or "",
        ref_id=given["ref"],
        last_four=last_four,
        first=utc_text(first) if first else "",
        last=figures.bounds(last, last)[1] if last else "",
        state=given["state"],
        method=given["method"],
    )
    return Asked(given, errors, wanted, first, last, number(query.get("before", "")), card=False)


def _day(given: Mapping[str, str], name: str, errors: dict[str, str]) -> date | None:
    if not given[name]:
        return None
    try:
        return figures.parse_day(given[name])
    except ValueError:
        errors[name] = "bad_day"
        return None
