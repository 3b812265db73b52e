"""Numbers from clips, held against num2words, which says them by a program of its own."""

import copy
import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import CONVERTER_CLASSES

from ivr_agi import prompts
from ivr_agi.model import Language

ROUND = [
    10**power + rest for power in range(3, 13) for rest in (-1, 0, 1, 1000) if 10**power + rest <= 10**12
]


text = cache(prompts.text)


def said(n, language):
    return " ".join([text(clip, language) for clip in prompts.number(n, language)])


@cache
def oracle(language):
    """What num2words speaks a language with, but for its hundred names of greater numbers: it goes through all of them."""
    speaks = copy.copy(CONVERTER_CLASSES[language])
    if hasattr(speaks, "cards"):
        speaks.cards = type(speaks.cards)((n, word) for n, word in speaks.cards.items() if n <= 10**12)
    return speaks


def expected(n, language):
    """The oracle's words; its commas and hyphens make no sound."""
    return oracle(language).to_cardinal(n).replace(",", "").replace("-", " ").replace("\u200c", " ")


@pytest.mark.parametrize("language", prompts.LANGUAGES)
@pytest.mark.parametrize("part", range(4))
def test_every_number_to_a_hundred_thousand(language, part):
    for n in range(part, 100_001, 4):
        assert said(n, language) == expected(n, language)


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_five_thousand_random_numbers(language):
    """As many of each size, from six digits to twelve; the same ones each time."""
    chance = random.Random(language)  # noqa: S311 - the same numbers each time
    for size in range(6, 13):
        for _ in range(720):
            n = chance.randrange(10 ** (size - 1), 10**size)
            assert said(n, language) == expected(n, language), n


@pytest.mark.parametrize("language", prompts.LANGUAGES)
@pytest.mark.parametrize("n", ROUND)
def test_round_numbers_and_their_neighbours(n, language):
    assert said(n, language) == expected(n, language)


@given(n=st.integers(0, 10**12), language=st.sampled_from(prompts.LANGUAGES))
def test_any_number_to_a_trillion(n, language):
    assert said(n, language) == expected(n, language)


@pytest.mark.parametrize(
    ("n", "clips"),
    [
        (0, "0"),
        (21, "20-o 1"),
        (1_000, "thousand"),
        (1_001, "thousand-o 1"),
        (100_000, "100 thousand"),
        (1_000_000, "1 million"),
        (1_250_500, "1 million-o 200-o 50 thousand-o 500"),
        (10**12, "1 trillion"),
    ],
)
def test_persian_joins_its_parts(n, clips):
    assert prompts.number(n, "fa") == tuple(f"numbers/{clip}" for clip in clips.split())


@pytest.mark.parametrize(
    ("n", "clips"),
    [
        (0, "0"),
        (100, "1 hundred"),
        (1_001, "1 thousand and 1"),
        (1_250_500, "1 million 2 hundred and 50 thousand 5 hundred"),
    ],
)
def test_english_says_and_before_the_last_tens(n, clips):
    assert prompts.number(n, "en") == tuple(f"numbers/{clip}" for clip in clips.split())


def test_an_amount_is_a_number_of_rials():
    assert prompts.amount(50_000, Language.FA) == ("numbers/50", "numbers/thousand", "rial")
    assert prompts.amount(1, "en") == ("numbers/1", "rial")


@pytest.mark.parametrize(
    ("rials", "clips"),
    [
        (50_000, "5 thousand toman"),
        (10, "1 toman"),
        (1, "1 rial"),
        (50_005, "50 thousand-o 5 rial"),
        (12_505_000, "1 million-o 200-o 50 thousand-o 500 toman"),
        (10**12, "100 billion toman"),
    ],
)
def test_an_amount_in_tomans(rials, clips):
    """Ten rials are a toman; what does not divide by ten is said in rials."""
    said = prompts.amount(rials, "fa", "toman")
    assert [clip.removeprefix("numbers/") for clip in said] == clips.split()


def test_an_amount_in_tomans_in_english():
    assert prompts.amount(50_000, "en", "toman") == ("numbers/5", "numbers/thousand", "toman")


def test_the_end_of_a_card_number():
    """The last four digits of the mask, one by one."""
    assert prompts.card_ending("603799******7093") == (
        "numbers/7", "numbers/0", "numbers/9", "numbers/3",
    )  # fmt: skip


def test_digits_keep_their_leading_zeros():
    assert prompts.digits("0070") == ("numbers/0", "numbers/0", "numbers/7", "numbers/0")


@pytest.mark.parametrize("text", ["", " ", "12a", "-1", "1.5", "۱۲", "²", "12\n"])
def test_digits_are_ascii_digits_only(text):
    with pytest.raises(ValueError, match="digits"):
        prompts.digits(text)


@pytest.mark.parametrize("n", [-1, 10**12 + 1])
def test_numbers_without_clips_are_refused(n):
    with pytest.raises(ValueError, match="clips"):
        prompts.number(n, "fa")


def test_a_language_without_clips_is_refused():
    with pytest.raises(ValueError, match="'de'"):
        prompts.number(1, "de")


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_every_clip_that_can_be_said_exists_and_no_other(language):
    """All there is: a group of each kind in every place."""
    used = {"rial", *prompts.digits("0123456789"), *prompts.number(10**12, language)}
    for group in range(1000):
        for scale in (1, 10**3, 10**6, 10**9):
            used.update(prompts.number(group * scale, language))
            used.update(prompts.number(min(group * scale + 1, 10**12), language))
    clips = {name for name in prompts.names(language) if name.startswith("numbers/")}
    assert used - {"rial"} == clips
