"""The wire and the codec, against a peer that says exactly what Asterisk was seen to say."""

import asyncio
import signal

import pytest

from ivr_agi import agi
from ivr_agi.agi import (
    Agi,
    BadEnvironment,
    CommandRefused,
    Keyed,
    MissingSound,
    Wire,
    parse_environment,
)
from ivr_agi.model import Hangup
from ivr_agi.simulator.channel import split_words


class Peer:
    """Asterisk's end of one connection, word for word."""

    def __init__(self):
        self.wires = asyncio.Queue()

    async def open(self):
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Wire(self.wires.put_nowait), "127.0.0.1", 0
        )
        self.reader, self.writer = await asyncio.open_connection(*self._server.sockets[0].getsockname()[:2])
        self.wire = await self.wires.get()

    def say(self, text):
        self.writer.write(text if isinstance(text, bytes) else text.encode())

    async def heard(self):
        return (await self.reader.readline()).decode().rstrip("\n")

    async def answers(self, *answers):
        """Answer one command after the other; returns the commands."""
        commands = []
        for answer in answers:
            commands.append(await self.heard())
            self.say(answer)
        return commands

    async def close(self):
        self.writer.close()
        self.wire.abort()
        self._server.close()


@pytest.fixture
async def peer():
    """A peer whose environment is over: commands may follow."""
    opened = Peer()
    await opened.open()
    opened.say("agi_request: agi://x/pay\n\n")
    await opened.wire.environment()
    yield opened
    await opened.close()


@pytest.fixture
def line(peer):
    """Our side of it."""
    return Agi(peer.wire)


async def both(ours, theirs):
    """Run both sides; returns ours' result, and what theirs saw."""
    return await asyncio.gather(ours, theirs)


async def test_get_data(peer, line):
    """GET DATA is worded with its file quoted; digits keep their leading zeros."""
    keyed, commands = await both(
        line.get_data("ivr-agi/enter-pin", 8000, 12), peer.answers("200 result=00123\n")
    )
    assert keyed == Keyed("00123", timed_out=False)
    assert commands == ['GET DATA "ivr-agi/enter-pin" 8000 12']


@pytest.mark.parametrize(
    ("answer", "keyed"),
    [
        ("200 result= (timeout)", Keyed("", timed_out=True)),
        ("200 result=123 (timeout)", Keyed("123", timed_out=True)),
        ("200 result=", Keyed("", timed_out=False)),
        ("200 result=12*3", Keyed("12*3", timed_out=False)),
        ("100 Trying\n200 result=7", Keyed("7", timed_out=False)),
        ("200 result=5\r", Keyed("5", timed_out=False)),
    ],
)
async def test_what_get_data_may_answer(peer, line, answer, keyed):
    """The timeout is told apart from an empty answer, and `100 Trying` is no answer."""
    got, _ = await both(line.get_data("x", 1000, 5), peer.answers(answer + "\n"))
    assert got == keyed


async def test_answer_in_pieces(peer, line):
    """An answer that comes byte by byte is one answer."""
    asking = asyncio.create_task(line.stream_file("welcome", "12"))
    await peer.heard()
    for byte in b"200 result=49 endpos=800\n":
        peer.say(bytes([byte]))
        await asyncio.sleep(0)
    assert await asking == "1"


async def test_hangup_in_front_of_an_answer(peer, line):
    """HANGUP, then the answer: the answer belongs to its own command, and the next is not one behind."""
    with pytest.raises(Hangup):
        await both(line.get_data("x", 1000, 5), peer.answers("HANGUP\n200 result=-1\n"))
    _, commands = await both(line.set_variable("PAYSTATUS", "HANGUP"), peer.answers("200 result=1\n"))
    assert commands == ['SET VARIABLE "PAYSTATUS" "HANGUP"']


async def test_hangup_in_place_of_an_answer(peer, line, monkeypatch):
    """HANGUP and nothing after it ends the waiting; variables can still be set."""
    monkeypatch.setattr(agi, "HANGUP_GRACE", 0.05)
    with pytest.raises(Hangup):
        await both(line.get_data("x", 60_000, 5), peer.answers("HANGUP\n"))
    await both(line.set_variable("A", "b"), peer.answers("200 result=1\n"))


async def test_hangup_is_noticed_while_nothing_is_asked(peer, line):
    """HANGUP sets hung_up at once; the next command of a living channel is not even sent."""
    peer.say("HANGUP\n")
    await asyncio.wait_for(line.hung_up.wait(), 5)
    with pytest.raises(Hangup):
        await line.stream_file("goodbye")
    await both(line.set_variable("A", "b"), peer.answers("200 result=1\n"))


async def test_511(peer, line):
    """511 is a hang-up, also when no HANGUP line came (AGISIGHUP=no)."""
    with pytest.raises(Hangup):
        await both(line.answer(), peer.answers("511 Command Not Permitted on a dead channel\n"))
    assert line.hung_up.is_set()


