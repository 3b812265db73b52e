"""What the speech engine makes of the catalogue's texts, held against how they are to sound.

Persian is written without its short vowels and without the ezafe, and the engine guesses them; a
wrong guess is another word. `persian.toml` says how each clip is to sound, and in which alphabet.
All this is about the clips of the shipped sounds that eSpeak NG speaks; another engine has no phonemes.
"""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from ivr_agi.prompts.catalogue import LANGUAGES, SILENCE, catalogue
from ivr_agi.sounds import voices
from ivr_agi.sounds.engines.espeak import PROGRAM, Espeak
from ivr_agi.sounds.engines.program import run

_TABLES = tomllib.loads(Path(__file__).with_name("persian.toml").read_text(encoding="utf-8"))
EXPECTED = _TABLES["prompts"] | {f"numbers/{name}": said for name, said in _TABLES["numbers"].items()}
ELSEWHERE = {word.lower(): word for word in _TABLES["stress"]["elsewhere"].split()}

VOWELS = "aeiouā"
CONSONANTS = "bptsjčhxdzržšqfkglmnvy"
TRANSCRIPTION = re.compile(f"(?:[{VOWELS}{CONSONANTS}' ]|o(?=w)|(?<=o)w|-(?=y?e|y?o))+")
# IPA as the engine writes it; what is the same letter in both alphabets is not named. `q1` is no IPA:
# it is what the engine prints for its ق.
IPA = {"ɑ": "ā", "tʃ": "č", "dʒ": "j", "ʃ": "š", "ʒ": "ž", "ɡ": "g", "j": "y", "q1": "q"}
IPA |= {letter: letter for letter in VOWELS + CONSONANTS if letter.isascii() and letter not in "jcgqy"}
NOT_COMPARED = "ːʔ \n"
STRESS, SECOND_STRESS = "ˈ", "ˌ"
BETWEEN = "\n\n[[ZZZ]].\n\n", "ʒʒʒ\n"  # a paragraph between two texts, and what the engine says of it


def _voices(language):
    """The engine's own voice of each clip that it speaks, by name."""
    found = {}
    for name in catalogue().names(language):
        engine = next(voices.shipped().of(language, name)).engine
        if name != SILENCE and isinstance(engine, Espeak):
            found[name] = engine.voice
    return found


CLIPS = {language: _voices(language) for language in LANGUAGES}
_OTHER = "another engine speaks this; its own tests hold how"
persian = pytest.mark.skipif(not CLIPS["fa"], reason=_OTHER)
english = pytest.mark.skipif(not CLIPS["en"], reason=_OTHER)


def ipa(texts, voice):
    """The phonemes of each text. One process says them all, since some hundreds would take seconds."""
    between, heard_between = BETWEEN
    options = ["-q", "--ipa", "-v", voice, "-b", "1", "--stdin"]
    return run(PROGRAM, "", options, between.join(texts)).decode().split(heard_between)


@cache
def _clips(language):
    found = {}
    for voice in sorted(set(CLIPS[language].values())):
        names = [name for name in CLIPS[language] if CLIPS[language][name] == voice]
        texts = [catalogue().words(name, language).spoken for name in names]
        found |= dict(zip(names, ipa(texts, voice), strict=True))
    return found


def said(name, language="fa"):
    """The phonemes of a clip."""
    return _clips(language)[name]


def _split(text, mark):
    """The letters without the glide of `i-ye`, which nobody tells from `i-e`; and where one follows a mark."""
    text = re.sub(f"iy(?=[{mark}]?[{VOWELS}])", "i", text)
    letters, marked = "", set()
    for letter in text:
        if letter in mark:
            marked.add(len(letters))
        else:
            letters += letter
    return letters, marked


def heard(phonemes, marks=STRESS + SECOND_STRESS):
    """The engine's IPA in the alphabet of `persian.toml`, and the places of the vowels that have a mark.

    A sound that is not Persian is a ValueError: English in the middle of it, or a misspelt phoneme.
    """
    text = ""
    for sound in re.findall(r"\(\w+\)|tʃ|dʒ|q1|.", phonemes, re.DOTALL):
        if sound in marks:
            text += sound
        elif sound not in NOT_COMPARED + STRESS + SECOND_STRESS:
            if sound not in IPA:
                raise ValueError(f"{sound!r} is no Persian sound: {phonemes.strip()}")
            text += IPA[sound]
    return _split(text, marks)


