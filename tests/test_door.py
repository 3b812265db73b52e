"""The door: the token, the bounds of what is read, and who waits where. How many: tests/test_flood.py, too."""

import asyncio
import hmac
import socket

import pytest
from line import CARD, Thinking, open_line, until

from ivr_agi import agi, door
from ivr_agi.agi import BadEnvironment, parse_environment
from ivr_agi.door import Door
from ivr_agi.model import Secret
from ivr_agi.settings import WrongSettings, load

TOKEN = "a-token.of_ours~1234"  # noqa: S105 - made up
NEXT = "the-one-of-next-week"
GENUINE = [
    *("agi_network: yes", "agi_network_script: pay?amount=5000", "agi_request: agi://x/pay?amount=5000"),
    *(
        "agi_channel: PJSIP/a-1",
        "agi_language: fa",
        "agi_type: PJSIP",
        "agi_uniqueid: 1.1",
        "agi_version: 22",
    ),
    *("agi_callerid: 09123456789", "agi_calleridname: A", "agi_callingpres: 0", "agi_callingani2: 0"),
    *("agi_callington: 0", "agi_callingtns: 0", "agi_dnid: 700", "agi_rdnis: unknown", "agi_context: in"),
    *("agi_extension: 700", "agi_priority: 3", "agi_enhanced: 0.0", "agi_accountcode: ", "agi_threadid: 7"),
]


def with_token(token):
    return f"token={token}&amount=50000&order_id=A-1" if token else "amount=50000&order_id=A-1"


@pytest.mark.parametrize(
    ("ours", "given", "status"),
    [
        ("", "", "PAID"),
        ("", TOKEN, "PAID"),  # first the dialplan, then the setting: no call is lost between
        (TOKEN, TOKEN, "PAID"),
        (f"{NEXT},{TOKEN}", TOKEN, "PAID"),
        (f"{NEXT},{TOKEN}", NEXT, "PAID"),
        (TOKEN, "", "REFUSED"),
        (TOKEN, NEXT, "REFUSED"),
        (TOKEN, TOKEN[:-1], "REFUSED"),
        (TOKEN, "%C3%A9", "REFUSED"),
    ],
)
async def test_token(tmp_path, logged, ours, given, status):
    """Where a token is set, nobody pays without it; it is in no line of the log."""
    async with open_line(tmp_path, token=ours) as line:
        ended = await line.call(line.buyer(), with_token(given))
        assert ended.status == status
        assert ended.reason == ("" if status == "PAID" else "bad-token")
        assert bool(line.gateway.requests) == (status == "PAID")
    for secret in (TOKEN, NEXT, TOKEN[:-1]):
        assert secret not in repr(logged)


async def test_token_as_an_argument(tmp_path):
    """`AGI(agi://host/pay,token=…)` is the same."""
    async with open_line(tmp_path, token=TOKEN) as line:
        ended = await line.call(line.buyer(), "amount=50000&order_id=A-1", arguments=(f"token={TOKEN}",))
        assert ended.status == "PAID"


async def test_token_at_the_wrong_place_is_not_quoted(tmp_path, logged):
    """A dialplan that has it as `?TOKEN` is told what is wrong, and the log has no token."""
    async with open_line(tmp_path, token=TOKEN) as line:
        for query in (TOKEN, f"amount={TOKEN}&token={TOKEN}", f"language={TOKEN}&token={TOKEN}"):
            assert (await line.call(line.buyer(), query)).status == "REFUSED"
    assert TOKEN not in repr(logged)
    assert "request.refused" in repr(logged)


def test_token_in_constant_time(monkeypatch):
    """Each of the tokens is compared whole, by hmac.compare_digest, whichever fits."""
    compared = []

    def compare(given, ours):
        compared.append((given, ours))
        return given == ours

    monkeypatch.setattr(hmac, "compare_digest", compare)
    locked = Door(load(_env_file=None), [Secret(NEXT), Secret(TOKEN)])
    assert locked.opens(NEXT)
    assert not locked.opens("x")
    assert [ours for _, ours in compared] == [NEXT.encode(), TOKEN.encode()] * 2


