"""One real Asterisk for the whole session; a gateway and a server for each test."""

from __future__ import annotations

import os

import pytest
from harness import Asterisk
from rootfs import NoAsterisk, rootfs
from serving import SEQUENCE, PaymentServer

from ivr_agi.simulator.gateway import GatewaySimulator


@pytest.fixture(scope="session")
def asterisk(tmp_path_factory):
    """Bring Asterisk up; skip where that is impossible, but never silently on CI."""
    missing = ""
    try:
        tree = rootfs()
    except NoAsterisk as why:
        missing = f"no Asterisk here: {why}"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    if missing:
        pytest.skip(missing)
    running = Asterisk(tree, tmp_path_factory.mktemp("asterisk"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def gateway():
    """The gateway's stand-in, in this process."""
    async with GatewaySimulator(SEQUENCE) as running:
        yield running


@pytest.fixture
async def server(tmp_path, gateway):
    """`ivr-agi serve`, in a process of its own."""
    async with PaymentServer(tmp_path, gateway.url, SEQUENCE, otp_cooldown="0") as running:
        yield running
    print(running.output)  # noqa: T201 - shown beside a test that fails
