"""Numbers, put together from clips the way people say them.

Asterisk's SAY NUMBER knows no Persian (wrong order, no «و») and stops at 32 bits, so the clips are
chosen here. This module turns numbers into clip names and nothing else; it must never guess: what it
cannot say is a ValueError.

Persian: the parts run from large to small, each but the last with «و» on its end, and that form is
a clip of its own, `-o`: 1,250,500 is `1 million-o 200-o 50 thousand-o 500`. A thousand is «هزار»
without «یک», also after larger parts («یک میلیون و هزار»); a million and up has it, «یک میلیون».
num2words says them the same way, so the tests compare without exceptions.

English: the British way, "and" before the last tens and units: 1,250,500 is "one million, two
hundred and fifty thousand, five hundred"; 1,001 is "one thousand and one". A thousand is "one thousand".
"""

from __future__ import annotations

import re
from typing import Final

LARGEST: Final = 10**12

_SCALES: Final = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"))


def number(n: int, language: str) -> tuple[str, ...]:
    """Return the clips that say `n`, a whole number from 0 to 10^12, in `"fa"` or `"en"`.

    Raises ValueError for any other number or language.
    """
    if not 0 <= n <= LARGEST:
        raise ValueError(f"there are clips for 0 to {LARGEST:,} only")
    if language == "fa":
        parts = _persian(n)
    elif language == "en":
        parts = _english(n)
    else:
        raise ValueError(f"no number clips in language {str(language)!r}")
    return tuple(f"numbers/{part}" for part in parts)


def digits(text: str) -> tuple[str, ...]:
    """Return the clips that say a number digit by digit, leading zeros included.

    Raises ValueError for anything but one or more ASCII digits.
    """
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError("only the digits 0 to 9 can be said one by one")
    return tuple(f"numbers/{digit}" for digit in text)


def _persian(n: int) -> list[str]:
    if n == 0:
        return ["0"]
    parts: list[str] = []
    for size, scale in _SCALES:
        count, n = divmod(n, size)
        if not count:
            continue
        if not (scale == "thousand" and count == 1):
            parts += _persian_group(count)
        parts.append(f"{scale}-o" if n else scale)
    return parts + _persian_group(n)


def _persian_group(n: int) -> list[str]:
    """Say 0 (nothing at all) to 999."""
    pieces = [n // 100 * 100, n % 100] if n % 100 < 20 else [n // 100 * 100, n % 100 // 10 * 10, n % 10]  # noqa: PLR2004 - eleven to nineteen are single words
    said = [str(piece) for piece in pieces if piece]
    return [f"{piece}-o" for piece in said[:-1]] + said[-1:]


def _english(n: int) -> list[str]:
    if n == 0:
        return ["0"]
    parts: list[str] = []
    for size, scale in _SCALES:
        count, n = divmod(n, size)
        if count:
            parts += [*_english_group(count), scale]
    if parts and 0 < n < 100:  # noqa: PLR2004 - with hundreds the "and" stands behind them
        parts.append("and")
    return parts + _english_group(n)


def _english_group(n: int) -> list[str]:
    """Say 0 (nothing at all) to 999."""
    hundreds, rest = divmod(n, 100)
    said = [str(hundreds), "hundred"] if hundreds else []
    if hundreds and rest:
        said.append("and")
    if rest >= 20:  # noqa: PLR2004 - eleven to nineteen are single words
        said.append(str(rest // 10 * 10))
        rest %= 10
    return said + ([str(rest)] if rest else [])
