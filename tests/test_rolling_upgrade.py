"""Two servers on one PostgreSQL, behind one name: each is replaced, one is lost, and calls go on."""

import asyncio
import itertools
import signal
import socket

import pytest
from line import SEQUENCE, until
from process import Serving
from test_two_servers import pays

from ivr_agi.journal import Journal
from ivr_agi.model import luhn
from ivr_agi.simulator.channel import ScriptedHandset, dial
from ivr_agi.simulator.gateway import GatewaySimulator, Outcome, Rule

AT_ONCE = 4  # half of them ask the one server first, half the other


@pytest.fixture
async def gateway():
    """The bank."""
    async with GatewaySimulator(SEQUENCE) as opened:
        yield opened


def free_port():
    """One that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Name:
    """Callers who come without end; of the name's addresses the next is tried when one refuses, as Asterisk does."""

    def __init__(self, gateway, *ports):
        self.gateway = gateway
        self.ports = ports
        self.numbers = itertools.count(1)
        self.told = {}
        self.coming = True
        self.begun = 0

    async def call(self, turn):
        number = next(self.numbers)
        body = f"603799{number:05}6789"
        card = next(f"{body}{check}" for check in range(10) if luhn(f"{body}{check}"))
        handset = ScriptedHandset(
            {
                "confirm-amount": "1",
                "enter-card": card,
                "enter-pin": lambda: self.gateway.pin_for(card) + "#",
            }
        )
        order = f"A-{number}"
        for port in (*self.ports[turn:], *self.ports[:turn]):
            try:
                channel = await dial(f"agi://127.0.0.1:{port}/pay?amount=50000&order_id={order}", handset)
            except ConnectionRefusedError:
                continue
            self.begun += 1
            self.told[order] = (await channel.run()).get("PAYSTATUS", "lost")
            return
        self.told[order] = "nobody answered"

    async def __aenter__(self):
        async def one_after_the_other(who):
            while self.coming:
                await self.call(who % len(self.ports))

        self.callers = [asyncio.create_task(one_after_the_other(who)) for who in range(AT_ONCE)]
        return self

    async def some_more(self):
        """Until some calls have come, and ended, from now on."""
        ended = len(self.told)
        await until(lambda: len(self.told) >= ended + 3 * AT_ONCE, seconds=60)

    async def __aexit__(self, *_exc):
        self.coming = False
        await asyncio.gather(*self.callers)


def states(url):
    """Each order's state in the journal."""
    journal = Journal(url)
    try:
        return {row["order_id"]: row["state"] for row in journal.attempts()}
    finally:
        journal.close()


async def test_each_is_replaced_while_calls_come(gateway, postgres_url):
    """SIGTERM to one, a new one in its place, then the other: not one call fails."""
    ports = free_port(), free_port()
    given = {"gateway_url": gateway.url, "journal_url": postgres_url}
    servers = [await Serving(port=port, **given).__aenter__() for port in ports]
    try:
        async with Name(gateway, *ports) as name:
            await name.some_more()
            for place, port in enumerate(ports):
                servers[place].process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(servers[place].process.wait(), 60)
                await name.some_more()  # by the other alone
                await servers[place].reading
                servers[place] = await Serving(port=port, **given).__aenter__()
                await name.some_more()
    finally:
        for server in servers:
            await server.__aexit__()
    assert set(name.told.values()) == {"PAID"}
    assert len(gateway.charges) == len(name.told)
    assert set(states(postgres_url).values()) == {"paid"}


async def test_one_is_lost_while_calls_come(gateway, postgres_url):
    """Its own calls are lost, and nobody else's; what it had sent is unknown, by the other, within seconds."""
    ports = free_port(), free_port()
    given = {"gateway_url": gateway.url, "journal_url": postgres_url}
    answer = asyncio.Event()
    async with (
        Serving(port=ports[0], **given) as one,
        Serving(port=ports[1], **given) as other,
        Name(gateway, *ports) as name,
    ):
        await name.some_more()
        gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
        before = pays(gateway)
        await until(lambda: pays(gateway) == before + AT_ONCE, seconds=60)  # all of them wait for the bank
        taken = {line["order"] for line in one.said("call.begun")}
        lost = {row for row, state in states(postgres_url).items() if state == "sent"} & taken
        one.process.kill()
        answer.set()
        await name.some_more()
        await until(lambda: other.said("journal.recovered"), seconds=60)
    assert len(lost) == AT_ONCE / 2
    assert {order for order, told in name.told.items() if told != "PAID"} == lost
    found = states(postgres_url)
    assert {order for order, state in found.items() if state != "paid"} == lost
    assert {found[order] for order in lost} <= {"unknown"}
    assert len(gateway.charges) == len(name.told)
