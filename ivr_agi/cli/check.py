"""`ivr-agi check`: what stands in the way of a payment, or lets a card number out."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import unquote, urlsplit

import typer
from rich.table import Table
from rich.text import Text

from ivr_agi import logs, settings
from ivr_agi.cli.wiring import literal_console
from ivr_agi.doctor.findings import Finding, Level, warning

if TYPE_CHECKING:
    from ivr_agi.settings import Settings

ETC_ASTERISK: Final = Path("/etc/asterisk")
SHORTEST: Final = 4  # of a secret to look for: one letter is in every word
STYLES: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "bold red"}


def check(
    asterisk_dir: Annotated[
        Path | None,
        typer.Option(
            help="Asterisk's configuration, or a root that has it in etc/asterisk.",
            show_default=str(ETC_ASTERISK),
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="An array of objects, for machines.")] = False,
    no_gateway: Annotated[bool, typer.Option("--no-gateway", help="Do not connect to the gateway.")] = False,
) -> None:
    """Look for what stands in the way of a payment or lets a card number out; exits 1 if anything does."""
    from ivr_agi.doctor import asterisk, own  # noqa: PLC0415 - only this command

    logs.configure("ERROR", "console")
    env_file = Path(str(settings.Settings.model_config.get("env_file")))
    findings = list(own.misspelt(env_file))
    try:
        found = settings.load()
    except settings.WrongSettings as wrong:
        findings += own.wrong(wrong)
        found = settings.Settings.model_construct()  # Asterisk's side can still be looked at, by the defaults
    else:
        findings += _ours(found, gateway=not no_gateway)
    findings += _asterisks(asterisk_dir, found)
    _show([_presentable(finding, _secrets(found)) for finding in findings], as_json=as_json)
    raise SystemExit(1 if asterisk.worst(findings) is Level.ERROR else 0)


def _ours(found: Settings, *, gateway: bool) -> list[Finding]:
    from ivr_agi.doctor import own, reach, storage  # noqa: PLC0415 - as above

    findings = [*own.given(found), *own.panel(found)]
    journal, newest = storage.check(found.journal_url)
    findings += journal
    if gateway:
        findings += reach.check(found.gateway_url)
    findings += own.clock(newest)
    findings += own.door(found.host, found.port)
    findings += own.door(found.http_host, found.http_port, "HTTP_PORT")
    return findings


def _asterisks(folder: Path | None, found: Settings) -> list[Finding]:
    if folder is None and not ETC_ASTERISK.is_dir():
        return [
            warning(
                "Asterisk's configuration, sounds and music were not looked at",
                "--asterisk-dir",
                "name the /etc/asterisk, or a root that contains it",
            )
        ]
    spoken = found.language_codes if found.language == "ask" else (found.language,)
    languages = {language: found.language_codes[language] for language in spoken}
    from ivr_agi.doctor import asterisk  # noqa: PLC0415 - as above

    return asterisk.check(
        folder or ETC_ASTERISK, languages=languages, music_class=found.music_class, port=found.port
    )


def _secrets(found: Settings) -> set[str]:
    """What must not be shown, should a driver or a library repeat it."""
    password = ""
    with suppress(ValueError):
        password = urlsplit(found.journal_url).password or ""
    ours = [part for name in settings.SECRETS for part in settings.split_secrets(getattr(found, name))]
    return {secret for secret in (*ours, password, unquote(password)) if len(secret) >= SHORTEST}


def _presentable(finding: Finding, secrets: set[str]) -> Finding:
    """Without secrets, and without the control characters that a file may hold."""
    texts = []
    for text in (finding.what, finding.where, finding.cure):
        for secret in secrets:
            text = text.replace(secret, "***")  # noqa: PLW2901
        texts.append("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))
    return Finding(finding.level, *texts)


def _show(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        json.dump([asdict(finding) for finding in findings], sys.stdout, ensure_ascii=False, indent=1)
        sys.stdout.write("\n")
        return
    table = Table()
    for column in ("level", "what", "where", "cure"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, STYLES[finding.level]), finding.what, finding.where, finding.cure)
    console = literal_console()
    console.print(table)
    counts = Counter(finding.level for finding in findings)
    console.print(", ".join(f"{counts[level]} {level}" for level in reversed(Level)))
