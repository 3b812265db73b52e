"""Whether this server can take a payment now: it listens, is not draining, and its journal takes a write.

The write is a real one, on disk before it counts: a full disk shows nowhere else until a caller has
keyed his card. The journal is asked by its own threads, never twice at once and not at each request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi import metrics
from ivr_agi.journal import AttemptState, JournalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ivr_agi.journal import Journal

log = structlog.get_logger()

WRITE_EVERY: Final = 5.0  # seconds between two test writes
COUNT_EVERY: Final = 30.0  # seconds between two counts of the unknown payments
PATIENCE: Final = 2.0  # seconds to wait for the journal

SILENT: Final = f"no answer within {PATIENCE:g} s"


class Inquiry:
    """A question to the journal: at most one at once, one every so often, none waited for long."""

    def __init__(self, ask: Callable[[], Awaitable[None]], every: float) -> None:
        """ask: raises JournalError. every: seconds for which an answer holds."""
        self._ask = ask
        self._every = every
        self._asked = 0.0
        self._task: asyncio.Task[str] | None = None

    async def trouble(self) -> str:
        """What went wrong with the last one, or with this one; '' for nothing."""
        now = asyncio.get_running_loop().time()
        if self._task is None or (self._task.done() and now - self._asked >= self._every):
            self._task, self._asked = asyncio.create_task(self._answer()), now
        # It goes on when we do not wait any longer: the journal's thread cannot be called back.
        await asyncio.wait({self._task}, timeout=PATIENCE)
        return self._task.result() if self._task.done() else SILENT

    async def _answer(self) -> str:
        try:
            await self._ask()
        except JournalError as error:
            log.error("journal.failed", wanted="readiness", error=str(error))
            return "it fails: see the log"  # the driver's own words may name hosts and users
        except Exception as error:  # noqa: BLE001 - not ready, whatever it is
            log.error("journal.failed", wanted="readiness", error=type(error).__name__)
            return "it fails: see the log"
        return ""


class Health:
    """The state of one server's parts. accepting: whether it listens and does not drain."""

    def __init__(self, journal: Journal, accepting: Callable[[], bool]) -> None:
        self._journal = journal
        self._accepting = accepting
        self._write = Inquiry(journal.probe, WRITE_EVERY)
        self._count = Inquiry(self._count_unknown, COUNT_EVERY)
        self._pause = Inquiry(self._look_whether_paused, WRITE_EVERY)
        self._last: dict[str, str] = {}

    async def parts(self) -> dict[str, str]:
        """Each part, with what is wrong with it; '' for nothing."""
        # What a payment has met counts at once; the test write finds what none has met yet.
        found = {"journal": "it fails: see the log" if self._journal.trouble else await self._write.trouble()}
        found = {"listening": "" if self._accepting() else "not listening, or draining"} | found
        for part, trouble in found.items():
            metrics.ready.labels(part).set(not trouble)
        if found != self._last and (any(found.values()) or self._last):
            log.info("web.readiness", **{part: trouble or "ok" for part, trouble in found.items()})
        self._last = found
        return found

    async def refresh(self) -> None:
        """Bring the gauges up to date before they are read."""
        await asyncio.gather(self.parts(), self._count.trouble(), self._pause.trouble())

    async def _look_whether_paused(self) -> None:
        metrics.paused.set(await self._journal.is_paused())

    async def _count_unknown(self) -> None:
        # When it fails, the last count stands: what was open is open still.
        metrics.payments_unknown.set(await self._journal.count(AttemptState.UNKNOWN))
