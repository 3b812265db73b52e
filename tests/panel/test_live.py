"""Calls in progress: by state, masked, and pushed to whoever watches."""

import asyncio

from line import CARD, Thinking, until
from panel.office import open_office

from ivr_agi.panel.pages import live
from ivr_agi.web import Health, Web


async def test_calls_are_shown_masked(office):
    """State, order, amount, caller and card of each; the number's middle and the card's are not there."""
    pin = Thinking("")
    calling = asyncio.create_task(
        office.line.call(office.line.buyer(enter_pin=pin), "amount=70000&order_id=L-1")
    )
    await pin.asked.wait()
    sara = await office.signed_in("sara")
    text = (await sara.get("/live")).text
    assert "ورود رمز" in text
    assert "L-1" in text
    assert "۷۰٬۰۰۰ ریال" in text
    assert "+۹۸۹۱۲***۶۷۸۹" in text
    assert "۶۰۳۷۹۹******۷۸۹۳" in text
    assert "9123456789" not in text
    assert CARD not in text
    pin.go_on.set()
    await calling
    await until(lambda: not office.line.server.calls)
    assert "L-1" not in (await sara.get("/live")).text


async def test_a_caller_without_a_number(office):
    """Withheld is said, and nothing breaks before order and amount are known."""
    amount = Thinking("50000#")
    calling = asyncio.create_task(office.line.call({"enter-amount": amount}, "", caller_id=""))
    await amount.asked.wait()
    sara = await office.signed_in("sara")
    text = (await sara.get("/live")).text
    assert "پنهان" in text
    assert "ورود مبلغ" in text
    amount.go_on.set()
    await calling


class Stream:
    """Somebody who watches, over a real connection."""

    def __init__(self, port, browser):
        self.port = port
        self.cookies = "; ".join(f"{each.name}={each.value}" for each in browser.client.cookies.jar)
        self.text = ""

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        request = f"GET /panel/live/events HTTP/1.1\r\nHost: localhost:{self.port}\r\nCookie: {self.cookies}\r\n\r\n"
        self.writer.write(request.encode())
        return self

    async def __aexit__(self, *_exc):
        self.writer.close()

    async def until(self, words):
        async with asyncio.timeout(10):
            while words not in self.text:
                more = await self.reader.read(65536)
                assert more, "the stream has ended"
                self.text += more.decode()

    async def end(self):
        async with asyncio.timeout(10):
            while more := await self.reader.read(65536):
                self.text += more.decode()


async def test_events(tmp_path, monkeypatch):
    """A call that begins and ends shows at once; signing out ends the stream; so does the panel's end."""
    monkeypatch.setattr(live, "EVERY", 0.02)
    monkeypatch.setattr(live, "CHECKED", 0.05)
    async with open_office(tmp_path) as office:
        web = Web("127.0.0.1", 0, Health(office.line.journal, lambda: True), office.panel)
        port = await web.start()
        sara, omid = await office.signed_in("sara"), await office.signed_in("omid")
        async with Stream(port, sara) as stream, Stream(port, omid) as other:
            await stream.until("event: calls")
            assert "text/event-stream" in stream.text
            await other.until("event: calls")
            card = Thinking(CARD)
            calling = asyncio.create_task(
                office.line.call(office.line.buyer(enter_card=card), "amount=50000&order_id=L-2")
            )
            await stream.until("L-2")
            card.go_on.set()
            await calling
            assert office.panel.watchers.count == 2
            await sara.post("/logout")
            await stream.end()
            office.panel.watchers.close()
            await other.end()
        assert office.panel.watchers.count == 0
        await web.stop()


async def test_too_many_watch(office, monkeypatch):
    """One more than allowed is told to come again."""
    monkeypatch.setattr(live, "MOST", 0)
    sara = await office.signed_in("sara")
    assert (await sara.client.get("/panel/live/events")).status_code == 503
