"""Take a payment for somebody on the phone or at the desk: method 2.2 of the gateway.

Card and PIN go from the form into a Pan and a Pin and on to the desk; no page gets them back, no form shows
them again. Every form leads to a redirect, so that a reload asks nothing of anybody.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import RedirectResponse
from starlette.routing import Route

from ivr_agi import outcomes
from ivr_agi.journal import AttemptState
from ivr_agi.model import Msisdn, Pan, Pin, Verdict, ascii_digits, holds_card
from ivr_agi.panel.accounts import May
from ivr_agi.panel.desk import Full, Reused, Sale, Stage
from ivr_agi.panel.guard import Stopped, field, guarded, record
from ivr_agi.panel.showing import caller_hears, language_of, page, path
from ivr_agi.payments import Refused
from ivr_agi.request import BadRequest, make_order_id, read_amount, read_order_id

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

TICKET: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
REFRESH: Final = 2  # seconds between two looks while the bank is asked
ASKED: Final = ("order_id", "amount", "mobile")
KNOWN: Final = (AttemptState.PAID, AttemptState.DECLINED, AttemptState.FAILED, AttemptState.RESOLVED)
PERSIAN: Final = str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹")
LIKE_A_CARD: Final = re.compile(r"\d([\W_]*\d){14}")  # one digit short of one, and more


def routes() -> list[Route]:
    """Of this module."""
    return [
        Route("/charge", guarded(show_form, May.CHARGE), name="charge"),
        Route("/charge", guarded(begin, May.CHARGE), methods=["POST"]),
        Route("/charge/{ticket}", guarded(show_sale, May.CHARGE), name="sale"),
        Route("/charge/{ticket}/pin", guarded(submit, May.CHARGE), methods=["POST"], name="sale_pin"),
        Route("/charge/{ticket}/send", guarded(send_pin, May.CHARGE), methods=["POST"], name="sale_send"),
        Route("/charge/{ticket}/cancel", guarded(cancel, May.CHARGE), methods=["POST"], name="sale_cancel"),
    ]


async def show_form(request: Request) -> Response:
    """The empty form; after=TICKET fills in the order of a sale that came to nothing, for another card."""
    before = _find(request, request.query_params.get("after", ""))
    given = dict.fromkeys(ASKED, "")
    if before is not None:
        given = {
            "order_id": before.order_id,
            "amount": str(before.amount),
            "mobile": before.mobile.replace("+98", "0", 1),
        }
    return _form(request, given, {})


async def begin(request: Request) -> Response:
    """Reserve the order and have the PIN sent."""
    given = {name: field(request, name, 60) for name in ASKED}
    given |= {name: ascii_digits(given[name]) for name in ("amount", "mobile")}
    errors: dict[str, str] = {}
    panel, user, ticket = request.app.state.panel, request.state.user, field(request, "ticket", 40)
    order_id = _read(errors, "order_id", partial(_order, given["order_id"]))
    amount = _read(errors, "amount", partial(_amount, given["amount"], panel.settings.amounts))
    mobile = _read(errors, "mobile", partial(_mobile, given["mobile"]))
    pan = _read(errors, "card", partial(_pan, str(request.state.form.get("card", ""))))
    if errors:
        return _form(request, given, errors, 422)
    if not TICKET.fullmatch(ticket):
        raise Stopped(400, "broken_form")

    async def begun(attempt_id: int) -> None:
        await record(request, "charge", attempt_id=attempt_id)

    try:
        for written in _ways_to_write(order_id, given["order_id"]):
            await panel.desk.check_order(written)
        made = not given["order_id"]
        sale = await panel.desk.begin(
            user.name, ticket, order_id, amount, mobile, pan, begun, order_is_made=made
        )
    except Refused as refused:
        return _form(request, given, {}, 409, refused=refused.reason)
    except Full:
        return _form(request, given, {}, 429, refused="too_many_sales")
    except Reused:
        return _form(request, given, {}, 409, refused="used_form")
    return RedirectResponse(path(request, "sale", ticket=sale.ticket), 303)


async def show_sale(request: Request) -> Response:
    """How a sale stands: the question for the PIN, "please wait", or the outcome."""
    sale = _find(request, request.path_params["ticket"])
    if sale is None:
        raise Stopped(404, "no_sale")
    if sale.answer and sale.answer.verdict is Verdict.UNKNOWN and await _is_known_by_now(request, sale):
        return RedirectResponse(path(request, "payment", attempt_id=sale.attempt_id), 303)
    return _sale(request, sale)


async def _is_known_by_now(request: Request, sale: Sale) -> bool:
    """Whether a late answer, or a person, has said what became of an unknown one."""
    row = await request.app.state.panel.journal.get(sale.attempt_id)
    return row is not None and row["state"] in KNOWN


async def submit(request: Request) -> Response:
    """Pay, once: a second click finds that it has been done."""
    sale = _of_the_form(request)
    settings = request.app.state.panel.settings
    keyed = ascii_digits("".join(str(request.state.form.get("pin", "")).split()))
    if not (settings.pin_min <= len(keyed) <= settings.pin_max and keyed.isdecimal()):
        return _sale(request, sale, error="bad_pin", status=422)
    request.app.state.panel.desk.submit(sale, Pin(keyed))
    await request.app.state.panel.desk.outcome(sale)
    return _back(request, sale)


async def send_pin(request: Request) -> Response:
    """Have a new PIN sent, if it is time."""
    sale = _of_the_form(request)
    before = sale.attempt_id
    try:
        if await request.app.state.panel.desk.send_pin(sale) > 0:
            return _sale(request, sale, error="too_soon", status=429)
    except Refused:
        return _sale(request, sale, error="closing", status=503)
    if sale.attempt_id != before and sale.attempt_id is not None:
        await record(request, "charge", attempt_id=sale.attempt_id)
    return _back(request, sale)


async def cancel(request: Request) -> Response:
    """Let go of the order; nothing has been sent."""
    sale = _of_the_form(request)
    await request.app.state.panel.desk.cancel(sale)
    return _back(request, sale)


# -- what is shown ----------------------------------------------------------------------------------------


def _form(
    request: Request,
    given: dict[str, str],
    errors: dict[str, str],
    status: int = 200,
    *,
    refused: str = "",
) -> Response:
    said = ""
    if refused in outcomes.ENDINGS:
        said = caller_hears(outcomes.ENDINGS[refused].prompts, language_of(request))
    amounts = request.app.state.panel.settings.amounts
    return page(
        request,
        "charge.html",
        status,
        given={name: _shown_again(value) for name, value in given.items()},
        errors=errors,
        refused=refused,
        said=said,
        ticket=secrets.token_urlsafe(16),
        least=amounts[0],
        greatest=amounts[-1],
    )


def _sale(request: Request, sale: Sale, *, error: str = "", status: int = 200) -> Response:
    panel, language = request.app.state.panel, language_of(request)
    now = datetime.now(UTC).timestamp()
    shown: dict[str, Any] = {
        "sale": sale,
        "stage": sale.stage.value,
        "error": error,
        "now": round(now * 1000),
        "again_at": round((now + panel.desk.wait(sale)) * 1000),
        "wait": panel.desk.wait(sale),
        "left": panel.desk.left(sale),
        "more_pins": panel.desk.more_pins(sale),
        "pin_min": panel.settings.pin_min,
        "pin_max": panel.settings.pin_max,
        "refresh": REFRESH if sale.stage in (Stage.PAYING, Stage.OPENING) else 0,
        "said": _said(sale, language),
        "next": _next(sale),
    }
    return page(request, "sale.html", status, **shown)


def _said(sale: Sale, language: str) -> str:
    """What a caller would hear of it, as a text."""
    if sale.refusal in outcomes.ENDINGS:
        return caller_hears(outcomes.ENDINGS[sale.refusal].prompts, language)
    answer = sale.answer
    if answer is None:
        return ""
    if answer.verdict is Verdict.DECLINED:
        prompt = outcomes.decline(answer.code).prompt if sale.explained else "declined"
        return caller_hears((prompt,), language)
    if answer.verdict is Verdict.FAILED:
        ending = outcomes.ENDINGS.get(answer.detail, outcomes.PAY_FAILED)
        return caller_hears(ending.prompts, language)
    return ""


def _next(sale: Sale) -> str:
    """What the operator may do after a decline: a word of outcomes.Next, or ''."""
    if sale.answer is None or sale.answer.verdict is not Verdict.DECLINED or not sale.explained:
        return ""
    policy = outcomes.decline(sale.answer.code)
    if policy.review is outcomes.Review.CHARGED:
        return "held"
    return policy.next.name.lower()


# -- what is read -----------------------------------------------------------------------------------------


def _find(request: Request, ticket: str) -> Sale | None:
    found: Sale | None = request.app.state.panel.desk.find(request.state.user.name, ticket)
    return found


def _of_the_form(request: Request) -> Sale:
    sale = _find(request, request.path_params["ticket"])
    if sale is None:
        raise Stopped(404, "no_sale")
    return sale


def _back(request: Request, sale: Sale) -> Response:
    return RedirectResponse(path(request, "sale", ticket=sale.ticket), 303)


def _read(errors: dict[str, str], name: str, read: Any) -> Any:
    """Read one field; what is wrong with it becomes a word of words/charge.toml, without the value."""
    try:
        return read()
    except (BadRequest, ValueError):
        errors[name] = f"bad_{name}"
        return None


def _shown_again(text: str) -> str:
    """What a form shows of what was keyed: nothing that may be a card number, or nearly one."""
    return "" if LIKE_A_CARD.search(text) else text


def _order(text: str) -> str:
    """With ASCII digits, as a caller's keys and other systems have them: one invoice is one order."""
    if not text:
        return make_order_id(datetime.now(UTC))
    digits = "".join(c for c in ascii_digits(text) if c.isdecimal())
    if any(holds_card(digits[place : place + 16]) for place in range(len(digits) - 15)):
        raise ValueError  # a card number and a digit too many, or set apart
    return read_order_id(ascii_digits(text))


def _ways_to_write(order_id: str, typed: str) -> set[str]:
    """The same order with other digits, as another system may have begun it."""
    return {typed, order_id.translate(PERSIAN)} - {order_id, ""}


def _amount(text: str, amounts: range) -> int:
    return read_amount(re.sub(r"[\s,٬،]", "", text), amounts)


def _mobile(text: str) -> Msisdn:
    mobile = Msisdn.parse(text)
    if mobile is None:
        raise ValueError
    return mobile


def _pan(text: str) -> Pan:
    return Pan("".join(c for c in ascii_digits(text) if c not in " -\u200c\u200e\u200f"))
