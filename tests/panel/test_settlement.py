"""A settlement list in the panel: read in memory, shown in two languages, and what is certain recorded once."""

import ast
import asyncio
import html
import pickle
import re
import string
from pathlib import Path

import pytest
from line import CARD
from panel.office import open_office
from settling import NOON, OTHER_CARD, attempt, line
from test_reconcile import ATTEMPTS, COUNTS, LINES

import ivr_agi
from ivr_agi.journal import AttemptState, IllegalStep, Journal, JournalError, NewAttempt, people, steps
from ivr_agi.model import holds_card
from ivr_agi.panel import lists, reconciler, showing
from ivr_agi.panel.pages.settlement import SHOWN, _told
from ivr_agi.settlement.judging import DAY, Kind, differences

S = AttemptState
LISTS = Path(__file__).parents[1] / "settlements"
FORMS = {  # as different hands write them down
    "paystar": {},
    "bank": {"toman": "1"},
    "english": {
        "heading_order": "Merchant order",
        "heading_amount": "Paid (IRR)",
        "heading_date": "Time",
        "paid_status": "done",
    },
    "spreadsheet": {},
}
HEAD = "order,amount,ref,card,date,status\n"
CERTAIN = f"{HEAD}A-1002,120000,700002,{CARD},2024-11-24,paid\n"


@pytest.fixture
def quick(monkeypatch):
    """The reader's work done in a thread: a process of its own is slow to start."""

    async def ask(question):
        return await asyncio.to_thread(reconciler.work, question)

    monkeypatch.setattr(lists, "ask", ask)


@pytest.fixture
async def kept(office):
    """The journal of the lists' payments."""
    for each in ATTEMPTS:
        await begin(office, *each)
    return office


@pytest.fixture
async def two(office):
    """The first two of them alone: one that was paid, one that is unknown."""
    for each in ATTEMPTS[:2]:
        await begin(office, *each)
    return office


async def begin(office, order, amount, card, begun, done):
    journal = office.line.journal
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr(steps, "timestamp", lambda: begun)
        number = await journal.reserve(NewAttempt(order, "ivr", amount, card, "+989123456789"))
        for state, fields in done:
            await journal.step(number, state, **fields)
    return number


async def upload(browser, content, name="list.csv", follow=True, **fields):
    """Choose a file and send the form."""
    if isinstance(content, str):
        content = content.encode()
    got = await browser.client.post(
        "/panel/settlement",
        data={"csrf": browser.token} | fields,
        files={"file": (name, content, "text/csv")},
        follow_redirects=follow,
    )
    return await browser._keep(got)


def counted(text):
    """The result's table: Persian title -> entries."""
    rows = re.findall(r'<th scope="row">([^<]+)</th>\s*<td[^>]*>([^<]+)</td>', text)
    return {title: int(count.replace("٬", "")) for title, count in rows}


def titled(counts):
    """COUNTS with the titles that the page has."""
    found = {showing.say(f"settlement.kind_{kind}", "fa"): count for kind, count in counts.items() if count}
    return found | {"جمع": sum(counts.values())}


async def audited(office, *actions):
    """The audit log of these actions, oldest first: who, action, about."""
    found = await office.line.journal.look(lambda connection: people.entries(connection, actions=actions))
    return [(entry["who"], entry["action"], entry["about"]) for entry in reversed(found)]


def rows(office):
    return {row["id"]: row for row in office.line.attempts()}


# -- who may ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_operators_do_not_settle(two):
    """Neither the form, nor a list, nor somebody's result is an operator's."""
    reza, sara = await two.signed_in("reza"), await two.signed_in("sara")
    address = (await upload(reza, CERTAIN)).url.path
    for got in (
        await sara.get("/settlement"),
        await upload(sara, CERTAIN),
        await sara.get(address),
        await sara.post(f"{address}/apply"),
    ):
        assert got.status_code == 403
    assert rows(two)[2]["state"] == "unknown"


