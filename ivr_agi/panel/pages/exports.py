"""Payments as a file: whatever the search finds, all of it, for a program (CSV) or for a person (Excel).

Both are read in pages and written in bits: between two of them the calls have the loop. Who takes such a file
is in the audit log before the first byte of it leaves.
"""

from __future__ import annotations

import asyncio
import csv
import io
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ivr_agi.export import EXPORTED, FREE_TEXT, no_formula
from ivr_agi.journal import JournalError, search
from ivr_agi.journal.tables import timestamp
from ivr_agi.panel import asked, figures
from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import guarded, record
from ivr_agi.panel.sheet import Sheet
from ivr_agi.panel.showing import language_of, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import sqlalchemy as sa
    from starlette.requests import Request

    from ivr_agi.journal import Journal
    from ivr_agi.journal.search import Filter, Place
    from ivr_agi.panel.asked import Asked

log = structlog.get_logger()

PAGE: Final = 500  # payments read at once
MOST_IN_EXCEL: Final = 50_000  # rows
BIT: Final = 0.005  # seconds of work after which the others have their turn
CSV: Final = "text/csv; charset=utf-8"
EXCEL: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
BOM: Final = "\ufeff"  # by it Excel knows UTF-8
# Also what Asterisk and the bank have written, which the command's export leaves as it is
GUARDED: Final = (*FREE_TEXT, "code", "call", "review")


def routes(show_list: Callable[..., Awaitable[Response]]) -> list[Route]:
    """Of this module. show_list: the page that says why there is no file."""
    exports = Exports(show_list)
    return [
        Route("/payments.csv", guarded(exports.csv, May.EXPORT), name="payments_csv"),
        Route("/payments.xlsx", guarded(exports.excel, May.EXPORT), name="payments_xlsx"),
    ]


class Exports:
    """Of one server. One Excel file is made at a time: it costs a second for each 10,000 payments or so."""

    def __init__(self, show_list: Callable[..., Awaitable[Response]]) -> None:
        self._show_list = show_list
        self._turn = asyncio.Lock()

    async def csv(self, request: Request) -> Response:
        """All that is found as CSV, with the columns of `ivr-agi journal export`."""
        given = asked.read(request.query_params, request.url.query)
        if given.errors or given.card:
            return await self._show_list(request, given)
        journal: Journal = request.app.state.panel.journal
        count, before = await journal.look(partial(_extent, wanted=given.wanted))
        await _record(request, given, "CSV", count)
        return StreamingResponse(_csv(journal, given.wanted, before), headers=_named("csv", CSV))

    async def excel(self, request: Request) -> Response:
        """The same for Excel, in the page's language."""
        given = asked.read(request.query_params, request.url.query)
        if given.errors or given.card:
            return await self._show_list(request, given)
        language = language_of(request)
        if self._turn.locked():
            return await self._show_list(request, given, refused=say("payments.busy", language), status=429)
        async with self._turn:
            journal: Journal = request.app.state.panel.journal
            count, before = await journal.look(partial(_extent, wanted=given.wanted))
            if count > MOST_IN_EXCEL:
                numbers = {
                    "most": figures.number(MOST_IN_EXCEL, language),
                    "count": figures.number(count, language),
                }
                refused = say("payments.too_many_rows", language, **numbers)
                return await self._show_list(request, given, refused=refused, status=422)
            await _record(request, given, "Excel", count)
            with TemporaryDirectory(prefix="ivr-agi-") as folder:
                sheet = Sheet(Path(folder), language)
                async for row in _rows(journal, given.wanted, before):
                    sheet.add(row)
                content = await asyncio.to_thread(sheet.close)
        return Response(content, headers=_named("xlsx", EXCEL))


def _extent(connection: sa.Connection, wanted: Filter) -> tuple[int, Place | None]:
    """How many are found, and the place right after the newest: what comes meanwhile is not among them."""
    newest = search.find(connection, wanted, limit=1)
    after = (newest[0]["created_at"], newest[0]["id"] + 1) if newest else None
    return search.count(connection, wanted), after


async def _rows(journal: Journal, wanted: Filter, before: Place | None) -> AsyncIterator[dict[str, Any]]:
    """What is found before a place, newest first. After a bit of work others on the loop have their turn."""
    while True:
        rows = await journal.look(partial(search.find, wanted=wanted, before=before, limit=PAGE))
        since = time.perf_counter()
        for row in rows:
            yield row
            if time.perf_counter() - since > BIT:
                await asyncio.sleep(0)
                since = time.perf_counter()
        if len(rows) < PAGE:
            return
        before = (rows[-1]["created_at"], rows[-1]["id"])


async def _csv(journal: Journal, wanted: Filter, before: Place | None) -> AsyncIterator[str]:
    """The file in pieces. One that the journal breaks off ends in the middle: nobody takes it for whole."""
    piece = io.StringIO(newline="")
    piece.write(BOM)
    writer = csv.DictWriter(piece, EXPORTED, extrasaction="ignore")
    writer.writeheader()
    written = 0
    try:
        async for row in _rows(journal, wanted, before):
            writer.writerow(row | {name: no_formula(row[name]) for name in GUARDED})
            written += 1
            if written % PAGE == 0:
                yield piece.getvalue()
                piece.seek(0)
                piece.truncate()
    except JournalError as error:
        log.error("panel.export_broken", rows=written, error=str(error))
        raise
    yield piece.getvalue()


async def _record(request: Request, given: Asked, kind: str, count: int) -> None:
    """Write into the audit log what is taken."""
    language = language_of(request)
    filters = ", ".join(f"{label}: {value}" for label, value in given.in_words(language))
    about = say(
        "payments.exported",
        language,
        kind=kind,
        filters=filters or say("payments.exported_all", language),
        count=figures.number(count, language),
    )
    await record(request, "export", about=about)


def _named(ending: str, kind: str) -> dict[str, str]:
    """Headers of a file. It is never opened in the browser, where it would pass for a page."""
    name = f"payments-{timestamp()[:10]}.{ending}"
    return {"Content-Type": kind, "Content-Disposition": f'attachment; filename="{name}"'}
