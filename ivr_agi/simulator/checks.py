"""Whether a request is what the gateway's document asks for: fields, JSON types, nothing else.

Stricter than the real gateway is likely to be, since a mistake found here costs nothing. Each complaint
names its field; none repeats what was in it, which may be a card number or a PIN.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Final, NoReturn

from ivr_agi.simulator.outcomes import OTP

Fields = dict[str, object]
_Check = tuple[Callable[[object], bool], str]


class MalformedError(ValueError):
    """The body is no JSON object."""


def read_object(body: bytes) -> Fields:
    """Read a JSON object; MalformedError for anything else, also for a key that comes twice and for NaN."""

    def once(pairs: list[tuple[str, object]]) -> Fields:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            raise MalformedError("body: a key comes twice")
        return fields

    def refuse(constant: str) -> NoReturn:
        raise MalformedError(f"body: {constant} is no JSON")

    try:
        read = json.loads(body.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except MalformedError:
        raise
    except (ValueError, RecursionError):
        raise MalformedError("body: no JSON in UTF-8") from None
    if not isinstance(read, dict):
        raise MalformedError("body: a JSON object is required")
    return read


def _text(pattern: str, wording: str) -> _Check:
    whole = re.compile(pattern, re.DOTALL)
    return lambda value: isinstance(value, str) and whole.fullmatch(value) is not None, wording


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_ORDER: Final = _text(r".{1,50}", "a string of 1 to 50 characters")
_COMMON: Final[dict[str, _Check]] = {
    "pan": _text(r"[0-9]{16}", "a string of 16 digits"),
    "sequence": _text(r"\S+", "a string without blanks"),
}
_PAYING: Final[dict[str, _Check]] = {
    **_COMMON,
    "pin": _text(r"[0-9]{5,12}", "a string of 5 to 12 digits"),
    "merchant_cid": _text(r"\+989[0-9]{9}", "a string like +989123456789"),
}
_OTP: Final[dict[str, _Check]] = {
    **_COMMON,
    "amount": (
        lambda value: (_is_int(value) or isinstance(value, float)) and 0 < float(str(value)) < math.inf,
        "a number above 0",
    ),
    "order_id": _ORDER,
}
_PAY_IVR: Final[dict[str, _Check]] = {
    **_PAYING,
    "ivr": (lambda value: _is_int(value) and value == 1, "the integer 0 or 1"),
    "amount": (lambda value: isinstance(value, int) and _is_int(value) and value > 0, "an integer above 0"),
    "order_id": _ORDER,
}
_PAY_WEB: Final[dict[str, _Check]] = {
    **_PAYING,
    "ivr": (lambda value: _is_int(value) and value == 0, "the integer 0 or 1"),
    "invoice_id": _ORDER,
}


def complaints(service: str, fields: Fields) -> list[str]:
    """Return what is wrong with a request's fields (gateway-api.md §1, §2.1, §2.2); empty if nothing is."""
    paying = _PAY_WEB if fields.get("ivr") == 0 else _PAY_IVR
    wanted = _OTP if service == OTP else paying
    missing = [f"{name}: required" for name in wanted if name not in fields]
    unknown = [f"{name}: unknown field" for name in fields if name not in wanted]
    wrong = [
        f"{name}: must be {wording}"
        for name, (fits, wording) in wanted.items()
        if name in fields and not fits(fields[name])
    ]
    return missing + unknown + wrong
