"""What the panel's tests share."""

from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from panel.browser import open_browser, open_shop
from panel.office import open_office

from ivr_agi.panel.pages import charge


@pytest.fixture
async def office(tmp_path):
    """An office with its default settings."""
    async with open_office(tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    """The browser of this worker."""
    async with open_browser() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def shop_with(tmp_path, browser, monkeypatch):
    """Opens a served office with settings by name; nobody's browser may have complained in the end."""
    monkeypatch.setattr(charge, "REFRESH", 1)  # seconds: the bank of the tests answers sooner
    async with AsyncExitStack() as shops:

        async def opened(**given):
            shop = await shops.enter_async_context(open_shop(tmp_path, browser, **given))
            people.append(shop.people)
            return shop

        people = []
        yield opened
        assert [person.troubles for each in people for person in each if person.troubles] == []


@pytest_asyncio.fixture(loop_scope="session")
async def shop(shop_with):
    """A served office with its default settings."""
    return await shop_with()
