"""Payments in the panel: found by whatever is known, shown with all that is known, on paper once they are certain."""

import html
import re

import pytest
from line import CARD
from panel import crowd
from panel.test_charge import settled

from ivr_agi.journal import people
from ivr_agi.model import holds_card
from ivr_agi.panel import showing
from ivr_agi.panel.pages.payments import SHOWN

PERSIAN = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
OTHER = {"card": "610433******1111", "mobile": "+989351112233"}
# name -> an attempt; the ids are in this order, from 1 on
SHELF = {
    "paid": {"order_id": "P-1", "ref_id": "555000111222", "created_at": "2026-11-20T09:00:00.000+00:00"},
    "declined": {
        "order_id": "D-1",
        "state": "declined",
        "code": "51",
        "created_at": "2026-11-21T09:00:00.000+00:00",
    },
    "unknown": {
        "order_id": "U-1",
        "state": "unknown",
        "review": "charged",
        "reason": "read-timeout",
        **OTHER,
    },
    "failed": {"order_id": "N-1", "state": "failed", "reason": "hangup", "method": "web", **OTHER},
    "open": {"order_id": "O-1", "state": "otp_sent", **OTHER},
    "resolved": {"order_id": "R-1", "state": "resolved", "resolution": "paid", "ref_id": "777", **OTHER},
    "midnight": {
        "order_id": "T-1",
        "created_at": "2026-11-22T20:30:00.000+00:00",
        **OTHER,
    },  # Tehran's 23rd begins
}
NUMBER = {name: place for place, name in enumerate(SHELF, 1)}


@pytest.fixture
async def shelf(office):
    """An office with one payment of each kind, and an accountant who looks at it in English."""
    crowd.add(office.line.journal, *SHELF.values())
    office.reza = await in_english(office, "reza")
    return office


async def in_english(office, name):
    browser = await office.signed_in(name)
    await browser.get("/payments")
    await browser.post("/language", language="en", back="/panel/payments")
    return browser


def shown(page):
    """The numbers of the payments in a page's list, in its order."""
    rows = page.text.partition('<div id="rows"')[2]
    return [
        int(found) for found in re.findall(r'<td data-label="Payment"><a href="/panel/payments/(\d+)">', rows)
    ]


def table(page, key):
    """The payments under one of the headings of a payment's page."""
    return shown(
        type(
            "Part", (), {"text": f'<div id="rows"{page.text.partition(showing.say(key, "en") + "</h2>")[2]}'}
        )
    )


FOUND = {
    "order": ({"order": "P-1"}, {"paid"}),
    "no part of an order": ({"order": "P-"}, set()),
    "blanks around it": ({"order": " P-1 "}, {"paid"}),
    "tracking number": ({"ref": "555000111222"}, {"paid"}),
    "tracking number in Persian": ({"ref": "555000111222".translate(PERSIAN)}, {"paid"}),
    "mobile": ({"mobile": "09123456789"}, {"paid", "declined"}),
    "mobile, abroad": ({"mobile": "+98 912 345 6789"}, {"paid", "declined"}),
    "mobile, 0098": ({"mobile": "00989123456789"}, {"paid", "declined"}),
    "mobile in Persian": ({"mobile": "09123456789".translate(PERSIAN)}, {"paid", "declined"}),
    "mobile in Arabic digits": ({"mobile": "0912-345-6789".translate(ARABIC)}, {"paid", "declined"}),
    "last four": ({"last_four": "7893"}, {"paid", "declined"}),
    "last four in Persian": ({"last_four": "۷۸۹۳"}, {"paid", "declined"}),
    "from": ({"from": "2026-11-23"}, {"unknown", "failed", "open", "resolved", "midnight"}),
    "to": ({"to": "2026-11-20"}, {"paid"}),
    "to, the day before midnight": ({"to": "2026-11-22"}, {"paid", "declined"}),
    "one day": ({"from": "2026-11-21", "to": "2026-11-21"}, {"declined"}),
    "one Jalali day": ({"from": "1405/08/30", "to": "1405/08/30"}, {"declined"}),
    "one Jalali day in Persian": ({"from": "۱۴۰۵/۸/۳۰", "to": "۱۴۰۵-۰۸-۳۰"}, {"declined"}),
    "paid": ({"state": "paid"}, {"paid", "midnight"}),
    "unknown": ({"state": "unknown"}, {"unknown"}),
    "resolved": ({"state": "resolved"}, {"resolved"}),
    "open": ({"state": "open"}, {"open"}),
    "review": ({"state": "review"}, {"unknown"}),
    "by phone": ({"method": "ivr"}, set(SHELF) - {"failed"}),
    "from the panel": ({"method": "web"}, {"failed"}),
    "all at once": (
        {"mobile": "09123456789", "state": "paid", "from": "1405/08/01", "last_four": "7893"},
        {"paid"},
    ),
    "states nobody has": ({"state": "' OR 1=1 --", "method": "x"}, set(SHELF)),
}


