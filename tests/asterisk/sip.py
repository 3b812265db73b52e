"""A caller over SIP: SIPp, with RTP, its keys sent as RFC 4733 events, hanging up with a BYE.

Like the robot it keys what is asked, when it is asked. SIPp itself knows no more than
`sipp/caller.xml`: what to key next is told it by a NOTIFY within the call, which Asterisk sends
when the manager says so. Nothing of the line's channel is touched by that.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import free_port
from robot import Call

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from ami import Packet

SCENARIO = Path(__file__).with_name("sipp") / "caller.xml"
END_SECONDS = 10.0  # for SIPp, behind the last BYE


def need_sipp() -> None:
    """Skip where there is no SIPp, but never silently on CI."""
    if shutil.which("sipp") is None:
        missing = "no sipp on this machine (Debian: apt-get install sip-tester)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)


class SipCall(Call):
    """One call over SIP, used like `Call`; of `variables` it carries IVR_AGI_URL, AMOUNT and ORDER."""

    @property
    def _events(self) -> str:
        return "Uniqueid: "  # Asterisk names the channel, and only then do we know how

    async def _dial(self, stack: AsyncExitStack) -> None:
        self._called, self._line = self._ours, ""
        self._folder = self._asterisk.home / "sipp" / self._called
        self._folder.mkdir(parents=True)
        keys = {
            "caller": self._caller_id,
            "server": self._variables["IVR_AGI_URL"],
            "amount": self._variables["AMOUNT"],
            "order": self._variables["ORDER"],
        }
        with (self._folder / "screen").open("wb") as screen:
            self._sipp = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", "sipp", f"127.0.0.1:{self._asterisk.sip_port}"),
                *("-sf", SCENARIO, "-s", self._called, "-m", "1", "-nostdin", "-trace_err"),
                *("-i", "127.0.0.1", "-p", str(free_port(socket.SOCK_DGRAM))),
                *("-mi", "127.0.0.1", "-mp", str(free_port(socket.SOCK_DGRAM))),
                *(word for key, value in keys.items() for word in ("-key", key, value)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                cwd=self._folder,
            )
        stack.push_async_callback(self._end_sipp)
        self._watch = asyncio.create_task(self._await_sipp())

    async def _await_sipp(self) -> None:
        status = await self._sipp.wait()
        self._gone.set()
        if status:
            self._over.set()  # nothing more will come
            said = "".join(file.read_text(errors="replace")[-2000:] for file in self._folder.iterdir())
            raise AssertionError(f"SIPp ended with {status}:\n{said}")

    async def _end_sipp(self) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                await asyncio.shield(self._watch)
        except TimeoutError:
            self._sipp.kill()
            await self._watch

    async def _key(self, digits: str) -> None:
        await self._tell("X-Keys", digits)

    async def _put_down(self) -> None:
        await self._tell("X-Leave", "yes")

    async def _tell(self, header: str, value: str) -> None:
        with self._unless_over():
            await self._ami.action(
                "PJSIPNotify", Channel=self._channel, Variable=["Event=keys", f"{header}={value}"]
            )

    def _see(self, event: Packet) -> None:
        if not self._line and event.get("Exten", event.get("Extension")) == self._called:
            self._line, self._channel = event["Uniqueid"], event["Channel"]
        if self._line:
            super()._see(event)
