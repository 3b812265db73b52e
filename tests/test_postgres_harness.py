"""The PostgreSQL that other tests stand on does what they take it for: it dies, comes back, and loses what was on the wire."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import postgres as harness
import pytest
import sqlalchemy as sa
from line import open_line, until
from postgres import PostgresProxy

CRASHED = "database system was not properly shut down"
REFUSED = "Connection refused"
BROKEN = "closed the connection unexpectedly"  # what libpq makes of a reset


@pytest.fixture
def engines():
    """Make engines that hold no connection on to later use, and close them."""
    opened = []

    def connect(address):
        opened.append(sa.create_engine(address, poolclass=sa.NullPool, connect_args={"connect_timeout": 20}))
        return opened[-1]

    yield connect
    for engine in opened:
        engine.dispose()


def write(engine, word):
    """Commit a row."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS word (it text)")
        connection.execute(sa.text("INSERT INTO word VALUES (:word)"), {"word": word})


def words(engine):
    """What has been committed."""
    with engine.begin() as connection:
        return list(connection.exec_driver_sql("SELECT it FROM word ORDER BY it").scalars())


@pytest.fixture
def database(postgres_url, engines):
    """A database with one word in it, seen from beside the proxy."""
    engine = engines(postgres_url)
    write(engine, "before")
    return engine


@pytest.fixture
async def proxy(postgres_url):
    """A network to the database; async, so that it ends before the loop, and with it what waits in the loop's threads."""
    with PostgresProxy(postgres_url) as opened:
        yield opened


# -- the server ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("server", "on_disk"), [("postgres", False), ("durable_postgres", True)])
def test_what_makes_a_commit_last(request, engines, server, on_disk):
    """Both wait until a commit is on the disk; what the disk is tells the two apart."""
    running = request.getfixturevalue(server)
    with running.fresh() as address, engines(address).connect() as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            assert connection.exec_driver_sql(f"SHOW {name}").scalar_one() == "on"
    in_memory = running._folder.stat().st_dev == harness.MEMORY.stat().st_dev
    assert in_memory is (not on_disk and harness._has_room(harness.MEMORY))


def test_what_killed_runs_leave(tmp_path):
    """The next one removes it; what is another run's, or just begun, stays."""
    with harness._folder(tmp_path) as another:
        left, begun = tmp_path / f"{harness.PREFIX}left", tmp_path / f"{harness.PREFIX}begun"
        left.mkdir()
        begun.mkdir()
        for old in (left, another):
            os.utime(old, (0, 0))
        with harness._folder(tmp_path) as new:
            assert set(tmp_path.iterdir()) == {another, begun, new}
    assert set(tmp_path.iterdir()) == {begun}


def test_memory_that_is_too_little(postgres_prototype, monkeypatch):
    """A container's few megabytes of memory are not filled: the disk is taken, slow as it is."""
    monkeypatch.setattr(harness, "ROOM", 2**60)
    assert harness.PostgresServer(postgres_prototype, on_disk=False)._place == harness.DISK


def test_nobody_else_gets_in(postgres, postgres_url, engines):
    """Loopback alone, no socket in the file system, and not without the password."""
    assert postgres.sql("SHOW listen_addresses") == [("127.0.0.1",)]
    assert postgres.sql("SHOW unix_socket_directories") == [("",)]
    for role in ("ivr_agi", "postgres"):
        stranger = sa.make_url(postgres_url).set(username=role, password="guessed")  # noqa: S106 - a wrong one
        with pytest.raises(sa.exc.OperationalError, match="authentication failed"):
            engines(stranger).connect()


def test_journal_is_no_superusers(database):
    """The address is that of a role which owns its database, and may no more."""
    with database.connect() as connection:
        role = connection.exec_driver_sql("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = user")
        assert role.one() == (False, False)


