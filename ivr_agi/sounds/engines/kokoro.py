"""Kokoro: a small neural voice for English, run here from two files; what is said is the same each time.

eSpeak NG turns the words into phonemes, so that what the catalogue spells out for it in [[ ]] counts here,
too. They are rewritten into the alphabet that the model was taught (its own English front end does the
same to the phonemes of eSpeak NG), numbered, and spoken sentence by sentence.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from array import array
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ivr_agi.sounds.audio import Sound, join, silence, trim
from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.engines.espeak import Espeak
from ivr_agi.sounds.engines.program import run

if TYPE_CHECKING:
    from ivr_agi.prompts.catalogue import Words

RATE: Final = 24_000
_CURE: Final = "pip install 'ivr-agi[voice]'"
_FETCH: Final = "tools/kokoro fetches what is shipped"
_PROGRAM: Final = "espeak-ng"
_PROGRAM_CURE: Final = "on Debian and Ubuntu: apt-get install espeak-ng"
_RECIPE: Final = 1  # to be raised when the way from words to sound changes: all is then spoken anew
_EDGES_MS: Final = (20, 80)  # left of the silence that the model puts around a sentence, some 400 ms each
_PAUSE_MS: Final = 350  # between sentences, besides their edges

# The model's alphabet, as far as English needs it: symbol and number (config.json of Kokoro-82M v1.0).
_ALPHABET: Final = """
;1 :2 ,3 .4 !5 ?6 —9 …10 A24 I25 O31 Q33 T36 W39 Y41 ᵊ42 a43 b44 d46 f48 h50 i51 j52 k53 l54 m55 n56 p58
s61 t62 u63 v64 w65 z68 ɑ69 ɒ71 æ72 ɔ76 ð81 ʤ82 ə83 ɛ86 ɜ87 ɡ92 ɪ102 ŋ112 θ119 ɹ123 ʃ131 ʧ133 ʊ135 ʌ138
ʒ147 ˈ156 ˌ157 ː158 ᵻ177
"""
_NUMBERS: Final = {entry[0]: int(entry[1:]) for entry in _ALPHABET.split()} | {" ": 16}
_SILENT: Final = 0  # stands before and after each sentence
_LONGEST: Final = 510  # symbols of a sentence, and rows of a voice
_WIDTH: Final = 256  # numbers in a row of a voice

# How eSpeak NG writes a sound (^ ties two signs into one) -> how the model was taught to read it.
_BOTH: Final = {
    "a^ɪ": "I", "a^ʊ": "W", "ɔ^ɪ": "Y", "e^ɪ": "A", "e": "A", "d^ʒ": "ʤ", "t^ʃ": "ʧ", "ə^l": "ᵊl",
    "ɚ": "əɹ", "ɐ": "ə", "r": "ɹ", "x": "k", "ç": "k", "ɬ": "l", "ʔ": "t", "o": "ɔ",
    "ʲ": "", "\u0303": "", "^": "",
}  # fmt: skip
_ACCENTS: Final = {
    "en-us": _BOTH
    | {"o^ʊ": "O", "ɜːɹ": "ɜɹ", "ɜː": "ɜɹ", "ɚɹ": "əɹ", "ɪ^ə": "iə", "ɪə": "iə", "ɾ": "T", "ː": ""},
    "en-gb": _BOTH | {"ə^ʊ": "Q", "e^ə": "ɛː", "i^ə": "ɪə", "iə": "ɪə"},
}
_SYLLABIC: Final = re.compile("(.)\u0329")
_PIECE: Final = re.compile(r"((?:\[\[.*?\]\]|[^;:,.!?—…])+)([;:,.!?—…]?)")


@dataclass(frozen=True, slots=True)
class Kokoro:
    """model: an .onnx file; voice: a .bin file made for it; or names of such in the folder of voices.

    accent: en-us or en-gb, as the voice was taught. pace: 1 is the voice's own, 1.2 is slower by a fifth.
    checksum: of model and voice together, if no others are to be taken for them; then nothing has to be
    installed to see that nothing has changed.
    """

    model: str
    voice: str
    accent: str
    pace: float = 1.0
    checksum: str = ""

    def can_say(self, _language: str, _name: str) -> bool:
        """Say everything."""
        return True

    def words(self, said: Words) -> str:
        """Go by the words as spelt out for eSpeak NG."""
        return said.spoken

    def fingerprint(self, _language: str, _name: str) -> str:
        """Depend on model and voice, whatever their place, and the settings; not on eSpeak NG's version."""
        checksum = self.checksum or _identity(self._files())
        return f"kokoro {_RECIPE} {checksum} {self.accent} pace{self.pace:g}"

    def version(self) -> str:
        """Return `Kokoro af_heart with eSpeak NG 1.51`; SpeechError also for other files than were meant."""
        if self.accent not in _ACCENTS:
            raise SpeechError(f"Kokoro has no accent {self.accent!r}; it has {' and '.join(_ACCENTS)}")
        model, voice = files = self._files()
        checksum = _identity(files)
        if self.checksum not in ("", checksum):
            raise SpeechError(
                f"{model}, {voice}: their checksum is {checksum}, not {self.checksum}; {_FETCH}"
            )
        _session(model)
        return f"Kokoro {voice.stem} with {Espeak(self.accent, 0, 0, 0).version()}"

    def speak(self, _language: str, _name: str, said: Words) -> Sound:
        """Say it, at 24 kHz."""
        model, voice = self._files()
        sentences = phonemes(said.spoken, self.accent)
        parts = [
            trim(_spoken(model, voice, numbered(sentence), self.pace), *_EDGES_MS) for sentence in sentences
        ]
        if not parts:
            raise SpeechError(f"Kokoro had nothing to say for {said.spoken!r}")
        pause = silence(_PAUSE_MS, RATE)
        return join(parts[0], *(sound for part in parts[1:] for sound in (pause, part)))

    def _files(self) -> tuple[Path, Path]:
        return _file(self.model, ".onnx"), _file(self.voice, ".bin")


