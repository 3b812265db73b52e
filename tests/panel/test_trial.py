"""The phone in the browser: real calls through the line's own process, and what its pages answer."""

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import aclosing
from types import SimpleNamespace

import httpx
import pytest
import pytest_asyncio
from line import until
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route

from ivr_agi import prompts, sounds
from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import SESSION_COOKIE
from ivr_agi.panel.pages import phone
from ivr_agi.panel.trial import NoSuchCall, Shelf, Trial, TrialError, handset, shape_of
from ivr_agi.panel.trial.handset import BrowserHandset
from ivr_agi.settings import Settings
from ivr_agi.simulator.channel import Channel
from ivr_agi.simulator.handset import Gone, Keyed
from ivr_agi.simulator.outcomes import CARDS, sample_card

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWNER = "zahra"
CARD = sample_card("paid")
REAL = "6104337812345674"  # a good number of another bank, and none of the simulator's


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line_process():
    """One trial line for all; each test that ends its process leaves the next one to start another."""
    trial = Trial({"otp_cooldown": 0.0})
    yield trial
    await trial.close()


@pytest_asyncio.fixture(loop_scope="module")
async def trial(line_process):
    """The line, with no call left on it afterwards."""
    yield line_process
    for call in list(line_process._calls.values()):
        call.channel.hang_up()
        await until(lambda call=call: call.ended)


class Browser:
    """A browser that hears all out and keys what the script says: prompt -> keys, or (event, press) -> None.

    At a prompt that is not in the script, and asks something, the receiver is put down.
    """

    def __init__(self, trial, script, owner=OWNER):
        self.trial = trial
        self.script = script
        self.owner = owner
        self.events = []
        self.pin = ""

    async def start(self, amount="50000", order_id="", caller_id="09123456789", language="fa"):
        self.id = await self.trial.start(self.owner, caller_id, amount, order_id, language)
        return self

    async def run(self):
        async with aclosing(self.trial.events(self.owner, self.id)) as events:
            async for event in events:
                self.events.append(event)
                self.notice(event)
        return self

    def notice(self, event):
        if event["kind"] == "sms":
            self.pin = re.search("[0-9]{6}", event["text"])[0]
        if event["kind"] not in ("play", "collect"):
            return
        answer = self.script.get(event["name"])
        if callable(answer):
            answer = answer(self)
        if answer is None and event["kind"] == "collect":
            self.trial.hang_up(self.owner, self.id)
        for key in answer or ():
            self.press(key)
        self.trial.played(self.owner, self.id, event["seq"])

    def press(self, key):
        self.trial.press(self.owner, self.id, key)

    def names(self, *kinds):
        return [event["name"] for event in self.events if event["kind"] in (kinds or ("play", "collect"))]

    def kinds(self):
        return [event["kind"] for event in self.events]

    @property
    def variables(self):
        assert self.events[-1]["kind"] == "ended"
        return self.events[-1]["variables"]

    def troubles(self):
        return [event["why"] for event in self.events if event["kind"] == "trouble"]


PAYS = {
    "confirm-amount": "1",
    "enter-card": CARD,
    "enter-pin": lambda browser: browser.pin + "#",
    "repeat-reference": "2",
}


async def call(trial, script=None, **form):
    return await (await Browser(trial, PAYS if script is None else script).start(**form)).run()


@pytest.fixture
def answers(monkeypatch):
    """Every answer that has gone over the wire to the line."""
    sent = []
    send = Channel._send

    def noting(channel, answer):
        sent.append(answer)
        send(channel, answer)

    monkeypatch.setattr(Channel, "_send", noting)
    return sent


