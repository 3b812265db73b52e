"""Asterisk's side of a call is as strict as Asterisk: asterisk-facts, line by line."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ivr_agi.simulator.channel import HANG_UP, Gone, ScriptedHandset, dial
from ivr_agi.simulator.channel import split_words as words


class Server:
    """A FastAGI server of the test's own: sends lines, keeps what comes back."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def line(self):
        return (await self.reader.readline()).decode("utf-8", "surrogateescape").removesuffix("\n")

    async def environment(self):
        lines = []
        while line := await self.line():
            lines.append(line)
        return lines

    async def ask(self, command):
        self.writer.write(f"{command}\n".encode())
        return await self.line()


@contextlib.asynccontextmanager
async def call(serve, handset=None, path="pay?amount=50000", **extras):
    """Run `serve(server)` as the FastAGI server of one call; yield the channel, then run it to its end."""
    served = asyncio.get_running_loop().create_future()

    async def accept(reader, writer):
        try:
            served.set_result(await serve(Server(reader, writer)))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            served.set_exception(error)
        finally:
            writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        channel = await dial(f"agi://127.0.0.1:{port}/{path}", handset or ScriptedHandset(), **extras)
        yield channel
        async with asyncio.timeout(5):
            await channel.run()
            await served


def answers(*expected):
    """Return a server that sends each command of (command, answer) and compares the answer."""

    async def serve(server):
        await server.environment()
        for command, answer in expected:
            assert (command, await server.ask(command)) == (command, answer)

    return serve


async def test_environment():
    """The environment has Asterisk's lines in Asterisk's order, and the script as it stands in the URL."""

    async def serve(server):
        lines = await server.environment()
        assert [line.partition(":")[0] for line in lines] == [
            "agi_network", "agi_network_script", "agi_request", "agi_channel", "agi_language", "agi_type",
            "agi_uniqueid", "agi_version", "agi_callerid", "agi_calleridname", "agi_callingpres",
            "agi_callingani2", "agi_callington", "agi_callingtns", "agi_dnid", "agi_rdnis", "agi_context",
            "agi_extension", "agi_priority", "agi_enhanced", "agi_accountcode", "agi_threadid",
            "agi_arg_1", "agi_arg_2", "agi_forged",
        ]  # fmt: skip
        told = dict(line.split(": ", 1) for line in lines)
        assert told["agi_network_script"] == "pay?amount=50000"
        assert told["agi_request"].endswith("/pay?amount=50000")
        assert told["agi_type"] == "SIP"
        assert told["agi_callerid"] == "02122334455"
        assert told["agi_calleridname"] == "caf\udce9"
        assert told["agi_arg_2"] == "language=en"

    async with call(
        serve,
        caller_id="02122334455",
        caller_name="caf\udce9",
        channel="SIP/a-1",
        arguments=("amount=5", "language=en"),
        extra_lines=("agi_forged: yes",),
    ):
        pass


async def test_unknown_caller():
    """A caller without an ID is `unknown`, as Asterisk says it; no path, no script line."""

    async def serve(server):
        lines = await server.environment()
        assert "agi_callerid: unknown" in lines
        assert "agi_calleridname: unknown" in lines
        assert not any(line.startswith("agi_network_script") for line in lines)

    async with call(serve, path="", caller_id=""):
        pass


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('SET VARIABLE A "two words"', ["SET", "VARIABLE", "A", "two words"]),
        (r'SET VARIABLE A "say \"hi\""', ["SET", "VARIABLE", "A", 'say "hi"']),
        (r"SET VARIABLE A back\\slash", ["SET", "VARIABLE", "A", r"back\slash"]),
        (r"NOOP one\ word", ["NOOP", "one word"]),
        ('SET VARIABLE A ""', ["SET", "VARIABLE", "A", ""]),
        ("  NOOP\t a ", ["NOOP", "a"]),
        ('NOOP a"b c"d', ["NOOP", "ab cd"]),
        ("", []),
    ],
)
def test_words(line, expected):
    """A command is cut into words as Asterisk's parse_args cuts it."""
    assert words(line) == expected


