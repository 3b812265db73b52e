"""What the doctor says: one finding for each thing looked at, with the place and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. Only `error` makes `ivr-agi check` exit with 1."""

    OK = "ok"
    WARNING = "warning"  # it works, or it may; somebody should look
    ERROR = "error"  # payments fail, are lost, or a card number gets out


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    where: `file:line` or the setting's name. cure: what to do about it; empty when there is nothing to do.
    """

    level: Level
    what: str
    where: str
    cure: str = ""


def ok(what: str, where: str) -> Finding:
    """Say that a thing is in order."""
    return Finding(Level.OK, what, where)


def warning(what: str, where: str, cure: str) -> Finding:
    """Say that somebody should look at a thing."""
    return Finding(Level.WARNING, what, where, cure)


def error(what: str, where: str, cure: str) -> Finding:
    """Say that a thing is broken, or lets a card number out."""
    return Finding(Level.ERROR, what, where, cure)