@pytest.mark.parametrize(
    "token", ["short", "with a blank in it..", "a" * 15, f"{TOKEN},short", "ژ" * 20, 'a"' * 10]
)
def test_weak_token(monkeypatch, token):
    """What is short, or would need quoting in an address or a dialplan, stops the start, and is not shown."""
    monkeypatch.setenv("IVR_AGI_TOKEN", token)
    with pytest.raises(WrongSettings, match=r"IVR_AGI_TOKEN: .*openssl rand") as wrong:
        load()
    assert token not in str(wrong.value)


# -- the environment -----------------------------------------------------------------------------------


def test_genuine_environment():
    assert parse_environment([*GENUINE, "agi_arg_1: amount=1", "agi_arg_2: "])["arg_1"] == "amount=1"


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        ("agi_request: agi://x/pay?amount=1", "twice"),
        ("agi_arg_1: amount=1", "not at its place"),  # the genuine keys that follow give it away
        ("agi_calleridname: B", "twice"),
        ("agi_threadid: 9", "not at its place|twice"),
        ("agi_uniqueid: 9", "twice"),
        ("agi_x: 1", "unknown key"),
        ("agi_arg_2: order_id=9", "unknown key"),
        ("amount=1", "none of Asterisk's"),
        ("", "none of Asterisk's"),
    ],
)
@pytest.mark.parametrize("key", ["callerid", "calleridname", "dnid", "rdnis", "extension", "accountcode"])
def test_forged_by_a_newline(key, forged, why):
    """A value with a newline, wherever a caller or a trunk can put one, is refused."""
    place = [line.startswith(f"agi_{key}:") for line in GENUINE].index(True)
    with pytest.raises(BadEnvironment, match=why):
        parse_environment([*GENUINE[: place + 1], forged, *GENUINE[place + 1 :]])


def test_keys_come_in_asterisks_order():
    """Two genuine keys that have changed places: one of them came out of a value."""
    for place in range(1, len(GENUINE)):
        swapped = [*GENUINE[: place - 1], GENUINE[place], GENUINE[place - 1], *GENUINE[place + 1 :]]
        with pytest.raises(BadEnvironment, match="not at its place"):
            parse_environment(swapped)


def test_arguments_are_numbered():
    """From 1, without a gap: a forged one cannot come in front of those of the dialplan."""
    for arguments in (["agi_arg_2: x"], ["agi_arg_1: x", "agi_arg_3: y"], ["agi_arg_1: x", "agi_arg_1: y"]):
        with pytest.raises(BadEnvironment):
            parse_environment([*GENUINE, *arguments])


