"""The sender of outcomes: what the merchant's endpoint is told, and what becomes of it when that goes wrong."""

import asyncio
import json
import ssl
from contextlib import suppress

import pytest
import trustme
from line import until
from receiver import SHARED, Clock, Shop, end, row, settled, tried

from ivr_agi import metrics, signature, webhook
from ivr_agi.journal import AttemptState, Journal, JournalError, Resolution
from ivr_agi.model import Secret
from ivr_agi.simulator.outcomes import Fault
from ivr_agi.simulator.wire import Reply
from ivr_agi.webhook import AT_ONCE, CLAIM, JITTER, WAITS, Webhook

S = AttemptState
DAY = 86400


@pytest.fixture
def journal(begun):
    opened = Journal(begun, notices=True)
    yield opened
    opened.close()


@pytest.fixture
async def shop():
    async with Shop() as opened:
        yield opened


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def send(journal, shop, clock):
    """Start a sender of the journal's notices to the shop; stopped at the end."""
    started = []

    def begin(*secrets, **given):
        given = {"days": 3, "clock": clock, **given}
        hook = Webhook(journal, shop.url, [Secret(secret) for secret in secrets or [SHARED]], **given)
        hook.start()
        started.append(hook)
        return hook

    yield begin
    for hook in started:
        await hook.stop()


def go_on(hook, clock, seconds):
    """Let time pass for a sender."""
    clock.now += seconds
    hook.wake()


async def looked(hook):
    """Have a sender look at the outbox, and wait until it has begun whatever it will begin."""
    real, over = hook._turn, asyncio.Event()

    async def turn():
        try:
            return await real()
        finally:
            over.set()

    hook._turn = turn
    hook.wake()
    await over.wait()
    hook._turn = real


def longest(tries):
    """Seconds after which a notice that has failed so often is due for certain."""
    return WAITS[min(tries, len(WAITS)) - 1] * (1 + JITTER)


def events(logged, name):
    return [line for line in logged if line["event"] == name]


# -- what is posted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [S.PAID, S.DECLINED, S.FAILED, S.UNKNOWN])
async def test_each_outcome(journal, shop, send, monkeypatch, state):
    """Told at once, without waiting for a poll: signed, in the words of the journal, once."""
    monkeypatch.setattr(webhook, "POLL", 600)
    await looked(send())
    await end(journal, "A-1", state)
    (got,) = await shop.told(1)
    await settled(journal)
    assert got.kind == f"payment.{state}"
    payment = json.loads(got.body)["payment"]
    assert (payment["state"], payment["order_id"], payment["amount"]) == (state, "A-1", 50000)
    assert payment["card"] == "603799******7893"
    assert got.event == row(journal)["key"]
    assert got.headers["user-agent"] == "ivr-agi"
    assert (len(shop.got), shop.wrong) == (1, [])


async def test_resolved(journal, shop, send):
    """What a person has found out is told, too, after what was said before."""
    attempt = await end(journal, "A-1", S.UNKNOWN)
    journal.resolve(attempt, Resolution.PAID, by="Sara", evidence="statement", ref_id="77")
    send()
    unknown, resolved = await shop.told(2)
    assert (unknown.kind, resolved.kind) == ("payment.unknown", "payment.resolved")
    payment = json.loads(resolved.body)["payment"]
    assert (payment["resolution"], payment["ref_id"], payment["evidence"]) == ("paid", "77", "statement")


@pytest.mark.parametrize("known", ["old", "new"])
async def test_while_the_secret_changes(journal, shop, send, known):
    """Two secrets: whichever the receiver knows, it knows us."""
    shop.secret = known
    send("old", "new")
    await end(journal, "A-1")
    await shop.told(1)
    assert not shop.wrong


async def test_signed_anew(journal, shop, send, clock):
    """Each try is signed with its own time: one that is told after hours is no old request to the receiver."""
    hook = send()
    shop.replies = [Reply(500, b"")]
    await end(journal, "A-1")
    await tried(journal, 1)
    go_on(hook, clock, 3600)
    first, second = await shop.told(2)
    at = [int(got.headers["ivr-agi-signature"].split(",")[0][2:]) for got in (first, second)]
    assert at[1] - at[0] == 3600
    assert first.body == second.body


