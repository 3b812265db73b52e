"""Sound in memory: brought to another rate, made fit for a telephone, trimmed, and measured."""

import math
import random
from array import array

import numpy as np
import pytest

from ivr_agi.sounds import audio
from ivr_agi.sounds.audio import FULL_SCALE, Sound
from ivr_agi.sounds.loudness import lufs

RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000]
TARGET, CEILING = -18.0, -6.0
TOP = FULL_SCALE * 10 ** (CEILING / 20)


def noise(seconds, loudness, rate=8000):
    drawn = random.Random(1)  # noqa: S311 - no secret
    return Sound(array("h", [round(drawn.gauss(0, loudness)) for _ in range(round(seconds * rate))]), rate)


def added(*sounds):
    """Sounds at the same time; the rate is the first's."""
    mixed = [sum(samples) for samples in zip(*(sound.samples for sound in sounds), strict=True)]
    return Sound(array("h", mixed), sounds[0].rate)


def level(sound, pitch=None):
    """Mean power in dB, of all or of one pitch, the ends left out."""
    samples = np.array(sound.samples[len(sound.samples) // 10 : -len(sound.samples) // 10], dtype=float)
    if pitch is None:
        return 10 * math.log10(max(np.mean(samples**2), 1e-9))
    turn = np.exp(-2j * np.pi * pitch / sound.rate * np.arange(len(samples)))
    return 20 * math.log10(max(abs(np.mean(samples * turn)) * math.sqrt(2), 1e-9))


@pytest.fixture
def speech(tone):
    """Something like a voice: syllables of a low tone with overtones, and a pause in the middle."""

    def make(rate=8000, loudness=3000):
        syllable = audio.fade(
            added(
                *(tone(pitch, rate, 0.25, loudness / part) for part, pitch in enumerate((180, 540, 2300), 1))
            ),
            20,
            60,
        )
        pause = audio.silence(200, rate)
        return audio.join(pause, syllable, syllable, pause, syllable, pause)

    return make


def test_a_sound_knows_its_length_and_its_peak():
    sound = Sound(array("h", [0, -32768, 32767, 0] * 100), 16000)
    assert (sound.duration_ms, sound.peak) == (25, 32768)
    assert (Sound(array("h")).duration_ms, Sound(array("h")).peak) == (0, 0)


def test_joined_sounds_follow_each_other(tone):
    one, other = tone(440, seconds=0.1), audio.silence(50)
    assert audio.join(one, other, one).samples == one.samples + other.samples + one.samples


@pytest.mark.parametrize("rates", [(8000, 16000), ()], ids=["two rates", "none"])
def test_sounds_of_different_rates_are_not_joined(rates):
    with pytest.raises(ValueError, match="one rate"):
        audio.join(*(audio.silence(10, rate) for rate in rates))


# -- resampling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pitch", [300, 1000, 3000])
def test_speech_keeps_its_level_from_any_rate_and_to_any(tone, pitch, rate):
    """As loud, and of the same pitch, at 8 kHz and back."""
    original = tone(pitch, rate, 0.4)
    down = audio.resample(original, 8000)
    back = audio.resample(down, rate)
    assert (down.rate, back.rate, down.duration_ms, back.duration_ms) == (8000, rate, 400, 400)
    for sound in (down, back):
        assert level(sound, pitch) == pytest.approx(level(original), abs=0.1)
        assert level(sound) == pytest.approx(level(original), abs=0.1), "there is something else in it"


@pytest.mark.parametrize(
    ("rate", "pitch"),
    [(rate, pitch) for rate in RATES for pitch in (4100, 4600, 7000, 15000, 40000) if 2 * pitch < rate],
)
def test_nothing_folds_down_into_the_speech(tone, rate, pitch):
    assert level(audio.resample(tone(pitch, rate, 0.3), 8000)) < level(tone(pitch, rate, 0.3)) - 70


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > 8000])
def test_no_image_appears_above_the_speech(tone, rate):
    """A tone of 3 kHz is no tone of 5 kHz as well."""
    raised = audio.resample(tone(3000, seconds=0.4), rate)
    assert level(raised, 5000) < level(raised) - 70


def test_resampled_sound_stays_where_it_is(tone):
    """The filter delays nothing: sample for sample the same tone."""
    down = audio.resample(tone(440, 48000), 8000)
    pairs = zip(down.samples[100:-100], tone(440).samples[100:-100], strict=True)
    assert max(abs(a - b) for a, b in pairs) <= 12


@pytest.mark.parametrize("rate", [5003, 8011, 12007], ids=str)
def test_a_rate_without_a_common_measure_does_as_well(tone, rate):
    """Prime numbers have thousands of places between two samples: the nearest of 2,048 is good enough."""
    original = tone(1500, rate, 0.25)
    sound = audio.resample(original, 8000)
    assert level(sound, 1500) == pytest.approx(level(sound), abs=1e-4), "40 dB of something else is more"
    assert level(sound) == pytest.approx(level(original), abs=0.1)


