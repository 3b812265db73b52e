"""What the caller hears: prompts by name, and numbers put together from clips.

Names are relative to `ivr-agi/` in Asterisk's sound folders: `enter-card` is played as
`ivr-agi/enter-card`, `numbers/20-o` as `ivr-agi/numbers/20-o`. A language is a plain `"fa"` or
`"en"`. This package knows words and sounds only; it must never know about calls, cards or money.
"""

from __future__ import annotations

from typing import Final

from ivr_agi.prompts.catalogue import LANGUAGES, SILENCE, catalogue
from ivr_agi.prompts.numbers import LARGEST, digits, number

RIALS_PER_TOMAN: Final = 10
_GROUP: Final = 3

__all__ = [
    "LANGUAGES",
    "LARGEST",
    "SILENCE",
    "amount",
    "card_ending",
    "digits",
    "exists",
    "names",
    "number",
    "reference",
    "text",
]


def text(name: str, language: str) -> str:
    """Return the words of a prompt or clip, as written; empty for `silence`.

    Raises KeyError, naming it, if there is no such prompt, or no such clip in that language.
    """
    return catalogue().text(name, language)


def names(language: str | None = None) -> tuple[str, ...]:
    """Return every prompt and clip, in the catalogue's order; with a language, those it has.

    Only number clips differ: `numbers/20-o` is Persian, `numbers/and` English.
    """
    return catalogue().names(language)


def exists(name: str, language: str | None = None) -> bool:
    """Tell whether there is a prompt or clip of this name (in this language, if one is given)."""
    return name in catalogue().names(language)


def reference(text: str) -> tuple[str, ...]:
    """Return the clips that say a number for the caller to write down: its digits, a pause between groups.

    Groups of three; what is left over makes the last one two or four: no digit stands alone.
    """
    clips = list(digits(text))
    said: list[str] = []
    while len(clips) >= _GROUP + 2:
        said += [*clips[:_GROUP], SILENCE]
        del clips[:_GROUP]
    return (*said, *clips)


def card_ending(masked: str) -> tuple[str, ...]:
    """Return the clips that say the last four digits of a masked card number, one by one."""
    return digits(masked[-4:])


def amount(rials: int, language: str, unit: str = "rial") -> tuple[str, ...]:
    """Return the clips that say an amount of rials: a number, then `rial` or `toman`.

    unit: `"toman"` says ten rials as one toman; an amount that does not divide by ten is said in rials.
    """
    if unit == "toman" and rials % RIALS_PER_TOMAN == 0:
        return (*number(rials // RIALS_PER_TOMAN, language), "toman")
    return (*number(rials, language), "rial")
