"""What strangers send, and what a session is worth: nothing of it stops a call, fills the log, or opens a page."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from types import SimpleNamespace
from unittest.mock import AsyncMock
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy as sa
from itsdangerous import TimestampSigner
from line import CARD, until
from panel.office import PASSWORD, open_office, who_asks

from ivr_agi.journal import JournalError, NoAnswer, people
from ivr_agi.panel import guard, passwords, sessions, wall
from ivr_agi.panel.guard import SESSION_COOKIE, VISIT_COOKIE
from ivr_agi.panel.pages import live

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PLACES_OF_A_CARD = (
    *(
        "/charge?x=",
        "/charge?after=",
        "/charge/",
        "/payments?order=",
        "/payments?x=",
        "/today?x=",
        "/live?q=",
    ),
    *("/audit?before=", "/review?x=", "/settlement?x=", "/phone?x=", "/nothing/", "/login?x="),
)
LONG_AGO = datetime.now(UTC) - sessions.LONGEST - timedelta(hours=1)


def change(office, statement, **values):
    """Change rows behind the panel's back."""
    office.line.journal.now(lambda connection: connection.execute(sa.text(statement), values))


def rows_of(office, query):
    return office.line.journal.now(lambda connection: connection.execute(sa.text(query)).all())


# -- text that a database does not take -------------------------------------------------------------------


async def test_nul_reaches_no_database(office):
    """In a name or a search it is dropped before a query is made; the try is counted like any other."""
    asked = []

    def note(_connection, _cursor, _statement, parameters, *_more):
        asked.append(repr(parameters))

    sara, stranger = await office.signed_in("sara"), office.browser()
    await stranger.get("/login")
    engine = office.line.journal._engine
    sa.event.listen(engine, "before_cursor_execute", note)
    for text in ("%00", "sara%00", "a%00b", "%ed%a0%80"):  # the last one: half a character
        body = f"csrf={stranger.token}&password=x&name={text}"
        got = await stranger.client.post("/panel/login", content=body, headers=FORM)
        assert got.status_code == 403
        for path in ("/payments?order=", "/payments?ref=", "/payments?mobile=", "/charge?after=", "/charge/"):
            assert (await sara.client.get(f"/panel{path}{text}")).status_code in (200, 404, 422)
    sa.event.remove(engine, "before_cursor_execute", note)
    assert asked
    assert not [parameters for parameters in asked if "\\x00" in parameters]
    log = await office.line.journal.look(people.entries)
    assert [entry["action"] for entry in log] == ["sign-in-failed"] * 4 + ["signed-in"]


def test_nul_is_in_no_field():
    """Of any form: a note of the accountant's, too."""
    request = SimpleNamespace(state=SimpleNamespace(form={"note": " a\0b\0 "}))
    assert guard.field(request, "note") == "ab"


async def test_what_can_be_no_name_is_not_looked_for(office, monkeypatch):
    """The password is compared all the same, so that it takes as long."""
    compared = []

    async def fits(kept, _password):
        compared.append(kept)

    monkeypatch.setattr(office.panel.sessions._passwords, "fits", fits)
    monkeypatch.setattr(people, "find", None)
    assert (await office.browser().sign_in("No Name")).status_code == 403
    assert compared == [None]


async def test_nobody_takes_as_long(office, monkeypatch):
    """A name that nobody has: its password is compared with nobody's."""
    compared = []

    async def fits(kept, _password):
        compared.append(kept)

    monkeypatch.setattr(office.panel.sessions._passwords, "fits", fits)
    await office.browser().sign_in("nobody")
    assert compared == [None]


async def test_a_query_that_fails_cuts_no_other(office, monkeypatch):
    """A reader under way reads on when another one's query is refused; when one hangs, all are cut."""
    begun, go_on = threading.Event(), threading.Event()
    journal = office.line.journal

    def slow(connection):
        connection.execute(sa.text("SELECT 1"))
        begun.set()
        go_on.wait(20)
        return connection.execute(sa.text("SELECT 2")).scalar_one()

    cuts = []
    cut = journal._cut_readers
    monkeypatch.setattr(journal, "_cut_readers", lambda: (cuts.append(1), cut()))
    reading = asyncio.create_task(journal.look(slow))
    await until(begun.is_set)
    with pytest.raises(JournalError):
        await journal.look(lambda connection: connection.execute(sa.text("SELECT * FROM nothing")))
    before = list(cuts)
    go_on.set()
    assert await reading == 2
    assert before == []

    def hangs(_connection):
        raise NoAnswer("nothing in time")

    with pytest.raises(NoAnswer):
        await journal.look(hangs)
    assert cuts == [1]