def expected(transcription):
    """A transcription with all that is not compared taken away, and the places of its ezafes and `-o`s."""
    return _split(re.sub("-(y?)", r"\1-", _bare(transcription.lower())), "-")


def _bare(transcription):
    return re.sub("[' ]", "", transcription).replace("ow", "o")


def stresses(transcription):
    """The places of the stressed vowels of a transcription; and those in words of one syllable, free to be so."""
    text = ""
    for word in transcription.split(" "):
        stem = word.partition("-")[0]
        marked = stem if stem != stem.lower() else ELSEWHERE.get(stem, stem)
        place = max(
            (at for at, letter in enumerate(marked) if letter != letter.lower()),
            default=max(at for at, letter in enumerate(stem) if letter in VOWELS),
        )
        mark = STRESS if len(re.findall(f"[{VOWELS}]", word.lower())) > 1 else SECOND_STRESS
        text += word[:place] + mark + word[place:]
    text = _bare(text.lower()).replace("-", "")
    stressed = _split(text.replace(SECOND_STRESS, ""), STRESS)[1]
    free = _split(text.replace(STRESS, ""), SECOND_STRESS)[1]
    return stressed, free


# -- how it sounds ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", CLIPS["fa"])
def test_persian_is_said_as_a_newsreader_says_it(name):
    assert heard(said(name))[0] == expected(EXPECTED[name])[0]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", [name for name in CLIPS["fa"] if "-" in EXPECTED.get(name, "")])
def test_an_ezafe_is_never_stressed(name):
    """Written as a word of its own («شماره‌ی») it would be: the engine then says «shomare YEH»."""
    letters, stressed = heard(said(name))
    _, ezafes = expected(EXPECTED[name])
    assert not stressed & ezafes, f"{letters}: {said(name)}"


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", CLIPS["fa"])
def test_persian_is_stressed_where_a_newsreader_stresses_it(name):
    """The engine's rule is the last syllable but one: right for «مبلغی», wrong for «مبلغ»."""
    letters, stressed = heard(said(name), STRESS)
    wanted, free = stresses(EXPECTED[name])
    assert sorted(stressed - free) == sorted(wanted), f"{letters}: {said(name)}"


@english
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("word", "sound"),
    [("rials", "ɹiˈɑːlz"), ("tomans?", "təʊmˈɑːn"), ("PIN", "pˈɪn")],
    ids=["rials", "tomans", "PIN"],
)
def test_english_money_and_pin_are_said_as_people_say_them(word, sound):
    """Left to itself the engine says "RYE-uls", "TOM-uns" and "P, I, N"."""
    times = {name: len(re.findall(rf"\b{word}\b", catalogue().text(name, "en"))) for name in CLIPS["en"]}
    assert any(times.values())
    for name in CLIPS["en"]:
        assert said(name, "en").count(sound) == times[name], name


@english
@pytest.mark.usefixtures("engine")
def test_english_teens_are_stressed_at_the_end():
    """On a bad line "THIRteen" is taken for "thirty". All but the stress is as the engine has it."""
    teens = [f"numbers/{teen}" for teen in range(13, 20)]
    left_to_itself = ipa([catalogue().text(name, "en") for name in teens], CLIPS["en"][teens[0]])
    for name, sound in zip(teens, left_to_itself, strict=True):
        assert re.fullmatch(r"[^ˈ]+tˈiːn", said(name, "en").strip())
        assert said(name, "en").replace(STRESS, "") == re.sub(f"[{STRESS}{SECOND_STRESS}]", "", sound)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("language", [language for language in LANGUAGES if CLIPS[language]])
def test_a_clip_among_others_sounds_as_it_does_alone(language):
    """When sounds are built each clip has a process to itself."""
    for name in list(CLIPS[language])[::20]:
        assert ipa([catalogue().words(name, language).spoken], CLIPS[language][name]) == [
            said(name, language)
        ]


# -- what it is held against --------------------------------------------------------------------------


def test_each_persian_clip_has_an_expectation_and_there_is_no_other():
    assert sorted(EXPECTED) == sorted(name for name in catalogue().names("fa") if name != SILENCE)


def test_the_expectations_keep_to_the_alphabet():
    assert [name for name, said in EXPECTED.items() if not TRANSCRIPTION.fullmatch(said.lower())] == []


