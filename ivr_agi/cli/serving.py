"""`ivr-agi serve`: the parts put together and taken apart again, in one process or under a supervisor."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import structlog

from ivr_agi import __version__, metrics
from ivr_agi.cli.wiring import (
    fail,
    open_journal,
    open_panel,
    open_payments,
    open_server,
    open_web,
    open_webhook,
    recover,
    tell_panel,
)
from ivr_agi.listener import open_sockets
from ivr_agi.notify import Notify
from ivr_agi.workers.place import Place, end_with_supervisor

if TYPE_CHECKING:
    import socket

    from ivr_agi.journal import Journal
    from ivr_agi.server import Server
    from ivr_agi.settings import Settings

log = structlog.get_logger()

SETTLE_SECONDS = 120  # beyond the drain's limit and that of `pay`: a journal that fails is tried again
SWITCH_SECONDS = 0.0005  # after which the loop lets the journal's threads have their turn: it is a short one
OTHER_FILES = 256  # beside those of calls: the journal, HTTP, what the language itself keeps open


async def serve(found: Settings, workers: int) -> int:
    """Serve until SIGTERM or SIGINT, then drain; returns the exit status. workers: 0 for none."""
    make_room(found)
    sys.setswitchinterval(SWITCH_SECONDS)
    place = Place.of(os.environ)
    if place:
        return await serve_calls(found, open_journal(found), place)
    if not workers:
        return await serve_calls(found, open_journal(found))
    open_journal(found).close()  # what is wrong with it is said once; its schema is brought up to date once
    return await supervise(found, workers)


async def serve_calls(found: Settings, journal: Journal, place: Place | None = None) -> int:
    """Be the server, or the part of it that a place says."""
    calls, front = place is None or not place.front, place is None or place.front
    stop, hurry = _signals(place)
    notify = Notify(os.environ)
    metrics.build(__version__)
    if place:
        end_with_supervisor()
        structlog.contextvars.bind_contextvars(worker=place.name)
    try:
        log.info("journal.opened", journal=journal.place)
        recover(journal)
        payments = open_payments(found, journal)
        server = open_server(found, payments, place)
        webhook = open_webhook(found, journal) if calls else None
        if calls:
            await _listen(server, found, place.take_sockets() if place else None)
        panel = open_panel(found, journal, payments, server, place) if front else None
        web = open_web(found, journal, server, panel, place) if front else None
        http_port = await web.start() if web else None
        if panel and http_port:
            await tell_panel(found, http_port, journal)
        if webhook:
            webhook.start()
        telling = await _tell_calls(server, place)
        # What a start has made stays: to look for garbage in it would halt all calls, for 70 ms and more.
        gc.freeze()
        notify.ready(lambda: f"Taking calls on {found.host}:{server.port}; {server.calls} in progress")
        await stop.wait()
        notify.stopping("Draining", drain_seconds(found))
        await server.drain(hurry, panel.quiet if panel else None)
        if telling:
            telling.close()
        if webhook:
            await webhook.stop()
        if panel:
            await panel.close()
        if web:
            await web.stop()  # last: until then /readyz says that we drain
    finally:
        notify.close()
        journal.close()
    return 0


async def supervise(found: Settings, workers: int) -> int:
    """Be the process above the workers."""
    from ivr_agi.workers.supervisor import Supervisor  # noqa: PLC0415 - where there are none, it is not needed

    sockets: list[list[socket.socket]] = []
    port, web = found.port, []
    try:
        for _ in range(workers):
            sockets.append(await open_sockets(found.host, port, shared=True))
            port = int(sockets[0][0].getsockname()[1])
    except OSError as error:
        _cannot_listen(found, error)
    with suppress(OSError, UnicodeError):  # the front tries once more, and says what is wrong
        web = await open_sockets(found.http_host, found.http_port)
    log.info("server.listening", host=found.host, port=port, workers=workers)
    if web:
        log.info("web.listening", host=found.http_host, port=int(web[0].getsockname()[1]))
    supervisor = Supervisor(
        sockets,
        web,
        partial(open_sockets, found.host, port, shared=True),
        Notify(os.environ),
        max_calls=found.max_calls,
        drain_seconds=drain_seconds(found),
        address=f"{found.host}:{port}",
    )
    return await supervisor.run()


def drain_seconds(found: Settings) -> float:
    """How long the end may take."""
    return found.drain_limit + found.pay_timeout + SETTLE_SECONDS


def make_room(found: Settings) -> None:
    """Raise the limit of open files to what the system allows; say so where that is too little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    needed = 2 * found.max_calls + OTHER_FILES  # a call's, and that to the gateway
    if soft != resource.RLIM_INFINITY and soft < needed:
        log.warning(
            "server.few_files",
            files=soft,
            needed=needed,
            cure="LimitNOFILE= of the unit, or `ulimit -n`",
        )


def _signals(place: Place | None) -> tuple[asyncio.Event, asyncio.Event]:
    """What is set when it is to end, and to hurry."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def end() -> None:  # the first signal drains, the second one shortens the drain
        (hurry if stop.is_set() else stop).set()

    def hasten() -> None:
        stop.set()
        hurry.set()

    loop = asyncio.get_running_loop()
    # Under a supervisor SIGTERM may come twice, from it and from systemd: it hurries nobody.
    loop.add_signal_handler(signal.SIGTERM, stop.set if place else end)
    loop.add_signal_handler(signal.SIGINT, hasten if place else end)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: log.warning("server.no_reload", cure="`serve --workers N`, and SIGHUP to that")
    )
    return stop, hurry


async def _listen(server: Server, found: Settings, sockets: list[socket.socket] | None) -> None:
    try:
        await server.start(sockets)
    except OSError as error:
        _cannot_listen(found, error)


def _cannot_listen(found: Settings, error: OSError) -> NoReturn:
    why = error.strerror or error
    fail(f"IVR_AGI_HOST, IVR_AGI_PORT: cannot listen on {found.host}:{found.port}: {why}")


async def _tell_calls(server: Server, place: Place | None) -> asyncio.Server | None:
    """Let the front know what calls there are."""
    if place is None or place.front:
        return None
    from ivr_agi.workers import live  # noqa: PLC0415 - as above

    return await live.tell(place.mouth, server.live)
