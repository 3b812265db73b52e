"""`ivr-agi sounds`: build, check and install the sound files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from ivr_agi import sounds
from ivr_agi.cli.wiring import fail

app = typer.Typer(help="Build, check and install the sound files.", no_args_is_help=True)


@app.command("build")
def build(
    only: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Prompts or clips; all if absent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to build in.")] = None,
    force: Annotated[bool, typer.Option(help="Also what has not changed.")] = False,
) -> None:
    """Make the sound files of prompts whose words have changed, with espeak-ng."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sounds")
        try:
            written = sounds.build(
                out or sounds.shipped(),
                only=only or None,
                force=force,
                progress=lambda done, total, name: bar.update(
                    task, completed=done, total=total, description=name
                ),
            )
        except (sounds.SpeechError, KeyError, OSError) as error:
            fail(str(error))
    typer.echo(f"{len(written)} files written")


@app.command("check")
def check(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The shipped sounds if absent.")
    ] = None,
    installed: Annotated[bool, typer.Option(help="DIR is Asterisk's own sounds folder.")] = False,
) -> None:
    """Say what is missing, out of date or not playable; exits 1 if anything is."""
    problems = sounds.check(folder or sounds.shipped(), installed=installed)
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise SystemExit(1)
    typer.echo("all sounds are there and in order")


@app.command("install")
def install(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Asterisk's sounds folder.")],
    persian: Annotated[
        str, typer.Option(help="Name of the Persian folder there (`pr` with some sound sets).")
    ] = "fa",
    force: Annotated[bool, typer.Option(help="Replace recordings that are not ours, too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
) -> None:
    """Copy the sounds into Asterisk's sounds folder; nothing is ever deleted."""
    try:
        actions = sounds.install(folder, codes={"fa": persian}, force=force, dry_run=dry_run)
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror or error}")
    for action in actions:
        if action.verb != "same":
            typer.echo(str(action))
