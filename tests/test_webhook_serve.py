"""The merchant is told by the real server: after calls, after hang-ups, kills and restarts; and the commands for it."""

import asyncio
import json

import pytest
import sqlalchemy as sa
import typer
from line import CARD, SEQUENCE, until
from process import Serving, ivr_agi
from receiver import SHARED, Shop, end
from typer.testing import CliRunner

from ivr_agi.cli.notify import notify
from ivr_agi.journal import AttemptState, Journal, Resolution
from ivr_agi.journal.tables import notice
from ivr_agi.settings import WrongSettings, load
from ivr_agi.simulator.channel import ScriptedHandset, dial
from ivr_agi.simulator.gateway import Fault, GatewaySimulator, Outcome, Rule
from ivr_agi.simulator.wire import Reply

S = AttemptState


@pytest.fixture
async def gateway():
    async with GatewaySimulator(SEQUENCE) as simulator:
        yield simulator


@pytest.fixture
async def shop():
    async with Shop() as opened:
        yield opened


@pytest.fixture
def given(gateway, shop, journal_url):
    """The settings of a line that tells the shop."""
    return {
        "gateway_url": gateway.url,
        "journal_url": journal_url,
        "webhook_url": shop.url,
        "webhook_secret": SHARED,
    }


@pytest.fixture
def journal(journal_url):
    """The line's journal, looked into from outside."""
    opened = Journal(journal_url, notices=True)
    yield opened
    opened.close()


def due_now(journal):
    """Let the time pass that a claim, or a wait, has still to go."""
    with journal._engine.begin() as connection:
        connection.execute(sa.update(notice).values(due_at=1.0))


def told(shop):
    return [got.kind for got in shop.got]


async def pay(server, gateway):
    """Begin a call whose caller pays; a task, and the channel on which he may hang up."""
    script = {"confirm-amount": "1", "enter-card": CARD, "enter-pin": lambda: gateway.pin_for(CARD) + "#"}
    url = f"agi://127.0.0.1:{server.port}/pay?amount=50000&order_id=A-1"
    channel = await dial(url, ScriptedHandset(script))
    return asyncio.create_task(channel.run()), channel


# -- told ---------------------------------------------------------------------------------------------


async def test_a_call(gateway, shop, given):
    """A payment by phone: the merchant is told what the dialplan is told, and no card or PIN."""
    async with Serving(**given) as server:
        variables = await server.call(gateway)
        (got,) = await shop.told(1)
        await until(lambda: server.said("webhook.delivered"))
    payment = json.loads(got.body)["payment"]
    assert got.kind == "payment.paid"
    assert payment["ref_id"] == variables["PAYREFID"] == gateway.charges[0].ref_id
    assert (payment["card"], str(payment["id"])) == (variables["PAYCARD"], variables["PAYID"])
    everything = got.body.decode() + str(got.headers) + str(server.lines)
    assert not [word for word in (CARD, gateway.pin_for(CARD), SHARED, SEQUENCE) if word in everything]


async def test_caller_has_hung_up(gateway, shop, given):
    """The caller hangs up while the bank is asked: the merchant is told all the same."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with Serving(**given) as server:
        calling, channel = await pay(server, gateway)
        await gateway.arrived.wait()
        channel.hang_up()
        answer.set()
        await calling
        await shop.told(1)
    assert told(shop) == ["payment.paid"]


async def test_unknown_then_paid_late(gateway, shop, given):
    """The bank's answer comes after the time limit: two notices, in this order, and the first one fails once."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with Serving(**given, pay_timeout=0.5) as server:
        assert (await server.call(gateway))["PAYSTATUS"] == "UNKNOWN"
        await shop.told(1)
        answer.set()
        await shop.told(2)
    assert told(shop) == ["payment.unknown", "payment.paid"]
    first, second = [json.loads(got.body) for got in shop.got]
    assert first["id"] != second["id"]
    assert first["payment"]["id"] == second["payment"]["id"]