# -- calls --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", prompts.LANGUAGES)
async def test_a_payment_from_the_browser(trial, language):
    """Each file in the order of a real call, with its words; the bank's message; what the dialplan is told."""
    browser = await call(trial, order_id=f"A-{language}", language=language)
    told = browser.variables
    assert (told["PAYSTATUS"], told["PAYORDERID"], told["PAYAMOUNT"]) == ("PAID", f"A-{language}", "50000")
    assert browser.names() == [
        *["welcome", "amount-is", *prompts.amount(50_000, language), "confirm-amount"],
        *["enter-card", "please-wait", "enter-pin", "please-wait", "paid"],
        *["tracking-number", *prompts.reference(told["PAYREFID"]), "repeat-reference", "goodbye"],
    ]
    heard = [event for event in browser.events if "words" in event]
    assert {event["language"] for event in heard} == {language}
    assert heard[0]["words"] == {each: prompts.text("welcome", each) for each in prompts.LANGUAGES}
    assert [event["on"] for event in browser.events if event["kind"] == "music"] == [True, False] * 2
    assert [event["seq"] for event in browser.events] == list(range(1, len(browser.events) + 1))
    assert browser.troubles() == []


async def test_what_is_keyed_is_never_told(trial):
    """Neither the card nor the PIN comes back in an event; only the message has the PIN, and the card masked."""
    browser = await call(trial)
    said = json.dumps([event for event in browser.events if event["kind"] != "sms"])
    assert browser.pin
    assert CARD not in said
    assert browser.pin not in said
    assert all(CARD not in event["text"] for event in browser.events if event["kind"] == "sms")
    hidden = {event["name"]: event["hidden"] for event in browser.events if event["kind"] == "collect"}
    assert hidden == {
        "confirm-amount": False,
        "enter-card": True,
        "enter-pin": True,
        "repeat-reference": False,
    }


async def test_a_key_stops_what_is_played(trial):
    """Barge-in within the amount read back: the rest of it and the question are not played any more."""
    browser = await call(trial, PAYS | {prompts.amount(50_000, "fa")[0]: "1"})
    place = browser.names().index(prompts.amount(50_000, "fa")[0])
    assert browser.names()[place + 1] == "enter-card"
    played = next(n for n, event in enumerate(browser.events) if event.get("name") == browser.names()[place])
    assert browser.kinds()[played + 1 : played + 4] == ["stop", "keyed", "collect"]
    assert browser.variables["PAYSTATUS"] == "PAID"


async def test_the_first_digit_of_a_card_may_interrupt(trial):
    """A card that is keyed into what is said before the question is whole, and shown as dots throughout."""
    keys = iter([sample_card("51"), CARD[1:]])
    script = PAYS | {"another-card": CARD[0], "silence": lambda _: next(keys, "")}
    script["enter-card"] = lambda _: next(keys)
    browser = await call(trial, script)
    silence = next(e for e in browser.events if e["kind"] == "collect" and e["name"] == "silence")
    assert (silence["kept"], silence["hidden"]) == (1, True)
    assert browser.variables["PAYSTATUS"] == "PAID"


async def test_a_key_that_nothing_listens_for_is_lost(trial):
    """Pressed while a sentence is heard out, or between two, it answers nothing; as on a real line."""
    asked = []

    def ask(_browser):
        asked.append(True)
        return "2"

    script = {"welcome": "1", "amount-is": "1", "confirm-amount": ask}
    browser = await Browser(trial, script).start()
    browser.press("1")  # before anything is played
    await browser.run()
    assert asked
    assert browser.variables["PAYSTATUS"] == "CANCELLED"
    assert browser.kinds().count("keyed") == 1


async def test_a_wrong_pin_is_told(trial):
    """The bank's sentence for a wrong PIN, another message, and the payment goes on."""
    pins = iter(["00000#"])
    browser = await call(trial, PAYS | {"enter-pin": lambda browser: next(pins, browser.pin + "#")})
    assert "error-55" in browser.names()
    assert browser.kinds().count("sms") == 2
    assert browser.variables["PAYSTATUS"] == "PAID"


