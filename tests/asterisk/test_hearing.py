"""The finder of sounds itself: it hears what was played, and does not hear what was not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hearing import RATE, Recording, clip, music

from ivr_agi import prompts
from ivr_agi.outcomes import DECLINES

SENTENCES = [decline.prompt for decline in DECLINES.values()] + ["error-other"]
noise = np.random.default_rng(7)


def played(*sounds, loudness=0.3, hiss=30.0):
    """Sounds one after the other, as a bad line delivers them: quieter, with hiss, some silence between."""
    silence = np.zeros(RATE // 5)
    line = np.concatenate([part for sound in sounds for part in (silence, sound * loudness)] + [silence])
    return Recording(line + noise.normal(0, hiss, len(line)))


def test_hears_what_is_played_in_order():
    """Quiet and with hiss: each clip is found where it is, also one that comes twice."""
    line = played(clip("please-wait", "fa"), clip("numbers/4", "fa"), clip("numbers/4", "fa"))
    found = line.heard(
        {name: clip(name, "fa") for name in ("numbers/4", "numbers/5", "please-wait", "welcome")}
    )
    assert [one.name for one in found] == ["please-wait", "numbers/4", "numbers/4"]
    assert all(before.end <= after.start for before, after in pairwise(found))


def test_knows_the_music_from_any_bar():
    """Two seconds out of the middle of the music are music; a sentence, silence and hiss are not."""
    bars = music()[5 * RATE : 7 * RATE]
    sentence = clip("enter-card", "fa", 2.0)
    line = played(bars, sentence, np.zeros(2 * RATE))
    assert line.is_music(0.2, 2.2)
    assert not line.is_music(2.4, 4.4)
    assert not line.is_music(4.6, 6.6)
    assert not line.is_music(1.2, 3.4)


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_does_not_hear_what_is_not_played(language):
    """Of the sentences for declines each is heard as itself and as no other, hiss is heard as none."""
    assert played(np.zeros(5 * RATE)).names(SENTENCES, language) == []
    for name in SENTENCES:
        assert played(clip(name, language)).names(SENTENCES, language) == [name]


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_tells_similar_numbers_apart(language):
    """Thirteen is not thirty, fifty is not fifty-and: each number clip is heard as itself alone."""
    numbers = [name for name in prompts.names(language) if name.startswith("numbers/")]
    for name in numbers:
        assert played(clip(name, language)).names(numbers, language) == [name]


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_knows_a_sentence_by_its_beginning(language):
    """One and a half seconds are enough to know which prompt was interrupted."""
    names = [name for name in prompts.names(language) if name != prompts.SILENCE]
    for name in ("enter-card", "enter-mobile", "enter-pin", "enter-amount", "confirm-amount", "error-3"):
        assert played(clip(name, language, 1.6)).names(names, language, 1.5) == [name]


def test_does_not_hear_the_other_language():
    """An English sentence in a Persian call is found missing."""
    assert played(clip("paid", "en")).names(["paid"], "fa") == []
