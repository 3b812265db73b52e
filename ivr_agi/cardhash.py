"""A card's keyed hash: tells that two attempts had one card, and nothing else to whoever has no key.

A mask leaves six digits open, so a hash without a key, or with a weak one, could be guessed in a
second. The keys are in the settings and never in the journal. A new key is put in front of the old
one: it writes from then on, and what the old one wrote is still found until that is taken away.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ivr_agi.model import Pan, Secret


class CardHash:
    """Hashes by some keys; without one there is none."""

    def __init__(self, keys: Sequence[Secret] = ()) -> None:
        """keys: the first one writes."""
        self._keys = tuple(keys)

    def of(self, pan: Pan) -> str:
        """By the first key, `NAME:HEX`; '' without a key."""
        return _hash(self._keys[0], pan) if self._keys else ""

    def every(self, pan: Pan) -> tuple[str, ...]:
        """By each key: what the journal may have of this card."""
        return tuple(_hash(key, pan) for key in self._keys)


def _hash(key: Secret, pan: Pan) -> str:
    secret = key.reveal().encode()
    name = hashlib.sha256(b"name of a key\0" + secret).hexdigest()[:8]
    return f"{name}:{hmac.new(secret, pan.reveal().encode(), hashlib.sha256).hexdigest()}"
