"""The gateway's stand-in is strict, goes wrong when told to, and its ledger never lies."""

from __future__ import annotations

import asyncio
import json
import ssl

import pytest
import trustme

from ivr_agi.simulator.gateway import (
    CARDS,
    CODES,
    Fault,
    GatewaySimulator,
    Outcome,
    Rule,
    run_gateway,
    sample_card,
)

SEQUENCE = "acd54b56ddd651a5cc3v"
CARD = sample_card("paid")


@pytest.fixture
async def messages():
    return []


@pytest.fixture
async def gateway(messages):
    async with GatewaySimulator(SEQUENCE, on_sms=messages.append) as simulator:
        yield simulator


def address(url):
    host, port = url.split("/")[2].rsplit(":", 1)
    return host, int(port)


async def exchange(url, raw, tls=None):
    """Send raw bytes; return all that comes back up to the end of the connection."""
    reader, writer = await asyncio.open_connection(*address(url), ssl=tls)
    try:
        writer.write(raw)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def request(method, path, body=b"", content_type="application/json"):
    return (
        f"{method} {path} HTTP/1.1\r\nHost: sim\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body


async def send(gateway, service, body, *, method="POST", content_type="application/json", tls=None):
    """Call a service; return (HTTP status, JSON)."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = service if service.startswith("/") else f"/api/ivr/bpm/{service}"
    came = await exchange(gateway.url, request(method, path, raw, content_type), tls)
    head, _, content = came.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)


def otp_body(card=CARD, **changes):
    return {"amount": 50000, "pan": card, "order_id": "A1", "sequence": SEQUENCE} | changes


def pay_body(card=CARD, pin="12345", **changes):
    return {
        "ivr": 1,
        "pan": card,
        "pin": pin,
        "amount": 50000,
        "order_id": "A1",
        "merchant_cid": "+989123456789",
        "sequence": SEQUENCE,
    } | changes


def web_body(card=CARD, pin="12345", **changes):
    return {
        "ivr": 0,
        "pan": card,
        "pin": pin,
        "invoice_id": "A1",
        "merchant_cid": "+989123456789",
        "sequence": SEQUENCE,
    } | changes


async def pay(gateway, card=CARD, **changes):
    """Ask for a PIN and pay with it; return the answer to `pay`."""
    await send(gateway, "otp-v2", otp_body(card))
    return await send(gateway, "pay", pay_body(card, gateway.pin_for(card), **changes))


async def test_payment(gateway, messages):
    """A PIN by SMS, a payment with it, a tracking number, an entry in the ledger."""
    assert await send(gateway, "otp-v2", otp_body()) == (200, {"status": 1, "data": [], "errors": []})
    [sms] = messages
    assert (sms.order_id, sms.amount, sms.pin) == ("A1", 50000, gateway.pin_for(CARD))
    assert len(sms.pin) == 6
    assert sms.pin in sms.text
    assert CARD not in sms.text + repr(sms)
    status, answer = await send(gateway, "pay", pay_body(pin=sms.pin))
    assert (status, answer["status"], answer["errors"]) == (200, 1, [])
    assert list(answer["data"]) == ["refID"]
    assert len(answer["data"]["refID"]) == 12
    [charge] = gateway.charges
    assert (charge.order_id, charge.amount, charge.pan, charge.ivr) == ("A1", 50000, CARD, 1)
    assert charge.ref_id == answer["data"]["refID"]
    assert CARD not in repr(charge)
    assert [(received.service, received.body) for received in gateway.requests] == [
        ("otp-v2", otp_body()),
        ("pay", pay_body(pin=sms.pin)),
    ]
    assert gateway.requests[0].headers["content-type"] == "application/json"


async def test_payment_by_an_operator(gateway):
    """With ivr 0 the amount is the one for which the PIN was sent."""
    await send(gateway, "otp-v2", otp_body(amount=70000.0))
    _, answer = await send(gateway, "pay", web_body(pin=gateway.pin_for(CARD)))
    assert answer["status"] == 1
    assert [(charge.order_id, charge.amount, charge.ivr) for charge in gateway.charges] == [("A1", 70000, 0)]


async def test_paying_twice(gateway):
    """An order that is paid twice is charged twice, as the real gateway would, and the ledger shows it."""
    await pay(gateway)
    await pay(gateway)
    assert [charge.order_id for charge in gateway.charges] == ["A1", "A1"]


@pytest.mark.parametrize("length", [5, 8])
async def test_length_of_the_pin(length):
    """A PIN may have five to eight digits."""
    async with GatewaySimulator(pin_length=length) as gateway:
        await send(gateway, "otp-v2", otp_body(sequence="any"))
        assert len(gateway.pin_for(CARD)) == length


async def test_wrong_pin(gateway):
    """A PIN is good once, for its card and order, and only the last one sent; anything else is 55."""
    wrong = (
        200,
        {"status": 0, "data": {"refID": "0", "transactionStatus": "55"}, "errors": ["رمز نادرست است"]},
    )
    assert await send(gateway, "pay", pay_body()) == wrong
    await send(gateway, "otp-v2", otp_body())
    first = gateway.pin_for(CARD)
    assert await send(gateway, "pay", pay_body(pin=first, order_id="A2")) == wrong
    assert await send(gateway, "pay", pay_body(sample_card("paid", "610433"), pin=first)) == wrong
    while gateway.pin_for(CARD) == first:
        await send(gateway, "otp-v2", otp_body())
    assert await send(gateway, "pay", pay_body(pin=first)) == wrong
    last = gateway.pin_for(CARD)
    assert gateway.pins == {(CARD, "A1"): last}
    assert (await send(gateway, "pay", pay_body(pin=last)))[1]["status"] == 1
    assert await send(gateway, "pay", pay_body(pin=last)) == wrong
    assert len(gateway.charges) == 1


async def test_another_amount(gateway):
    """A PIN sent for one amount does not pay another: 13."""
    _, answer = await pay(gateway, amount=50001)
    assert answer["data"]["transactionStatus"] == "13"
    assert gateway.charges == []


def test_no_pin_for_an_unknown_card():
    """Asking for a PIN that was never sent fails without naming the card."""
    with pytest.raises(KeyError, match=r"603799\*{6}"):
        GatewaySimulator().pin_for(CARD)


@pytest.mark.parametrize("make", [otp_body, pay_body, web_body])
@pytest.mark.parametrize("mistake", ["missing", "null", "list", "boolean"])
async def test_every_field_is_checked(gateway, make, mistake):
    """Each field must be there, in its JSON type; the error names it and never its content."""
    service = "otp-v2" if make is otp_body else "pay"
    for name in make():
        body = make()
        if mistake == "missing":
            del body[name]
        else:
            body[name] = {"null": None, "list": [], "boolean": True}[mistake]
        status, answer = await send(gateway, service, body)
        assert (status, answer["status"], answer["data"]) == (422, 0, []), name
        assert any(error.startswith(f"{name}: ") for error in answer["errors"]), (name, answer)
    assert gateway.pins == {}


@pytest.mark.parametrize(
    ("service", "body", "name"),
    [
        ("otp-v2", otp_body(amount="50000"), "amount"),
        ("otp-v2", otp_body(amount=0), "amount"),
        ("otp-v2", otp_body(amount=-1.0), "amount"),
        ("otp-v2", otp_body(pan=int(CARD)), "pan"),
        ("otp-v2", otp_body(pan=CARD[:15]), "pan"),
        ("otp-v2", otp_body(pan="۶۰۳۷۹۹۱۲۳۴۵۱۲۳۴۵"), "pan"),
        ("otp-v2", otp_body(order_id=""), "order_id"),
        ("otp-v2", otp_body(order_id="x" * 51), "order_id"),
        ("otp-v2", otp_body(order_id=12), "order_id"),
        ("otp-v2", otp_body(sequence=f" {SEQUENCE}"), "sequence"),
        ("otp-v2", otp_body(ivr=1), "ivr"),
        ("pay", pay_body(ivr="1"), "ivr"),
        ("pay", pay_body(ivr=2), "ivr"),
        ("pay", pay_body(ivr=1.0), "ivr"),
        ("pay", pay_body(amount=50000.0), "amount"),
        ("pay", pay_body(amount="50000"), "amount"),
        ("pay", pay_body(amount=0), "amount"),
        ("pay", pay_body(pin=12345), "pin"),
        ("pay", pay_body(pin="1234"), "pin"),
        ("pay", pay_body(merchant_cid="09123456789"), "merchant_cid"),
        ("pay", pay_body(merchant_cid="+98912345678"), "merchant_cid"),
        ("pay", pay_body(invoice_id="A1"), "invoice_id"),
        ("pay", web_body(amount=50000), "amount"),
        ("pay", web_body(order_id="A1"), "order_id"),
        ("pay", pay_body(retry=True), "retry"),
    ],
)
async def test_strictness(gateway, service, body, name):
    """A value that nearly fits, or a field too many, is refused by name."""
    status, answer = await send(gateway, service, body)
    assert status == 422
    assert [error.split(":")[0] for error in answer["errors"]] == [name]
    assert CARD not in json.dumps(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff{}",
        b'{"pan": "1", "pan": "2"}',
        b'{"amount": NaN}',
        b"[" * 60000,
        b"pan=1&amount=2",
    ],
)
async def test_no_json_object(gateway, body):
    """A body that is no JSON object, each key once, is refused."""
    status, answer = await send(gateway, "pay", body)
    assert (status, answer["status"]) == (422, 0)
    assert answer["errors"][0].startswith("body: ")
    assert gateway.requests[0].body == {}


async def test_content_type(gateway):
    """JSON must be called JSON."""
    status, answer = await send(gateway, "otp-v2", otp_body(), content_type="text/plain")
    assert (status, answer["errors"]) == (422, ["content-type: must be application/json"])


async def test_wrong_sequence(gateway):
    """Another sequence than the configured one is forbidden, and the answer does not repeat it."""
    for service, body in (("otp-v2", otp_body(sequence="other")), ("pay", pay_body(sequence="other"))):
        status, answer = await send(gateway, service, body)
        assert (status, answer["status"]) == (403, 0)
        assert answer["errors"][0].startswith("sequence: ")
        assert "other" not in answer["errors"][0]


async def test_wrong_place(gateway):
    """Another path is 404, another method 405; garbage is 400 and too much is 413."""
    assert (await send(gateway, "pay-v2", pay_body()))[0] == 404
    assert (await send(gateway, "/pay", pay_body()))[0] == 404
    assert (await send(gateway, "pay", b"", method="GET"))[0] == 405
    assert (await exchange(gateway.url, request("HEAD", "/api/ivr/bpm/pay"))).startswith(b"HTTP/1.1 405")
    assert (await exchange(gateway.url, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert (await exchange(gateway.url, request("POST", "/api/ivr/bpm/pay", b"x" * 70000))).startswith(
        b"HTTP/1.1 413"
    )


async def test_two_requests_on_one_connection(gateway):
    """A connection is kept alive, and `Expect: 100-continue` is honoured."""
    reader, writer = await asyncio.open_connection(*address(gateway.url))
    body = json.dumps(otp_body()).encode()
    head = (
        request("POST", "/api/ivr/bpm/otp-v2", body).removesuffix(body).replace(b"Connection: close\r\n", b"")
    )
    writer.write(head + body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    await reader.readexactly(len(b'{"status": 1, "data": [], "errors": []}'))
    writer.write(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    await writer.wait_closed()
    assert len(gateway.requests) == 2


@pytest.mark.parametrize("code", CODES)
async def test_every_code(gateway, code):
    """The card 00NN is declined with code NN and PayStar's message; nothing is charged."""
    card = sample_card(code)
    assert card[11:15] == code.zfill(4)
    assert await pay(gateway, card) == (
        200,
        {"status": 0, "data": {"refID": "0", "transactionStatus": code}, "errors": [CODES[code][0]]},
    )
    assert gateway.charges == []


def test_sample_cards():
    """Each card of the list passes Luhn, computed here by the book, and there is one for each code."""
    for card in CARDS:
        digits = [int(digit) for digit in reversed(card.number)]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
        assert (sum(digits[::2]) + sum(doubled)) % 10 == 0
        assert len(card.number) == 16
        assert card.number not in repr(card)
        assert card.en
        assert card.fa
    assert {card.name for card in CARDS} >= {"paid", *CODES}
    assert len({card.number for card in CARDS}) == len(CARDS)
    assert sample_card("51", bank="610433").startswith("610433")


async def raw_pay(gateway, card=CARD):
    """Pay; return the raw answer, or the kind of failure, as the client's socket tells it."""
    await send(gateway, "otp-v2", otp_body(card))
    body = json.dumps(pay_body(card, gateway.pin_for(card))).encode()
    try:
        return await exchange(gateway.url, request("POST", "/api/ivr/bpm/pay", body))
    except ConnectionResetError:
        return ConnectionResetError


@pytest.mark.parametrize(
    ("name", "expected", "charged"),
    [
        ("reset", ConnectionResetError, False),
        ("reset-paid", ConnectionResetError, True),
        ("no-answer", b"", False),
    ],
)
async def test_cards_without_an_answer(gateway, name, expected, charged):
    """Some cards get no answer; the ledger alone knows what happened."""
    assert await raw_pay(gateway, sample_card(name)) == expected
    assert bool(gateway.charges) is charged


async def test_card_with_a_cut_answer(gateway):
    """The cut answer promises more than it brings, and the money is gone."""
    head, _, content = (await raw_pay(gateway, sample_card("cut"))).partition(b"\r\n\r\n")
    promised = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert 0 < len(content) < promised
    assert len(gateway.charges) == 1


async def test_card_with_html(gateway):
    """HTTP 502 with a page of HTML."""
    answer = await raw_pay(gateway, sample_card("html"))
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n")
    assert b"<html>" in answer
    assert gateway.charges == []


async def test_card_without_a_tracking_number(gateway):
    """Status 1 without refID, though charged."""
    assert (await pay(gateway, sample_card("no-ref")))[1] == {"status": 1, "data": {}, "errors": []}
    assert len(gateway.charges) == 1


async def test_card_with_an_unknown_code(gateway):
    """A code that is in no table."""
    assert (await pay(gateway, sample_card("odd-code")))[1]["data"]["transactionStatus"] == "99"


async def test_card_with_a_redirect(gateway):
    """A redirect to the same address, which a client must not follow."""
    answer = await raw_pay(gateway, sample_card("redirect"))
    assert answer.startswith(b"HTTP/1.1 307 ")
    assert b"\r\nLocation: /api/ivr/bpm/pay\r\n" in answer
    assert gateway.charges == []


async def test_card_with_a_dripping_answer(gateway):
    """An answer that comes a byte at a time is an answer."""
    answer = await raw_pay(gateway, sample_card("drip"))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 1
    assert len(gateway.charges) == 1


async def test_card_without_a_pin(gateway, messages):
    """otp-v2 may refuse: no SMS."""
    status, answer = await send(gateway, "otp-v2", otp_body(sample_card("no-otp")))
    assert (status, answer["status"], answer["data"]) == (200, 0, [])
    assert answer["errors"]
    assert messages == []


async def test_card_whose_pin_answer_is_lost(gateway, messages):
    """The SMS may be on its way although otp-v2 never answered."""
    body = json.dumps(otp_body(sample_card("otp-lost"))).encode()
    assert await exchange(gateway.url, request("POST", "/api/ivr/bpm/otp-v2", body)) == b""
    assert len(messages) == 1


async def test_card_that_is_charged_late(gateway):
    """The answer never comes, the connection stays, the money is taken."""
    card = sample_card("late")
    await send(gateway, "otp-v2", otp_body(card))
    reader, writer = await asyncio.open_connection(*address(gateway.url))
    writer.write(
        request("POST", "/api/ivr/bpm/pay", json.dumps(pay_body(card, gateway.pin_for(card))).encode())
    )
    await gateway.arrived.wait()
    answering = asyncio.ensure_future(reader.read(1))
    await send(gateway, "otp-v2", otp_body())  # meanwhile others are answered
    assert not answering.done()
    assert len(gateway.charges) == 1
    writer.write_eof()
    assert await answering == b""
    writer.close()
    await writer.wait_closed()


async def test_slow_card():
    """The slow card is paid after a while; only its table is looked at here."""
    async with GatewaySimulator() as gateway:
        outcome = gateway._outcome("pay", "A1", sample_card("slow"))
    assert outcome == Outcome(delay=4.0)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.CLOSE_ON_ACCEPT, b""),
        (Fault.RESET_ON_ACCEPT, ConnectionResetError),
    ],
)
async def test_faults_on_accept(gateway, fault, expected):
    """A connection may be dropped before a byte is read."""
    gateway.rules.append(Rule(Outcome(fault=fault), times=1))
    reader, writer = await asyncio.open_connection(*address(gateway.url))
    try:
        came = await reader.read()
    except ConnectionResetError:
        came = ConnectionResetError
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert came == expected
    assert gateway.rules == gateway.requests == []


