"""A card and a PIN through every outcome and every fault of a real server, at DEBUG, in both forms of the log.

Then all that could hold them is searched: log, journal, pages, notices, look-ups, commands, environment, folders.
"""

from __future__ import annotations

import asyncio
import errno
import signal

import httpx
import pytest
from canaries import (
    ALL,
    CARD,
    KEYED,
    PIN,
    SECRETS,
    TOKEN,
    assert_clean,
    assert_files_clean,
    assert_found,
    search,
    spoken,
)
from echoes import echoes
from line import until
from served import INVOICE, children, proc, serving
from test_echoes import is_kept
from typer.testing import CliRunner

from ivr_agi import cli, outcomes
from ivr_agi.journal import AttemptState
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule

WRONG = f"{CARD[:-1]}1"  # a slip of the finger: fifteen of the card's digits are there
# What callers do on the way; each of these calls ends somehow.
CALLERS = {
    **{f"hangs up at {place}": {place: HANG_UP} for place in (
        "welcome", "confirm-amount", "enter-card", "enter-pin", "please-wait", "paid", "tracking-number",
    )},
    "wrong card, then right": {"enter-card": [WRONG, CARD, ...]},
    "wrong cards": {"enter-card": [WRONG, ...]},
    "half a card": {"enter-card": [f"{CARD[:12]}#", ...]},
    "card starts over": {"enter-card": [f"{CARD[:13]}*", f"{CARD}", ...]},
    "card and more": {"enter-card": [f"{CARD}{PIN}", ...]},
    "silent at the card": {"enter-card": [""]},
    "strays": {"enter-card": ["#", "*#", CARD, ...], "enter-pin": ["#", f"*{PIN}#", ...]},
    "PIN too short": {"enter-pin": ["1234#", f"{PIN}#", ...]},
    "PIN too long": {"enter-pin": [f"{PIN}{PIN}#", ...]},
    "card for a PIN": {"enter-pin": [f"{CARD}#", ...]},
    "a new PIN": {"enter-pin": ["*#", f"{PIN}#", ...]},
    "PIN for a card": {"enter-card": [f"{PIN}#", ...]},
    "card for the confirmation": {"confirm-amount": [CARD, ...]},
    "cancels": {"confirm-amount": "2"},
    "a person": {"confirm-amount": "0"},
}  # fmt: skip
# What an admin may write in place of token=…
MISSPELT = (
    f"tokn={TOKEN}&", f"{TOKEN}&", f"token={TOKEN}x&", f"token={TOKEN}&token={TOKEN}&", f"language={TOKEN}&",
    f"mobile={TOKEN}&", f"token {TOKEN}&", f"TOKEN={TOKEN}&", "",
)  # fmt: skip
ON_ACCEPT = [fault for fault in Fault if fault.on_accept]


def make_rules(gateway):
    """An order for each outcome; returns the orders."""
    outcomes_ = {
        **{f"code {code}": Outcome(code=code) for code in outcomes.DECLINES},
        "code 907": Outcome(code="907"),
        **{str(fault): Outcome(fault=fault) for fault in Fault if not fault.on_accept},
        **{f"{fault} charged": Outcome(fault=fault, charge=True) for fault in Fault if not fault.on_accept},
        **{
            f"status {status}": Outcome(status=status, body=b"{}")
            for status in (201, 302, 400, 403, 404, 500, 503)
        },
    }
    gateway.rules += [Rule(outcome, service="pay", order_id=name) for name, outcome in outcomes_.items()]
    otps = {"otp refused": Outcome(code="78"), "otp lost": Outcome(fault=Fault.CLOSE_AFTER_READ, charge=True)}
    gateway.rules += [Rule(outcome, service="otp-v2", order_id=name) for name, outcome in otps.items()]
    return [*outcomes_, *otps]


