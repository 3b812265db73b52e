"""Payments in doubt: seen by those who answer for money, resolved on a second look, once, and never by a card number."""

import asyncio

import pytest
from line import CARD

from ivr_agi.journal import AttemptState, Journal, NewAttempt, Resolution, people

S = AttemptState
MASK = "603799******7893"
MOBILE = "+989123456789"
UNKNOWN = [(S.OTP_SENT, {}), (S.SENT, {}), (S.UNKNOWN, {"review": "charged"})]
DECLINED = [(S.OTP_SENT, {}), (S.SENT, {}), (S.DECLINED, {"code": "51"})]
PAID = [(S.OTP_SENT, {}), (S.SENT, {}), (S.PAID, {"ref_id": "700001"})]


async def begin(office, order="A-1", steps=UNKNOWN, amount=1_250_000):
    """An attempt of the journal's, taken to where it is."""
    journal = office.line.journal
    number = await journal.reserve(NewAttempt(order, "ivr", amount, MASK, MOBILE))
    for state, fields in steps:
        await journal.step(number, state, **fields)
    return number


@pytest.fixture
async def reza(office):
    """An accountant who is signed in."""
    return await office.signed_in("reza")


async def send(browser, number, **fields):
    """Fill in the form as it was last shown."""
    seen = {name: browser.hidden(name) for name in ("state", "updated_at")}
    return await browser.post(
        f"/review/{number}", **({"verdict": "paid", "ref": "77", "evidence": "statement 9"} | seen | fields)
    )


def row(office, number=1):
    return office.line.journal.attempt(number)[0]


async def audited(office):
    """What the audit log has of verdicts: who, attempt, about."""
    entries = await office.line.journal.look(lambda c: people.entries(c, actions=["resolve"]))
    return [(entry["who"], entry["attempt_id"], entry["about"]) for entry in entries]


async def test_operators_do_not_decide(office):
    """Neither the list, nor the form, nor a post of it is an operator's."""
    number = await begin(office)
    sara = await office.signed_in("sara")
    for path in ("/review", f"/review/{number}"):
        assert (await sara.get(path)).status_code == 403
    got = await sara.post(f"/review/{number}", verdict="paid", ref="7", evidence="x", confirm="1")
    assert got.status_code == 403
    assert row(office)["state"] == "unknown"


@pytest.mark.parametrize(
    ("language", "said", "number"),
    [
        (
            "fa",
            ["شاید پول برداشت شده باشد", "۱٬۲۵۰٬۰۰۰ ریال", "۶۰۳۷۹۹******۷۸۹۳", "۰۹۱۲\u00a0۳۴۵\u00a0۶۷۸۹"],
            "۳",
        ),
        ("en", ["Money may have moved", "1,250,000 rials", MASK, "0912\u00a0345\u00a06789"], "3"),
    ],
)
async def test_list(office, reza, language, said, number):
    """Oldest first, each with why it is there, amount, order, card and mobile, and how many wait."""
    await begin(
        office, "B-1", [(S.OTP_SENT, {}), (S.SENT, {}), (S.DECLINED, {"code": "63", "review": "merchant"})]
    )
    await begin(office, "B-2")
    await begin(office, "B-3")
    await begin(office, "B-4", PAID)
    await reza.post("/language", language=language, back="/panel/review")
    got = await reza.get("/review")
    assert [text for text in said if text not in got.text] == []
    places = [got.text.index(order) for order in ("B-1", "B-2", "B-3")]
    assert places == sorted(places)
    assert "B-4" not in got.text
    assert f"<b>{number}</b>" in got.text


async def test_nothing_waits(reza):
    """An empty list says so."""
    assert "اکنون پرداختی منتظر بررسی نیست" in (await reza.get("/review")).text


async def test_pages_of_the_list(office, reza, monkeypatch):
    """More than a page has the older ones first, and the others on the next; a page that is none is the nearest."""
    monkeypatch.setattr("ivr_agi.panel.pages.review.SHOWN", 2)
    for number in range(3):
        await begin(office, f"P-{number}")
    first, second = [await reza.get(f"/review?page={page}") for page in ("1", "2")]
    assert ("P-0" in first.text, "P-2" in first.text, "?page=2" in first.text) == (True, False, True)
    assert ("P-0" in second.text, "P-2" in second.text, "?page=1" in second.text) == (False, True, True)
    for page in ("0", "99999", "x", "-1", "٢"):
        assert (await reza.get(f"/review?page={page}")).status_code == 200


