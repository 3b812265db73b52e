"""`ivr-agi sounds`: build, check and install the sound files.

What works on sound is imported by the commands that do: no other one, and no call, needs any of it.
"""

from __future__ import annotations

import grp
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ivr_agi import logs, settings
from ivr_agi.cli.wiring import fail
from ivr_agi.journal import JournalError
from ivr_agi.prompts import LANGUAGES
from ivr_agi.settings import WrongSettings

if TYPE_CHECKING:
    from ivr_agi.sounds.voices import Voices

app = typer.Typer(help="Build, check and install the sound files.", no_args_is_help=True)


@app.command("build")
def build(
    only: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Prompts or clips; all if absent.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to build in; the shipped sounds if absent.")
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="WAVs of a real voice, DIR/fa/enter-card.wav; they come first."),
    ] = None,
    piper: Annotated[
        list[str] | None,
        typer.Option(metavar="LANG=MODEL.onnx", help="A Piper voice for a language; may be repeated."),
    ] = None,
    voices_file: Annotated[
        Path | None, typer.Option("--voices", metavar="FILE", help="In place of the shipped voices.toml.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Of all voices only those of espeak-ng, piper, kokoro or recordings.")
    ] = None,
    forms: Annotated[
        list[str] | None,
        typer.Option(
            "--format", help="Beside .wav: wav16, g722, ulaw; may be repeated. As before if absent."
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Also what has not changed.")] = False,
) -> None:
    """Make the sound files of what has changed: words, voices, formats."""
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import Progress  # noqa: PLC0415

    from ivr_agi import sounds  # noqa: PLC0415

    try:
        by = _voices(voices_file, recordings, piper or [], engine)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("sounds")
            built = sounds.build(
                out or sounds.shipped(),
                only=only or None,
                force=force,
                by=by,
                forms=_forms(forms) if forms else None,
                progress=lambda done, total, name: bar.update(
                    task, completed=done, total=total, description=name
                ),
            )
    except (sounds.SpeechError, KeyError, ValueError, ImportError, OSError) as error:
        fail(str(error.args[0]) if isinstance(error, KeyError) else str(error))
    for note in built.notes:
        typer.echo(note, err=True)
    typer.echo(f"{len(built.written)} files written")


def _voices(file: Path | None, recordings: Path | None, piper: list[str], engine: str | None) -> Voices:
    """Raises ValueError or SpeechError, naming the option."""
    from ivr_agi.sounds import voices  # noqa: PLC0415 - see above
    from ivr_agi.sounds.engines.piper import Piper  # noqa: PLC0415

    found = voices.read(file) if file else voices.shipped()
    for given in piper:
        language, _, model = given.partition("=")
        if language not in LANGUAGES or not model:
            raise ValueError(f"--piper {given}: a language and a model, as fa=voice.onnx")
        found = found.preferring(language, voices.Voice(Piper(model)))
    if recordings:
        found = found.recorded(recordings)
    return found.only(engine) if engine else found


def _forms(given: list[str]) -> list[str]:
    from ivr_agi.sounds.formats import FORMATS  # noqa: PLC0415 - see above

    if wrong := [form for form in given if form not in FORMATS]:
        raise ValueError(f"--format {wrong[0]}: one of {', '.join(FORMATS)}")
    return given


@app.command("check")
def check(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The shipped sounds if absent.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this prompt or clip; may be repeated.")
    ] = None,
    installed: Annotated[bool, typer.Option(help="DIR is Asterisk's own sounds folder.")] = False,
    persian: Annotated[
        str | None, typer.Option(help="With --installed: name of the Persian folder there, as for install.")
    ] = None,
) -> None:
    """Say what is missing, out of date or not playable; exits 1 if anything is."""
    from ivr_agi import sounds  # noqa: PLC0415 - see above

    if installed and folder is None:
        fail("--installed: name Asterisk's own sounds folder, as /usr/share/asterisk/sounds")
    if persian and not installed:
        fail("--persian is the name of a folder in Asterisk: it goes with --installed")
    codes = _codes(persian) if installed else None
    try:
        problems = sounds.check(
            folder or sounds.shipped(), only=only or None, installed=installed, codes=codes
        )
    except KeyError as unknown:
        fail(str(unknown.args[0]))
    for problem in problems:
        typer.echo(problem)
    if problems:
        raise SystemExit(1)
    typer.echo("all sounds are there and in order")


@app.command("script")
def script(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Sounds folder that tells how long each takes.")
    ] = None,
) -> None:
    """Print every sentence, when it is heard and how long it takes: the sheet for a speaker, in Markdown."""
    from ivr_agi import sounds  # noqa: PLC0415 - see above
    from ivr_agi.sounds.script import sheet  # noqa: PLC0415

    typer.echo(sheet(folder or sounds.shipped()), nl=False)


@app.command("install")
def install(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Asterisk's sounds folder.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="SOUNDS", help="What is installed; the shipped ones if absent."),
    ] = None,
    persian: Annotated[
        str | None,
        typer.Option(help="Name of the Persian folder there, as `pr`; IVR_AGI_PERSIAN_CODE if absent."),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(metavar="USER[:GROUP]", help="Whose the files are to be; DIR's own owner if absent."),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace recordings that are not ours, too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be done.")] = False,
) -> None:
    """Copy the sounds into Asterisk's sounds folder; what is not ours is left alone."""
    from ivr_agi import sounds  # noqa: PLC0415 - see above

    try:
        actions = sounds.install(
            folder,
            source=source,
            codes=_codes(persian),
            owner=_ids(owner) if owner else None,
            force=force,
            dry_run=dry_run,
        )
    except LookupError:
        fail(f"--owner {owner}: no such user or group")
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror or error}")
    for action in actions:
        if action.verb != "same":
            typer.echo(str(action))


@app.command("preview")
def make_preview(
    outcome: Annotated[
        str, typer.Option(help="How the call goes: a name of the demo's cards, a bank's code, … or all.")
    ] = "paid",
    amount: Annotated[str, typer.Option(help="Whole rials.")] = "50000",
    language: Annotated[str, typer.Option(help="fa, en or both.")] = "both",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("preview"),
    source: Annotated[
        Path | None, typer.Option("--sounds", help="Sounds folder; the shipped one if absent.")
    ] = None,
) -> None:
    """Hear a whole call without a telephone, and every prompt on a page in the browser."""
    from ivr_agi import preview  # noqa: PLC0415 - see above

    logs.configure("CRITICAL", "console")  # an outcome that goes wrong is meant to
    try:
        written = preview.make_preview(out, outcome=outcome, amount=amount, language=language, source=source)
    except (preview.PreviewError, WrongSettings, JournalError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or out}: {error.strerror or error}")
    for path in written:
        typer.echo(path)
    typer.echo(f"to look and listen: open {written[-1]}")


def _codes(persian: str | None) -> dict[str, str]:
    if persian:
        return {"fa": persian}
    try:
        return settings.load().language_codes
    except WrongSettings as wrong:
        fail(str(wrong))


def _ids(owner: str) -> tuple[int, int]:
    """Read USER, USER:GROUP or :GROUP, by name or number; KeyError for one that is not there."""
    user, _, group = owner.partition(":")
    uid = -1 if not user else int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    if group:
        return uid, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    return uid, -1 if not user or user.isdecimal() else pwd.getpwnam(user).pw_gid
