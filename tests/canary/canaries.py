"""The canaries: what must never leave memory, each form in which it might, and the search for them.

Of a card the first six and the last four digits may show, so nine of its digits in a row are a leak
already; of anything else, the whole. Only tests may know these values, and none is anybody's.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from line import SEQUENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CARD = (
    "6037997418529617"  # no digits in their order: "0123456789" is in each command that a key may interrupt
)
PIN = "90817264"
WEBHOOK_SECRET = "whsec-kJ4vQ81zTnB6yRmA"  # noqa: S105 - a canary
ORDERS_SECRET = "orsec-Wd93LxUe7GhPc2Ns"  # noqa: S105
TOKEN = "tok-Gm7uXb29QhRz4LvEsK1p"  # noqa: S105
CARD_KEY = "ckey-5fTqZr8mVb1YcXw0GhJ4sDk7Lp2Na9Ee"

BETWEEN = (" ", "-", ".", ",", "/", "_", ":", "|", ", ", " - ", "  ", "', '", '", "', "', b'", "\n", "\t")
BETWEEN += ("\u00a0", "\u200c", "\u2009", "\u2011", "\u2013", "\u066c")  # blanks, dashes, a Persian comma
PERSIAN, ARABIC, WIDE = "۰۱۲۳۴۵۶۷۸۹", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９"


@dataclass(frozen=True)
class Canary:
    """One secret. least: how many of its characters in a row are a leak; the default: all."""

    name: str
    text: str = field(repr=False)
    least: int = 0

    def pieces(self) -> Iterator[tuple[int, str]]:
        """Each shortest run that must not show, and where it begins."""
        least = self.least or len(self.text)
        for start in range(len(self.text) - least + 1):
            yield start, self.text[start : start + least]


CARD_CANARY = Canary("card", CARD, 9)
PIN_CANARY = Canary("PIN", PIN)
SECRETS = (
    Canary("sequence", SEQUENCE),
    Canary("webhook secret", WEBHOOK_SECRET),
    Canary("orders secret", ORDERS_SECRET),
    Canary("card key", CARD_KEY),
    Canary("token", TOKEN),
)
KEYED = (CARD_CANARY, PIN_CANARY)
ALL = (*KEYED, *SECRETS)


def spellings(canary: Canary) -> Iterator[tuple[str, str]]:
    """How each piece may be written by a person or a program: (name of the form, text)."""
    whole = canary.text
    for start, piece in canary.pieces():
        yield "plain", piece
        yield "reversed", piece[::-1]
        if not whole.isdecimal():
            continue
        places = range(start, start + len(piece))
        for between in BETWEEN:
            named = f"by {between!a}"
            yield f"each {named}", between.join(piece)
            yield f"fours {named}", _cut(whole, places, between, lambda place: place % 4 == 0)
            thousands = _cut(whole, places, between, lambda place: (len(whole) - place) % 3 == 0)
            yield f"thousands {named}", thousands
        for script in (PERSIAN, ARABIC, WIDE):
            yield f"in {script[1]}", _in(script, piece)
            yield (
                f"in {script[1]}, fours",
                _in(script, _cut(whole, places, " ", lambda place: place % 4 == 0)),
            )
            yield f"in {script[1]}, each", " ".join(_in(script, piece))


def _cut(whole, places, between, begins) -> str:
    """The digits at these places, with something in front of each that begins a group."""
    return "".join(
        (between if begins(place) and place != places.start else "") + whole[place] for place in places
    )


def _in(script: str, text: str) -> str:
    return text.translate(str.maketrans("0123456789", script))


def encodings(text: str) -> Iterator[tuple[str, bytes]]:
    """How a text may lie in a file or on a wire: (name, bytes)."""
    raw = text.encode()
    yield "", raw
    yield "UTF-16LE", text.encode("utf-16-le")
    yield "UTF-16BE", text.encode("utf-16-be")
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield "hex by blanks", raw.hex(" ").encode()
    yield "URL", "".join(f"%{byte:02X}" for byte in raw).encode()
    yield "url", "".join(f"%{byte:02x}" for byte in raw).encode()
    yield "\\x", "".join(f"\\x{byte:02x}" for byte in raw).encode()
    yield "\\u", "".join(f"\\u{ord(letter):04x}" for letter in text).encode()
    yield "&#", "".join(f"&#{ord(letter)};" for letter in text).encode()
    for name, alphabet in (("base64", None), ("base64url", b"-_")):
        for before in range(3):
            whole = base64.b64encode(bytes(before) + raw, alphabet)
            # Only the letters that are made of nothing but this text's bits.
            first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
            yield f"{name}+{before}", whole[first:last]


@cache
def forms(*canaries: Canary) -> dict[bytes, str]:
    """Each form of each, as bytes to look for, and what to call it."""
    found: dict[bytes, str] = {}
    for canary in canaries:
        for spelling, text in spellings(canary):
            every = spelling in ("plain", "fours by ' '", "fours by '-'", "reversed")
            ways = encodings(text) if every else [("", text.encode())]
            if not text.isascii():
                ways = [
                    ("", text.encode()),
                    ("URL", quote(text).encode()),
                    ("\\u", json.dumps(text)[1:-1].encode()),
                    ("UTF-16LE", text.encode("utf-16-le")),
                ]
            for encoding, form in ways:
                found.setdefault(form, f"{canary.name}, {spelling} {encoding}".rstrip())
    return found


@cache
def pattern(*canaries: Canary) -> re.Pattern[bytes]:
    """One expression for all forms, as a tree of their beginnings: five times as quick as one by one."""
    root: dict[int, dict] = {}
    for form in forms(*canaries):
        place = root
        for byte in form:
            place = place.setdefault(byte, {})
        place[-1] = {}

    def worded(branch: dict[int, dict]) -> bytes:
        if -1 in branch:  # a form ends here; a longer one adds nothing
            return b""
        ways = [re.escape(bytes([byte])) + worded(rest) for byte, rest in branch.items()]
        return ways[0] if len(ways) == 1 else b"(?:" + b"|".join(ways) + b")"

    return re.compile(worded(root))


def as_bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def search(text: str | bytes, *canaries: Canary) -> list[str]:
    """Name each form found in a text; of all canaries if none is named."""
    names = forms(*(canaries or ALL))
    return sorted({names[found[0]] for found in pattern(*(canaries or ALL)).finditer(as_bytes(text))})


def spoken(commands: Iterable[str]) -> str:
    """AGI commands, and the digits that they have read out one by one, in a row."""
    lines = list(commands)
    digits = [found[1] for line in lines if (found := re.search(r"(?:digits|numbers)/([0-9]+)", line))]
    return "\n".join([*lines, "".join(digits)])


def assert_clean(text: str | bytes, where: str, *canaries: Canary) -> None:
    """Fail, with the words around it, if a canary is in a text; there must be a text."""
    assert text, f"{where} is empty: there was nothing to search"
    if found := search(text, *canaries):
        blob = as_bytes(text)
        places = [match.start() for match in pattern(*(canaries or ALL)).finditer(blob)]
        around = [blob[max(0, place - 250) : place + 120].decode("utf-8", "replace") for place in places[:3]]
        pytest.fail(f"{where} shows {found}: {around}")


def assert_found(text: str | bytes, *canaries: Canary) -> None:
    """The control: what was planted is found."""
    found = {name.partition(",")[0] for name in search(text, *canaries)}
    assert found == {canary.name for canary in canaries or ALL}, (
        "the search does not find all that is planted"
    )


def files(folder: Path) -> dict[str, bytes]:
    """All that is written in a folder, and its files' names."""
    return {
        f"{file.relative_to(folder)}": str(file.relative_to(folder)).encode() + b"\n" + file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }


def assert_files_clean(folder: Path, *canaries: Canary) -> None:
    """Fail if a canary is in a file of a folder, or in its name."""
    for name, written in files(folder).items():
        assert_clean(written, name, *canaries)
