"""`ivr-agi journal reconcile`: the bank's or PayStar's settlement list against the journal.

Reports, and decides nothing: only with --apply and a person's name are the certain ones resolved as paid,
each with its line of the list as evidence. What is in doubt is never touched.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from ivr_agi.cli.wiring import fail, open_journal, read_settings
from ivr_agi.journal import JournalError

if TYPE_CHECKING:
    from ivr_agi.settlement.matching import Period
    from ivr_agi.settlement.reading import Listing

MAX_NAME: Final = 80  # the journal's column
NOTHING, SOMETHING, NOT_READ = 0, 1, 2  # exit statuses


def reconcile(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The settlement list, as CSV.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HEADING",
            help="Which column is which: order, amount, ref, card, date or status, and its heading"
            " (`status=` for none). May be repeated. Usual headings are known.",
        ),
    ] = None,
    toman: Annotated[bool, typer.Option("--toman", help="Amounts are in toman, not rial.")] = False,
    paid_status: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A status text that means paid; may be repeated."),
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The list's first day; Jalali or Gregorian.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="The list's last day, itself included.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Resolve the certain ones as paid; needs --by.")
    ] = False,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who answers for it.")] = "",
    report_file: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the summary there.")
    ] = None,
) -> None:
    """Match a settlement list with the journal.

    Exits with 0 if there is nothing to look at, 1 if there is, 2 if the list or the journal cannot be read.
    """
    from ivr_agi import reconciling  # noqa: PLC0415 - no other command reads lists
    from ivr_agi.settlement import report  # noqa: PLC0415
    from ivr_agi.settlement.matching import match  # noqa: PLC0415

    by = by.strip()
    if apply and not by:
        fail("--apply needs --by NAME: a person answers for it", NOT_READ)
    if len(by) > MAX_NAME or not by.isprintable():
        fail(f"--by: at most {MAX_NAME} printable characters", NOT_READ)
    listing = _read_list(file, column or [], paid_status or [], toman=toman)
    period = _period(listing, first, last)
    if report_file:
        _try_report(report_file, file)
    journal = open_journal(read_settings(quiet=True), create=False)
    try:
        found = match(listing.lines, reconciling.attempts(journal, listing, period), period)
        applied = reconciling.apply(journal, found.certain, by, file.name) if apply else report.Applied(by)
    except JournalError as error:
        fail(str(error), NOT_READ)
    finally:
        journal.close()
    _tell(report.summary(found, listing, file.name, applied), report_file)
    raise SystemExit(SOMETHING if report.remaining(found, applied) else NOTHING)


# -- the list ---------------------------------------------------------------------------------------


def _read_list(file: Path, column: list[str], paid_status: list[str], *, toman: bool) -> Listing:
    from ivr_agi.settlement.reading import UnreadableList, read  # noqa: PLC0415 - as above

    mapping: dict[str, str] = {}
    for given in column:
        name, equals, heading = given.partition("=")
        if not equals or name.strip() in mapping:
            fail(f"--column: NAME=HEADING, each name once (not {given[:40]!r})", NOT_READ)
        mapping[name.strip()] = heading
    try:
        content = file.read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror or error}", NOT_READ)
    try:
        return read(content, mapping=mapping, toman=toman, paid_status=paid_status)
    except UnreadableList as why:
        fail(f"{file}: {why}", NOT_READ)


def _period(listing: Listing, first: str | None, last: str | None) -> Period:
    from ivr_agi import reconciling  # noqa: PLC0415 - as above
    from ivr_agi.settlement.dates import NoDate, read_day  # noqa: PLC0415
    from ivr_agi.settlement.reading import UnreadableList  # noqa: PLC0415

    days: dict[str, date | None] = {}
    for option, text in (("--from", first), ("--to", last)):
        try:
            days[option] = read_day(text) if text is not None else None
        except NoDate as why:
            fail(f"{option}: {why}", NOT_READ)
    try:
        return reconciling.covered(listing, days["--from"], days["--to"])
    except UnreadableList as why:
        fail(str(why), NOT_READ)


# -- the summary ------------------------------------------------------------------------------------


def _try_report(report_file: Path, file: Path) -> None:
    """Find out before anything is done whether the summary can be written."""
    try:
        if report_file.exists() and report_file.samefile(file):
            fail("--report: that is the list itself", NOT_READ)
        with report_file.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        _not_written(report_file, error)


def _tell(text: str, report_file: Path | None) -> None:
    if report_file is None:
        typer.echo(text.encode(), nl=False)  # as bytes: Persian, whatever the terminal's locale
        return
    try:
        report_file.write_text(text, encoding="utf-8")
    except OSError as error:
        typer.echo(text.encode(), nl=False)  # what was resolved must be told somewhere
        _not_written(report_file, error)
    typer.echo(f"The summary is in {report_file}")


def _not_written(report_file: Path, error: OSError) -> NoReturn:
    fail(f"--report {report_file}: {error.strerror or error}", NOT_READ)