async def test_paid_on_the_second_look(office, reza):
    """The first post only shows what will happen; the second writes, with the user's name, and is audited."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    got = await send(reza, number, ref="۷۰۰۰۰۲", evidence="صورت‌حساب\r\nسطر ۹")
    assert (got.status_code, "پرداخت‌شده به شمار می‌آید" in got.text) == (200, True)
    assert row(office)["state"] == "unknown"
    fields = {name: reza.hidden(name) for name in ("verdict", "ref", "evidence", "state", "updated_at")}
    got = await reza.post(f"/review/{number}", confirm="1", **fields)
    assert (got.url.path, "ثبت شده است: پرداخت شده" in got.text) == (f"/panel/review/{number}", True)
    found = row(office)
    assert (found["state"], found["resolution"], found["ref_id"]) == ("resolved", "paid", "700002")
    assert (found["resolved_by"], found["evidence"], found["holds_order"]) == ("reza", "صورت‌حساب سطر ۹", True)
    assert await audited(office) == [("reza", number, "paid 700002")]


async def test_not_paid(office, reza):
    """Not paid needs no tracking number, and lets the order be paid again."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    got = await send(reza, number, verdict="not-paid", ref="")
    assert "می‌توان آن را دوباره پرداخت" in got.text
    await send(reza, number, verdict="not-paid", ref="", confirm="1")
    assert (row(office)["resolution"], row(office)["holds_order"]) == ("not-paid", False)
    assert await begin(office, "A-1") == number + 1


async def test_second_thoughts(office, reza):
    """From the second look one can go back: the form has what was written, and nothing is recorded."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    got = await send(reza, number, edit="1", evidence="statement 9")
    assert ("<textarea" in got.text, "statement 9" in got.text) == (True, True)
    assert row(office)["state"] == "unknown"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"verdict": ""}, "بگویید پرداخت شده است یا نه"),
        ({"verdict": "maybe"}, "بگویید پرداخت شده است یا نه"),
        ({"ref": " "}, "شماره‌ی پیگیری بانک لازم است"),
        ({"ref": "9" * 65}, "حداکثر ۶۴ حرف"),
        ({"evidence": " \r\n "}, "بنویسید از کجا معلوم شد"),
        ({"evidence": "x" * 1001}, "حداکثر ۱٬۰۰۰ نویسه"),
        ({"evidence": "a\x1b[2Jb"}, "حداکثر ۱٬۰۰۰ نویسه"),
    ],
    ids=["none", "maybe", "no-ref", "long-ref", "no-evidence", "long-evidence", "control"],
)
async def test_what_is_refused(office, reza, fields, said):
    """What the command refuses, the form refuses: said beside the field, and nothing is recorded."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    got = await send(reza, number, confirm="1", **fields)
    assert (got.status_code, said in got.text) == (422, True)
    assert row(office)["state"] == "unknown"
    assert await audited(office) == []