async def test_plain_commands():
    """The commands that ask nothing of the caller answer as Asterisk's do."""
    serve = answers(
        ("ANSWER", "200 result=0"),
        ("channel status", "200 result=6"),
        ("CHANNEL STATUS PJSIP/other", "200 result=-1"),
        ("NOOP", "200 result=0"),
        ("VERBOSE hello 1", "200 result=1"),
        ("SET MUSIC ON ivr-agi", "200 result=0"),
        ('SET VARIABLE PAYSTATUS "PAID"', "200 result=1"),
        ("GET VARIABLE PAYSTATUS", "200 result=1 (PAID)"),
        ("GET VARIABLE NONE", "200 result=0"),
        ('SET VARIABLE EMPTY ""', "200 result=1"),
        ("GET VARIABLE EMPTY", "200 result=1 ()"),
        ("SET VARIABLE LOST", "200 result=1"),
        ("GET VARIABLE LOST", "200 result=0"),
        ("SET VARIABLE __DEEP two words", "200 result=1"),
        ("GET VARIABLE CHANNEL(language)", "200 result=1 (fa)"),
        ("SET VARIABLE CHANNEL(language) en", "200 result=1"),
        ("EXEC Wait 1", "200 result=0"),
    )
    async with call(serve, variables={"PAYREFID": ""}) as channel:
        pass
    assert channel.variables == {"PAYREFID": "", "PAYSTATUS": "PAID", "EMPTY": "", "DEEP": "two"}
    assert channel.language == "en"
    assert channel.music
    assert channel.commands[0] == "ANSWER"


async def test_wrong_commands():
    """An unknown command is 510; a wrong number of arguments is a block that ends in `520 `."""

    async def serve(server):
        await server.environment()
        assert await server.ask("SAY NUMBER 5 #") == "510 Invalid or unknown command"
        assert await server.ask("") == "510 Invalid or unknown command"
        for command in ("GET DATA", "STREAM FILE a", "GET VARIABLE a b", "SET MUSIC", "VERBOSE", "EXEC"):
            assert (await server.ask(command)).startswith("520-Invalid command syntax.")
            assert (await server.line()).startswith("Usage: ")
            assert await server.line() == "520 End of proper usage."
        assert await server.ask("NOOP") == "200 result=0"

    async with call(serve):
        pass


async def test_overlong_command():
    """A command longer than Asterisk's buffer is cut, and its rest taken for the next command."""

    async def serve(server):
        await server.environment()
        assert await server.ask(f"SET VARIABLE LONG {'x' * 2100}") == "200 result=1"
        assert await server.line() == "510 Invalid or unknown command"

    async with call(serve) as channel:
        pass
    assert len(channel.variables["LONG"]) == 2047 - len("SET VARIABLE LONG ")


@pytest.mark.parametrize(
    ("keys", "most", "answer"),
    [
        ("123", 3, "200 result=123"),
        ("123#", 9, "200 result=123"),
        ("123", 9, "200 result=123 (timeout)"),
        ("", 9, "200 result= (timeout)"),
        ("#", 9, "200 result="),
        ("*#", 9, "200 result=*"),
        ("12*4", 4, "200 result=12*4"),
    ],
)
async def test_get_data(keys, most, answer):
    """GET DATA ends at the most digits, at `#` or at the time limit; `*` is a digit."""
    async with call(
        answers((f"GET DATA ivr-agi/ask 5000 {most}", answer)), ScriptedHandset({"ask": keys})
    ) as channel:
        pass
    assert channel.heard == ["ivr-agi/ask"]


async def test_keys_left_over():
    """The `#` pressed out of habit after the last digit ends the next question, which is then asked again."""
    serve = answers(
        ("GET DATA ivr-agi/card 5000 4", "200 result=6037"),
        ("GET DATA ivr-agi/pin 5000 8", "200 result="),
        ("GET DATA ivr-agi/pin 5000 8", "200 result=12345"),
    )
    handset = ScriptedHandset({"card": "6037#", "pin": "12345#"})
    async with call(serve, handset):
        pass
    assert handset.asked == ["card", "pin", "pin"]
    assert handset.transcript == [("card", "6037"), ("pin", ""), ("pin", "12345")]


