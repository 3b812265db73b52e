"""Signatures on what goes to the merchant's own endpoints: made, checked, and refused."""

import pytest

from ivr_agi.model import Secret
from ivr_agi.signature import sign, verify

OLD, NEW = Secret("a secret of the shop"), Secret("its next secret")
BODY = b'{"invoice": "10234", "mobile": null}'
AT = 1_732_450_000
# printf '%s.%s' 1732450000 '{"invoice": "10234", "mobile": null}' | openssl dgst -sha256 -hmac 'a secret of the shop'
BY_OPENSSL = "1a7c463c9787d7a9b3056f5d2560bd82eae5e9e35f5d4ea8f21ecf141ca6afd3"


def test_what_another_program_computes():
    """The header's form, and the very bytes that openssl comes to."""
    assert sign(BODY, [OLD], AT) == f"t={AT},v1={BY_OPENSSL}"


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_either_secret_knows_it(secret):
    """While a secret is being changed there is a signature by each."""
    header = sign(BODY, [OLD, NEW], AT)
    assert header.count("v1=") == 2
    assert verify(header, BODY, secret, AT)
    assert not verify(header, BODY, Secret("a third"), AT)


@pytest.mark.parametrize("secrets", [[], [Secret("")], [OLD, Secret("")]])
def test_nothing_to_sign_with(secrets):
    """An empty secret would vouch for whoever asks: refused."""
    with pytest.raises(ValueError, match="nothing to sign with"):
        sign(BODY, secrets, AT)


@pytest.mark.parametrize(
    ("now", "fresh"), [(AT, True), (AT + 300, True), (AT + 301, False), (AT - 300, True), (AT - 301, False)]
)
def test_five_minutes(now, fresh):
    """What was overheard is worth nothing five minutes later, and clocks may be that far apart."""
    assert verify(sign(BODY, [OLD], AT), BODY, OLD, now) is fresh


def test_tolerance_is_the_receivers():
    """A receiver may be stricter."""
    assert not verify(sign(BODY, [OLD], AT), BODY, OLD, AT + 11, tolerance=10)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"10234", b"10235"), b""])
def test_another_body(body):
    """A byte more, less or other, and nothing vouches for it."""
    assert not verify(sign(BODY, [OLD], AT), body, OLD, AT)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"t={AT}",
        f"v1={BY_OPENSSL}",
        f"t=,v1={BY_OPENSSL}",
        f"t={AT},v1=",
        f"t={AT},v0={BY_OPENSSL}",
        f"t={AT},v1={BY_OPENSSL[:-1]}",
        f"t={AT},v1={BY_OPENSSL[:-1]}ü",
        f"t={AT + 1},v1={BY_OPENSSL}",
        f"t={AT},t={AT + 1},v1={BY_OPENSSL}",
        f"t={AT}.0,v1={BY_OPENSSL}",
        f"t= {AT},v1={BY_OPENSSL}",
        f"t=-{AT},v1={BY_OPENSSL}",
        f"t={'9' * 5000},v1={BY_OPENSSL}",
        f"t={str(AT).translate(str.maketrans('0123456789', '۰۱۲۳۴۵۶۷۸۹'))},v1={BY_OPENSSL}",
    ],
)
def test_a_header_that_is_none(header):
    """Whatever is not of the form vouches for nothing, and nothing raises."""
    assert not verify(header, BODY, OLD, AT)


def test_a_later_scheme_beside_it():
    """A field that is not known, of a scheme to come, is passed over."""
    assert verify(f"t={AT},v2=abc,v1={BY_OPENSSL}", BODY, OLD, AT)


def test_an_empty_secret_vouches_for_nothing():
    """A receiver that forgot its secret refuses, and does not take an unkeyed hash for a signature."""
    forged = sign(BODY, [Secret("\0")], AT)  # HMAC pads with zeros: the same key as an empty one
    assert not verify(forged, BODY, Secret(""), AT)
