"""The client of the merchant's order endpoint: what is asked, and what each answer is taken for."""

import asyncio
import json
import re
import ssl
import threading
import time
from http.server import HTTPServer
from pathlib import Path

import pytest
import trustme

from ivr_agi.model import Msisdn, Secret
from ivr_agi.orders import MAX_BODY, Order, Orders, Standing, read
from ivr_agi.settings import WrongSettings, load
from ivr_agi.simulator.orders import Asked, OrdersSimulator
from ivr_agi.simulator.outcomes import Fault
from ivr_agi.simulator.wire import Reply

ROOT = Path(__file__).parent.parent
SHARED = "a secret of the shop"
MOBILE = Msisdn("+989123456789")
PAYABLE = {"status": "payable", "order_id": "A-17", "amount": 50000}
A_17 = Order(Standing.PAYABLE, "A-17", 50000)
INVOICES = {"10234": PAYABLE, "10233": {"status": "paid"}, "10232": {"status": "closed"}}


def client(url, *secrets, **given):
    """A client of the endpoint at `url`; a time limit that ends a hanging test."""
    given = {"timeout": 10, "amounts": range(1000, 2_000_001), **given}
    return Orders(url, [Secret(secret) for secret in secrets or [SHARED]], **given)


def unsigned(url):
    """A client without a secret."""
    return Orders(url, [], timeout=10, amounts=range(1000, 2_000_001))


@pytest.fixture
async def shop():
    async with OrdersSimulator(SHARED, INVOICES) as simulator:
        yield simulator


# -- what is asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("invoice", "order"),
    [
        ("10234", A_17),
        ("10233", Order(Standing.PAID)),
        ("10232", Order(Standing.CLOSED)),
        ("1", Order(Standing.NOT_FOUND)),
    ],
)
async def test_each_answer(shop, invoice, order):
    """Signed, with the fields of the contract and no more; each of the four answers is understood."""
    assert await client(shop.url).look_up(invoice, MOBILE) == order
    assert shop.asked == [Asked(invoice, "+989123456789")]
    assert not shop.wrong


async def test_number_and_caller_as_they_are(shop):
    """Leading zeros are part of the number; an unknown mobile is null, not an empty text."""
    await client(shop.url).look_up("007", None)
    assert shop.asked == [Asked("007", None)]


async def test_without_a_secret_nothing_is_signed():
    """No secret, no header: the stand-in would refuse one."""
    async with OrdersSimulator("", INVOICES) as shop:
        assert await unsigned(shop.url).look_up("10234", MOBILE) == A_17


@pytest.mark.parametrize("known", ["old", "new"])
async def test_while_the_secret_changes(known):
    """Two secrets: whichever the endpoint knows, it knows us."""
    async with OrdersSimulator(known, INVOICES) as shop:
        assert await client(shop.url, "old", "new").look_up("10234", MOBILE) == A_17


async def test_another_secret(shop):
    """The endpoint does not know us: nobody could say, and the log names the status."""
    order = await client(shop.url, "another").look_up("10234", MOBILE)
    assert order == Order(Standing.UNREACHABLE, why="http-401")
    assert shop.wrong == ["signature: by another secret"]


