"""The listener: who gets in, how many, and how it comes to an end."""

import asyncio

import pytest
from line import CARD, Thinking, open_line, until

from ivr_agi import agi, flow, logs
from ivr_agi.simulator.gateway import Fault, Outcome, Rule


async def closed_at_once(port, host="127.0.0.1"):
    """Whether a connection is closed before a byte was said."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True
    finally:
        writer.close()


async def test_strangers_are_closed_at_once(tmp_path, logged):
    """A peer outside ALLOWED_PEERS hears nothing, and the log names it and the setting."""
    async with open_line(tmp_path, allowed_peers="10.0.0.0/8") as line:
        assert await closed_at_once(line.port)
    (entry,) = [entry for entry in logged if entry["event"] == "peer.refused"]
    assert entry["peer"] == "127.0.0.1"
    assert "IVR_AGI_ALLOWED_PEERS" in entry["cure"]


async def test_one_call_too_many(tmp_path, logged):
    """Over MAX_CALLS the next one is closed, not queued; when a call has ended there is room again."""
    async with open_line(tmp_path, max_calls=1) as line:
        card = Thinking(CARD)
        first = asyncio.create_task(line.call(line.buyer(enter_card=[card])))
        await card.asked.wait()
        assert await closed_at_once(line.port)
        card.go_on.set()
        assert (await first).status == "PAID"
        again = await line.call(line.buyer(), "amount=50000&order_id=B")
        assert again.status == "PAID"
    assert [entry["event"] for entry in logged].count("server.full") == 1


@pytest.mark.parametrize(
    "junk", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00\xff" * 100 + b"\n\n", b"\n"]
)
async def test_junk_harms_nobody(line, junk):
    """Connections that are no Asterisk's come and go; the next call is paid."""
    _, writer = await asyncio.open_connection("127.0.0.1", line.port)
    writer.write(junk)
    writer.close()
    assert (await line.call(line.buyer())).status == "PAID"


async def test_silent_peer_is_let_go(line, monkeypatch):
    """Whoever connects and says nothing is closed within the environment's deadline."""
    monkeypatch.setattr(agi, "ENVIRONMENT_SECONDS", 0.1)
    assert await closed_at_once(line.port)


async def test_drain_lets_calls_end(tmp_path):
    """Draining: nobody new gets in, the call under way is led to its end."""
    async with open_line(tmp_path, drain_limit=30) as line:
        card = Thinking(CARD)
        call = asyncio.create_task(line.call(line.buyer(enter_card=[card])))
        await card.asked.wait()
        draining = asyncio.create_task(line.server.drain())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", line.port)
        card.go_on.set()
        assert (await call).status == "PAID"
        await draining


async def test_drain_limit_cuts_questions_not_payments(tmp_path):
    """At the limit: a caller at a question is let go, a `pay` under way is settled and told."""
    async with open_line(tmp_path, drain_limit=0) as line:
        answer = asyncio.Event()
        line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
        paying = asyncio.create_task(line.call(line.buyer()))
        await line.gateway.arrived.wait()
        card = Thinking("")
        asking = asyncio.create_task(line.call(line.buyer(enter_card=[card]), "amount=50000&order_id=B"))
        await card.asked.wait()
        draining = asyncio.create_task(line.server.drain())
        answer.set()
        assert (await paying).status == "PAID"
        await draining
        card.go_on.set()
        assert (await asking).status == ""  # nobody was left to tell: the dialplan's `lost`
        assert [attempt["state"] for attempt in line.attempts()] == ["paid"]


async def test_time_limit_of_a_call(tmp_path, monkeypatch):
    """A call that lasts too long comes to an end, and the dialplan knows why."""
    async with open_line(tmp_path, call_limit=60) as line:
        clock = asyncio.get_running_loop().time

        async def an_hour_later():
            monkeypatch.setattr("ivr_agi.call.now", lambda: clock() + 3600)
            return "9"

        ended = await line.call(line.buyer(enter_card=[an_hour_later]))
        assert (ended.status, ended.reason) == ("NOINPUT", "call-too-long")
        assert ended.heard[-2:] == ["gave-up", "goodbye"]


async def test_paid_when_the_time_is_up(tmp_path, monkeypatch):
    """Paid just as the call gets too long: the caller still hears it, number and all."""
    async with open_line(tmp_path, call_limit=60) as line:
        clock = asyncio.get_running_loop().time
        line.gateway.rules.append(Rule(Outcome(), service="pay"))
        paid = line.gateway._pay

        def an_hour_later(*args):
            monkeypatch.setattr("ivr_agi.call.now", lambda: clock() + 3600)
            return paid(*args)

        line.gateway._pay = an_hour_later
        ended = await line.call(line.buyer())
        assert ended.status == "PAID"
        assert ended.heard[-2:] == ["repeat-reference", "goodbye"]


async def test_no_new_payment_after_the_drain_limit(tmp_path):
    """A caller who is still at the PIN when the limit is reached starts no `pay` any more."""
    async with open_line(tmp_path, drain_limit=0) as line:
        line.payments.close()
        ended = await line.call(line.buyer())
        assert (ended.status, ended.reason) == ("FAILED", "shutting-down")
        assert line.services() == ["otp-v2"]


