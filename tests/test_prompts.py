"""The catalogue: what a caller may hear, in both languages, and what he must never be told."""

import re
import tomllib
from importlib import resources

import pytest

from ivr_agi import prompts
from ivr_agi.model import Language
from ivr_agi.prompts.catalogue import CatalogueError, parse, pronounced

CODES = (3, 5, 13, 14, 20, 21, 42, 51, 54, 55, 57, 61, 62, 63, 75, 78, 80, 90, 91, 94)  # gateway-api.md §3
IDS = set(
    """
    welcome choose-language amount-is rial confirm-amount no-choice invalid-choice help-choice
    enter-invoice no-invoice invalid-invoice help-invoice invoice-not-found
    enter-amount no-amount invalid-amount help-amount
    enter-mobile no-mobile invalid-mobile help-mobile
    enter-card no-card invalid-card help-card please-wait
    enter-pin no-pin invalid-pin help-pin new-pin no-more-pins otp-failed
    paid tracking-number repeat-reference unknown reference-is failed
    error-other code-is another-card too-many-cards gave-up cancelled operator out-of-order
    card-is toman already-paid order-busy under-review order-not-found order-closed order-lookup-failed
    busy goodbye try-later over-limit paused declined silence
    """.split()  # noqa: SIM905 - a list of words reads better without quotes
) | {f"error-{code}" for code in CODES}
SENTENCES = sorted(name for name in IDS if name != "silence")

NOT_TAKEN = re.compile(
    r"برداشت نشد|برداشت نمی|برداشته نشد|کسر نشد|کم نشد|کسر نمی"
    r"|nothing was taken|no money|not (?:been )?(?:taken|charged|debited)|n't (?:been )?(?:taken|charged)"
)
DO_NOT_PAY_AGAIN = {"fa": "دوباره پرداخت نکنید", "en": "do not pay again"}
ZIR, PISH = "\u0650", "\u064f"
HARAKAT = re.compile("[\u064b-\u0652]")
FILE = tomllib.loads(resources.files(prompts).joinpath("catalogue.toml").read_text(encoding="utf-8"))
ENTRIES = FILE["prompts"] | {f"numbers/{name}": fields for name, fields in FILE["numbers"].items()}


def test_catalogue_has_exactly_the_known_prompts():
    assert {name for name in prompts.names() if not name.startswith("numbers/")} == IDS


def test_error_prompts_are_those_of_the_gateways_table():
    found = {name.removeprefix("error-") for name in prompts.names() if name.startswith("error-")}
    assert found == {str(code) for code in CODES} | {"other"}


@pytest.mark.parametrize("name", SENTENCES)
def test_each_prompt_is_written_in_its_language(name):
    persian, english = prompts.text(name, "fa"), prompts.text(name, Language.EN)
    assert re.search("[آ-ی]", persian)
    assert not re.search(r"[A-Za-z]", persian)
    assert not re.search("[يكۀة]", persian), "Arabic letters look alike and are read otherwise"
    assert re.fullmatch(r"[A-Za-z ,.'\-]+", english)
    assert not re.search(r"[0-9۰-۹#*\[\]]", persian + english), "numbers and keys are words here"


@pytest.mark.parametrize("language", prompts.LANGUAGES)
@pytest.mark.parametrize("name", SENTENCES)
def test_only_failed_says_that_nothing_was_taken(name, language):
    """A caller who is told that nothing was taken pays again: it is said only when that is certain."""
    assert bool(NOT_TAKEN.search(prompts.text(name, language).lower())) == (name == "failed")


@pytest.mark.parametrize("language", prompts.LANGUAGES)
@pytest.mark.parametrize("name", ["unknown", "error-20", "error-94", "under-review"])
def test_whoever_may_have_been_charged_is_told_not_to_pay_again(name, language):
    assert DO_NOT_PAY_AGAIN[language] in prompts.text(name, language)


