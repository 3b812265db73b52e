"""Who may do what in the panel, and which names and passwords are taken.

Roles are few and fixed; MAY is the only table of what each may do.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

SHORTEST: Final = 12  # characters of a password: PCI DSS 4.0.1, 8.3.6
LONGEST: Final = 128


class Role(StrEnum):
    """What somebody is in the shop."""

    OPERATOR = "operator"
    ACCOUNTANT = "accountant"
    ADMIN = "admin"


class May(StrEnum):
    """What can be allowed."""

    CHARGE = "charge"  # take a payment
    LOOK = "look"  # payments, one by one and searched for
    EXPORT = "export"  # many of them, as a file
    RESOLVE = "resolve"  # say what became of a payment in doubt
    COUNT = "count"  # sums and rates
    WATCH = "watch"  # calls in progress
    TRY = "try"  # the trial phone
    AUDIT = "audit"  # who did what


MAY: Final[dict[Role, frozenset[May]]] = {
    Role.OPERATOR: frozenset({May.CHARGE, May.LOOK, May.WATCH, May.TRY}),
    Role.ACCOUNTANT: frozenset({May.LOOK, May.EXPORT, May.RESOLVE, May.COUNT, May.WATCH, May.TRY}),
    Role.ADMIN: frozenset(May),
}


class Unfit(ValueError):  # noqa: N818 - named for what it is
    """A name or a password that is not taken; the message says what is."""


def check_name(name: str) -> str:
    """The name, if it can be one: lower-case letters, digits, `.`, `-`, `_`. Raises Unfit."""
    if not re.fullmatch(r"[a-z][a-z0-9._-]{1,39}", name, re.ASCII):
        raise Unfit("a user's name has 2 to 40 of a-z 0-9 . _ - and begins with a letter")
    return name


def check_password(password: str, name: str) -> str:
    """The password, if it is good enough. Raises Unfit, which does not quote it."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Unfit(f"a password has {SHORTEST} to {LONGEST} characters")
    if not any(c.isalpha() for c in password) or not any(c.isdigit() for c in password):
        raise Unfit("a password has at least one letter and one digit")
    if name in password.lower() or len(set(password)) < SHORTEST // 2:
        raise Unfit("the password is too easily guessed: it has the name in it, or few different characters")
    return password
