"""The terminal phone: what it keys, what it shows, and that no card or PIN stays on the screen."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import termios

import pytest
from rich.console import Console

from ivr_agi import prompts
from ivr_agi.simulator import phone as phones
from ivr_agi.simulator.gateway import Sms, sample_card
from ivr_agi.simulator.keypad import Keypad, PipedScript, Script
from ivr_agi.simulator.phone import PhoneError, ScriptedPhone, TerminalPhone, call, make_phone, run_phone
from ivr_agi.simulator.screen import Screen

CARD = sample_card("paid")
MASKED = f"603799******{CARD[-4:]}"
SMS = Sms("A1", 50000, MASKED, "482913")
GET_AMOUNT = "GET DATA ivr-agi/enter-amount 5000 13"
GET_CARD = "GET DATA ivr-agi/enter-card 5000 16"
GET_PIN = "GET DATA ivr-agi/enter-pin 5000 25"
GET_CHOICE = "GET DATA ivr-agi/confirm-amount 5000 1"


@contextlib.asynccontextmanager
async def server(*commands):
    """Serve one call with these commands (or functions to call); yield its address and the answers."""
    answers = []

    async def accept(reader, writer):
        with contextlib.suppress(ConnectionError):
            while await reader.readline() not in {b"\n", b""}:
                pass
            for command in commands:
                if callable(command):
                    command()
                    continue
                writer.write(f"{command}\n".encode())
                answers.append((await reader.readline()).decode().rstrip("\n"))
        writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with listener, asyncio.timeout(10):
        yield f"agi://127.0.0.1:{listener.sockets[0].getsockname()[1]}/pay", answers


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=110)


def shown(console):
    return console.file.getvalue()


async def keyed(console, digits, *commands, sms=None):
    """Play a script against a server; return the server's answers."""
    phone = make_phone(console, digits)
    if sms:
        phone.receive(sms)
    async with server(*commands) as (url, answers):
        await call(url, phone)
    return answers


async def test_a_whole_call(console):
    """Prompts in two languages, an amount on one line, music, keys masked, and what the dialplan was told."""
    phone = make_phone(console, ["1", CARD, "pin"])
    commands = (
        'STREAM FILE ivr-agi/welcome ""',
        *(
            f'STREAM FILE ivr-agi/{clip} ""'
            for clip in ("amount-is", "numbers/50", "numbers/thousand", "rial")
        ),
        GET_CHOICE,
        GET_CARD,
        "SET MUSIC ON ivr-agi",
        lambda: phone.receive(SMS),
        "SET MUSIC OFF",
        GET_PIN,
        "SET VARIABLE PAYSTATUS PAID",
    )
    async with server(*commands) as (url, answers):
        variables = await call(url, phone, caller_id="09121112233")
    phone.screen.end(variables)
    assert variables == {"PAYSTATUS": "PAID"}
    assert answers[5:7] == ["200 result=1", f"200 result={CARD}"]
    assert answers[9] == "200 result=482913"
    seen = shown(console)
    assert "09121112233 → agi://127.0.0.1:" in seen
    assert prompts.text("amount-is", "fa") in seen
    assert prompts.text("amount-is", "en") in seen
    assert f"{prompts.text('numbers/50', 'fa')} {prompts.text('numbers/thousand', 'fa')}" in seen
    assert "♪ music on hold" in seen
    assert MASKED in seen
    assert "••••••#" in seen
    assert "PAYSTATUS" in seen
    assert CARD not in seen
    assert seen.count("482913") == 1, "in the SMS, and nowhere else"
    assert "\x1b" not in seen, "no colours where there is no terminal"


async def test_language(console):
    """The channel's language comes first, the other one after it."""
    await keyed(console, [], "SET VARIABLE CHANNEL(language) en", 'STREAM FILE ivr-agi/goodbye ""')
    seen = shown(console)
    assert "language: English" in seen
    assert 0 < seen.index(prompts.text("goodbye", "en")) < seen.index(prompts.text("goodbye", "fa"))


async def test_unknown_prompt(console):
    """A file that the catalogue does not know is shown by its name, as it is."""
    await keyed(console, [], 'STREAM FILE custom/[bold]jingle ""', "GET DATA beep 1000 1")
    assert "[custom/[bold]jingle]" in shown(console)
    assert "[beep]" in shown(console)