@pytest.mark.usefixtures("quick")
async def test_a_result_is_its_users_own(two):
    """Somebody else's result is as little there as one that never was; nothing is recorded by it."""
    reza, mina = await two.signed_in("reza"), await two.signed_in("mina")
    address = (await upload(reza, CERTAIN)).url.path
    for other in (address, "/settlement/no-such-result"):
        assert (await mina.get(other)).status_code == 404
        assert (await mina.post(f"{other}/apply")).status_code == 404
    assert rows(two)[2]["state"] == "unknown"
    assert (await reza.get(address)).status_code == 200


# -- the result ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.usefixtures("quick")
async def test_four_hands(kept, name):
    """The same payments as four hands write them: the command's counts, nothing changed by looking, all audited."""
    before = rows(kept)
    reza = await kept.signed_in("reza")
    got = await upload(reza, (LISTS / f"{name}.csv").read_bytes(), f"{name}.csv", **FORMS[name])
    assert got.status_code == 200
    assert counted(got.text) == titled(COUNTS)
    assert "۱۴۰۳/۰۹/۰۴ تا ۱۴۰۳/۰۹/۰۶" in got.text
    assert rows(kept) == before
    (entry,) = await audited(kept, "settlement")
    assert (entry[0], entry[2].startswith(f"{name}.csv: ")) == ("reza", True)
    assert "contradicted 1" in entry[2]
    twice = showing.say(
        "settlement.note_order_twice", "fa", order="\u2068A-1008\u2069", times="\u2066۲\u2069"
    )
    assert twice in got.text
    for number in LINES[name]["A-1008"]:
        assert f"سطر {number}".translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")) in got.text


@pytest.mark.usefixtures("quick")
async def test_in_english(kept):
    """The same in English: Gregorian days, commas, and links that fill the form in."""
    reza = await kept.signed_in("reza")
    await reza.post("/language", language="en", back="/panel/settlement")
    got = await upload(reza, (LISTS / "paystar.csv").read_bytes(), "paystar.csv")
    for text in (
        "2024-11-24 to 2024-11-26",
        "Paid there, not paid here (1)",
        "120,000 rials",
        "Amount: 900,000 rials in line",
        "Resolve as paid: 1",
        "/panel/review/2?as=paid&amp;ref=700002&amp;evidence=paystar.csv+line+6",
        "/panel/review/3?as=not-paid",
        "/panel/payments/4",
    ):
        assert text in got.text
    assert not re.search(
        "[\u0600-\u06ff]",
        re.sub(r"<bdi[^>]*>[^<]*</bdi>|\u2068[^\u2069]*\u2069|فارسی|فروشگاه نمونه", "", got.text),
    )


@pytest.mark.usefixtures("quick")
async def test_nothing_to_look_at(two):
    """All matched: the page says so, and has no button."""
    reza = await two.signed_in("reza")
    got = await upload(
        reza,
        f"{HEAD}A-1001,50000,700001,7893,2024-11-24,paid\n",
        **{"from": "1403/01/01", "to": "1403/01/01"},
    )
    assert ("چیزی برای بررسی نمانده است" in got.text, "/apply" in got.text) == (True, False)


@pytest.mark.usefixtures("quick")
async def test_many_entries(two):
    """Of a kind the first ones are shown, the others on pages of their own, and what was not kept is said."""
    reza = await two.signed_in("reza")
    lines = [f"X-{number},1000,{number},,2024-11-24,paid" for number in range(1, reconciler.MOST_SHOWN + 3)]
    got = await upload(reza, HEAD + "\n".join(lines))
    here = got.url.path
    shown = [bool(re.search(rf">X-{number}<", got.text)) for number in (1, 20, 21)]
    assert (shown, f"{here}?kind=paid_elsewhere" in got.text) == ([True, True, False], True)
    assert "۵۰۰ مورد نخست از ۵۰۲" in got.text
    got = await reza.get(f"{here}?kind=paid_elsewhere&page=5")
    assert len(re.findall(r">X-\d+<", got.text)) == SHOWN
    assert ("page=4" in got.text, "page=6" in got.text) == (True, False)
    for asked in ("kind=nothing", "kind=paid_elsewhere&page=99", "kind=twice&page=-1", "page=x"):
        assert (await reza.get(f"{here}?{asked}")).status_code == 200


