"""The search itself: each form in which a secret may hide is found, in the middle of other text; a mask is none."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from canaries import ALL, CARD, KEYED, PIN, assert_clean, assert_files_clean, search, spoken

FOURS = [CARD[place : place + 4] for place in range(0, 16, 4)]
PERSIAN = "".join(chr(0x6F0 + int(digit)) for digit in CARD)
HIDDEN = {
    "plain": f"card={CARD};",
    "spaced": " ".join(FOURS),
    "dashed": "-".join(FOURS),
    "dotted": ".".join(FOURS),
    "two lines": "\n".join(FOURS),
    "each spaced": " ".join(CARD),
    "each dashed": "-".join(CARD),
    "a list": repr(list(CARD)),
    "a tuple": repr(tuple(CARD)),
    "a list of numbers": repr([int(digit) for digit in CARD]),
    "JSON": json.dumps({"pan": CARD}),
    "a JSON list": json.dumps(list(CARD)),
    "bytes": repr(CARD.encode()),
    "a number with thousands": f"{int(CARD):,}",
    "a number with underscores": f"{int(CARD):_}",
    "backwards": CARD[::-1],
    "Persian": PERSIAN,
    "Persian in JSON": json.dumps(PERSIAN),
    "Persian in an address": urllib.parse.quote(PERSIAN),
    "Persian, spaced": " ".join(PERSIAN),
    "Arabic": "".join(chr(0x660 + int(digit)) for digit in CARD),
    "hex": CARD.encode().hex(),
    "hex in capitals": CARD.encode().hex().upper(),
    "an address": "".join(f"%{ord(digit):02x}" for digit in CARD),
    "escapes": "".join(f"\\u{ord(digit):04x}" for digit in CARD),
    "entities": "".join(f"&#{ord(digit)};" for digit in CARD),
    "first twelve": CARD[:12],
    "first nine": CARD[:9],
    "last nine": CARD[-9:],
    "ten in the middle": CARD[3:13],
    "eleven backwards": CARD[2:13][::-1],
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_found_in_each_form(hidden):
    """A card, however it is written."""
    assert search(f"one line\nand {hidden} in another")


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be", "utf-16"])
def test_found_in_wide_characters(code):
    """As Windows, and some databases, write text."""
    assert search(f"card {CARD}, ".encode(code))


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_found_in_base64(before, encode):
    """Wherever in the encoded text it stands, padding cut off."""
    for secret in (CARD, CARD[:9], PIN):
        assert search(encode(b"?" * before + secret.encode() + b"~~" * before).rstrip(b"="))


@pytest.mark.parametrize("canary", ALL, ids=lambda canary: canary.name)
def test_found_whole(canary):
    """Each secret; of the PIN and the keys no part counts."""
    assert search(f"x{canary.text}x", canary)
    if canary.name != "card":
        assert not search(f"x{canary.text[1:]}x{canary.text[:-1]}x", canary)


def test_found_when_spoken():
    """A PIN that is read out, clip by clip."""
    clips = [f'STREAM FILE "ivr-agi/numbers/{digit}" "0123456789" 0' for digit in PIN]
    assert search(spoken(clips), *KEYED) == ["PIN, plain"]


@pytest.mark.parametrize(
    "innocent",
    [
        f"{CARD[:6]}******{CARD[-4:]}",
        f"{CARD[:6]} {CARD[-4:]}",
        CARD[:8],
        CARD[-8:],
        "2026-11-24T20:01:24.123456Z 98172 6037991234567893",
        " ".join(reversed(FOURS)),
    ],
)
def test_a_mask_is_no_leak(innocent):
    """First six and last four digits, eight in a row, other numbers."""
    assert not search(innocent)


def test_the_search_sings(tmp_path):
    """A file, or a file's name, with a card in it; and a place where there is nothing to search."""
    (tmp_path / "innocent").write_text("nothing")
    assert_files_clean(tmp_path)
    for planted, written in ((tmp_path / "planted", CARD), (tmp_path / CARD, "nothing")):
        planted.write_text(written)
        with pytest.raises(pytest.fail.Exception, match="shows"):
            assert_files_clean(tmp_path)
        planted.unlink()
    with pytest.raises(AssertionError, match="nothing to search"):
        assert_clean("", "the log")