async def test_510(peer, line):
    """510 is a refusal of one command, and the wire goes on."""
    with pytest.raises(CommandRefused, match="510"):
        await both(line.set_music("x", on=True), peer.answers("510 Invalid or unknown command\n"))
    await both(line.answer(), peer.answers("200 result=0\n"))


@pytest.mark.parametrize(
    "block",
    [
        "520-Invalid command syntax.  Proper usage follows:\nUsage: SET MUSIC ON\n\n520 End of proper usage.\n",
        "520 Invalid command syntax.\n",
        "520-Invalid command syntax.  Proper usage follows:\nUsage: SET MUSIC ON\nthe end, without a number\n",
    ],
)
async def test_520(peer, line, block, monkeypatch):
    """A 520 of many lines, of one, or without its last line is one refusal, and the next answer is the next."""
    monkeypatch.setattr(agi, "BLOCK_GRACE", 0.05)
    with pytest.raises(CommandRefused, match="520"):
        await both(line.set_music("x", on=True), peer.answers(block))
    got, _ = await both(line.get_data("x", 1, 1), peer.answers("200 result=4\n"))
    assert got.keys == "4"


async def test_eof(peer, line):
    """Asterisk goes away in the middle of a command: Hangup, at once."""

    async def leave():
        await peer.heard()
        peer.writer.close()

    with pytest.raises(Hangup):
        await both(line.get_data("x", 60_000, 16), leave())
    with pytest.raises(Hangup):
        await line.set_variable("A", "b")


async def test_missing_sound(peer, line):
    """-1 with the channel up is a missing sound, named; the call can go on."""
    with pytest.raises(MissingSound, match="ivr-agi/welcome"):
        await both(
            line.stream_file("ivr-agi/welcome"), peer.answers("200 result=-1 endpos=0\n", "200 result=6\n")
        )
    assert not line.hung_up.is_set()


@pytest.mark.parametrize("status", ["511 dead", "HANGUP\n511 dead", "200 result=-1"])
async def test_minus_one_of_a_hangup(peer, line, status):
    """-1 with the channel gone is a hang-up, whichever way CHANNEL STATUS says so."""
    with pytest.raises(Hangup):
        await both(line.get_data("x", 1000, 16), peer.answers("200 result=-1\n", status + "\n"))
    assert line.hung_up.is_set()


async def test_silence(peer):
    """A peer that accepts a command and says nothing is let go."""
    with pytest.raises(Hangup):
        await both(peer.wire.ask(b"NOOP", 0.05), peer.heard())
    assert peer.wire.closed.is_set()


async def test_late_answer_is_not_the_next_ones(peer, line):
    """What comes unasked between two commands is not taken for an answer."""
    await both(line.answer(), peer.answers("200 result=0\n"))
    peer.say("200 result=999\n")
    await asyncio.sleep(0.01)
    got, _ = await both(line.get_data("x", 1, 1), peer.answers("200 result=4\n"))
    assert got.keys == "4"


@pytest.mark.parametrize(
    "value",
    [
        'a"b',
        "a\nSET VARIABLE PAYSTATUS PAID",
        "a\\",
        'a\\" "b',
        "a\r\nb",
        "a\x00b",
        "a\u2028b",
        "فارسی",
        "hangup",
    ],
)
async def test_no_value_makes_a_second_command(peer, line, value):
    """One value, one line, one argument, whatever it holds."""
    _, (command,) = await both(line.set_variable("X", value), peer.answers("200 result=1\n"))
    words = split_words(command)
    assert words[:3] == ["SET", "VARIABLE", "X"]
    assert len(words) == 4
    assert words[3] == "".join(c if c.isprintable() else " " for c in value).replace("\r\n", "  ")


async def test_file_names_are_quoted(peer, line):
    """A file name with a blank stays one argument."""
    _, (command,) = await both(line.stream_file("a b", "1 2"), peer.answers("200 result=0 endpos=1\n"))
    assert command == 'STREAM FILE "a b" "1 2" 0'


async def test_long_command_is_refused_before_it_leaves(line):
    """Asterisk would cut it and take the rest for another command."""
    with pytest.raises(CommandRefused, match="2000 bytes"):
        await line.set_variable("X", "x" * 2000)


async def test_endless_line(peer):
    """A line without an end is cut off, not kept."""
    peer.say(b"x" * 9000)
    await asyncio.wait_for(peer.wire.closed.wait(), 5)


async def test_endless_answers(peer):
    """A flood of unasked lines is cut off, not kept."""
    peer.say(b"200 result=0\n" * 1000)
    await asyncio.wait_for(peer.wire.closed.wait(), 5)


async def test_pyst2_keeps_its_habits_to_itself(peer, capfd):
    """No signal handler is installed, and nothing of a command or an answer goes to stderr."""
    before = signal.getsignal(signal.SIGHUP)
    line = Agi(peer.wire)
    await both(line.set_variable("X", "6037991234567893"), peer.answers("200 result=1\n"))
    await both(line.get_data("x", 1, 1), peer.answers("200 result=90817264\n"))
    assert signal.getsignal(signal.SIGHUP) is before
    assert capfd.readouterr() == ("", "")


