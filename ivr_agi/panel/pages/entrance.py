"""The door: sign in, sign out, choose the language, and where one arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import RedirectResponse
from starlette.routing import Route

from ivr_agi.panel.accounts import Unfit, check_name
from ivr_agi.panel.guard import SESSION_COOKIE, field, guarded, set_cookie
from ivr_agi.panel.sessions import NotSignedIn
from ivr_agi.panel.showing import LANGUAGE_COOKIE, LANGUAGES, page, path

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

A_YEAR: Final = 365 * 86400
STATUS: Final = {"wrong": 403, "too_many": 429, "crowded": 503}


def routes() -> list[Route]:
    """Of this module."""
    return [
        Route("/", guarded(home, None), name="home"),
        Route("/login", guarded(show_login, None, signed_in=False), name="login"),
        Route("/login", guarded(login, None, signed_in=False), methods=["POST"]),
        Route("/logout", guarded(logout, None), methods=["POST"], name="logout"),
        Route(
            "/language",
            guarded(choose_language, None, signed_in=False),
            methods=["POST"],
            name="language",
        ),
    ]


async def home(request: Request) -> Response:
    """Where one arrives: the first section that one may see."""
    return RedirectResponse(request.app.state.panel.navigation(request)[0].url, 303)


async def show_login(request: Request) -> Response:
    """Ask for name and password."""
    if request.state.user:
        return RedirectResponse(path(request, "home"), 303)
    return page(request, "login.html", error="", name="")


async def login(request: Request) -> Response:
    """Sign in: a new session, whatever cookie there was."""
    name = field(request, "name", 60).lower()
    password = str(request.state.form.get("password", ""))
    sessions = request.app.state.panel.sessions
    try:
        cookie = await sessions.sign_in(name, password, request.state.address)
    except NotSignedIn as no:
        return page(request, "login.html", STATUS[no.why], error=no.why, name=_shown_again(name))
    if request.state.user:  # the session of before is not left open
        await sessions.sign_out(request.state.user, request.state.address)
    response = RedirectResponse(path(request, "home"), 303)
    set_cookie(request, response, SESSION_COOKIE, cookie)
    return response


def _shown_again(name: str) -> str:
    """A name as the form has it again; not what is none: a card number, a password in the wrong field."""
    try:
        return check_name(name) if not any(c.isdecimal() for c in name) else ""
    except Unfit:
        return ""


async def logout(request: Request) -> Response:
    """Sign out, also for whoever has a copy of the cookie."""
    await request.app.state.panel.sessions.sign_out(request.state.user, request.state.address)
    response = RedirectResponse(path(request, "login"), 303)
    set_cookie(request, response, SESSION_COOKIE, "", 0)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


async def choose_language(request: Request) -> Response:
    """Remember the language, and go back to the page."""
    chosen, back = field(request, "language", 2), field(request, "back", 2000)
    home_, root = path(request, "home"), request.scope.get("root_path", "")
    ours = back.startswith(f"{root}/") and "\\" not in back and back.isprintable() and "//" not in back
    response = RedirectResponse(back if ours else home_, 303)
    if chosen in LANGUAGES:
        set_cookie(request, response, LANGUAGE_COOKIE, chosen, A_YEAR)
    return response
