"""The TLS tunnel between Asterisk's host and ivr-agi's: both ends as shipped, and what docs/tunnels.md says of them."""

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
from contextlib import suppress

import pytest
import trustme
from debian import program
from line import CARD, Thinking, until
from stunnel import ASTERISK, IVR_AGI, ROOT, SHIPPED, context, make_certificates, open_tunnel

from ivr_agi.settings import Settings
from ivr_agi.simulator.channel import ScriptedHandset, dial

AT_ONCE = 1.5  # seconds; a round through both ends takes milliseconds
STRANGERS = {
    "none": (lambda papers: papers.none(), "peer did not return a certificate", "alert certificate required"),
    "another CA's": (
        lambda papers: papers.issued(ASTERISK, trustme.CA()),
        "CERT: Pre-verification error: unable to get local issuer certificate",
        "alert unknown ca",
    ),
    "expired": (
        lambda papers: papers.issued(ASTERISK, until_now=True),
        "CERT: Pre-verification error: certificate has expired",
        "alert certificate expired",
    ),
    "another name's": (
        lambda papers: papers.issued("somebody"),
        "CERT: Subject checks failed",
        "alert internal error",
    ),
    "the other end's": (
        lambda papers: papers.right(IVR_AGI),
        "CERT: Pre-verification error: unsuitable certificate purpose",
        "alert unsupported certificate",
    ),
}
IMPOSTORS = {
    "another CA's": lambda papers: papers.issued(IVR_AGI, trustme.CA()),
    "expired": lambda papers: papers.issued(IVR_AGI, until_now=True),
    "another name's": lambda papers: papers.issued("somebody"),
    "the other end's": lambda papers: papers.right(ASTERISK),
}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The CA and the certificates of the document's commands."""
    program("stunnel")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def tunnel(tmp_path, made):
    """A payment line behind a tunnel as the documents have it."""
    async with open_tunnel(tmp_path, made) as opened:
        yield opened


def outcomes(logged):
    return [entry["status"] for entry in logged if entry["event"] == "call.ended"]


async def caller_at_the_pin(tunnel):
    """A caller who has come as far as the PIN, and thinks: his channel, its run, and the answer."""
    pin = Thinking("")
    channel = await tunnel.dial(tunnel.line.buyer(enter_pin=pin))
    running = asyncio.create_task(channel.run())
    await until(lambda: pin.asked.is_set() or running.done())
    assert pin.asked.is_set(), channel.variables
    return channel, running, pin


async def cut(channel, running):
    """Wait for the end of Asterisk's connection while the caller thinks; the variables as they were then."""
    await until(lambda: channel._reader.at_eof() or channel._reader.exception())
    running.cancel()  # Asterisk itself leaves GET DATA when the connection ends; its stand-in asks on
    await asyncio.gather(running, return_exceptions=True)
    return channel.variables


async def test_paid_call_and_what_the_wire_shows(tunnel):
    """A caller pays through both ends; the wire between them is TLS, and neither card, PIN nor a word of AGI is on it."""
    ended = await tunnel.call(tunnel.line.buyer())
    assert ended.status == "PAID"
    assert tunnel.line.services() == ["otp-v2", "pay"]
    pin = tunnel.line.gateway.pin_for(CARD)
    told = [CARD, pin, "agi_request", "GET DATA", "PAYSTATUS"]
    assert [word for word in told if word.encode() in tunnel.plain.everything] == told
    assert [word for word in told if word.encode() in tunnel.wire.everything] == []
    for direction in (tunnel.wire.forth, tunnel.wire.back):
        assert records(direction) == {0x14, 0x16, 0x17}
    await tunnel.client.logs("Connection closed")
    assert [word for word in told if word in tunnel.server.log + tunnel.client.log] == []


def records(stream):
    """The kinds of the TLS records that a stream is made of, whole, from its first byte to its last."""
    kinds = set()
    while stream:
        kinds.add(stream[0])
        assert stream[1] == 3, "no TLS record"
        length = 5 + int.from_bytes(stream[3:5], "big")
        assert len(stream) >= length, "cut record"
        stream = stream[length:]
    return kinds


@pytest.mark.parametrize("shown", STRANGERS)
async def test_stranger_does_not_get_through(tmp_path, made, shown):
    """Asterisk's end with a certificate that is not right: ivr-agi sees no connection, the call is lost at once, both logs say why."""
    papers, at_server, at_client = STRANGERS[shown]
    async with open_tunnel(tmp_path, made, client=papers) as tunnel, asyncio.timeout(10):
        async with asyncio.timeout(AT_ONCE):
            ended = await tunnel.call(tunnel.line.buyer())
        assert ended.variables == {}
        assert ended.heard == []
        await tunnel.server.logs(at_server)
        await tunnel.client.logs(at_client)
        assert tunnel.plain.connections == 0


