"""What hypothesis makes of each way in: nearly right on purpose, for what is plainly wrong is refused early."""

from __future__ import annotations

import json

import genuine
from hypothesis import strategies as st
from targets import write_exchange


@st.composite
def mostly(draw, usual, *rare):
    """Three times of four the usual. Not `one_of`: it takes each of all that are nested for equally likely."""
    return draw(usual if draw(st.integers(0, 3)) else st.one_of(*rare))


SECRETS = (genuine.PAN, genuine.PIN, genuine.SEQUENCE)
PERSIAN = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
BETWEEN = ("", "", " ", "-", ".", "/", "  ", " - ", "\u00a0", "\u2013", "\u200c", ", ", '", "')


@st.composite
def echoes(draw):
    """A secret of ours as somebody may repeat it: spaced, dashed, in groups, in Persian digits, amid other text."""
    secret = draw(st.sampled_from(SECRETS))
    width = draw(st.sampled_from([1, 2, 4, 16, 20]))
    groups = [secret[start : start + width] for start in range(0, len(secret), width)]
    text = draw(st.sampled_from(BETWEEN)).join(groups)
    text = text.translate(PERSIAN) if draw(st.booleans()) else text
    return draw(st.sampled_from(["", "card ", "x"])) + text + draw(st.sampled_from(["", " refused", "x"]))


ZEROS = st.sampled_from(["0", "00", "0.0", " 0 ", "۰", "٠٠", "０", "0-0", "-0", "+0", "000000000051"])
NUMBERS = st.sampled_from(
    ["0", "00", "0.0", "1", "1.0", "01", "-1", " 1", "۱", "۰", "٠٠", "０", "51", "055", "123456", ""]
)
TEXTS = st.one_of(
    NUMBERS, echoes(), st.text(max_size=12), st.sampled_from(["\u200f", "\x00", "x" * 65, "1" * 64])
)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 100),
    st.floats(),
    TEXTS,
    st.sampled_from([10**400, 1e300, 1.0, 0.0]),
)
JSON = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(TEXTS, st.just("refID")), inner, max_size=3)
    ),
    max_leaves=6,
)
STATUSES = mostly(
    st.sampled_from([1, 1, 1, 0, 0, 0, "1", "0"]),
    st.sampled_from([True, False, 1.0, 0.0, 2, -1, None, "1.0", "0.0"]),
    ATOMS,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "refID": mostly(st.sampled_from(["123456", "0"]), st.sampled_from(["", None]), TEXTS, JSON),
        "transactionStatus": mostly(st.sampled_from(["51", "055"]), ZEROS, TEXTS, JSON),
        "note": JSON,
    },
)
REPLIES = st.fixed_dictionaries(
    {"status": STATUSES},
    optional={
        "data": mostly(FIELDS, FIELDS.map(lambda one: [one]), st.lists(FIELDS, max_size=2), JSON),
        "errors": mostly(st.just([]), echoes(), st.lists(TEXTS, max_size=4), JSON),
    },
)
BLOWS = mostly(st.one_of(echoes(), ZEROS), TEXTS, JSON)


@st.composite
def struck(draw):
    """A genuine reply with one thing in it that is not as it should be."""
    reply = dict(draw(st.sampled_from(genuine.BODIES)))
    place = draw(
        st.sampled_from(
            ["refID", "refID", "transactionStatus", "transactionStatus", "errors", "status", "data"]
        )
    )
    if place in ("errors", "data", "status"):
        reply[place] = draw(STATUSES if place == "status" else BLOWS)
    else:
        reply["data"] = (reply.get("data") if isinstance(reply.get("data"), dict) else {}) | {
            place: draw(BLOWS)
        }
    return reply


