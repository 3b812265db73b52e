"""What the tests of the sound files share."""

import math
import os
import shutil
from array import array

import pytest

from ivr_agi import sounds
from ivr_agi.sounds.audio import Sound
from ivr_agi.sounds.engines import SpeechError
from ivr_agi.sounds.engines.espeak import Espeak


@pytest.fixture(scope="session")
def engine():
    """The speech engine's version. Without it a test may be skipped on a desk, but not in CI."""
    try:
        return Espeak("fa", 175, 45, 1).version()
    except SpeechError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped sounds, to be damaged."""
    return shutil.copytree(sounds.shipped(), tmp_path / "sounds")


@pytest.fixture
def tone():
    """Makes a tone: pitch in Hz, rate, seconds, peak."""

    def make(pitch, rate=8000, seconds=1.0, loudness=10_000):
        turn = 2 * math.pi * pitch / rate
        return Sound(
            array("h", [round(loudness * math.sin(turn * i)) for i in range(round(rate * seconds))]), rate
        )

    return make
