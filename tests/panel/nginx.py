"""The panel behind nginx on loopback, with the example that is shipped.

What is put in place of the shipped values is what a machine has of its own: name, ports, paths. The ports are bound
here and handed over as nginx hands them to its own successor, so that no two tests want the same one.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import ssl
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trustme
from debian import program
from line import until
from panel.office import open_office

from ivr_agi.web import Health, Web

EXAMPLE = Path(__file__).parent.parent.parent / "docs/proxy/nginx.conf"
# What Debian's own nginx.conf has around it, as far as it matters; bodies on disk have no place to go to.
MAIN = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/main.log info;
events {{}}
http {{
    gzip on;
    {folders}
    access_log {folder}/other.log;
    include {folder}/ivr-agi.conf;
}}
"""


def example(folder, http, https, upstream):
    """The example's text for this machine."""
    text = EXAMPLE.read_text(encoding="utf-8")
    for shipped, ours in (
        (r"^ *listen \[::\]:.*\n", ""),
        (r"listen 80;", f"listen 127.0.0.1:{http};"),
        (r"listen 443 ssl", f"listen 127.0.0.1:{https} ssl"),
        (r"server_name pay\.example\.com;", "server_name localhost;"),
        (r"server 127\.0\.0\.1:8573;", f"server 127.0.0.1:{upstream};"),
        (r"/etc/letsencrypt/live/pay\.example\.com/", f"{folder}/"),
        (r"/var/log/nginx/", f"{folder}/"),
    ):
        text, times = re.subn(shipped, ours, text, flags=re.MULTILINE)
        assert times, f"the example has no {shipped}"
    return text


class Proxied:
    """An office behind nginx: url (https), plain_url (http), tls: a context that knows its certificate.

    answers: every header and every piece of a body that the panel has sent.
    """

    def __init__(self, office, folder, https, http):
        self.office = office
        self.folder = folder
        self.url = f"https://localhost:{https}"
        self.plain_url = f"http://localhost:{http}"
        self.tls = None
        self.answers = []

    async def app(self, scope, receive, send):
        """The panel; what it answers is kept."""

        async def kept(message):
            self.answers += [part for pair in message.get("headers", ()) for part in (*pair, b"\n")]
            self.answers.append(message.get("body", b""))
            await send(message)

        await self.office.panel(scope, receive, kept)

    @property
    def access_log(self):
        return (self.folder / "ivr-agi.log").read_text(encoding="utf-8")

    def logs(self):
        """All that nginx has written down."""
        return "\n".join(each.read_text(encoding="utf-8") for each in sorted(self.folder.glob("*.log")))


@asynccontextmanager
async def open_proxied(folder, **given):
    """An office with nginx in front, which alone may ask it; settings by name."""
    binary = program("nginx")
    own = folder / "nginx"
    own.mkdir()
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in "ab"]
    http, https = (each.getsockname()[1] for each in sockets)
    urls = {"panel_url": f"https://localhost:{https}", "panel_proxies": "127.0.0.1"}
    async with open_office(folder, **urls, **given) as office:
        proxied = Proxied(office, own, https, http)
        web = Web("127.0.0.1", 0, Health(office.line.journal, lambda: True), proxied.app)
        port = await web.start()
        proxied.tls = _certify(own)
        (own / "ivr-agi.conf").write_text(example(own, http, https, port), encoding="utf-8")
        try:
            async with _running(binary, own, sockets):
                yield proxied
        finally:
            await office.panel.close()
            await web.stop()


def _certify(folder):
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(folder / "privkey.pem")
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(folder / "fullchain.pem", append=True)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    return tls


@asynccontextmanager
async def _running(binary, folder, sockets):
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, folders=folders), encoding="utf-8")
    main_log = folder / "main.log"
    main_log.touch()
    numbers = [each.fileno() for each in sockets]
    process = await asyncio.create_subprocess_exec(
        *(binary, "-e", folder / "main.log", "-p", folder, "-c", folder / "nginx.conf"),
        pass_fds=numbers,
        env=os.environ | {"NGINX": "".join(f"{number};" for number in numbers)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    for each in sockets:
        each.close()
    try:
        # the master says that it begins its worker once it listens
        await until(
            lambda: "start worker processes" in main_log.read_text() or process.returncode is not None
        )
        assert process.returncode is None, main_log.read_text()
        for kind in kinds:
            shutil.rmtree(folder / kind)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(10):
            await process.wait()