async def test_found(shelf):
    """Each field finds what it should and nothing else, whatever the digits; the form keeps what was asked."""
    wrong = []
    for name, (asked, names) in FOUND.items():
        got = await shelf.reza.get("/payments", params=asked)
        kept = [
            f'name="{field}" type="{"tel" if field == "mobile" else "text"}" value="{value.strip()}"'
            in got.text
            for field, value in asked.items()
            if field not in ("state", "method")
        ]
        if (got.status_code, set(shown(got))) != (200, {NUMBER[each] for each in names}) or not all(kept):
            wrong.append((name, got.status_code, shown(got), kept))
    assert wrong == []


async def test_a_payments_own_number(shelf):
    """The number that a caller was told is found by the same field as the bank's."""
    got = await shelf.reza.get("/payments", params={"ref": "۳"})
    assert shown(got) == []
    assert 'There is also a payment of that number: <a href="/panel/payments/3"' in got.text
    assert "There is also" not in (await shelf.reza.get("/payments", params={"ref": "33"})).text


WRONG = {
    "mobile": ({"mobile": "0211234567"}, "mobile", "bad_mobile"),
    "last four": ({"last_four": "12"}, "last_four", "bad_last_four"),
    "last four letters": ({"last_four": "12ab"}, "last_four", "bad_last_four"),
    "from": ({"from": "yesterday"}, "from", "bad_day"),
    "no such day": ({"from": "1405/13/01"}, "from", "bad_day"),
    "to": ({"to": "28.11.26"}, "to", "bad_day"),
    "span": ({"from": "2026-11-20", "to": "2026-11-19"}, "to", "bad_span"),
}


async def test_wrong_field(shelf):
    """What cannot be read is said at its field; nothing is listed, as if there were no such filter."""
    for asked, name, word in WRONG.values():
        got = await shelf.reza.get("/payments", params=asked)
        said = html.escape(showing.say(f"payments.{word}", "en"))
        assert got.status_code == 422
        assert f'<p class="error" id="{name}-error">{said}</p>' in got.text
        assert f'value="{asked[name]}"' in got.text
        assert shown(got) == []


async def test_a_card_is_not_searched(shelf):
    """A whole card number in any field is refused with a sentence, and stands nowhere in the page."""
    forms = (CARD, "6037-9912-3456-7893", CARD.translate(PERSIAN), f"order {CARD}!")
    paths = ("/payments", "/payments.csv", "/payments.xlsx")
    for place, name in enumerate(
        ("order", "mobile", "ref", "last_four", "from", "to", "state", "method", "before", "x")
    ):
        for card in forms[place % 4 :: 2]:
            got = await shelf.reza.get(paths[place % 3], params={"state": "paid", name: card})
            assert got.status_code == 422
            assert html.escape(showing.say("payments.card", "en")) in got.text
            assert not holds_card(got.text)
            assert shown(got) == []
    assert shelf.line.journal._read(lambda c: people.entries(c, actions=["export"])) == []


async def test_pages(office):
    """120 payments in three pages: none twice, none left out, though others come meanwhile; and back to the newest."""
    moments = [f"2026-11-0{1 + number // 20}T09:00:00.000+00:00" for number in range(120)]  # each has twenty
    crowd.add(
        office.line.journal, *({"order_id": at + str(n), "created_at": at} for n, at in enumerate(moments))
    )
    reza = await in_english(office, "reza")
    got = await reza.get("/payments", params={"state": "paid"})
    seen = [shown(got)]
    while older := re.search(r'rel="next" href="([^"]+)"', got.text):
        crowd.add(office.line.journal, order_id=f"B-{len(seen)}")
        got = await reza.get(html.unescape(older[1]))
        seen.append(shown(got))
    assert [len(page) for page in seen] == [SHOWN, SHOWN, 20]
    assert [number for page in seen for number in page] == list(range(120, 0, -1))
    assert "state=paid" in str(got.url)
    newest = re.search(r'rel="prev" href="([^"]+)"', got.text)[1]
    assert shown(await reza.get(html.unescape(newest)))[:2] == [122, 121]
    assert shown(await reza.get("/payments?before=999999")) == shown(await reza.get("/payments?before=x"))


