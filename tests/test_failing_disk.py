"""A journal that takes no write: nothing leaves without its row, callers are told, and it comes back by itself.

The disk fails for real, as far as SQLite can see: a preloaded library answers its writes and syncs with
the errno of a full, broken or read-only disk. The server is a process of its own.
"""

import asyncio
import errno
import json
import sqlite3
import subprocess
from contextlib import closing

import httpx
import pytest
from debian import program
from line import CARD, SEQUENCE, sample_card, until
from process import Serving, ivr_agi

from ivr_agi.simulator.gateway import GatewaySimulator, Outcome, Rule

FAULTS = [errno.ENOSPC, errno.EIO, errno.EROFS]


@pytest.fixture(scope="session")
def failing(tmp_path_factory):
    """The preloaded library."""
    made = tmp_path_factory.mktemp("faults") / "disk.so"
    source = __file__.replace("test_failing_disk.py", "faults/disk.c")
    subprocess.run(
        [program("gcc"), "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, source, "-ldl"],
        check=True,
    )
    return made


@pytest.fixture
async def gateway():
    async with GatewaySimulator(SEQUENCE) as simulator:
        yield simulator


class Disk:
    """The switch of the fault."""

    def __init__(self, folder, library):
        self.switch = folder / "fault"
        self.environment = {"LD_PRELOAD": str(library), "DISK_FAULT": str(self.switch)}

    def fail(self, number):
        ready = self.switch.with_suffix(".new")
        ready.write_text(str(number))
        ready.rename(self.switch)

    def mend(self):
        self.switch.unlink()


@pytest.fixture
def disk(tmp_path, failing):
    return Disk(tmp_path, failing)


async def readiness(server):
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{await server.http_port()}/readyz")).status_code


async def rows():
    status, output, errors = await ivr_agi("journal", "export", "--format", "json")
    assert status == 0, errors
    return {row["order_id"]: row["state"] for row in json.loads(output)}


async def back(server):
    """Wait until the server has found out by itself that the journal takes writes again."""
    await until(lambda: server.said("journal.in_order_again"))
    assert await readiness(server) == 200


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
async def test_disk_that_fails_before_a_call(gateway, disk, number):
    """Out of order, red, and not one request; mended: green, and the next call is paid."""
    async with Serving(also=disk.environment, gateway_url=gateway.url) as server:
        assert (await server.call(gateway, query="amount=50000&order_id=before"))["PAYSTATUS"] == "PAID"
        disk.fail(number)
        sent = len(gateway.requests)
        refused = await server.call(gateway, query="amount=50000&order_id=during")
        assert (refused["PAYSTATUS"], refused["PAYREASON"]) == ("FAILED", "not-recorded")
        assert len(server.said("journal.out_of_order")) == 1
        again = await server.call(
            gateway, query="amount=50000&order_id=during"
        )  # refused at its very beginning
        assert (again["PAYSTATUS"], again["PAYCARD"]) == ("FAILED", "")
        assert len(gateway.requests) == sent
        assert await readiness(server) == 503
        disk.mend()
        await back(server)
        assert (await server.call(gateway, query="amount=50000&order_id=during"))["PAYSTATUS"] == "PAID"
        assert await rows() == {"before": "paid", "during": "paid"}


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
async def test_disk_that_fails_before_sent(gateway, disk, number):
    """It fails while the caller keys the PIN: `pay` does not leave, and the order is free once it is mended."""
    async with Serving(also=disk.environment, gateway_url=gateway.url) as server:

        def pin():
            disk.fail(number)
            return gateway.pin_for(CARD) + "#"

        failed = await server.call(gateway, {"enter-pin": pin})
        assert (failed["PAYSTATUS"], failed["PAYREASON"], failed["PAYID"]) == ("FAILED", "not-recorded", "1")
        assert [request.service for request in gateway.requests] == ["otp-v2"]
        disk.mend()
        await back(server)
        async with asyncio.timeout(20):
            while await rows() != {"A-1": "failed"}:  # what was owed to the journal
                pass
        assert (await server.call(gateway))["PAYSTATUS"] == "PAID"
    assert len(gateway.charges) == 1


@pytest.mark.parametrize("card", [CARD, sample_card("51")], ids=["paid", "declined"])
async def test_disk_that_fails_during_pay(gateway, disk, card):
    """It fails while the bank thinks: the outcome waits for it, and is written and told when it is mended."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer, code="" if card is CARD else "51"), service="pay"))
    async with Serving(also=disk.environment, gateway_url=gateway.url, max_cards=1) as server:
        script = {"enter-card": card, "enter-pin": lambda: gateway.pin_for(card) + "#"}
        calling = asyncio.create_task(server.call(gateway, script))
        await gateway.arrived.wait()
        disk.fail(errno.ENOSPC)
        answer.set()
        await until(lambda: server.said("journal.outcome_not_written"))
        (line, *_) = server.said("journal.outcome_not_written")
        assert (line["attempt"], line["order"]) == (1, "A-1")  # enough to settle it by hand
        assert line["ref_id"] == (gateway.charges[0].ref_id if card is CARD else "")
        disk.mend()
        status = (await calling)["PAYSTATUS"]
        assert status == ("PAID" if card is CARD else "DECLINED")
        assert await rows() == {"A-1": status.lower()}


async def test_disk_that_is_never_mended(gateway, disk):
    """The outcome cannot be written and the server is stopped: unknown from the next start on, never failed."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with Serving(also=disk.environment, gateway_url=gateway.url, drain_limit=0) as server:
        calling = asyncio.create_task(server.call(gateway))
        await gateway.arrived.wait()
        disk.fail(errno.EIO)
        answer.set()
        await until(lambda: server.said("journal.outcome_not_written"))
        server.process.kill()
        await calling
    disk.mend()
    async with Serving(gateway_url=gateway.url):
        assert await rows() == {"A-1": "unknown"}


async def test_journal_that_another_program_locks(gateway, tmp_path):
    """A backup that holds the file: as with a broken disk, and back by itself."""
    async with Serving(gateway_url=gateway.url) as server:
        with closing(sqlite3.connect(tmp_path / "ivr-agi.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused = await server.call(gateway)
            assert (refused["PAYSTATUS"], refused["PAYREASON"]) == ("FAILED", "not-recorded")
            assert not gateway.requests
            other.execute("ROLLBACK")
        assert (await server.call(gateway))["PAYSTATUS"] == "PAID"


def is_remembered(file):
    """Whether the journal has the line about the first call."""
    with closing(sqlite3.connect(file)) as journal:
        return journal.execute("SELECT count(*) FROM call_record").fetchone()[0] == 1


@pytest.mark.parametrize("instead", [False, True], ids=["removed", "replaced"])
async def test_journal_that_is_taken_away(gateway, tmp_path, instead):
    """The file is moved from under it, perhaps with another in its place: no payment goes into nowhere."""
    file, away = tmp_path / "ivr-agi.db", tmp_path / "away.db"
    async with Serving(gateway_url=gateway.url) as server:
        assert (await server.call(gateway, query="amount=50000&order_id=before"))["PAYSTATUS"] == "PAID"
        await until(lambda: is_remembered(file))  # the ended call, too, is written by then
        file.rename(away)
        if instead:
            file.write_bytes(away.read_bytes())
        sent = len(gateway.requests)
        assert (await server.call(gateway))["PAYREASON"] == "not-recorded"
        assert len(gateway.requests) == sent
        assert "put it back" in server.said("journal.failed")[0]["error"]
        # at the latest by the refused call's own line; what is put back before that is nobody's test write
        await until(lambda: server.said("journal.out_of_order"))
        away.replace(file)
        await until(lambda: server.said("journal.in_order_again"))
        assert (await server.call(gateway))["PAYSTATUS"] == "PAID"
        assert await rows() == {"before": "paid", "A-1": "paid"}