def test_the_same_rate_is_a_copy(tone):
    original = tone(440)
    copy = audio.resample(original, 8000)
    assert copy == original
    assert copy.samples is not original.samples


@pytest.mark.parametrize(("there", "here"), [(8000, 3999), (3999, 8000)])
def test_a_rate_too_low_for_speech_is_refused(there, here):
    with pytest.raises(ValueError, match="4000"):
        audio.resample(audio.silence(10, here), there)


@pytest.mark.parametrize("length", range(5))
@pytest.mark.parametrize("rate", [8000, 44100])
def test_next_to_nothing_is_resampled_too(length, rate):
    sound = audio.resample(Sound(array("h", [1000] * length), 16000), rate)
    assert len(sound.samples) == pytest.approx(length * rate / 16000, abs=1)


def test_loud_samples_do_not_wrap_round():
    """A square wave overshoots where its edges are rounded off."""
    square = Sound(array("h", ([32767] * 40 + [-32768] * 40) * 50), 16000)
    sound = audio.resample(square, 8000)
    assert all((a > 0) == (b > 0) for a, b in zip(square.samples[4::80], sound.samples[2::40], strict=True))


# -- for the telephone --------------------------------------------------------------------------------


@pytest.mark.parametrize("loudness", [60, 500, 3000, 15000])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_faint_and_loud_come_out_equally_loud(speech, loudness, rate):
    sound = audio.telephone(speech(rate, loudness), TARGET, CEILING)
    assert lufs(sound) == pytest.approx(TARGET, abs=0.3)
    assert sound.peak <= TOP


@pytest.mark.parametrize("target", [-22, -18, -15])
def test_loudness_is_met_in_spite_of_the_ceiling(target, tone):
    """A short word, much louder than the rest, is bent, and the rest comes up."""
    loud = audio.fade(tone(440, seconds=0.1, loudness=30000), 5, 5)
    soft = tone(440, seconds=1, loudness=9000)
    sound = audio.telephone(audio.join(soft, loud, soft), target, CEILING)
    assert lufs(sound) == pytest.approx(target, abs=0.3)
    assert sound.peak <= TOP


def test_the_nearest_is_taken_where_a_gate_makes_the_loudness_jump(tone):
    """Bent down, one shout no longer shuts the gate for the rest: no gain gives just the target."""
    shout = audio.fade(tone(440, seconds=0.1, loudness=30000), 5, 5)
    soft = tone(440, seconds=1, loudness=1500)
    sound = audio.telephone(audio.join(soft, shout, soft), -14, CEILING)
    assert lufs(sound) == pytest.approx(-14, abs=0.5)
    assert sound.peak <= TOP


def test_a_target_out_of_reach_is_not_squashed_for(tone):
    """After 12 dB a tone that cannot be louder is left: more would make it a square, and hardly louder."""
    sound = audio.telephone(tone(440), -6.3, CEILING)
    assert sound.peak <= TOP
    assert -7 < lufs(sound) < -6.7


def test_what_stays_below_the_ceiling_is_not_bent(tone):
    """A tone comes out as that tone, without overtones."""
    made = audio.telephone(tone(1000), -24, CEILING)
    assert level(made, 3000) < level(made) - 60


@pytest.mark.parametrize(("pitch", "down"), [(50, 14), (60, 11), (300, 0), (1000, 0), (3000, 0)])
def test_hum_is_taken_out_and_speech_is_not(pitch, down, tone):
    """At the same gain: both go in together, a tone of 1 kHz tells it."""
    both = audio.telephone(added(tone(pitch), tone(1200)), TARGET, CEILING)
    assert level(both, 1200) - level(both, pitch) == pytest.approx(down, abs=1.5)


@pytest.mark.parametrize("offset", [-2000, 5000])
def test_an_offset_is_gone_from_the_first_sample_on(offset, tone):
    shifted = Sound(array("h", [sample + offset for sample in tone(440).samples]))
    sound = audio.telephone(shifted, TARGET, CEILING)
    assert abs(sound.samples[0]) < 100
    assert abs(sum(sound.samples[2000:]) / 6000) < 5


def test_presence_lifts_the_consonants_alone(tone):
    both = added(tone(200), tone(3000))
    plain, lifted = (audio.telephone(both, -24, CEILING, presence) for presence in (0.0, 6.0))
    assert level(plain, 3000) - level(plain, 200) == pytest.approx(1, abs=0.8), "the hum filter takes 0.5"
    assert level(lifted, 3000) - level(lifted, 200) == pytest.approx(6, abs=0.8)
    assert lufs(lifted) == pytest.approx(-24, abs=0.3)


@pytest.mark.parametrize("length", [0, 1, 8000])
def test_silence_is_not_turned_up(length):
    """Nor is an offset alone a sound."""
    for sample in (0, 700):
        made = audio.telephone(Sound(array("h", [sample] * length)), TARGET, CEILING)
        assert made.samples == array("h", bytes(2 * length))


