"""Both ends of the TLS tunnel as processes on loopback, with the configuration that is shipped.

What is put in place of the shipped values is what a machine has of its own: addresses, paths, and the
account where the tests are not root. What passes the wire between the ends, and what passes between the
server end and ivr-agi, is recorded.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from debian import program
from line import Line, open_line, until

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "asterisk-conf/stunnel"
DOCUMENT = ROOT / "docs/tunnels.md"
ASTERISK, IVR_AGI = "asterisk", "ivr-agi"  # the names in the certificates


def commands(heading):
    """The first block of shell commands below a heading of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.search(r"^```sh\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)[1]


def make_certificates(folder):
    """The CA and both ends' certificates, by the document's own commands."""
    program("openssl")
    subprocess.run(
        ["bash", "-euc", commands("1. Certificates")], cwd=folder, check=True, capture_output=True, timeout=20
    )
    return folder / "ivr-agi-tunnel"


@dataclass
class Papers:
    """The files that one end shows and checks with; no `cert`: it shows none."""

    folder: Path

    def __post_init__(self):
        self.ca, self.cert, self.key = (self.folder / f"{name}.pem" for name in ("ca", "cert", "key"))


class Paperwork:
    """Hands papers out: those that the document makes, and such as should not be let through."""

    def __init__(self, folder, made):
        self.folder = folder
        self.made = made
        self._number = 0

    def right(self, name):
        """What the document has copied to the host of this name."""
        return self._given(self.made / "ca.pem", (self.made / f"{name}.pem", self.made / f"{name}.key"))

    def issued(self, name, authority=None, until_now=False):
        """A certificate in this name: by another authority, or one whose time is over."""
        ours = trustme.CA.from_pem((self.made / "ca.pem").read_bytes(), (self.made / "ca.key").read_bytes())
        now = datetime.now(UTC)
        leaf = (authority or ours).issue_cert(
            name,
            not_before=now - timedelta(days=2),
            not_after=now + timedelta(days=-1 if until_now else 1),
        )
        papers = self._given(self.made / "ca.pem")
        papers.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        papers.key.write_bytes(leaf.private_key_pem.bytes())
        return self._hand_over(papers)

    def none(self):
        """The CA, and nothing to show."""
        return self._given(self.made / "ca.pem")

    def _given(self, ca, pair=()):
        self._number += 1
        papers = Papers(self.folder / str(self._number))
        papers.folder.mkdir()
        for source, target in zip((ca, *pair), (papers.ca, papers.cert, papers.key), strict=False):
            shutil.copy(source, target)
        return self._hand_over(papers)

    @staticmethod
    def _hand_over(papers):
        """As on a real host: root's, and readable by stunnel's group, that it can reload."""
        for path in (papers.folder, *papers.folder.iterdir()):
            path.chmod(0o750 if path.is_dir() else 0o640)
            if os.geteuid() == 0:
                shutil.chown(path, "root", "stunnel4")
        return papers


class Relay:
    """A piece of wire: passes on what it gets, to `port`, and keeps a copy of both directions."""

    def __init__(self, port=0):
        self.to = port
        self.forth = bytearray()
        self.back = bytearray()
        self.connections = 0
        self._passing = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc):
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _connected(self, reader, writer):
        self.connections += 1
        self._passing.add(asyncio.current_task())
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(
                self._pass(reader, far_writer, self.forth), self._pass(far_reader, writer, self.back)
            )
        finally:
            writer.close()
            far_writer.close()

    @staticmethod
    async def _pass(reader, writer, kept):
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                kept += piece
                writer.write(piece)
            if not writer.is_closing():
                writer.write_eof()
            return
        writer.transport.abort()  # a reset is passed on as one

    @property
    def everything(self):
        return bytes(self.forth + self.back)


