"""Where the victim kills itself: each named point, and how it is put into the running product.

The product has no hooks for tests. `lay` wraps its functions in this process, so that each point that is
passed is said to `passed` before the product goes on. It must never change what the product does.
"""

import asyncio
import functools
import inspect
import os
import threading

import sqlalchemy as sa

from ivr_agi import journal, payments
from ivr_agi.call import Call
from ivr_agi.exchange import LEAVING, FreshConnections
from ivr_agi.gateway import Gateway
from ivr_agi.journal import lease, steps, writer
from ivr_agi.journal.tables import AttemptState as S
from ivr_agi.server import Server

# Each write of the journal has two: its transaction has all in it and is not committed; it is committed, and
# nobody has been told.
WRITES = {
    "register": "the process puts its name on the list",
    "beat": "the process beats",
    "recovery": "what the dead left is settled",
    "reserve": "the order is reserved",
    "otp_sent": "the one-time PIN has been sent",
    "sent": "`pay` is about to leave",
    "settle": "the answer to `pay`",
    "late": "an answer that came after the time limit",
    "abandon": "an attempt is let go of, nothing has been sent",
    "leave": "the process takes its name off the list",
}
OTHERS = {
    "recovery-half": "the first of the attempts that the dead left is settled, the others are not",
    "reserve-asked": "nothing of the attempt is in the journal",
    "otp-asked": "the order is reserved, `otp-v2` has not left",
    "otp-written": "`otp-v2` is written to the socket",
    "otp-answered": "the answer to `otp-v2` has come, and is not in the journal",
    "sent-asked": "the PIN is here, `sent` is not in the journal",
    "sent-told": "`sent` is on disk and known, the request is not begun",
    "pay-asked": "`sent` is on disk, the gateway's client is called",
    "pay-connected": "connected, nothing written",
    "pay-begun": "the first bytes of the request are about to be written",
    "pay-headed": "the request's head is written, its body is not",
    "pay-written": "the whole request is written to the socket",
    "pay-left": "the whole request has left, and a moment has passed",
    "pay-answering": "the head of the answer has come",
    "pay-answered": "the answer has come, and is not on its way to the journal",
    "settle-asked": "the answer is about to go to the journal",
    "settled-untold": "the answer is in the journal, the call does not know it",
    "told-half": "the dialplan has been told all but PAYSTATUS",
    "told": "the dialplan has been told PAYSTATUS",
    "late-arrived": "a late answer has come, and is not in the journal",
    "drain-begun": "SIGTERM has come, calls are under way",
    "drain-finishing": "the drain waits for each `pay` that is under way",
    "drain-finished": "nothing is under way any more, calls are still to be told",
}
POINTS = OTHERS | {
    f"{write}-{how}": f"{what}: {in_words}"
    for write, what in WRITES.items()
    for how, in_words in {"uncommitted": "before COMMIT", "committed": "after COMMIT"}.items()
}
A_MOMENT = 0.03  # seconds


