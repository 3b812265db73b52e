"""A gateway that repeats what it was sent: in each place of an answer, in each way of writing digits.

Raw bytes on a socket, so that headers and the reason phrase can be told, too. It charges nobody.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from canaries import ARABIC, CARD, PERSIAN, PIN, SEQUENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ivr_agi.simulator.gateway import GatewaySimulator


def fours(between: str) -> Callable[[str], str]:
    return lambda text: between.join(text[place : place + 4] for place in range(0, len(text), 4))


WAYS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "spaced": fours(" "),
    "dashed": fours("-"),
    "dotted": fours("."),
    "each spaced": " ".join,
    "each dashed": "-".join,
    "two blanks": fours("  "),
    "no-break hyphen": fours("\u2011"),
    "no-break space": fours("\u00a0"),
    "zero width": fours("\u200c"),
    "piped": fours("|"),
    "list": ", ".join,
    "quoted list": lambda text: str(list(text)),
    "thousands": lambda text: f"{int(text):,}" if text.isdecimal() else text,
    "Persian": lambda text: text.translate(str.maketrans("0123456789", PERSIAN)),
    "Arabic": lambda text: text.translate(str.maketrans("0123456789", ARABIC)),
    "Persian spaced": lambda text: fours(" ")(text.translate(str.maketrans("0123456789", PERSIAN))),
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "URL": lambda text: "".join(f"%{ord(letter):02X}" for letter in text),
    "entities": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "escapes": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),  # written out, twice escaped
    "reversed": lambda text: text[::-1],
    "first twelve": lambda text: text[:12],
    "last nine": lambda text: text[-9:],
}


def http(body: str | bytes, status: str = "200 OK", also: str = "", kind: str = "application/json") -> bytes:
    """A whole answer, byte for byte."""
    raw = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n{also}\r\n"
    return head.encode("utf-8") + raw


def _json(**fields: object) -> str:
    return json.dumps(fields)  # \\u escapes for what is not ASCII


# Where an answer may repeat it: text -> a whole answer to `pay`.
PLACES: dict[str, Callable[[str], bytes]] = {
    "errors": lambda text: http(
        _json(status=0, data={"refID": "0", "transactionStatus": "5"}, errors=[text])
    ),
    "errors' text": lambda text: http(_json(status=0, data=[], errors=f"bad: {text}!")),
    "errors' key": lambda text: http(_json(status=0, data=[], errors={text: {"x": [text]}})),
    "refID": lambda text: http(_json(status=1, data={"refID": text}, errors=[])),
    "refID of a decline": lambda text: http(_json(status=0, data={"refID": text, "transactionStatus": "5"})),
    "transactionStatus": lambda text: http(_json(status=0, data={"refID": "0", "transactionStatus": text})),
    "status": lambda text: http(_json(status=text, data=[], errors=[])),
    "a field's name": lambda text: http(_json(status=0, data={text: text}, errors=[])),
    "HTML": lambda text: http(f"<html>{text}</html>", "502 Bad Gateway", kind="text/html"),
    "a refusal": lambda text: http(_json(message=text), "422 Unprocessable Content"),
    "a refusal's errors": lambda text: http(_json(status=0, data=[], errors=[text]), "422 Unprocessable"),
    "a header": lambda text: http("{}", also=f"X-Echo: {text}\r\nSet-Cookie: c={text}\r\n"),
    "a header's name": lambda text: http("{}", also=f"X-{text}: 1\r\n"),
    "reason phrase": lambda text: http("{}", f"500 {text}"),
    "where to": lambda text: http("", "307 Temporary Redirect", also=f"Location: http://{text}/\r\n"),
    "no HTTP": lambda text: f"{text}\r\n\r\n".encode(),
    "cut JSON": lambda text: http(_json(status=1, data={"refID": text})[:-3]),
    "status as a number": lambda text: http(f'{{"status": {int(text) if text.isdecimal() else 0}}}'),
}
SENT = {"card": CARD, "PIN": PIN, "sequence": SEQUENCE}


def echoes() -> dict[str, bytes]:
    """Each secret, written in each way, in each place of an answer."""
    found = {}
    for place, answer in PLACES.items():
        for way, write in WAYS.items():
            for name, secret in SENT.items():
                if name != "card" and (way in ("first twelve", "last nine")):
                    continue
                if name == "sequence" and way not in ("plain", "hex", "base64", "URL", "reversed"):
                    continue
                found[f"{name} {way} in {place}"] = answer(write(secret))
    return found


def _closing(head: bytes) -> bytes:
    """A request's head, asking for a connection that ends with the answer."""
    return re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


class Parrot:
    """The gateway: `pay` of an order in `answers` is answered so; all else is carried to the simulator behind.

    heard: called with each request, before it is answered.
    """

    def __init__(self, behind: GatewaySimulator, heard: Callable[[], None] = lambda: None) -> None:
        self.answers: dict[str, bytes] = {}
        self.heard = heard
        self.url = ""
        self._behind = behind
        self._connections: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api/ivr/bpm"
        return self

    async def __aexit__(self, *_exc):
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader, writer):
        connection = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.decode().lower().partition("content-length:")[2].splitlines()[0])
            body = await reader.readexactly(length)
            self.heard()
            answer = self.answers.get(json.loads(body).get("order_id", ""))
            if answer is not None and b"/pay HTTP" in head:
                writer.write(answer)
                await writer.drain()
            else:
                await self._carry(_closing(head) + body, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()

    async def _carry(self, request, writer):
        there = urlsplit(self._behind.url)
        answers, asks = await asyncio.open_connection(there.hostname, there.port)
        try:
            asks.write(request)
            while chunk := await answers.read(65536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            writer.transport.abort()
        finally:
            asks.close()
