"""Asterisk's side of one FastAGI call: it dials a server and obeys its commands as Asterisk would.

For tests, the demo and the terminal phone. Each rule is Asterisk's own (22.10.1, `res_agi.c`): how a
command is cut into words, what is answered, what a hang-up does to an answer under way. It must never
be kinder than Asterisk: a server that works here only because a stand-in overlooked its mistake is
a server that fails in the field. What the caller does is asked of a `Handset`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from ivr_agi.simulator.handset import HANG_UP, Gone, Handset, Keyed, ScriptedHandset, prompt_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence

__all__ = ["HANG_UP", "Channel", "Gone", "Handset", "Keyed", "ScriptedHandset", "dial", "prompt_name"]

AGI_PORT: Final = 4573
BUFFER: Final = 2047  # bytes of a command that Asterisk's buffer of 2 KB holds before the terminating zero
SAMPLES: Final = 8000  # where a file ends or is interrupted: after its first second
UP: Final = 6  # AST_STATE_UP: answered
DEAD: Final = "511 Command Not Permitted on a dead channel or intercept routine"

_serial = itertools.count(1)
_T = TypeVar("_T")


def split_words(line: str) -> list[str]:
    """Cut a command into words, as `parse_args` of `res_agi.c` does: double quotes, backslash escapes."""
    words: list[str] = []
    quoted = escaped = False
    between = True
    for letter in line:
        if letter == '"' and not escaped:
            quoted = not quoted
            if quoted and between:
                words.append("")
                between = False
        elif letter in " \t" and not quoted and not escaped:
            between = True
        elif letter == "\\" and not escaped:
            escaped = True
        else:
            if between:
                words.append("")
                between = False
            words[-1] += letter
            escaped = False
    return words


async def dial(  # noqa: PLR0913 - one argument for each thing that a call has
    url: str,
    handset: Handset,
    *,
    caller_id: str = "09123456789",
    caller_name: str = "",
    uniqueid: str | None = None,
    channel: str = "PJSIP/trunk-00000001",
    arguments: Sequence[str] = (),
    language: str = "fa",
    extra_lines: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    missing: Collection[str] = (),
    sighup: bool = True,
) -> Channel:
    """Connect to `agi://host[:port]/script?query` and send the environment; raises OSError if nobody answers.

    extra_lines go in front of the blank line (a forged or unknown line). missing: files that are not there.
    sighup False is `AGISIGHUP=no`: no HANGUP line. Bytes that are no UTF-8 may be given as surrogate escapes.
    """
    host, port, script = _address(url)
    reader, writer = await asyncio.open_connection(host, port, limit=BUFFER)
    environment = {
        "agi_network": "yes",
        **({"agi_network_script": script} if script else {}),
        "agi_request": url,
        "agi_channel": channel,
        "agi_language": language,
        "agi_type": channel.partition("/")[0],
        "agi_uniqueid": uniqueid or f"{int(time.time())}.{next(_serial)}",
        "agi_version": "22.10.1",
        "agi_callerid": caller_id or "unknown",
        "agi_calleridname": caller_name or "unknown",
        "agi_callingpres": "0",
        "agi_callingani2": "0",
        "agi_callington": "0",
        "agi_callingtns": "0",
        "agi_dnid": "700",
        "agi_rdnis": "unknown",
        "agi_context": "pay",
        "agi_extension": "700",
        "agi_priority": "3",
        "agi_enhanced": "0.0",
        "agi_accountcode": "",
        "agi_threadid": "140211358779072",
        **{f"agi_arg_{place}": argument for place, argument in enumerate(arguments, 1)},
    }
    lines = [*(f"{key}: {value}" for key, value in environment.items()), *extra_lines, "", ""]
    writer.write("\n".join(lines).encode("utf-8", "surrogateescape"))
    answered = Channel(reader, writer, handset, name=channel, missing=missing, sighup=sighup)
    answered.variables.update(variables or {})
    answered.functions["CHANNEL(language)"] = language
    return answered


def _address(url: str) -> tuple[str, int, str]:
    parts = urlsplit(url)
    if parts.scheme != "agi" or not parts.hostname:
        raise ValueError(f"not the address of a FastAGI server (agi://host:port/pay): {url}")
    # Asterisk decodes nothing: the script is the rest of the address, letter by letter.
    return parts.hostname, parts.port or AGI_PORT, url.removeprefix("agi://").partition("/")[2]


class Channel:
    """One call: obeys commands until the server lets go.

    variables: the channel's, as the dialplan will see them. functions: `CHANNEL(language)` and its like.
    heard: the files played, in order, begun or finished. commands: each command as it came.
    music: whether music on hold is playing. dead: whether the caller has hung up.
    """

    def __init__(  # noqa: PLR0913 - parts of one call, handed over by dial()
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handset: Handset,
        *,
        name: str,
        missing: Collection[str] = (),
        sighup: bool = True,
    ) -> None:
        self.name = name
        self.variables: dict[str, str] = {}
        self.functions: dict[str, str] = {}
        self.heard: list[str] = []
        self.commands: list[str] = []
        self.music = False
        self.missing = missing
        self._reader = reader
        self._writer = writer
        self._handset = handset
        self._sighup = sighup
        self._hung_up = asyncio.Event()

    @property
    def dead(self) -> bool:
        """Whether the caller has hung up."""
        return self._hung_up.is_set()

    @property
    def language(self) -> str:
        """The language in which prompts are played, `CHANNEL(language)`."""
        return self.functions["CHANNEL(language)"]

    def hang_up(self) -> None:
        """Put the receiver down, now: `HANGUP` enters the stream, in front of any answer under way."""
        if not self.dead:
            self._hung_up.set()
            if self._sighup and not self._writer.is_closing():
                self._writer.write(b"HANGUP\n")

    async def run(self) -> dict[str, str]:
        """Obey the server until it closes the connection; return the channel's variables."""
        try:
            with contextlib.suppress(ConnectionError):
                async for line in self._lines():
                    self.commands.append(line)
                    self._send(await self._obey(line))
                    await self._writer.drain()
        finally:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()
        return self.variables

    def _send(self, answer: str) -> None:
        self._writer.write(f"{answer}\n".encode("utf-8", "surrogateescape"))

    async def _lines(self) -> AsyncIterator[str]:
        while True:
            try:
                line = await self._reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                # What does not fit into Asterisk's buffer is taken for the next command.
                line = await self._reader.readexactly(BUFFER)
            except asyncio.IncompleteReadError:
                return
            yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")

    async def _obey(self, line: str) -> str:
        words = split_words(line)
        self._handset.observe(words)
        found = _find(words)
        if found is None:
            return "510 Invalid or unknown command"
        if self.dead and not found.when_dead:
            return DEAD
        arguments = words[len(found.name.split()) :]
        if not found.least <= len(arguments) <= found.most:
            return (
                "520-Invalid command syntax.  Proper usage follows:\n"
                f"Usage: {found.name} {found.usage}\n"
                "520 End of proper usage."
            )
        return await found.act(self, arguments)

    async def _caller(self, acts: Coroutine[object, object, _T]) -> _T | None:
        """Let the caller act; None if he has hung up before, by it, or meanwhile."""
        acting = asyncio.ensure_future(acts)
        leaving = asyncio.ensure_future(self._hung_up.wait())
        try:
            await asyncio.wait((acting, leaving), return_when=asyncio.FIRST_COMPLETED)
            return None if self.dead else acting.result()
        except Gone:
            self.hang_up()
            return None
        finally:
            for task in (acting, leaving):
                task.cancel()
            await asyncio.gather(acting, leaving, return_exceptions=True)

    def _is_there(self, file: str) -> bool:
        # One file is one name: `a&b` is looked for as it stands, and not found.
        return "&" not in file and file not in self.missing and prompt_name(file) not in self.missing

    async def _play(self, file: str, escape: str = "") -> str | None:
        self.heard.append(file)
        return await self._caller(self._handset.play(file, escape))

    async def answer(self, _words: list[str]) -> str:
        """ANSWER: the dialplan has answered before."""
        return "200 result=0"

    async def status(self, words: list[str]) -> str:
        """CHANNEL STATUS [CHANNELNAME]."""
        return f"200 result={UP if words in ([], [self.name]) else -1}"

    async def let_go(self, _words: list[str]) -> str:
        """HANGUP: the server ends the call itself."""
        self._hung_up.set()
        return "200 result=1\nHANGUP" if self._sighup else "200 result=1"

    async def stream_file(self, words: list[str]) -> str:
        """STREAM FILE: plays one file; a key among the escape digits ends it and is returned as its code."""
        file, escape = words[:2]
        if not self._is_there(file):
            return "200 result=-1 endpos=0"
        key = await self._play(file, escape)
        return f"200 result={-1 if key is None else ord(key) if key else 0} endpos={SAMPLES}"

    async def get_data(self, words: list[str]) -> str:
        """GET DATA: plays one file and collects digits."""
        file, timeout, most = words[0], _number(words[1:2], 0), _number(words[2:3], 1024)
        if not self._is_there(file):
            return "200 result=-1"
        self.heard.append(file)
        keyed = await self._caller(self._handset.collect(file, timeout, most))
        if keyed is None:
            return "200 result=-1"
        return f"200 result={keyed.digits}{' (timeout)' if keyed.timed_out else ''}"

    async def say_digits(self, words: list[str]) -> str:
        """SAY DIGITS: one clip a digit, from Asterisk's own `digits/`."""
        for digit in words[0]:
            key = await self._play(f"digits/{digit}", words[1])
            if key is None:
                return "200 result=-1"
            if key:
                return f"200 result={ord(key)}"
        return "200 result=0"

    async def execute(self, words: list[str]) -> str:
        """EXEC: `Playback` plays several files (a missing one is passed over); the rest do nothing here."""
        if words[0].lower() == "playback":
            for file in words[1].partition(",")[0].split("&") if words[1:] else ():
                if self.dead or (self._is_there(file) and await self._play(file) is None):
                    return "200 result=-1"
        return "200 result=0"

    async def set_variable(self, words: list[str]) -> str:
        """SET VARIABLE: as Asterisk, without a value nothing is set, and words after it are dropped."""
        if words[1:]:
            name, value = words[:2]
            if name.endswith(")"):
                self.functions[name] = value
            else:
                # `_X` and `__X` are X, inherited by channels that this one creates.
                self.variables[name.removeprefix("_").removeprefix("_")] = value
        return "200 result=1"

    async def get_variable(self, words: list[str]) -> str:
        """GET VARIABLE."""
        kept = self.functions if words[0].endswith(")") else self.variables
        return f"200 result=1 ({kept[words[0]]})" if words[0] in kept else "200 result=0"

    async def set_music(self, words: list[str]) -> str:
        """SET MUSIC ON|OFF [CLASS]: returns at once."""
        self.music = words[0].lower().startswith("on")
        return "200 result=0"

    async def noop(self, _words: list[str]) -> str:
        """NOOP."""
        return "200 result=0"

    async def verbose(self, _words: list[str]) -> str:
        """VERBOSE."""
        return "200 result=1"


