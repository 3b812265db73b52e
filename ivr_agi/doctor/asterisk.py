"""Asterisk's side: its configuration read for leaks and traps, its folders for sounds and music."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ivr_agi.doctor import leaks, media
from ivr_agi.doctor.asterisk_conf import Tree
from ivr_agi.doctor.dialplan import SHIPPED, Paying
from ivr_agi.doctor.findings import Finding, Level, error, ok, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

READ: Final = (
    "asterisk.conf", "cdr.conf", "cel.conf", "cli.conf", "extensions.conf", "logger.conf", "manager.conf",
    "modules.conf", "musiconhold.conf", "pjsip.conf", "pjsip_wizard.conf", "sip.conf",
)  # fmt: skip

# Leaks by the file that they are in, and what there is to say when there is none.
LEAKS: Final[tuple[tuple[str, Callable[[Tree], Iterator[Finding]], str], ...]] = (
    ("logger.conf", leaks.logs, "no log takes keys"),
    ("asterisk.conf", leaks.debugging, "no debugging or trace is on from the start"),
    ("manager.conf", leaks.manager, "nobody sees keys over AMI"),
    ("cel.conf", leaks.cel, "CEL records no keys"),
    ("cdr.conf", leaks.cdr, "CDR keep neither lastdata nor userfield"),
    ("pjsip.conf", media.keys, "no endpoint takes keys as SIP INFO or as tones"),
)


def check(folder: Path, *, languages: Mapping[str, str], music_class: str, port: int) -> list[Finding]:
    """Look at an `/etc/asterisk`, or at a root that contains one.

    languages: those that callers are spoken to in, and what this Asterisk calls them. port: where our server
    listens, 0 if that is not fixed.
    """
    try:
        tree = Tree(folder)
    except FileNotFoundError:
        return [
            error(
                "there is no Asterisk configuration",
                str(folder),
                "--asterisk-dir: an /etc/asterisk, or a root that contains etc/asterisk",
            )
        ]
    except OSError as trouble:
        return [_unseen(trouble)]
    found = _seen(lambda: _readable(tree))
    for name, look, fine in LEAKS:
        found += _seen(partial(look, tree)) or [ok(fine, str(tree.etc / name))]
    found += _seen(lambda: Paying(tree, port).findings())
    found += _seen(lambda: _modules(tree))
    found += _seen(lambda: media.prompts_there(tree, languages))
    found += _seen(lambda: media.music(tree, music_class))
    return list(dict.fromkeys(found))  # a line that is inherited, or included twice, is told once


def _seen(look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What a look finds. What may not be read is not said to be in order."""
    found: list[Finding] = []
    try:
        found.extend(look())
    except OSError as trouble:
        found.append(_unseen(trouble))
    return found


def _unseen(trouble: OSError) -> Finding:
    return error(
        f"this could not be looked at: {trouble.strerror}",
        str(trouble.filename),
        "run the check as root, or as Asterisk's own user",
    )


def _modules(tree: Tree) -> Iterator[Finding]:
    shipped = bool(tree.read("extensions.conf").named(SHIPPED))
    found = list(media.modules(tree, shipped=shipped))
    yield from found or [ok("the modules for a payment call are loaded", str(tree.etc / "modules.conf"))]


def _readable(tree: Tree) -> Iterator[Finding]:
    """What Asterisk refuses to read, and what cannot be seen from here."""
    for name in READ:
        for problem in tree.read(name).problems:
            if problem.fatal:
                yield error(
                    f"{problem.what}: Asterisk rejects {name} as a whole",
                    problem.where,
                    "mend the line, then reload",
                )
            else:
                yield warning(problem.what, problem.where, "look at it yourself")
    # Realtime: what is kept in a database is none of these files.
    for line in tree.read("extconfig.conf").values("settings"):
        if line.name.casefold().removesuffix(".conf") in (
            "extensions",
            "ps_endpoints",
            "sippeers",
            "musiconhold",
            "logger",
            "manager",
            "cel",
        ):
            yield warning(
                f"{line.name} is kept in a database, which this check does not see",
                line.where,
                "look there yourself",
            )


def worst(findings: Collection[Finding]) -> Level:
    """The worst level of all."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.ERROR, Level.WARNING) if level in levels), Level.OK)
