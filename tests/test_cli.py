"""The commands, each as a process of its own, as an admin runs them."""

import asyncio
import csv
import io
import json
import os
import re
import signal
import sys

import pytest
import warm
from line import CARD, SEQUENCE, sample_card, until
from process import Serving, Terminal, environment, ivr_agi

from ivr_agi import flow
from ivr_agi.simulator.gateway import Fault, GatewaySimulator, Outcome, Rule

EXPORTED = {
    "id",
    "order_id",
    "state",
    "amount",
    "card",
    "ref_id",
    "code",
    "mobile",
    "created_at",
    "updated_at",
}


@pytest.fixture
async def gateway():
    async with GatewaySimulator(SEQUENCE) as simulator:
        yield simulator


# -- serve ------------------------------------------------------------------------------------------


async def test_serve(gateway):
    """A call through the process: paid; the journal's commands tell of it; SIGTERM ends it with 0."""
    async with Serving(gateway_url=gateway.url) as server:
        variables = await server.call(gateway)
        assert variables["PAYSTATUS"] == "PAID"
        status, output, _ = await ivr_agi("journal", "export", "--format", "json")
    assert status == server.process.returncode == 0
    (row,) = json.loads(output)
    assert row.keys() >= EXPORTED
    assert (row["id"], row["order_id"], row["state"], row["amount"]) == (1, "A-1", "paid", 50000)
    assert (row["card"], row["mobile"], row["code"]) == ("603799******7893", "+989123456789", "")
    assert row["ref_id"] == gateway.charges[0].ref_id == variables["PAYREFID"]
    assert server.said("server.stopped")
    step = server.said("call.step")[0]
    assert {"call", "uniqueid", "channel", "order", "state", "event", "ms"} <= step.keys()
    assert server.said("call.ended")[0]["status"] == "PAID"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_while_paying(gateway, number):
    """A signal in the middle of `pay`: the payment is carried through and told, then the process ends."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    async with Serving(gateway_url=gateway.url) as server:
        calling = asyncio.create_task(server.call(gateway))
        await gateway.arrived.wait()
        server.process.send_signal(number)
        await until(lambda: server.said("server.draining"))
        answer.set()
        assert (await calling)["PAYSTATUS"] == "PAID"
    assert server.process.returncode == 0


async def test_killed_while_paying(gateway):
    """Kill -9 in the middle of `pay`: unknown from the next start on, never sent again, not to be paid twice."""
    gateway.rules.append(Rule(Outcome(fault=Fault.SILENCE, charge=True), service="pay"))
    async with Serving(gateway_url=gateway.url) as server:
        calling = asyncio.create_task(server.call(gateway))
        await gateway.arrived.wait()
        server.process.kill()
        assert "PAYSTATUS" not in await calling  # the dialplan's `lost`
    async with Serving(gateway_url=gateway.url) as server:
        assert server.said("journal.recovered")[0]["state"] == "unknown"
        again = await server.call(gateway)
        assert (again["PAYSTATUS"], again["PAYREASON"]) == ("REFUSED", "under-review")
        _, output, _ = await ivr_agi("journal", "export", "--format", "json")
    assert [row["state"] for row in json.loads(output)] == ["unknown"]
    assert [request.service for request in gateway.requests] == ["otp-v2", "pay"]


async def test_killed_before_paying(gateway):
    """Kill -9 at the PIN: the next start lets go of the order, and it can be paid."""
    forever = asyncio.Event()
    async with Serving(gateway_url=gateway.url) as server:

        async def kill():
            server.process.kill()
            await forever.wait()
            return ""

        calling = asyncio.create_task(server.call(gateway, {"enter-pin": kill}))
        await asyncio.wait_for(server.process.wait(), 20)
        forever.set()
        await calling
    async with Serving(gateway_url=gateway.url) as server:
        assert (await server.call(gateway))["PAYSTATUS"] == "PAID"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sequence": ""}, "IVR_AGI_SEQUENCE: not set"),
        ({"port": "x"}, "IVR_AGI_PORT: "),
        ({"journal_url": "sqlite:////nowhere/j.db"}, "IVR_AGI_JOURNAL_URL"),
        ({"host": "192.0.2.1"}, "IVR_AGI_HOST, IVR_AGI_PORT: cannot listen on 192.0.2.1"),
    ],
)
async def test_serve_that_cannot_start(given, said):
    """Whatever is wrong stops the start with a line that names the setting."""
    status, _, errors = await ivr_agi("serve", **{"sequence": SEQUENCE, "port": 0, **given})
    assert status == 2
    assert said in errors
    assert "Traceback" not in errors


# -- the journal ------------------------------------------------------------------------------------


async def test_journal_commands(gateway):
    """list, show and export of an order whose id is a trap for each of them."""
    trap = "=[/x][bold]HYPERLINK"
    async with Serving(gateway_url=gateway.url) as server:
        await server.call(gateway, {}, f"amount=50000&order_id={trap}")
    status, output, _ = await ivr_agi("journal", "list")
    assert status == 0
    assert trap in output
    assert "603799******7893" in output
    status, output, _ = await ivr_agi("journal", "list", "--state", "unknown")
    assert trap not in output
    status, output, _ = await ivr_agi("journal", "show", "1")
    history = output.rpartition("note")[2]
    assert re.findall(r"│ (created|otp_sent|sent|paid) ", history) == ["created", "otp_sent", "sent", "paid"]
    _, output, _ = await ivr_agi("journal", "export", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(output))
    assert row["order_id"] == f"'{trap}"
    assert row["state"] == "paid"


async def test_journal_that_is_not_there(tmp_path):
    """Asking in the wrong folder says so, and begins no journal."""
    status, _, errors = await ivr_agi("journal", "list")
    assert status == 2
    assert "there is no journal" in errors
    assert not list(tmp_path.iterdir())
    (tmp_path / "ivr-agi.db").touch()
    status, _, errors = await ivr_agi("journal", "show", "7")
    assert (status, "there is no attempt 7" in errors) == (1, True)


# -- charge -----------------------------------------------------------------------------------------

CHARGE = ("charge", "--order", "A-1", "--amount", "50000", "--mobile", "09123456789")


@pytest.fixture
def fixed_pin(gateway):
    """A gateway whose PIN is known beforehand: an operator's typing can be prepared."""
    issue = gateway._otp

    def same(fields, order_id, outcome):
        answer = issue(fields, order_id, outcome)
        for issued in gateway._issued.values():
            issued.pin = "123456"
        return answer

    gateway._otp = same
    return "123456"


