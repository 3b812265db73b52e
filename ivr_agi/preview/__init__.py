"""What the line sounds like, without a telephone: whole calls as sound files, and a page for all prompts.

The calls are made, not imitated: the demo's server and gateway simulator, and a handset that remembers.
Everything is written into one folder that can be zipped and sent; nothing outside it is touched.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import uvloop

from ivr_agi import prompts, sounds
from ivr_agi.preview import page
from ivr_agi.preview.callers import CALLERS, Caller
from ivr_agi.preview.recording import RecordingHandset
from ivr_agi.preview.rendering import PreviewError, Shelf, path_of, render
from ivr_agi.rehearsal import open_line
from ivr_agi.simulator.channel import dial
from ivr_agi.sounds import formats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ivr_agi.preview.recording import Moment

__all__ = ["PreviewError", "Recorded", "make_preview", "record"]

ALL: Final = "all"
AT_ONCE: Final = 8  # calls; each has a server of its own
NO_WAIT: Final = {"otp_cooldown": 0.0}  # music covers it in a call, and no second of it is kept here


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call that was made. variables: what the dialplan was told."""

    caller: Caller
    language: str
    moments: list[Moment]
    variables: dict[str, str]


def make_preview(
    out: Path,
    *,
    outcome: str = "paid",
    amount: str = "50000",
    language: str = "both",
    source: Path | None = None,
) -> list[Path]:
    """Write `call-LANG-OUTCOME.wav`, `sounds/` and `index.html` into `out`; return the calls and the page.

    outcome: a caller's name, or `all`; amount: whole rials; language: `fa`, `en` or `both`; source: the
    sounds folder, by default the shipped one. Raises PreviewError for what cannot be done or is missing,
    WrongSettings, JournalError, OSError.
    """
    callers, languages = _callers(outcome), _languages(language)
    if not re.fullmatch(r"[0-9]{1,13}", amount):
        raise PreviewError("--amount: whole rials, in digits")
    shelf = Shelf(source or sounds.shipped())
    cards = page.clips(shelf)  # what is missing is found before anything is written
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the server's own
        made = runner.run(_record_all(callers, languages, int(amount)))
    calls = []
    for call in made:
        sound, lines = render(call.moments, shelf)
        file = f"call-{call.language}-{call.caller.name}.wav"
        formats.write(out / file, "wav", sound)
        calls.append(page.Call(file, call.language, call.caller.en, call.caller.fa, sound.duration_ms, lines))
    _copy_sounds(shelf.folder, out / page.SOUNDS)
    index = out / "index.html"
    index.write_text(page.page(calls, cards), encoding="utf-8")
    return [*(out / call.file for call in calls), index]


async def _record_all(callers: Sequence[Caller], languages: Sequence[str], amount: int) -> list[Recorded]:
    free = asyncio.Semaphore(AT_ONCE)

    async def recorded(caller: Caller, language: str) -> Recorded:
        async with free:
            return await record(caller, amount=amount, language=language)

    return await asyncio.gather(*(recorded(caller, each) for each in languages for caller in callers))


async def record(caller: Caller, *, amount: int, language: str) -> Recorded:
    """Make one call. amount: rials. Raises PreviewError if our own server will not have it."""
    phone = RecordingHandset(caller, amount=amount, language=language)
    rials = amount if caller.knows_amount else "ask"
    quicker = {**NO_WAIT, **caller.quicker}
    async with open_line(language=language, on_sms=phone.receive, **quicker) as line:
        url = f"{line.url}?amount={quote(str(rials))}{caller.query}"
        channel = await dial(url, phone, caller_id=caller.caller_id, language=language)
        variables = await channel.run()
    if "PAYSTATUS" not in variables:
        raise PreviewError(f"the call to {caller.name} was lost: see what is logged")
    if variables["PAYREASON"] == "bad-amount":
        raise PreviewError("--amount: more, or less, than the line takes (IVR_AGI_AMOUNT_MIN, …_MAX, …_STEP)")
    return Recorded(caller, language, phone.moments, variables)


def _callers(outcome: str) -> list[Caller]:
    if outcome == ALL:
        return list(CALLERS.values())
    if outcome not in CALLERS:
        raise PreviewError(f"--outcome: {outcome!r} is none; there are {', '.join([*CALLERS, ALL])}")
    return [CALLERS[outcome]]


def _languages(language: str) -> tuple[str, ...]:
    if language == "both":
        return prompts.LANGUAGES
    if language not in prompts.LANGUAGES:
        raise PreviewError(f"--language: {', '.join(prompts.LANGUAGES)} or both")
    return (language,)


def _copy_sounds(source: Path, dest: Path) -> None:
    """Copy the prompts and clips of the catalogue, and nothing else that may lie in the folder."""
    for language in prompts.LANGUAGES:
        for name in prompts.names(language):
            here, there = (folder / path_of(name, language) for folder in (source, dest))
            if there.exists() and there.samefile(here):
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here, there)