class End:
    """One stunnel process, with a shipped file; changes: other values for its lines, None takes one out."""

    def __init__(self, shipped, papers, to, **changes):
        text = (SHIPPED / shipped).read_text(encoding="utf-8")
        shown = (
            {"cert": papers.cert, "key": papers.key} if papers.cert.exists() else {"cert": None, "key": None}
        )
        account = {} if os.geteuid() == 0 else {"setuid": None, "setgid": None}
        own = {"accept": "127.0.0.1:0", "connect": f"127.0.0.1:{to}", "CAfile": papers.ca}
        for name, value in (own | shown | account | changes).items():
            line = "" if value is None else f"{name} = {value}"
            text, found = re.subn(rf"^{name} = .*$", line, text, flags=re.MULTILINE)
            assert found == 1, f"{shipped}: {name}"
        self.conf = papers.folder / "ivr-agi.conf"
        self.conf.write_text(text, encoding="utf-8")
        if os.geteuid() == 0:
            shutil.chown(self.conf, "root", "stunnel4")
        self.lines = []

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            program("stunnel"), self.conf, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
        )
        self._reading = asyncio.create_task(self._read())
        try:
            await until(self.ports)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exc):
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(10):
            await self.process.wait()
            await self._reading

    async def _read(self):
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())

    def ports(self):
        """On which ports it listens, as the kernel has it; the log names only what was asked for."""
        assert self.process.returncode is None, self.log
        folder = Path(f"/proc/{self.process.pid}")
        sockets = set()
        rows = []
        with suppress(OSError):  # a descriptor that was closed meanwhile, or the whole process
            rows = [row.split() for row in (folder / "net/tcp").read_text().splitlines()[1:]]
            sockets = {str(descriptor.readlink()) for descriptor in (folder / "fd").iterdir()}
        return [
            int(row[1].rpartition(":")[2], 16)
            for row in rows
            if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
        ]

    def status(self):
        """What the kernel says of the process: account, groups, capabilities."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return dict(line.split(":\t", 1) for line in text.splitlines())

    @property
    def port(self):
        (port,) = self.ports()
        return port

    @property
    def log(self):
        return "\n".join(self.lines)

    async def logs(self, said):
        """Wait until it has written a line with this in it."""
        with suppress(TimeoutError):
            await until(lambda: said in self.log)
        assert said in self.log

    async def reload(self):
        """As `systemctl reload` does; returns once it listens again."""
        before = self.log.count("Configuration successful")
        old = self.ports()
        self.process.send_signal(1)
        await until(lambda: self.log.count("Configuration successful") > before)
        await until(lambda: self.ports() not in ([], old))


@dataclass
class Tunnel:
    """A payment line behind a tunnel: Asterisk's side dials `client.port`."""

    line: Line
    plain: Relay  # between the server end and ivr-agi
    server: End
    wire: Relay  # between the two ends
    client: End
    papers: Paperwork = field(repr=False)

    async def dial(self, script, query="amount=50000&order_id=A-1", **options):
        return await self._through(self.line.dial, script, query, options)

    async def call(self, script, query="amount=50000&order_id=A-1", **options):
        return await self._through(self.line.call, script, query, options)

    async def _through(self, begin, script, query, options):
        """The line's own, with the client end's port in the address in place of the server's."""
        own, self.line.port = self.line.port, self.client.port
        try:
            return await begin(script, query, **options)
        finally:
            self.line.port = own


@contextmanager
def folder_for_stunnel():
    """A folder that stunnel's account may enter, which it may not pytest's."""
    with tempfile.TemporaryDirectory(prefix="tunnel-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@asynccontextmanager
async def open_tunnel(
    tmp_path, made, *, client=None, server=None, changes=None, server_changes=None, **given
):
    """client, server: from the paperwork, which papers an end has; changes: other lines in its file."""
    with folder_for_stunnel() as folder:
        async with open_line(tmp_path, **given) as line, Relay(line.port) as plain:
            papers = Paperwork(folder, made)
            at_server = server(papers) if server else papers.right(IVR_AGI)
            at_client = client(papers) if client else papers.right(ASTERISK)
            async with (
                End("ivr-agi-host.conf", at_server, plain.port, **(server_changes or {})) as server_end,
                Relay(server_end.port) as wire,
                End("asterisk-host.conf", at_client, wire.port, **(changes or {})) as client_end,
            ):
                yield Tunnel(line, plain, server_end, wire, client_end, papers)


def context(papers):
    """A TLS client of its own, that shows these papers."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(papers.ca)
    made.load_cert_chain(papers.cert, papers.key)
    return made
