"""Payments: looked for, one by one with all that is known of each, and on paper; as files in exports.py."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from ivr_agi import prompts
from ivr_agi.journal import AttemptState, people, queries, search
from ivr_agi.journal.search import STATES, Filter, Place
from ivr_agi.journal.tables import OPEN
from ivr_agi.model import BANKS, Method
from ivr_agi.panel import asked, figures, states
from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import Stopped, attempt_id_of, guarded
from ivr_agi.panel.pages import exports
from ivr_agi.panel.showing import language_of, page, path, say
from ivr_agi.settlement.dates import tehran

if TYPE_CHECKING:
    import sqlalchemy as sa
    from starlette.requests import Request
    from starlette.responses import Response

    from ivr_agi.panel.asked import Asked

SHOWN: Final = 50  # payments a page
OTHERS: Final = 20  # of the same order, of the same card

Row = dict[str, Any]


def routes() -> list[Route]:
    """Of this module."""
    return [
        Route("/payments", guarded(show, May.LOOK), name="payments"),
        Route("/payments/{attempt_id:attempt}", guarded(show_payment, May.LOOK), name="payment"),
        Route("/payments/{attempt_id:attempt}/receipt", guarded(show_receipt, May.LOOK), name="receipt"),
        *exports.routes(show_list),
    ]


# -- the search and its list ------------------------------------------------------------------------------


async def show(request: Request) -> Response:
    """The search form and a page of what it has found; for htmx that alone, if nothing is wrong."""
    return await show_list(request, asked.read(request.query_params, request.url.query))


async def show_list(request: Request, given: Asked, *, refused: str = "", status: int = 200) -> Response:
    """The same for a form that has been read. refused: why there is no file of it."""
    values: dict[str, Any] = {"rows": [], "older": None, "newest": None, "same_number": None, "found": ""}
    wrong = bool(given.errors or given.card)
    language = language_of(request)
    if wrong:
        status = 422
        values["found"] = "" if given.card else say("payments.wrong", language)
    else:
        values |= await _found(request, given)
    values |= {
        "given": given.given,
        "errors": given.errors,
        "card": given.card,
        "refused": refused,
        "asked": f"?{given.address}" if given.address else "",
        "states": _choices(language, STATES, ""),
        "methods": _choices(language, tuple(Method), "method_"),
        "banks": " ".join(BANKS),
        "alone": False,
        "open": _is_open(request, given),
        **_of_states(language),
    }
    if given.card:
        values["here"] = request.url.path  # without the address's query, which has the card
    if request.headers.get("hx-request") and not request.headers.get("hx-history-restore-request"):
        return _part(request, values, wrong=wrong)
    return page(request, "payments.html", status, **values)


def _is_open(request: Request, given: Asked) -> bool:
    """Whether the rarer fields are shown: on a phone only where they are used, or they would fill it."""
    used = any(given.given[name] for name in ("from", "to", "state", "method"))
    return used or "Mobi" not in request.headers.get("user-agent", "")


def _part(request: Request, values: Row, *, wrong: bool) -> Response:
    """For htmx: the rows; or, where a field is wrong or was so, the form with them.

    It swaps nothing in of an answer that is called an error.
    """
    if wrong or request.headers.get("hx-target") != "rows":
        response = page(request, "payments_search.html", 200, **values)
        response.headers["HX-Retarget"] = "#search"
    else:
        response = page(request, "payments_rows.html", 200, **(values | {"alone": True}))
    response.headers["HX-Push-Url"] = "false" if wrong else path(request, "payments") + values["asked"]
    return response


async def _found(request: Request, given: Asked) -> Row:
    look = partial(_page_of, wanted=given.wanted, before=given.before)
    rows = await request.app.state.panel.journal.look(look)
    number = asked.number(given.wanted.ref_id) if given.wanted.ref_id else None
    if number is not None and await request.app.state.panel.journal.get(number) is None:
        number = None
    here, language = path(request, "payments"), language_of(request)
    query = f"{given.address}&" if given.address else ""
    count = min(len(rows), SHOWN)
    if count == 1:
        found = say("payments.shown_one", language)
    elif count:
        found = say("payments.shown", language, count=figures.number(count, language))
    else:
        found = say("payments.none", language)
    return {
        "rows": rows[:SHOWN],
        "older": f"{here}?{query}before={rows[SHOWN - 1]['id']}" if len(rows) > SHOWN else None,
        "newest": None if given.before is None else f"{here}?{given.address}".rstrip("?"),
        "same_number": number,
        "found": found,
    }


def _page_of(connection: sa.Connection, wanted: Filter, before: int | None) -> list[Row]:
    """A page of payments and, to know whether there is another one, the first of the next."""
    place: Place | None = None
    if before is not None:
        place = search.place(connection, before)
    return search.find(connection, wanted, place, SHOWN + 1)


def _choices(language: str, values: tuple[str, ...], prefix: str) -> list[tuple[str, str]]:
    known = [(str(value), say(f"states.{prefix}{value}", language)) for value in values]
    return [("", say("payments.any", language)), *known]


def _of_states(language: str) -> Row:
    """What the tables of payments ask about a row."""
    return {
        "badge_of": partial(states.badge, language=language),
        "why_of": partial(states.why, language=language),
    }


# -- one payment ------------------------------------------------------------------------------------------


async def show_payment(request: Request) -> Response:
    """All that is known of one payment."""
    found = await request.app.state.panel.journal.look(partial(_all_of, attempt_id=attempt_id_of(request)))
    if found is None:
        raise Stopped(404, "not_found")
    row, language = found["row"], language_of(request)
    steps = [_step(step, language) for step in found["steps"]]
    return page(
        request,
        "payment.html",
        **(found | {"steps": steps}),
        open=row["state"] in OPEN,
        paid=states.is_paid(row),
        bank_says=states.bank_says(row["code"], language),
        reason=states.reason(row["reason"], language),
        review=states.review(row["review"], language),
        method=states.method(row["method"], language),
        **_of_states(language),
    )


def _all_of(connection: sa.Connection, attempt_id: int) -> dict[str, Any] | None:
    """One attempt, its history, its entries of the audit log, and others that it has to do with."""
    known = queries.with_history(connection, attempt_id)
    if known is None:
        return None
    row, steps = known
    same_order = search.find(connection, Filter(order=row["order_id"]), limit=OTHERS + 1)
    same_card = search.of_card(connection, row["card_hash"], OTHERS + 1) if row["card_hash"] else []
    return {
        "row": row,
        "steps": steps,
        "entries": people.entries(connection, attempt_id=attempt_id),
        "same_order": [other for other in same_order if other["id"] != attempt_id][:OTHERS],
        "same_card": [other for other in same_card if other["id"] != attempt_id][:OTHERS],
    }


def _step(step: Row, language: str) -> Row:
    """A line of the history, with its state in words and its time to the second."""
    seconds = figures.digits(f":{datetime.fromisoformat(step['at']).second:02}", language)
    shown = figures.moment(step["at"], language) + seconds
    return step | {"says": say(f"states.{step['state']}", language), "shown": shown}


# -- on paper ---------------------------------------------------------------------------------------------


async def show_receipt(request: Request) -> Response:
    """The receipt of a payment that has certainly been made; 409 for any other."""
    found = await request.app.state.panel.journal.look(partial(_all_of, attempt_id=attempt_id_of(request)))
    if found is None:
        raise Stopped(404, "not_found")
    row, language = found["row"], language_of(request)
    paid = states.is_paid(row)
    at = _paid_at(row, found["steps"])
    return page(
        request,
        "receipt.html",
        200 if paid else 409,
        row=row,
        paid=paid,
        words=in_words(row["amount"], language),
        jalali=figures.day(at.date(), "fa"),
        gregorian=figures.day(at.date(), "en"),
        clock=figures.digits(f"{at:%H:%M:%S}", language),
    )


def in_words(rials: int, language: str) -> str:
    """An amount as it is said: `پنجاه هزار ریال`, `fifty thousand rials`; '' where there are no words."""
    try:
        return " ".join(prompts.text(clip, language) for clip in prompts.amount(rials, language))
    except ValueError:
        return ""


def _paid_at(row: Row, steps: list[Row]) -> datetime:
    """When the bank said so, by Tehran's clock; else, of what a person has found out, when it was sent."""
    times = {step["state"]: step["at"] for step in steps}
    at = times.get(AttemptState.PAID) or times.get(AttemptState.SENT) or row["created_at"]
    return datetime.fromisoformat(at).astimezone(tehran())
