"""What the doctor's tests share: a small Asterisk's files that are in order, and servers to be reached."""

import asyncio
import contextlib
import os
import shutil
import ssl
from pathlib import Path

from ivr_agi import sounds
from ivr_agi.doctor import asterisk
from ivr_agi.doctor.findings import Level

SHIPPED = Path(__file__).parents[1] / "asterisk-conf"
MODULES = Path(__file__).parent / "asterisk/conf/modules.conf"

# A small hardened Asterisk with a merchant's own dialplan.
GOOD = {
    "asterisk.conf": "[directories](!)\nastdatadir => /usr/share/asterisk\n[options]\nverbose = 3\n",
    "logger.conf": "[general]\n[logfiles]\nconsole => notice,warning,error\nmessages => notice,warning,error,verbose\n",
    "manager.conf": (
        "[general]\nenabled = yes\nbindaddr = 127.0.0.1\n[panel]\nsecret = Ami5ecret\nread = call,user\nwrite = originate\n"
    ),
    "cel.conf": "[general]\nenable = yes\nevents = CHAN_START,ANSWER,HANGUP,CHAN_END\n",
    "cdr.conf": "[general]\nenable = yes\n[csv]\nloguserfield = no\n",
    "extensions.conf": (
        "[globals]\nSHOP = 7\n#include extensions_ivr_agi.conf\n[shop]\nexten => 700,1,Answer()\n"
        " same => n,Gosub(ivr-agi-pay,s,1(50000,${ORDER}))\n same => n,Hangup()\n"
    ),
    "musiconhold.conf": "#include musiconhold_ivr_agi.conf\n",
    "pjsip.conf": "[trunk]\ntype = endpoint\ncontext = shop\ndtmf_mode = rfc4733\n",
    "cli.conf": "[startup_commands]\nsip set debug on = no\n",
}


class Box:
    """An Asterisk's files below a root."""

    def __init__(self, root):
        self.root = root
        self.etc = root / "etc/asterisk"
        self.sounds = root / "usr/share/asterisk/sounds"

    def add(self, name, text):
        """Append to a file; returns the place of the first line added."""
        path = self.etc / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(before + text, encoding="utf-8")
        return f"{path}:{before.count(chr(10)) + 1}"

    def replace(self, name, old, new):
        """Replace a text that is there once; returns its place."""
        path = self.etc / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")
        return f"{path}:{text[: text.index(old)].count(chr(10)) + 1}"

    def check(self, languages=(), **given):
        """What the doctor says of it, `ok` left out."""
        found = asterisk.check(
            self.root,
            **{
                "languages": {each: each for each in languages},
                "music_class": "ivr-agi",
                "port": 4573,
                **given,
            },
        )
        return [finding for finding in found if finding.level is not Level.OK]


def good_box(root, *, prompts=False):
    """A good configuration with the music, and with the prompts if they are wanted."""
    made = Box(root)
    made.etc.mkdir(parents=True)
    for name, text in GOOD.items():
        (made.etc / name).write_text(text, encoding="utf-8")
    for name in ("extensions_ivr_agi.conf", "musiconhold_ivr_agi.conf"):
        shutil.copy(SHIPPED / name, made.etc)
    shutil.copy(MODULES, made.etc)
    if prompts:
        sounds.install(made.sounds)
    else:
        shutil.copytree(sounds.shipped() / "moh", made.root / "usr/share/asterisk/moh")
    return made


def only(findings, level, where, *words):
    """There is one finding, and it is this one."""
    (finding,) = findings
    assert (finding.level, finding.where) == (level, where)
    assert all(word in f"{finding.what} {finding.cure}" for word in words), finding
    assert finding.cure


@contextlib.contextmanager
def as_somebody_else():
    """As a user who may not write here, nor look into the test's folder: root may everywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())


@contextlib.asynccontextmanager
async def listening(certificate=None):
    """A TCP or TLS server that keeps what it is sent; yields its port, and that."""
    got = []
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)

    async def keep(reader, writer):
        with contextlib.suppress(OSError):
            got.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], got