async def test_second_signal_shortens_the_drain(tmp_path):
    """`hurry` counts as the limit reached."""
    async with open_line(tmp_path, drain_limit=3600) as line:
        card = Thinking("")
        asking = asyncio.create_task(line.call(line.buyer(enter_card=[card])))
        await card.asked.wait()
        hurry = asyncio.Event()
        hurry.set()
        await line.server.drain(hurry)
        card.go_on.set()
        await asking


async def test_log_that_cannot_be_written(tmp_path, monkeypatch):
    """A closed pipe or a full disk behind the log stops no payment."""

    class Full:
        def write(self, _text):
            raise OSError(28, "No space left on device")

        def flush(self):
            raise ValueError("I/O operation on closed file")

        def isatty(self):
            return False

    monkeypatch.setattr("sys.stderr", Full())
    logs.configure("DEBUG", "console")
    async with open_line(tmp_path) as line:
        assert (await line.call(line.buyer())).status == "PAID"


async def test_many_calls(line):
    """A hundred calls at once, each for its own order: each is paid once."""
    calls = await asyncio.gather(
        *(
            line.call(
                line.buyer(enter_pin=[lambda n=n: line.gateway.pins[CARD, f"O{n}"] + "#"]),
                f"amount=50000&order_id=O{n}",
            )
            for n in range(100)
        )
    )
    assert {call.status for call in calls} == {"PAID"}
    assert sorted(charge.order_id for charge in line.gateway.charges) == sorted(f"O{n}" for n in range(100))


async def test_a_bug_of_ours(line, monkeypatch, logged):
    """A fault in a handler: FAILED, "out of order" heard, nothing charged; the log has no payload."""

    async def broken(_call, _payment):
        secret = CARD
        raise RuntimeError(f"boom {len(secret)}")

    monkeypatch.setitem(flow.HANDLERS, "mobile", broken)
    ended = await line.call(line.buyer())
    assert (ended.status, ended.reason) == ("FAILED", "out-of-order")
    assert ended.heard[-2:] == ["out-of-order", "goodbye"]
    assert "call.broken" in [entry["event"] for entry in logged]


async def test_a_bug_of_ours_after_sent(line, monkeypatch):
    """The same once `pay` may have left: UNKNOWN, never FAILED."""

    async def broken(*_args, **_fields):
        raise RuntimeError("boom")

    monkeypatch.setattr(line.payments._gateway, "pay", broken)
    ended = await line.call(line.buyer())
    assert (ended.status, ended.reason) == ("UNKNOWN", "internal-error")
    assert line.attempts()[0]["state"] == "unknown"


@pytest.mark.sqlite("a trigger in its language")
async def test_journal_out_of_order(line):
    """The journal cannot be written: not one POST leaves, the caller hears "out of order"."""
    with line.journal._engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'disk'); END"
        )
    ended = await line.call(line.buyer())
    assert (ended.status, ended.reason) == ("FAILED", "not-recorded")
    assert not line.gateway.requests


@pytest.mark.sqlite("a trigger in its language")
async def test_journal_out_of_order_before_sent(line):
    """It fails just before `pay`: the PIN was asked for, `pay` does not leave."""

    async def fill_the_disk():
        with line.journal._engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER no BEFORE UPDATE ON attempt WHEN new.state = 'sent' BEGIN SELECT RAISE(ABORT, 'disk'); END"
            )
        return line.pin()()

    ended = await line.call(line.buyer(enter_pin=[fill_the_disk]))
    assert (ended.status, ended.reason) == ("FAILED", "not-recorded")
    assert line.services() == ["otp-v2"]


async def test_sent_is_on_disk_before_pay_leaves(line):
    """When the gateway sees `pay`, the row `sent` is there for another process to read."""
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    calling = asyncio.create_task(line.call(line.buyer()))
    await line.gateway.arrived.wait()
    assert [attempt["state"] for attempt in line.attempts()] == ["sent"]
    answer.set()
    await calling


@pytest.mark.sqlite("a trigger in its language")
async def test_outcome_is_written_when_the_journal_is_back(line, monkeypatch, logged):
    """The outcome cannot be written at first: it is tried again until it is."""
    monkeypatch.setattr("ivr_agi.payments.SETTLE_WAITS", (0.05,) * 100)
    answer = asyncio.Event()
    line.gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    calling = asyncio.create_task(line.call(line.buyer()))
    await line.gateway.arrived.wait()
    with line.journal._engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON history BEGIN SELECT RAISE(ABORT, 'disk'); END"
        )
    answer.set()
    await until(lambda: "journal.outcome_not_written" in [entry["event"] for entry in logged])
    with line.journal._engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER no")
    assert (await calling).status == "PAID"
    assert line.attempts()[0]["state"] == "paid"


@pytest.mark.parametrize("fault", [Fault.CLOSE_ON_ACCEPT, Fault.RESET_ON_ACCEPT])
async def test_gateway_that_hangs_up_on_us(line, fault):
    """The gateway closes each connection: no PIN, FAILED."""
    line.gateway.rules.append(Rule(Outcome(fault=fault)))
    ended = await line.call(line.buyer())
    assert (ended.status, ended.reason) == ("FAILED", "pin-not-sent")
