"""What Asterisk needs to be heard and to hear: sound files, music, the way keys come in, modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ivr_agi import sounds
from ivr_agi.doctor.asterisk_conf import TRUE
from ivr_agi.doctor.findings import Finding, error, ok, warning
from ivr_agi.prompts import names
from ivr_agi.sounds import audio, formats

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from ivr_agi.doctor.asterisk_conf import Conf, Section, Tree

# What Asterisk plays by itself; 16 kHz and more in these only, never in `.wav`.
PLAYED: Final = frozenset(
    {
        ".wav",
        ".wav16",
        ".sln",
        ".sln16",
        ".g722",
        ".ulaw",
        ".alaw",
        ".gsm",
        ".ul",
        ".al",
        ".pcm",
        ".mu",
        ".raw",
        ".WAV",
        ".wav49",
    }
)
DATA: Final = ("/usr/share/asterisk", "/var/lib/asterisk")  # astdatadir with Debian, and with everybody else
SHOWN: Final = 4  # names of files in one finding

NEEDED: Final = {
    "res_agi": "AGI()",
    "res_speech": "res_agi, which does not load without it",
    "func_channel": "CHANNEL(language), without which prompts play in English",
}
NEEDED_BY_SHIPPED: Final = {
    "app_stack": "Gosub()",
    "app_exec": "ExecIf() and TryExec()",
    "func_logic": "IF()",
    "func_uri": "URIENCODE()",
    "func_timeout": "TIMEOUT(absolute)",
}


def data_folder(tree: Tree) -> Path:
    """Asterisk's data folder (astdatadir), with `sounds` and `moh` in it."""
    # Debian's file has [directories](!), which Asterisk skips; the values there are the compiled-in ones.
    for section in tree.read("asterisk.conf").sections:
        given = section.last("astdatadir") if section.name.casefold() == "directories" else None
        if given:
            return tree.followed(tree.inside(given.value))
    candidates = [tree.followed(tree.inside(path)) for path in DATA]
    return next((path for path in candidates if (path / "sounds").is_dir()), candidates[-1])


def prompts_there(tree: Tree, languages: Mapping[str, str]) -> Iterator[Finding]:
    """Each prompt of each language, in a form that Asterisk plays."""
    folder = tree.followed(data_folder(tree) / "sounds")
    cure = f"ivr-agi sounds install {folder}"
    problems = sounds.check(folder, installed=True, codes=languages) if languages else []
    for language, code in languages.items():
        there = tree.followed(folder / code / "ivr-agi")
        if not there.is_dir():
            yield error(
                f"no prompts for language {language}: they play in English, or not at all, without a word",
                str(there),
                cure,
            )
            continue
        wrong = [line for line in problems if line.startswith(f"{code}/")]
        wrong += [
            f"{code}/ivr-agi/{name}: in no form that Asterisk plays"
            for name in names(language)
            if (found := {path.suffix for path in (there / name).parent.glob(f"{Path(name).name}.*")})
            and not found & PLAYED
        ]
        if wrong:
            more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            yield error(
                "; ".join(wrong[:SHOWN]) + more, str(there), f"{cure} (8 kHz, mono, 16 bits for .wav)"
            )
        else:
            yield ok(
                f"all {len(names(language))} prompts of language {language} are there and can be played",
                str(there),
            )


def music(tree: Tree, music_class: str) -> Iterator[Finding]:
    """The music while the bank is asked: Asterisk reports success for a class that it does not have."""
    conf = tree.read("musiconhold.conf")
    silent = "the caller hears silence while the bank is asked, and Asterisk reports no error"
    section = next(iter(conf.named(music_class)), None)
    if section is None:
        yield error(
            f"there is no class [{music_class}]: {silent}",
            str(conf.path),
            "#include musiconhold_ivr_agi.conf (from asterisk-conf/) in musiconhold.conf, then `moh reload`",
        )
        return
    mode, place = section.last("mode"), section.last("directory")
    if mode and mode.value.casefold() in ("custom", "playlist"):
        yield ok(
            f"music class [{music_class}] is of mode {mode.value}, which is not looked into", section.where
        )
        return
    if not place:
        yield error(
            f"class [{music_class}] has no directory: {silent}", section.where, "directory = moh/ivr-agi"
        )
        return
    relative = not place.value.startswith("/")
    folder = tree.followed(data_folder(tree) / place.value if relative else tree.inside(place.value))
    playable = [
        path for path in sorted(folder.glob("*")) if path.suffix in PLAYED and not path.name.startswith(".")
    ]
    refused = [path for path in playable if path.suffix == ".wav" and not _plays(path)]
    cure = f"ivr-agi sounds install {data_folder(tree) / 'sounds'}"
    if not folder.is_dir():
        yield error(f"the folder {folder} of class [{music_class}] is not there: {silent}", place.where, cure)
    elif len(playable) == len(refused):
        yield error(f"nothing in {folder} that Asterisk can play: {silent}", place.where, cure)
    else:
        yield ok(f"music class [{music_class}] has something to play", place.where)


