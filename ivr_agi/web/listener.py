"""The HTTP listener: uvicorn on the server's own loop, with nothing of the process left to it.

The payment line comes first: an HTTP port that cannot be had is an error in the log, and calls go
on. Signals are `serve`'s own, and so is when to stop: after the drain, so that /readyz can say so.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ivr_agi import metrics
from ivr_agi.web.app import make_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp

    from ivr_agi.web.health import Health

log = structlog.get_logger()

MOST_CONNECTIONS: Final = 128  # so that no crowd here takes the files that calls need
GOODBYE_SECONDS: Final = 2  # for answers under way when we stop


class Web:
    """The HTTP side of one server."""

    def __init__(  # noqa: PLR0913 - what it shows, and where
        self,
        host: str,
        port: int,
        health: Health,
        panel: ASGIApp | None = None,
        *,
        registry: CollectorRegistry = metrics.REGISTRY,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        """registry: what /metrics shows. sockets: kept open by somebody else, in place of host and port."""
        self._app = make_app(health, panel, registry)
        self._sockets = list(sockets)
        self._host = host
        self._port = port
        self._uvicorn: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int | None:
        """Listen; returns the port, or None if it cannot be had. Never raises."""
        try:
            self._sockets = self._sockets or [await _listen(self._host, self._port)]
        except (OSError, UnicodeError) as error:  # the latter for what can be no name at all
            log.error(
                "web.not_listening",
                host=self._host,
                port=self._port,
                why=getattr(error, "strerror", None) or str(error),
                cure="IVR_AGI_HTTP_HOST, IVR_AGI_HTTP_PORT: choose another; calls go on without them",
            )
            return None
        port = int(self._sockets[0].getsockname()[1])
        config = uvicorn.Config(
            self._app,
            http=cast("type[asyncio.Protocol]", _Protocol),
            ws="none",
            lifespan="off",
            log_config=None,  # logs.py's
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GOODBYE_SECONDS,
        )
        self._uvicorn = _Uvicorn(config)
        self._serving = asyncio.create_task(self._uvicorn.serve(self._sockets), name="web")
        self._serving.add_done_callback(_tell)
        await asyncio.wait(
            {self._serving, asyncio.create_task(self._uvicorn.up.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        if self._serving.done():
            return None
        log.info("web.listening", host=self._host, port=port)
        return port

    async def stop(self) -> None:
        """Answer what is being asked, then close."""
        if self._uvicorn and self._serving:
            self._uvicorn.should_exit = True
            await asyncio.wait({self._serving})


async def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    (family, _, _, _, address), *_ = await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return socket.create_server(address[:2], family=family)


def _tell(serving: asyncio.Task[None]) -> None:
    if not serving.cancelled() and (error := serving.exception()):
        log.error(
            "web.broken", error=type(error).__name__, cure="calls go on; restart for health and metrics"
        )


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers. up: set when it accepts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to `serve`: it drains first."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and say so."""
        await super().startup(sockets=sockets)
        self.up.set()


class _Protocol(H11Protocol):
    """uvicorn's, but one connection too many is closed at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count first."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
