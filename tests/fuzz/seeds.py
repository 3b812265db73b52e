"""What is genuine, as each target takes it: the corpus begins with these."""

from __future__ import annotations

import json

import genuine
from targets import write_exchange


def seeds() -> dict[str, list[bytes]]:
    """For each target its seeds."""
    return {
        "answers": [write_exchange(*exchange) for exchange in genuine.EXCHANGES],
        "http": [b"\0" + raw for raw in genuine.HTTP]
        + [bytes([how]) + genuine.HTTP[0] for how in range(1, 8)],
        "order": [
            b"%d\n" % status + json.dumps(body, ensure_ascii=False).encode()
            for status, body in genuine.ORDERS
        ],
        "wire": [b"\0".join(peer) for peer in genuine.PEERS],
        "environment": [b"\0".join(call) for call in genuine.CALLS],
        "command": [b"\xff".join(part.encode() for part in parts) for parts in genuine.COMMANDS],
        "settlement": genuine.LISTS,
    }