@pytest.mark.parametrize("number", [2**63 - 1, 2**63, 10**40], ids=["greatest", "one-more", "long"])
async def test_ids_that_no_database_has(office, logged, number):
    """404, without a query that fails and without a traceback."""
    mina = await office.signed_in("mina")
    for path in (f"/payments/{number}", f"/payments/{number}/receipt", f"/review/{number}"):
        assert (path, (await mina.get(path)).status_code) == (path, 404)
    assert (await mina.get(f"/audit?before={number}")).status_code == 200
    assert not [entry for entry in logged if entry["log_level"] == "error"]


# -- forms of strangers -----------------------------------------------------------------------------------


async def test_too_many_fields(office, logged):
    """400 and a sentence; the log gets no traceback for it."""
    body = "&".join(f"a{place}=1" for place in range(guard.MOST_FIELDS + 1))
    got = await office.browser().client.post("/panel/login", content=body, headers=FORM)
    assert got.status_code == 400
    assert "فرم ناقص رسید" in got.text
    assert "panel.broken" not in [entry["event"] for entry in logged]


async def test_a_stranger_may_send_little(office, logged):
    """4 KiB, announced; who is signed in may send 64 KiB, announced or not."""

    async def drops():
        yield b"name=sara"

    client = office.browser().client
    for content, status in (
        (b"x" * guard.MOST_OF_A_STRANGER, 403),  # read, and without a token
        (b"x" * (guard.MOST_OF_A_STRANGER + 1), 413),
        (drops(), 413),
    ):
        assert (await client.post("/panel/login", content=content, headers=FORM)).status_code == status
    sara = await office.signed_in("sara")
    await sara.get("/charge")
    assert (await sara.post("/language", back="x" * 5000, language="fa")).status_code == 200
    assert "panel.broken" not in [entry["event"] for entry in logged]


@pytest.mark.parametrize("length", [str(wall.MOST_BYTES + 1), "9" * 30, "-1", "x", ""])
async def test_an_announced_length_is_refused_unread(length):
    """Not one byte of what is too much, or announced as nonsense, is waited for."""
    told = []

    async def app(*_args):
        told.append("let through")

    async def receive():
        told.append("read")

    async def send(message):
        told.append(message.get("status"))

    walled = wall.Wall(app, url="", proxies=[ip_network("127.0.0.1")], uploads="/u")
    headers = [(b"host", b"localhost"), (b"content-length", length.encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}
    await walled(scope, receive, send)
    assert told[0] == 413
    assert not {"read", "let through"} & set(told)


async def test_a_part_of_a_page_for_nobody(office):
    """Its script is told to lead to the door, and puts no door into the page."""
    got = await office.browser().client.get("/panel/live", headers={"HX-Request": "true"})
    assert (got.status_code, got.headers["hx-redirect"], got.text) == (401, "/panel/login", "")


async def test_a_token_without_a_visit(office, monkeypatch):
    """A form of a browser that keeps no cookie is refused, were its token guessed."""
    monkeypatch.setattr(guard.secrets, "token_urlsafe", lambda _length: "guessed")
    fields = {"csrf": office.panel.sessions.token("guessed"), "name": "sara", "password": PASSWORD}
    assert (await office.browser().client.post("/panel/login", data=fields)).status_code == 403


@pytest.mark.parametrize("name", [CARD, PASSWORD, PASSWORD.replace(" ", "-"), f"a{CARD}"])
async def test_what_is_no_name_is_not_shown_again(office, name):
    """A card number, or a password, in the field of the name; a name is shown again."""
    browser = office.browser()
    assert name not in (await browser.sign_in(name, "x")).text
    assert 'value="omid"' in (await browser.sign_in("omid", "x")).text


async def test_a_card_in_an_address(office):
    """It is in no page, whatever page it is: not in a link, a hidden field, or a header."""
    mina = await office.signed_in("mina")
    spaced = " ".join(CARD[place : place + 4] for place in range(0, 16, 4))
    persian = CARD.translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))
    for path in PLACES_OF_A_CARD:
        for card in (CARD, spaced, persian):
            got = await mina.client.get(f"/panel{path}{quote(card)}")
            for written in (card, quote(card), quote_plus(card)):
                assert (path, written in got.text, written in str(got.headers)) == (path, False, False)
    assert 'name="back" value="/panel/live?q=1"' in (await mina.client.get("/panel/live?q=1")).text


# -- who asks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "asking"),
    [
        (["8.8.8.8", "203.0.113.9"], "203.0.113.9"),
        (["8.8.8.8, 203.0.113.9", "10.1.0.7"], "203.0.113.9"),
        (["203.0.113.9", "garbage"], "10.1.2.3"),
    ],
    ids=["two", "a-proxy-last", "garbage-last"],
)
async def test_more_lines_of_forwarded_for(lines, asking):
    """A proxy may add a line of its own: the last one counts, not the client's."""
    assert await who_asks(*lines) == asking