@pytest.mark.parametrize(
    ("name", "keys"), [("confirm-amount", 3), ("otp-failed", 2), ("repeat-reference", 1)]
)
def test_a_question_names_what_a_key_does_before_the_key(name, keys):
    english = prompts.text(name, "en")
    assert len(re.findall(r"To [^,.]+, press (?:zero|one|two)\.", english)) == keys
    assert len(re.findall("برای [^،.]+، ", prompts.text(name, "fa"))) == keys


@pytest.mark.parametrize("name", [name for name, fields in ENTRIES.items() if "fa_spoken" in fields])
def test_what_is_spoken_is_what_is_written(name):
    """The engine's text differs by vowel marks and phonemes, never by words: else one is out of date."""
    fields = ENTRIES[name]
    marked = fields["fa_spoken"]
    if name.startswith("numbers/"):
        marked = marked.removesuffix("،")  # such a clip does not end a sentence
    spoken = HARAKAT.sub("", re.sub(rf"{PISH}(?!\w)", " و", marked))
    pattern = "".join(
        ".+" if part.startswith("[[") else re.escape(part) for part in re.split(r"(\[\[.+?\]\])", spoken)
    )
    assert re.fullmatch(pattern, HARAKAT.sub("", fields["fa"]))


def test_no_letter_has_two_marks():
    """After a tashdid and another mark the engine says the name of the tashdid."""
    twice = re.compile("[\u064b-\u0652]{2}")
    assert [name for name, fields in ENTRIES.items() if twice.search(" ".join(fields.values()))] == []


# -- how a word is to be said -------------------------------------------------------------------------

SAID = {
    "مبلغ": "mabl'aq1",
    "شماره": "SomAR'e",
    "خط": "x'at",
    f"خط{ZIR}": "x'atte",
    "می‌شود": "m'iSavad",
    "سی": "s'i",
    "PIN": "p'In",
}


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("این مبلغ، درست است.", "این [[mabl'aq1]]، درست است."),
        ("هر مبلغی", "هر مبلغی"),
        (f"مبلغ{ZIR} شما", "[[mabl'aq1e]] شما"),
        (f"شماره{ZIR} شما", "[[SomAR'eje]] شما"),
        (f"خط{ZIR} ما، خط", "[[x'atte]] ما، [[x'at]]"),
        ("داده می‌شود.", "داده [[m'iSavad]]."),
        ("نمی‌شود شود", "نمی‌شود شود"),
        (f"مبلغ{PISH} سی{PISH}،", "[[mabl'aq1o]] [[s'ijo]]،"),
        ("a new PIN, PINs, a pin", "a new [[p'In]], PINs, a pin"),
        ("PIN's [[PIN]] PIN", "PIN's [[PIN]] [[p'In]]"),
        ("", ""),
    ],
    ids=["word", "longer", "ezafe", "ye", "own", "joined", "part", "o", "case", "phonemes", "empty"],
)
def test_a_word_is_said_as_the_table_says(text, spoken):
    """Whole words alone; the ezafe and the -o are put to their ends by rule."""
    assert pronounced(text, SAID) == spoken


def test_the_table_is_for_the_engine_alone():
    """What is shown stays as written; the engine gets the words of the marked text, each in its language."""
    read = parse(
        '[numbers.1]\nfa = "کد بانک"\nfa_spoken = "کد\u0650 بانک"\nen = "کد bank"\n'
        '[pronunciation]\nfa = {"کد" = "k\'od"}\nen = {bank = "b\'aNk"}'
    )
    persian, english = read.words("numbers/1", "fa"), read.words("numbers/1", "en")
    assert (persian.shown, persian.spoken) == ("کد بانک", "[[k'ode]] بانک")
    assert (english.shown, english.spoken) == ("کد bank", "کد [[b'aNk]]")


@pytest.mark.parametrize("language", prompts.LANGUAGES)
def test_each_word_of_the_table_is_in_a_text(language):
    """One that is not is misspelt, or left over from a text that has been changed."""
    texts = [fields.get(f"{language}_spoken", fields.get(language, "")) for fields in ENTRIES.values()]
    known = FILE["pronunciation"][language]
    assert [word for word in known if all(pronounced(text, {word: "x"}) == text for text in texts)] == []