async def test_no_proxy_from_the_environment(shop, monkeypatch):
    """A proxy named in the environment does not get to see who calls for what."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await client(shop.url).look_up("10234", MOBILE) == A_17


async def test_what_is_logged(shop, logged):
    """One line a look-up: how it stands, or why nobody could say. Never what was keyed, who calls, what was said."""
    shop.replies = [Reply(200, b'{"status": "A-17 is payable"}'), Reply(200, json.dumps(PAYABLE).encode())]
    for _ in range(2):
        await client(shop.url).look_up("10234", MOBILE)
    assert [line["event"] for line in logged] == ["order.not_looked_up", "order.looked_up"]
    failed, found = logged
    assert (failed["why"], failed["endpoint"], failed["log_level"]) == (
        "unknown-status",
        "127.0.0.1",
        "error",
    )
    assert "docs/orders.md" in failed["cure"]
    assert found["standing"] == "payable"
    assert not [word for word in ("10234", "A-17", MOBILE, SHARED) if word in str(logged)]


# -- what an answer is taken for ----------------------------------------------------------------------


def payable(**other):
    return PAYABLE | other


@pytest.mark.parametrize(
    ("status", "body", "standing", "why"),
    [
        (200, PAYABLE, "payable", ""),
        (201, PAYABLE, "payable", ""),
        (200, b"\xef\xbb\xbf" + json.dumps(PAYABLE).encode(), "payable", ""),
        (200, payable(note="VIP", paid_by=None), "payable", ""),
        (200, payable(order_id="سفارش ۱۷"), "payable", ""),
        (200, payable(order_id="x" * 50), "payable", ""),
        (200, payable(amount=1000), "payable", ""),
        (200, payable(amount=2_000_000), "payable", ""),
        (200, {"status": "paid"}, "paid", ""),
        (200, {"status": "closed", "order_id": 17}, "closed", ""),
        (200, {"status": "not-found"}, "not-found", ""),
        # 404 says it, too, with whatever page comes along
        (404, b"", "not-found", "http-404"),
        (404, b"<html>no such page</html>", "not-found", "http-404"),
        (404, {"status": "not-found"}, "not-found", "http-404"),
        (404, {"message": "no"}, "not-found", "http-404"),
        # unless it says something else
        *[(404, payable(status=word), "unreachable", "http-404") for word in ("payable", "paid", "closed")],
        # no other status counts, whatever is in it
        *[
            (status, PAYABLE, "unreachable", f"http-{status}")
            for status in (302, 307, 400, 401, 403, 410, 422, 429, 500, 502, 503)
        ],
        # an amount that is none
        *[
            (200, payable(amount=amount), "unreachable", "bad-amount")
            for amount in ("50000", 50000.0, 5e4, True, None, [50000], 0, -50000, 999, 2_000_001)
        ],
        (200, {"status": "payable", "order_id": "A-17"}, "unreachable", "bad-amount"),
        # an order that is none
        *[
            (200, payable(order_id=order), "unreachable", "bad-order-id")
            for order in (17, "", " A-17", "x" * 51, "A\n17", "A\u202e17", "A\ud800", None, ["A-17"])
        ],
        (200, {"status": "payable", "amount": 50000}, "unreachable", "bad-order-id"),
        # no answer of the contract
        *[
            (200, body, "unreachable", "no-json")
            for body in (
                b"",
                b"<html>paid</html>",
                b'{"status": "payable", "order_id": "A-17", "amount": 50',
                b'{"status": "paid", "status": "payable", "order_id": "A-17", "amount": 50000}',
                b'{"status": "payable", "order_id": "A-17", "amount": 5' + b"0" * 5000 + b"}",
                b"\xff\xfe",
                b"[" * 9000,
                [PAYABLE],
                "paid",
                1,
            )
        ],
        *[
            (200, {"status": status}, "unreachable", "unknown-status")
            for status in ("PAID", " paid", "unreachable", "open", "", True, None, 1, ["paid"], {"paid": 1})
        ],
        (200, {}, "unreachable", "unknown-status"),
        (204, b"", "unreachable", "no-json"),
    ],
)
def test_an_answer(status, body, standing, why):
    """To the letter: whatever is not the contract is no answer."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    order = read(status, body, range(1000, 2_000_001))
    assert (order.standing, order.why) == (standing, why)
    assert bool(order.order_id) is bool(order.amount) is (standing == "payable")


# -- the same, over real sockets ----------------------------------------------------------------------

CUT = (Fault.RESET_AFTER_READ, Fault.CLOSE_AFTER_READ, Fault.CUT_HEADERS, Fault.CUT_BODY)


@pytest.mark.parametrize("fault", [*CUT, Fault.RESET_ON_ACCEPT, Fault.CLOSE_ON_ACCEPT])
@pytest.mark.parametrize(("times", "standing"), [(1, "payable"), (2, "unreachable")])
async def test_a_broken_connection_is_tried_once_more(shop, fault, times, standing):
    """A look-up changes nothing, so it may be asked again; twice is enough."""
    if fault.on_accept:
        shop.faults = [fault] * times
    else:
        shop.replies = [Reply(200, json.dumps(PAYABLE).encode(), fault=fault)] * times
    order = await client(shop.url).look_up("10234", MOBILE)
    assert order.standing == standing
    assert bool(order.why) is (times == 2)
    assert len(shop.asked) == (2 - times if fault.on_accept else 2)


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.DRIP])
async def test_no_answer_in_time(shop, fault):
    """The limit is for the whole answer, and is the end: nobody is asked a second time."""
    shop.replies = [Reply(200, json.dumps(PAYABLE).encode(), fault=fault, pause=1)]
    order = await client(shop.url, timeout=0.3).look_up("10234", MOBILE)
    assert order == Order(Standing.UNREACHABLE, why="timeout")
    assert len(shop.asked) == 1


async def test_both_tries_share_one_limit(shop):
    """A connection that breaks and then an endpoint that is silent: the caller waits no longer for that."""
    shop.replies = [Reply(200, b"", fault=Fault.CLOSE_AFTER_READ), Reply(200, b"", fault=Fault.SILENCE)]
    since = time.monotonic()
    order = await client(shop.url, timeout=0.6).look_up("10234", MOBILE)
    assert order.why == "timeout"
    assert time.monotonic() - since < 5
    assert len(shop.asked) == 2


async def test_slow_but_whole(shop):
    """An answer that drips, but comes whole in time, counts."""
    shop.replies = [Reply(200, json.dumps(PAYABLE).encode(), fault=Fault.DRIP)]
    assert await client(shop.url).look_up("10234", MOBILE) == A_17