# -- trimming -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_trim_leaves_the_margins_that_are_asked_for(rate, tone):
    """Longer margins are cut, shorter ones filled up."""
    body = tone(440, rate, seconds=0.5)
    for sound in (audio.join(audio.silence(500, rate), body, audio.silence(700, rate)), body):
        made = audio.trim(sound, 30, 100)
        assert made.duration_ms == pytest.approx(630, abs=10)
        assert audio.margins(made) == pytest.approx((30, 100), abs=6)
        assert made.samples[0] == made.samples[-1] == 0
        assert made.rate == rate


def test_trim_of_silence_is_the_margins_alone():
    assert audio.trim(audio.silence(500), 30, 100) == audio.silence(130)


def test_trimmed_ends_do_not_click(tone):
    """Cut out of something that is not quite silence, the ends rise from nothing and fall to it."""
    floor = Sound(array("h", [20] * 4000))
    made = audio.trim(audio.join(floor, tone(440, seconds=0.5), floor), 30, 100)
    assert made.samples[0] == made.samples[-1] == 0
    assert made.samples[100] == made.samples[-200] == 20


def test_trim_keeps_a_faint_consonant(tone):
    """The "th" of thirty is 40 dB fainter than its vowel."""
    faint = tone(3000, seconds=0.08, loudness=80)
    sound = audio.trim(audio.join(audio.silence(500), faint, tone(440, seconds=0.5)), 10, 50)
    assert sound.duration_ms == pytest.approx(640, abs=10)


def test_faded_ends_rise_from_nothing_and_fall_to_it():
    flat = Sound(array("h", [10000] * 800))
    samples = audio.fade(flat, 10, 20).samples
    assert samples[0] == samples[-1] == 0
    assert samples[40] == samples[-81] == 5000
    assert samples[80:640] == flat.samples[80:640]
    assert audio.fade(flat, 500, 500).peak <= 10000


# -- what is measured ---------------------------------------------------------------------------------


def test_margins_and_gaps_are_found(tone):
    word = tone(440, seconds=0.2)
    sound = audio.join(
        audio.silence(120), word, audio.silence(300), word, audio.silence(45), word, audio.silence(60)
    )
    assert audio.margins(sound) == pytest.approx((120, 60), abs=5)
    assert audio.gaps(sound) == pytest.approx([300, 45], abs=10)


def test_silence_is_one_margin_without_a_gap():
    assert audio.margins(audio.silence(200)) == (200, 0)
    assert audio.gaps(audio.silence(200)) == []
    assert audio.margins(Sound(array("h"))) == (0, 0)


def test_a_click_is_the_largest_step(tone):
    smooth = tone(440)
    clicking = Sound(smooth.samples[:])
    clicking.samples[4000] = -32768
    assert audio.largest_step(smooth) == pytest.approx(10000 * 2 * math.pi * 440 / 8000, rel=0.01)
    assert audio.largest_step(clicking) > 22000
    assert audio.largest_step(Sound(array("h", [32767, -32768]))) == 65535
    assert audio.largest_step(Sound(array("h", [5]))) == 0


@pytest.mark.parametrize("rate", [8000, 16000])
def test_hum_is_told_from_speech(rate, speech, tone):
    """50 Hz, 20 dB below a voice."""
    voice = speech(rate)
    hum = tone(50, rate, len(voice.samples) / rate, 10 ** ((level(voice) - 20) / 20) * math.sqrt(2))
    assert audio.out_of_band_db(voice) < -35
    assert audio.out_of_band_db(added(voice, hum)) == pytest.approx(-20.5, abs=1)


@pytest.mark.parametrize("below", [20, 30, 35])
def test_hiss_is_heard_in_the_pauses(below, speech):
    voice = speech()
    hiss = noise(len(voice.samples) / voice.rate, 10 ** ((level(voice) - below) / 20))
    assert audio.noise_db(voice) < -70
    assert audio.noise_db(added(voice, hiss)) == pytest.approx(-below, abs=4)


def test_a_muffled_recording_is_told_from_speech(speech):
    """One that ends at 700 Hz: made here by leaving the upper tone out."""
    voice = speech()
    spectrum = np.fft.rfft(np.array(voice.samples, dtype=float))
    pitches = np.fft.rfftfreq(len(voice.samples), 1 / voice.rate)
    low = np.fft.irfft(spectrum / np.sqrt(1 + (pitches / 700) ** 8), len(voice.samples))
    muffled = Sound(array("h", np.rint(low).astype(int).tolist()))
    assert audio.muffled_db(voice) > -15
    assert audio.muffled_db(muffled) < -30


@pytest.mark.parametrize("measure", [audio.out_of_band_db, audio.muffled_db, audio.noise_db])
def test_silence_measures_nothing(measure):
    assert measure(audio.silence(100)) == measure(Sound(array("h"))) == -math.inf
