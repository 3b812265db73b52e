"""The stand-in's own addresses, under `/simulator/`: rules in, ledger, requests and PINs out.

    GET, POST, DELETE /simulator/rules      GET /simulator/ledger, /simulator/requests, /simulator/pins

A rule is `{"service": "pay", "order_id": "A1", "pan": "6037…", "times": 1, "outcome": {"code": "51"}}`, all
but the outcome optional; an outcome has the fields of `Outcome`, without `wait`, its body as a string.
Cards must never be shown unmasked, the sequence not at all; PINs only at `/simulator/pins`, as if by SMS.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ivr_agi.simulator.outcomes import Fault, Outcome, Rule, mask_card
from ivr_agi.simulator.wire import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from ivr_agi.simulator.gateway import GatewaySimulator

ROOT: Final = "/simulator/"
_HARMLESS: Final = frozenset({"ivr", "amount", "order_id", "invoice_id", "merchant_cid"})


class _OutcomeForm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    code: str = Field("", pattern=r"^[0-9]*$")
    delay: float = Field(0.0, ge=0)
    status: int = Field(200, ge=200, le=599)
    body: str | None = None
    content_type: str = "application/json"
    fault: Fault | None = None
    charge: bool = False

    def made(self) -> Outcome:
        return Outcome(**{**dict(self), "body": None if self.body is None else self.body.encode()})


class _RuleForm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    outcome: _OutcomeForm
    service: Literal["pay", "otp-v2"] | None = None
    order_id: str | None = None
    pan: str | None = None
    times: int | None = None

    def made(self) -> Rule:
        return Rule(**{**dict(self), "outcome": self.outcome.made()})


def respond(simulator: GatewaySimulator, method: str, path: str, body: bytes) -> Reply:
    """Answer a request to `/simulator/…`."""
    place = path.removeprefix(ROOT)
    if place not in _VIEWS:
        return _json({"error": f"there is {', '.join(_VIEWS)}"}, 404)
    match method, place:
        case "POST", "rules":
            return _add_rule(simulator, body)
        case "DELETE", "rules":
            simulator.rules.clear()
        case "GET", _:
            pass
        case _:
            return _json({"error": f"no {method} here"}, 405)
    return _json(_VIEWS[place](simulator))


def _json(shown: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(shown).encode())


def _add_rule(simulator: GatewaySimulator, body: bytes) -> Reply:
    try:
        rule = _RuleForm.model_validate_json(body).made()
    except ValidationError as error:
        where = [
            f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
            for wrong in error.errors(include_input=False)
        ]
        return _json({"error": "; ".join(where)}, 422)
    except ValueError as error:
        return _json({"error": str(error)}, 422)
    simulator.rules.append(rule)
    return _json(_shown_rule(rule), 201)


def _shown_rule(rule: Rule) -> dict[str, object]:
    outcome = rule.outcome
    return {
        "service": rule.service,
        "order_id": rule.order_id,
        "pan": mask_card(rule.pan) if rule.pan else None,
        "times": rule.times,
        "outcome": {
            "code": outcome.code,
            "delay": outcome.delay,
            "status": outcome.status,
            "body": None if outcome.body is None else outcome.body.decode("utf-8", "replace"),
            "content_type": outcome.content_type,
            "fault": outcome.fault,
            "charge": outcome.charge,
        },
    }


def _rules(simulator: GatewaySimulator) -> list[dict[str, object]]:
    return [_shown_rule(rule) for rule in simulator.rules]


def _pins(simulator: GatewaySimulator) -> list[dict[str, object]]:
    pins = simulator.pins.items()
    return [{"card": mask_card(pan), "order_id": order, "pin": pin} for (pan, order), pin in pins]


def _ledger(simulator: GatewaySimulator) -> list[dict[str, object]]:
    return [
        {
            "order_id": charge.order_id,
            "amount": charge.amount,
            "card": charge.card,
            "ref_id": charge.ref_id,
            "ivr": charge.ivr,
            "at": charge.at.isoformat(),
        }
        for charge in simulator.charges
    ]


def _requests(simulator: GatewaySimulator) -> list[dict[str, object]]:
    def masked(name: str, value: object) -> object:
        if name == "pan" and isinstance(value, str):
            return mask_card(value)
        return value if name in _HARMLESS else "***"

    return [
        {
            "service": received.service,
            "body": {name: masked(name, value) for name, value in received.body.items()},
            "at": received.at.isoformat(),
        }
        for received in simulator.requests
    ]


_VIEWS: Final[dict[str, Callable[[GatewaySimulator], list[dict[str, object]]]]] = {
    "rules": _rules,
    "ledger": _ledger,
    "requests": _requests,
    "pins": _pins,
}
