"""The limits: how they are written, what they count, and that nothing begins them anew."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from itertools import islice

import pytest
import sqlalchemy as sa
from line import CARD, MOBILE, Thinking, open_line, until

from ivr_agi import metrics, outcomes
from ivr_agi.cardhash import CardHash
from ivr_agi.journal import (
    AttemptState,
    IllegalStep,
    Journal,
    JournalError,
    NewAttempt,
    OverLimit,
    Who,
    velocity,
)
from ivr_agi.journal.engine import open_engine
from ivr_agi.journal.tables import attempt, happening
from ivr_agi.limits import Counted, Limit, Limits, Scope, read_limits
from ivr_agi.model import Method, Msisdn, Pan, PayStatus, Secret, luhn
from ivr_agi.payments import Refused
from ivr_agi.settings import WrongSettings, load
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule

OTHER_CARD = "6219861034529007"


# -- the settings ------------------------------------------------------------------------------------


def test_forms():
    """`10/hour` counts PINs; a word names what else; several stand side by side; each prints as it is written."""
    limits = read_limits("10/hour, 5 declines/day,3 cards / minute", Scope.CALLER)
    assert limits == (
        Limit(10, "hour"),
        Limit(5, "day", Counted.DECLINES),
        Limit(3, "minute", Counted.CARDS),
    )
    assert ",".join(map(str, limits)) == "10/hour,5 declines/day,3 cards/minute"
    assert [limit.seconds for limit in limits] == [3600, 86400, 60]
    assert read_limits("", Scope.CALLER) == ()


@pytest.mark.parametrize("text", ["10", "0/hour", "10/week", "ten/hour", "10 calls/hour", "-1/hour", "10/hour;", "۱۰/hour", "3 cards/hour"])  # fmt: skip
def test_what_is_no_limit(monkeypatch, text):
    """It stops the start with a line that names the setting and says what is allowed."""
    monkeypatch.setenv("IVR_AGI_LIMIT_CARD", text)
    with pytest.raises(WrongSettings, match=r"IVR_AGI_LIMIT_CARD: .*`10/hour`, or `5 declines/day`"):
        load()


@pytest.mark.parametrize(("setting", "text"), [("CALLER", "3 callers/hour"), ("CARD", "3 cards/hour")])
def test_what_there_is_only_one_of(monkeypatch, setting, text):
    """A caller has one caller, a card one card: such a limit would never be reached."""
    monkeypatch.setenv(f"IVR_AGI_LIMIT_{setting}", text)
    with pytest.raises(WrongSettings, match=f"IVR_AGI_LIMIT_{setting}: "):
        load()


# -- by telephone ------------------------------------------------------------------------------------

SPENT = {"limit_caller": "", "limit_card": "", "limit_order": "", "limit_total": ""}


@pytest.mark.parametrize("scope", ["caller", "card", "order", "total"])
async def test_over_the_limit(tmp_path, scope):
    """What is over hears one general sentence; REFUSED, and the word; nothing is sent, nothing is written."""
    async with open_line(tmp_path, **SPENT | {f"limit_{scope}": "2/hour"}) as line:
        line.gateway.rules.append(Rule(Outcome(code="51"), service="pay"))
        no = {"enter-card": [CARD, HANG_UP]}
        for _ in range(2):
            assert (await line.call(line.buyer() | no)).status == "DECLINED"
        sent, rows = len(line.gateway.requests), len(line.attempts())
        before = metrics.over_limit.labels(scope)._value.get()
        ended = await line.call(line.buyer() | no)
        assert (ended.status, ended.reason) == ("REFUSED", f"limit-{scope}")
        assert ended.heard[-3:] == ["over-limit", "try-later", "goodbye"]
        assert (len(line.gateway.requests), len(line.attempts())) == (sent, rows)
        assert metrics.over_limit.labels(scope)._value.get() == before + 1
        other = {"caller": {"caller_id": "09350000000"}, "order": {}}.get(scope)
        if other is not None:  # somebody else is not held up by it
            again = await line.call(line.buyer() | no, "amount=50000&order_id=other", **other)
            assert again.status == "DECLINED"


async def test_paid_and_over_the_limit(tmp_path):
    """An order that is paid is said to be paid: that keeps somebody from paying it elsewhere."""
    async with open_line(tmp_path, limit_order="1/hour", limit_caller="1/hour") as line:
        assert (await line.call(line.buyer())).status == "PAID"
        assert (await line.call(line.buyer())).reason == "already-paid"
        with pytest.raises(Refused, match="already-paid"):
            await line.payments.reserve(Method.IVR, "A-1", 50000, Pan(CARD), Msisdn.parse(MOBILE))


async def test_declined_and_then_paid_by_another(tmp_path):
    """Declined; then the order is paid on another line: REFUSED, already paid, and no word of the decline."""
    async with open_line(tmp_path) as line:
        line.gateway.rules.append(Rule(Outcome(code="51"), service="pay", times=1))
        card = Thinking(OTHER_CARD)
        calling = asyncio.create_task(line.call(line.buyer(enter_card=[CARD, card])))
        await card.asked.wait()
        assert (await line.call(line.buyer(), caller_id="09350000000")).status == "PAID"
        card.go_on.set()
        ended = await calling
        assert (ended.status, ended.reason) == ("REFUSED", "already-paid")


async def test_known_before_the_card_is_keyed(tmp_path):
    """Whose limit is known to be reached is told at once: he keys no card for nothing."""
    async with open_line(tmp_path, limit_caller="1/hour") as line:
        await line.call(line.buyer())
        ended = await line.call(line.buyer(), "amount=50000&order_id=B")
        assert ended.reason == "limit-caller"
        assert "enter-card" not in ended.heard


async def test_in_the_middle_of_a_call(tmp_path):
    """A new PIN, or another card, in the same call counts as well."""
    async with open_line(tmp_path, limit_card="2/hour") as line:
        ended = await line.call(line.buyer(enter_pin=["*#"] * 9))
        assert (ended.status, ended.reason) == ("REFUSED", "limit-card")
        assert line.services() == ["otp-v2"] * 2
        assert [row["state"] for row in line.attempts()] == ["failed"]


async def test_one_name_for_one_caller(tmp_path):
    """A caller ID in another form is the same caller; a withheld one counts by the mobile that is keyed."""
    async with open_line(tmp_path, limit_caller="1/hour") as line:
        assert (await line.call(line.buyer(), caller_id="09123456789")).status == "PAID"
        same = await line.call(line.buyer(), "amount=50000&order_id=B", caller_id="00989123456789")
        assert same.reason == "limit-caller"
        withheld = await line.call(
            line.buyer(enter_mobile=MOBILE), "amount=50000&order_id=C", caller_id="anonymous"
        )
        assert withheld.reason == "limit-caller"


async def test_twins_by_telephone(tmp_path):
    """With CARD_KEYS two cards with one mask have each its own limit."""
    one, other = twin_cards()
    async with open_line(tmp_path, limit_card="1/hour", card_keys="k" * 32) as line:
        for number, (card, status) in enumerate([(one, "PAID"), (other, "PAID"), (one, "REFUSED")]):
            ended = await line.call(line.buyer(card), f"amount=50000&order_id=O{number}")
            assert ended.status == status


async def test_uniqueid_keeps_no_card(tmp_path):
    """A dialplan that calls its channels by a card number does not bring it into the journal."""
    async with open_line(tmp_path) as line:
        assert (await line.call(line.buyer(), uniqueid=CARD)).status == "PAID"
        assert line.attempts()[0]["call"] == "603799******7893"


async def test_carding(tmp_path):
    """A thousand calls with ever new caller IDs and cards: requests stay at LIMIT_TOTAL's, whatever they try."""
    async with open_line(tmp_path, limit_caller="5/hour", limit_total="40/hour", max_calls=64) as line:
        line.gateway.rules.append(Rule(Outcome(code="14"), service="pay"))
        cards = make_cards(100)

        async def carder(number):
            card = cards[number % len(cards)]
            return await line.call(
                {"confirm-amount": "1", "enter-card": [card, HANG_UP], "enter-pin": "12345#"},
                f"amount=50000&order_id=O{number}",
                caller_id=f"0912{number:07}",
            )

        for start in range(0, 1000, 50):
            await asyncio.gather(*(carder(start + number) for number in range(50)))
        assert line.services().count("otp-v2") == 40
        assert line.services().count("pay") <= 40
        assert not line.gateway.charges
        assert line.server.calls == 0


