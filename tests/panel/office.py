"""A merchant's office for tests: a payment line with its panel, users of each role, and browsers without a screen."""

from __future__ import annotations

import html
import re
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network

import httpx
from argon2 import PasswordHasher
from line import CARD, open_line
from starlette.applications import Starlette
from starlette.routing import Mount

from ivr_agi.journal import people
from ivr_agi.panel import wall
from ivr_agi.panel.app import Panel
from ivr_agi.panel.passwords import Passwords

SECRET = "a secret of the tests and long enough"  # noqa: S105
PASSWORD = "a password of 2026"  # noqa: S105
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
KEPT = QUICK.hash(PASSWORD)
USERS = {"sara": "operator", "omid": "operator", "reza": "accountant", "mina": "admin"}


class Browser:
    """Somebody at a browser: keeps cookies, sends the form that was last shown. seen: every answer."""

    def __init__(self, app, seen, address="127.0.0.1"):
        transport = httpx.ASGITransport(app, client=(address, 50000), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost:8573")
        self.seen = seen
        self.page = None

    async def get(self, path, **options):
        """Open a page; redirects are followed, as a browser does."""
        return await self._keep(await self.client.get(_full(path), follow_redirects=True, **options))

    async def post(self, path, follow=True, **fields):
        """Send a form; the last page's token unless `csrf` is given, every other field by name."""
        fields = {"csrf": self.token} | fields
        got = await self.client.post(_full(path), data=fields, follow_redirects=follow)
        return await self._keep(got)

    async def sign_in(self, name, password=PASSWORD):
        await self.get("/login")
        return await self.post("/login", name=name, password=password)

    async def begin(self, order="A-1", amount="50000", mobile="09123456789", card=CARD, ticket=None):
        """Fill in the form for a payment."""
        await self.get("/charge")
        return await self.post(
            "/charge",
            order_id=order,
            amount=amount,
            mobile=mobile,
            card=card,
            ticket=ticket or self.hidden("ticket"),
        )

    @property
    def token(self):
        return self.hidden("csrf")

    def hidden(self, name):
        found = (
            re.search(rf'name="{name}" value="([^"]*)"', self.page.text) if self.page is not None else None
        )
        return html.unescape(found[1]) if found else ""

    async def _keep(self, got):
        self.seen.append(got)
        if "html" in got.headers.get("content-type", ""):
            self.page = got
        return got


def _full(path):
    return path if path.startswith("/panel") else f"/panel{path}"


class Office:
    """The line, its panel, and the browsers of those who work there."""

    def __init__(self, line, panel):
        self.line = line
        self.panel = panel
        self.app = Starlette(routes=[Mount("/panel", panel)])
        self.seen = []

    def browser(self, address="127.0.0.1"):
        return Browser(self.app, self.seen, address)

    async def signed_in(self, name):
        browser = self.browser()
        got = await browser.sign_in(name)
        assert got.status_code == 200
        return browser

    def pin(self, card=CARD):
        """The last one-time PIN that a card was sent."""
        return self.line.gateway.pin_for(card)


@asynccontextmanager
async def open_office(folder, users=USERS, **given):
    """An office; settings by name. users: () for those that are there already."""
    given = {"panel_secret": SECRET, "merchant_name": "فروشگاه نمونه", **given}
    async with open_line(folder, **given) as line:
        for name, role in dict(users).items():
            line.journal.now(partial(people.add, name=name, role=role, password=KEPT))
        panel = Panel(
            line.server._settings, line.journal, line.payments, line.server.live, passwords=Passwords(QUICK)
        )
        try:
            yield Office(line, panel)
        finally:
            await panel.close()


async def who_asks(*lines):
    """Who asks, by the wall, of a request that comes from 10.1.2.3, a proxy, with these lines of X-Forwarded-For."""
    found = []

    async def app(scope, _receive, send):
        found.append(scope["state"]["address"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    walled = wall.Wall(app, url="https://pay.example.com", proxies=[ip_network("10.1.0.0/16")], uploads="/u")
    transport = httpx.ASGITransport(walled, client=("10.1.2.3", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://pay.example.com") as client:
        await client.get("/", headers=[("X-Forwarded-For", line) for line in lines])
    (asking,) = found
    return asking
