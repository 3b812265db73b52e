"""The process above, with small programs in place of workers: who is replaced, when, and who is not."""

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from line import until
from prometheus_client.mmap_dict import MmapedDict

from ivr_agi.notify import Notify
from ivr_agi.workers import supervisor
from ivr_agi.workers.supervisor import Supervisor

# What a worker does for the one above: it says that it is ready, and ends on SIGTERM. `HOW` has one word for each start.
WORKER = """
import json, os, signal, socket, sys, time
slot, front, folder, *_ = json.loads(os.environ["_IVR_AGI_PLACE"])
how = sys.argv[1]
with open(how) as words:
    word = words.read().split()
done = os.path.join(os.path.dirname(how), "starts")
with open(done, "a") as starts:
    starts.write(f"{'front' if front else 'calls'} {os.getpid()} {slot}\\n")
word = word[0] if word and not front else "works"
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
signal.signal(signal.SIGTERM, signal.SIG_IGN if word == "lingers" else lambda *_: sys.exit(0))
if word == "fails":
    sys.exit(3)
ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if word != "silent":
    ear.sendto(b"READY=1\\nSTATUS=well", os.environ["NOTIFY_SOCKET"])
if word == "dies":
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
while True:
    if word != "hangs":
        ear.sendto(b"WATCHDOG=1", os.environ["NOTIFY_SOCKET"])
    time.sleep(0.05)
"""


class Above:
    """A supervisor at work, and what its workers are told to do from their next start on."""

    def __init__(self, folder, workers):
        self.how = folder / "how"
        self.opened = []
        self.starts_file = folder / "starts"
        self.how.write_text("works")
        (folder / "worker.py").write_text(WORKER)
        self.run = Supervisor(
            [[] for _ in range(workers)],
            [],
            self.listen,
            Notify({}),
            max_calls=5,
            drain_seconds=1,
            address="here",
            command=(sys.executable, "-S", str(folder / "worker.py"), str(self.how)),
        )

    async def listen(self):
        """Sockets anew, for a worker whose own were closed."""
        self.opened.append(socket.create_server(("127.0.0.1", 0), reuse_port=True))
        return self.opened[-1:]

    def starts(self, part="calls"):
        """The pids of those that were started, in order."""
        lines = self.starts_file.read_text().split("\n") if self.starts_file.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(part)]

    @property
    def state(self):
        return json.loads((self.run._folder / "state.json").read_text())


@asynccontextmanager
async def above(folder, workers=2):
    """A supervisor that runs, and ends as SIGTERM ends it."""
    ours = Above(folder, workers)
    task = asyncio.create_task(ours.run.run())
    try:
        await until(lambda: ours.run._folder.exists() and (ours.run._folder / "state.json").exists())
        await until(lambda: ours.state["working"] == workers)
        yield ours
    finally:
        ours.run._end()
        assert await asyncio.wait_for(task, 20) == 0
        for each in ours.opened:
            each.close()
        assert not ours.run._folder.exists()


