"""docs/webhook.md, which the merchant's developer reads: its examples are true, its receiver works."""

import json
import re
import threading
from http.server import HTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
from receiver import Clock, end, row, settled, tried

from ivr_agi import webhook
from ivr_agi.journal import AttemptState, Journal, NewAttempt, Resolution
from ivr_agi.journal.tables import attempt as attempts
from ivr_agi.journal.tables import notice
from ivr_agi.model import Secret
from ivr_agi.webhook import AT_ONCE, WAITS, Webhook

ROOT = Path(__file__).parent.parent
S = AttemptState
KINDS = (S.PAID, S.DECLINED, S.FAILED, S.UNKNOWN, S.RESOLVED)  # as the page has them


@pytest.fixture
def journal(begun):
    opened = Journal(begun, notices=True)
    yield opened
    opened.close()


def page():
    return (ROOT / "docs" / "webhook.md").read_text(encoding="utf-8")


async def test_the_examples_are_true(journal):
    """Each body on the page is what is sent for such an outcome: its fields, their types, which are empty."""
    attempt = await end(journal, "A", S.UNKNOWN)
    with journal._engine.begin() as connection:
        connection.execute(sa.update(attempts).values(review="charged"))
    journal.resolve(attempt, Resolution.PAID, by="Sara", evidence="statement", ref_id="7")
    for state in (S.PAID, S.DECLINED):
        await end(journal, state, state)
    failed = await journal.reserve(NewAttempt("F", "ivr", 1, "603799******7893", "+989123456789"))
    await journal.step(failed, S.FAILED, reason="hangup")
    query = sa.select(notice.c.body).where(notice.c.kind != "payment.unknown")
    real = {body["type"]: body for row in journal._rows(query) for body in [json.loads(row["body"])]}
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page(), re.DOTALL)]
    assert [body["type"] for body in shown] == [f"payment.{state}" for state in KINDS]
    for body in shown:
        assert body["type"] == f"payment.{body['payment']['state']}"
        if body["type"] in real:
            assert shape(body) == shape(real[body["type"]])
    assert {shape(body)[0] for body in shown} == {shape(real["payment.paid"])[0]}


def shape(body):
    """A body's names and types, in their order; and which of the payment's fields are empty."""
    names = [(name, type(value)) for part in (body, body["payment"]) for name, value in part.items()]
    return str(names), [name for name, value in body["payment"].items() if value == ""]


async def test_the_receiver_works(journal, tmp_path):
    """The page's lines are a receiver: it keeps each notice once, and refuses whoever signs otherwise."""
    clock = Clock()
    (code,) = re.findall(r"```python\n(.*?)```", page(), re.DOTALL)
    assert len(code.splitlines()) <= 30
    example = {"__name__": "example"}
    exec(code, example)  # noqa: S102 - our own page
    example["FOLDER"] = str(tmp_path)
    example["Receiver"].log_message = lambda *_: None
    with HTTPServer(("127.0.0.1", 0), example["Receiver"]) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        stranger = Webhook(journal, url, [Secret("another")], days=3, clock=clock)
        known = Webhook(journal, url, [Secret("new"), Secret("change me")], days=3, clock=clock)
        try:
            stranger.start()
            await end(journal, "A-1")
            await tried(journal, 1)
            await stranger.stop()
            assert row(journal)["trouble"] == "http-401"
            clock.now += 6
            known.start()
            await settled(journal)
            assert journal.resend_notice(row(journal)["key"])
            known.wake()
            await settled(journal)
            await known.stop()
        finally:
            server.shutdown()
            serving.join()
    kept = [path for path in tmp_path.iterdir() if path.suffix == ".json"]
    assert [path.stem for path in kept] == [row(journal)["key"]]
    assert json.loads(kept[0].read_bytes())["payment"]["order_id"] == "A-1"


def test_each_why_is_explained():
    """Whatever the journal and the log give as the trouble is in the page's table; and each promise is ours."""
    words = ["timeout", "connect-error", "tls-error", "read-error", "remote-protocol-error", "internal-error"]
    for why in (*words, "http-401", "http-301", "http-404", "http-500"):
        assert f"`{why}`" in page()
    assert WAITS == (5, 30, 120, 600, 3600)
    assert "after 5 s, 30 s, 2\n  and 10 minutes, then each hour, for `WEBHOOK_DAYS` (3)" in page()
    assert len(WAITS) + 1 == 6
    assert "at least six tries" in page()
    assert f"after\n{webhook.DEADLINE:g} seconds it counts as not delivered" in page()
    assert f"Up to {AT_ONCE} requests come at once" in page()
