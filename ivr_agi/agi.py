"""The FastAGI wire, and pyst2's AGI as the codec that words commands and reads answers.

`Wire` knows lines, hang-ups, refusals, limits and deadlines, and nothing of payments. `Codec` is
pyst2's `AGI` with its blocking I/O taken out and its wording put right. `Agi` is what the call
uses: pyst2's vocabulary, awaited. This is the only file that imports `asterisk`, and no answer
of a caller is ever logged here: it may be a card number.

Asterisk's side of it: https://docs.asterisk.org, "Asterisk Gateway Interface"; what it really
sends on a hang-up is held by tests/asterisk.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from asterisk import agi as pyst2

from ivr_agi.model import Hangup, Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = structlog.get_logger()

ENVIRONMENT_SECONDS: Final = 5.0  # the whole environment; Asterisk sends it in one go
MAX_LINE: Final = 8192  # bytes; Asterisk's own command buffer is no longer
MAX_LINES: Final = 128  # of the environment, or unread
MAX_ENVIRONMENT: Final = 32_768  # characters; Asterisk's own has about one thousand
MAX_UNREAD: Final = 65_536  # characters of lines that nobody has read yet
MAX_HANGUPS: Final = 3  # Asterisk says it once; from then on it is a line like any other
MAX_COMMAND: Final = 2000  # bytes; Asterisk before 2025 cuts a longer one
COMMAND_SECONDS: Final = 10.0  # for a command that does not wait for the caller
PROMPT_SECONDS: Final = 90.0  # the longest sound that we let play
HANGUP_GRACE: Final = 1.0  # after HANGUP an answer comes at once, or never
BLOCK_GRACE: Final = 0.5  # a 520 block whose last line is not "520 …" ends by silence
DEAD: Final = 511  # "not permitted on a dead channel"

# What Asterisk sends as `agi_…`, in its order (res_agi.c of 16 to 22); arguments follow as agi_arg_N.
ENVIRONMENT_KEYS: Final = (
    "network", "network_script", "request", "channel", "language", "type", "uniqueid", "version",
    "callerid", "calleridname", "callingpres", "callingani2", "callington", "callingtns", "dnid", "rdnis",
    "context", "extension", "priority", "enhanced", "accountcode", "threadid",
)  # fmt: skip
PLACES: Final = {key: place for place, key in enumerate(ENVIRONMENT_KEYS)}
# How soon a peer that has vanished without a word is noticed: tcp(7); seconds, a count, milliseconds. One
# that is frozen still answers these; it has the deadline of each command.
KEEPALIVE: Final = {
    "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000,
}  # fmt: skip


class BadEnvironment(Exception):  # noqa: N818 - named for what it is
    """The environment is no Asterisk's, or a caller ID with a newline has forged a part of it."""


class CommandRefused(Exception):  # noqa: N818
    """Asterisk does not know the command (510), or finds its arguments wrong (520)."""


class MissingSound(Exception):  # noqa: N818
    """`-1` with the caller still there: Asterisk has no such sound file."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of Asterisk: `200`, and `result=1 (something) endpos=0`, which may hold a caller's keys."""

    code: int
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyed:
    """What GET DATA brought: the keys (`*` among them, never `#`), and whether time ran out."""

    keys: Keys = field(repr=False)
    timed_out: bool