def _number(words: list[str], default: int) -> int:
    # atoi(), and no number at all counts as not given
    return int(words[0]) if words and words[0].isascii() and words[0].isdigit() else default


@dataclass(frozen=True, slots=True)
class _Command:
    """One AGI command: its words, how many may follow, whether it works after a hang-up, its method."""

    name: str
    usage: str
    least: int
    most: int
    when_dead: bool
    act: Callable[[Channel, list[str]], Awaitable[str]]


_ANY: Final = 127  # MAX_ARGS of res_agi.c
_COMMANDS: Final = (
    _Command("ANSWER", "", 0, _ANY, False, Channel.answer),
    _Command("CHANNEL STATUS", "[<CHANNELNAME>]", 0, 1, False, Channel.status),
    _Command("EXEC", "<APPLICATION> [<OPTIONS>]", 1, _ANY, True, Channel.execute),
    _Command("GET DATA", "<FILE> [<TIMEOUT>] [<MAXDIGITS>]", 1, _ANY, False, Channel.get_data),
    _Command("GET VARIABLE", "<VARIABLENAME>", 1, 1, True, Channel.get_variable),
    _Command("HANGUP", "[<CHANNELNAME>]", 0, 1, False, Channel.let_go),
    _Command("NOOP", "", 0, _ANY, True, Channel.noop),
    _Command("SAY DIGITS", "<NUMBER> <ESCAPE_DIGITS>", 2, 2, False, Channel.say_digits),
    _Command("SET MUSIC", "<ON|OFF> [<CLASS>]", 1, _ANY, False, Channel.set_music),
    _Command("SET VARIABLE", "<VARIABLENAME> <VALUE>", 1, _ANY, True, Channel.set_variable),
    _Command("STREAM FILE", "<FILENAME> <ESCAPE_DIGITS> [<SAMPLE_OFFSET>]", 2, 3, False, Channel.stream_file),
    _Command("VERBOSE", "<MESSAGE> [<LEVEL>]", 1, _ANY, True, Channel.verbose),
)


def _find(words: list[str]) -> _Command | None:
    upper = [word.upper() for word in words[:2]]
    return next((c for c in _COMMANDS if c.name.split() == upper[: len(c.name.split())]), None)
