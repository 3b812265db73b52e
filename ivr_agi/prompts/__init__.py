"""What the caller hears: prompts by name, and numbers put together from clips.

Names are relative to `ivr-agi/` in Asterisk's sound folders: `enter-card` is played as
`ivr-agi/enter-card`, `numbers/20-o` as `ivr-agi/numbers/20-o`. A language is a plain `"fa"` or
`"en"`. This package knows words and sounds only; it must never know about calls, cards or money.
"""

from __future__ import annotations

from ivr_agi.prompts.catalogue import LANGUAGES, SILENCE, catalogue
from ivr_agi.prompts.numbers import LARGEST, digits, number

__all__ = [
    "LANGUAGES",
    "LARGEST",
    "SILENCE",
    "amount",
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
    """Return the clips that say a number for the caller to write down: digit by digit, in groups of three."""
    clips = digits(text)
    return tuple(
        clip
        for place, digit in enumerate(clips)
        for clip in ((SILENCE, digit) if place and place % 3 == 0 else (digit,))
    )


def amount(rials: int, language: str) -> tuple[str, ...]:
    """Return the clips that say an amount: the number, then `rial`."""
    return (*number(rials, language), "rial")
