"""The configuration of the compose file's Asterisk, loaded by a real one: complete, closed, and it pays.

What lies in the image is put together here as Dockerfile.asterisk says it; only folders, ports and
the place of the trunk's file are this run's own.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from harness import Asterisk
from line import until
from robot import Call
from rootfs import REPOSITORY, SUITE

from ivr_agi.simulator.gateway import sample_card

IMAGE = re.findall(
    r"^FROM debian:(\w+)-slim$", (REPOSITORY / "Dockerfile.asterisk").read_text(), re.MULTILINE
)[0]
pytestmark = [
    pytest.mark.asterisk,
    pytest.mark.skipif(
        IMAGE != SUITE, reason=f"the image has the Asterisk of Debian {IMAGE}, not of {SUITE}"
    ),
]

COMPOSE = REPOSITORY / "asterisk-conf/compose"
CARD = sample_card("paid")
COMMAND_SECONDS = 20
# What the robot caller needs and no payment line may have: a manager user, and keys pressed by it.
ROBOT_MODULES = "require = app_senddtmf.so\nrequire = app_userevent.so\n"
ROBOT_DIALPLAN = "\n[robot]\nexten => s,1,Wait(300)\n"


class ComposeAsterisk(Asterisk):
    """An Asterisk with the files of the image. robot: with what the robot caller needs, too."""

    def __init__(self, tree, home, *, robot=False):
        super().__init__(tree, home)
        self._robot = robot

    def command(self, line):
        """Say a line at Asterisk's own prompt, and return what it answers."""
        # Its files are seen from inside its own mounts only.
        enter = ["nsenter", "--mount", "--target", str(self._process.pid), "chroot", str(self.tree)]
        return subprocess.run(
            [*enter, "/usr/sbin/asterisk", "-C", "/mnt/etc/asterisk.conf", "-rx", line],
            capture_output=True,
            check=True,
            text=True,
            timeout=COMMAND_SECONDS,
        ).stdout

    def _furnish(self):
        super()._furnish()
        etc = self.home / "etc"
        folders, manager = (etc / "asterisk.conf").read_text(), (etc / "manager.conf").read_text()
        shutil.rmtree(etc)
        etc.mkdir()
        for name in kept():
            shutil.copy(self.tree / "etc/asterisk" / name, etc)
        for conf in [*COMPOSE.glob("*.conf"), *COMPOSE.parent.glob("*.conf")]:
            shutil.copy(conf, etc)
        options = (COMPOSE / "asterisk.conf").read_text().partition("[options]")
        (etc / "asterisk.conf").write_text(folders.partition("[options]")[0] + "".join(options[1:]))
        replace(etc / "pjsip.conf", "0.0.0.0:5060", f"127.0.0.1:{self.sip_port}")
        replace(etc / "pjsip.conf", "/run/secrets/pjsip_trunk", "/mnt/etc/pjsip_trunk")
        (etc / "pjsip_trunk").write_text(filled_in())
        if self._robot:
            (etc / "manager.conf").write_text(manager)
            append(etc / "modules.conf", ROBOT_MODULES)
            append(etc / "extensions.conf", ROBOT_DIALPLAN)


def kept():
    """Name the files of Debian's own configuration that Dockerfile.asterisk keeps."""
    (names,) = re.findall(r"mv ((?:\w+\.conf )+)/tmp/kept/", (REPOSITORY / "Dockerfile.asterisk").read_text())
    return names.split()


def filled_in():
    """The trunk's file as an admin would fill it in; its provider is nobody on loopback."""
    given = {"user": "line", "password": "one", "another password": "two"}
    pattern = (COMPOSE / "pjsip_trunk.conf.example").read_text()
    return re.sub(r"<([^>]+)>", lambda blank: given.get(blank[1], "127.0.0.1"), pattern)


def replace(path, old, new):
    text = path.read_text()
    assert old in text, f"{path.name} has no {old}"
    path.write_text(text.replace(old, new))


def append(path, text):
    path.write_text(path.read_text() + text)


@pytest.fixture(scope="module")
def closed(asterisk, tmp_path_factory):
    """The configuration as it is shipped."""
    yield from running(ComposeAsterisk(asterisk.tree, tmp_path_factory.mktemp("compose")))


@pytest.fixture(scope="module")
def with_robot(asterisk, tmp_path_factory):
    """The same, and a robot that may call in."""
    yield from running(ComposeAsterisk(asterisk.tree, tmp_path_factory.mktemp("compose-robot"), robot=True))


def running(one):
    one.start()
    yield one
    one.stop()


