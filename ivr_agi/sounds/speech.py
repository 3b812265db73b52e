"""The speech engine: eSpeak NG, started once for each clip, its sound returned as samples.

The only place that runs a program. It is needed to build sounds, never to answer a call.
Text goes in through the standard input, so that nothing in it can be taken for an option.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import wave
from array import array
from dataclasses import dataclass
from typing import Final

PROGRAM: Final = "espeak-ng"
_PATIENCE: Final = 30  # seconds; a sentence takes some 20 ms


class SpeechError(RuntimeError):
    """The speech engine is missing, or did not do its work."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How the engine speaks.

    name: of eSpeak's own voices. speed: words a minute, slow enough for a bad line. pitch: 0 to 99.
    gap: extra pause between words, in tens of milliseconds.
    """

    name: str
    speed: int
    pitch: int
    gap: int

    def __str__(self) -> str:
        return f"{self.name} s{self.speed} p{self.pitch} g{self.gap}"


def engine() -> str:
    """Return the engine's name and version, as `eSpeak NG 1.51`; SpeechError if it is not there."""
    said = _run(["--version"], "").decode("utf-8", "replace")
    words = said.partition("Data at:")[0].split()
    version = next((word for word in words if word[0].isdigit()), "of unknown version")
    return f"eSpeak NG {version}"


def speak(words: str, voice: Voice) -> tuple[int, array[int]]:
    """Return the sample rate and the 16-bit samples of `words`, said in `voice`.

    Raises SpeechError if the engine is missing, fails, or returns something that is not mono 16-bit.
    """
    options = ["-v", voice.name, "-s", str(voice.speed), "-p", str(voice.pitch), "-g", str(voice.gap)]
    # -b 1: the text is UTF-8 whatever the locale. -z: no pause at the end, which would be cut off anyway.
    sound = _run([*options, "-b", "1", "-z", "--stdin", "--stdout"], words)
    try:
        with wave.open(io.BytesIO(sound)) as recording:
            if (recording.getnchannels(), recording.getsampwidth()) != (1, 2):
                raise SpeechError(f"{PROGRAM} returned a sound that is not mono, 16 bits")
            rate = recording.getframerate()
            # Written to a pipe, the header cannot know the length: it claims far more than there is.
            frames = recording.readframes(recording.getnframes())
    except (wave.Error, EOFError) as exception:
        raise SpeechError(f"{PROGRAM} returned no sound for {words!r}") from exception
    samples = array("h", frames[: len(frames) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    if not any(samples):
        raise SpeechError(f"{PROGRAM} had nothing to say for {words!r}")
    return rate, samples


def _run(options: list[str], words: str) -> bytes:
    program = shutil.which(PROGRAM)
    if program is None:
        raise SpeechError(f"{PROGRAM} is not installed; on Debian and Ubuntu: apt-get install espeak-ng")
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, options of our own, the text on its input
            [program, *options], input=words.encode(), capture_output=True, check=True, timeout=_PATIENCE
        )
    except subprocess.CalledProcessError as exception:
        complaint = exception.stderr.decode("utf-8", "replace").strip()
        raise SpeechError(f"{PROGRAM} failed: {complaint or exception}") from exception
    except (OSError, subprocess.TimeoutExpired) as exception:
        raise SpeechError(f"{PROGRAM} did not do its work: {exception}") from exception
    return done.stdout
