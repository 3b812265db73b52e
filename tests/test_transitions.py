"""The call's one table: each line of it is walked, by stand-in handlers and by real calls."""

import re
from pathlib import Path

import pytest
from line import CARD, open_line, sample_card

from ivr_agi import flow
from ivr_agi.call import GaveUp
from ivr_agi.conversation import ForbiddenTransition, run
from ivr_agi.flow import ANYWHERE, HANDLERS, MOVES, TRANSITIONS, Event, State
from ivr_agi.model import Hangup, Method, Msisdn, Pan
from ivr_agi.orders import Orders
from ivr_agi.session import Payment
from ivr_agi.simulator.channel import HANG_UP
from ivr_agi.simulator.gateway import Fault, Outcome, Rule
from ivr_agi.simulator.orders import OrdersSimulator

ROOT = Path(__file__).parent.parent
PAIRS = [(state, event) for state, moves in TRANSITIONS.items() for event in moves]
ALL = [(state, event) for state in TRANSITIONS for event in Event]


def way_to(goal):
    """A shortest list of (state, event) that leads from the welcome to a state."""
    ways = {State.WELCOME: []}
    ahead = [State.WELCOME]
    while goal not in ways:
        state = ahead.pop(0)
        for event, after in MOVES.get(state, {}).items():
            if after not in ways:
                ways[after] = [*ways[state], (state, event)]
                ahead.append(after)
    return ways[goal]


async def walk(monkeypatch, steps):
    """Run the runner over handlers that return what `steps` says; returns the states visited, and the payment."""
    ahead, visited = list(steps), []

    def handler(state):
        async def handle(_call, _payment):
            visited.append(state)
            expected, event = ahead.pop(0)
            assert expected is state
            match event:
                case Event.HANGUP:
                    raise Hangup
                case Event.GAVE_UP:
                    raise GaveUp
                case Event.TOO_LONG:
                    raise GaveUp("call-too-long")
            return event

        return handle

    monkeypatch.setattr(flow, "HANDLERS", {state: handler(state) for state in HANDLERS})
    payment = Payment(None, None)
    await run(None, payment)
    return visited, payment


def to_the_end(state):
    """Steps from a state on that bring the call to its end."""
    return [] if state is State.END else [(state, Event.HANGUP)]


@pytest.mark.parametrize(("state", "event"), PAIRS)
async def test_each_transition(monkeypatch, state, event):
    """From each state, each of its events leads where the table says."""
    after = TRANSITIONS[state][event]
    visited, _ = await walk(monkeypatch, [*way_to(state), (state, event), *to_the_end(after)])
    assert visited[len(way_to(state)) :] == [state] + ([] if after is State.END else [after])


@pytest.mark.parametrize(("state", "event"), [pair for pair in ALL if pair not in PAIRS])
async def test_what_the_table_does_not_have(monkeypatch, state, event):
    """An event that is not in the state's line is an error, not a guess."""
    with pytest.raises(ForbiddenTransition, match=f"{event} in state {state}"):
        await walk(monkeypatch, [*way_to(state), (state, event)])


def test_every_state_has_a_handler_and_a_way_out():
    """No state without a handler; from each one the end can be reached."""
    assert set(HANDLERS) == set(TRANSITIONS) == set(State) - {State.END}
    assert all(way_to(state) is not None for state in State)


def test_events_are_all_used():
    """No event that no state knows."""
    assert {event for moves in TRANSITIONS.values() for event in moves} == set(Event)