def lay(passed):
    """Have `passed` hear the name of each point, where it is passed: on the loop or in the journal's thread."""

    def around(owner, name, before="", after=""):
        """Name the points before and after one of the product's functions."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def plain(*arguments, **named):
            passed(before)
            answer = original(*arguments, **named)
            passed(after)
            return answer

        @functools.wraps(original)
        async def awaited(*arguments, **named):
            passed(before)
            answer = await original(*arguments, **named)
            passed(after)
            return answer

        setattr(owner, name, awaited if inspect.iscoroutinefunction(original) else plain)

    around(payments.Payments, "reserve", before="reserve-asked")
    around(Gateway, "request_pin", before="otp-asked", after="otp-answered")
    around(payments.Payments, "_submit", before="sent-asked")
    around(payments.Payments, "_hindrance", before="sent-told")
    around(Gateway, "pay", before="pay-asked", after="pay-answered")
    around(payments.Payments, "_settle", before="settle-asked", after="settled-untold")
    around(payments.Payments, "_settle_late", before="late-arrived")
    around(Server, "drain", before="drain-begun")
    around(payments.Payments, "finish", before="drain-finishing", after="drain-finished")
    _lay_on_the_wire(passed)
    _lay_in_the_dialplan(passed)
    _lay_in_the_journal(passed)


class Watched:
    """A connection that says how far a request has been written; `pay` leaves in two parts, as TCP might have it."""

    def __init__(self, transport, service, passed):
        self._transport, self._service, self._passed = transport, service, passed

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def write(self, whole):
        if self._service != "pay":
            self._transport.write(whole)
            return self._passed(f"{self._service.removesuffix('-v2')}-written")
        body = whole.index(b"\r\n\r\n") + 4
        socket = self._transport.get_extra_info("socket").fileno()
        assert os.write(socket, whole[:body]) == body  # by ourselves: uvloop writes when the loop comes round
        self._passed("pay-headed")
        self._transport.write(whole[body:])
        self._passed("pay-written")
        return asyncio.get_running_loop().call_later(A_MOMENT, self._passed, "pay-left")


def _lay_on_the_wire(passed):
    connect, handle = FreshConnections._connect, FreshConnections.handle_async_request

    async def connected(self, url):
        service = url.path.rpartition("/")[2]
        transport, incoming = await connect(self, url)
        passed(f"{service}-connected")
        return Watched(transport, service, passed), incoming

    async def handled(self, request):
        service = request.url.path.rpartition("/")[2]
        heard = request.extensions[LEAVING]

        def leaving():
            heard()
            passed(f"{service}-begun")

        request.extensions[LEAVING] = leaving
        answer = await handle(self, request)
        passed(f"{service}-answering")
        return answer

    FreshConnections._connect, FreshConnections.handle_async_request = connected, handled


def _lay_in_the_dialplan(passed):
    tell = Call.tell_dialplan

    async def told(call, name, value):
        last = name == "PAYSTATUS"
        passed("told-half" if last else "")
        await tell(call, name, value)
        passed("told" if last else "")

    Call.tell_dialplan = told


def _lay_in_the_journal(passed):
    """A transaction remembers what is written in it; SQLAlchemy tells of its commit, the writer of its end."""
    here = threading.local()  # `written`: in the transaction under way; `committed`: in the one just ended
    _lay_on_writes(passed, lambda what: here.__dict__.setdefault("written", []).append(what))

    def before_commit(_connection):
        here.committed = here.__dict__.pop("written", [])
        for what in here.committed:
            passed(f"{what}-uncommitted")

    def after_commit(outcomes):  # the transaction is over, its jobs are not yet told
        for what in here.__dict__.pop("committed", []):
            passed(f"{what}-committed")
        tell(outcomes)

    def on_rollback(_connection):
        here.__dict__.clear()

    open_engine, tell = journal.open_engine, writer._tell

    def opened(*arguments, **named):
        engine = open_engine(*arguments, **named)
        sa.event.listen(engine, "commit", before_commit)
        sa.event.listen(engine, "rollback", on_rollback)
        return engine

    journal.open_engine = opened
    writer._tell = after_commit


def _lay_on_writes(passed, written):
    """Have `written` hear what each of the journal's functions has written, once it has."""
    outcomes = {}  # the key of a step -> `settle` or `late`

    def writes(owner, name, what):
        original = getattr(owner, name)

        @functools.wraps(original)
        def noted(*arguments, **named):
            answer = original(*arguments, **named)
            written(what if isinstance(what, str) else what(arguments, named))
            return answer

        setattr(owner, name, noted)

    def step_of(arguments, named):
        state = arguments[3]
        if named.get("of"):
            passed("recovery-half")
            return "recovery"
        return outcomes.pop(named["key"], str(state) if state in (S.OTP_SENT, S.SENT) else "abandon")

    writes(steps.Scribe, "reserve", "reserve")
    writes(steps.Scribe, "step", step_of)
    writes(lease.Lease, "_turn", "beat")
    writes(lease.Lease, "_leave", "leave")
    writes(journal, "register", "register")

    write_outcome = payments.Payments._write_outcome

    async def known(self, attempt, answer, key, note, *more):
        outcomes[key] = "late" if note else "settle"
        await write_outcome(self, attempt, answer, key, note, *more)

    payments.Payments._write_outcome = known
