"""The AGI wire with a peer in memory: one that says anything, and a genuine Asterisk with hostile callers.

On virtual time: no call takes longer than its deadlines add up to, and none waits for ever.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from oracles import hold

from ivr_agi.agi import Agi, BadEnvironment, CommandRefused, MissingSound, Wire, parse_environment
from ivr_agi.model import Hangup
from ivr_agi.request import BadRequest, PayRequest, read_request

AMOUNTS = range(10_000, 500_000_001)  # rials
LONGEST_LINE, MOST_LINES = 8192, 128
LONGEST_TALK = 900.0  # seconds: all deadlines of `talk` one after the other
PIECE = 65_536  # bytes that a transport hands over at once
DOCUMENTED = (
    Hangup,
    CommandRefused,
    BadEnvironment,
)  # by `Agi`'s commands; MissingSound where a file is played


class Unlocked:
    """No token is asked for."""

    @staticmethod
    def opens(_token: str) -> bool:
        return True


class _Transport:
    """What a wire writes to."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.open = True
        self.commands: asyncio.Queue[bytes] = asyncio.Queue()

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return ("127.0.0.1", 1) if name == "peername" else None

    def write(self, line: bytes) -> None:
        hold("second-command", line.count(b"\n") == 1 and line.endswith(b"\n"), line)
        self.commands.put_nowait(line)

    def close(self) -> None:
        if self.open:
            self.open = False
            asyncio.get_running_loop().call_soon(self.wire.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return not self.open


def _connect() -> tuple[Wire, _Transport]:
    transport = _Transport()
    transport.wire = Wire(lambda _wire: None)
    transport.wire.connection_made(transport)
    return transport.wire, transport


async def talk(pieces: list[bytes], *, stays: bool) -> None:
    """A call as the server begins one, against a peer that says these pieces whenever we have nothing to do."""
    wire, transport = _connect()
    began = asyncio.get_running_loop().time()
    speaking = asyncio.create_task(_say(wire, transport, pieces, stays=stays))
    try:
        await _call(wire)
    finally:
        wire.close()
    speaking.cancel()
    with suppress(asyncio.CancelledError):
        await speaking
    hold("takes-too-long", asyncio.get_running_loop().time() - began <= LONGEST_TALK)


async def _say(wire: Wire, transport: _Transport, pieces: list[bytes], *, stays: bool) -> None:
    for piece in pieces:
        for start in range(0, len(piece), PIECE):
            await asyncio.sleep(0.01)
            if not transport.open:
                return
            wire.data_received(piece[start : start + PIECE])
            if transport.open:
                hold("unread-kept", len(wire._unread) <= LONGEST_LINE, len(wire._unread))
                hold("lines-kept", len(wire._lines) <= MOST_LINES, len(wire._lines))
    await asyncio.sleep(0.01)
    if not stays:
        transport.close()


async def _call(wire: Wire) -> None:
    try:
        found = parse_environment(await wire.environment())
        asked = read_request(found, AMOUNTS, Unlocked(), look_up=True)
        hold_request(asked)
    except Hangup:
        return
    except (BadEnvironment, BadRequest):
        pass  # the call goes on, to be refused aloud
    line = Agi(wire)
    for ask in (
        line.answer,
        lambda: line.stream_file("ivr-agi/welcome", "12"),
        lambda: line.get_data("ivr-agi/enter-card", 8000, 16),
        lambda: line.set_music("default", on=True),
        lambda: line.set_variable("PAYREASON", ""),
        lambda: line.set_variable("PAYSTATUS", "REFUSED"),
    ):
        with suppress(MissingSound, *DOCUMENTED):
            await ask()


def hold_request(asked: PayRequest) -> None:
    """What may be paid is within what the settings and the gateway allow."""
    if asked.amount is not None:
        hold("amount-out-of-limits", asked.amount in AMOUNTS, asked)
    if asked.order_id is not None:
        hold("order-unfit", 0 < len(asked.order_id) <= 50 and asked.order_id.isprintable(), asked)
        hold("not-utf-8", "\ufffd" not in asked.order_id, asked)
    if asked.mobile is not None:
        digits = asked.mobile.removeprefix("+989")
        hold("mobile-unfit", len(digits) == 9 and digits.isascii() and digits.isdigit(), asked)


# -- a genuine Asterisk, hostile callers --------------------------------------------------------------

# What others can fill, in the fuzzer's order. `order`: what the dialplan puts into the address; `lacks`: what the
# address leaves to the caller: `a` the amount, `o` the order, too.
HOSTILE = (
    "callerid",
    "calleridname",
    "dnid",
    "rdnis",
    "context",
    "extension",
    "accountcode",
    "order",
    "lacks",
)
USUAL = {"callerid": "unknown", "calleridname": "unknown", "order": "A-1"}
PAUSE, MOST_PAUSES = (
    2.0,
    2,
)  # seconds: longer than any grace, together shorter than the environment's deadline


def compose(values: list[bytes]) -> tuple[bytes, str]:
    """The environment as res_agi.c writes it, value by value, unescaped; and the address as it was meant."""
    given = dict(zip(HOSTILE, values, strict=False))
    value = {name: given.get(name, USUAL.get(name, "").encode()) for name in HOSTILE}
    order = b"order_id=" + value["order"]
    query = {b"a": b"?" + order, b"o": b""}.get(value["lacks"], b"?amount=50000&" + order)
    script = b"pay" + query
    request = b"agi://127.0.0.1:4573/" + script
    written = [
        (b"network", b"yes"),
        (b"network_script", script),
        (b"request", request),
        (b"channel", b"PJSIP/trunk-00000001"),
        (b"language", b"fa"),
        (b"type", b"PJSIP"),
        (b"uniqueid", b"1732450000.1"),
        (b"version", b"22.10.1"),
        (b"callerid", value["callerid"]),
        (b"calleridname", value["calleridname"]),
        (b"callingpres", b"0"),
        (b"callingani2", b"0"),
        (b"callington", b"0"),
        (b"callingtns", b"0"),
        (b"dnid", value["dnid"]),
        (b"rdnis", value["rdnis"]),
        (b"context", value["context"]),
        (b"extension", value["extension"]),
        (b"priority", b"3"),
        (b"enhanced", b"0.0"),
        (b"accountcode", value["accountcode"]),
        (b"threadid", b"140211358779072"),
    ]
    lines = [b"agi_%s: %s\n" % pair for pair in written]
    return b"".join(lines) + b"\n", request.decode("utf-8", "replace")


async def call_with_forged_lines(cuts: bytes, values: list[bytes]) -> None:
    """Whatever others have put into the environment: what is asked for is what the dialplan meant, or nothing.

    cuts: a byte for each piece: its length (6 bits), whether we are waited for (64), a pause (128).
    """
    whole, address = compose(values)
    try:
        meant: PayRequest | None = read_request(
            {"request": address.strip()}, AMOUNTS, Unlocked(), look_up=True
        )
    except BadRequest:
        meant = None
    wire, transport = _connect()
    speaking = asyncio.create_task(_speak_as_asterisk(wire, transport, whole, cuts))
    asked: PayRequest | None = None
    with suppress(BadRequest, *DOCUMENTED):  # the call ends without a payment
        asked = await _begin(wire)
    wire.close()
    speaking.cancel()
    with suppress(asyncio.CancelledError):
        await speaking
    hold("forged", asked is None or asked == meant, (asked, meant, whole))
    if not any(b"\n" in value or b"\r" in value for value in values) and meant and len(whole) < LONGEST_LINE:
        hold("refused-though-genuine", asked == meant, (whole, cuts))


async def _speak_as_asterisk(wire: Wire, transport: _Transport, whole: bytes, cuts: bytes) -> None:
    """Asterisk writes its environment first, and only then reads commands and answers them."""
    place = pauses = 0
    for cut in cuts:
        piece = whole[place : place + (cut & 63)]
        place += len(piece)
        if piece and transport.open:
            wire.data_received(piece)
        if cut & 192:
            pauses += bool(cut & 128)
            await asyncio.sleep(PAUSE if cut & 128 and pauses <= MOST_PAUSES else 0.001)
    while place < len(whole) and transport.open:
        wire.data_received(whole[place : place + PIECE])
        place += PIECE
    while transport.open:
        await transport.commands.get()
        if transport.open:
            wire.data_received(b"200 result=0 endpos=0\n")


async def _begin(wire: Wire) -> PayRequest:
    """The server's beginning of a call, and the commands that come before anything is asked of the gateway."""
    asked = read_request(parse_environment(await wire.environment()), AMOUNTS, Unlocked(), look_up=True)
    line = Agi(wire)
    await line.answer()
    await line.set_variable("CHANNEL(language)", "fa")
    for _ in range(2):
        with suppress(MissingSound):
            await line.stream_file("ivr-agi/welcome")
        with suppress(MissingSound):
            await line.get_data("ivr-agi/confirm-amount", 8000, 1)
    return asked
