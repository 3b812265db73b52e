"""How passwords are kept: argon2id, in a thread of its own, one at a time.

Each takes 64 MiB and some tens of milliseconds, and a crowd at the door must take neither from a caller.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING: Final = 8  # passwords to be compared; one more is turned away
T = TypeVar("T")


class Crowded(Exception):  # noqa: N818 - an answer, not a fault
    """Too many passwords are waiting to be compared."""


class Passwords:
    """argon2id, one at a time."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._waiting = 0
        self._nobodys = self._hasher.hash("nobody has this password")

    @staticmethod
    def hashed(password: str) -> str:
        """What is kept of a password; made here and now."""
        return PasswordHasher().hash(password)

    async def fits(self, kept: str | None, password: str) -> bool:
        """Whether it is the one; kept None, nobody's, takes as long. Raises Crowded."""
        return await self._soon(lambda: self._verify(kept or self._nobodys, password)) and kept is not None

    async def renewed(self, kept: str, password: str) -> str | None:
        """The same password under today's parameters; None if it is so already."""
        if not self._hasher.check_needs_rehash(kept):
            return None
        return await self._soon(lambda: self._hasher.hash(password))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _verify(self, kept: str, password: str) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _soon(self, do: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            raise Crowded
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, do)
        finally:
            self._waiting -= 1