@pytest.mark.parametrize(
    ("digits", "commands", "expected"),
    [
        (["50000"], [GET_AMOUNT], ["50000"]),
        (["50000#"], [GET_AMOUNT], ["50000"]),
        (["1", "2"], [GET_CHOICE] * 3, ["1", "2", " (timeout)"]),
        ([f"1 {CARD}"], [GET_CHOICE, GET_CARD], ["1", CARD]),
        ([f"1,{CARD}"], [GET_CHOICE, GET_CARD], ["1", CARD]),
        ([f"1{CARD}#"], [GET_CHOICE, GET_CARD, GET_PIN, GET_PIN], ["1", CARD, "", " (timeout)"]),
        (["#"], [GET_PIN], [""]),
        (["*#"], [GET_PIN], ["*"]),
        (["12*34567"], [GET_PIN], ["12*34567"]),
        (["۱"], [GET_CHOICE], ["1"]),
        ([], [GET_CHOICE], [" (timeout)"]),
    ],
)
async def test_script(console, digits, commands, expected):
    """One answer a question; the rest goes to the next question; a short one is ended by `#`."""
    assert await keyed(console, digits, *commands) == [f"200 result={answer}" for answer in expected]


@pytest.mark.parametrize("digits", [["pin"], ["OTP"], []])
async def test_pin_from_the_sms(console, digits):
    """`pin` is the PIN of the last SMS; without any answer left, enter-pin gets it by itself."""
    assert await keyed(console, digits, GET_PIN, sms=SMS) == ["200 result=482913"]


async def test_no_pin_without_an_sms(console):
    """Without an SMS nothing is keyed."""
    assert await keyed(console, ["pin"], GET_PIN) == ["200 result= (timeout)"]


async def test_scripted_hang_up(console):
    """The word `h` hangs up."""
    assert await keyed(console, ["h"], GET_CARD) == ["HANGUP"]
    assert "hung up" in shown(console)


def test_wrong_script(console):
    """A script with what no phone can key is refused before the call."""
    with pytest.raises(PhoneError, match="0 to 9"):
        make_phone(console, ["12x"])


async def test_lines_from_a_pipe(console):
    """Without a terminal, answers are read from lines; at their end nothing more is keyed."""
    phone = ScriptedPhone(Screen(console), PipedScript(io.StringIO(f"1\n\n{CARD}, pin\n")))
    phone.receive(SMS)
    async with server(GET_CHOICE, GET_CARD, GET_PIN, GET_CHOICE) as (url, answers):
        await call(url, phone)
    assert answers == [
        "200 result=1",
        f"200 result={CARD}",
        "200 result=482913",
        "200 result= (timeout)",
    ]


