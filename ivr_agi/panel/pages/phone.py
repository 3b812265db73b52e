"""The phone in the browser: a page with a keypad, and what its script asks for while a call is on.

Keys come in, one at a time, and are never sent back: what they were is in no answer of ours.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ivr_agi.panel.accounts import May
from ivr_agi.panel.guard import guarded
from ivr_agi.panel.showing import page
from ivr_agi.panel.trial import NoSuchCall, TrialError
from ivr_agi.simulator.outcomes import CARDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from ivr_agi.panel.trial import Trial

    Handler = Callable[[Request], Awaitable[Response]]

FORM: Final = ("caller_id", "amount", "order_id", "language")
MOST_OF_FIELD: Final = 100  # characters
STATUS: Final = {"not-started": 503, "too-many-calls": 503}
# A stream that a proxy keeps back until it is whole is none; nginx is told so by the second one.
STREAM_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
KEEP_SOUNDS: Final = {"Cache-Control": "private, max-age=3600"}


def routes(trial: Trial) -> list[Route]:
    """The page, its calls, and the sounds that they play."""
    phone = Phone(trial)

    def ours(handler: Handler) -> Handler:
        return guarded(_told(handler), May.TRY)  # type: ignore[no-any-return]

    call = "/phone/calls/{id}"
    sound = "/phone/sounds/{language}/{name:path}.wav"
    return [
        Route("/phone", ours(phone.show), methods=["GET"], name="phone"),
        Route("/phone/calls", ours(phone.begin), methods=["POST"], name="phone_calls"),
        Route(f"{call}/events", ours(phone.events), methods=["GET"], name="phone_events"),
        Route(f"{call}/keys", ours(phone.press), methods=["POST"], name="phone_keys"),
        Route(f"{call}/played", ours(phone.played), methods=["POST"], name="phone_played"),
        Route(f"{call}/hangup", ours(phone.hang_up), methods=["POST"], name="phone_hangup"),
        Route(sound, ours(phone.sound), methods=["GET"], name="phone_sound"),
    ]


class Phone:
    """The handlers, on one trial line."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    async def show(self, request: Request) -> Response:
        """The page with the keypad."""
        music = self._trial.shelf.find("waiting", "moh") is not None
        return page(request, "phone.html", test_cards=CARDS, music=music)

    async def begin(self, request: Request) -> Response:
        """Make a call: its id, or `trouble`, a word of ours that the page has a text for."""
        form = await request.form()
        fields = [str(form.get(name, ""))[:MOST_OF_FIELD] for name in FORM]
        return JSONResponse({"id": await self._trial.start(_owner(request), *fields)}, 201)

    async def events(self, request: Request) -> Response:
        """What happens in the call, as server-sent events."""
        after = request.headers.get("last-event-id", "")[:9]
        place = int(after) if after.isascii() and after.isdigit() else 0
        return EventStream(self._trial.events(*_call(request), place))

    async def press(self, request: Request) -> Response:
        """Press one key."""
        form = await request.form()
        self._trial.press(*_call(request), str(form.get("key", "")))
        return Response(status_code=204)

    async def played(self, request: Request) -> Response:
        """A file has been played to its end."""
        number = str((await request.form()).get("seq", ""))[:9]
        if not (number.isascii() and number.isdigit()):
            raise TrialError("bad-number")
        self._trial.played(*_call(request), int(number))
        return Response(status_code=204)

    async def hang_up(self, request: Request) -> Response:
        """Put the receiver down."""
        self._trial.hang_up(*_call(request))
        return Response(status_code=204)

    async def sound(self, request: Request) -> Response:
        """A prompt, a clip or the music, by its name in the catalogue."""
        path = self._trial.shelf.find(request.path_params["name"], request.path_params["language"])
        if path is None:
            return Response(status_code=404)
        return FileResponse(path, media_type="audio/wav", headers=KEEP_SOUNDS)


class EventStream(StreamingResponse):
    """Events for as long as somebody takes them; the call is told at once when nobody does any more."""

    def __init__(self, events: AsyncGenerator[dict[str, object], None]) -> None:
        self._events = _written(events)
        super().__init__(self._events, media_type="text/event-stream", headers=STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them. However it ends, the iterator is closed: it may not wait for the garbage collector."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def _written(events: AsyncGenerator[dict[str, object], None]) -> AsyncGenerator[str, None]:
    """Events as the HTML standard has them (Server-sent events); a comment where there was a long silence."""
    try:
        yield "retry: 1000\n\n"
        async for event in events:
            text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
            yield f"id: {event['seq']}\ndata: {text}\n\n" if event else ": still there\n\n"
    finally:
        await events.aclose()


def _told(handler: Handler) -> Handler:
    """Say in JSON what a call did not take."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except NoSuchCall as error:
            return JSONResponse({"trouble": error.why}, 404)
        except TrialError as error:
            return JSONResponse({"trouble": error.why}, STATUS.get(error.why, 422))

    return answer


def _call(request: Request) -> tuple[str, str]:
    """Who asks, and for which call."""
    return _owner(request), str(request.path_params["id"])


def _owner(request: Request) -> str:
    return str(request.state.user.name)
