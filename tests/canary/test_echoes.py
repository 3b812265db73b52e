"""What the gateway repeats is kept nowhere: each secret, in each way of writing it, in each place of an answer."""

from __future__ import annotations

import re
from dataclasses import astuple

import pytest
from canaries import CARD, PIN, SEQUENCE, search
from echoes import PLACES, echoes

from ivr_agi.gateway import Exchange, read_otp, read_pay
from ivr_agi.model import Pan, Pin, Secret

SENT = (Pan(CARD), Secret(SEQUENCE), Pin(PIN))


# A tracking number is kept as the bank gave it: who encodes what we sent into one is not found out.
ENCODED = ("hex", "base64", "URL", "entities", "escapes", "reversed")


def is_kept(name):
    """Whether it is known, and put up with, that an echo of this name is kept."""
    way, _, place = name.rpartition(" in ")
    return place == "refID" and way.endswith(ENCODED)


def exchange(answer):
    """What the client makes of an answer's bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1.1 ([0-9]{3})", head)
    return Exchange(written=True, status=int(found[1]) if found else 0, body=body if found else None)


@pytest.mark.parametrize("place", PLACES)
def test_echo(place):
    """In no verdict, tracking number, code or note, of `pay` and of `otp-v2`."""
    assert kept(name for name in echoes() if name.endswith(f" in {place}") and not is_kept(name)) == {}


def kept(names):
    """What of these echoes is found in the verdicts."""
    shown = {}
    answers = echoes()
    for name in names:
        answer = exchange(answers[name])
        told = (read_pay(answer, SENT), read_otp(answer, SENT[:2]))
        # Not their repr: it would hide what has a backslash in it.
        if leaks := search("\n".join(str(value) for each in told for value in astuple(each))):
            shown[name] = leaks
    return shown
