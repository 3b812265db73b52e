"""Judge one group: lines of a list and attempts of ours that share order ids or tracking numbers.

Each line and each attempt of the group gets into exactly one entry. An `unknown_paid` entry is `certain` only
if one paid line and one attempt agree in order id (or tracking number) and amount, and nothing in the group
says otherwise; whatever is odd makes it a person's matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.settlement.cells import cards_agree
from ivr_agi.settlement.dates import day_of
from ivr_agi.settlement.letters import order_key, ref_key
from ivr_agi.settlement.notes import Note
from ivr_agi.settlement.reading import Line, Settled, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Attempt = Mapping[str, Any]  # a row of the journal's table, as `Journal.attempts` has it
Key = tuple[str, str]  # ("order" or "ref", the id made comparable)
DAY: Final = timedelta(days=1)
LATE: Final = timedelta(days=10)  # a payment so long after the attempt may be another one


class Kind(StrEnum):
    """What a person makes of an entry, the worst first."""

    CONTRADICTED = "contradicted"  # paid there; declined, failed or settled as not paid here
    TWICE = "twice"  # one order or tracking number more than once in the list, or paid twice here
    DIFFERENT = "different"  # the same order or tracking number, but not the same payment
    UNKNOWN_PAID = "unknown_paid"
    PAID_MISSING = "paid_missing"  # paid here, not there
    UNKNOWN_MISSING = "unknown_missing"  # unknown here, not paid there: no proof
    PAID_ELSEWHERE = "paid_elsewhere"  # paid there, no attempt of ours
    UNREADABLE = "unreadable"
    UNDER_WAY = "under_way"  # still open here
    AT_EDGE = "at_edge"  # not in the list, on the day before its first or after its last
    NOT_PAID = "not_paid"  # neither here nor there
    MATCHED = "matched"


_NOTHING_TO_DO: Final = frozenset({Kind.AT_EDGE, Kind.NOT_PAID, Kind.MATCHED})


@dataclass(frozen=True, slots=True)
class Entry:
    """Lines and attempts that belong together. notes: what is odd about it."""

    kind: Kind
    lines: tuple[Line, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    notes: tuple[Note, ...] = ()
    certain: bool = False

    @property
    def to_look_at(self) -> bool:
        """Whether a person must look at it. An attempt under way is only named, unless the list has it."""
        if self.kind is Kind.UNDER_WAY:
            return bool(self.lines)
        return self.kind not in _NOTHING_TO_DO


class Ours(StrEnum):
    """What our journal says of an attempt."""

    PAID = "paid"
    UNKNOWN = "unknown"
    NOT_PAID = "not paid"
    OPEN = "open"


_STANDS: Final = {
    "created": Ours.OPEN,
    "otp_sent": Ours.OPEN,
    "sent": Ours.OPEN,
    "paid": Ours.PAID,
    "declined": Ours.NOT_PAID,
    "failed": Ours.NOT_PAID,
    "unknown": Ours.UNKNOWN,
}
_RESOLVED: Final = {"paid": Ours.PAID, "not-paid": Ours.NOT_PAID}


def stands(attempt: Attempt) -> Ours:
    """What our journal says of an attempt. Raises KeyError for a state that this module does not know."""
    if attempt["state"] == "resolved":
        return _RESOLVED[attempt["resolution"]]
    return _STANDS[attempt["state"]]


def keys_of(names: Line | Attempt) -> list[Key]:
    """By what a line or an attempt can be found: its order, its tracking number."""
    if isinstance(names, Mapping):
        order_id, ref_id = names["order_id"], names["ref_id"] or ""
    else:
        order_id, ref_id = names.order_id, names.ref_id
    found = (("order", order_key(order_id)), ("ref", ref_key(ref_id)))
    return [one for one in found if one[1]]


@dataclass(slots=True)
class Group:
    """Lines and attempts that share keys. spoiled: key -> the number of an unreadable line that has it."""

    lines: list[Settled]
    attempts: list[Attempt]
    spoiled: Mapping[Key, int]

    def judge(self) -> Iterator[Entry]:
        """Entries for a group with lines: each line and each attempt in exactly one."""
        paid_lines = self._theirs(Standing.PAID)
        repeated = self._repeated()
        if repeated:
            yield self._whole(Kind.TWICE, repeated)
        elif not paid_lines:
            yield from self._judge_not_paid()
        elif len(paid_lines) > 1:
            note = Note("several_lines", "several lines, joined by order ids and tracking numbers")
            yield self._whole(Kind.DIFFERENT, (note,))
        else:
            yield from self._judge_paid(paid_lines[0])

    def judge_alone(self, attempt: Attempt, *, edge: bool) -> Entry:
        """The entry for an attempt of a group without lines. edge: it is of a day in the period's edge."""
        match stands(attempt):
            case Ours.OPEN:
                return Entry(Kind.UNDER_WAY, (), (attempt,))
            case Ours.NOT_PAID:
                return Entry(Kind.NOT_PAID, (), (attempt,))
            case Ours.PAID if notes := self._paid_twice_here():
                return Entry(Kind.TWICE, (), (attempt,), notes)
            case _ if edge:
                return Entry(Kind.AT_EDGE, (), (attempt,))
            case Ours.PAID:
                return Entry(Kind.PAID_MISSING, (), (attempt,), self._spoiling(attempt))
            case Ours.UNKNOWN:
                return Entry(Kind.UNKNOWN_MISSING, (), (attempt,), self._spoiling(attempt))

    def _ours(self, which: Ours) -> tuple[Attempt, ...]:
        return tuple(attempt for attempt in self.attempts if stands(attempt) is which)

    def _theirs(self, standing: Standing) -> tuple[Settled, ...]:
        return tuple(line for line in self.lines if line.standing is standing)

    def _whole(self, kind: Kind, notes: tuple[Note, ...]) -> Entry:
        """All of the group in one entry: a person must see it together."""
        return Entry(kind, tuple(self.lines), tuple(self.attempts), notes)

    # -- no paid line --

    def _judge_not_paid(self) -> Iterator[Entry]:
        """No line says paid: failed ones, and returned ones."""
        lines: tuple[Line, ...] = tuple(self.lines)
        said = tuple(map(_saying, self.lines))
        for which, kind in (
            (Ours.PAID, Kind.PAID_MISSING),
            (Ours.UNKNOWN, Kind.UNKNOWN_MISSING),
            (Ours.OPEN, Kind.UNDER_WAY),
        ):
            if attempts := self._ours(which):
                yield Entry(kind, lines, attempts, said if lines else ())
                lines = ()
        not_paid = self._ours(Ours.NOT_PAID)
        if lines or not_paid:
            yield Entry(Kind.NOT_PAID, lines, not_paid)

    # -- one paid line --

    def _judge_paid(self, line: Settled) -> Iterator[Entry]:
        charged = self._ours(Ours.PAID) + self._ours(Ours.UNKNOWN)
        under_way, not_paid = self._ours(Ours.OPEN), self._ours(Ours.NOT_PAID)
        if not self.attempts:
            yield self._whole(Kind.PAID_ELSEWHERE, ())
        elif not charged and under_way:
            yield self._whole(Kind.UNDER_WAY, (_says_paid(line),))
        elif not charged:
            yield self._whole(Kind.CONTRADICTED, tuple(_misfits(line, not_paid)))
        elif len(charged) > 1:
            note = Note("several_attempts", "one line, and several attempts that it may be")
            yield self._whole(Kind.DIFFERENT, (note,))
        elif notes := differences(line, charged[0]):
            yield self._whole(Kind.DIFFERENT, notes)
        else:
            yield self._judge_pair(line, charged[0])
            if under_way:
                yield Entry(Kind.UNDER_WAY, (), under_way)
            if not_paid:
                yield Entry(Kind.NOT_PAID, (), not_paid)

    def _judge_pair(self, line: Settled, attempt: Attempt) -> Entry:
        """One paid line and the one attempt that agrees with it."""
        lines = tuple(self.lines)
        if stands(attempt) is Ours.PAID:
            return Entry(Kind.MATCHED, lines, (attempt,))
        doubts = tuple(self._doubts(line, attempt))
        return Entry(Kind.UNKNOWN_PAID, lines, (attempt,), doubts, certain=not doubts)

    def _doubts(self, line: Settled, attempt: Attempt) -> Iterator[Note]:
        """What keeps a paid line from being proof that an unknown attempt was paid."""
        for other in self.attempts:
            if other is attempt or other["state"] == "failed":  # that one has certainly charged nothing
                continue
            if not differences(line, other):
                yield Note(
                    "may_be_another",
                    "the line may as well be attempt {attempt} ({state})",
                    attempt=other["id"],
                    state=str(other["state"]),
                )
        for other_line in self.lines:
            if other_line is not line:
                yield _saying(other_line)
        if not ref_key(line.ref_id):
            # and the journal takes no "paid" without one
            yield Note("no_ref", "the list gives no tracking number")
        if line.at and line.at.date() - day_of(attempt["created_at"]) > LATE:
            yield Note("late", "the line's date is more than {days} days after the attempt", days=LATE.days)
        yield from self._spoiling(attempt, line)

    # -- what spoils a group --

    def _repeated(self) -> tuple[Note, ...]:
        """What comes more than once and must not. A failed try that we know of may come before a paid one."""
        final = [line for line in self.lines if line.standing is not Standing.NOT_PAID]
        notes = [
            *(
                Note("order_twice", "order {order} is in the list {times} times", order=name, times=count)
                for name, count in _more_than_once(order_key(line.order_id) for line in final)
            ),
            *(
                Note("ref_twice", "tracking number {ref} is in the list {times} times", ref=name, times=count)
                for name, count in _more_than_once(ref_key(line.ref_id) for line in self.lines if final)
            ),
        ]
        sent = [attempt for attempt in self._ours(Ours.NOT_PAID) if attempt["state"] != "failed"]
        if final and self.attempts and len(self.lines) - len(final) > len(sent):
            note = "the list has tries that failed and are not ours: is one of them a return?"
            notes.append(Note("failed_tries", note))
        return (*notes, *self._paid_twice_here())

    def _paid_twice_here(self) -> tuple[Note, ...]:
        orders = (order_key(attempt["order_id"]) for attempt in self._ours(Ours.PAID))
        return tuple(
            Note("paid_twice_here", "order {order} was paid {times} times here", order=name, times=count)
            for name, count in _more_than_once(orders)
        )

    def _spoiling(self, attempt: Attempt, *lines: Settled) -> tuple[Note, ...]:
        """Unreadable lines that name the same order or tracking number."""
        named = keys_of(attempt) + [name for line in lines for name in keys_of(line)]
        numbers = sorted({self.spoiled[name] for name in named if name in self.spoiled})
        note = "line {line} names it, too, and cannot be read"
        return tuple(Note("spoiled", note, line=number) for number in numbers)