async def test_for_htmx(shelf):
    """For htmx only the rows come, with an address to keep; with a wrong field the form, and no address."""
    reza, asks = shelf.reza, {"HX-Request": "true", "HX-Target": "rows"}
    got = await reza.get("/payments", params={"order": "P-1", "mobile": "", "state": ""}, headers=asks)
    assert shown(got) == [1]
    assert "<html" not in got.text
    assert "<form" not in got.text
    assert got.headers["HX-Push-Url"] == "/panel/payments?order=P-1"
    assert 'hx-swap-oob="true">1 on this page<' in got.text
    got = await reza.get("/payments", params={"from": "x"}, headers=asks)
    assert (got.status_code, got.headers["HX-Retarget"], got.headers["HX-Push-Url"]) == (
        200,
        "#search",
        "false",
    )
    assert 'id="from-error"' in got.text
    assert 'hx-target="#search"' in got.text
    got = await reza.get("/payments", params={"order": "P-1"}, headers=asks | {"HX-Target": "search"})
    assert 'hx-target="#rows"' in got.text
    assert (got.headers["HX-Retarget"], got.headers["HX-Push-Url"]) == (
        "#search",
        "/panel/payments?order=P-1",
    )
    got = await reza.get("/payments", params={"order": CARD}, headers=asks)
    assert (got.status_code, got.headers["HX-Push-Url"]) == (200, "false")
    assert CARD not in got.text


HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|'/C calc'!A0",
    "\u202e000,05\u202c",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
]


async def test_hostile(office):
    """An order, a note, a reason, an evidence that somebody made up is text, apart from what stands around it."""
    fields = ("order_id", "reason", "evidence", "resolved_by", "owner", "call", "ref_id", "note")
    resolved = {"state": "resolved", "resolution": "paid"}
    crowd.add(office.line.journal, *(dict.fromkeys(fields, order) | resolved for order in HOSTILE))
    reza = await in_english(office, "reza")
    for number, order in enumerate(HOSTILE, 1):
        text = re.escape(html.escape(order, quote=False).translate(QUOTED))
        for path in ("/payments", f"/payments/{number}", f"/payments/{number}/receipt"):
            got = await reza.get(path, params={"order": order} if path == "/payments" else None)
            assert got.status_code == 200
            assert len(re.findall(rf"<bdi[^>]*>{text}</bdi>", got.text)) >= (
                6 if path.endswith(str(number)) else 1
            )
            main = got.text.partition("<main")[2]
            assert len(re.findall(text, main)) == len(re.findall(rf"(?:<bdi[^>]*>|value=\"){text}", main))
            for unsafe in (HOSTILE[0], HOSTILE[3], ">49<"):
                assert unsafe not in main


QUOTED = {ord("'"): "&#39;", ord('"'): "&#34;"}


async def test_payment(office):
    """A payment that an operator took: every fact, each step with its time, and who has done it."""
    sara = await in_english(office, "sara")
    sale = (await sara.begin(order="F-77")).url.path
    await sara.post(f"{sale}/pin", pin=office.pin())
    await settled(sara, sale)
    (row,) = office.line.attempts()
    got = await sara.get("/payments/1")
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd>(.*?)</dd>", got.text, re.DOTALL))
    facts = {name: " ".join(re.sub(r"<[^>]+>", " ", value).split()) for name, value in facts.items()}
    assert facts.pop("Begun")
    assert facts.pop("Last changed")
    assert facts.pop("Process") == row["owner"]
    assert facts == {
        "State": "Paid",
        "Order": "F-77",
        "Amount": "50,000 rials (5,000 toman)",
        "Tracking number": row["ref_id"],
        "Card": "603799******7893",
        "Mobile": "0912\u00a0345\u00a06789".replace("\u00a0", " "),
        "Caller": "0912 345 6789",
        "How": "From the panel",
        "Can be paid again": "No: the order is held by this payment",
        "One-time PINs": "1 asked for, 1 sent",
    }
    said = re.findall(r"<li><b>([^<]+)</b>", got.text)
    assert said == ["Begun", "PIN sent", "Being paid", "Paid"]
    assert len(re.findall(r"gateway: <?[0-9.]+ (?:ms|s)", got.text)) == 2
    assert re.search(
        r'data-label="Who"><bdi>sara</bdi></td>\s*<td data-label="Action">payment begun<', got.text
    )
    assert "/panel/payments/1/receipt" in got.text


async def test_unknown(shelf):
    """A payment in doubt: what to do, why, and for who may settle it the way there."""
    got = await shelf.reza.get("/payments/3")
    for word in ("unknown", "unknown_do_1", "unknown_do_3"):
        assert html.escape(showing.say(f"charge.{word}", "en"), quote=False) in html.unescape(got.text)
    assert "to note the number 3" in got.text
    assert "The gateway did not answer in time" in got.text
    assert 'href="/panel/review"' in got.text.partition("<main")[2]
    sara = await in_english(shelf, "sara")
    assert 'href="/panel/review"' not in (await sara.get("/payments/3")).text
    assert "still under way" in (await sara.get("/payments/5")).text


