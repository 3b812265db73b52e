"""The doctor and Asterisk: a good configuration is left in peace, each leak and trap is found in its place."""

import shutil

import pytest
from doctoring import SHIPPED, Box, as_somebody_else, good_box, only

from ivr_agi.doctor import asterisk
from ivr_agi.doctor.findings import Level
from ivr_agi.sounds import audio, formats


@pytest.fixture
def box(tmp_path):
    """A good configuration with the music, without the prompts."""
    return good_box(tmp_path / "root")


@pytest.fixture
def installed(tmp_path):
    """The same with the prompts."""
    return good_box(tmp_path / "root", prompts=True)


# -- Asterisk's side --------------------------------------------------------------------------------


def test_good(installed):
    """With the shipped files included and the prompts installed there is nothing to say."""
    assert installed.check(("fa", "en")) == []


def test_folder_alone(installed):
    """The folder /etc/asterisk itself will do as well."""
    found = asterisk.check(installed.etc, languages={"fa": "fa"}, music_class="ivr-agi", port=4573)
    assert {finding.level for finding in found} == {Level.OK}


ERROR, WARNING = Level.ERROR, Level.WARNING
HAND = "[own]\nexten => 1,1,Set(PAYSTATUS=)\n same => n,AGI(agi://127.0.0.1:4573/pay?amount=1)\n"
# What is added to which file; the finding's level, the line of what was added (from 0), a word of it.
LEAKS = [
    ("logger.conf", "full => notice,dtmf\n", ERROR, 0, "level dtmf"),
    ("logger.conf", "full => [json] *\n", ERROR, 0, "level *"),
    ("logger.conf", "syslog.local0 => DTMF\n", ERROR, 0, "syslog.local0"),
    ("logger.conf", "\nfull => notice,debug ; for a day\n", WARNING, 1, "level debug"),
    ("asterisk.conf", "debug = 3\n", WARNING, 0, "debugging"),
    ("cli.conf", "agi set debug on = yes\n", ERROR, 0, "agi set debug on"),
    ("cli.conf", "pjsip set logger on = yes\n", WARNING, 0, "SIP trace"),
    ("pjsip.conf", "[g]\ntype = global\ndebug = yes\n", WARNING, 2, "SIP trace"),
    ("manager.conf", "[spy]\nsecret = x\nread = call,dtmf\n", ERROR, 2, "'spy' has read class dtmf"),
    ("manager.conf", "[spy]\nread = agi,user\n", ERROR, 1, "class agi"),
    ("manager.conf", "[spy]\nread = call, dtmf\n", WARNING, 1, "blank"),  # Asterisk grants `call` alone
    ("manager.conf", "[t](!)\nread = all\n[spy](t)\n", ERROR, 1, "'spy' has read class all"),
    ("manager.conf", "[spy]\nread = all\neventfilter = !Event: DTMF\n", WARNING, 1, "eventfilter"),
    ("cel.conf", "events = ALL\n", ERROR, 0, "ALL"),
    ("cel.conf", "events = CHAN_START,DTMF\n", ERROR, 0, "DTMF"),
    ("cdr.conf", "loguserfield = yes\n", WARNING, 0, "userfield"),
    ("cdr_custom.conf", "[mappings]\nM.csv => ${CDR(src)},${CDR(lastdata)}\n", WARNING, 1, "lastdata"),
    ("cdr_manager.conf", "[general]\nenabled = yes\n", WARNING, 1, "lastdata and userfield"),
    ("extensions.conf", "[globals](+)\nAGIEXITONHANGUP = yes\n", ERROR, 1, "AGIEXITONHANGUP"),
    ("extensions.conf", "[own]\nexten => 1,1,Set(__AGIEXITONHANGUP=1)\n", ERROR, 1, "AGIEXITONHANGUP"),
    ("extensions.conf", "[own]\nexten => 1,1,Set(AGISIGHUP=no)\n", WARNING, 1, "AGISIGHUP"),
    ("pjsip.conf", "set_var = AGIEXITONHANGUP=yes\n", ERROR, 0, "AGIEXITONHANGUP"),
    ("extensions.conf", "[own]\nexten => 1,1,Read(CARDNO,enter,20)\n", WARNING, 1, "Read()"),
    ("extensions.conf", "[own]\nexten => 1,1,Read(X,give,16)\n", WARNING, 1, "Read()"),
    ("extensions.conf", HAND.replace("Set(PAYSTATUS=)", "Answer()"), ERROR, 2, "PAYSTATUS"),
    ("extensions.conf", HAND + ' same => n,GotoIf($["${AGISTATUS}"="SUCCESS"]?a:b)\n', WARNING, 3, "AGISTATUS"),
    ("extensions.conf", HAND + "exten => h,1,GotoIf($[${AGISTATUS}=X]?a)\n", WARNING, 3, "AGISTATUS"),
    ("extensions.conf", HAND.replace("Set(", "MixMonitor(a.wav)\n same => n,Set("), WARNING, 1, "StopMixMonitor"),
    ("extensions.conf", "[rec]\nexten => 5,1,MixMonitor(a)\n same => n,Goto(own,1,1)\n" + HAND, WARNING, 1, "MixMonitor()"),
    ("extensions.conf", "[rec]\nexten => s,1,MixMonitor(a)\n[in]\nexten => 5,1,Gosub(rec,s,1)\n same => n,Goto(own,1,1)\n" + HAND, WARNING, 3, "MixMonitor()"),
    ("extensions.conf", "[rec]\nexten => 5,1,Monitor(wav,a)\n same => n,Goto(ivr-agi,s,1)\n", WARNING, 1, "StopMonitor"),
    ("extensions.conf", "[own]\nexten => 555,1,ChanSpy(all)\n", WARNING, 1, "listen"),
    ("pjsip.conf", "[t](!)\ntype = endpoint\ndtmf_mode = info\n[p1](t)\n[p2](t)\n", ERROR, 2, "p1, p2: info"),
    ("pjsip.conf", "[p]\ndtmf_mode = inband\n", WARNING, 1, "tones"),
    ("pjsip.conf", "[p]\ndtmf_mode = auto\n", WARNING, 1, "tones"),
    ("pjsip.conf", "[p]\ndtmf_mode = auto_info\n", WARNING, 1, "SIP INFO"),
    ("pjsip_wizard.conf", "[p]\nendpoint/dtmf_mode = info\n", ERROR, 1, "SIP INFO"),
    ("modules.conf", "noload = res_agi.so\n", ERROR, 0, "res_agi"),
    ("modules.conf", "noload => app_stack\n", ERROR, 0, "Gosub()"),
    ("modules.conf", "noload = format_wav.so\n", ERROR, 0, "format_wav"),
    ("modules.conf", "noload = res_musiconhold.so\n", WARNING, 0, "silence"),
    ("logger.conf", "#include none.conf\n", ERROR, 0, "rejects logger.conf"),
    ("cel.conf", "#exec /bin/make-it\n", WARNING, 0, "#exec"),
    ("extconfig.conf", "[settings]\nextensions => odbc,asterisk\n", WARNING, 1, "database"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "level", "line", "word"), LEAKS, ids=range(len(LEAKS)))
