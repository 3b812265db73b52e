"""Calls in progress, by state, masked; kept up to date by server-sent events.

Written once a second for all who watch in a language, and only while somebody does. Of a caller the page has
the number's ends, of a card the mask.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import StreamingResponse
from starlette.routing import Route

from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import Stopped, guarded, session_cookie
from ivr_agi.panel.showing import language_of, page, render

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

EVERY: Final = 1.0  # seconds between two looks
QUIET: Final = 15.0  # seconds without news after which a comment keeps the connection open
CHECKED: Final = 30.0  # seconds between two looks whether one is still signed in
MOST: Final = 16  # who watch at once
SHOWN: Final = 200  # calls, the oldest first


class Watchers:
    """Who has the page open."""

    def __init__(self) -> None:
        self.count = 0
        self.closing = asyncio.Event()
        self._written: dict[str, tuple[float, str]] = {}  # language -> when, what

    async def look(self, request: Request) -> str:
        """The calls as the page has them, written once for all who watch in a language at the same time."""
        now, language = asyncio.get_running_loop().time(), language_of(request)
        at, text = self._written.get(language, (0.0, ""))
        if now - at >= EVERY / 2:
            text = render(request, "live_calls.html", **await _now(request))
            self._written[language] = now, text
        return text

    def close(self) -> None:
        """Let all go."""
        self.closing.set()


def routes() -> list[Route]:
    """Of this module."""
    return [
        Route("/live", guarded(show, May.WATCH), name="live"),
        Route("/live/events", guarded(events, May.WATCH), name="live_events"),
    ]


async def show(request: Request) -> Response:
    """The page; without JavaScript it refreshes itself."""
    return page(request, "live.html", **await _now(request))


async def events(request: Request) -> Response:
    """The calls, whenever they change."""
    watchers = request.app.state.panel.watchers
    if watchers.count >= MOST:
        raise Stopped(503, "too_many_watch")
    headers = {"X-Accel-Buffering": "no"}  # nginx hands it on at once
    return StreamingResponse(_events(request, watchers), media_type="text/event-stream", headers=headers)


async def _events(request: Request, watchers: Watchers) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    if watchers.count >= MOST:  # more of them have come at the same moment
        return
    watchers.count += 1
    shown, spoke, checked = "", clock(), clock()
    try:
        yield "retry: 3000\n\n"
        while not watchers.closing.is_set():
            now = clock()
            if now - checked >= CHECKED:
                checked = now
                cookie = session_cookie(request)
                if await request.app.state.panel.sessions.of(cookie, looking_on=True) is None:
                    return
            text = await watchers.look(request)
            if text != shown:
                shown, spoke = text, now
                yield "event: calls\n" + "".join(f"data: {line}\n" for line in text.splitlines()) + "\n"
            elif now - spoke >= QUIET:
                spoke = now
                yield ": still here\n\n"
            try:
                async with asyncio.timeout(EVERY):
                    await watchers.closing.wait()
            except TimeoutError:
                pass
    finally:
        watchers.count -= 1


async def _now(request: Request) -> dict[str, Any]:
    calls = sorted(await request.app.state.panel.calls(), key=lambda call: -call.seconds)
    states = Counter(call.state for call in calls)
    return {"calls": calls[:SHOWN], "total": len(calls), "states": states}