async def test_why(shelf):
    """The bank's code and what it means; what a person has found out, and on what evidence."""
    got = await shelf.reza.get("/payments/2")
    assert '<bdi class="ltr">51</bdi><br>There is not enough money on this card for this payment.' in got.text
    assert "51: There is not enough money" in (await shelf.reza.get("/payments")).text
    got = await shelf.reza.get("/payments/6")
    for text in ("Settled: paid", "<dd><bdi>reza</bdi></dd>", "<dd><bdi>the bank&#39;s list</bdi></dd>"):
        assert text in got.text


async def test_others(office):
    """Other attempts of the order; of the card too, where it was hashed: another card of the same mask is no other."""
    journal = office.line.journal
    crowd.add(journal, state="failed", reason="hangup", card_hash="k1:a")
    crowd.add(journal, state="declined", code="51", card_hash="k1:b")
    crowd.add(journal, order_id="other", card_hash="k1:a")
    crowd.add(journal, order_id="unhashed")
    reza = await in_english(office, "reza")
    got = await reza.get("/payments/1")
    assert table(got, "payments.same_order")[0] == 2
    assert table(got, "payments.same_card") == [3]
    got = await reza.get("/payments/4")
    assert "Other payments of" not in got.text


async def test_receipt(shelf):
    """Merchant, order, amount in figures and words, tracking number, mask, both dates, time, number; and a button."""
    for language, texts in {
        "en": (
            "Payment receipt",
            "P-1",
            "50,000 rials",
            "5,000 toman",
            "fifty thousand rials",
            "555000111222",
        ),
        "fa": ("رسید پرداخت", "P-1", "۵۰٬۰۰۰ ریال", "۵٬۰۰۰ تومان", "پنجاه هزار ریال", "۵۵۵۰۰۰۱۱۱۲۲۲"),
    }.items():
        await shelf.reza.post("/language", language=language, back="/panel/payments/1/receipt")
        got = await shelf.reza.get("/payments/1/receipt")
        assert got.status_code == 200
        main = got.text.partition("<main")[2]
        clock = "12:30:00" if language == "en" else "۱۲:۳۰:۰۰"
        card = "603799******7893" if language == "en" else "۶۰۳۷۹۹******۷۸۹۳"
        for text in (*texts, "فروشگاه نمونه", card, "۱۴۰۵/۰۸/۲۹", "2026-11-20", clock, "data-print"):
            assert text in main, text
    assert (await shelf.reza.get("/payments/6/receipt")).status_code == 200


async def test_no_receipt(shelf):
    """What is not certain to have been paid has no receipt, and its page leads to none."""
    for name in ("declined", "unknown", "failed", "open"):
        got = await shelf.reza.get(f"/payments/{NUMBER[name]}/receipt")
        assert got.status_code == 409
        assert showing.say("payments.no_receipt", "en") in got.text
        assert "data-print" not in got.text
        assert "/receipt" not in (await shelf.reza.get(f"/payments/{NUMBER[name]}")).text


async def test_not_paid_after_all(office):
    """What a person has found not to be paid has no receipt either, and no badge of a good end."""
    crowd.add(office.line.journal, state="resolved")
    reza = await in_english(office, "reza")
    assert (await reza.get("/payments/1/receipt")).status_code == 409
    assert '<span class="badge badge-failed">Settled: not paid</span>' in (await reza.get("/payments")).text


async def test_none_such(office):
    """A number that no payment has."""
    sara = await office.signed_in("sara")
    for path in ("/payments/7", "/payments/7/receipt", "/payments/x", "/payments/-1"):
        assert (await sara.get(path)).status_code == 404


async def test_who_may(shelf):
    """Everybody who works here may look, nobody else."""
    for name in ("sara", "reza", "mina"):
        browser = await shelf.signed_in(name)
        for path in ("/payments", "/payments/1", "/payments/1/receipt"):
            assert (await browser.get(path)).status_code == 200
    stranger = shelf.browser()
    for path in ("/payments", "/payments/1", "/payments/1/receipt", "/payments.csv", "/payments.xlsx"):
        assert (await stranger.get(path)).url.path == "/panel/login"


async def test_no_card(shelf):
    """After a payment no page of this section has the number of its card."""
    sara = await shelf.signed_in("sara")
    sale = (await sara.begin(order="F-1")).url.path
    await sara.post(f"{sale}/pin", pin=shelf.pin())
    await settled(sara, sale)
    for path in ("/payments", "/payments/8", "/payments/8/receipt"):
        assert (await sara.get(path)).status_code == 200
    for path in ("/payments.csv", "/payments.xlsx"):
        assert (await shelf.reza.get(path)).status_code == 200
    for got in shelf.seen:
        assert CARD not in got.text
        assert CARD.translate(PERSIAN) not in got.text