@pytest.mark.parametrize("shown", IMPOSTORS)
async def test_impostor_is_told_nothing(tmp_path, made, shown):
    """ivr-agi's end with a certificate that is not right: Asterisk's end sends it not one byte of the call."""
    async with open_tunnel(tmp_path, made, server=IMPOSTORS[shown]) as tunnel:
        async with asyncio.timeout(AT_ONCE):
            ended = await tunnel.call(tunnel.line.buyer())
        assert ended.variables == {}
        await tunnel.client.logs("certificate verify failed")
        await tunnel.client.logs(": 0 byte(s) sent to TLS, 0 byte(s) sent to socket")
        assert tunnel.plain.connections == 0


async def test_plain_fastagi_is_refused(tunnel):
    """FastAGI in the clear, straight to the TLS port: closed at once, and ivr-agi sees nothing of it."""
    url = f"agi://127.0.0.1:{tunnel.server.port}/pay?amount=50000"
    channel = await dial(url, ScriptedHandset({}))
    async with asyncio.timeout(AT_ONCE):
        assert await channel.run() == {}
    assert channel.commands == []
    await tunnel.server.logs("SSL_accept:")
    assert tunnel.plain.connections == 0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_older_tls(tunnel, version):
    """With Asterisk's own certificate: TLS 1.3 is answered by ivr-agi, TLS 1.2 is refused."""
    client = context(tunnel.papers.right(ASTERISK))
    client.maximum_version = version
    answer = b""
    with suppress(ssl.SSLError, ConnectionError):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", tunnel.server.port, ssl=client, server_hostname=IVR_AGI
        )
        writer.write(b"agi_network: yes\n\n")
        answer = await reader.readline()
        writer.close()
    assert bool(answer) == (version == ssl.TLSVersion.TLSv1_3)
    assert tunnel.plain.connections == bool(answer)


async def test_no_session_is_resumed(tunnel):
    """Each connection is verified anew: a second one, that offers the first's session, shows its certificate again."""
    client = context(tunnel.papers.right(ASTERISK))
    session = None
    for resumed in (False, False):
        with socket.create_connection(("127.0.0.1", tunnel.server.port)) as plain:
            secured = await asyncio.to_thread(
                client.wrap_socket, plain, server_hostname=IVR_AGI, session=session
            )
            with secured:
                secured.sendall(b"agi_network: yes\n\n")
                await asyncio.to_thread(secured.recv, 1)  # tickets come before it
                assert secured.session_reused is resumed
                session = secured.session
    await until(lambda: tunnel.server.log.count("Certificate accepted") == 2)


async def test_hang_up_travels_at_once(tunnel, logged):
    """The caller hangs up at the PIN: ivr-agi ends the call then, not at a time-out, and the dialplan is told."""
    channel, running, _ = await caller_at_the_pin(tunnel)
    async with asyncio.timeout(AT_ONCE):
        channel.hang_up()
        variables = await running
    assert variables["PAYSTATUS"] == "HANGUP"
    assert outcomes(logged) == ["HANGUP"]


async def test_asterisk_gone_is_noticed_at_once(tunnel, logged):
    """Asterisk's process ends in mid-call, its connection closes: to ivr-agi that is a hang-up."""
    _, running, _ = await caller_at_the_pin(tunnel)
    async with asyncio.timeout(AT_ONCE):
        running.cancel()
        await until(lambda: outcomes(logged))
    assert outcomes(logged) == ["HANGUP"]


async def test_server_end_gone(tunnel, logged):
    """The server end is killed at the PIN: both sides learn it at once, PAYSTATUS stays empty (`lost`); so it does for the next call."""
    channel, running, _ = await caller_at_the_pin(tunnel)
    async with asyncio.timeout(AT_ONCE):
        tunnel.server.process.kill()
        variables = await cut(channel, running)
        await until(lambda: outcomes(logged))
    assert ("PAYSTATUS" in variables, variables["PAYID"]) == (False, "1")
    assert outcomes(logged) == ["HANGUP"]
    async with asyncio.timeout(AT_ONCE):
        ended = await tunnel.call(tunnel.line.buyer(), "amount=50000&order_id=A-2")
    assert ended.variables == {}
    assert tunnel.line.services() == ["otp-v2"]


async def test_nobody_behind_the_server_end(tmp_path, made):
    """ivr-agi is not running: the connection that Asterisk's end has taken is closed at once, the log of the server end says why."""
    with socket.socket() as taken:  # bound and not listening: a connection to it is refused
        taken.bind(("127.0.0.1", 0))
        nobody = {"connect": f"127.0.0.1:{taken.getsockname()[1]}"}
        async with open_tunnel(tmp_path, made, server_changes=nobody) as tunnel:
            async with asyncio.timeout(AT_ONCE):
                ended = await tunnel.call(tunnel.line.buyer())
            assert ended.variables == {}
            await tunnel.server.logs("Connection refused (111)")


