"""A merchant's endpoint for tests, real HTTP on loopback, and the outcomes that it is told of.

It checks what it gets with code of its own, and answers 200 unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass

from line import until

from ivr_agi.journal import AttemptState, NewAttempt
from ivr_agi.simulator.wire import HttpServer, Reply

SHARED = "a secret of the shop"
SIGNATURE = re.compile(r"t=([1-9][0-9]{9})((?:,v1=[0-9a-f]{64})+)")
S = AttemptState
# How an attempt comes to its outcome, and what each step must bring along.
WAYS = {
    S.PAID: (S.OTP_SENT, S.SENT, S.PAID),
    S.DECLINED: (S.OTP_SENT, S.SENT, S.DECLINED),
    S.UNKNOWN: (S.OTP_SENT, S.SENT, S.UNKNOWN),
    S.FAILED: (S.FAILED,),
}
FIELDS = {S.PAID: {"ref_id": "123456789012"}, S.DECLINED: {"code": "51"}, S.UNKNOWN: {"reason": "timeout"}}


async def end(journal, order, state=S.PAID):
    """An attempt for an order, with its outcome; returns its id."""
    attempt = await journal.reserve(
        NewAttempt(order, "ivr", 50000, "603799******7893", "+989123456789", "1.2")
    )
    for step in WAYS[state]:
        await journal.step(attempt, step, **FIELDS.get(step, {}))
    return attempt


def row(journal, order="A-1"):
    """An order's first notice as the journal has it."""
    return next(row for row in reversed(journal.notices(every=True)) if row["order_id"] == order)


async def tried(journal, tries, order="A-1"):
    """Wait until that many tries of an order's first notice have failed, and were written down."""
    await until(lambda: row(journal, order)["tries"] == tries)


async def settled(journal):
    """Wait until nothing is left to be told."""
    await until(lambda: not [row for row in journal.notices() if not row["given_up_at"]])


class Clock:
    """The time, which goes on when a test says so."""

    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@dataclass(frozen=True)
class Got:
    """One request that was in order. event: its id, kind: its type."""

    event: str
    kind: str
    order: str
    body: bytes
    headers: dict[str, str]


class Shop:
    """The endpoint; `async with` starts it on a free port, `start(port)` on the one it had.

    replies: answers that come first, one each. answer: the answer to each request after these. faults: what
    befalls connections just accepted, one each; accepted: how many were. hold: no answer before it is set.
    got: requests in order, each order's `most` under way at once, `wrong`: why others were not.
    """

    def __init__(self, secret=SHARED):
        self.secret = secret
        self.replies, self.faults, self.got, self.wrong = [], [], [], []
        self.answer = lambda _got: Reply(200, b"")
        self.hold = None
        self.accepted = 0
        self.under_way, self.most, self.twice = [], 0, False
        self.changed = asyncio.Condition()
        self.http = HttpServer(self.respond, self.accept)
        self.port = 0

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}/told"

    async def start(self, port=0, ssl=None):
        self.scheme = "https" if ssl else "http"
        self.port = await self.http.start("127.0.0.1", port, ssl)

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_exc):
        await self.http.stop()

    async def told(self, count):
        """Wait until so many requests have come; what they were."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: len(self.got) >= count)
        return self.got

    def accept(self):
        self.accepted += 1
        return self.faults.pop(0) if self.faults else None

    async def respond(self, request):
        if complaint := self.complaint(request):
            self.wrong.append(complaint)
            return Reply(401, b"", "text/plain")
        event = json.loads(request.body)
        order = event["payment"]["order_id"]
        got = Got(event["id"], event["type"], order, request.body, request.headers)
        async with self.changed:
            self.got.append(got)
            self.changed.notify_all()
        with self.counted(order):
            if self.hold:
                await self.hold.wait()
            return self.replies.pop(0) if self.replies else self.answer(got)

    @contextmanager
    def counted(self, order):
        self.twice |= order in self.under_way
        self.under_way.append(order)
        self.most = max(self.most, len(self.under_way))
        try:
            yield
        finally:
            self.under_way.remove(order)

    def complaint(self, request):
        if (request.method, request.path) != ("POST", "/told"):
            return "no POST /told"
        if request.headers.get("content-type") != "application/json":
            return "no JSON"
        found = SIGNATURE.fullmatch(request.headers.get("ivr-agi-signature", ""))
        if not found:
            return "no signature"
        mac = hmac.new(self.secret.encode(), found[1].encode() + b"." + request.body, hashlib.sha256)
        if f"v1={mac.hexdigest()}" not in found[2].split(","):
            return "another secret"
        if request.headers.get("ivr-agi-event") != json.loads(request.body)["id"]:
            return "the header's event is not the body's"
        return ""
