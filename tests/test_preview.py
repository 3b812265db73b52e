"""The preview: calls that were made with the real server, as sound; and the page on which all prompts are heard."""

import math
import re
import wave
from array import array
from html.parser import HTMLParser
from itertools import groupby
from urllib.parse import unquote

import pytest
from process import ivr_agi

from ivr_agi import preview, prompts
from ivr_agi.preview import callers, page, rendering
from ivr_agi.preview.callers import CALLERS, PAYS
from ivr_agi.preview.recording import Clip, Music, Pause, Tones
from ivr_agi.prompts.catalogue import catalogue
from ivr_agi.simulator.gateway import CARDS
from ivr_agi.sounds import manifest

KEY = 8 * 180  # samples of one key with the silence after it
VOID = {"meta", "link", "br", "hr", "img", "input"}

ENGINES = {"fa": "eSpeak & Co", "en": "Voice & Co"}  # the second goes by the words as written


def write_wav(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(array("h", samples).tobytes())


def read_wav(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        return array("h", file.readframes(file.getnframes()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sounds folder in which each file has a length and a level of its own; a second is the music's."""
    root = tmp_path_factory.mktemp("sounds")
    made = {}
    for language in prompts.LANGUAGES:
        for place, name in enumerate(prompts.names(language), 1):
            sign = 1 if language == "fa" else -1
            write_wav(root / language / "ivr-agi" / f"{name}.wav", [sign * place] * (2400 + 8 * place))
            made[f"{language}/{name}"] = manifest.Made("", "", ENGINES[language], 0, None, {})
    write_wav(root / "moh/ivr-agi/waiting.wav", [777] * 40_000)
    manifest.write(root, manifest.Manifest(clips=made))
    return root


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """The folder of a preview in both languages, of a call that is paid."""
    out = tmp_path_factory.mktemp("made") / "preview"
    preview.make_preview(out, source=folder)
    return out


@pytest.fixture(scope="module")
def shown(made):
    return Page((made / "index.html").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """What a browser would make of the page; complains of a tag that is not closed where it should be."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.open, self.text = html, [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for found, attrs in self.tags if found == tag]


def heard(call):
    return [moment.name for moment in call.moments if isinstance(moment, Clip)]


def keyed(call):
    return [moment.keys for moment in call.moments if isinstance(moment, Tones)]


def strength(samples, frequency):
    """The power of one frequency, by Goertzel's algorithm."""
    turn = 2 * math.cos(2 * math.pi * frequency / 8000)
    one = two = 0.0
    for sample in samples:
        one, two = sample + turn * one - two, one
    return (one * one + two * two - turn * one * two) / len(samples)


def decoded(samples):
    """The keys whose tones are in a sound: one row and one column for 60 ms or more, then something else."""
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    keys, run, last = "", 0, ""
    for start in range(0, len(samples) - 159, 80):
        frame = samples[start : start + 160]
        level = sum(sample * sample for sample in frame)
        row, column = (max(some, key=lambda f: strength(frame, f)) for some in (rows, columns))
        both = [strength(frame, row), strength(frame, column)]
        tonal = level > 160 * 1000**2 and min(both) > 0.15 * level and max(both) < 4 * min(both)
        key = "123456789*0#"[rows.index(row) * 3 + columns.index(column)] if tonal else ""
        run = run + 1 if key == last else 1
        if key and run == 6:
            keys += key
        last = key
    return keys


# -- what is heard ------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", prompts.LANGUAGES)
async def test_a_paid_call_in_order(language):
    """From the welcome to the goodbye: each file, in the caller's language, and each key in its place."""
    call = await preview.record(CALLERS["paid"], amount=50_000, language=language)
    assert call.variables["PAYSTATUS"] == "PAID"
    assert {moment.language for moment in call.moments if isinstance(moment, Clip)} == {language}
    pauses = [moment.unanswered for moment in call.moments if isinstance(moment, Pause)]
    assert pauses == [False, False, False, True]
    before = ["welcome", "amount-is", *prompts.amount(50_000, language), "confirm-amount"]
    after = ["paid", "tracking-number", *prompts.reference(call.variables["PAYREFID"]), "repeat-reference"]
    waiting = ["please-wait", Music]
    told = [
        moment.name
        if isinstance(moment, Clip)
        else moment.shown
        if isinstance(moment, Tones)
        else type(moment)
        for moment in call.moments
    ]
    assert told == [
        *[*before, Pause, "1"],
        *["enter-card", Pause, f"{PAYS[:6]}******{PAYS[-4:]}", *waiting],
        *["enter-pin", Pause, "••••••#", *waiting],
        *[*after, Pause, "goodbye"],
    ]


@pytest.mark.parametrize("name", ["51", "55", "no-input", "impatient", "every-question", "new-pin"])
async def test_what_is_noted_is_what_the_channel_played(name, monkeypatch):
    """Nothing is left out or thought up: the record is the one that the channel itself keeps."""
    channels = []

    async def dial(*given, **more):
        channels.append(await preview_dial(*given, **more))
        return channels[-1]

    preview_dial = preview.dial
    monkeypatch.setattr(preview, "dial", dial)
    call = await preview.record(CALLERS[name], amount=50_000, language="fa")
    assert heard(call) == [file.removeprefix("ivr-agi/") for file in channels[0].heard]
    on = [command for command in channels[0].commands if command.upper().startswith("SET MUSIC ON")]
    assert len(on) == sum(isinstance(moment, Music) for moment in call.moments)


@pytest.mark.parametrize(
    ("name", "status", "prompt"),
    [
        ("51", "PAID", "error-51"),
        ("5", "DECLINED", "error-5"),
        ("odd-code", "DECLINED", "error-other"),
        ("55", "DECLINED", "error-55"),
        ("too-many-cards", "DECLINED", "too-many-cards"),
        ("unknown", "UNKNOWN", "unknown"),
        ("late", "UNKNOWN", "unknown"),
        ("no-otp", "FAILED", "failed"),
        ("cancelled", "CANCELLED", "cancelled"),
        ("operator", "OPERATOR", "operator"),
        ("no-input", "NOINPUT", "gave-up"),
        ("invalid-card", "PAID", "invalid-card"),
        ("new-pin", "PAID", "new-pin"),
        ("impatient", "PAID", "paid"),
        ("every-question", "PAID", "enter-mobile"),
    ],
)
async def test_each_caller_meets_what_he_is_there_for(name, status, prompt):
    """The outcome that the name promises is the one that the dialplan is told, and is heard."""
    call = await preview.record(CALLERS[name], amount=50_000, language="en")
    assert call.variables["PAYSTATUS"] == status
    assert prompt in heard(call)


async def test_every_question_is_asked_and_answered():
    """The language chosen by key is the one from then on; amount and mobile are keyed in full."""
    call = await preview.record(CALLERS["every-question"], amount=1_250_500, language="en")
    assert keyed(call)[:4] == ["2", "1250500#", "1", "09123456789"]
    spoken = [moment.language for moment in call.moments if isinstance(moment, Clip)]
    assert spoken == ["fa"] * 2 + ["en"] * (len(spoken) - 2)


async def test_keys_that_barge_in_cut_what_is_playing(folder):
    """An impatient caller hears no more of a prompt than up to his first key, and does not think before it."""
    call = await preview.record(CALLERS["impatient"], amount=50_000, language="fa")
    first = prompts.amount(50_000, "fa")[0]
    clips = [moment for moment in call.moments if isinstance(moment, Clip) and moment.cut_ms is not None]
    assert [clip.name for clip in clips] == [first, "enter-card", "enter-pin"]
    assert "confirm-amount" not in heard(call)
    place = call.moments.index(clips[0])
    assert isinstance(call.moments[place + 1], Tones)
    sound, _ = rendering.render([clips[0]], rendering.Shelf(folder))
    assert len(sound.samples) == 8 * clips[0].cut_ms < 2400


# -- the sound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_the_call_is_its_files_joined(language, folder):
    """Sample by sample: the files as they are, 3 s of music, 0.8 s to think, 180 ms a key."""
    names = ["welcome", *prompts.amount(50_000, language)]
    moments = [*(Clip(name, language) for name in names), Pause(800), Tones("12#", "12#"), Music(3000)]
    sound, _ = rendering.render(moments, rendering.Shelf(folder))
    files = [read_wav(folder / language / "ivr-agi" / f"{name}.wav") for name in names]
    spoken = [sample for file in files for sample in file]
    assert list(sound.samples[: len(spoken)]) == spoken
    assert list(sound.samples[len(spoken) :][:6400]) == [0] * 6400
    assert list(sound.samples[-24_000:]) == [777] * 24_000
    assert len(sound.samples) == len(spoken) + 6400 + 3 * KEY + 24_000


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_a_written_call_is_as_long_as_its_parts(language, made, folder):
    """From the WAV itself: what is neither a tone nor silence is the files, in the order of the call."""
    samples = read_wav(made / f"call-{language}-paid.wav")
    sign = 1 if language == "fa" else -1
    level = {name: sign * place for place, name in enumerate(prompts.names(language), 1)}
    file = {name: len(read_wav(folder / language / "ivr-agi" / f"{name}.wav")) for name in level} | {
        "♪": 24_000
    }
    named = {level: name for name, level in level.items()} | {777: "♪"}
    found, rest = [], 0
    for value, run in groupby(samples):
        length, name = len(list(run)), named.get(value, "")
        if value and length >= 2000:
            times, over = divmod(length, file[name])
            assert (times > 0, over) == (True, 0)
            found += [name] * times
        else:
            rest += length
    sentences = [name for name in found if not name.startswith(("numbers/", prompts.SILENCE))]
    assert sentences == [
        *["welcome", "amount-is", "rial", "confirm-amount", "enter-card", "please-wait", "♪"],
        *["enter-pin", "please-wait", "♪", "paid", "tracking-number", "repeat-reference", "goodbye"],
    ]
    amount = [clip for clip in prompts.amount(50_000, language) if clip.startswith("numbers/")]
    assert found[2 : 2 + len(amount)] == amount
    assert found.count(prompts.SILENCE) == 3  # twelve digits, in threes
    assert rest == (1 + 16 + 7) * KEY + 3 * 6400 + 24_000  # keys, thinking, and waiting at the last question


def test_tones_are_those_of_the_keys():
    """A detector that knows nothing of the generator reads back every key of the keypad."""
    assert decoded(rendering.dial("1234567890*#").samples) == "1234567890*#"
    assert decoded(rendering.dial("1122334455").samples) == "1122334455"


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_the_keys_of_a_call_can_be_read_back(language, made):
    """In the finished file: 1 to pay, the test card, a PIN of six digits and hash."""
    keys = decoded(read_wav(made / f"call-{language}-paid.wav"))
    assert re.fullmatch(rf"1{PAYS}\d{{6}}#", keys)


@pytest.mark.parametrize("key", "0123456789*#")
def test_a_tone_has_its_length_and_level(key):
    """100 ms of about -20 dB, from zero to zero; then 80 ms of nothing."""
    samples = rendering.dial(key).samples
    tone, rest = samples[:800], samples[800:]
    power = sum(sample * sample for sample in tone) / len(tone)
    assert 10 * math.log10(power / 32767**2) == pytest.approx(-20, abs=0.5)
    assert (tone[0], abs(tone[-1]) < 500, list(rest)) == (0, True, [0] * 640)


def test_no_card_but_the_simulators_becomes_a_tone():
    """Whoever has the file can read the number back: another card is refused, and not quoted."""
    for card in CARDS:
        Tones(card.number, "")
    with pytest.raises(ValueError, match="simulator") as error:
        Tones("6219861034529007", "")
    assert "6219" not in str(error.value)
    for caller in CALLERS.values():
        for card in caller.answers["enter-card"]:
            assert card[:15] in {known.number[:15] for known in CARDS}


# -- the page -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_every_prompt_is_on_the_page(language, shown):
    """With its name, its words, what the engine is given where that differs, the moment, and a player."""
    places = [attrs["id"] for attrs in shown.all("li") if attrs.get("id", "").startswith(f"{language}-")]
    expected = [name for name in prompts.names(language) if (name, language) != ("choose-language", "en")]
    in_order = sorted(expected, key=lambda name: name.startswith("numbers/"))
    assert places == [f"{language}-{name.replace('/', '-')}" for name in in_order]
    sources = {unquote(attrs["src"]) for attrs in shown.all("audio")}
    for name in prompts.names(language):
        words = catalogue().words(name, language)
        assert name in shown.text
        assert not words.shown or words.shown in shown.text
        if words.spoken != words.shown:  # a voice that goes by the words as written is given no others
            assert (words.spoken in shown.text) is (language == "fa")
        moment = catalogue().moment(name)
        assert moment is None or getattr(moment, language) in shown.text
        if name in expected:
            assert f"sounds/{language}/ivr-agi/{name}.wav" in sources
    assert shown.text.count(ENGINES[language]) == len(expected)


def test_the_bilingual_prompt_is_there_once(shown):
    """One recording, one player, both sentences."""
    players = [attrs for attrs in shown.all("audio") if attrs["src"].endswith("choose-language.wav")]
    assert len(players) == 1
    assert all(shown.text.count(prompts.text("choose-language", each)) == 1 for each in prompts.LANGUAGES)


def test_the_page_needs_nothing_from_outside(shown, made):
    """What it plays lies beside it, nothing is loaded before it is played, and no program runs."""
    for attrs in shown.all("audio"):
        assert "controls" in attrs
        assert (attrs["preload"], bool(attrs["aria-label"])) == ("none", True)
        assert (made / unquote(attrs["src"])).resolve().is_relative_to(made.resolve())
        assert (made / unquote(attrs["src"])).is_file()
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in shown.tags}
    assert not [name for _, attrs in shown.tags for name in attrs if name.startswith("on")]
    assert "://" not in shown.html
    assert "url(" not in shown.html
    ids = [attrs["id"] for _, attrs in shown.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"].removeprefix("#") for attrs in shown.all("a")}
    targets |= {attrs["aria-labelledby"] for attrs in shown.all("section")}
    assert targets <= set(ids)


def test_direction_and_language_are_told(shown):
    """Persian first, from right to left; English in a section of its own."""
    assert shown.all("html") == [{"lang": "fa", "dir": "rtl"}]
    assert {"lang": "en", "dir": "ltr", "aria-labelledby": "en"} in shown.all("section")
    assert [(attrs["lang"], attrs["dir"]) for attrs in shown.all("article")] == [("fa", "rtl"), ("en", "ltr")]


def test_the_transcript_hides_card_and_pin(shown, made):
    """Masked as everywhere else, in a file that is sent about."""
    pin = decoded(read_wav(made / "call-fa-paid.wav"))[17:23]
    keys = [text for text in shown.text if text.startswith(("••", PAYS[:6]))]
    assert keys == [f"{PAYS[:6]}******{PAYS[-4:]}", "••••••#"] * 2
    assert PAYS not in shown.html
    assert pin not in shown.html


def test_the_transcript_has_the_time_of_each_line(folder):
    """Where a line begins is where its file begins in the sound; the clips of a number are one line."""
    moments = [
        *[Clip("welcome", "fa"), Clip("numbers/20-o", "fa"), Clip("silence", "fa"), Clip("numbers/5", "fa")],
        *[Music(), Tones("1", "1"), Pause(3000, unanswered=True), Clip("goodbye", "fa")],
    ]
    _, lines = rendering.render(moments, rendering.Shelf(folder))
    number = f"{prompts.text('numbers/20-o', 'fa')} {prompts.text('numbers/5', 'fa')}"
    assert [(line.kind, line.words) for line in lines] == [
        ("heard", prompts.text("welcome", "fa")),
        ("heard", number),
        ("music", ""),
        ("keyed", "1"),
        ("unanswered", ""),
        ("heard", prompts.text("goodbye", "fa")),
    ]
    length = {
        name: len(read_wav(folder / "fa/ivr-agi" / f"{name}.wav"))
        for name in ("welcome", "numbers/20-o", "silence", "numbers/5")
    }
    ends = [0, length["welcome"], sum(length.values())]
    ends += [ends[-1] + 24_000, ends[-1] + 24_000 + KEY, ends[-1] + 48_000 + KEY]
    assert [line.at_ms for line in lines] == [end // 8 for end in ends]


def test_words_are_escaped():
    """A sentence, a name, an engine or a transcript with a tag in it is shown, not obeyed."""
    evil = "<script>alert('$calls & \"x\"')</script>"
    card = page.Card("numbers/1", "fa", 'fa/"><script>.wav', 10, evil, [page.Said("fa", evil, evil, evil)])
    lines = [rendering.Line(0, "heard", evil, "fa", evil), rendering.Line(0, "keyed", evil)]
    found = Page(page.page([page.Call(evil, "fa", evil, evil, 10, lines)], [card]))
    assert not found.all("script")
    assert "<script" not in found.html
    assert found.text.count(evil) == 4 + 4  # sentence, spoken, moment, engine; heard twice, keyed, file
    assert evil in found.text


# -- the command --------------------------------------------------------------------------------------


def test_nothing_else_is_written(made):
    """The calls, the page, and the catalogue's files: the folder can be sent as it is."""
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    clips = {
        f"sounds/{each}/ivr-agi/{name}.wav" for each in prompts.LANGUAGES for name in prompts.names(each)
    }
    assert files == {"call-fa-paid.wav", "call-en-paid.wav", "index.html"} | clips


@pytest.mark.parametrize(
    "path", ["fa/ivr-agi/goodbye.wav", "en/ivr-agi/numbers/7.wav", "moh/ivr-agi/waiting.wav"]
)
def test_a_missing_sound_is_named(path, folder, tmp_path):
    """With the cure; and nothing is written that would pass for a preview."""
    for file in folder.rglob("*.wav"):
        name = file.relative_to(folder)
        if name.as_posix() != path:
            (tmp_path / "some" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "some" / name).hardlink_to(file)
    with pytest.raises(preview.PreviewError, match=rf"{path} is missing: run `ivr-agi sounds build`"):
        preview.make_preview(tmp_path / "out", source=tmp_path / "some", language="fa")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"outcome": "riches"}, "--outcome: 'riches' is none; there are paid, "),
        ({"language": "de"}, "--language: fa, en or both"),
        ({"amount": "many"}, "--amount: whole rials"),
        ({"amount": "1" * 16}, "--amount: whole rials"),
        ({"amount": "999"}, "--amount: more, or less, than the line takes"),
    ],
    ids=["outcome", "language", "amount", "card", "little"],
)
def test_what_cannot_be_done_is_told(wrong, message, folder, tmp_path):
    """By the option's name, with what is allowed."""
    with pytest.raises(preview.PreviewError, match=re.escape(message)):
        preview.make_preview(tmp_path / "out", source=folder, **wrong)
    assert not (tmp_path / "out").exists()


def test_all_outcomes_are_rendered(folder, tmp_path, monkeypatch):
    """Each with a file of its own, into a folder that may have a preview already, its sounds the source."""
    few = {name: CALLERS[name] for name in ("cancelled", "51", "no-input")}
    monkeypatch.setattr(preview, "CALLERS", few)
    out = tmp_path / "out"
    paths = preview.make_preview(out, source=folder, outcome="all", language="en")
    assert paths == [*(out / f"call-en-{name}.wav" for name in few), out / "index.html"]
    assert all(path.is_file() for path in paths)
    (out / "sounds/moh/ivr-agi").mkdir(parents=True)
    (out / "sounds/moh/ivr-agi/waiting.wav").hardlink_to(folder / "moh/ivr-agi/waiting.wav")
    assert preview.make_preview(out, source=out / "sounds", outcome="all", language="en") == paths


def test_callers_have_names_of_their_own():
    """Every card of the simulator's can be heard, and no name stands for two calls."""
    assert {card.name for card in CARDS} < set(CALLERS)
    assert len(CALLERS) == len(callers._CALLERS)
    assert "all" not in CALLERS


async def test_command(folder):
    """`sounds preview` says what it wrote and how to look at it; an unknown outcome names the known ones."""
    status, output, errors = await ivr_agi("sounds", "preview", "--sounds", str(folder), "--language", "fa")
    assert (status, errors) == (0, "")
    assert output.splitlines() == [
        "preview/call-fa-paid.wav",
        "preview/index.html",
        "to look and listen: open preview/index.html",
    ]
    status, _, errors = await ivr_agi("sounds", "preview", "--outcome", "riches")
    assert (status, "paid, 3, 5, 13" in errors, "Traceback" in errors) == (2, True, False)