async def test_no_redirect_is_followed(shop):
    """Who calls for what is told to the address that was set, and to no other."""
    shop.replies = [Reply(307, b"", location=shop.url)]
    assert (await client(shop.url).look_up("10234", MOBILE)).why == "http-307"
    assert len(shop.asked) == 1


async def test_too_long(shop):
    """An answer without end is not read to its end."""
    shop.replies = [Reply(200, json.dumps(PAYABLE).encode() + b" " * MAX_BODY)]
    assert (await client(shop.url).look_up("10234", MOBILE)).why == "too-long"


async def test_nobody_listens():
    """A refused connection, twice."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    order = await client(f"http://127.0.0.1:{port}/").look_up("10234", MOBILE)
    assert order == Order(Standing.UNREACHABLE, why="connect-error")


async def test_no_such_host():
    """A name that does not resolve."""
    order = await client("https://orders.invalid/").look_up("10234", MOBILE)
    assert order.standing is Standing.UNREACHABLE


@pytest.mark.parametrize(("trusted", "why"), [(True, ""), (False, "tls-error")])
async def test_tls_is_verified(trusted, why):
    """An endpoint whose certificate nobody vouches for learns nothing."""
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    shop, trusting = OrdersSimulator(SHARED, INVOICES), ssl.create_default_context()
    authority.configure_trust(trusting)
    await shop.start(ssl=server)
    try:
        order = await client(shop.url, tls=trusting if trusted else None).look_up("10234", MOBILE)
    finally:
        await shop.stop()
    assert order.why == why
    assert len(shop.asked) == trusted


# -- the page that the merchant's developer reads -------------------------------------------------------


def test_the_example_works():
    """The twenty lines of docs/orders.md are an endpoint: it answers, and refuses whoever signs otherwise."""
    page = (ROOT / "docs" / "orders.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    example = {"__name__": "example"}
    exec(code, example)  # noqa: S102 - our own page
    example["Endpoint"].log_message = lambda *_: None
    with HTTPServer(("127.0.0.1", 0), example["Endpoint"]) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}/ivr/order"
        known, stranger = client(url, "new", "change me"), client(url, "another")
        try:
            answers = [asyncio.run(known.look_up(invoice, MOBILE)) for invoice in ("10234", "10233", "1")]
            refused = [asyncio.run(asker.look_up("10234", None)) for asker in (stranger, unsigned(url))]
        finally:
            server.shutdown()
            serving.join()
    assert answers == [A_17, Order(Standing.PAID), Order(Standing.NOT_FOUND)]
    assert [order.why for order in refused] == ["http-401", "http-401"]


def test_each_why_is_explained():
    """Whatever the log gives as `why` is in the page's table."""
    page = (ROOT / "docs" / "orders.md").read_text(encoding="utf-8")
    whys = set(re.findall(r'_unreachable\("([a-z-]+)"\)', (ROOT / "ivr_agi" / "orders.py").read_text()))
    assert whys == {"timeout", "too-long", "no-json", "unknown-status", "bad-amount"}
    for why in (*whys, "bad-order-id", "connect-error", "tls-error", "read-error", "remote-protocol-error"):
        assert f"`{why}`" in page


# -- the settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORDERS_URL", "http://shop.example/order"),
        ("ORDERS_URL", "http://172.31.73.5/order"),
        ("ORDERS_URL", "shop.example/order"),
        ("ORDERS_URL", "https://shop.example/order#top"),
        ("ORDERS_URL", "ftp://127.0.0.1/order"),
        ("ORDERS_TIMEOUT", "0"),
        ("ORDERS_TIMEOUT", "31"),
        ("INVOICE_DIGITS", "0"),
        ("INVOICE_DIGITS", "16"),  # as many as a card
    ],
)
def test_wrong_setting_is_named(monkeypatch, name, value):
    """The start stops at a line that names it."""
    monkeypatch.setenv(f"IVR_AGI_{name}", value)
    with pytest.raises(WrongSettings, match=f"IVR_AGI_{name}: "):
        load()


def test_settings(monkeypatch):
    """Off by default; an address is kept to its last letter, and a secret does not show."""
    assert (load().orders_url, load().orders_timeout, load().invoice_digits) == ("", 5, 12)
    for url in ("https://shop.example/?wc-api=ivr", "https://shop.example/order/", "http://127.0.0.1:8090/"):
        monkeypatch.setenv("IVR_AGI_ORDERS_URL", url)
        assert load().orders_url == url
    monkeypatch.setenv("IVR_AGI_ORDERS_URL", "http://172.31.73.5/order")
    monkeypatch.setenv("IVR_AGI_GATEWAY_PLAIN", "yes")
    assert load().orders_url == "http://172.31.73.5/order"
    monkeypatch.setenv("IVR_AGI_ORDERS_SECRET", " canary ")
    assert load().orders_secret.get_secret_value() == "canary"
    assert "canary" not in repr(load()) + load().model_dump_json()
