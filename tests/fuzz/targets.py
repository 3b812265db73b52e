"""What is fuzzed: one function for each way in, from bytes to nothing, or to a Violation.

They need no fuzzer: the hypothesis tests, the replay of the corpus and atheris call the same ones. An exception that
the product has not documented is a Violation, too.
"""

from __future__ import annotations

import re
from functools import wraps
from typing import TYPE_CHECKING

import genuine
import oracles
import virtual_time
from http_peer import pay_at_peer
from oracles import hold
from scripted_wire import AMOUNTS, call_with_forged_lines, talk

from ivr_agi import gateway, orders
from ivr_agi.agi import Agi, Answer, CommandRefused
from ivr_agi.gateway import Exchange
from ivr_agi.model import BANKS, OtpVerdict, Pan, PayAnswer, Pin, Secret, Verdict
from ivr_agi.orders import Standing
from ivr_agi.settlement import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SECRETS = (Pan(genuine.PAN), Secret(genuine.SEQUENCE), Pin(genuine.PIN))


def hold_nothing_secret(**texts: str) -> None:
    """No text that is kept or told has a secret in it, and each can be written to a file or a database."""
    for name, text in texts.items():
        for secret in oracles.leaks(text, pan=genuine.PAN, pin=genuine.PIN, sequence=genuine.SEQUENCE):
            hold(f"{secret}-in-{name}", False, text)
        hold("not-utf-8", not re.search("[\ud800-\udfff]", text), text)
        hold("too-long-kept", len(text) <= 250, len(text))


def hold_pay(answer: PayAnswer, status: int, body: bytes | None, *, written: bool) -> None:
    """The verdict is one that the answer allows."""
    shown = answer, status, body
    match answer.verdict:
        case Verdict.PAID:
            hold("paid-without-proof", written and oracles.may_be_paid(status, body), shown)
            hold("paid-without-number", not oracles.is_nothing(answer.ref_id), shown)
        case Verdict.DECLINED:
            hold("declined-in-doubt", written and oracles.may_be_declined(body), shown)
        case Verdict.FAILED:
            hold("failed-in-doubt", not written or oracles.may_be_failed(status, body), shown)
            hold("failed-though-cut", not written or not oracles.is_cut(body), shown)
    if not written:
        hold("not-failed-though-unsent", answer.verdict is Verdict.FAILED, shown)
    hold("number-of-nothing", answer.verdict is Verdict.PAID or not answer.ref_id, shown)
    hold("code-of-nothing", answer.verdict is Verdict.DECLINED or not answer.code, shown)
    hold_nothing_secret(ref_id=answer.ref_id, code=answer.code, detail=answer.detail)


def read_exchange(given: bytes) -> Exchange:
    """`1 200 word`, a newline, and the body; `-` in place of a word and no newline for none."""
    head, newline, body = given.partition(b"\n")
    written, _, rest = head.partition(b" ")
    status, _, trouble = rest.partition(b" ")
    number = int(status) if re.fullmatch(rb"[0-9]{1,3}", status) else 0
    # What went wrong is a word of ours, never of theirs.
    word = re.sub(rb"[^a-z-]", b"", trouble)[:20].decode()
    return Exchange(written != b"0", number, body if newline else None, word)


def write_exchange(written: bool, status: int, trouble: str, body: bytes | None) -> bytes:
    """The other way round."""
    head = f"{int(written)} {status} {trouble}".encode()
    return head if body is None else head + b"\n" + body


def answers(given: bytes) -> None:
    """`read_pay` and `read_otp`, on whatever may have come to a request."""
    exchange = read_exchange(given)
    hold_pay(gateway.read_pay(exchange, SECRETS), exchange.status, exchange.body, written=exchange.written)
    pin = gateway.read_otp(exchange, SECRETS[:2])
    if pin.verdict is OtpVerdict.SENT:
        reply = oracles.members(oracles.read_json(exchange.body))
        whole = reply is not None and str(reply.get("status")) == "1" and reply.get("status") is not True
        hold("pin-without-proof", exchange.written and whole and 200 <= exchange.status < 300, exchange)
    hold("pin-unclear-though-unsent", exchange.written or pin.verdict is OtpVerdict.FAILED, exchange)
    hold("pin-certain-though-written", not (exchange.written and pin.verdict is OtpVerdict.FAILED), exchange)
    hold_nothing_secret(detail=pin.detail)


def http(given: bytes) -> None:
    """The whole client against a peer that answers with these bytes: how (one byte), then what."""
    raw = given[1:]
    answer = pay_at_peer(raw, given[:1], SECRETS)
    status, body = oracles.read_http(raw)
    if body is not None and len(body) > gateway.MAX_BODY:
        body = None
    hold_pay(answer, status, body, written=True)


