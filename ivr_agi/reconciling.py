"""A settlement list against the journal: which attempts lie beside it, how the certain ones are resolved.

Shared by the command and the panel. Matching itself is `settlement`'s, which knows no journal.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ivr_agi.journal import AttemptState, IllegalStep, JournalError, Resolution
from ivr_agi.settlement import report
from ivr_agi.settlement.dates import day_of, utc_text
from ivr_agi.settlement.matching import period_of, touching
from ivr_agi.settlement.notes import Note
from ivr_agi.settlement.reading import Settled, UnreadableList

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from ivr_agi.journal import Journal
    from ivr_agi.settlement.matching import Attempt, Entry, Period
    from ivr_agi.settlement.reading import Listing

# How far before the list's first day an attempt may be that a line names: settlement takes its time.
LOOK_BACK: Final = timedelta(days=35)


def covered(listing: Listing, first: date | None, last: date | None) -> Period:
    """The days that a list covers: as given, else from its dates. Raises UnreadableList."""
    period = period_of(listing.lines, first, last)
    if period is None:
        note = (
            "the list has no dates: say with --from and --to which days it covers, or with"
            " --column date=HEADING where they are"
        )
        raise UnreadableList(Note("no_period", note))
    if period.last < period.first:
        note = "the period ends before it begins: {first} to {last}"
        raise UnreadableList(Note("period_ends_first", note, first=period.first, last=period.last))
    return period


def attempts(journal: Journal, listing: Listing, period: Period) -> Iterator[Attempt]:
    """Attempts of the period; of other times those that a line names, or that are unknown. Each once.

    Raises JournalError.
    """
    named = touching(listing.lines)
    own = period_of(listing.lines) or period  # the list may reach beyond the days that were asked for
    since = min(period.earliest, own.earliest) - LOOK_BACK
    until = max(period.latest, own.latest) + timedelta(days=1)
    seen: set[int] = set()
    for attempt in journal.each(utc_text(since), utc_text(until)):
        if period.holds(day_of(attempt["created_at"])) or named(attempt):
            seen.add(attempt["id"])
            yield attempt
    for attempt in journal.attempts(state=AttemptState.UNKNOWN):
        if attempt["id"] not in seen:
            yield attempt


def apply(journal: Journal, certain: Iterable[Entry], by: str, file_name: str) -> report.Applied:
    """Resolve as paid what is certain, one by one: each stands, whatever becomes of the next."""
    resolved: set[int] = set()
    trouble: dict[int, Note] = {}
    for entry in certain:
        (attempt,) = entry.attempts
        (line,) = entry.lines
        attempt_id = attempt["id"]
        if not isinstance(line, Settled):  # a certain one has a line that was read
            continue
        try:
            # A late answer may have settled it since it was read.
            now = journal.attempt(attempt_id)
            if now is None or now[0]["state"] != AttemptState.UNKNOWN:
                note = "not resolved: it is no longer unknown; run this again"
                trouble[attempt_id] = Note("no_longer_unknown", note)
                continue
            holds = journal.resolve(
                attempt_id,
                Resolution.PAID,
                by=by,
                evidence=report.evidence(file_name, line),
                ref_id=line.ref_id,
            )
        except IllegalStep as error:
            trouble[attempt_id] = Note("not_resolved", "not resolved: {why}", why=str(error))
            continue
        except JournalError as error:
            note = "not known to be resolved, and nothing after it was tried: {why}"
            trouble[attempt_id] = Note("not_known", note, why=str(error))
            break
        resolved.add(attempt_id)
        if not holds:
            note = "resolved as paid; another attempt holds the order: paid twice?"
            trouble[attempt_id] = Note("resolved_twice", note)
    return report.Applied(by, frozenset(resolved), trouble)
