"""docs/pci.md, which an assessor reads: what it names is there, what it quotes is said, its numbers are ours."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import typer

from ivr_agi import payments, settings
from ivr_agi.cli import app
from ivr_agi.journal import velocity
from ivr_agi.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "pci.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", PAGE)
TESTS = {span for span in SPANS if span.startswith("tests/")}
CODE = {span for span in SPANS if span.startswith("ivr_agi/")}
COMMANDS = {span for span in SPANS if span.startswith("ivr-agi ")}
QUOTED = re.findall(r'"([^"\n]+)"', "\n".join(re.findall(r"(?i)\*check says\*[^|\n]*", PAGE)))
FILES = {span for span in SPANS if re.fullmatch(r"[\w./-]+\.(?:md|py|lock|json|yml|service)", span)}
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Requirement by requirement")[2].splitlines()
    if line.startswith("| ")
]


@cache
def tree(path):
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def defined(path):
    """What a module defines at its top, by kind of thing: classes and functions."""
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in tree(path).body if isinstance(node, kinds)}


def said(folder):
    """Each piece of text in a package, as it stands in the code: an f-string's parts apart."""
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_it_names_things():
    """The page was read: each kind of thing that is looked for below is found in it."""
    assert len(TESTS) > 50
    assert len(CODE) > 5
    assert len(COMMANDS) > 5
    assert len(QUOTED) > 6
    assert len(FILES) >= 2


@pytest.mark.parametrize("name", sorted(TESTS | CODE))
def test_what_is_shown_by_exists(name):
    """Each test, and each class or function of ours, is in the file that is given."""
    path, colons, thing = name.partition("::")
    assert (ROOT / path).is_file()
    assert not colons or thing in defined(path)
    assert colons or name in CODE, "of a test, the name, too"
    assert name not in TESTS or thing.startswith("test_")


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_exist(name):
    """Each file of the repository that it names. The admin's own, and Asterisk's, end otherwise."""
    assert (ROOT / name).exists()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_exist(command):
    """Each `ivr-agi …` is a command, with these options."""
    found = typer.main.get_command(app)
    _, *words = re.sub(r'"[^"]*"', "TEXT", command).split()
    while words and hasattr(found, "commands"):
        found = found.commands[words.pop(0)]
    assert not hasattr(found, "commands"), "a command, not a group"
    options = {option for param in found.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_options_exist():
    """Each option that is named without its command is one of the commands that write to the journal."""
    group = typer.main.get_command(app)
    resolve, pause = group.commands["journal"].commands["resolve"], group.commands["pause"]
    options = {option for command in (resolve, pause) for param in command.params for option in param.opts}
    named = {span for span in SPANS if span.startswith("--")}
    assert {"--evidence", "--by"} <= named <= options


def test_settings_exist():
    """Each IVR_AGI_… is a setting."""
    named = set(re.findall(rf"{settings.PREFIX}(\w+)", PAGE))
    assert len(named) > 10
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


@pytest.mark.parametrize("words", QUOTED)
def test_check_says_so(words):
    """Each line of `ivr-agi check` that is quoted as proof is one."""
    assert any(words in text for text in said("ivr_agi/doctor"))


def test_numbers_are_ours():
    """How long what is kept: the defaults of the settings, and the code's own."""
    default = {name: field.default for name, field in Settings.model_fields.items()}
    assert f"{default['pay_timeout']:g} + {default['late_limit']:g} s" in PAGE
    assert f"if {default['late_limit']:g} s are too long" in PAGE
    assert f"`IVR_AGI_CALL_LIMIT` ({default['call_limit']} s)" in PAGE
    assert f"`IVR_AGI_INVOICE_DIGITS`, {default['invoice_digits']})" in PAGE
    assert f"at most {payments.CALLER_WAITS:g} s longer" in PAGE
    assert velocity.KEPT.days == 2
    assert "removed after two days" in PAGE
    assert f"keys of {settings.KEY_LENGTH} characters or more" in PAGE


def test_each_requirement_is_there():
    """One row at least for each of PCI DSS's twelve; each row has four cells, and its first one no repeat."""
    assert {len(row) for row in TABLE} == {2, 4}, "of requirements, and of the telephone guidance"
    names = [row[0] for row in TABLE if len(row) == 4]
    assert {int(number) for name in names for number in re.findall(r"(?<![\d.])\d+", name)} >= {*range(1, 13)}
    assert len(names) == len(set(names))


def test_it_can_be_read_in_one_go():
    """No more than 250 lines."""
    assert len(PAGE.splitlines()) <= 250
