"""The disk that the power-loss tests replay onto: what may be lost may be lost, what was fsynced never."""

import pytest
from disk import Disk, NotModelledError, dice
from recording import Event, Kind

JOURNAL, OTHER = 7, 8
A, B = b"a" * 512, b"b" * 512


def event(kind, inode=JOURNAL, *, name="", offset=0, body=b""):
    return Event(kind, inode, offset, name, body)


def create(inode=JOURNAL, name="j"):
    return event(Kind.CREATE, inode, name=name)


def write(body, offset=0, inode=JOURNAL):
    return event(Kind.WRITE, inode, offset=offset, body=body)


SYNC, SYNC_FOLDER = event(Kind.SYNC), event(Kind.SYNC_FOLDER, 1)
UNLINK = event(Kind.UNLINK, name="j")


def found(events, files=None, randoms=300):
    """Each disk that there may be after these events."""
    disk = Disk(files)
    for each in events:
        disk.apply(each)
    kinds = (*Disk.STATES, *map(str, range(randoms)))
    return [disk.state(kind, dice(kind)) for kind in kinds]


def contents(events, files=None):
    return {state.get("j") for state in found(events, files)}


def test_what_was_fsynced_is_there():
    """A file that was fsynced, in a folder that was fsynced, is on every disk."""
    assert contents([create(), write(A), SYNC, SYNC_FOLDER]) == {A}


def test_a_name_waits_for_its_folder():
    """An fsync of the file is none of its name."""
    assert contents([create(), write(A), SYNC]) == {None, A}


def test_content_waits_for_its_file():
    """A name that is there may stand for nothing, for zeros, or for anything."""
    states = contents([create(), SYNC_FOLDER, write(A)])
    assert {b"", A, bytes(512)} < states
    assert any(state not in (b"", A, bytes(512)) for state in states)
    assert {len(state) for state in states} == {0, 512}


def test_garbage_only_where_the_file_has_grown():
    """A sector that was there before holds what it held, or what was written: nothing else."""
    assert contents([event(Kind.OPEN, name="j"), write(B)], {"j": A}) == {A, B}


def test_sectors_are_kept_or_lost_apart():
    """Of one write, any of its sectors may be on the disk."""
    states = contents([event(Kind.OPEN, name="j"), write(B + B)], {"j": A + A})
    assert states == {A + A, A + B, B + A, B + B}


def test_pages_may_be_whole():
    """A disk may also write pages at once: each version of one is found whole, not in sectors alone."""
    versions = [letter * 4096 for letter in (b"b", b"c", b"d", b"e")]
    states = contents([event(Kind.OPEN, name="j"), *map(write, versions)], {"j": b"a" * 4096})
    assert set(versions) < states
    assert any(len(set(state)) > 1 for state in states)


def test_an_earlier_write_may_be_all_there_is():
    """Of two writes to one place, the first one may be what the disk has."""
    states = contents([event(Kind.OPEN, name="j"), write(B), write(b"c" * 512)], {"j": A})
    assert states == {A, B, b"c" * 512}


def test_a_part_of_a_sector():
    """What a write leaves of a sector stays."""
    states = contents([event(Kind.OPEN, name="j"), write(b"xy", 10)], {"j": A})
    assert states == {A, A[:10] + b"xy" + A[12:]}


def test_truncation_waits_too():
    """A file that was cut short may still have its old size, and what it then had."""
    short = event(Kind.TRUNCATE, offset=512)
    assert contents([event(Kind.OPEN, name="j"), short], {"j": A + B}) == {A, A + B, A + bytes(512)}
    assert contents([event(Kind.OPEN, name="j"), short, SYNC], {"j": A + B}) == {A}


def test_a_removal_waits_for_the_folder():
    """What was removed may be back, with all that it had."""
    made = [create(), write(A), SYNC, SYNC_FOLDER]
    assert contents([*made, UNLINK]) == {None, A}
    assert contents([*made, UNLINK, SYNC_FOLDER]) == {None}


def test_a_file_made_anew():
    """Where one was removed and another made, either may be found, or neither."""
    again = [UNLINK, create(OTHER), write(B, inode=OTHER), event(Kind.SYNC, OTHER)]
    assert contents([create(), write(A), SYNC, SYNC_FOLDER, *again]) == {None, A, B}


def test_names_are_kept_or_lost_apart():
    """Of two names made, either may be there without the other."""
    states = found([create(), create(OTHER, "k")])
    assert {tuple(sorted(state)) for state in states} == {(), ("j",), ("k",), ("j", "k")}


def test_the_plain_states():
    """Nothing, everything, and either half of it."""
    plain = found([create(), write(A)], randoms=0)
    assert plain == [{}, {"j": A}, {"j": b""}, {}]


@pytest.mark.parametrize(
    "strange", [event(Kind.NOT_MODELLED, name="rename"), UNLINK, event(Kind.OPEN, name="never-made")]
)
def test_what_it_does_not_know_is_refused(strange):
    """No verdict is built on a record that it does not understand."""
    with pytest.raises(NotModelledError):
        Disk().apply(strange)
