"""What all tests share."""

import logging
import os

import pytest
import structlog
import uvloop
from line import open_line
from structlog.testing import capture_logs


def pytest_asyncio_loop_factories(config, item):
    """Async tests run on the loop that the server runs on."""
    del config, item
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    """No setting of the machine's, and no `.env`, reaches a test."""
    for name in list(os.environ):
        if name.startswith("IVR_AGI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()
    logging.basicConfig(handlers=[], force=True)


@pytest.fixture
def logged():
    """What is logged, as dictionaries."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
async def line(tmp_path):
    """A payment line with its default settings."""
    async with open_line(tmp_path) as opened:
        yield opened