async def test_no_proxy_from_the_environment(journal, shop, send, monkeypatch):
    """A proxy named in the environment does not get to see who pays what."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    send()
    await end(journal, "A-1")
    await settled(journal)
    assert len(shop.got) == 1


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_is_verified(journal, shop, send, trusted):
    """A receiver whose certificate nobody vouches for learns nothing."""
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    await shop.http.stop()
    await shop.start(ssl=server)
    send(tls=trusting if trusted else None)
    await end(journal, "A-1")
    await (settled(journal) if trusted else tried(journal, 1))
    assert row(journal)["trouble"] == ("" if trusted else "tls-error")
    assert len(shop.got) == trusted


# -- what counts as delivered, and what is tried again ------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(500, b"{}"), "http-500"),
        (Reply(401, b""), "http-401"),
        (Reply(404, b""), "http-404"),
        (Reply(301, b"", location="/told"), "http-301"),
        (Reply(307, b"", location="/told"), "http-307"),
        (Reply(200, b"", fault=Fault.RESET_AFTER_READ), "read-error"),
        (Reply(200, b"", fault=Fault.CLOSE_AFTER_READ), "remote-protocol-error"),
        (Reply(200, b"", fault=Fault.CUT_HEADERS), "remote-protocol-error"),
        (Reply(200, b"", fault=Fault.SILENCE), "timeout"),
    ],
)
async def test_tried_again(journal, shop, send, clock, logged, reply, why):
    """Anything but 2xx: not before its time, then again under the same id, until it is taken; the log says why."""
    hook = send(deadline=0.5)
    shop.replies = [reply]
    await end(journal, "A-1")
    await tried(journal, 1)
    assert row(journal)["trouble"] == why
    assert WAITS[0] <= row(journal)["due_at"] - clock.now <= longest(1)
    go_on(hook, clock, WAITS[0] - 0.1)
    await end(journal, "B")
    await until(lambda: row(journal, "B")["delivered_at"])
    assert [got.order for got in shop.got] == ["A-1", "B"]
    go_on(hook, clock, longest(1))
    await settled(journal)
    first, _, second = shop.got
    assert first.event == second.event
    assert [(line["why"], line["tries"]) for line in events(logged, "webhook.failed")] == [(why, 1)]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(201, b"{}"),
        Reply(204, b""),
        Reply(200, b"thanks", "text/plain", fault=Fault.CUT_BODY),
        Reply(200, b"x" * 100_000, "text/html"),
        Reply(200, b"ok", fault=Fault.DRIP),
    ],
)
async def test_taken(journal, shop, send, reply):
    """2xx is taken, whatever else is said and however it ends."""
    send()
    shop.replies = [reply]
    await end(journal, "A-1")
    await settled(journal)
    assert row(journal)["delivered_at"]
    assert row(journal)["tries"] == 1


async def test_an_answer_without_end(journal, shop, send):
    """2xx, and then a flood: it is taken, and the flood is not listened to."""

    async def flood(reader, writer):
        await reader.readuntil(b"}}")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            while True:
                writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                await writer.drain()
        writer.close()

    await shop.http.stop()
    server = await asyncio.start_server(flood, "127.0.0.1", shop.port)
    send(deadline=60)
    await end(journal, "A-1")
    await settled(journal)
    server.close()
    assert row(journal)["delivered_at"]


async def test_an_answer_that_hangs_after_200(journal, shop, send):
    """The receiver has said 200 and then nothing: it has it."""
    send(deadline=1)
    shop.replies = [Reply(200, b"x" * 10_000, fault=Fault.DRIP, pause=0.001)]  # much longer than that
    await end(journal, "A-1")
    await settled(journal)
    assert row(journal)["trouble"] == ""


async def test_answered_too_late(journal, shop, send, clock):
    """Taken, but said so after our time limit: told again, and known by its id."""
    hook = send(deadline=0.3)
    shop.hold = asyncio.Event()
    await end(journal, "A-1")
    await tried(journal, 1)
    shop.hold.set()
    go_on(hook, clock, longest(1))
    await settled(journal)
    assert len(shop.got) == 2
    assert len({got.event for got in shop.got}) == 1


async def test_down_at_first(journal, shop, send, clock):
    """Nobody listens; later somebody does."""
    await shop.http.stop()
    hook = send()
    await end(journal, "A-1")
    await tried(journal, 1)
    assert row(journal)["trouble"] == "connect-error"
    await shop.start(shop.port)
    go_on(hook, clock, longest(1))
    await settled(journal)
    assert len(shop.got) == 1


async def test_waits_grow(journal, shop, send, clock):
    """5 s, 30 s, … up to an hour, and then each hour."""
    hook = send()
    shop.answer = lambda _got: Reply(500, b"")
    await end(journal, "A-1")
    for tries in range(1, len(WAITS) + 3):
        await tried(journal, tries)
        wait = row(journal)["due_at"] - clock.now
        assert WAITS[min(tries, len(WAITS)) - 1] <= wait + 0.001
        assert wait <= longest(tries)
        go_on(hook, clock, longest(tries))


# -- the order of an order ----------------------------------------------------------------------------


async def test_in_order(journal, shop, send, clock):
    """`unknown` fails three times: `paid` of the same order waits for it, other orders do not."""
    hook = send()
    shop.replies = [Reply(500, b"")] * 3
    attempt = await end(journal, "A-1", S.UNKNOWN)
    await tried(journal, 1)
    await journal.step(attempt, S.PAID, ref_id="9")
    shop.answer = lambda got: Reply(500 if shop.replies and got.order == "A-1" else 200, b"")
    for tries in (1, 2):
        go_on(hook, clock, longest(tries))
        await tried(journal, tries + 1)
    await end(journal, "B")
    await until(lambda: row(journal, "B")["delivered_at"])
    go_on(hook, clock, longest(3))
    await settled(journal)
    kinds = [got.kind for got in shop.got if got.order == "A-1"]
    assert kinds == ["payment.unknown"] * 4 + ["payment.paid"]
    assert [got.order for got in shop.got].index("B") == 3


async def test_many_at_once_never_two_of_an_order(journal, shop, send):
    """Up to eight are under way, each of another order, and each order hears the first thing first."""
    for order in range(12):
        attempt = await end(journal, f"A-{order}", S.UNKNOWN)
        await journal.step(attempt, S.PAID, ref_id="9")
    shop.hold = asyncio.Event()
    send()
    await shop.told(AT_ONCE)
    assert len({got.order for got in shop.got}) == AT_ONCE
    shop.hold.set()
    await settled(journal)
    assert (shop.most, shop.twice, len(shop.got)) == (AT_ONCE, False, 24)
    for order in range(12):
        kinds = [got.kind for got in shop.got if got.order == f"A-{order}"]
        assert kinds == ["payment.unknown", "payment.paid"]


async def test_one_that_always_fails_holds_up_nobody(journal, shop, send, logged):
    """One order's notice is refused for ever: all others are told, and the receiver does not count as down."""
    shop.answer = lambda got: Reply(500 if got.order == "A-1" else 200, b"")
    await end(journal, "A-1")
    for order in range(20):
        await end(journal, f"B-{order}")
    send()
    await until(lambda: len(journal.notices()) == 1)
    assert row(journal)["trouble"] == "http-500"
    assert not events(logged, "webhook.receiver_down")