def test_databases_are_fresh(postgres, engines):
    """Whatever a test leaves in a database, sessions and all, the next one that is given it does not find."""
    with postgres.fresh() as first:
        left = engines(first).connect()
        left.exec_driver_sql("CREATE SCHEMA extra CREATE TABLE word (it text)")
        left.exec_driver_sql(
            "CREATE TABLE word (it int); CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1"
        )
        left.exec_driver_sql("CREATE TYPE mood AS ENUM ('fair')")
        left.commit()
        left.exec_driver_sql(f"ALTER DATABASE {sa.make_url(first).database} SET search_path = extra")
        left.commit()
        left.exec_driver_sql("LOCK word")
    with pytest.raises(sa.exc.OperationalError, match="terminating connection"):
        left.exec_driver_sql("SELECT 1")
    left.close()
    with postgres.fresh() as second:
        write(engines(second), "mine")
        with postgres.fresh() as third:
            assert first == second != third
            write(engines(third), "another's")
        assert words(engines(second)) == ["mine"]
        with engines(second).connect() as connection:
            schemas = "SELECT nspname FROM pg_namespace WHERE oid >= 16384 OR nspname = 'public'"
            assert connection.exec_driver_sql(schemas).scalars().all() == ["public"]
            assert connection.exec_driver_sql("SHOW search_path").scalar_one() == '"$user", public'


def test_database_that_cannot_be_emptied(postgres, engines):
    """One that lacks what a new one has is removed, and not given to another test."""
    with postgres.fresh() as spoilt, engines(spoilt).begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public")
    name = sa.make_url(spoilt).database
    assert postgres.sql(f"SELECT FROM pg_database WHERE datname = '{name}'") == []
    with postgres.fresh() as another:
        write(engines(another), "word")


def test_copy_of_a_database(postgres, database):
    """A database may be the template of others: what is in it is in them."""
    copy = postgres.create(template=database.url.database)
    try:
        twin = sa.create_engine(copy, poolclass=sa.NullPool)
        assert words(twin) == ["before"]
    finally:
        postgres.drop(copy)


def test_kill(durable_postgres, engines):
    """`kill -9`: sessions break, nothing lives on; what was committed is there afterwards, what was not is not."""
    with durable_postgres.fresh() as address:
        engine = engines(address)
        write(engine, "committed")
        under_way = engine.connect()
        under_way.exec_driver_sql("INSERT INTO word VALUES ('never committed')")
        ((pid,),) = under_way.exec_driver_sql("SELECT pg_backend_pid()")
        durable_postgres.kill()
        assert not Path(f"/proc/{pid}/exe").exists()
        with pytest.raises(sa.exc.OperationalError, match="server closed the connection"):
            under_way.exec_driver_sql("SELECT 1")
        under_way.close()
        with pytest.raises(sa.exc.OperationalError, match=REFUSED):
            engine.connect()
        durable_postgres.start()
        assert CRASHED in durable_postgres.log()
        assert words(engine) == ["committed"]


def test_restart(durable_postgres, engines):
    """In good order: sessions are told, nothing has to be recovered, and the address stays."""
    with durable_postgres.fresh() as address:
        engine = engines(address)
        write(engine, "committed")
        session = engine.connect()
        session.exec_driver_sql("SELECT 1")
        durable_postgres.restart()
        with pytest.raises(sa.exc.OperationalError, match="administrator command"):
            session.exec_driver_sql("SELECT 1")
        session.close()
        assert CRASHED not in durable_postgres.log()
        assert words(engine) == ["committed"]


@pytest.mark.parametrize("ended", ["running", "killed"])
def test_nothing_is_left(postgres_prototype, ended):
    """Folder and shared memory are gone when the test is over, even if it has killed its server."""
    with harness.PostgresServer(postgres_prototype, on_disk=True) as server:
        lock = (server._folder / "cluster" / "postmaster.pid").read_text().splitlines()
        shared_memory = lock[6].split()
        assert shared_memory in held()
        if ended == "killed":
            server.kill()
    assert shared_memory not in held()
    assert not server._folder.exists()


