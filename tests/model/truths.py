"""What must be true in this world after each step, and at its end.

The bank's ledger and what was drawn are the one side; the journal's file, read by a connection of its own,
what the dialplan was told and what the caller heard are the other. `look` raises Violation.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from model.bank import SEQUENCE
from model.clockwork import LATEST
from model.service import HOSTS, LEASE, SETTINGS

from ivr_agi.journal.tables import FOLLOWS, AttemptState
from ivr_agi.model import Verdict

if TYPE_CHECKING:
    from model.bank import Request
    from model.callers import Line
    from model.service import Service

OPEN: Final = ("created", "otp_sent", "sent")
NEVER_CHARGED: Final = ("FAILED", "CANCELLED", "NOINPUT", "OPERATOR", "REFUSED", "HANGUP")
PROMISES: Final = {"failed", "out-of-order", "cancelled", "gave-up"}  # heard by whom nothing was taken from
IN_DOUBT: Final = ("20", "94")  # codes after which the card may have been charged
SETTLING: Final = SETTINGS.pay_timeout + SETTINGS.late_limit + 100
WRITTEN_WITHIN: Final = 100.0  # seconds, once the disk is well: it may hang, and tries are 30 s apart
Row = dict[str, Any]


class Violation(AssertionError):  # noqa: N818 - named for what it is
    """Something is true that must never be."""


class Truths:
    """The invariants of one world."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen = 0  # the history's last line looked at
        self._walks: dict[int, str] = {}  # the state that each attempt's history ends in

    def look(self) -> None:
        """All that holds at any moment."""
        world = self._service.world
        self._must(not world.mishaps, "\n".join(world.mishaps))
        rows = self._rows()
        self._look_at_history(rows)
        self._look_at_orders(rows)
        for request in self._service.bank.requests:
            self._look_at_request(request, rows.get(request.attempt))
        for row in rows.values():
            self._look_at_row(row)
        for line in self._service.lines:
            if line.closed and not line.judged:
                line.judged = True
                self._look_at_call(line, rows)

    def look_at_the_end(self) -> None:
        """Calls end, outcomes settle; then everybody dies, and a new server clears up."""
        service = self._service
        service.disk.get_well()
        for running in list(service.servers):
            if running.process.frozen:
                service.thaw(running, slept=False)
        service.world.run(SETTLING, lambda: all(line.closed for line in service.lines))
        last = max((request.at for request in service.bank.requests), default=0.0)
        service.world.run(max(0.0, last + SETTLING - service.world.now))
        self.look()
        self._must(all(line.closed for line in service.lines), "a call does not end")
        rows = self._rows()
        calm = {running.process.name for running in service.servers if not running.disturbed}
        for row in rows.values():
            self._must(row["state"] not in OPEN or row["owner"] not in calm, f"held by nobody: {row}")
        ended = {r.process.name for r in service.ever if r.exited and not r.disturbed}
        for request in service.bank.requests:
            if request.process.name in calm | ended:
                self._look_at_settled(request, rows[request.attempt], ended=request.process.name in ended)
        for running in list(service.servers):
            service.kill(running)
        self._must(service.start(HOSTS[0]) is not None, "no server starts on this journal")
        service.world.run(2 * LEASE)  # it may have to lapse
        self.look()
        rows = self._rows()
        for row in rows.values():
            self._must(row["state"] not in OPEN, f"nobody settles what the dead have left: {row}")
        for line in service.lines:
            self._look_at_call(line, rows)
        self._look_for_secrets()

    # -- the parts -----------------------------------------------------------------------------------

    def _must(self, condition: bool, otherwise: str) -> None:
        if not condition:
            raise Violation(otherwise)

    def _rows(self) -> dict[int, Row]:
        query = self._service.eye.execute("SELECT * FROM attempt")
        names = [column[0] for column in query.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in query}

    def _look_at_history(self, rows: dict[int, Row]) -> None:
        query = "SELECT id, attempt_id, state FROM history WHERE id > ? ORDER BY id"
        for line, attempt, state in self._service.eye.execute(query, (self._seen,)):
            self._seen = line
            before = self._walks.get(attempt)
            goes = state == "created" if before is None else state in FOLLOWS[AttemptState(before)]
            self._must(goes or state == before, f"attempt {attempt} goes from {before} to {state}")
            self._walks[attempt] = state
        for attempt, state in self._walks.items():
            self._must(rows[attempt]["state"] == state, f"history says {state} of {rows[attempt]}")
        self._must(self._walks.keys() == rows.keys(), "attempts without a history")

    def _look_at_orders(self, rows: dict[int, Row]) -> None:
        held = Counter(row["order_id"] for row in rows.values() if row["holds_order"])
        self._must(all(times == 1 for times in held.values()), f"an order is held more than once: {held}")

    def _look_at_request(self, request: Request, row: Row | None) -> None:
        """What the journal says of a `pay` that has left, against the ledger."""
        self._must(row is not None, f"no row for {request}")
        state = row["state"]  # type: ignore[index]
        if request.deciding:
            self._must(state in ("sent", "unknown"), f"{state} before the bank knows: {row}")
        calm = request.process.alive and not self._is_disturbed(request.line)
        if state == "sent" and calm and not self._service.disk.fault:
            answered = request.at + min(request.answer.after or LATEST, SETTINGS.pay_timeout)
            waited = self._service.world.now - max(answered, self._service.disk.well_since)
            self._must(waited < WRITTEN_WITHIN, f"answered, and not written for {waited} s: {row}")
        if request.charged:
            doubt = state == "declined" and row["code"] in IN_DOUBT  # type: ignore[index]
            said = state == "resolved" and row["resolution"] == "paid"  # type: ignore[index]
            self._must(state in ("sent", "unknown", "paid") or doubt or said, f"charged, and {state}: {row}")
            self._must(bool(row["holds_order"]), f"charged, and its order is free: {row}")  # type: ignore[index]

    def _look_at_row(self, row: Row) -> None:
        """Whatever says `paid` is paid, with the bank's own number."""
        if row["state"] == "paid" or row["resolution"] == "paid":
            request = self._service.bank.by_attempt.get(row["id"])
            paid = request is not None and request.charged and request.ref == row["ref_id"]
            self._must(paid, f"paid in the journal, not in the ledger: {row}")

    def _look_at_settled(self, request: Request, row: Row, *, ended: bool) -> None:
        """Its server was never disturbed: what the bank said in time, or late, is in the journal.

        ended: it has drained, and may have listened no longer for a late answer.
        """
        if row["state"] == "resolved":
            return
        answer = request.answer
        is_late = answer.after is not None and answer.after > SETTINGS.pay_timeout
        too_late = is_late and answer.after > SETTINGS.pay_timeout + SETTINGS.late_limit  # type: ignore[operator]
        means = {Verdict.UNKNOWN if too_late else answer.means}
        if is_late and ended:
            means.add(Verdict.UNKNOWN)
        self._must(row["state"] in means, f"the bank said {answer}, the journal {row}")
        self._must(row["state"] != "declined" or row["code"] == answer.code, f"not {answer.code}: {row}")

    def _look_at_call(self, line: Line, rows: dict[int, Row]) -> None:
        """What the dialplan was told and the caller heard, against the ledger and the journal."""
        told, reason, about = (
            line.told,
            line.variables.get("PAYREASON"),
            f"{line.caller} told {line.variables}",
        )
        taken = [request for request in line.payments if request.charged or request.deciding]
        self._must(line.pins_asked <= SETTINGS.max_pins, f"{line.pins_asked} PINs asked for: {about}")
        self._must(len(line.payments) <= SETTINGS.max_payments, f"{len(line.payments)} payments: {about}")
        self._must(not (taken and PROMISES & set(line.heard)), f"charged, and heard {line.heard}: {about}")
        self._must("paid" not in line.heard or bool(taken), f"heard of a payment that is none: {about}")
        if not told:
            lost = line.cut or line.mute or not line.process.alive
            self._must(lost or self._is_disturbed(line), f"PAYSTATUS was never told: {about}")
            return
        last = line.payments[-1] if line.payments else None
        if told in NEVER_CHARGED:
            self._must(not taken, f"charged: {about}")
        if told == "DECLINED":
            self._must(not taken or line.variables["PAYCODE"] in IN_DOUBT, f"charged: {about}")
        if told in ("PAID", "UNKNOWN"):
            self._must(last is not None or told == "UNKNOWN", f"nothing was sent: {about}")
            self._must(line.variables["PAYID"] != "", f"without PAYID: {about}")
        if told == "PAID" and last is not None:
            agrees = line.variables["PAYREFID"] == last.ref and line.variables["PAYID"] == str(last.attempt)
            self._must(last.charged and agrees, f"the ledger has {last.ref}: {about}")
            state = rows[last.attempt]["state"]
            self._must(state in ("paid", "sent", "unknown", "resolved"), f"the journal has {state}: {about}")
        if reason == "already-paid":
            self._must(bool(self._service.bank.charges.get(line.order)), f"not paid: {about}")
        if last is not None and not self._is_disturbed(line):
            self._look_at_last_answer(line, last, told, about)

    def _is_disturbed(self, line: Line) -> bool:
        return any(r.disturbed for r in self._service.ever if r.process is line.process)

    def _look_at_last_answer(self, line: Line, last: Request, told: str, about: str) -> None:
        """PAYSTATUS is what the bank said to the last `pay`, not to one before."""
        answer = last.answer
        late = answer.after is not None and answer.after > SETTINGS.pay_timeout
        means = Verdict.UNKNOWN if late else answer.means
        if means in (Verdict.PAID, Verdict.UNKNOWN):
            self._must(told == means.upper(), f"the bank said {means} ({answer}): {about}")
        else:
            self._must(told not in ("PAID", "UNKNOWN"), f"the bank said {means} ({answer}): {about}")
        if told == "DECLINED" and means is Verdict.DECLINED:
            self._must(line.variables["PAYCODE"] == answer.code, f"the bank said {answer.code}: {about}")

    def _look_for_secrets(self) -> None:
        """No card number, PIN or `sequence` in the journal's folder, or in the log before it is cleaned."""
        service = self._service
        said = "\n".join(map(repr, service.logged)) + repr([line.variables for line in service.lines])
        kept = "".join(file.read_bytes().decode("latin-1") for file in service.disk.folder.iterdir())
        for where, text in (("log", said), ("journal", kept)):
            cards = set(re.findall(r"603799\d{10}", text)) & service.bank.cards.keys()
            pins = set(re.findall(r"(?=(41\d{8}))", text)) & service.bank.pins
            self._must(not cards and not pins and SEQUENCE not in text, f"in the {where}: {cards} {pins}")
