"""Signing in and out: the cookie, the session that it stands for, and how often a password may be guessed.

A cookie is a signed, random key; the session itself is a row of the journal, by the key's hash, so that it
can be ended: by signing out, by a new password, by an account that is closed. Every form carries a token
made from the same key (CSRF). Wrong passwords are counted in the audit log: by name, and by address.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

import structlog
from itsdangerous import BadSignature, TimestampSigner

from ivr_agi.journal import people
from ivr_agi.panel.accounts import Role, Unfit, check_name
from ivr_agi.panel.passwords import Crowded, Passwords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ivr_agi.journal import Journal
    from ivr_agi.model import Secret

log = structlog.get_logger()

IPV6: Final = 6
LONGEST: Final = timedelta(hours=12)  # a session, whatever is done in it
SEEN_EVERY: Final = timedelta(minutes=1)  # of a session in use, one write so often
WINDOW: Final = timedelta(minutes=30)  # in which wrong passwords count: PCI DSS 4.0.1, 8.3.4
MOST_OF_NAME: Final = 10
MOST_OF_ADDRESS: Final = 50
LONGEST_PASSWORD: Final = 200  # characters that are looked at, at all
_KEY_LENGTH: Final = 60  # more characters than ours has


class NotSignedIn(Exception):  # noqa: N818 - an answer, not a fault
    """Not signed in. why: a word of words/entrance.toml."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who asks, and the key of his session."""

    name: str
    role: Role
    key: str


class Sessions:
    """Of one server; the rows are shared by all servers of a journal."""

    def __init__(
        self, journal: Journal, keys: Sequence[Secret], *, idle: timedelta, passwords: Passwords | None = None
    ) -> None:
        """keys: the first one signs, each is accepted. idle: without a request, then it is over."""
        self._journal = journal
        self._keys = [key.reveal().encode() for key in keys]
        # itsdangerous signs with the last one
        self._signer = TimestampSigner(self._keys[::-1], salt="session", digest_method=hashlib.sha256)
        self._idle = idle
        self._passwords = passwords or Passwords()

    def close(self) -> None:
        """End what it runs."""
        self._passwords.close()

    async def sign_in(self, name: str, password: str, address: str) -> str:
        """Compare the password; returns the cookie. Raises NotSignedIn, JournalError."""
        since = _ago(WINDOW)
        found = await self._find(name)
        who = found.name if found else f"?{self._digest('name', name)[:12]}"
        if await self._too_many(who, _crowd_of(address), since):
            log.warning("panel.sign_in_failed", user=who, address=address, why="too many tries")
            raise NotSignedIn("too_many")
        try:
            fits = await self._passwords.fits(found.password if found else None, password[:LONGEST_PASSWORD])
        except Crowded:
            raise NotSignedIn("crowded") from None
        if found is None or not fits or found.disabled_at:
            entry = partial(people.record, who=who, address=_crowd_of(address), action="sign-in-failed")
            await self._journal.write(entry)
            log.warning("panel.sign_in_failed", user=who, address=address)
            raise NotSignedIn("wrong")
        with suppress(Crowded):  # another time
            if renewed := await self._passwords.renewed(found.password, password):
                await self._journal.write(partial(people.rehash, account_id=found.id, password=renewed))
        key = secrets.token_urlsafe(32)
        begin = partial(people.begin, key=_hash(key), account_id=found.id, forget_before=_ago(LONGEST))
        await self._journal.write(begin)
        await self._journal.write(partial(people.record, who=who, address=address, action="signed-in"))
        log.info("panel.signed_in", user=who, role=found.role, address=address)
        return self._signer.sign(key).decode()

    async def of(self, cookie: str, *, looking_on: bool = False) -> SignedIn | None:
        """Who has this cookie; None for nobody. Raises JournalError.

        looking_on: it is not used, only looked at.
        """
        key = self._key(cookie)
        if key is None:
            return None
        begun_since, seen_since = _ago(LONGEST), _ago(self._idle)
        query = partial(people.current, key=_hash(key), begun_since=begun_since, seen_since=seen_since)
        found = await self._journal.look(query)
        if found is None or found.account.role not in tuple(Role):
            return None
        if not looking_on and found.seen_at < _ago(SEEN_EVERY):
            await self._journal.write(partial(people.see, key=found.key))
        return SignedIn(found.account.name, Role(found.account.role), key)

    async def sign_out(self, who: SignedIn, address: str) -> None:
        """End the session, for whoever has its cookie. Raises JournalError."""
        await self._journal.write(partial(people.end, key=_hash(who.key)))
        await self._journal.write(partial(people.record, who=who.name, address=address, action="signed-out"))

    def token(self, key: str) -> str:
        """What a form must carry. key: of the session, or of the visit before one."""
        return self._digest("csrf", key)

    def accepts(self, token: str, key: str) -> bool:
        """Whether a form's token is that of a session; compared in constant time."""
        given = token.encode()
        return sum(hmac.compare_digest(given, _mac(ours, "csrf", key).encode()) for ours in self._keys) > 0

    async def _find(self, name: str) -> people.Account | None:
        """The account of that name; what can be no name is not even looked for."""
        try:
            check_name(name)
        except Unfit:
            return None
        return await self._journal.look(partial(people.find, name=name))

    async def _too_many(self, who: str, address: str, since: str) -> bool:
        counts = partial(people.count, action="sign-in-failed", since=since)
        of_name = await self._journal.look(partial(counts, who=who))
        of_address = await self._journal.look(partial(counts, address=address))
        return of_name >= MOST_OF_NAME or of_address >= MOST_OF_ADDRESS

    def _key(self, cookie: str) -> str | None:
        try:
            key = self._signer.unsign(cookie, max_age=int(LONGEST.total_seconds())).decode()
        except (BadSignature, ValueError):
            return None
        return key if 0 < len(key) <= _KEY_LENGTH else None

    def _digest(self, what: str, text: str) -> str:
        return _mac(self._keys[0], what, text)


def _mac(key: bytes, what: str, text: str) -> str:
    return hmac.new(key, f"{what}:{text}".encode(), hashlib.sha256).hexdigest()


def _crowd_of(address: str) -> str:
    """Whose tries count together: an address; of IPv6 the network, of which anybody has a whole one."""
    found = ip_address(address)
    return str(ip_network((found, 64), strict=False)) if found.version == IPV6 else address


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _ago(span: timedelta) -> str:
    return (datetime.now(UTC) - span).isoformat(timespec="milliseconds")
