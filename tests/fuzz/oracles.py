"""What must hold of whatever comes from outside, said once more and simply, without the product's own reading.

By gateway-api.md and docs/orders.md alone. Must never import `ivr_agi`: an oracle that reads with the product's
reader has the product's mistakes.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

REFUSALS = (400, 401, 403, 404, 405, 413, 422, 429)  # gateway-api.md: nothing was charged
# Kinds of violation that are known and not yet mended: found/ has an input for each. Empty when all is well.
OPEN: frozenset[str] = frozenset()


class Violation(AssertionError):  # noqa: N818 - named for what it is
    """A property that does not hold. kind: a word for it, the same for the same property."""

    def __init__(self, kind: str, shown: object) -> None:
        super().__init__(f"{kind}: {shown!r}")
        self.kind = kind


def hold(kind: str, holds: object, shown: object = "") -> None:
    """Raise Violation where a property does not hold, unless its kind is known."""
    if not holds and kind not in OPEN:
        raise Violation(kind, shown)


# -- the gateway's answers --------------------------------------------------------------------------


class Pairs(list[tuple[str, Any]]):
    """An object of JSON as its pairs, in their order, a key that comes twice included."""


def _no_constant(name: str) -> None:
    raise ValueError(name)


def read_json(body: bytes | None) -> Any:
    """The JSON of a whole body, objects as Pairs; Ellipsis if it is none."""
    if body is None:
        return ...
    try:
        text = body.decode().removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=Pairs, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return ...


def members(found: Any) -> dict[str, Any] | None:
    """An object in which no key comes twice, here or further in, as a dict; None for anything else."""
    if not isinstance(found, Pairs) or _ambiguous(found):
        return None
    return dict(found)


def _ambiguous(found: Any) -> bool:
    inner: list[Any] = [found]
    while inner:  # not by recursion: it may be nested deeply
        one = inner.pop()
        if isinstance(one, Pairs):
            if len({key for key, _ in one}) != len(one):
                return True
            inner.extend(value for _, value in one)
        elif isinstance(one, list):
            inner.extend(one)
    return False


def _fields(reply: dict[str, Any]) -> dict[str, Any] | None:
    """`data`: an object, or an array that holds one object; nothing at all counts as an object without fields."""
    found = reply.get("data")
    if found is None or (found == [] and not isinstance(found, Pairs)):
        return {}
    if isinstance(found, list) and not isinstance(found, Pairs):
        found = found[0] if len(found) == 1 else None
    return members(found)


def _is(status: Any, number: int) -> bool:
    return (type(status) is int and status == number) or (
        isinstance(status, str) and re.fullmatch(str(number), status, re.ASCII) is not None
    )


def is_nothing(text: str) -> bool:
    """Nothing but zeros, in whichever digits, and signs: no tracking number."""
    return not any(letter.isalnum() and unicodedata.digit(letter, 1) != 0 for letter in text)


def is_zero(text: str) -> bool:
    """The same with a zero in it: a bank's "approved", and no code of a decline."""
    return is_nothing(text) and any(unicodedata.digit(letter, 1) == 0 for letter in text)


def may_be_paid(status: int, body: bytes | None) -> bool:
    """HTTP 2xx, whole, JSON with status 1 and a refID that is neither empty nor 0."""
    reply = members(read_json(body))
    if reply is None or not 200 <= status < 300 or not _is(reply.get("status"), 1):
        return False
    fields = _fields(reply)
    ref_id = fields.get("refID") if fields else None
    return isinstance(ref_id, str) and not is_nothing(ref_id)


def may_be_declined(body: bytes | None) -> bool:
    """Whole JSON with status 0, and nothing in it that speaks of a payment: refID "0", a code that is none of success."""
    reply = members(read_json(body))
    if reply is None or not _is(reply.get("status"), 0):
        return False
    fields = _fields(reply)
    if fields is None or fields.get("refID") not in (None, "", "0"):
        return False
    code = fields.get("transactionStatus")
    return code is None or (isinstance(code, str) and not is_zero(code))


def may_be_failed(status: int, body: bytes | None) -> bool:
    """A refusal over HTTP that came whole and says nothing of a payment: no tracking number, no status 0 or 1."""
    if status not in REFUSALS or body is None or b'"refID"' in body:
        return False
    found = read_json(body)
    if not isinstance(found, Pairs):
        return True
    said = [str(value).strip() for key, value in found if key == "status" and not isinstance(value, list)]
    return not any(re.fullmatch(r"[01](\.0+)?|True|False", one) for one in said)


def is_cut(body: bytes | None) -> bool:
    """Whether an object of JSON begins and does not end: where no length was told, nothing else shows the cut."""
    whole = (body or b"").removeprefix(b"\xef\xbb\xbf").strip()
    return whole.startswith(b"{") and not whole.endswith(b"}")