# Real calls whose steps, taken together, are the table's lines: script, query, settings, rules of the gateway.
CARD_51 = sample_card("51")
NO_51 = b'{"status": 0, "data": {"transactionStatus": "51"}}'
OTP_REFUSED = Rule(Outcome(code="14"), service="otp-v2", times=1)
INVOICES = {
    "1": {"status": "payable", "order_id": "A-17", "amount": 50000},
    "2": {"status": "closed"},
    "3": {"status": "no word of the contract"},
}
REAL_CALLS = {
    "invoice to pay": ({"enter-invoice": "1#"}, "order_id=ask", {}, []),
    "invoice closed": ({"enter-invoice": "2#"}, "order_id=ask", {}, []),
    "invoice not looked up": ({"enter-invoice": "3#"}, "order_id=ask", {}, []),
    "invoice never keyed": ({}, "order_id=ask", {}, []),
    "paid": ({}, "amount=50000&order_id=A", {}, []),
    "refused request": ({}, "amount=x", {}, []),
    "language never chosen": ({}, "amount=50000&language=ask", {}, []),
    "amount never keyed": ({}, "", {}, []),
    "never confirmed": ({"confirm-amount": ""}, "amount=50000", {}, []),
    "cancelled": ({"confirm-amount": "2"}, "amount=50000", {}, []),
    "a person": ({"confirm-amount": "0"}, "amount=50000", {}, []),
    "no mobile": ({}, "amount=50000", {"caller_id": ""}, []),
    "no card": ({"enter-card": ""}, "amount=50000", {}, []),
    "no PIN": ({"enter-pin": ""}, "amount=50000", {}, []),
    "new PIN": ({"enter-pin": ["*#"]}, "amount=50000", {}, []),
    "PIN not sent, again": ({"otp-failed": "1"}, "amount=50000", {}, [OTP_REFUSED]),
    "PIN not sent, other card": (
        {"otp-failed": "2", "enter-card": [CARD, CARD]},
        "amount=50000",
        {},
        [OTP_REFUSED],
    ),
    "PIN not sent": ({}, "amount=50000", {}, [OTP_REFUSED]),
    "wrong PIN": ({"enter-pin": ["11111#"]}, "amount=50000", {}, []),
    "poor card": (
        {"enter-card": [CARD_51, CARD], "enter-pin": ["11111#"]},
        "amount=50000",
        {},
        [Rule(Outcome(body=NO_51), service="pay", times=1)],
    ),
    "declined": (
        {},
        "amount=50000",
        {},
        [Rule(Outcome(body=b'{"status":0}'), service="pay")],
    ),
    "failed": ({}, "amount=50000", {}, [Rule(Outcome(status=403, body=b""), service="pay")]),
    "unknown": ({}, "amount=50000", {}, [Rule(Outcome(fault=Fault.RESET_AFTER_READ), service="pay")]),
    "gone at once": ({"welcome": HANG_UP}, "amount=50000", {}, []),
}


async def test_real_calls_take_every_line(tmp_path, logged):
    """Real calls over real sockets, put together, take every line of MOVES and no other."""
    for number, (name, (script, query, options, rules)) in enumerate(REAL_CALLS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with OrdersSimulator("", INVOICES) as shop, open_line(folder) as line:
            line.server._orders = Orders(shop.url, [], timeout=10, amounts=range(1, 50001))
            line.gateway.rules += [
                Rule(rule.outcome, rule.service, rule.order_id, rule.pan, rule.times) for rule in rules
            ]
            ended = await line.call(line.buyer() | script, query, **options)
            assert ended.status, name
            if name == "paid":
                await line.call(line.buyer(), query)  # the same order again: refused at ORDER

    async with open_line(tmp_path) as line:
        # Another call takes the order between this one's check and its card.
        async def card_after_the_other():
            pan = Pan(CARD)
            await line.payments.reserve(Method.IVR, "A", 50000, pan, Msisdn.parse("09123456789"))
            return CARD

        ended = await line.call(line.buyer(enter_card=[card_after_the_other]), "amount=50000&order_id=A")
        assert (ended.status, ended.reason) == ("REFUSED", "order-busy")

    taken = {(entry["state"], entry["_event"]) for entry in logged if entry["event"] == "call.step"}
    wanted = {(state, event) for state, moves in MOVES.items() for event in moves}
    assert wanted <= taken
    assert taken <= wanted | {(state, event) for state in MOVES for event in ANYWHERE}


def test_diagram_is_the_tables():
    """The diagram in the docs is what `ivr-agi flow` prints, line for line."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"```mermaid\n(stateDiagram.*?)\n```", page, re.DOTALL)
    assert drawn == flow.diagram()
    for state, moves in MOVES.items():
        for event, after in moves.items():
            place = "[*]" if after is State.END else after.name
            assert f"    {state.name} --> {place}: {event}" in drawn.splitlines()
