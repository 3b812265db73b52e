"""Where Asterisk knocks: a rush of calls is taken, and who has connected when we stop is not cut off."""

import asyncio
import socket
import threading

import pytest

from ivr_agi import listener
from ivr_agi.listener import Listener, open_sockets


class Taken:
    """What the listener hands on: each connection is told so."""

    def __init__(self):
        self.wires = []

    def __call__(self, wire):
        self.wires.append(wire)
        wire._transport.write(b"ANSWER\n")


@pytest.fixture
async def open_listener(monkeypatch):
    """Listeners on loopback, and what they have taken."""
    opened = []

    async def make(*addresses, **also):
        taken = Taken()
        found = Listener(await open_sockets(*(addresses or ("127.0.0.1", 0)), **also), taken)
        await found.start()
        opened.append((found, taken))
        return found, taken

    yield make
    monkeypatch.setattr(listener, "CLOSING_SECONDS", 0)
    for found, taken in opened:
        await found.stop()
        for wire in taken.wires:
            wire.abort()


def connect(port, many):
    """Connect at once, while the loop stands still; returns the connections."""
    found = []
    knocking = threading.Thread(
        target=lambda: found.extend(socket.create_connection(("127.0.0.1", port), 5) for _ in range(many))
    )
    knocking.start()
    knocking.join()  # of purpose on the loop's thread: nothing is taken meanwhile
    return found


async def first_words(connections):
    """What each hears first; b'' or an error where it was cut off."""

    async def first(connection):
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            return await asyncio.wait_for(reader.readline(), 10)
        except ConnectionResetError:
            return b"reset"
        finally:
            writer.close()

    return await asyncio.gather(*map(first, connections))


async def test_who_has_connected_when_we_stop_is_served(open_listener):
    """They are in the kernel's queue, which is cut when a socket is closed: it is emptied first."""
    ours, _ = await open_listener()
    waiting = connect(ours.port, 300)
    await ours.stop()
    assert await first_words(waiting) == [b"ANSWER\n"] * 300


async def test_who_comes_while_we_stop_is_not_let_in(open_listener, monkeypatch):
    """He tries again, as TCP does by itself, and is then refused: the next address of a name is tried."""
    monkeypatch.setattr(listener, "CLOSING_SECONDS", 0.3)
    ours, taken = await open_listener()
    stopping = asyncio.create_task(ours.stop())
    await asyncio.sleep(0)  # the door is closed, the sockets are not
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ours.port)
    await stopping
    assert not taken.wires


async def test_one_of_several_stops():
    """Who shares a socket takes no more, and the others take all that comes."""
    sockets = await open_sockets("127.0.0.1", 0)
    one, other = Taken(), Taken()
    first, second = Listener(sockets, one), Listener(sockets, other)
    await first.start()
    await second.start()
    await first.stop(alone=False)
    assert await first_words(connect(second.port, 50)) == [b"ANSWER\n"] * 50
    assert not one.wires
    assert len(other.wires) == 50
    for wire in other.wires:
        wire.abort()
    await second.stop()


async def test_a_rush_is_taken_within_a_few_turns(open_listener):
    """By itself uvloop takes one connection each time round: the last of 160 would wait for 160 turns."""
    ours, taken = await open_listener()
    waiting = connect(ours.port, 160)
    turns = 0
    async with asyncio.timeout(10):
        while len(taken.wires) < 160:
            turns += 1
            await asyncio.sleep(0)
    assert turns <= 40
    for connection in waiting:
        connection.close()


async def test_every_address_of_a_name(open_listener, monkeypatch):
    """`localhost` is IPv4 and IPv6, on one port."""

    async def both(_host, _port):
        return [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0))]

    monkeypatch.setattr(listener, "addresses_of", both)
    ours, _ = await open_listener("localhost", 0)
    for address in ("127.0.0.1", "::1"):
        reader, writer = await asyncio.open_connection(address, ours.port)
        assert await reader.readline() == b"ANSWER\n"
        writer.close()


async def test_a_port_that_is_taken():
    """Nothing is left open of what was opened before it."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await open_sockets("127.0.0.1", taken.getsockname()[1])