async def test_cut_headers(gateway):
    """An answer may end in the middle of its headers."""
    gateway.rules.append(Rule(Outcome(fault=Fault.CUT_HEADERS), "pay"))
    answer = await raw_pay(gateway)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in answer
    assert gateway.charges == []


async def test_a_wrong_pin_beats_a_fault_that_charges(gateway):
    """Without the right PIN nothing is charged, whatever the rule."""
    gateway.rules.append(Rule(Outcome(fault=Fault.SILENCE, charge=True), "pay"))
    assert (await send(gateway, "pay", pay_body()))[1]["data"]["transactionStatus"] == "55"
    assert gateway.charges == []


async def test_own_answers(gateway):
    """A rule may answer anything, byte for byte, without a PIN being needed."""
    for status in (200, 204, 400, 500, 599):
        gateway.rules[:] = [Rule(Outcome(status=status, body=b"\xff\x00", content_type="x/y"), "pay")]
        answer = await exchange(
            gateway.url, request("POST", "/api/ivr/bpm/pay", json.dumps(pay_body()).encode())
        )
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert answer.endswith(b"\r\n\r\n" if status == 204 else b"\r\n\r\n\xff\x00")


async def test_rules(gateway):
    """The first rule that matches wins over the card; it may be for one order, one card, a few times."""
    gateway.rules += [
        Rule(Outcome(code="51"), "pay", order_id="B1"),
        Rule(Outcome(code="61"), "pay", pan=sample_card("78")),
        Rule(Outcome(code="94"), "pay", times=2),
    ]
    answers = [await pay(gateway, card) for card in (sample_card("78"), CARD, CARD, CARD)]
    codes = [answer["data"].get("transactionStatus") for _, answer in answers]
    assert codes == ["61", "94", "94", None]
    assert len(gateway.rules) == 2


