"""The client of PayStar's telephone gateway: two requests, and the one table from wire to verdict.

`pay` is not idempotent and nobody can be asked afterwards what became of it. So it is sent at most
once, on a connection of its own, without redirects, proxies or retries; and whatever leaves us
without a clear answer is *unknown*, never *failed*. Nothing here is logged but verdicts, and
nothing raises: the gateway's answers are values.

Source: gateway-api.md, §1 (`otp-v2`), §2.1 and §2.2 (`pay`), and "what the document leaves open".
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import structlog

from ivr_agi import https
from ivr_agi.exchange import LEAVING
from ivr_agi.https import verified_tls
from ivr_agi.model import (
    MASKED,
    Method,
    OtpAnswer,
    OtpVerdict,
    Pan,
    PayAnswer,
    Pin,
    Secret,
    Verdict,
    ascii_digits,
    mask_cards,
    mask_digits,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

log = structlog.get_logger()

MAX_BODY: Final = 65_536  # bytes; a real answer has a few hundred
MOST_OF_CODE: Final = 4  # characters of a bank's code; the shortest PIN has 5
SHOWN: Final = 9  # digits of a card in a row, or characters of another secret, that give it away
NOTHING_CHARGED: Final = frozenset({400, 401, 403, 404, 405, 413, 422, 429})


@dataclass(frozen=True, slots=True)
class Exchange:
    """What happened on the wire with one request.

    written: whether a byte of the request may have left. status: the HTTP status, 0 if none came.
    body: the whole body, None if it did not come whole. trouble: what went wrong, in a word.
    """

    written: bool
    status: int = 0
    body: bytes | None = None
    trouble: str = ""


@dataclass(slots=True)
class Flight:
    """A request on its way. exchange: once its answer is whole."""

    written: bool = False
    status: int = 0
    exchange: Exchange | None = None

    def leave(self) -> None:
        """A byte of the request may leave from now on."""
        self.written = True

    def so_far(self, trouble: str) -> Exchange:
        """The answer, if it has come; else what there is, and why there is no more."""
        return self.exchange or Exchange(self.written, self.status, trouble=trouble)


class Gateway:
    """The gateway at one address. url: without the service's name; sequence: our credential."""

    def __init__(  # noqa: PLR0913 - what a gateway is reached by
        self,
        url: str,
        sequence: Secret,
        *,
        otp_timeout: float,
        pay_timeout: float,
        late_limit: float = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Timeouts in seconds, each for a whole exchange; late_limit comes after pay_timeout.

        tls: verifies by the system's CAs unless given.
        """
        self._url = url.rstrip("/")
        self._sequence = sequence
        self._otp_timeout = otp_timeout
        self._pay_timeout = pay_timeout
        self._late_limit = late_limit
        self._late: set[asyncio.Task[None]] = set()
        self._transport = https.transport(tls or verified_tls())
        self._urls: dict[str, httpx.URL] = {}  # by service
        parts = urlsplit(self._url)
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            log.error(
                "gateway.plain",
                gateway=parts.hostname,
                cure="cards would go unencrypted: only for a simulator; unset IVR_AGI_GATEWAY_PLAIN",
            )

    async def request_pin(self, pan: Pan, amount: int, order_id: str) -> OtpAnswer:
        """`otp-v2` (§1): have a one-time PIN sent to the card's holder. amount in rials."""
        body = {
            "amount": amount,
            "pan": pan,
            "order_id": order_id,
            "sequence": self._sequence,
        }
        return read_otp(await self._post("otp-v2", body, self._otp_timeout), (pan, self._sequence))

    async def pay(  # noqa: PLR0913 - the fields of §2.1
        self,
        method: Method,
        pan: Pan,
        pin: Pin,
        amount: int,
        order_id: str,
        mobile: str,
        *,
        late: Callable[[PayAnswer], None] | None = None,
    ) -> PayAnswer:
        """`pay` by phone (§2.1) or from the merchant's panel (§2.2). Call it once for each PIN.

        When the time limit passes with something written, the answer is unknown, and we go on listening:
        late hears what comes within the late limit.
        """
        body: dict[str, Any] = {"ivr": 1, "pan": pan, "pin": pin}
        if method is Method.IVR:
            body |= {"amount": amount, "order_id": order_id}
        else:
            body |= {"ivr": 0, "invoice_id": order_id}
        body |= {"merchant_cid": mobile, "sequence": self._sequence}
        flight = Flight()
        sending = asyncio.create_task(self._send(flight, "pay", body))
        try:
            await asyncio.wait({sending}, timeout=self._pay_timeout)
        except asyncio.CancelledError:
            sending.cancel()
            raise
        secrets = (pan, self._sequence, pin)
        if sending.done():
            return read_pay(sending.result(), secrets)
        if flight.exchange is None and flight.written and late and self._late_limit:
            self._listen(flight, sending, secrets, late)
        else:  # nothing has left, and nothing may leave any more
            sending.cancel()
            await asyncio.wait({sending})
        return read_pay(flight.so_far("timeout"), secrets)

    def _listen(
        self,
        flight: Flight,
        sending: asyncio.Task[Exchange],
        secrets: Sequence[Secret],
        late: Callable[[PayAnswer], None],
    ) -> None:
        async def listen() -> None:
            done: set[asyncio.Task[Exchange]] = set()
            try:
                done, _ = await asyncio.wait({sending}, timeout=self._late_limit)
            finally:
                if flight.exchange:
                    late(read_pay(flight.exchange, secrets))
                elif done and not sending.exception():
                    late(read_pay(sending.result(), secrets))

        task = asyncio.create_task(listen(), name="late")
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        task.add_done_callback(lambda _task: sending.cancel())

    async def listened(self) -> None:
        """Wait until no late answer is listened for any more."""
        while self._late:
            await asyncio.wait(self._late)

    async def close(self) -> None:
        """Stop listening for late answers: what is unknown by now stays so."""
        for task in self._late:
            task.cancel()
        await self.listened()

    async def _post(self, service: str, body: dict[str, Any], seconds: float) -> Exchange:
        """Post once, on a fresh connection, and say how far it came."""
        flight = Flight()
        try:
            async with asyncio.timeout(seconds):
                return await self._send(flight, service, body)
        except TimeoutError:
            return flight.so_far("timeout")

    async def _send(self, flight: Flight, service: str, body: dict[str, Any]) -> Exchange:
        """Post without a time limit. Never raises but when cancelled; flight says how far it has come."""
        response: httpx.Response | None = None
        try:
            # The request is nobody's but the transport's, which lets go of it when it has left.
            response = await self._transport.handle_async_request(self._request(flight, service, body))
            flight.status = response.status_code
            received = bytearray()
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > MAX_BODY:
                    return flight.so_far("too-long")
            flight.exchange = Exchange(flight.written, flight.status, bytes(received))
        except https.BROKEN as error:
            return flight.so_far(https.trouble(error))
        finally:
            if response is not None:
                await response.aclose()
        return flight.so_far("")

    def _request(self, flight: Flight, service: str, body: dict[str, Any]) -> httpx.Request:
        """Word a request. Raises httpx.InvalidURL."""
        if service not in self._urls:
            self._urls[service] = httpx.URL(f"{self._url}/{service}")
        return httpx.Request(
            "POST",
            self._urls[service],
            headers=https.HEADERS,
            json=_revealed(body),
            extensions={LEAVING: flight.leave},
        )


def _revealed(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it goes out: here, and nowhere else, secrets are text."""
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in body.items()}


def read_pay(exchange: Exchange, secrets: Sequence[Secret]) -> PayAnswer:
    """THE table from wire to verdict (gateway-api.md), top to bottom; the last line catches all.

    secrets: what we sent that must not be kept, should the gateway repeat it.
    """
    trouble = exchange.trouble or f"http-{exchange.status}"
    if not exchange.written:
        return PayAnswer(Verdict.FAILED, detail=trouble)
    reply = _read_reply(exchange.body)
    match reply:
        case Reply(status=0, fields=dict() as fields) if (code := _decline_code(fields)) is not None:
            return PayAnswer(Verdict.DECLINED, code=code, detail=reply.note(secrets))
        case Reply(status=1, fields={"refID": str(ref_id)}) if exchange.status in https.OK and _is_ref_id(
            ref_id
        ):
            return PayAnswer(Verdict.PAID, ref_id=_without(secrets, mask_cards(ref_id.strip())))
    if exchange.status in NOTHING_CHARGED and exchange.body is not None and not _tells_of_pay(exchange.body):
        return PayAnswer(Verdict.FAILED, detail=trouble)
    return PayAnswer(Verdict.UNKNOWN, detail=exchange.trouble or f"unclear-answer-{trouble}")


def read_otp(exchange: Exchange, secrets: Sequence[Secret]) -> OtpAnswer:
    """The same for `otp-v2`: status 1 is sent, another status refused, the rest by the bytes written."""
    trouble = exchange.trouble or f"http-{exchange.status}"
    if not exchange.written:
        return OtpAnswer(OtpVerdict.FAILED, trouble)
    reply = _read_reply(exchange.body)
    if reply and reply.status == 1 and exchange.status in https.OK:
        return OtpAnswer(OtpVerdict.SENT)
    if reply and reply.status != 1:
        return OtpAnswer(OtpVerdict.REFUSED, reply.note(secrets) or trouble)
    if reply is None and exchange.status in NOTHING_CHARGED:
        return OtpAnswer(OtpVerdict.REFUSED, trouble)
    return OtpAnswer(OtpVerdict.UNCLEAR, trouble)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply that is JSON of the documented form. fields: `data`, None when its form is another."""

    status: int
    fields: dict[str, Any] | None
    errors: Any

    def note(self, secrets: Sequence[Secret]) -> str:
        """The gateway's own words, cut short and free of secrets: theirs are not to be trusted."""
        if not self.errors:
            return ""
        words = self.errors if isinstance(self.errors, str) else json.dumps(self.errors, ensure_ascii=False)
        words = "".join(letter if letter.isprintable() else " " for letter in words)
        return _without(secrets, mask_digits(words))[:200]


def _read_reply(body: bytes | None) -> Reply | None:
    """Read `{"status": 0 | 1 | "0" | "1" | …, "data": …, "errors": …}`; None for anything looser."""
    if body is None:
        return None
    reply = https.read_object(body)
    if reply is None:
        return None
    status = reply.get("status")
    if isinstance(status, str) and re.fullmatch(r"0|-?[1-9][0-9]{0,8}", status, re.ASCII):
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool):  # True is an int to Python
        return None
    match reply.get("data"):
        case dict() as fields:
            pass
        case [dict() as fields]:
            pass
        case None | []:
            fields = {}
        case _:
            return Reply(status, None, reply.get("errors"))
    return Reply(status, fields, reply.get("errors"))


_SPOKEN = re.compile(rb'"status\\*"\s*:\s*\\*"?(?:[01]|true|false)\b')  # also in JSON within JSON


def _tells_of_pay(body: bytes) -> bool:
    """Whether a refusal speaks of a payment's outcome after all: then it is no clear refusal."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    told = b'"refID"' in body or _SPOKEN.search(body) is not None

    def look(pairs: list[tuple[str, Any]]) -> None:  # at each object, and at each of two equal keys
        nonlocal told
        for name, value in pairs:
            outcome = name == "status" and str(value).strip() in ("0", "1", "0.0", "1.0", "True", "False")
            told = told or outcome or name == "refID"

    try:
        json.loads(body.decode(), object_pairs_hook=look)
    except (ValueError, RecursionError):  # a page; or what was cut, packed or coded, and may say it after all
        cut = body.lstrip()[:1] in (b"{", b"[") or body.count(b"{") > body.count(b"}")
        told = told or cut or b"\0" in body or body.startswith(b"\x1f\x8b")
    return told


def _decline_code(fields: dict[str, Any]) -> str | None:
    """The bank's code without leading zeros, '' if none came; None if this is no decline as documented.

    That is: the code is no text, or is nothing but zeros (a bank's "approved"), or a tracking
    number came along, where a decline has the constant "0". What is too long for a code, as a card or
    a PIN is, counts as none.
    """
    code = fields.get("transactionStatus")
    code = "" if code is None else code
    if not isinstance(code, str) or fields.get("refID") not in (None, "", "0"):
        return None
    code = re.sub(r"[^A-Za-z0-9-]", "", ascii_digits(code))
    if code and not code.strip("0-"):
        return None
    code = code.lstrip("0")
    return code if len(code) <= MOST_OF_CODE else ""


def _is_ref_id(text: str) -> bool:
    number = "".join(c for c in ascii_digits(text) if c.isalnum())
    return number.strip("0") != "" and len(text) <= 64 and text.isprintable()  # noqa: PLR2004 - the journal's column


def _without(secrets: Sequence[Secret], text: str) -> str:
    return MASKED if any(_repeats(text, secret) for secret in secrets) else text


def _repeats(text: str, secret: Secret) -> bool:
    """Whether a text of the gateway's gives a secret of ours away, in whatever script, apart or backwards."""
    said, hidden = (
        "".join(c for c in ascii_digits(t).lower() if c.isalnum()) for t in (text, secret.reveal())
    )
    match secret:
        case Pan():  # more in a row than its first six, or its last four
            parts = {hidden[place : place + SHOWN] for place in range(len(hidden) - SHOWN + 1)}
            return any(part in said or part[::-1] in said for part in parts)
        case Pin():  # inside of a longer number it would be chance
            return hidden in re.findall(r"\d+", said) or said == hidden
    return len(hidden) >= SHOWN and hidden in said