async def test_a_second_caller_is_not_told_of_the_first_ones_message(trial):
    """A message goes to the call whose order it is, and to no other that is on."""
    other = await Browser(trial, {}).start()
    browser = await call(trial)
    assert "sms" in browser.kinds()
    trial.hang_up(OWNER, other.id)
    await other.run()
    assert "sms" not in other.kinds()


async def test_hanging_up(trial):
    """The receiver put down at a question ends the call, and the dialplan hears why."""
    browser = await call(trial, {"confirm-amount": "1"})
    assert browser.names()[-1] == "enter-card"
    assert browser.variables["PAYSTATUS"] == "HANGUP"
    assert browser.troubles() == []
    browser.press("1")  # too late, and no harm


@pytest.mark.parametrize("streams", [0, 1], ids=["never-taken", "dropped"])
async def test_a_call_that_nobody_listens_to_hangs_up(trial, streams, monkeypatch):
    """A tab that was closed does not hold the line."""
    monkeypatch.setattr(trial, "_dropped_limit", 0.0)
    browser = await Browser(trial, {}).start()
    this = trial._calls[browser.id]
    for _ in range(streams):
        async with aclosing(trial.events(OWNER, browser.id)) as events:
            assert (await anext(events))["seq"] == 1
    await until(lambda: this.ended)
    assert (await browser.run()).variables["PAYSTATUS"] == "HANGUP"


async def test_a_browser_that_was_cut_off_takes_up_where_it_was(trial):
    """Another stream has what came after the last event, once each; the one before it ends."""
    browser = await Browser(trial, {}).start()
    async with aclosing(trial.events(OWNER, browser.id)) as before:
        first = await anext(before)
        async with aclosing(trial.events(OWNER, browser.id, after=first["seq"])) as after:
            trial.played(OWNER, browser.id, first["seq"])
            assert (await anext(after))["seq"] == first["seq"] + 1
            assert [event async for event in before] == []


@pytest.mark.parametrize(
    ("script", "longest"),
    [
        ({"enter-card": REAL}, 0),
        ({"enter-card": CARD[:-1] + "0"}, 0),
        ({"enter-card": "60" + "*" + REAL}, 0),
        ({"enter-card": REAL[:8]}, 0),
        ({"enter-card": sample_card("51"), "another-card": REAL[0], "silence": REAL[1:]}, 1),
        ({"enter-card": CARD, "enter-pin": REAL + "#"}, 0),
    ],
    ids=["card", "check-digit", "after-a-star", "half", "barge-in", "at-the-pin"],
)
async def test_a_card_of_somebodys_goes_nowhere(trial, answers, script, longest):
    """A number that is none of the simulator's ends the call, and not even the line is given it."""
    pin = PAYS["enter-pin"]
    browser = await call(trial, {"confirm-amount": "1", "enter-pin": pin} | script)
    assert browser.troubles() == ["not-a-test-card"]
    assert browser.variables["PAYSTATUS"] in ("HANGUP", "DECLINED")
    long = set(re.findall("result=([0-9*]{7,})", " ".join(answers)))
    assert long <= {CARD, sample_card("51")}
    assert longest == sum(answer == f"200 result={ord(REAL[0])} endpos=8000" for answer in answers)
    assert REAL[:8] not in json.dumps(browser.events)


@pytest.mark.parametrize(
    "ask",
    [
        lambda trial, id_: trial.press("omid", id_, "1"),
        lambda trial, id_: trial.played("omid", id_, 1),
        lambda trial, id_: trial.hang_up("omid", id_),
        lambda trial, id_: trial.events("omid", id_),
        lambda trial, _: trial.press(OWNER, "A" * 32, "1"),
    ],
    ids=["press", "played", "hang-up", "events", "unknown"],
)
async def test_a_call_is_its_users_alone(trial, ask):
    """Another user who knows the id can neither hear the call nor key into it; a guess finds nothing."""
    browser = await Browser(trial, {}).start()
    with pytest.raises(NoSuchCall):
        ask(trial, browser.id)
    assert len(browser.id) == 32


