"""Piper: a neural voice from a model file that the user supplies, or that a Python package brings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.engines.program import run, spoken

if TYPE_CHECKING:
    from ivr_agi.prompts.catalogue import Words
    from ivr_agi.sounds.audio import Sound

PROGRAM: Final = "piper"
_CURE: Final = "pip install piper-tts"


@dataclass(frozen=True, slots=True)
class Piper:
    """model: an .onnx file with its .onnx.json beside it, or the name of a Python package that has one.

    checksum: of the model, if no other is to be taken for it; then nothing has to be installed to see that
    nothing has changed. speaker: which one, of a model with several. pace: 1 is the model's own, 1.2 is
    slower by a fifth.
    """

    model: str
    checksum: str = ""
    speaker: int = 0
    pace: float = 1.0

    def can_say(self, _language: str, _name: str) -> bool:
        """Say everything."""
        return True

    def words(self, said: Words) -> str:
        """Go by the words as written; what is spelt out for eSpeak NG is no help to another voice."""
        return said.shown

    def fingerprint(self, _language: str, _name: str) -> str:
        """Depend on the model, whatever its place, and the settings."""
        checksum = self.checksum or _identity(self.model)[1]
        return f"piper {checksum} speaker{self.speaker} pace{self.pace:g}"

    def version(self) -> str:
        """Return `Piper en_US-joe-medium`; SpeechError also if it is another model than it should be."""
        name, checksum = _identity(self.model)
        if self.checksum not in ("", checksum):
            raise SpeechError(f"{_file(self.model)}: its checksum is {checksum}, not {self.checksum}")
        return f"Piper {name}"

    def speak(self, _language: str, _name: str, said: Words) -> Sound:
        """Say it, without the chance that the model would put into it: the same words give the same sound."""
        model = str(_file(self.model))
        options = ["--model", model, "--speaker", str(self.speaker), "--length-scale", f"{self.pace:g}"]
        options += ["--noise-scale", "0", "--noise-w-scale", "0", "--output-file", "-"]
        return spoken(PROGRAM, run(PROGRAM, _CURE, options, said.shown + "\n"), said.shown)


def _file(model: str) -> Path:
    path = Path(model)
    if path.suffix == ".onnx":
        if not path.is_file() or not Path(f"{path}.json").is_file():
            raise SpeechError(f"{path}: a Piper voice is two files, this one and {path.name}.json beside it")
        return path
    package = find_spec(model) if model.isidentifier() else None
    places = package.submodule_search_locations if package else None
    found = sorted(file for place in places or () for file in Path(place).rglob("*.onnx"))
    if not found:
        raise SpeechError(f"no Piper voice {model!r}: neither an .onnx file nor an installed package")
    return found[0]


@cache
def _identity(model: str) -> tuple[str, str]:
    path = _file(model)
    checksum = hashlib.sha256(path.read_bytes() + Path(f"{path}.json").read_bytes())
    return path.stem, checksum.hexdigest()[:16]
