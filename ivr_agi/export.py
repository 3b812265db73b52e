"""What a merchant, his spreadsheet or his bookkeeper gets of an attempt, as a file. Pure."""

from __future__ import annotations

from typing import Final

# The columns, in this order.
EXPORTED: Final = (
    "id", "order_id", "state", "amount", "card", "ref_id", "code", "reason", "review", "mobile",
    "method", "pins_sent", "call", "created_at", "updated_at",
    "resolution", "resolved_by", "resolved_at", "evidence",
)  # fmt: skip
# Somebody else's words, unlike the mobile number's `+`
FREE_TEXT: Final = ("order_id", "ref_id", "reason", "resolved_by", "evidence")


def no_formula(text: str) -> str:
    """Keep a spreadsheet from running what somebody chose as an order id."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
