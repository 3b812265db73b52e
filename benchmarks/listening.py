"""What a recogniser makes of the voices, on a telephone line.

    listening.py [FOLDER…] [--language en|fa] [--conditions line,noise10,loss3] [--seeds 1]
                 [--prompts N] [--numbers N] [--worst N] [--model FOLDER]

Listens to folders of sounds as `ivr-agi sounds build` makes them; the shipped one by default. Every prompt, and
amounts and tracking numbers put together from clips as in a call, go through a telephone line (300 to 3,400 Hz,
G.711 mu-law), with noise or lost packets as asked, to Whisper base. English: the share of words that it gets wrong.
Persian, of which it writes too little down: the mean log-probability that it gives to each token of what is really
said, and how each folder differs in it from the first. Prints Markdown. The recogniser is fetched at the first time,
by the names of its packages, into `.cache/listen`, and lives in an environment of its own there.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from recogniser import WINDOW, Recogniser, settle
from telephone import condition_of, line

from ivr_agi import prompts
from ivr_agi.prompts.catalogue import BILINGUAL
from ivr_agi.sounds import formats, manifest
from ivr_agi.sounds.audio import RATE
from ivr_agi.sounds.clips import NUMBERS, clips

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from recogniser import Samples

    Results = dict[str, dict[str, list["Heard"]]]  # voice -> condition -> what was heard

SHIPPED: Final = Path(__file__).resolve().parents[1] / "sounds"
KINDS: Final = ("prompts", "amounts", "tracking")
QUIET: Final = 1.0  # seconds between sentences
WIDELY: Final = 5  # beams, for a sentence alone in which the quick search went astray
FILLED: Final = 27.0  # seconds of a window, by the estimate of Sentence.seconds
MEASURED: Final = {
    "en": "Words heard wrong, in %, ± one standard error",
    "fa": "Mean log-probability a token, nearer to 0 is better (difference from the first ± one standard error)",
}
# What is the same word to who hears it.
ALIKE: Final = (
    (r"\b(riyal|real|reall|reel|riel)s\b", "rials"),
    (r"\b(to man|tomon)(s?)\b", r"toman\2"),
    (r"\bcanceled\b", "cancelled"),
    (r"\bgood bye\b", "goodbye"),
    (r"\bunder way\b", "underway"),
    (r"\band\b", " "),  # in numbers it is said or not
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a caller hears in one go. frame: words in front, which do not count. clips: by name."""

    kind: str
    clips: tuple[str, ...]
    words: str
    frame: str = ""

    @property
    def seconds(self) -> float:
        """A generous estimate, the same for every voice, so that all have the same windows."""
        return QUIET + len(self.frame + self.words) / 11 + 0.2 * len(self.clips)


@dataclass(frozen=True, slots=True)
class Heard:
    """A sentence once it was listened to. score: errors, or the sum of log-probabilities; of how many."""

    sentence: Sentence
    score: float
    of: int
    text: str = ""


def sentences(language: str, most: int, numbers: int) -> list[Sentence]:
    """Return the first prompts, then amounts and tracking numbers: the same at every run."""
    # One is in both languages; two are words that are said in amounts only.
    apart = (prompts.SILENCE, BILINGUAL, "rial", "toman")
    names = [name for name in prompts.names(language) if name not in apart and not name.startswith(NUMBERS)]
    found = [Sentence("prompts", (name,), prompts.text(name, language)) for name in names[:most]]
    chance = random.Random(7)  # noqa: S311 - numbers like any other, not secrets
    for _ in range(numbers):
        rials = chance.randrange(1, 10 ** chance.randint(4, 8)) * chance.choice((1, 10, 500, 1000))
        found.append(_framed("amounts", "amount-is", prompts.amount(rials, language), language))
    for _ in range(numbers):
        said = "".join(chance.choices("0123456789", k=chance.choice((6, 8, 10, 12))))
        found.append(_framed("tracking", "tracking-number", prompts.reference(said), language))
    return found


def _framed(kind: str, frame: str, names: Iterable[str], language: str) -> Sentence:
    # Without words in front of them Whisper runs the numbers of a window together.
    words = " ".join(filter(None, (prompts.text(name, language) for name in names)))
    return Sentence(kind, (frame, *names), words, prompts.text(frame, language))


class Voice:
    """A folder of sounds, as far as its clips say what the catalogue has today."""

    def __init__(self, folder: Path, language: str) -> None:
        self.name = os.path.relpath(folder)
        made = manifest.read(folder).clips
        self._paths = {
            clip.name: folder / clip.path()
            for clip in clips()
            if clip.folder == language and clip.key in made and made[clip.key].text == clip.text
        }
        self._read: dict[str, Samples] = {}

    def says(self, sentence: Sentence) -> bool:
        """Tell whether it has all clips of it."""
        return all(name in self._paths for name in sentence.clips)

    def samples(self, window: Sequence[Sentence]) -> Samples:
        """Return the sentences one after the other, a pause after each."""
        quiet = np.zeros(int(QUIET * RATE))
        return np.concatenate([
            part for sentence in window for part in (*map(self._clip, sentence.clips), quiet)
        ])  # fmt: skip

    def _clip(self, name: str) -> Samples:
        if name not in self._read:
            self._read[name] = np.array(formats.read(self._paths[name]).samples) / 32768
        return self._read[name]


