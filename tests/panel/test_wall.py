"""What stands in front of the pages: addresses, names, sizes, forms of others, and what a browser is told."""

import re

import pytest
from line import CARD
from panel.office import open_office, who_asks

from ivr_agi import settings
from ivr_agi.panel import guard, wall


async def test_headers(office):
    """Every answer, a page, a file, a redirect, an error: strict CSP without inline anything, no frame, no cache."""
    sara = await office.signed_in("sara")
    for path in ("/charge", "/nothing-here", "/static/panel.css", "/review", "/"):
        got = await sara.client.get(f"/panel{path}")
        csp = got.headers["content-security-policy"]
        assert "default-src 'none'" in csp
        assert "unsafe" not in csp
        assert "frame-ancestors 'none'" in csp
        assert got.headers["x-frame-options"] == "DENY"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["referrer-policy"] == "same-origin"
        assert got.headers["cache-control"].startswith("public" if "static" in path else "no-store")


async def test_no_page_has_what_the_csp_forbids(office):
    """No inline script, style or handler in any page; a script is a file of ours."""
    mina = await office.signed_in("mina")
    for path in (
        "/charge",
        "/payments",
        "/review",
        "/settlement",
        "/today",
        "/live",
        "/phone",
        "/audit",
        "/login",
    ):
        text = (await mina.get(path)).text
        assert not re.search(r"<style|style=|<[^>]+ on[a-z]+=|javascript:", text), path
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", text)), path


async def test_a_form_needs_its_token(office):
    """None, an empty one, a stranger's, another session's: 403, and nothing is done."""
    sara, omid = await office.signed_in("sara"), await office.signed_in("omid")
    await omid.get("/charge")
    await sara.get("/charge")
    fields = {"order_id": "A-1", "amount": "50000", "mobile": "09123456789", "card": CARD}
    fields["ticket"] = sara.hidden("ticket")
    for token in ("", "x", "0" * 64, omid.token, "ا" * 64):
        got = await sara.post("/charge", **fields | {"csrf": token})
        assert got.status_code == 403
        assert "این فرم دیگر معتبر نیست" in got.text
    assert (await sara.client.post("/panel/charge", data=fields)).status_code == 403
    assert office.line.services() == []
    assert office.line.attempts() == []


@pytest.mark.parametrize("path", ["/logout", "/language", "/login"])
async def test_every_form_needs_its_token(office, path):
    """The small ones, too, the door's included."""
    sara = await office.signed_in("sara")
    assert (await sara.client.post(f"/panel{path}", data={"name": "sara"})).status_code == 403
    assert (await sara.get("/charge")).url.path == "/panel/charge"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:8573.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://localhost:8573"},
    ],
)
async def test_a_form_on_another_page(office, headers):
    """A browser says that the form stands elsewhere: refused although the token is right."""
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    got = await sara.client.post("/panel/logout", data={"csrf": sara.token}, headers=headers)
    assert got.status_code == 403
    assert (await sara.get("/charge")).url.path == "/panel/charge"


async def test_a_token_may_come_as_a_header(office):
    """As scripts send it."""
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    got = await sara.client.post(
        "/panel/logout", headers={"X-CSRF-Token": sara.token, "Origin": "http://localhost:8573"}
    )
    assert got.status_code == 303


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "[::2]", "[", "192.168.1.5:8573"]
)
async def test_a_name_that_is_not_ours(office, host):
    """Another name in Host, as DNS rebinding has it, gets nothing, not even the door."""
    got = await office.browser().client.get("/panel/login", headers={"Host": host})
    assert got.status_code == 421
    assert "csrf" not in got.text


@pytest.mark.parametrize("host", ["localhost:8573", "127.0.0.1", "[::1]:8573", "LOCALHOST"])
async def test_names_of_this_machine(office, host):
    assert (await office.browser().client.get("/panel/login", headers={"Host": host})).status_code == 200


async def test_who_may_ask(office, logged):
    """A peer that is neither this machine nor a proxy of ours is told so, and the log names the setting."""
    got = await office.browser("192.0.2.7").client.get("/panel/login")
    assert got.status_code == 403
    assert [entry["cure"] for entry in logged if entry["event"] == "panel.peer_refused"] == [
        "add its network to IVR_AGI_PANEL_PROXIES"
    ]


