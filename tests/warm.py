"""`python -m ivr_agi` without its second of imports: forked from a process that has made them, and used nothing.

What is forked begins as a new process would: arguments, environment, folder and streams of its own, a process
that is waited for and killed. Only what Python itself reads before it begins (PYTHON…), and what the kernel shows
of an exec (/proc/PID/environ, cmdline), are those of the process that it was forked from: where a test speaks of
these, `process.py` executes Python.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

PIPE, DEVNULL = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
PR_SET_PDEATHSIG = 1
MOST = 2**18  # bytes of a request: arguments and an environment


# -- the tests' side ------------------------------------------------------------------------------------


@cache
def _connection(preloaded: str) -> socket.socket:
    """To the process that is forked from: one for each process of the tests, from the first use to its end.

    preloaded: LD_PRELOAD, which the loader reads before Python begins.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
    with theirs:
        warm = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd="/",
            env=os.environ | {"LD_PRELOAD": preloaded},
        )

    def end():
        ours.close()  # it ends of it, and all that it has forked
        warm.wait()

    atexit.register(end)
    return ours


async def start(
    *arguments, env, cwd=None, stdin=None, stdout=None, stderr=None, start_new_session=False, script=None
):
    """Fork `ivr-agi` with these arguments. Streams: None for ours, PIPE, DEVNULL, or a file descriptor.

    script: a file that is run in its place.
    """
    with ExitStack() as handed_over:

        def pipe(*, to_them):
            """Our end, and theirs, which is closed here once they have it."""
            reading, writing = os.pipe()
            ours, theirs = (writing, reading) if to_them else (reading, writing)
            handed_over.callback(os.close, theirs)
            return ours, theirs

        streams, theirs = [None, None, None], [0, 1, 2]
        for number, wanted in enumerate((stdin, stdout, stderr)):
            if wanted == PIPE:
                ours, theirs[number] = pipe(to_them=number == 0)
                streams[number] = await (_writer(ours) if number == 0 else _reader(ours))
            elif wanted == DEVNULL:
                theirs[number] = os.open(os.devnull, os.O_RDWR)
                handed_over.callback(os.close, theirs[number])
            elif wanted is not None:
                theirs[number] = wanted
        ours, telling = pipe(to_them=False)
        told = await _reader(ours)
        request = {
            "arguments": [*map(str, arguments)],
            "env": env,
            "cwd": str(cwd or Path.cwd()),
            "session": start_new_session,
            "script": str(script or ""),
        }
        connection = _connection(env.get("LD_PRELOAD", ""))
        socket.send_fds(connection, [json.dumps(request).encode()], [*theirs, telling])
    return Process(int(await told.readline()), told, *streams)


class _Reading(asyncio.StreamReaderProtocol):
    """Closes its end of a pipe when the other one is."""

    def eof_received(self):
        super().eof_received()
        return False


async def _reader(descriptor):
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(loop=loop)
    protocol = _Reading(stream, loop=loop)
    await loop.connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb", 0))
    return stream


async def _writer(descriptor):
    loop = asyncio.get_running_loop()
    protocol = asyncio.streams.FlowControlMixin(loop=loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(descriptor, "wb", 0))
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def _all_of(stream):
    return await stream.read() if stream else b""


class Process:
    """What `asyncio.create_subprocess_exec` gives, of a process that was forked."""

    def __init__(self, pid, told, stdin, stdout, stderr):
        self.pid, self.stdin, self.stdout, self.stderr = pid, stdin, stdout, stderr
        self.returncode = None
        self._ending = asyncio.ensure_future(self._end(told))

    async def _end(self, told):
        try:
            line = await told.readline()
            assert line, "the process that is forked from has gone"
            self.returncode = int(line)
        finally:
            told._transport.close()
            if self.stdin:
                self.stdin.close()

    async def wait(self):
        await asyncio.shield(self._ending)
        return self.returncode

    async def communicate(self, given=b""):
        """Hand it its standard input, and read all that it says."""
        if self.stdin:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.stdin.write(given)
                await self.stdin.drain()
            self.stdin.close()
        said = await asyncio.gather(*[_all_of(stream) for stream in (self.stdout, self.stderr)])
        await self.wait()
        return said

    def send_signal(self, number):
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


# -- the process that is forked from ----------------------------------------------------------------------


class Warm:
    """Forks for each request, and says of each what its number is and how it has ended."""

    def __init__(self, connection):
        self._connection = connection
        self._running = {}  # pid -> where its end is to be told

    def serve(self):
        """Until the tests are gone; returns in a process that was forked, with what it is to be run as."""
        ended, told = os.pipe()
        os.set_blocking(told, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(told)
        while True:
            ready, _, _ = select.select([self._connection, ended], [], [])
            if ended in ready:
                os.read(ended, 4096)
                self._bury()
            if self._connection in ready:
                request, descriptors, _, _ = socket.recv_fds(self._connection, MOST, 4)
                if not request:
                    os._exit(0)  # what it has forked dies of it
                asked = json.loads(request)
                if self._fork(asked, descriptors):
                    return asked["script"]

    def _fork(self, request, descriptors):
        """Returns whether this is the new process."""
        *streams, telling = descriptors
        pid = os.fork()
        if not pid:
            _become(request, streams)
            return True
        for descriptor in set(streams):
            os.close(descriptor)
        self._running[pid] = telling
        self._tell(telling, pid)
        return False

    def _bury(self):
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            telling = self._running.pop(pid)
            self._tell(telling, os.waitstatus_to_exitcode(status))
            os.close(telling)

    @staticmethod
    def _tell(telling, number):
        with suppress(BrokenPipeError):  # the test has ended
            os.write(telling, f"{number}\n".encode())


def _become(request, streams):
    """Be a new process with these streams and nothing else of the old one."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv[1:] = request["arguments"]
    sys.stdin = sys.__stdin__ = _stream(0, "r")
    sys.stdout = sys.__stdout__ = _stream(1, "w", write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
    sys.stderr = sys.__stderr__ = _stream(2, "w", errors="backslashreplace", line_buffering=True)


def _stream(number, mode, *, errors=None, **how):
    """A standard stream as Python itself opens it."""
    opened = os.fdopen(number, mode, encoding="utf-8", errors=errors, closefd=False)
    opened.reconfigure(**how)
    return opened


if __name__ == "__main__":
    # This is what it is for: the commands, and what some import only when they are run.
    import alembic.command  # noqa: F401 - for a journal that is not there yet

    import ivr_agi.charge
    import ivr_agi.cli
    import ivr_agi.doctor.asterisk
    import ivr_agi.preview
    import ivr_agi.reconciling
    import ivr_agi.web  # noqa: F401

    gc.freeze()
    if script := Warm(socket.socket(fileno=int(sys.argv[1]))).serve():
        sys.path[0] = str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")
    else:
        runpy.run_module("ivr_agi", run_name="__main__", alter_sys=True)
