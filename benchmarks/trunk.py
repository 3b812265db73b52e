"""Real calls through a real Asterisk, more and more at once, until it has no more: its CPU and our server's for the same calls.

    trunk.py [--levels 10 40 …] [--patient] [--sounds ulaw|wav] [--rounds 1] [--quick]

SIPp calls, pays by RFC 4733 digits and sends sound all the time; Asterisk 22 in a Debian tree of its own (that of
tests/asterisk) plays our sounds in the trunk's own codec and runs the shipped dialplan; `ivr-agi serve` has its
journal on disk and its log in a file. Asterisk alone has the first core; the server, the callers and the bank's stand-in
share the second. Linux, two cores, as root. Exits 1 if a call failed while Asterisk was far from its limit, or an order
was charged twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop
from ear import LATE_MS, Ear, Tap
from measuring import Row, medians, percentile, save, table
from payers import EAR, PIN, Callers, on_core
from processes import HERE, SEQUENCE, TICKS, Server, end, start

from ivr_agi.sounds import formats, shipped

REPOSITORY: Final = HERE.parent
sys.path[1:1] = [str(REPOSITORY / "tests" / "asterisk")]

from harness import Asterisk  # noqa: E402
from rootfs import NoAsterisk, rootfs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS: Final = (10, 40, 80, 120, 160, 200, 240, 280)
RAMP: Final = 12.0  # seconds in which a level's calls begin
DRAIN: Final = 75.0
FULL: Final = 95.0  # % of a core: who needs as much has no more to give
CALL: Final = 45.0  # seconds: a little more than a call takes whose caller is not patient; else 75
NEAR: Final = 80.0  # % of its core: from here on calls that fail may be for want of it
STRANGERS: Final = 20.0  # % of a core, both together: what others of the machine may take before it is told
TARGET: Final = 10.0  # % of Asterisk's CPU
TRUNK: Final = "\n[trunk](+)\ndisallow=all\nallow=ulaw\n"
NOT_SAID: Final = """
What this does not say: how many calls Asterisk carries on a machine of its own (here the callers' kernel work and ours are on
the core beside it); with other codecs, TLS, SRTP, recordings or a jitter buffer, each of which costs Asterisk more; with a bank
that takes seconds (more music, no more of our work); with lines as bad as real ones. The line's sound is listened to, not judged."""
ENDED: Final = re.compile(r"Ext\. h: ivr-agi (\w+) order (\S+)")
SHOWN: Final = (
    "calls", "calls_per_min", "paid", "not_paid", "asterisk_cpu", "ours_cpu", "sipp_cpu", "bank_cpu", "asterisk_s_per_call",
    "ours_s_per_call", "ratio_percent", "core_of_asterisk", "core_of_the_rest", "call_s_p50", "call_s_p99", "rtp_gap_p99_ms", "rtp_late_percent", "step_p50_ms", "step_p99_ms",
    "signs",
)  # fmt: skip


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used so far, its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy() -> tuple[float, float]:
    """Seconds that the two cores have worked so far, for whomever; a host's other guests included."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
    worked = {name: [int(ticks) for ticks in fields[:8]] for name, *fields in lines}
    # user, nice, system, idle, iowait, irq, softirq, steal
    first, second = (sum(worked[f"cpu{core}"]) - sum(worked[f"cpu{core}"][3:5]) for core in CORES)
    return first / TICKS, second / TICKS


class Bench:
    """All that takes part, and what is read of it."""

    def __init__(
        self, folder: Path, asterisk: Asterisk, server: Server, bank: asyncio.subprocess.Process
    ) -> None:
        self._log = asterisk.home / "log" / "messages"
        self._ours = folder / "server.log"
        self.asterisk, self.server = asterisk, server
        self.pids = {"asterisk": asterisk._process.pid, "bank": bank.pid, "driver": os.getpid()}  # type: ignore[union-attr]  # noqa: SLF001
        self.paid: set[str] = set()
        self.ended: Counter[str] = Counter()

    async def level(
        self, calls: int, before: int, seconds: float, callers: Callers, ears: tuple[Ear, Tap]
    ) -> Row:
        """Measure for so many seconds with so many calls at once."""
        ear, tap = ears
        await callers.raise_to(calls, max(1.0, (calls - before) / RAMP))
        ear.of(calls)
        tap.anew()
        self.read_ends()
        logged, told, used = self._ours.stat().st_size, callers.stat(), self._used(callers)
        starved, worked, since = self.server.starved(), busy(), asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        took = asyncio.get_running_loop().time() - since
        spent = {name: value - used[name] for name, value in self._used(callers).items()}
        starved = self.server.starved() - starved
        first, second = (now - then for now, then in zip(busy(), worked, strict=True))
        now = callers.stat()
        ended = self.read_ends()
        lengths = self._lengths(logged)
        done = max(1, ended.total())
        row: Row = {
            "calls": calls,
            "seconds": took,
            "calls_per_min": ended.total() / took * 60,
            "paid": ended["PAID"],
            "not_paid": ended.total() - ended["PAID"],
            **{f"{name}_cpu": value / took * 100 for name, value in spent.items()},
            "asterisk_s_per_call": spent["asterisk"] / done,
            "ours_s_per_call": spent["ours"] / done,
            "ratio_percent": spent["ours"] / spent["asterisk"] * 100,
            "ours_without_core": starved / took * 100,
            "core_of_asterisk": first / took * 100,
            "core_of_the_rest": second / took * 100,
            "strangers_cpu": (first + second - sum(spent.values())) / took * 100,
            "call_s_p50": percentile(lengths, 50),
            "call_s_p99": percentile(lengths, 99),
            "rtp_packets": len(ear.gaps),
            "rtp_gap_p99_ms": percentile(ear.gaps, 99),
            "rtp_late_percent": sum(gap > LATE_MS for gap in ear.gaps) / max(1, len(ear.gaps)) * 100,
            "steps": len(tap.own),
            "step_p50_ms": percentile(tap.own, 50),
            "step_p99_ms": percentile(tap.own, 99),
            "bank_step_p99_ms": percentile(tap.bank, 99),
            "bank_step_max_ms": max(tap.bank, default=0.0),
            "sip_failed": now["FailedCall(C)"] - told["FailedCall(C)"],
            "sip_again": now["Retransmissions(C)"] - told["Retransmissions(C)"],
            "ended": dict(ended),
        }
        return {**row, "over": over(row), "signs": signs(row)}

    def read_ends(self) -> Counter[str]:
        """How the calls ended since it was last asked, as Asterisk's dialplan was told."""
        with self._log.open(errors="replace") as log:
            log.seek(getattr(self, "_at", 0))
            found = [ENDED.search(line) for line in log if "Ext. h: ivr-agi" in line]
            self._at = log.tell()
        ends = Counter(one[1] for one in found if one)
        self.paid.update(one[2] for one in found if one and one[1] == "PAID")
        self.ended += ends
        return ends

    def _used(self, callers: Callers) -> dict[str, float]:
        return {
            **{name: cpu(pid) for name, pid in (self.pids | {"sipp": callers.pid}).items()},
            "ours": self.server.cpu(),
        }

    def failures(self) -> Counter[tuple[str, str]]:
        """How, and at which state, calls ended that were not paid, as our server says."""
        with self._ours.open("rb") as log:
            lines = [json.loads(line) for line in log if b'"call.ended"' in line]
        return Counter((line["status"], line["state"]) for line in lines if line["status"] != "PAID")

    def _lengths(self, since: int) -> list[float]:
        """Seconds that the calls lasted which our server says have ended since then."""
        with self._ours.open("rb") as log:
            log.seek(since)
            lines = (json.loads(line) for line in log if b'"call.ended"' in line and line.endswith(b"}\n"))
            return [line["seconds"] for line in lines]


