"""`ivr-agi serve` as a process in a folder of its own, with all that it can be connected to; and the callers."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
import threading
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from canaries import CARD, CARD_KEY, ORDERS_SECRET, PIN, SEQUENCE, TOKEN, WEBHOOK_SECRET
from echoes import Parrot
from line import until
from process import environment
from receiver import Shop

from ivr_agi.simulator.channel import ScriptedHandset, dial
from ivr_agi.simulator.gateway import GatewaySimulator
from ivr_agi.simulator.orders import OrdersSimulator

INVOICE = "4471"
NO_LIMITS = dict.fromkeys(("limit_caller", "limit_card", "limit_order", "limit_total"), "")


def fix_pin(gateway):
    """Have the simulator send the canary as each one-time PIN."""
    issue = gateway._otp

    def canary(fields, order_id, outcome):
        answer = issue(fields, order_id, outcome)
        for issued in gateway._issued.values():
            issued.pin = PIN
        return answer

    gateway._otp = canary


class Watcher:
    """Reads the journal's files over and over while calls go on: pages that lie there only for a moment."""

    def __init__(self, folder: Path) -> None:
        self.pages: set[bytes] = set()
        self.seen: set[str] = set()
        self._folder = folder
        self._looks = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def look(self) -> None:
        """At a request to the gateway, between two steps; each so-manieth will do."""
        self._looks += 1
        if self._looks % 8 == 1:
            self.copy()

    def copy(self) -> None:
        for file in self._folder.glob("*.db*"):
            with suppress(OSError):  # gone again
                written = file.read_bytes()
                self.seen.add(file.name)
                self.pages |= {written[place : place + 4096] for place in range(0, len(written), 4096)}

    def _run(self) -> None:
        while not self._ended.wait(0.03):
            for file in self._folder.glob("*.db-*"):  # the rollback journal, or a WAL: only in a commit
                with suppress(OSError):
                    self.pages.add(file.read_bytes())
                    self.seen.add(file.name)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._ended.set()
        self._thread.join()
        self.copy()


class Served:
    """The server and its surroundings. home: its working directory; temp: its TMPDIR; calls: those made."""

    def __init__(self, folder, form, *, also=None, program=None, owner=None, preexec_fn=None, **given):
        """also: environment. program: in place of `-m ivr_agi`. owner: of the folders. given: settings."""
        self.home, self.temp, self.out = folder / "home", folder / "temp", folder / "out"
        for each in (self.home, self.temp, self.out):
            each.mkdir(parents=True)
            if owner:
                shutil.chown(each, owner)
        self.program = program or ("-m", "ivr_agi")
        self.preexec_fn = preexec_fn
        self.form, self.also, self.given = form, also or {}, given
        self.channels = []
        self.process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        return (self.out / "stderr").read_text(encoding="utf-8")

    def said(self, message: str) -> list[str]:
        return [line for line in self.log.splitlines() if message in line]

    def port(self, message: str) -> int:
        found = re.search(r"port\W+([0-9]+)", self.said(message)[0])
        return int(found[1]) if found else 0

    async def __aenter__(self):
        async with AsyncExitStack() as stack:
            self._stack = stack
            await self._start()
            self._stack = stack.pop_all()
        return self

    async def _start(self):
        enter = self._stack.enter_async_context
        self.gateway = await enter(GatewaySimulator(SEQUENCE))
        fix_pin(self.gateway)
        self.watcher = self._stack.enter_context(Watcher(self.home))
        self.parrot = await enter(Parrot(self.gateway, self.watcher.look))
        self.shop = await enter(Shop(WEBHOOK_SECRET))
        payable = {"status": "payable", "order_id": "looked-up", "amount": 50000}
        self.orders = await enter(OrdersSimulator(ORDERS_SECRET, {INVOICE: payable}))
        self.settings = environment(
            **{
                "port": 0,
                "http_port": 0,
                "gateway_url": self.parrot.url,
                "sequence": SEQUENCE,
                "token": TOKEN,
                "webhook_url": self.shop.url,
                "webhook_secret": WEBHOOK_SECRET,
                "orders_url": self.orders.url,
                "orders_secret": ORDERS_SECRET,
                "card_keys": CARD_KEY,
                "log_level": "DEBUG",
                "log_format": self.form,
                "otp_cooldown": 0,
                "pay_timeout": 2,
                "late_limit": 10,
                "max_pins": 2,
                "max_cards": 2,
                **NO_LIMITS,
            }
            | self.given
        )
        self.settings |= {"TMPDIR": str(self.temp)} | self.also
        with (self.out / "stdout").open("wb") as out, (self.out / "stderr").open("wb") as err:
            self.process = await asyncio.create_subprocess_exec(
                *[sys.executable, *self.program, "serve"], stdout=out, stderr=err,
                cwd=self.home, env=self.settings, preexec_fn=self.preexec_fn,
            )  # fmt: skip
        await until(lambda: self.said("web.listening") or self.process.returncode is not None)
        assert self.process.returncode is None, self.log
        self.agi, self.http = self.port("server.listening"), self.port("web.listening")

    async def __aexit__(self, *_exc):
        await self.stop()
        await self._stack.aclose()

    async def stop(self):
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), 20)

    async def call(
        self, script=None, query="amount=50000&order_id=A-1", *, token=f"token={TOKEN}&", **options
    ):
        """One call whose caller pays, but for what the script has instead; the dialplan's variables."""
        usual = {"confirm-amount": ["1", ...], "enter-card": [CARD, ...], "enter-pin": [f"{PIN}#", ...]}
        url = f"agi://127.0.0.1:{self.agi}/pay?{token}{query}"
        channel = await dial(url, ScriptedHandset(usual | (script or {})), **options)
        self.channels.append(channel)
        return await channel.run()

    async def calls(self, *calls, at_once=8):
        """Many calls, a few at once."""
        room = asyncio.Semaphore(at_once)

        async def one(call):
            async with room:
                return await call

        return await asyncio.gather(*map(one, calls))


@asynccontextmanager
async def serving(folder, form="json", **given):
    async with Served(folder, form, **given) as served:
        yield served


def proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def children(pid: int) -> list[int]:
    listed = [task.joinpath("children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for child in " ".join(listed).split()]


__all__ = ["INVOICE", "NO_LIMITS", "Served", "children", "fix_pin", "proc", "serving"]
