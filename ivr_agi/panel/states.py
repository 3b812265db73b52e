"""How a payment stands, in a person's words: the same in every section. Pure; takes rows of the journal.

What there is no sentence for is shown as the word that the journal has: it must never be guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ivr_agi import outcomes, prompts
from ivr_agi.journal import AttemptState, Resolution
from ivr_agi.journal.tables import OPEN
from ivr_agi.panel import figures
from ivr_agi.panel.showing import say, words

if TYPE_CHECKING:
    from collections.abc import Mapping


class Badge(NamedTuple):
    """A state to show. kind: of panel.css (`badge-paid` …); text: its words."""

    kind: str
    text: str


def badge(row: Mapping[str, Any], language: str) -> Badge:
    """How an attempt stands. A verdict that it was not paid looks no better than any failure."""
    state = str(row["state"])
    if state in OPEN:
        return Badge("open", say(f"states.{state}", language))
    if state == AttemptState.RESOLVED and row["resolution"]:
        kind = "resolved" if row["resolution"] == Resolution.PAID else "failed"
        return Badge(kind, say(f"states.resolved_{row['resolution']}", language))
    return Badge(state, say(f"states.{state}", language))


def reason(word: str, language: str) -> str:
    """Why an attempt ended so; the word itself where there is no sentence for it, '' for ''."""
    if f"states.reason_{word}" in words():
        return say(f"states.reason_{word}", language)
    for known in ("unclear-answer", "http"):
        if word.startswith(f"{known}-"):
            rest = word.removeprefix(f"{known}-").removeprefix("http-")
            return say(f"states.reason_{known}", language, what=figures.digits(rest, language))
    return word


def bank_says(code: str, language: str) -> str:
    """What a caller hears of a bank's code; '' for ''."""
    return prompts.text(outcomes.decline(code).prompt, language) if code else ""


def why(row: Mapping[str, Any], language: str) -> str:
    """Code and reason of an attempt in one line; '' for neither."""
    code = str(row["code"])
    said = bank_says(code, language)
    return f"{figures.digits(code, language)}: {said}" if said else reason(str(row["reason"]), language)


def review(kind: str, language: str) -> str:
    """What a person should look at; the word itself where there is no sentence for it, '' for ''."""
    key = f"states.review_{kind}"
    return say(key, language) if key in words() else kind


def method(word: str, language: str) -> str:
    """How a payment came."""
    key = f"states.method_{word}"
    return say(key, language) if key in words() else word


def is_paid(row: Mapping[str, Any]) -> bool:
    """Whether it is certain that money has moved: the bank said so, or a person has found out."""
    if row["state"] == AttemptState.RESOLVED:
        return bool(row["resolution"] == Resolution.PAID)
    return bool(row["state"] == AttemptState.PAID)