async def test_charge(gateway, fixed_pin):
    """Order, amount, mobile, then card and PIN on standard input: method 2.2, paid, in the journal."""
    status, output, errors = await ivr_agi(
        *CHARGE, stdin=f"{CARD}\n{fixed_pin}\n", gateway_url=gateway.url, sequence=SEQUENCE
    )
    (charge,) = gateway.charges
    assert (status, errors) == (0, "")
    assert f"Tracking number: {charge.ref_id}" in output
    assert gateway.requests[1].body["ivr"] == 0
    assert gateway.requests[1].body["invoice_id"] == "A-1"
    assert CARD not in output
    again, output, _ = await ivr_agi(
        *CHARGE, stdin=f"{CARD}\n{fixed_pin}\n", gateway_url=gateway.url, sequence=SEQUENCE
    )
    assert again == 1
    assert "already-paid" in output
    assert len(gateway.charges) == 1


@pytest.mark.parametrize(
    ("card", "stdin", "status", "said"),
    [
        (sample_card("51"), "{card}\n123456\n", 1, "Declined, code 51"),
        (sample_card("reset-paid"), "{card}\n123456\n", 3, "may have been charged"),
        (CARD, "{card}\n000000\n", 1, "Declined, code 55"),
        (CARD, "6037991234567890\n", 1, "Nothing was charged"),
        (CARD, "{card}\n123\n", 1, "Nothing was charged"),
        (CARD, "{card}\n", 1, "Nothing was charged"),
        (CARD, "{card}\n\n123456\n", 0, "Paid"),
    ],
)
async def test_charge_outcomes(gateway, fixed_pin, card, stdin, status, said):
    """Each end has its exit status and its sentence."""
    assert fixed_pin
    found, output, _ = await ivr_agi(
        *CHARGE, stdin=stdin.format(card=card), gateway_url=gateway.url, sequence=SEQUENCE, otp_cooldown=0
    )
    assert found == status
    assert said in output


