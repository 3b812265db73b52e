"""What all tests share."""

import logging
import os
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
import uvloop
from line import empty_journal, open_line
from postgres import PostgresServer, prototype
from structlog.testing import capture_logs

from ivr_agi.journal import Journal

# What is logged beside a test that fails: structlog's own form, in columns, takes a tenth of a call.
PLAINLY = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.format_exc_info,
    structlog.processors.KeyValueRenderer(),
]


def pytest_addoption(parser):
    """On which database the journal is put, by `line`, `open_line` and `journal_url`."""
    parser.addoption(
        "--journal", choices=("sqlite", "postgresql"), default="sqlite", help="the journal's database"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "sqlite(why): about SQLite alone; not run with --journal=postgresql")


def pytest_collection_modifyitems(config, items):
    """Tests about SQLite alone are left out where the journal is on PostgreSQL."""
    if config.option.journal == "sqlite":
        return
    for item in items:
        for mark in item.iter_markers("sqlite"):
            item.add_marker(pytest.mark.skip(reason=f"about SQLite alone: {mark.args[0]}"))


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
    structlog.configure(processors=PLAINLY)
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


@pytest.fixture(scope="session")
def postgres_prototype(tmp_path_factory):
    """What each PostgreSQL of this run begins as."""
    own = tmp_path_factory.getbasetemp()
    return prototype(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def postgres(postgres_prototype):
    """A PostgreSQL that all tests share: quick, because its disk is memory; nobody stops it."""
    with PostgresServer(postgres_prototype, on_disk=False, begin=_begin) as server:
        yield server


def _begin(address):
    """Make an empty journal."""
    Journal(address).close()


@pytest.fixture
def durable_postgres(postgres_prototype):
    """A PostgreSQL of the test's own, on a real disk; it may be killed."""
    with PostgresServer(postgres_prototype, on_disk=True) as server:
        yield server


@pytest.fixture
def postgres_url(postgres):
    """The address of an empty database on PostgreSQL."""
    with postgres.fresh() as address:
        yield address


@pytest.fixture
def journal_url(request, tmp_path):
    """The address of a journal on the database that --journal names; not there yet, unless `begun` is asked for."""
    if request.config.option.journal == "sqlite":
        yield f"sqlite:///{tmp_path / 'j.db'}"
        return
    server = request.getfixturevalue("postgres")
    with server.begun() if "begun" in request.fixturenames else server.fresh() as address:
        yield address


@pytest.fixture
def begun(journal_url):
    """The same address, with an empty journal there: quicker than the test's own migrations."""
    file = sa.make_url(journal_url).database
    if journal_url.startswith("sqlite"):
        Path(file).write_bytes(empty_journal())
    return journal_url


@pytest.fixture
def journal(begun):
    """A journal just begun."""
    opened = Journal(begun)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _journals_of_folders(request, monkeypatch):
    """With --journal=postgresql each folder that a line is opened in has a database; none is made before."""
    if request.config.option.journal == "sqlite":
        yield
        return
    with ExitStack() as databases:

        @cache
        def journal_of(_folder):
            return databases.enter_context(request.getfixturevalue("postgres").begun())

        monkeypatch.setattr("line.journal_of", journal_of)
        yield