async def test_held_back_answer(gateway):
    """An answer can be held back until a test says so; the charge is made before."""
    go = asyncio.Event()
    gateway.rules.append(Rule(Outcome(wait=go, delay=0.001), "pay"))
    paying = asyncio.create_task(pay(gateway))
    await gateway.arrived.wait()
    assert not paying.done()
    go.set()
    assert (await paying)[1]["status"] == 1
    assert len(gateway.charges) == 1


async def test_stop_drops_what_is_under_way():
    """Stopping ends held-back answers and silent connections."""
    sent = asyncio.Event()
    gateway = GatewaySimulator(on_sms=lambda _sms: sent.set())
    await gateway.start()
    gateway.rules.append(Rule(Outcome(wait=asyncio.Event()), "otp-v2"))
    asking = asyncio.create_task(
        exchange(gateway.url, request("POST", "/api/ivr/bpm/otp-v2", json.dumps(otp_body()).encode()))
    )
    await sent.wait()
    await gateway.stop()
    assert await asking == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address(gateway.url))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Outcome(code="51", charge=True), "declined and charged"),
        (lambda: Outcome(fault="explode"), "explode"),
        (lambda: Rule(Outcome(), "refund"), "service"),
        (lambda: Rule(Outcome(), times=0), "times"),
        (lambda: Rule(Outcome(fault=Fault.RESET_ON_ACCEPT), "pay"), "on accept"),
    ],
)
def test_impossible_rules(make, complaint):
    """A rule that cannot be meant is refused when it is made."""
    with pytest.raises(ValueError, match=complaint):
        make()