def test_languages_share_all_but_number_clips():
    only_one = set(prompts.names("fa")) ^ set(prompts.names("en"))
    assert all(name.startswith("numbers/") for name in only_one)
    assert set(prompts.names()) == set(prompts.names("fa")) | set(prompts.names("en"))


def test_names_are_told_apart_from_strangers():
    assert prompts.exists("welcome")
    assert prompts.exists("numbers/20-o")
    assert not prompts.exists("numbers/20-o", "en")
    assert not prompts.exists("error-03")
    with pytest.raises(KeyError, match="error-03"):
        prompts.text("error-03", "fa")
    with pytest.raises(KeyError, match="de"):
        prompts.text("welcome", "de")
    assert prompts.text(prompts.SILENCE, "fa") == ""


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ('[prompts.welcome]\nfa = "سلام"', "welcome: no text in en"),
        ('[prompts.welcome]\nfa = "سلام"\nen = "Hello"', "welcome: when and when_fa missing"),
        ('[prompts.welcome]\nwhen = ""\nfa = "سلام"\nen = "Hello"', "welcome: when is empty"),
        ('[numbers.7]\nwhen = "often"\nen = "seven"', "unknown field 'when'"),
        ('[prompts.welcome]\nfa = ""\nen = "Hello"', "welcome: fa is empty"),
        ('[prompts.welcome]\nfa = " سلام"\nen = "Hello"', "padded"),
        ('[prompts.welcome]\nfa = 1\nen = "Hello"', "no text"),
        ('[prompts.welcome]\nfa = "سلام"\nen = "Hello"\nde = "Hallo"', "unknown field 'de'"),
        ('[prompts.Welcome]\nfa = "سلام"\nen = "Hello"', "small letters"),
        ('[prompts]\nwelcome = "Hello"', "not a table"),
        ('[numbers.7]\nfa_spoken = "هفت"\nen = "seven"', "fa_spoken without fa"),
        ("[numbers.7]", "no text at all"),
        ('[prompts.silence]\nfa = "سکوت"\nen = "silence"', "kept"),
        ('[sounds.welcome]\nfa = "سلام"', "unknown tables: sounds"),
        ('pronunciation = "x"', "pronunciation: a table for each of fa, en"),
        ('[pronunciation.de]\nPIN = "p"', "pronunciation: a table for each of fa, en"),
        ('[pronunciation]\nen = "p"', "pronunciation.en: not a table"),
        ('[pronunciation.en]\n"two words" = "p"', "pronunciation.en: 'two words' is not one word"),
        ('[pronunciation.en]\nPIN = "[[p]]"', "pronunciation.en: PIN: '[[p]]' is not a word's phonemes"),
        ('[pronunciation.en]\nPIN = "p q"', "not a word's phonemes"),
        ("[pronunciation.en]\nPIN = 1", "not a word's phonemes"),
    ],
)
def test_a_faulty_catalogue_is_refused_by_name(toml, complaint):
    with pytest.raises(CatalogueError, match=re.escape(complaint)):
        parse(toml)


def test_a_number_to_write_down():
    """A tracking number is said in groups, with a pause between them, and no digit alone."""
    assert prompts.reference("12345678") == (
        "numbers/1", "numbers/2", "numbers/3", "silence", "numbers/4", "numbers/5", "numbers/6", "silence",
        "numbers/7", "numbers/8",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("digits", "groups"),
    [
        ("7", "7"),
        ("12", "12"),
        ("1234", "1234"),
        ("12345", "123 45"),
        ("1234567", "123 4567"),
        ("518731527699", "518 731 527 699"),
        ("0018731527699", "001 873 152 7699"),
    ],
)
def test_groups_of_a_number_to_write_down(digits, groups):
    """Three and three; the last group has two to four, so that no digit stands alone."""
    clips = prompts.reference(digits)
    said = "".join(" " if clip == "silence" else clip.removeprefix("numbers/") for clip in clips)
    assert said == groups