async def test_sms_cannon(tmp_path):
    """One card, a new caller and a new order each time, hundreds at once: its holder gets no more SMS than that."""
    async with open_line(tmp_path, limit_card="6/hour", max_calls=64) as line:

        async def gunner(number):
            script = {"confirm-amount": "1", "enter-card": CARD, "enter-pin": ["*#", "*#", HANG_UP]}
            query = f"amount=50000&order_id=O{number}"
            return await line.call(script, query, caller_id=f"0935{number:07}")

        for start in range(0, 300, 50):
            await asyncio.gather(*(gunner(start + number) for number in range(50)))
        assert line.services() == ["otp-v2"] * 6
        other = await line.call(line.buyer(OTHER_CARD), "amount=50000&order_id=other")
        assert other.status == "PAID"


async def test_pins_that_may_have_been_sent_count(tmp_path):
    """A PIN that nobody answers for has been asked for all the same: an SMS may be on its way."""
    async with open_line(tmp_path, limit_card="3/hour", max_pins=9, otp_timeout=0.2) as line:
        line.gateway.rules.append(Rule(Outcome(fault=Fault.SILENCE), service="otp-v2"))
        ended = await line.call(line.buyer(otp_failed=["1"] * 9))
        assert ended.reason == "limit-card"
        assert line.services() == ["otp-v2"] * 3


