"""What every question that this program asks over HTTPS has in common: client, TLS, reading, trouble.

It verifies, always; nothing here may ever switch that off, write a session's keys to a file, follow a
redirect or go through a proxy of the environment's: each would show a card, or a secret, to somebody else.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from functools import cache
from typing import Any, Final

import httpx

from ivr_agi.exchange import FreshConnections

OK: Final = range(200, 300)
# What httpx raises for a question that got no answer; the last for what can be no host name.
BROKEN: Final = (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError)


HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Connection": "close",
    "User-Agent": "ivr-agi",
}


def transport(tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """What all requests go over."""
    return FreshConnections(tls)


def client(tls: ssl.SSLContext, *, accept: str = HEADERS["Accept"]) -> httpx.AsyncClient:
    """A client without time limits: the callers' are for a whole exchange."""
    return httpx.AsyncClient(
        transport=transport(tls),
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113 - see above
        headers=HEADERS | {"Accept": accept},
    )


def read_object(body: bytes) -> dict[str, Any] | None:
    """A JSON object in which each key comes once; None for anything else."""
    try:
        found = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_once_each, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice: which one counts?")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def verified_tls() -> ssl.SSLContext:
    """TLS that verifies the other side by the system's CAs (or those of SSL_CERT_FILE).

    The same for all who ask, since reading the CAs takes 25 ms: it is not to be changed.
    """
    return _verified_by(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _verified_by(*_places: str | None) -> ssl.SSLContext:
    # Not create_default_context(): that one writes the session's keys to SSLKEYLOGFILE, if it is set.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_default_certs()
    return tls


def trouble(error: Exception) -> str:
    """`ConnectError` as `connect-error`; a failure of TLS by its own name. Never the message."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ssl.SSLError):
            return "tls-error"
        chain = chain.__cause__ or chain.__context__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
