"""The page on which somebody listens to every prompt: one static file, no network, no script.

Whatever comes from outside this module, and be it a sentence of the catalogue, is escaped before it
becomes part of the page. What is played lies beside it and is referred to by relative addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ivr_agi import prompts
from ivr_agi.preview.rendering import path_of
from ivr_agi.prompts.catalogue import BILINGUAL, catalogue
from ivr_agi.sounds import manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ivr_agi.preview.rendering import Line, Shelf

SOUNDS: Final = "sounds"  # the folder beside the page

_FEW: Final = 1  # calls whose transcripts are shown unfolded
_PERSIAN: Final = str.maketrans("0123456789.", "۰۱۲۳۴۵۶۷۸۹٫")
_DIRECTION: Final = {"fa": "rtl", "en": "ltr"}
_SAID: Final = {
    "fa": {
        "seconds": "ثانیه", "spoken": "به موتور گفتار داده می‌شود:", "numbers": "عددها", "prompts": "جمله‌ها",
        "time": "زمان", "what": "رویداد", "words": "متن", "transcript": "متن تماس",
        "heard": "پخش", "keyed": "کلید", "music": "موسیقی انتظار", "unanswered": "کلیدی زده نشد",
        "call": "تماس فارسی", "silence": "سکوت کوتاه",
    },
    "en": {
        "seconds": "s", "spoken": "given to the speech engine:", "numbers": "Numbers", "prompts": "Sentences",
        "time": "time", "what": "event", "words": "words", "transcript": "Transcript",
        "heard": "heard", "keyed": "keyed", "music": "music on hold", "unanswered": "nothing keyed",
        "call": "Call in English", "silence": "a short silence",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """A rendered call. file: beside the page; en, fa: what became of it; ms: its length."""

    file: str
    language: str
    en: str
    fa: str
    ms: int
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Said:
    """What one clip says in one language. spoken: "" where it is the same; when: at which moment."""

    language: str
    shown: str
    spoken: str = ""
    when: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One prompt or clip as the page shows it. path: of the file, below the sounds; engine: "" if unknown."""

    name: str
    language: str
    path: str
    ms: int
    engine: str
    said: list[Said] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The id of its place on the page."""
        return f"{self.language}-{self.name.replace('/', '-')}"


def clips(shelf: Shelf) -> list[Card]:
    """Return every prompt and clip, in the catalogue's order; the bilingual one in Persian's place alone."""
    made = manifest.read(shelf.folder).clips
    cards = []
    for language in prompts.LANGUAGES:
        for name in prompts.names(language):
            if name == BILINGUAL and language != prompts.LANGUAGES[0]:
                continue
            says = prompts.LANGUAGES if name == BILINGUAL else (language,)
            engine = made[key].engine if (key := f"{language}/{name}") in made else ""
            cards.append(
                Card(
                    name,
                    language,
                    path_of(name, language),
                    shelf.clip(name, language).duration_ms,
                    engine,
                    [_said(name, each, spelt="eSpeak" in engine) for each in says],
                )
            )
    return cards


def _said(name: str, language: str, *, spelt: bool) -> Said:
    """Tell what a clip says. spelt: its voice went by the words as spelt out for eSpeak NG."""
    words, moment = catalogue().words(name, language), catalogue().moment(name)
    spoken = words.spoken if spelt and words.spoken != words.shown else ""
    return Said(language, words.shown, spoken, getattr(moment, language) if moment else "")


def page(calls: Sequence[Call], cards: Sequence[Card]) -> str:
    """Return the page."""
    template = Template(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    sections = {
        f"{kind}_{language}": "\n".join(
            _card(card)
            for card in cards
            if card.language == language and card.name.startswith("numbers/") is (kind == "numbers")
        )
        for language in prompts.LANGUAGES
        for kind in ("prompts", "numbers")
    }
    bilingual = next((card.anchor for card in cards if card.name == BILINGUAL), "")
    return template.substitute(
        sections,
        calls="\n".join(_call(call, unfolded=len(calls) <= _FEW) for call in calls),
        bilingual=escape(BILINGUAL),
        bilingual_anchor=escape(bilingual),
        count_fa=_number(sum(card.language == "fa" for card in cards), "fa"),
        count_en=_number(sum(card.language == "en" for card in cards), "en"),
    )


def _card(card: Card) -> str:
    said = _SAID[card.language]
    words = "\n".join(_words(each, silent=said["silence"]) for each in card.said)
    seconds = f"{_number(f'{card.ms / 1000:.1f}', card.language)} {said['seconds']}"
    engine = f'<bdi class="engine" lang="en">{escape(card.engine)}</bdi>' if card.engine else ""
    return f"""<li id="{escape(card.anchor)}" class="clip">
<div class="words"><code dir="ltr">{escape(card.name)}</code>
{words}</div>
<div class="sound">{_player(f"{SOUNDS}/{card.path}", card.name)}
<p class="small">{escape(seconds)} {engine}</p></div>
</li>"""


def _words(said: Said, *, silent: str) -> str:
    tongue = f'lang="{escape(said.language)}" dir="{_DIRECTION[said.language]}"'
    html = f"<p {tongue}>{escape(said.shown or silent)}</p>"
    if said.when:
        html += f'<p class="small" {tongue}>{escape(said.when)}</p>'
    if said.spoken:
        about = escape(_SAID[said.language]["spoken"])
        spoken = (
            f"<bdi {tongue}>{escape(said.spoken)}</bdi>"  # which may begin with phonemes in Latin letters
        )
        html += f'<p class="small" {tongue}>{about} {spoken}</p>'
    return html


def _player(path: str, name: str) -> str:
    return f'<audio controls preload="none" src="{escape(quote(path))}" aria-label="{escape(name)}"></audio>'


def _call(call: Call, *, unfolded: bool) -> str:
    said = _SAID[call.language]
    about = call.fa if call.language == "fa" else call.en
    columns = "".join(f'<th scope="col">{escape(said[key])}</th>' for key in ("time", "what", "words"))
    rows = "\n".join(_row(line, call.language) for line in call.lines)
    return f"""<article lang="{escape(call.language)}" dir="{_DIRECTION[call.language]}" class="call">
<h3>{escape(said["call"])}: {escape(about)}</h3>
{_player(call.file, call.file)}
<p class="small">{escape(_clock(call.ms, call.language))} <code dir="ltr">{escape(call.file)}</code></p>
<details{" open" if unfolded else ""}><summary>{escape(said["transcript"])}</summary>
<table><thead><tr>{columns}</tr></thead><tbody>
{rows}
</tbody></table></details>
</article>"""


def _row(line: Line, language: str) -> str:
    kind = escape(line.kind)
    if line.kind == "keyed":
        words = f'<bdi dir="ltr" class="keys">{escape(line.words)}</bdi>'
    elif line.kind == "heard":
        tongue = f'lang="{escape(line.language)}" dir="{_DIRECTION[line.language]}"'
        name = f'<code dir="ltr">{escape(line.name)}</code>' if line.name else ""
        words = f"<p {tongue}>{escape(line.words)}</p>{name}"
    else:
        words = ""
    time, what = escape(_clock(line.at_ms, language)), escape(_SAID[language][line.kind])
    return f'<tr class="{kind}"><td class="time">{time}</td><td class="what">{what}</td><td>{words}</td></tr>'


def _clock(ms: int, language: str) -> str:
    return _number(f"{ms // 60_000}:{ms // 1000 % 60:02}", language)


def _number(value: object, language: str) -> str:
    return str(value).translate(_PERSIAN) if language == "fa" else str(value)
