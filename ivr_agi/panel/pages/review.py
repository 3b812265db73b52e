"""Payments in doubt: what waits for a person, and the form by which he says what became of one.

A verdict moves money or goods, so it is written on the second look only: the first POST shows what it does.
What the person saw travels with the form; should a late answer have changed it, nothing is written.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import RedirectResponse
from starlette.routing import Route

from ivr_agi import reviewing
from ivr_agi.journal import AttemptState, IllegalStep, Resolution
from ivr_agi.journal.tables import OPEN
from ivr_agi.model import ascii_digits
from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import Stopped, attempt_id_of, field, guarded, record
from ivr_agi.panel.showing import page, path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

SHOWN: Final = 50  # payments on a page
LONGEST: Final = 3000  # characters of a field that are looked at, at all
SEEN: Final = ("state", "updated_at")  # what the person judged by
# Reasons that have words of their own; others are shown as the journal has them.
WORDED: Final = frozenset({reviewing.STUCK_WHY, "charged", "merchant", "check", ""})


def routes() -> list[Route]:
    """Of this module."""
    pages = Review()
    one = "/review/{attempt_id:attempt}"
    return [
        Route("/review", guarded(pages.show, May.RESOLVE), name="review"),
        Route(one, guarded(pages.show_one, May.RESOLVE), name="review_one"),
        Route(one, guarded(pages.resolve, May.RESOLVE), methods=["POST"]),
    ]


class Review:
    """The handlers, and the lock by which one server writes one verdict at a time."""

    def __init__(self) -> None:
        self._writing = asyncio.Lock()

    async def show(self, request: Request) -> Response:
        """What waits, oldest first; page=N for more."""
        journal, now = request.app.state.panel.journal, datetime.now(UTC)
        found = await asyncio.to_thread(reviewing.waiting, journal, now)
        asked = request.query_params.get("page", "1")
        last = max(1, -(-len(found) // SHOWN))
        number = min(int(asked), last) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 1  # noqa: PLR2004
        number = max(number, 1)
        home = path(request, "review")
        rows = [_shown(row, now) for row in found[(number - 1) * SHOWN : number * SHOWN]]
        return await asyncio.to_thread(  # dozens of rows: not on the loop
            page,
            request,
            "review.html",
            rows=rows,
            reasons=sorted({row["why"] or "unknown" for row in rows}),
            waiting=len(found),
            rials=sum(row["amount"] for row in found),
            oldest=max((_seconds(row, now) for row in found), default=0),
            before=f"{home}?page={number - 1}" if number > 1 else None,
            after=f"{home}?page={number + 1}" if number < last else None,
        )

    async def show_one(self, request: Request) -> Response:
        """One payment and the form; verdict, ref and evidence of the query fill it in."""
        asked = request.query_params
        given = {
            "verdict": asked.get("as", ""),
            "ref": asked.get("ref", "")[:LONGEST],
            "evidence": asked.get("evidence", "")[:LONGEST],
        }
        row = await _find(request)
        if not all(reviewing.fits(name, given[name]) for name in ("ref", "evidence")):
            return _back(request, row)  # to an address without what may be a card number
        return _one(request, row, given)

    async def resolve(self, request: Request) -> Response:
        """Show what will happen; with `confirm` write it, once."""
        row = await _find(request)
        given, errors = _read(request)
        if errors:
            kept = {
                name: value
                for name, value in given.items()
                if name == "verdict" or reviewing.fits(name, value)
            }
            return _one(request, row, {"ref": "", "evidence": "", **kept}, 422, errors=errors)
        if _is_written(row, given, request.state.user.name):
            return _back(request, row)  # a double click
        seen = {name: field(request, name, 40) for name in SEEN}
        if refused := _refusal(request, row, seen):
            return _one(request, row, given, 409, refused=refused)
        if _is_ticked(request, "confirm"):
            async with self._writing:
                return await _write(request, row["id"], given, seen)
        return _one(request, row, given, confirming=not _is_ticked(request, "edit"))


def _refusal(request: Request, row: Mapping[str, Any], seen: Mapping[str, str]) -> str:
    """Why nothing can be said of this payment as it is now: a word of words/review.toml, or ''."""
    if any(row[name] != value for name, value in seen.items()):
        return "refused_changed"
    return "" if _is_ticked(request, "overrule") or reviewing.in_doubt(row) else "no_doubt"


async def _write(
    request: Request, attempt_id: int, given: dict[str, str], seen: Mapping[str, str]
) -> Response:
    journal, user = request.app.state.panel.journal, request.state.user.name
    write = partial(
        reviewing.resolve,
        journal,
        attempt_id,
        Resolution(given["verdict"]),
        ref=given["ref"],
        by=user,
        evidence=given["evidence"],
        overrule=_is_ticked(request, "overrule"),
        seen=seen,
    )
    try:
        await asyncio.to_thread(write)
    except IllegalStep:
        row = await _find(request)
        if _is_written(row, given, user):
            return _back(request, row)
        under_way = row["state"] in OPEN
        return _one(request, row, given, 409, refused="under_way" if under_way else "refused_changed")
    journal.on_notice()
    about = " ".join(filter(None, (given["verdict"], given["ref"])))
    await record(request, "resolve", attempt_id=attempt_id, about=about)
    return _back(request, await _find(request))


# -- what is read -----------------------------------------------------------------------------------------


async def _find(request: Request) -> dict[str, Any]:
    found = await request.app.state.panel.journal.get(attempt_id_of(request))
    if found is None:
        raise Stopped(404, "not_found")
    return dict(found)


def _read(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """The form's fields, and what is wrong with which of them: words of words/review.toml."""
    given = {
        "verdict": field(request, "verdict", 20),
        "ref": ascii_digits(field(request, "ref", LONGEST)),
        "evidence": " ".join(field(request, "evidence", LONGEST).split()),  # a text of several lines is one
    }
    if given["verdict"] not in tuple(Resolution):
        return given, {"verdict": "verdict_missing"}
    errors = {}
    verdict = Resolution(given["verdict"])
    try:
        reviewing.check(verdict, ref=given["ref"], by=request.state.user.name, evidence=given["evidence"])
    except reviewing.Unfit as unfit:
        errors[unfit.field] = f"{unfit.field}_{'missing' if unfit.missing else 'unfit'}"
    return given, errors


