"""The catalogue of prompts, read from `catalogue.toml` once and checked.

A prompt has words in every language, a number clip in those that use it; the file also says how a
speech engine is to pronounce them. Whatever the file gets wrong is told by name when it is first
read; a caller must never be the one to find an empty prompt.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

LANGUAGES: Final = ("fa", "en")
SILENCE: Final = "silence"
BILINGUAL: Final = "choose-language"

_MOMENT: Final = ("when", "when_fa")
_PROMPT_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PHONEMES: Final = re.compile(r"(\[\[.*?\]\])")
# With the vowel marks, the zero-width non-joiner of می‌شود, and the apostrophe.
_WORD: Final = re.compile("[\\w\u064b-\u0652\u200c']+")
_ENDINGS: Final = {"\u0650": "e", "\u064f": "o"}  # the ezafe's zir, and the pish of «و» said -o


@dataclass(frozen=True, slots=True)
class Moment:
    """When a prompt is heard, in English and in Persian, for whoever records or reviews it."""

    en: str
    fa: str


@dataclass(frozen=True, slots=True)
class Words:
    """What one clip says in one language.

    shown: as written. spoken: what the speech engine gets, with vowel marks, and phonemes in [[ ]].
    """

    shown: str
    spoken: str


class CatalogueError(ValueError):
    """The catalogue file is wrong; the message names the entry."""


class Catalogue:
    """All prompts and number clips, by name and language."""

    def __init__(self, entries: dict[str, dict[str, Words]], moments: dict[str, Moment]) -> None:
        self._entries = entries
        self._moments = moments
        self._names = {
            language: tuple(name for name, said in entries.items() if language in said)
            for language in LANGUAGES
        }

    def words(self, name: str, language: str) -> Words:
        """Return the words of a clip; KeyError, naming it, if there is none."""
        words = self._entries.get(name, {}).get(language)
        if words is None:
            raise KeyError(f"no prompt {name!r} in language {str(language)!r}")
        return words

    def moment(self, name: str) -> Moment | None:
        """Return when a prompt is heard; None for a number clip, and for silence."""
        return self._moments.get(name)

    def text(self, name: str, language: str) -> str:
        """Return the words of a clip as written."""
        return self.words(name, language).shown

    def names(self, language: str | None = None) -> tuple[str, ...]:
        """Return the names in the file's order: all, or those that a language has."""
        return tuple(self._entries) if language is None else self._names.get(language, ())


@cache
def catalogue() -> Catalogue:
    """Return the catalogue that comes with the package."""
    return parse(resources.files(__package__).joinpath("catalogue.toml").read_text(encoding="utf-8"))


def parse(toml: str) -> Catalogue:
    """Read and check a catalogue; CatalogueError if anything is missing, empty or unknown."""
    tables = tomllib.loads(toml)
    if unknown := set(tables) - {"prompts", "numbers", "pronunciation"}:
        raise CatalogueError(f"unknown tables: {', '.join(sorted(unknown))}")
    pronunciation = _pronunciation(tables.get("pronunciation", {}))
    entries: dict[str, dict[str, Words]] = {}
    moments: dict[str, Moment] = {}
    if SILENCE in tables.get("prompts", {}):
        raise CatalogueError(f"{SILENCE}: this name is kept for the clip that says nothing")
    for key, fields in tables.get("prompts", {}).items():
        entries[key] = _entry(key, fields, frozenset(_MOMENT), pronunciation)
        if missing := set(LANGUAGES) - set(entries[key]):
            raise CatalogueError(f"{key}: no text in {', '.join(sorted(missing))}")
        if unsaid := [field for field in _MOMENT if field not in fields]:
            raise CatalogueError(f"{key}: {' and '.join(unsaid)} missing: at which moment is it heard?")
        moments[key] = Moment(*(fields[field] for field in _MOMENT))
    for key, fields in tables.get("numbers", {}).items():
        entries[f"numbers/{key}"] = _entry(f"numbers/{key}", fields, frozenset(), pronunciation)
    entries[SILENCE] = dict.fromkeys(LANGUAGES, Words("", ""))
    return Catalogue(entries, moments)


def pronounced(text: str, words: dict[str, str]) -> str:
    """Return a text with each of the given words as phonemes in [[ ]]; all else stays as it is."""

    def phonemes(found: re.Match[str]) -> str:
        word = found[0]
        if (said := words.get(word)) is None and word[-1] in _ENDINGS and (said := words.get(word[:-1])):
            said += ("j" if said[-1] in "aeiouA" else "") + _ENDINGS[word[-1]]
        return f"[[{said}]]" if said else word

    parts = _PHONEMES.split(text)  # every second one is phonemes already
    return "".join(part if place % 2 else _WORD.sub(phonemes, part) for place, part in enumerate(parts))


def _pronunciation(tables: object) -> dict[str, dict[str, str]]:
    if not isinstance(tables, dict) or set(tables) - set(LANGUAGES):
        raise CatalogueError(f"pronunciation: a table for each of {', '.join(LANGUAGES)}, and nothing else")
    for language, words in tables.items():
        if not isinstance(words, dict):
            raise CatalogueError(f"pronunciation.{language}: not a table")
        for word, said in words.items():
            if not _WORD.fullmatch(word):
                raise CatalogueError(f"pronunciation.{language}: {word!r} is not one word")
            if not isinstance(said, str) or not re.fullmatch(r"[^\s\[\]]+", said):
                raise CatalogueError(f"pronunciation.{language}: {word}: {said!r} is not a word's phonemes")
    return {language: tables.get(language, {}) for language in LANGUAGES}


def _entry(
    name: str, fields: object, others: frozenset[str], pronunciation: dict[str, dict[str, str]]
) -> dict[str, Words]:
    if not _PROMPT_NAME.fullmatch(name.removeprefix("numbers/")):
        raise CatalogueError(f"{name!r}: a name has small letters, digits and single hyphens")
    if not isinstance(fields, dict):
        raise CatalogueError(f"{name}: not a table")
    allowed = others | {f"{language}{suffix}" for language in LANGUAGES for suffix in ("", "_spoken")}
    for field, value in fields.items():
        if field not in allowed:
            raise CatalogueError(f"{name}: unknown field {field!r}")
        if not isinstance(value, str) or not value.strip() or value != value.strip():
            raise CatalogueError(f"{name}: {field} is empty, padded with blanks, or no text")
    for language in LANGUAGES:
        if f"{language}_spoken" in fields and language not in fields:
            raise CatalogueError(f"{name}: {language}_spoken without {language}")
    found = {
        language: Words(
            fields[language],
            pronounced(fields.get(f"{language}_spoken") or fields[language], pronunciation[language]),
        )
        for language in LANGUAGES
        if language in fields
    }
    if not found:
        raise CatalogueError(f"{name}: no text at all")
    return found
