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
import math
import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

import structlog
from asterisk import agi as pyst2

from ivr_agi.model import Hangup, Keys

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Generator, Iterable

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
CLOCK_TICK: Final = 0.002  # seconds; uvloop's clock has milliseconds
DEAD: Final = 511  # "not permitted on a dead channel"

# What Asterisk sends as `agi_…`, in its order (res_agi.c of 16 to 22); arguments follow as agi_arg_N.
ENVIRONMENT_KEYS: Final = (
    "network", "network_script", "request", "channel", "language", "type", "uniqueid", "version",
    "callerid", "calleridname", "callingpres", "callingani2", "callington", "callingtns", "dnid", "rdnis",
    "context", "extension", "priority", "enhanced", "accountcode", "threadid",
)  # fmt: skip
PLACES: Final = {key: place for place, key in enumerate(ENVIRONMENT_KEYS)}

_ANSWER: Final = re.compile(r"([2-9][0-9]{2})([ -]|$)(.*)", re.DOTALL)
_LAST_OF_BLOCK: Final = re.compile(r"[1-9][0-9]{2} ")
_RESULT: Final = re.compile(r"result=([^\s(]*)(?:\s*\((.*)\))?", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


class BadEnvironment(Exception):  # noqa: N818 - named for what it is
    """The environment is no Asterisk's, or a caller ID with a newline has forged a part of it."""


class CommandRefused(Exception):  # noqa: N818
    """Asterisk does not know the command (510), or finds its arguments wrong (520)."""


class MissingSound(Exception):  # noqa: N818
    """`-1` with the caller still there: Asterisk has no such sound file."""


class Answer(NamedTuple):
    """One answer of Asterisk: `200`, and `result=1 (something) endpos=0`, which may hold a caller's keys."""

    code: int
    text: str

    def __repr__(self) -> str:
        return f"Answer(code={self.code})"


@dataclass(frozen=True, slots=True)
class Keyed:
    """What GET DATA brought: the keys (`*` among them, never `#`), and whether time ran out."""

    keys: Keys = field(repr=False)
    timed_out: bool


class Once:
    """What happens once, and can be waited for. As asyncio.Event, which takes ten times the memory."""

    __slots__ = ("_event", "_happened")

    def __init__(self) -> None:
        self._happened = False
        self._event: asyncio.Event | None = None

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._happened

    def set(self) -> None:
        """It has happened: whoever waits goes on."""
        self._happened = True
        if self._event:
            self._event.set()

    async def wait(self) -> None:
        """Wait until it has happened."""
        if not self._happened:
            self._event = self._event or asyncio.Event()
            await self._event.wait()


class Arrival:
    """A line that is awaited, and wakes who awaits it within the very read that brought it.

    A future, as far as a task can tell, that is used again and again. asyncio's own would be a new one for
    each command, and have the loop call the task at its next turn: a fifth of what a command costs. One task
    at a time may await it.
    """

    __slots__ = ("_asyncio_future_blocking", "_context", "_loop", "_wake", "line", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # What has come. It may be what the caller has keyed: no call has it for an argument.
        self.line: str | BaseException | None = None
        self._wake: Callable[[Any], object] | None = None
        self._context: contextvars.Context | None = None
        self._asyncio_future_blocking = False
        self.waiting = False  # for a line, whether or not somebody awaits it yet

    def __await__(self) -> Generator[Arrival, None, str | None]:
        """The line that came; None when none will."""
        if self.waiting:
            self._asyncio_future_blocking = True
            yield self
        line = self.result()
        self.line = None
        return line

    def give_up(self) -> None:
        """None will come. To be followed by `wake` or `wake_soon`."""
        self.line, self.waiting = None, False

    def wake(self) -> None:
        """Go on with whoever awaits it: at once, unless another task is at work."""
        if self._wake and not self.waiting:
            if asyncio.current_task(self._loop) is not None:
                self.wake_soon()
                return
            wake, context, self._wake, self._context = self._wake, self._context, None, None
            if context:
                context.run(wake, self)

    def wake_soon(self) -> None:
        """The same, at the loop's next turn: by whoever may be a task."""
        self._loop.call_soon(self.wake)

    # -- what a task asks of a future -------------------------------------------------------

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it belongs to."""
        return self._loop

    def add_done_callback(self, wake: Callable[[Any], object], *, context: contextvars.Context) -> None:
        """Have the task woken."""
        self._wake, self._context = wake, context

    def cancel(self, msg: object = None) -> bool:
        """The task that awaits it is cancelled."""
        if not self.waiting:
            self.wake_soon()  # it has come, and will be told so with the cancellation
            return False
        self.line, self.waiting = asyncio.CancelledError(msg) if msg else asyncio.CancelledError(), False
        self.wake_soon()
        return True

    def result(self) -> str | None:
        """What has come. Raises CancelledError."""
        if isinstance(self.line, BaseException):
            raise self.line
        return self.line


class Wire(asyncio.Protocol):
    """One connection from Asterisk: one command under way at a time, each with a deadline.

    hung_up is set the moment Asterisk says HANGUP, answers 511, or goes away; also while nobody
    is asking. closed is set when the connection itself has gone.
    """

    __slots__ = (
        "_arrival", "_commanding", "_grace", "_hangups", "_lines", "_loop", "_opened", "_rings_at", "_timer",
        "_transport", "_unread", "_until", "_waiting", "closed", "hung_up", "peer",
    )  # fmt: skip

    def __init__(self, opened: Callable[[Wire], None], loop: asyncio.AbstractEventLoop | None = None) -> None:
        """opened: called once it is connected. loop: the running one unless given."""
        self._opened: Callable[[Wire], None] | None = opened
        self._loop = loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unread = b""  # of a line whose end has not come
        self._lines: list[str] = []  # that came before anybody waited for them
        self._waiting = 0  # characters in them
        self._hangups = 0
        self._arrival = Arrival(self._loop)  # of the line that is waited for
        self._until = self._grace = 0.0  # when the waiting ends, and how soon after a hang-up
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._commanding = False  # the environment is over: HANGUP is now a word of its own
        self.peer = ""
        self.hung_up = Once()
        self.closed = Once()

    # -- asyncio's side ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who it is and hand the call on."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        peername = transport.get_extra_info("peername") or ("unknown",)
        self.peer = sys.intern(str(peername[0]))  # Asterisk's, in most cases: one for all calls
        opened, self._opened = self._opened, None
        if opened:
            opened(self)

    def data_received(self, chunk: bytes) -> None:
        """Cut what came into lines; a line or a heap of them that no Asterisk sends ends it."""
        if self._unread:
            chunk = self._unread + chunk
        # With more lines than that it is no Asterisk; the rest of them is not even cut.
        lines = chunk.split(b"\n", MAX_LINES + MAX_HANGUPS + 2)
        self._unread = lines.pop()
        for raw in lines:
            line = raw.decode("utf-8", "replace").rstrip("\r")
            if line == "HANGUP" and self._commanding and self._hangups < MAX_HANGUPS:
                self._hangups += 1
                self._hang_up()
            elif self._arrival.waiting:
                self._arrival.line, self._arrival.waiting = line, False
            else:
                self._lines.append(line)
                self._waiting += len(line)
                if len(self._lines) > MAX_LINES or self._waiting > MAX_UNREAD:
                    self._flooded()
                    break
        if len(self._unread) > MAX_LINE:
            self._flooded()
        # Not before all is cut: what comes behind an answer is none to the next command.
        self._arrival.wake()

    def _flooded(self) -> None:
        log.warning("agi.flooded", peer=self.peer, cure="this peer is no Asterisk: see ALLOWED_PEERS")
        self._unread = b""
        self._lines.clear()
        self._waiting = 0
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """EOF or reset: whoever waits learns it now."""
        del exc
        self._ended()

    def _ended(self) -> None:
        self.closed.set()
        self.hung_up.set()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._arrival.waiting:
            self._arrival.give_up()
        self._arrival.wake_soon()

    def _hang_up(self) -> None:
        """The caller has gone: an answer that is under way comes soon, or never."""
        self.hung_up.set()
        if self._arrival.waiting:
            self._watch(min(self._until, self._loop.time() + self._grace))

    # -- the call's side --------------------------------------------------------------------

    async def environment(self) -> list[str]:
        """Read up to the blank line. Raises Hangup when it stays cut, or is longer than any of Asterisk's."""
        lines: list[str] = []
        size = 0
        deadline = self._loop.time() + ENVIRONMENT_SECONDS
        while (line := self._next() if self._lines else await self._line(deadline)) is not None:
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
        self, command: bytes, seconds: float = COMMAND_SECONDS, grace: float = HANGUP_GRACE
    ) -> Answer:
        """Send one command and await its answer, at most so many seconds; after HANGUP, `grace`.

        Raises BadEnvironment when the environment turns out to have been longer than it seemed.

        Raises Hangup when the connection has gone or Asterisk says nothing in time. A command to
        a dead channel is answered 511, as Asterisk does; so is one that HANGUP came in place of.
        """
        if self._transport is None or self.closed.is_set():
            raise Hangup("the connection to Asterisk has gone")
        if self._lines:  # what still comes for a command that was given up is nobody's answer
            self._lines = [line for line in self._lines if line.startswith("agi_")]
            self._waiting = sum(map(len, self._lines))
        self._transport.write(command + b"\n")
        deadline = self._loop.time() + seconds
        forged = False
        while (line := await self._line(deadline, grace)) is not None:
            if line.startswith("200 ") and not forged:
                return Answer(200, line[4:])
            # Asterisk answers only after its whole environment: more of it here means that the blank
            # line that ended it came out of a caller ID.
            forged = forged or line.startswith("agi_")
            found = _ANSWER.match(line)
            if not found:  # noise; or "100 Trying", the real one follows
                continue
            code, mark, text = int(found[1]), found[2], found[3]
            if mark == "-":
                text = await self._block(text)
            if code == DEAD:
                self.hung_up.set()
            if forged:
                raise BadEnvironment("it goes on after its end")
            return Answer(code, text)
        return self._unanswered(command, seconds)

    def _unanswered(self, command: bytes, seconds: float) -> Answer:
        if self.closed.is_set():
            raise Hangup("the connection to Asterisk has gone")
        if self.hung_up.is_set():
            return Answer(DEAD, "hung up, no answer")
        log.warning("agi.silent", peer=self.peer, command=_verb(command), seconds=seconds)
        self.abort()
        raise Hangup("Asterisk has fallen silent")

    async def _block(self, first: str) -> str:
        """Read the rest of a `520-` block: it ends with `520 `, or by silence."""
        lines = [first]
        while (
            len(lines) < MAX_LINES and (line := await self._line(self._loop.time() + BLOCK_GRACE)) is not None
        ):
            lines.append(line)
            if _LAST_OF_BLOCK.match(line):
                break
        return "\n".join(lines)

    def _line(self, deadline: float, grace: float = math.inf) -> Arrival:
        """The next line, once it is there; None when the connection has gone or time is up.

        grace: seconds after a hang-up in which it still may come.
        """
        arrival = self._arrival
        if self._lines:
            arrival.line = self._next()
        elif self.closed.is_set():
            arrival.line = None
        else:
            arrival.waiting, self._grace = True, grace
            if self.hung_up.is_set():
                deadline = min(deadline, self._loop.time() + grace)
            self._watch(deadline)
        return arrival

    def _next(self) -> str:
        line = self._lines.pop(0)  # of a few
        self._waiting -= len(line)
        return line

    # One timer serves one command after the other: most are answered long before it rings, and it then
    # finds a later deadline. To set one for each command would cost more than to word and read it.

    def _watch(self, until: float) -> None:
        self._until = until
        if until < self._rings_at:
            if self._timer:
                self._timer.cancel()
            self._rings_at = min(until, self._loop.time() + COMMAND_SECONDS)
            self._timer = self._loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        if not self._arrival.waiting:
            return
        if self._until - self._loop.time() < CLOCK_TICK:
            self._arrival.give_up()
            self._arrival.wake()
        else:
            self._watch(self._until)

    def close(self) -> None:
        """Let go of the call: Asterisk goes on in the dialplan."""
        if self._transport:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection at once; whoever waits gets Hangup."""
        if self._transport:
            self._transport.abort()
        self._ended()


def parse_environment(lines: Iterable[str]) -> dict[str, str]:
    """Read `agi_callerid: 09…` lines into `{"callerid": "09…"}`, arguments as `arg_1`, ….

    Strict, because a caller ID with a newline can forge lines: what Asterisk does not send, or not
    twice, or not at that place, raises BadEnvironment. Arguments come last, numbered from 1.
    """
    environment: dict[str, str] = {}
    place, arguments = -1, 0
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.startswith("agi_"):
            raise BadEnvironment(f"a line that is none of Asterisk's: {name[:40]!r}")
        key = name[4:]
        if key in environment:
            raise BadEnvironment(f"{name} comes twice")
        its_place = PLACES.get(key)
        if its_place is None:
            arguments += 1
            if key != f"arg_{arguments}":
                raise BadEnvironment(f"unknown key {name[:40]!r}")
        elif arguments or its_place < place:
            raise BadEnvironment(f"{name} is not at its place")
        else:
            place = its_place
        environment[key] = value.strip()
    return environment


class Codec(pyst2.AGI):  # type: ignore[misc]  # pyst2 has no types
    """pyst2's AGI as a codec: it words each command, sends nothing, and takes it for done.

    What is put right here, each reproduced against pyst2 0.5.1: signal handlers and reading in
    `__init__`, secrets on stderr, quoting that escapes nothing, file names not quoted at all. Its way
    of reading answers is not used: it loses "(timeout)" and 511, and takes "hangup" inside a value
    for one.
    """

    def __init__(self) -> None:
        # Not pyst2's: it would install a signal handler and read from stdin.
        self.env: dict[str, str] = {}
        self.wording = ""

    def execute(self, command: str, *args: object) -> dict[str, tuple[str, str]]:
        """Keep the wording, in place of sending it."""
        self.wording = " ".join((command.strip(), *map(str, args))).strip()
        return _DONE

    def _quote(self, string: object) -> str:
        """Quote so that no value can end the argument or the command."""
        text = str(string)
        if not text.isprintable():
            text = _CONTROL.sub(" ", text)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def stream_file(self, filename: str, escape_digits: str = "", sample_offset: int = 0) -> None:
        """As pyst2's, with the file name quoted."""
        super().stream_file(self._quote(filename), escape_digits, sample_offset)

    def get_data(self, filename: str, timeout: int = 2000, max_digits: int = 255) -> None:
        """As pyst2's, with the file name quoted."""
        super().get_data(self._quote(filename), timeout, max_digits)

    def set_music(self, state: str, name: str) -> None:
        """SET MUSIC ON class, or OFF: the one command of ours that pyst2 lacks."""
        self.execute("SET MUSIC", state, self._quote(name))


_CODEC: Final = Codec()
_DONE: Final = {"result": ("0", "")}


def word(method: Callable[..., Any], *args: object) -> bytes:
    """Word a command by a method of Codec. Raises CommandRefused if Asterisk would cut it."""
    method(*args)
    wording, _CODEC.wording = _CODEC.wording.encode(), ""
    if len(wording) > MAX_COMMAND:
        raise CommandRefused(f"{_verb(wording)}: longer than {MAX_COMMAND} bytes")
    return wording


# What is played is worded alike in every call; the values of variables are not kept.
word_play: Final = lru_cache(2048)(word)


def decode(answer: Answer) -> tuple[str, str]:
    """Read `result=1 (what stands in brackets)` into `("1", "what stands in brackets")`.

    Raises Hangup on 511, CommandRefused on 510, 520 and whatever else Asterisk may say.
    """
    code, text = answer
    found = _RESULT.match(text) if code == 200 else None  # noqa: PLR2004 - AGI's "done"
    if found:
        return found[1], found[2] or ""
    if code == DEAD:
        raise Hangup("the caller has hung up")
    raise CommandRefused(f"{code} {text.splitlines()[0] if text else ''}".strip())


class Agi:
    """The commands that a call needs, awaited. Raises Hangup, MissingSound or CommandRefused."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @property
    def hung_up(self) -> Once:
        """Set the moment the caller, or the connection, has gone."""
        return self._wire.hung_up

    async def answer(self) -> None:
        """ANSWER: harmless when the dialplan has answered."""
        await self._do(word_play(_CODEC.answer))

    async def stream_file(self, name: str, escape: str = "") -> str:
        """Play a file; returns the key of `escape` that ended it, or ''."""
        command = word_play(_CODEC.stream_file, name, escape)
        key, _ = await self._do(command, PROMPT_SECONDS, sound=name)
        if key == "0":
            return ""
        try:
            return chr(int(key))
        except (ValueError, OverflowError):  # not quoted: it may be what the caller keyed
            raise CommandRefused(f"{_verb(command)}: an answer that cannot be read") from None

    async def get_data(self, name: str, timeout_ms: int, max_digits: int) -> Keyed:
        """Play a file and collect keys in one command: between two commands Asterisk loses keys."""
        seconds = PROMPT_SECONDS + timeout_ms / 1000 * (max_digits + 1)
        command = word_play(_CODEC.get_data, name, timeout_ms, max_digits)
        keys, note = await self._do(command, seconds, sound=name)
        return Keyed(Keys(keys), note == "timeout")

    async def set_variable(self, name: str, value: str) -> None:
        """Set a channel variable; also works, and is meant to, after a hang-up."""
        await self._do(word(_CODEC.set_variable, name, value), dead=True)

    async def set_music(self, name: str, *, on: bool) -> None:
        """Start or stop music on hold of a class; returns at once."""
        await self._do(word_play(_CODEC.set_music, "ON" if on else "OFF", name))

    async def _do(
        self, command: bytes, seconds: float = COMMAND_SECONDS, *, sound: str = "", dead: bool = False
    ) -> tuple[str, str]:
        """Carry a command over and read its answer. sound: what it plays. dead: also after a hang-up."""
        wire = self._wire
        if dead:
            return decode(await wire.ask(command, seconds, COMMAND_SECONDS))
        if wire.hung_up.is_set():
            raise Hangup("the caller has hung up")
        answer = await wire.ask(command, seconds, HANGUP_GRACE)
        if wire.hung_up.is_set():
            raise Hangup("the caller has hung up")
        if sound and answer.text.startswith("result=-1"):
            await self._tell_missing_from_gone(sound)
        return decode(answer)

    async def _tell_missing_from_gone(self, sound: str) -> NoReturn:
        """`-1` means either; CHANNEL STATUS tells which."""
        status = await self._wire.ask(b"CHANNEL STATUS")
        if status.code == DEAD or self.hung_up.is_set() or status.text.startswith("result=-1"):
            self.hung_up.set()
            raise Hangup("the caller has hung up")
        raise MissingSound(sound)


def _verb(command: bytes) -> str:
    """The first word of a command, for a log: none of its values."""
    return command.split(b" ", 1)[0].decode()