# -- the environment --------------------------------------------------------------------------------


def test_environment():
    """Keys without their prefix, values as they came, arguments counted."""
    lines = [
        "agi_network: yes",
        "agi_request: agi://h/pay?a=b:c",
        "agi_callerid: 0912",
        "agi_arg_1: amount=5",
    ]
    assert parse_environment(lines) == {
        "network": "yes",
        "request": "agi://h/pay?a=b:c",
        "callerid": "0912",
        "arg_1": "amount=5",
    }


@pytest.mark.parametrize(
    "forged",
    [
        ["agi_callerid: x", "agi_request: agi://h/pay?amount=1", "agi_request: agi://h/pay"],
        ["agi_callerid: x", "agi_arg_1: amount=1", "agi_calleridname: y"],
        ["agi_callerid: x", "amount: 1"],
        ["agi_callerid: x", "no colon at all"],
        ["agi_callerid: x", "agi_evil: 1"],
        ["agi_arg_0: x"],
    ],
)
def test_forged_environment(forged):
    """A caller ID with a newline brings lines that Asterisk would not send there: refused."""
    with pytest.raises(BadEnvironment):
        parse_environment(forged)


async def test_environment_cut(monkeypatch):
    """An environment that never ends is given up in time; one that is cut is no call."""
    monkeypatch.setattr(agi, "ENVIRONMENT_SECONDS", 0.05)
    peer = Peer()
    await peer.open()
    peer.say("agi_request: agi://x/pay\n")
    with pytest.raises(Hangup):
        await peer.wire.environment()
    await peer.close()


async def test_environment_too_long():
    """A peer that sends more lines than any Asterisk is cut off."""
    peer = Peer()
    await peer.open()
    asking = asyncio.create_task(peer.wire.environment())
    for number in range(agi.MAX_LINES + 2):
        peer.say(f"agi_arg_{number}: x\n")
        await asyncio.sleep(0.001)
    with pytest.raises(Hangup):
        await asking
    assert peer.wire.closed.is_set()
    await peer.close()


async def test_environment_that_goes_on_after_its_end(peer, line):
    """Lines of an environment in front of the first answer: the blank line before was forged."""

    async def rest():
        await peer.heard()
        peer.say("agi_calleridname: x\nagi_threadid: 1\n\n200 result=0\n")

    with pytest.raises(BadEnvironment):
        await both(line.answer(), rest())
    await both(line.set_variable("PAYSTATUS", "REFUSED"), peer.answers("200 result=1\n"))


async def test_name_that_is_not_utf8():
    """A caller name in Latin-1 does not end the call."""
    peer = Peer()
    await peer.open()
    peer.say(b"agi_calleridname: M\xfcller\n\n")
    assert await peer.wire.environment() == ["agi_calleridname: M\ufffdller"]
    await peer.close()


async def test_hangup_as_a_caller_name():
    """HANGUP inside the environment is data, not a hang-up."""
    peer = Peer()
    await peer.open()
    peer.say("agi_calleridname: HANGUP\nHANGUP\n\n")
    assert "HANGUP" in await peer.wire.environment()
    assert not peer.wire.hung_up.is_set()
    await peer.close()


async def test_who_waits_is_told_of_a_flood():
    """The line that is waited for comes in front of more of them than anybody sends, in one read."""
    peer = Peer()
    await peer.open()
    asking = asyncio.create_task(peer.wire.environment())
    await asyncio.sleep(0)
    peer.say("agi_network: yes\n" * (agi.MAX_LINES + 10))
    with pytest.raises(Hangup):
        await asyncio.wait_for(asking, 5)
    await peer.close()


async def test_a_second_answer_is_not_the_next_commands(peer, line):
    """Two answers in one read: the first wakes who asked, who asks again at once, and waits for his own."""

    async def asks():
        await line.answer()
        return await line.get_data("x", 1000, 4)

    asking = asyncio.create_task(asks())
    await peer.heard()
    peer.say("200 result=0\n200 result=6037\n")
    assert (await peer.heard()).startswith("GET DATA")
    await asyncio.sleep(0.05)
    assert not asking.done()
    peer.say("200 result=12\n")
    assert (await asking).keys == "12"


async def test_who_asks_may_be_cancelled(peer, line):
    """A cancelled command leaves nothing behind: its answer is nobody's, the next one gets its own."""
    asking = asyncio.create_task(line.get_data("x", 60_000, 4))
    await peer.heard()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    peer.say("200 result=1234\n")
    await asyncio.sleep(0.05)
    keyed, _ = await both(line.get_data("x", 1000, 4), peer.answers("200 result=7\n"))
    assert keyed.keys == "7"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await line.get_data("x", 60_000, 4)


async def test_one_task_cuts_off_what_another_waits_for(peer, line):
    """As a drain does: whoever waits goes on at the loop's next turn, not in the middle of the other task."""
    asking = asyncio.create_task(line.get_data("x", 60_000, 4))
    await peer.heard()
    peer.wire.abort()
    assert not asking.done()
    with pytest.raises(Hangup):
        await asking