class Wire(asyncio.Protocol):
    """One connection from Asterisk: one command under way at a time, each with a deadline.

    hung_up is set the moment Asterisk says HANGUP, answers 511, or goes away; also while nobody
    is asking. closed is set when the connection itself has gone.
    """

    def __init__(self, opened: Callable[[Wire], None]) -> None:
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._lines: deque[str] = deque()
        self._waiting = 0  # characters in them
        self._hangups = 0
        self._arrival: asyncio.Future[None] | None = None
        self._commanding = False  # the environment is over: HANGUP is now a word of its own
        self.peer = ""
        self.hung_up = asyncio.Event()
        self.closed = asyncio.Event()

    # -- asyncio's side ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who it is and hand the call on."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        peername = transport.get_extra_info("peername") or ("unknown",)
        self.peer = str(peername[0])
        _keep_alive(transport.get_extra_info("socket"))
        self._opened(self)

    def data_received(self, chunk: bytes) -> None:
        """Cut what came into lines; a line or a heap of them that no Asterisk sends ends it."""
        self._unread += chunk
        while (end := self._unread.find(b"\n")) >= 0:
            line = self._unread[:end].decode("utf-8", "replace").rstrip("\r")
            del self._unread[: end + 1]
            if self._commanding and line == "HANGUP" and self._hangups < MAX_HANGUPS:
                self._hangups += 1
                self.hung_up.set()
                continue
            self._lines.append(line)
            self._waiting += len(line)
            if len(self._lines) > MAX_LINES or self._waiting > MAX_UNREAD:  # before the rest is cut, too
                self._flooded()
                return
        if len(self._unread) > MAX_LINE:
            self._flooded()
            return
        self._wake()

    def _flooded(self) -> None:
        log.warning("agi.flooded", peer=self.peer, cure="this peer is no Asterisk: see ALLOWED_PEERS")
        self._unread.clear()
        self._lines.clear()
        self._waiting = 0
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """EOF or reset: whoever waits learns it now."""
        del exc
        self.closed.set()
        self.hung_up.set()
        self._wake()

    def _wake(self) -> None:
        if self._arrival and not self._arrival.done():
            self._arrival.set_result(None)

    # -- the call's side --------------------------------------------------------------------

    async def environment(self) -> list[str]:
        """Read up to the blank line. Raises Hangup when it stays cut, or is longer than any of Asterisk's."""
        lines: list[str] = []
        size = 0
        deadline = _now() + ENVIRONMENT_SECONDS
        while (line := await self._line(deadline)) is not None:
            if not line:
                self._commanding = True
                return lines
            lines.append(line)
            size += len(line)
            if len(lines) > MAX_LINES or size > MAX_ENVIRONMENT:
                self._flooded()
        self.abort()
        raise Hangup("the AGI environment never ended")

    async def ask(
        self, command: str, seconds: float = COMMAND_SECONDS, grace: float = HANGUP_GRACE
    ) -> Answer:
        """Send one command and await its answer, at most so many seconds; after HANGUP, `grace`.

        Raises BadEnvironment when the environment turns out to have been longer than it seemed.

        Raises Hangup when the connection has gone or Asterisk says nothing in time. A command to
        a dead channel is answered 511, as Asterisk does; so is one that HANGUP came in place of.
        """
        if self._transport is None or self.closed.is_set():
            raise Hangup("the connection to Asterisk has gone")
        # What still comes for a command that was given up is nobody's answer.
        self._lines = deque(line for line in self._lines if line.startswith("agi_"))
        self._waiting = sum(map(len, self._lines))
        self._transport.write(command.encode() + b"\n")
        deadline = _now() + seconds
        forged = False
        while (line := await self._line(deadline, grace)) is not None:
            # Asterisk answers only after its whole environment: more of it here means that the blank
            # line that ended it came out of a caller ID.
            forged = forged or line.startswith("agi_")
            found = re.match(r"([1-9][0-9]{2})([ -]|$)(.*)", line, re.DOTALL)
            if not found or found[1].startswith("1"):  # noise; or "100 Trying", the real one follows
                continue
            code, mark, text = int(found[1]), found[2], found[3]
            if mark == "-":
                text = await self._block(text)
            if code == DEAD:
                self.hung_up.set()
            if forged:
                raise BadEnvironment("it goes on after its end")
            return Answer(code, text)
        if self.closed.is_set():
            raise Hangup("the connection to Asterisk has gone")
        if self.hung_up.is_set():
            return Answer(DEAD, "hung up, no answer")
        log.warning("agi.silent", peer=self.peer, command=command.split(" ", 1)[0], seconds=seconds)
        self.abort()
        raise Hangup("Asterisk has fallen silent")

    async def _block(self, first: str) -> str:
        """Read the rest of a `520-` block: it ends with `520 `, or by silence."""
        lines = [first]
        while len(lines) < MAX_LINES and (line := await self._line(_now() + BLOCK_GRACE)) is not None:
            lines.append(line)
            if re.match(r"[1-9][0-9]{2} ", line):
                break
        return "\n".join(lines)

    async def _line(self, deadline: float, grace: float | None = None) -> str | None:
        """The next line; None when the connection has gone or time is up."""
        while not self._lines:
            if self.closed.is_set():
                return None
            until = deadline
            if grace is not None and self.hung_up.is_set():
                until = min(deadline, _now() + grace)
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrival
            except TimeoutError:
                return None
            finally:
                self._arrival = None
        line = self._lines.popleft()
        self._waiting -= len(line)
        return line

    def close(self) -> None:
        """Let go of the call: Asterisk goes on in the dialplan."""
        if self._transport:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection at once; whoever waits gets Hangup."""
        if self._transport:
            self._transport.abort()
        self.hung_up.set()
        self.closed.set()
        self._wake()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _keep_alive(wire: socket.socket | None) -> None:
    if wire is None or wire.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with suppress(OSError):  # gone already
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def parse_environment(lines: Iterable[str]) -> dict[str, str]:
    """Read `agi_callerid: 09…` lines into `{"callerid": "09…"}`, arguments as `arg_1`, ….

    Strict, because a caller ID with a newline can forge lines: what Asterisk does not send, or not
    twice, or not at that place, raises BadEnvironment. Arguments come last, numbered from 1.
    """
    environment: dict[str, str] = {}
    place, arguments = -1, 0
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.removeprefix("agi_")
        if not colon or key == name:
            raise BadEnvironment(f"a line that is none of Asterisk's: {name[:40]!r}")
        if key in environment:
            raise BadEnvironment(f"{name} comes twice")
        if key == f"arg_{arguments + 1}":
            arguments += 1
        elif key not in PLACES:
            raise BadEnvironment(f"unknown key {name[:40]!r}")
        elif arguments or PLACES[key] < place:
            raise BadEnvironment(f"{name} is not at its place")
        else:
            place = PLACES[key]
        environment[key] = value.strip()
    return environment


class _Worded(Exception):  # noqa: N818
    """Thrown out of pyst2 once it has worded a command."""


class Codec(pyst2.AGI):  # type: ignore[misc]  # pyst2 has no types
    """pyst2's AGI as a codec: each method runs twice, to word the command and to read the answer.

    What is put right here, each reproduced against pyst2 0.5.1: signal handlers and reading in
    `__init__`, secrets on stderr, quoting that escapes nothing, file names not quoted at all,
    the lost "(timeout)", 511, and "hangup" inside a value taken for one.
    """

    def __init__(self) -> None:
        # Not pyst2's: it would install a signal handler and read from stdin.
        self.env: dict[str, str] = {}
        self.wording = ""
        self.answer_read: Answer | None = None

    def execute(self, command: str, *args: object) -> dict[str, tuple[str, str]]:
        """Word the command on the first pass, read its answer on the second."""
        if self.answer_read is None:
            self.wording = " ".join([command.strip(), *map(str, args)]).strip()
            raise _Worded
        return decode(self.answer_read)

    def _quote(self, string: object) -> str:
        """Quote so that no value can end the argument or the command."""
        text = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", str(string))
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def stream_file(self, filename: str, escape_digits: str = "", sample_offset: int = 0) -> Any:
        """As pyst2's, with the file name quoted."""
        return super().stream_file(self._quote(filename), escape_digits, sample_offset)

    def get_data(self, filename: str, timeout: int = 2000, max_digits: int = 255) -> Keyed:
        """As pyst2's, with the file name quoted and the timeout told."""
        keys, note = self.execute("GET DATA", self._quote(filename), timeout, max_digits)["result"]
        return Keyed(Keys(keys), note == "timeout")

    def set_music(self, name: str, *, on: bool) -> None:
        """SET MUSIC ON class, or OFF: the one command of ours that pyst2 lacks."""
        self.execute("SET MUSIC", "ON" if on else "OFF", self._quote(name))