def held():
    """Key and number of each piece of shared memory that the kernel keeps (sysvipc(5))."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [line.split()[:2] for line in lines]


def test_start_that_fails_says_why(durable_postgres):
    """What the server said is in the error, and the server can be removed."""
    durable_postgres.stop()
    with (durable_postgres._folder / "cluster" / "postgresql.conf").open("a") as configuration:
        configuration.write("max_connections = many\n")
    with pytest.raises(RuntimeError, match='"max_connections": "many"'):
        durable_postgres.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_server_is_not_roots(durable_postgres):
    """Started by root, it runs as the user `postgres`, who can read nothing of root's."""
    assert Path(f"/proc/{durable_postgres._process.pid}").owner() == "postgres"


async def test_server_does_not_outlive_its_starter(postgres_prototype):
    """The tests themselves are killed: the kernel ends their server, and nothing is left that holds the port."""
    program = (
        "import pathlib, sys; sys.path.insert(0, sys.argv[1]); import postgres\n"
        "server = postgres.PostgresServer(pathlib.Path(sys.argv[2]), on_disk=False).__enter__()\n"
        "print(server._process.pid, server._folder, flush=True); sys.stdin.read()"
    )
    starter = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", program, str(Path(__file__).parent), str(postgres_prototype)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    pid, folder = (await starter.stdout.readline()).split()
    server = os.pidfd_open(int(pid))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(server, ended.set)
    starter.kill()
    await starter.wait()
    async with asyncio.timeout(20):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(server)
    os.close(server)
    harness.shutil.rmtree(folder)


# -- the network -----------------------------------------------------------------------------------


def test_proxy_passes_everything(proxy, database, engines):
    """Left alone, it is not there: requests and answers of many pieces arrive whole."""
    through = engines(proxy.url)
    write(through, "through" * 100_000)
    assert words(database) == ["before", "through" * 100_000]
    with through.connect() as connection:
        assert proxy.connections == 1
        assert len(connection.exec_driver_sql("SELECT repeat('x', 5000000)").scalar_one()) == 5_000_000


async def test_connection_that_ends(proxy, database, engines):
    """Closed on one side, it is closed on the other."""
    del database
    with engines(proxy.url).connect() as connection:
        ((pid,),) = connection.exec_driver_sql("SELECT pg_backend_pid()")
    await until(lambda: proxy.connections == 0)
    await until(lambda: not Path(f"/proc/{pid}/exe").exists())


async def test_server_that_dies_behind_the_proxy(durable_postgres, engines):
    """Killed: the caller's connection breaks, new ones are reset; started again: the same address works."""
    with durable_postgres.fresh() as address, PostgresProxy(address) as proxy:
        engine = engines(proxy.url)
        write(engine, "committed")
        session = engine.connect()
        session.exec_driver_sql("SELECT 1")
        durable_postgres.kill()
        with pytest.raises(sa.exc.OperationalError):
            session.exec_driver_sql("SELECT 1")
        session.close()
        with pytest.raises(sa.exc.OperationalError):
            engine.connect()
        durable_postgres.start()
        assert words(engine) == ["committed"]


def test_reset(proxy, database, engines):
    """Reset: the session under way breaks, the next one gets in."""
    through = engines(proxy.url)
    session = through.connect()
    session.exec_driver_sql("INSERT INTO word VALUES ('never committed')")
    proxy.reset()
    assert proxy.connections == 0
    with pytest.raises(sa.exc.OperationalError, match=BROKEN):
        session.exec_driver_sql("SELECT 1")
    session.close()
    assert words(through) == words(database) == ["before"]


