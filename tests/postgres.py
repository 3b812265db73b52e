"""A real PostgreSQL for tests: a server that can be killed and started again, and a proxy that spoils its network.

Debian's programs run a cluster of our own in a temporary folder, on a free port of 127.0.0.1, behind passwords made
for the run; the machine's own cluster is never touched. Where they are missing a test is skipped, on CI it fails.
The methods block and may be called from any thread; from an async test, for what takes long: `asyncio.to_thread`.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import importlib.util
import itertools
import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pytest
import sqlalchemy as sa
from postgres_proxy import PostgresProxy, free_port
from postgres_schema import is_empty, remove_rows, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postgres_schema import Schema

__all__ = ["PostgresProxy", "PostgresServer", "prototype"]

PROGRAMS = Path("/usr/lib/postgresql")
USER = "postgres"  # for root, from whom PostgreSQL's programs refuse to take orders
ROLE = "ivr_agi"  # owns the databases and may no more than that, as an admin would have it
PREFIX = "ivr-agi-postgres-"
SECONDS = 30
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
max_wal_size = 64MB
dynamic_shared_memory_type = mmap  # in its folder, where nothing is left of it after `kill`
autovacuum = off  # its sessions would come between CREATE DATABASE and its template
log_line_prefix = '%m [%p] %u@%d '
"""
# The journal takes no server that does not wait for its disk. Where a test speaks of something else the disk is memory,
# if there is enough of it (containers may have 64 MB), and the wait is none.
DISK = Path("/var/tmp")  # noqa: S108 - /tmp may be memory
MEMORY = Path("/dev/shm")  # noqa: S108
ROOM = 512 * 2**20
# The kernel ends a server whose starter has died, and the starter is a thread: one that lives as long as we do.
_starter = ThreadPoolExecutor(1, thread_name_prefix="postgres")


# -- the programs ----------------------------------------------------------------------------------


def missing(what: str) -> NoReturn:
    """Skip the test, or on CI have it fail."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}: `make test` installs it", pytrace=False)
    pytest.skip(f"{what}: `make test` installs it")


def programs() -> Path:
    """Where the newest PostgreSQL's programs are."""
    versions = [
        folder.parent
        for folder in PROGRAMS.glob("*/bin")
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    ]
    if not versions:
        missing(f"no PostgreSQL server in {PROGRAMS}")
    if importlib.util.find_spec("psycopg") is None:
        missing("no psycopg")
    try:
        pwd.getpwnam(USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError:
        missing(f"no user {USER} for root, or no name for who is not root; PostgreSQL needs it")
    return max(versions, key=lambda folder: [int(part) for part in folder.name.split(".")]) / "bin"


def _lowered(*arguments: str) -> list[str]:
    """Words of a command line that runs as an ordinary user and, with `--pdeathsig`, not longer than we do."""
    user = ["--reuid", USER, "--regid", USER, "--init-groups"] if os.geteuid() == 0 else []
    return [shutil.which("setpriv") or missing("no setpriv"), *user, *arguments]


def _give(path: Path) -> Path:
    """Make it the server's user's."""
    if os.geteuid() == 0:
        shutil.chown(path, USER, USER)
    return path


@contextmanager
def _folder(place: Path) -> Iterator[Path]:
    """A new folder that is removed afterwards, or by a later run if this one is killed."""
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))  # pytest's own lets no other user in
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield _give(folder)
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _sweep(place: Path) -> None:
    """Remove what runs that were killed have left: an hour old, and nobody's."""
    for left in place.glob(PREFIX + "*"):
        with suppress(OSError):  # another user's, or another run's
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - left.stat().st_mtime > 3600:  # one just made is not locked yet
                    shutil.rmtree(left)
            finally:
                os.close(lock)


def _has_room(place: Path) -> bool:
    with suppress(OSError):
        return shutil.disk_usage(place).free > ROOM
    return False