async def test_a_pipe_is_chosen(console, monkeypatch):
    """No digits and no terminal: the phone reads standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    async with server(GET_CHOICE, "SET VARIABLE PAYSTATUS HANGUP") as (url, answers):
        assert await run_phone(url, None, "", console) == {"PAYSTATUS": "HANGUP"}
    assert answers[0] == "200 result=1"
    assert "unknown → agi://" in shown(console)


async def test_script_may_be_empty_of_answers():
    """A script says None when it has no more answers."""
    assert await Script([" , "]).answer() is None


async def test_refused_connection(console):
    """Where nobody listens, the error names the place and the cure."""
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    with pytest.raises(PhoneError, match=rf"no FastAGI server at 127.0.0.1:{port} .*ivr-agi serve"):
        await run_phone(f"agi://127.0.0.1:{port}/pay", [], "09123456789", console)


async def test_wrong_address(console):
    """An address of another kind is refused in a line."""
    with pytest.raises(PhoneError, match="agi://host:port/pay"):
        await run_phone("http://127.0.0.1/pay", [], "09123456789", console)


async def test_server_that_says_nothing(console):
    """A server that lets go at once may not allow this machine: the error says so."""
    async with server() as (url, _):
        with pytest.raises(PhoneError, match="ALLOWED_PEERS"):
            await run_phone(url, [], "09123456789", console)


async def test_nothing_told(console):
    """A call after which the dialplan knows nothing is shown as such."""
    async with server("NOOP") as (url, _):
        assert await run_phone(url, [], "09123456789", console) == {}
    assert "nothing was told to the dialplan" in shown(console)


async def test_ctrl_c(console):
    """Ctrl-C hangs up, once, and the old handler is back afterwards."""
    before = signal.getsignal(signal.SIGINT)

    async with server("NOOP", lambda: os.kill(os.getpid(), signal.SIGINT), GET_CARD, "NOOP") as (
        url,
        answers,
    ):
        await call(url, make_phone(console, []))
    assert "HANGUP" in answers
    assert "hung up" in shown(console)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def terminal():
    """A pseudo-terminal: (the person's side as a descriptor, the program's side as a file)."""
    person, program = os.openpty()
    with os.fdopen(program, "r+b", buffering=0) as raw, io.TextIOWrapper(raw) as file:
        yield person, file
    os.close(person)


async def test_terminal(console, terminal, monkeypatch):
    """A person at a terminal: keys one by one, barge-in, Enter for `#`, nothing echoed, all restored."""
    person, file = terminal
    monkeypatch.setattr(sys, "stdin", file)
    monkeypatch.setattr(phones, "READING", 0.0)
    phone = make_phone(console)
    assert isinstance(phone, TerminalPhone)
    before = termios.tcgetattr(file)

    def press(keys):
        return lambda: os.write(person, keys.encode())

    commands = (
        press("91"),
        'STREAM FILE ivr-agi/amount-is "012"',
        press(CARD),
        GET_CARD,
        press("x48۲913\r"),
        GET_PIN,
        press(" "),
        'STREAM FILE ivr-agi/please-wait ""',
        "GET DATA ivr-agi/enter-card 30 16",
        press("12"),
        "GET DATA ivr-agi/enter-amount 30 9",
    )
    async with server(*commands) as (url, answers):
        await call(url, phone)
    assert answers == [
        f"200 result={ord('1')} endpos=8000",
        f"200 result={CARD}",
        "200 result=482913",
        "200 result=0 endpos=8000",
        "200 result= (timeout)",
        "200 result=12 (timeout)",
    ]
    assert termios.tcgetattr(file) == before
    os.set_blocking(person, False)
    with pytest.raises(BlockingIOError):
        os.read(person, 100)
    assert MASKED in shown(console)
    assert CARD not in shown(console).replace(" ", "")
    assert "482913" not in shown(console)


@pytest.mark.parametrize("key", ["h", "\x04"])
async def test_hanging_up_at_a_terminal(console, terminal, key):
    """`h` or Ctrl-D hangs up at once, in the middle of a question."""
    person, file = terminal

    class Asked(Screen):
        def prompt(self, *_file, **_question):
            os.write(person, f"6037{key}".encode())

    async with server(GET_CARD, "NOOP") as (url, answers):
        await call(url, TerminalPhone(Asked(console), Keypad(file)))
    assert answers == ["HANGUP", "200 result=-1"]
    assert shown(console).count("hung up") == 1


async def test_terminal_that_goes_away(console):
    """When the terminal itself is closed, the call is hung up."""
    person, program = os.openpty()
    with os.fdopen(program, "r+b", buffering=0) as raw, io.TextIOWrapper(raw) as file:
        phone = TerminalPhone(Screen(console), Keypad(file))
        with contextlib.suppress(termios.error):  # there is no terminal left to restore
            async with server(lambda: os.close(person), GET_CARD) as (url, answers):
                await call(url, phone)
    assert answers == ["HANGUP"]


async def test_typing_line(console):
    """While they are typed a card stands in fours and a PIN in dots, beside the time that is left."""
    screen = Screen(console)
    kind = phones.Kind
    assert "6037 99" in screen.typing("603799", kind.CARD, 9.6).plain
    assert "10 s" in screen.typing("603799", kind.CARD, 9.6).plain
    assert "••••" in screen.typing("4829", kind.SECRET, 1).plain
    assert "50000" in screen.typing("50000", kind.PLAIN, 1).plain
    assert kind.PLAIN.afterwards("6" * 12) == "•" * 12
    assert kind.CARD.afterwards("6037*") == "••••*"