def wrong(row: Row) -> bool:
    """Whether calls failed although Asterisk itself had not come near its limit."""
    return bool(row["not_paid"] or row["sip_failed"]) and row["asterisk_cpu"] < NEAR


def full(row: Row) -> bool:
    """Whether Asterisk's core is full, and of Asterisk."""
    return bool(row["core_of_asterisk"] > FULL and row["asterisk_cpu"] > NEAR)


def over(row: Row) -> bool:
    """Whether more calls are no use: Asterisk's core is full, or calls go wrong."""
    return full(row) or bool(row["not_paid"] or row["sip_failed"])


def signs(row: Row) -> str:
    """What there is to see of a limit, be it Asterisk's, the callers' or the machine's; empty if nothing."""
    rest = row["ours_cpu"] + row["sipp_cpu"] + row["bank_cpu"] + row["driver_cpu"]
    found = {
        "Asterisk's core full": full(row),
        "the other core nearly full of the rest": rest > NEAR,
        f"strangers took {row['strangers_cpu']:.0f} %": row["strangers_cpu"] > STRANGERS,
        f"{row['not_paid']} not paid": row["not_paid"],
        f"SIP failed {row['sip_failed']:.0f}": row["sip_failed"],
        f"SIP repeated {row['sip_again']:.0f}": row["sip_again"],
        "sound late": row["rtp_late_percent"] > 1,
    }
    return ", ".join(sign for sign, there in found.items() if there)