async def fate(port, *chunks):
    """Send chunks; what comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for chunk in chunks:
            writer.write(chunk)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "flood",
    [
        b"agi_callerid: " + b"9" * agi.MAX_LINE,  # a line without an end
        b"agi_network: yes\n" + b"x" * 4000 + b"\n" + b"y" * 4000 + b"\n" * 1000,
        b"agi_callerid: 9\n" * 5000,
        (b"agi_callerid: " + b"9" * 8000 + b"\n") * 60,
    ],
    ids=["one line", "blank lines", "many lines", "long lines"],
)
async def test_too_much(line, flood):
    """More than any Asterisk sends ends the connection, or the call, and no memory is filled."""
    said = await fate(line.port, flood)
    assert said in (b"", b"ANSWER\n")  # nothing but a call refused
    assert (await line.call(line.buyer())).status == "PAID"


async def test_bytes_are_bounded_before_the_end():
    """What is kept of a peer that says and says is bounded, also while nobody reads it."""
    wire = agi.Wire(lambda _wire: None)
    most = 0
    for _ in range(40):
        wire.data_received(b"x" * 4000 + b"\n")
        if wire.closed.is_set():
            break
        most = max(most, sum(map(len, wire._lines)))
    assert wire.closed.is_set()
    assert 0 < most < agi.MAX_UNREAD
    assert not wire._lines


@pytest.mark.parametrize("chunk", [b"\n" * 256_000, b"agi_a: b\n" * 28_000])
async def test_a_heap_of_lines_is_not_cut_to_its_end(chunk):
    """One read of short lines: the loop is not stopped for as long as it takes to cut them all."""
    wire = agi.Wire(lambda _wire: None)
    cut = []
    wire._lines = type(
        "Counting", (list,), {"append": lambda self, line: cut.append(line) or list.append(self, line)}
    )()
    wire.data_received(chunk)
    assert wire.closed.is_set()
    assert len(cut) == agi.MAX_LINES + 1


async def test_many_lines_slowly(line, monkeypatch):
    """Lines that are read one by one are bounded by their sum, long before there are too many of them."""
    monkeypatch.setattr(agi, "ENVIRONMENT_SECONDS", 60)
    reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
    gone = asyncio.create_task(reader.read())
    sent = 0
    while not gone.done():
        writer.write(b"agi_callerid: " + b"9" * 4000 + b"\n")
        sent += 4000
        assert sent < 2 * agi.MAX_UNREAD
        await asyncio.wait({gone}, timeout=0.02)
    writer.close()
    gone.exception()


async def test_environment_deadline_is_for_the_whole(line, monkeypatch):
    """A byte now and then does not make it longer."""
    monkeypatch.setattr(agi, "ENVIRONMENT_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
    since = asyncio.get_running_loop().time()
    gone = asyncio.create_task(reader.read())
    while not gone.done():
        writer.write(b"a")
        await asyncio.wait({gone}, timeout=0.05)
        assert asyncio.get_running_loop().time() - since < 5
    writer.close()


async def test_vanished_peer_is_noticed(line):
    """TCP asks after a peer that has gone without a word, so that no call is held for hours."""
    card = Thinking(CARD)
    calling = asyncio.create_task(line.call(line.buyer(enter_card=[card])))
    await card.asked.wait()
    (wire,) = line.server._connections.values()
    ours = wire._transport.get_extra_info("socket")
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    card.go_on.set()
    assert (await calling).status == "PAID"


# -- how many --------------------------------------------------------------------------------------------


class Connected:
    """A connection as the door sees it."""

    def __init__(self, peer="127.0.0.1"):
        self.peer = peer
        self.aborted = False

    def abort(self):
        self.aborted = True


@pytest.mark.parametrize(
    ("peer", "let_in"),
    [
        ("127.9.9.9", True),
        ("::1", True),
        ("::1%lo", True),
        ("fe80::1%eth0", True),  # an address with its network card
        ("::ffff:127.0.0.1", True),  # a socket that takes both kinds
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_who_may_connect(peer, let_in):
    """By address, in each form in which a socket tells it."""
    ours = Door(load(_env_file=None, allowed_peers="127.0.0.0/8, ::1, fe80::/10"))
    assert ours.admits(Connected(peer)) == let_in


def test_whoever_is_let_go_is_gone(monkeypatch):
    """One that had to go for others is in no book any more, and the next to go is another."""
    monkeypatch.setattr(door, "MOST_SILENT", 2)
    ours = Door(load(_env_file=None))
    crowd = [Connected() for _ in range(4)]
    assert all(ours.admits(wire) for wire in crowd)
    assert [wire.aborted for wire in crowd] == [True, True, False, False]
    assert [ours.has(wire) for wire in crowd] == [False, False, True, True]


@pytest.mark.parametrize(("most", "share"), [(10, 100), (400, 200)])
def test_a_callers_share(most, share):
    """Unless set, one caller has half of the lines, and at least a hundred; whoever is withheld is many."""
    ours = Door(load(_env_file=None, max_calls=most))
    calls = [Connected() for _ in range(share + 1)]
    withheld = [Connected() for _ in range(share + 1)]
    for wire in calls + withheld:
        ours._roll.enter(wire, wire.peer)
    assert [ours.knows(wire, "+989123456789") for wire in calls] == [True] * share + [False]
    assert all(ours.knows(wire, "") for wire in withheld)


async def test_one_peer_too_many(tmp_path, logged):
    """MAX_CALLS_PER_PEER: one more from that address is closed at once, from another it gets in."""
    async with open_line(tmp_path, max_calls_per_peer=1) as line:
        card = Thinking(CARD)
        first = asyncio.create_task(line.call(line.buyer(enter_card=[card])))
        await card.asked.wait()
        assert await fate(line.port) == b""
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port, local_addr=("127.0.0.2", 0))
        writer.write("\n".join([*GENUINE, "", ""]).encode())
        assert await asyncio.wait_for(reader.readline(), 5) == b"ANSWER\n"
        writer.close()
        card.go_on.set()
        assert (await first).status == "PAID"
    assert "peer.full" in [entry["event"] for entry in logged]


async def test_one_caller_too_many(tmp_path):
    """MAX_CALLS_PER_CALLER: one more call of that number hears a sentence; others, and withheld ones, do not."""
    async with open_line(tmp_path, max_calls_per_caller=1) as line:
        card = Thinking(CARD)
        first = asyncio.create_task(line.call(line.buyer(enter_card=[card]), caller_id="09123456789"))
        await card.asked.wait()
        more = await line.call(line.buyer(), "amount=50000&order_id=B", caller_id="+989123456789")
        assert (more.status, more.reason) == ("REFUSED", "too-many-calls")
        assert more.heard == ["over-limit", "try-later", "goodbye"]
        for number, other in enumerate(["09350000000", "unknown", "anonymous"]):
            ended = await line.call(
                line.buyer(enter_mobile="09350000000"), f"amount=50000&order_id=C{number}", caller_id=other
            )
            assert ended.status == "PAID"
        card.go_on.set()
        assert (await first).status == "PAID"
        assert (await line.call(line.buyer(), "amount=50000&order_id=D")).status == "PAID"
        await until(lambda: not line.server.calls)
        assert not line.server._door._roll._callers
        assert not line.server._door._roll._peers


async def test_room_is_looked_for_twice(tmp_path):
    """Many that connect while there is room, and then all say who they are: no more than MAX_CALLS are served."""
    async with open_line(tmp_path, max_calls=2) as line:
        pairs = [await asyncio.open_connection("127.0.0.1", line.port) for _ in range(6)]
        await until(lambda: len(line.server._connections) == 6)
        for _, writer in pairs:
            writer.write("\n".join([*GENUINE, "", ""]).encode())

        async def first_line(reader):
            try:
                return await asyncio.wait_for(reader.readline(), 5)
            except ConnectionError:
                return b""

        said = await asyncio.gather(*(first_line(reader) for reader, _ in pairs))
        assert sorted(said) == [b""] * 4 + [b"ANSWER\n"] * 2
        for _, writer in pairs:
            writer.close()


async def test_silent_crowd(tmp_path, monkeypatch, logged):
    """Those who connect and say nothing take no caller's place; the one that was silent longest goes."""
    monkeypatch.setattr(door, "MOST_SILENT", 20)
    async with open_line(tmp_path, max_calls=1) as line:
        silent = [await asyncio.open_connection("127.0.0.1", line.port) for _ in range(20)]
        await until(lambda: len(line.server._connections) == 20)
        assert (await line.call(line.buyer())).status == "PAID"
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(silent[0][0].readexactly(1), 5)
        assert len(line.server._connections) == 19
        for _, writer in silent:
            writer.close()
    assert [entry["event"] for entry in logged].count("server.crowded") == 1