def prototype(shared: Path) -> Path:
    """A cluster as initdb leaves it, made once in a folder that all workers share: each server is a copy of it."""
    initdb, made = programs() / "initdb", shared / "postgres"
    with (shared / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel workers: the first one makes it, the others wait
        if made.exists():
            return made
        with _folder(DISK) as folder:
            (folder / "new").mkdir()
            new, password = _give(folder / "new"), folder / "new" / "password"
            password.write_text(os.urandom(16).hex(), encoding="ascii")
            subprocess.run(
                [
                    *_lowered(str(initdb), "--pgdata", str(new / "cluster"), "--username", USER, "--no-sync"),
                    *("--auth", "scram-sha-256", "--pwfile", str(_give(password))),
                    *("--encoding", "UTF8", "--locale", "C.UTF-8", "--lc-messages", "C"),
                    *("--wal-segsize", "1", "--no-instructions"),  # less to copy
                ],
                cwd=new,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            subprocess.run(["mv", str(new), str(made)], check=True)  # owners stay, which shutil forgets
    return made


# -- the server ------------------------------------------------------------------------------------


class PostgresServer:
    """A server with a cluster of its own, for as long as the `with` lasts."""

    def __init__(self, prototype: Path, *, on_disk: bool, begin: Callable[[str], None] | None = None) -> None:
        """on_disk: True where a test speaks of durability; False is quicker, and the settings are the same.

        begin: makes an empty journal at an address; for `begun`.
        """
        self._begin = begin
        self._prototype = prototype
        self._place = DISK if on_disk or not _has_room(MEMORY) else MEMORY
        self._programs = programs()
        self._password = (prototype / "password").read_text(encoding="ascii")
        self._numbers = itertools.count(1)
        self._spare: list[str] = []  # databases that stand empty
        self._spare_begun: dict[str, Schema] = {}  # those that an empty journal is in
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._admin = sa.create_engine(
            self._url(USER, "postgres"), isolation_level="AUTOCOMMIT", pool_size=1, pool_pre_ping=True
        )

    def __enter__(self) -> Self:
        with ExitStack() as undoing:
            self._folder = undoing.enter_context(_folder(self._place))
            undoing.callback(self._end)
            undoing.callback(self._admin.dispose)
            cluster = str(self._prototype / "cluster")
            subprocess.run(["cp", "--archive", cluster, str(self._folder)], check=True)
            with (self._folder / "cluster" / "postgresql.conf").open("a", encoding="utf-8") as configuration:
                configuration.write(SETTINGS)
            self.start()
            self.sql(f"ALTER ROLE {USER} PASSWORD '{_verifier(self._password)}'")
            self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{_verifier(self._password)}'")
            self._undoing = undoing.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._undoing.close()

    def start(self) -> None:
        """Start it and wait until it takes connections; after `stop` or `kill` at the same address."""
        if self._process:
            raise RuntimeError("it runs")
        self._process = _starter.submit(self._launch).result()
        deadline = time.monotonic() + SECONDS
        while not self._is_ready(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL has not started:\n{self.log()}")
            time.sleep(0.01)

    def _launch(self) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    *_lowered("--pdeathsig", "QUIT", str(self._programs / "postgres")),
                    *("-D", str(self._folder / "cluster"), "-p", str(self.port)),
                ],
                cwd=self._folder,
                env={"LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _is_ready(self, pid: int) -> bool:
        # Lines 1 and 8 of its own lock file: process and state. One of a server that was killed may still lie there.
        with suppress(OSError):
            lines = (self._folder / "cluster" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return lines[:1] == [str(pid)] and "ready" in [line.strip() for line in lines[7:]]
        return False

    def stop(self) -> None:
        """Stop it in good order: sessions are ended with a message, what is in memory goes to disk."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(SECONDS)
            self._process = None

    def restart(self) -> None:
        """Stop it in good order, and start it."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """`kill -9`, all its processes at once: nobody says goodbye, nothing goes to disk that is not there."""
        if self._process and self._process.poll() is None:
            pid = self._process.pid
            self._process.send_signal(signal.SIGSTOP)  # from here on it makes no process more
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            children = [os.pidfd_open(int(child)) for child in listed.split()]
            for child in children:
                signal.pidfd_send_signal(child, signal.SIGKILL)
            self._process.kill()
            self._process.wait(SECONDS)
            for child in children:  # as long as one lives, its memory keeps the next server from starting
                ended = select.poll()
                ended.register(child, select.POLLIN)
                ended.poll(SECONDS * 1000)
                os.close(child)
        self._process = None

    def _end(self) -> None:
        """Stop it at once, and leave nothing behind."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(SECONDS)
        # Line 7 of the lock file of one that was killed: key and number of memory that nobody else will remove.
        with suppress(OSError):
            lines = (self._folder / "cluster" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            subprocess.run(["ipcrm", "--shmem-id", lines[6].split()[1]], check=False)

    def log(self) -> str:
        """What the server has said so far."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser, outside of a transaction, in the database `postgres`."""
        with self._admin.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    def create(self, template: str = "template1") -> str:
        """Make a database, empty or a copy of another one that nobody is in; returns its address."""
        name = f"journal_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template}")
        return self._url(ROLE, name)

    def drop(self, address: str) -> None:
        """Remove a database, whoever is still in it."""
        self.sql(f"DROP DATABASE {sa.make_url(address).database} WITH (FORCE)")

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The address of an empty database: a new one, or an earlier test's that has been emptied."""
        address = self._spare.pop() if self._spare else self.create()
        try:
            yield address
        finally:
            if self._process and self._empty(address):
                self._spare.append(address)
            elif self._process:
                self.drop(address)

    @contextmanager
    def begun(self) -> Iterator[str]:
        """The address of a journal just begun: a new one, or an earlier test's, its rows removed.

        A test that has changed the schema is the last one in its database.
        """
        if self._spare_begun:
            address, schema = self._spare_begun.popitem()
        else:
            address = self.create()
            if self._begin is None:
                raise RuntimeError("this server was not told how a journal begins")
            self._begin(address)
            with self._inside(address) as connection:
                schema = schema_of(connection)
        try:
            yield address
        finally:
            if self._process and self._clear(address, schema):
                self._spare_begun[address] = schema
            elif self._process:
                self.drop(address)

    @contextmanager
    def _inside(self, address: str) -> Iterator[sa.Connection]:
        """The superuser in a database, outside of a transaction; alone, for all other sessions are ended."""
        name = str(sa.make_url(address).database)
        engine = sa.create_engine(self._url(USER, name), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(
                f"SELECT pg_terminate_backend(pid, {SECONDS * 1000}) FROM pg_stat_activity"  # noqa: S608
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.exec_driver_sql(f"ALTER DATABASE {name} RESET ALL")
            yield connection

    def _empty(self, address: str) -> bool:
        """End all sessions in a database and remove all that is its owner's; says whether nothing is left."""
        with self._inside(address) as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {ROLE} CASCADE")
            return is_empty(connection)

    def _clear(self, address: str, schema: Schema) -> bool:
        """End all sessions and remove what a test has written; False if it has changed more than rows."""
        with self._inside(address) as connection:
            if schema_of(connection) != schema:
                return False
            remove_rows(connection)
            return True

    def _url(self, role: str, database: str) -> str:
        return f"postgresql+psycopg://{role}:{self._password}@127.0.0.1:{self.port}/{database}"


def _verifier(password: str) -> str:
    """A password as PostgreSQL keeps it (RFC 5803), by one iteration: a random one needs no 4096 at each connection."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_64, stored_64, server_64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256$1:{salt_64}${stored_64}:{server_64}"
