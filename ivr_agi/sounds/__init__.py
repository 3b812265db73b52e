"""The sound files: spoken from the catalogue, checked, and put where Asterisk looks for them.

Nothing here runs during a call. What a call plays is chosen by name in `prompts`; this package sees
to it that the file of that name says just that.
"""

from __future__ import annotations

from ivr_agi.sounds.building import build, check
from ivr_agi.sounds.installing import Action, install, music_folder, shipped
from ivr_agi.sounds.speech import SpeechError

__all__ = ["Action", "SpeechError", "build", "check", "install", "music_folder", "shipped"]
