"""Settlement."""

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
        Route("/settlement", guarded(show, May.RESOLVE), name="settlement"),
    ]


async def show(_request: Request) -> Response:
    """The page."""
    return PlainTextResponse("soon")
