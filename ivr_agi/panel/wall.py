"""What stands in front of every page: who may ask at all, how much he may send, what the browser may do.

The panel answers its reverse proxies and this machine, under the names it is known by: another name in `Host`
is a page of somebody else's that was pointed here (DNS rebinding). No answer is kept by anybody, none may be
framed, and no script runs but our own files.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Network

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

MOST_BYTES: Final = 64 * 1024  # of a form
MOST_OF_UPLOAD: Final = 4 * 1024 * 1024  # of a settlement list
ON_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "::1")
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
# Kept for a year by browsers that came by https.
STRICT_TRANSPORT: Final = "max-age=31536000"


class TooLarge(Exception):  # noqa: N818 - an answer, not a fault
    """More was sent than is taken."""


class Wall:
    """ASGI middleware. Leaves in the request's state: address, of who asks; origin, of our pages."""

    def __init__(
        self, app: ASGIApp, *, url: str, proxies: Sequence[IPv4Network | IPv6Network], uploads: str
    ) -> None:
        """url: PANEL_URL. uploads: the path, below ours, that takes MOST_OF_UPLOAD."""
        self._app = app
        self._url = urlsplit(url) if url else None
        self._proxies = proxies
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        peer = _address((scope.get("client") or ("",))[0])
        if peer is None or not self._trusts(peer):
            log.warning("panel.peer_refused", peer=str(peer), cure="add its network to IVR_AGI_PANEL_PROXIES")
            await _say(403, "This address may not use the panel.")(scope, receive, send)
            return
        origin = self._origin(headers.get("host", ""))
        if origin is None:
            log.warning(
                "panel.host_refused", host=headers.get("host", "")[:100], cure="set IVR_AGI_PANEL_URL"
            )
            await _say(421, "The panel is not known by this name.")(scope, receive, send)
            return
        scope.setdefault("state", {}).update(address=str(self._asking(peer, headers)), origin=origin)
        most = MOST_OF_UPLOAD if scope["path"].endswith(self._uploads) else MOST_BYTES
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:12]) > most:
            await _say(413, f"At most {most} bytes are taken.")(scope, receive, send)
            return
        await self._app(scope, _limited(receive, most), self._dressed(send))

    def _trusts(self, peer: IPv4Address | IPv6Address) -> bool:
        return any(peer in network for network in self._proxies)

    def _origin(self, host: str) -> str | None:
        """The origin that our pages have under this name; None for a name that is none of ours."""
        if self._url is not None:
            return (
                f"{self._url.scheme}://{self._url.netloc}"
                if host.lower() == self._url.netloc.lower()
                else None
            )
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return None
        return f"http://{host}" if name in ON_THIS_MACHINE else None

    def _asking(self, peer: IPv4Address | IPv6Address, headers: Headers) -> IPv4Address | IPv6Address:
        """Who asks: the last one of X-Forwarded-For that is no proxy of ours."""
        for text in reversed(",".join(headers.getlist("x-forwarded-for")).split(",")):
            address = _address(text.strip())
            if address is None:
                break
            peer = address
            if not self._trusts(address):
                break
        return peer

    def _dressed(self, send: Send) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if self._url is not None and self._url.scheme == "https":
                    headers.setdefault("Strict-Transport-Security", STRICT_TRANSPORT)
            await send(message)

        return dressed


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _say(status: int, text: str) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status, {**HEADERS, "Cache-Control": "no-store"})


def _limited(receive: Receive, most: int) -> Receive:
    """Read no more than so many bytes. Raises TooLarge."""
    had = 0

    async def limited() -> Message:
        nonlocal had
        message = await receive()
        had += len(message.get("body", b""))
        if had > most:
            raise TooLarge
        return message

    return limited
