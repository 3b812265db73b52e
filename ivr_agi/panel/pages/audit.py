"""Who did what in the panel, newest first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.routing import Route

from ivr_agi.journal import people
from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import guarded
from ivr_agi.panel.showing import page, path

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

SHOWN: Final = 100


def routes() -> list[Route]:
    """Of this module."""
    return [Route("/audit", guarded(show, May.AUDIT), name="audit")]


async def show(request: Request) -> Response:
    """Entries of the audit log; before=ID for older ones."""
    before = request.query_params.get("before", "")
    number = int(before) if before.isdecimal() and len(before) < 16 else None  # noqa: PLR2004 - an id
    query = partial(people.entries, before=number, limit=SHOWN + 1)
    found = await request.app.state.panel.journal.look(query)
    older = f"{path(request, 'audit')}?before={found[SHOWN - 1]['id']}" if len(found) > SHOWN else None
    newest = path(request, "audit") if number is not None else None
    return page(request, "audit.html", entries=found[:SHOWN], older=older, newest=newest)
