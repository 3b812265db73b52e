"""A robot that calls the payment line of a real Asterisk and keys with real DTMF.

It is the far half of a Local channel. It knows what the line is asking from the manager's AGI
events, keys the answer on its own half, and afterwards tells what the dialplan did and which
variables it had. It must never set anything on the line's half: only key, listen, hang up.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import wave
from collections import defaultdict
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from ami import ManagerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ami import Packet
    from harness import Asterisk

    Answer = str | Callable[[], str]

CALL_SECONDS = 60.0  # no scenario takes that long
TONE_MS = 80  # as short as Asterisk lets a digit be
GAP_SECONDS = 0.05  # between two digits; less, and Asterisk takes them for one
CLIP = re.compile(r"ivr-agi/([\w/-]+)")
HEADER_BYTES = 44  # of a WAV file
numbers = itertools.count(1)


class Step(NamedTuple):
    """One line of the dialplan that was run: where it stands, and what it said."""

    context: str
    extension: str
    application: str
    argument: str


@dataclass
class Record:
    """What became of a call, as the dialplan and its events tell it."""

    commands: list[str] = field(default_factory=list)  # each AGI command and Playback(), in order
    steps: list[Step] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    at_h: dict[str, str] | None = None  # the variables as the h extension found them
    music: list[str] = field(default_factory=list)  # each class of music that was started

    @property
    def prompts(self) -> list[str]:
        """Name each clip that was begun, in order."""
        return [clip for command in self.commands for clip in CLIP.findall(command)]

    def ran(self, extension: str, application: str) -> list[str]:
        """Give the arguments of each run of `application` in `extension`."""
        return [s.argument for s in self.steps if (s.extension, s.application) == (extension, application)]


class Call:
    """One call: ``async with Call(...) as call``; leaving it hangs up and waits for the end.

    `answers` has the digits for each question by the name of its clip; a list gives them time
    by time, a callable is asked when the question is. `hang_up_at` names the clip at which the
    caller hangs up, `hang_up_after` the one that he hears out before he does. He `thinks` for some
    seconds before he keys an answer, then presses each key for `tone_ms` and lets go for `gap` seconds.
    """

    def __init__(
        self,
        asterisk: Asterisk,
        to: str,
        answers: Mapping[str, Answer | Sequence[Answer]] | None = None,
        *,
        hang_up_at: str = "",
        hang_up_after: str = "",
        tone_ms: int = TONE_MS,
        gap: float = GAP_SECONDS,
        thinks: float = 0.0,
        caller_id: str = "09123456789",
        variables: Mapping[str, str] | None = None,
    ):
        self.record = Record()
        self._asterisk, self._to = asterisk, to
        self._answers = {
            clip: iter([answer] if isinstance(answer, str) or callable(answer) else answer)
            for clip, answer in (answers or {}).items()
        }
        self._hang_up_at = hang_up_at
        self._caller_id = caller_id
        self._variables = dict(variables or {})
        name = f"{next(numbers):04}"  # of one width, so that no id is the beginning of another
        self._ours, self._line = f"robot-{name}", f"line-{name}"
        self._tone_ms, self._gap, self._thinks = tone_ms, gap, thinks
        self._hang_up_after = hang_up_after
        self._last_sentence = False  # of which the end is awaited
        self._begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._gone = asyncio.Event()  # our half
        self._over = asyncio.Event()  # the line's half
        self._todo: asyncio.Queue[Answer | None] = asyncio.Queue()  # digits to key; None: hang up

    @property
    def recording(self) -> Path:
        """What the caller heard, as a WAV file, his own keys not in it: for `hearing`, and for a person."""
        return self._asterisk.home / f"spool/monitor/{self._ours}.wav"

    async def recorded(self) -> Path:
        """Wait until the recording of a call that has ended is written to its last sample."""
        async with asyncio.timeout(CALL_SECONDS):
            # Asterisk writes the length into the header when it closes the file; no event tells.
            while not _is_whole(self.recording):
                await asyncio.sleep(0.02)
        return self.recording

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._ami = await stack.enter_async_context(self._asterisk.manager(self._see))
            # Of a hundred calls at once each hears its own events only.
            await self._ami.action("Filter", Operation="Add", Filter=self._events)
            self._hands = asyncio.create_task(self._act())
            stack.push_async_callback(self._rest)
            await self._dial(stack)
            self._leave = stack.pop_all()
        return self

    @property
    def _events(self) -> str:
        return f"Uniqueid: ({self._ours}|{self._line})"

    async def _dial(self, _stack: AsyncExitStack) -> None:
        wanted = {"RECORDING": self.recording.name, **self._variables}
        await self._ami.action(
            "Originate",
            Channel=f"Local/{self._to}/n",
            ChannelId=self._ours,
            OtherChannelId=self._line,
            Context="robot",
            Exten="s",
            Priority="1",
            CallerID=self._caller_id,
            Async="true",
            Variable=[f"{name}={_escape(value)}" for name, value in wanted.items()],
        )

    async def __aexit__(self, *_: object) -> None:
        async with self._leave:
            # Shown beside a test that fails.
            print("recorded:", self.recording, "\nthe line ran:", *self.record.commands, sep="\n  ")  # noqa: T201
            if not self._over.is_set():
                await self.hang_up()
                await self._within(self._over, "has left")

    async def heard(self, what: str) -> None:
        """Wait until a clip (``enter-pin``) or an AGI command (``SET MUSIC``) has begun."""
        await self._within(self._begun[what], f"hears {what}")

    async def hang_up(self) -> None:
        """Put the receiver down; it is down when this returns."""
        await self._put_down()
        await self._within(self._gone, "has hung up")

    async def ended(self) -> Record:
        """Wait until the line's half is gone, its h extension done, and tell what happened."""
        await self._within(self._over, "has come to the end")
        return self.record

    async def _within(self, event: asyncio.Event, what: str) -> None:
        """Await an event in bounded time, and no longer than the robot's hands are well."""
        coming = asyncio.create_task(event.wait())
        done, _ = await asyncio.wait(
            {coming, self._hands}, timeout=CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        coming.cancel()
        if self._hands in done:
            self._hands.result()  # raises what went wrong there
        if coming not in done:
            raise AssertionError(
                f"not within {CALL_SECONDS:.0f} s: the caller {what}.\nlast steps of the dialplan: "
                f"{self.record.steps[-10:]}\nAsterisk's log: {self._asterisk.log[-3000:]}"
            )

    async def _act(self) -> None:
        """Key and hang up as the prompts demand, while events go on coming in."""
        while True:
            answer = await self._todo.get()
            if answer is None:
                await self._put_down()
                continue
            await asyncio.sleep(self._thinks)  # what a person takes to find the keys
            await self._key(answer if isinstance(answer, str) else answer())

    async def _key(self, digits: str) -> None:
        tone = str(self._tone_ms)
        for digit in digits:
            if self._over.is_set():
                break
            with self._unless_over():
                await self._ami.action("PlayDTMF", Channel=self._ours, Digit=digit, Duration=tone)
            await asyncio.sleep(self._gap)  # a finger's pause, not a wait for anything

    async def _put_down(self) -> None:
        with self._unless_over():
            await self._ami.action("Hangup", Channel=self._ours)

    @contextmanager
    def _unless_over(self) -> Iterator[None]:
        """Let an action fail if the line was quicker to end the call."""
        try:
            yield
        except ManagerError:
            if not (self._gone.is_set() or self._over.is_set()):
                raise

    async def _rest(self) -> None:
        self._hands.cancel()
        with suppress(asyncio.CancelledError):
            await self._hands

    def _see(self, event: Packet) -> None:
        if event.get("Uniqueid") == self._ours and event["Event"] == "Hangup":
            self._gone.set()
        if event.get("Uniqueid") != self._line:
            return
        record = self.record
        match event["Event"]:
            case "AGIExecStart":
                self._listen(event["Command"])
            case "Newexten":
                step = Step(event["Context"], event["Extension"], event["Application"], event["AppData"])
                record.steps.append(step)
                if step.extension == "h" and record.at_h is None:
                    record.at_h = dict(record.variables)
                if step.application == "Playback":
                    self._listen(step.argument)
            case "VarSet":
                record.variables[event["Variable"]] = _unescape(event["Value"])
            case "MusicOnHoldStart":
                record.music.append(event["Class"])
            case "Hangup":
                self._over.set()

    def _listen(self, command: str) -> None:
        self.record.commands.append(command)
        if self._last_sentence:
            self._last_sentence = False
            self._todo.put_nowait(None)
        self._begun[" ".join(command.split()[:2])].set()
        for clip in CLIP.findall(command):
            self._begun[clip].set()
            self._last_sentence = self._last_sentence or clip == self._hang_up_after
            if clip == self._hang_up_at:
                self._todo.put_nowait(None)
            elif answer := next(self._answers.get(clip, iter(())), None):
                self._todo.put_nowait(answer)


def _is_whole(recording: Path) -> bool:
    with suppress(FileNotFoundError, EOFError, wave.Error), wave.open(str(recording)) as sound:
        return recording.stat().st_size == HEADER_BYTES + 2 * sound.getnframes() > HEADER_BYTES
    return False


def _escape(value: str) -> str:
    """Keep Originate from splitting a value: it takes a Variable header for a list of arguments."""
    return re.sub(r"""([\\,"()\[\]{}])""", r"\\\1", value)


def _unescape(value: str) -> str:
    """Undo what VarSet does to a value: it escapes as C does."""
    return re.sub(r"""\\([\\"'?])""", r"\1", value)
