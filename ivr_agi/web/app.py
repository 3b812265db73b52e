"""/healthz, /readyz and /metrics, by GET and HEAD only; and the merchant's panel, if there is one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ivr_agi import metrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from ivr_agi.web.health import Health

# Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
PANEL: Final = "/panel"
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def make_app(
    health: Health, panel: ASGIApp | None = None, registry: CollectorRegistry = metrics.REGISTRY
) -> Starlette:
    """The application on one server's health. panel: put at PANEL. registry: what is at /metrics."""

    async def healthz(_request: Request) -> Response:
        """200 for as long as the loop turns."""
        return PlainTextResponse("ok\n", headers=HEADERS)

    async def readyz(_request: Request) -> Response:
        """200 if a call can be taken; else 503, and each part by name."""
        parts = await health.parts()
        ready = not any(parts.values())
        named = {part: trouble or "ok" for part, trouble in parts.items()}
        return JSONResponse({"ready": ready, "parts": named}, 200 if ready else 503, HEADERS)

    async def exposition(_request: Request) -> Response:
        """All of the registry."""
        await health.refresh()
        text = await asyncio.to_thread(generate_latest, registry)
        return Response(text, headers={**HEADERS, "Content-Type": EXPOSITION})

    async def to_panel(_request: Request) -> Response:
        """Whoever types the address alone means the panel."""
        return RedirectResponse(f"{PANEL}/", 303)

    routes: list[BaseRoute] = [
        Route("/healthz", healthz, methods=["GET"]),  # and HEAD, by Starlette
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", exposition, methods=["GET"]),
    ]
    if panel is not None:
        routes += [Route("/", to_panel, methods=["GET"]), Mount(PANEL, panel)]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app
