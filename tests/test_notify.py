"""What systemd hears of us, on a real datagram socket."""

import asyncio
import os
import signal
import socket
import uuid
from contextlib import contextmanager, suppress

import pytest
from line import CARD, SEQUENCE, Thinking
from process import Serving

from ivr_agi.notify import Notify
from ivr_agi.simulator.gateway import GatewaySimulator

# Python imports `sitecustomize` by itself: SIGUSR1 then blocks the loop's own thread, and no other.
BLOCK_ON_SIGUSR1 = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(60))
"""


@contextmanager
def systemd(address):
    """Its socket. address: as NOTIFY_SOCKET has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        yield receiver


async def heard(receiver, seconds=20):
    """The next datagram, as a dictionary."""
    async with asyncio.timeout(seconds):
        datagram = await asyncio.get_running_loop().sock_recv(receiver, 4096)
    return dict(line.split("=", 1) for line in datagram.decode().split("\n"))


async def heard_of(receiver, name):
    """The next datagram that says `name`."""
    while name not in (message := await heard(receiver)):
        pass
    return message


async def falls_silent(receiver, seconds):
    """Whether, after what was still on its way, nothing comes for so long."""
    with suppress(TimeoutError):
        for _ in range(20):
            await heard(receiver, seconds)
        return False
    return True


def addresses(tmp_path):
    return [str(tmp_path / "notify"), f"@ivr-agi-test-{uuid.uuid4()}"]


@pytest.mark.parametrize("kind", [0, 1], ids=["path", "abstract"])
async def test_ready_status_watchdog_stopping(tmp_path, kind):
    """READY once, then the beat with the status of that moment, then STOPPING; silence after close."""
    address = addresses(tmp_path)[kind]
    calls = iter(range(100))
    with systemd(address) as receiver:
        notify = Notify(
            {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
        )
        notify.ready(lambda: f"{next(calls)} in\nprogress")
        assert await heard(receiver) == {"READY": "1", "STATUS": "0 in progress"}
        assert await heard(receiver) == {"WATCHDOG": "1", "STATUS": "1 in progress"}
        assert await heard(receiver) == {"WATCHDOG": "1", "STATUS": "2 in progress"}
        notify.stopping("Draining", 2.5)
        stopping = await heard_of(receiver, "STOPPING")
        assert stopping == {"STOPPING": "1", "STATUS": "Draining", "EXTEND_TIMEOUT_USEC": "2500000"}
        notify.close()
        assert await falls_silent(receiver, 0.1)


@pytest.mark.parametrize(
    "also",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}],
)
async def test_no_watchdog(tmp_path, also):
    """No beat where none is asked for, or it is asked of another process."""
    address = str(tmp_path / "notify")
    with systemd(address) as receiver:
        notify = Notify({"NOTIFY_SOCKET": address, **also})
        notify.ready(lambda: "x")
        assert await heard(receiver) == {"READY": "1", "STATUS": "x"}
        assert await falls_silent(receiver, 0.05)
        notify.close()


@pytest.mark.parametrize(
    "address", ["", "/nowhere/notify", "@", "relative", "vsock:2:1", "/x\0y", "/" + "x" * 200]
)
async def test_nobody_there(address):
    """No socket, one that is gone, or no address at all: nothing happens, and nothing fails."""
    notify = Notify({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    notify.ready(lambda: "x")
    notify.stopping("y", 1)
    notify.close()


async def test_full_socket_holds_nothing_up(tmp_path):
    """Systemd does not read: datagrams are dropped, the loop never waits."""
    address = str(tmp_path / "notify")
    with systemd(address) as receiver:
        notify = Notify({"NOTIFY_SOCKET": address})
        for _ in range(1000):
            notify.stopping("x" * 1000, 1)
        assert (await heard(receiver))["STOPPING"] == "1"
        notify.close()


async def test_serve(tmp_path):
    """The process: READY when a call can be made, the beat tells of calls, STOPPING while the last one goes on."""
    address = addresses(tmp_path)[0]
    with systemd(address) as receiver:
        also = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        async with (
            GatewaySimulator(SEQUENCE) as gateway,
            Serving(also, gateway_url=gateway.url, pay_timeout=30) as server,
        ):
            ready = await heard(receiver)
            assert ready == {
                "READY": "1",
                "STATUS": f"Taking calls on 127.0.0.1:{server.port}; 0 in progress",
            }
            card = Thinking(CARD)
            calling = asyncio.create_task(server.call(gateway, {"enter-card": card}))
            await card.asked.wait()
            await heard_of(receiver, "WATCHDOG")
            while "1 in progress" not in (await heard_of(receiver, "WATCHDOG"))["STATUS"]:
                pass
            server.process.terminate()
            stopping = await heard_of(receiver, "STOPPING")
            assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= (300 + 30) * 1e6
            await heard_of(receiver, "WATCHDOG")  # it drains, and lives
            card.go_on.set()
            assert (await calling)["PAYSTATUS"] == "PAID"
    assert server.process.returncode == 0


async def test_hung_loop_stops_the_watchdog(tmp_path):
    """The loop hangs while the process lives: no beat any more, which is when systemd starts it anew."""
    (tmp_path / "sitecustomize.py").write_text(BLOCK_ON_SIGUSR1, encoding="utf-8")
    address = addresses(tmp_path)[1]
    with systemd(address) as receiver:
        also = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000", "PYTHONPATH": str(tmp_path)}
        async with Serving(also) as server:
            for _ in range(3):
                await heard_of(receiver, "WATCHDOG")
            server.process.send_signal(signal.SIGUSR1)
            assert await falls_silent(receiver, 0.5)  # ten beats
            assert server.process.returncode is None
            server.process.kill()