async def test_five_are_too_many(trial):
    """Four calls at once; the fifth is turned away, and taken when one of them has ended."""
    browsers = [await Browser(trial, {}).start() for _ in range(4)]
    with pytest.raises(TrialError, match="too-many-calls"):
        await Browser(trial, {}).start()
    trial.hang_up(OWNER, browsers[0].id)
    await browsers[0].run()
    assert await Browser(trial, {}).start()


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"caller_id": "0912x"}, "bad-caller"),
        ({"caller_id": "0912\nagi_request: x"}, "bad-caller"),
        ({"caller_id": REAL}, "bad-caller"),
        ({"amount": "five"}, "bad-amount"),
        ({"amount": "1" * 14}, "bad-amount"),
        ({"order_id": f"A-{REAL}"}, "bad-order"),
        ({"order_id": "A" * 51}, "bad-order"),
        ({"order_id": "A\tB"}, "bad-order"),
        ({"language": "de"}, "bad-language"),
    ],
    ids=["letters", "line", "card", "words", "long", "card-in-order", "long-order", "tab", "language"],
)
async def test_what_makes_no_call(trial, form, why):
    """The form's mistakes are told by a word, and nothing is dialled."""
    with pytest.raises(TrialError, match=why):
        await Browser(trial, {}).start(**form)
    assert all(each.ended for each in trial._calls.values())


async def test_persian_digits_and_questions(trial):
    """Digits may be Persian; amount and mobile that are not given are asked for, as is the language."""
    browser = await call(trial, {}, amount="۵۰۰۰۰", caller_id="۰۹۱۲۳۴۵۶۷۸۹")
    assert browser.names()[-1] == "confirm-amount"
    script = {"choose-language": "2", "enter-amount": "50000#", "confirm-amount": "1"}
    browser = await call(trial, script, amount="", caller_id="", language="ask")
    assert browser.names("collect") == ["choose-language", "enter-amount", "confirm-amount", "enter-mobile"]
    assert [event["language"] for event in browser.events if event["kind"] == "language"] == ["en"]
    both = next(event for event in browser.events if event.get("name") == "choose-language")["words"]
    assert (
        both["fa"] == both["en"] == " ".join(prompts.text("choose-language", each) for each in ("fa", "en"))
    )


@pytest.mark.parametrize("there", ["en", ""], ids=["in-english", "nowhere"])
async def test_a_missing_sound_is_told(trial, monkeypatch, tmp_path, there):
    """Asterisk plays it in English, or not at all; the page says which file it is in either case."""
    for language in prompts.LANGUAGES:
        for name in prompts.names(language):
            if name != "welcome" or language == there:
                place = tmp_path / language / "ivr-agi" / f"{name}.wav"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(sounds.shipped() / language / "ivr-agi" / f"{name}.wav")
    monkeypatch.setattr(trial, "shelf", Shelf(tmp_path))
    browser = await call(trial, {})
    missing = [(event["language"], event["name"]) for event in browser.events if event["kind"] == "missing"]
    assert missing == [("fa", "welcome")]
    welcomes = [event["language"] for event in browser.events if event["kind"] == "play"][:1]
    assert welcomes == ([there] if there else ["fa"])
    assert ("welcome" in browser.names()) is bool(there)


# -- the line's process -------------------------------------------------------------------------------


def gone(pid):
    """Whether there is no such process any more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_line_that_dies_is_told_and_replaced(trial):
    """The call that was on ends in trouble; the next one is taken by a new process."""
    browser = await Browser(trial, {}).start()
    killed = trial._child.pid
    os.kill(killed, signal.SIGKILL)
    await browser.run()
    assert browser.troubles() == ["lost"]
    assert "PAYSTATUS" not in browser.variables
    assert (await call(trial)).variables["PAYSTATUS"] == "PAID"
    assert trial._child.pid != killed


async def test_a_line_that_nobody_uses_is_let_go(trial, monkeypatch):
    """Some minutes after the last call its process ends."""
    monkeypatch.setattr(trial, "_idle_limit", 0.0)
    await call(trial, {})
    child = trial._child
    await until(lambda: trial._child is None and gone(child.pid))


async def test_closing_ends_calls_and_process():
    """The panel's end: a call that is on is over, the process is gone, and no new call is taken."""
    trial = Trial()
    browser = await Browser(trial, {}).start()
    pid = trial._child.pid
    await trial.close()
    assert gone(pid)
    assert (await browser.run()).kinds()[-1] == "ended"
    with pytest.raises(TrialError, match="not-started"):
        await browser.start()