def install(sounds: Path, form: str, folder: Path) -> None:
    """Put our sounds into Asterisk as `ivr-agi sounds install` does, in the trunk's own form as well if asked.

    That form is made of the shipped sounds, as `sounds build --format` makes it.
    """
    made = folder / "made"
    shutil.copytree(shipped(), made)
    if form != "wav":
        for wav in made.rglob("*.wav"):
            formats.write(wav.with_suffix(f".{form}"), form, formats.read(wav))
    command = [sys.executable, "-m", "ivr_agi", "sounds", "install", "--from", str(made), str(sounds)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own program


@contextmanager
def line_up(folder: Path, form: str) -> Iterator[Asterisk]:
    """A real Asterisk on the first core."""
    home = folder / "asterisk"
    home.mkdir()
    asterisk = Asterisk(rootfs(), home, {"pjsip.conf": TRUNK})
    with on_core(CORES[0]):
        asterisk.start()
    try:
        install(asterisk.sounds, form, folder)
        yield asterisk
    finally:
        asterisk.stop()


async def ramp(asked: argparse.Namespace) -> tuple[list[Row], bool]:
    """One round: a new Asterisk and a new server, and one level after the other; whether all went well."""
    with tempfile.TemporaryDirectory() as place, line_up(Path(place), asked.sounds) as asterisk:
        folder = Path(place)
        bank = await start(CORES[1], str(HERE / "same_pin.py"), SEQUENCE, PIN, stdout=asyncio.subprocess.PIPE)
        assert bank.stdout  # noqa: S101 - it is a pipe
        url = (await bank.stdout.readline()).decode().strip()
        try:
            async with Server("server", folder, CORES[1], gateway_url=url, max_calls=5000) as server:
                with Ear(EAR) as ear, Tap(server.port) as tap:
                    ports = (asterisk.sip_port, server.port, ear.port)
                    async with Callers(folder, CORES[1], ports, patient=asked.patient) as callers:
                        bench = Bench(folder, asterisk, server, bank)
                        rows = await levels(asked, bench, callers, (ear, tap))
                        return rows, await balanced(bench, callers, url, complete=not rows[-1]["over"])
        finally:
            await end(bank)


async def levels(
    asked: argparse.Namespace, bench: Bench, callers: Callers, ears: tuple[Ear, Tap]
) -> list[Row]:
    """Raise the number of calls until Asterisk is at its limit."""
    rows: list[Row] = []
    for before, calls in zip((0, *asked.levels), asked.levels, strict=False):
        rows.append(await bench.level(calls, before, asked.seconds, callers, ears))
        print(
            "  ",
            " ".join(
                f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                for key, value in rows[-1].items()
            ),
            flush=True,
        )
        if rows[-1]["over"]:
            break
    return rows


async def balanced(bench: Bench, callers: Callers, url: str, *, complete: bool) -> bool:
    """Let the last calls end. Whether what Asterisk was told agrees with what the bank has charged, and how calls ended.

    complete: no limit was reached, so every single call must have been paid.
    """
    left = await callers.leave(DRAIN)
    bench.read_ends()
    with urllib.request.urlopen(url.partition("/api")[0] + "/simulator/ledger") as answer:  # noqa: S310, ASYNC210 - the stand-in
        charged = Counter(charge["order_id"] for charge in json.load(answer))
    twice = sum(count > 1 for count in charged.values())
    unknown = len(bench.paid - set(charged))
    print(
        f"   ended: {dict(bench.ended)}; charged {charged.total()}, twice {twice}; paid, but not charged {unknown}; all left: {left}"
    )
    if failures := bench.failures():
        print("   not paid:", dict(failures))
    well = not twice and not unknown
    return well and (not complete or (left and bench.ended.total() == bench.ended["PAID"] == len(charged)))


def main() -> None:
    """Read what is asked, run, and say what came of it."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--levels", type=int, nargs="+", default=LEVELS, help="calls at once")
    told.add_argument(
        "--patient", action="store_true", help="callers hear each question to its end: 74 s a call"
    )
    told.add_argument(
        "--seconds", type=float, help="that each level is measured; as long as a call takes if absent"
    )
    told.add_argument("--rounds", type=int, default=1, help="each from the first level on")
    told.add_argument(
        "--sounds", choices=("ulaw", "wav"), default="ulaw", help="the form that Asterisk plays"
    )
    told.add_argument("--nice", type=int, default=0, help="of all that takes part; below 0 on a busy machine")
    told.add_argument("--quick", action="store_true", help="five calls at once, once: a minute and a half")
    asked = told.parse_args()
    asked.seconds = asked.seconds or CALL + 30.0 * asked.patient
    if asked.quick:
        asked.levels, asked.rounds = (5,), 1
    sys.exit(uvloop.run(run(asked)))


async def run(asked: argparse.Namespace) -> int:
    """Run all rounds; returns the exit status."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CORES[1]})
    os.setpriority(os.PRIO_PROCESS, 0, asked.nice)
    this = asyncio.current_task()
    assert this  # noqa: S101 - we are in it
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)  # and everything is ended
    rows: list[Row] = []
    well = True
    for number in range(asked.rounds):
        found, good = await ramp(asked)
        rows += [{"round": number, **row} for row in found]
        well = well and good and not any(wrong(row) for row in found)
    middle: list[dict[str, Any]] = medians(rows, ("calls",))
    for one in middle:
        one["signs"] = "; ".join(
            sorted({row["signs"] for row in rows if row["calls"] == one["calls"]} - {""})
        )
    print(table(middle, SHOWN))
    below = [row["ratio_percent"] for row in middle if not row["over"]] or [middle[0]["ratio_percent"]]
    print(
        f"\nours / Asterisk's: {min(below):.1f} to {max(below):.1f} %"
        + ("" if max(below) <= TARGET else ": over the target")
    )
    print(NOT_SAID)
    if not asked.quick:
        save("asterisk", rows, command=" ".join(["python", "benchmarks/trunk.py", *sys.argv[1:]]))
    return 0 if well else 1


CORES: Final = sorted(os.sched_getaffinity(0))[:2]

if __name__ == "__main__":
    if shutil.which("sipp") is None:
        subprocess.run([REPOSITORY / "tools" / "debian-packages", "mmdebstrap", "sip-tester"], check=True)  # noqa: S603
    try:
        main()
    except NoAsterisk as why:
        sys.exit(f"no Asterisk here: {why}")
