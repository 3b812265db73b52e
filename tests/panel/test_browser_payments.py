"""The search for payments in a real browser: the list follows the form, and a whole card number goes nowhere."""

from urllib.parse import unquote_plus

import pytest
from line import CARD
from panel import crowd
from panel.browser import PHONE

from ivr_agi.model import holds_card

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROWS = [{"order_id": f"F-{n}", "method": "web" if n % 2 else "ivr"} for n in range(4)]
WHERE = '#rows td[data-label="سفارش"]'


async def test_the_list_follows_the_form(shop):
    """A choice changes the list and the address, at once; a wrong day is said at its field, and is gone once mended."""
    crowd.add(shop.line.journal, *ROWS)
    sara = await shop.person("sara")
    await sara.open("/payments")
    assert await sara.page.locator(WHERE).count() == 4
    await sara.page.locator("#method").select_option("web")
    await sara.page.wait_for_url("**/payments?method=web")
    assert await sara.page.locator(WHERE).all_inner_texts() == ["F-3", "F-1"]
    await sara.page.locator("#order").fill("F-3")
    await sara.page.keyboard.press("Enter")
    await sara.page.wait_for_url("**/payments?order=F-3&method=web")
    assert await sara.page.locator("#found").inner_text() == sara.say("payments.shown_one")
    await sara.page.locator("#from").fill("۱۴۰۵/۱۳/۰۱")
    await sara.page.locator("#to").focus()
    await sara.page.locator("#from-error").wait_for()
    assert sara.page.url.endswith("?order=F-3&method=web")
    await sara.page.locator("#from").fill("۱۴۰۵/۰۱/۰۱")
    await sara.page.locator("#to").focus()
    await sara.page.locator(WHERE).wait_for()
    assert await sara.page.locator("#from-error").count() == 0
    await sara.page.go_back()
    await sara.page.locator('#from[value=""]').wait_for()
    assert sara.page.url.endswith("?order=F-3&method=web")
    assert await sara.page.locator(WHERE).all_inner_texts() == ["F-3"]


async def test_a_card_is_not_sent(shop):
    """Whoever pastes a whole card number is told so, and no address has it: not by Enter, not by leaving the field."""
    sara = await shop.person("sara", size=PHONE)
    asked = []
    await sara.open("/payments")
    sara.page.on("request", lambda request: asked.append(request.url))
    for name, text in (("order", CARD), ("ref", "6037 9912 3456 7893"), ("mobile", "۶۰۳۷۹۹۱۲۳۴۵۶۷۸۹۳")):
        field = sara.page.locator(f"#{name}")
        await field.fill(text)
        assert await field.evaluate("input => input.validationMessage") == sara.say("payments.card")
        await sara.page.keyboard.press("Enter")
        await sara.button("payments.search").click()
        await field.fill("")
    assert not any(holds_card(unquote_plus(url)) for url in asked)
    await sara.page.locator("#order").fill("6037991234567890")  # its check digit is another
    await sara.page.keyboard.press("Enter")
    await sara.page.wait_for_url("**/payments?order=6037991234567890")


async def test_without_scripts(shop):
    """Without a script the form is an ordinary one, and so are the pages of the list."""
    crowd.add(shop.line.journal, *({"order_id": f"F-{n}"} for n in range(52)))
    sara = await shop.person("sara", java_script_enabled=False)
    await sara.open("/payments")
    await sara.link("base.older").click()
    assert await sara.page.locator(WHERE).count() == 2
    await sara.page.locator("#order").fill("F-7")
    await sara.button("payments.search").click()
    assert await sara.page.locator(WHERE).all_inner_texts() == ["F-7"]