async def test_keys_lost():
    """A handset may lose what was keyed between two commands, as Asterisk does."""
    serve = answers(
        ("GET DATA ivr-agi/card 5000 4", "200 result=6037"),
        ("GET DATA ivr-agi/pin 5000 8", "200 result=12345"),
    )
    async with call(serve, ScriptedHandset({"card": "6037#", "pin": "12345#"}, keeps_keys=False)):
        pass


async def test_successive_answers():
    """A list answers once each; `...` repeats its last answer; functions, also async, are asked each time."""

    async def late():
        return "3"

    serve = answers(
        *(("GET DATA a 1000 1", f"200 result={key}") for key in ("1", "2", " (timeout)")),
        *(("GET DATA b 1000 1", f"200 result={key}") for key in ("1", "2", "2", "2")),
        *(("GET DATA c 1000 1", f"200 result={key}") for key in ("3", "4", " (timeout)")),
    )
    async with call(
        serve, ScriptedHandset({"a": ["1", "2"], "b": ["1", "2", ...], "c": [late, lambda: "4"]})
    ):
        pass


async def test_no_such_key():
    """A script that presses what no phone has is a mistake of the test, told by the prompt's name."""
    with pytest.raises(ValueError, match="answer to ask"):
        await ScriptedHandset({"ask": "12 34"}).collect("ivr-agi/ask", 1000, 9)


async def test_stream_file():
    """STREAM FILE returns the code of the escape digit that interrupted it, or 0, and where it ended."""
    serve = answers(
        ('STREAM FILE ivr-agi/paid "1"', "200 result=49 endpos=8000"),
        ('STREAM FILE ivr-agi/paid "2"', "200 result=0 endpos=8000"),
        ('STREAM FILE ivr-agi/goodbye ""', "200 result=0 endpos=8000"),
    )
    async with call(serve, ScriptedHandset({"paid": ["01", "1"]})) as channel:
        pass
    assert channel.heard == ["ivr-agi/paid", "ivr-agi/paid", "ivr-agi/goodbye"]


async def test_several_files():
    """SAY DIGITS and EXEC Playback play one clip after another; `a&b` is no file to the other commands."""
    serve = answers(
        ('SAY DIGITS 120 ""', "200 result=0"),
        ('SAY DIGITS 345 "9"', "200 result=57"),
        ("EXEC Playback ivr-agi/a&ivr-agi/none&ivr-agi/b,noanswer", "200 result=0"),
        ("GET DATA a&b 1000 1", "200 result=-1"),
        ('STREAM FILE a&b ""', "200 result=-1 endpos=0"),
    )
    async with call(serve, ScriptedHandset({"digits/4": "9"}), missing={"none"}) as channel:
        pass
    assert channel.heard == [
        "digits/1", "digits/2", "digits/0", "digits/3", "digits/4", "ivr-agi/a", "ivr-agi/b"
    ]  # fmt: skip


async def test_missing_file():
    """A missing file answers -1 like a hang-up, with the caller still there."""
    serve = answers(
        ('STREAM FILE ivr-agi/none ""', "200 result=-1 endpos=0"),
        ("GET DATA ivr-agi/none 1000 1", "200 result=-1"),
        ("CHANNEL STATUS", "200 result=6"),
    )
    async with call(serve, missing={"ivr-agi/none"}) as channel:
        pass
    assert channel.heard == []


async def test_hang_up_at_a_question():
    """A hang-up during a question writes HANGUP in front of its answer, which is -1."""
    serve = answers(
        ("GET DATA ivr-agi/card 5000 16", "HANGUP"),
        ("CHANNEL STATUS", "200 result=-1"),
        ("NOOP", "511 Command Not Permitted on a dead channel or intercept routine"),
    )
    async with call(serve, ScriptedHandset({"card": HANG_UP})) as channel:
        pass
    assert channel.dead