def test_each_leak_and_trap(box, name, text, level, line, word):
    """Switched on alone, each is found alone, in its line."""
    place, _, number = box.add(name, text).rpartition(":")
    only(box.check(), level, f"{place}:{int(number) + line}", word)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("logger.conf", ";full => dtmf\n;--\nfull => dtmf\n--;\n"),
        ("manager.conf", "[t](!)\nread = all\n[none]\nsecret = x\n"),
        ("cel.conf", "enable = no\nevents = ALL\n"),
        ("cdr.conf", "[general](+)\nenable = no\n[csv](+)\nloguserfield = yes\n"),
        ("extensions.conf", "[own]\nexten => 1,1,Read(X,enter-conf-pin-number,4)\n same => n,Read(SPIN,prompt,2)\n"),
        ("extensions.conf", HAND.replace("Set(", "MixMonitor(a)\n same => n,StopMixMonitor()\n same => n,Set(")),
        ("extensions.conf", "[rec]\nexten => 5,1,MixMonitor(a)\n same => n,Goto(ivr-agi,s,1)\n"),
        ("extensions.conf", HAND + " same => n,NoOp(${AGISTATUS})\n"),
        ("extensions.conf", "[other]\nexten => 1,1,AGI(agi://127.0.0.1/weather)\n same => n,GotoIf(${AGISTATUS}?a)\n"),
        ("extensions.conf", "[own]\nexten => 1,1,Set(AGIEXITONHANGUP=no)\n same => n,Set(AGISIGHUP=yes)\n"),
        ("pjsip.conf", "[t](!)\ndtmf_mode = info\n[p](t)\ndtmf_mode = rfc4733\n"),
        ("sip.conf", "[general]\ndtmfmode = info\n"),
    ],
    ids=range(12),
)  # fmt: skip
def test_false_alarms(box, name, text):
    """What only looks like a leak is none. sip.conf: chan_sip is not loaded here."""
    box.add(name, text)
    assert box.check() == []