async def charging(gateway, pin, **given):
    """`charge`, under way: card and PIN have been handed to it."""
    process = await warm.start(
        *CHARGE,
        stdin=warm.PIPE,
        stdout=warm.PIPE,
        env=environment(gateway_url=gateway.url, sequence=SEQUENCE, **given),
    )
    process.stdin.write(f"{CARD}\n{pin}\n".encode())
    return process


async def test_charge_interrupted_while_paying(gateway, fixed_pin):
    """Ctrl-C, twice, in the middle of `pay`: carried through, and the operator told the truth."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    process = await charging(gateway, fixed_pin)
    await gateway.arrived.wait()
    output = b""
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        while output.count(b"carried through") <= _:
            output += await asyncio.wait_for(process.stdout.readline(), 20)
    answer.set()
    output += await asyncio.wait_for(process.stdout.read(), 20)
    assert await process.wait() == 0
    assert b"Nothing was charged" not in output
    assert gateway.charges[0].ref_id.encode() in output


async def test_charge_answered_late(gateway, fixed_pin):
    """No answer in time: unknown, exit status 3; it stays for the late one, which settles the payment."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    process = await charging(gateway, fixed_pin, pay_timeout=0.3)
    output = b""
    while b"Listening" not in output:
        output += await asyncio.wait_for(process.stdout.readline(), 20)
    assert b"may have been charged" in output
    answer.set()
    await asyncio.wait_for(process.stdout.read(), 20)
    assert await process.wait() == 3
    _, output, _ = await ivr_agi("journal", "export", "--format", "json")
    (row,) = json.loads(output)
    assert (row["state"], row["ref_id"]) == ("paid", gateway.charges[0].ref_id)


async def test_charge_on_a_terminal_that_has_gone(gateway, fixed_pin):
    """Paid, and nobody to print it for: a script is not told "not paid"."""
    answer = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=answer), service="pay"))
    reading, writing = os.pipe()
    process = await warm.start(
        *CHARGE,
        stdin=warm.PIPE,
        stdout=writing,
        env=environment(gateway_url=gateway.url, sequence=SEQUENCE),
    )
    os.close(writing)
    process.stdin.write(f"{CARD}\n{fixed_pin}\n".encode())
    await gateway.arrived.wait()
    os.close(reading)  # while the bank thinks
    answer.set()
    assert await asyncio.wait_for(process.wait(), 20) == 0
    _, output, _ = await ivr_agi("journal", "list")
    assert " paid " in output


async def test_cards_by_their_hash(gateway, fixed_pin):
    """With CARD_KEYS the journal tells which attempts had one card; a key that is too short is refused."""
    keys = {"card_keys": "k" * 32, "gateway_url": gateway.url, "sequence": SEQUENCE}
    for order, card in (("A", CARD), ("B", sample_card("51")), ("C", CARD)):
        await ivr_agi("charge", "--order", order, *CHARGE[3:], stdin=f"{card}\n{fixed_pin}\n", **keys)
    _, output, _ = await ivr_agi("journal", "list", "--same-card", "1")
    assert re.findall(r"│ ([ABC]) ", output) == ["C", "A"]
    status, _, errors = await ivr_agi("journal", "list", card_keys="short")
    assert (status, "IVR_AGI_CARD_KEYS" in errors) == (2, True)


async def test_charge_types_unseen(gateway, fixed_pin):
    """On a terminal, card and PIN are not echoed."""
    async with Terminal(*CHARGE, gateway_url=gateway.url, sequence=SEQUENCE) as terminal:
        await terminal.until(b"Card number (unseen): ")
        terminal.type(CARD)
        await terminal.until(b"PIN (unseen; empty for a new one): ")
        terminal.type(fixed_pin)
        await terminal.until(b"Tracking number")
        assert await terminal.process.wait() == 0
    assert CARD.encode() not in terminal.shown
    assert fixed_pin.encode() not in terminal.shown