# -- recording ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
async def test_apply(kept):
    """The button records the certain one in the user's name, with its line as evidence, and no other; once."""
    before = rows(kept)
    reza = await kept.signed_in("reza")
    address = (await upload(reza, (LISTS / "paystar.csv").read_bytes(), "paystar.csv")).url.path
    for _ in range(2):
        got = await reza.post(f"{address}/apply")
        assert (got.status_code, "به نام \u2068reza\u2069 «پرداخت شده» ثبت شد" in got.text) == (200, True)
        assert "/apply" not in got.text
    after = rows(kept)
    assert {number for number in after if after[number] != before[number]} == {2}
    found = after[2]
    assert (found["state"], found["resolution"], found["ref_id"]) == ("resolved", "paid", "700002")
    assert (found["resolved_by"], found["evidence"]) == ("reza", "paystar.csv line 6")
    history = [step["state"] for step in kept.line.journal.attempt(2)[1]]
    assert history.count("resolved") == 1
    assert await audited(kept, "apply") == [("reza", "apply", "paystar.csv: 1")]


@pytest.mark.usefixtures("quick")
async def test_apply_at_once(two):
    """Clicked three times at once: recorded once, audited once."""
    reza = await two.signed_in("reza")
    address = (await upload(reza, CERTAIN)).url.path
    await asyncio.gather(*[reza.post(f"{address}/apply") for _ in range(3)])
    assert [step["state"] for step in two.line.journal.attempt(2)[1]].count("resolved") == 1
    assert len(await audited(two, "apply")) == 1


@pytest.mark.usefixtures("quick")
async def test_settled_meanwhile(two):
    """A late answer after the list was read: left as it is, and said."""
    reza = await two.signed_in("reza")
    address = (await upload(reza, CERTAIN)).url.path
    await two.line.journal.step(2, S.PAID, ref_id="700002")
    got = await reza.post(f"{address}/apply")
    assert (rows(two)[2]["state"], "دیگر نامعلوم نیست" in got.text) == ("paid", True)
    assert await audited(two, "apply") == []


@pytest.mark.parametrize(
    ("answer", "said", "resolved"),
    [
        (IllegalStep("it cannot"), "وضعیت این پرداخت در این میان تغییر کرده است", 0),
        (JournalError("disk full"), "دفتر پرداخت‌ها پاسخ نداد", 0),
        (False, "شاید دو بار پرداخت شده باشد!", 1),
    ],
    ids=["illegal", "journal", "twice"],
)
@pytest.mark.usefixtures("quick")
async def test_journal_refuses(two, monkeypatch, answer, said, resolved):
    """What the journal says to it is told, in Persian; paid twice loudly."""

    def resolve(*_args, **_more):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Journal, "resolve", resolve)
    reza = await two.signed_in("reza")
    address = (await upload(reza, CERTAIN)).url.path
    got = await reza.post(f"{address}/apply")
    assert (got.status_code, said in got.text) == (200, True)
    assert len(await audited(two, "apply")) == resolved


