"""Who gets in, what he may do, and how he is kept out."""

import re
from datetime import timedelta
from functools import partial

import pytest
from argon2 import PasswordHasher
from itsdangerous import TimestampSigner
from panel.office import PASSWORD, QUICK, SECRET, open_office
from process import Terminal, ivr_agi

from ivr_agi.journal import JournalError, people
from ivr_agi.panel import passwords, sessions
from ivr_agi.panel.accounts import MAY, May, Role, Unfit, check_name, check_password
from ivr_agi.panel.app import SECTIONS
from ivr_agi.panel.guard import SESSION_COOKIE

PAGES = {
    "/charge": May.CHARGE, "/payments": May.LOOK, "/payments/1": May.LOOK, "/review": May.RESOLVE,
    "/settlement": May.RESOLVE, "/today": May.COUNT, "/live": May.WATCH, "/phone": May.TRY, "/audit": May.AUDIT,
}  # fmt: skip
NAMES = {"operator": "sara", "accountant": "reza", "admin": "mina"}


async def test_sign_in_and_out(office):
    """The cookie is signed, HttpOnly and SameSite; after signing out a copy of it opens nothing."""
    sara = office.browser()
    await sara.get("/login")
    got = await sara.post("/login", follow=False, name="sara", password=PASSWORD)
    (cookie,) = [each for each in got.headers.get_list("set-cookie") if each.startswith(SESSION_COOKIE)]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    stolen = sara.client.cookies[SESSION_COOKIE]
    assert (await sara.get("/charge")).url.path == "/panel/charge"
    await sara.post("/logout")
    thief = office.browser()
    thief.client.cookies.set(SESSION_COOKIE, stolen)
    assert (await thief.get("/charge")).url.path == "/panel/login"
    assert (await sara.get("/charge")).url.path == "/panel/login"


@pytest.mark.parametrize("path", [*PAGES, "/", "/live/events", "/phone/sounds/fa/welcome.wav"])
async def test_nothing_is_shown_to_strangers(office, path):
    """Every page leads to the door, whatever cookie is made up."""
    for cookie in ("", "x", "a.b.c", TimestampSigner("another secret of 32 characters").sign("k").decode()):
        stranger = office.browser()
        if cookie:
            stranger.client.cookies.set(SESSION_COOKIE, cookie)
        got = await stranger.client.get(f"/panel{path}")
        assert (got.status_code, got.headers["location"]) == (303, "/panel/login")


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_sees_its_pages(office, role):
    """A page is open to whom MAY says, and 403 to the others; the navigation shows those that are open."""
    person = await office.signed_in(NAMES[role])
    for path, needed in PAGES.items():
        got = await person.get(path)
        assert (got.status_code == 403) == (needed not in MAY[role]), path
    sections = [name for name, needed in SECTIONS if needed in MAY[role]]
    got = await person.get("/live")
    links = re.findall(r'<li><a href="/panel/([a-z]+)"', got.text)
    assert links[: len(sections)] == sections


async def test_wrong_password(office):
    """Wrong name and wrong password get the same answer; both are counted, neither is written down."""
    person = office.browser()
    one = await person.sign_in("sara", "not the password 1")
    other = await person.sign_in("nobody-of-that-name", PASSWORD)
    assert (one.status_code, other.status_code) == (403, 403)
    strip = partial(re.sub, r'value="[^"]*"', "")
    assert strip(one.text) == strip(other.text)
    log = await office.line.journal.look(people.entries)
    assert [entry["action"] for entry in log] == ["sign-in-failed"] * 2
    assert log[0]["who"].startswith("?")
    assert not [entry for entry in log if "nobody" in str(entry) or "password" in str(entry)]


async def test_guessing_is_throttled_by_name(office, monkeypatch):
    """After so many wrong ones the right one is not even compared; another name still gets in; later it works again."""
    person = office.browser("127.0.0.2")
    for _ in range(sessions.MOST_OF_NAME):
        assert (await person.sign_in("sara", "wrong password 1")).status_code == 403
    assert (await person.sign_in("sara")).status_code == 429
    assert (await office.browser("127.0.0.3").sign_in("sara")).status_code == 429
    assert (await person.sign_in("omid")).status_code == 200
    monkeypatch.setattr(sessions, "WINDOW", timedelta(0))
    assert (await office.browser().sign_in("sara")).status_code == 200


