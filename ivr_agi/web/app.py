"""The pages: /healthz, /readyz and /metrics. GET and HEAD only; nothing here changes anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ivr_agi import metrics

if TYPE_CHECKING:
    from starlette.requests import Request

    from ivr_agi.web.health import Health

# Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def make_app(health: Health) -> Starlette:
    """The application on one server's health."""

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
        """All of metrics.REGISTRY."""
        await health.refresh()
        text = await asyncio.to_thread(generate_latest, metrics.REGISTRY)
        return Response(text, headers={**HEADERS, "Content-Type": EXPOSITION})

    app = Starlette(
        routes=[
            Route("/healthz", healthz, methods=["GET"]),  # and HEAD, by Starlette
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", exposition, methods=["GET"]),
        ]
    )
    app.router.redirect_slashes = False
    return app