@pytest.mark.usefixtures("quick")
async def test_the_rest_later(two, monkeypatch):
    """The journal fails at the second of two; applied once more that one is recorded, too, and both are shown."""
    await begin(two, *ATTEMPTS[2])
    content = f"{CERTAIN}A-1003,75000,700003,,2024-11-24,paid\n"
    reza = await two.signed_in("reza")
    address = (await upload(reza, content)).url.path
    resolve = Journal.resolve

    def fails(journal, number, *args, **more):
        if number == 3:
            raise JournalError("disk full")
        return resolve(journal, number, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "resolve", fails)
        await reza.post(f"{address}/apply")
    got = await reza.post(f"{address}/apply")
    assert "ثبت شد: ۲ پرداخت" in got.text
    assert "دفتر پرداخت‌ها پاسخ نداد" not in got.text
    assert [rows(two)[number]["evidence"] for number in (2, 3)] == ["list.csv line 2", "list.csv line 3"]
    assert len(await audited(two, "apply")) == 2


# -- what is refused ----------------------------------------------------------------------------------


UNREADABLE = [
    (b"PK\x03\x04xlsx", {}, "spreadsheet"),
    (b"%PDF-1.7", {}, "pdf"),
    (b"<html><table>", {}, "web_page"),
    ("سفارش,مبلغ\nالف,۱\n".encode() + b"\xd8,", {}, "damaged"),
    (b'order,amount\nA,"1\nB,2\n', {}, "quotation_mark"),
    (b"order,total\nA,1\n", {}, "no_heading"),
    (b"order,amount,amount\nA,1,2\n", {}, "several_columns"),
    (b"order,amount\nA,1\n", {"heading_ref": "order", "heading_order": "order"}, "column_twice"),
    (b"order,amount (toman)\nA,1\n", {}, "heading_toman"),
    (b"order,amount (IRR)\nA,1\n", {"toman": "1"}, "heading_rial"),
    (b"order,amount\nA,1\n", {}, "no_period"),
    (b"order,amount\nA,1\n", {"from": "1403/09/02", "to": "1403/09/01"}, "period_ends_first"),
    (b" ", {}, "empty"),
]


@pytest.mark.parametrize("language", ["fa", "en"])
@pytest.mark.usefixtures("quick")
async def test_lists_that_cannot_be_read(office, language):
    """Why the list cannot be read, and what to do, in the page's language; nothing of the command's options."""
    reza = await office.signed_in("reza")
    await reza.post("/language", language=language, back="/panel/settlement")
    for content, fields, key in UNREADABLE:
        got = await upload(reza, content, **fields)
        words, page = showing.words()[f"settlement.note_{key}"][language], html.unescape(got.text)
        assert (key, got.status_code) == (key, 422)
        assert max(re.split(r"\{\w+\}", words), key=len) in page
        assert "--" not in page.partition("<main")[2]
    assert await audited(office, "settlement") == []


@pytest.mark.usefixtures("quick")
async def test_forms_that_are_refused(office):
    """No file, an empty one, a day that is none: said beside the field."""
    reza = await office.signed_in("reza")
    assert "این فایل خالی است" in (await upload(reza, b"")).text
    got = await reza.post("/settlement", toman="1")
    assert (got.status_code, "یک فایل انتخاب کنید" in got.text) == (422, True)
    got = await upload(reza, CERTAIN, **{"from": "24/11/2024"})
    assert (got.status_code, "این تاریخ خوانده نشد" in got.text) == (422, True)


async def test_too_large(office):
    """More than 4 MiB is not even read."""
    reza = await office.signed_in("reza")
    got = await upload(reza, b"x" * (4 * 1024 * 1024))
    assert got.status_code == 413


@pytest.mark.usefixtures("quick")
async def test_a_form_of_another_page(office):
    """Without the page's token no list is read."""
    reza = await office.signed_in("reza")
    assert (await upload(reza, CERTAIN, csrf="x")).status_code == 403
    assert await audited(office, "settlement") == []


@pytest.mark.usefixtures("quick")
async def test_the_journal_cannot_be_read(office, monkeypatch):
    """The reader finds no journal: the page says that the journal is the trouble, and not the list."""
    reza = await office.signed_in("reza")
    monkeypatch.setattr(
        office.panel,
        "settings",
        office.panel.settings.model_copy(update={"journal_url": "sqlite:////nowhere/j.db"}),
    )
    got = await upload(reza, CERTAIN)
    assert (got.status_code, "دفتر پرداخت‌ها در دسترس نیست" in got.text) == (503, True)


