"""What a person must look at, and what he may say about it: one set of rules for the commands and the panel.

Nothing here words a sentence: what is wrong, or why a payment is in doubt, is a value or a key that each side
has words for. A card number never gets into what is kept; where one was given, it is not repeated either.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.journal import AttemptState, IllegalStep, Resolution
from ivr_agi.journal.tables import OPEN
from ivr_agi.model import holds_card

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ivr_agi.journal import Journal

STUCK: Final = timedelta(minutes=15)  # `sent` for so long: its process hangs, or nobody has settled it
MOST: Final = {"ref": 64, "by": 80, "evidence": 1000}  # characters
STUCK_WHY: Final = "stuck"
HALF_SPACE: Final = "\u200c"  # no Persian is written without, and Python does not count it as printable


class Unfit(ValueError):  # noqa: N818 - an answer, not a fault
    """A field that cannot be kept: ref, by or evidence. missing: it is needed; most: characters at most."""

    def __init__(self, field: str, *, missing: bool = False) -> None:
        super().__init__(field)
        self.field = field
        self.missing = missing
        self.most = MOST[field]


class NoDoubt(IllegalStep):
    """The attempt is in no doubt, and nobody said that he knows better. row: as it is."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(
            f"attempt {row['id']} is in no doubt: it is {row['state']} {row['resolution']}".rstrip()
        )
        self.row = row


def waiting(journal: Journal, now: datetime) -> list[dict[str, Any]]:
    """What a person should look at, oldest first: rows of the journal. Raises JournalError."""
    return journal.review((now - STUCK).isoformat(timespec="milliseconds"))


def why(row: Mapping[str, Any]) -> str:
    """What is suspicious about an attempt: `stuck`, or the journal's `review`; '' for unknown alone."""
    return STUCK_WHY if row["state"] == AttemptState.SENT else str(row["review"])


def in_doubt(row: Mapping[str, Any]) -> bool:
    """Whether a verdict is wanted; of all others nobody decides by mistake."""
    return row["state"] in (AttemptState.UNKNOWN, *OPEN) or bool(row["review"])


def check(verdict: Resolution, *, ref: str, by: str, evidence: str) -> None:
    """Raise Unfit for what cannot be kept, the first one found; texts have no blanks around them."""
    if verdict is Resolution.PAID and not ref:
        raise Unfit("ref", missing=True)
    if not evidence:
        raise Unfit("evidence", missing=True)
    for field, given in (("ref", ref), ("by", by), ("evidence", evidence)):
        if not fits(field, given):
            raise Unfit(field)


def fits(field: str, given: str) -> bool:
    """Whether a text may be kept: not too long, printable, and no card number in it."""
    shown = given.replace(HALF_SPACE, "")
    return len(given) <= MOST[field] and shown.isprintable() and not holds_card(given)


def resolve(  # noqa: PLR0913 - what a verdict consists of
    journal: Journal,
    attempt_id: int,
    verdict: Resolution,
    *,
    ref: str,
    by: str,
    evidence: str,
    overrule: bool,
    seen: Mapping[str, Any] | None = None,
) -> tuple[bool, Mapping[str, Any]]:
    """Write a verdict that `check` has let pass; returns whether the order is held by it, and the row before.

    Not held although paid: somebody may have paid twice. seen: `state` and `updated_at` that he judged by;
    without it he judges by what is there now. Raises NoDoubt, IllegalStep, JournalError.
    """
    found = journal.attempt(attempt_id)
    row: Mapping[str, Any] = found[0] if found else {"state": AttemptState.UNKNOWN, "review": ""}
    if seen is not None and found and any(row[name] != value for name, value in seen.items()):
        raise IllegalStep(f"attempt {attempt_id} has become {row['state']} meanwhile; look again")
    if not (overrule or in_doubt(row)):
        raise NoDoubt(row)
    state = AttemptState(row["state"])
    return journal.resolve(attempt_id, verdict, by=by, evidence=evidence, ref_id=ref, seen=state), row