async def test_told_while_it_drains(gateway, shop, given):
    """SIGTERM during the last payment: it is told before the process ends."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with Serving(**given) as server:
        calling, _ = await pay(server, gateway)
        await gateway.arrived.wait()
        server.process.terminate()
        await until(lambda: server.said("server.draining"))
        shop.hold = asyncio.Event()
        answer.set()
        assert (await calling)["PAYSTATUS"] == "PAID"
        await shop.told(1)
        await until(lambda: server.said("server.stopped"))
        _, listed, _ = await ivr_agi("journal", "list", journal_url=given["journal_url"])  # takes its time
        assert "paid" in listed
        assert server.process.returncode is None
        shop.hold.set()
    assert server.process.returncode == 0
    assert told(shop) == ["payment.paid"]
    assert server.said("webhook.delivered")


# -- killed, and started again ------------------------------------------------------------------------


async def test_killed_before_it_is_marked(gateway, shop, given, journal):
    """Kill -9 between the receiver's getting it and our writing that down: told again, under the same id."""
    shop.hold = asyncio.Event()
    async with Serving(**given) as server:
        await server.call(gateway)
        await shop.told(1)
        server.process.kill()
        await server.process.wait()
    shop.hold.set()
    (row,) = journal.notices()
    assert (row["tries"], row["delivered_at"]) == (0, "")
    assert row["due_at"] > 1  # claimed, by one who is dead
    due_now(journal)
    async with Serving(**given) as server:
        first, second = await shop.told(2)
        await until(lambda: not journal.notices())
    assert (first.event, first.body) == (second.event, second.body)
    assert len(shop.got) == 2


async def test_killed_while_paying(gateway, shop, given):
    """Kill -9 in the middle of `pay`: the next start calls it unknown, and tells."""
    gateway.rules.append(Rule(Outcome(fault=Fault.SILENCE, charge=True), service="pay"))
    async with Serving(**given) as server:
        calling, _ = await pay(server, gateway)
        await gateway.arrived.wait()
        server.process.kill()
        await calling
    async with Serving(**given):
        (got,) = await shop.told(1)
    assert got.kind == "payment.unknown"
    assert json.loads(got.body)["payment"]["reason"] == "process-gone"


async def test_down_over_a_restart(gateway, shop, given, journal):
    """The receiver is down, the server is restarted, the receiver is back: what was pending arrives."""
    await shop.http.stop()
    async with Serving(**given) as server:
        assert (await server.call(gateway))["PAYSTATUS"] == "PAID"
        await until(lambda: server.said("webhook.failed"))
    assert [row["trouble"] for row in journal.notices()] == ["connect-error"]
    await shop.start(shop.port)
    due_now(journal)
    async with Serving(**given):
        await shop.told(1)
        await until(lambda: not journal.notices())
    assert told(shop) == ["payment.paid"]


async def test_from_other_processes(shop, given, journal):
    """What `charge` writes, and a person resolves, is told by the server that runs."""
    async with Serving(**given):
        status, _, _ = await ivr_agi(
            *["charge", "--order", "C-1", "--amount", "50000", "--mobile", "09123456789"],
            stdin=f"{CARD}\n000000\n",
            sequence=SEQUENCE,
            **given,
        )
        assert status == 1
        await shop.told(1)
        assert journal.resolve(1, Resolution.PAID, by="Sara", evidence="x", ref_id="7", seen=S.DECLINED)
        await shop.told(2)
    assert told(shop) == ["payment.declined", "payment.resolved"]


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, journal_url):
    """Run `journal notify`; status and output."""
    monkeypatch.setenv("IVR_AGI_JOURNAL_URL", journal_url)
    monkeypatch.setenv("IVR_AGI_WEBHOOK_URL", "https://shop.example/told")
    monkeypatch.setenv("IVR_AGI_WEBHOOK_SECRET", SHARED)
    app = typer.Typer()
    app.command()(notify)

    def invoke(*arguments):
        found = CliRunner().invoke(app, arguments)
        return found.exit_code, found.output

    return invoke


