"""The bank's settlement list: uploaded, laid beside the journal, and what is certain recorded in one go.

A list may have whole card numbers. It is in memory from the form to the process that reads it, and nowhere
else; what is shown of it comes from there with masks alone.
"""

from __future__ import annotations

import asyncio
import re
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.datastructures import UploadFile
from starlette.responses import RedirectResponse
from starlette.routing import Route

from ivr_agi.model import mask_cards
from ivr_agi.panel import figures
from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import field, guarded, record
from ivr_agi.panel.lists import Busy, Lists, TooLong
from ivr_agi.panel.reconciler import MOST_CERTAIN, Question
from ivr_agi.panel.showing import language_of, page, path, say
from ivr_agi.settlement import report
from ivr_agi.settlement.dates import NoDate
from ivr_agi.settlement.headings import USUAL
from ivr_agi.settlement.judging import Kind
from ivr_agi.settlement.letters import printable
from ivr_agi.settlement.reading import Settled, UnreadableList

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from ivr_agi.panel.lists import Kept
    from ivr_agi.settlement.judging import Attempt, Entry
    from ivr_agi.settlement.notes import Note

    Handler = Callable[[Request], Awaitable[Response]]

FIRST_SHOWN: Final = 20  # entries of a kind on the page with all kinds
SHOWN: Final = 100  # on the page with one
HEADING_LENGTH: Final = 100
STATUS_LENGTH: Final = 300
DAYS: Final = ("from", "to")
FILE_NAME: Final = "list"  # of a file that has none
# How the values of a note are written: rials in groups of three; other numbers name a line or a payment.
RIALS: Final = frozenset({"amounts"})


def routes() -> list[Route]:
    """Of this module."""
    pages = Settlement(Lists())
    one = "/settlement/{id}"
    return [
        Route("/settlement", guarded(pages.show, May.RESOLVE), name="settlement"),
        Route("/settlement", _closing(guarded(pages.upload, May.RESOLVE, upload=True)), methods=["POST"]),
        Route(one, guarded(pages.show_result, May.RESOLVE), name="settlement_result"),
        Route(f"{one}/apply", guarded(pages.apply, May.RESOLVE), methods=["POST"], name="settlement_apply"),
    ]


class Settlement:
    """The handlers, with the results that they show."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists

    async def show(self, request: Request) -> Response:
        """The form."""
        return _form(request)

    async def upload(self, request: Request) -> Response:
        """Read the list and lead to its result."""
        file = request.state.form.get("file")
        content = await file.read() if isinstance(file, UploadFile) else b""
        name = _file_name(file.filename) if isinstance(file, UploadFile) else ""
        errors: dict[str, str] = {}
        question = _question(request, content, errors)
        if not content:
            errors["file"] = "no_file" if not name else "empty_file"
        if errors or question is None:
            return _form(request, 422, errors=errors)
        try:
            kept = await self._lists.read(request.state.user.name, name or FILE_NAME, question)
        except UnreadableList as why:
            return _form(request, 422, unreadable=_told(why.note, language_of(request)))
        except Busy:
            return _form(request, 503, refused="busy")
        except TooLong:
            return _form(request, 503, refused="too_long")
        await record(request, "settlement", about=_counts(kept))
        return RedirectResponse(path(request, "settlement_result", id=kept.id), 303)

    async def show_result(self, request: Request) -> Response:
        """What was found; kind=KIND for all entries of one kind, page=N for more of them."""
        kept = self._find(request)
        if kept is None:
            return _form(request, 404, refused="gone")
        return await asyncio.to_thread(_result, request, kept)  # hundreds of rows: not on the loop

    async def apply(self, request: Request) -> Response:
        """Resolve as paid what is certain."""
        kept, journal = self._find(request), request.app.state.panel.journal
        if kept is None:
            return _form(request, 404, refused="gone")
        count = await kept.apply(journal, request.state.user.name)
        if count:
            journal.on_notice()
            await record(request, "apply", about=f"{kept.file_name}: {count}")
        return RedirectResponse(path(request, "settlement_result", id=kept.id), 303)

    def _find(self, request: Request) -> Kept | None:
        return self._lists.find(request.state.user.name, request.path_params["id"])


def _closing(handler: Handler) -> Handler:
    """Let go of the file, whatever becomes of the request: also of one that nobody was allowed to send."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        finally:
            if form := getattr(request.state, "form", None):
                await form.close()

    return answer


# -- what is read -----------------------------------------------------------------------------------------


def _file_name(given: str | None) -> str:
    """The file's name as evidence may have it: no path, no card number, not too long."""
    name = mask_cards(printable(re.split(r"[/\\]", given or "")[-1]).strip())
    if len(name) > report.MAX_FILE_NAME:
        half = report.MAX_FILE_NAME // 2
        name = f"{name[: half - 1]}…{name[-half:]}"
    return name


