"""What the panel's tests share."""

import pytest
from panel.office import open_office


@pytest.fixture
async def office(tmp_path):
    """An office with its default settings."""
    async with open_office(tmp_path) as opened:
        yield opened
