"""A settlement list beside our attempts: each class, what is certain, the period."""

from datetime import date, datetime, timedelta

import pytest
from settling import CARD, FAILED, NOON, OTHER_CARD, PERIOD, RETURNED, attempt, line

from ivr_agi.journal.tables import AttemptState
from ivr_agi.settlement.judging import DAY, LATE, Kind
from ivr_agi.settlement.matching import Period, match, period_of, touching
from ivr_agi.settlement.reading import Unreadable


def classes(lines, attempts, period=PERIOD):
    """What the entries are: class, lines, attempts."""
    return [
        (str(entry.kind), [one.line for one in entry.lines], [one["id"] for one in entry.attempts])
        for entry in match(lines, attempts, period).entries
    ]


# -- each class -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "resolution", "kind"),
    [
        ("paid", "", "matched"),
        ("resolved", "paid", "matched"),
        ("unknown", "", "unknown_paid"),
        ("declined", "", "contradicted"),
        ("failed", "", "contradicted"),
        ("resolved", "not-paid", "contradicted"),
        ("created", "", "under_way"),
        ("otp_sent", "", "under_way"),
        ("sent", "", "under_way"),
    ],
)
def test_paid_there(state, resolution, kind):
    """The list says paid: what that means by what we have."""
    found = match([line()], [attempt(state=state, resolution=resolution)])
    (entry,) = found.entries
    assert (entry.kind, entry.to_look_at) == (kind, kind != "matched")


@pytest.mark.parametrize(
    ("state", "resolution", "kind", "look"),
    [
        ("paid", "", "paid_missing", True),
        ("resolved", "paid", "paid_missing", True),
        ("unknown", "", "unknown_missing", True),
        ("declined", "", "not_paid", False),
        ("failed", "", "not_paid", False),
        ("resolved", "not-paid", "not_paid", False),
        ("created", "", "under_way", False),
        ("otp_sent", "", "under_way", False),
        ("sent", "", "under_way", False),
    ],
)
@pytest.mark.parametrize(
    "lines", [[], [line(**FAILED)], [line(**RETURNED)]], ids=["missing", "failed", "returned"]
)
def test_not_paid_there(state, resolution, kind, look, lines):
    """The list has nothing, or a failed or returned payment: it is not paid there."""
    found = match(lines, [attempt(state=state, resolution=resolution)], PERIOD)
    (entry,) = found.entries
    assert entry.kind == kind
    assert entry.lines == tuple(lines)
    assert entry.to_look_at == (look or (kind == "under_way" and bool(lines)))
    assert [note for note in entry.notes if "line 2 says" in note] == list(entry.notes)


def test_every_state_is_known():
    """No state of the journal's is without a meaning here."""
    for state in AttemptState:
        resolution = "paid" if state is AttemptState.RESOLVED else ""
        assert len(match([], [attempt(state=str(state), resolution=resolution)], PERIOD).entries) == 1


def test_paid_elsewhere():
    """Paid there, and no attempt of ours has that order or tracking number."""
    assert classes([line()], [attempt(order="B")]) == [
        ("unknown_missing", [], [1]),
        ("paid_elsewhere", [2], []),
    ]


def test_unreadable():
    """A line that cannot be read is an entry, and matches nothing."""
    assert classes([Unreadable(3, "no amount", "A", "77")], [attempt(state="paid")]) == [
        ("paid_missing", [], [1]),
        ("unreadable", [3], []),
    ]


@pytest.mark.parametrize("state", ["paid", "unknown"])
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (line(amount=10_000), "amount: 10,000 in line 2, 1,000 in attempt 1"),
        (line(card="************7894"), "card: ************7894 in line 2"),
        (line(card="610433******7893"), "card: 610433******7893 in line 2"),
        (line(ref="", at=NOON - 2 * DAY), "date: line 2 is of 2024-11-22"),
    ],
)
def test_different(state, lines, said):
    """The same order with another amount or card, or from before the attempt, is not this payment."""
    (entry,) = match([lines], [attempt(state=state)], PERIOD).entries
    assert entry.kind is Kind.DIFFERENT
    assert said in entry.notes[0]


def test_different_names():
    """The tracking number of one order and the id of another; or the order's, with another tracking number."""
    paid = attempt(state="paid", ref="77")
    for lines in (line(order="B", ref="77"), line(order="A", ref="78")):
        assert classes([lines], [paid]) == [("different", [2], [1])]
    assert classes([line(order="A", ref="78")], [paid, attempt(2, "B", "paid", ref="78")]) == [
        ("different", [2], [1, 2])
    ]


def test_tracking_number_settles_the_date():
    """With the same tracking number a list's odd date is no other payment."""
    assert classes([line(at=NOON - 20 * DAY)], [attempt(state="paid")]) == [("matched", [2], [1])]


def test_by_tracking_number_alone():
    """A list without order ids: the tracking number is enough, with or without leading zeros."""
    assert classes([line(order="", ref="0077")], [attempt(state="paid")]) == [("matched", [2], [1])]


