"""The engines that turn words into sound: eSpeak NG, Piper, Kokoro, and people's recordings.

Each is told what is to be said and returns it as it is; levelling and trimming come later, the same
for all. An engine is needed to build sounds, never to answer a call. To add one, write a module with a
class of this form, and name it in `voices.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ivr_agi.prompts.catalogue import Words
    from ivr_agi.sounds.audio import Sound


class SpeechError(RuntimeError):
    """An engine is missing, or did not do its work; the message says which, and the cure."""


class Engine(Protocol):
    """What an engine can be asked."""

    def can_say(self, language: str, name: str) -> bool:
        """Tell whether it has what is needed for this clip, by the catalogue's name."""

    def words(self, said: Words) -> str:
        """Return the form of the words that it goes by: as written, or as spelt out for a machine."""

    def fingerprint(self, language: str, name: str) -> str:
        """Return what the sound depends on besides the words: settings, a checksum of a file."""

    def version(self) -> str:
        """Return its name and version, for the manifest; SpeechError if it is not there."""

    def speak(self, language: str, name: str, said: Words) -> Sound:
        """Return the sound, at whatever rate; SpeechError if the engine is missing or fails."""