# -- given up -----------------------------------------------------------------------------------------


async def test_given_up(journal, shop, send, clock, logged):
    """After WEBHOOK_DAYS, loudly, with the cure; what comes after it in the order is told then."""
    before = metrics.notices.labels("given_up")._value.get()
    hook = send()
    shop.answer = lambda got: Reply(500 if got.kind == "payment.unknown" else 200, b"")
    attempt = await end(journal, "A-1", S.UNKNOWN)
    await journal.step(attempt, S.PAID, ref_id="9")
    for tries in range(1, len(WAITS) + 1):
        await tried(journal, tries)
        go_on(hook, clock, longest(tries))
    await tried(journal, len(WAITS) + 1)
    assert not row(journal)["given_up_at"]
    go_on(hook, clock, 3 * DAY)
    await until(lambda: row(journal)["given_up_at"])
    (line,) = events(logged, "webhook.given_up")
    assert (line["log_level"], line["order"], line["why"]) == ("critical", "A-1", "http-500")
    assert f"ivr-agi journal notify --resend {row(journal)['key']}" in line["cure"]
    assert metrics.notices.labels("given_up")._value.get() == before + 1
    await settled(journal)
    assert shop.got[-1].kind == "payment.paid"
    assert [kept["kind"] for kept in journal.notices()] == ["payment.unknown"]


