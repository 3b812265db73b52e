"""The journal on PostgreSQL: its log with each statement and its values, its WAL, all that it writes in its folder."""

from __future__ import annotations

import pytest
from canaries import CARD, PIN, SECRETS, assert_clean, assert_found, files
from served import serving

from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule


def written(postgres, since):
    """What has changed in its folder, as one text."""
    now = files(postgres._folder)
    return b"\n".join(text for name, text in now.items() if since.get(name) != text)


@pytest.mark.sqlite("brings a PostgreSQL of its own")
async def test_postgresql(durable_postgres, tmp_path):
    """Paid, declined, unknown, hung up: no canary in what it logs and keeps; a table with the card is found."""
    durable_postgres.sql("ALTER SYSTEM SET log_statement = 'all'")
    durable_postgres.sql("ALTER SYSTEM SET log_parameter_max_length = -1")
    durable_postgres.sql("ALTER SYSTEM SET log_min_duration_statement = 0")
    durable_postgres.sql("SELECT pg_reload_conf()")
    with durable_postgres.fresh() as address:
        durable_postgres.sql("CHECKPOINT")
        before = files(durable_postgres._folder)
        async with serving(tmp_path, journal_url=address) as served:
            rules = {"declined": Outcome(code="51"), "cut": Outcome(fault=Fault.CUT_BODY, charge=True)}
            served.gateway.rules += [
                Rule(rule, service="pay", order_id=order) for order, rule in rules.items()
            ]
            scripts = {"paid": {}, "left": {"enter-pin": HANG_UP}, "declined": {}, "cut": {}}
            told = await served.calls(
                *[served.call(script, f"amount=50000&order_id={order}") for order, script in scripts.items()]
            )
        assert {each["PAYSTATUS"] for each in told} == {"PAID", "HANGUP", "DECLINED", "UNKNOWN"}
        durable_postgres.sql("CHECKPOINT")
        shown = written(durable_postgres, before)
        assert b"603799******9617" in shown
        assert "INSERT INTO attempt" in durable_postgres.log()
        assert_clean(shown, "PostgreSQL")
        assert_clean(served.log, "the log")
        words = " ".join([CARD, PIN, *[secret.text for secret in SECRETS]])
        durable_postgres.sql(f"CREATE TABLE planted AS SELECT '{words}'::text AS words")
        durable_postgres.sql("CHECKPOINT")
        assert_found(durable_postgres.log())
        assert_found(written(durable_postgres, before).replace(durable_postgres.log().encode(), b""))