async def test_it_loads_without_a_complaint(closed):
    """No error and no warning at the start: each file is found, each module and each option known."""
    await until(lambda: "Asterisk Ready" in closed.log)  # its log is written by a thread of its own
    assert [line for line in closed.log.splitlines() if re.search(r"\b(ERROR|WARNING)\b", line)] == []


def test_dialplan_is_there(closed):
    """The payment line is there, and the trunk's callers come to it."""
    assert "AGI(${IVR_AGI_URL}?${query})" in closed.command("dialplan show ivr-agi-pay")
    assert "Dial(${IVR_AGI_OPERATOR},60)" in closed.command("dialplan show ivr-agi")
    for number in ("02112345678", "+982112345678", "s"):
        assert "Goto(ivr-agi,s,1)" in closed.command(f"dialplan show {number}@from-trunk")
    assert "agi://ivr-agi:4573/pay" in closed.command("dialplan show globals")


def test_trunk_and_phone_are_there(closed):
    """The trunk's file, filled in, makes two endpoints; digits come as RTP events, sound comes to Asterisk."""
    shown = closed.command("pjsip show endpoints")
    assert re.findall(r"^ Endpoint:  (\w+) ", shown, re.MULTILINE) == ["operator", "trunk"]
    for name, context in (("operator", "from-phone"), ("trunk", "from-trunk")):
        options = dict(
            re.findall(r"^ (\w+) +: (.*?) *$", closed.command(f"pjsip show endpoint {name}"), re.MULTILINE)
        )
        found = [
            options[option] for option in ("context", "dtmf_mode", "direct_media", "allow_transfer", "allow")
        ]
        assert found == [context, "rfc4733", "false", "false", "(alaw|ulaw)"]
    transport = closed.command("pjsip show transport transport-udp")
    assert re.search(r"external_media_address +: 127\.0\.0\.1", transport), "the trunk's file adds to it"


def test_without_a_trunk_nobody_can_call(asterisk, tmp_path):
    """The trunk's file is not there yet: it starts all the same, and there is no endpoint."""

    class Bare(ComposeAsterisk):
        def _furnish(self):
            super()._furnish()
            (self.home / "etc/pjsip_trunk").unlink()

    bare = Bare(asterisk.tree, tmp_path)
    bare.start()
    try:
        assert "No objects found" in bare.command("pjsip show endpoints")
    finally:
        bare.stop()


def test_leaks_are_closed(closed):
    """Each leak of digits that configuration can open is shut, as Asterisk itself tells."""
    channels = closed.command("logger show channels")
    assert "DTMF" not in channels
    assert "DEBUG" not in channels
    assert "FAX" not in channels
    assert re.search(r"Manager \(AMI\):\s+No", closed.command("manager show settings"))
    assert "CEL Logging: Disabled" in closed.command("cel show status")
    assert re.search(r"Logging:\s+Disabled", closed.command("cdr show status"))
    assert re.search(r"HTTP Server Status:\s.*Disabled", closed.command("http show status"), re.DOTALL)
    loaded = closed.command("module show")
    for module in (
        "res_pjsip_logger", "res_pjsip_history", "res_pjsip_dtmf_info", "res_pjsip_endpoint_identifier_anonymous",
        "app_mixmonitor", "app_chanspy", "app_record", "app_read", "app_senddtmf", "app_system", "func_shell",
        "cdr_", "cel_", "res_ari",
    ):  # fmt: skip
        assert module not in loaded, module
    assert "app_dial.so" in loaded
    assert "ivr-agi" in closed.command("moh show classes")


async def test_paid(with_robot, gateway, server):
    """A caller pays through it, from the first word to the tracking number; neither card nor PIN is written down."""
    pins = []

    def pin():
        pins.append(gateway.pin_for(CARD))
        return pins[-1] + "#"

    keys = {"numbers/50": "1", "enter-card": CARD, "enter-pin": pin}
    variables = {"IVR_AGI_URL": server.url, "AMOUNT": "50000", "ORDER": "A-1"}
    async with Call(with_robot, "s@from-trunk", keys, variables=variables, hang_up_at="paid") as call:
        record = await call.ended()

    assert record.at_h["PAYSTATUS"] == "PAID"
    assert record.at_h["PAYREFID"] == gateway.charges[0].ref_id
    assert set(record.music) == {"ivr-agi"}
    await until(lambda: f"PAID order A-1 rials 50000 ref {gateway.charges[0].ref_id}" in with_robot.log)
    for path in with_robot.home.rglob("*"):
        if path.is_file() and not path.is_relative_to(with_robot.sounds):
            written = path.read_bytes()
            assert CARD.encode() not in written, path
            assert not any(re.search(rb"(?<!\d)" + one.encode() + rb"(?!\d)", written) for one in pins), path
