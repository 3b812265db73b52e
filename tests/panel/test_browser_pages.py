"""Every page of the panel as people see it: in both languages, on a desk and on a phone, light and dark.

A page must fit both screens, be in its language, run nothing that its policy forbids, and have no serious fault of
accessibility by axe-core: all rules once in each language, and in Persian those that a screen's size and colours have
a say in a second time, on the other screen in the other colours.
"""

import asyncio
import re
from pathlib import Path

import axe_playwright_python
import pytest
from line import Thinking, sample_card
from panel.browser import DESK, PHONE, open_day
from starlette.routing import Route

from ivr_agi.panel import showing

pytestmark = pytest.mark.asyncio(loop_scope="session")

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OF_THE_SCREEN = ["color-contrast", "target-size", "scrollable-region-focusable"]
# Pages by the route that they are of; `sale` and `settlement_result` come about below.
PAGES = {
    "login": "/login",
    "charge": "/charge",
    "payments": "/payments",
    "payment": "/payments/5",
    "receipt": "/payments/1/receipt",
    "review": "/review",
    "review_one": "/review/5",
    "settlement": "/settlement",
    "today": "/today",
    "live": "/live",
    "phone": "/phone",
    "audit": "/audit",
}
NO_PAGES = {"home", "live_events", "phone_events", "phone_sound", "payments_csv", "payments_xlsx", None}
FOUND = """
async (only) => {
  const options = { resultTypes: ["violations"], preload: false, iframes: false, runOnly: only };
  const found = (await axe.run(document, options)).violations;
  return found.map((each) => [each.impact, each.id, each.nodes.map((node) => `${node.html} ${node.failureSummary}`)]);
}
"""
# Text that stands in no element which says whose language it is in: our own sentences.
OURS = """
() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const inside = node.parentElement.closest("bdi, script, noscript, [lang]:not(html), .ltr");
    if (!inside && node.textContent.trim()) texts.push(node.textContent.trim());
  }
  return texts;
}
"""
# What Persian sentences have in Latin letters: names, words of those who set the system up, and what is isolated as
# somebody else's.
LATIN = re.compile(
    r"\u2068[^\u2069]*\u2069|CSV|HTML|Excel|UTF-8|PayStar|pay|otp-v2|p50|p95|p99|PIN|dialplan|Enter|ivr-agi|user|add|journal|reconcile|MB|\b[A-Z]-?\d"
)


class Look:
    """Looks at pages, and keeps what is wrong with them."""

    def __init__(self, person, screens):
        self.person = person
        self.screens = screens
        self.wrong = []

    async def at(self, path):
        """Open a page and look at it on each screen."""
        await self.person.open(path)
        await self.at_this(path)

    async def at_this(self, name):
        page = self.person.page
        self.name = name
        await page.evaluate(AXE)
        head = await page.evaluate(
            "[document.documentElement.lang, document.documentElement.dir, document.title]"
        )
        language = self.person.language
        self.need(head[:2] == [language, {"fa": "rtl", "en": "ltr"}[language]], f"is {head}")
        self.need(len(head[2]) > 5, f"has the title {head[2]!r}")
        self.need(await page.locator("h1").count() == 1, "has not one heading")
        await self.read(await page.evaluate(OURS))
        for size in (DESK, PHONE):
            await page.set_viewport_size(size)
            wide = await page.evaluate("document.scrollingElement.scrollWidth")
            self.need(wide <= size["width"], f"is {wide} pixels wide on {size}")
        for only, (size, scheme) in zip((WCAG, OF_THE_SCREEN), self.screens, strict=False):
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for impact, rule, nodes in await page.evaluate(FOUND, only):
                self.need(impact not in ("serious", "critical"), f"{scheme}, {size}: {rule} {nodes[:3]}")

    async def read(self, texts):
        """No other language's words, and no word's name for its text."""
        for text in texts:
            self.need(not re.search(r"\b[a-z]+\.[a-z_]{3,}\b", text), f"says {text!r}")
            if self.person.language == "fa":
                self.need(not re.search(r"[A-Za-z]{2,}", LATIN.sub("", text)), f"says in English {text!r}")
                self.need(not re.search(r"[0-9]", LATIN.sub("", text)), f"has European digits in {text!r}")
            else:
                self.need(not re.search(r"[؀-ۿ]", text), f"says in Persian {text!r}")

    def need(self, holds, else_):
        if not holds:
            self.wrong.append(f"{self.name} {else_}")


@pytest.mark.parametrize(
    ("language", "screens"),
    [
        ("fa", ((DESK, "light"), (PHONE, "dark"))),
        ("en", ((PHONE, "light"),)),
    ],
    ids=["fa", "en"],
)
async def test_every_page(shop, language, screens):
    """All of them, as the one who may see all; none is wrong in any way."""
    await open_day(shop.line)
    mina = await shop.person("mina", language=language)
    look = Look(mina, screens)
    thinking = Thinking("")
    channel = await shop.line.dial(shop.line.buyer(enter_pin=thinking), "amount=70000&order_id=F-1407")
    calling = asyncio.create_task(channel.run())
    await thinking.asked.wait()
    for path in PAGES.values():
        if path != "/login":
            await look.at(path)
    channel.hang_up()
    thinking.go_on.set()
    await calling
    await look.at("/no-such-page")
    await look.at("/today?period=last-month")
    await look.at("/payments?order=nothing-of-this-name")
    listed = "order,amount,rrn,date,status\nF-1404,2450000,240000000002,2026-11-28,paid\nF-9,5,x,1,odd\n"
    await mina.open("/settlement")
    await mina.labelled("settlement.file").set_input_files(
        {"name": "list.csv", "mimeType": "text/csv", "buffer": listed.encode()}
    )
    await mina.button("settlement.send").click()
    await mina.sees("settlement.result_title")
    await look.at_this("settlement_result")
    await mina.context.clear_cookies()
    if language != "fa":
        await mina.keep(showing.LANGUAGE_COOKIE, language)
    await look.at("/login")
    assert "\n".join(look.wrong) == ""


async def test_every_state_of_a_sale(shop):
    """The form with all its faults, the PIN, and the outcomes."""
    sara = await shop.person("sara")
    look = Look(sara, ((PHONE, "light"), (DESK, "dark")))
    await sara.begin("x" * 51, "1", "1", "1")
    await sara.page.locator("#card-error").wait_for()
    await look.at_this("charge with faults")
    for name, title in (("paid", "paid"), ("55", "declined"), ("cut", "unknown")):
        card = sample_card(name)
        await sara.begin(f"A-{name}", card=card)
        await sara.reads("charge.pin_title")
        if name == "paid":
            await look.at_this("sale: PIN")
        await sara.pay(shop.office.pin(card))
        await sara.reads(f"charge.{title}_title")
        await look.at_this(f"sale: {name}")
    assert "\n".join(look.wrong) == ""


async def test_no_page_is_forgotten(shop):
    """Each address that answers a GET is looked at here, or is said to be no page."""
    routes = [each for each in shop.office.panel._app.routes if isinstance(each, Route)]
    pages = {each.name for each in routes if "GET" in each.methods}
    assert pages - NO_PAGES == {*PAGES, "sale", "settlement_result"}
