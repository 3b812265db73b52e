"""What stands in front of each handler: signed in, allowed, and the form really ours.

A handler that is wrapped by `guarded` finds `request.state.user` (who asks), `request.state.csrf`, and for a
POST `request.state.form`. Whatever goes wrong ends in a page that says so, and never in a library's words.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from ivr_agi.journal import JournalError, people
from ivr_agi.panel.showing import cookie_name, page, path
from ivr_agi.panel.wall import MOST_BYTES, MOST_OF_UPLOAD, TooLarge

if TYPE_CHECKING:
    from ivr_agi.panel.accounts import May

log = structlog.get_logger()

SESSION_COOKIE: Final = "ivr-agi-session"
VISIT_COOKIE: Final = "ivr-agi-visit"  # before one has signed in, so that the first form has a token, too
MOST_FIELDS: Final = 40
MOST_OF_A_STRANGER: Final = 4096  # bytes of a form of somebody who is not signed in
GREATEST_ID: Final = 2**63 - 1  # of the databases' integers
SAFE: Final = frozenset({"GET", "HEAD"})

Handler = "Callable[[Request], Awaitable[Response]]"


class Stopped(Exception):  # noqa: N818 - an answer, not a fault
    """This request is not answered as asked. status: HTTP's; word: of words/trouble.toml."""

    def __init__(self, status: int, word: str) -> None:
        super().__init__(word)
        self.status = status
        self.word = word


def guarded(handler: Any, may: May | None, *, signed_in: bool = True, upload: bool = False) -> Any:
    """Wrap a handler. may: what its user must be allowed; None: nothing particular."""

    async def answer(request: Request) -> Response:
        try:
            return await _answer(request, handler, may, signed_in=signed_in, upload=upload)
        except Stopped as stopped:
            return trouble(request, stopped.status, stopped.word)
        except TooLarge:
            return trouble(request, 413, "too_large")
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except JournalError as error:
            log.error("journal.failed", wanted="panel", error=str(error))
            return trouble(request, 503, "journal")
        except Exception:
            log.exception("panel.broken", path=request.url.path)
            return trouble(request, 500, "broken")

    return answer


async def _answer(
    request: Request, handler: Any, may: May | None, *, signed_in: bool, upload: bool
) -> Response:
    panel = request.app.state.panel
    request.state.user = user = await panel.sessions.of(session_cookie(request))
    visit = "" if user else request.cookies.get(cookie_name(request, VISIT_COOKIE), "")[:60]
    new_visit = "" if user or visit else secrets.token_urlsafe(24)
    key = user.key if user else visit or new_visit
    request.state.csrf = panel.sessions.token(key)
    if signed_in and user is None:
        return _to_sign_in(request)
    if user is not None and may is not None and may not in panel.may(user):
        raise Stopped(403, "role")
    if request.method not in SAFE:
        _check_origin(request)
        if user is None and int(request.headers.get("content-length", MOST_BYTES)) > MOST_OF_A_STRANGER:
            raise Stopped(413, "too_large")
        request.state.form = await _read_form(request, upload=upload)
        token = request.headers.get("x-csrf-token") or str(request.state.form.get("csrf", ""))
        if new_visit or not panel.sessions.accepts(token, key):
            log.warning("panel.csrf_refused", path=request.url.path, user=user.name if user else "")
            raise Stopped(403, "csrf")
    try:
        response: Response = await handler(request)
    finally:
        if request.method not in SAFE:
            await request.state.form.close()  # nothing of it is kept
    if new_visit:
        set_cookie(request, response, VISIT_COOKIE, new_visit)
    return response


def _to_sign_in(request: Request) -> Response:
    """What is asked of nobody leads to the door; a part of a page, or a post, says so."""
    login = path(request, "login")
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": login})
    if request.method not in SAFE or "text/event-stream" in request.headers.get("accept", ""):
        raise Stopped(401, "signed_out")
    return RedirectResponse(login, 303)


def _check_origin(request: Request) -> None:
    """A browser says where a form stands; ours stand here. What is no browser says nothing."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    elsewhere = origin is not None and origin.lower() != str(request.state.origin).lower()
    if elsewhere or site not in ("same-origin", "none"):  # the latter is the person himself: a reload
        log.warning(
            "panel.origin_refused", origin=(origin or "")[:100], site=site[:20], path=request.url.path
        )
        raise Stopped(403, "csrf")


async def _read_form(request: Request, *, upload: bool) -> FormData:
    """The fields of a form; a file stays in memory: it may have card numbers in it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        if not upload:
            raise Stopped(415, "broken_form")
        parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=MOST_FIELDS)
        parser.spool_max_size = MOST_OF_UPLOAD + 1
        try:
            return await parser.parse()
        except MultiPartException:
            raise Stopped(400, "broken_form") from None
    try:
        return await request.form(max_fields=MOST_FIELDS)
    except HTTPException:  # Starlette's, of a form that cannot be read
        raise Stopped(400, "broken_form") from None


def set_cookie(
    request: Request, response: Response, name: str, value: str, seconds: int | None = None
) -> None:
    """Set a cookie that no script sees and no other site's page sends."""
    secure = str(request.state.origin).startswith("https:")
    response.set_cookie(
        cookie_name(request, name),
        value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


async def record(request: Request, action: str, *, attempt_id: int | None = None, about: str = "") -> None:
    """Write into the audit log what the user does. Raises JournalError."""
    entry = partial(
        people.record,
        who=request.state.user.name,
        address=request.state.address,
        action=action,
        attempt_id=attempt_id,
        about=about,
    )
    await request.app.state.panel.journal.write(entry)
    log.info("panel.done", action=action, user=request.state.user.name, attempt=attempt_id)


def field(request: Request, name: str, most: int = 200) -> str:
    """A field of the form, without the blanks around it; no longer than so many characters."""
    value = request.state.form.get(name, "")
    return "" if isinstance(value, UploadFile) else without_nul(value).strip()[:most]


def without_nul(text: str) -> str:
    """The same text without what PostgreSQL takes in no text."""
    return text.replace("\0", "")


class AttemptId(Convertor[int]):
    """An attempt's number in an address: no more digits than one has, for Python reads no more than 4300."""

    regex = "[0-9]{1,19}"

    def convert(self, value: str) -> int:
        """As a number."""
        return int(value)

    def to_string(self, value: int) -> str:
        """As a text."""
        return str(value)


register_url_convertor("attempt", AttemptId())


def attempt_id_of(request: Request) -> int:
    """The attempt that an address names. Raises Stopped for what can be none."""
    number = int(request.path_params["attempt_id"])
    if number > GREATEST_ID:
        raise Stopped(404, "not_found")
    return number


def session_cookie(request: Request) -> str:
    """What the browser has sent to show who it is; '' for nothing."""
    return request.cookies.get(cookie_name(request, SESSION_COOKIE), "")


def trouble(request: Request, status: int, word: str) -> Response:
    """The page that says that something did not work; word: of words/trouble.toml."""
    return page(request, "trouble.html", status, word=word, status=status)
