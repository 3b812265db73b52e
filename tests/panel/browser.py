"""The panel in a real browser: Debian's Chromium, the real web server, a line, and the people who sit before it.

One browser serves a whole worker, on a loop that lives as long as it does (`loop_scope="session"`); each person has
a context of his own, which keeps what the browser complains of: errors of scripts, whatever the policy forbids,
files that are not there. A test that leaves complaints behind fails.
"""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager, suppress

import pytest
from line import CARD, sample_card
from panel.office import PASSWORD, open_office

from ivr_agi.panel import showing
from ivr_agi.panel.guard import SESSION_COOKIE
from ivr_agi.panel.showing import LANGUAGE_COOKIE
from ivr_agi.web import Health, Web

# The shell is the same engine without a desktop's windows: a context costs a quarter of the time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser")
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
SIZES = {"desk": DESK, "phone": PHONE}
LANGUAGES = ("fa", "en")
# A page may be a refusal (403, 422), which is told to the console (files are seen to below); and a search that is
# sent before the last one has answered takes its place.
HARMLESS = ("Failed to load resource", "htmx:sendAbort", "htmx:afterRequest")
PATIENCE = 15_000  # milliseconds for whatever a page is to come to
# What a page does that its policy forbids is told to its console, and to this.
WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


def find_browser():
    """Where the browser is; without one a test is skipped, on CI it fails."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no chromium: `make test` installs it")
    return found


class Browser:
    """A browser without a window. What it has downloaded of ours, style and script, it keeps for the next test."""

    def __init__(self, chromium):
        self._chromium = chromium
        self._idle = []
        self.port = 0  # of the shops, one after the other: another one would be another site

    async def take(self, *, fresh=False, **options):
        """A page in a context of its own; fresh: of which nobody has made use, and nobody will."""
        if self._idle and not (fresh or options):
            return self._idle.pop()
        context = await self._chromium.new_context(**options)
        await context.add_init_script(WATCH)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE)
        return page

    async def give_back(self, page):
        """Whatever it knew of somebody is gone; the next one has his own session."""
        await page.context.clear_cookies()
        self._idle.append(page)


@asynccontextmanager
async def open_browser():
    """Debian's Chromium. Nothing is downloaded."""
    program = find_browser()
    from playwright.async_api import async_playwright  # noqa: PLC0415 - only who has a browser needs it

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=program,
            chromium_sandbox=False,  # root has none, nor has who installed no helper for it; the pages are our own
            args=["--disable-gpu-compositing", "--disable-lcd-text"],
        )
        try:
            yield Browser(chromium)
        finally:
            await chromium.close()


