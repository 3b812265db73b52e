"""Where the victim kills itself: each named point, and how it is put into the running product.

The product has no hooks for tests. `lay` wraps its functions in this process, so that each point that is
passed is said to `passed` before the product goes on. It must never change what the product does.
"""

import asyncio
import functools
import inspect
import threading

import httpx
import sqlalchemy as sa

from ivr_agi import journal, payments
from ivr_agi.call import Call
from ivr_agi.gateway import Gateway
from ivr_agi.journal import lease, steps
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
TRACED = {
    "pay": {
        "connection.connect_tcp.complete": "pay-connected",
        "http11.send_request_headers.started": "pay-begun",
        "http11.send_request_headers.complete": "pay-headed",
        "http11.send_request_body.complete": "pay-written",
        "http11.receive_response_headers.complete": "pay-answering",
    },
    "otp-v2": {"http11.send_request_body.complete": "otp-written"},
}


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


def _lay_on_the_wire(passed):
    send = httpx.AsyncClient.send

    async def traced(client, request, **also):
        names = TRACED[request.url.path.rpartition("/")[2]]
        heard = request.extensions["trace"]

        async def trace(event, info):
            await heard(event, info)
            passed(names.get(event, ""))
            if names.get(event) == "pay-written":  # on its way: uvloop writes when the loop comes round
                asyncio.get_running_loop().call_later(A_MOMENT, passed, "pay-left")

        request.extensions["trace"] = trace
        return await send(client, request, **also)

    httpx.AsyncClient.send = traced


def _lay_in_the_dialplan(passed):
    tell = Call.tell_dialplan

    async def told(call, name, value):
        last = name == "PAYSTATUS"
        passed("told-half" if last else "")
        await tell(call, name, value)
        passed("told" if last else "")

    Call.tell_dialplan = told


def _lay_in_the_journal(passed):
    """A transaction remembers what is written in it; its commit, and what comes after, are told by SQLAlchemy."""
    here = threading.local()  # `written`: in the transaction under way; `committed`: in the one just ended
    _lay_on_writes(passed, lambda what: here.__dict__.setdefault("written", []).append(what))

    def before_commit(_connection):
        here.committed = here.__dict__.pop("written", [])
        for what in here.committed:
            passed(f"{what}-uncommitted")

    def after_commit(_connection, _record):
        for what in here.__dict__.pop("committed", []):
            passed(f"{what}-committed")

    def on_rollback(_connection):
        here.__dict__.clear()

    open_engine = journal.open_engine

    def opened(*arguments, **named):
        engine = open_engine(*arguments, **named)
        sa.event.listen(engine, "commit", before_commit)
        sa.event.listen(engine, "checkin", after_commit)  # the transaction is over, its jobs are not yet told
        sa.event.listen(engine, "rollback", on_rollback)
        return engine

    journal.open_engine = opened


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