async def test_rules_over_http(gateway):
    """Rules are set, listed and deleted over HTTP; cards are masked."""
    rule = {
        "service": "pay",
        "pan": CARD,
        "times": 3,
        "outcome": {"status": 500, "body": "oops", "content_type": "text/plain"},
    }
    status, made = await send(gateway, "/simulator/rules", rule)
    assert status == 201
    assert made["pan"] == f"603799******{CARD[-4:]}"
    assert await send(gateway, "/simulator/rules", b"", method="GET") == (200, [made])
    assert (await raw_pay(gateway)).endswith(b"\r\n\r\noops")
    assert (await send(gateway, "/simulator/rules", b"", method="GET"))[1][0]["times"] == 2
    assert await send(gateway, "/simulator/rules", b"", method="DELETE") == (200, [])
    await send(gateway, "/simulator/rules", {"outcome": {"fault": "cut-body", "charge": True}})
    assert gateway.rules == [Rule(Outcome(fault=Fault.CUT_BODY, charge=True))]


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({}, "outcome"),
        ({"outcome": {"fault": "explode"}}, "outcome.fault"),
        ({"outcome": {"mood": "bad"}}, "outcome.mood"),
        ({"outcome": {"delay": -1}}, "outcome.delay"),
        ({"outcome": {}, "service": "refund"}, "service"),
        ({"outcome": {}, "times": 0}, "times"),
        ([], ""),
    ],
)
async def test_wrong_rules_over_http(gateway, rule, named):
    """A wrong rule is refused, and the answer says what is wrong with it."""
    status, answer = await send(gateway, "/simulator/rules", rule)
    assert status == 422
    assert named in answer["error"]
    assert gateway.rules == []


