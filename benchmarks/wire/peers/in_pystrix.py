"""The same call on pystrix's FastAGI server, a thread for each: in_pystrix.py PORT SCRIPT."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from pystrix.agi import core
from pystrix.agi.fastagi import FastAGI, FastAGIServer

STACK = 512 * 1024  # bytes of a thread's stack: 5,000 of the usual 8 MB are more than some machines lend

ACTIONS = {
    "answer": core.Answer,
    "set_variable": core.SetVariable,
    "stream_file": core.StreamFile,
    "get_data": core.GetData,
    "set_music": lambda on, moh: core.SetMusic(on == "on", moh),
}


def main() -> None:
    """Serve until killed."""
    threading.stack_size(STACK)
    script = [
        (ACTIONS[method], tuple(arguments))
        for method, *arguments in json.loads(Path(sys.argv[2]).read_text())
    ]

    def pay(agi: FastAGI, *_about: Any) -> None:
        for action, arguments in script:
            agi.execute(action(*arguments))

    server = FastAGIServer("127.0.0.1", int(sys.argv[1]))
    server.register_script_handler("pay", pay)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