def test_debug_log_with_debugging_on(box):
    """A debug log is an error as soon as debugging is on from the start."""
    where = box.add("logger.conf", "full => debug\n")
    box.add("asterisk.conf", "debug = 1\n")
    assert {(f.level, f.where) for f in box.check()} >= {(ERROR, where)}


def test_chan_sip(box):
    """With chan_sip loaded, its dtmfmode counts."""
    box.add("modules.conf", "load = chan_sip.so\n")
    box.add("sip.conf", "[general]\ndtmfmode=info\n")
    only(box.check(), ERROR, f"{box.etc}/sip.conf:2", "rfc2833")


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.0.0.5", ""])  # noqa: S104 - what is looked for
def test_open_ami(box, bind):
    """AMI that listens to more than this machine."""
    where = box.replace("manager.conf", "bindaddr = 127.0.0.1\n", f"bindaddr = {bind}\n" if bind else "")
    only(box.check(), WARNING, where if bind else f"{box.etc}/manager.conf:2", "plain text")


def test_included_files_are_named(box):
    """FreePBX writes its users into included files: the finding names that file."""
    box.add("manager.conf", '#include "manager_*.conf"\n')
    (box.etc / "manager_custom.conf").write_text("; ours\n[fop]\nread = all\n")
    only(box.check(), ERROR, f"{box.etc}/manager_custom.conf:3", "'fop'")


def test_no_way_in(box):
    """A dialplan without a line for ivr-agi; or with the shipped file, and nothing that leads to it."""
    box.replace("extensions.conf", "Gosub(ivr-agi-pay,s,1(50000,${ORDER}))", "NoOp()")
    shipped = (box.etc / "extensions_ivr_agi.conf").read_text().splitlines()
    line = next(n for n, text in enumerate(shipped, 1) if "AGI(${IVR_AGI_URL}" in text)
    only(box.check(), WARNING, f"{box.etc}/extensions_ivr_agi.conf:{line}", "no extension leads")
    box.add("pjsip.conf", "[in]\ncontext = ivr-agi\n")
    assert box.check() == []
    box.replace("extensions.conf", "#include extensions_ivr_agi.conf\n", "")
    only(box.check(), ERROR, f"{box.etc}/extensions.conf", "#include extensions_ivr_agi.conf")


def test_way_in_elsewhere(box):
    """Where part of the dialplan cannot be seen, the doctor does not claim that nothing leads there."""
    box.replace("extensions.conf", "#include extensions_ivr_agi.conf\n", "")
    box.add("extensions.conf", "switch => Realtime\n")
    only(box.check(), WARNING, f"{box.etc}/extensions.conf:7", "elsewhere")


@pytest.mark.parametrize("form", ["in the line", "in the global variable"])
def test_another_port(box, form):
    """The dialplan and the server must speak of the same port."""
    if form == "in the line":
        where = box.add("extensions.conf", HAND).rpartition(":")
        found = [f for f in box.check(port=4600) if f.where == f"{where[0]}:{int(where[2]) + 2}"]
        only(found, WARNING, f"{where[0]}:{int(where[2]) + 2}", "4573", "4600")
    else:
        where = box.replace("extensions.conf", "SHOP = 7", "IVR_AGI_URL = agi://pay.example:4600/pay")
        assert box.check(port=4600) == []
        only(box.check(), WARNING, where, "4600", "4573")


