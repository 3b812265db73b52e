"""What a person is told about a list: a sentence in English, with a key and values to word it by elsewhere.

A note is text, and reads as such wherever text is wanted. Another language words it anew from `key` and
`values`. It must never hold more of a card than its mask: notes are shown, printed and mailed.
"""

from __future__ import annotations

from typing import Any


class Note(str):
    """A sentence. key: its name, whatever it says; english: with str.format's fields for the values."""

    __slots__ = ("_english", "key", "values")

    key: str
    values: dict[str, Any]
    _english: str

    def __new__(cls, key: str, english: str, **values: Any) -> Note:  # noqa: PYI034 - nobody derives from it
        """Word it in English."""
        made = super().__new__(cls, english.format(**values) if values else english)
        made.key, made.values, made._english = key, values, english
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, Any]]:
        """From one process to another."""
        return (self.key, self._english), self.values


class Telling(ValueError):  # noqa: N818 - an answer, not a fault
    """Something cannot be read, and `note` says why."""

    def __init__(self, note: Note) -> None:
        super().__init__(note)
        self.note = note