def folder() -> Path:
    """Return where voices are kept for this user."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(home) / "ivr-agi/voices"


def phonemes(text: str, accent: str) -> list[str]:
    """Return a text's sentences in the model's alphabet; SpeechError if eSpeak NG is missing or fails."""
    pieces = [(words.strip(), mark) for words, mark in _PIECE.findall(text) if words.strip()]
    options = ["-q", "--ipa", "--tie=^", "-v", accent, "-b", "1", "--stdin"]
    # It leaves the marks out, and writes a line for each paragraph: so each piece between marks is one.
    told = run(_PROGRAM, _PROGRAM_CURE, options, "\n\n".join(words for words, _ in pieces))
    lines = told.decode("utf-8", "replace").strip().splitlines()
    if len(lines) != len(pieces):
        raise SpeechError(
            f"{_PROGRAM} gave {len(lines)} lines of phonemes for {len(pieces)} pieces of {text!r}"
        )
    said = " ".join(rewritten(line, accent) + mark for line, (_, mark) in zip(lines, pieces, strict=True))
    return re.split(r"(?<=[.!?]) ", said) if said else []


def rewritten(told: str, accent: str) -> str:
    """Return phonemes of eSpeak NG, ties and all, in the model's alphabet."""
    table = _ACCENTS[accent]
    sounds = re.compile("|".join(map(re.escape, sorted(table, key=len, reverse=True))))
    said = sounds.sub(lambda sound: table[sound[0]], " ".join(told.split()))
    return _SYLLABIC.sub(r"ᵊ\1", said)


def numbered(sentence: str) -> list[int]:
    """Return the numbers of the symbols; SpeechError for one that the model does not know, or too many."""
    if unknown := sorted(set(sentence) - set(_NUMBERS)):
        raise SpeechError(f"Kokoro does not know {' '.join(unknown)} in {sentence!r}")
    if len(sentence) > _LONGEST:
        raise SpeechError(f"a sentence is too long for Kokoro, over {_LONGEST} sounds: {sentence!r}")
    return [_NUMBERS[symbol] for symbol in sentence]


def _file(name: str, suffix: str) -> Path:
    path = Path(name) if name.endswith(suffix) else folder() / f"{name}{suffix}"
    if not path.is_file():
        raise SpeechError(f"{path}: Kokoro needs this file; {_FETCH}")
    return path


@cache
def _identity(files: tuple[Path, Path]) -> str:
    checksum = hashlib.sha256()
    for path in files:
        checksum.update(path.read_bytes())
    return checksum.hexdigest()[:16]


@cache
def _session(model: Path) -> Any:
    """Load the model. One thread: the result is the same with more, but others work here, too."""
    try:
        import onnxruntime  # noqa: PLC0415 - only whoever builds these sounds has it
    except ImportError as error:
        raise SpeechError(f"Kokoro needs onnxruntime; {_CURE}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own errors have no common class that could be named
        raise SpeechError(f"{model}: no model that onnxruntime can load: {error}") from error


def _spoken(model: Path, voice: Path, numbers: list[int], pace: float) -> Sound:
    """Speak one sentence. The voice has a row for each length: how it sounds in a sentence as long."""
    import numpy  # noqa: ICN001, PLC0415 - comes with onnxruntime

    rows = numpy.fromfile(voice, "<f4")
    if rows.size != _LONGEST * _WIDTH:
        raise SpeechError(f"{voice}: no voice for this model, or a damaged one; {_FETCH}")
    given = {
        "tokens": numpy.array([[_SILENT, *numbers, _SILENT]], numpy.int64),
        "style": rows.reshape(_LONGEST, 1, _WIDTH)[len(numbers) - 1],
        "speed": numpy.array([1 / pace], numpy.float32),
    }
    wave = _session(model).run(None, given)[0].ravel()
    samples = array("h", numpy.rint(numpy.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
    if sys.byteorder == "big":
        samples.byteswap()
    return Sound(samples, RATE)
