"""Where Asterisk's configuration lets a caller's keys out: logs, AMI, CEL, CDR, traces.

Each line of this was seen on a real Asterisk; `tests/asterisk/` switches the leaks on. A user's secret
is never shown, nor is any value that may hold one.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from ivr_agi.doctor.asterisk_conf import TRUE
from ivr_agi.doctor.findings import Finding, error, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ivr_agi.doctor.asterisk_conf import Conf, Tree, Value

AMI_LEAKS: Final = {
    "dtmf": "sees every key (DTMFEnd events)",
    "agi": "sees every answer to the AGI server, card and PIN included (AGIExecEnd events)",
    "all": "sees every key and every answer to the AGI server",
}
CDR_FIELDS: Final = re.compile(r"\b(lastdata|userfield)\b", re.IGNORECASE)
CDR_FILES: Final = (
    "cdr_custom.conf", "cdr_sqlite3_custom.conf", "cdr_syslog.conf", "cdr_adaptive_odbc.conf",
)  # fmt: skip


def logs(tree: Tree) -> Iterator[Finding]:
    """logger.conf: `dtmf` writes each key; `debug` does once debugging is on."""
    debugging = _debug_level(tree)
    for line in tree.read("logger.conf").values("logfiles"):
        levels = {level.strip().casefold() for level in re.sub(r"^\s*\[[^\]]*\]", "", line.value).split(",")}
        which = f"the log {line.name!r}"
        if levels & {"dtmf", "*"}:
            level = "dtmf" if "dtmf" in levels else "*"
            yield error(
                f"{which} has level {level}: each key is written, of card number and PIN, too",
                line.where,
                f"take {level} out of the line (`*` means all, dtmf among them), `logger reload`,"
                " and delete what has been written",
            )
        elif "debug" in levels:
            yield (error if debugging else warning)(
                f"{which} has level debug: keys are written "
                + (
                    "now, for debug is set in asterisk.conf"
                    if debugging
                    else "as soon as `core set debug` is used"
                ),
                line.where,
                "take debug out of the line, then `logger reload`",
            )


def _debug_level(tree: Tree) -> Value | None:
    given = tree.read("asterisk.conf").last("options", "debug")
    return given if given and given.value not in ("", "0") and given.value.casefold() != "no" else None


def debugging(tree: Tree) -> Iterator[Finding]:
    """asterisk.conf, cli.conf, pjsip.conf, sip.conf: debugging and traces switched on at the start."""
    if level := _debug_level(tree):
        yield warning(
            "debugging is on from the start: keys appear in whatever logs level debug",
            level.where,
            "debug = 0, or take the line out; verbose does no harm",
        )
    for command in tree.read("cli.conf").values("startup_commands"):
        if not (command.true or command.value.casefold().startswith("pre-")):
            continue
        words = " ".join(command.name.casefold().split())
        if re.fullmatch(r"agi set debug( on)?|rtp set debug( on| ip .*)|core set debug [1-9].*", words):
            yield error(
                f"`{words}` at the start: keys, or all that the AGI server is answered, are shown and logged",
                command.where,
                "take the line out",
            )
        elif re.fullmatch(r"(pjsip set logger|sip set debug) (on|host .*|ip .*|peer .*)", words):
            yield warning(
                f"`{words}` at the start: a SIP trace shows keys that come as SIP INFO",
                command.where,
                "take the line out",
            )
    for section in tree.read("pjsip.conf").sections:
        kind, trace = section.last("type"), section.last("debug")
        if kind and kind.value.casefold() == "global" and trace and trace.value.casefold() != "no":
            yield warning(
                "the SIP trace is on from the start: it shows keys that come as SIP INFO",
                trace.where,
                "debug = no",
            )


def manager(tree: Tree) -> Iterator[Finding]:
    """manager.conf: who sees keys over AMI, and whether AMI is open to the network without TLS."""
    conf = tree.read("manager.conf")
    enabled = conf.last("general", "enabled")
    if not (enabled and enabled.true):
        return
    bound = conf.last("general", "bindaddr")
    if not (bound and _is_loopback(bound.value)):
        yield warning(
            f"AMI listens on {(bound and bound.value) or 'every address'}, in plain text"
            " (tlsenable opens a second port and leaves this one open)",
            bound.where if bound else enabled.where,
            "bindaddr = 127.0.0.1; for others tlsenable = yes with tlsbindaddr",
        )
    for user in conf.sections:
        read = None if user.template or user.name.casefold() == "general" else user.last("read")
        if not read:  # no `read` at all: the user gets no events
            continue
        granted = [name for name in AMI_LEAKS if name in read.value.split(",")]
        meant = [name for name in AMI_LEAKS if name in re.split(r"\s*,\s*", read.value.casefold())]
        if not meant:
            continue
        what = f"AMI user {user.name!r} has read class {', '.join(meant)}: it {AMI_LEAKS[meant[-1]]}"
        cure = "name only the classes that it needs, without dtmf, agi and all; then `manager reload`"
        if not granted:
            yield warning(
                f"{what}, were it not for a blank or a capital letter in the line", read.where, cure
            )
        elif user.last("eventfilter"):
            yield warning(f"{what}, unless its eventfilter keeps them back", read.where, cure)
        else:
            yield error(what, read.where, cure)


def _is_loopback(address: str) -> bool:
    host = address.strip("[]") if address.count(":") != 1 else address.partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


def cel(tree: Tree) -> Iterator[Finding]:
    """cel.conf: events ALL has DTMF among them since 20.16 and 22.6."""
    conf = tree.read("cel.conf")
    enabled, events = conf.last("general", "enable"), conf.last("general", "events")
    if not (enabled and enabled.true and events):
        return
    named = {part.strip().casefold() for part in events.value.split(",")}
    if leaking := named & {"all", "dtmf"}:
        yield error(
            f"CEL records events {', '.join(sorted(leaking)).upper()}: each key of a caller is an event"
            " (ALL: since Asterisk 20.16 and 22.6)",
            events.where,
            "events = CHAN_START,ANSWER,HANGUP,CHAN_END and what else is needed, but neither ALL nor DTMF",
        )


def cdr(tree: Tree) -> Iterator[Finding]:
    """CDR that keep what an application was called with, or what the dialplan noted of a call."""
    conf = tree.read("cdr.conf")
    if (enabled := conf.last("general", "enable")) and enabled.value.casefold() not in TRUE:
        return
    kept: list[tuple[str, str]] = []
    if (noted := conf.last("csv", "loguserfield")) and noted.true:
        kept.append(("userfield", noted.where))
    for name in CDR_FILES:
        for section in _live(tree.read(name)):
            kept += [
                (" and ".join(sorted(fields)), line.where)
                for line in section
                if (fields := {word.lower() for word in CDR_FIELDS.findall(f"{line.name} {line.value}")})
            ]
    if (sent := tree.read("cdr_manager.conf").last("general", "enabled")) and sent.true:
        kept.append(("lastdata and userfield", sent.where))
    for fields_kept, where in kept:
        yield warning(
            f"CDR keep {fields_kept}: a card number, too, should your dialplan pass or note one there",
            where,
            f"leave {fields_kept} out; or let no step put there what a caller keyed (ours does not)",
        )


def _live(conf: Conf) -> Iterator[list[Value]]:
    return (section.values for section in conf.sections if not section.template)