async def test_cookies_under_https(tmp_path):
    """Of this very host alone: a session's cookie without the prefix is none."""
    async with open_office(tmp_path, panel_url="https://pay.example.com") as office:
        sara = office.browser()
        sara.client.base_url = "https://pay.example.com"
        await sara.get("/login")
        got = await sara.post("/login", follow=False, name="sara", password=PASSWORD)
        set_ = [*sara.page.headers.get_list("set-cookie"), *got.headers.get_list("set-cookie")]
        assert [line.partition("=")[0] for line in set_] == [
            f"__Host-{VISIT_COOKIE}",
            f"__Host-{SESSION_COOKIE}",
        ]
        assert all("; Secure" in line and "; Path=/;" in line and "Domain" not in line for line in set_)
        assert (await sara.get("/charge")).url.path == "/panel/charge"
        tossed = office.browser()
        tossed.client.base_url = "https://pay.example.com"
        tossed.client.cookies.set(SESSION_COOKIE, sara.client.cookies[f"__Host-{SESSION_COOKIE}"])
        assert (await tossed.get("/charge")).url.path == "/panel/login"


# -- sessions ---------------------------------------------------------------------------------------------


async def test_signing_in_anew_ends_the_old_session(office):
    """Whoever has a copy of the old cookie has nothing."""
    sara, thief = await office.signed_in("sara"), office.browser()
    thief.client.cookies.set(SESSION_COOKIE, sara.client.cookies[SESSION_COOKIE])
    await sara.get("/charge")
    assert (await sara.post("/login", name="omid", password=PASSWORD)).url.path == "/panel/charge"
    assert (await thief.get("/charge")).url.path == "/panel/login"
    assert (await sara.get("/charge")).url.path == "/panel/charge"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE session SET begun_at = :then",
        "UPDATE account SET disabled_at = :then",
        "UPDATE account SET role = 'owner'",
        "UPDATE session SET ended_at = :then",
        "UPDATE session SET seen_at = :then",
        "DELETE FROM session",
    ],
    ids=["begun-long-ago", "disabled", "role-of-another-version", "ended", "idle", "forgotten"],
)
async def test_a_row_that_is_no_session(office, statement):
    """Whatever the cookie says, the row decides at each request."""
    sara = await office.signed_in("sara")
    values = {"then": LONG_AGO.isoformat(timespec="milliseconds")} if ":then" in statement else {}
    change(office, statement, **values)
    assert (await sara.get("/charge")).url.path == "/panel/login"


async def test_a_cookie_of_long_ago(office, monkeypatch):
    """Its signature has a time: however new the row is, it is over."""
    with monkeypatch.context() as patch:
        patch.setattr(TimestampSigner, "get_timestamp", lambda _self: int(LONG_AGO.timestamp()))
        await (sara := office.browser()).sign_in("sara")
    assert (await sara.get("/charge")).url.path == "/panel/login"


async def test_the_journal_opens_no_session(office):
    """Whoever reads its rows finds no key that a cookie has; sessions of long ago are gone at the next sign-in."""
    sara = await office.signed_in("sara")
    ((key,),) = rows_of(office, "SELECT key FROM session")
    cookie = sara.client.cookies[SESSION_COOKIE]
    assert key not in cookie
    assert cookie.split(".")[0] not in key
    change(office, "UPDATE session SET begun_at = :then", then=LONG_AGO.isoformat(timespec="milliseconds"))
    await office.signed_in("omid")
    assert key not in [row.key for row in rows_of(office, "SELECT key FROM session")]


async def test_no_room_to_renew_a_password(office, monkeypatch):
    """A right password is let in although there is no time to keep it under newer parameters."""

    async def crowded(*_args):
        raise passwords.Crowded

    monkeypatch.setattr(office.panel.sessions._passwords, "renewed", crowded)
    assert (await office.browser().sign_in("sara")).url.path == "/panel/charge"


# -- who watches ------------------------------------------------------------------------------------------


async def test_many_watch_at_the_same_moment(monkeypatch):
    """All have been let in before one began: no more than allowed are served, and each gives its place back."""
    monkeypatch.setattr(live, "MOST", 2)
    watchers = live.Watchers()
    streams = [live._events(None, watchers) for _ in range(5)]
    first = [await anext(stream, "over") for stream in streams]
    assert first == ["retry: 3000\n\n"] * 2 + ["over"] * 3
    assert watchers.count == 2
    for stream in streams:
        await stream.aclose()
    assert watchers.count == 0


async def test_the_calls_are_written_once_for_all(monkeypatch):
    """For each language, however many watch; a little later anew."""
    written = []
    monkeypatch.setattr(live, "render", lambda request, *_args, **_values: written.append(request) or request)
    monkeypatch.setattr(live, "language_of", lambda request: request)
    monkeypatch.setattr(live, "_now", AsyncMock(return_value={}))
    watchers = live.Watchers()
    looks = [await watchers.look(language) for language in ("fa", "en", "fa", "fa")]
    assert looks == ["fa", "en", "fa", "fa"]
    assert written == ["fa", "en"]
    monkeypatch.setattr(live, "EVERY", 0.0)
    await watchers.look("fa")
    assert written == ["fa", "en", "fa"]
