"""`serve --workers`, for real: several processes that callers and the merchant see as one."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import httpx
import pytest
from line import CARD, SEQUENCE, Thinking, until
from process import Serving, ivr_agi

from ivr_agi.journal import Journal
from ivr_agi.model import luhn
from ivr_agi.simulator.gateway import GatewaySimulator, Outcome, Rule


@pytest.fixture
async def gateway():
    """The bank."""
    async with GatewaySimulator(SEQUENCE) as opened:
        yield opened


def card_of(number):
    """A card of one's own that pays: the PIN that is sent for one is not another's."""
    body = f"603799{number:05}6789"
    return next(f"{body}{check}" for check in range(10) if luhn(f"{body}{check}"))


class Workers(Serving):
    """A supervisor with two workers, all ready."""

    def __init__(self, gateway, **given):
        super().__init__(workers=2, gateway_url=gateway.url, **given)
        self.buyers = 0

    async def __aenter__(self):
        await super().__aenter__()
        await until(lambda: self.said("workers.ready") or self.process.returncode is not None, seconds=60)
        return self

    async def read(self):
        async for line in self.process.stderr:  # one that cannot start says so in plain words
            self.lines.append(json.loads(line) if line.startswith(b"{") else {"message": line.decode()})

    def pids(self):
        """Of those below, the front among them."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    async def page(self, path):
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{await self.http_port()}{path}")

    async def figure(self, name):
        """The sum of a metric's samples."""
        lines = (await self.page("/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def buy(self, gateway, order, thinking=None):
        """Somebody with a card of his own buys; thinking: before he keys it."""
        self.buyers += 1
        card = card_of(self.buyers)
        if thinking:
            thinking.keys = card
        script = {"enter-card": thinking or card, "enter-pin": lambda: gateway.pin_for(card) + "#"}
        return asyncio.create_task(self.call(gateway, script, query=f"amount=50000&order_id={order}"))


async def settled(url="sqlite:///ivr-agi.db"):
    """Each order's state, once nothing is under way."""
    journal = Journal(url)
    try:
        return {row["order_id"]: row["state"] for row in journal.attempts()}
    finally:
        journal.close()


async def test_several_are_as_one(gateway):
    """Calls are dealt out among the workers; what is counted, limited and shown is of all together."""
    async with Workers(gateway, max_calls=6, max_calls_per_caller=100) as server:
        cards = [Thinking(CARD) for _ in range(6)]
        calls = [server.buy(gateway, f"A-{number}", card) for number, card in enumerate(cards)]
        for card in cards:
            await card.asked.wait()
        assert await server.figure("ivr_agi_calls_in_progress") == 6
        assert await server.buy(gateway, "one-more") == {}  # full, whichever worker it came to
        for card in cards:
            card.go_on.set()
        assert {told["PAYSTATUS"] for told in await asyncio.gather(*calls)} == {"PAID"}
        assert await server.figure("ivr_agi_calls_ended_total") == 6
        assert (await server.page("/readyz")).json()["ready"] is True
        assert len(server.said("workers.ready")) == 1
        assert len(server.said("server.listening")) == 3  # said once for all, and by each
    assert server.process.returncode == 0
    assert await settled() == {f"A-{number}": "paid" for number in range(6)}


async def test_a_worker_dies_while_it_pays(gateway):
    """Its calls are lost, what was sent is unknown, the other's calls end as usual; another takes its place."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with Workers(gateway) as server:
        before = set(server.pids())
        calls = [server.buy(gateway, f"A-{number}") for number in range(8)]
        await until(lambda: len([r for r in gateway.requests if r.service == "pay"]) == 8)
        taken = {}
        for line in server.said("call.begun"):
            taken.setdefault(line["worker"], []).append(line["order"])
        victim = next(line for line in server.said("worker.started") if line["name"] in taken)
        os.kill(victim["pid"], signal.SIGKILL)
        lost = set(taken[victim["name"]])
        await until(lambda: server.said("worker.replaced"), seconds=60)
        answer.set()
        told = dict(zip((f"A-{number}" for number in range(8)), await asyncio.gather(*calls), strict=True))
        assert {order for order, variables in told.items() if "PAYSTATUS" not in variables} == lost
        assert {told[order]["PAYSTATUS"] for order in told.keys() - lost} <= {"PAID"}
        assert len(set(server.pids()) - before) == 1
        assert (await server.buy(gateway, "later"))["PAYSTATUS"] == "PAID"
        states = await settled()
        assert {order for order, state in states.items() if state == "unknown"} == lost


async def test_reload_and_drain_lose_no_call(gateway, tmp_path):
    """Callers come all the time, SIGHUP renews all, wrong settings do not; SIGTERM lets all end."""
    async with Workers(gateway, max_calls=50) as server:
        old, ended, coming = set(server.pids()), [], True

        async def callers(who):
            number = 0
            while coming:
                number += 1
                told = await server.buy(gateway, f"{who}-{number}")
                ended.append(told.get("PAYSTATUS", "lost"))

        busy = [asyncio.create_task(callers(who)) for who in range(3)]
        thinking = Thinking(CARD)
        long = server.buy(gateway, "long", thinking)
        await thinking.asked.wait()
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: server.said("workers.reloaded"), seconds=60)
        assert len(set(server.pids()) - old) == 3
        thinking.go_on.set()
        assert (await long)["PAYSTATUS"] == "PAID"  # by one of the old ones, which then goes
        await until(lambda: not old & set(server.pids()), seconds=60)
        (tmp_path / ".env").write_text("IVR_AGI_TRIES=none\n")
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: server.said("workers.not_reloaded"), seconds=60)
        assert any(line["message"].startswith("IVR_AGI_TRIES: ") for line in server.lines)
        last = [Thinking(CARD) for _ in range(4)]
        final = [server.buy(gateway, f"last-{n}", card) for n, card in enumerate(last)]
        for card in last:
            await card.asked.wait()
        coming = False
        await asyncio.gather(*busy)
        server.process.terminate()
        await until(lambda: len(server.said("server.draining")) >= 5)
        for card in last:
            card.go_on.set()
        assert {told["PAYSTATUS"] for told in await asyncio.gather(*final)} == {"PAID"}
        assert await asyncio.wait_for(server.process.wait(), 60) == 0
    assert set(ended) == {"PAID"}
    assert len(gateway.charges) == len(ended) + 5
    assert set((await settled()).values()) == {"paid"}


async def test_the_one_above_is_killed(gateway):
    """Those below let their calls end, and take no more: nobody is left without one that watches over him."""
    async with Workers(gateway) as server:
        thinking = Thinking(CARD)
        calling = server.buy(gateway, "A-1", thinking)
        await thinking.asked.wait()
        below = server.pids()
        server.process.kill()
        await until(lambda: len(server.said("server.draining")) == 3)
        thinking.go_on.set()
        assert (await calling)["PAYSTATUS"] == "PAID"
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), seconds=60)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)


async def test_a_port_that_is_taken(gateway):
    """Said once, by name, before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, errors = await ivr_agi(
            "serve", "--workers", "2", port=port, sequence=SEQUENCE, gateway_url=gateway.url
        )
    assert status == 2
    assert errors.count("\n") == 1
    assert f"IVR_AGI_HOST, IVR_AGI_PORT: cannot listen on 127.0.0.1:{port}" in errors