async def test_refused_pins_are_declines(tmp_path):
    """That the gateway sends a card no PIN is an answer, too, to whoever tries cards."""
    async with open_line(tmp_path, limit_caller="2 declines/hour") as line:
        line.gateway.rules.append(
            Rule(Outcome(body=b'{"status": 0, "data": [], "errors": ["no"]}'), service="otp-v2")
        )
        for number in range(3):
            ended = await line.call(line.buyer(otp_failed=[HANG_UP]), f"amount=50000&order_id=O{number}")
        assert ended.reason == "limit-caller"
        assert line.services() == ["otp-v2"] * 2


async def test_an_outage_closes_no_line(tmp_path):
    """What never left for the gateway counts for nothing: when it is back, so are the callers."""
    async with open_line(
        tmp_path, limit_total="2/hour, 2 failures/hour", limit_card="2 failures/hour"
    ) as line:
        with pytest.MonkeyPatch.context() as away:
            away.setattr(line.payments._gateway, "_url", "http://127.0.0.1:9/api")
            away.setattr(line.payments._gateway, "_urls", {})
            for number in range(3):
                ended = await line.call(line.buyer(otp_failed=["1"] * 9), f"amount=50000&order_id=O{number}")
                assert ended.reason == "pin-not-sent"
        assert (await line.call(line.buyer())).status == "PAID"


async def test_declined_and_then_over_the_limit(tmp_path):
    """What the bank has said stands: DECLINED with its code; the limit is why no other card was tried."""
    async with open_line(tmp_path, limit_caller="1/hour") as line:
        line.gateway.rules.append(Rule(Outcome(code="51"), service="pay"))
        ended = await line.call(line.buyer(enter_card=[CARD, OTHER_CARD]))
        assert (ended.status, ended.reason) == ("DECLINED", "limit-caller")
        assert ended.variables["PAYCODE"] == "51"
        assert ended.heard[-3:] == ["over-limit", "try-later", "goodbye"]