def decode(answer: Answer) -> dict[str, tuple[str, str]]:
    """Read an answer into pyst2's shape: `{"result": ("1", "what stood in brackets")}`.

    Raises Hangup on 511, CommandRefused on 510, 520 and whatever else Asterisk may say.
    """
    if answer.code == DEAD:
        raise Hangup("the caller has hung up")
    found = re.match(r"result=([^\s(]*)(?:\s*\((.*)\))?", answer.text, re.DOTALL)
    if answer.code != 200 or not found:  # noqa: PLR2004 - AGI's "done"
        raise CommandRefused(f"{answer.code} {answer.text.splitlines()[0] if answer.text else ''}".strip())
    return {"result": (found[1], found[2] or "")}


class Agi:
    """The commands that a call needs, awaited. Raises Hangup, MissingSound or CommandRefused."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._codec = Codec()

    @property
    def hung_up(self) -> asyncio.Event:
        """Set the moment the caller, or the connection, has gone."""
        return self._wire.hung_up

    async def answer(self) -> None:
        """ANSWER: harmless when the dialplan has answered."""
        await self._do(self._codec.answer)

    async def stream_file(self, name: str, escape: str = "") -> str:
        """Play a file; returns the key of `escape` that ended it, or ''."""
        return str(await self._do(self._codec.stream_file, name, escape, seconds=PROMPT_SECONDS, sound=name))

    async def get_data(self, name: str, timeout_ms: int, max_digits: int) -> Keyed:
        """Play a file and collect keys in one command: between two commands Asterisk loses keys."""
        seconds = PROMPT_SECONDS + timeout_ms / 1000 * (max_digits + 1)
        keyed = await self._do(
            self._codec.get_data, name, timeout_ms, max_digits, seconds=seconds, sound=name
        )
        return cast("Keyed", keyed)

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable; also works, and is meant to, after a hang-up."""
        await self._do(self._codec.set_variable, name, value, dead=True)

    async def set_music(self, name: str, *, on: bool) -> None:
        """Start or stop music on hold of a class; returns at once."""
        await self._do(lambda: self._codec.set_music(name, on=on))

    async def _do(
        self,
        method: Callable[..., Any],
        *args: object,
        seconds: float = COMMAND_SECONDS,
        sound: str = "",
        dead: bool = False,
    ) -> Any:
        """Let pyst2 word the command, carry it over, and let pyst2 read the answer."""
        if self.hung_up.is_set() and not dead:
            raise Hangup("the caller has hung up")
        codec = self._codec
        codec.answer_read = None
        with suppress(_Worded):
            method(*args)
        if len(codec.wording.encode()) > MAX_COMMAND:
            raise CommandRefused(f"{codec.wording.split(' ', 1)[0]}: longer than {MAX_COMMAND} bytes")
        grace = COMMAND_SECONDS if dead else HANGUP_GRACE
        codec.answer_read = await self._wire.ask(codec.wording, seconds, grace)
        if self.hung_up.is_set() and not dead:
            raise Hangup("the caller has hung up")
        if sound and codec.answer_read.text.startswith("result=-1"):
            await self._tell_missing_from_gone(sound)
        try:
            return method(*args)
        except pyst2.AGIException:  # it quotes the answer, which may be a caller's keys
            raise CommandRefused(f"{codec.wording.split(' ', 1)[0]}: an answer that cannot be read") from None

    async def _tell_missing_from_gone(self, sound: str) -> None:
        """`-1` means either; CHANNEL STATUS tells which."""
        status = await self._wire.ask("CHANNEL STATUS")
        if status.code == DEAD or self.hung_up.is_set() or status.text.startswith("result=-1"):
            self.hung_up.set()
            raise Hangup("the caller has hung up")
        raise MissingSound(sound)