# -- secrets ----------------------------------------------------------------------------------------

SHOWN = 10  # digits in a row of a card number: a mask shows no more than six


def compact(text: str) -> str:
    """Letters and digits alone, digits in ASCII: spaces, dashes and Persian digits hide nothing."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(str(unicodedata.decimal(letter, letter)) for letter in plain if letter.isalnum())


def leaks(text: str, *, pan: str, pin: str, **others: str) -> list[str]:
    """Which secrets a text holds, however they are spaced; of the card number a long part is enough.

    The few digits of a PIN inside of a longer number may be there by chance, and are not counted.
    """
    found = compact(text)
    parts = [pan[start : start + SHOWN] for start in range(len(pan) - SHOWN + 1)]
    held = [name for name, secret in others.items() if compact(secret) in found]
    held += ["pin"] * (pin in re.findall("[0-9]+", found))
    return held + ["pan"] * any(part in found for part in parts)


def holds_card(text: str, prefixes: frozenset[str]) -> bool:
    """Whether 16 digits of a bank's card stand in a text, with up to three blanks, dashes or dots between two or not."""
    plain = "".join(
        str(unicodedata.decimal(letter, letter))
        for letter in unicodedata.normalize("NFKC", text)
        if unicodedata.category(letter) != "Cf"
    )
    apart = r"[\s._/\u0640\u2010-\u2015-]{0,3}"
    found = re.findall(rf"(?<![0-9])(?=([0-9](?:{apart}[0-9]){{15}})(?![0-9]))", plain)
    digits = (re.sub("[^0-9]", "", one) for one in found)
    return any(one[:6] in prefixes and _luhn(one) for one in digits)


def _luhn(digits: str) -> bool:
    doubled = [sum(map(int, str(2 * int(digit)))) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[-1::-2]))) % 10 == 0


# -- HTTP -------------------------------------------------------------------------------------------


def read_http(raw: bytes) -> tuple[int, bytes | None]:
    """The status and the whole body of what a peer has said before it closed; 0 for no answer, None for a cut one.

    RFC 9112 §6.3 in its order; informational answers are passed over.
    """
    while True:
        head, end, rest = _head(raw)
        found = re.match(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})", head)
        if not end or not found:
            return 0, None
        status = int(found[1])
        if status // 100 != 1 or status == 101:
            break
        raw = rest
    fields = re.findall(rb"(?im)^([^\s:]+):[ \t]*(.*?)[ \t]*\r?$", head)
    named = {name.lower() for name, _ in fields}
    if status in (204, 304):
        return status, b""
    if b"transfer-encoding" in named:
        return status, _unchunk(rest)
    lengths = {value for name, value in fields if name.lower() == b"content-length"}
    lengths = {part.strip() for value in lengths for part in value.split(b",")}
    if not lengths:
        return status, rest
    (length,) = lengths if len(lengths) == 1 else (b"?",)
    if not length.isdigit() or len(length) > 20 or int(length) > len(rest):
        return status, None
    return status, rest[: int(length)]


def _head(raw: bytes) -> tuple[bytes, bytes, bytes]:
    found = re.search(rb"\n\r?\n", raw)
    return (raw[: found.start() + 1], found[0], raw[found.end() :]) if found else (raw, b"", b"")


def _unchunk(raw: bytes) -> bytes | None:
    body = b""
    while found := re.match(rb"([0-9A-Fa-f]{1,20})[ \t]*(?:;[^\n]*)?\r?\n", raw):
        size, raw = int(found[1], 16), raw[found.end() :]
        if size == 0:
            return body if re.match(rb"(?:[^\n]+\n)*?\r?\n", raw) else None
        if len(raw) < size:
            return None
        body += raw[:size]
        raw = re.sub(rb"\A\r?\n", b"", raw[size:])
    return None


# -- Asterisk's command line ------------------------------------------------------------------------


def words(line: bytes) -> list[bytes]:
    """Cut a command as `parse_args` of Asterisk's res_agi.c does: quotes join, a backslash takes what follows as it is."""
    found: list[bytearray] = []
    inside = quoted = escaped = False
    for byte in line:
        letter = bytes([byte])
        if not escaped and letter == b"\\":
            escaped = True
            continue
        opens = not escaped and letter == b'"'
        if opens:
            quoted = not quoted
        elif not escaped and not quoted and letter in b" \t":
            inside = False
            continue
        if not inside and (quoted or not opens):
            found.append(bytearray())
            inside = True
        if not opens:
            found[-1] += letter
        escaped = False
    if quoted:
        raise Violation("quote-left-open", line)
    return [bytes(one) for one in found]