def test_reset_is_a_reset():
    """Both sides get a TCP reset, which is not what they would get at an end in good order."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        PostgresProxy(f"postgresql://x@127.0.0.1:{listening.getsockname()[1]}/x") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
        listening.accept()[0] as server,
    ):
        client.sendall(b"asked")
        server.sendall(b"said")
        assert (server.recv(5), client.recv(4)) == (b"asked", b"said")
        proxy.reset()
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_cut(proxy, database, engines):
    """Cut: the session under way breaks and nobody gets in; mended: the same address works again."""
    through = engines(proxy.url)
    session = through.connect()
    session.exec_driver_sql("SELECT 1")
    proxy.cut()
    with pytest.raises(sa.exc.OperationalError, match=BROKEN):
        session.exec_driver_sql("SELECT 1")
    session.close()
    with pytest.raises(sa.exc.OperationalError, match=REFUSED):
        through.connect()
    proxy.mend()
    assert words(through) == words(database) == ["before"]


async def test_freeze(proxy, database, engines):
    """Frozen: a commit does not get through, and nobody is told; thawed: it is done."""
    through = engines(proxy.url)
    write(through, "first")
    proxy.freeze()
    writing = asyncio.create_task(asyncio.to_thread(write, through, "frozen"))
    await until(lambda: proxy.held)
    assert words(database) == ["before", "first"]
    assert not writing.done()
    proxy.thaw()
    await writing
    assert words(database) == ["before", "first", "frozen"]
    assert proxy.held == 0


async def test_freeze_of_the_answers(proxy, database, engines):
    """Only answers frozen: what was asked is done, and the one who asked does not know."""
    through = engines(proxy.url)
    session = through.connect()
    session.exec_driver_sql("INSERT INTO word VALUES ('done')")
    proxy.freeze(requests=False)
    committing = asyncio.create_task(asyncio.to_thread(session.commit))
    await until(lambda: words(database) == ["before", "done"])
    await until(lambda: proxy.held)
    assert not committing.done()
    proxy.thaw()
    await committing
    session.close()


async def test_frozen_connection_is_reset(proxy, database, engines):
    """Frozen, then reset: the one who waits is told, and what waited never arrives."""
    through = engines(proxy.url)
    session = through.connect()
    session.exec_driver_sql("INSERT INTO word VALUES ('lost')")
    proxy.freeze()
    committing = asyncio.create_task(asyncio.to_thread(session.commit))
    await until(lambda: proxy.held)
    proxy.reset()
    with pytest.raises(sa.exc.OperationalError, match=BROKEN):
        await committing
    session.close()
    proxy.thaw()
    assert words(database) == ["before"]
    assert proxy.held == 0


async def test_lost_request(proxy, database, engines):
    """The request of a commit is lost: an error, and no row."""
    lost = proxy.lose(b"COMMIT")
    with pytest.raises(sa.exc.OperationalError, match=BROKEN):
        write(engines(proxy.url), "lost")
    lost.result(20)
    write(engines(proxy.url), "later")
    assert words(database) == ["before", "later"]


async def test_lost_answer(proxy, database, engines):
    """The answer to a commit is lost: the same error, and the row is there."""
    lost = proxy.lose_answer(b"COMMIT")
    with pytest.raises(sa.exc.OperationalError, match=BROKEN):
        write(engines(proxy.url), "done")
    lost.result(20)
    write(engines(proxy.url), "later")
    assert words(database) == ["before", "done", "later"]


# -- where a test finds it -------------------------------------------------------------------------


def version(root, name, *programs):
    """Install those programs of a version."""
    folder = root / name / "bin"
    folder.mkdir(parents=True)
    for program in programs:
        (folder / program).touch()
    return folder


def test_newest_server_is_taken(tmp_path, monkeypatch):
    """17 is newer than 15 and than 9.6; one of which only the client's programs are there does not count."""
    monkeypatch.setattr(harness, "PROGRAMS", tmp_path)
    version(tmp_path, "9.6", "initdb", "postgres")
    version(tmp_path, "15", "initdb", "postgres")
    newest = version(tmp_path, "17", "initdb", "postgres")
    version(tmp_path, "18", "psql")
    assert harness.programs() == newest


