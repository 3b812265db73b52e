"""Word a reconciliation for a person: plain text, at most 100 columns, to be read, printed and mailed.

Counts and sums first, then each entry that a person must look at, with the command that settles it. Names
from the list are quoted for the shell, since commands are copied. It must never show more of a card than its
mask, and never advise what is not proven.
"""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ivr_agi.settlement.dates import day_of, jalali
from ivr_agi.settlement.judging import Kind, differences
from ivr_agi.settlement.letters import printable
from ivr_agi.settlement.reading import Settled, Standing, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from ivr_agi.settlement.judging import Attempt, Entry
    from ivr_agi.settlement.matching import Period, Reconciliation
    from ivr_agi.settlement.notes import Note
    from ivr_agi.settlement.reading import Line, Listing

WIDTH: Final = 100
MAX_FILE_NAME: Final = 60  # in a piece of evidence
NAMED: Final = 20  # numbers in a row

# What an entry of each kind means, and what to do about it; only kinds that a person must look at.
ADVICE: Final[dict[Kind, str]] = {
    Kind.CONTRADICTED: (
        "Paid in the list, but declined, failed or settled as not paid here: the payer's money has moved"
        " and the order was not served. Serve it and resolve the attempt as paid, or refund the payer."
    ),
    Kind.TWICE: (
        "One order or tracking number more than once in the list, or paid more than once here. Find out"
        " whether somebody paid twice, or whether one line takes the other back. Refund what is too much."
    ),
    Kind.DIFFERENT: (
        "The same order or tracking number, but not the same payment. Ask PayStar what was paid, by the"
        " tracking number, before anything is served, refunded or resolved."
    ),
    Kind.UNKNOWN_PAID: (
        "Unknown here, paid in the list. Where it says certain, --apply --by NAME resolves it; the others"
        " are a person's to settle, once the doubt is cleared."
    ),
    Kind.PAID_MISSING: (
        "Paid here, not paid in the list. It may come in a later list; if it does not, ask PayStar by the"
        " tracking number. The payer has been told that it is paid."
    ),
    Kind.UNKNOWN_MISSING: (
        "Unknown here, not paid in the list. That is no proof that it was not paid: settlement may come"
        " later. Look again in the next list; resolve it as not paid only on the bank's word, and say in"
        " --evidence whose and when."
    ),
    Kind.PAID_ELSEWHERE: (
        "Paid in the list, no attempt of ours: another terminal, another channel, or a journal that has"
        " lost something. Find out where the payment came from."
    ),
    Kind.UNREADABLE: "Cannot be read for certain, so nothing was done with it. Look at the line in the file.",
    Kind.UNDER_WAY: "Paid in the list, still under way here: is a server stuck, or gone for good?",
}


@dataclass(frozen=True, slots=True)
class Applied:
    """What --apply has done. trouble: attempt -> why it was not resolved, or what is odd about it now."""

    by: str = ""
    resolved: frozenset[int] = frozenset()
    trouble: Mapping[int, Note] = field(default_factory=dict)


NOTHING_APPLIED: Final = Applied()


def evidence(file_name: str, line: Line) -> str:
    """What the journal keeps as the reason: `settlement.csv line 12`."""
    name = printable(file_name)
    if len(name) > MAX_FILE_NAME:
        name = f"{name[: MAX_FILE_NAME // 2]}…{name[-MAX_FILE_NAME // 2 :]}"
    return f"{name} line {line.line}"


def proof(entry: Entry, attempt: Attempt) -> Settled | None:
    """The line by which an attempt may be resolved as paid, once any doubt is cleared; None for none."""
    if entry.kind in (Kind.UNKNOWN_PAID, Kind.CONTRADICTED):
        for line in entry.lines:
            if isinstance(line, Settled) and line.standing is Standing.PAID:
                return None if differences(line, attempt) else line
    return None


def remaining(found: Reconciliation, applied: Applied = NOTHING_APPLIED) -> list[Entry]:
    """The entries that a person must still look at: all but what --apply has settled without a word."""
    done = applied.resolved - applied.trouble.keys()
    return [entry for entry in found.to_look_at if not (entry.certain and entry.attempts[0]["id"] in done)]