async def test_views_over_http(gateway):
    """Ledger, requests and PINs can be read over HTTP; no card, and no secret where it is not asked for."""
    await pay(gateway)
    await send(gateway, "pay", pay_body(pan=int(CARD), card_number=CARD))
    _, ledger = await send(gateway, "/simulator/ledger", b"", method="GET")
    _, requests = await send(gateway, "/simulator/requests", b"", method="GET")
    _, pins = await send(gateway, "/simulator/pins", b"", method="GET")
    assert [(entry["order_id"], entry["amount"]) for entry in ledger] == [("A1", 50000)]
    assert [(entry["order_id"], entry["pin"]) for entry in pins] == [("A1", gateway.pin_for(CARD))]
    assert [entry["service"] for entry in requests] == ["otp-v2", "pay", "pay"]
    assert requests[1]["body"] == pay_body(f"603799******{CARD[-4:]}", pin="***", sequence="***")
    shown = json.dumps([ledger, requests, pins])
    assert CARD not in shown
    assert SEQUENCE not in shown
    assert (await send(gateway, "/simulator/pins", b"", method="DELETE"))[0] == 405
    assert (await send(gateway, "/simulator/vault", b"", method="GET"))[0] == 404


async def test_tls():
    """With a certificate the address is https."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    gateway = GatewaySimulator()
    await gateway.start(ssl=server)
    assert gateway.url.startswith("https://127.0.0.1:")
    assert (await send(gateway, "otp-v2", otp_body(), tls=client))[0] == 200
    await gateway.stop()


async def test_run_gateway():
    """The command says where it listens, shows each SMS, and serves until it is cancelled."""
    said = asyncio.Queue()
    running = asyncio.create_task(run_gateway("127.0.0.1", 0, SEQUENCE, said.put_nowait))
    first = await said.get()
    gateway = GatewaySimulator()
    gateway.url = next(word for word in first.split() if word.startswith("http"))
    await send(gateway, "otp-v2", otp_body())
    line = await said.get()
    assert "order A1" in line
    assert "50,000 rial" in line
    assert "PIN " in line
    assert CARD not in line
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