async def test_too_many_lists(office, monkeypatch):
    """Lists are read one by one; those beyond a few who wait are told to come again."""
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def ask(question):
        begun.release()
        await go_on.wait()
        return reconciler.work(question)

    monkeypatch.setattr(lists, "ask", ask)
    reza = await office.signed_in("reza")
    sent = [asyncio.create_task(upload(reza, CERTAIN)) for _ in range(lists.MOST_WAITING + 1)]
    await begun.acquire()
    done, _ = await asyncio.wait(sent, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert ([task.result().status_code for task in done], begun.locked()) == ([503], True)
    go_on.set()
    assert sorted([got.status_code for got in await asyncio.gather(*sent)]) == [200] * lists.MOST_WAITING + [
        503
    ]


async def test_only_so_many_are_kept(office):
    """A new result lets the oldest one go."""
    found = reconciler.work(reconciler.Question(CERTAIN.encode(), office.panel.settings.journal_url))
    with pytest.MonkeyPatch.context() as patch:

        async def ask(_question):
            return found

        patch.setattr(lists, "ask", ask)
        kept_lists = lists.Lists()
        ids = [(await kept_lists.read("reza", "x", None)).id for _ in range(lists.MOST + 1)]
    assert [kept_lists.find("reza", id_) is not None for id_ in ids] == [False] + [True] * lists.MOST


# -- card numbers, and the process of its own ---------------------------------------------------------

WHOLE = (
    f"{HEAD}A-1002,120000,700002,{CARD},2024-11-24,paid\n{CARD},5,7,6037-9912-3456-7893,2024-11-24,paid\n"
    f"B,1000,8,,2024-11-24,Odd {CARD}\nC,1000,{CARD},,2024-11-24,{CARD}\n"
)
SHAPES = (CARD, "6037-9912-3456-7893", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳", "99123456")


async def test_card_numbers_stay_nowhere(tmp_path, capfd):
    """Whole card numbers in cells, in the file's name and in the form: none in a page, the log, or the journal.

    Read as it is in service, by a process of its own, from an upload that never was on a disk.
    """
    async with open_office(tmp_path) as office:
        await begin(office, *ATTEMPTS[1])
        reza = await office.signed_in("reza")
        spooled = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tempfile._TemporaryFileWrapper.__init__", lambda *_: spooled.append(1))
            got = await upload(reza, WHOLE, f"C:\\لیست {CARD}.csv")
        assert (got.status_code, spooled) == (200, [])
        assert "۶۰۳۷۹۹******۷۸۹۳" in got.text
        applied = await reza.post(f"{got.url.path}/apply")
        assert "لیست 603799******7893.csv" in applied.text
        assert rows(office)[1]["evidence"] == "لیست 603799******7893.csv line 2"
        for page in office.seen:
            assert [shape for shape in SHAPES if shape in page.text] == []
            assert not holds_card(re.sub(r"<[^>]+>", " ", page.text))
    said = capfd.readouterr()
    kept_bytes = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [s for s in SHAPES if s in said.out + said.err or s.encode() in kept_bytes] == []


@pytest.mark.usefixtures("quick")
async def test_card_numbers_in_the_form(office):
    """Card numbers in headings, in the file's name and in the other fields are not shown again."""
    reza = await office.signed_in("reza")
    got = await upload(
        reza, WHOLE.replace("amount", CARD), f"{CARD}.csv", paid_status=CARD, heading_date=CARD, to=CARD
    )
    assert (got.status_code, [shape for shape in SHAPES if shape in got.text]) == (422, [])
    got = await upload(reza, WHOLE.replace("amount", CARD), paid_status=CARD, heading_date=CARD)
    assert (got.status_code, [shape for shape in SHAPES if shape in got.text]) == (422, [])


async def test_upload_stays_in_memory(office, monkeypatch):
    """The greatest file that is taken is never rolled over to a disk."""
    rolled = []
    reza = await office.signed_in("reza")
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda _self: rolled.append(1))

    async def ask(question):
        return reconciler.Failed(unreadable=None, journal=f"{len(question.content)}")

    monkeypatch.setattr(lists, "ask", ask)
    size = 4 * 1024 * 1024 - 1000
    got = await upload(reza, b"x\r\n" * (size // 3))
    assert (got.status_code, rolled) == (503, [])


async def test_reader_that_breaks(office, monkeypatch):
    """The reading process ends without a word: the page says that the panel has failed, and the next list is read."""
    reza = await office.signed_in("reza")
    with monkeypatch.context() as patch:
        said = pickle.dumps(reconciler.Failed(journal="half of an answer"))
        patch.setattr(lists, "PROGRAM", f"import sys; sys.stdout.buffer.write({said!r}); sys.exit(3)")
        assert (await upload(reza, CERTAIN)).status_code == 500
        patch.setattr(lists, "PROGRAM", "import time; time.sleep(100)")
        patch.setattr(lists, "PATIENCE", 0.05)
        got = await upload(reza, CERTAIN)
        assert (got.status_code, "بیش از اندازه طول کشید" in got.text) == (503, True)


# -- words --------------------------------------------------------------------------------------------


def notes():
    """Each note that the package makes: key, and the names of its values."""
    root = Path(ivr_agi.__file__).parent
    for path in (*sorted((root / "settlement").glob("*.py")), root / "reconciling.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                key = node.args[0]
                if node.func.id == "Note" and isinstance(key, ast.Constant):
                    yield key.value, frozenset(each.arg for each in node.keywords)
                elif node.func.id == "differ":
                    yield key.value, frozenset({"line", "attempt", "there", "here"})


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("fa", ["تاریخ: سطر ۲ از ۱۴۰۳/۰۹/۰۱ است و پرداخت ۱ از ۱۴۰۳/۰۹/۰۴", "کارت: ۶۱۰۴۳۳******۱۲۳۴ در", "مبلغ: ۱٬۰۰۰ ریال در"]),
        ("en", ["Date: line 2 is of 2024-11-21, payment 1 of 2024-11-24", "Card: 610433******1234 in", "Amount: 1,000 rials in"]),
    ],
)  # fmt: skip
def test_values_of_notes(language, said):
    """Days, amounts and cards in a note are written as the page's language writes them."""
    there = line(ref="", at=NOON - 3 * DAY, card=OTHER_CARD)
    found = [_told(note, language) for note in differences(there, attempt(amount=5))]
    plain = " | ".join(text.translate({ord(mark): "" for mark in "\u2066\u2068\u2069"}) for text in found)
    assert [text for text in said if text not in plain] == []


def test_every_note_has_words():
    """Each sentence about a list is there in both languages, and asks for no value that is not given."""
    found = dict(notes())
    assert len(found) > 40
    status = {"no_status": {"status"}, "unknown_status": {"status"}}  # added where the cell is known
    for key, given in found.items():
        for text in showing.words()[f"settlement.note_{key}"].values():
            assert {name for _, name, _, _ in string.Formatter().parse(text) if name} <= given | status.get(
                key, set()
            ), key
    spoken = {
        name.removeprefix("settlement.note_")
        for name in showing.words()
        if name.startswith("settlement.note_")
    }
    assert spoken == set(found)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_words(kind):
    """Each class has its title, and what a person must look at its advice."""
    assert showing.say(f"settlement.kind_{kind}", "fa")
    if kind not in (Kind.AT_EDGE, Kind.NOT_PAID, Kind.MATCHED):
        assert showing.say(f"settlement.advice_{kind}", "fa")