async def test_the_line_ends_with_its_parent(tmp_path):
    """Standard input closed is the end, however it came to be closed; nothing is left on the disk."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ivr_agi.panel.trial"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    process.stdin.write(b'{"language": "en"}\n')
    assert json.loads(await process.stdout.readline())["url"].startswith("agi://127.0.0.1:")
    assert list(tmp_path.iterdir())
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("executable", "given", "why"),
    [
        (None, {"tries": 99}, "IVR_AGI_TRIES"),
        ("/bin/false", {}, "ended without a word"),
        ("/nowhere/python", {}, "No such file"),
    ],
    ids=["wrong-setting", "ends", "no-program"],
)
async def test_a_line_that_does_not_start(monkeypatch, logged, executable, given, why):
    """The caller gets a word for it, the log the reason; and no call is left behind."""
    monkeypatch.setattr(sys, "executable", executable or sys.executable)
    trial = Trial(given)
    with pytest.raises(TrialError, match="not-started"):
        await Browser(trial, {}).start()
    assert not trial._calls
    await trial.close()
    (entry,) = [entry for entry in logged if entry["event"] == "trial.not_started"]
    assert why in entry["why"]


async def test_no_secret_of_ours_reaches_the_line(monkeypatch, tmp_path):
    """The process gets the settings that shape a call, and nothing of our environment's."""
    seen = tmp_path / "seen"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nenv > {seen}\ncat >> {seen}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr("ivr_agi.panel.trial.child.END_SECONDS", 5.0)
    monkeypatch.setattr("ivr_agi.panel.trial.child.START_SECONDS", 0.5)
    monkeypatch.setenv("IVR_AGI_SEQUENCE", "hush-hush")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    trial = Trial(shape_of(Settings(_env_file=None, tries=2)))
    with pytest.raises(TrialError):
        await Browser(trial, {}).start()
    text = seen.read_text()
    assert "hush-hush" not in text
    assert "NOTIFY_SOCKET" not in text
    assert '"tries": 2' in text


# -- the handset alone --------------------------------------------------------------------------------


class Told(list):
    """Where a handset's events go."""

    def __call__(self, kind, **more):
        self.append({"kind": kind, **more})
        return len(self)


def lonely_handset():
    told = Told()
    return BrowserHandset(told, Shelf(sounds.shipped()), "fa"), told


@pytest.mark.parametrize(
    ("signals", "limits", "keyed"),
    [
        (["", ""], ["file", 8.0], Keyed("", timed_out=True)),
        (["", "1", "2", ""], ["file", 8.0, 8.0, 8.0], Keyed("12", timed_out=True)),
        (["1", "2", "#"], ["file", 8.0, 8.0], Keyed("12", timed_out=False)),
        (["1", "*", "3", "4"], ["file", 8.0, 8.0, 8.0], Keyed("1*34", timed_out=False)),
        (["#"], ["file"], Keyed("", timed_out=False)),
    ],
    ids=["nothing", "too-few", "hash", "full", "hash-at-once"],
)
async def test_keys_are_collected_as_asterisk_does(monkeypatch, signals, limits, keyed):
    """Each key has the whole time limit anew; the file's own time comes first, unless a key cuts it."""
    caller, told = lonely_handset()
    asked = []

    async def signal_(seconds):
        asked.append(seconds)
        return signals[len(asked) - 1]

    monkeypatch.setattr(caller, "_signal", signal_)
    assert await caller.collect("ivr-agi/enter-mobile", 8000, 4) == keyed
    file = Shelf(sounds.shipped()).find("enter-mobile", "fa")
    assert asked == [
        5.0 + Shelf(sounds.shipped()).seconds(file) if limit == "file" else limit for limit in limits
    ]
    assert [event["kind"] for event in told] == ["collect", *(["stop"] if signals[0] else []), "keyed"]
    assert told[-1]["count"] == len("".join(signals))


