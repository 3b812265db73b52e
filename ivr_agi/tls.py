"""TLS for whatever this program asks over HTTPS, and a word for a connection that failed.

It verifies, always; nothing here may ever switch that off, or write a session's keys to a file.
"""

from __future__ import annotations

import re
import ssl


def verified_tls() -> ssl.SSLContext:
    """TLS that verifies the other side by the system's CAs (or those of SSL_CERT_FILE)."""
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
