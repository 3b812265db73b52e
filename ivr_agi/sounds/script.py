"""The script as a sheet that a speaker records from: every clip, when it is heard, and how long it takes.

Made from the catalogue, so that what is recorded is what the program plays. `docs/script.md` is this,
for the shipped sounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ivr_agi.prompts.catalogue import BILINGUAL, SILENCE, catalogue
from ivr_agi.sounds import manifest
from ivr_agi.sounds.clips import NUMBERS, clips

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ivr_agi.sounds.clips import Clip
    from ivr_agi.sounds.manifest import Manifest

_HEAD: Final = """\
# The script

Every sentence that a caller may hear. Written by `ivr-agi sounds script`, out of
`ivr_agi/prompts/catalogue.toml`: change a sentence there, not here.

For a voice of your own have a speaker record these, one WAV file for each line, named as in the column
*file* (`fa/enter-card.wav`, `fa/numbers/20-o.wav`), and run `ivr-agi sounds build --recordings FOLDER`: any
rate and bit depth will do; level, silence and format are put right by the build. Not all have to be there:
what is not recorded is taken from the shipped sounds. The seconds are those of the shipped voice, to compare.
"""
_FA_HEAD: Final = """\
## فارسی

راهنمای گوینده: آرام، روشن و مهربان بخوانید؛ نه تند و نه کشیده.
همه را در یک اتاق ساکت، با یک میکروفون و از یک فاصله ضبط کنید.
پیش و پس از هر جمله نیم ثانیه سکوت بگذارید. «کلید مربع» # و «کلید ستاره» * است.
جمله‌هایی که با دونقطه تمام می‌شوند ادامه دارند: صدا را در پایان آن‌ها پایین نیاورید.
"""
_FA_NUMBERS: Final = """\
### عددها

عددها از این تکه‌ها ساخته می‌شوند: «یک میلیون و | دویست و | پنجاه هزار». یکنواخت و بی‌تأکید بخوانید؛
تکه‌ای که به «و» تمام می‌شود پیوسته است: «بیستُ»، نه «بیست، وَ».
"""
_EN_HEAD: Final = """\
## English

For the speaker: calm, clear and friendly, neither hurried nor drawn out. Record all of it in one quiet room,
with one microphone at one distance, and leave half a second of silence before and after each line. *Hash* is
the # key, *star* the * key. A line that leads on to digits or to an amount ("… is") ends on a level voice.
"""
_EN_NUMBERS: Final = """\
### Numbers

Numbers are put together from these: "one | million | two | hundred | and | fifty | thousand". Say each
evenly, without stress and without dropping the voice at its end.
"""


def sheet(folder: Path) -> str:
    """Return the sheet, in Markdown; `folder`: of sounds, whose manifest knows how long each clip takes."""
    made = manifest.read(folder)
    persian = [_HEAD, '<div dir="rtl" lang="fa">\n', _FA_HEAD, _sentences("fa", made)]
    persian += [_FA_NUMBERS, _numbers("fa", made), "</div>\n"]
    return "\n".join([*persian, _EN_HEAD, _sentences("en", made), _EN_NUMBERS, _numbers("en", made)])


def _clips(language: str, *, numbers: bool) -> list[Clip]:
    return [
        clip
        for clip in clips()
        if clip.folder == language and clip.name != SILENCE and clip.name.startswith(NUMBERS) is numbers
    ]


def _sentences(language: str, made: Manifest) -> str:
    heads = {"fa": ("فایل", "متن", "کی شنیده می‌شود", "ثانیه"), "en": ("file", "text", "heard", "seconds")}
    rows = []
    for clip in _clips(language, numbers=False):
        moment = catalogue().moment(clip.name)
        when = getattr(moment, language, "")
        rows.append((f"`{clip.key}`", _text(clip, language), when, _seconds(clip, made)))
    return _table(heads[language], rows)


def _numbers(language: str, made: Manifest) -> str:
    heads = {"fa": ("فایل", "متن", "ثانیه"), "en": ("file", "text", "seconds")}
    rows = [
        (f"`{clip.key}`", _text(clip, language), _seconds(clip, made))
        for clip in _clips(language, numbers=True)
    ]
    return _table(heads[language], rows)


def _text(clip: Clip, language: str) -> str:
    return next(words.shown for each, words in clip.parts if each == language)


def _seconds(clip: Clip, made: Manifest) -> str:
    if clip.name == BILINGUAL or clip.key not in made.clips:  # two voices, one after the other
        return "–"
    return f"{made.clips[clip.key].duration_ms / 1000:.1f}"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
