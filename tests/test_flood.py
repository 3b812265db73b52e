"""A flood at the door: those who pay are served, what is hostile is let go in time, and nothing is left behind.

How much a flood costs is benchmarks/flood.py's; here nothing is timed.
"""

import asyncio
import itertools
import json
import resource
import socket
import struct
from collections import Counter
from contextlib import suppress

import pytest
from line import CARD, Thinking, open_line, until

from ivr_agi import agi, door, logs

GENUINE = (
    b"agi_network: yes\nagi_request: agi://127.0.0.1/pay?amount=50000\nagi_channel: PJSIP/flood-1\n"
    b"agi_uniqueid: 1.1\nagi_callerid: 09120000000\n\n"
)
# Each is junk of another sort; nobody of these becomes a call.
JUNK = {
    "silent": b"",
    "halfway": GENUINE[:80],
    "binary": bytes(range(11, 256)) * 8,
    "http": b"GET / HTTP/1.1\r\nHost: pay\r\n\r\n",
    "endless line": b"x" * 100_000,
    "short lines": b"\n" * 300_000,
    "agi lines": b"agi_x: 1\n" * 50_000,
}
OPEN = ("01", "08")  # established, or only the other end has closed: proc_net_tcp
EACH = 100  # of each; all that are silent together are fewer than MOST_SILENT


MET = []  # our ends of all connections of a test


class Hostile:
    """One connection of a peer that is no good Asterisk. source: the address it comes from."""

    def __init__(self, port, says=b"", source="127.0.0.1"):
        self.port, self.says, self.source = port, says, source

    async def open(self):
        with suppress(ConnectionError):
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(self.source, 0)
            )
            MET.append(self.writer)
            self.writer.write(self.says)
        return self

    async def heard(self):
        """The server's next command; '' when it has closed the connection."""
        try:
            return (await asyncio.wait_for(self.reader.readline(), 30)).decode().rstrip()
        except ConnectionError:
            return ""

    async def obeys(self, *commands):
        """Answer these commands; the next one is left without an answer."""
        for command in commands:
            assert (await self.heard()).startswith(command)
            self.writer.write(b"200 result=0\n")
        assert await self.heard()

    async def says_on(self, text):
        """Say it over and over; without a line's end, byte by byte."""
        pieces = itertools.cycle([text]) if b"\n" in text else (bytes([byte]) for byte in text)
        with suppress(ConnectionError):
            for piece in pieces:
                if self.reader.at_eof() or self.writer.is_closing():
                    break
                self.writer.write(piece)
                await asyncio.sleep(0.1)  # no wait for anything: this is what a drip is

    async def let_go(self):
        """Wait until the server has closed the connection."""
        with suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), 30)
        self.close()

    def close(self):
        self.writer.close()

    def reset(self):
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


async def opened(*hostile):
    return await asyncio.gather(*(each.open() for each in hostile))


async def let_go(hostile):
    await asyncio.gather(*(each.let_go() for each in hostile))


def buyer(line, order, **answers):
    """A call of its own order; `answers` are changed."""
    pin = [lambda: line.gateway.pins[CARD, order] + "#"]
    return line.call(line.buyer(enter_pin=pin, **answers), f"amount=50000&order_id={order}")


def held(port):
    """What a connection that is not let go still holds: a descriptor of the listener's, a task."""
    ours = f":{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123 - made by the kernel as it is read
        rows = [row.split() for row in table]
    return sum(row[1].endswith(ours) and row[3] in OPEN for row in rows), len(asyncio.all_tasks())


def inside(server):
    """Who the door believes is in."""
    kept = server._door
    return len(kept._silent), len(kept._calls), dict(kept._roll._peers), dict(kept._roll._callers)