def test_a_word_has_one_stress_and_that_on_a_vowel():
    words = [*ELSEWHERE.values(), *(word for said in EXPECTED.values() for word in said.split())]
    capitals = {word: re.sub(r"[^A-ZĀČŠŽ]", "", word).lower() for word in words}
    assert [word for word, marked in capitals.items() if marked and marked not in tuple(VOWELS)] == []
    assert all(capitals[word] for word in ELSEWHERE.values())


def test_each_word_that_is_stressed_elsewhere_is_said_somewhere():
    stems = {word.partition("-")[0] for said in EXPECTED.values() for word in said.split()}
    assert sorted(set(ELSEWHERE) - stems) == []


@pytest.mark.parametrize(
    ("phonemes", "transcription"),
    [
        ("salˈɑm\n", "salām"),
        ("kˈɑrte bˈɑnki", "kārt-e bānki"),
        ("tʃahɑrdˈah", "čahārdah"),
        ("hˈaft ʃˈab", "haft šab"),
        ("q1ablˈije", "qabli-ye"),
        ("q1ablˈie", "qabli-ye"),
        ("rˈoʃan", "rowšan"),
        ("pandʒˈɑh o ˈaːndʒˈɑm", "panjāh-o anjām"),
        ("morˈabbaʔ rɑ\nfˈeʃɑr dˈahid\n", "morabba' rā fešār dahid"),
        ("nˌaresˈideː ˈast", "nareside ast"),
    ],
)
def test_the_same_sounds_are_found_the_same(phonemes, transcription):
    assert heard(phonemes)[0] == expected(transcription)[0]


@pytest.mark.parametrize(
    ("phonemes", "transcription"),
    [
        ("kˈɑrt bˈɑnki", "kārt-e bānki"),
        ("q1ˈabli", "qabli-ye"),
        ("nˈa", "noh"),
        ("milijˈun", "milyun"),
        ("xˈate", "xatt-e"),
        ("tʃˈɑhɑr", "čahār"),
        ("sˈefr vˈa", "sefr-o"),
    ],
)
def test_other_sounds_are_told_apart(phonemes, transcription):
    assert heard(phonemes)[0] != expected(transcription)[0]


@pytest.mark.parametrize("phonemes", ["ɹˈa ʔɑxˈare", "(en)kˈɑːd(fa)", "kˈɜːd", "w"])
def test_a_sound_that_is_not_persian_is_refused(phonemes):
    with pytest.raises(ValueError, match="no Persian sound"):
        heard(phonemes)


@pytest.mark.parametrize(
    ("transcription", "stressed", "free"),
    [
        ("salām be mā", {3}, {6, 8}),
        ("kārt-e bānki", {1, 9}, set()),
        ("mota'assefāne mi'utad", {9, 16}, set()),
        ("qabli-ye rowšan", {4, 9}, set()),
        ("mablaqi nakonid", {4, 8}, set()),
        ("dIgar digar", {1, 8}, set()),
        ("si-yo", {1}, set()),
    ],
)
def test_the_place_of_the_stress_is_found(transcription, stressed, free):
    assert stresses(transcription) == (stressed, free)


def test_stress_and_ezafe_are_found_at_the_same_place():
    assert heard("ʃomˈɑreːjˈeː fˈɑktor") == ("šomāreyefāktor", {3, 7, 9})
    assert expected("šomāre-ye fāktor") == ("šomāreyefāktor", {7})
    assert expected("qabli-ye in") == ("qabliein", {5})


@persian
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("misread", "right", "transcription"),
    [
        ("نه", "[[n'oh]]", "noh"),
        ("کارت بانکی", "کارتِ بانکی", "kārt-e bānki"),
        ("رمز قبلی را", "رمزِ قبلی را", "ramz-e qabli rā"),
        ("صفر و نه", "صفرُ [[n'oh]]", "sefr-o noh"),
        ("متأسفانه", "[[mota?assef'Ane]]", "mota'assefāne"),
        ("مشکل ما", "[[moSk'ele]] ما", "moškel-e mā"),
        ("تومان", "[[tom'An]]", "tomān"),
    ],
    ids=["vowel", "ezafe", "ezafe-of-two", "joining-o", "arabic", "noun", "money"],
)
def test_a_word_that_is_misread_without_its_marks_is_caught(misread, right, transcription):
    """The engine itself makes the mistake that the marks in the catalogue are there for."""
    wanted = expected(transcription)[0]
    wrongly, rightly = ipa([misread, right], next(iter(CLIPS["fa"].values())))
    assert heard(rightly)[0] == wanted
    assert heard(wrongly)[0] != wanted
