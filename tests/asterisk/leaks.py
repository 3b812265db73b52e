"""Looking for what the caller keyed in all that Asterisk wrote: in each of the canary's forms, or key by key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from canary.canaries import Canary, search

if TYPE_CHECKING:
    from pathlib import Path

# How logs, manager events and CEL name one key: DTMF end '6', Digit: 6, {"digit": "6", …}.
ONE_KEY = re.compile(rb"""(?:DTMF end '|Digit: (?=.\nDuration)|"+digit"+: *"+)([0-9*#])""")


def leaks(folder: Path, *secrets: str) -> set[str]:
    """Name each file below `folder` in which one of these is written; sound is not looked into."""
    return {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink() and file.suffix != ".wav"
        if told(file.read_bytes(), *secrets)
    }


def told(written: bytes, *secrets: str) -> bool:
    """Whether this text tells one of the secrets."""
    keys = [match[1] for match in ONE_KEY.finditer(written)]
    by_key = b"".join(keys)
    whole = search(written, *(Canary("keyed", secret) for secret in secrets))
    return bool(whole) or any(secret.encode() in by_key for secret in secrets)
