"""The product broken on purpose, each time in a way that costs money or a secret: the properties must find each.

Within the same examples as in test_fuzz.py, so that a mistake of the kind would have been found there.
"""

import re

import oracles
import pytest
from hypothesis import Phase
from oracles import Violation
from test_fuzz import tried

from ivr_agi import agi, gateway, https, orders
from ivr_agi.agi import BadEnvironment, Codec, Wire
from ivr_agi.orders import Order, Standing
from ivr_agi.settlement import cells, reading


def paid_by_any_status(patch):
    """Status 1 is paid, whatever HTTP says."""
    patch.setattr(https, "OK", range(600))


def last_key_wins(patch):
    """Of two keys in one object the last counts."""
    patch.setattr(https, "_once_each", dict)


def any_number_pays(patch):
    """A refID of "0" is a tracking number, too."""
    patch.setattr(gateway, "_is_ref_id", bool)


def refusals_are_not_read(patch):
    """A 4xx is a refusal, whatever it says of a payment."""
    patch.setattr(gateway, "_tells_of_pay", lambda _body: False)


def zeros_decline(patch):
    """A code of zeros is a decline."""
    patch.setattr(gateway, "_decline_code", lambda fields: str(fields.get("transactionStatus") or "")[:4])


def words_are_kept(patch):
    """What the gateway says is kept as it is."""
    patch.setattr(gateway.Reply, "note", lambda self, _secrets: str(self.errors)[:200])


def cut_is_whole(patch):
    """A body that was cut counts as far as it came."""
    so_far = gateway.Flight.so_far

    def hopeful(self, trouble):
        came = so_far(self, trouble)
        return came if came.body is not None or not came.status else gateway.Exchange(True, came.status, b"")

    patch.setattr(gateway.Flight, "so_far", hopeful)


def quote_escapes_nothing(patch):
    """Quoting as pyst2 does it."""
    patch.setattr(Codec, "_quote", lambda _self, value: f'"{value}"')


def quote_lets_a_newline_through(patch):
    """Quotes are escaped, line ends are not taken out."""
    patch.setattr(
        Codec,
        "_quote",
        lambda _self, value: '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"',
    )


def last_line_wins(patch):
    """Of two lines with one key in an environment the last counts; no place is looked at."""

    def lenient(lines):
        return {
            name.removeprefix("agi_"): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }

    patch.setattr("scripted_wire.parse_environment", lenient)


def forged_end_is_overlooked(patch):
    """What comes of an environment after its end is passed over."""
    ask = Wire.ask

    async def deaf(self, *arguments):
        try:
            return await ask(self, *arguments)
        except BadEnvironment:
            return agi.Answer(200, "result=0")

    patch.setattr(Wire, "ask", deaf)


def everything_is_kept(patch):
    """No limit to what a peer may send."""
    patch.setattr(agi, "MAX_LINE", 10**9)
    patch.setattr(agi, "MAX_LINES", 10**9)


def amounts_are_guessed(patch):
    """An amount that is no whole number is taken for one."""

    def lenient(reply, amounts):
        try:
            amount = int(reply.get("amount") or 0)
        except (TypeError, ValueError, OverflowError):
            amount = 0
        found = Order(Standing.PAYABLE, str(reply.get("order_id"))[:50], amount)
        return found if amount in amounts else Order(Standing.UNREACHABLE)

    patch.setattr(orders, "_payable", lenient)


def cards_are_copied(patch):
    """A card number in a settlement list is kept as it stands there."""
    patch.setattr(cells, "mask_pan", str)
    patch.setattr(reading, "read_card", lambda text: re.sub(r"[^0-9*]", "", text))


@pytest.mark.parametrize(
    ("broken", "name", "kind"),
    [
        (paid_by_any_status, "answers", "paid-without-proof|pin-without-proof"),
        (last_key_wins, "answers", "-in-doubt|paid-without-proof"),
        (any_number_pays, "answers", "paid-without-"),
        (refusals_are_not_read, "answers", "failed-in-doubt"),
        (zeros_decline, "answers", "declined-in-doubt"),
        (words_are_kept, "answers", "-in-detail"),
        (paid_by_any_status, "http", "paid-without-proof"),
        (cut_is_whole, "http", "failed-|-in-doubt|paid-without"),
        (quote_escapes_nothing, "command", "second-command|other-arguments|quote-left-open"),
        (quote_lets_a_newline_through, "command", "second-command|other-arguments"),
        (last_line_wins, "environment", "forged"),
        (forged_end_is_overlooked, "environment", "forged"),
        (everything_is_kept, "wire", "-kept"),
        (amounts_are_guessed, "order", "amount-changed|order-changed|order-unfit"),
        (cards_are_copied, "settlement", "card-kept"),
    ],
    ids=lambda value: getattr(value, "__name__", value) if not isinstance(value, str) else None,
)
def test_what_is_broken_on_purpose_is_found(broken, name, kind, monkeypatch):
    """Each mistake breaks its own property."""
    monkeypatch.setattr(oracles, "OPEN", frozenset())
    broken(monkeypatch)
    with pytest.raises(Violation) as found:
        tried(name, 1, phases=[Phase.generate])()
    assert re.search(kind, found.value.kind)