async def test_invoices_are_not_for_everybody(tmp_path):
    """With `order_id=ask` a caller over his limit keys no invoice, and the shop is not asked."""
    async with open_line(tmp_path, limit_caller="1/hour") as line:
        await line.call(line.buyer())
        line.server._orders = object()  # whoever asked it would fail
        for reason, prompt in (("limit-caller", "over-limit"), ("paused", "paused")):
            if reason == "paused":
                line.journal.pause("sara", "")
            ended = await line.call(line.buyer(), "order_id=ask")
            assert (ended.status, ended.reason) == ("REFUSED", reason)
            assert ended.heard == ["welcome", prompt, "try-later", "goodbye"]


# -- in the journal ----------------------------------------------------------------------------------


NO_KEY = CardHash()


def attempt_of(order, caller="+989120000001", card=CARD, hashes=NO_KEY):
    pan = Pan(card)
    return NewAttempt(
        order, "ivr", 1000, pan.masked, MOBILE, "", hashes.of(pan), caller, hashes.every(pan)
    )  # fmt: skip


@pytest.fixture
async def counted(begun):
    """Opens the journal with limits, any number of times, as servers that start one after the other do."""
    opened = []

    def begin(**limits):
        read = {scope: read_limits(text, Scope(scope)) for scope, text in limits.items()}
        opened.append(Journal(begun, limits=Limits(**read)))
        return opened[-1]

    yield begin
    for journal in opened:
        journal.close()


async def end(journal, attempt_id, state, **fields):
    await journal.step(attempt_id, AttemptState.OTP_SENT)
    await journal.step(attempt_id, AttemptState.SENT)
    await journal.step(attempt_id, state, **fields)


async def test_a_restart_resets_nothing(counted):
    """Another process counts on, and so does a second server beside the first."""
    first = counted(card="2/hour")
    await first.reserve(attempt_of("A"))
    second = counted(card="2/hour")
    await second.reserve(attempt_of("B"))
    for journal in (first, second):
        with pytest.raises(OverLimit):
            await journal.reserve(attempt_of("C"))


