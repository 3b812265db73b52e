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
from line import CARD
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
COOKIE = {"httpOnly": True, "sameSite": "Strict"}
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


@asynccontextmanager
async def open_browser():
    """A browser without a window. Nothing is downloaded: it is the machine's own."""
    program = find_browser()
    from playwright.async_api import async_playwright  # noqa: PLC0415 - only who has a browser needs it

    async with async_playwright() as playwright:
        sandbox = os.getuid() != 0  # the browser refuses to have one as root
        browser = await playwright.chromium.launch(executable_path=program, chromium_sandbox=sandbox)
        try:
            yield browser
        finally:
            await browser.close()


class Person:
    """Somebody at a browser. page: what is before him; troubles: what the browser complained of."""

    def __init__(self, url, context, page, language):
        self.url = url
        self.context = context
        self.page = page
        self.language = language
        self.troubles = []
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.troubles.append(f"script: {error.error}"))
        context.on("response", self._answered)
        page.set_default_timeout(15_000)

    def _heard(self, message):
        # A page may be a refusal (403, 422): that is told to the console, too. Files are seen to below.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.troubles.append(f"{message.type}: {message.text}")

    def _answered(self, response):
        if response.status >= 400 and response.request.resource_type != "document":
            self.troubles.append(f"{response.status}: {response.url}")

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

    async def person(self, name="", *, language="fa", size=DESK, **context):
        """Somebody with a browser of his own; signed in, without the form, if he has a name."""
        made = await self._browser.new_context(viewport=size, **context)
        made.set_default_timeout(15_000)
        await made.add_init_script(WATCH)
        if language != "fa":
            chosen = {**COOKIE, "name": LANGUAGE_COOKIE, "value": language, "url": self.url}
            await made.add_cookies([chosen])
        person = Person(self.url, made, await made.new_page(), language)
        self.people.append(person)
        if name:
            cookie = await self.office.panel.sessions.sign_in(name, PASSWORD, "127.0.0.1")
            await made.add_cookies([{**COOKIE, "name": SESSION_COOKIE, "value": cookie, "url": self.url}])
        return person

    async def close(self):
        for person in self.people:
            with suppress(Exception):  # it may have crashed; the test has said so
                await person.context.close()


@asynccontextmanager
async def open_shop(folder, browser, **given):
    """An office with its web server; settings by name."""
    async with open_office(folder, **given) as office:
        web = Web("127.0.0.1", 0, Health(office.line.journal, lambda: True), office.panel)
        port = await web.start()
        shop = Shop(office, f"http://127.0.0.1:{port}/panel", browser)
        try:
            yield shop
        finally:
            await shop.close()
            await office.panel.close()
            await web.stop()


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