@pytest.fixture(autouse=True)
def _descriptors():
    """Both ends of each connection are ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(autouse=True)
async def _goodbye():
    """Whatever a test leaves open is closed on the loop that it was opened on."""
    MET.clear()
    yield
    for writer in MET:
        writer.transport.abort()
    for writer in MET:
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.usefixtures("logged")
async def test_flood(tmp_path, monkeypatch):
    """Hundreds of hostile connections, calls among them: all good calls are paid, and all that is hostile is let go."""
    monkeypatch.setattr(agi, "PROMPT_SECONDS", 5)
    async with open_line(tmp_path, max_calls=500) as line:
        assert (await buyer(line, "first")).status == "PAID"
        await until(lambda: inside(line.server) == (0, 0, {}, {}) and not line.payments._calls)
        before = held(line.port)

        hostile = await opened(*(Hostile(line.port, junk) for junk in JUNK.values() for _ in range(EACH)))
        frozen = await opened(*(Hostile(line.port, GENUINE) for _ in range(EACH)))
        garbage = await opened(*(Hostile(line.port, GENUINE) for _ in range(EACH)))
        resets = await opened(
            *(Hostile(line.port, said) for said in (b"", GENUINE[:80], GENUINE) for _ in range(EACH))
        )
        good = [asyncio.create_task(buyer(line, f"O{n}")) for n in range(30)]
        for each in resets:
            each.reset()
        drips = [asyncio.create_task(each.says_on(GENUINE)) for each in hostile[:EACH]]
        noise = [
            asyncio.create_task(each.says_on(b"250 \xff(((\nresult=\n100 Trying\n\x00\n")) for each in garbage
        ]
        await asyncio.gather(*(each.obeys("ANSWER") for each in frozen))

        assert Counter(call.status for call in await asyncio.gather(*good)) == {"PAID": 30}
        assert len(line.gateway.charges) == 31
        await let_go(hostile + frozen + garbage)
        await asyncio.gather(*drips, *noise)
        assert inside(line.server) == (0, 0, {}, {})
        await until(lambda: held(line.port) == before)
        assert (await buyer(line, "last")).status == "PAID"


@pytest.mark.parametrize("kind", ["endless line", "short lines", "agi lines"])
@pytest.mark.usefixtures("logged")
async def test_no_more_is_cut_than_an_asterisk_sends(kind):
    """A heap of lines in one read ends the connection at the limit: the rest is neither cut nor kept."""
    wire = agi.Wire(lambda _wire: None)
    wire.data_received(JUNK[kind])
    assert wire.closed.is_set()
    assert not wire._lines
    assert not wire._unread


@pytest.mark.parametrize("then", ["frozen", "100 Trying", "noise", "dripping"])
async def test_frozen_in_the_middle_of_a_call(line, monkeypatch, then, logged):
    """A peer that stops answering, or never comes to the end of an answer, is let go by its command's deadline."""
    monkeypatch.setattr(agi, "PROMPT_SECONDS", 0.5)
    peer = await Hostile(line.port, GENUINE).open()
    await peer.obeys("ANSWER", "SET VARIABLE")
    words = {
        "frozen": b"",
        "100 Trying": b"100 Trying\n",
        "noise": b"what?\n",
        "dripping": b"200 result=" * 50,
    }
    saying = asyncio.create_task(peer.says_on(words[then])) if words[then] else None
    await peer.let_go()
    await until(lambda: line.server.calls == 0)
    assert [entry["command"] for entry in logged if entry["event"] == "agi.silent"] == ["STREAM"]
    if saying:
        await saying


async def test_crowd_lets_the_oldest_go(line, monkeypatch):
    """Over MOST_SILENT the one that has been silent longest goes, and no caller's place is taken."""
    monkeypatch.setattr(door, "MOST_SILENT", 100)
    monkeypatch.setattr(agi, "ENVIRONMENT_SECONDS", 60)
    crowd = [await Hostile(line.port).open() for _ in range(150)]
    await let_go(crowd[:50])
    assert (await line.call(line.buyer())).status == "PAID"
    await crowd[50].let_go()  # for the good call
    crowd[51].writer.write(GENUINE)
    assert await crowd[51].heard() == "ANSWER"  # the next one that was to go is a call by now
    later = [await Hostile(line.port).open() for _ in range(3)]
    await crowd[52].let_go()
    assert inside(line.server)[:2] == (100, 1)
    for each in crowd[51:] + later:
        each.close()
    await until(lambda: inside(line.server) == (0, 0, {}, {}))


async def test_crowd_as_great_as_can_be(line):
    """More than MOST_SILENT at once, in earnest: a good call gets in, and through."""
    crowd = await opened(*(Hostile(line.port) for _ in range(door.MOST_SILENT + 200)))
    await until(lambda: inside(line.server)[0] >= door.MOST_SILENT)
    assert (await line.call(line.buyer())).status == "PAID"
    assert inside(line.server)[0] <= door.MOST_SILENT
    for each in crowd:
        each.reset()


async def test_max_calls(tmp_path):
    """Over MAX_CALLS: closed at once, whether the connection is new or was silent so far; then there is room again."""
    async with open_line(tmp_path, max_calls=5) as line:
        silent = await opened(*(Hostile(line.port) for _ in range(20)))
        await until(lambda: inside(line.server)[0] == 20)
        cards = [Thinking(CARD) for _ in range(5)]
        calls = [asyncio.create_task(buyer(line, f"O{n}", enter_card=[card])) for n, card in enumerate(cards)]
        await asyncio.gather(*(card.asked.wait() for card in cards))
        for each in silent:
            each.writer.write(GENUINE)
        new = await opened(*(Hostile(line.port, GENUINE) for _ in range(300)))
        assert {await each.heard() for each in silent + new} == {""}
        assert line.server.calls == 5
        for card in cards:
            card.go_on.set()
        assert {call.status for call in await asyncio.gather(*calls)} == {"PAID"}
        again = await asyncio.gather(*(buyer(line, f"P{n}") for n in range(5)))
        assert {call.status for call in again} == {"PAID"}
        for each in silent + new:
            each.close()


