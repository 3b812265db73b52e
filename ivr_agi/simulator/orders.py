"""The stand-in for a merchant's order endpoint (docs/orders.md) over real HTTP on loopback.

Tells of the invoices that it is given, and checks each request to the letter, its signature included,
with code of its own: it must never share any with the client, or it would share its mistakes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from ivr_agi.simulator.checks import Fields, MalformedError, read_object
from ivr_agi.simulator.wire import HttpServer, Reply, Request

if TYPE_CHECKING:
    import asyncio
    import ssl as tls
    from collections.abc import Mapping

    from ivr_agi.simulator.outcomes import Fault

PATH: Final = "/ivr/order"
FRESH: Final = 300  # seconds
_SIGNATURE: Final = re.compile(r"t=([1-9][0-9]{9})((?:,v1=[0-9a-f]{64})+)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was in order."""

    invoice: str
    mobile: str | None = field(repr=False)


class OrdersSimulator:
    """The endpoint as an HTTP server; `async with` starts it on a free port of loopback.

    secret: each request must be signed by it; empty: none may be signed.
    invoices: number -> the answer's JSON object; any other is not found. replies: answers that come before
    these, one each. faults: what befalls connections just accepted, one each. hold: no answer before it is
    set. arrived: set when a request has been read. asked: the good requests. wrong: why others were not.
    """

    def __init__(self, secret: str = "", invoices: Mapping[str, Fields] | None = None) -> None:
        self.invoices = dict(invoices or {})
        self.replies: list[Reply] = []
        self.faults: list[Fault] = []
        self.hold: asyncio.Event | None = None
        self.arrived: asyncio.Event | None = None
        self.asked: list[Asked] = []
        self.wrong: list[str] = []
        self.url = ""
        self._secret = secret
        self._http = HttpServer(self._respond, lambda: self.faults.pop(0) if self.faults else None)

    async def start(self, ssl: tls.SSLContext | None = None) -> None:
        """Listen; `url` is then the address to be asked."""
        port = await self._http.start("127.0.0.1", 0, ssl)
        self.url = f"{'https' if ssl else 'http'}://127.0.0.1:{port}{PATH}"

    async def stop(self) -> None:
        """Stop listening and drop what is under way."""
        await self._http.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def _respond(self, request: Request) -> Reply:
        if self.arrived is not None:
            self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()
        if complaint := self._complaint(request):
            self.wrong.append(complaint)
            return Reply(401 if complaint.startswith("signature") else 422, b"", "text/plain")
        fields = read_object(request.body)
        asked = Asked(str(fields["invoice"]), None if fields["mobile"] is None else str(fields["mobile"]))
        self.asked.append(asked)
        if self.replies:
            return self.replies.pop(0)
        answer = self.invoices.get(asked.invoice, {"status": "not-found"})
        return Reply(200, json.dumps(answer, ensure_ascii=False).encode())

    def _complaint(self, request: Request) -> str:
        """What is wrong with a request, '' for nothing."""
        if (request.method, request.path) != ("POST", PATH):
            return f"request: POST {PATH} is what there is"
        if request.headers.get("content-type") != "application/json":
            return "content-type: must be application/json"
        if complaint := self._signature_complaint(request):
            return complaint
        try:
            fields = read_object(request.body)
        except MalformedError as error:
            return str(error)
        return _field_complaint(fields)

    def _signature_complaint(self, request: Request) -> str:
        header = request.headers.get("ivr-agi-signature", "")
        if not self._secret:
            return "signature: there is no secret to sign with" if header else ""
        found = _SIGNATURE.fullmatch(header)
        if found is None:
            return "signature: absent, or not of the form t=…,v1=…"
        if abs(time.time() - int(found[1])) > FRESH:
            return "signature: too old, or of the future"
        mac = hmac.new(self._secret.encode(), found[1].encode() + b"." + request.body, hashlib.sha256)
        return "" if f"v1={mac.hexdigest()}" in found[2].split(",") else "signature: by another secret"


def _field_complaint(fields: Fields) -> str:
    if set(fields) != {"invoice", "mobile"}:
        return "fields: invoice and mobile, no more and no less"
    invoice, mobile = fields["invoice"], fields["mobile"]
    if not (isinstance(invoice, str) and re.fullmatch(r"[0-9]{1,15}", invoice)):
        return "invoice: a string of 1 to 15 digits"
    if mobile is not None and not (isinstance(mobile, str) and re.fullmatch(r"\+989[0-9]{9}", mobile)):
        return "mobile: a string as +989123456789, or null"
    return ""
