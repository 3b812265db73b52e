"""`sounds install`: into Asterisk's folder, for Asterisk to read, and nothing of anybody else's touched."""

import os
import shutil

import pytest

from ivr_agi import sounds
from ivr_agi.sounds import audio, formats

SHIPPED = sounds.shipped()
FILES = sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.wav"))


def verbs(actions):
    return {action.verb for action in actions}


def test_install_puts_them_where_asterisk_looks(tmp_path):
    actions = sounds.install(tmp_path)
    assert verbs(actions) == {"copy", "note"}
    assert str(tmp_path / "moh" / "ivr-agi") in str(actions[-1])
    assert sounds.check(tmp_path, installed=True) == []
    for path in FILES:
        assert (tmp_path / path).read_bytes() == (SHIPPED / path).read_bytes()
    assert verbs(sounds.install(tmp_path)) == {"same", "note"}


def test_asterisk_can_read_what_is_installed(tmp_path):
    """Files 0644 and folders 0755 whatever the umask, since Asterisk is somebody else."""
    before = os.umask(0o077)
    try:
        sounds.install(tmp_path / "asterisk/sounds")
    finally:
        os.umask(before)
    made = [path for path in (tmp_path / "asterisk").rglob("*") if path.name != ".installed.json"]
    assert {path.stat().st_mode & 0o777 for path in made if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o755}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_they_belong_to_whom_the_folder_belongs(tmp_path):
    """As root: to the owner of Asterisk's folder, or to whoever is named."""
    place = tmp_path / "sounds"
    place.mkdir()
    os.chown(place, 4242, 4343)
    sounds.install(place)
    made = [*(place / "fa").rglob("*"), place / "fa", *(place / "en").rglob("*")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(4242, 4343)}
    sounds.install(tmp_path / "other", owner=(4444, 4545))
    made = list((tmp_path / "other").rglob("*"))
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(4444, 4545)}


def test_install_puts_the_music_beside_asterisks_sounds(tmp_path):
    actions = sounds.install(tmp_path / "sounds")
    assert str(tmp_path / "moh" / "ivr-agi") in str(actions[-1])
    assert (tmp_path / "moh/ivr-agi/waiting.wav").is_file()
    assert not (tmp_path / "sounds/moh").exists()


def test_install_only_tells_when_asked_to(tmp_path):
    """--dry-run says what it would replace, and leaves everything as it is."""
    assert verbs(sounds.install(tmp_path / "sounds", dry_run=True)) == {"copy", "note"}
    assert list(tmp_path.iterdir()) == []
    sounds.install(tmp_path / "sounds")
    path = tmp_path / "sounds/fa/ivr-agi/paid.wav"
    path.write_bytes(b"my own voice")
    actions = sounds.install(tmp_path / "sounds", dry_run=True, force=True)
    assert [action.what for action in actions if action.verb == "replace"] == [str(path)]
    assert path.read_bytes() == b"my own voice"


def test_install_uses_the_languages_codes_of_the_place(tmp_path):
    sounds.install(tmp_path, codes={"fa": "pr"})
    assert (tmp_path / "pr/ivr-agi/welcome.wav").is_file()
    assert not (tmp_path / "fa").exists()
    assert sounds.check(tmp_path, installed=True, codes={"fa": "pr"}) == []


def test_install_leaves_other_peoples_files_alone(tmp_path, folder, tone):
    """A recording of the merchant's own stays, whether it was there before or came later."""
    place = tmp_path / "asterisk"
    early, late, other = (place / "fa/ivr-agi" / f"{name}.wav" for name in ("welcome", "paid", "queue"))
    early.parent.mkdir(parents=True)
    early.write_bytes(b"a real voice")
    other.write_bytes(b"something else")
    actions = sounds.install(place)
    assert [action.what for action in actions if action.verb == "keep"] == [
        f"{early}: not ours, somebody's own recording"
    ]
    late.write_bytes(b"a real voice too")
    formats.write(folder / "en/ivr-agi/goodbye.wav", "wav", tone(440))
    actions = sounds.install(place, source=folder)
    assert {action.what for action in actions if action.verb == "replace"} == {
        str(place / "en/ivr-agi/goodbye.wav")
    }
    assert (early.read_bytes(), late.read_bytes()) == (b"a real voice", b"a real voice too")
    sounds.install(place, force=True)
    assert early.read_bytes() == (SHIPPED / "fa/ivr-agi/welcome.wav").read_bytes()
    assert other.read_bytes() == b"something else"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_planted_link_is_not_followed(tmp_path):
    """Asterisk's folder is Asterisk's, and we may be root: nobody's file elsewhere is written or given away."""
    place = tmp_path / "sounds"
    (place / "fa/ivr-agi").mkdir(parents=True)
    os.chown(place, 4242, 4343)
    victim = tmp_path / "victim"
    victim.write_text("secret")
    victim.chmod(0o600)
    for name in (".paid.wav.new", "busy.wav", ".installed.json", ".installed.json.new"):
        (place / "fa/ivr-agi" / name).symlink_to(victim)
    sounds.install(place, force=True)
    assert victim.read_text() == "secret"
    assert (victim.stat().st_uid, victim.stat().st_mode & 0o777) == (0, 0o600)
    assert not (place / "fa/ivr-agi/busy.wav").is_symlink()
    assert sounds.check(place, installed=True) == []