async def every_outcome(served):
    """All of these calls; the statuses that came of them."""
    orders = make_rules(served.gateway)
    echoed = {f"echo {number}": answer for number, answer in enumerate(clean_echoes().values())}
    served.parrot.answers.update(echoed)
    told = await served.calls(
        *[served.call(query=f"amount=50000&order_id={order}") for order in (*orders, *echoed)],
        *[served.call(script, f"amount=50000&order_id={who}") for who, script in CALLERS.items()],
        served.call({"enter-invoice": f"{INVOICE}#"}, "order_id=ask"),
        served.call({"enter-invoice": [f"{CARD}#", f"{PIN}{CARD}#", "12#"]}, "order_id=ask"),
        served.call({"enter-amount": [f"{CARD}#", f"{PIN}{PIN}#", "50000#"]}, "order_id=keyed"),
        served.call({"enter-mobile": [CARD[:11], "09123456789"]}, "amount=50000&order_id=m", caller_id=""),
        served.call(query="amount=0"),
        *[served.call(query="amount=50000", token=token) for token in MISSPELT],
    )
    for fault in ON_ACCEPT:
        served.gateway.rules.insert(0, Rule(Outcome(fault=fault), times=1))
        told.append(await served.call(query=f"amount=50000&order_id={fault}"))
    return {variables.get("PAYSTATUS") for variables in told}


def clean_echoes():
    """Those that the gateway's client is known to keep (test_echoes.py) are left out; a tenth of the others."""
    clean = {name: raw for name, raw in echoes().items() if not is_kept(name)}
    return dict(list(clean.items())[::10])


async def late_answer(served):
    """`pay` is answered after its time limit: unknown at first, settled later."""
    answer = asyncio.Event()
    served.gateway.rules.insert(0, Rule(Outcome(wait=answer), service="pay", order_id="late"))
    assert (await served.call(query="amount=50000&order_id=late"))["PAYSTATUS"] == "UNKNOWN"
    answer.set()
    await until(lambda: served.said("pay.late"))


async def broken_journal(served, switch):
    """Its disk fails while the PIN is keyed, and while the bank thinks."""

    def pin():
        switch.write_text(str(errno.ENOSPC))
        return f"{PIN}#"

    assert (await served.call({"enter-pin": pin}, "amount=50000&order_id=d1"))["PAYREASON"] == "not-recorded"
    switch.unlink()
    await until(lambda: served.said("journal.in_order_again"))
    answer = asyncio.Event()
    served.gateway.arrived.clear()
    served.gateway.rules.insert(0, Rule(Outcome(wait=answer), service="pay", order_id="d2"))
    calling = asyncio.create_task(served.call(query="amount=50000&order_id=d2"))
    await served.gateway.arrived.wait()
    switch.write_text(str(errno.EIO))
    answer.set()
    await until(lambda: served.said("journal.outcome_not_written"))
    switch.unlink()
    assert (await calling)["PAYSTATUS"] == "PAID"


async def pages(served):
    """Each page, and addresses that have a card in them."""
    paths = (
        "healthz",
        "readyz",
        "metrics",
        "",
        "docs",
        f"{CARD}",
        f"healthz?card={CARD}&pin={PIN}",
        "readyz/",
    )
    async with httpx.AsyncClient(trust_env=False) as client:
        base = f"http://127.0.0.1:{served.http}"
        answers = [await client.get(f"{base}/{path}", headers={"X-Card": CARD}) for path in paths]
        answers += [await client.post(f"{base}/metrics", content=CARD)]
    return "\n".join(f"{answer.status_code} {answer.headers} {answer.text}" for answer in answers)


async def two_signals(served):
    """A drain with one caller at the bank and one at the PIN; a second signal; the process ends."""
    answer = asyncio.Event()
    served.gateway.arrived.clear()
    served.gateway.rules.insert(0, Rule(Outcome(wait=answer), service="pay", order_id="drained"))
    paying = asyncio.create_task(served.call(query="amount=50000&order_id=drained"))
    await served.gateway.arrived.wait()
    served.process.send_signal(signal.SIGTERM)
    await until(lambda: served.said("server.draining"))
    served.process.send_signal(signal.SIGINT)
    answer.set()
    assert (await paying)["PAYSTATUS"] == "PAID"
    await asyncio.wait_for(served.process.wait(), 20)
    assert served.process.returncode == 0