def summary(
    found: Reconciliation, listing: Listing, file_name: str, applied: Applied = NOTHING_APPLIED
) -> str:
    """Word the whole reconciliation; ends with a newline."""
    pen = _Pen(file_name, applied)
    parts = [_head(found, listing, file_name), _table(found)]
    left: dict[Kind, list[Entry]] = {kind: [] for kind in ADVICE}
    for entry in remaining(found, applied):
        left[entry.kind].append(entry)
    parts += [pen.section(kind, entries) for kind, entries in left.items() if entries]
    if applied.resolved:
        parts.append(pen.resolved(found))
    if not any(left.values()):
        parts.append("Nothing to look at.\n")
    return "\n".join(parts)


# -- counts -----------------------------------------------------------------------------------------


def _head(found: Reconciliation, listing: Listing, file_name: str) -> str:
    columns = ", ".join(f"{kind} «{heading}»" for kind, heading in listing.headings.items())
    unreadable = sum(isinstance(line, Unreadable) for line in listing.lines)
    lines = [
        *_wrapped(f"Reconciliation of {printable(file_name)} with the journal", "", "  "),
        "",
        *_wrapped(f"Columns: {columns} ({listing.encoding})", "", "  "),
        *_wrapped(f"Period:  {_period(found.period)}", "", "         "),
        f"Lines:   {len(listing.lines):,} in the list, {unreadable:,} of them unreadable",
        *_wrapped(_passed_over(listing), "         ", "         "),
    ]
    if found.not_covered:
        lines.append(
            f"Unknown attempts outside of the period, not covered by this list: {found.not_covered:,}"
        )
    if open_ones := [entry for entry in found.of(Kind.UNDER_WAY) if not entry.lines]:
        lines += _wrapped(f"Attempts still under way here: {_attempts(open_ones)}", "", "  ")
    if at_edge := found.of(Kind.AT_EDGE):
        lines += _wrapped(
            f"Attempts of an edge day, and not in this list: {_attempts(at_edge)}. The list before or after"
            " should have them; with --from and --to it is said which days this one covers",
            "",
            "  ",
        )
    return "\n".join(lines) + "\n"


def _attempts(entries: Sequence[Entry]) -> str:
    """Attempts by number: the first ones, and how many there are."""
    numbers = [str(attempt["id"]) for entry in entries for attempt in entry.attempts]
    more = f", … ({len(numbers):,} in all)" if len(numbers) > NAMED else ""
    return f"{', '.join(numbers[:NAMED])}{more}"


def _passed_over(listing: Listing) -> str:
    numbers = ", ".join(map(str, listing.passed_over[:NAMED]))
    more = f", … ({len(listing.passed_over):,} in all)" if len(listing.passed_over) > NAMED else ""
    return f"passed over as titles, headings or totals: {numbers}{more}"


def _period(period: Period | None) -> str:
    if period is None:
        return "none: the list has no dates"
    edges = [name for name, edge in (("before", period.edge_before), ("after", period.edge_after)) if edge]
    days = f"{_day(period.first)} to {_day(period.last)}"
    return f"{days}; edges: the day {' and the day '.join(edges)}" if edges else days


def _table(found: Reconciliation) -> str:
    rows = [
        f"{'class':<16}{'entries':>9}{'lines':>9}{'paid there, rial':>24}{'attempts':>10}{'their rial':>24}"
    ]
    for kind in Kind:
        entries = found.of(kind)
        lines = [line for entry in entries for line in entry.lines]
        attempts = [attempt for entry in entries for attempt in entry.attempts]
        there = sum(
            line.amount for line in lines if isinstance(line, Settled) and line.standing is Standing.PAID
        )
        here = sum(attempt["amount"] for attempt in attempts)
        rows.append(
            f"{kind:<16}{len(entries):>9,}{len(lines):>9,}{there:>24,}{len(attempts):>10,}{here:>24,}"
        )
    return "\n".join(rows) + "\n"