def test_declines_before_a_paid_attempt():
    """Wrong PIN, then paid: the list has one line, or the failed try as well. Nothing to look at."""
    tries = [attempt(1, state="declined"), attempt(2, state="paid")]
    assert classes([line()], tries) == [("not_paid", [], [1]), ("matched", [2], [2])]
    both = [line(2, ref="0", **FAILED), line(3)]
    assert classes(both, tries) == [("not_paid", [], [1]), ("matched", [2, 3], [2])]


@pytest.mark.parametrize(
    "lines",
    [
        [line(2), line(3, ref="78")],  # one order
        [line(2, order="A"), line(3, order="B")],  # one tracking number
        [line(2), line(3, ref="78", **RETURNED)],  # paid, and given back
        [line(2), line(3, **FAILED)],  # paid, and not paid, by one tracking number
        [line(2), line(3, ref="78", **FAILED)],  # a failed try that we have not: or a return?
    ],
)
@pytest.mark.parametrize("state", ["paid", "unknown", "failed"])
def test_twice_there(lines, state):
    """One order or tracking number more than once in the list: a person looks, nothing is certain."""
    found = match(lines, [attempt(state=state)], PERIOD)
    assert [entry.kind for entry in found.entries] == [Kind.TWICE]
    assert found.entries[0].notes
    assert not found.certain


@pytest.mark.parametrize(
    "second", [line(3, ref="78", **RETURNED), line(3, **FAILED)], ids=["returned", "failed"]
)
def test_a_declined_attempt_explains_no_return(second):
    """A try that failed may stand beside the paid one; not a return, and nothing under the same tracking number."""
    tries = [attempt(1, state="declined"), attempt(2, state="paid")]
    assert classes([line(2), second], tries) == [("twice", [2, 3], [1, 2])]


def test_lines_that_are_joined_by_an_attempt():
    """One line has the order, another one the tracking number: nobody can tell which is the payment."""
    lines = [line(2, "A", ref=""), line(3, "", ref="77")]
    assert classes(lines, [attempt(state="paid")]) == [("different", [2, 3], [1])]


def test_paid_beside_one_under_way():
    """An attempt under way in a group that is judged is named by itself."""
    assert classes([line()], [attempt(1), attempt(2, state="sent")]) == [
        ("unknown_paid", [2], [1]),
        ("under_way", [], [2]),
    ]


def test_twice_here():
    """Two paid attempts for one order, each with its line or with none: somebody has paid twice."""
    first, second = (attempt(1, state="paid"), attempt(2, state="resolved", resolution="paid", ref="78"))
    assert classes([line(2), line(3, ref="78")], [first, second]) == [("twice", [2, 3], [1, 2])]
    assert classes([line(2)], [first, second]) == [("twice", [2], [1, 2])]
    assert classes([], [first, second]) == [("twice", [], [1]), ("twice", [], [2])]


def test_the_worst_comes_first():
    """Entries come in the order of Kind, then of the list."""
    lines = [line(9, "M"), line(3, "C", "3"), line(4, "E", "4"), line(2, "D", "2"), Unreadable(8, "x")]
    attempts = [attempt(1, "M", "paid"), attempt(2, "C", "declined"), attempt(3, "D", "failed")]
    assert [kind for kind, _, _ in classes(lines, attempts)] == [
        "contradicted",
        "contradicted",
        "paid_elsewhere",
        "unreadable",
        "matched",
    ]
    assert classes(lines, attempts)[0][1] == [2]


# -- what is certain --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "others"),
    [
        ([line()], []),
        ([line(card="************7893")], []),
        ([line(card=CARD, at=NOON + LATE)], []),
        ([line(at=None)], []),
        ([line(at=NOON - DAY)], []),  # a clock, or midnight
        ([line()], [attempt(2, state="failed")]),  # no `pay` of that one ever left
        ([line(card=CARD)], [attempt(2, state="declined", card=OTHER_CARD)]),
        ([line()], [attempt(2, state="declined", amount=2000)]),
        ([line(), Unreadable(5, "x", "B")], []),
    ],
)
def test_certain(lines, others):
    """One paid line and one attempt that agree, and nothing that says otherwise."""
    found = match(lines, [attempt(), *others], PERIOD)
    (entry,) = found.certain
    assert (entry.kind, [one["id"] for one in entry.attempts]) == (Kind.UNKNOWN_PAID, [1])
    assert not entry.notes


@pytest.mark.parametrize(
    ("lines", "others", "doubt"),
    [
        ([line(ref="")], [], "no tracking number"),
        ([line(at=NOON + LATE + DAY)], [], "more than 10 days after"),
        ([line()], [attempt(2, state="declined")], "may as well be attempt 2 (declined)"),
        ([line()], [attempt(2, state="resolved", resolution="not-paid")], "may as well be attempt 2 (resolved)"),
        ([line()], [attempt(2, state="sent")], "may as well be attempt 2 (sent)"),
        ([line(), line(3, ref="", **FAILED)], [attempt(2, state="declined", card=OTHER_CARD, amount=5)], "line 3 says not paid"),
        ([line(), Unreadable(5, "negative: a return?", "A")], [], "line 5 names it, too"),
        ([line(), Unreadable(5, "negative: a return?", "", "0077")], [], "line 5 names it, too"),
    ],
)  # fmt: skip
def test_doubtful(lines, others, doubt):
    """Whatever is odd leaves it to a person."""
    found = match(lines, [attempt(), *others], PERIOD)
    assert not found.certain
    (entry,) = found.of(Kind.UNKNOWN_PAID)
    assert any(doubt in note for note in entry.notes)