def _plays(path: Path) -> bool:
    try:
        formats.read(path)
    except (audio.SoundFormatError, OSError):
        return False
    return True


_INFO: Final = "keys come as SIP INFO, and so into each SIP trace, card number and PIN included"
_INBAND: Final = "keys come as tones in the speech: unreliable on compressed lines, audible in any recording"
_WITHOUT_4733: Final = "where the other side offers no RFC 4733, "
DTMF_MODES: Final = {  # whether it is an error, and why
    "info": (True, _INFO),
    "shortinfo": (True, _INFO),
    "auto_info": (False, _WITHOUT_4733 + _INFO),
    "inband": (False, _INBAND),
    "auto": (False, _WITHOUT_4733 + _INBAND),
    "none": (True, "keys are not taken at all"),
}


def keys(tree: Tree) -> Iterator[Finding]:
    """pjsip.conf, pjsip_wizard.conf, sip.conf: how keys come in. A line inherited by many is told once."""
    used: dict[str, list[tuple[str, str, str]]] = {}
    files = [("pjsip.conf", "dtmf_mode", "rfc4733"), ("pjsip_wizard.conf", "endpoint/dtmf_mode", "rfc4733")]
    if "chan_sip" not in _kept_out(tree.read("modules.conf"), ("chan_sip",)):
        files.append(("sip.conf", "dtmfmode", "rfc2833"))
    for name, option, right in files:
        for section in tree.read(name).sections:
            given = None if section.template else section.last(option)
            if given and given.value.casefold() in DTMF_MODES:
                used.setdefault(given.where, []).append(
                    (section.name, given.value.casefold(), f"{option} = {right}")
                )
    for where, uses in used.items():
        _, mode, cure = uses[0]
        grave, why = DTMF_MODES[mode]
        whose = ", ".join(name for name, _, _ in uses[:SHOWN]) + (" and others" if len(uses) > SHOWN else "")
        yield (error if grave else warning)(
            f"{whose}: {mode}: {why}",
            where,
            f"{cure}, if calls that pay come in this way and the carrier can",
        )


def modules(tree: Tree, *, shipped: bool) -> Iterator[Finding]:
    """modules.conf: what a payment call needs. shipped: our own dialplan file is used."""
    conf = tree.read("modules.conf")
    needed = NEEDED | (NEEDED_BY_SHIPPED if shipped else {})
    for name, where in _kept_out(conf, needed).items():
        yield error(
            f"{name} is not loaded; it is needed for {needed[name]}",
            where,
            f"load = {name}.so, and no noload of it",
        )
    for name, where in _kept_out(conf, ("format_wav",)).items():
        yield error(f"{name} is not loaded: no prompt in .wav can be played", where, f"load = {name}.so")
    for name, where in _kept_out(conf, ("res_musiconhold",)).items():
        yield warning(
            f"{name} is not loaded: the caller hears silence while the bank is asked",
            where,
            f"load = {name}.so",
        )


def _kept_out(conf: Conf, names: Collection[str]) -> dict[str, str]:
    """Which of some modules are not loaded, and by which line."""
    section = next(iter(conf.named("modules")), None)
    if section is None:
        return {}
    return {name: where for name in names if (where := _why_not(section, name))}


def _why_not(section: Section, module: str) -> str:
    lines = [line for line in section.values if line.value.removesuffix(".so").casefold() == module]
    for line in lines:
        if line.name.casefold() == "noload":  # it beats a `load`
            return line.where
    auto = section.last("autoload")
    if lines or (auto and auto.value.casefold() in TRUE):
        return ""
    return auto.where if auto else section.where