async def test_many_at_once(counted):
    """Two servers, forty at once each: not one more than the limit."""
    journals = [counted(total="25/hour"), counted(total="25/hour")]
    tries = [journals[n % 2].reserve(attempt_of(f"O{n}", f"c{n:04}")) for n in range(80)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 25
    assert sum(isinstance(result, OverLimit) for result in results) == 55


async def test_failures(counted):
    """`failures` counts PINs that came to no payment: who pays is not held up, who does not, is."""
    journal = counted(caller="2 failures/hour")
    for number in range(5):
        paid = await journal.reserve(attempt_of(f"P{number}"))
        await end(journal, paid, AttemptState.PAID, ref_id="123456")
    left = await journal.reserve(attempt_of("L"))
    await journal.ask_pin(left, attempt_of("L").who)
    await journal.step(left, AttemptState.FAILED, reason="hangup")  # two PINs, no payment
    with pytest.raises(OverLimit, match="the limit of the caller is reached: 2 failures/hour"):
        await journal.reserve(attempt_of("M"))


async def test_declines_and_wrong_pins(counted):
    """Each decline counts as one; those with the wrong PIN as that, too."""
    journal = counted(card="2 wrong-pins/hour, 3 declines/hour")
    for number, code in enumerate(["51", "55", "55"]):
        if number == 2:
            await journal.may_begin(attempt_of("X").who)
        tried = await journal.reserve(attempt_of(f"O{number}"))
        await end(journal, tried, AttemptState.DECLINED, code=code)
    with pytest.raises(OverLimit, match="wrong-pins"):
        await journal.reserve(attempt_of("X"))
    other = counted(card="3 declines/hour")
    with pytest.raises(OverLimit, match="declines"):
        await other.reserve(attempt_of("X"))
    await other.reserve(attempt_of("X", card=OTHER_CARD))


async def test_different_cards_of_one_caller(counted):
    """The third card of a caller is one too many; the two that he has, he may use again."""
    journal = counted(caller="2 cards/day")
    cards = make_cards(3)
    for number, card in enumerate((*cards[:2], *cards[:2])):
        tried = await journal.reserve(attempt_of(f"O{number}", card=card))
        await journal.step(tried, AttemptState.FAILED)
    with pytest.raises(OverLimit, match="2 cards/day"):
        await journal.reserve(attempt_of("X", card=cards[2]))
    await journal.reserve(attempt_of("X", "+989120000002", cards[2]))


async def test_one_card_again_and_again_is_one(counted):
    """Different ones are counted, not how often."""
    journal = counted(caller="2 cards/day")
    cards = make_cards(2)
    for number in range(4):
        tried = await journal.reserve(attempt_of(f"O{number}", card=cards[0]))
        await journal.step(tried, AttemptState.FAILED)
    await journal.reserve(attempt_of("X", card=cards[1]))


async def test_a_key_that_is_new(counted):
    """What was written before there was a key still counts, by the mask."""
    journal = counted(card="1/hour")
    await journal.reserve(attempt_of("A"))
    with pytest.raises(OverLimit):
        await journal.reserve(attempt_of("B", hashes=CardHash([Secret("k" * 32)])))


async def test_declines_of_a_day(counted):
    """Of the caller or of the card, whichever are more; no PINs, and none of the day before."""
    journal = counted()
    for number, caller in enumerate(["c1", "c1", "c2"]):
        last = await journal.reserve(attempt_of(f"O{number}", f"+98912000000{caller[1]}"))
        await end(journal, last, AttemptState.DECLINED, code="51")
    paid = await journal.reserve(attempt_of("P", "+989120000002"))
    await end(journal, paid, AttemptState.PAID, ref_id="123456")
    assert await journal.declines(last) == 3  # of the card; two of them of another caller
    with journal._engine.begin() as connection:
        connection.execute(happening.update().values(at=velocity._ago(timedelta(hours=23))))
    assert await journal.declines(last) == 3
    with journal._engine.begin() as connection:
        connection.execute(happening.update().values(at=velocity._ago(timedelta(hours=25))))
    assert await journal.declines(last) == 0


async def test_old_rows_are_removed_as_it_goes(counted):
    """A server that lives removes what is too old, of every kind."""
    journal = counted()
    tried = await journal.reserve(attempt_of("A"))
    await end(journal, tried, AttemptState.DECLINED, code="55")

    def kinds():
        with journal._engine.begin() as connection:
            return {row.what for row in connection.execute(happening.select())}

    assert kinds() == {Counted.PINS, Counted.FAILURES, Counted.DECLINES, Counted.WRONG_PINS}
    with journal._engine.begin() as connection:
        connection.execute(happening.update().values(at="2026-01-01T00:00:00.000+00:00"))
    journal.live(lambda _settled: None, lease=0.2)
    await until(lambda: not kinds())


async def test_different_callers_of_one_card(counted):
    """A card that a third caller has in hand is one that has been stolen, or sold."""
    journal = counted(card="2 callers/day")
    for number in range(2):
        await journal.reserve(attempt_of(f"O{number}", f"+98912000000{number}"))
    with pytest.raises(OverLimit, match="2 callers/day"):
        await journal.reserve(attempt_of("X", "+989120000009"))
    await journal.reserve(attempt_of("X", "+989120000001"))


async def test_cards_with_one_mask_are_many(counted):
    """Whoever tries the digits between a mask's ends tries many cards, not one."""
    keyed = CardHash([Secret("k" * 32)])
    journal = counted(caller="3 cards/day")
    twins = twin_cards(4)
    for number, card in enumerate(twins[:3]):
        await journal.reserve(attempt_of(f"O{number}", card=card, hashes=keyed))
    with pytest.raises(OverLimit, match="3 cards/day"):
        await journal.reserve(attempt_of("X", card=twins[3], hashes=keyed))
    await journal.reserve(attempt_of("X", card=twins[0], hashes=keyed))


async def test_two_cards_with_one_mask(counted):
    """With CARD_KEYS they are two; without, one: rather too strict than too lax."""
    twins = twin_cards()
    keyed = CardHash([Secret("k" * 32)])
    journal = counted(card="1/hour")
    await journal.reserve(attempt_of("A", card=twins[0], hashes=keyed))
    await journal.reserve(attempt_of("B", card=twins[1], hashes=keyed))
    with pytest.raises(OverLimit):
        await journal.reserve(attempt_of("C", card=twins[1], hashes=CardHash([Secret("n" * 32), Secret("k" * 32)])))  # fmt: skip
    with pytest.raises(OverLimit):
        await journal.reserve(attempt_of("C", card=twins[1]))


def twin_cards(count=2):
    """Cards with the same first six and last four digits."""
    every = (f"603799{number:06}7893" for number in range(10**6))
    return list(islice((card for card in every if luhn(card)), count))


def make_cards(count):
    """So many cards of a bank, no two with one mask."""
    every = (f"603799{number:010}" for number in range(10**9))
    return list(islice((card for card in every if luhn(card)), count))


async def test_a_window_slides(counted):
    """What is older than the period counts no more; what is older than two days is removed."""
    journal = counted(card="1/minute")
    await journal.reserve(attempt_of("A"))
    with journal._engine.begin() as connection:
        connection.execute(happening.update().values(at="2026-01-01T00:00:00.000+00:00"))
    await journal.reserve(attempt_of("B"))
    with journal._engine.begin() as connection:
        velocity.forget(connection)
        assert len(connection.execute(happening.select()).all()) == 1
        connection.execute(happening.update().values(at="2099-01-01T00:00:00.000+00:00"))
    await journal.reserve(attempt_of("C"))  # a clock that was wrong once closes no line for ever
    with journal._engine.begin() as connection:
        velocity.forget(connection)
        assert len(connection.execute(happening.select()).all()) == 1


async def test_lost_answer_counts_once(counted):
    """A reservation whose commit nobody answered, tried again, has asked for one PIN."""
    journal = counted(card="2/hour")
    for _ in range(2):
        await journal._write(
            lambda connection, _again: journal._scribe.reserve(
                connection, attempt_of("A"), "k" * 32, again=True
            )
        )
    other = await journal.reserve(attempt_of("B"))
    with pytest.raises(OverLimit):
        await journal.reserve(attempt_of("C"))
    more = counted(card="3/hour")
    for _ in range(2):
        await more._write(
            lambda connection, _again: more._scribe.ask_pin(
                connection, other, attempt_of("B").who, "p" * 32, again=True
            )
        )
    assert more.attempt(other)[0]["pins_asked"] == 2


async def test_what_is_over_asks_for_no_pin(counted):
    """An attempt that another server has let go of, or that has been paid, gets no SMS."""
    journal = counted()
    gone = await journal.reserve(attempt_of("A"))
    await journal.step(gone, AttemptState.FAILED)
    with pytest.raises(IllegalStep, match="no PIN is sent for it"):
        await journal.ask_pin(gone, attempt_of("A").who)


async def test_a_withdrawn_reservation_counts_for_nothing(counted):
    """Nothing was asked of the gateway for it."""
    journal = counted(card="1/hour, 1 failures/hour")
    await journal.reserve(attempt_of("A"), key="k" * 32)
    await journal.withdraw("k" * 32, "not-recorded")
    await journal.reserve(attempt_of("A"))


async def test_one_that_counts_and_does_not_end(counted, request, journal_url):
    """Another server is frozen while it counts: reservations are refused within seconds, outcomes are written."""
    if request.config.option.journal != "postgresql":
        pytest.skip("SQLite has one writer: a frozen one holds up everybody, and is gone with its process")
    journal = counted(total="9/hour")
    paying = await journal.reserve(attempt_of("A"))
    await journal.step(paying, AttemptState.OTP_SENT)
    frozen = open_engine(journal_url)
    with frozen.connect() as other:
        other.exec_driver_sql("SELECT pg_advisory_xact_lock(4574)")
        tries = [asyncio.create_task(journal.reserve(attempt_of(f"O{number}"))) for number in range(5)]
        await asyncio.sleep(0)  # they have been handed to the writer, in front of what follows
        sent = asyncio.create_task(journal.step(paying, AttemptState.SENT))
        async with asyncio.timeout(10):
            results = await asyncio.gather(*tries, return_exceptions=True)
            await sent
        assert all(isinstance(result, JournalError) for result in results)
        assert all("does not come to an end" in str(result) for result in results)
        assert not journal.trouble
    frozen.dispose()
    await journal.reserve(attempt_of("B"))


EVERY = {
    "caller": "3/hour, 2 cards/day",
    "card": "3 callers/hour",
    "order": "3/hour",
    "total": "3 failures/hour",
}
LOOKED_AT = 7  # `cards` and `callers` first ask whether this one is known


def run_by(do, connection):
    """The statements that something runs, each with its parameters as the driver gets them."""
    seen = []

    def note(_connection, _cursor, statement, parameters, *_):
        seen.append((statement, parameters))

    sa.event.listen(connection, "before_cursor_execute", note)
    do(connection)
    sa.event.remove(connection, "before_cursor_execute", note)
    return seen


@pytest.mark.parametrize("hashes", [(), ("h",), ("h", "old")], ids=len)
async def test_one_question(counted, hashes):
    """All that may keep an attempt from beginning is asked for at once; each count ends at its limit."""
    journal = counted(**EVERY)
    who = Who("A", "c1", "603799******7893", hashes)
    with journal._engine.begin() as connection:
        ((beginning, _),) = run_by(lambda c: velocity.hindrance(c, who, journal._scribe.limits), connection)
        ((counting, _),) = run_by(lambda c: velocity.check(c, who, journal._scribe.limits), connection)
    for statement in (beginning, counting):
        assert statement.count("FROM happening") == statement.count("LIMIT ") == LOOKED_AT


@pytest.mark.sqlite("its query planner")
async def test_a_count_uses_its_index(counted):
    """Whatever the journal's size: each count is a search in an index, as is whoever holds the order."""
    journal = counted(**EVERY)
    who = Who("A", "c1", "603799******7893", ("h",))
    with journal._engine.begin() as connection:
        paid = connection.execute(BEGUN).scalar_one()
        seen = run_by(lambda c: velocity.hindrance(c, who, journal._scribe.limits), connection)
        seen += run_by(lambda c: velocity.declines(c, paid), connection)
        plans = [
            [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for statement, parameters in seen
        ]
    reads = [line for plan in plans for line in plan if "happening" in line or "attempt" in line]
    counts = [line for line in reads if line.startswith("SEARCH happening USING ")]
    assert all("what=?" in line for line in counts)
    assert Counter(line.split(" INDEX happening_by_")[1].split()[0] for line in counts) == {
        "caller": 4, "card": 3, "order_id": 1, "time": 1,
    }  # fmt: skip
    assert [line.split(" (")[0] for line in reads if line not in counts] == [
        "SEARCH attempt USING INDEX attempt_one_per_order",
        "SEARCH attempt USING INTEGER PRIMARY KEY",
    ]


BEGUN = sa.insert(attempt).values(attempt_of("A").row | {"state": "created", "holds_order": True, "owner": "x", "created_at": "", "updated_at": ""}).returning(attempt.c.id)  # fmt: skip

# Two days' happenings of many, made by the database itself.
TWO_DAYS = """
INSERT INTO happening (what, at, order_id, caller, card, card_hash)
SELECT (ARRAY['pins', 'failures', 'declines', 'wrong-pins'])[1 + mod(n, 4)],
  to_char(now() at time zone 'utc' - n * interval '8 seconds', 'YYYY-MM-DD"T"HH24:MI:SS".000+00:00"'),
  'O' || mod(n, 4001), 'c' || mod(n, 4999), '603799******' || lpad(mod(n, 9973)::text, 4, '0'), ''
FROM generate_series(1, 20000) AS n
"""


async def test_no_count_reads_all_on_postgresql(postgres_url):
    """PostgreSQL, with 20,000 happenings counted, reads neither the table nor a whole index for any of them."""
    limits = Limits(**{scope: read_limits(text, Scope(scope)) for scope, text in EVERY.items()})
    Journal(postgres_url).close()
    engine = open_engine(postgres_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(TWO_DAYS)
        paid = connection.execute(BEGUN).scalar_one()
        connection.exec_driver_sql("VACUUM ANALYZE happening")
        who = Who("A", "c1", "603799******0007", ("h",))
        seen = run_by(lambda c: velocity.hindrance(c, who, limits), connection)
        seen += run_by(lambda c: velocity.declines(c, paid), connection)
        plans = [
            connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
            for statement, parameters in seen
        ]
    engine.dispose()
    reads = [
        node for plan in plans for node in nodes(plan[0]["Plan"]) if "happening" in json.dumps(own(node))
    ]
    assert len([node for node in reads if "Index Cond" in node]) >= LOOKED_AT + 2
    assert [node for node in reads if node["Node Type"] == "Seq Scan"] == []
    assert [node for node in reads if "Index Name" in node and "Index Cond" not in node] == []


def nodes(plan):
    """A plan and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def own(node):
    """What a node says of itself."""
    return {name: node[name] for name in ("Relation Name", "Index Name") if name in node}


# -- declines that are not explained -------------------------------------------------------------------


async def test_no_oracle(tmp_path):
    """After the n-th decline each is one general sentence and the end, whatever the code; the dialplan knows it."""
    async with open_line(tmp_path, declines_explained=2) as line:
        heard = []
        for number, code in enumerate(["14", "51", "55", "14"]):
            line.gateway.rules[:] = [Rule(Outcome(code=code), service="pay")]
            ended = await line.call(
                line.buyer(enter_card=[CARD, HANG_UP]), f"amount=50000&order_id=O{number}"
            )
            heard.append([name for name in ended.heard if name.startswith(("error", "declined", "goodbye"))])
            assert (ended.status, ended.variables["PAYCODE"]) == (PayStatus.DECLINED, code)
        assert heard == [["error-14"], ["error-51"], ["declined", "goodbye"], ["declined", "goodbye"]]
        assert ended.reason == "not-explained"


@pytest.mark.parametrize("code", ["20", "80", "94", "907"])
async def test_what_keeps_from_paying_twice_is_always_told(tmp_path, code):
    """That he may have paid, and is not to pay again, is said however many declines there were."""
    async with open_line(tmp_path, declines_explained=1) as line:
        for number in range(3):
            line.gateway.rules[:] = [Rule(Outcome(code=code), service="pay")]
            ended = await line.call(line.buyer(), f"amount=50000&order_id=O{number}")
            assert "declined" not in ended.heard
            assert (outcomes.decline(code).prompt in ended.heard, ended.status) == (True, "DECLINED")


async def test_no_oracle_for_a_forger(tmp_path):
    """A new caller ID each time does not help: the card's own declines count, too."""
    async with open_line(tmp_path, declines_explained=1) as line:
        line.gateway.rules.append(Rule(Outcome(code="51"), service="pay"))
        for number, sentence in enumerate(["error-51", "declined"]):
            ended = await line.call(
                line.buyer(enter_card=[CARD, HANG_UP]),
                f"amount=50000&order_id=O{number}",
                caller_id=f"0912000000{number}",
            )
            assert sentence in ended.heard


def test_every_limit_has_its_ending():
    """A scope without a sentence would leave the caller in silence."""
    assert {f"limit-{scope}" for scope in Scope} <= outcomes.ENDINGS.keys()