def _cut(body, place):
    return body[: len(body) * place // 100]


def _twice(body):
    """The same members once more, with the others' values."""
    return body[:-1] + b', "status": 0, "data": {"refID": "0"}}' if body.endswith(b"}") else body


def as_json(made, **how):
    """JSON as a gateway may write it."""
    return json.dumps(made, **how).encode("utf-8", "surrogatepass")


BODIES = mostly(
    mostly(
        struck().map(lambda one: as_json(one, ensure_ascii=False)),
        st.sampled_from(genuine.BODIES).map(as_json),
    ),
    REPLIES.map(as_json),
    JSON.map(as_json),
    REPLIES.map(lambda one: as_json([one])),
    st.builds(lambda one, place: _cut(as_json(one), place), struck(), st.integers(0, 100)),
    REPLIES.map(lambda one: _twice(as_json(one))),
    REPLIES.map(lambda one: b"\xef\xbb\xbf" + as_json(one)),
    st.binary(max_size=30),
    st.just(b"<html>paid</html>"),
)
HTTP_STATUSES = mostly(
    st.sampled_from([200, 200, 200, 200, 201, 302, 400, 403, 404, 409, 422, 422, 429, 500, 502]),
    st.sampled_from([204, 299, 300, 401, 405, 413]),
    st.integers(100, 999),
)
EXCHANGES = mostly(
    st.builds(lambda status, body: write_exchange(True, status, "", body), HTTP_STATUSES, BODIES),
    st.builds(lambda status: write_exchange(True, status, "read-error", None), HTTP_STATUSES),
    st.builds(lambda status, body: write_exchange(False, status, "timeout", body), HTTP_STATUSES, BODIES),
)


@st.composite
def http_answers(draw):
    """An HTTP answer: its length right, wrong, missing, twice or in chunks; cut or with more behind it."""
    body = draw(BODIES)
    status = draw(HTTP_STATUSES)
    length = draw(mostly(st.just(len(body)), st.sampled_from([len(body) + 1, max(0, len(body) - 1), 10**12])))
    framing = draw(mostly(st.sampled_from(["length", "none", "chunked"]), st.sampled_from(["twice", "both"])))
    head = [draw(st.sampled_from(["", "HTTP/1.1 100 Continue\r\n\r\n"])) + f"HTTP/1.1 {status} X"]
    if framing in ("length", "twice", "both"):
        head.append(f"Content-Length: {length}")
    if framing == "twice":
        head.append(f"Content-Length: {draw(st.sampled_from([length, length + 1]))}")
    if framing in ("chunked", "both"):
        head.append("Transfer-Encoding: chunked")
        half = len(body) // 2
        pieces = [piece for piece in (body[:half], body[half:]) if piece] + [b""]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    raw = (
        "\r\n".join([*head, draw(st.sampled_from(["X-A: b", "Content-Encoding: gzip"])), "", ""]).encode()
        + body
    )
    more = [raw[:-1], raw[: len(raw) // 2], raw + b"HTTP/1.1 200 OK\r\n\r\n"]
    raw = draw(mostly(st.just(raw), st.sampled_from(more)))
    return bytes([draw(mostly(st.sampled_from([0, 0, 4]), st.integers(0, 7)))]) + raw


INVOICES = st.fixed_dictionaries(
    {
        "status": mostly(st.just("payable"), st.sampled_from(["paid", "closed", "not-found"]), ATOMS),
        "order_id": mostly(st.just("A-1"), TEXTS, JSON),
        "amount": mostly(
            st.sampled_from([50_000, 10_000, 500_000_000]),
            st.sampled_from([50_000.0, "50000", True, 9_999, 500_000_001, 10**30]),
            ATOMS,
        ),
    }
)
ORDERS = st.builds(
    lambda status, body: b"%d\n%s" % (status, body),
    mostly(st.sampled_from([200, 200, 200, 404, 500]), HTTP_STATUSES),
    mostly(
        INVOICES.map(as_json),
        st.builds(lambda one, place: _cut(as_json(one), place), INVOICES, st.integers(0, 100)),
        INVOICES.map(lambda one: as_json(one)[:-1] + b', "amount": 90000}'),
        BODIES,
    ),
)

# -- Asterisk ---------------------------------------------------------------------------------------

LINES = st.sampled_from(
    [
        "x", "", "agi_arg_1: amount=90000", "agi_arg_1: mobile=09121234567", "agi_arg_1: order_id=B", "agi_arg_1: ",
        "agi_request: agi://h/pay?amount=90000&order_id=B", "agi_request: agi://h/pay", "agi_calleridname: y",
        "agi_callington: 1", "agi_threadid: 1", "agi_evil: 1", "HANGUP", "200 result=0", "200 result=0", "520-Invalid",
        "520 End", "511 dead", "100 Trying", "agi_", ":", "\r", "agi_network: yes", " agi_arg_1: amount=90000",
    ]
)  # fmt: skip
FORGERIES = st.builds(
    lambda first, lines: "\n".join([first, *lines]),
    st.sampled_from(["x", "", "09123456789"]),
    st.lists(LINES, max_size=6),
)
VALUES = mostly(
    FORGERIES,
    st.sampled_from(
        [
            "",
            "unknown",
            "09123456789",
            "700",
            "علی",
            "A&amount=90000",
            "B&mobile=09121234567",
            "%0a",
            "#",
            "+",
        ]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
).map(str.encode)
ENDS = st.builds(
    lambda forged, then: f"x\n{forged}\n\n{then}",
    st.sampled_from(
        [
            "agi_arg_1: mobile=09121234567",
            "agi_arg_1: amount=90000",
            "agi_arg_1: order_id=B",
            "agi_callington: 1",
        ]
    ),
    st.sampled_from(
        ["", "", "HANGUP", "200 result=0", "200 result=0\n200 result=0", "520-Invalid", "511 dead"]
    ),
).map(str.encode)
REPEATS = st.sampled_from(
    [
        b"x\nagi_request: agi://h/pay?amount=90000&order_id=B",
        b"x\nagi_arg_1: amount=90000\nagi_arg_2: order_id=B",
    ]
)
CALLS = st.builds(
    lambda cuts, values, order, lacks: b"\0".join([cuts.replace(b"\0", b"\1"), *values, order, lacks]),
    mostly(
        st.lists(st.integers(1, 255), min_size=10, max_size=60).map(bytes),
        st.just(b""),
        st.binary(max_size=40),
    ),
    st.lists(mostly(st.one_of(st.just(b"unknown"), ENDS, REPEATS), VALUES), min_size=7, max_size=7),
    mostly(st.just(b"A-1"), VALUES),
    st.sampled_from([b"", b"a", b"o"]),
)
SAID = st.one_of(
    st.sampled_from(
        [
            "200 result=0", "200 result=49 endpos=800", "200 result=-1", "200 result=", "200 result=12 (timeout)", "HANGUP",
            "200 result=abc", "200 result=99999999999", "200 result=-2", "200", "200 result", "511 dead", "520-x", "520 x",
            "520 ", "510 no", "100 Trying", "agi_threadid: 1", "agi_request: agi://h/pay?amount=50000", "", "1", "99999 x",
            "200 result=" + "9" * 5000, "x" * 8193,
        ]
    ),
    st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), max_size=20),
).map(lambda line: line.encode() + b"\n")  # fmt: skip
PEERS = st.builds(
    lambda stays, start, pieces: b"\0".join([stays, *start, *pieces]),
    st.sampled_from([b"0", b"1"]),
    mostly(
        st.just([genuine.ENVIRONMENT]),
        st.sampled_from([[], [genuine.ENVIRONMENT[:-1]], [b"agi_network: yes\n\n"], [b"a\n" * 150]]),
    ),
    st.lists(mostly(SAID, st.binary(max_size=10).map(lambda one: one.replace(b"\0", b""))), max_size=12),
)
WORDS = st.one_of(
    st.text(max_size=12),
    st.text('"\\ \t\n\r\0\x85\u2028a', max_size=12),
    st.sampled_from(["a\nSET VARIABLE PAYSTATUS PAID", "x" * 1990, 'a" "b', "\\", "ف" * 1000]),
)
COMMANDS = st.lists(WORDS, min_size=3, max_size=3).map(
    lambda parts: b"\xff".join(part.encode("utf-8", "replace") for part in parts)
)

# -- settlement lists -------------------------------------------------------------------------------

USUAL = {
    "order": ["A-1", "A-2", "سفارش ۱۷"],
    "amount": ["50000", "۵۰٬۰۰۰ ریال", "50,000"],
    "ref": ["123456", "00123", ""],
    "card": ["6037-99**-****-7893", "7893", genuine.PAN, ""],
    "date": ["1403/09/04", "2024-11-24T09:00:00Z", "1403/09/04 12:30"],
    "status": ["paid", "موفق", "failed"],
}
CELLS = st.one_of(
    echoes(),
    st.sampled_from(
        ["50.000", "1.2E+15", "9999-12-31", "0001-01-01", "1499/12/30", "total", "-", "=1+1", '"', "²", "١٢"]
    ),
    st.text(max_size=8),
)


@st.composite
def settlement_lists(draw):
    """A list of a bank's, nearly right, in one of the encodings that there are."""
    headings = draw(st.permutations(sorted(USUAL)))[: draw(st.integers(3, 6))]
    rows = [
        [draw(mostly(st.sampled_from(USUAL[name]), CELLS)) for name in headings]
        for _ in range(draw(st.integers(0, 4)))
    ]
    mark = draw(st.sampled_from([",", ";", "\t"]))
    encoding = draw(
        mostly(
            st.sampled_from(["utf-8", "utf-8-sig"]), st.sampled_from(["utf-16", "utf-16-le", "windows-1256"])
        )
    )
    quoted = [['"' + cell.replace('"', '""') + '"' if mark in cell else cell for cell in row] for row in rows]
    return "\n".join(mark.join(row) for row in [headings, *quoted]).encode(encoding, "replace")


LISTS = mostly(settlement_lists(), st.binary(max_size=60))

MADE = {
    "answers": EXCHANGES,
    "http": http_answers(),
    "order": ORDERS,
    "wire": PEERS,
    "environment": CALLS,
    "command": COMMANDS,
    "settlement": LISTS,
}