def test_recordings_in_many_places(box):
    """A recording that hundreds of extensions begin is told once, with their number."""
    where = box.add("extensions.conf", HAND)
    begin = "".join(f"exten => {n},1,MixMonitor(a)\n same => n,Goto(own,1,1)\n" for n in range(300))
    box.add("extensions.conf", "[in]\n" + begin)
    place, _, line = where.rpartition(":")
    only(box.check(), WARNING, f"{place}:{int(line) + 4}", "299 more places")


def test_broken_file(box):
    """A file that Asterisk would not read at all."""
    place = box.add("musiconhold.conf", "[x](none)\n")
    only(box.check(), ERROR, place, "rejects musiconhold.conf")


def test_no_configuration(tmp_path):
    """--asterisk-dir of something else."""
    only(Box(tmp_path).check(), ERROR, str(tmp_path), "no Asterisk configuration")


def test_compose(box):
    """The configuration for the compose file is a good one."""
    for path in (SHIPPED / "compose").glob("*.conf"):
        shutil.copy(path, box.etc)
    assert [finding for finding in box.check() if finding.level is ERROR] == []


def test_not_allowed_to_look(box):
    """What may not be read is not said to be in order."""
    box.root.chmod(0)
    with as_somebody_else():
        (finding,) = box.check()
    box.root.chmod(0o755)
    assert (finding.level, "as root" in finding.cure) == (ERROR, True)


# -- sounds and music -------------------------------------------------------------------------------


def test_missing_language(installed):
    """A missing language plays in English without a word."""
    shutil.rmtree(installed.sounds / "fa")
    only(
        installed.check(("fa",)), ERROR, str(installed.sounds / "fa/ivr-agi"), "language fa", "sounds install"
    )
    assert installed.check(("en",)) == []


def wave(path, rate):
    """A second of tone at another rate than 8 kHz."""
    formats.write(path, "wav", audio.silence(1000))
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)


def test_prompts_in_other_forms(installed):
    """A prompt may be .sln16 or the like; not a .wav of 16 kHz, an .mp3, or nothing."""
    folder = installed.sounds / "fa/ivr-agi"
    card = folder / "enter-card.wav"
    card.rename(card.with_suffix(".sln16"))
    assert installed.check(("fa",)) == []
    card.with_suffix(".sln16").rename(card.with_suffix(".mp3"))
    only(installed.check(("fa",)), ERROR, str(folder), "enter-card: in no form")
    card.with_suffix(".mp3").unlink()
    only(installed.check(("fa",)), ERROR, str(folder), "enter-card.wav is missing")
    wave(card, 16000)
    only(installed.check(("fa",)), ERROR, str(folder), "enter-card.wav", "16000 Hz")


def test_data_folder(installed):
    """Where the sounds are, X."""
    shutil.move(installed.root / "usr/share/asterisk", installed.root / "data")
    (finding,) = [f for f in installed.check(("fa",)) if "language" in f.what]
    assert finding.level is ERROR
    installed.replace("asterisk.conf", "/usr/share/asterisk", "/data")
    assert installed.check(("fa",)) == []


def test_music(box):
    """A class that is missing, without its folder, or with an empty one: silence, and no error of Asterisk's."""
    folder = box.root / "usr/share/asterisk/moh/ivr-agi"
    ours = (box.etc / "musiconhold_ivr_agi.conf").read_text().splitlines()
    line = next(n for n, text in enumerate(ours, 1) if text.startswith("directory"))
    where = f"{box.etc}/musiconhold_ivr_agi.conf:{line}"
    only(box.check(music_class="mine"), ERROR, f"{box.etc}/musiconhold.conf", "no class [mine]")
    (folder / "waiting.wav").rename(folder / "waiting.mp3")
    only(box.check(), ERROR, where, "nothing in")
    wave(folder / "waiting.wav", 16000)
    only(box.check(), ERROR, where, "nothing in")
    shutil.rmtree(folder)
    only(box.check(), ERROR, where, "is not there")