async def test_max_calls_per_peer(tmp_path):
    """One Asterisk has all the calls it may: it is closed at once, another one is not; then it has room again."""
    async with open_line(tmp_path, max_calls_per_peer=3) as line:
        silent = await Hostile(line.port, source="127.0.0.2").open()
        calls = await opened(*(Hostile(line.port, GENUINE, "127.0.0.2") for _ in range(3)))
        assert [await each.heard() for each in calls] == ["ANSWER"] * 3
        new = await opened(*(Hostile(line.port, GENUINE, "127.0.0.2") for _ in range(100)))
        silent.writer.write(GENUINE)
        assert {await each.heard() for each in [silent, *new]} == {""}
        assert (await line.call(line.buyer())).status == "PAID"
        for each in calls:
            each.reset()
        await until(lambda: line.server.calls == 0)
        again = await Hostile(line.port, GENUINE, "127.0.0.2").open()
        assert await again.heard() == "ANSWER"
        for each in [silent, *new, again]:
            each.close()


async def test_max_calls_per_caller(tmp_path):
    """One caller has all the calls he may: the next hears why, is told `too-many-calls`, and costs nobody else."""
    async with open_line(tmp_path, max_calls_per_caller=2) as line:
        cards = [Thinking(CARD) for _ in range(2)]
        calls = [asyncio.create_task(buyer(line, f"O{n}", enter_card=[card])) for n, card in enumerate(cards)]
        await asyncio.gather(*(card.asked.wait() for card in cards))
        for n in range(20):
            over = await buyer(line, f"P{n}")
            assert (over.status, over.reason) == ("REFUSED", "too-many-calls")
            assert over.heard == ["over-limit", "try-later", "goodbye"]
        other = await line.call(line.buyer(), "amount=50000&order_id=other", caller_id="09351112233")
        assert other.status == "PAID"
        for card in cards:
            card.go_on.set()
        assert {call.status for call in await asyncio.gather(*calls)} == {"PAID"}
        assert (await buyer(line, "again")).status == "PAID"


async def test_withheld_numbers_are_not_one_caller(tmp_path):
    """Whoever withholds his number is nobody's second call, however many there are."""
    async with open_line(tmp_path, max_calls_per_caller=1) as line:
        mobiles = [Thinking("09123456789") for _ in range(5)]
        calls = [
            asyncio.create_task(
                line.call(line.buyer(enter_mobile=mobile), f"amount=50000&order_id=O{n}", caller_id="")
            )
            for n, mobile in enumerate(mobiles)
        ]
        await asyncio.wait_for(asyncio.gather(*(mobile.asked.wait() for mobile in mobiles)), 20)
        assert line.server.calls == 5
        for mobile in mobiles:
            mobile.keys = ""
            mobile.go_on.set()
        await asyncio.gather(*calls)


@pytest.mark.parametrize(
    ("event", "says", "given"),
    [
        ("peer.refused", b"", {"allowed_peers": "10.0.0.0/8"}),
        ("call.lost", JUNK["http"], {}),
        ("agi.flooded", JUNK["endless line"], {}),
        ("server.full", GENUINE, {"max_calls": 1}),
        ("peer.full", GENUINE, {"max_calls_per_peer": 1}),
        ("server.crowded", b"", {}),
    ],
)
async def test_flood_fills_no_disk(tmp_path, monkeypatch, capsys, event, says, given):
    """Hundreds of connections, a few lines a second of each kind, which say how many they stand for."""
    monkeypatch.setattr(door, "MOST_SILENT", 200 if event == "call.lost" else 10)
    async with open_line(tmp_path, **given) as line:
        first = await Hostile(line.port, GENUINE).open()  # takes the one place, where there is one
        await first.heard()
        logs.configure("INFO", "json")
        crowd = await opened(*(Hostile(line.port, says) for _ in range(200)))
        await let_go(crowd[:190])  # but for those whose silence is bearable
        for each in [*crowd, first]:
            each.close()
    lines = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    ours = [line for line in lines if line["message"] == event]
    assert ours
    by_second = Counter(line["timestamp"][:19] for line in ours)
    assert max(by_second.values()) <= 2 * logs.PER_SECOND  # its seconds are not the clock's
    assert len(lines) < 100
