"""`ivr-agi simulator` whose one-time PIN is always the same, for callers that cannot read an SMS. Says its address first."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ivr_agi.simulator.gateway import GatewaySimulator

if TYPE_CHECKING:
    from ivr_agi.simulator.outcomes import Outcome

Fields = dict[str, object]


class SamePin(GatewaySimulator):
    """The stand-in, to the letter but for the PIN."""

    def __init__(self, sequence: str, pin: str) -> None:
        super().__init__(sequence)
        self._pin = pin

    def _otp(self, fields: Fields, order_id: str, outcome: Outcome) -> tuple[Fields, Outcome]:
        answer = super()._otp(fields, order_id, outcome)
        if sent := self._issued.get((str(fields["pan"]), order_id)):
            sent.pin = self._pin
        return answer


async def main(sequence: str, pin: str) -> None:
    """Serve until killed."""
    async with SamePin(sequence, pin) as bank:
        print(bank.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
