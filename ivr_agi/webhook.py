"""Tells the merchant what became of each payment: posts the notices of the journal's outbox.

docs/webhook.md is the contract: at least once, one order's notices in their order, signed, tried again
for days, given up never silently. A payment never waits for this, and nothing here can fail one: the
notices are on disk with the outcomes, so whatever ends this task, the next one goes on from there. It
must never call a notice delivered that the receiver has not answered with 2xx, nor send two of an order
at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog

from ivr_agi import https, metrics, signature
from ivr_agi.journal import JournalError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    import httpx

    from ivr_agi.journal import Journal
    from ivr_agi.journal.outbox import Notice
    from ivr_agi.model import Secret

log = structlog.get_logger()

EVENT: Final = "Ivr-Agi-Event"
AT_ONCE: Final = 8  # requests under way
DEADLINE: Final = 10.0  # seconds for a whole exchange
CLAIM: Final = 30.0  # seconds for which a notice is ours; clocks of two servers may differ by the rest
POLL: Final = 5.0  # seconds between looks at the outbox; other processes write there, too
MAX_BODY: Final = 16_384  # bytes of an answer that are read, and not looked at
WAITS: Final = (5.0, 30.0, 120.0, 600.0, 3600.0)  # seconds until the next try; the last one again
JITTER: Final = 0.2  # up to so much longer, so that what failed together does not come back together
COUNT_EVERY: Final = 30.0  # seconds between counts of what waits
MARK_AGAIN: Final = 1.0  # seconds until the journal is asked again to take what came of a try
LAST_SECONDS: Final = 20.0  # for what is being sent when the server stops

DOWN_AFTER: Final = 3  # orders of which none got through: it is the receiver, not one notice
PROBES: Final = (5.0, 60.0)  # seconds between tries while it is down: at first, at most
BACK_AFTER: Final = 300.0  # seconds without a success after which a success has all tried at once


@dataclass(slots=True)
class Receiver:
    """Whether the receiver seems to be there: a dead one is asked now and then, not a hundred thousand times.

    Times are in seconds, of any clock.
    """

    down: bool = False
    next_try: float = 0.0  # while it is down
    _failed: set[str] = field(default_factory=set)  # orders, since the last success
    _since: float = 0.0  # the first of these
    _wait: float = PROBES[0]

    def room(self, now: float, under_way: int) -> int:
        """How many more requests may begin."""
        if self.down:
            return int(now >= self.next_try and not under_way)
        return AT_ONCE - under_way

    def failed(self, order_id: str, now: float) -> bool:
        """A request failed; returns whether the receiver is down since this very moment."""
        if not self._failed:
            self._since = now
        self._failed.add(order_id)
        was, self.down = self.down, self.down or len(self._failed) >= DOWN_AFTER
        if not self.down or (was and now < self.next_try):  # this one began before
            return False
        self._wait = min(self._wait * 2, PROBES[1]) if was else PROBES[0]
        self.next_try = now + self._wait
        return not was

    def succeeded(self, now: float) -> float:
        """A request got through; returns for how long none had, 0 if none had failed."""
        silent = now - self._since if self._failed else 0.0
        self._failed.clear()
        self.down = False
        return silent


class Webhook:
    """The sender of one server. Several servers may send from one journal."""

    def __init__(  # noqa: PLR0913 - settings, each by its name
        self,
        journal: Journal,
        url: str,
        secrets: Sequence[Secret],
        *,
        days: float,
        deadline: float = DEADLINE,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """secrets: each signs each request. days: after which a notice that still fails is given up."""
        self._journal = journal
        self._url = url
        self._secrets = secrets
        self._patience = days * 86400
        self._deadline = deadline
        self._clock = clock
        self._receiver = Receiver()
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by order: never two of one
        self._woken = asyncio.Event()
        self._stopping = False
        self._counted = float("-inf")
        self._troubled = False
        self._task: asyncio.Task[None] | None = None
        # A connection each: one kept open is most often closed by the receiver when it is needed.
        self._client = https.client(tls or https.verified_tls(), accept="*/*")

    def start(self) -> None:
        """Begin to send what is due, and go on until `stop`."""
        self._journal.on_notice = self.wake
        self._task = asyncio.create_task(self._run(), name="webhook")

    def wake(self) -> None:
        """Look at the outbox now. On the loop's thread."""
        self._woken.set()

    async def stop(self) -> None:
        """Send what is due once more, and finish what is being sent; the rest stays in the outbox."""
        if self._task is None:
            return
        self._stopping = True
        self.wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await asyncio.wait({self._task})
                while self._under_way:
                    await asyncio.wait(self._under_way.values())
        left = {self._task, *self._under_way.values()}
        for task in left:
            task.cancel()
        await asyncio.wait(left)
        await self._client.aclose()

    # -- the task -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            last, wait = self._stopping, POLL
            try:
                wait = await self._turn()
                self._troubled = False
            except JournalError as error:
                if not self._troubled:
                    log.error("webhook.waits_for_journal", error=str(error), cure="see journal.out_of_order")
                self._troubled = True
            except Exception:
                log.exception("webhook.broken")  # a bug of ours: nothing is lost, it is tried again
            if last:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

    async def _turn(self) -> float:
        """Begin to send what is due, as far as there is room; returns seconds until the next look."""
        now = self._clock()
        await self._count(now)
        room = self._receiver.room(now, len(self._under_way))
        if room:
            # Looked up first: a claim is a write, and that of nothing would hide how slow real ones are.
            busy = list(self._under_way)
            due = await self._journal.next_notice(busy)
            if due is None or due > now:
                return POLL if due is None else min(POLL, due - now)
            for notice in await self._journal.claim_notices(now, now + CLAIM, room, busy):
                self._under_way[notice.order_id] = asyncio.create_task(
                    self._deliver(notice), name=f"webhook-{notice.id}"
                )
        if self._receiver.down:
            return min(POLL, max(0.0, self._receiver.next_try - now) or POLL)
        return POLL  # or when one of them has ended

    async def _count(self, now: float) -> None:
        if 0 <= now - self._counted < COUNT_EVERY:
            return
        found = await self._journal.waiting_notices()
        metrics.notices_pending.set(found.count)
        metrics.notices_oldest.set(max(0.0, now - _seconds(found.oldest)) if found.count else 0)
        self._counted = now

    async def _deliver(self, notice: Notice) -> None:
        """Send one and write down what came of it."""
        try:
            try:
                why = await self._post(notice)
            except Exception:
                log.exception("webhook.broken", notice=notice.key)
                why = "internal-error"  # a bug of ours, and tried again like any other failure
            await (self._failed(notice, why) if why else self._delivered(notice))
        finally:
            del self._under_way[notice.order_id]
            self.wake()

    async def _post(self, notice: Notice) -> str:
        """Post one; returns why it is not delivered, '' if it is."""
        body = notice.body.encode()
        headers = {
            "Content-Type": "application/json",
            EVENT: notice.key,
            signature.HEADER: signature.sign(body, self._secrets, int(self._clock())),
        }
        why, status = "", 0
        try:
            async with asyncio.timeout(self._deadline):
                sent = self._client.stream("POST", self._url, content=body, headers=headers)
                async with sent as response:
                    status = response.status_code
                    await _read_some(response)
        except TimeoutError:
            why = "timeout"
        except https.BROKEN as error:
            why = https.trouble(error)
        if status in https.OK:  # whatever became of the rest of the answer
            return ""
        return f"http-{status}" if status else why

    async def _delivered(self, notice: Notice) -> None:
        metrics.notices.labels("delivered").inc()
        log.info("webhook.delivered", notice=notice.key, kind=notice.kind, order=notice.order_id)
        now = self._clock()
        was_down = self._receiver.down
        silent = self._receiver.succeeded(now)
        await self._mark(notice, delivered_at=_text(now))
        if was_down:
            log.warning("webhook.receiver_up", seconds=round(silent))
        if silent >= BACK_AFTER:  # what waits for an hour yet need not
            with suppress(JournalError):
                await self._journal.hurry_notices(now, now + CLAIM)

    async def _failed(self, notice: Notice, why: str) -> None:
        metrics.notices.labels("failed").inc()
        now, tries = self._clock(), notice.tries + 1
        about = {
            "notice": notice.key,
            "kind": notice.kind,
            "order": notice.order_id,
            "why": why,
            "tries": tries,
        }
        quiet = self._receiver.down
        if self._receiver.failed(notice.order_id, now):
            log.error(
                "webhook.receiver_down",
                why=why,
                endpoint=urlsplit(self._url).hostname,
                cure="nothing gets through; see to the receiver. It is asked once a minute, and what waits"
                " is sent when it is back: `ivr-agi journal notify`",
            )
        if tries > len(WAITS) and now - _seconds(notice.created_at) >= self._patience:
            metrics.notices.labels("given_up").inc()
            log.critical(
                "webhook.given_up",
                **about,
                cure=f"the merchant has not been told; then `ivr-agi journal notify --resend {notice.key}`",
            )
            return await self._mark(notice, trouble=why, given_up_at=_text(now))
        wait = WAITS[min(tries, len(WAITS)) - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311 - no secret
        if not quiet:
            log.warning(
                "webhook.failed", **about, again_in=round(wait), cure="docs/webhook.md explains `why`"
            )
        return await self._mark(notice, trouble=why, due_at=now + wait)

    async def _mark(self, notice: Notice, **outcome: Any) -> None:
        """Write what came of a try; while the journal does not take it, its order waits."""
        while True:
            try:
                return await self._journal.settle_notice(notice, **outcome)
            except JournalError as error:
                log.error("journal.failed", wanted="notice", notice=notice.key, error=str(error))
            await asyncio.sleep(MARK_AGAIN)


async def _read_some(response: httpx.Response) -> None:
    """Hear the answer out, within reason: a receiver that is cut off in the middle may complain."""
    length = 0
    async for chunk in response.aiter_raw():
        length += len(chunk)
        if length > MAX_BODY:
            return


def _text(at: float) -> str:
    """A time as the journal writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _seconds(text: str) -> float:
    """A time of the journal, in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()