def living(pids):
    """Those of them that are there."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture
def said():
    """What is logged."""
    with structlog.testing.capture_logs() as lines:
        yield lambda event: [line for line in lines if line["event"] == event]


async def test_all_are_started_and_ended(tmp_path, said):
    """N workers and the front; at the end none is left, nor the folder."""
    async with above(tmp_path) as ours:
        pids = ours.starts() + ours.starts("front")
        assert len(pids) == 3
        assert sorted(ours.state["pids"]) == sorted(pids)
        await until(lambda: said("workers.ready"))
    assert not living(pids)


@pytest.mark.parametrize("part", ["calls", "front"])
async def test_one_that_dies_is_replaced(tmp_path, said, part):
    """Whichever part it had; the others are not touched."""
    async with above(tmp_path) as ours:
        before = set(ours.state["pids"])
        os.kill(ours.starts(part)[0], signal.SIGKILL)
        await until(lambda: said("worker.replaced"))
        after = set(ours.state["pids"])
        assert len(after) == 3
        assert before - after == {ours.starts(part)[0]}
        assert said("worker.died")[0]["status"] == -signal.SIGKILL


async def test_what_a_dead_worker_counted_is_kept(tmp_path, said):
    """Its counts stay, for the next one to go on from; what it had at that moment does not."""
    async with above(tmp_path) as ours:
        children = {child.process.pid: child.place for child in ours.run._children.values()}
        place = children[ours.starts()[0]]
        for name in ("counter", "gauge_livesum"):
            counts = MmapedDict(str(place.metrics / f"{name}_{place.slot}.db"))
            counts.write_value("{}", 7, 0)
            counts.close()
        os.kill(ours.starts()[0], signal.SIGKILL)
        await until(lambda: said("worker.replaced"))
        assert [file.name for file in place.metrics.iterdir()] == [f"counter_{place.slot}.db"]


async def test_one_that_keeps_dying_is_started_later_and_later(tmp_path, said, monkeypatch):
    """So that a fault costs no more than a start now and then; once it is mended, all is well again."""
    monkeypatch.setattr(supervisor, "LONGEST_WAIT", 0.2)
    async with above(tmp_path, workers=1) as ours:
        ours.how.write_text("fails")
        os.kill(ours.starts()[0], signal.SIGKILL)
        await until(lambda: len(said("worker.not_replaced")) >= 3)
        assert {line["status"] for line in said("worker.not_replaced")} == {3}
        assert [line["again_in"] for line in said("worker.not_replaced")][:3] == [0.2, 0.2, 0.2]
        assert ours.state["working"] == 0
        ours.how.write_text("works")
        await until(lambda: said("worker.replaced"))
        assert ours.state["working"] == 1


async def test_calls_do_not_wait_for_one_that_cannot_be_replaced(tmp_path, said, monkeypatch):
    """Its share of the calls would be taken by the kernel, and by nobody else: its sockets are closed meanwhile."""
    monkeypatch.setattr(supervisor, "LONGEST_WAIT", 0.2)
    async with above(tmp_path, workers=1) as ours:
        with socket.create_server(("127.0.0.1", 0), reuse_port=True) as its_own:
            ours.run._sockets["0"] = [its_own]
            ours.how.write_text("fails")
            os.kill(ours.starts()[0], signal.SIGKILL)
            await until(lambda: said("worker.not_replaced"))
            assert its_own.fileno() == -1
        ours.how.write_text("works")
        await until(lambda: said("worker.replaced"))
        assert ours.run._sockets["0"] == ours.opened[-1:]


async def test_reloads_in_quick_succession(tmp_path, said):
    """There is room for some generations whose calls have not ended yet; then a reload has to wait for them."""
    async with above(tmp_path, workers=1) as ours:
        ours.how.write_text("lingers")
        while not said("workers.still_draining"):
            assert len(said("workers.reloaded")) < 5
            ours.run._reload()
            await ours.run._reloading
        assert said("workers.reloaded")
        assert ours.state["working"] == 1
        ours.run._end()  # and once more, at the end of this: it hurries them


async def test_told_to_end_while_it_starts(tmp_path, said):
    """SIGTERM before all are ready is an end like any other."""
    ours = Above(tmp_path, 1)
    ours.how.write_text("silent")
    running = asyncio.create_task(ours.run.run())
    await until(lambda: len(ours.starts() + ours.starts("front")) == 2)
    ours.run._end()
    assert await asyncio.wait_for(running, 20) == 0
    assert not said("workers.not_started")
    assert not living(ours.starts() + ours.starts("front"))


async def test_one_whose_loop_does_not_turn_is_killed(tmp_path, said, monkeypatch):
    """It is ready, and then says nothing more: callers would hear nothing. Another takes its place."""
    monkeypatch.setattr(supervisor, "WATCHDOG_SECONDS", 0.5)
    async with above(tmp_path, workers=1) as ours:
        (pid,) = ours.starts()
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: said("worker.replaced"))
        assert said("worker.hangs")[0]["pid"] == pid
        assert not living([pid])


async def test_reload(tmp_path, said):
    """All are new, and the old ones gone once they have ended."""
    async with above(tmp_path) as ours:
        old = set(ours.state["pids"])
        ours.run._reload()
        await until(lambda: said("workers.reloaded"))
        await until(lambda: len(ours.state["pids"]) == 3)
        assert not old & set(ours.state["pids"])
        assert ours.state["working"] == 2


async def test_a_reload_that_fails_leaves_the_old_ones(tmp_path, said):
    """Settings that are wrong, code that does not start: not one of the new ones stays."""
    async with above(tmp_path) as ours:
        old = set(ours.state["pids"])
        ours.how.write_text("fails")
        ours.run._reload()
        await until(lambda: said("workers.not_reloaded"))
        await until(lambda: set(ours.state["pids"]) == old)
        ours.how.write_text("works")
        ours.run._reload()
        await until(lambda: said("workers.reloaded"))


async def test_one_reload_at_a_time(tmp_path, said):
    """A second SIGHUP in the middle of the first changes nothing, and says so."""
    async with above(tmp_path) as ours:
        ours.run._reload()
        ours.run._reload()
        await until(lambda: said("workers.reloaded"))
        assert len(said("workers.still_starting")) == 1
        assert len(ours.starts()) == 4


async def test_a_start_that_fails(tmp_path, said):
    """With its status, and nobody left behind."""
    ours = Above(tmp_path, 2)
    ours.how.write_text("fails")
    assert await asyncio.wait_for(ours.run.run(), 20) == 3
    assert said("workers.not_started")
    assert not living(ours.starts() + ours.starts("front"))