async def test_a_browser_that_says_nothing_holds_nobody(monkeypatch):
    """Long after its end a file counts as played; what the browser says of another one counts for nothing."""
    monkeypatch.setattr(handset, "PATIENCE", 0.0)
    caller, told = lonely_handset()
    assert await caller.play("beep", "1") == ""
    playing = asyncio.create_task(caller.play("ivr-agi/welcome", "12"))
    await until(lambda: len(told) == 2)
    caller.played(1)
    caller.press("3")
    caller.press("2")
    assert await playing == "2"


async def test_hanging_up_is_gone():
    """A number that may be a real card raises Gone with nothing of it in the message."""
    caller, told = lonely_handset()
    collecting = asyncio.create_task(caller.collect("ivr-agi/enter-amount", 8000, 27))
    await until(lambda: told)
    for key in REAL:
        caller.press(key)
    with pytest.raises(Gone) as gone_:
        await collecting
    assert str(gone_.value) == ""
    assert told[-1] == {"kind": "trouble", "why": "not-a-test-card"}


# -- over HTTP ----------------------------------------------------------------------------------------


TOKEN = "the token of a form"  # noqa: S105


class Sessions:
    """In place of the panel's own: the cookie is the user's name, one token is good for all."""

    async def of(self, cookie):
        return SimpleNamespace(name=cookie, role="admin", key=cookie) if cookie else None

    def token(self, _key):
        return TOKEN

    def accepts(self, token, _key):
        return token == TOKEN


@pytest.fixture
def app(trial):
    """The page and its calls, with a panel around them that knows users and tokens."""

    async def nothing(_request):
        return Response()

    names = ("home", "language", "login", "logout")
    routes = [Route(f"/{name}", nothing, name=name) for name in names]
    app = Starlette(routes=[*phone.routes(trial), *routes, Mount("/static", app=nothing, name="static")])
    app.state.panel = SimpleNamespace(
        language="fa", merchant="", may=lambda _: frozenset(May), navigation=lambda _: [], sessions=Sessions()
    )
    return app


@pytest_asyncio.fixture(loop_scope="module")
async def web(app):
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://panel",
        cookies={SESSION_COOKIE: OWNER},
        headers={"X-CSRF-Token": TOKEN},
    ) as client:
        yield client


FORM = {"caller_id": "09123456789", "amount": "50000", "order_id": "", "language": "fa"}


@pytest.mark.parametrize("language", prompts.LANGUAGES)
async def test_the_page(web, language):
    """Says that it is a trial and needs a script; has the keypad and every test card, and nothing inline."""
    web.cookies.set("ivr-agi-language", language)
    answer = await web.get("/phone")
    assert answer.status_code == 200
    assert re.findall(r'data-key="(.)"', answer.text) == list("123456789*0#")
    for card in CARDS:
        assert f'value="{card.number}"' in answer.text
        outcome = card.fa if language == "fa" else card.en
        assert card.name == "paid" or answer.text.replace("&#39;", "'").count(outcome) >= 2
    assert "<noscript>" in answer.text
    assert 'data-calls="/phone/calls"' in answer.text
    assert 'data-word-trouble-not-a-test-card="' in answer.text
    assert re.findall(r"<script(?![^>]* src=)|\sstyle=|\son[a-z]+=", answer.text) == []