def test_given_to_an_owner_also_if_they_are_there_already(tmp_path):
    """A second run with an owner gives him what is the same, too."""
    sounds.install(tmp_path / "sounds")
    us = (os.geteuid(), os.getegid())
    assert verbs(sounds.install(tmp_path / "sounds", owner=us)) == {"same", "note"}
    path = tmp_path / "sounds/fa/ivr-agi/paid.wav"
    assert (path.stat().st_uid, path.stat().st_gid) == us


def test_a_folder_in_a_files_place_is_named(tmp_path):
    """The message has the sound's name; nothing unfinished is left behind."""
    (tmp_path / "fa/ivr-agi/busy.wav").mkdir(parents=True)
    with pytest.raises(OSError, match=r"/busy\.wav'") as caught:
        sounds.install(tmp_path)
    assert caught.value.filename.endswith("fa/ivr-agi/busy.wav")
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.parametrize(
    ("code", "complaint"), [("en", "two languages"), ("../../out", "no name of a language"), ("", "no name")]
)
def test_a_wrong_code_of_a_language_is_refused(tmp_path, code, complaint):
    """Persian in English's folder would be overwritten; a path is no code."""
    with pytest.raises(ValueError, match=complaint):
        sounds.install(tmp_path, codes={"fa": code})
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_is_not_whole_is_not_installed(tmp_path, folder):
    """Half of the prompts would play in English, or not at all."""
    (folder / "fa/ivr-agi/paid.wav").unlink()
    with pytest.raises(ValueError, match=r"1 sounds are missing, fa/ivr-agi/paid\.wav first"):
        sounds.install(tmp_path / "asterisk", source=folder)
    assert not (tmp_path / "asterisk").exists()


def test_check_of_one_prompt_in_asterisks_folder(tmp_path):
    sounds.install(tmp_path)
    for name in ("paid", "busy"):
        (tmp_path / f"fa/ivr-agi/{name}.wav").unlink()
    assert sounds.check(tmp_path, installed=True, only=["busy"]) == ["fa/ivr-agi/busy.wav is missing"]
    with pytest.raises(KeyError, match="bsuy"):
        sounds.check(tmp_path, installed=True, only=["bsuy"])


def test_old_words_do_not_stay_in_another_form(tmp_path, folder):
    """A set with .ulaw, then one without: ours go, since Asterisk might play them; the merchant's own stays."""
    for name in ("paid", "busy", "goodbye"):
        formats.write(folder / f"fa/ivr-agi/{name}.ulaw", "ulaw", audio.silence(500))
    place = tmp_path / "asterisk"
    sounds.install(place, source=folder)
    mine = place / "fa/ivr-agi/busy.ulaw"
    mine.write_bytes(b"my own voice")
    removed = [place / f"fa/ivr-agi/{name}.ulaw" for name in ("goodbye", "paid")]
    for dry_run in (True, False):
        actions = sounds.install(place, dry_run=dry_run)
        told = [action.what.partition(": ")[0] for action in actions if action.verb == "remove"]
        assert told == [str(path) for path in removed]
        assert [path.exists() for path in removed] == [dry_run, dry_run]
    assert mine.read_bytes() == b"my own voice"


def test_our_own_file_is_known_again_each_time(tmp_path, folder, tone):
    """Three installs with a change before the second: the third one still knows what is ours."""
    place = tmp_path / "asterisk"
    for loudness in (5_000, 6_000, 7_000):
        formats.write(folder / "fa/ivr-agi/goodbye.wav", "wav", tone(440, loudness=loudness))
        actions = sounds.install(place, source=folder)
    assert verbs(actions) == {"same", "replace", "note"}
    assert "keep" not in verbs(sounds.install(place))


def test_other_formats_are_installed_as_well(tmp_path, folder):
    formats.write(folder / "fa/ivr-agi/paid.ulaw", "ulaw", audio.silence(500))
    sounds.install(tmp_path / "asterisk", source=folder)
    assert (tmp_path / "asterisk/fa/ivr-agi/paid.ulaw").is_file()


def test_check_accepts_a_recording_of_another_format_in_asterisks_folder(tmp_path):
    sounds.install(tmp_path)
    (tmp_path / "fa/ivr-agi/welcome.wav").rename(tmp_path / "fa/ivr-agi/welcome.ulaw")
    assert sounds.check(tmp_path, installed=True) == []
    (tmp_path / "fa/ivr-agi/welcome.ulaw").unlink()
    assert sounds.check(tmp_path, installed=True) == ["fa/ivr-agi/welcome.wav is missing"]


def test_check_finds_a_broken_file_in_asterisks_folder(tmp_path):
    sounds.install(tmp_path)
    shutil.copy(tmp_path / "fa/ivr-agi/paid.wav", tmp_path / "copy.wav")
    (tmp_path / "fa/ivr-agi/paid.wav").write_bytes((tmp_path / "copy.wav").read_bytes()[:-100])
    (problem,) = sounds.check(tmp_path, installed=True)
    assert problem.startswith("fa/ivr-agi/paid.wav: cut off")