def _is_ticked(request: Request, name: str) -> bool:
    return field(request, name, 1) == "1"


def _is_written(row: Mapping[str, Any], given: Mapping[str, str], by: str) -> bool:
    """Whether this very verdict is what the journal has."""
    ours = {"state": AttemptState.RESOLVED, "resolution": given["verdict"], "resolved_by": by}
    ours |= {"evidence": given["evidence"]}
    if given["ref"]:
        ours |= {"ref_id": given["ref"]}
    return all(row[name] == value for name, value in ours.items())


# -- what is shown ----------------------------------------------------------------------------------------


def _back(request: Request, row: Mapping[str, Any]) -> Response:
    return RedirectResponse(path(request, "review_one", attempt_id=row["id"]), 303)


def _one(  # noqa: PLR0913 - what the page depends on
    request: Request,
    row: dict[str, Any],
    given: dict[str, str],
    status: int = 200,
    *,
    errors: dict[str, str] | None = None,
    refused: str = "",
    confirming: bool = False,
) -> Response:
    return page(
        request,
        "resolve.html",
        status,
        row=_shown(row, datetime.now(UTC)),
        given=given,
        errors=errors or {},
        refused=refused,
        confirming=confirming,
        overrule=_overrules(request),
        most=reviewing.MOST,
    )


def _overrules(request: Request) -> bool:
    return request.method == "POST" and _is_ticked(request, "overrule")


def _shown(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """A row with what a page says of it."""
    why = reviewing.why(row) if reviewing.in_doubt(row) else ""
    resolved = row["state"] == AttemptState.RESOLVED
    return row | {
        "age": _seconds(row, now),
        "why": why if why in WORDED else "",
        "in_doubt": reviewing.in_doubt(row),
        "open": row["state"] in OPEN,
        "twice": resolved and row["resolution"] == Resolution.PAID and not row["holds_order"],
    }


def _seconds(row: Mapping[str, Any], now: datetime) -> float:
    return (now - datetime.fromisoformat(row["updated_at"])).total_seconds()
