"""SIPp, which makes the calls: so many at once, each a caller who pays (`sipp/payer.xml`, `mouth.py`)."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from callers import CARD
from mouth import Line, payer, record
from processes import HERE

from ivr_agi import prompts
from ivr_agi.model import Language
from ivr_agi.sounds import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIN: Final = "314159"
AMOUNT: Final = "50000"
MEDIA, EAR = "127.0.0.3", "127.0.0.2"  # payer.xml says why they are two
PERSONS: Final = 20_000


def free_udp_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within has this core alone."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


class Callers:
    """SIPp: so many calls at once, each begun anew when it ends."""

    def __init__(self, folder: Path, core: int, ports: tuple[int, int, int], *, patient: bool) -> None:
        """ports: Asterisk's for SIP, our server's, and where the line's sound is to go."""
        self._folder, self._core = folder, core
        sip_port, agi_port, ear_port = ports
        self._control = free_udp_port()
        line = Line(shipped() / "fa" / "ivr-agi")
        keyed = payer(line, prompts.amount(int(AMOUNT), Language.FA), CARD, PIN, patient=patient)
        record(folder / "payer.pcap", keyed, keyed[-1][0] + 30)
        shutil.copy(HERE / "sipp" / "payer.xml", folder)
        persons = "".join(f"0912{number:07};\n" for number in range(1, PERSONS))
        (folder / "persons.csv").write_text(f"SEQUENTIAL\n{persons}")
        told = {
            "server": f"agi://127.0.0.1:{agi_port}/pay",
            "amount": AMOUNT,
            "ear": EAR,
            "ear_port": ear_port,
        }
        self._command = [
            *("setpriv", "--pdeathsig", "KILL", "sipp", f"127.0.0.1:{sip_port}", "-sf", "payer.xml"),
            *(
                "-s",
                "robot-1",
                "-inf",
                "persons.csv",
                "-l",
                "1",
                "-r",
                "1",
                "-cp",
                str(self._control),
                "-nostdin",
            ),
            *("-i", "127.0.0.1", "-p", str(free_udp_port())),
            *("-mi", MEDIA, "-mp", str(free_udp_port())),
            *("-trace_err", "-trace_stat", "-stf", "stat.csv", "-fd", "1"),
            *(str(word) for key, value in told.items() for word in ("-key", key, value)),
        ]

    async def __aenter__(self) -> Self:
        with (self._folder / "screen").open("wb") as screen, on_core(self._core):
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen, cwd=self._folder
            )
        self.pid = self._process.pid
        async with asyncio.timeout(20):
            while not self.stat():  # noqa: ASYNC110 - SIPp writes a file, and tells nobody
                await asyncio.sleep(0.2)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def raise_to(self, calls: int, rate: float) -> None:
        """Have so many at once, `rate` of them a second begun until it is so."""
        for order in (f"cset limit {calls}", f"cset rate {rate:.1f}"):
            self._say(order)
        with suppress(TimeoutError):  # calls that fail at once never become so many; the level will show it
            async with asyncio.timeout(60):
                while self.stat()["CurrentCall"] < calls:  # noqa: ASYNC110
                    await asyncio.sleep(0.5)

    async def leave(self, seconds: float) -> bool:
        """Begin no more, and wait for those under way; whether all of them ended in time."""
        self._say("q")
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def stat(self) -> dict[str, float]:
        """The last line of its statistics; empty before the first."""
        file = self._folder / "stat.csv"
        names, *lines = file.read_text().split("\n")[:-1] if file.exists() else [""]
        if not lines:
            if self._process.returncode is not None:
                raise RuntimeError((self._folder / "screen").read_text(errors="replace")[-2000:])
            return {}
        values = dict(zip(names.split(";"), lines[-1].split(";"), strict=False))
        return {name: float(values[name]) for name in ("CurrentCall", "FailedCall(C)", "Retransmissions(C)")}

    def _say(self, order: str) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as control:
            control.sendto(order.encode(), ("127.0.0.1", self._control))