async def test_not_given_up_unheard(journal, shop, send, clock):
    """No server ran for a month: an old notice gets its tries all the same before it is given up."""
    await end(journal, "A-1")
    clock.now += 30 * DAY
    hook = send()
    shop.replies = [Reply(500, b"")] * len(WAITS)
    for tries in range(1, len(WAITS) + 1):
        await tried(journal, tries)
        go_on(hook, clock, longest(tries))
    await settled(journal)
    assert row(journal)["delivered_at"]


@pytest.mark.parametrize("state", ["given up", "delivered"])
async def test_sent_again(journal, shop, send, clock, state):
    """What was given up, or the merchant has lost, is sent again when a person says so, under the same id."""
    shop.replies = [Reply(500, b"")] * (len(WAITS) + 1) if state == "given up" else []
    clock.now += 3 * DAY
    hook = send()
    await end(journal, "A-1")
    if state == "given up":
        for tries in range(1, len(WAITS) + 1):
            await tried(journal, tries)
            go_on(hook, clock, longest(tries))
        await until(lambda: row(journal)["given_up_at"])
        assert journal.resend_given_up() == 1
    else:
        await settled(journal)
        assert journal.resend_given_up() == 0
        assert journal.resend_notice(row(journal)["key"])
    assert not journal.resend_notice("no such thing")
    go_on(hook, clock, 0)
    await until(lambda: row(journal)["delivered_at"] and not hook._under_way)
    assert len(shop.got) == (len(WAITS) + 2 if state == "given up" else 2)
    assert len({got.event for got in shop.got}) == 1
    assert journal.resend_given_up() == 0


# -- a receiver that is down altogether ---------------------------------------------------------------


async def test_dead_receiver_is_not_hammered(journal, shop, send, clock, logged):
    """Nothing gets through: asked now and then, ever more rarely, one at a time; said once; back by itself."""
    shop.faults = [Fault.RESET_ON_ACCEPT] * 1000
    for order in range(40):
        await end(journal, f"A-{order}")
    hook = send()
    await until(lambda: sum(row["tries"] for row in journal.notices()) == AT_ONCE and not hook._under_way)
    assert shop.accepted == AT_ONCE
    waits = []
    for probe in range(1, 7):
        waits.append(hook._receiver.next_try - clock.now)
        go_on(hook, clock, waits[-1] - 0.1)
        await looked(hook)
        assert not hook._under_way
        go_on(hook, clock, 0.2)
        await until(lambda probe=probe: shop.accepted == AT_ONCE + probe and not hook._under_way)
    assert [round(wait) for wait in waits] == [5, 10, 20, 40, 60, 60]
    assert len(events(logged, "webhook.receiver_down")) == 1
    shop.faults.clear()
    go_on(hook, clock, 61)
    await until(lambda: len([row for row in journal.notices(every=True) if row["delivered_at"]]) >= 30)
    go_on(hook, clock, longest(len(WAITS)))
    await settled(journal)
    assert shop.most <= AT_ONCE
    assert len({got.event for got in shop.got}) == 40
    assert len(events(logged, "webhook.receiver_up")) == 1


async def test_back_after_hours(journal, shop, send, clock):
    """After a long silence the first success brings forward what would have waited for an hour."""
    hook = send()
    shop.replies = [Reply(502, b"")] * len(WAITS)
    await end(journal, "A-1")
    for tries in range(1, len(WAITS)):
        await tried(journal, tries)
        go_on(hook, clock, longest(tries))
    await tried(journal, len(WAITS))
    assert row(journal)["due_at"] - clock.now >= 3600
    await end(journal, "B")
    await settled(journal)
    assert [got.order for got in shop.got[-2:]] == ["B", "A-1"]


# -- the journal in trouble, our own mistakes ---------------------------------------------------------