class Stream:
    """An event stream, taken as a server would: what has been sent so far, and a browser that goes away."""

    def __init__(self, app, path, **headers):
        self.app = app
        self.sent = b""
        self.full = False  # whether no more goes out after the first event
        self.left = asyncio.Event()
        self.scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "root_path": "",
            "http_version": "1.1",
            "scheme": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "headers": [
                (b"cookie", f"{SESSION_COOKIE}={OWNER}".encode()),
                *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
            ],
        }

    async def run(self):
        await self.app(self.scope, self.receive, self.send)

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.sent += message.get("body", b"")
        if self.full and self.events():
            await asyncio.Event().wait()

    def events(self):
        return [json.loads(text) for text in re.findall("^data: (.*)$", self.sent.decode(), re.MULTILINE)]


async def test_a_call_over_http(web, app, trial, monkeypatch):
    """Made, heard and keyed into by the addresses of the page; a browser that goes away hangs up."""
    monkeypatch.setattr(trial, "_dropped_limit", 30.0)
    made = await web.post("/phone/calls", data=FORM)
    assert made.status_code == 201
    base = f"/phone/calls/{made.json()['id']}"
    stream = Stream(app, f"{base}/events")
    streaming = asyncio.create_task(stream.run())
    await until(stream.events)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-store"
    played = 0
    while not any(event.get("name") == "confirm-amount" for event in stream.events()):
        if (last := stream.events()[-1])["seq"] > played:
            played = last["seq"]
            assert (await web.post(f"{base}/played", data={"seq": str(played)})).status_code == 204
        await asyncio.sleep(0)
    key = await web.post(f"{base}/keys", data={"key": "1"})
    assert (key.status_code, key.content) == (204, b"")
    await until(lambda: stream.events()[-1].get("name") == "enter-card")
    stream.left.set()
    await streaming
    again = Stream(app, f"{base}/events", last_event_id=str(stream.events()[-1]["seq"]))
    streaming = asyncio.create_task(again.run())
    assert (await web.post(f"{base}/hangup")).status_code == 204
    await streaming
    assert again.events()[-1]["variables"]["PAYSTATUS"] == "HANGUP"
    assert again.events()[0]["seq"] == stream.events()[-1]["seq"] + 1


@pytest.mark.parametrize("full", [False, True], ids=["waiting", "sending"])
async def test_a_browser_that_goes_away_hangs_up(web, app, trial, monkeypatch, full):
    """The server notices at once that nobody takes the events, also amid one, and the call is over."""
    made = await web.post("/phone/calls", data=FORM)
    this = trial._calls[made.json()["id"]]
    stream = Stream(app, f"/phone/calls/{this.id}/events")
    stream.full = full
    streaming = asyncio.create_task(stream.run())
    await until(stream.events)
    stream.left.set()
    await streaming
    assert this._dropped
    monkeypatch.setattr(this, "_dropped_limit", 0.0)
    this._watch_for_a_listener()
    await until(lambda: this.ended)
    assert this.channel.variables["PAYSTATUS"] == "HANGUP"


@pytest.mark.parametrize(
    ("method", "path", "form", "status"),
    [
        ("POST", "keys", {"key": "12"}, 422),
        ("POST", "keys", {}, 422),
        ("POST", "keys", {"key": "h"}, 422),
        ("POST", "played", {"seq": "x"}, 422),
        ("POST", "played", {}, 422),
        ("GET", "keys", None, 405),
        ("GET", "hangup", None, 405),
    ],
    ids=["two", "none", "letter", "no-number", "no-seq", "get-keys", "get-hangup"],
)
async def test_what_is_no_request_of_the_page(web, method, path, form, status):
    """A key is one key; what is not understood is refused and does nothing."""
    made = await web.post("/phone/calls", data=FORM)
    url = f"/phone/calls/{made.json()['id']}/{path}"
    assert (await web.request(method, url, data=form)).status_code == status


