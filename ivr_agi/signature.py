"""Signatures on what this server sends to the merchant's own endpoints: `t=UNIX,v1=HEX[,v1=HEX…]`.

HEX is HMAC-SHA256 over the time, a dot and the body's bytes, keyed by a secret that both sides know.
The time is signed, too, so that a request overheard today is worth nothing tomorrow; while a secret is
being changed, one signature by each lets a receiver know either. A secret never shows, and an empty one
signs nothing and vouches for nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ivr_agi.model import Secret

HEADER: Final = "Ivr-Agi-Signature"
TOLERANCE: Final = 300  # seconds that two clocks may be apart, the way of the request included


def sign(body: bytes, secrets: Sequence[Secret], at: int) -> str:
    """The header's value for a body; at: Unix time. Raises ValueError without a secret."""
    if not secrets or not all(secret.reveal() for secret in secrets):
        raise ValueError("nothing to sign with")
    return ",".join([f"t={at}", *(f"v1={_digest(body, secret, at)}" for secret in secrets)])


def verify(header: str, body: bytes, secret: Secret, now: float, tolerance: int = TOLERANCE) -> bool:
    """Whether the header vouches for the body, by this secret, within `tolerance` seconds of `now`."""
    parts = [part.partition("=")[::2] for part in header.split(",")]
    times = [value for key, value in parts if key == "t"]
    signatures = [value for key, value in parts if key == "v1" and re.fullmatch(r"[0-9a-f]{64}", value)]
    if not secret.reveal() or len(times) != 1 or not re.fullmatch(r"[0-9]{1,12}", times[0], re.ASCII):
        return False
    at = int(times[0])
    if abs(now - at) > tolerance:
        return False
    wanted = _digest(body, secret, at)
    return any([hmac.compare_digest(wanted, given) for given in signatures])  # noqa: C419 - all, in even time


def _digest(body: bytes, secret: Secret, at: int) -> str:
    return hmac.new(secret.reveal().encode(), b"%d.%b" % (at, body), hashlib.sha256).hexdigest()
