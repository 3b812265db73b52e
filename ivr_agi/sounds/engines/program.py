"""Running a speech program: the text on its standard input, a WAV on its standard output.

The only place that runs one. Text goes in through the standard input, so that nothing in it can be
taken for an option; no shell is in between.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ivr_agi.sounds import wavfile
from ivr_agi.sounds.audio import SoundFormatError
from ivr_agi.sounds.engines import SpeechError

if TYPE_CHECKING:
    from ivr_agi.sounds.audio import Sound

_PATIENCE: Final = 120  # seconds; a sentence takes some 20 ms, and a neural voice a few seconds


def run(program: str, cure: str, options: list[str], text: str = "") -> bytes:
    """Return what a program writes. Raises SpeechError if it is missing (naming the cure) or fails."""
    beside_python = str(Path(sys.executable).parent)
    found = shutil.which(program) or shutil.which(program, path=beside_python)
    if found is None:
        raise SpeechError(f"{program} is not installed; {cure}")
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, options of our own, the text on its input
            [found, *options], input=text.encode(), capture_output=True, check=True, timeout=_PATIENCE
        )
    except subprocess.CalledProcessError as exception:
        complaint = exception.stderr.decode("utf-8", "replace").strip()
        raise SpeechError(f"{program} failed: {complaint or exception}") from exception
    except (OSError, subprocess.TimeoutExpired) as exception:
        raise SpeechError(f"{program} did not do its work: {exception}") from exception
    return done.stdout


def spoken(program: str, written: bytes, words: str) -> Sound:
    """Read the WAV that a program has written to a pipe. Raises SpeechError if there is no sound in it."""
    try:
        sound = wavfile.parse(written)
    except SoundFormatError as exception:
        raise SpeechError(f"{program} returned no sound for {words!r}: {exception}") from exception
    if not any(sound.samples):
        raise SpeechError(f"{program} had nothing to say for {words!r}")
    return sound