def windows(voice: Voice, said: Sequence[Sentence]) -> Iterator[list[Sentence]]:
    """Put neighbours of a kind together, as many as go into Whisper's window."""
    window: list[Sentence] = []
    for sentence in said:
        together = [*window, sentence]
        if window and (
            window[0].kind != sentence.kind or sum(each.seconds for each in together) > FILLED
            or len(voice.samples(together)) > WINDOW * RATE
        ):  # fmt: skip
            yield window
            together = [sentence]
        window = together
    if window:
        yield window


@dataclass(frozen=True, slots=True)
class Line:
    """A condition of the telephone line, and who listens at the end of it."""

    by: Recogniser
    language: str
    condition: str
    seeds: int = 1

    def listen(self, voice: Voice, said: Sequence[Sentence]) -> list[Heard]:
        """Return each sentence as heard, once for each seed."""
        found: list[Heard] = []
        for seed in range(self.seeds if self.condition != "line" else 1):  # nothing by chance there
            for number, window in enumerate(windows(voice, said)):
                found += self._heard(voice, window, f"{seed} {number}")
        return found

    def _heard(self, voice: Voice, window: Sequence[Sentence], seed: str, beams: int = 1) -> list[Heard]:
        sound = line(voice.samples(window), self.condition, f"{self.condition} {seed}")
        if self.language != "en":
            said = [(sentence.frame, sentence.words) for sentence in window]
            logs = self.by.log_probabilities(sound, said)
            return [Heard(each, sum(own), len(own)) for each, own in zip(window, logs, strict=True)]
        text = self.by.text(sound, beams)
        many = sum(len(_words(f"{sentence.frame} {sentence.words}")) for sentence in window)
        if many / 2 <= len(_words(text)) <= many * 2 or beams > 1:
            return list(scored(window, text))
        # It has lost itself, left sentences out or gone round in circles: no matter of the voice alone.
        if len(window) == 1:
            return self._heard(voice, window, seed, WIDELY)
        half = len(window) // 2
        return [
            *self._heard(voice, window[:half], f"{seed}.0"),
            *self._heard(voice, window[half:], f"{seed}.1"),
        ]


def scored(window: Sequence[Sentence], text: str) -> Iterator[Heard]:
    """Share what was heard of a window out to its sentences, and count each one's errors.

    A sentence has no more errors than words: where the recogniser lost itself, all are wrong, and no more.
    """
    wanted = [
        (word, number, counts)
        for number, sentence in enumerate(window)
        for part, counts in ((sentence.frame, False), (sentence.words, True))
        for word in _words(part)
    ]
    heard = _words(text)
    errors, got = [0] * len(window), [[] for _ in window]
    for at, place, wrong in _aligned([word for word, _, _ in wanted], heard):
        _, number, counts = wanted[at]
        errors[number] += wrong and counts
        got[number] += heard[place : place + 1]
    for number, sentence in enumerate(window):
        of = len(_words(sentence.words))
        yield Heard(sentence, min(errors[number], of), of, " ".join(got[number]))


def _words(text: str) -> list[str]:
    bare = re.sub(r"[^a-z]+", " ", re.sub("['’]", "", text.lower()))
    for pattern, word in ALIKE:
        bare = re.sub(pattern, word, bare)
    return bare.split()


def _aligned(wanted: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int, bool]]:
    """Pair the words off with the fewest errors: place in `wanted`, place in `heard`, whether it is an error.

    A word that was not heard has the place behind the last; one too many goes with the word before it.
    """
    rows = [list(range(len(heard) + 1))]
    for i, word in enumerate(wanted, 1):
        row = [i]
        for j, other in enumerate(heard, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (word != other)))
        rows.append(row)
    i, j, found = len(wanted), len(heard), []
    while i or j:
        differ = bool(i and j and wanted[i - 1] != heard[j - 1])
        if i and j and rows[i][j] == rows[i - 1][j - 1] + differ:
            i, j = i - 1, j - 1
            found.append((i, j, differ))
        elif i and rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
            found.append((i, len(heard), True))
        else:
            j -= 1
            found.append((max(i - 1, 0), j, True))
    return found[::-1]