async def test_dead_channel():
    """After a hang-up variables can be set and read and nothing else of the caller's works."""
    dead = "511 Command Not Permitted on a dead channel or intercept routine"

    async def serve(server):
        await server.environment()
        assert await server.ask('STREAM FILE please-wait ""') == "HANGUP"
        assert await server.line() == "200 result=-1 endpos=8000"
        for command in ("ANSWER", "GET DATA a 1000 1", 'STREAM FILE a ""', "SET MUSIC OFF", "CHANNEL STATUS"):
            assert await server.ask(command) == dead
        assert await server.ask("SET VARIABLE PAYSTATUS HANGUP") == "200 result=1"
        assert await server.ask("GET VARIABLE PAYSTATUS") == "200 result=1 (HANGUP)"
        assert await server.ask("NOOP") == "200 result=0"
        assert await server.ask("EXEC Playback a") == "200 result=-1"

    async with call(serve, ScriptedHandset({"please-wait": HANG_UP})) as channel:
        pass
    assert channel.variables == {"PAYSTATUS": "HANGUP"}


async def test_hang_up_at_any_time():
    """A hang-up by another task reaches the server at once, also between two commands, and once only."""
    hang_up_now, hung_up = asyncio.Event(), asyncio.Event()

    async def serve(server):
        await server.environment()
        await server.ask("NOOP")
        hang_up_now.set()
        await hung_up.wait()
        assert await server.line() == "HANGUP"
        assert (await server.ask("ANSWER")).startswith("511 ")

    async with call(serve) as channel:

        async def leave():
            await hang_up_now.wait()
            channel.hang_up()
            channel.hang_up()
            hung_up.set()

        leaving = asyncio.create_task(leave())
    await leaving


async def test_hang_up_interrupts_the_caller():
    """A caller who is listening when the call is cut off stops listening, and GET DATA answers -1."""
    listening = asyncio.Event()

    class Listener(ScriptedHandset):
        async def collect(self, *_asked):
            listening.set()
            await asyncio.Event().wait()

    serve = answers(("GET DATA a 1000 1", "HANGUP"), ("NOOP", "200 result=-1"))
    async with call(serve, Listener()) as channel:

        async def cut():
            await listening.wait()
            channel.hang_up()

        cutting = asyncio.create_task(cut())
    await cutting


async def test_no_hangup_line():
    """With AGISIGHUP=no a hang-up shows only in the answers."""
    serve = answers(
        ("GET DATA a 1000 1", "200 result=-1"),
        ("ANSWER", "511 Command Not Permitted on a dead channel or intercept routine"),
    )
    async with call(serve, ScriptedHandset({"a": HANG_UP}), sighup=False):
        pass


async def test_hang_up_by_the_server():
    """HANGUP ends the call: answered first, then told like any hang-up."""
    serve = answers(("HANGUP", "200 result=1"), ("GET VARIABLE X", "HANGUP"))
    async with call(serve) as channel:
        pass
    assert channel.dead


async def test_a_handset_that_fails():
    """A mistake in a test's handset comes out of run(), and the connection is closed."""

    class Broken(ScriptedHandset):
        async def play(self, *asked):
            raise LookupError(asked)

    async def serve(server):
        await server.environment()
        assert await server.ask('STREAM FILE a ""') == ""

    with pytest.raises(LookupError):
        async with call(serve, Broken()):
            pass


async def test_wrong_address():
    """An address that is no FastAGI server's is refused before anything is dialled."""
    with pytest.raises(ValueError, match="not the address of a FastAGI server"):
        await dial("http://127.0.0.1/", ScriptedHandset())


async def test_gone_is_public():
    """A handset of one's own hangs up by raising Gone."""

    class Leaver(ScriptedHandset):
        async def collect(self, *_asked):
            raise Gone

    async with call(answers(("GET DATA a 1000 1", "HANGUP")), Leaver()) as channel:
        pass
    assert channel.dead
