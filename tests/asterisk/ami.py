"""A small client of Asterisk's manager interface (AMI), for tests.

It logs in, sends actions and hands events on. It must never be used by the product: a manager
user who may read class ``agi`` sees every digit that the caller keys.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    Packet = dict[str, str]

ACTION_SECONDS = 10.0


class ManagerError(Exception):
    """Asterisk refused an action, or closed the connection."""


class Ami:
    """One logged-in connection: ``async with Ami(port, user, secret, on_event) as ami``."""

    def __init__(self, port: int, user: str, secret: str, on_event: Callable[[Packet], None]):
        self._port, self._user, self._secret = port, user, secret
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Packet]] = {}

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        await self._reader.readline()  # "Asterisk Call Manager/11.0.0"
        self._task = asyncio.create_task(self._read())
        try:
            await self.action("Login", Username=self._user, Secret=self._secret)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def action(self, name: str, **fields: str | list[str]) -> Packet:
        """Send an action and return its response; a list becomes the header repeated."""
        action_id = str(next(self._ids))
        lines = [f"Action: {name}", f"ActionID: {action_id}"]
        for key, value in fields.items():
            lines += [f"{key}: {one}" for one in ([value] if isinstance(value, str) else value)]
        if any("\n" in line or "\r" in line for line in lines):
            raise ValueError("a line break would be a second header")
        answer = self._waiting[action_id] = asyncio.get_running_loop().create_future()
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        async with asyncio.timeout(ACTION_SECONDS):
            response = await answer
        if response["Response"] == "Error":
            raise ManagerError(f"{name}: {response.get('Message')}")
        return response

    async def _read(self) -> None:
        try:
            while True:
                raw = await self._reader.readuntil(b"\r\n\r\n")
                self._dispatch(_parse(raw.decode(errors="replace")))
        except (asyncio.IncompleteReadError, ConnectionError) as gone:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ManagerError(f"the manager connection is gone: {gone}"))
            self._waiting.clear()

    def _dispatch(self, packet: Packet) -> None:
        if "Event" in packet:
            self._on_event(packet)
        elif (answer := self._waiting.pop(packet.get("ActionID", ""), None)) and not answer.done():
            answer.set_result(packet)


def _parse(text: str) -> Packet:
    packet: Packet = {}
    for line in text.split("\r\n"):
        key, colon, value = line.partition(":")
        if not colon:
            continue
        value = value.removeprefix(" ")
        packet[key] = f"{packet[key]}\n{value}" if key in packet else value  # Output: comes many times
    return packet
