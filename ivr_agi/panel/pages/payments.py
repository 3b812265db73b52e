"""Payments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import guarded

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def routes() -> list[Route]:
    """Of this module."""
    return [
        Route("/payments", guarded(show, May.LOOK), name="payments"),
        Route("/payments/{attempt_id:int}", guarded(show, May.LOOK), name="payment"),
        Route("/payments/{attempt_id:int}/receipt", guarded(show, May.LOOK), name="receipt"),
    ]


async def show(_request: Request) -> Response:
    """The page."""
    return PlainTextResponse("soon")
