"""An answer that comes after our time limit still settles the payment; what contradicts is for a person."""

import asyncio
import signal
from contextlib import asynccontextmanager

import pytest
from line import CARD, SEQUENCE, open_line, sample_card, until
from process import Serving, ivr_agi

from ivr_agi.gateway import Gateway
from ivr_agi.journal import AttemptState, Resolution
from ivr_agi.model import Method, Pan, Pin, Secret, Verdict
from ivr_agi.simulator.gateway import Fault, GatewaySimulator, Outcome, Rule

S = AttemptState


@pytest.fixture
async def line(tmp_path):
    """A line that waits 0.3 s for `pay`, and listens on for as long as a test takes."""
    async with open_line(tmp_path, pay_timeout=0.3, late_limit=60, drain_limit=30) as opened:
        yield opened


async def unknown_call(line, outcome, card=CARD, **also):
    """A call whose `pay` is answered only when `outcome.wait` is set: told UNKNOWN."""
    line.gateway.rules.append(Rule(outcome, service="pay", times=1))
    ended = await line.call(line.buyer(card, **also))
    assert (ended.status, ended.reason) == ("UNKNOWN", "timeout")
    return ended


def states(line, attempt_id=1):
    return [step["state"] for step in line.journal.attempt(attempt_id)[1]]


async def test_late_paid(line):
    """Unknown to the caller, then paid in the journal, with its tracking number; the order stays held."""
    answer = asyncio.Event()
    ended = await unknown_call(line, Outcome(wait=answer))
    assert "unknown" in ended.heard
    answer.set()
    await until(lambda: states(line)[-1] == "paid")
    row, steps = line.journal.attempt(1)
    assert row["ref_id"] == line.gateway.charges[0].ref_id
    assert (row["review"], row["reason"]) == ("", "")
    assert [step["state"] for step in steps] == ["created", "otp_sent", "sent", "unknown", "paid"]
    assert steps[-1]["note"] == "late"
    assert (await line.call(line.buyer())).reason == "already-paid"
    assert line.services() == ["otp-v2", "pay"]


async def test_late_declined(line):
    """Unknown, then declined: certainly not charged, and the order may be paid."""
    answer = asyncio.Event()
    card = sample_card("51")
    await unknown_call(line, Outcome(wait=answer, code="51"), card)
    assert (await line.call(line.buyer())).reason == "under-review"
    answer.set()
    await until(lambda: states(line)[-1] == "declined")
    assert (await line.call(line.buyer())).status == "PAID"


async def test_late_refusal(line):
    """Unknown, then a plain HTTP 403: failed, and the order may be paid."""
    answer = asyncio.Event()
    await unknown_call(line, Outcome(wait=answer, status=403, body=b"no", content_type="text/plain"))
    answer.set()
    await until(lambda: states(line)[-1] == "failed")
    assert (await line.call(line.buyer())).status == "PAID"


@pytest.mark.parametrize(
    "late", [{"fault": Fault.CUT_BODY}, {"body": b"<html>", "status": 502}, {"fault": Fault.CLOSE_AFTER_READ}]
)
async def test_late_and_unclear(line, late):
    """What comes late and says nothing clear is a line in the history; the payment stays unknown."""
    answer = asyncio.Event()
    await unknown_call(line, Outcome(wait=answer, charge=True, **late))
    answer.set()
    await until(lambda: len(states(line)) == 5)
    row, steps = line.journal.attempt(1)
    assert (row["state"], row["review"]) == ("unknown", "charged")
    assert steps[-1]["note"].startswith("late, and unclear: ")


async def test_caller_has_gone(line):
    """The caller hangs up while the bank thinks; the truth that comes after both limits is recorded."""
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    channel = await line.dial(line.buyer())
    calling = asyncio.create_task(channel.run())
    await line.gateway.arrived.wait()
    channel.hang_up()
    await calling
    answer.set()
    await until(lambda: states(line)[-1] == "paid")


@pytest.mark.parametrize("verdict", [Resolution.PAID, Resolution.NOT_PAID])
async def test_late_after_a_persons_verdict(line, logged, verdict):
    """It agrees: a line in the history. It contradicts: nothing is overwritten, a person must look, loudly."""
    answer = asyncio.Event()
    await unknown_call(line, Outcome(wait=answer))
    line.journal.resolve(
        1, verdict, by="Sara", evidence="a call", ref_id="1" if verdict is Resolution.PAID else ""
    )
    answer.set()
    await until(lambda: len(states(line)) == 6)
    row, steps = line.journal.attempt(1)
    assert (row["state"], row["resolution"]) == ("resolved", verdict)
    assert line.gateway.charges[0].ref_id in steps[-1]["note"]
    await line.payments.quiet()
    contradicted = [entry for entry in logged if entry["event"] == "journal.contradicted"]
    if verdict is Resolution.PAID:
        assert (row["review"], contradicted) == ("", [])
    else:
        assert row["review"] == "charged"
        assert contradicted[0]["ref_id"] == line.gateway.charges[0].ref_id
        assert [found["id"] for found in line.journal.review("")] == [1]


async def test_too_late(tmp_path):
    """Beyond the late limit we listen no more: it stays unknown."""
    answer = asyncio.Event()
    async with open_line(tmp_path, pay_timeout=0.2, late_limit=0.2, drain_limit=30) as line:
        await unknown_call(line, Outcome(wait=answer))
        await line.payments.quiet()
        answer.set()
        assert states(line)[-1] == "unknown"
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "late"]


async def test_not_written_by_the_limit():
    """The time limit strikes in TLS's handshake: failed, and nothing is left that could leave later."""
    seen = asyncio.get_running_loop().create_future()

    async def never_answer(reader, writer):
        seen.set_result(await reader.read())  # to its end: we have closed
        writer.close()

    heard = []
    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = Gateway(
            f"https://127.0.0.1:{port}", Secret(SEQUENCE), otp_timeout=1, pay_timeout=0.2, late_limit=60
        )
        answer = await client.pay(
            Method.IVR, Pan(CARD), Pin("12345"), 50000, "A-1", "+989123456789", late=heard.append
        )
        assert (answer.verdict, answer.detail) == (Verdict.FAILED, "timeout")
        assert b"POST" not in await asyncio.wait_for(seen, 5)
        await client.listened()
    assert not heard


@asynccontextmanager
async def told_to_stop():
    """A server that is told to stop while it listens for a late answer, and that answer; ended when left."""
    answer = asyncio.Event()
    async with GatewaySimulator(SEQUENCE) as gateway:
        gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
        async with Serving(gateway_url=gateway.url, pay_timeout=0.3, drain_limit=60) as server:
            assert (await server.call(gateway))["PAYSTATUS"] == "UNKNOWN"
            server.process.send_signal(signal.SIGTERM)
            await until(lambda: server.said("server.draining"))
            yield server, answer
            await asyncio.wait_for(server.process.wait(), 20)


async def test_drain_waits_for_the_late():
    """SIGTERM while a late answer is listened for: the process stays for it, within the drain limit."""
    async with told_to_stop() as (server, answer):
        answer.set()
    assert server.process.returncode == 0
    assert server.said("pay.late")[0]["verdict"] == "paid"
    _, output, _ = await ivr_agi("journal", "list")
    assert " paid " in output


async def test_second_signal_does_not_wait():
    """The second signal: what is late is left unknown, nothing is lost."""
    async with told_to_stop() as (server, _answer):
        server.process.send_signal(signal.SIGTERM)
    _, output, _ = await ivr_agi("journal", "list")
    assert " unknown " in output
