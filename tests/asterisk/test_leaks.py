"""Card and PIN in what Asterisk writes: nowhere, unless one of its leaks is switched on; each is then found."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

import pytest
from harness import Asterisk
from leaks import leaks, told
from robot import Call
from rootfs import rootfs
from serving import SEQUENCE, PaymentServer

from ivr_agi.doctor import asterisk as asterisk_doctor
from ivr_agi.doctor.findings import Level
from ivr_agi.simulator.gateway import GatewaySimulator, sample_card

pytestmark = pytest.mark.asterisk

CARD = sample_card("paid")
SPY = "[spy]\nsecret = spies\nread = all\nwrite = command\n"
# Call records with all that they can tell are no leak.
RECORDS = {
    "modules.conf": "load = res_cdrel_custom.so\nrequire = func_cdr.so\nrequire = cdr_custom.so\n",
    "cdr.conf": "[general]\nenable = yes\n",
    "cdr_custom.conf": "[mappings]\nMaster.csv => "
    + ",".join(
        f"${{CDR({name})}}" for name in ("clid", "dst", "channel", "lastapp", "lastdata", "userfield")
    ),
    "manager.conf": SPY,
}
EVENTS = {
    "modules.conf": RECORDS["modules.conf"] + "require = cel_custom.so\n",
    "cel.conf": "[general]\nenable = yes\nevents = ALL\napps = all\n",
    "cel_custom.conf": "[mappings]\nEvents.csv => ${eventtype},${eventextra},${CHANNEL(appname)}\n",
}
# What is switched on -> the configuration, and the one file that then tells.
LEAKS = {
    "nothing": ({}, set()),
    "dtmf in logger.conf": ({"logger.conf": "keys => dtmf\n"}, {"log/keys"}),
    "all channel events": (EVENTS, {"log/cel-custom/Events.csv"}),
    "agi debug": ({}, {"log/messages"}),
    "a manager who reads dtmf": ({}, {"manager"}),
    "a manager who reads agi": ({}, set()),  # sees what we send, but no answer to GET DATA
}
# What is switched on -> the file in which `ivr-agi check` then reports it.
REPORTED = {"dtmf in logger.conf": {"logger.conf"}, "all channel events": {"cel.conf"}}
LEAKY = re.compile(r"has level dtmf|has read class|records events")


def test_finds_keys_whole_and_one_by_one(tmp_path):
    """The finder finds a card in one piece, apart, coded and as single keys, and not in a file of other numbers."""
    (tmp_path / "whole").write_text(f"User entered '{CARD}'\n")
    (tmp_path / "spaced").write_text(f"card {' '.join(CARD)}\n")
    (tmp_path / "coded").write_bytes(base64.b64encode(f"card={CARD}".encode()))
    (tmp_path / "single").write_text("".join(f"DTMF end '{key}' received\n" for key in CARD))
    (tmp_path / "other").write_text("".join(f"DTMF end '{key}' received {key}\n" for key in CARD[::-1]))
    assert leaks(tmp_path, CARD) == {"whole", "spaced", "coded", "single"}
    assert told(b'""digit"": ""4""\n""digit"": ""2""\n', "42")


async def test_card_and_pin_in_what_asterisk_writes(asterisk, tmp_path):
    """He pays; logs, call records and databases have neither card nor PIN. With a leak they have, and it is found."""
    del asterisk  # its fixture has seen to it that there can be one

    async with (
        GatewaySimulator(SEQUENCE, pin_length=12) as gateway,  # too long to come up by chance
        PaymentServer(tmp_path, gateway.url, SEQUENCE) as server,
    ):

        async def found(number, name):
            home = tmp_path / str(number)
            running = Asterisk(rootfs(), home, RECORDS | LEAKS[name][0])
            running.start()
            try:
                masked = await pay(running, server, gateway, f"L-{number}", name)
            finally:
                running.stop()  # what was still to be written is written now
            assert masked in (home / "log/messages").read_text()
            return leaks(home, CARD, gateway.pins[CARD, f"L-{number}"])

        files = await asyncio.gather(*[found(number, name) for number, name in enumerate(LEAKS)])
    assert dict(zip(LEAKS, files, strict=True)) == {name: files for name, (_, files) in LEAKS.items()}
    for number, name in enumerate(LEAKS):
        # Our spy reads all, in each of these; what is asked for at run time is in no file.
        expected = {"manager.conf"} | REPORTED.get(name, set())
        assert reported(tmp_path / str(number) / "etc") == expected, name


def reported(folder):
    """Name each file in which `ivr-agi check` finds a leak of keys."""
    findings = asterisk_doctor.check(folder, languages={"fa": "fa"}, music_class="ivr-agi", port=0)
    leaky = (finding for finding in findings if finding.level is Level.ERROR and LEAKY.search(finding.what))
    return {Path(finding.where).name.partition(":")[0] for finding in leaky}


async def pay(asterisk, server, gateway, order, leak):
    """One paid call, while somebody listens at the manager interface; returns the masked card."""
    spied = "DTMF" if leak.endswith("dtmf") else "AGI" if leak.endswith("agi") else "nothing"

    def spy(event):
        if event["Event"].startswith(spied) and event.get("Uniqueid", "").startswith("line"):
            with (asterisk.home / "manager").open("a") as notes:
                notes.writelines(f"{name}: {value}\n" for name, value in event.items())

    keys = {"numbers/50": "1", "enter-card": CARD, "enter-pin": lambda: gateway.pins[CARD, order]}
    variables = {"IVR_AGI_URL": server.url, "AMOUNT": "50000", "ORDER": order}
    async with asterisk.manager(spy, "spy", "spies") as ami:
        if leak == "agi debug":
            await ami.action("Command", Command="agi set debug on")
        async with Call(asterisk, "s@ivr-agi", keys, variables=variables, hang_up_at="paid") as call:
            record = await call.ended()
    assert record.at_h["PAYSTATUS"] == "PAID"
    return record.at_h["PAYCARD"]