async def test_behind_a_proxy(tmp_path):
    """Under its https name alone; cookies are Secure, browsers are told to keep to https."""
    async with open_office(
        tmp_path, panel_url="https://pay.example.com", panel_proxies="10.1.0.0/16"
    ) as office:
        client = office.browser("10.1.2.3").client
        got = await client.get("/panel/login", headers={"Host": "pay.example.com"})
        assert got.headers["strict-transport-security"] == "max-age=31536000"
        assert "Secure" in got.headers["set-cookie"]
        assert (await client.get("/panel/login", headers={"Host": "localhost"})).status_code == 421
        assert (await office.browser("127.0.0.1").client.get("/panel/login")).status_code == 403


@pytest.mark.parametrize(
    ("forwarded", "asking"),
    [
        ("", "10.1.2.3"),
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.1.0.7", "203.0.113.9"),
        ("garbage", "10.1.2.3"),
        ("198.51.100.1, garbage", "10.1.2.3"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
async def test_who_asks(forwarded, asking):
    """The last one of X-Forwarded-For that is no proxy of ours: what the client wrote itself is not believed."""
    assert await who_asks(*filter(None, [forwarded])) == asking


async def test_too_much_is_not_read(office):
    """A form beyond 64 KiB is refused, announced or not; the settlement list alone may have 4 MiB."""
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    large = {"csrf": sara.token, "order_id": "x" * (wall.MOST_BYTES + 1)}
    assert (await sara.client.post("/panel/charge", data=large)).status_code == 413

    async def drops():
        for _ in range(70):
            yield b"x" * 1024

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    got = await sara.client.post("/panel/charge", content=drops(), headers=kind)
    assert got.status_code == 413


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", "application/json"])
async def test_forms_of_another_kind(office, kind):
    """What is no form of ours does nothing."""
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    got = await sara.client.post("/panel/charge", content=b"{}", headers={"Content-Type": kind})
    assert got.status_code in (403, 415)


async def test_language(office):
    """The switch leads back to the page one was on, never elsewhere."""
    sara = await office.signed_in("sara")
    got = await sara.post("/language", language="en", back="/panel/charge?after=x")
    assert (got.url.path, got.url.query) == ("/panel/charge", b"after=x")
    assert '<html lang="en" dir="ltr">' in got.text
    for back in (
        "https://evil.example/",
        "//evil.example/panel/",
        "/panel//evil.example",
        "/panel/\\evil",
        "/metrics",
        "x",
    ):
        got = await sara.post("/language", follow=False, language="fa", back=back)
        assert got.headers["location"] == "/panel/"
    got = await sara.post("/language", language="xx", back="/panel/charge")
    assert '<html lang="fa" dir="rtl">' in got.text


async def test_a_bug_says_nothing_of_itself(office, monkeypatch, logged):
    """An exception in a page: 500 and our own sentence; the log has the traceback, and no value of the form."""

    def broken(*_args):
        raise RuntimeError("boom")

    sara = await office.signed_in("sara")
    await sara.get("/charge")
    monkeypatch.setattr(office.panel.desk, "begin", broken)
    got = await sara.begin()
    assert got.status_code == 500
    assert "boom" not in got.text
    assert CARD not in str(logged)
    assert "panel.broken" in [entry["event"] for entry in logged]


async def test_a_journal_that_fails(office, monkeypatch, logged):
    """The journal cannot be read: 503 with what to do, and the cause in the log alone."""
    sara = await office.signed_in("sara")

    async def fails(*_args, **_options):
        raise guard.JournalError("disk /secret/place is full")

    monkeypatch.setattr(office.line.journal, "look", fails)
    got = await sara.get("/charge")
    assert got.status_code == 503
    assert "secret" not in got.text
    assert "disk /secret/place is full" in str(logged)


async def test_files_of_ours_alone(office):
    """No file beside the static ones can be had."""
    client = office.browser().client
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/",
        "/static/none.js",
    ):
        assert (await client.get(f"/panel{path}")).status_code in (404, 405)
    for name in ("panel.css", "panel.js", "htmx.min.js", "htmx-sse.min.js", "vazirmatn.woff2", "icon.svg"):
        assert (await client.get(f"/panel/static/{name}")).status_code == 200


@pytest.mark.parametrize(
    "url",
    [
        "http://pay.example.com",
        "pay.example.com",
        "https://pay.example.com/panel",
        "https://u:p@pay.example.com",
        "ftp://x",
        "https://",
    ],
)
def test_a_panel_url_that_is_none(url):
    """Only https, without a path: the start says so."""
    with pytest.raises(settings.WrongSettings, match="IVR_AGI_PANEL_URL"):
        settings.load(_env_file=None, panel_url=url)


def test_a_secret_that_is_too_short():
    with pytest.raises(settings.WrongSettings, match=r"IVR_AGI_PANEL_SECRET: .*32 characters"):
        settings.load(_env_file=None, panel_secret="short")  # noqa: S106
