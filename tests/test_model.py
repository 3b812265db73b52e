"""The values that everything else speaks in."""

import pytest

from ivr_agi.model import BANKS, Keys, Msisdn, Pan, luhn, mask_cards, name_caller


@pytest.mark.parametrize(
    "text",
    [
        "09123456789",
        "9123456789",
        "989123456789",
        "+989123456789",
        "00989123456789",
        "0000989123456789",
        "2109123456789",
        "21989123456789",
        "210989123456789",
        "+98 912 345 6789",
        "0912-345-6789",
    ],
)
def test_mobile_numbers(text):
    """The forms in which trunks, dialplans and thumbs deliver an Iranian mobile."""
    assert Msisdn.parse(text) == "+989123456789"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "anonymous",
        "02188888888",
        "+9607712345678",
        "+9607712345",
        "009607712345",
        "+14155550100",
        "0912345678",
        "091234567890",
        "۰۹۱۲۳۴۵۶۷۸۹",
        "sip:09123456789@x",
    ],
)
def test_no_mobile_numbers(text):
    """Withheld, landline, foreign, too short, too long, garbage."""
    assert Msisdn.parse(text) is None


def test_luhn():
    """Every single wrong digit, and every neighbouring pair exchanged but 09 and 90, is found out."""
    card = "6037991234567893"
    assert luhn(card)
    for place in range(16):
        for digit in "0123456789":
            if digit != card[place]:
                assert not luhn(card[:place] + digit + card[place + 1 :])
    for place in range(15):
        first, second = card[place : place + 2]
        if first != second and {first, second} != {"0", "9"}:
            assert not luhn(card[:place] + second + first + card[place + 2 :])


@pytest.mark.parametrize("bank", BANKS)
def test_every_bank(bank):
    """A card of each bank is taken, with its mask."""
    body = f"{bank}123456789"
    card = next(body + digit for digit in "0123456789" if luhn(body + digit))
    assert Pan(card).masked == f"{bank}******{card[-4:]}"


@pytest.mark.parametrize(
    "digits", ["", "603799123456789", "60379912345678930", "603799123456789x", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳"]
)
def test_no_card(digits):
    """Sixteen ASCII digits, no more, no less."""
    with pytest.raises(ValueError, match="not a card number"):
        Pan(digits)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("6037991234567893", "603799******7893"),
        ("R6037991234567893.", "R603799******7893."),
        ("6037-9912-3456-7893", "603799******7893"),
        ("6037  9912 – 3456, 7893", "603799******7893"),
        ("6037_9912_3456_7893", "603799******7893"),
        ("16037991234567893", "16037991234567893"),
        ("۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳", "603799******7893"),
        ("٦٠٣٧ ٩٩١٢ ٣٤٥٦ ٧٨٩٣", "603799******7893"),
        ("1234 6037 9912 3456 7893", "1234 603799******7893"),
        ("6037991234567893 6037991234567893", "603799******7893 603799******7893"),
        ("6037991234567890", "6037991234567890"),  # no card: a tracking number, perhaps
        ("4111111111111111", "4111111111111111"),  # of no Iranian bank
        ("60379912345678931", "60379912345678931"),
        ("order 12-3456", "order 12-3456"),
    ],
)
def test_mask_cards(text, masked):
    """Card numbers go, however they are written; other numbers stay."""
    assert mask_cards(text) == masked


@pytest.mark.parametrize(
    ("caller_id", "name"),
    [
        ("09123456789", "+989123456789"),
        ("00989123456789", "+989123456789"),
        ("(0912) 345-6789", "+989123456789"),
        ("021 8888 8888", "+982188888888"),
        ("+98 21 8888 8888", "+982188888888"),
        ("00982188888888", "+982188888888"),
        ("Sara1001@Shop.example", "sara1001@shop.example"),
        ("sip:sara@shop.example", ""),
        ("1001@shop.example", "1001@shop.example"),
        ("unknown", ""),
        ("anonymous", ""),
        ("0", ""),
        ("", ""),
        ("6037991234567893", "603799******7893"),
        ("9" * 60, "9" * 40),
    ],
)
def test_name_caller(caller_id, name):
    """One caller has one name, in whatever form his number comes; a withheld one has none."""
    assert name_caller(caller_id) == name


def test_what_is_keyed_does_not_show():
    """Keys can be cut, joined and compared like any text, and print as a mask."""
    keys = Keys("60379912")
    shown = [repr(keys), str(keys), f"{keys}", f"{keys!r:>9}", "%s" % keys, repr([keys]), repr((keys,))]  # noqa: UP031
    assert not [text for text in shown if "6037" in text]
    assert str(Pan(Keys("6037991234567893")).reveal()) == "6037991234567893"  # what goes out is no mask
    assert Keys(keys + "34") == "6037991234"
    assert Keys(keys.rpartition("*")[2]) == "60379912"
    assert (keys[:4], len(keys), keys.isdecimal(), {"60379912": 1}[keys]) == ("6037", 8, True, 1)