@pytest.mark.parametrize(("ci", "end"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_no_server(tmp_path, monkeypatch, ci, end):
    """Without one a test is skipped with a sentence, but on CI it fails."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(harness, "PROGRAMS", tmp_path)
    with pytest.raises(end, match="no PostgreSQL server"):
        harness.programs()


COUNTED = (
    "INSERT INTO happening (what, at, order_id, caller, card, card_hash) VALUES ('pin', '', '', '', '', '')"
)


def test_journals_are_just_begun(postgres, engines):
    """What a test has written is gone when the next one gets the same database, and ids count from 1 again."""
    with postgres.begun() as first, engines(first).begin() as connection:
        connection.exec_driver_sql(COUNTED)
        connection.exec_driver_sql("INSERT INTO process (name, beat, since) VALUES ('p', 1, '')")
    with postgres.begun() as second:
        assert second == first
        with engines(second).begin() as connection:
            for table in sa.inspect(connection).get_table_names():
                count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()  # noqa: S608
                assert count == (1 if table == "alembic_version" else 0), table
            assert connection.exec_driver_sql(f"{COUNTED} RETURNING id").scalar_one() == 1


@pytest.mark.parametrize(
    "spoil",
    [
        "ALTER TABLE pause ADD COLUMN more text",
        "ALTER TABLE process ALTER COLUMN since SET DEFAULT 1",
        "CREATE TABLE more (a int)",
        "DROP TABLE pause",
        "DROP TABLE alembic_version",
        "ALTER TABLE attempt DISABLE TRIGGER USER",
        "DROP INDEX {index}",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "UPDATE alembic_version SET version_num = 'later'",
    ],
)
def test_a_spoilt_journal_is_not_used_again(postgres, engines, spoil):
    """A test that has changed more than rows is the last one that gets this database."""
    with postgres.begun() as first, engines(first).begin() as connection:
        index = "SELECT indexname FROM pg_indexes WHERE tablename = 'attempt' AND indexname NOT LIKE '%%pkey'"
        connection.exec_driver_sql(spoil.format(index=connection.exec_driver_sql(index).scalars().first()))
    with postgres.begun() as second:
        assert second != first


def test_journal_url_is_on_the_chosen_database(request, journal_url):
    """--journal says where the journal of a test is."""
    assert sa.make_url(journal_url).get_backend_name() == request.config.option.journal


async def test_line_is_on_the_chosen_database(request, line, tmp_path):
    """The same for a line, also one that is opened a second time in its folder: it finds its payments again."""
    backend = sa.make_url(sys.modules["line"].journal_of(tmp_path)).get_backend_name()
    assert backend == request.config.option.journal
    assert (await line.call(line.buyer())).status == "PAID"
    async with open_line(tmp_path) as again:
        assert [attempt["state"] for attempt in again.attempts()] == ["paid"]
    (tmp_path / "other").mkdir()
    async with open_line(tmp_path / "other") as another:
        assert another.attempts() == []


async def test_line_on_a_given_database(postgres, postgres_url, tmp_path):
    """A line takes the journal that it is given, whatever --journal says: the payment is in PostgreSQL."""
    async with open_line(tmp_path, journal_url=postgres_url) as line:
        assert (await line.call(line.buyer())).status == "PAID"
    copy = postgres.create(template=sa.make_url(postgres_url).database)
    with sa.create_engine(copy, poolclass=sa.NullPool).connect() as connection:
        assert connection.exec_driver_sql("SELECT state FROM attempt").scalars().all() == ["paid"]
    postgres.drop(copy)


@pytest.mark.sqlite("to see it left out")
def test_about_sqlite_alone(request):
    """A test that is marked so is not run where the journal is on PostgreSQL."""
    assert request.config.option.journal == "sqlite"
