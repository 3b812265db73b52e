"""Fuzz one target, led by coverage: `python tests/fuzz/run.py TARGET --seconds N [--keep]`; `all` for one after the other.

Goes on after a violation: the first input of each kind is put into found/TARGET/KIND, and replayed from then on by
test_fuzz_replay.py. --keep: afterwards the corpus is made anew, of the inputs that are needed for what was covered.
Needs `atheris`, which has wheels for Linux alone; without it the corpus is still replayed.
"""

from __future__ import annotations

import argparse
import collections
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("answers", "http", "order", "wire", "environment", "command", "settlement")
INSTRUMENTED = ["ivr_agi", "httpx", "httpcore", "h11"]
FLAGS = [
    "-max_len=2048",
    "-timeout=20",
    "-rss_limit_mb=1024",
    "-print_final_stats=1",
    f"-dict={HERE / 'words.dict'}",
]
LARGEST = 1500  # bytes of an input that is kept
MOST = 35  # inputs that are kept for a target


def fuzz(name: str, flags: list[str]) -> None:
    """In a process of its own: it ends with libFuzzer."""
    import atheris  # noqa: PLC0415 - the rest of this script does without it

    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=INSTRUMENTED):
        import structlog  # noqa: PLC0415
        import targets  # noqa: PLC0415
    structlog.configure(processors=[_drop])
    target = targets.TARGETS[name]
    seen: collections.Counter[str] = collections.Counter()

    def try_one(given: bytes) -> None:
        try:
            target(given)
        except targets.oracles.Violation as violation:
            seen[violation.kind] += 1
            if seen[violation.kind] == 1:
                _save(name, violation.kind, given)

    # libFuzzer starts itself again to merge a corpus, by this word and a shell.
    again = shlex.join([sys.executable, str(Path(__file__).resolve()), name, "--inner"])
    atheris.Setup([again, *flags], try_one)
    atheris.Fuzz()


def _drop(*_entry: object) -> str:
    import structlog  # noqa: PLC0415

    raise structlog.DropEvent


def _save(name: str, kind: str, given: bytes) -> None:
    path = HERE / "found" / name / kind
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(given)
        print(f"FOUND {name}: {kind}", file=sys.stderr, flush=True)  # noqa: T201 - a program's word


def _run(name: str, flags: list[str]) -> str:
    """Run this script's inner side; returns what libFuzzer has said."""
    command = [sys.executable, __file__, name, "--inner", *flags]
    ran = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if ran.returncode:
        sys.stderr.write(ran.stderr[-4000:])
        raise SystemExit(f"{name}: the fuzzer has ended with {ran.returncode}")
    return ran.stderr


def seed(name: str, folder: Path) -> None:
    """Write what is genuine as a corpus to begin with."""
    sys.path.insert(0, str(HERE))
    from seeds import seeds  # noqa: PLC0415

    for number, given in enumerate(seeds()[name]):
        (folder / f"seed-{number:02}").write_bytes(given)


def run(name: str, seconds: int, *, keep: bool) -> None:
    """Fuzz one target for so long and say how it went."""
    corpus = HERE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as room:
        work, seeded = Path(room, "work"), Path(room, "seeds")
        work.mkdir()
        seeded.mkdir()
        seed(name, seeded)
        began = time.monotonic()
        said = _run(name, [*FLAGS, f"-max_total_time={seconds}", str(work), str(corpus), str(seeded)])
        took = time.monotonic() - began
        covered = re.findall(r"cov: (\d+) ft: (\d+)", said)
        inited = re.search(r"INITED cov: (\d+) ft: (\d+)", said)
        units = re.search(r"number_of_executed_units: (\d+)", said)
        found = re.findall(r"FOUND .*", said)
        print(  # noqa: T201 - a program's word
            f"{name}: {units[1] if units else '?'} executions in {took:.0f} s; coverage {inited.groups() if inited else '?'}"
            f" -> {covered[-1] if covered else '?'} (edges, features); new kinds: {found or 'none'}",
            flush=True,
        )
        if keep:
            _keep(name, corpus, [work, corpus, seeded], Path(room, "kept"))


def _keep(name: str, corpus: Path, folders: list[Path], kept: Path) -> None:
    """Put into the corpus the smallest inputs that cover what all of them cover, as far as there is room."""
    kept.mkdir()
    _run(name, ["-merge=1", f"-max_len={LARGEST}", str(kept), *map(str, folders)])
    shutil.rmtree(corpus)
    corpus.mkdir()
    inputs = sorted(kept.iterdir(), key=lambda one: one.stat().st_size)
    step = max(1, len(inputs) / MOST)  # of all sizes
    for number in range(min(MOST, len(inputs))):
        chosen = inputs[int(number * step)]
        (corpus / chosen.name[:12]).write_bytes(chosen.read_bytes())


def main() -> None:
    """Read the command line."""
    if sys.argv[2:3] == ["--inner"]:
        fuzz(sys.argv[1], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    for name in NAMES if given.target == "all" else [given.target]:
        run(name, given.seconds, keep=given.keep)


if __name__ == "__main__":
    main()
