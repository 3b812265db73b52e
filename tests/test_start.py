"""What a start imports: what is not needed before the line listens makes each restart, and each command, slower."""

import asyncio
import gc
import re
import sys

from line import SEQUENCE
from process import environment

from ivr_agi import cli
from ivr_agi.journal import Journal

# part of the package, or library -> what needs it
NOT_BY_A_LINE = {
    "alembic": "a journal of an earlier release, or none yet",
    "mako": "Alembic",
    "argon2": "the panel",
    "ivr_agi.charge": "`charge`",
    "ivr_agi.demo": "`demo`",
    "ivr_agi.doctor.own": "`check`",
    "ivr_agi.panel.app": "the panel",
    "ivr_agi.preview": "`sounds preview`",
    "ivr_agi.settlement": "the panel, `journal reconcile`",
    "ivr_agi.simulator": "`demo`, `phone`, `simulator`, the panel",
    "ivr_agi.sounds": "`sounds`, `check`, the panel",
    "jinja2": "the panel",
    "xlsxwriter": "the panel",
}
NOT_BEFORE_IT_LISTENS = {"ivr_agi.web": "health and metrics", "starlette": "them", "uvicorn": "them"}
IMPORTED = re.compile(rb"import time: +\d+ \| +\d+ \| +(\S+)\n")


class Starting:
    """`ivr-agi serve`, executed by a Python that says what it imports. modules: those up to now."""

    def __init__(self, **given):
        self.given = {"port": 0, "http_port": 0, "sequence": SEQUENCE, "log_format": "json", **given}
        self.modules = set()

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-X", "importtime", "-m", "ivr_agi", "serve"],
            stderr=asyncio.subprocess.PIPE,
            env=environment(**self.given),
        )
        return self

    async def __aexit__(self, *_exc):
        self.process.terminate()
        await self.process.communicate()

    async def until(self, message):
        """Read on to this line of its log."""
        async with asyncio.timeout(60):
            while message not in (line := await self.process.stderr.readline()):
                assert line, "it has ended"
                if found := IMPORTED.fullmatch(line):
                    self.modules.add(found[1].decode())


def parts_of(modules, parts):
    return {part for part in parts for module in modules if f"{module}.".startswith(f"{part}.")}


async def test_start_imports_what_a_line_needs(journal_url):
    """With its journal up to date, a server imports nothing of the other commands', and listens before the web."""
    Journal(journal_url).close()
    async with Starting(journal_url=journal_url) as server:
        await server.until(b'"server.listening"')
        assert "ivr_agi.server" in server.modules
        assert parts_of(server.modules, NOT_BY_A_LINE | NOT_BEFORE_IT_LISTENS) == set()
        await server.until(b'"web.listening"')
        assert parts_of(server.modules, NOT_BY_A_LINE | NOT_BEFORE_IT_LISTENS) == set(NOT_BEFORE_IT_LISTENS)


def test_garbage_is_looked_for_again():
    """It is left alone while the commands are imported, and no longer."""
    assert cli.app
    assert gc.isenabled()
