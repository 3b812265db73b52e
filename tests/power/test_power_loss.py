"""The power fails, at every moment: what the journal has promised is there when it is back.

The product's own Payments pays on a journal whose every file operation is recorded (recorder.c); the record is
replayed up to every cut, onto disks that lose, keep and tear what was not fsynced (disk.py); and the
product starts on each (promises.py). The long form, with every write cut and more disks:
`python tests/power/long_power_loss.py`.

A seed chooses the disks: it is printed, and POWER_SEED=… chooses the same ones for the same record.
"""

import os
import secrets
import subprocess
import tempfile
from pathlib import Path

import old_journal
import pytest
from cuts import Examination, disk_at, in_memory, just_before_the_end
from debian import program
from payers import ARRANGEMENTS, PLANS
from promises import restart
from recording import Kind, build, read, record

from ivr_agi.journal import AttemptState, owner

SEED = int(os.environ.get("POWER_SEED") or secrets.randbelow(2**32))
ROUNDS = 2
pytestmark = pytest.mark.sqlite("its files")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    return build(program("gcc"), tmp_path_factory.mktemp("recorder"))


@pytest.fixture(scope="module")
def paid(recorder, tmp_path_factory):
    """A folder with a journal and its record for each arrangement; who paid is gone."""
    folder = tmp_path_factory.mktemp("paid")
    record(recorder, "pay", folder, SEED, ROUNDS, *ARRANGEMENTS)
    return folder


@pytest.fixture
def place():
    """Where disks are started on: in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        yield Path(folder) / "disk"


def of(folder, name="ours"):
    return read(folder / f"{name}.record")


def kept(tally, where):
    """No promise was broken on any disk; if one was, where to find that disk again."""
    print(f"seed {SEED}: {tally}")  # noqa: T201 - pytest shows it with a failure
    for failure in tally.failures[:3]:
        print(f"{where}.record, cut {failure.cut}, disk {failure.state}: {'; '.join(failure.sentences)}")  # noqa: T201
    return not tally.failures


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_the_record_misses_nothing(paid, name):
    """Replayed to its end, with all that was written, the record gives the very files that are there."""
    events = of(paid, name)
    files, _ = disk_at(events, len(events), "everything", SEED)
    assert files == {file.name: file.read_bytes() for file in (paid / name).iterdir()}


def test_every_outcome_is_in_the_record(paid):
    """Payments end in each way there is, several of them at once."""
    marks = [event.mark() for event in of(paid) if event.kind is Kind.MARK]
    acked = {mark["acked"] for mark in marks if "acked" in mark}
    assert acked == set(AttemptState) - {"resolved"}
    assert {mark["heard"] for mark in marks if "heard" in mark} == {"paid", "declined", "failed", "unknown"}
    assert len({mark["charged"] for mark in marks if "charged" in mark}) == 5 * ROUNDS
    assert len({mark["attempt"] for mark in marks if "attempt" in mark}) == (len(PLANS) + 1) * ROUNDS


async def test_no_promise_is_broken(paid, place):
    """Whatever the disk has lost: what was acknowledged is there, what may be charged is never called failed."""
    examination = Examination(of(paid), place, seed=SEED, randoms=1, writes=0.02)
    tally = await examination.run()
    assert kept(tally, paid / "ours")
    assert tally.states > 150


async def test_the_power_fails_again_during_the_start(paid, recorder, place, tmp_path):
    """A start that is cut off itself, while it rolls back and settles: the next one still keeps every promise."""
    events = of(paid)
    disks = [(cut, *disk_at(events, cut, "everything", SEED)) for cut in just_before_the_end(events, 2, SEED)]
    folders = [tmp_path / str(cut) for cut, *_ in disks]
    for folder, (_, files, _promises) in zip(folders, disks, strict=True):
        lay(files, folder)
    record(recorder, "start", *folders)
    for folder, (_, files, promises) in zip(folders, disks, strict=True):
        assert set(files) == {"j.db", "j.db-journal"}
        examination = Examination(
            read(folder.with_suffix(".record")),
            place,
            seed=SEED,
            randoms=1,
            writes=0.1,
            files=files,
            promises=promises,
        )
        assert kept(await examination.run(), folder)


async def test_the_power_fails_during_an_upgrade(recorder, place, tmp_path):
    """A journal of the first release is brought up to date: no cut loses an attempt, or its outcome."""
    folder = tmp_path / "old"
    folder.mkdir()
    promises = old_journal.make(folder / "j.db", gone())
    files = {"j.db": (folder / "j.db").read_bytes()}
    record(recorder, "start", folder)
    examination = Examination(
        read(tmp_path / "old.record"), place, seed=SEED, randoms=1, writes=0.1, files=files, promises=promises
    )
    assert kept(await examination.run(), folder)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("off", "its reservation was acknowledged, and it is gone"),
        ("normal", "its reservation was acknowledged, and it is gone"),
        ("full", "its reservation was acknowledged, and it is gone"),
        ("posted-first", "is failed (acknowledged: otp_sent; posted: True"),
    ],
)
async def test_what_must_not_hold(paid, place, name, sentence):
    """With less than EXTRA, or with `pay` leaving before `sent` is written, the same cuts do find it."""
    tally = await Examination(of(paid, name), place, seed=SEED, randoms=0, writes=0).run(enough=1)
    print(f"seed {SEED}: {tally}")  # noqa: T201
    assert sentence in tally.failures[0].sentences[0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("full", "was charged, and is failed"),
        ("normal", "was charged, and is failed"),
        ("off", "its reservation was acknowledged, and it is gone"),
    ],
)
async def test_a_charged_card_would_be_called_failed(paid, place, name, sentence):
    """What less than EXTRA costs: when `pay` has just left, `sent` can be gone, and the start says `failed`."""
    events = of(paid, name)
    said = []
    for cut, event in enumerate(events, 1):
        if event.kind is Kind.MARK and "charged" in event.mark():
            files, promises = disk_at(events, cut, "nothing", SEED)
            said += promises.broken(await restart(files, place))
    assert any(sentence in words for words in said)


def lay(files, folder):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def gone():
    """The name of a process that is no more."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return owner.this_process().rsplit("/", 2)[0] + f"/{ended.pid}/1"
