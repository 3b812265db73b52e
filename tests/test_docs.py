"""The documents: what they point to is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def text(document):
    return document.read_text(encoding="utf-8")


def names_of(path):
    """Names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_tests_exist(document):
    """A test that a document gives as proof is there."""
    named = NAMED_TEST.findall(text(document))
    missing = [
        f"{path}::{name}" for path, name in named if not (ROOT / path).is_file() or name not in names_of(path)
    ]
    assert missing == []


def test_each_symptom_is_reproduced():
    """Each entry of troubleshooting.md ends with the test that shows it."""
    entries = re.split(r"^(?=\*\*)", text(ROOT / "docs/troubleshooting.md"), flags=re.MULTILINE)[1:]
    assert len(entries) > 30
    unproven = [entry.splitlines()[0] for entry in entries if not NAMED_TEST.search(entry)]
    assert unproven == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    """Links within the repository: the file is there, and has that heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text(document)):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        if heading:
            assert heading in {
                anchor(line) for line in re.findall(r"^#+ (.+)$", text(there), re.MULTILINE)
            }, target


def anchor(heading):
    """A heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