class Person:
    """Somebody at a browser. page: what is before him; troubles: what the browser complained of."""

    def __init__(self, url, page, language, *, kept):
        self.url = url
        self.context = page.context
        self.page = page
        self.language = language
        self.kept = kept  # whether his browser is for the next one, too
        self.troubles = []
        self._listening = {
            "console": self._heard,
            "pageerror": lambda error: self.troubles.append(f"script: {error}"),
            "response": self._answered,
        }
        for event, listener in self._listening.items():
            page.on(event, listener)

    def _heard(self, message):
        if message.type in ("error", "warning") and not message.text.startswith(HARMLESS):
            self.troubles.append(f"{message.type}: {message.text}")

    def _answered(self, response):
        if response.status >= 400 and response.request.resource_type != "document":
            self.troubles.append(f"{response.status}: {response.url}")

    async def leave(self, browser):
        """Leave the browser as it was found, at a page of the same site: another site's is another process."""
        for event, listener in self._listening.items():
            self.page.remove_listener(event, listener)
        if self.kept:
            with suppress(Exception):  # after a test that failed: the browser may be anywhere
                await self.page.goto(f"{self.url}/static/icon.svg")
                await browser.give_back(self.page)
                return
        await self.context.close()

    async def keep(self, name, value):
        """Have a cookie of the panel's."""
        cookie = {"name": name, "value": value, "url": self.url, "httpOnly": True, "sameSite": "Strict"}
        await self.context.add_cookies([cookie])

    async def open(self, path):
        """Open a page of the panel by its path there."""
        return await self.page.goto(f"{self.url}{path}")

    def say(self, key, **values):
        """A sentence of the panel, as this person reads it."""
        return showing.say(key, self.language, **values)

    def labelled(self, key):
        """A field, by its label."""
        return self.page.get_by_label(self.say(key))

    def button(self, key, **values):
        return self.page.get_by_role("button", name=self.say(key, **values))

    def link(self, key, **values):
        return self.page.get_by_role("link", name=self.say(key, **values))

    @property
    def heading(self):
        return self.page.get_by_role("heading", level=1)

    async def sees(self, key, **values):
        """Wait until a sentence stands on the page."""
        await self.page.get_by_text(self.say(key, **values)).first.wait_for()

    async def reads(self, key, **values):
        """Wait until the page has this heading."""
        await self.page.get_by_role("heading", level=1, name=self.say(key, **values), exact=True).wait_for()

    @staticmethod
    async def middle_of(locator):
        """Where to click by hand, whatever happens there."""
        await locator.scroll_into_view_if_needed()
        box = await locator.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    async def sign_in(self, name, password=PASSWORD):
        await self.open("/login")
        await self.labelled("entrance.name").fill(name)
        await self.labelled("entrance.password").fill(password)
        await self.button("entrance.sign_in").click()

    async def begin(self, order="A-1", amount="50000", mobile="09123456789", card=CARD):
        """Fill in the form for a payment and have the PIN sent."""
        await self.open("/charge")
        await self.fill_in(order, amount, mobile, card)
        await self.button("charge.begin").click()

    async def fill_in(self, order, amount, mobile, card):
        for key, text in {"order_id": order, "amount": amount, "mobile": mobile, "card": card}.items():
            await self.labelled(f"charge.{key}").fill(text)

    async def pay(self, pin):
        """Key in the PIN and press the button."""
        await self.labelled("charge.pin").fill(pin)
        await self.page.get_by_role("button", name=self.say("charge.pay", money="")).click()


class Shop:
    """An office that is served over HTTP, and the people in it."""

    def __init__(self, office, url, browser):
        self.office = office
        self.line = office.line
        self.gateway = office.line.gateway
        self.url = url
        self.people = []
        self._browser = browser

    async def person(self, name="", *, language="fa", size=DESK, fresh=False, **options):
        """Somebody with a browser of his own; signed in, without the form, if he has a name."""
        kept = not (fresh or options)
        page = await self._browser.take(fresh=fresh, **options)
        await page.set_viewport_size(size)
        person = Person(self.url, page, language, kept=kept)
        self.people.append(person)
        if language != "fa":
            await person.keep(LANGUAGE_COOKIE, language)
        if name:
            cookie = await self.office.panel.sessions.sign_in(name, PASSWORD, "127.0.0.1")
            await person.keep(SESSION_COOKIE, cookie)
        return person

    async def close(self):
        for person in self.people:
            await person.leave(self._browser)


@asynccontextmanager
async def open_shop(folder, browser, **given):
    """An office with its web server; settings by name."""
    async with open_office(folder, **given) as office:
        health = Health(office.line.journal, lambda: True)
        web = Web("127.0.0.1", browser.port, health, office.panel)
        port = await web.start()
        if port is None:  # somebody else has taken it meanwhile
            web = Web("127.0.0.1", 0, health, office.panel)
            port = await web.start()
        browser.port = port
        shop = Shop(office, f"http://127.0.0.1:{port}/panel", browser)
        try:
            yield shop
        finally:
            await shop.close()
            await office.panel.close()
            await web.stop()


async def open_day(line):
    """A day of the shop's: callers who paid, were declined, hung up; one payment that nobody knows the outcome of."""
    for number in range(3):
        await line.call(line.buyer(), f"amount={125_000 * (number + 1)}&order_id=F-140{number}")
    poor, cut = sample_card("51", "610433"), sample_card("cut", "627353")
    await line.call(line.buyer(poor), "amount=980000&order_id=F-1403")
    await line.call(line.buyer(cut), "amount=2450000&order_id=F-1404")
    await line.call({"confirm-amount": "2"}, "amount=40000&order_id=F-1405")
    await line.call({}, "amount=40000&order_id=F-1406")


__all__ = [
    "DESK",
    "LANGUAGES",
    "PHONE",
    "SIZES",
    "Person",
    "Shop",
    "find_browser",
    "open_browser",
    "open_shop",
]
