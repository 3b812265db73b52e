"""The server that is killed: `ivr-agi serve`, without HTTP, forked from a process that has imported it all.

The process itself is a nest. It reads a line of JSON for each server that it is to fork, says on standard
output what became of each, and takes all of them with it when its standard input ends. It must never use
the product before it forks: a server begins as a new process would, only without the half second of imports.
"""

import asyncio
import ctypes
import functools
import gc
import json
import os
import select
import signal
import sys

import points
import sabotage
import uvloop
from alembic import command

from ivr_agi import logs, metrics, payments, settings, web
from ivr_agi.cli import serving, wiring
from ivr_agi.https import verified_tls
from ivr_agi.journal import Journal, lease, owner
from ivr_agi.server import Server

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


class Quiet:
    """In the place of health and metrics over HTTP."""

    def __init__(self, *_parts):
        pass

    async def start(self):
        pass

    async def stop(self):
        pass


class Fuse:
    """Kills this process when it passes a point for the nth time."""

    def __init__(self, point, nth):
        self.point, self.left = point, nth

    def __call__(self, name):
        if name and name == self.point:
            self.left -= 1
            if not self.left:
                say(struck=name)
                os.kill(os.getpid(), signal.SIGKILL)


def say(**words):
    """A line to whoever killed or is about to kill us, whole: shorter than a pipe's buffer."""
    os.write(1, json.dumps({"pid": os.getpid(), **words}).encode() + b"\n")


def watch_the_start():
    """Say where the server listens, and under which name it owns attempts."""
    start = Server.start

    async def started(server, sockets=None):
        port = await start(server, sockets)
        say(port=port, owner=owner.this_process())
        return port

    Server.start = started


def change(host, lease_seconds):
    """What a setting cannot say. host: one that no other server can look into; lease: of processes elsewhere."""
    if host:
        owner._host = lambda: host
    if lease_seconds:
        payments.FENCE = lease_seconds / 3
        Journal.live = functools.partialmethod(Journal.live, lease=lease_seconds)
    lease.BEAT = 0.2
    web.Web = Quiet
    # An outcome and its notice are written together; nobody delivers them here, so that they can be counted.
    wiring.Journal = lambda url, **given: Journal(url, **given | {"notices": True})


def serve(given):
    """Be the server, to the end. given: the settings, and the names of `hatch`."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    change(given.pop("host"), given.pop("lease"))
    if broken := given.pop("broken"):
        sabotage.BREAKS[broken]()
    points.lay(Fuse(given.pop("point"), given.pop("nth")))
    watch_the_start()
    log = given.pop("log")
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    logs.configure("INFO", "json")
    found = settings.load(_env_file=None, **given)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving.serve_calls(found, wiring.open_journal(found)))


def hatch(line):
    """Fork a server."""
    given = json.loads(line)
    slot = given.pop("slot")
    if os.fork():
        return
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        say(slot=slot)
        serve(given)
        status = 0
    finally:
        if status:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        os._exit(status)


def bury():
    """Say who has ended, and let the system forget them: a zombie still counts as a process."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        say(pid=pid, ended=os.waitstatus_to_exitcode(status))


def main():
    """Fork and bury until standard input ends."""
    verified_tls()  # as good for a hundred servers as for one, and a third of a start
    assert metrics.journal_commits  # imported, and nothing counted
    assert command  # as is what begins a journal
    gc.freeze()
    ended, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(told)
    unread = b""
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            bury()
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                os._exit(0)  # the servers die of it
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                hatch(line)


if __name__ == "__main__":
    main()
