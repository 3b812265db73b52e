"""Health and metrics over HTTP: what they say, and that they never stand in a call's way."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing, suppress

import httpx
import pytest
from line import CARD, SEQUENCE, Thinking, until
from process import Serving

from ivr_agi.simulator.gateway import GatewaySimulator
from ivr_agi.web import Health, Web, health, listener


@asynccontextmanager
async def open_web(line):
    """The HTTP side of a line, and a client of it."""
    web = Web("127.0.0.1", 0, Health(line.journal, lambda: line.server.accepting))
    port = await web.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        await web.stop()


@pytest.fixture
async def web(line):
    async with open_web(line) as client:
        yield client


def writes(folder):
    """SQLite's own count of the transactions that have changed the file (its header, bytes 24 to 27)."""
    return int.from_bytes((folder / "journal.db").read_bytes()[24:28], "big")


async def test_healthz(web):
    """200 and a word, to GET and HEAD; nothing says which server it is."""
    got = await web.get("/healthz")
    assert (got.status_code, got.text) == (200, "ok\n")
    assert "server" not in got.headers
    head = await web.head("/healthz")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_but_reading(web, method, path):
    """405 to whatever could change something."""
    assert (await web.request(method, path)).status_code == 405


@pytest.mark.parametrize("path", ["/", "/healthz/", "/docs", "/metrics/../x", "//healthz"])
async def test_nothing_else(web, path):
    """404 to what is not there."""
    assert (await web.get(path)).status_code == 404


async def test_readyz(web, line, tmp_path):
    """Ready: the journal has taken a write that is on disk; at most one every few seconds."""
    before = writes(tmp_path)
    got = await web.get("/readyz")
    assert (got.status_code, got.json()) == (
        200,
        {"ready": True, "parts": {"listening": "ok", "journal": "ok"}},
    )
    assert writes(tmp_path) == before + 1
    assert {(await web.get("/readyz")).status_code for _ in range(10)} == {200}
    assert writes(tmp_path) == before + 1
    assert (await line.call(line.buyer())).status == "PAID"


async def test_journal_that_is_locked(web, line, tmp_path, monkeypatch):
    """Somebody holds the journal: 503 in bounded time, one write waits and not a heap of them; then ready again."""
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(5):
            got = await web.get("/readyz")
            assert got.status_code == 503
            assert got.json()["parts"] == {"listening": "ok", "journal": health.SILENT}
        assert line.journal._writer._waiting.qsize() == 0
        assert (await web.get("/healthz")).status_code == 200
        assert 'ivr_agi_ready{part="journal"} 0.0' in (await web.get("/metrics")).text
        other.execute("ROLLBACK")
    monkeypatch.setattr(health, "PATIENCE", 5)
    assert (await web.get("/readyz")).status_code == 200
    assert 'ivr_agi_ready{part="journal"} 1.0' in (await web.get("/metrics")).text


async def test_journal_that_fails(line, tmp_path, monkeypatch, logged):
    """The file is gone from under it: 503, the cause in the log and not on the page; then ready again."""
    monkeypatch.setattr(health, "WRITE_EVERY", 0.0)
    async with open_web(line) as web:
        (tmp_path / "journal.db").rename(tmp_path / "away.db")
        got = await web.get("/readyz")
        assert got.status_code == 503
        assert got.json()["parts"]["journal"] == "it fails: see the log"
        (entry,) = [entry for entry in logged if entry["event"] == "journal.failed"]
        assert "removed" in entry["error"]
        (tmp_path / "away.db").rename(tmp_path / "journal.db")
        await until(lambda: not line.journal.trouble)
        assert (await web.get("/readyz")).status_code == 200


async def test_a_bug_in_the_probe(line, monkeypatch):
    """Whatever goes wrong with the test write, the answer is 503."""

    async def broken():
        raise RuntimeError("boom")

    monkeypatch.setattr(line.journal, "probe", broken)
    async with open_web(line) as web:
        assert (await web.get("/readyz")).status_code == 503


async def test_one_connection_too_many(web, monkeypatch):
    """A crowd is closed at once, so that it takes no files from calls."""
    monkeypatch.setattr(listener, "MOST_CONNECTIONS", 1)
    port = web.base_url.port
    _, first = await asyncio.open_connection("127.0.0.1", port)
    first.write(b"GET /healthz HTTP/1.1\r\n")  # and never the rest of it
    reader, second = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    for writer in (first, second):
        writer.close()


async def test_port_that_is_taken(line, logged):
    """The log names the setting, and calls go on."""
    web = Web("127.0.0.1", line.port, Health(line.journal, lambda: True))
    assert await web.start() is None
    (entry,) = [entry for entry in logged if entry["event"] == "web.not_listening"]
    assert "IVR_AGI_HTTP_PORT" in entry["cure"]
    assert entry["log_level"] == "error"
    assert (await line.call(line.buyer())).status == "PAID"
    await web.stop()


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b", "x" * 300])
async def test_host_that_is_not_ours(line, logged, host):
    """The same for an address that this machine does not have."""
    assert await Web(host, 0, Health(line.journal, lambda: True)).start() is None
    assert "web.not_listening" in [entry["event"] for entry in logged]


async def test_serve_answers(tmp_path):
    """The process: ready once it listens; red while it drains, until the last call has ended; no line for each request."""
    async with (
        GatewaySimulator(SEQUENCE) as gateway,
        Serving(gateway_url=gateway.url) as server,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        base = f"http://127.0.0.1:{await server.http_port()}"
        assert (await client.get(f"{base}/readyz")).status_code == 200
        assert "ivr_agi_build_info{" in (await client.get(f"{base}/metrics")).text
        card = Thinking(CARD)
        calling = asyncio.create_task(server.call(gateway, {"enter-card": card}))
        await card.asked.wait()
        assert "ivr_agi_calls_in_progress 1.0" in (await client.get(f"{base}/metrics")).text
        server.process.terminate()
        await until(lambda: server.said("server.draining"))
        got = await client.get(f"{base}/readyz")
        assert got.status_code == 503
        assert got.json()["parts"] == {"listening": "not listening, or draining", "journal": "ok"}
        assert (await client.get(f"{base}/healthz")).status_code == 200
        card.go_on.set()
        assert (await calling)["PAYSTATUS"] == "PAID"
        await asyncio.wait_for(server.process.wait(), 20)
        with pytest.raises(httpx.TransportError):
            await client.get(f"{base}/healthz")
    assert server.process.returncode == 0
    assert not [line for line in server.lines if "HTTP" in line["message"] or "GET" in line["message"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ivr-agi.db", "ivr-agi.db-journal"]


async def test_serve_without_the_port():
    """HTTP_PORT is taken: an error in the log, and a caller pays."""
    async with GatewaySimulator(SEQUENCE) as gateway:
        taken = gateway.url.rsplit(":", 1)[1].split("/")[0]
        async with Serving(gateway_url=gateway.url, http_port=taken) as server:
            assert (await server.call(gateway))["PAYSTATUS"] == "PAID"
            assert "IVR_AGI_HTTP_PORT" in server.said("web.not_listening")[0]["cure"]
    assert server.process.returncode == 0
