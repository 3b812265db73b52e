"""Loudness as ITU-R BS.1770-4 defines it, with the cases of EBU Tech 3341 that one channel can have."""

import math
import random
from array import array

import pytest

from ivr_agi.sounds import audio, loudness
from ivr_agi.sounds.audio import Sound
from ivr_agi.sounds.loudness import lufs

STEREO = 3.01  # LU; Tech 3341 plays its tones on two channels, which add up


def sines(*parts, rate=8000, pitch=1000):
    """Tones after each other: seconds, and peak in dB below full scale."""
    samples = array("h")
    for seconds, peak in parts:
        start, height = len(samples), 32768 * 10 ** (peak / 20)
        samples.extend(
            max(-32768, min(32767, round(height * math.sin(2 * math.pi * pitch * (start + i) / rate))))
            for i in range(round(seconds * rate))
        )
    return Sound(samples, rate)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_a_full_sine_of_997_hz_is_the_recommendations_anchor(rate):
    assert lufs(sines((2, 0), rate=rate, pitch=997)) == pytest.approx(-3.01, abs=0.05)


def test_filters_at_48_khz_are_the_recommendations():
    """Its tables 1 and 2, to the last of their digits."""
    shelf, ear = loudness.k_weighting(48000)
    assert shelf == pytest.approx(
        (1.53512485958697, -2.69169618940638, 1.19839281085285, -1.69065929318241, 0.73248077421585),
        abs=1e-12,
    )
    assert ear == pytest.approx((1.0, -2.0, 1.0, -1.99004745483398, 0.99007225036621), abs=1e-12)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(20, -23)], -23),
        ([(20, -33)], -33),
        ([(10, -36), (60, -23), (10, -36)], -23),
        ([(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23),
        ([(20, -26), (20.1, -20), (20, -26)], -23),
    ],
    ids=["1", "2", "3 relative gate", "4 both gates", "5 no gate"],
)
def test_ebu_tech_3341(parts, expected):
    """Cases 1 to 5, as loud on one channel as they are on two."""
    one = [(seconds, peak + STEREO) for seconds, peak in parts]
    assert lufs(sines(*one)) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_gates_work_at_other_rates(rate):
    """A block is 400 ms at every rate."""
    assert lufs(sines((10, -36), (30, -20), (10, -36), rate=rate)) == pytest.approx(-23.01, abs=0.1)


@pytest.mark.parametrize("pitch", [100, 300, 1000, 2000, 3400])
def test_a_telephone_file_is_as_loud_as_its_master(pitch):
    """The same tone at 8 and at 48 kHz; what is left is the shelf's bend near the end of the band."""
    low, high = (lufs(sines((1, -20), rate=rate, pitch=pitch)) for rate in (8000, 48000))
    assert low == pytest.approx(high, abs=0.45)


def test_consonants_weigh_more_than_hum():
    hum, voice, hiss = (lufs(sines((1, -20), pitch=pitch)) for pitch in (50, 500, 3000))
    assert voice - hum == pytest.approx(4, abs=0.2)
    assert hiss - voice == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("milliseconds", [80, 200, 390, 400, 410, 500, 990])
@pytest.mark.parametrize("margin", [10, 70, 250])
def test_margins_make_a_word_no_softer(milliseconds, margin):
    """As loud with silence around it as without, and a short word as loud as a long one."""
    word = sines((milliseconds / 1000, -20))
    sound = audio.join(audio.silence(margin), word, audio.silence(margin))
    assert lufs(sound) == pytest.approx(lufs(word), abs=0.1)
    assert lufs(sound) == pytest.approx(-23, abs=0.1)


def test_pauses_count_for_little():
    """Blocks that are half word, half pause do count; those of the pause do not."""
    word = sines((2, -20))
    for pause in (400, 4000):
        assert lufs(audio.join(word, audio.silence(pause), word)) == pytest.approx(lufs(word) - 0.4, abs=0.1)


@pytest.mark.parametrize(
    "sound",
    [
        audio.silence(0),
        audio.silence(50),
        audio.silence(5000),
        sines((1, -75)),
        sines((0.1, -75)),
    ],
    ids=["empty", "50 ms", "5 s", "too faint", "too faint a word"],
)
def test_silence_has_no_loudness(sound):
    assert lufs(sound) == -math.inf


def test_ten_decibels_more_are_ten_lu_more():
    drawn = random.Random(1)  # noqa: S311 - no secret
    soft = array("h", [round(drawn.gauss(0, 500)) for _ in range(16000)])
    loud = array("h", [round(sample * math.sqrt(10)) for sample in soft])
    assert lufs(Sound(loud)) - lufs(Sound(soft)) == pytest.approx(10, abs=0.01)


def test_what_is_heard_has_a_beginning_and_an_end():
    sound = audio.join(audio.silence(100), sines((0.2, -20)), audio.silence(50))
    first, last = loudness.heard(sound.samples, sound.rate)
    assert (first, last) == pytest.approx((800, 2400), abs=40)
    assert loudness.heard(audio.silence(100).samples, 8000) == (0, 0)