async def test_journal_that_fails(journal, shop, send, logged, monkeypatch):
    """The outbox cannot be read for a while: said once, and it goes on by itself."""
    real, failures = journal.next_notice, []

    async def fail(without=()):
        if len(failures) < 3:
            failures.append(without)
            raise JournalError("disk full")
        return await real(without)

    monkeypatch.setattr(journal, "next_notice", fail)
    hook = send()
    for count in (1, 2, 3):
        await until(lambda count=count: len(failures) == count)
        hook.wake()
    await end(journal, "A-1")
    await settled(journal)
    assert len(shop.got) == 1
    assert [line["error"] for line in events(logged, "webhook.waits_for_journal")] == ["disk full"]


async def test_journal_that_does_not_take_the_result(journal, shop, send, logged, monkeypatch):
    """Delivered, and the journal cannot be told: it is asked until it can, and nothing is sent twice meanwhile."""
    monkeypatch.setattr(webhook, "MARK_AGAIN", 0.01)
    real, failures = journal.settle_notice, []

    async def fail(*given, **outcome):
        if len(failures) < 3:
            failures.append(given)
            raise JournalError("disk full")
        await real(*given, **outcome)

    monkeypatch.setattr(journal, "settle_notice", fail)
    send()
    await end(journal, "A-1")
    await settled(journal)
    assert (len(shop.got), len(failures)) == (1, 3)
    assert [line["notice"] for line in events(logged, "journal.failed")] == [row(journal)["key"]] * 3


async def test_our_own_mistake(journal, shop, send, clock, logged, monkeypatch):
    """A bug of ours is logged and tried again like any failure: the task lives on."""
    monkeypatch.setattr(signature, "sign", lambda *_: 1 / 0)
    hook = send()
    await end(journal, "A-1")
    await tried(journal, 1)
    assert row(journal)["trouble"] == "internal-error"
    assert events(logged, "webhook.broken")
    monkeypatch.undo()
    go_on(hook, clock, longest(1))
    await settled(journal)
    assert len(shop.got) == 1


# -- the end of the server ----------------------------------------------------------------------------


async def test_stop_finishes_what_is_being_sent(journal, shop, send):
    """A stop in the middle: the answer is waited for and written down."""
    shop.hold = asyncio.Event()
    hook = send()
    await end(journal, "A-1")
    await shop.told(1)
    stopping = asyncio.create_task(hook.stop())
    await until(hook._task.done)
    assert not stopping.done()
    shop.hold.set()
    await stopping
    assert row(journal)["delivered_at"]


async def test_stop_tells_the_last_outcomes(journal, shop, send):
    """What the drain has only just written is told before the process ends."""
    hook = send()
    await end(journal, "A-1")
    hook._woken.clear()  # as if nobody had said so
    await hook.stop()
    assert [got.order for got in shop.got] == ["A-1"]


async def test_stop_does_not_wait_for_ever(journal, shop, send, clock, monkeypatch):
    """The receiver hangs: the stop goes on without it, and the next server tells it under the same id."""
    monkeypatch.setattr(webhook, "LAST_SECONDS", 0.1)
    shop.hold = asyncio.Event()
    hook = send()
    await end(journal, "A-1")
    await shop.told(1)
    await hook.stop()
    assert not row(journal)["delivered_at"]
    shop.hold.set()
    clock.now += CLAIM - 1
    after = send()
    await looked(after)
    assert not after._under_way  # for all that is known, the first one is still at it
    go_on(after, clock, 1)
    await settled(journal)
    assert len(shop.got) == 2
    assert len({got.event for got in shop.got}) == 1


async def test_gauges(journal, shop, send, clock):
    """How many wait, and for how long, is counted; nothing waits: 0."""
    shop.answer = lambda _got: Reply(500, b"")
    await end(journal, "A-1")
    hook = send()
    await tried(journal, 1)
    go_on(hook, clock, 60)
    await until(lambda: metrics.notices_oldest._value.get() >= 55)
    assert metrics.notices_pending._value.get() == 1
    shop.answer = lambda _got: Reply(200, b"")
    go_on(hook, clock, 60)
    await settled(journal)
    go_on(hook, clock, 60)
    await until(lambda: metrics.notices_pending._value.get() == 0)
    assert metrics.notices_oldest._value.get() == 0