def _question(request: Request, content: bytes, errors: dict[str, str]) -> Question | None:
    days: dict[str, date | None] = {}
    for name in DAYS:
        text = field(request, name, 40)
        try:
            days[name] = figures.parse_day(text) if text else None
        except NoDate:
            errors[name] = "bad_day"
    if errors:
        return None
    texts = re.split(r"[,،;؛\n]", field(request, "paid_status", STATUS_LENGTH))
    headings = {kind: field(request, f"heading_{kind}", HEADING_LENGTH) for kind in USUAL}
    return Question(
        content,
        request.app.state.panel.settings.journal_url,
        mapping={kind: heading for kind, heading in headings.items() if heading},
        toman=field(request, "toman", 1) == "1",
        paid_status=tuple(text.strip() for text in texts if text.strip()),
        first=days["from"],
        last=days["to"],
    )


def _counts(kept: Kept) -> str:
    """What the audit log has of a list."""
    counts = ", ".join(
        f"{counted.kind} {counted.entries}" for counted in kept.result.table if counted.entries
    )
    return f"{kept.file_name}: {kept.result.lines} lines; {counts}"


# -- what is shown ----------------------------------------------------------------------------------------


def _form(
    request: Request,
    status: int = 200,
    *,
    errors: dict[str, str] | None = None,
    unreadable: str = "",
    refused: str = "",
) -> Response:
    posted = request.method == "POST"
    names = (*DAYS, "paid_status", "toman", *(f"heading_{kind}" for kind in USUAL))
    given = {name: mask_cards(field(request, name, STATUS_LENGTH)) if posted else "" for name in names}
    return page(
        request,
        "settlement.html",
        status,
        errors=errors or {},
        unreadable=unreadable,
        refused=refused,
        given=given,
        usual=USUAL,
    )


def _result(request: Request, kept: Kept) -> Response:
    asked = request.query_params
    only = next((kind for kind in Kind if kind == asked.get("kind", "")), None)
    number = asked.get("page", "1")
    place = (int(number) - 1) * SHOWN if number.isascii() and number.isdigit() and len(number) < 5 else 0  # noqa: PLR2004
    place = max(place, 0) if only else 0
    classes = []
    for counted in kept.result.table:
        left = kept.left(counted.kind)
        if left and only in (None, counted.kind):
            shown = left[place : place + SHOWN] if only else left[:FIRST_SHOWN]
            classes.append(
                {
                    "kind": counted.kind.value,
                    "count": kept.count(counted),
                    "entries": shown,
                    "kept": len(left),
                }
            )
    return page(
        request,
        "settlement_result.html",
        kept=kept,
        applied=kept.applied,
        result=kept.result,
        classes=classes,
        only=only.value if only else "",
        place=place,
        shown=SHOWN,
        pages=_pages(request, kept, only, place),
        most_certain=MOST_CERTAIN,
        told=partial(_told, language=language_of(request)),
        review_of=partial(_review, request, kept),
        evidence=partial(report.evidence, kept.file_name),
        is_settled=lambda line: isinstance(line, Settled),
    )


def _pages(request: Request, kept: Kept, only: Kind | None, place: int) -> dict[str, str | None]:
    """Addresses of the pages before and after this one of a kind."""
    here, number = path(request, "settlement_result", id=kept.id), place // SHOWN + 1
    if only is None:
        return {"before": None, "after": None}
    more = place + SHOWN < len(kept.left(only))
    return {
        "before": f"{here}?kind={only}&page={number - 1}" if place else None,
        "after": f"{here}?kind={only}&page={number + 1}" if more else None,
    }


def _review(request: Request, kept: Kept, entry: Entry, attempt: Attempt) -> str:
    """Where an attempt's verdict is given, with what the list proves filled in; '' where none is to be."""
    line = report.proof(entry, attempt)
    if line is not None:
        asked = {"as": "paid", "ref": line.ref_id, "evidence": report.evidence(kept.file_name, line)}
    elif attempt["state"] != "unknown":
        return ""
    else:
        asked = {"as": "not-paid"} if entry.kind is Kind.UNKNOWN_MISSING else {}
    address = path(request, "review_one", attempt_id=attempt["id"])
    return f"{address}?{urlencode(asked)}" if asked else address


def _told(note: Note, language: str) -> str:
    """A note in the page's language."""
    values = {name: _written(note, name, value, language) for name, value in note.values.items()}
    return say(f"settlement.note_{note.key}", language, **values)


def _written(note: Note, name: str, value: Any, language: str) -> str:
    """One value of a note, in the page's language and kept apart from the sentence around it."""
    if name in ("state", "standing"):
        return say(f"settlement.{name}_{value}", language)
    if name in ("kind", "other_kind", "kinds"):
        either = say("settlement.or", language)
        return say("settlement.comma", language).join(
            either.join(say(f"settlement.column_{kind}", language) for kind in one.split(" or "))
            for one in str(value).split(", ")
        )
    if isinstance(value, date):
        return figures.day(value, language)
    if isinstance(value, int) and note.key in RIALS and name in ("there", "here"):
        return figures.money(value, language)
    if isinstance(value, int) or (note.key == "cards" and name in ("there", "here")):
        return f"\u2066{figures.digits(str(value), language)}\u2069"
    return f"\u2068{value}\u2069"
