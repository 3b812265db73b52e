"""The panel put together: its pages, what is shared by them, and what stands in front of them."""

from __future__ import annotations

from datetime import timedelta
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from ivr_agi.model import Secret
from ivr_agi.panel import guard, showing
from ivr_agi.panel.accounts import MAY, May
from ivr_agi.panel.desk import Desk
from ivr_agi.panel.pages import audit, charge, entrance, live, payments, phone, review, settlement, today
from ivr_agi.panel.sessions import Sessions
from ivr_agi.panel.trial import Trial, shape_of
from ivr_agi.panel.wall import Wall
from ivr_agi.settings import split_secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from ivr_agi.journal import Journal
    from ivr_agi.panel.passwords import Passwords
    from ivr_agi.panel.sessions import SignedIn
    from ivr_agi.payments import Payments
    from ivr_agi.server import LiveCall
    from ivr_agi.settings import Settings

UPLOADS: Final = "/settlement"
# The sections, in the order of the navigation: the page's name, and what its users must be allowed.
SECTIONS: Final = (
    ("charge", May.CHARGE),
    ("payments", May.LOOK),
    ("review", May.RESOLVE),
    ("settlement", May.RESOLVE),
    ("today", May.COUNT),
    ("live", May.WATCH),
    ("phone", May.TRY),
    ("audit", May.AUDIT),
)


class Section(NamedTuple):
    """An entry of the navigation."""

    name: str
    url: str
    title: str
    current: bool


class Panel:
    """An ASGI application, to be mounted somewhere."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        payments_: Payments,
        calls: Callable[[], Awaitable[Sequence[LiveCall]]],
        *,
        passwords: Passwords | None = None,
    ) -> None:
        """calls: those in progress. passwords: argon2id with its defaults unless given."""
        self.settings = settings
        self.journal = journal
        self.desk = Desk(payments_, settings)
        self.calls = calls
        self.merchant = settings.merchant_name
        self.language = settings.language if settings.language in showing.LANGUAGES else "fa"
        self.sessions = Sessions(
            journal,
            [Secret(part) for part in split_secrets(settings.panel_secret)],
            idle=timedelta(minutes=settings.panel_idle),
            passwords=passwords,
        )
        self.trial = Trial(shape_of(settings))
        self.watchers = live.Watchers()
        self._app = self._make()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._app(scope, receive, send)

    def may(self, user: SignedIn) -> frozenset[May]:
        """What somebody is allowed."""
        return MAY[user.role]

    def navigation(self, request: Request) -> list[Section]:
        """The sections that the request's user may see."""
        allowed, language = self.may(request.state.user), showing.language_of(request)
        found = []
        for name, needed in SECTIONS:
            if needed in allowed:
                url = showing.path(request, name)
                here = request.url.path
                current = here == url or here.startswith(f"{url}/")
                found.append(Section(name, url, showing.say(f"{name}.section", language), current))
        return found

    async def quiet(self) -> None:
        """Wait until nobody at a desk has a payment under way; none begins."""
        await self.desk.quiet()

    async def close(self) -> None:
        """End what it runs: open sales, those who watch, the trial line."""
        self.watchers.close()
        await self.desk.close()
        await self.trial.close()
        self.sessions.close()

    def _make(self) -> Starlette:
        static = Static(directory=str(resources.files(showing.PACKAGE).joinpath("static")))
        app = Starlette(
            routes=[
                Mount("/static", static, name="static"),
                *entrance.routes(),
                *charge.routes(),
                *payments.routes(),
                *review.routes(),
                *settlement.routes(),
                *today.routes(),
                *live.routes(),
                *phone.routes(self.trial),
                *audit.routes(),
            ],
            middleware=[
                Middleware(
                    Wall,
                    url=self.settings.panel_url,
                    proxies=self.settings.panel_proxies,
                    uploads=UPLOADS,
                )
            ],
            exception_handlers={HTTPException: _not_here},
        )
        app.router.redirect_slashes = False
        app.state.panel = self
        return app


class Static(StaticFiles):
    """Our own files: their addresses change with what is in them, so a browser may keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """As Starlette's, and kept."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


async def _not_here(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    word = {404: "not_found", 405: "not_found", 400: "broken_form"}.get(status, "broken")
    return guard.trouble(request, status, word)