# -- without Asterisk -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digits", "status"),
    [
        ([], 0),
        (["1", CARD, "pin"], 0),
        (["1", CARD], 0),
        (["1" + CARD], 0),
        ([f"1 {CARD} pin"], 0),
        (["2"], 1),
        (["1", sample_card("51"), "pin"], 1),
        (["1", CARD, "00000", "h"], 1),
        (["1", sample_card("html"), "pin"], 1),
        (["h"], 1),
    ],
)
async def test_demo(digits, status):
    """`demo --script` pays unattended; its exit status is 0 only if the payment succeeded."""
    found, output, errors = await ivr_agi("demo", "--script", *digits)
    assert (found, errors) == (status, "")
    assert ("paid" in output.rpartition("journal")[2]) is (status == 0)
    assert "Traceback" not in output


async def test_demo_speaks_both_languages():
    """Prompts are shown in Persian and English, the SMS with its PIN, and the journal's row at the end."""
    _, output, _ = await ivr_agi("demo", "--script", "--language", "ask", "2", "1", CARD, "pin")
    assert "enter-card" in output
    assert "Please key in" in output
    assert "لطفاً" in output
    assert "SMS" in output
    assert "PAYSTATUS    PAID" in output
    assert "The merchant's journal" in output


async def test_demo_uses_nothing_real(tmp_path):
    """A demo on a merchant's machine does not touch the merchant's journal or gateway."""
    status, _, _ = await ivr_agi(
        "demo",
        "--script",
        journal_url=f"sqlite:///{tmp_path}/real.db",
        gateway_url="https://127.0.0.1:9/",
        sequence="real",
    )
    assert status == 0
    assert not (tmp_path / "real.db").exists()


async def test_phone(gateway):
    """`phone URL` calls any FastAGI server."""
    async with Serving(gateway_url=gateway.url) as server:
        status, output, _ = await ivr_agi(
            "phone", f"agi://127.0.0.1:{server.port}/pay?amount=50000", "--script", "2"
        )
        assert status == 1
        assert "CANCELLED" in output
    status, _, errors = await ivr_agi("phone", f"agi://127.0.0.1:{server.port}/pay", "--script", "2")
    assert (status, "no FastAGI server" in errors) == (2, True)


async def test_simulator():
    """`simulator` says where it is, prints the PINs it sends, and its PIN pays."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "ivr_agi", "simulator", "--port", "0", "--sequence", SEQUENCE],
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    url = re.search(r"http://\S+", (await asyncio.wait_for(process.stdout.readline(), 20)).decode())[0]

    async def pin():
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        return re.search(r"PIN (\d+)", line.decode())[1] + "#"

    async with Serving(gateway_url=url) as server:
        variables = await server.call(None, {"enter-pin": pin})
    process.terminate()
    await process.wait()
    assert variables["PAYSTATUS"] == "PAID"


async def test_flow():
    """`flow` prints the diagram."""
    assert await ivr_agi("flow") == (0, flow.diagram() + "\n", "")


async def test_sounds(tmp_path):
    """`sounds check` is content with the shipped set; `install` copies it and says what it would do."""
    # All of them are looked at in tests/sounds/test_shipped.py: a sixth of a minute.
    status, output, _ = await ivr_agi("sounds", "check", "--only", "paid", "--only", "numbers/7")
    assert (status, output) == (0, "all sounds are there and in order\n")
    status, output, _ = await ivr_agi("sounds", "install", str(tmp_path / "sounds"), "--dry-run")
    assert "enter-card.wav" in output
    assert not (tmp_path / "sounds").exists()
    await ivr_agi("sounds", "install", str(tmp_path / "sounds"))
    assert (tmp_path / "sounds/fa/ivr-agi/enter-card.wav").is_file()
    (tmp_path / "sounds/fa/ivr-agi/enter-card.wav").unlink()
    status, output, _ = await ivr_agi("sounds", "check", "--installed", str(tmp_path / "sounds"))
    assert (status, output) == (1, "fa/ivr-agi/enter-card.wav is missing\n")


async def test_version():
    """`--version` and `--help` need no settings."""
    status, output, _ = await ivr_agi("--version")
    assert (status, bool(re.fullmatch(r"\d+\.\d+\.\d+\n", output))) == (0, True)
    status, output, _ = await ivr_agi("--help", port="nonsense")
    assert status == 0
    assert all(
        command in output
        for command in ("serve", "demo", "phone", "simulator", "charge", "journal", "sounds", "flow")
    )
