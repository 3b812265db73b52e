"""The sound files: spoken from the catalogue, checked, and put where Asterisk looks for them.

A sounds folder holds `LANG/ivr-agi/NAME.wav` for each prompt and number clip, `moh/ivr-agi/waiting.wav`, and
`manifest.json`, which says from which words and by which voice each was made. Nothing here runs during a
call. What a call plays is chosen by name in `prompts`; this package sees to it that the file of that name
says just that.
"""

from __future__ import annotations

from ivr_agi.sounds.building import Built, build
from ivr_agi.sounds.checking import check
from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.installing import Action, install, music_folder, shipped

__all__ = ["Action", "Built", "SpeechError", "build", "check", "install", "music_folder", "shipped"]