@pytest.mark.parametrize("name", ["ref", "evidence"])
@pytest.mark.parametrize(
    "card", [CARD, "6037-9912-3456-7893", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳"], ids=["plain", "dashes", "persian"]
)
async def test_card_number(office, reza, name, card):
    """A card number in what is kept for ever is refused, and not shown again either."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    got = await send(reza, number, confirm="1", **{name: f"card {card}"})
    assert got.status_code == 422
    got_too = await reza.get(f"/review/{number}", params={"as": "paid", name: f"card {card}"})
    for page in (got, got_too):
        assert [form for form in (card, CARD) if form in page.text] == []
    assert CARD not in str(row(office))


async def test_changed_meanwhile(office, reza):
    """A late answer settles it while the form is open: nothing is written, and the page says so."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    old = {name: reza.hidden(name) for name in ("state", "updated_at")}
    await office.line.journal.step(number, S.PAID, ref_id="700009")
    for confirm in ("", "1"):  # neither the second look nor the writing
        got = await send(reza, number, verdict="not-paid", ref="", overrule="1", confirm=confirm, **old)
        assert (got.status_code, "در این میان تغییر کرده است" in got.text) == (409, True)
    assert row(office)["state"] == "paid"
    assert await audited(office) == []


async def test_changed_at_the_last_moment(office, reza, monkeypatch):
    """It changes between our look and our write: the journal refuses, nothing is written, and the page says so."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    resolve = Journal.resolve

    def late(journal, attempt_id, *args, **more):
        asyncio.run_coroutine_threadsafe(journal.step(attempt_id, S.PAID, ref_id="700009"), loop).result(10)
        return resolve(journal, attempt_id, *args, **more)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(Journal, "resolve", late)
    got = await send(reza, number, verdict="not-paid", ref="", confirm="1")
    assert (got.status_code, "در این میان تغییر کرده است" in got.text) == (409, True)
    assert row(office)["state"] == "paid"


async def test_double_click(office, reza):
    """The form sent twice at once, and once more: resolved once, and each answer says that it is."""
    number = await begin(office)
    await reza.get(f"/review/{number}")
    seen = {name: reza.hidden(name) for name in ("csrf", "state", "updated_at")}
    fields = seen | {"verdict": "paid", "ref": "77", "evidence": "statement 9", "confirm": "1"}
    got = await asyncio.gather(*[reza.post(f"/review/{number}", **fields) for _ in range(3)])
    got.append(await reza.post(f"/review/{number}", **fields))
    assert [each.status_code for each in got] == [200] * 4
    assert all("ثبت شده است: پرداخت شده" in each.text for each in got)
    history = office.line.journal.attempt(number)[1]
    assert [step["state"] for step in history].count("resolved") == 1
    assert len(await audited(office)) == 1


async def test_overrule_twice_is_once(office, reza):
    """Of a verdict that sets aside another the double click is one, too."""
    number = await begin(office, steps=DECLINED)
    office.line.journal.resolve(number, Resolution.NOT_PAID, by="x", evidence="y", seen=S.DECLINED)
    await reza.get(f"/review/{number}")
    seen = {name: reza.hidden(name) for name in ("csrf", "state", "updated_at")}
    fields = seen | {"verdict": "paid", "ref": "77", "evidence": "letter 3", "confirm": "1", "overrule": "1"}
    await asyncio.gather(*[reza.post(f"/review/{number}", **fields) for _ in range(3)])
    history = office.line.journal.attempt(number)[1]
    assert [step["state"] for step in history].count("resolved") == 2


async def test_in_no_doubt(office, reza):
    """What the bank has declined asks for the tick that one knows better; what is unknown has no such tick."""
    number = await begin(office, steps=DECLINED)
    got = await reza.get(f"/review/{number}")
    assert 'name="overrule"' in got.text
    got = await send(reza, number, confirm="1")
    assert (got.status_code, "گزینه‌ی آن را نیز علامت بزنید" in got.text) == (409, True)
    assert row(office)["state"] == "declined"
    got = await send(reza, number, overrule="1")
    assert reza.hidden("overrule") == "1"
    await send(reza, number, overrule="1", confirm="1")
    assert row(office)["resolution"] == "paid"
    other = await begin(office, "A-2")
    assert 'name="overrule"' not in (await reza.get(f"/review/{other}")).text


async def test_under_way(office, reza):
    """What is still being paid has no form, and a form that is sent all the same changes nothing."""
    number = await begin(office, steps=UNKNOWN[:2])
    got = await reza.get(f"/review/{number}")
    assert ("<textarea" in got.text, "هنوز در جریان است" in got.text) == (False, True)
    found = row(office)
    seen = {name: found[name] for name in ("state", "updated_at")}
    got = await send(reza, number, confirm="1", **seen)
    assert (got.status_code, "هنوز در جریان است" in got.text) == (409, True)
    assert row(office)["state"] == "sent"


@pytest.mark.parametrize(("language", "said"), [("fa", "دو بار پرداخت شده باشد!"), ("en", "paid twice!")])
async def test_paid_twice(office, reza, language, said):
    """The order has been paid by another attempt: said loudly, and again whenever one looks."""
    number = await begin(office, steps=DECLINED)
    await begin(office, "A-1", PAID)
    await reza.post("/language", language=language, back=f"/panel/review/{number}")
    await send(reza, number, overrule="1", confirm="1")
    for _ in range(2):
        got = await reza.get(f"/review/{number}")
        assert (said in got.text, 'role="alert"' in got.text, "?order=A-1" in got.text) == (True, True, True)


async def test_filled_in(office, reza):
    """A link of the settlement's fills the form in; it is still sent by a person."""
    number = await begin(office)
    got = await reza.get(
        f"/review/{number}", params={"as": "paid", "ref": "7`<i>", "evidence": "list.csv line 12"}
    )
    assert ('value="paid" selected' in got.text, "list.csv line 12" in got.text) == (True, True)
    assert ('value="7`&lt;i&gt;"' in got.text, "<i>" in got.text) == (True, False)


@pytest.mark.parametrize("number", ["99", "0", "9" * 19, "9" * 40])
async def test_no_such_payment(reza, number):
    """A number that no payment has."""
    assert (await reza.get(f"/review/{number}")).status_code == 404


async def test_the_webhook_is_told(office, reza):
    """A verdict is told to the merchant's system at once, and not with its next look."""
    told = []
    office.line.journal.on_notice = lambda: told.append(1)
    number = await begin(office)
    await reza.get(f"/review/{number}")
    told.clear()
    await send(reza, number, confirm="1")
    assert told == [1]
