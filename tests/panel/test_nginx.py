"""The panel behind a real nginx with the example that is shipped: what passes, what does not, what is written down."""

import asyncio
import re
import shutil
import subprocess
from contextlib import asynccontextmanager

import httpx
import pytest
from line import CARD, Thinking, until
from panel.nginx import EXAMPLE, open_proxied
from panel.office import PASSWORD

CALLER = "127.0.0.2"  # a browser's address, not the proxy's


@pytest.fixture
async def proxied(tmp_path):
    """An office behind nginx."""
    async with open_proxied(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def visiting(proxied, **headers):
    """A visitor who comes by https."""
    transport = httpx.AsyncHTTPTransport(verify=proxied.tls, local_address=CALLER)
    async with httpx.AsyncClient(transport=transport, base_url=proxied.url, headers=headers) as client:
        yield client


async def sign_in(client, name="mina", password=PASSWORD):
    form = await client.get("/panel/login")
    fields = {"csrf": hidden(form, "csrf"), "name": name, "password": password}
    return await client.post(
        "/panel/login", data=fields, headers={"Origin": str(client.base_url).rstrip("/")}
    )


def hidden(page, name):
    return re.search(rf'name="{name}" value="([^"]*)"', page.text)[1]


async def test_signed_in_by_https(proxied):
    """The cookies of somebody who came by https are of no use by http, to a script, or from another site."""
    async with visiting(proxied) as client:
        got = await sign_in(client)
        assert (got.status_code, got.headers["location"]) == (303, "/panel/")
        cookies = got.headers.get_list("set-cookie")
        assert cookies
        for cookie in cookies:
            assert {"Secure", "HttpOnly", "samesite=strict"} <= {
                part if part in ("Secure", "HttpOnly") else part.lower() for part in cookie.split("; ")
            }
        got = await client.get("/", follow_redirects=True)
        assert got.status_code == 200
        assert got.headers.get_list("strict-transport-security") == ["max-age=31536000"]
        assert len(got.headers.get_list("content-security-policy")) == 1
        assert "content-encoding" not in got.headers
        assert got.headers["server"] == "nginx"


async def test_nothing_but_the_panel(proxied):
    """Health and metrics are not there, by whatever way one asks; nor is anything else."""
    paths = ["/metrics", "/healthz", "/readyz", "/panelled", "/x"]
    paths += ["//metrics", "/panel/../metrics", "/panel/%2e%2e/metrics", "/%6detrics"]
    async with visiting(proxied) as client:
        for path in paths:
            url = httpx.URL(proxied.url).copy_with(raw_path=path.encode())
            got = await client.send(client.build_request("GET", url))
            assert (path, got.status_code) == (path, 404)
            assert "nginx" in got.text  # its own page: ivr-agi was not asked


async def test_a_forged_address_is_not_believed(proxied):
    """What a visitor says of X-Forwarded-For is overwritten: the audit log has where he really comes from."""
    async with visiting(proxied, **{"X-Forwarded-For": "203.0.113.9"}) as client:
        await sign_in(client)
        await client.post("/panel/login", data={})
        log = (await client.get("/panel/audit")).text
    assert CALLER in log
    assert "203.0.113.9" not in log
    assert "203.0.113.9" not in proxied.logs()


async def test_by_http_to_https(proxied):
    """In the clear there is but the way to https; no page, no cookie."""
    async with httpx.AsyncClient() as client:
        got = await client.get(f"{proxied.plain_url}/panel/login")
        assert (got.status_code, got.headers["location"]) == (301, "https://localhost/panel/login")
        assert "set-cookie" not in got.headers
        got = await client.post(f"{proxied.plain_url}/panel/login", data={"name": "mina"})
        assert got.status_code == 301


async def test_events_arrive_at_once(proxied):
    """A call that begins is told to who watches, while the stream goes on."""
    line = proxied.office.line
    async with visiting(proxied) as client:
        await sign_in(client, "reza")
        async with client.stream("GET", "/panel/live/events", timeout=15) as stream:
            lines = stream.aiter_lines()
            assert "retry: 3000" in [await anext(lines) for _ in range(2)]
            thinking = Thinking("")
            channel = await line.dial(line.buyer(enter_card=thinking), "amount=50000&order_id=L-1")
            calling = asyncio.create_task(channel.run())
            async for each in lines:
                if "L-1" in each:
                    break
            channel.hang_up()
            thinking.go_on.set()
            await calling


async def test_how_much_may_be_sent(proxied):
    """More than a settlement list or a form may have is refused at the door; what is taken touches no disk on its way."""
    listed = (
        b"PK\x03\x04" + b"a spreadsheet" * 300_000
    )  # 3.7 MiB, of which the panel soon sees that it is no list
    async with visiting(proxied) as client:
        await sign_in(client, "mina")
        page = await client.get("/panel/charge")
        origin = {"Origin": proxied.url}
        csrf = {"csrf": hidden(page, "csrf")}
        for path, size, status in (
            ("/panel/settlement", 5 << 20, 413),
            ("/panel/charge", 70_000, 413),
            ("/panel/charge", 60_000, 422),
        ):
            got = await client.post(path, data=csrf | {"order_id": "x" * size}, headers=origin)
            assert (path, size, got.status_code) == (path, size, status)
            assert ("nginx" in got.text) == (status == 413)
        got = await client.post(
            "/panel/settlement", data=csrf, files={"file": ("a.csv", listed)}, headers=origin
        )
        assert (got.status_code, "nginx" in got.text) == (422, False)
    assert "temporary file" not in proxied.logs()


async def test_passwords_are_tried_slowly(proxied):
    """After a dozen tries in a row nginx says 429, and ivr-agi is not asked; the page itself can be had."""
    async with visiting(proxied) as client:
        got = [(await client.post("/panel/login", data={})).status_code for _ in range(14)]
        assert got[:11] == [403] * 11
        assert got[-1] == 429
        assert (await client.get("/panel/login")).status_code == 200


async def test_what_is_written_down(proxied):
    """A payment and a search: the log has who asked for what, and no card, PIN, mobile, order or query string."""
    async with visiting(proxied) as client:
        await sign_in(client)
        page = await client.get("/panel/charge")
        fields = {
            "csrf": hidden(page, "csrf"),
            "ticket": hidden(page, "ticket"),
            "order_id": "ORDER-77",
            "amount": "50000",
            "mobile": "09123456789",
            "card": CARD,
        }
        page = await client.post(
            "/panel/charge", data=fields, headers={"Origin": proxied.url}, follow_redirects=True
        )
        pin = proxied.office.pin()
        await client.post(
            f"{page.url.path}/pin",
            data={"csrf": hidden(page, "csrf"), "pin": pin},
            headers={"Origin": proxied.url},
        )
        await until(lambda: proxied.office.line.gateway.charges)
        await client.get("/panel/payments?order=ORDER-77&mobile=09123456789&card=7893")
        await client.get("/metrics?order=ORDER-77")
        got = await client.post(
            "/panel/charge?order=ORDER-77", content=b"x" * 70_000
        )  # a fault, for the log of faults
        assert got.status_code == 413
    assert re.search(
        rf"^{CALLER} \[[^]]+\] POST /panel/charge HTTP/1.1 303 ", proxied.access_log, re.MULTILINE
    )
    assert "GET /panel/payments HTTP" in proxied.access_log
    for secret in (CARD, pin, "ORDER-77", "9123456789", PASSWORD, "?"):
        assert secret not in proxied.logs()


def test_caddy_takes_its_example(tmp_path):
    """Where there is a Caddy, it finds nothing wrong with the Caddyfile."""
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("no caddy: `make test` does not install it")
    example = EXAMPLE.with_name("Caddyfile")
    arguments = ["validate", "--adapter", "caddyfile", "--config", example]
    done = subprocess.run(
        [caddy, *arguments], env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
