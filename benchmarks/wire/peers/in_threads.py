"""The same call on pyst2's AGI, a thread for each by the standard library's server: in_threads.py PORT SCRIPT."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

from asterisk.agi import AGI

STACK = 512 * 1024  # bytes of a thread's stack: 5,000 of the usual 8 MB are more than some machines lend


class Nowhere:
    """Where pyst2's account of every line goes."""

    def write(self, text: str) -> None:
        """Drop it."""


class Session(AGI):  # type: ignore[misc]  # pyst2 has no types
    """pyst2's AGI on a socket. Its own `__init__` installs a signal handler, which only the main thread may."""

    def __init__(self, stdin: Any, stdout: Any) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, Nowhere()
        self._got_sighup = False
        self.env: dict[str, str] = {}
        self._get_agi_env()

    def set_music(self, toggle: str, music: str) -> None:
        """The command that pyst2 lacks."""
        self.execute("SET MUSIC", toggle, self._quote(music))


class Handler(socketserver.BaseRequestHandler):
    """One call."""

    script: ClassVar[list[list[Any]]] = []

    def handle(self) -> None:
        """Its environment, the commands, and closed."""
        with (
            self.request.makefile("r", newline="\n") as stdin,
            self.request.makefile("w", newline="\n") as stdout,
        ):
            agi = Session(stdin, stdout)
            for method, *arguments in self.script:
                getattr(agi, method)(*arguments)


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection."""

    request_queue_size = 4096  # calls that wait to be accepted; its own is 5
    allow_reuse_address = True
    daemon_threads = True


def main() -> None:
    """Serve until killed."""
    threading.stack_size(STACK)
    Handler.script = json.loads(Path(sys.argv[2]).read_text())
    server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
