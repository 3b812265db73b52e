"""eSpeak NG: small, free, everywhere, and the only voice for Persian that is packaged at all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.engines.program import run, spoken

if TYPE_CHECKING:
    from ivr_agi.prompts.catalogue import Words
    from ivr_agi.sounds.audio import Sound

PROGRAM: Final = "espeak-ng"
_CURE: Final = "on Debian and Ubuntu: apt-get install espeak-ng"


@dataclass(frozen=True, slots=True)
class Espeak:
    """voice: of eSpeak's own. speed: words a minute. pitch: 0 to 99. gap: between words, in 10 ms."""

    voice: str
    speed: int
    pitch: int
    gap: int

    def can_say(self, _language: str, _name: str) -> bool:
        """Say everything."""
        return True

    def words(self, said: Words) -> str:
        """Go by the words as spelt out for a machine."""
        return said.spoken

    def fingerprint(self, _language: str, _name: str) -> str:
        """Depend on the settings; not on the version: another one says the words, too."""
        return f"espeak-ng {self.voice} s{self.speed} p{self.pitch} g{self.gap}"

    def version(self) -> str:
        """Return `eSpeak NG 1.51`; SpeechError also for a voice that it does not have.

        It would say nothing of that, and read Persian letter by letter in English.
        """
        for name, listed in zip(self.voice.split("+", 1), ("", "=variant"), strict=False):
            if name not in _voices(listed):
                raise SpeechError(f"{PROGRAM} has no voice {name!r}: see {PROGRAM} --voices{listed}")
        told = run(PROGRAM, _CURE, ["--version"]).decode("utf-8", "replace")
        words = told.partition("Data at:")[0].split()
        return f"eSpeak NG {next((word for word in words if word[0].isdigit()), 'of unknown version')}"

    def speak(self, _language: str, _name: str, said: Words) -> Sound:
        """Say it. -b 1: UTF-8 whatever the locale. -z: no pause at the end, it would be cut off anyway."""
        options = ["-v", self.voice, "-s", str(self.speed), "-p", str(self.pitch), "-g", str(self.gap)]
        written = run(PROGRAM, _CURE, [*options, "-b", "1", "-z", "--stdin", "--stdout"], said.spoken)
        return spoken(PROGRAM, written, said.spoken)


@cache
def _voices(listed: str) -> set[str]:
    """The names of languages, or of variants: in the second column, and at the end of the file's name."""
    lines = run(PROGRAM, _CURE, [f"--voices{listed}"]).decode("utf-8", "replace").splitlines()[1:]
    return {name for line in lines for word in line.split()[1:] for name in (word, word.rpartition("/")[2])}