@pytest.mark.parametrize("end", ["changes", "server_changes"])
async def test_idle_time_out_cuts_a_silent_call(tmp_path, made, logged, end):
    """TIMEOUTidle shorter than the caller thinks, at either end: the call is lost in the middle. So the value matters."""
    async with open_tunnel(tmp_path, made, **{end: {"TIMEOUTidle": 1}}) as tunnel:
        channel, running, _ = await caller_at_the_pin(tunnel)
        variables = await cut(channel, running)
        assert ("PAYSTATUS" in variables, variables["PAYID"]) == (False, "1")
        await until(lambda: outcomes(logged))
        assert outcomes(logged) == ["HANGUP"]
        silent = tunnel.client if end == "changes" else tunnel.server
        await silent.logs("Connection reset: ")


@pytest.mark.parametrize("shipped", ["asterisk-host.conf", "ivr-agi-host.conf"])
def test_idle_time_out_is_longer_than_any_call(shipped):
    """As shipped: longer than CALL_LIMIT can be set, and than the dialplan's own limit."""
    text = (SHIPPED / shipped).read_text(encoding="utf-8")
    idle = int(re.search(r"^TIMEOUTidle = (\d+)$", text, re.MULTILINE)[1])
    (most,) = [bound.le for bound in Settings.model_fields["call_limit"].metadata if hasattr(bound, "le")]
    dialplan = (ROOT / "asterisk-conf/extensions_ivr_agi.conf").read_text(encoding="utf-8")
    assert idle > most
    assert idle > int(re.search(r'"\$\{IVR_AGI_LIMIT\}" = ""\]\?(\d+):', dialplan)[1])


def renew(papers, end, name):
    """Put a new certificate in the place of an end's old one; the folder that it came from tells them apart."""
    new = papers.issued(name)
    for kind in ("cert", "key"):
        shutil.copy(new.folder / f"{kind}.pem", end.conf.parent / f"{kind}.pem")


async def test_renewal_in_mid_call(tunnel):
    """New certificates, and a reload of both ends, while a call is under way: it is paid, and the next one sees the new ones."""
    _, running, pin = await caller_at_the_pin(tunnel)
    renew(tunnel.papers, tunnel.client, ASTERISK)
    renew(tunnel.papers, tunnel.server, IVR_AGI)
    await tunnel.client.reload()
    await tunnel.server.reload()
    tunnel.wire.to = tunnel.server.port  # the tests' own: a real end keeps its port
    pin.keys = tunnel.line.gateway.pin_for(CARD) + "#"
    pin.go_on.set()
    assert (await running)["PAYSTATUS"] == "PAID"
    assert (await tunnel.call(tunnel.line.buyer(), "amount=50000&order_id=A-2")).status == "PAID"
    for end, old in ((tunnel.server, ASTERISK), (tunnel.client, IVR_AGI)):
        first, second = [
            line.partition("depth=0: ")[2] for line in end.lines if "Certificate accepted" in line
        ]
        assert first == f"CN={old}"
        assert second.startswith("O=trustme")


@pytest.mark.skipif(os.geteuid() != 0, reason="stunnel drops root's rights, and these tests have none")
async def test_root_is_given_up(tunnel):
    """Both ends run as `stunnel4`, with no group but its own, and no capability."""
    for end in (tunnel.client, tunnel.server):
        status = end.status()
        assert "0" not in status["Uid"].split()
        assert len({*status["Gid"].split(), *status["Groups"].split()}) == 1
        assert status["Gid"].split()[0] != "0"
        assert int(status["CapEff"], 16) == 0


def test_systemd_takes_the_drop_in(tmp_path):
    """`systemd-analyze verify` of Debian's unit with ours: not one complaint; with a misspelt line, one."""
    unit = tmp_path / "stunnel@ivr-agi.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    drop_in = tmp_path / f"{unit.name}.d/ivr-agi.conf"
    drop_in.parent.mkdir()
    text = (SHIPPED / "systemd.conf").read_text(encoding="utf-8")
    for written, complaint in (
        (text, ""),
        (text.replace("RestartSec=2", "RestartSec=soon"), "Failed to parse"),
    ):
        drop_in.write_text(written, encoding="utf-8")
        done = subprocess.run(
            [program("systemd-analyze"), "verify", "--man=no", unit],
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.stderr) == bool(complaint), done.stderr
        assert complaint in done.stderr