def differences(line: Settled, attempt: Attempt) -> tuple[Note, ...]:
    """Why a line cannot be an attempt's payment; empty if they agree and nothing contradicts."""
    found: list[Note] = []
    which, theirs, ours = line.order_id, ref_key(line.ref_id), ref_key(attempt["ref_id"] or "")
    day, began = line.at and line.at.date(), day_of(attempt["created_at"])

    def differ(key: str, english: str, there: object = None, here: object = None) -> None:
        found.append(Note(key, english, line=line.line, attempt=attempt["id"], there=there, here=here))

    if line.amount != attempt["amount"]:
        differ("amounts", "amount: {there:,} in line {line}, {here:,} in attempt {attempt}",
               line.amount, attempt["amount"])  # fmt: skip
    if not cards_agree(line.card, attempt["card"]):
        differ("cards", "card: {there} in line {line}, {here} in attempt {attempt}",
               line.card, attempt["card"])  # fmt: skip
    if theirs and ours and theirs != ours:
        differ("refs", "tracking number: {there} in line {line}, {here} in attempt {attempt}",
               line.ref_id, attempt["ref_id"])  # fmt: skip
    if which and order_key(which) != order_key(attempt["order_id"]):
        differ("orders", "order: {there} in line {line}, {here} in attempt {attempt}",
               which, attempt["order_id"])  # fmt: skip
    if day and day < began - DAY and not (theirs and theirs == ours):
        differ("dates", "date: line {line} is of {there}, attempt {attempt} of {here}", day, began)
    if set(keys_of(line)).isdisjoint(keys_of(attempt)):
        differ(
            "in_common",
            "line {line} and attempt {attempt} have neither order nor tracking number in common",
        )
    return tuple(found)


def _misfits(line: Settled, attempts: tuple[Attempt, ...]) -> Iterator[Note]:
    """What a person should know who looks for the attempt that a line is the payment of."""
    fitting = [attempt for attempt in attempts if not differences(line, attempt)]
    if len(fitting) > 1:
        yield Note(
            "each_may_be",
            "attempts {attempts} may each be it: resolve one of them",
            attempts=", ".join(str(one["id"]) for one in fitting),
        )
    for attempt in attempts:
        yield from differences(line, attempt)


def _more_than_once(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """What comes more than once, and how often; the empty name is none."""
    return ((name, count) for name, count in Counter(names).items() if name and count > 1)


def _says_paid(line: Settled) -> Note:
    return Note("says_paid", "line {line} says paid", line=line.line)


def _saying(line: Settled) -> Note:
    return Note(
        "says",
        "line {line} says {standing}: «{status}»",
        line=line.line,
        standing=str(line.standing),
        status=line.status,
    )