def mean(found: Sequence[Heard], less: Sequence[Heard] = ()) -> tuple[float, float]:
    """Return the score a word or token and its standard error over the sentences, or those of the difference.

    Both must have heard the same sentences in the same order; of several seeds the sum counts.
    """
    sums: dict[Sentence, list[float]] = {}
    for place, each in enumerate(found):
        one = sums.setdefault(each.sentence, [0.0, 0.0])
        one[0] += each.score - (less[place].score if less else 0.0)
        one[1] += each.of
    count, of = len(sums), sum(n for _, n in sums.values())
    ratio = sum(score for score, _ in sums.values()) / of
    spread = sum((score - ratio * n) ** 2 for score, n in sums.values())
    return ratio, math.sqrt(spread * count / max(count - 1, 1)) / of


def cell(found: Sequence[Heard], first: Sequence[Heard], kind: str, language: str) -> str:
    """Return a field of the table: WER in % with its standard error, or log-probability and difference."""
    mine, other = ([each for each in either if each.sentence.kind == kind] for either in (found, first))
    if not mine:
        return "–"
    ratio, error = mean(mine)
    if language == "en":
        return f"{100 * ratio:.1f} ± {100 * error:.1f}"
    difference, error = mean(mine, other)
    return f"{ratio:.3f}" + (f" ({difference:+.3f} ± {error:.3f})" if found is not first else "")


def table(results: Results, language: str) -> str:
    """Return a row for each folder and condition, in Markdown."""
    rows = [("voice", "condition", *KINDS), ("---",) * (2 + len(KINDS))]
    first = next(iter(results.values()))
    for name, conditions in results.items():
        for condition, found in conditions.items():
            cells = [cell(found, first[condition], kind, language) for kind in KINDS]
            rows.append((name, condition, *cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def worst(conditions: dict[str, list[Heard]], most: int, language: str) -> str:
    """Return the sentences of a voice that were understood worst, as a list in Markdown."""
    heard = [(condition, each) for condition, found in conditions.items() for each in found]
    sign = -1 if language == "en" else 1  # many errors, or little likelihood
    heard.sort(key=lambda pair: sign * pair[1].score / pair[1].of)
    told = []
    for condition, each in heard[:most]:
        full = f"{each.sentence.frame} {each.sentence.words}".strip()
        if language != "en":
            told.append(f"- {condition}, {each.score / each.of:.2f}: {full}")
        elif each.score:
            count = f"{each.score:.0f} of {each.of}"
            told.append(f'- {condition}, {count} wrong: {full}  \n  heard: "{each.text[:200]}"')
    return "\n".join(told or ["- none: all was heard right"])


def run(asked: argparse.Namespace) -> None:
    """Listen to all of it, and print what came of it."""
    language = asked.language
    voices = [Voice(folder, language) for folder in asked.folders]
    wanted = sentences(language, asked.prompts, asked.numbers)
    said = [sentence for sentence in wanted if all(voice.says(sentence) for voice in voices)]
    if not said:
        raise SystemExit("there is no sentence that all these folders have, with the words of today")
    if len(said) < len(wanted):
        print(
            f"{len(wanted) - len(said)} sentences are not in all folders, or in other words", file=sys.stderr
        )
    by = Recogniser(asked.model, language)
    results: Results = {}
    for voice in voices:
        results[voice.name] = {}
        for condition in asked.conditions:
            print(f"{voice.name}: {condition}", file=sys.stderr, flush=True)
            there = Line(by, language, condition, asked.seeds)
            results[voice.name][condition] = there.listen(voice, said)
    counts = ", ".join(f"{sum(each.kind == kind for each in said)} {kind}" for kind in KINDS)
    print(f"{MEASURED[language]}; {counts}; noise seeds: {asked.seeds}\n\n{table(results, language)}")
    for name, conditions in results.items():
        print(f"\nWorst of {name}:\n\n{worst(conditions, asked.worst, language)}")


def _conditions(text: str) -> list[str]:
    for condition in text.split(","):
        condition_of(condition)
    return text.split(",")


def main() -> None:
    """Read what is asked, and listen."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folders", nargs="*", type=Path, default=[SHIPPED], metavar="FOLDER")
    asked.add_argument("--language", choices=prompts.LANGUAGES, default="en")
    asked.add_argument("--conditions", type=_conditions, default="line,noise10,loss3", metavar="LIST")
    asked.add_argument("--seeds", type=int, default=1, help="how often noise is drawn, or packets are lost")
    asked.add_argument("--prompts", type=int, metavar="N", help="only the first N of them")
    asked.add_argument("--numbers", type=int, default=15, metavar="N", help="amounts, and tracking numbers")
    asked.add_argument("--worst", type=int, default=10, metavar="N", help="sentences to show of each voice")
    asked.add_argument("--model", type=Path, help="a folder of Whisper's weights, for CTranslate2")
    told = asked.parse_args()
    told.model = settle(told.model)
    run(told)


if __name__ == "__main__":
    main()