async def test_guessing_is_throttled_by_address(office, monkeypatch):
    """One address that tries many names is turned away; from another one the same names get in."""
    monkeypatch.setattr(sessions, "MOST_OF_ADDRESS", 3)
    person = office.browser("127.0.0.2")
    for name in ("aa", "bb", "cc"):
        await person.sign_in(name, "wrong password 1")
    assert (await person.sign_in("sara")).status_code == 429
    assert (await office.browser("127.0.0.3").sign_in("sara")).status_code == 200


def test_a_network_of_ipv6_counts_as_one():
    """Whoever has an address there has a whole network of them."""
    crowd = sessions._crowd_of
    assert crowd("2001:db8:1:2:3:4:5:6") == crowd("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert crowd("2001:db8:1:3::9") != crowd("2001:db8:1:2::9")
    assert crowd("203.0.113.9") == "203.0.113.9"


async def test_a_crowd_at_the_door(office, monkeypatch):
    """Too many passwords to compare at once: the next one is asked to come again, and nothing is counted."""
    monkeypatch.setattr(passwords, "MOST_WAITING", 0)
    assert (await office.browser().sign_in("sara")).status_code == 503
    assert await office.line.journal.look(people.entries) == []


async def test_idle_and_long_sessions_end(office, monkeypatch):
    """Without a request for as long as the setting says, or after twelve hours, one must sign in again."""
    sara = await office.signed_in("sara")
    assert (await sara.get("/charge")).url.path == "/panel/charge"
    with monkeypatch.context() as later:
        later.setattr(office.panel.sessions, "_idle", timedelta(seconds=-1))
        assert (await sara.get("/charge")).url.path == "/panel/login"
    assert (await sara.get("/charge")).url.path == "/panel/charge"
    monkeypatch.setattr(sessions, "LONGEST", timedelta(seconds=-1))
    assert (await sara.get("/charge")).url.path == "/panel/login"


async def test_looking_on_keeps_nobody_signed_in(office, monkeypatch):
    """An event stream's own look at the session is no use of it; a page is."""
    sara = await office.signed_in("sara")
    cookie = sara.client.cookies[SESSION_COOKIE]
    monkeypatch.setattr(sessions, "SEEN_EVERY", timedelta(seconds=-1))

    async def seen():
        def look(connection):
            return connection.exec_driver_sql("SELECT seen_at FROM session").scalar_one()

        return await office.line.journal.look(look)

    before = await seen()
    await office.panel.sessions.of(cookie, looking_on=True)
    assert await seen() == before
    await office.panel.sessions.of(cookie)
    assert await seen() > before


@pytest.mark.parametrize("change", [{"password": "x"}, {"role": "admin"}, {"disabled_at": "2026-01-01"}])
async def test_a_changed_account_is_signed_out(office, change):
    """A new password, another role, a closed account: whoever is signed in is so no longer."""
    sara = await office.signed_in("sara")
    office.line.journal.now(partial(people.change, name="sara", **change))
    assert (await sara.get("/charge")).url.path == "/panel/login"


async def test_a_disabled_account(office):
    """The right password of a closed account is answered as a wrong one."""
    office.line.journal.now(partial(people.change, name="sara", disabled_at="2026-01-01"))
    assert (await office.browser().sign_in("sara")).status_code == 403


async def test_older_parameters_are_renewed(office):
    """A password kept under weaker parameters is kept under today's after the next sign-in; it stays the same."""
    weak = PasswordHasher(time_cost=1, memory_cost=16, parallelism=1).hash(PASSWORD)
    office.line.journal.now(partial(people.change, name="sara", password=weak))
    await office.signed_in("sara")
    kept = (await office.line.journal.look(partial(people.find, name="sara"))).password
    assert kept != weak
    assert not QUICK.check_needs_rehash(kept)
    await office.signed_in("sara")


async def test_the_secret_is_changed(tmp_path):
    """New and old together: who is signed in stays so, and a form from before is still taken."""
    async with open_office(tmp_path) as office:
        sara = await office.signed_in("sara")
        cookie = sara.client.cookies[SESSION_COOKIE]
    async with open_office(tmp_path, panel_secret=f"{'n' * 32},{SECRET}", users=()) as office:
        again = office.browser()
        again.client.cookies.set(SESSION_COOKIE, cookie)
        again.page = sara.page
        assert (await again.post("/logout")).url.path == "/panel/login"
    async with open_office(tmp_path, panel_secret="n" * 32, users=()) as office:
        again = office.browser()
        again.client.cookies.set(SESSION_COOKIE, cookie)
        assert (await again.get("/charge")).url.path == "/panel/login"


@pytest.mark.parametrize("name", ["", "S", "Sara", "1sara", "sara ", "sa ra", "سارا", "a" * 41, "x/y", "a'b"])
def test_names_that_are_none(name):
    with pytest.raises(Unfit):
        check_name(name)


@pytest.mark.parametrize(
    "password",
    ["", "short1", "x" * 129 + "1", "only letters here", "123456789012", "sara and 12345", "aaaaaaaaaaa1"],
)
def test_passwords_that_are_not_taken(password):
    """Each is refused, and the message does not quote it."""
    with pytest.raises(Unfit) as refused:
        check_password(password, "sara")
    assert not password or password not in str(refused.value)


def test_a_password_is_kept_by_argon2id():
    """As RFC 9106 asks: argon2id, a salt of its own each time."""
    one, other = passwords.Passwords.hashed(PASSWORD), passwords.Passwords.hashed(PASSWORD)
    assert one.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert one != other


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET who = 'x'"])
def test_the_audit_log_only_grows(journal, statement):
    """The database itself refuses to change or cut it."""
    journal.now(partial(people.record, who="sara", address="", action="signed-in"))
    with pytest.raises(JournalError, match=r"append-only|audit"):
        journal.now(lambda connection: connection.exec_driver_sql(statement))


async def test_user_commands(journal, begun):
    """add, list, password, role, disable, enable: what was asked is done, and each is in the audit log."""
    add = await ivr_agi("user", "add", "sara", "--role", "operator", stdin=f"{PASSWORD}\n", journal_url=begun)
    assert add == (0, "sara may sign in, as operator.\n", "")
    again = await ivr_agi("user", "add", "sara", "--role", "admin", stdin=f"{PASSWORD}\n", journal_url=begun)
    assert again[0] == 1
    assert "ivr-agi user password sara" in again[2]
    for arguments in (("role", "sara", "admin"), ("disable", "sara"), ("enable", "sara")):
        assert (await ivr_agi("user", *arguments, journal_url=begun))[0] == 0
    weak = await ivr_agi("user", "password", "sara", stdin="weak\n", journal_url=begun)
    assert (weak[0], "12 to 128 characters" in weak[2]) == (2, True)
    assert (await ivr_agi("user", "password", "nobody", stdin=f"{PASSWORD}\n", journal_url=begun))[0] == 1
    assert "admin" in (await ivr_agi("user", "list", journal_url=begun))[1]
    log = await journal.look(people.entries)
    assert [entry["about"] for entry in reversed(log)] == [
        "sara: operator", "sara: role admin", "sara: disabled", "sara: enabled",
    ]  # fmt: skip
    assert PASSWORD not in str(log)


async def test_a_password_is_typed_unseen(journal, begun):
    """At a terminal it is asked for twice and not echoed; two that differ change nothing."""
    async with Terminal("user", "add", "sara", "--role", "admin", journal_url=begun) as terminal:
        await terminal.until(b"Password for sara")
        terminal.type(PASSWORD)
        await terminal.until(b"Once more")
        terminal.type("another one 12345")
        await terminal.process.wait()
        assert PASSWORD not in terminal.shown.decode()
    assert journal.now(people.every) == []