async def test_notify(run, journal):
    """Pending and given up are listed with their tries, trouble and next; --resend has them sent again."""
    assert run() == (0, "Everything has been told.\n")
    for order in ("A-1", "B-1", "C-1"):
        await end(journal, order)
    delivered, lost, waits = await journal.claim_notices(1.0, 2.0, 9)
    await journal.settle_notice(delivered, delivered_at="2026-01-01T10:00")
    await journal.settle_notice(lost, trouble="http-500", given_up_at="2026-01-02T10:00")
    await journal.settle_notice(waits, trouble="timeout", due_at=4_000_000_000.0)
    status, output = run()
    assert status == 0
    assert delivered.key not in output
    lines = {key: next(line for line in output.splitlines() if key in line) for key in (lost.key, waits.key)}
    assert all(word in lines[lost.key] for word in ("B-1", "payment.paid", "http-500", "given up 2026-01-02"))
    assert all(word in lines[waits.key] for word in ("C-1", "payment.paid", "timeout", "2096-10-02T07:06"))
    assert "delivered 2026-01-01" in run("--all")[1]
    assert "There are more" in run("--limit", "1")[1]
    assert run("--resend-given-up") == (0, "1 to be sent again, by the server, within seconds.\n")
    assert run("--resend", delivered.key, "--resend", waits.key)[0] == 0
    assert await journal.claim_notices(1.0, 2.0, 0) == []
    assert [row["tries"] for row in journal.notices()] == [0, 0, 0]
    assert {one.key for one in await journal.claim_notices(1.0, 2.0, 9)} == {
        delivered.key,
        lost.key,
        waits.key,
    }


@pytest.mark.usefixtures("journal")
def test_notify_of_what_is_not_there(run, monkeypatch):
    """An id that nobody knows is an error; without an address the command says that nothing is sent."""
    status, output = run("--resend", "nonsense")
    assert (status, "there is no notice nonsense" in output) == (1, True)
    monkeypatch.delenv("IVR_AGI_WEBHOOK_URL")
    assert "IVR_AGI_WEBHOOK_URL is not set here" in run()[1]


async def test_resent_by_the_running_server(gateway, shop, given, journal, run):
    """Given up; the receiver is mended, somebody says --resend, and the server that runs sends it."""
    shop.answer = lambda _got: Reply(500, b"")
    async with Serving(**given) as server:
        await server.call(gateway)
        await until(lambda: server.said("webhook.failed"))
        with journal._engine.begin() as connection:
            connection.execute(sa.update(notice).values(given_up_at="2026-01-02"))
        shop.answer = lambda _got: Reply(200, b"")
        assert run("--resend", shop.got[0].event)[0] == 0
        await shop.told(2)
    assert len({got.event for got in shop.got}) == 1


# -- the settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_URL", "http://shop.example/told"),
        ("WEBHOOK_URL", "shop.example/told"),
        ("WEBHOOK_URL", "https://shop.example/told#x"),
        ("WEBHOOK_DAYS", "0"),
        ("WEBHOOK_DAYS", "31"),
    ],
)
def test_wrong_setting_is_named(monkeypatch, name, value):
    """The start stops at a line that names it."""
    monkeypatch.setenv(f"IVR_AGI_{name}", value)
    with pytest.raises(WrongSettings, match=f"IVR_AGI_{name}: "):
        load()


@pytest.mark.parametrize("secret", ["", " , "])
async def test_no_secret(given, secret):
    """An address without a secret stops the start: an outcome that anybody could forge is worth nothing."""
    status, _, errors = await ivr_agi("serve", sequence=SEQUENCE, **given | {"webhook_secret": secret})
    assert (status, "IVR_AGI_WEBHOOK_SECRET is not set" in errors) == (2, True)


def test_settings(monkeypatch):
    """Off by default; an address is kept to its last letter, and a secret does not show."""
    assert (load().webhook_url, load().webhook_days) == ("", 3)
    monkeypatch.setenv("IVR_AGI_WEBHOOK_SECRET", " canary ")
    monkeypatch.setenv("IVR_AGI_WEBHOOK_URL", "https://shop.example/?wc-api=told")
    found = load()
    assert found.webhook_url == "https://shop.example/?wc-api=told"
    assert found.webhook_secret.get_secret_value() == "canary"
    assert "canary" not in repr(found) + found.model_dump_json()


async def test_off(gateway, given):
    """Without WEBHOOK_URL nobody is told, and nothing piles up."""
    async with Serving(**given | {"webhook_url": ""}) as server:
        assert (await server.call(gateway))["PAYSTATUS"] == "PAID"
    _, output, _ = await ivr_agi("journal", "export", "--format", "json", journal_url=given["journal_url"])
    assert [row["state"] for row in json.loads(output)] == ["paid"]
    journal = Journal(given["journal_url"])
    assert journal.notices(every=True) == []
    journal.close()