# -- entries ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pen:
    """Words entries. file_name: the list's, for evidence."""

    file_name: str
    applied: Applied

    def section(self, kind: Kind, entries: Sequence[Entry]) -> str:
        lines = [f"{kind.replace('_', ' ').upper()} ({len(entries):,})", *_wrapped(ADVICE[kind], "  ", "  ")]
        for entry in entries:
            lines += ["", *self._entry(entry)]
        return "\n".join(lines) + "\n"

    def resolved(self, found: Reconciliation) -> str:
        """What --apply has resolved."""
        lines = [f"RESOLVED NOW AS PAID, by {printable(self.applied.by)} ({len(self.applied.resolved):,})"]
        for entry in found.certain:
            attempt, line = entry.attempts[0], entry.lines[0]
            if attempt["id"] in self.applied.resolved:
                what = f"attempt {attempt['id']}, order {attempt['order_id']}, {attempt['amount']:,} rial"
                lines += _wrapped(f"{what}: {evidence(self.file_name, line)}", "  ", "    ")
        return "\n".join(lines) + "\n"

    def _entry(self, entry: Entry) -> Iterator[str]:
        for line in entry.lines:
            yield from _filled(_line(line), "  ", "    ")
        for attempt in entry.attempts:
            yield from _filled(_attempt(attempt), "  ", "    ")
        if entry.kind is Kind.UNKNOWN_PAID:
            yield "  certain" if entry.certain else "  in doubt:"
        for note in entry.notes:
            yield from _wrapped(f"! {printable(note)}", "  ", "    ")
        for attempt in entry.attempts:
            if trouble := self.applied.trouble.get(attempt["id"]):
                yield from _wrapped(f"! {printable(trouble)}", "  ", "    ")
        for attempt in entry.attempts:
            yield from self._commands(entry, attempt)

    def _commands(self, entry: Entry, attempt: Attempt) -> Iterator[str]:
        """The commands that settle an attempt: what a person copies once he knows.

        What only he can know is an empty word, which `resolve` refuses.
        """
        number, by = str(attempt["id"]), self.applied.by or "NAME"
        ref, why = "", ""
        if line := proof(entry, attempt):
            ref, why = line.ref_id, evidence(self.file_name, line)
        elif entry.kind is Kind.UNKNOWN_MISSING:
            yield from _command("resolve", number, "--as", "not-paid", "--by", by, "--evidence", "")
            return
        else:
            yield from _command("show", number)
            if attempt["state"] != "unknown":
                return
        yield from _command("resolve", number, "--as", "paid", "--ref", ref, "--by", by, "--evidence", why)


def _line(line: Line) -> list[str]:
    names = [f"order {line.order_id}"] if line.order_id else []
    names += [f"tracking no. {line.ref_id}"] if line.ref_id else []
    if isinstance(line, Unreadable):
        *most, last = line.reason.split()
        return [f"line {line.line}:", *most, *_enumerated([last, *names])]
    parts = [f"{line.amount:,} rial", *names]
    parts += [f"card {line.card}"] if line.card else []
    parts += [_day(line.at.date())] if line.at else []
    parts += [f"{line.standing}: «{line.status}»"] if line.status else []
    return [f"line {line.line}:", *_enumerated(parts)]


def _attempt(attempt: Attempt) -> list[str]:
    state = attempt["state"]
    if state == "resolved":
        state = f"resolved as {attempt['resolution']}"
    code = f" (code {attempt['code']})" if attempt.get("code") else ""
    parts = [f"{attempt['amount']:,} rial", f"order {attempt['order_id']}"]
    parts += [f"tracking no. {attempt['ref_id']}"] if attempt["ref_id"] else []
    parts += [f"card {attempt['card']}", _day(day_of(attempt["created_at"])), f"{state}{code}"]
    return [f"attempt {attempt['id']}:", *_enumerated(parts)]


def _day(day: date) -> str:
    return f"{day} ({jalali(day)})"


def _enumerated(parts: Sequence[str]) -> list[str]:
    return [f"{part}," for part in parts[:-1]] + [*parts[-1:]]


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _filled(words: Sequence[str], first: str, later: str, end: str = "") -> Iterator[str]:
    """Lines of words that are not broken. end: what a line that goes on ends with."""
    line = first + printable(words[0])
    for word in map(printable, words[1:]):
        if len(line) + 1 + len(word) + len(end) > WIDTH:
            yield line + end
            line = later + word
        else:
            line = f"{line} {word}"
    yield line


def _command(*words: str) -> Iterator[str]:
    """A command, on lines that are copied as one; a word that is wider than a line stays whole."""
    quoted = [shlex.quote(printable(word)) for word in ("ivr-agi", "journal", *words)]
    return _filled(quoted, "    ", "        ", " \\")