def order(given: bytes) -> None:
    """The merchant's answer about an invoice: a status, a newline, the body."""
    head, _, body = given.partition(b"\n")
    status = int(head) if re.fullmatch(rb"[0-9]{1,3}", head) else 200
    found = orders.read(status, body, AMOUNTS)
    reply = oracles.members(oracles.read_json(body)) or {}
    said = 200 <= status < 300 and reply.get("status")
    if found.standing is Standing.PAYABLE:
        hold("payable-unsaid", said == "payable", (found, given))
        amount, order_id = reply.get("amount"), reply.get("order_id")
        hold("amount-changed", type(amount) is int and found.amount == amount in AMOUNTS, (found, given))
        hold("order-changed", isinstance(order_id, str) and found.order_id == order_id, (found, given))
        hold("order-unfit", 0 < len(found.order_id) <= 50 and found.order_id.isprintable(), found)
        hold("not-utf-8", not re.search("[\ud800-\udfff]", found.order_id), found)
        return
    hold("amount-without-order", not found.amount and not found.order_id, found)
    if found.standing in (Standing.PAID, Standing.CLOSED):
        hold("standing-unsaid", said == str(found.standing), (found, given))
    if found.standing is Standing.NOT_FOUND:
        hold("standing-unsaid", status == 404 or said == "not-found", (found, given))


def wire(given: bytes) -> None:
    """The AGI wire against a peer that says these bytes: between NULs whether it stays, and each piece."""
    stays, *pieces = given.split(b"\0")
    virtual_time.run(talk(pieces, stays=stays == b"0"))


def environment(given: bytes) -> None:
    """A genuine Asterisk whose caller, names and dialplan are hostile: between NULs how it is cut, and each value."""
    cuts, *values = given.split(b"\0")
    virtual_time.run(call_with_forged_lines(cuts, values))


ONE_LINE = str.maketrans(dict.fromkeys([*map(chr, range(32)), "\x7f", "\x85", "\u2028", "\u2029"], " "))


def command(given: bytes) -> None:
    """What becomes of hostile values in commands: between bytes that no UTF-8 has, three texts."""
    name, value, keys = (part.decode("utf-8", "replace") for part in (given.split(b"\xff") + [b""] * 3)[:3])
    for sent, wanted in (
        (lambda line: line.set_variable(name, value), ["SET", "VARIABLE", name, value]),
        (lambda line: line.stream_file(value, keys), ["STREAM", "FILE", value, keys, "0"]),
        (lambda line: line.get_data(value, 8000, 16), ["GET", "DATA", value, "8000", "16"]),
        (lambda line: line.set_music(value, on=True), ["SET", "MUSIC", "ON", value]),
    ):
        line = _worded(sent)
        if line is None:
            continue
        hold("second-command", b"\n" not in line and b"\r" not in line and b"\0" not in line, line)
        hold("command-too-long", len(line) < 2048, len(line))
        heard = [word.decode() for word in oracles.words(line)]
        hold("other-arguments", heard == [word.translate(ONE_LINE) for word in wanted], (heard, wanted))


class _Ear:
    """In place of a wire: hears one command."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.hung_up = _Never()

    async def ask(self, line: str, *_times: float) -> Answer:
        self.heard.append(line)
        return Answer(200, "result=0")


class _Never:
    @staticmethod
    def is_set() -> bool:
        return False


def _worded(sent: Callable[[Agi], Coroutine[None, None, object]]) -> bytes | None:
    """The one command that is sent; None if it is too long to be."""
    ear = _Ear()
    try:
        sent(Agi(ear)).send(None)
    except StopIteration:
        (line,) = ear.heard
        return line
    except CommandRefused:
        hold("sent-and-refused", not ear.heard, ear.heard)
        return None
    raise oracles.Violation("waits", ear.heard)


def settlement(given: bytes) -> None:
    """A settlement list of a bank's: each line is read, is unreadable or is passed over, and no whole card is kept."""
    try:
        listing = reading.read(given)
    except reading.UnreadableList as why:
        hold("card-kept", not oracles.holds_card(str(why), frozenset(BANKS)), why)
        return
    numbers = [*(line.line for line in listing.lines), *listing.passed_over]
    hold("line-twice", len(numbers) == len(set(numbers)), numbers)
    for line in listing.lines:
        hold("amount-unfit", getattr(line, "amount", 0) >= 0, line)
        for name in ("order_id", "ref_id", "card", "status", "reason"):
            text = getattr(line, name, "")
            hold("card-kept", not oracles.holds_card(text, frozenset(BANKS)), (name, text))
    for text in listing.headings.values():
        hold("card-kept", not oracles.holds_card(text, frozenset(BANKS)), text)


def _guarded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    @wraps(target)
    def guarded(given: bytes) -> None:
        try:
            target(given)
        except oracles.Violation:
            raise
        except Exception as error:
            if f"undocumented-{type(error).__name__}" not in oracles.OPEN:
                raise oracles.Violation(f"undocumented-{type(error).__name__}", str(error)) from error

    return guarded


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: _guarded(one) for one in (answers, http, order, wire, environment, command, settlement)
}
