"""What must be true in the end: the bank's ledger, the journal and what callers were told, joined call by call.

`violations` gives a sentence for each thing that is not. It must read nothing but those three, and share no
rule with the product but the table of which state may follow which.
"""

from collections import Counter, defaultdict
from itertools import pairwise

import sqlalchemy as sa

from ivr_agi.journal.tables import FOLLOWS, OPEN, attempt, history, notice, process
from ivr_agi.journal.tables import AttemptState as S

NOT_CHARGED = {"FAILED", "DECLINED", "CANCELLED", "NOINPUT", "HANGUP", "REFUSED", "OPERATOR"}
OUTCOMES = {S.PAID, S.DECLINED, S.FAILED, S.UNKNOWN, S.RESOLVED}


class Books:
    """The journal as it is on disk."""

    def __init__(self, url):
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:

            def read(table):
                return [dict(row) for row in connection.execute(sa.select(table)).mappings()]

            self.attempts = {row["id"]: row for row in sorted(read(attempt), key=lambda row: row["id"])}
            self.processes = read(process)
            self.history, self.notices = defaultdict(list), defaultdict(list)
            for line in sorted(read(history), key=lambda line: line["id"]):
                self.history[line["attempt_id"]].append(line)
            for row in sorted(read(notice), key=lambda row: row["id"]):
                self.notices[row["attempt_id"]].append(row)
        self.of_call = defaultdict(list)  # by mobile, oldest first
        for row in self.attempts.values():
            self.of_call[row["mobile"]].append(row)

    def was_sent(self, row):
        """Whether an attempt has ever been in `sent`."""
        return any(line["state"] == S.SENT for line in self.history[row["id"]])

    def recovered(self):
        """(the dead process, the state before, the attempt), for each attempt that another process settled."""
        for lines in self.history.values():
            for before, line in pairwise(lines):
                if line["note"] == "its process was gone":
                    yield before["owner"], S(before["state"]), self.attempts[line["attempt_id"]]


def violations(books, bank, calls):
    """Sentences, one for each thing that is wrong; none if all is well."""
    found = [*_of_the_bank(bank), *_of_the_journal(books)]
    decided = defaultdict(list)
    for decision in bank.decisions:
        decided[decision.mobile].append(decision)
    known = {call.mobile for call in calls}
    found += [f"a `pay` of nobody who called: {mobile}" for mobile in decided.keys() - known]
    paid = {decision.order: decision.charge for decision in bank.decisions if decision.charge}
    for call in calls:
        decisions, rows = decided[call.mobile], books.of_call[call.mobile]
        about = f"call {call.mobile} ({call.habit}) for {call.order}"
        wrong = [*_joined(books, decisions, rows), *_told(call, decisions, books, paid)]
        found += [f"{about}: {words}" for words in wrong]
    return found


def _of_the_bank(bank):
    if bank.pays != len(bank.decisions):
        yield f"{bank.pays} `pay` requests arrived, {len(bank.decisions)} of them were understood"
    for order, times in Counter(charge.order_id for charge in bank.charges).items():
        if times > 1:
            yield f"order {order} was charged {times} times"


def _of_the_journal(books):
    for number, row in books.attempts.items():
        lines = books.history[number]
        if row["state"] in OPEN:
            yield f"attempt {number} of {row['order_id']} is left in {row['state']}"
        states = [S(line["state"]) for line in lines]
        if not states or states[0] is not S.CREATED or states[-1] != row["state"]:
            yield f"attempt {number} is {row['state']}, its history is {' '.join(states)}"
        steps = [
            state for state, line in zip(states, lines, strict=True) if not _is_a_note(states, lines, line)
        ]
        for before, after in pairwise(steps):
            if after not in FOLLOWS[before]:
                yield f"attempt {number} went from {before} to {after}"
        told = [row["kind"].removeprefix("payment.") for row in books.notices[number]]
        if told != [state for state in steps if state in OUTCOMES]:
            yield f"attempt {number} became {' '.join(steps)}, the merchant is to be told {' '.join(told)}"
    holding = Counter(row["order_id"] for row in books.attempts.values() if row["holds_order"])
    yield from (f"order {order} is held by {held} attempts" for order, held in holding.items() if held > 1)


def _is_a_note(states, lines, line):
    """A line that says the same state again, with words: no step."""
    place = lines.index(line)
    return place > 0 and bool(line["note"]) and states[place] == states[place - 1]


def _joined(books, decisions, rows):
    """Each `pay` of a call is one attempt that was in `sent` before; what was charged is called paid or unknown."""
    sent = [row for row in rows if books.was_sent(row)]
    if len(decisions) > len(sent):
        yield f"{len(decisions)} `pay` requests, and {len(sent)} attempts that were ever `sent`"
        yield from (
            f"was charged {decision.charge.ref_id}, and no attempt was `sent` for it"
            for decision in decisions[len(sent) :]
            if decision.charge
        )
    for place, row in enumerate(sent):
        decision = decisions[place] if place < len(decisions) else None
        if decision and (row["card"], row["order_id"]) != (decision.card, decision.order):
            yield f"attempt {row['id']} is for another card or order than the request"
        yield from (f"attempt {row['id']} {words}" for words in _judged(row, decision))
    yield from (
        f"attempt {row['id']} is {row['state']}, and was never sent"
        for row in rows
        if row not in sent and row["state"] != S.FAILED
    )


def _judged(row, decision):
    state, charge = row["state"], decision.charge if decision else None
    if charge and state not in (S.PAID, S.UNKNOWN):
        yield f"was charged ({charge.ref_id}), and is {state}"
    if charge and state in (S.PAID, S.UNKNOWN) and not row["holds_order"]:
        yield "was charged, and does not hold its order"
    if state == S.PAID and (charge is None or charge.ref_id != row["ref_id"]):
        yield f"is paid with {row['ref_id']}, the bank has {charge.ref_id if charge else 'charged nothing'}"
    if state == S.DECLINED and (decision is None or decision.code != row["code"]):
        yield f"is declined with {row['code']}, the bank said {decision.code if decision else 'nothing'}"
    if charge and row["amount"] != charge.amount:
        yield f"is about {row['amount']} rials, charged were {charge.amount}"


def _told(call, decisions, books, paid):
    """What the dialplan was told agrees with the ledger."""
    charges = [decision.charge for decision in decisions if decision.charge]
    number, ref_id = call.variables.get("PAYID", ""), call.variables.get("PAYREFID", "")
    row = books.attempts.get(int(number or 0))
    if number and (row is None or (row["order_id"], row["mobile"]) != (call.order, call.mobile)):
        yield f"was told PAYID {number}, which the journal does not have, or for another call"
    if charges and not number:
        yield "was charged, and was never told a PAYID"
    match call.status:
        case "PAID":
            if [charge.ref_id for charge in charges] != [ref_id]:
                yield f"was told PAID {ref_id}, the bank has {[charge.ref_id for charge in charges]}"
            if row is None or (row["state"], row["ref_id"]) != (S.PAID, ref_id):
                yield f"was told PAID, the journal says {row and row['state']}"
        case "" | "UNKNOWN":
            pass
        case status if status not in NOT_CHARGED:
            yield f"was told a PAYSTATUS that there is not: {status}"
        case status if charges:
            yield f"was told {status}, and was charged {charges[0].ref_id}"
    if call.variables.get("PAYREASON") == "already-paid" and call.order not in paid:
        yield "was told that the order is paid, and nobody has paid it"
