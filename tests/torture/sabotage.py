"""The product broken on purpose, each time in one of the ways that cost money: the torture must find each.

Put into the victim's process before it serves. Must never be reached without `--broken`.
"""

import asyncio
import dataclasses

import sqlalchemy as sa

from ivr_agi.gateway import Gateway
from ivr_agi.journal import Journal, lease, steps
from ivr_agi.journal.tables import AttemptState as S
from ivr_agi.journal.tables import attempt
from ivr_agi.model import Verdict


def post_first():
    """The request leaves before `sent` is on disk."""
    step, writing = Journal.step, {}

    async def hasty(self, number, state, *arguments, **named):
        if state is S.SENT:

            async def later():
                await asyncio.sleep(0.05)
                await step(self, number, state, *arguments, **named)

            writing[number] = asyncio.ensure_future(later())
            return
        if number in writing:
            await writing[number]
        await step(self, number, state, *arguments, **named)

    Journal.step = hasty


def forget_sent():
    """`sent` is written, reported as done, and rolled back."""
    step = steps.Scribe.step

    def forgetful(self, connection, number, state, **named):
        if state is not S.SENT:
            step(self, connection, number, state, **named)
            return
        savepoint = connection.begin_nested()
        step(self, connection, number, state, **named)
        savepoint.rollback()

    steps.Scribe.step = forgetful


def recover_as_failed():
    """What the dead have left in `sent` is called failed."""
    settle = lease._settle

    def sure(connection, scribe, row):
        return settle(connection, scribe, {**row, "state": S.CREATED})

    lease._settle = sure


def unknown_as_failed():
    """Whatever is no clear answer is called failed."""
    pay = Gateway.pay

    async def sure(*arguments, **named):
        answer = await pay(*arguments, **named)
        return (
            dataclasses.replace(answer, verdict=Verdict.FAILED)
            if answer.verdict is Verdict.UNKNOWN
            else answer
        )

    Gateway.pay = sure


def tell_before_writing():
    """An outcome that the journal has yet to take is told as if it were there."""
    step = Journal.step

    async def later(self, number, state, *arguments, **named):
        if state not in (S.PAID, S.DECLINED):
            await step(self, number, state, *arguments, **named)
            return

        async def write():
            await asyncio.sleep(0.3)
            await step(self, number, state, *arguments, **named)

        self.__dict__.setdefault("later", set()).add(asyncio.ensure_future(write()))

    Journal.step = later


def post_again():
    """No clear answer: `pay` is posted once more."""
    pay = Gateway.pay

    async def stubborn(*arguments, **named):
        answer = await pay(*arguments, **named)
        return await pay(*arguments, **named) if answer.verdict is Verdict.UNKNOWN else answer

    Gateway.pay = stubborn


def hold_nothing():
    """No order is held: whoever calls, may pay."""
    open_journal = Journal.__init__

    def without_index(self, *arguments, **named):
        open_journal(self, *arguments, **named)
        with self._engine.begin() as connection:
            connection.exec_driver_sql("DROP INDEX IF EXISTS attempt_one_per_order")

    def reserve(self, connection, new, key, **_again):
        now = steps.timestamp()
        values = {
            "state": S.CREATED,
            "holds_order": True,
            "owner": self.owner,
            "created_at": now,
            "updated_at": now,
        }
        begun = sa.insert(attempt).values(**new.row, **values).returning(attempt.c.id)
        attempt_id = connection.execute(begun).scalar_one()
        self._remember(connection, attempt_id, S.CREATED, "", now, key)
        return attempt_id

    async def nobody(_self, _who):
        return None

    Journal.__init__ = without_index
    Journal.may_begin = nobody
    steps.Scribe.reserve = reserve


BREAKS = {
    "post-first": post_first,
    "forget-sent": forget_sent,
    "recover-as-failed": recover_as_failed,
    "unknown-as-failed": unknown_as_failed,
    "tell-before-writing": tell_before_writing,
    "post-again": post_again,
    "hold-nothing": hold_nothing,
}
