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
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import structlog

from ivr_agi.model import Method, OtpAnswer, OtpVerdict, PayAnswer, Verdict, mask_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ivr_agi.model import Pan, Pin, Secret

log = structlog.get_logger()

MAX_BODY: Final = 65_536  # bytes; a real answer has a few hundred
NOTHING_CHARGED: Final = frozenset({400, 401, 403, 404, 405, 413, 422, 429})
OK: Final = range(200, 300)


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


class Gateway:
    """The gateway at one address. url: without the service's name; sequence: our credential."""

    def __init__(
        self,
        url: str,
        sequence: Secret,
        *,
        otp_timeout: float,
        pay_timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Timeouts in seconds, each for a whole exchange. tls: verifies by the system's CAs unless given."""
        self._url = url.rstrip("/")
        self._sequence = sequence
        self._otp_timeout = otp_timeout
        self._pay_timeout = pay_timeout
        self._tls = tls or verified_tls()
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
            "pan": pan.reveal(),
            "order_id": order_id,
            "sequence": self._sequence.reveal(),
        }
        return read_otp(await self._post("otp-v2", body, self._otp_timeout), (pan, self._sequence))

    async def pay(  # noqa: PLR0913 - the fields of §2.1
        self, method: Method, pan: Pan, pin: Pin, amount: int, order_id: str, mobile: str
    ) -> PayAnswer:
        """`pay` by phone (§2.1) or from the merchant's panel (§2.2). Call it once for each PIN."""
        body: dict[str, Any] = {"ivr": 1, "pan": pan.reveal(), "pin": pin.reveal()}
        if method is Method.IVR:
            body |= {"amount": amount, "order_id": order_id}
        else:
            body |= {"ivr": 0, "invoice_id": order_id}
        body |= {"merchant_cid": mobile, "sequence": self._sequence.reveal()}
        return read_pay(await self._post("pay", body, self._pay_timeout), (pan, self._sequence, pin))

    async def _post(self, service: str, body: dict[str, Any], seconds: float) -> Exchange:
        """Post once, on a fresh connection, and say how far it came."""
        written = False
        status = 0

        async def watch(event: str, _info: dict[str, Any]) -> None:
            nonlocal written
            if event.endswith("send_request_headers.started"):
                written = True

        # A client of its own for each request: no connection is shared, none is left over.
        client = httpx.AsyncClient(
            verify=self._tls,
            trust_env=False,  # a proxy from the environment would see the card
            follow_redirects=False,
            timeout=None,  # noqa: S113 - the deadline below is for the whole exchange
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ivr-agi"},
        )
        exchange: Exchange | None = None
        try:
            async with asyncio.timeout(seconds), client:
                request = client.build_request(
                    "POST", f"{self._url}/{service}", json=body, extensions={"trace": watch}
                )
                response = await client.send(request, stream=True)
                status = response.status_code
                received = bytearray()
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > MAX_BODY:
                        return Exchange(written, status, trouble="too-long")
                exchange = Exchange(written, status, bytes(received))
        except TimeoutError:
            return exchange or Exchange(written, status, trouble="timeout")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return exchange or Exchange(written, status, trouble=_word(error))
        return exchange


def verified_tls() -> ssl.SSLContext:
    """TLS that verifies the gateway by the system's CAs (or those of SSL_CERT_FILE)."""
    # Not create_default_context(): that one writes the session's keys to SSLKEYLOGFILE, if it is set.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_default_certs()
    return tls


def _word(error: Exception) -> str:
    """`ConnectError` as `connect-error`; a failure of TLS by its own name. Never the message."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, ssl.SSLError):
            return "tls-error"
        chain = chain.__cause__ or chain.__context__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()


def read_pay(exchange: Exchange, secrets: Sequence[Secret]) -> PayAnswer:
    """THE table from wire to verdict (gateway-api.md), top to bottom; the last line catches all.

    secrets: what we sent that must not be kept, should the gateway repeat it; the card first.
    """
    trouble = exchange.trouble or f"http-{exchange.status}"
    if not exchange.written:
        return PayAnswer(Verdict.FAILED, detail=trouble)
    reply = _read_reply(exchange.body)
    match reply:
        case Reply(status=0, fields=dict() as fields) if (code := _decline_code(fields)) is not None:
            return PayAnswer(Verdict.DECLINED, code=code, detail=reply.note(secrets))
        case Reply(status=1, fields={"refID": str(ref_id)}) if exchange.status in OK and _is_ref_id(ref_id):
            return PayAnswer(Verdict.PAID, ref_id=_without(secrets[:1], ref_id.strip()))
    claims_paid = reply is not None and reply.status == 1
    if exchange.status in NOTHING_CHARGED and exchange.body is not None and not claims_paid:
        return PayAnswer(Verdict.FAILED, detail=trouble)
    return PayAnswer(Verdict.UNKNOWN, detail=exchange.trouble or f"unclear-answer-{trouble}")


def read_otp(exchange: Exchange, secrets: Sequence[Secret]) -> OtpAnswer:
    """The same for `otp-v2`: status 1 is sent, another status refused, the rest by the bytes written."""
    trouble = exchange.trouble or f"http-{exchange.status}"
    if not exchange.written:
        return OtpAnswer(OtpVerdict.FAILED, trouble)
    reply = _read_reply(exchange.body)
    if reply and reply.status == 1 and exchange.status in OK:
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
        return mask_digits(_without(secrets, words))[:200]


def _read_reply(body: bytes | None) -> Reply | None:
    """Read `{"status": 0 | 1 | "0" | "1" | …, "data": …, "errors": …}`; None for anything looser."""
    if body is None:
        return None
    try:
        reply = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_once_each)
    except (ValueError, RecursionError):
        return None
    status = reply.get("status") if isinstance(reply, dict) else None
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


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice: which one counts?")
    return found


def _decline_code(fields: dict[str, Any]) -> str | None:
    """The bank's code without leading zeros, '' if none came; None if this is no decline as documented.

    That is: the code is no text, or is nothing but zeros (a bank's "approved"), or a tracking
    number came along, where a decline has the constant "0".
    """
    code = fields.get("transactionStatus") or ""
    if not isinstance(code, str) or fields.get("refID") not in (None, "", "0"):
        return None
    code = re.sub(r"[^A-Za-z0-9-]", "", code)[:10]
    return code.lstrip("0") or (None if code else "")


def _is_ref_id(text: str) -> bool:
    return text.strip() not in ("", "0") and len(text) <= 64 and text.isprintable()  # noqa: PLR2004 - the journal's column


def _without(secrets: Sequence[Secret], text: str) -> str:
    for secret in secrets:
        if secret.reveal():
            text = text.replace(secret.reveal(), secret.masked)
    return text
