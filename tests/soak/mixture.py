"""Who calls in a soak: the torture's people, who take their time here, and more that they do and that befalls them.

Each call is remembered as theirs are, so that the same audit judges it.
"""

import asyncio
import socket
import struct
from contextlib import suppress

import people
from people import AMOUNT, People, Told

from ivr_agi.simulator.channel import HANG_UP, ScriptedHandset, dial

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets

# What somebody does, or what befalls him, and how often; half of them just pay.
HABITS = people.HABITS | {
    "keys-the-amount": 5,
    "withholds-his-number": 5,
    "chooses-the-language": 5,
    "wants-a-person": 2,
    "keys-nonsense": 2,
    "asks-the-impossible": 3,
    "leaves-at-the-welcome": 1,
    "leaves-at-the-language": 1,
    "leaves-at-the-amount": 1,
    "leaves-at-the-confirmation": 2,
    "leaves-at-the-mobile": 1,
    "leaves-while-the-pin-is-sent": 1,
    "is-cut-off-at-the-card": 2,
    "is-cut-off-at-the-pin": 2,
    "is-cut-off-while-paying": 4,
    "is-cut-off-at-the-outcome": 2,
}
CUT_OFF = {name for name in HABITS if name.startswith("is-cut-off")}
USUAL = f"pay?amount={AMOUNT}&order_id={{order}}"
ASKED_FOR_THE_AMOUNT = "pay?order_id={order}"
ASKED_FOR_THE_LANGUAGE = USUAL + "&language=ask"
# What the dialplan asks for, where it is not the usual thing; one of these.
REQUESTS = {
    "keys-the-amount": [ASKED_FOR_THE_AMOUNT],
    "leaves-at-the-amount": [ASKED_FOR_THE_AMOUNT],
    "chooses-the-language": [ASKED_FOR_THE_LANGUAGE],
    "leaves-at-the-language": [ASKED_FOR_THE_LANGUAGE],
    "asks-the-impossible": [
        "pay?amount=-5&order_id={order}",
        "pay?amount=50000.5&order_id={order}",
        "pay?amount=50000&order_id=" + 51 * "x",
        USUAL + "&colour=red",
        USUAL + "&language=de",
        USUAL + "&mobile=7",
        USUAL + "&amount=1",
        "elsewhere?order_id={order}",
    ],
}
NO_NUMBER = ("withholds-his-number", "leaves-at-the-mobile")


def reset(writer):
    """Reset a connection, as a crashed Asterisk's kernel does."""
    if (wire := writer.get_extra_info("socket")) is not None:  # it is still open
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()


class Caller(ScriptedHandset):
    """Somebody who takes a moment to hear and to key."""

    def __init__(self, script, pause):
        super().__init__(script)
        self._pause = pause

    async def play(self, file, escape):
        await self._pause()
        return await super().play(file, escape)

    async def collect(self, file, timeout_ms, max_digits):
        await self._pause()
        return await super().collect(file, timeout_ms, max_digits)


class Mixture(People):
    """Everybody who calls. think: seconds for each sound and each answer, on average.

    on_the_line: the calls that the server has begun to serve, with their channels.
    """

    def __init__(self, bank, server, seed, *, think, **given):
        super().__init__(bank, server, seed, **{"habits": HABITS} | given)
        self._think = think
        self.on_the_line = {}

    def served(self):
        """The calls that are under way: the server has told their channels something."""
        return [told for told, channel in self.on_the_line.values() if channel.commands]

    async def call(self, order, habit):
        """One call, to whatever end."""
        told = Told(f"+98912{len(self.calls):07}", order, habit)
        self.calls.append(told)
        request = self._rng.choice(REQUESTS.get(habit, [USUAL])).format(order=order)
        number = "" if habit in NO_NUMBER else "0" + told.mobile[3:]
        line = []
        mobile = {"enter-mobile": "0" + told.mobile[3:]}  # asked for only where there is no number
        handset = Caller(mobile | self._script(order, habit, line), self._pause)
        while not line:
            # It has just been killed; the second is uvloop's word for that.
            with suppress(OSError, RuntimeError):
                url = f"agi://127.0.0.1:{await self._server()}/{request}"
                line.append(await dial(url, handset, caller_id=number))
        told.variables = line[0].variables
        self.on_the_line[told.mobile] = told, line[0]
        try:
            await line[0].run()
        except RuntimeError as error:
            # uvloop's, of what would be written to a connection that was reset meanwhile.
            if "handler is closed" not in str(error):
                raise
        finally:
            del self.on_the_line[told.mobile]
        return told

    async def _pause(self):
        await asyncio.sleep(self._rng.uniform(0.5, 1.5) * self._think)

    def _script(self, order, habit, line):
        usual = super()._script(order, habit, line)

        def gone():
            reset(line[0]._writer)
            raise ConnectionResetError  # which ends the call on our side, too

        async def gone_while_paying():
            asyncio.get_running_loop().call_later(self._rng.random() * 0.15, reset, line[0]._writer)
            return await usual["enter-pin"][0]()

        outcomes = ("paid", "unknown", "another-card", "failed")
        return usual | {
            "keys-the-amount": {"enter-amount": f"{AMOUNT}#"},
            "chooses-the-language": {"choose-language": self._rng.choice("12")},
            "wants-a-person": {"confirm-amount": "0"},
            "keys-nonsense": {"confirm-amount": ["7", "*", "1"], "enter-card": ["1234567812345678", "*", ""]},
            "leaves-at-the-welcome": {"welcome": HANG_UP},
            "leaves-at-the-language": {"choose-language": HANG_UP},
            "leaves-at-the-amount": {"enter-amount": HANG_UP},
            "leaves-at-the-confirmation": {"confirm-amount": HANG_UP},
            "leaves-at-the-mobile": {"enter-mobile": HANG_UP},
            "leaves-while-the-pin-is-sent": {"please-wait": HANG_UP},
            "is-cut-off-at-the-card": {"enter-card": gone},
            "is-cut-off-at-the-pin": {"enter-pin": gone},
            "is-cut-off-while-paying": {"enter-pin": [gone_while_paying, ...]},
            "is-cut-off-at-the-outcome": dict.fromkeys(outcomes, gone),
        }.get(habit, {})
