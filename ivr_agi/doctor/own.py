"""Our own side: the settings, the port that calls come in by, the clock."""

from __future__ import annotations

import errno
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ivr_agi
from ivr_agi import settings
from ivr_agi.doctor.findings import Finding, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ivr_agi.settings import Settings, WrongSettings

A_DAY: Final = 86_400
FOR_OTHERS: Final = 0o004  # a file's mode: everybody on this machine may read it

_ASSIGNED: Final = re.compile(rf"\s*(?:export\s+)?({settings.PREFIX}\w+)\s*=\s*(\S?)", re.IGNORECASE)
_SECRETS: Final = {settings.PREFIX + name.upper() for name in settings.SECRETS}
_LISTEN: Final = "0A"  # /proc/net/tcp's word for it


def wrong(settings_error: WrongSettings) -> Iterator[Finding]:
    """Settings that stop the start."""
    for line in str(settings_error).splitlines():
        name, _, what = line.partition(": ")
        yield error(
            what or line, name if what else "settings", "set what is allowed; .env.example lists each setting"
        )


def misspelt(env_file: Path) -> Iterator[Finding]:
    """Names, in the environment or in `.env`, that do nothing; and a `.env` that everybody may read."""
    cure = "correct the name; .env.example lists them all"
    for name in settings.unknown_names():
        yield warning(f"{name} is no setting and does nothing", name, cure)
    try:
        lines = env_file.read_text(encoding="utf-8").splitlines()
        mode = env_file.stat().st_mode
    except FileNotFoundError:
        return
    except (OSError, UnicodeError) as trouble:
        yield error(
            f"{env_file} cannot be read: {trouble}", str(env_file.resolve()), "make it readable UTF-8 text"
        )
        return
    known = {settings.PREFIX + name.upper() for name in settings.Settings.model_fields}
    for number, line in enumerate(lines, 1):
        found = _ASSIGNED.match(line)
        where = f"{env_file.resolve()}:{number}"
        if found and found[1].upper() not in known:
            yield warning(f"{found[1]} is no setting and does nothing", where, cure)
        elif found and found[1].upper() in _SECRETS and found[2] and mode & FOR_OTHERS:
            yield warning(
                "every user of this machine may read the secret in this file",
                where,
                f"chmod o-rwx {env_file}",
            )


def given(found: Settings) -> Iterator[Finding]:
    """Settings that are allowed and still do not do."""
    name = f"{settings.PREFIX}SEQUENCE"
    if not found.sequence.get_secret_value():
        yield error(
            "the gateway's identifier is not set: no payment is possible",
            name,
            "set it; it is the telephone gateway's identifier in PayStar's panel",
        )
    else:
        yield ok("the gateway's identifier is set", name)
    if any(network.prefixlen == 0 for network in found.allowed_peers):
        yield warning(
            "everybody may connect to the FastAGI server, which asks nobody for a password",
            f"{settings.PREFIX}ALLOWED_PEERS",
            "name the address of your Asterisk only",
        )
    if not found.token.get_secret_value() and not all(network.is_loopback for network in found.allowed_peers):
        yield warning(
            "other machines may connect, and no token is asked of them",
            f"{settings.PREFIX}TOKEN",
            "set one (openssl rand -hex 16) and put token=… into the AGI() lines; docs/tunnels.md encrypts",
        )
    for scope in ("card", "total"):
        if not getattr(found, f"limit_{scope}"):
            yield warning(
                "whoever calls may have any number of SMS sent, and try any number of cards",
                f"{settings.PREFIX}LIMIT_{scope.upper()}",
                "set one, as docs/security.md says",
            )


def panel(found: Settings) -> Iterator[Finding]:
    """The merchant's panel: where it is, and who may ask."""
    where = f"{settings.PREFIX}PANEL_SECRET"
    if not settings.split_secrets(found.panel_secret):
        yield ok("there is no merchant's panel", where)
        return
    address = found.panel_url or f"http://127.0.0.1:{found.http_port}"
    yield ok(f"the merchant's panel is at {address}/panel/", where)
    if any(network.prefixlen == 0 for network in found.panel_proxies):
        yield error(
            "anybody may pass for the reverse proxy, and say for whom he asks",
            f"{settings.PREFIX}PANEL_PROXIES",
            "name the proxy's own address",
        )
    if not found.panel_url and not found.http_host.startswith(("127.", "localhost", "::1")):
        yield warning(
            "the panel answers browsers of this machine alone, although HTTP is open to others",
            f"{settings.PREFIX}PANEL_URL",
            "put a reverse proxy in front and name its https address, as docs/panel.md says",
        )


def clock(newest: str = "") -> Iterator[Finding]:
    """Whether the clock has gone back. newest: the journal's latest time stamp, ISO 8601 in UTC."""
    now = time.time()
    latest = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now + A_DAY))
    if newest > latest or Path(ivr_agi.__file__).stat().st_mtime > now + A_DAY:
        proof = (
            f"the journal was written at {newest}"
            if newest > latest
            else "this program's files are of a later day"
        )
        yield error(
            f"the clock is wrong: {proof}, and it shows {time.strftime('%Y-%m-%d', time.gmtime(now))};"
            " certificates are judged by it, and payments dated",
            "clock",
            "set it and keep it set: systemctl enable --now systemd-timesyncd (or chrony)",
        )
    else:
        yield ok(f"the clock shows {time.strftime('%Y-%m-%d %H:%M', time.gmtime(now))} UTC", "clock")


def door(host: str, port: int, setting: str = "PORT") -> Iterator[Finding]:
    """Whether the port is free, or already ours. setting: PORT (FastAGI) or HTTP_PORT."""
    where = settings.PREFIX + setting
    if port == 0:
        yield warning(
            "port 0 takes a free one at each start: nobody can know it", where, f"{where}=4573, or another"
        )
        return
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as ours:
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                ours.bind(address)
    except OSError as trouble:
        yield (
            _taken(host, port, where)
            if trouble.errno == errno.EADDRINUSE
            else error(
                f"cannot listen on {host}:{port}: {trouble.strerror or trouble}",
                where,
                "an address of this machine (127.0.0.1) and a port above 1023",
            )
        )
    else:
        yield ok(f"{host}:{port} is free to listen on", where)


def _taken(host: str, port: int, where: str) -> Finding:
    holders = _listeners(port)
    if any(re.search(rb"ivr[-_]agi", command) for command in holders.values()):
        return ok(f"{host}:{port} is ours: ivr-agi listens there", where)
    if not holders:
        return warning(
            f"{host}:{port} is taken, by whom cannot be seen from here",
            where,
            "if it is not ivr-agi, choose another port; as root this check sees who it is",
        )
    pid, command = next(iter(holders.items()))
    program = Path(command.split(b"\0")[0].decode(errors="replace")).name
    return error(
        f"{host}:{port} is taken by {program} (process {pid})",
        where,
        f"stop that one, or set {where} to a free port",
    )


def _listeners(port: int) -> dict[int, bytes]:
    """Processes that listen on a port, with their command lines, as far as they may be seen."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    found = {}
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(handle.readlink()) in sockets:
                found[int(handle.parts[2])] = Path("/proc", handle.parts[2], "cmdline").read_bytes()
        except OSError:  # another user's process, or one that has just ended
            continue
    return found
