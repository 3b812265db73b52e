"""Where card and PIN are after a payment in a real browser, behind a real nginx: nowhere."""

import json

import pytest
from line import CARD
from panel.browser import Person
from panel.nginx import open_proxied
from panel.office import PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEPT = """
async () => {
  const databases = await indexedDB.databases();
  const caches_ = await caches.keys();
  return JSON.stringify([{ ...localStorage }, { ...sessionStorage }, databases, caches_, document.cookie, history.state, name]);
}
"""
FIELDS = "all => all.map((each) => [each.name, each.type, each.autocomplete, each.value])"


async def test_card_and_pin_are_nowhere(tmp_path, browser, capfd):
    """Not in an answer, a cookie, the browser's stores, a page that one goes back to, a log, or the journal's bytes."""
    async with open_proxied(tmp_path) as proxied:
        page = await browser.take(fresh=True, ignore_https_errors=True)
        sara = Person(f"{proxied.url}/panel", page, "fa", kept=False)
        await sara.sign_in("sara")
        await sara.reads("charge.title")
        await sara.fill_in("A-1", "5", "09123456789", CARD)
        await sara.button("charge.begin").click()
        await sara.page.locator("#amount-error").wait_for()
        fields = await sara.page.locator("#card").evaluate_all(FIELDS)
        await sara.begin()
        pin = proxied.office.pin()
        await sara.pay(pin[:4])
        await sara.page.locator("#pin-error").wait_for()
        fields += await sara.page.locator("#pin").evaluate_all(FIELDS)
        await sara.begin("A-2")
        await sara.reads("charge.pin_title")
        pin = proxied.office.pin()
        await sara.pay(pin)
        await sara.reads("charge.paid_title")
        shown = []
        for turn in (page.go_back, page.go_back, page.go_forward, page.go_forward):
            await turn()
            await sara.heading.wait_for()
            shown += [await page.content(), json.dumps(await page.locator("input").evaluate_all(FIELDS))]
        await sara.open("/payments")
        shown.append(await page.content())
        stored = await page.evaluate(KEPT)
        cookies = await sara.context.cookies()
        assert sara.troubles == []
        await sara.context.close()
        assert len(proxied.office.line.gateway.charges) == 1
    assert fields == [["card", "text", "off", ""], ["pin", "password", "off", ""]]
    assert {(each["secure"], each["httpOnly"], each["sameSite"]) for each in cookies} == {
        (True, True, "Strict")
    }
    # htmx keeps the path of the page; the whole of it goes when one signs out (Clear-Site-Data)
    assert json.loads(stored) == [
        {},
        {"htmx-current-path-for-history": "/panel/payments"},
        [],
        [],
        "",
        None,
        "",
    ]
    everywhere = {
        "pages": "".join(shown),
        "answers": b"".join(proxied.answers).decode(errors="replace"),
        "cookies": json.dumps(cookies),
        "nginx": proxied.logs(),
        "log": "".join(capfd.readouterr()),
        "journal": "".join(each.read_bytes().decode("latin-1") for each in tmp_path.glob("journal.db*")),
    }
    assert all(everywhere.values())
    for secret in (CARD, pin, PASSWORD, CARD.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))):
        assert [where for where, text in everywhere.items() if secret in text] == []
