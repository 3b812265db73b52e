"""The gateway: does its name resolve, does it accept a connection, is it who it says it is.

The connection is closed after the TLS handshake. No HTTP request is ever sent: nothing that could be
taken for a payment.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ivr_agi.doctor.findings import Finding, error, ok, warning
from ivr_agi.https import verified_tls

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTING: Final = "IVR_AGI_GATEWAY_URL"
SECONDS: Final = 5.0  # for each of: the name, one address, the handshake
ADDRESSES: Final = 4  # of one name, tried at most
SOON: Final = 14  # days


def check(url: str, *, tls: ssl.SSLContext | None = None, seconds: float = SECONDS) -> Iterator[Finding]:
    """Look how far one comes. tls: verifies as the client does unless given."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    if not secure:
        yield warning(
            "plain http: a simulator, no bank; card numbers go unencrypted", SETTING, "an https address"
        )
    try:
        addresses = _resolve(host, port, seconds)
    except OSError as trouble:
        yield error(
            f"the name {host} does not resolve: {trouble.strerror or trouble}",
            SETTING,
            "check the name, /etc/resolv.conf, and the firewall for DNS",
        )
        return
    connection, why = _connect(addresses, port, seconds)
    if connection is None:
        yield error(
            f"{host}:{port} cannot be reached at {', '.join(address for _, address in addresses)}: {why}",
            SETTING,
            "check the address, the firewall's outgoing rules, and whether the bank must know your address",
        )
        return
    with connection:
        peer = connection.getpeername()[0]
        if secure:
            yield _handshake(connection, host, port, tls or verified_tls())
        else:
            yield ok(f"{host}:{port} accepts connections ({peer})", SETTING)


def _resolve(host: str, port: int, seconds: float) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of a name. Raises OSError; also when there is no answer in time."""
    answers: list[list[tuple[socket.AddressFamily, str]] | OSError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.append([(family, str(address[0])) for family, _, _, _, address in found])
        except UnicodeError:
            answers.append(OSError("not a name"))
        except OSError as trouble:
            answers.append(trouble)

    asking = threading.Thread(target=ask, daemon=True)  # the resolver's own time limit is half a minute
    asking.start()
    asking.join(seconds)
    answer = answers[0] if answers else TimeoutError(f"no answer within {seconds:g} s")
    if isinstance(answer, OSError):
        raise answer
    return answer[:ADDRESSES]


def _connect(
    addresses: list[tuple[socket.AddressFamily, str]], port: int, seconds: float
) -> tuple[socket.socket | None, str]:
    """A connection to the first address that takes one; or None, and why the last did not."""
    why = ""
    for family, address in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(seconds)
        try:
            connection.connect((address, port))
        except OSError as trouble:
            why = trouble.strerror or f"no answer within {seconds:g} s"
            connection.close()
        else:
            return connection, ""
    return None, why


def _handshake(connection: socket.socket, host: str, port: int, tls: ssl.SSLContext) -> Finding:
    """TLS as the client does it, and then nothing more."""
    where = f"{host}:{port}"
    try:
        with tls.wrap_socket(connection, server_hostname=host) as secured:
            certificate, version = secured.getpeercert() or {}, secured.version()
    except ssl.SSLCertVerificationError as trouble:
        return error(
            f"{where} cannot prove who it is: {trouble.verify_message}; nothing is sent to it",
            SETTING,
            "apt install ca-certificates, and set the clock; if both are right, ask PayStar."
            " Somebody in between (a proxy) looks like this, too",
        )
    except OSError as trouble:  # ssl.SSLError is one
        why = getattr(trouble, "reason", None) or trouble.strerror or trouble
        return error(
            f"{where}: the TLS handshake fails: {why}", SETTING, "check that the address is the gateway's"
        )
    ends = str(certificate.get("notAfter", ""))
    days = (ssl.cert_time_to_seconds(ends) - time.time()) / 86_400 if ends else SOON
    if days < SOON:
        return warning(
            f"the certificate of {where} ends in {days:.0f} days", SETTING, "ask PayStar to renew it"
        )
    return ok(f"{where} is reached and proves who it is ({version}, certificate until {ends})", SETTING)
