"""One trial call: its events in order, kept so that a browser that was cut off can take up where it was."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

import structlog

from ivr_agi.panel.trial.handset import BrowserHandset

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ivr_agi.panel.trial.shelf import Shelf
    from ivr_agi.simulator.channel import Channel

log = structlog.get_logger()

LET_GO: Final = 60.0  # seconds that the server has after a hang-up: a `pay` is carried through
KEEP_ALIVE: Final = 10.0  # seconds of silence after which an event stream says that it is there

Event = dict[str, object]


class TrialCall:
    """A call that a browser makes.

    owner: the user whose it is. id: unguessable. dropped_limit: seconds without anybody who takes the events
    after which it hangs up. channel: Asterisk's side, once it is dialled.
    """

    def __init__(
        self, owner: str, order_id: str, shelf: Shelf, language: str, *, dropped_limit: float
    ) -> None:
        self.id = secrets.token_urlsafe(24)
        self.owner = owner
        self.order_id = order_id
        self.handset = BrowserHandset(self.tell, shelf, language)
        self.channel: Channel | None = None
        self.ended = False
        self._events: list[Event] = []
        self._news = asyncio.Event()
        self._streams = 0  # begun so far: the last one alone is served
        self._dropped_limit = dropped_limit
        self._dropped: asyncio.TimerHandle | None = None

    def tell(self, kind: str, **more: object) -> int:
        """Add an event; returns its number, which it has as `seq`."""
        self._events.append({"kind": kind, "seq": len(self._events) + 1, **more})
        self._announce()
        return len(self._events)

    async def run(self, channel: Channel, longest: float) -> None:
        """Be on the line until the server lets go; after `longest` seconds hang up. Never raises."""
        self.channel = channel
        loop = asyncio.get_running_loop()
        overdue = loop.call_later(longest, channel.hang_up)
        self._watch_for_a_listener()
        try:
            async with asyncio.timeout(longest + LET_GO):
                await channel.run()
        except Exception:
            log.exception("trial.broken")
        finally:
            overdue.cancel()
            self._stop_watching()
            if "PAYSTATUS" not in channel.variables:  # not even told that the caller has gone
                self.tell("trouble", why="lost")
            self.tell("ended", variables=dict(channel.variables))
            self.ended = True
            self._announce()

    async def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events beyond the number `after`, as they come, up to `ended`; {} in every long silence.

        A later stream of the same call ends this one.
        """
        self._streams += 1
        mine, place = self._streams, max(after, 0)
        self._stop_watching()
        self._announce()
        try:
            while mine == self._streams:
                news = self._news
                if place < len(self._events):
                    place += 1
                    yield self._events[place - 1]
                elif self.ended:
                    return
                else:
                    try:
                        async with asyncio.timeout(KEEP_ALIVE):
                            await news.wait()
                    except TimeoutError:
                        yield {}
        finally:
            if mine == self._streams:
                self._watch_for_a_listener()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _watch_for_a_listener(self) -> None:
        self._stop_watching()
        if self.channel and not self.ended:
            loop = asyncio.get_running_loop()
            self._dropped = loop.call_later(self._dropped_limit, self.channel.hang_up)

    def _stop_watching(self) -> None:
        if self._dropped:
            self._dropped.cancel()
            self._dropped = None