def test_two_unknown_attempts_are_never_certain():
    """Two attempts whose order ids look the same: which of them was paid is not known."""
    found = match([line(order="كي ۱")], [attempt(1, "کی 1"), attempt(2, "كي ۱")], PERIOD)
    assert [entry.kind for entry in found.entries] == [Kind.DIFFERENT]


def test_in_common_only_by_way_of_another():
    """A line and an attempt that share nothing themselves are no pair."""
    between = attempt(2, "A", "declined", ref="99", amount=5)
    found = match([line(order="", ref="99")], [attempt(1, "A"), between], PERIOD)
    (entry,) = found.entries
    assert entry.kind is Kind.DIFFERENT
    assert "neither order nor tracking number in common" in entry.notes[0]


# -- the period -------------------------------------------------------------------------------------


def test_period_of_the_list():
    """From its earliest date to its latest, and a day's edge each side."""
    period = period_of([line(at=NOON), line(3, at=NOON + 3 * DAY), Unreadable(4, "x"), line(5, at=None)])
    assert (period.first, period.last) == (date(2024, 11, 24), date(2024, 11, 27))
    assert (period.earliest, period.latest) == (date(2024, 11, 23), date(2024, 11, 28))


def test_given_period():
    """What was given has no edge; what was not is the list's. Without dates both must be given."""
    day = date(2024, 11, 1)
    assert period_of([line()], first=day) == Period(day, NOON.date(), timedelta(), DAY)
    assert period_of([line()], last=day + 30 * DAY) == Period(NOON.date(), day + 30 * DAY, DAY, timedelta())
    assert period_of([line(at=None)], first=day) is None
    assert period_of([], day, day) == Period(day, day, timedelta(), timedelta())


@pytest.mark.parametrize(
    ("days", "kinds", "not_covered"),
    [
        (0, ["paid_missing", "unknown_missing", "not_paid"], 0),
        (1, ["at_edge", "at_edge", "not_paid"], 0),
        (-1, ["at_edge", "at_edge", "not_paid"], 0),
        (2, [], 1),
        (-2, [], 1),
    ],
)
def test_missing_by_day(days, kinds, not_covered):
    """Missing counts within the list's own days; on its edges it is no finding, beyond them not covered."""
    at = NOON + days * DAY
    attempts = [attempt(1, "A", "paid", at=at), attempt(2, "B", at=at), attempt(3, "C", "declined", at=at)]
    found = match([], attempts, PERIOD)
    assert [entry.kind for entry in found.entries] == kinds
    assert found.not_covered == not_covered
    assert not [entry for entry in found.to_look_at if entry.kind is Kind.AT_EDGE]


def test_days_are_tehrans():
    """20:30 UTC is midnight in Tehran: the day after has begun."""
    at = datetime.fromisoformat("2024-11-25T20:29:59+00:00")
    assert classes([], [attempt(state="paid", at=at)]) == [("at_edge", [], [1])]
    assert classes([], [attempt(state="paid", at=at + timedelta(seconds=1))]) == []


def test_settled_later():
    """A line settles an attempt from before the period: it is found, and counts as covered."""
    early = attempt(at=NOON - 5 * DAY)
    found = match([line()], [early], PERIOD)
    assert found.certain[0].attempts == (early,)
    assert found.not_covered == 0


def test_without_a_period():
    """A list without dates, and none given: what no line names is not covered."""
    found = match([line(at=None)], [attempt(), attempt(2, "B"), attempt(3, "C", "paid", ref="99")])
    assert [entry.kind for entry in found.entries] == [Kind.UNKNOWN_PAID]
    assert (found.period, found.not_covered) == (None, 1)


def test_touching():
    """Attempts that a line names, also a line that cannot be read."""
    named = touching([line(ref="0077"), Unreadable(3, "x", "B")])
    wanted = [attempt(order="A"), attempt(order="B"), attempt(order="Z", state="paid"), attempt(order="C")]
    assert [named(one) for one in wanted] == [True, True, True, False]


# -- speed ------------------------------------------------------------------------------------------


def test_quick():
    """30,000 lines against 30,000 attempts, half of them to look at: by the square, the test would run out of time."""
    count = 30_000
    lines = [line(number, f"O{number}", str(number)) for number in range(2, count + 2)]
    attempts = [
        attempt(
            number, f"O{number}", "unknown" if number % 2 else "paid", ref="" if number % 2 else str(number)
        )
        for number in range(2, count + 2)
    ]
    found = match(lines, attempts)
    assert (len(found.of(Kind.MATCHED)), len(found.certain)) == (count // 2, count // 2)
