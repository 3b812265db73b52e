"""The commands as processes of their own: one run to its end, or `serve` for as long as a test needs it.

They are forked (warm.py), but where Python must be told something before it begins.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys

import warm
from line import CARD, SEQUENCE, until

from ivr_agi.simulator.channel import ScriptedHandset, dial


def environment(**given):
    """The process's environment: settings by name, and nothing of ours from outside."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("IVR_AGI_")}
    return clean | {f"IVR_AGI_{name.upper()}": str(value) for name, value in given.items()}


async def ivr_agi(*arguments, stdin="", **given):
    """Run a command to its end: exit status, standard output, standard error."""
    process = await warm.start(
        *arguments, stdin=warm.PIPE, stdout=warm.PIPE, stderr=warm.PIPE, env=environment(**given)
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate(stdin.encode())
    return process.returncode, output.decode(), errors.decode()


class Terminal:
    """A command at a terminal: what it shows, echo and all, and what is typed there."""

    def __init__(self, *arguments, **given):
        self.arguments = arguments
        self.given = given
        self.shown = b""

    async def __aenter__(self):
        self.ours, theirs = pty.openpty()
        self.process = await warm.start(
            *self.arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=environment(**self.given),
        )
        os.close(theirs)
        return self

    async def __aexit__(self, *_exc):
        os.close(self.ours)

    async def until(self, words):
        while words not in self.shown:
            self.shown += await asyncio.wait_for(asyncio.to_thread(os.read, self.ours, 4096), 20)

    def type(self, text):
        os.write(self.ours, f"{text}\n".encode())


class Serving:
    """`ivr-agi serve` as a process. also: environment variables that are no settings."""

    def __init__(self, also=None, **given):
        self.also = also or {}
        self.given = {
            "port": 0,
            "http_port": 0,
            "sequence": SEQUENCE,
            "log_format": "json",
            "otp_cooldown": 0,
            **given,
        }
        self.lines = []

    async def __aenter__(self):
        env = environment(**self.given) | self.also
        if any(name.startswith("PYTHON") for name in self.also):
            self.process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "ivr_agi", "serve"], stderr=asyncio.subprocess.PIPE, env=env
            )
        else:
            self.process = await warm.start("serve", stderr=warm.PIPE, env=env)
        async with asyncio.timeout(20):
            while True:
                line = json.loads(await self.process.stderr.readline())
                self.lines.append(line)
                if line["message"] == "server.listening":
                    break
        self.port = line["port"]
        self.reading = asyncio.create_task(self.read())
        return self

    async def read(self):
        async for line in self.process.stderr:
            self.lines.append(json.loads(line))

    async def __aexit__(self, *_exc):
        if self.process.returncode is None:
            self.process.terminate()
        await asyncio.wait_for(self.process.wait(), 20)
        await self.reading

    def said(self, message):
        return [line for line in self.lines if line["message"] == message]

    async def call(self, gateway, script=None, query="amount=50000&order_id=A-1"):
        usual = {"confirm-amount": "1", "enter-card": CARD, "enter-pin": lambda: gateway.pin_for(CARD) + "#"}
        channel = await dial(
            f"agi://127.0.0.1:{self.port}/pay?{query}", ScriptedHandset(usual | (script or {}))
        )
        return await channel.run()

    async def http_port(self):
        await until(lambda: self.said("web.listening"))
        return self.said("web.listening")[0]["port"]
