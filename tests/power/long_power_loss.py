"""The long form of test_power_loss.py: each write cut, more disks, more starts that are cut off themselves.

    python tests/power/long_power_loss.py [--seed N] [--rounds N] [--randoms N] [--writes PART] [--starts N]

It needs gcc; with strace there, it also compares the record with what strace has seen. Ends with 1 if a
promise was broken, or if a control (a journal kept worse, or `pay` leaving too early) was not found
out. It says where the records are, and how to lay out a disk again:

    python tests/power/long_power_loss.py --seed N --record FILE --cut N --disk KIND --into FOLDER
"""

import argparse
import asyncio
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import strace
import structlog
from cuts import Examination, disk_at, in_memory, just_before_the_end
from payers import ARRANGEMENTS
from recording import build, read, record


def main():
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--rounds", type=int, default=3, help="how often each outcome is paid to")
    parser.add_argument(
        "--randoms", type=int, default=3, help="disks at each cut, besides the four plain ones"
    )
    parser.add_argument("--writes", type=float, default=1.0, help="which part of the writes is cut after")
    parser.add_argument("--starts", type=int, default=10, help="starts that are cut off themselves")
    parser.add_argument("--record", type=Path, help="lay out one disk of this record")
    parser.add_argument("--cut", type=int)
    parser.add_argument("--disk")
    parser.add_argument("--into", type=Path)
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if chosen.record:
        return lay_out(chosen)
    folder = Path(tempfile.mkdtemp(prefix="power-loss-"))
    say(f"seed {chosen.seed}, records in {folder}")
    fine = asyncio.run(torture(chosen, folder))
    if fine:
        shutil.rmtree(folder)
    say(
        "every promise was kept, and every control found out"
        if fine
        else f"NOT FINE: see above, and {folder}"
    )
    return 0 if fine else 1


def lay_out(chosen):
    """Write one disk's files, and say what is promised of them."""
    files, promises = disk_at(read(chosen.record), chosen.cut, chosen.disk, chosen.seed)
    chosen.into.mkdir()
    for name, content in files.items():
        (chosen.into / name).write_bytes(content)
    for attempt, promised in promises.attempts.items():
        say(f"{attempt}: {promised}")
    return 0


async def torture(chosen, folder):
    """All of it; returns whether all is well."""
    library = build("gcc", folder)
    record(library, "pay", folder, chosen.seed, chosen.rounds, *ARRANGEMENTS)
    events = read(folder / "ours.record")
    with tempfile.TemporaryDirectory(dir=in_memory()) as memory:
        place = Path(memory) / "disk"
        fine = [compare_with_strace(library, folder, chosen.seed)]
        ours = Examination(events, place, seed=chosen.seed, randoms=chosen.randoms, writes=chosen.writes)
        fine.append(not await told(ours, folder / "ours"))
        fine.append(not await starts(chosen, library, folder, events, place))
        for name in ARRANGEMENTS.keys() - {"ours"}:
            control = Examination(
                read(folder / f"{name}.record"), place, seed=chosen.seed, randoms=chosen.randoms, writes=0.05
            )
            fine.append(bool(await told(control, folder / name, meant=True)))
    return all(fine)


def compare_with_strace(library, folder, seed):
    """Whether the record has each call that strace has seen; nothing is compared where strace is not."""
    if not shutil.which("strace"):
        say("no strace: the record is not compared with it")
        return True
    traced = folder / "traced"
    traced.mkdir()
    record(library, "pay", traced, seed, 1, "ours", under=strace.command(traced / "strace"))
    counted = strace.seen(traced / "strace", traced / "ours")
    said = strace.differences(read(traced / "ours.record"), counted)
    say(f"strace has seen {dict(counted)}: {'; '.join(said) or 'all of it is in the record'}")
    return not said


async def starts(chosen, library, folder, events, place):
    """Starts on disks on which a commit was nearly made, themselves cut off; returns the failures."""
    failures = []
    for cut in just_before_the_end(events, chosen.starts, chosen.seed):
        files, promises = disk_at(events, cut, "everything", chosen.seed)
        start = folder / f"start-{cut}"
        start.mkdir()
        for name, content in files.items():
            (start / name).write_bytes(content)
        record(library, "start", start)
        again = Examination(
            read(start.with_suffix(".record")),
            place,
            seed=chosen.seed,
            randoms=chosen.randoms,
            writes=chosen.writes,
            files=files,
            promises=promises,
        )
        failures += await told(again, start)
    return failures


async def told(examination, where, *, meant=False):
    """Run one, and say what came of it; returns the failures. meant: they are there on purpose."""
    begun = time.monotonic()
    tally = await examination.run()
    say(f"{where.name}: {tally}; {len(tally.failures)} break a promise; {time.monotonic() - begun:.0f} s")
    sentences = Counter(re.sub(r"\d+", "N", words) for found in tally.failures for words in found.sentences)
    for words, number in sentences.most_common(8):
        say(f"    {number} times: {words}")
    for found in tally.failures[: 0 if meant else 3]:
        say(f"    --record {where}.record --cut {found.cut} --disk {found.state}: {found.sentences[0]}")
    return tally.failures


def say(words):
    """Tell whoever waits."""
    print(words, flush=True)  # noqa: T201 - a program for the terminal


if __name__ == "__main__":
    sys.exit(main())