@pytest.mark.parametrize("path", ["events", "keys", "played", "hangup"])
async def test_another_user_finds_no_call(web, path):
    """With the id, but another name: 404, as for a call that never was."""
    made = await web.post("/phone/calls", data=FORM)
    method, form = ("GET", None) if path == "events" else ("POST", {"key": "1", "seq": "1"})
    for user, call_id in (("omid", made.json()["id"]), (OWNER, "A" * 32)):
        url = f"/phone/calls/{call_id}/{path}"
        web.cookies.set(SESSION_COOKIE, user)
        answer = await web.request(method, url, data=form)
        assert (answer.status_code, answer.json()) == (404, {"trouble": "no-such-call"})


@pytest.mark.parametrize(
    "path", ["", "/ID/keys", "/ID/played", "/ID/hangup"], ids=["calls", "keys", "played", "hangup"]
)
async def test_a_form_of_somebody_elses_page(web, trial, path):
    """Without the token nothing is done, and without a user nothing is shown."""
    browser = await Browser(trial, {}).start()
    web.headers.pop("X-CSRF-Token")
    url = "/phone/calls" + path.replace("ID", browser.id)
    answer = await web.post(url, data=FORM | {"key": "1", "seq": "1"})
    assert answer.status_code == 403
    assert [each.owner for each in trial._calls.values() if not each.ended] == [OWNER]
    web.cookies.clear()
    for address in ("/phone", f"/phone/calls/{browser.id}/events", "/phone/sounds/fa/welcome.wav"):
        assert (await web.get(address)).headers["location"] == "/login"


@pytest.mark.parametrize(
    ("form", "status", "trouble"),
    [({"amount": "x"}, 422, "bad-amount"), ({"language": ""}, 422, "bad-language")],
    ids=["amount", "language"],
)
async def test_a_form_that_makes_no_call(web, form, status, trouble):
    """Says by a word what is wrong, for the page to put into a sentence."""
    answer = await web.post("/phone/calls", data=FORM | form)
    assert (answer.status_code, answer.json()) == (status, {"trouble": trouble})


@pytest.mark.parametrize("path", ["fa/enter-card", "en/numbers/7", "fa/numbers/20-o", "moh/waiting"])
async def test_a_sound(web, path):
    """Prompts, clips and the music are the shipped files, kept by the browser for an hour."""
    answer = await web.get(f"/phone/sounds/{path}.wav")
    language, _, name = path.partition("/")
    assert answer.content == (sounds.shipped() / language / "ivr-agi" / f"{name}.wav").read_bytes()
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["cache-control"] == "private, max-age=3600"


@pytest.mark.parametrize(
    "path",
    [
        "fa/%2e%2e/%2e%2e/manifest.json",
        "fa/%2e%2e/%2e%2e/en/ivr-agi/welcome.wav",
        "fa/numbers/%2e%2e/welcome.wav",
        "fa/numbers%2f..%2fwelcome.wav",
        "%2e%2e/welcome.wav",
        "fa%2f..%2fen/welcome.wav",
        "fa//etc/passwd.wav",
        "fa/%2fetc%2fpasswd.wav",
        "fa/welcome%00.wav",
        "fa/ivr-agi/welcome.wav",
        "en/numbers/20-o.wav",
        "de/welcome.wav",
        "moh/welcome.wav",
        "fa/waiting.wav",
        "fa/.wav",
    ],
)
async def test_no_other_file(web, path):
    """A name that the catalogue does not have in that language is no file, whatever it would lead to."""
    answer = await web.get(httpx.URL("http://panel", raw_path=f"/phone/sounds/{path}".encode()))
    assert answer.status_code == 404


async def test_the_music_is_left_out_where_there_is_none(web, trial, monkeypatch, tmp_path):
    """The page does not ask for a file that is not there."""
    assert "data-music" in (await web.get("/phone")).text
    monkeypatch.setattr(trial, "shelf", Shelf(tmp_path))
    assert "data-music" not in (await web.get("/phone")).text
    assert (await web.get("/phone/sounds/moh/waiting.wav")).status_code == 404