def looked_at(served, monkeypatch):
    """What the commands for the journal print."""
    monkeypatch.chdir(served.home)
    for name, value in served.settings.items():
        if name.startswith("IVR_AGI_"):
            monkeypatch.setenv(name, value)
    shown = ""
    for words in (
        "list --limit 1000", "review", "export --format csv", "export --format json", "notify", "notify --all",
        "show 1", "show 20", "show 60", "list --same-card 1",
    ):  # fmt: skip
        ran = CliRunner().invoke(cli.app, ["journal", *words.split()])
        assert ran.exit_code in (0, 1), (words, ran.output)
        shown += ran.output
    return shown


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["console", "json"])
async def test_every_outcome(tmp_path, failing_disk, monkeypatch, form):
    """Every end that a payment can have, and then no canary in any place but the bank's own requests."""
    switch = tmp_path / "fault"
    also = {"LD_PRELOAD": str(failing_disk), "DISK_FAULT": str(switch)}
    also |= {"PYTHONASYNCIODEBUG": "1"} if form == "json" else {}
    async with serving(tmp_path, form, also=also) as served:
        statuses = await every_outcome(served)
        assert statuses >= {
            "PAID",
            "DECLINED",
            "UNKNOWN",
            "FAILED",
            "CANCELLED",
            "NOINPUT",
            "REFUSED",
            "OPERATOR",
        }
        await late_answer(served)
        await broken_journal(served, switch)
        shown = await pages(served)
        pid = served.process.pid
        environ, cmdline = proc(pid, "environ"), proc(pid, "cmdline") + proc(pid, "comm")
        offspring = children(pid)
        await two_signals(served)
        assert served.shop.got
        told_shop = b"\n".join(got.body + repr(got.headers).encode() for got in served.shop.got)
    assert served.orders.asked
    assert_clean(served.log, "the log")
    assert (served.out / "stdout").read_bytes() == b""
    assert "call.step" in served.log
    assert any(name.endswith("-journal") for name in served.watcher.seen)
    for page in served.watcher.pages:
        assert_clean(page or b"-", "the journal, in the middle of a call")
    assert_files_clean(served.home)
    assert_files_clean(served.temp)
    printed = looked_at(served, monkeypatch)
    assert_clean(printed, "ivr-agi journal")
    assert_clean(shown, "a page")
    assert_clean(told_shop, "a notice", *ALL)
    assert_clean(repr(served.orders.asked) + repr(served.orders.wrong), "an order look-up")
    for channel in served.channels:
        assert_clean(repr(channel.variables) + spoken(channel.commands), "the dialplan")
    assert_clean(cmdline, "the command line", *ALL)
    assert_clean(environ, "the environment", *KEYED)
    assert offspring == []
    # The controls: what is there by design is found by the same search.
    assert_found(environ, *SECRETS)
    assert len(served.gateway.requests) > 100
    assert_found(repr([request.body for request in served.gateway.requests]), *KEYED, SECRETS[0])
    assert search(served.log.replace("call.step", f"call.step {PIN}", 1)) == ["PIN, plain"]
    assert AttemptState.PAID in printed


@pytest.mark.parametrize("misspelt", [f"{TOKEN}=1&", f"{TOKEN}={TOKEN}&"])
async def test_misspelt_token(tmp_path, misspelt):
    """A token in a key's place is not quoted in the complaint about it."""
    async with serving(tmp_path) as served:
        assert (await served.call(token=misspelt))["PAYSTATUS"] == "REFUSED"
    assert_clean(served.log, "the log")
