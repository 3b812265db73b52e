"""The files of a sounds folder: `LANG/ivr-agi/NAME.wav` for each clip of the catalogue, and the music."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ivr_agi.prompts.catalogue import BILINGUAL, LANGUAGES, SILENCE, catalogue
from ivr_agi.sounds.manifest import checksum

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ivr_agi.prompts.catalogue import Words

FOLDER: Final = "ivr-agi"
MUSIC: Final = "moh/waiting"
HALVES_APART_MS: Final = 350  # of what is said in both languages
NUMBERS: Final = "numbers/"


@dataclass(frozen=True, slots=True)
class Clip:
    """One sound. key: as in the manifest, `fa/enter-card`. parts: what is said, in which language."""

    key: str
    folder: str  # of the language, in this folder of sounds
    parts: tuple[tuple[str, Words], ...]

    @property
    def name(self) -> str:
        """The catalogue's name: `enter-card`, `numbers/20-o`."""
        return self.key.partition("/")[2]

    @property
    def text(self) -> str:
        """Checksum of its words as written."""
        return checksum([[language, words.shown] for language, words in self.parts])

    @property
    def edges(self) -> tuple[int, int]:
        """Milliseconds of silence before and after: numbers are put together from clips without long gaps."""
        if not self.name.startswith(NUMBERS):
            return 30, 100
        return (10, 10) if self.name.endswith("-o") else (10, 50)

    def path(self, form: str = "wav") -> str:
        """Where it lies below the sounds folder."""
        return f"{self.folder}/{FOLDER}/{self.name}.{form}"


def clips(codes: Mapping[str, str] | None = None) -> list[Clip]:
    """Return every clip of a sounds folder, in the catalogue's order, the music last.

    codes: language folders that are called otherwise there, as `{"fa": "pr"}`.
    """
    prompts = catalogue()
    found = []
    for language in LANGUAGES:
        for name in prompts.names(language):
            says = LANGUAGES if name == BILINGUAL else () if name == SILENCE else (language,)
            parts = tuple((each, prompts.words(name, each)) for each in says)
            folder = (codes or {}).get(language, language)
            found.append(Clip(f"{language}/{name}", folder, parts))
    return [*found, Clip(MUSIC, "moh", ())]


def chosen(only: Collection[str] | None) -> list[Clip]:
    """Return the clips of these names (`enter-card`) or keys (`fa/enter-card`); all for None.

    Raises KeyError, naming those that are none.
    """
    every = clips()
    if only is None:
        return every
    if unknown := set(only) - {clip.key for clip in every} - {clip.name for clip in every}:
        raise KeyError(f"no such prompt: {', '.join(sorted(unknown))}")
    return [clip for clip in every if clip.key in only or clip.name in only]
